-- What an operator decides of messages that wait: retry_now and give_up.
-- Promise: dead-letter-not-lost, order-per-device, figures-agree, errors-change-nothing
\set VERBOSITY sqlstate
SELECT iotmq.create_topic('waiting', '{a,b}');
SELECT iotmq.create_group('waiting', 'g', backoff => '{1 day}');
SELECT iotmq.publish('waiting', 'd' || n % 2, to_jsonb(n), 'a') FROM generate_series(1, 8) AS n;
SELECT iotmq.publish('waiting', 'd1', '9', 'b');
CREATE VIEW waiting_figures AS
SELECT l.consumer_group, l.lag_messages = iotmq.count_lag(l.topic, l.consumer_group) AS agree, l.ready_messages, l.inflight_messages, l.retry_messages, l.blocked_devices, l.dead_letters,
       (SELECT count(*) FROM iotmq_internal.redelivery JOIN iotmq_internal.cursor USING (cursor_id) JOIN iotmq_internal.consumer_group AS g USING (group_id) WHERE g.consumer_group = l.consumer_group) AS waiting,
       (SELECT count(*) FROM iotmq.dead_letter AS d WHERE d.topic = l.topic AND d.consumer_group = l.consumer_group) AS dead
FROM iotmq.group_lag AS l
WHERE l.topic = 'waiting';

-- retry_now: what is named and waits is due now; the attempts go on. What doesn't wait, or is named again, counts nothing.
SELECT min(lease_id) AS lease FROM iotmq.consume('waiting', 'g', zone => 'a') \gset
SELECT iotmq.nack(:lease, '{1,2,3,4,5}', reason => 'busy'), iotmq.ack(:lease, '{6}');
SELECT iotmq.retry_now('waiting', 'g', '{2,4,4,6,7,99,-1}', 'a');
SELECT msg_offset, attempt FROM iotmq.consume('waiting', 'g', zone => 'a');
SELECT iotmq.retry_now('waiting', 'g', '{}', 'a') AS nothing, iotmq.retry_now('waiting', 'g', '{1,2}', 'b') AS other_zone, iotmq.retry_now('waiting', 'g', '{2,4}', 'a') AS in_flight;
-- what is due already stays so, and counts
SELECT iotmq.retry_now('waiting', 'g', '{1}', 'a') AS once, iotmq.retry_now('waiting', 'g', '{1}', 'a') AS twice;
SELECT * FROM waiting_figures;
-- undone with its transaction
BEGIN;
SELECT iotmq.retry_now('waiting', 'g', '{3}', 'a');
ROLLBACK;
SELECT msg_offset, attempt FROM iotmq.consume('waiting', 'g', zone => 'a');

-- give_up: dead letters now, with the reason of the last failure or a new one.
SELECT iotmq.give_up('waiting', 'g', '{3,3,6,7,99}', 'a'), iotmq.give_up('waiting', 'g', '{5}', 'a', 'not worth it');
SELECT msg_offset, attempts, reason, payload FROM iotmq.dead_letter WHERE topic = 'waiting' ORDER BY msg_offset;
SELECT * FROM waiting_figures;
SELECT sum(value) FROM iotmq.metrics WHERE name = 'iotmq_send_to_dlq_messages_total' AND labels->>'topic' = 'waiting';
-- one that is redriven and given up is the dead letter that it was
SELECT iotmq.redrive('waiting', 'g', array_agg(id)) FROM iotmq.dead_letter WHERE topic = 'waiting' AND msg_offset = 5;
SELECT iotmq.give_up('waiting', 'g', '{5}', 'a');
SELECT msg_offset, attempts, reason FROM iotmq.dead_letter WHERE topic = 'waiting' ORDER BY msg_offset;
SELECT iotmq.give_up('waiting', 'g', '{5}', 'a', repeat('x', 2000)), iotmq.redrive('waiting', 'g', array_agg(id)) FROM iotmq.dead_letter WHERE topic = 'waiting' AND msg_offset = 5;
SELECT iotmq.give_up('waiting', 'g', '{5}', 'a', repeat('x', 2000));
SELECT msg_offset, attempts, length(reason) FROM iotmq.dead_letter WHERE topic = 'waiting' AND msg_offset = 5;
SELECT * FROM waiting_figures;

