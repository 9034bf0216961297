-- Grants: what each gives and nothing more, for whom, and how it ends.
-- See access_matrix.sql for each call x each kind of role.
-- Promise: default-deny
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_iotmq_publisher, regress_iotmq_consumer, regress_iotmq_reader,
	regress_iotmq_mirror, regress_iotmq_monitor, regress_iotmq_admin, regress_iotmq_member, regress_iotmq_noinherit,
	regress_iotmq_nobody, "regress_iotmq_"";x' --";
RESET client_min_messages;
CREATE ROLE regress_iotmq_publisher;
CREATE ROLE regress_iotmq_consumer;
CREATE ROLE regress_iotmq_reader;
CREATE ROLE regress_iotmq_mirror;
CREATE ROLE regress_iotmq_monitor;
CREATE ROLE regress_iotmq_admin;
CREATE ROLE regress_iotmq_member IN ROLE regress_iotmq_publisher, regress_iotmq_consumer, regress_iotmq_reader;
CREATE ROLE regress_iotmq_noinherit NOINHERIT IN ROLE regress_iotmq_publisher, regress_iotmq_consumer, regress_iotmq_reader;
CREATE ROLE regress_iotmq_nobody;
CREATE TEMP VIEW granted AS
SELECT topic, consumer_group, zone, role, action
FROM iotmq.privileges
WHERE role::text LIKE '%regress_iotmq%'
ORDER BY action, role::text, topic, zone, consumer_group;
SELECT iotmq.create_topic('access_rights', '{a,b}');
SELECT iotmq.zone_table('access_rights', 'a') AS zone_a, iotmq.zone_table('access_rights', 'b') AS zone_b \gset
SELECT s.table_name AS segment_a
FROM iotmq_internal.segment AS s
JOIN iotmq_internal.zone AS z USING (zone_id)
WHERE z.table_name = :'zone_a'::regclass
ORDER BY s.from_time
LIMIT 1 \gset

--
-- Publishing, to one zone.
--
SELECT iotmq.grant_publish('access_rights', 'regress_iotmq_publisher', '{a}');
SET ROLE regress_iotmq_publisher;
SELECT iotmq.publish('access_rights', 'd', '1', 'a');
SELECT iotmq.publish_batch('access_rights', '{d,d}', '{2,3}', 'a');
COPY :zone_a (device_id, tag, payload, body, properties) FROM STDIN;
d	t	4	\\x00	{}
\.
INSERT INTO :zone_a (device_id, payload) VALUES ('d', '5');
-- Not to another one; the message says what to do.
SELECT iotmq.publish('access_rights', 'd', '0', 'b');
\set VERBOSITY sqlstate
SELECT iotmq.publish_batch('access_rights', '{d}', '{0}', 'b');
\set copy '\\copy ' :zone_b ' (device_id, payload) FROM /dev/null'
:copy
INSERT INTO :zone_b (device_id, payload) VALUES ('d', '0');
INSERT INTO iotmq_topic.access_rights (zone, device_id, payload) VALUES ('b', 'd', '0');
INSERT INTO iotmq_topic.access_rights (zone, device_id, payload) VALUES ('a', 'd', '0');
-- Offset, time and zone are not the publisher's to choose.
\set copy '\\copy ' :zone_a ' (msg_offset, device_id, payload) FROM /dev/null'
:copy
\set copy '\\copy ' :zone_a ' (published_at, device_id, payload) FROM /dev/null'
:copy
\set copy '\\copy ' :zone_a ' (zone, device_id, payload) FROM /dev/null'
:copy
\set copy '\\copy ' :zone_a ' FROM /dev/null'
:copy
INSERT INTO :zone_a (msg_offset, device_id, payload) VALUES (DEFAULT, 'd', '0');
INSERT INTO :zone_a (published_at, device_id, payload) VALUES (DEFAULT, 'd', '0');
INSERT INTO :segment_a VALUES ('a', 100, '2020-01-01', 'd', NULL, '0');
INSERT INTO :segment_a (device_id, payload) VALUES ('d', '0');
SELECT setval(pg_get_serial_sequence(:'zone_a', 'msg_offset'), 100);
-- Nor may it read, not even its own, or change what is there.
SELECT count(*) FROM iotmq_topic.access_rights;
SELECT count(*) FROM :zone_a;
SELECT count(*) FROM :segment_a;
COPY :zone_a TO STDOUT;
COPY (SELECT payload FROM :zone_a) TO STDOUT;
INSERT INTO :zone_a (device_id, payload) VALUES ('d', '0') RETURNING msg_offset;
INSERT INTO :zone_a (device_id, payload) VALUES ('d', '0') ON CONFLICT DO NOTHING RETURNING payload;
UPDATE :zone_a SET payload = '0';
DELETE FROM :zone_a;
TRUNCATE :zone_a;
SELECT * FROM iotmq.fetch('access_rights', 'a', 1);
SELECT * FROM iotmq.messages_of_device('access_rights', 'd');
ALTER TABLE :zone_a DISABLE TRIGGER before_publish;
CREATE TRIGGER mine BEFORE INSERT ON :zone_a EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE RULE mine AS ON INSERT TO :zone_a DO INSTEAD NOTHING;
BEGIN;
LOCK TABLE :zone_a IN ROW EXCLUSIVE MODE;
ROLLBACK;
RESET ROLE;
\set VERBOSITY default
SELECT zone, msg_offset, payload FROM iotmq_topic.access_rights ORDER BY zone, msg_offset;

