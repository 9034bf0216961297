-- settle: acks, nacks and rejects of one lease in one call.
-- Promise: lost-lease-changes-nothing
SELECT iotmq.create_topic('settling');
SELECT iotmq.create_group('settling', 'readers', backoff => '{1 h}', max_retries => 1);
CREATE VIEW waiting AS
SELECT r.msg_offset, r.attempt, r.reason, r.due_at > now() + interval '58 min' AS after_backoff
FROM iotmq_internal.redelivery AS r
JOIN iotmq_internal.cursor AS c USING (cursor_id)
JOIN iotmq_internal.consumer_group AS g USING (group_id)
WHERE g.consumer_group = 'readers';
CREATE VIEW dead AS
SELECT msg_offset, attempts, reason FROM iotmq.dead_letter WHERE topic = 'settling' AND consumer_group = 'readers';
CREATE VIEW open AS
SELECT m.msg_offset
FROM iotmq_internal.lease AS l
CROSS JOIN LATERAL iotmq.runs_messages(l.first_offset, l.last_offset, l.runs) AS m
WHERE iotmq.lease_cursor(l.lease_id) IN (
		SELECT c.cursor_id FROM iotmq_internal.cursor AS c
		JOIN iotmq_internal.consumer_group AS g USING (group_id)
		JOIN iotmq_internal.topic AS t USING (topic_id)
		WHERE t.topic = 'settling')
	AND (l.settled IS NULL OR get_bit(l.settled, m.nth) = 0);
SELECT count(iotmq.publish('settling', 'd' || n, to_jsonb(n))) FROM generate_series(1, 60) AS n;

-- All verdicts at once, a reason for each that failed, in the order in which they are named.
SELECT min(lease_id) AS lease FROM iotmq.consume('settling', 'readers', 10) \gset
SELECT iotmq.settle(:lease, acks => '{2,1}', nacks => '{4,3}', rejects => '{6,5}', reasons => '{four,three,six,NULL}');
SELECT msg_offset FROM open ORDER BY msg_offset;
SELECT * FROM waiting ORDER BY msg_offset;
SELECT * FROM dead ORDER BY msg_offset;

-- What is settled counts 0, whatever became of it; nothing named is nothing settled.
SELECT iotmq.settle(:lease, acks => '{3}', nacks => '{1,5}', rejects => '{4,7}', reasons => '{no,no,no,seven}');
SELECT * FROM waiting ORDER BY msg_offset;
SELECT * FROM dead ORDER BY msg_offset;
SELECT iotmq.settle(:lease);
SELECT iotmq.settle(:lease, '{}', '{}', '{}', NULL, NULL, NULL);
SELECT iotmq.settle(:lease, reasons => '{}');
SELECT iotmq.settle(:lease, reasons => '{one}');

-- The rest: those that are not named and still open. One reason is for all.
SELECT iotmq.settle(:lease, acks => '{9,1}', rest => 'nack', delay => '2 h', reasons => '{later}');
SELECT * FROM waiting ORDER BY msg_offset;
SELECT msg_offset FROM open ORDER BY msg_offset;
\set VERBOSITY sqlstate
SELECT iotmq.settle(:lease);
\set VERBOSITY default
SELECT min(lease_id) AS lease FROM iotmq.consume('settling', 'readers', 4) \gset
SELECT iotmq.settle(:lease, nacks => '{12,11}', rest => 'ack', reasons => '{twelve,eleven}');
SELECT min(lease_id) AS lease FROM iotmq.consume('settling', 'readers', 4) \gset
SELECT iotmq.settle(:lease, nacks => '{15,16}', rest => 'reject', reasons => '{fifteen,sixteen}');
SELECT min(lease_id) AS lease FROM iotmq.consume('settling', 'readers', 2) \gset
SELECT iotmq.settle(:lease, rest => 'reject', reasons => '{both}');
SELECT min(lease_id) AS lease FROM iotmq.consume('settling', 'readers', 2) \gset
SELECT iotmq.settle(:lease, rest => 'ack');
SELECT * FROM waiting WHERE msg_offset > 10 ORDER BY msg_offset;
SELECT * FROM dead WHERE msg_offset > 10 ORDER BY msg_offset;

