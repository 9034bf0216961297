-- The right to read, by zone: what it gives, mixed with the right to all of a topic, and how
-- it ends. The same of publishing is in access_rights.sql.
-- Promise: default-deny
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_iotmq_tenant, regress_iotmq_analyst, regress_iotmq_worker, regress_iotmq_nobody;
RESET client_min_messages;
CREATE ROLE regress_iotmq_tenant;
CREATE ROLE regress_iotmq_analyst;
CREATE ROLE regress_iotmq_worker;
CREATE ROLE regress_iotmq_nobody;
CREATE TEMP VIEW granted AS
SELECT topic, consumer_group, zone, role, action
FROM iotmq.privileges
WHERE role::text LIKE 'regress_iotmq%'
ORDER BY role::text, action, topic, zone;
SELECT iotmq.create_topic('access_zones', '{a,b,c}');
SELECT iotmq.zone_table('access_zones', 'a') AS zone_a, iotmq.zone_table('access_zones', 'b') AS zone_b \gset
SELECT iotmq.publish('access_zones', 'd', to_jsonb(zone), zone) FROM unnest('{a,b,c}'::text[]) AS zone;

--
-- One zone.
--
SELECT iotmq.grant_read('access_zones', 'regress_iotmq_tenant', '{a}');
SELECT * FROM granted;
SET ROLE regress_iotmq_tenant;
SELECT iotmq.zones('access_zones');
SELECT zone, payload FROM :zone_a;
SELECT zone, payload FROM iotmq.fetch('access_zones', 'a', 1);
SELECT zone, payload FROM iotmq.messages_of_device('access_zones', 'd');
SELECT zone, payload FROM iotmq.messages_of_device('access_zones', 'd', zone => 'a');
-- Not another one, and not the topic's table; the message says what to do.
SELECT iotmq.fetch('access_zones', 'b', 1);
SELECT iotmq.messages_of_device('access_zones', 'd', zone => 'b');
\set VERBOSITY sqlstate
SELECT iotmq.messages_of_device('access_zones', 'd', zone => 'unknown');
SELECT zone FROM :zone_b;
SELECT zone FROM iotmq_topic.access_zones;
SELECT zone FROM iotmq_topic.access_zones WHERE zone = 'a';
-- Nor to publish or consume.
SELECT iotmq.publish('access_zones', 'd', '0', 'a');
INSERT INTO :zone_a (device_id, payload) VALUES ('d', '0');
UPDATE :zone_a SET payload = '0';
RESET ROLE;
-- Without any right.
GRANT USAGE ON SCHEMA iotmq TO regress_iotmq_nobody;
SET ROLE regress_iotmq_nobody;
SELECT iotmq.zones('access_zones');
SELECT iotmq.fetch('access_zones', 'a', 1);
SELECT iotmq.messages_of_device('access_zones', 'd');
SELECT iotmq.messages_of_device('access_zones', 'd', zone => 'a');
RESET ROLE;
\set VERBOSITY default

--
-- Two zones, then one less, twice.
--
SELECT iotmq.grant_read('access_zones', 'regress_iotmq_tenant', '{a,c}');
SELECT iotmq.grant_read('access_zones', 'regress_iotmq_tenant', '{c,c}');
SELECT * FROM granted;
SET ROLE regress_iotmq_tenant;
SELECT iotmq.zones('access_zones');
SELECT zone FROM iotmq.messages_of_device('access_zones', 'd') ORDER BY zone;
SELECT count(*) FROM iotmq.messages_of_device('access_zones', 'd', max_messages => 1);
RESET ROLE;
SELECT iotmq.revoke_read('access_zones', 'regress_iotmq_tenant', '{a}');
SELECT iotmq.revoke_read('access_zones', 'regress_iotmq_tenant', '{a}');
SELECT * FROM granted;
-- A zone that comes is not among them.
SELECT iotmq.add_zone('access_zones', 'd');
SET ROLE regress_iotmq_tenant;
SELECT iotmq.zones('access_zones');
\set VERBOSITY sqlstate
SELECT iotmq.fetch('access_zones', 'a', 1);
SELECT iotmq.fetch('access_zones', 'd', 1);
\set VERBOSITY default
RESET ROLE;

--
-- All of a topic, with a zone that comes later; less one: no longer all.
--
SELECT iotmq.grant_read('access_zones', 'regress_iotmq_analyst');
SELECT iotmq.add_zone('access_zones', 'e');
SELECT iotmq.zone_table('access_zones', 'e') AS zone_e \gset
SELECT * FROM granted;
SET ROLE regress_iotmq_analyst;
SELECT iotmq.zones('access_zones');
SELECT zone FROM iotmq_topic.access_zones ORDER BY zone;
-- The tables of zones are for those who have some of them.
\set VERBOSITY sqlstate
SELECT zone FROM :zone_b;
SELECT count(*) FROM :zone_e;
\set VERBOSITY default
RESET ROLE;
SELECT iotmq.revoke_read('access_zones', 'regress_iotmq_analyst', '{b}');
SELECT iotmq.add_zone('access_zones', 'f');
SELECT * FROM granted WHERE role = 'regress_iotmq_analyst'::regrole;
SET ROLE regress_iotmq_analyst;
SELECT iotmq.zones('access_zones');
SELECT zone FROM iotmq.messages_of_device('access_zones', 'd') ORDER BY zone;
SELECT count(*) FROM :zone_e;
\set VERBOSITY sqlstate
SELECT zone FROM iotmq_topic.access_zones;
SELECT zone FROM :zone_b;
SELECT iotmq.fetch('access_zones', 'b', 1);
SELECT iotmq.fetch('access_zones', 'f', 1);
\set VERBOSITY default
RESET ROLE;
-- All takes all back; none is none.
SELECT iotmq.revoke_read('access_zones', 'regress_iotmq_analyst');
SELECT iotmq.grant_read('access_zones', 'regress_iotmq_analyst', '{}');
SELECT * FROM granted;
\set VERBOSITY sqlstate
SET ROLE regress_iotmq_analyst;
SELECT count(*) FROM :zone_e;
RESET ROLE;
\set VERBOSITY default