-- All zones, those added later, too.
SELECT iotmq.grant_publish('access_rights', 'regress_iotmq_publisher');
SELECT iotmq.add_zone('access_rights', 'c');
SELECT iotmq.zone_table('access_rights', 'c') AS zone_c \gset
SET ROLE regress_iotmq_publisher;
SELECT iotmq.publish('access_rights', 'd', '1', 'b'), iotmq.publish('access_rights', 'd', '1', 'c');
COPY :zone_c (device_id, payload) FROM STDIN;
d	2
\.
-- The topic's own table takes nothing without a zone, and a zone is not to be chosen there.
\set VERBOSITY sqlstate
INSERT INTO iotmq_topic.access_rights (device_id, payload) VALUES ('d', '0');
INSERT INTO iotmq_topic.access_rights (zone, device_id, payload) VALUES ('a', 'd', '0');
\set VERBOSITY default
RESET ROLE;
SELECT * FROM granted;

-- One zone less leaves the others, but no longer "all": a new one is not among them.
SELECT iotmq.revoke_publish('access_rights', 'regress_iotmq_publisher', '{b}');
SELECT iotmq.add_zone('access_rights', 'd');
SELECT * FROM granted;
SET ROLE regress_iotmq_publisher;
SELECT iotmq.publish('access_rights', 'd', '6', 'a');
\set VERBOSITY sqlstate
SELECT iotmq.publish('access_rights', 'd', '0', 'b');
SELECT iotmq.publish('access_rights', 'd', '0', 'd');
\set copy '\\copy ' :zone_b ' (device_id, payload) FROM /dev/null'
:copy
\set VERBOSITY default
RESET ROLE;
-- Twice is once, none is none, and NULL takes all.
SELECT iotmq.grant_publish('access_rights', 'regress_iotmq_publisher', '{a,a}');
SELECT iotmq.grant_publish('access_rights', 'regress_iotmq_publisher', '{}');
SELECT iotmq.revoke_publish('access_rights', 'regress_iotmq_publisher', '{b}');
SELECT * FROM granted;
SELECT iotmq.revoke_publish('access_rights', 'regress_iotmq_publisher');
SELECT * FROM granted;
SELECT iotmq.add_zone('access_rights', 'e');
\set VERBOSITY sqlstate
SET ROLE regress_iotmq_publisher;
SELECT iotmq.publish('access_rights', 'd', '0', 'a');
SELECT iotmq.publish('access_rights', 'd', '0', 'e');
SELECT nextval(pg_get_serial_sequence(:'zone_a', 'msg_offset'));
RESET ROLE;
-- Mistakes.
SELECT iotmq.grant_publish('access_rights', NULL);
SELECT iotmq.grant_publish('access_rights', 'regress_iotmq_unknown');
SELECT iotmq.grant_publish('access_rights', 0::oid::regrole);
SELECT iotmq.grant_publish('access_rights', 'regress_iotmq_publisher', '{a,unknown}');
SELECT iotmq.grant_publish('access_rights', 'regress_iotmq_publisher', '{a,NULL}');
SELECT iotmq.grant_publish('unknown', 'regress_iotmq_publisher');
SELECT iotmq.grant_publish(NULL, 'regress_iotmq_publisher');
SELECT iotmq.revoke_publish('access_rights', NULL);
SELECT iotmq.revoke_publish('unknown', 'regress_iotmq_publisher');
\set VERBOSITY default
SELECT * FROM granted;

--
-- Consuming, as one group. Offsets in zone a: 1 to 6.
--
SELECT iotmq.create_group('access_rights', 'mine', start_from => '-infinity', filter => '$ > 2');
SELECT iotmq.create_group('access_rights', 'other', start_from => '-infinity');
SELECT iotmq.grant_consume('access_rights', 'mine', 'regress_iotmq_consumer');
SELECT iotmq.grant_consume('access_rights', 'mine', 'regress_iotmq_consumer');
SELECT * FROM granted;
SELECT min(lease_id) AS dead FROM iotmq.consume('access_rights', 'other', 1, zone => 'a') \gset
SELECT iotmq.reject(:dead, reason => 'secret');
SELECT id AS dead_of_other FROM iotmq.dead_letter WHERE consumer_group = 'other' \gset
SELECT min(lease_id) AS other FROM iotmq.consume('access_rights', 'other', 2, zone => 'a') \gset
SET ROLE regress_iotmq_consumer;
SELECT msg_offset, payload FROM iotmq.consume('access_rights', 'mine', 1, zone => 'a');
SELECT min(lease_id) AS mine FROM iotmq.consume('access_rights', 'mine', 2, zone => 'a') \gset
SELECT iotmq.ack(:mine, '{4}'), iotmq.reject(:mine, '{5}', 'bad');
-- Its own dead letters, and no one else's.
SELECT consumer_group, msg_offset, payload, reason FROM iotmq.dead_letter;
SELECT iotmq.redrive('access_rights', 'mine', ARRAY[:dead_of_other]);
SELECT iotmq.purge_dead_letters('access_rights', 'mine', ARRAY[:dead_of_other]);
SELECT iotmq.redrive('access_rights', 'mine', dry_run => true);
-- Not as another group, though it knows names, lease and dead letter.
SELECT iotmq.consume('access_rights', 'other');
\set VERBOSITY sqlstate
SELECT iotmq.ack(:other);
SELECT iotmq.ack(:other, '{2}');
SELECT iotmq.nack(:other, delay => '0');
SELECT iotmq.reject(:other);
SELECT iotmq.extend(:other, '1 us');
SELECT iotmq.commit_offset('access_rights', 'other', 'a', 1);
SELECT iotmq.committed_offset('access_rights', 'other', 'a');
SELECT iotmq.redrive('access_rights', 'other');
SELECT iotmq.redrive('access_rights', 'other', dry_run => true);
SELECT iotmq.purge_dead_letters('access_rights', 'other');
SELECT * FROM iotmq.seek('access_rights', 'other', '-infinity');
SELECT * FROM iotmq.seek_offset('access_rights', 'other', 'a', 1, dry_run => true);
-- Nor may it publish, read, or move its own group by seek.
SELECT iotmq.publish('access_rights', 'd', '0', 'a');
INSERT INTO :zone_a (device_id, payload) VALUES ('d', '0');
SELECT count(*) FROM iotmq_topic.access_rights;
SELECT count(*) FROM :zone_a;
SELECT * FROM iotmq.messages_of_device('access_rights', 'd');
SELECT * FROM iotmq.seek('access_rights', 'mine', '-infinity');
SELECT count(*) FROM iotmq_internal.dead_message;
SELECT count(*) FROM iotmq.topic_stats;
\set VERBOSITY default
-- fetch begins where its group stands, not before.
SELECT iotmq.committed_offset('access_rights', 'mine', 'a');
SELECT msg_offset FROM iotmq.fetch('access_rights', 'a', 1);
-- which it can't set back.
SELECT iotmq.commit_offset('access_rights', 'mine', 'a', 1);
SELECT iotmq.commit_offset('access_rights', 'mine', 'a', 6);
RESET ROLE;
SELECT consumer_group, messages FROM iotmq.in_flight WHERE topic = 'access_rights' ORDER BY lease_id;
SELECT consumer_group, next_offset, dead_letters
FROM iotmq.consumer_lag
WHERE topic = 'access_rights' AND zone = 'a'
ORDER BY consumer_group;
-- A condition of the consumer's own doesn't see what the view hides.
CREATE FUNCTION pg_temp.tell(reason text) RETURNS boolean
	LANGUAGE plpgsql COST 0.0001
