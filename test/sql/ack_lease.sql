-- consume with ack_lease: the last batch is done and the next one taken, in one call.
-- Promise: lost-lease-changes-nothing
SELECT iotmq.create_topic('ack_lease', '{a,b}');
SELECT iotmq.create_topic('ack_lease_other');
SELECT iotmq.create_group('ack_lease', 'g', start_from => '-infinity');
SELECT iotmq.create_group('ack_lease', 'other', start_from => '-infinity');
SELECT iotmq.create_group('ack_lease_other', 'g', start_from => '-infinity');
SELECT count(iotmq.publish('ack_lease', 'd', to_jsonb(n), 'a')) FROM generate_series(1, 12) AS n;
CREATE VIEW out AS
SELECT consumer_group, zone, messages FROM iotmq.in_flight WHERE topic LIKE 'ack_lease%';

-- A loop of one statement a batch. NULL is of none, as in its first call.
SELECT min(lease_id) AS lease, array_agg(payload) AS payloads FROM iotmq.consume('ack_lease', 'g', 4, ack_lease => NULL) \gset
\echo :payloads
SELECT min(lease_id) AS next, array_agg(payload) AS payloads FROM iotmq.consume('ack_lease', 'g', 4, ack_lease => :lease) \gset
\echo :payloads
SELECT * FROM out;
SELECT :next > :lease AS another;

-- What is settled stays so: the rest is acknowledged.
SELECT iotmq.settle(:next, nacks => '{5}', rejects => '{6}', delay => '1 h');
SELECT min(lease_id) AS lease, array_agg(payload) AS payloads FROM iotmq.consume('ack_lease', 'g', 4, ack_lease => :next) \gset
\echo :payloads
SELECT retry_messages, dead_letters, inflight_messages FROM iotmq.group_lag WHERE topic = 'ack_lease' AND consumer_group = 'g';

-- Nothing is there to deliver: the lease is done, and the call does not wait.
SET statement_timeout = '20 s';
SELECT count(*) FROM iotmq.consume('ack_lease', 'g', wait => '5 min', ack_lease => :lease);
RESET statement_timeout;
SELECT * FROM out;

-- A lease that is gone: nothing is delivered.
SELECT count(iotmq.publish('ack_lease', 'd', to_jsonb(n), 'a')) FROM generate_series(13, 16) AS n;
\set VERBOSITY sqlstate
SELECT * FROM iotmq.consume('ack_lease', 'g', ack_lease => :lease);
SELECT * FROM iotmq.consume('ack_lease', 'g', ack_lease => 0);
SELECT * FROM iotmq.consume('ack_lease', 'g', ack_lease => -1);
SELECT * FROM iotmq.consume('ack_lease', 'g', ack_lease => 9223372036854775807);
SELECT * FROM out;
-- One of another group, or of another topic, is not acknowledged.
SELECT min(lease_id) AS of_other FROM iotmq.consume('ack_lease', 'other', 2) \gset
SELECT * FROM iotmq.consume('ack_lease', 'g', ack_lease => :of_other);
SELECT * FROM iotmq.consume('ack_lease_other', 'g', ack_lease => :of_other);
SELECT * FROM out;
-- Neither is any by a call that fails for something else.
SELECT min(lease_id) AS lease FROM iotmq.consume('ack_lease', 'g', 2) \gset
SELECT * FROM iotmq.consume('ack_lease', 'g', zone => 'c', ack_lease => :lease);
SELECT * FROM iotmq.consume('ack_lease', 'g', 0, ack_lease => :lease);
SELECT * FROM iotmq.consume('ack_lease', 'g', wait => '6 min', ack_lease => :lease);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM iotmq.consume('ack_lease', 'g', ack_lease => :lease);
ROLLBACK;
\set VERBOSITY default
SELECT * FROM out ORDER BY consumer_group;

-- In a transaction block, where a look that finds nothing is rolled back by itself.
BEGIN;
SELECT count(*) FROM iotmq.consume('ack_lease', 'g', zone => 'b', ack_lease => :lease);
SELECT * FROM out ORDER BY consumer_group;
ROLLBACK;
SELECT * FROM out ORDER BY consumer_group;
BEGIN;
SELECT count(*) FROM iotmq.consume('ack_lease', 'g', zone => 'b', ack_lease => :lease);
SAVEPOINT s;
SELECT payload FROM iotmq.consume('ack_lease', 'g');
ROLLBACK TO s;
COMMIT;
SELECT * FROM out ORDER BY consumer_group;

-- Of the lease of one zone to the messages of another.
SELECT iotmq.publish('ack_lease', 'd', '"b"', 'b');
SELECT min(lease_id) AS lease, array_agg(payload) AS payloads FROM iotmq.consume('ack_lease', 'g', zone => 'a') \gset
\echo :payloads
SELECT min(lease_id) AS lease, array_agg(payload) AS payloads FROM iotmq.consume('ack_lease', 'g', zone => 'b', ack_lease => :lease) \gset
\echo :payloads
SELECT * FROM out ORDER BY consumer_group;

-- A lease that has expired, and that nobody has taken over, is acknowledged: nothing comes again.
SELECT min(lease_id) AS lease FROM iotmq.consume('ack_lease', 'other', 2, zone => 'a', ack_lease => :of_other) \gset
SELECT iotmq.extend(:lease, '1 us') IS NOT NULL AS over;
SELECT pg_sleep(0.001);
SELECT payload, attempt FROM iotmq.consume('ack_lease', 'other', 3, zone => 'a', ack_lease => :lease);

-- An orderly group: the device that the acknowledged lease held is free at once.
SELECT iotmq.create_group('ack_lease', 'orderly', 'orderly');
SELECT iotmq.publish_batch('ack_lease', '{x,x,x}', '{1,2,3}', 'a');
SELECT min(lease_id) AS lease FROM iotmq.consume('ack_lease', 'orderly', 1) \gset
SELECT count(*) FROM iotmq.consume('ack_lease', 'orderly', 1);
SELECT min(lease_id) AS lease, array_agg(payload) AS payloads FROM iotmq.consume('ack_lease', 'orderly', 1, ack_lease => :lease) \gset
\echo :payloads
BEGIN;
SELECT min(lease_id) AS lease, array_agg(payload) AS payloads FROM iotmq.consume('ack_lease', 'orderly', 1, ack_lease => :lease) \gset
\echo :payloads
COMMIT;
SELECT count(*) FROM iotmq.consume('ack_lease', 'orderly', 1, ack_lease => :lease);
SELECT lag_messages FROM iotmq.group_lag WHERE topic = 'ack_lease' AND consumer_group = 'orderly';

-- A redriven message that it acknowledges is no dead letter any more.
SELECT iotmq.create_group('ack_lease', 'again');
SELECT iotmq.publish('ack_lease', 'd', '1', 'a');
SELECT iotmq.reject(lease_id) FROM iotmq.consume('ack_lease', 'again');
SELECT iotmq.redrive('ack_lease', 'again');
SELECT min(lease_id) AS lease FROM iotmq.consume('ack_lease', 'again') \gset
SELECT count(*) FROM iotmq.consume('ack_lease', 'again', ack_lease => :lease);
SELECT count(*) FROM iotmq_internal.dead_message AS d JOIN iotmq_internal.cursor AS c USING (cursor_id) JOIN iotmq_internal.consumer_group AS g USING (group_id)
WHERE g.consumer_group = 'again';

DROP VIEW out;
SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'ack_lease%') AS mine;