-- ack, nack and reject are the same with one list. A list that repeats an offset is theirs alone.
SELECT min(lease_id) AS lease FROM iotmq.consume('settling', 'readers', 6) \gset
SELECT iotmq.ack(:lease, '{23,23}'), iotmq.nack(:lease, '{24,24}', reason => 'n'), iotmq.reject(:lease, '{25,25}', 'r');
SELECT iotmq.reject(:lease, '{}');
SELECT iotmq.nack(:lease, delay => '3 h');
SELECT * FROM waiting WHERE msg_offset > 22 ORDER BY msg_offset;
SELECT * FROM dead WHERE msg_offset > 22 ORDER BY msg_offset;

-- The last retry fails: a dead letter with the reason of this call.
SELECT iotmq.create_group('settling', 'last', backoff => '{0}', max_retries => 1);
SELECT iotmq.publish_batch('settling', '{a,b}', '{1,2}');
SELECT min(lease_id) AS lease, min(msg_offset) AS first FROM iotmq.consume('settling', 'last') \gset
SELECT iotmq.settle(:lease, nacks => ARRAY[:first], rest => 'ack');
SELECT min(lease_id) AS lease FROM iotmq.consume('settling', 'last') \gset
SELECT iotmq.settle(:lease, nacks => ARRAY[:first], reasons => '{at last}');
SELECT attempts, reason FROM iotmq.dead_letter WHERE topic = 'settling' AND consumer_group = 'last';

-- Errors change nothing.
SELECT count(*) FROM iotmq.seek('settling', 'readers', 'infinity');
SELECT (iotmq.publish_batch('settling', '{a,b,c,d,e,f}', '{1,2,3,4,5,6}'))[1] AS a \gset
SELECT min(lease_id) AS lease FROM iotmq.consume('settling', 'readers') \gset
\set VERBOSITY sqlstate
SELECT iotmq.settle(NULL);
SELECT iotmq.settle(:lease, acks => NULL);
SELECT iotmq.settle(:lease, nacks => NULL);
SELECT iotmq.settle(:lease, rejects => NULL);
SELECT iotmq.settle(:lease, acks => ARRAY[NULL, :a]);
SELECT iotmq.settle(:lease, rejects => ARRAY[NULL::bigint]);
SELECT iotmq.settle(:lease, acks => '{-1}');
SELECT iotmq.settle(:lease, nacks => ARRAY[-1, :a]);
SELECT iotmq.settle(:lease, acks => ARRAY[:a, :a]);
SELECT iotmq.settle(:lease, acks => ARRAY[:a], nacks => ARRAY[:a]);
SELECT iotmq.settle(:lease, nacks => ARRAY[:a], rejects => ARRAY[:a]);
SELECT iotmq.settle(:lease, acks => ARRAY[:a], rejects => '{1}');
SELECT iotmq.settle(:lease, rest => '');
SELECT iotmq.settle(:lease, rest => 'ACK');
SELECT iotmq.settle(:lease, rest => 'leave');
SELECT iotmq.settle(:lease, rest => 'nack', delay => '-1 s');
SELECT iotmq.settle(:lease, rest => 'nack', delay => '366 days');
SELECT iotmq.settle(:lease, acks => ARRAY[:a], delay => '366 days');
SELECT iotmq.settle(:lease, nacks => ARRAY[:a], reasons => '{}');
SELECT iotmq.settle(:lease, nacks => ARRAY[:a], reasons => '{x,y}');
SELECT iotmq.settle(:lease, acks => ARRAY[:a], reasons => '{x,y}');
SELECT iotmq.settle(0);
SELECT iotmq.settle(-1, rest => 'ack');
SELECT iotmq.settle(9223372036854775807, rest => 'ack');
SELECT iotmq.settle(:lease + 1, rest => 'ack');
\set VERBOSITY default
SELECT count(*) FROM open;
SELECT iotmq.settle(:lease, nacks => ARRAY[:a], delay => '365 days');