AS $$
BEGIN
	RAISE NOTICE 'a dead letter: %', reason;
	RETURN true;
END
$$;
SET ROLE regress_iotmq_consumer;
SELECT consumer_group FROM iotmq.dead_letter WHERE pg_temp.tell(reason);
RESET ROLE;
-- The end of it; the lease goes with the right.
SELECT min(lease_id) AS mine FROM iotmq.consume('access_rights', 'mine', 1, zone => 'a') \gset
SELECT iotmq.revoke_consume('access_rights', 'mine', 'regress_iotmq_consumer');
SELECT iotmq.revoke_consume('access_rights', 'mine', 'regress_iotmq_consumer');
SELECT * FROM granted;
\set VERBOSITY sqlstate
SET ROLE regress_iotmq_consumer;
SELECT iotmq.consume('access_rights', 'mine');
SELECT iotmq.ack(:mine);
SELECT * FROM iotmq.fetch('access_rights', 'a', 1);
SELECT consumer_group FROM iotmq.dead_letter;
RESET ROLE;
-- Mistakes.
SELECT iotmq.grant_consume('access_rights', 'unknown', 'regress_iotmq_consumer');
SELECT iotmq.grant_consume('unknown', 'mine', 'regress_iotmq_consumer');
SELECT iotmq.grant_consume('access_rights', 'mine', NULL);
SELECT iotmq.grant_consume('access_rights', NULL, 'regress_iotmq_consumer');
SELECT iotmq.grant_consume('access_rights', 'mine', 0::oid::regrole);
SELECT iotmq.revoke_consume('access_rights', 'unknown', 'regress_iotmq_consumer');
SELECT iotmq.revoke_consume('access_rights', 'mine', NULL);
\set VERBOSITY default
-- A group that was dropped and made again is another one.
SELECT iotmq.create_group('access_rights', 'brief');
SELECT iotmq.grant_consume('access_rights', 'brief', 'regress_iotmq_consumer');
SELECT iotmq.drop_group('access_rights', 'brief', force => true);
SELECT iotmq.create_group('access_rights', 'brief');
SELECT * FROM granted;
SET ROLE regress_iotmq_consumer;
\set VERBOSITY sqlstate
SELECT iotmq.consume('access_rights', 'brief');
\set VERBOSITY default
RESET ROLE;

--
-- Reading.
--
SELECT iotmq.grant_read('access_rights', 'regress_iotmq_reader');
SELECT iotmq.create_topic('access_rights_2');
SELECT iotmq.publish('access_rights_2', 'd', '1');
SET ROLE regress_iotmq_reader;
SELECT zone, count(*) FROM iotmq_topic.access_rights GROUP BY zone ORDER BY zone;
SELECT msg_offset FROM iotmq.messages_of_device('access_rights', 'd', max_messages => 2, zone => 'a');
SELECT msg_offset FROM iotmq.fetch('access_rights', 'a', 1, 2);
\set VERBOSITY sqlstate
SELECT count(*) FROM iotmq_topic.access_rights_2;
SELECT * FROM iotmq.messages_of_device('access_rights_2', 'd');
SELECT * FROM iotmq.fetch('access_rights_2', 'default', 1);
SELECT iotmq.publish('access_rights', 'd', '0', 'a');
SELECT iotmq.consume('access_rights', 'mine');
SELECT iotmq.commit_offset('access_rights', 'mine', 'a', 1);
SELECT count(*) FROM iotmq.dead_letter;
UPDATE iotmq_topic.access_rights SET payload = '0';
DELETE FROM iotmq_topic.access_rights;
SELECT payload FROM iotmq_topic.access_rights FOR UPDATE;
\set VERBOSITY default
RESET ROLE;
SELECT iotmq.revoke_read('access_rights', 'regress_iotmq_reader');
\set VERBOSITY sqlstate
SET ROLE regress_iotmq_reader;
SELECT count(*) FROM iotmq_topic.access_rights;
SELECT * FROM iotmq.messages_of_device('access_rights', 'd');
SELECT * FROM iotmq.fetch('access_rights', 'a', 1);
RESET ROLE;
SELECT iotmq.grant_read('unknown', 'regress_iotmq_reader');
SELECT iotmq.grant_read('access_rights', NULL);
SELECT iotmq.revoke_read(NULL, 'regress_iotmq_reader');
\set VERBOSITY default

