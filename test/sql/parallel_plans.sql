-- Whatever the planner makes of the views and the functions that read: they work in a parallel plan, or keep it from being one.
-- Promise: settings-dont-matter
SELECT iotmq.create_topic('parallel_plans', '{a,b}');
SELECT iotmq.create_group('parallel_plans', 'readers', mode => 'orderly');
SELECT count(iotmq.publish('parallel_plans', 'd' || n % 2, to_jsonb(n), 'a')) FROM generate_series(1, 10) AS n;
SELECT min(lease_id) AS lease FROM iotmq.consume('parallel_plans', 'readers', 5) \gset
SELECT iotmq.reject(:lease, '{2}'), iotmq.nack(:lease, '{3}', '1 hour');
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET min_parallel_index_scan_size = 0;
SELECT zone, ready_messages, inflight_messages, retry_messages, dead_letters FROM iotmq.consumer_lag WHERE topic = 'parallel_plans' ORDER BY zone;
SELECT lag_messages, blocked_devices FROM iotmq.group_lag WHERE topic = 'parallel_plans';
SELECT zone, messages_estimate FROM iotmq.topic_stats WHERE topic = 'parallel_plans' ORDER BY zone;
SELECT messages FROM iotmq.in_flight WHERE topic = 'parallel_plans';
SELECT msg_offset FROM iotmq.dead_letter WHERE topic = 'parallel_plans';
SELECT dead_letters FROM iotmq.dead_letter_depth WHERE topic = 'parallel_plans';
SELECT count(*) FROM iotmq.held_back WHERE topic = 'parallel_plans';
SELECT count(*) FROM iotmq.alerts WHERE topic = 'parallel_plans';
SELECT count(*) > 0 AS metrics FROM iotmq.metrics WHERE labels ->> 'topic' = 'parallel_plans';
SELECT iotmq.count_lag('parallel_plans', 'readers');
SELECT bool_and(iotmq.count_lag('parallel_plans', 'readers') = 9) AS counted FROM iotmq_internal.segment;
SELECT count(*) FROM iotmq.messages_of_device('parallel_plans', 'd1');
SELECT count(*), sum(msg_offset) FROM iotmq_topic.parallel_plans;
-- the functions that write, called for the rows of such a plan
SELECT count(iotmq.publish('parallel_plans', device_id, payload, zone)) FROM iotmq_topic.parallel_plans;
SELECT count(iotmq.ack(:lease, ARRAY[msg_offset])) FROM iotmq_topic.parallel_plans WHERE msg_offset IN (1, 4);
SELECT dead_letters, inflight_messages FROM iotmq.group_lag WHERE topic = 'parallel_plans';
SELECT messages FROM iotmq.seek_offset('parallel_plans', 'readers', 'a', 1, dry_run => true);
SELECT count(*) FROM iotmq.fetch('parallel_plans', 'a', 1);
-- and everything in a plan that is parallel though nothing is gained by it (before PostgreSQL 16 by its older name)
SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
SELECT iotmq.count_lag('parallel_plans', 'readers');
SELECT sum(lag_messages) FROM iotmq.consumer_lag WHERE topic = 'parallel_plans';
SELECT count(*) FROM iotmq.messages_of_device('parallel_plans', 'd1');
SELECT msg_offset FROM iotmq.dead_letter WHERE topic = 'parallel_plans';
SELECT count(*) FROM iotmq.metrics WHERE labels ->> 'topic' = 'nothing';
SELECT iotmq.drop_topic('parallel_plans', force => true);
