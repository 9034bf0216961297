-- A group that waits for what it wants is not behind: a waiting call keeps what it has passed
-- after some seconds, however little that is, and no alert comes of it.
-- Promise: figures-agree, bounded-calls
SELECT iotmq.create_topic('waiting_keeps', '{a,b}');
SELECT iotmq.create_group('waiting_keeps', 'g', filter => '$.celsius > 90', max_lag => 2, max_delay => '1 ms');
SELECT iotmq.publish('waiting_keeps', 'd', '{"celsius": 20}', z) FROM unnest('{a,a,b}'::text[]) AS z;
SELECT pg_sleep(0.05);
SELECT alert, value = '3' AS three FROM iotmq.alerts WHERE topic = 'waiting_keeps' ORDER BY alert;
-- It would wait for five minutes.
SELECT clock_timestamp() AS began \gset
SELECT count(*) FROM iotmq.consume('waiting_keeps', 'g', wait => '5 min');
SELECT clock_timestamp() - :'began' < interval '4 min' AS early;
SELECT alert FROM iotmq.alerts WHERE topic = 'waiting_keeps';
SELECT zone, lag_messages, lag_time, end_offset - next_offset AS behind FROM iotmq.consumer_lag WHERE topic = 'waiting_keeps' ORDER BY zone;
-- What it wants comes as before.
SELECT iotmq.publish('waiting_keeps', 'd', '{"celsius": 20}', 'a'), iotmq.publish('waiting_keeps', 'd', '{"celsius": 97}', 'a');
SELECT msg_offset FROM iotmq.consume('waiting_keeps', 'g', wait => '5 min');
SELECT iotmq.drop_topic('waiting_keeps', force => true);