--
-- Being pulled from: messages by fetch, and what groups have; no SQL on tables.
--
SELECT iotmq.grant_mirror('access_rights', 'regress_iotmq_mirror');
SELECT iotmq.grant_mirror('access_rights', 'regress_iotmq_mirror');
SELECT * FROM granted;
SET ROLE regress_iotmq_mirror;
SELECT msg_offset FROM iotmq.fetch('access_rights', 'a', 1, 2);
SELECT msg_offset FROM iotmq.messages_of_device('access_rights', 'd', max_messages => 1, zone => 'a');
SELECT g ->> 'consumer_group' AS consumer_group
FROM jsonb_array_elements(iotmq.mirror_groups('access_rights', 'a') -> 'groups') AS g;
SELECT jsonb_array_length(iotmq.mirror_letters('access_rights', 'a', 'other', '{1,2}'));
SELECT topic, zones FROM iotmq.topic_settings;
SELECT * FROM iotmq.zones('access_rights');
-- Not of another topic, and nothing else.
SELECT iotmq.mirror_groups('access_rights_2', 'default');
SELECT iotmq.mirror_letters('access_rights_2', 'default', 'g', '{1}');
\set VERBOSITY sqlstate
SELECT * FROM iotmq.fetch('access_rights_2', 'default', 1);
SELECT count(*) FROM iotmq_topic.access_rights;
SELECT count(*) FROM :zone_a;
SELECT iotmq.publish('access_rights', 'd', '0', 'a');
SELECT iotmq.consume('access_rights', 'mine');
SELECT iotmq.redrive('access_rights', 'mine');
SELECT count(*) FROM iotmq.dead_letter;
SELECT count(*) FROM iotmq.consumer_lag;
SELECT iotmq.grant_mirror('access_rights', 'regress_iotmq_nobody');
SELECT iotmq.mirror_groups('access_rights', 'unknown');
SELECT iotmq.mirror_groups('access_rights', NULL);
SELECT iotmq.mirror_groups(NULL, 'a');
SELECT iotmq.mirror_letters('access_rights', 'a', 'unknown', '{1}');
\set VERBOSITY default
RESET ROLE;
-- The right to read alone is not enough; an administrator needs none.
SET ROLE regress_iotmq_reader;
\set VERBOSITY sqlstate
SELECT iotmq.mirror_groups('access_rights', 'a');
\set VERBOSITY default
RESET ROLE;
SELECT iotmq.grant_read('access_rights', 'regress_iotmq_mirror');
SELECT iotmq.revoke_mirror('access_rights', 'regress_iotmq_mirror');
SELECT iotmq.revoke_mirror('access_rights', 'regress_iotmq_mirror');
SELECT * FROM granted;
-- What it was granted otherwise stays.
SET ROLE regress_iotmq_mirror;
SELECT msg_offset FROM iotmq.fetch('access_rights', 'a', 1, 1);
\set VERBOSITY sqlstate
SELECT iotmq.mirror_groups('access_rights', 'a');
RESET ROLE;
SELECT iotmq.revoke_read('access_rights', 'regress_iotmq_mirror');
SET ROLE regress_iotmq_mirror;
SELECT * FROM iotmq.fetch('access_rights', 'a', 1, 1);
SELECT * FROM iotmq.topic_settings;
RESET ROLE;
SELECT iotmq.grant_mirror('unknown', 'regress_iotmq_mirror');
SELECT iotmq.grant_mirror(NULL, 'regress_iotmq_mirror');
SELECT iotmq.grant_mirror('access_rights', NULL);
SELECT iotmq.grant_mirror('access_rights', 'regress_iotmq_unknown');
SELECT iotmq.revoke_mirror('access_rights', NULL);
\set VERBOSITY default
-- A topic that was dropped and made again is another one, and so is a role.
SELECT iotmq.create_topic('access_rights_mirror');
SELECT iotmq.grant_mirror('access_rights_mirror', 'regress_iotmq_mirror');
SELECT iotmq.drop_topic('access_rights_mirror');
SELECT iotmq.create_topic('access_rights_mirror');
SELECT * FROM granted;
SELECT iotmq.grant_mirror('access_rights_mirror', 'regress_iotmq_mirror');
SELECT iotmq.grant_mirror('access_rights', 'regress_iotmq_mirror');
SELECT iotmq.revoke_mirror('access_rights', 'regress_iotmq_mirror');
SELECT * FROM granted;
DROP OWNED BY regress_iotmq_mirror;
DROP ROLE regress_iotmq_mirror;
CREATE ROLE regress_iotmq_mirror;
SELECT * FROM granted;
SET ROLE regress_iotmq_mirror;
\set VERBOSITY sqlstate
SELECT iotmq.mirror_groups('access_rights_mirror', 'default');
\set VERBOSITY default
RESET ROLE;
SELECT iotmq.grant_mirror('access_rights', 'regress_iotmq_mirror');
SELECT iotmq.revoke_mirror('access_rights', 'regress_iotmq_mirror');
SELECT count(*) FROM iotmq_internal.mirror_grant;
SELECT iotmq.drop_topic('access_rights_mirror');

--
-- Monitoring: figures, no content.
--
SELECT iotmq.grant_monitor('regress_iotmq_monitor');
SELECT * FROM granted;
SET ROLE regress_iotmq_monitor;
SELECT consumer_group, lag_messages FROM iotmq.group_lag WHERE topic = 'access_rights' ORDER BY consumer_group;
SELECT iotmq.count_lag('access_rights', 'other');
\set VERBOSITY sqlstate
SELECT * FROM iotmq.dead_letter;
SELECT * FROM iotmq_internal.dead_message;
SELECT * FROM iotmq_internal.redelivery;
SELECT count(*) FROM iotmq_topic.access_rights;
SELECT iotmq.grant_monitor('regress_iotmq_nobody');
\set VERBOSITY default
RESET ROLE;
SELECT iotmq.revoke_monitor('regress_iotmq_monitor');
\set VERBOSITY sqlstate
SET ROLE regress_iotmq_monitor;
SELECT * FROM iotmq.group_lag;
SELECT iotmq.count_lag('access_rights', 'other');
RESET ROLE;
SELECT iotmq.grant_monitor(NULL);
SELECT iotmq.revoke_monitor(NULL);
\set VERBOSITY default

