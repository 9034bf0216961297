-- What a lease takes in its table, and what settling a part of it writes.
-- Promise: bounded-calls

-- Offsets and attempts cost a few bytes where there is a hole or a retry, and none elsewhere.
SELECT iotmq.create_topic('lease_rows');
SELECT iotmq.create_group('lease_rows', 'readers', backoff => '{0}');
SELECT iotmq.create_group('lease_rows', 'odd', tags => 'odd');
SELECT cardinality(iotmq.publish_batch('lease_rows', array_agg('d' || n), array_agg(to_jsonb(n)),
	tags => array_agg(CASE WHEN n % 2 = 1 THEN 'odd' END))) FROM generate_series(1, 400) AS n;
CREATE TEMP TABLE delivered (lease_id bigint, msg_offset bigint, attempt int);
CREATE TEMP VIEW stored AS
SELECT l.first_offset, l.last_offset, l.messages, octet_length(l.runs) AS bytes, (SELECT max(m.attempt) FROM iotmq.runs_messages(l.first_offset, l.last_offset, l.runs) AS m) AS attempt,
	(SELECT array_agg(m.msg_offset || CASE WHEN m.attempt > 1 THEN '/' || m.attempt ELSE '' END ORDER BY m.nth)
	 FROM iotmq.runs_messages(l.first_offset, l.last_offset, l.runs) AS m)
		= (SELECT array_agg(d.msg_offset || CASE WHEN d.attempt > 1 THEN '/' || d.attempt ELSE '' END ORDER BY d.msg_offset)
	 FROM delivered AS d WHERE d.lease_id = l.lease_id) AS as_delivered
FROM iotmq_internal.lease AS l
WHERE l.lease_id IN (SELECT lease_id FROM delivered);
INSERT INTO delivered SELECT lease_id, msg_offset, attempt FROM iotmq.consume('lease_rows', 'readers', 100);
SELECT * FROM stored;
SELECT iotmq.nack(lease_id, '{7,50,51}') FROM delivered LIMIT 1;
SELECT iotmq.ack(lease_id) FROM delivered LIMIT 1;
TRUNCATE delivered;
INSERT INTO delivered SELECT lease_id, msg_offset, attempt FROM iotmq.consume('lease_rows', 'readers', 100);
SELECT * FROM stored;
SELECT iotmq.ack(lease_id) FROM delivered LIMIT 1;
TRUNCATE delivered;
INSERT INTO delivered SELECT lease_id, msg_offset, attempt FROM iotmq.consume('lease_rows', 'readers', 100);
SELECT * FROM stored;
TRUNCATE delivered;
INSERT INTO delivered SELECT lease_id, msg_offset, attempt FROM iotmq.consume('lease_rows', 'odd', 100);
SELECT * FROM stored;

-- Rows made by hand are checked, whatever is in them.
\set VERBOSITY sqlstate
SELECT * FROM iotmq.runs_messages(1, 9223372036854775807, '\x');
SELECT * FROM iotmq.runs_messages(1, 9223372036854775807, '\x00');
SELECT * FROM iotmq.runs_messages(1, 9223372036854775807, '\x000001');
SELECT * FROM iotmq.runs_messages(1, 9223372036854775807, '\x000100');
SELECT * FROM iotmq.runs_messages(1, 9223372036854775807, '\xffffffffffffffffffffffffffff');
SELECT * FROM iotmq.runs_messages(1, 9223372036854775807, '\x00ffffffffff0f01');
SELECT * FROM iotmq.runs_messages(1, 9223372036854775807, '\x0001ffffffffff0f');
SELECT * FROM iotmq.runs_messages(5, 5, '\x000201');
SELECT * FROM iotmq.runs_messages(5, 9, '\x050101');
SELECT * FROM iotmq.runs_messages(9223372036854775807, 9223372036854775807, '\x000101000101');
SELECT * FROM iotmq.runs_messages(1, 9223372036854775807, NULL);
SELECT * FROM iotmq.runs_messages(9, 1, NULL);
\set VERBOSITY default
SELECT * FROM iotmq.runs_messages(5, 9, '\x000101010203');
SELECT * FROM iotmq.runs_messages(5, 6, NULL);

-- A single ack writes what it changes, not the whole lease: WAL without images of pages,
-- which depend on the last checkpoint. The first one writes the bits of all.
SELECT iotmq.create_topic('lease_rows_large');
CREATE FUNCTION wal_bytes(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, WAL, FORMAT JSON) ' || query INTO plan;
	plan := plan #> '{0,Plan}';
	RETURN (plan->>'WAL Bytes')::bigint - (plan->>'WAL FPI')::bigint * current_setting('block_size')::bigint;
END
$$;
SELECT iotmq.create_group('lease_rows_large', 'dense', start_from => '-infinity');
SELECT iotmq.create_group('lease_rows_large', 'holes', start_from => '-infinity', filter => '$ % 2 == 0 || $ % 3 == 0');
SELECT iotmq.create_group('lease_rows_large', 'orderly', 'orderly', start_from => '-infinity');
SELECT cardinality(iotmq.publish_batch('lease_rows_large', array_agg(md5(n::text)), array_agg(to_jsonb(n)))) FROM generate_series(1, 10000) AS n;
SELECT 'dense' AS consumer_group, lease_id, array_agg(msg_offset) AS offsets INTO TEMP large FROM iotmq.consume('lease_rows_large', 'dense', 10000) GROUP BY lease_id;
INSERT INTO large SELECT 'holes', lease_id, array_agg(msg_offset) FROM iotmq.consume('lease_rows_large', 'holes', 10000) GROUP BY lease_id;
INSERT INTO large SELECT 'orderly', lease_id, array_agg(msg_offset) FROM iotmq.consume('lease_rows_large', 'orderly', 10000) GROUP BY lease_id;
SELECT consumer_group, iotmq.ack(lease_id, offsets[1:1]) FROM large ORDER BY consumer_group;
SELECT l.consumer_group, c.call, b.bytes < 3000 AS few, CASE WHEN b.bytes >= 3000 THEN b.bytes END AS bytes
FROM large AS l
CROSS JOIN unnest('{"ack(%s, ''{%s}'')","extend(%s, ''%s s'')","nack(%s, ''{%s}'')"}'::text[]) AS c (call)
CROSS JOIN LATERAL (SELECT wal_bytes(format('SELECT iotmq.' || c.call, l.lease_id, l.offsets[cardinality(l.offsets) / 2 + length(c.call)])) AS bytes) AS b
ORDER BY l.consumer_group, c.call;
SELECT l.consumer_group, iotmq.ack(l.lease_id, l.offsets) + 3 = cardinality(l.offsets) AS the_others FROM large AS l ORDER BY l.consumer_group;
DROP TABLE large;
DROP FUNCTION wal_bytes;
DROP VIEW stored;
SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'lease_rows%') AS mine;
