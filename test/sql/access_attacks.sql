-- What a hostile role might try to get around its rights, or to stop others.
-- Promise: default-deny, offsets-are-the-servers
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_iotmq_publisher, regress_iotmq_consumer, regress_iotmq_reader, regress_iotmq_admin,
	regress_iotmq_nobody;
RESET client_min_messages;
CREATE ROLE regress_iotmq_publisher;
CREATE ROLE regress_iotmq_consumer;
CREATE ROLE regress_iotmq_reader;
CREATE ROLE regress_iotmq_admin;
CREATE ROLE regress_iotmq_nobody;
CREATE SCHEMA access_attacks;
GRANT ALL ON SCHEMA access_attacks TO PUBLIC;
SELECT iotmq.create_topic('access_attacks', '{a,b}');
SELECT iotmq.create_group('access_attacks', 'g', start_from => '-infinity');
SELECT iotmq.grant_publish('access_attacks', 'regress_iotmq_publisher');
SELECT iotmq.grant_consume('access_attacks', 'g', 'regress_iotmq_consumer');
SELECT iotmq.grant_read('access_attacks', 'regress_iotmq_reader');
SELECT iotmq.grant_admin('regress_iotmq_admin');
SELECT iotmq.zone_table('access_attacks', 'a') AS zone_a, iotmq.zone_table('access_attacks', 'b') AS zone_b,
	pg_get_serial_sequence(iotmq.zone_table('access_attacks', 'a')::text, 'msg_offset') AS offsets \gset
SELECT zone_id FROM iotmq_internal.zone WHERE table_name = :'zone_a'::regclass \gset
-- There is a segment for what is a minute ago, wherever the present one begins.
SELECT iotmq.segment_make_until(:zone_id, now() - interval '1 hour', now()) >= 0 AS made;