-- In an orderly group the order stays: of a device only the first is due, and given up it lets the next one come.
SELECT iotmq.create_group('waiting', 'orderly', 'orderly', start_from => '-infinity', backoff => '{1 day}');
SELECT iotmq.nack(min(lease_id), '{1,2}', reason => 'busy') FROM iotmq.consume('waiting', 'orderly', zone => 'a');
SELECT iotmq.retry_now('waiting', 'orderly', '{3,5,4}', 'a') AS behind;
SELECT count(*) FROM iotmq.consume('waiting', 'orderly', zone => 'a');
SELECT * FROM waiting_figures WHERE consumer_group = 'orderly';
-- one behind another is given up, then the first: the next one is not behind anything any more
SELECT iotmq.retry_now('waiting', 'orderly', '{-9223372036854775808,-1,0,9223372036854775807}', 'a'), iotmq.give_up('waiting', 'orderly', '{-9223372036854775808,-1,0,9223372036854775807}', 'a') AS nowhere;
SELECT iotmq.give_up('waiting', 'orderly', '{3}', 'a');
SELECT * FROM waiting_figures WHERE consumer_group = 'orderly';
SELECT count(*) FROM iotmq.consume('waiting', 'orderly', zone => 'a');
SELECT iotmq.give_up('waiting', 'orderly', '{1}', 'a');
SELECT msg_offset, device_id, attempt FROM iotmq.consume('waiting', 'orderly', zone => 'a');
SELECT iotmq.retry_now('waiting', 'orderly', '{2,4}', 'a');
SELECT msg_offset, device_id, attempt FROM iotmq.consume('waiting', 'orderly', zone => 'a');
SELECT msg_offset, attempts, reason FROM iotmq.dead_letter WHERE topic = 'waiting' AND consumer_group = 'orderly' ORDER BY msg_offset;
SELECT * FROM waiting_figures WHERE consumer_group = 'orderly';

-- Above READ COMMITTED, too.
SELECT iotmq.nack(min(lease_id)) FROM iotmq.consume('waiting', 'g', zone => 'b');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT iotmq.retry_now('waiting', 'g', '{1}', 'b'), iotmq.give_up('waiting', 'g', '{1}', 'b');
COMMIT;

-- Bad input.
SELECT iotmq.retry_now(NULL, 'g', '{1}', 'a');
SELECT iotmq.retry_now('waiting', NULL, '{1}', 'a');
SELECT iotmq.retry_now('waiting', 'g', NULL, 'a');
SELECT iotmq.retry_now('waiting', 'g', '{1,NULL}', 'a');
SELECT iotmq.retry_now('waiting', 'g', '{1}');
SELECT iotmq.retry_now('nothing', 'g', '{1}', 'a');
SELECT iotmq.retry_now('waiting', 'nobody', '{1}', 'a');
SELECT iotmq.retry_now('waiting', 'g', '{1}', 'c');
SELECT iotmq.give_up(NULL, 'g', '{1}', 'a');
SELECT iotmq.give_up('waiting', NULL, '{1}', 'a');
SELECT iotmq.give_up('waiting', 'g', NULL, 'a');
SELECT iotmq.give_up('waiting', 'g', '{1,NULL}', 'a');
SELECT iotmq.give_up('waiting', 'g', '{1}');
SELECT iotmq.give_up('nothing', 'g', '{1}', 'a');
SELECT iotmq.give_up('waiting', 'nobody', '{1}', 'a');
SELECT iotmq.give_up('waiting', 'g', '{1}', 'c');
BEGIN READ ONLY;
SELECT iotmq.retry_now('waiting', 'g', '{1}', 'a');
ROLLBACK;
BEGIN READ ONLY;
SELECT iotmq.give_up('waiting', 'g', '{1}', 'a');
ROLLBACK;
SELECT * FROM waiting_figures ORDER BY consumer_group;

-- With one zone it need not be named; many at once, of which claims have placed a part only.
SELECT iotmq.create_topic('waiting_many');
SELECT iotmq.create_group('waiting_many', 'g', start_from => '-infinity');
SELECT count(*) FROM unnest(iotmq.publish_batch('waiting_many', (SELECT array_agg('d' || n) FROM generate_series(1, 1200) AS n), (SELECT array_agg(to_jsonb(n)) FROM generate_series(1, 1200) AS n)));
SELECT iotmq.reject(min(lease_id)) FROM iotmq.consume('waiting_many', 'g', 10000);
SELECT iotmq.redrive('waiting_many', 'g');
SELECT iotmq.retry_now('waiting_many', 'g', '{1,1200}'), iotmq.give_up('waiting_many', 'g', (SELECT array_agg(n) FROM generate_series(2, 1199) AS n));
SELECT array_agg(msg_offset) FROM iotmq.consume('waiting_many', 'g');
SELECT inflight_messages, retry_messages, dead_letters FROM iotmq.group_lag WHERE topic = 'waiting_many';

DROP VIEW waiting_figures;
SELECT iotmq.drop_topic('waiting', force => true), iotmq.drop_topic('waiting_many', force => true);
