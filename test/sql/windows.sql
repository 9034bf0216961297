-- An index is read in windows, as long as what is asked for (src/log/segment_scan.c): nothing is
-- lost at their edges, and what is wanted is found behind others and behind holes.
-- Promise: no-loss, bounded-calls
SELECT iotmq.create_topic('windows');
SELECT iotmq.create_group('windows', 'all');
SELECT iotmq.create_group('windows', 'some' || n, tags => 'some') FROM generate_series(1, 3) AS n;
SELECT iotmq.create_group('windows', 'rare', tags => 'rare');
CREATE FUNCTION pg_temp.fill(first int, last int) RETURNS bigint LANGUAGE sql AS $$
	SELECT cardinality(iotmq.publish_batch('windows', array_agg('d' || n), array_agg(to_jsonb(n)),
		tags => array_agg(CASE WHEN n % 1000 = 0 THEN 'rare' WHEN n % 6 = 0 OR n % 11 = 0 THEN 'some' END)))
	FROM generate_series(first, last) AS n
$$;
SELECT pg_temp.fill(1, 300);
BEGIN;
SELECT pg_temp.fill(1, 1500);
ROLLBACK;
SELECT pg_temp.fill(301, 1010);

-- The argument makes it a call for each row.
CREATE FUNCTION pg_temp.drain(consumer_group text, at_once int, calls int)
RETURNS TABLE (messages bigint, other_ones bigint, first_payload int, last_payload int) LANGUAGE sql AS $$
	SELECT count(*), count(DISTINCT payload), min(payload::int), max(payload::int)
	FROM generate_series(1, calls) AS n,
		LATERAL iotmq.consume('windows', consumer_group, at_once + 0 * n)
$$;
SELECT * FROM pg_temp.drain('all', 1, 7);
SELECT * FROM pg_temp.drain('all', 10, 105);
SELECT count(*) AS some FROM generate_series(1, 1010) AS n WHERE n % 1000 > 0 AND (n % 6 = 0 OR n % 11 = 0);
SELECT * FROM pg_temp.drain('some1', 1, 300);
SELECT * FROM pg_temp.drain('some2', 2, 150);
SELECT * FROM pg_temp.drain('some3', 3, 100);
SELECT * FROM pg_temp.drain('rare', 1, 2);

-- One call reads on where a window was not enough.
SELECT iotmq.create_group('windows', 'again', start_from => '-infinity');
SELECT count(*), min(payload::int), max(payload::int) FROM iotmq.consume('windows', 'again', 299);
SELECT count(*), min(payload::int), max(payload::int) FROM iotmq.consume('windows', 'again', 10);
SELECT count(*), min(payload::int), max(payload::int)
FROM iotmq.fetch('windows', 'default', (SELECT min(msg_offset) + 295 FROM iotmq_topic.windows), 10);

SELECT iotmq.drop_topic('windows', force => true);