--
-- A publisher that wants another offset or time: a view has defaults of its own, and
-- PostgreSQL doesn't ask for the right to set the columns that they are for.
--
GRANT USAGE ON SCHEMA iotmq_topic TO regress_iotmq_publisher;	-- as somebody who reads a topic, too
SET ROLE regress_iotmq_publisher;
CREATE TEMP VIEW message AS SELECT * FROM :zone_a;
CREATE TEMP VIEW any_message AS SELECT * FROM iotmq_topic.access_attacks;
ALTER VIEW message ALTER zone SET DEFAULT 'a';
-- That alone does no harm.
INSERT INTO message (device_id, payload) VALUES ('d', '1');
\set VERBOSITY sqlstate
-- A time long ago, one to come, that of the transaction.
ALTER VIEW message ALTER published_at SET DEFAULT now() - interval '1 minute';
INSERT INTO message (device_id, payload) VALUES ('evil', '1');
ALTER VIEW message ALTER published_at SET DEFAULT now() + interval '1 hour';
INSERT INTO message (device_id, payload) VALUES ('evil', '2');
ALTER VIEW message ALTER published_at SET DEFAULT now();
INSERT INTO message (device_id, payload) VALUES ('evil', '3');
ALTER VIEW message ALTER published_at DROP DEFAULT;
-- An offset far ahead, the next one, one that somebody has, none.
ALTER VIEW message ALTER msg_offset SET DEFAULT 9223372036854775807;
INSERT INTO message (device_id, payload) VALUES ('evil', '4');
ALTER VIEW message ALTER msg_offset SET DEFAULT 3;
INSERT INTO message (device_id, payload) VALUES ('evil', '5');
ALTER VIEW message ALTER msg_offset SET DEFAULT 1;
INSERT INTO message (device_id, payload) VALUES ('evil', '6');
ALTER VIEW message ALTER msg_offset SET DEFAULT -1;
INSERT INTO message (device_id, payload) VALUES ('evil', '7');
-- One that was drawn before, in another transaction, or used in this one.
SELECT nextval(:'offsets') > 1 AS drawn;
SELECT format('ALTER VIEW message ALTER msg_offset SET DEFAULT currval(%L)', :'offsets') AS set_default \gset
:set_default;
INSERT INTO message (device_id, payload) VALUES ('evil', '8');
BEGIN;
INSERT INTO :zone_a (device_id, payload) VALUES ('evil', '9');
INSERT INTO message (device_id, payload) VALUES ('evil', '9');
ROLLBACK;
-- Through the topic's table, where nobody asks what a publisher has to do first.
ALTER VIEW any_message ALTER zone SET DEFAULT 'a';
INSERT INTO any_message (device_id, payload) VALUES ('evil', '10');
SELECT format('ALTER VIEW any_message ALTER msg_offset SET DEFAULT nextval(%L)', :'offsets') AS set_default \gset
:set_default;
ALTER VIEW any_message ALTER published_at SET DEFAULT clock_timestamp();
INSERT INTO any_message (device_id, payload) VALUES ('evil', '11');
-- A time that was told before the statement, or before the transaction.
ALTER VIEW message ALTER msg_offset DROP DEFAULT;
ALTER VIEW message ALTER published_at SET DEFAULT current_setting('access_attacks.told')::timestamptz;
SELECT set_config('access_attacks.told', iotmq.copy_in_time(:zone_id)::text, false) <> '' AS told;
INSERT INTO message (device_id, payload) VALUES ('evil', '13');
BEGIN;
INSERT INTO :zone_a (device_id, payload) VALUES ('evil', '14');
SELECT set_config('access_attacks.told', iotmq.copy_in_time(:zone_id)::text, false) <> '' AS told;
INSERT INTO message (device_id, payload) VALUES ('evil', '14');
ROLLBACK;
-- A savepoint that is rolled back ends the publisher.
BEGIN;
SAVEPOINT s;
INSERT INTO :zone_a (device_id, payload) SELECT 'evil', '15' WHERE false;
SELECT mode FROM pg_locks WHERE locktype = 'object' AND objsubid = 1 AND pid = pg_backend_pid();
ROLLBACK TO s;
SELECT mode FROM pg_locks WHERE locktype = 'object' AND objsubid = 1 AND pid = pg_backend_pid();
ROLLBACK;
ALTER VIEW message ALTER published_at DROP DEFAULT;
-- In a CTE.
ALTER VIEW message ALTER msg_offset SET DEFAULT 100;
WITH w AS (INSERT INTO message (device_id, payload) VALUES ('evil', '12')) SELECT 1;
\set VERBOSITY default
-- What is honest passes, however it is written.
INSERT INTO :zone_a (device_id, payload) VALUES ('d', '2'), ('d', '3'), ('d', '4');
INSERT INTO :zone_a (device_id, payload) SELECT 'd', to_jsonb(n) FROM generate_series(7, 5, -1) AS n ORDER BY n;
INSERT INTO :zone_a (device_id, payload) SELECT 'd', jsonb '8' UNION ALL SELECT 'd', '9' LIMIT 2;
WITH w AS (INSERT INTO :zone_a (device_id, payload) VALUES ('d', '10')) INSERT INTO :zone_a (device_id, payload) VALUES ('d', '11');
PREPARE publish_it (jsonb) AS INSERT INTO :zone_a (device_id, payload) VALUES ('d', $1);
EXECUTE publish_it('12');
EXECUTE publish_it('13');
DEALLOCATE publish_it;
BEGIN;
INSERT INTO :zone_a (device_id, payload) VALUES ('d', '14');
SAVEPOINT s;
INSERT INTO :zone_a (device_id, payload) VALUES ('undone', '0');
ROLLBACK TO s;
INSERT INTO :zone_b (device_id, payload) VALUES ('d', '1');
INSERT INTO :zone_a (device_id, payload) VALUES ('d', '15');
COPY :zone_a (device_id, payload) FROM STDIN;
d	16
d	17
\.
COMMIT;
RESET ROLE;
DROP VIEW pg_temp.message, pg_temp.any_message;
SELECT zone, device_id, jsonb_agg(payload ORDER BY msg_offset) AS payloads FROM iotmq_topic.access_attacks GROUP BY zone, device_id ORDER BY zone, device_id;
SELECT count(*) AS delivered FROM iotmq.consume('access_attacks', 'g', 100, zone => 'a');