--
-- Administration, by a role that is no superuser.
--
SELECT iotmq.grant_admin('regress_iotmq_admin');
SELECT * FROM granted;
SET ROLE regress_iotmq_admin;
SELECT iotmq.create_topic('access_rights_3', '{a}');
SELECT iotmq.add_zone('access_rights_3', 'b');
SELECT iotmq.create_group('access_rights_3', 'g');
SELECT iotmq.alter_group('access_rights_3', 'g', max_lag => 1);
SELECT iotmq.alter_topic('access_rights_3', retention => '1 day');
SELECT iotmq.grant_publish('access_rights_3', 'regress_iotmq_publisher');
SELECT iotmq.grant_consume('access_rights_3', 'g', 'regress_iotmq_consumer');
SELECT iotmq.grant_read('access_rights_3', 'regress_iotmq_reader');
SELECT iotmq.publish('access_rights_3', 'd', '1', 'b');
SELECT msg_offset FROM iotmq.consume('access_rights_3', 'g');
SELECT * FROM iotmq.seek('access_rights_3', 'g', '-infinity') ORDER BY zone;
SELECT * FROM iotmq.alerts WHERE topic = 'access_rights_3';
SET client_min_messages = warning;
CALL iotmq.run_maintenance();
RESET client_min_messages;
RESET ROLE;
SELECT * FROM granted WHERE topic = 'access_rights_3';
SELECT DISTINCT c.relowner = e.extowner AS owned_by_the_extensions_owner
FROM pg_class AS c
JOIN pg_extension AS e ON e.extname = 'iotmq'
WHERE c.relnamespace::regnamespace::text LIKE 'iotmq\_%';
SET ROLE regress_iotmq_admin;
SELECT iotmq.drop_zone('access_rights_3', 'a');
SELECT iotmq.drop_topic('access_rights_3', force => true);
-- It may hand everything on, itself included.
SELECT iotmq.grant_admin('regress_iotmq_nobody');
SELECT iotmq.revoke_admin('regress_iotmq_nobody');
SELECT iotmq.revoke_admin('regress_iotmq_admin');
\set VERBOSITY sqlstate
SELECT iotmq.grant_admin('regress_iotmq_admin');
SELECT iotmq.create_topic('access_rights_3');
CALL iotmq.run_maintenance();
SELECT iotmq.publish('access_rights', 'd', '0', 'a');
RESET ROLE;
SELECT iotmq.grant_admin(NULL);
SELECT iotmq.revoke_admin(NULL);
\set VERBOSITY default
SELECT * FROM granted;

--
-- For whom: the current role.
--
SELECT iotmq.grant_publish('access_rights', 'regress_iotmq_publisher', '{a}');
SELECT iotmq.grant_consume('access_rights', 'mine', 'regress_iotmq_consumer');
SELECT iotmq.grant_read('access_rights', 'regress_iotmq_reader');
-- A member has what its roles have.
SET ROLE regress_iotmq_member;
SELECT iotmq.publish('access_rights', 'd', '7', 'a');
SELECT msg_offset FROM iotmq.consume('access_rights', 'mine', zone => 'a');
SELECT count(*) FROM iotmq.dead_letter;
SELECT msg_offset FROM iotmq.messages_of_device('access_rights', 'd', max_messages => 1, zone => 'a');
SELECT max(msg_offset) FROM iotmq_topic.access_rights WHERE zone = 'a';
-- Who may read all of the topic may also begin again.
SELECT iotmq.commit_offset('access_rights', 'mine', 'a', 1);
SELECT iotmq.committed_offset('access_rights', 'mine', 'a');
RESET ROLE;
-- One that doesn't inherit has it after SET ROLE only.
SET SESSION AUTHORIZATION regress_iotmq_noinherit;
\set VERBOSITY sqlstate
SELECT iotmq.publish('access_rights', 'd', '0', 'a');
SELECT iotmq.consume('access_rights', 'mine');
SELECT iotmq.messages_of_device('access_rights', 'd');
SELECT count(*) FROM iotmq.dead_letter;
\set VERBOSITY default
SET ROLE regress_iotmq_publisher;
SELECT iotmq.publish('access_rights', 'd', '8', 'a');
SET ROLE regress_iotmq_consumer;
SELECT count(*) FROM iotmq.dead_letter;
RESET SESSION AUTHORIZATION;
-- A SECURITY DEFINER function counts as its owner, whoever calls it.
CREATE FUNCTION pg_temp.publish_as_owner(payload jsonb) RETURNS bigint
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	RETURN iotmq.publish('access_rights', 'd', payload, 'a');
CREATE FUNCTION pg_temp.publish_as_caller(payload jsonb) RETURNS bigint
	LANGUAGE sql
	RETURN iotmq.publish('access_rights', 'd', payload, 'a');
ALTER FUNCTION pg_temp.publish_as_owner OWNER TO regress_iotmq_publisher;
SET ROLE regress_iotmq_nobody;
SELECT pg_temp.publish_as_owner('9');
\set VERBOSITY sqlstate
SELECT pg_temp.publish_as_caller('0');
RESET ROLE;
ALTER FUNCTION pg_temp.publish_as_owner OWNER TO regress_iotmq_nobody;
SET ROLE regress_iotmq_publisher;
SELECT pg_temp.publish_as_owner('0');
\set VERBOSITY default
SELECT pg_temp.publish_as_caller('10');
RESET ROLE;
\set VERBOSITY sqlstate
SELECT pg_temp.publish_as_owner('0');
\set VERBOSITY default
-- What was prepared by somebody else is checked when it runs.
PREPARE publish_it AS SELECT iotmq.publish('access_rights', 'd', '11', 'a');
PREPARE consume_it AS SELECT count(*) FROM iotmq.consume('access_rights', 'mine', zone => 'c');
EXECUTE publish_it;
EXECUTE consume_it;
SET ROLE regress_iotmq_nobody;
\set VERBOSITY sqlstate
EXECUTE publish_it;
EXECUTE consume_it;
\set VERBOSITY default
RESET ROLE;
DEALLOCATE publish_it;
DEALLOCATE consume_it;
-- After an error inside, the caller is still itself.
SET ROLE regress_iotmq_consumer;
SELECT iotmq.redrive('access_rights', 'mine', max_messages => -1);
SELECT current_user;
DO $$
BEGIN
	PERFORM iotmq.purge_dead_letters('access_rights', 'mine', older_than => '-1 s');