-- Reasons are cut at a character.
SELECT iotmq.settle(:lease, nacks => ARRAY[:a + 1], rejects => ARRAY[:a + 3, :a + 2],
	reasons => ARRAY[repeat('x', 2000), 'y' || repeat(chr(252), 1000), repeat('z', 1000000)], rest => 'ack');
SELECT msg_offset - :a AS nth, octet_length(reason), left(reason, 1) FROM waiting WHERE msg_offset > :a
UNION ALL
SELECT msg_offset - :a, octet_length(reason), left(reason, 1) FROM dead WHERE msg_offset > :a
ORDER BY nth;

-- In a transaction, and taken back by a savepoint.
SELECT iotmq.publish_batch('settling', '{a,b,c}', '{1,2,3}');
SELECT min(lease_id) AS lease, min(msg_offset) AS first FROM iotmq.consume('settling', 'readers', 50) \gset
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT iotmq.settle(:lease, acks => ARRAY[:first]);
SAVEPOINT s;
SELECT iotmq.settle(:lease, rejects => ARRAY[:first + 1], rest => 'nack');
ROLLBACK TO s;
SELECT msg_offset - :first AS open FROM open ORDER BY msg_offset;
COMMIT;
SELECT iotmq.settle(:lease, rest => 'ack');

-- An orderly group: what a nack takes back with it.
SELECT iotmq.create_group('settling', 'orderly', 'orderly', backoff => '{0}');
CREATE FUNCTION lend() RETURNS bigint LANGUAGE sql
RETURN (SELECT min(lease_id) FROM iotmq.consume('settling', 'orderly', 50));
CREATE FUNCTION publish_six() RETURNS bigint LANGUAGE sql
RETURN (iotmq.publish_batch('settling', '{d1,d2,d1,d2,d1,d2}', '{11,21,12,22,13,23}'))[1];

-- An ack and a reject in the same call count, before and behind the message that comes again.
SELECT publish_six() AS first \gset
SELECT lend() AS lease \gset
SELECT iotmq.settle(:lease, acks => ARRAY[:first + 2], nacks => ARRAY[:first], rejects => ARRAY[:first + 4], reasons => '{again,never}');
SELECT msg_offset - :first AS open FROM open ORDER BY msg_offset;
SELECT iotmq.ack(:lease);
SELECT payload, attempt FROM iotmq.consume('settling', 'orderly', 50);
SELECT iotmq.ack(lease_id) FROM iotmq.in_flight WHERE topic = 'settling';

-- The rest does not: it goes back as it is, and a failed device comes again in order.
SELECT publish_six() AS first \gset
SELECT lend() AS lease \gset
SELECT iotmq.settle(:lease, nacks => ARRAY[:first + 2], rest => 'ack');
SELECT payload, attempt FROM iotmq.consume('settling', 'orderly', 50);
SELECT iotmq.ack(lease_id) FROM iotmq.in_flight WHERE topic = 'settling';
SELECT publish_six() AS first \gset
SELECT lend() AS lease \gset
SELECT iotmq.settle(:lease, nacks => ARRAY[:first + 1], rest => 'reject', reasons => '{away}');
SELECT payload, attempt FROM iotmq.consume('settling', 'orderly', 50);
SELECT payload, reason FROM iotmq.dead_letter WHERE topic = 'settling' AND consumer_group = 'orderly' AND msg_offset >= :first ORDER BY msg_offset;
SELECT iotmq.ack(lease_id) FROM iotmq.in_flight WHERE topic = 'settling';