-- The owner may choose, without having drawn an offset in the session.
\c -
\set SHOW_CONTEXT never
INSERT INTO :zone_a (msg_offset, device_id, payload) VALUES (-5, 'by hand', '0');
DELETE FROM :zone_a WHERE device_id = 'by hand';

--
-- An administrator who wants to be the owner: no function that works as the owner
-- takes a table or a statement of his.
--
SET ROLE regress_iotmq_admin;
CREATE TABLE access_attacks.caught (who text);
GRANT INSERT ON access_attacks.caught TO PUBLIC;
CREATE FUNCTION access_attacks.caught(timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO access_attacks.caught VALUES (current_user);
	RETURN true;
END
$$;
CREATE DOMAIN access_attacks.moment AS timestamptz CHECK (access_attacks.caught(VALUE));
CREATE TABLE access_attacks.own (msg_offset bigint NOT NULL, device_id text, published_at access_attacks.moment)
	PARTITION BY RANGE (published_at);
\set VERBOSITY sqlstate
SELECT iotmq.segment_create(99999, 'access_attacks.own', now(), now() + interval '1 day', false);
SELECT iotmq.retention_drop_table(ROW(1, now(), now(), 'access_attacks.own'::regclass, false, 1, 1, 1, false)::iotmq_internal.segment);
SELECT iotmq.forget_segment('{1}', 'access_attacks.own');
SELECT iotmq.access_grant('{ALL ON access_attacks.caught TO PUBLIC; --}', 'regress_iotmq_admin');
SELECT iotmq.zone_drop_table('access_attacks.own', true);
SELECT iotmq.stable_sample(1);
SELECT iotmq.pull_device_as_owner('access_attacks', 'd', '-infinity', 'infinity', 1, 'a');
-- Nor may what is made for triggers be used in others.
CREATE TRIGGER mine BEFORE INSERT ON access_attacks.caught FOR EACH STATEMENT EXECUTE FUNCTION iotmq.copy_in_begin();
CREATE TRIGGER mine AFTER INSERT ON access_attacks.caught FOR EACH STATEMENT EXECUTE FUNCTION iotmq.catalog_change_tell();
RESET ROLE;
-- Even the owner only gets an error from the first.
CREATE TRIGGER mine BEFORE INSERT ON access_attacks.caught FOR EACH STATEMENT EXECUTE FUNCTION iotmq.copy_in_begin();
INSERT INTO access_attacks.caught VALUES ('trigger');
DROP TRIGGER mine ON access_attacks.caught;
CREATE TRIGGER mine BEFORE INSERT ON access_attacks.caught FOR EACH STATEMENT EXECUTE FUNCTION iotmq.copy_in_begin('1');
INSERT INTO access_attacks.caught VALUES ('trigger');
DROP TRIGGER mine ON access_attacks.caught;
\set VERBOSITY default
SELECT * FROM access_attacks.caught;

--
-- Somebody who makes something of iotmq's tables. Without a grant they can't be named,
-- and the right to publish to no zone is none.
--
SELECT iotmq.grant_publish('access_attacks', 'regress_iotmq_nobody', '{}');
SET ROLE regress_iotmq_nobody;
\set VERBOSITY sqlstate
CREATE TEMP VIEW v AS SELECT 1 AS one FROM iotmq_internal.lease;
CREATE TEMP VIEW v AS SELECT 1 AS one FROM iotmq_topic.access_attacks;
CREATE TEMP TABLE t (lease_id bigint REFERENCES iotmq_internal.lease);
PREPARE p AS DELETE FROM iotmq_internal.lease;
PREPARE p AS DELETE FROM :zone_a;
CREATE TEMP TABLE t (message iotmq_topic.access_attacks);
SELECT iotmq.ack(1);
SELECT 'iotmq_internal.topic'::regclass;
\set VERBOSITY default
RESET ROLE;
-- With one they can name the topic's table, and stop neither retention nor a forced drop. A
-- segment that is over, which they can't:
SELECT iotmq.segment_make_until(zone_id, now() - interval '1 day', now() - interval '1 day' + interval '1 s') AS made
FROM iotmq_internal.zone
WHERE table_name = :'zone_a'::regclass;
INSERT INTO :zone_a (device_id, payload, published_at) VALUES ('d', '0', now() - interval '1 day');
SELECT s.table_name AS segment_a
FROM iotmq_internal.segment AS s
JOIN iotmq_internal.zone AS z USING (zone_id)
WHERE z.table_name = :'zone_a'::regclass
ORDER BY s.from_time
LIMIT 1 \gset
SET ROLE regress_iotmq_reader;
CREATE VIEW access_attacks.of_segment AS SELECT 1 AS one FROM :segment_a;
\set VERBOSITY sqlstate
CREATE VIEW access_attacks.of_zone AS SELECT 1 AS one FROM :zone_b;
\set VERBOSITY default
SET ROLE regress_iotmq_publisher;
CREATE VIEW access_attacks.of_zone AS SELECT 1 AS one FROM :zone_b;
SET ROLE regress_iotmq_reader;
CREATE VIEW access_attacks.of_topic AS SELECT payload FROM iotmq_topic.access_attacks;
CREATE TABLE access_attacks.of_type (n int, message iotmq_topic.access_attacks);
RESET ROLE;
SET client_min_messages = error;
CALL iotmq.run_maintenance(now() + interval '60 hours');
RESET client_min_messages;
SELECT skipped FROM iotmq.maintenance_run ORDER BY run_id DESC LIMIT 1;
SELECT to_regclass('access_attacks.of_segment') AS of_segment, to_regclass('access_attacks.of_zone') AS of_zone;
\set VERBOSITY sqlstate
SELECT iotmq.drop_zone('access_attacks', 'b');
SELECT iotmq.drop_group('access_attacks', 'g');
SELECT iotmq.drop_topic('access_attacks');
\set VERBOSITY default
SELECT topic, zone FROM iotmq.topic_stats WHERE topic = 'access_attacks' ORDER BY zone;
SET client_min_messages = warning;
SELECT iotmq.drop_zone('access_attacks', 'b', force => true);
SELECT iotmq.drop_topic('access_attacks', force => true);
RESET client_min_messages;
SELECT relname FROM pg_class WHERE relnamespace = 'access_attacks'::regnamespace AND relname LIKE 'of_%';
SELECT attname FROM pg_attribute WHERE attrelid = 'access_attacks.of_type'::regclass AND attnum > 0 AND NOT attisdropped;
-- Nobody is left with a right to anything.
SELECT * FROM iotmq.privileges WHERE role::text IN ('regress_iotmq_publisher', 'regress_iotmq_consumer', 'regress_iotmq_reader');
SELECT r.rolname, n.nspname
FROM pg_roles AS r
JOIN pg_namespace AS n ON n.nspname LIKE 'iotmq%' AND has_schema_privilege(r.oid, n.oid, 'USAGE')
WHERE r.rolname LIKE 'regress_iotmq_%'
ORDER BY r.rolname, n.nspname;

--
-- A publisher that wants to stop a group: payloads that its filter can't be applied to.
--
-- Made anew, a topic goes on above its old offsets; here it is to begin at 1.
DELETE FROM iotmq_internal.past_zone WHERE topic = 'access_attacks';
SELECT iotmq.create_topic('access_attacks', '{a}', retention => '1 hour', segment_interval => '1 hour');
SELECT iotmq.create_topic('access_attacks_2', '{a}', retention => '1 hour', segment_interval => '1 hour');
SELECT iotmq.create_group('access_attacks', 'dates', filter => '$.at.datetime() < "2030-01-01T00:00:00+00".datetime()');
SELECT iotmq.create_group('access_attacks', 'deep', filter => '$.**.x == 1');
SELECT iotmq.create_group('access_attacks', 'double', filter => '$.x.double() > 0');
SELECT iotmq.publish('access_attacks', 'd', '{"at": "2026-01-01", "x": 1}');
SELECT iotmq.publish('access_attacks', 'd', '{"at": "2026-01-01T00:00:00+00", "x": "none"}');
SELECT iotmq.publish('access_attacks', 'd', (repeat('[', 250) || '{"x": 1}' || repeat(']', 250))::jsonb);
SELECT iotmq.publish('access_attacks', 'd', (repeat('[', 257) || '{"x": 1}' || repeat(']', 257))::jsonb);
SELECT iotmq.publish('access_attacks', 'd', (repeat('{"a":', 4999) || '{"x": 1}' || repeat('}', 4999))::jsonb);
SELECT iotmq.publish('access_attacks', 'd', format('{"x": 1, "wide": [%s0]}', repeat('[[1]], ', 9999))::jsonb);
SELECT iotmq.create_group('access_attacks', 'memory', start_from => '-infinity', filter => 'exists($.**.keyvalue() ? (@.key == "x"))');
SELECT iotmq.create_group('access_attacks', 'stack', start_from => '-infinity', filter => 'exists($.**.a ? (exists($.**.a ? (exists($.**.x)))))');
SELECT consumer_group, iotmq.count_lag('access_attacks', consumer_group)
FROM unnest('{dates,deep,double,memory,stack}'::text[]) AS consumer_group;
SELECT msg_offset FROM iotmq.consume('access_attacks', 'dates');
SELECT msg_offset FROM iotmq.consume('access_attacks', 'deep', 1);
SELECT msg_offset FROM iotmq.consume('access_attacks', 'deep', 1);
SELECT msg_offset FROM iotmq.consume('access_attacks', 'double', 1);
-- A variable that nobody gives would be such an error, too: it is one of the group.
\set VERBOSITY sqlstate
SELECT iotmq.create_group('access_attacks', 'variable', filter => '$.kind == "alarm" && $.level > $limit');
SELECT iotmq.alter_group('access_attacks', 'deep', filter => '$"limit" > 1');
\set VERBOSITY default
SELECT iotmq.create_group('access_attacks', 'variable', filter => '$."a$" == "$\"b\" $c" && $."c$" > 1 && $[0 to last].d like_regex "^$"');
SELECT iotmq.drop_group('access_attacks', 'variable');
-- Retention counts by the same filter.
SET client_min_messages = warning;
CALL iotmq.run_maintenance(now() + interval '3 hours');
RESET client_min_messages;
SELECT skipped FROM iotmq.maintenance_run ORDER BY run_id DESC LIMIT 1;
SELECT consumer_group, expired_unread FROM iotmq.group_lag WHERE topic = 'access_attacks' ORDER BY consumer_group;

--
-- Maintenance of one zone that fails, whatever it is, doesn't keep it from others.
--
SELECT iotmq.publish('access_attacks', 'd', '1'), iotmq.publish('access_attacks_2', 'd', '1');
UPDATE iotmq_internal.topic SET retention = '100000 years' WHERE topic = 'access_attacks';
CALL iotmq.run_maintenance(now() + interval '3 hours');
SELECT skipped FROM iotmq.maintenance_run ORDER BY run_id DESC LIMIT 1;
SELECT topic, messages_estimate FROM iotmq.topic_stats WHERE topic LIKE 'access_attacks%' ORDER BY topic;
UPDATE iotmq_internal.topic SET retention = '1 hour' WHERE topic = 'access_attacks';

--
-- An open transaction that finds the next segment missing leaves it to others: it would
-- keep them from making one.
--
SELECT iotmq.zone_table('access_attacks', 'a') AS zone_a \gset
\set ECHO none
SELECT format('DROP TABLE %s; DELETE FROM iotmq_internal.segment WHERE table_name = %s', s.table_name, s.table_name::oid)
FROM iotmq_internal.segment AS s
JOIN iotmq_internal.zone AS z USING (zone_id)
WHERE z.table_name = :'zone_a'::regclass AND s.from_time > now() \gexec
\set ECHO all
BEGIN;
SELECT iotmq.publish('access_attacks', 'd', '2') > 0 AS published;
SELECT iotmq.commit_offset('access_attacks', 'deep', 'a', 8);
SELECT msg_offset > 4 AS delivered FROM iotmq.consume('access_attacks', 'dates', 1);
SELECT segments FROM iotmq.topic_stats WHERE topic = 'access_attacks';
SELECT mode FROM pg_locks WHERE relation = :'zone_a'::regclass AND pid = pg_backend_pid() AND mode = 'ShareUpdateExclusiveLock';
COMMIT;
SELECT iotmq.publish('access_attacks', 'd', '3') > 0 AS published;
SELECT segments FROM iotmq.topic_stats WHERE topic = 'access_attacks';

--
-- Grants by hand: they are shown, and a revoke that can't take one back says so.
--
SELECT iotmq.grant_read('access_attacks', 'regress_iotmq_reader');
GRANT SELECT ON iotmq_topic.access_attacks TO regress_iotmq_reader WITH GRANT OPTION;
SET ROLE regress_iotmq_reader;
GRANT SELECT ON iotmq_topic.access_attacks TO regress_iotmq_consumer;
RESET ROLE;
SELECT role, action FROM iotmq.privileges WHERE topic = 'access_attacks' ORDER BY role::text;
\set ECHO none
SELECT nspowner::regrole AS owner FROM pg_namespace WHERE nspname = 'iotmq' \gset
\set ECHO all
\set VERBOSITY sqlstate
SELECT iotmq.revoke_read('access_attacks', :'owner');
\set VERBOSITY default
SELECT iotmq.revoke_read('access_attacks', 'regress_iotmq_consumer'); \echo :SQLSTATE
SELECT iotmq.revoke_read('access_attacks', 'regress_iotmq_reader');
SELECT role, action FROM iotmq.privileges WHERE topic = 'access_attacks';
SELECT iotmq.zone_table('access_attacks', 'a') AS zone_a \gset
GRANT SELECT ON iotmq_topic.access_attacks TO PUBLIC;
GRANT INSERT ON :zone_a TO regress_iotmq_publisher;
GRANT INSERT (device_id, tag, payload, body, properties) ON iotmq_topic.access_attacks TO PUBLIC;
SELECT zone, role, action FROM iotmq.privileges WHERE topic = 'access_attacks' ORDER BY action;
SELECT iotmq.add_zone('access_attacks', 'b');
SELECT iotmq.revoke_publish('access_attacks', 'regress_iotmq_publisher'); \echo :SQLSTATE
-- Rights to consume end with the role, not with what it owns.
SELECT iotmq.grant_consume('access_attacks', 'deep', 'regress_iotmq_consumer');
DROP OWNED BY regress_iotmq_consumer;
SELECT role, action FROM iotmq.privileges WHERE role = 'regress_iotmq_consumer'::regrole;
SET ROLE regress_iotmq_consumer;
\set VERBOSITY sqlstate
SELECT iotmq.consume('access_attacks', 'deep');
\set VERBOSITY default
RESET ROLE;
DROP ROLE regress_iotmq_consumer;
SELECT count(*) FROM iotmq_internal.consume_grant;
SELECT iotmq.revoke_monitor('regress_iotmq_nobody');
SELECT count(*) FROM iotmq_internal.consume_grant;

SET client_min_messages = warning;
SELECT iotmq.drop_topic('access_attacks', force => true), iotmq.drop_topic('access_attacks_2', force => true);
SELECT iotmq.revoke_admin('regress_iotmq_admin');
DROP SCHEMA access_attacks CASCADE;
DROP ROLE regress_iotmq_publisher, regress_iotmq_reader, regress_iotmq_admin, regress_iotmq_nobody;