EXCEPTION WHEN invalid_parameter_value THEN
	RAISE NOTICE '%', current_user;
END
$$;
RESET ROLE;

--
-- Own objects give no rights. This role has a schema full of what is named like
-- something that iotmq uses, and each tells when it is called.
--
CREATE SCHEMA access_rights AUTHORIZATION regress_iotmq_nobody;
SET ROLE regress_iotmq_nobody;
SET search_path = access_rights, pg_catalog;
CREATE TABLE caught (name text);
GRANT USAGE ON SCHEMA access_rights TO PUBLIC;
GRANT INSERT ON caught TO PUBLIC;
CREATE FUNCTION equal(int, int) RETURNS boolean LANGUAGE sql AS $$
	INSERT INTO access_rights.caught VALUES ('='); SELECT $1 OPERATOR(pg_catalog.=) $2 $$;
CREATE FUNCTION equal(text, text) RETURNS boolean LANGUAGE sql AS $$
	INSERT INTO access_rights.caught VALUES ('='); SELECT $1 OPERATOR(pg_catalog.=) $2 $$;
CREATE FUNCTION equal(oid, oid) RETURNS boolean LANGUAGE sql AS $$
	INSERT INTO access_rights.caught VALUES ('='); SELECT $1 OPERATOR(pg_catalog.=) $2 $$;
CREATE FUNCTION plus(int, int) RETURNS int LANGUAGE sql AS $$
	INSERT INTO access_rights.caught VALUES ('+'); SELECT $1 OPERATOR(pg_catalog.+) $2 $$;
CREATE OPERATOR = (LEFTARG = int, RIGHTARG = int, FUNCTION = equal);
CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = equal);
CREATE OPERATOR = (LEFTARG = oid, RIGHTARG = oid, FUNCTION = equal);
CREATE OPERATOR + (LEFTARG = int, RIGHTARG = int, FUNCTION = plus);
CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$
	INSERT INTO access_rights.caught VALUES ('clock_timestamp'); SELECT pg_catalog.clock_timestamp() $$;
CREATE FUNCTION format(text, text) RETURNS text LANGUAGE sql AS $$
	INSERT INTO access_rights.caught VALUES ('format'); SELECT pg_catalog.format($1, $2) $$;
CREATE FUNCTION unnest(text[]) RETURNS SETOF text LANGUAGE sql AS $$
	INSERT INTO access_rights.caught VALUES ('unnest'); SELECT pg_catalog.unnest($1) $$;
CREATE FUNCTION array_append(text[], text) RETURNS text[] LANGUAGE sql AS $$
	INSERT INTO access_rights.caught VALUES ('array_append'); SELECT pg_catalog.array_append($1, $2) $$;
CREATE FUNCTION caught(text) RETURNS boolean LANGUAGE sql AS $$
	INSERT INTO access_rights.caught VALUES ('a type'); SELECT true $$;
CREATE DOMAIN text AS pg_catalog.text CHECK (access_rights.caught(VALUE));
CREATE TABLE topic (topic_id int, topic pg_catalog.text);
CREATE TABLE zone (zone_id int);
RESET ROLE;
CREATE TEMP TABLE topic (topic_id int, topic pg_catalog.text);
CREATE TEMP TABLE zone (zone_id int);
CREATE TEMP TABLE lease (lease_id bigint);
CREATE TEMP TABLE pg_roles (oid oid);
SET search_path = access_rights, pg_temp, pg_catalog;
SELECT iotmq.create_topic('access_rights_4', '{a}', '1 hour', '10 minutes');
SELECT iotmq.add_zone('access_rights_4', 'b');
SELECT iotmq.create_group('access_rights_4', 'g', start_from => '-infinity', tags => 'x || y', filter => '$ > 0');
SELECT iotmq.alter_group('access_rights_4', 'g', tags => '*');
SELECT iotmq.alter_topic('access_rights_4', '2 hours');
SELECT iotmq.grant_publish('access_rights_4', 'regress_iotmq_publisher', '{a}');
SELECT iotmq.grant_consume('access_rights_4', 'g', 'regress_iotmq_consumer');
SELECT iotmq.grant_read('access_rights_4', 'regress_iotmq_reader');
SELECT iotmq.publish('access_rights_4', 'd', '1', 'a');
SELECT iotmq.publish_batch('access_rights_4', '{d,d}', '{2,3}', 'a');
SELECT iotmq.zone_table('access_rights_4', 'a') AS zone_a \gset
COPY :zone_a (device_id, payload) FROM STDIN;
d	4
\.
SELECT lease_id AS lease FROM iotmq.consume('access_rights_4', 'g', 1) \gset
SELECT iotmq.reject(:lease);
SELECT lease_id AS lease FROM iotmq.consume('access_rights_4', 'g', 1) \gset
SELECT iotmq.nack(:lease, delay => '0');
SELECT msg_offset FROM iotmq.fetch('access_rights_4', 'a', 1);
SELECT msg_offset FROM iotmq.messages_of_device('access_rights_4', 'd', zone => 'a');
SELECT iotmq.redrive('access_rights_4', 'g', max_messages => 1);
SELECT iotmq.purge_dead_letters('access_rights_4', 'g', older_than => '0');
SELECT iotmq.count_lag('access_rights_4', 'g');
SELECT new_offset FROM iotmq.seek('access_rights_4', 'g', '-infinity', 'a');
SELECT new_offset FROM iotmq.seek_offset('access_rights_4', 'g', 'a', 2);
SELECT DISTINCT name FROM iotmq.metrics WHERE name OPERATOR(pg_catalog.=) 'iotmq_messages_in_total';
SELECT pg_catalog.count(*) FROM iotmq.alerts AS a WHERE a.topic OPERATOR(pg_catalog.=) 'access_rights_4';
SELECT iotmq.revoke_publish('access_rights_4', 'regress_iotmq_publisher');
SELECT iotmq.revoke_consume('access_rights_4', 'g', 'regress_iotmq_consumer');
SELECT iotmq.revoke_read('access_rights_4', 'regress_iotmq_reader');
SET client_min_messages = warning;
CALL iotmq.run_maintenance(pg_catalog.now());
RESET client_min_messages;
SELECT iotmq.drop_zone('access_rights_4', 'b');
SELECT iotmq.drop_topic('access_rights_4', true);
RESET search_path;
SELECT DISTINCT name AS called_for_us FROM access_rights.caught ORDER BY name;
DROP TABLE pg_temp.topic, pg_temp.zone, pg_temp.lease, pg_temp.pg_roles;

