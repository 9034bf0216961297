-- message_status: what became of one message in each group; waiting_message: what waits.
-- Promise: figures-agree
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('status', '{a,b}', segment_interval => '1 hour');
SELECT iotmq.create_group('status', 'plain', backoff => '{1 day}', max_retries => 1);
SELECT iotmq.create_group('status', 'orderly', 'orderly', backoff => '{1 day}');
SELECT iotmq.create_group('status', 'picky', tags => 'x');
SELECT iotmq.create_group('status', 'idle');
CREATE FUNCTION pg_temp.status(msg_offset bigint) RETURNS TABLE (consumer_group text, state text, attempt int, lease_is_open boolean, consumer text, later boolean, reason text)
	LANGUAGE sql
AS $$
	SELECT s.consumer_group, s.state, s.attempt, f.lease_id IS NOT NULL, s.consumer, s.until > now(), s.reason
	FROM iotmq.message_status('status', 'a', status.msg_offset) AS s
	LEFT JOIN iotmq.in_flight AS f ON f.lease_id = s.lease_id AND f.consumer_group = s.consumer_group AND f.deadline = s.until
	ORDER BY s.consumer_group
$$;
CREATE VIEW pg_temp.waiting AS
SELECT consumer_group, zone, msg_offset, device_id, attempt, due_at > now() AS later, reason, redriven
FROM iotmq.waiting_message
WHERE topic = 'status'
ORDER BY consumer_group, zone, msg_offset;
-- What waits is what group_lag counts.
CREATE VIEW pg_temp.disagree AS
SELECT l.topic, l.consumer_group, l.retry_messages, count(w.msg_offset)
FROM iotmq.group_lag AS l
LEFT JOIN iotmq.waiting_message AS w USING (topic, consumer_group)
GROUP BY l.topic, l.consumer_group, l.retry_messages
HAVING l.retry_messages <> count(w.msg_offset);

-- Not yet delivered; tags leave some of them out. A lease, an ack, a retry, a dead letter.
SELECT iotmq.publish('status', 'd' || n % 2, to_jsonb(n), 'a', CASE WHEN n % 3 = 0 THEN 'x' END) FROM generate_series(1, 6) AS n;
SELECT * FROM pg_temp.status(1);
SELECT * FROM pg_temp.status(3);
SELECT min(lease_id) AS plain FROM iotmq.consume('status', 'plain', 4, zone => 'a', consumer => 'one') \gset
SELECT min(lease_id) AS orderly FROM iotmq.consume('status', 'orderly', 5, zone => 'a') \gset
SELECT * FROM pg_temp.status(1);
SELECT iotmq.ack(:plain, '{1}'), iotmq.nack(:plain, '{2}', reason => 'busy'), iotmq.reject(:plain, '{3}', 'bad');
SELECT iotmq.nack(:orderly, '{1}', reason => 'busy');
SELECT * FROM pg_temp.status(1);
SELECT * FROM pg_temp.status(2);
SELECT * FROM pg_temp.status(3);
SELECT * FROM pg_temp.status(4);
-- behind an earlier one of its device there is no time; a message that was put aside, too
SELECT * FROM pg_temp.status(5) WHERE consumer_group = 'orderly';
SELECT * FROM pg_temp.waiting;
SELECT * FROM pg_temp.disagree;

-- The second attempt is the last one. What was not wanted and passed is so by today's tags.
SELECT iotmq.ack(min(lease_id)) FROM iotmq.consume('status', 'plain', zone => 'a');
SELECT iotmq.retry_now('status', 'plain', '{2}', 'a');
SELECT min(lease_id) AS again FROM iotmq.consume('status', 'plain', 1, zone => 'a') WHERE msg_offset = 2 \gset
SELECT state, attempt FROM pg_temp.status(2) WHERE consumer_group = 'plain';
SELECT iotmq.nack(:again, reason => 'busy again');
SELECT * FROM pg_temp.status(2) WHERE consumer_group = 'plain';
SELECT iotmq.ack(min(lease_id)) FROM iotmq.consume('status', 'picky', 10, zone => 'a');
SELECT state, count(*), min(msg_offset) FROM generate_series(1, 6) AS msg_offset, pg_temp.status(msg_offset) WHERE consumer_group = 'picky' GROUP BY state ORDER BY state;
SELECT iotmq.alter_group('status', 'picky', tags => '*');
SELECT state, count(*) FROM generate_series(1, 6) AS msg_offset, pg_temp.status(msg_offset) WHERE consumer_group = 'picky' GROUP BY state ORDER BY state;

