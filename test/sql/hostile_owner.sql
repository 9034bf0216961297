-- A role that was given a topic's table, and wants more: its code runs with its rights, or with
-- those of whoever reads its table, but never with those of iotmq's owner; and it leaves
-- nothing behind in the sessions of publishers.
-- Promise: default-deny
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_iotmq_landlord, regress_iotmq_publisher, regress_iotmq_reader, regress_iotmq_zoned;
RESET client_min_messages;
CREATE ROLE regress_iotmq_landlord;
CREATE ROLE regress_iotmq_publisher;
CREATE ROLE regress_iotmq_reader;
CREATE ROLE regress_iotmq_zoned;
SELECT iotmq.create_topic('hostile_owner', '{a,b}', dedup_window => '1 hour');
SELECT iotmq.zone_table('hostile_owner', 'a') AS zone_a, iotmq.zone_table('hostile_owner', 'b') AS zone_b \gset
SELECT zone_id AS zone_id_a FROM iotmq_internal.zone WHERE table_name = :'zone_a'::regclass \gset
SELECT zone_id AS zone_id_b FROM iotmq_internal.zone WHERE table_name = :'zone_b'::regclass \gset
SELECT iotmq.grant_publish('hostile_owner', r), iotmq.grant_read('hostile_owner', r)
FROM unnest('{regress_iotmq_landlord,regress_iotmq_publisher,regress_iotmq_reader}'::regrole[]) AS r;
SELECT iotmq.grant_read('hostile_owner', 'regress_iotmq_zoned', '{a}');
SELECT iotmq.publish('hostile_owner', 'd', '1', 'a', message_key => 'k');
-- It gets all there is by now.
\set ECHO none
SELECT format('ALTER TABLE %s OWNER TO regress_iotmq_landlord', relid) FROM pg_partition_tree('iotmq_topic.hostile_owner') \gexec
\set ECHO all