-- A trigger on its own table runs for whoever writes there, as PostgreSQL has it, and
-- iotmq writes to no table of others.
SET ROLE regress_iotmq_nobody;
CREATE TABLE access_rights.own (payload jsonb);
GRANT INSERT ON access_rights.own TO PUBLIC;
CREATE FUNCTION access_rights.forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'published by %: %', current_user, iotmq.publish('access_rights', 'd', NEW.payload, 'a');
	RETURN NULL;
END
$$;
CREATE TRIGGER forward AFTER INSERT ON access_rights.own FOR EACH ROW EXECUTE FUNCTION access_rights.forward();
\set VERBOSITY sqlstate
INSERT INTO access_rights.own VALUES ('0');
SET ROLE regress_iotmq_publisher;
\set VERBOSITY default
INSERT INTO access_rights.own VALUES ('12');
SET ROLE regress_iotmq_nobody;
ALTER FUNCTION access_rights.forward() SECURITY DEFINER;
SET ROLE regress_iotmq_publisher;
\set VERBOSITY sqlstate
INSERT INTO access_rights.own VALUES ('0');
-- And nothing of one's own can be made a part of iotmq's tables.
SET ROLE regress_iotmq_nobody;
CREATE TABLE access_rights.part (LIKE iotmq_topic.access_rights);
CREATE TABLE access_rights.part () INHERITS (iotmq_internal.topic);
CREATE TABLE access_rights.part PARTITION OF iotmq_topic.access_rights FOR VALUES IN ('mine');
CREATE TABLE access_rights.part (group_id int REFERENCES iotmq_internal.consumer_group);
CREATE OR REPLACE FUNCTION iotmq.access_may_administer() RETURNS boolean LANGUAGE sql RETURN true;
CREATE OR REPLACE VIEW iotmq.dead_letter AS SELECT 1;
ALTER FUNCTION iotmq.grant_admin(regrole) SECURITY INVOKER;
GRANT regress_iotmq_publisher TO regress_iotmq_nobody;
RESET ROLE;
\set VERBOSITY default
SET client_min_messages = warning;
DROP SCHEMA access_rights CASCADE;
RESET client_min_messages;

-- Nor does a publisher say where a segment goes that is made because it publishes.
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE regress_iotmq_elsewhere LOCATION '';
SELECT iotmq.create_topic('access_rights_5');
SELECT iotmq.grant_publish('access_rights_5', 'regress_iotmq_publisher');
SET client_min_messages = warning;
\set ECHO none
SELECT format('DROP TABLE %s', s.table_name)
FROM iotmq_internal.segment AS s
JOIN iotmq_internal.zone AS z USING (zone_id)
WHERE z.table_name = iotmq.zone_table('access_rights_5', 'default') \gexec
\set ECHO all
RESET client_min_messages;
DELETE FROM iotmq_internal.segment AS s
USING iotmq_internal.zone AS z
WHERE z.zone_id = s.zone_id AND z.table_name = iotmq.zone_table('access_rights_5', 'default');
SET ROLE regress_iotmq_publisher;
SET default_tablespace = regress_iotmq_elsewhere;
SELECT iotmq.publish('access_rights_5', 'd', '1');
RESET default_tablespace;
RESET ROLE;
SELECT segments > 0 AS made FROM iotmq.topic_stats WHERE topic = 'access_rights_5';
SELECT count(*) AS elsewhere
FROM pg_class AS c
JOIN pg_tablespace AS t ON t.oid = c.reltablespace
WHERE t.spcname = 'regress_iotmq_elsewhere';
SELECT iotmq.drop_topic('access_rights_5');
DROP TABLESPACE regress_iotmq_elsewhere;