-- A nack of the rest is a failed attempt of each; so is that of a whole lease.
SELECT publish_six() AS first \gset
SELECT lend() AS lease \gset
SELECT iotmq.settle(:lease, acks => ARRAY[:first + 4], nacks => ARRAY[:first], rest => 'nack');
SELECT payload, attempt FROM iotmq.consume('settling', 'orderly', 50);
SELECT iotmq.ack(lease_id) FROM iotmq.in_flight WHERE topic = 'settling';
SELECT publish_six() AS first \gset
SELECT iotmq.nack(lend());
SELECT payload, attempt FROM iotmq.consume('settling', 'orderly', 50);
SELECT iotmq.ack(lease_id) FROM iotmq.in_flight WHERE topic = 'settling';

-- A nack that was the last attempt, which who has passed over the rest of the device can't know:
-- that comes again as well, as it is. What is rejected takes nothing with it.
SELECT iotmq.alter_group('settling', 'orderly', max_retries => 0);
SELECT publish_six() AS first \gset
SELECT lend() AS lease \gset
SELECT iotmq.settle(:lease, nacks => ARRAY[:first], rest => 'ack');
SELECT count(*) FROM open;
SELECT payload, attempt FROM iotmq.consume('settling', 'orderly', 50);
SELECT iotmq.ack(lease_id) FROM iotmq.in_flight WHERE topic = 'settling';
SELECT publish_six() AS first \gset
SELECT lend() AS lease \gset
SELECT iotmq.nack(:lease, ARRAY[:first + 1]), iotmq.ack(:lease);
SELECT payload, attempt FROM iotmq.consume('settling', 'orderly', 50);
SELECT iotmq.ack(lease_id) FROM iotmq.in_flight WHERE topic = 'settling';
SELECT publish_six() AS first \gset
SELECT lend() AS lease \gset
SELECT iotmq.settle(:lease, nacks => ARRAY[:first, :first + 2], rest => 'reject');
SELECT payload, attempt FROM iotmq.consume('settling', 'orderly', 50);
SELECT iotmq.ack(lease_id) FROM iotmq.in_flight WHERE topic = 'settling';
SELECT publish_six() AS first \gset
SELECT lend() AS lease \gset
SELECT iotmq.settle(:lease, rejects => ARRAY[:first], rest => 'ack');
SELECT count(*) FROM open;

-- A query calls a function for each row: the second call finds the lease ended, and says how
-- it is meant.
SELECT iotmq.publish_batch('settling', '{a,b}', '{1,2}');
\set VERBOSITY terse
SELECT iotmq.create_group('settling', 'rows', start_from => '-infinity');
\set VERBOSITY default
CREATE FUNCTION hint_of(query text) RETURNS TABLE (code text, detail text, hint text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE query;
	RETURN QUERY VALUES ('00000', '', '');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN QUERY VALUES (SQLSTATE, detail, hint);
END
$$;
\pset format unaligned
\pset tuples_only on
SELECT s.call, h.code, h.detail, h.hint
FROM unnest('{ack(lease_id),nack(lease_id),reject(lease_id),"settle(lease_id, rest => ''nack'')"}'::text[]) WITH ORDINALITY AS s (call, n)
CROSS JOIN LATERAL hint_of(format('SELECT iotmq.%s FROM iotmq.consume(''settling'', ''rows'', 5)', s.call)) AS h
ORDER BY s.n;
\pset tuples_only off
\pset format aligned
BEGIN;
SELECT min(lease_id) AS lease FROM iotmq.consume('settling', 'rows', 5) \gset
SELECT iotmq.ack(:lease);
SELECT * FROM hint_of(format('SELECT iotmq.extend(%s, ''1 min'')', :lease));
ROLLBACK;
SELECT hint FROM hint_of(format('SELECT iotmq.ack(%s)', :lease));
-- As the hint has it.
SELECT iotmq.ack(lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('settling', 'rows', 5)) AS batch;
SELECT iotmq.ack(lease_id, array_agg(msg_offset)) FROM iotmq.consume('settling', 'rows', 5) GROUP BY lease_id;

DROP FUNCTION hint_of, lend, publish_six;
DROP VIEW waiting, dead, open;
SELECT iotmq.drop_topic('settling', force => true);