-- Redriven, purged, given up, skipped by a seek, delivered again after one.
SELECT iotmq.redrive('status', 'plain');
SELECT msg_offset, state, attempt, later, reason FROM generate_series(2, 3) AS msg_offset, pg_temp.status(msg_offset) WHERE consumer_group = 'plain';
SELECT * FROM pg_temp.waiting WHERE consumer_group = 'plain';
SELECT * FROM pg_temp.disagree;
SELECT iotmq.give_up('status', 'plain', '{2,3}', 'a');
SELECT msg_offset, state FROM generate_series(2, 3) AS msg_offset, pg_temp.status(msg_offset) WHERE consumer_group = 'plain';
SELECT iotmq.purge_dead_letters('status', 'plain');
SELECT msg_offset, state, reason FROM generate_series(2, 3) AS msg_offset, pg_temp.status(msg_offset) WHERE consumer_group = 'plain';
SELECT msg_offset, state FROM generate_series(1, 6) AS msg_offset, pg_temp.status(msg_offset) WHERE consumer_group = 'idle';
SELECT new_offset FROM iotmq.seek_offset('status', 'idle', 'a', 5);
SELECT msg_offset, state FROM generate_series(4, 5) AS msg_offset, pg_temp.status(msg_offset) WHERE consumer_group = 'idle';
SELECT new_offset FROM iotmq.seek_offset('status', 'plain', 'a', 2);
SELECT msg_offset, state, attempt, reason FROM generate_series(1, 4) AS msg_offset, pg_temp.status(msg_offset) WHERE consumer_group = 'plain';

-- Undecided while its transaction is open; rolled back, no message has the offset.
BEGIN;
SELECT iotmq.publish('status', 'd', '7', 'a');
SELECT consumer_group, state FROM pg_temp.status(7);
ROLLBACK;
SELECT consumer_group, state FROM pg_temp.status(7);
SELECT iotmq.publish('status', 'd', '8', 'a');
SELECT consumer_group, state FROM pg_temp.status(7);
SELECT consumer_group, state FROM pg_temp.status(8) WHERE consumer_group = 'idle';

-- Redriven many at once: those without a place yet wait, too.
SELECT iotmq.create_group('status', 'many', start_from => 'infinity');
SELECT count(*) FROM unnest(iotmq.publish_batch('status', array_fill('d'::text, '{600}'), array_fill('1'::jsonb, '{600}'), 'b'));
SELECT iotmq.reject(min(lease_id)) FROM iotmq.consume('status', 'many', 10000, zone => 'b');
SELECT iotmq.redrive('status', 'many');
SELECT count(*), count(DISTINCT msg_offset), bool_and(redriven), min(attempt), max(device_id), max(due_at) <= now() AS due FROM iotmq.waiting_message WHERE consumer_group = 'many';
SELECT state, attempt, until <= now() AS due FROM iotmq.message_status('status', 'b', 600) WHERE consumer_group = 'many';
SELECT * FROM pg_temp.disagree;
SELECT iotmq.drop_group('status', 'many', force => true);

-- Retention: what a group still has is known; of all else no more than that it was dropped.
SELECT iotmq.seek('status', 'plain', '-infinity'), iotmq.seek('status', 'orderly', '-infinity');
SELECT min(lease_id) AS plain FROM iotmq.consume('status', 'plain', 2, zone => 'a') \gset
SELECT iotmq.reject(:plain, '{1,2}', 'bad');
SET client_min_messages = warning;
CALL iotmq.run_maintenance(now() + interval '100 days');
RESET client_min_messages;
SELECT * FROM pg_temp.status(1);
SELECT iotmq.redrive('status', 'plain', array_agg(id)) FROM iotmq.dead_letter WHERE topic = 'status' AND msg_offset = 1;
SELECT * FROM pg_temp.status(1) WHERE consumer_group = 'plain';
SELECT * FROM pg_temp.status(2) WHERE consumer_group = 'plain';
SELECT * FROM pg_temp.waiting;
SELECT min(lease_id) AS plain FROM iotmq.consume('status', 'plain', zone => 'a') \gset
SELECT * FROM pg_temp.status(1) WHERE consumer_group = 'plain';

-- Above READ COMMITTED, read only; bad input.
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
SELECT * FROM pg_temp.status(2) WHERE consumer_group = 'plain';
COMMIT;
\set VERBOSITY terse
SELECT * FROM iotmq.message_status(NULL, 'a', 1);
SELECT * FROM iotmq.message_status('status', NULL, 1);
SELECT * FROM iotmq.message_status('status', 'a', NULL);
SELECT * FROM iotmq.message_status('nothing', 'a', 1);
SELECT * FROM iotmq.message_status('status', 'c', 1);
SELECT * FROM iotmq.message_status('status', 'a', 0);
SELECT * FROM iotmq.message_status('status', 'a', 9);
SELECT * FROM iotmq.message_status('status', 'a', 9223372036854775807);
\set VERBOSITY default

SELECT iotmq.drop_topic('status', force => true);
SELECT * FROM pg_temp.waiting;