--
-- Names that want to be SQL.
--
SELECT iotmq.create_topic('x; DROP TABLE iotmq_internal.topic; --'); \echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT iotmq.create_topic('x"');
SELECT iotmq.create_topic('x''');
SELECT iotmq.create_topic('%s');
SELECT iotmq.create_topic('_zone_1');
SELECT iotmq.create_topic('access_rights_5', '{"a'')"}');
SELECT iotmq.add_zone('access_rights', 'a''); DROP TABLE iotmq_internal.topic; --');
SELECT iotmq.create_group('access_rights', 'g"');
SELECT iotmq.publish('x"; --', 'd', '0');
SELECT iotmq.grant_publish('x"; --', 'regress_iotmq_publisher');
\set VERBOSITY default
-- Legal ones that want quoting, and a role of any name.
SELECT iotmq.create_topic('SELECT.1-x', '{Table-1,user}');
SELECT iotmq.create_group('SELECT.1-x', 'Group-1.x', start_from => '-infinity');
CREATE ROLE "regress_iotmq_"";x' --";
SELECT iotmq.grant_publish('SELECT.1-x', '"regress_iotmq_"";x'' --"', '{Table-1}');
SELECT iotmq.grant_consume('SELECT.1-x', 'Group-1.x', '"regress_iotmq_"";x'' --"');
SELECT iotmq.grant_read('SELECT.1-x', '"regress_iotmq_"";x'' --"');
SELECT * FROM granted WHERE topic = 'SELECT.1-x';
SET ROLE "regress_iotmq_"";x' --";
SELECT iotmq.publish('SELECT.1-x', 'd"''\;', '"''\\"', 'Table-1', 'tag''"');
SELECT msg_offset, device_id, tag, payload FROM iotmq.consume('SELECT.1-x', 'Group-1.x');
SELECT msg_offset FROM iotmq.messages_of_device('SELECT.1-x', 'd"''\;', zone => 'Table-1');
SELECT count(*) FROM iotmq_topic."SELECT.1-x";
SELECT iotmq.publish('SELECT.1-x', 'd', '0', 'user');
RESET ROLE;
-- The hint, as it is printed.
SELECT iotmq.grant_publish('SELECT.1-x', '"regress_iotmq_"";x'' --"', '{"user"}');
SELECT iotmq.grant_monitor('"regress_iotmq_"";x'' --"'), iotmq.grant_admin('"regress_iotmq_"";x'' --"');
SELECT iotmq.revoke_publish('SELECT.1-x', '"regress_iotmq_"";x'' --"');
SELECT iotmq.revoke_consume('SELECT.1-x', 'Group-1.x', '"regress_iotmq_"";x'' --"');
SELECT iotmq.revoke_read('SELECT.1-x', '"regress_iotmq_"";x'' --"');
SELECT iotmq.revoke_monitor('"regress_iotmq_"";x'' --"'), iotmq.revoke_admin('"regress_iotmq_"";x'' --"');
SELECT * FROM granted WHERE role::text LIKE '%;%';
SELECT iotmq.drop_topic('SELECT.1-x', force => true);
DROP ROLE "regress_iotmq_"";x' --";

--
-- A role that is dropped and made again has nothing.
--
SELECT iotmq.grant_publish('access_rights', 'regress_iotmq_nobody');
SELECT iotmq.grant_consume('access_rights', 'mine', 'regress_iotmq_nobody');
SELECT iotmq.grant_read('access_rights', 'regress_iotmq_nobody');
SELECT iotmq.grant_monitor('regress_iotmq_nobody');
SELECT iotmq.grant_admin('regress_iotmq_nobody');
SELECT * FROM granted WHERE role = 'regress_iotmq_nobody'::regrole;
\set VERBOSITY sqlstate
DROP ROLE regress_iotmq_nobody;
\set VERBOSITY default
DROP OWNED BY regress_iotmq_nobody;
DROP ROLE regress_iotmq_nobody;
CREATE ROLE regress_iotmq_nobody;
SELECT * FROM granted WHERE role = 'regress_iotmq_nobody'::regrole;
SELECT count(*) AS of_nobody FROM iotmq.privileges WHERE role::text ~ '^[0-9]+$';
\set VERBOSITY sqlstate
SET ROLE regress_iotmq_nobody;
SELECT iotmq.publish('access_rights', 'd', '0', 'a');
SELECT iotmq.consume('access_rights', 'mine');
SELECT iotmq.fetch('access_rights', 'a', 1);
SELECT iotmq.messages_of_device('access_rights', 'd');
SELECT count(*) FROM iotmq.group_lag;
SELECT count(*) FROM iotmq.dead_letter;
SELECT iotmq.create_topic('access_rights_5');
RESET ROLE;
\set VERBOSITY default
-- Those that are gone are in nobody's way.
SELECT iotmq.add_zone('access_rights', 'f');
SELECT iotmq.revoke_consume('access_rights', 'mine', 'regress_iotmq_consumer');
SELECT iotmq.drop_group('access_rights', 'mine', force => true);

-- Every object of the extension has a comment, and every column that users meet: of
-- views, types, the table of runs and a topic's table. Not what comes along with another
-- object: sequences of identity columns and, members only in newer versions of PostgreSQL,
-- row types and array types.
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS without_comment
FROM pg_depend AS d
JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'iotmq' AND d.deptype = 'e'
	AND NOT EXISTS (
		SELECT FROM pg_depend AS i
		WHERE i.classid = d.classid AND i.objid = d.objid AND i.deptype = 'i'
	)
	AND obj_description(d.objid, d.classid::regclass::name) IS NULL
ORDER BY 1;
SELECT a.attrelid::regclass AS relation, a.attname AS without_comment
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE (c.relnamespace = 'iotmq'::regnamespace AND (c.relkind IN ('v', 'c') OR c.relname = 'maintenance_run')
		OR c.oid = iotmq.topic_table('access_rights'))
	AND col_description(a.attrelid, a.attnum) IS NULL
ORDER BY c.relname, a.attnum;
SELECT count(*) AS columns_with_comment
FROM pg_attribute
WHERE attrelid = iotmq.topic_table('access_rights') AND attnum > 0 AND col_description(attrelid, attnum) <> '';

SELECT iotmq.drop_topic('access_rights', force => true);
SELECT iotmq.drop_topic('access_rights_2');
SELECT * FROM granted;
DROP VIEW granted;
DROP OWNED BY regress_iotmq_nobody, regress_iotmq_publisher, regress_iotmq_consumer;
DROP ROLE regress_iotmq_publisher, regress_iotmq_consumer, regress_iotmq_reader,
	regress_iotmq_mirror, regress_iotmq_monitor, regress_iotmq_admin, regress_iotmq_member, regress_iotmq_noinherit,
	regress_iotmq_nobody;
