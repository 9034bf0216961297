-- A role without a grant can publish, consume, read and change nothing.
-- Promise: default-deny
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_iotmq_nobody;
RESET client_min_messages;
CREATE ROLE regress_iotmq_nobody;
SELECT iotmq.create_topic('default_deny');
SELECT iotmq.create_group('default_deny', 'readers');
SELECT iotmq.publish('default_deny', 'd1', '1'), iotmq.publish('default_deny', 'd1', '2');
SELECT min(lease_id) AS lease FROM iotmq.consume('default_deny', 'readers', 1) \gset
SELECT iotmq.zone_table('default_deny', 'default') AS zone_table \gset

\set VERBOSITY sqlstate
SET ROLE regress_iotmq_nobody;
SELECT iotmq.publish('default_deny', 'd1', '3');
SELECT iotmq.publish_batch('default_deny', '{d1}', ARRAY['3']::jsonb[]);
\set copy '\\copy ' :zone_table ' (device_id, payload) FROM /dev/null'
:copy
INSERT INTO :zone_table (device_id, payload) VALUES ('d1', '3');
SELECT * FROM iotmq.consume('default_deny', 'readers');
SELECT iotmq.ack(:lease);
SELECT iotmq.ack(:lease, '{1}');
SELECT iotmq.extend(:lease, '1 hour');
SELECT * FROM iotmq.fetch('default_deny', 'default', 1);
SELECT iotmq.commit_offset('default_deny', 'readers', 'default', 1);
SELECT * FROM iotmq.messages_of_device('default_deny', 'd1');
SELECT iotmq.count_lag('default_deny', 'readers');
SELECT count(*) FROM iotmq_topic.default_deny;
SELECT count(*) FROM :zone_table;
DELETE FROM iotmq_topic.default_deny;
SELECT count(*) FROM iotmq.consumer_lag;
SELECT count(*) FROM iotmq.group_lag;
SELECT count(*) FROM iotmq.topic_stats;
SELECT count(*) FROM iotmq.in_flight;
SELECT count(*) FROM iotmq.waiting_message;
SELECT count(*) FROM iotmq.cursor_holder;
SELECT * FROM iotmq.message_status('default_deny', 'default', 1);
SELECT count(*) FROM iotmq.lag(true, false);
SELECT count(*) FROM iotmq.held_back;
SELECT iotmq.create_topic('default_deny_own');
SELECT iotmq.alter_topic('default_deny', '1 hour');
SELECT iotmq.drop_topic('default_deny', true);
SELECT iotmq.add_zone('default_deny', 'other');
SELECT iotmq.drop_zone('default_deny', 'default', true);
SELECT iotmq.create_group('default_deny', 'own');
SELECT iotmq.alter_group('default_deny', 'readers', tags => 'none');
SELECT iotmq.drop_group('default_deny', 'readers');
CREATE TABLE iotmq_topic.own (n int);
CREATE TABLE iotmq.own (n int);
RESET ROLE;
\set VERBOSITY default

-- What a role without a grant may do by privileges alone: no table, no sequence, whatever its name.
SELECT c.oid::regclass AS open_to_everyone
FROM pg_class c
WHERE c.relnamespace::regnamespace::text LIKE 'iotmq%'
  AND (c.relkind IN ('r', 'p', 'v', 'm') AND has_any_column_privilege('regress_iotmq_nobody', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')
       OR c.relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege('regress_iotmq_nobody', c.oid, 'DELETE, TRUNCATE, TRIGGER')
       OR c.relkind = 'S' AND has_sequence_privilege('regress_iotmq_nobody', c.oid, 'USAGE, SELECT, UPDATE'))
ORDER BY c.relname;

-- All of it is as it was.
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT msg_offset, payload FROM iotmq_topic.default_deny ORDER BY msg_offset;
SELECT consumer_group, next_offset FROM iotmq.consumer_lag WHERE topic = 'default_deny' ORDER BY consumer_group;
SELECT iotmq.ack(:lease);
SELECT msg_offset FROM iotmq.consume('default_deny', 'readers');

SELECT iotmq.drop_topic('default_deny', force => true);
DROP ROLE regress_iotmq_nobody;
