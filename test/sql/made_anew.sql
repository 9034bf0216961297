-- A zone or topic that is made anew goes on above the offsets of the one that was dropped:
-- topic, zone and offset together name one message, for ever.
-- Promise: offsets-are-the-servers, dead-letter-not-lost
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('made_anew', '{a,b}');
SELECT iotmq.create_group('made_anew', 'g', start_from => '-infinity', max_retries => 0);
SELECT count(iotmq.publish('made_anew', 'd', to_jsonb(n), 'a')) FROM generate_series(1, 5) AS n;

-- Not while a group has dead letters there, also such as are on their way again.
SELECT DISTINCT lease_id AS lease FROM iotmq.consume('made_anew', 'g') \gset
SELECT iotmq.reject(:lease, '{2,3}', 'broken'), iotmq.ack(:lease);
SELECT iotmq.drop_zone('made_anew', 'a');
\echo :SQLSTATE
SELECT iotmq.drop_group('made_anew', 'g');
\echo :SQLSTATE
SELECT iotmq.redrive('made_anew', 'g', max_messages => 1);
SELECT iotmq.drop_zone('made_anew', 'a'); \echo :SQLSTATE
SELECT iotmq.drop_group('made_anew', 'g', force => NULL); \echo :SQLSTATE
SELECT iotmq.drop_group('made_anew', 'g');
SELECT iotmq.ack(lease_id) FROM iotmq.consume('made_anew', 'g');
SELECT iotmq.purge_dead_letters('made_anew', 'g');
SELECT iotmq.publish('made_anew', 'd', '"rolled back, perhaps"', 'a');
SELECT iotmq.ack(lease_id) FROM iotmq.consume('made_anew', 'g');
BEGIN;
SELECT iotmq.drop_zone('made_anew', 'a');
ROLLBACK;
SELECT iotmq.drop_zone('made_anew', 'a');
SELECT p.* FROM iotmq_internal.past_zone AS p WHERE p.topic = 'made_anew';

-- The new one: nothing is unread, in any view, and nothing lies below its first offset.
SELECT iotmq.add_zone('made_anew', 'a');
CREATE VIEW made_anew_lag AS
SELECT consumer_group, zone, earliest_offset, next_offset, stable_offset, end_offset, lag_messages, ready_messages,
    iotmq.count_lag(topic, consumer_group), time_to_loss IS NULL AS nothing_to_lose, expired_unread
FROM iotmq.consumer_lag
WHERE topic = 'made_anew';
SELECT * FROM made_anew_lag ORDER BY consumer_group, zone;
SELECT zone, earliest_offset, end_offset, messages_estimate FROM iotmq.topic_stats WHERE topic = 'made_anew' ORDER BY zone;
SELECT count(*) FROM iotmq.zone_epoch WHERE topic = 'made_anew' AND last_before IS NOT NULL;
SELECT count(*) FROM iotmq.alerts WHERE topic = 'made_anew';
SELECT iotmq.create_group('made_anew', 'first', start_from => '-infinity'), iotmq.create_group('made_anew', 'latest');
SELECT * FROM made_anew_lag WHERE consumer_group <> 'g' ORDER BY consumer_group, zone;
SELECT * FROM iotmq.seek('made_anew', 'g', '-infinity', 'a'), iotmq.seek_offset('made_anew', 'first', 'a', 1);
SELECT iotmq.commit_offset('made_anew', 'first', 'a', 1); \echo :SQLSTATE
SELECT count(*) FROM iotmq.fetch('made_anew', 'a', 1);
SELECT * FROM iotmq.consume('made_anew', 'g');
CALL iotmq.run_maintenance();
SELECT * FROM made_anew_lag WHERE consumer_group = 'g' ORDER BY zone;

-- Its offsets go on, by function and by COPY.
SELECT iotmq.publish('made_anew', 'd', '"new"', 'a');
DO $$ BEGIN EXECUTE format('INSERT INTO %s (device_id, payload) VALUES (''d'', ''1'')', iotmq.zone_table('made_anew', 'a')); END $$;
SELECT msg_offset, payload FROM iotmq.consume('made_anew', 'g');
SELECT msg_offset FROM iotmq.consume('made_anew', 'first');
SELECT * FROM made_anew_lag WHERE zone = 'a' ORDER BY consumer_group;

-- A topic, with force, and its zones; another zone begins at 1. What was read by other means counts as well: the sequence was reset by hand.
SELECT setval(z.offset_sequence, 3) FROM iotmq_internal.zone AS z JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = 'made_anew' AND z.zone = 'a';
SELECT iotmq.drop_topic('made_anew', force => true);
SELECT iotmq.create_topic('made_anew', '{a,b,c}');
SELECT iotmq.publish('made_anew', 'd', '1', 'a'), iotmq.publish('made_anew', 'd', '1', 'b'), iotmq.publish('made_anew', 'd', '1', 'c');
SELECT iotmq.create_group('made_anew', 'g', start_from => '-infinity');
SELECT zone, earliest_offset, next_offset, lag_messages FROM iotmq.consumer_lag WHERE topic = 'made_anew' ORDER BY zone;

SELECT iotmq.drop_topic('made_anew', force => true);
SELECT p.* FROM iotmq_internal.past_zone AS p WHERE p.topic = 'made_anew' ORDER BY p.zone;
DELETE FROM iotmq_internal.past_zone WHERE topic = 'made_anew';
DROP VIEW made_anew_lag;