-- What its functions run as.
CREATE SCHEMA hostile_owner AUTHORIZATION regress_iotmq_landlord;
GRANT USAGE ON SCHEMA hostile_owner TO PUBLIC;
SET ROLE regress_iotmq_landlord;
CREATE TABLE hostile_owner.ran (by_whom name, what text);
GRANT INSERT ON hostile_owner.ran TO PUBLIC;
CREATE FUNCTION hostile_owner.note(what text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO hostile_owner.ran VALUES (current_user, what);
	RETURN true;
END $$;
-- PostgreSQL computes it when it makes a plan.
CREATE FUNCTION hostile_owner.constant(what text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	RETURN hostile_owner.note(what);
END $$;
RESET ROLE;
CREATE FUNCTION pg_temp.ran() RETURNS TABLE (what text, by_whom text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY
	SELECT DISTINCT r.what, CASE WHEN r.by_whom LIKE 'regress_iotmq_%' THEN r.by_whom::text ELSE 'the owner of iotmq' END
	FROM hostile_owner.ran AS r
	ORDER BY 1, 2;
	DELETE FROM hostile_owner.ran;
END
$$;

-- A trigger that would choose what others find.
SET ROLE regress_iotmq_landlord;
CREATE FUNCTION hostile_owner.settle_in() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM hostile_owner.note('trigger');
	SET search_path = hostile_owner, pg_catalog;
	SET lock_timeout = '1 ms';
	RETURN new;
END $$;
CREATE TRIGGER settle_in BEFORE INSERT ON iotmq_topic.hostile_owner FOR EACH ROW EXECUTE FUNCTION hostile_owner.settle_in();
SET ROLE regress_iotmq_publisher;
SELECT iotmq.publish('hostile_owner', 'd', '2', 'a');
SHOW search_path;
SHOW lock_timeout;
BEGIN;
SET LOCAL lock_timeout = '2 s';
SELECT iotmq.publish_batch('hostile_owner', '{d,d}', '{3,4}', 'a');
SHOW lock_timeout;
COMMIT;
RESET ROLE;
SELECT * FROM pg_temp.ran();
DROP TRIGGER settle_in ON iotmq_topic.hostile_owner;

-- A constraint, where partitions are attached: segments, and zones.
SET ROLE regress_iotmq_landlord;
ALTER TABLE iotmq_topic.hostile_owner ADD CONSTRAINT odd CHECK (hostile_owner.constant('constraint'));
RESET ROLE;
SELECT what FROM pg_temp.ran();
SELECT iotmq.segment_make_until(:zone_id_a, now() + interval '10 days', now() + interval '11 days') > 0 AS made;
SELECT * FROM pg_temp.ran();
SELECT iotmq.add_zone('hostile_owner', 'c');
SELECT * FROM pg_temp.ran();
SELECT iotmq.publish('hostile_owner', 'd', '5', 'c', message_key => 'k');
SELECT * FROM pg_temp.ran();
-- they are what others are
SELECT DISTINCT k.relnamespace::regnamespace AS schema, k.relowner = n.nspowner AS is_owners, i.inhrelid IS NOT NULL AS is_attached
FROM iotmq_internal.segment AS s
JOIN pg_class AS k ON k.oid = s.table_name
LEFT JOIN pg_inherits AS i ON i.inhrelid = k.oid
CROSS JOIN pg_namespace AS n
WHERE n.nspname = 'iotmq' AND (s.from_time > now() + interval '9 days' OR s.zone_id > :zone_id_b);

-- Queries: who reads, runs it himself, as in SQL.
SET ROLE regress_iotmq_reader;
SELECT zone, payload FROM iotmq.message_by_key('hostile_owner', 'd', 'k') ORDER BY zone;
SELECT zone, payload FROM iotmq.messages_of_device('hostile_owner', 'd', zone => 'a');
SET ROLE regress_iotmq_zoned;
\set VERBOSITY sqlstate
SELECT iotmq.messages_of_device('hostile_owner', 'd', zone => 'a');
\set VERBOSITY default
SELECT zone, payload FROM iotmq.fetch('hostile_owner', 'a', 1, 2);
RESET ROLE;
SELECT by_whom FROM pg_temp.ran() GROUP BY by_whom;
ALTER TABLE iotmq_topic.hostile_owner DROP CONSTRAINT odd;
SET ROLE regress_iotmq_zoned;
SELECT zone, payload FROM iotmq.messages_of_device('hostile_owner', 'd', zone => 'a');
RESET ROLE;

-- A partition of its own; one that takes what no other does.
SELECT iotmq.grant_monitor('regress_iotmq_landlord');	-- to call a function of iotmq
SET ROLE regress_iotmq_landlord;
CREATE TABLE hostile_owner.annex (LIKE iotmq_topic.hostile_owner, CHECK (hostile_owner.constant('partition')));
ALTER TABLE iotmq_topic.hostile_owner ATTACH PARTITION hostile_owner.annex FOR VALUES IN ('annex');
CREATE TABLE hostile_owner.rest (LIKE :zone_b INCLUDING CONSTRAINTS, CHECK (hostile_owner.constant('rest')));
ALTER TABLE :zone_b ATTACH PARTITION hostile_owner.rest DEFAULT;
RESET ROLE;
SELECT what FROM pg_temp.ran();
SET ROLE regress_iotmq_landlord;
SELECT zone, payload FROM iotmq.message_by_key('hostile_owner', 'd', 'k') ORDER BY zone;
RESET ROLE;
SELECT * FROM pg_temp.ran();
SELECT iotmq.segment_make_until(:zone_id_b, now() + interval '10 days', now() + interval '11 days') > 0 AS made;
SELECT * FROM pg_temp.ran();
SET client_min_messages = warning;
SELECT iotmq.drop_topic('hostile_owner', force => true);
RESET client_min_messages;
SELECT * FROM pg_temp.ran();

-- Who has the topic's table only: what he adds to it before there are zones.
SELECT iotmq.create_topic('hostile_owner', '{}');
ALTER TABLE iotmq_topic.hostile_owner OWNER TO regress_iotmq_landlord;
GRANT USAGE ON SCHEMA iotmq_topic TO regress_iotmq_landlord;
SET ROLE regress_iotmq_landlord;
CREATE TRIGGER settle_in BEFORE INSERT ON iotmq_topic.hostile_owner FOR EACH ROW EXECUTE FUNCTION hostile_owner.settle_in();
RESET ROLE;
SELECT iotmq.add_zone('hostile_owner', 'a');
SELECT iotmq.grant_publish('hostile_owner', 'regress_iotmq_landlord'), iotmq.grant_publish('hostile_owner', 'regress_iotmq_publisher');
SET ROLE regress_iotmq_publisher;
SELECT iotmq.publish('hostile_owner', 'd', '1') > 0 AS published;
RESET ROLE;
SELECT * FROM pg_temp.ran();

SELECT iotmq.drop_topic('hostile_owner', force => true);
DELETE FROM iotmq_internal.past_zone WHERE topic = 'hostile_owner';
SET client_min_messages = warning;
DROP SCHEMA hostile_owner CASCADE;
DROP OWNED BY regress_iotmq_landlord, regress_iotmq_publisher, regress_iotmq_reader, regress_iotmq_zoned;
DROP ROLE regress_iotmq_landlord, regress_iotmq_publisher, regress_iotmq_reader, regress_iotmq_zoned;