--
-- Who consumes as a group reads all zones with it, from its position on. To go back, the
-- right to read that zone is enough.
--
SELECT iotmq.create_group('access_zones', 'g', start_from => '-infinity');
SELECT iotmq.grant_consume('access_zones', 'g', 'regress_iotmq_worker');
SET ROLE regress_iotmq_worker;
SELECT iotmq.zones('access_zones');
SELECT iotmq.commit_offset('access_zones', 'g', zone, 2) FROM unnest('{a,b}'::text[]) AS zone;
SELECT count(*) FROM iotmq.fetch('access_zones', 'a', 1);
\set VERBOSITY sqlstate
SELECT iotmq.commit_offset('access_zones', 'g', 'a', 1);
\set VERBOSITY default
RESET ROLE;
SELECT iotmq.grant_read('access_zones', 'regress_iotmq_worker', '{a}');
SET ROLE regress_iotmq_worker;
SELECT count(*) FROM iotmq.fetch('access_zones', 'a', 1);
SELECT iotmq.commit_offset('access_zones', 'g', 'a', 1);
SELECT count(*) FROM iotmq.fetch('access_zones', 'b', 1);
\set VERBOSITY sqlstate
SELECT iotmq.commit_offset('access_zones', 'g', 'b', 1);
SELECT * FROM iotmq.seek('access_zones', 'g', '-infinity', zone => 'a');
\set VERBOSITY default
RESET ROLE;
-- Who publishes, or administers.
SELECT iotmq.grant_publish('access_zones', 'regress_iotmq_tenant', '{b}');
SET ROLE regress_iotmq_tenant;
SELECT iotmq.zones('access_zones');
RESET ROLE;
SELECT iotmq.zones('access_zones');

--
-- A zone that goes takes the right along; one made anew under its name has none.
--
SELECT iotmq.drop_zone('access_zones', 'c', force => true);
SELECT iotmq.add_zone('access_zones', 'c');
SELECT * FROM granted WHERE action = 'read';
SET ROLE regress_iotmq_tenant;
SELECT iotmq.zones('access_zones');
RESET ROLE;
-- With its last right, a role's use of the schemas ends, too.
SELECT iotmq.revoke_read('access_zones', 'regress_iotmq_tenant');
SELECT iotmq.revoke_publish('access_zones', 'regress_iotmq_tenant');
SELECT has_schema_privilege('regress_iotmq_tenant', 'iotmq_topic', 'USAGE'),
	has_schema_privilege('regress_iotmq_tenant', 'iotmq', 'USAGE');

--
-- A right that somebody else gave stays, and is told.
--
SELECT iotmq.grant_read('access_zones', 'regress_iotmq_analyst', '{a}');
GRANT SELECT ON :zone_a TO regress_iotmq_analyst WITH GRANT OPTION;
SET ROLE regress_iotmq_analyst;
GRANT SELECT ON :zone_a TO regress_iotmq_tenant;
RESET ROLE;
SELECT iotmq.revoke_read('access_zones', 'regress_iotmq_tenant', '{b}');
\set VERBOSITY sqlstate
SELECT iotmq.revoke_read('access_zones', 'regress_iotmq_tenant', '{a}');
SELECT iotmq.revoke_read('access_zones', 'regress_iotmq_tenant');
-- Mistakes.
SELECT iotmq.grant_read('access_zones', 'regress_iotmq_analyst', '{a,unknown}');
SELECT iotmq.grant_read('access_zones', 'regress_iotmq_analyst', '{a,NULL}');
SELECT iotmq.grant_read('access_zones', NULL, '{a}');
SELECT iotmq.grant_read(NULL, 'regress_iotmq_analyst', '{a}');
SELECT iotmq.grant_read('unknown', 'regress_iotmq_analyst', '{a}');
SELECT iotmq.revoke_read('access_zones', 'regress_iotmq_analyst', '{unknown}');
SELECT iotmq.revoke_read('access_zones', 'regress_iotmq_analyst', '{NULL}');
SELECT iotmq.zones('unknown');
SELECT iotmq.zones(NULL);
\set VERBOSITY default

SELECT iotmq.drop_topic('access_zones', force => true);
REVOKE ALL ON SCHEMA iotmq FROM regress_iotmq_nobody;
DROP OWNED BY regress_iotmq_tenant, regress_iotmq_analyst, regress_iotmq_worker;
DROP ROLE regress_iotmq_tenant, regress_iotmq_analyst, regress_iotmq_worker, regress_iotmq_nobody;
