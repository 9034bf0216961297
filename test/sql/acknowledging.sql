-- ack: whole leases and parts of them.
-- Promise: lost-lease-changes-nothing
\set VERBOSITY sqlstate
SELECT iotmq.create_topic('acknowledging');
SELECT iotmq.create_group('acknowledging', 'readers');
CREATE VIEW lag AS
SELECT consumer_group, next_offset, lag_messages, ready_messages, inflight_messages, retry_messages, iotmq.count_lag(topic, consumer_group)
FROM iotmq.consumer_lag
WHERE topic = 'acknowledging';

-- A whole lease at once; then it is over.
SELECT count(iotmq.publish('acknowledging', 'd' || n, to_jsonb(n))) FROM generate_series(1, 20) AS n;
SELECT min(lease_id) AS lease FROM iotmq.consume('acknowledging', 'readers', 5) \gset
SELECT * FROM lag;
SELECT iotmq.ack(:lease);
SELECT * FROM lag;
SELECT iotmq.ack(:lease);
SELECT iotmq.ack(:lease, '{1}');
SELECT iotmq.ack(:lease, '{}');
SELECT iotmq.extend(:lease, '1 min');
SELECT count(*) FROM iotmq.in_flight WHERE topic = 'acknowledging';

-- In parts, in any order; what is settled counts 0 a second time, in the same call too.
SELECT min(lease_id) AS lease FROM iotmq.consume('acknowledging', 'readers', 5) \gset
SELECT iotmq.ack(:lease, '{8}');
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT iotmq.ack(:lease, '{8}');
SELECT iotmq.ack(:lease, '{10,8,6}');
SELECT iotmq.ack(:lease, '{7,7}');
SELECT iotmq.ack(:lease, '{}');
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT * FROM lag;

-- An offset that the lease doesn't hold: nothing of the call is done.
SELECT iotmq.ack(:lease, '{9,11}');
SELECT iotmq.ack(:lease, '{9,5}');
SELECT iotmq.ack(:lease, '{9,21}');
SELECT iotmq.ack(:lease, '{9,0}');
SELECT iotmq.ack(:lease, '{-9223372036854775808,9}');
SELECT iotmq.ack(:lease, '{9,9223372036854775807}');
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;

-- NULL is what array_agg makes of nothing: it is refused. '{-1}' is how msg_offsets are left
-- out, and an offset that no lease holds beside others.
SELECT iotmq.ack(:lease, NULL);
SELECT iotmq.ack(:lease, (SELECT array_agg(1) WHERE false));
SELECT iotmq.ack(:lease, '{-1,9}');
SELECT iotmq.ack(:lease, '{-1,-1}');
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;

-- Left out, they are what is still open; the last one ends the lease.
SELECT iotmq.ack(:lease);
SELECT iotmq.ack(:lease);
SELECT iotmq.ack(:lease, '{8}');
SELECT min(lease_id) AS lease FROM iotmq.consume('acknowledging', 'readers', 2) \gset
SELECT iotmq.ack(:lease, '{12,11}');
SELECT iotmq.ack(:lease, '{12}');
SELECT * FROM lag;

-- Several leases side by side, settled out of order.
SELECT min(lease_id) AS one FROM iotmq.consume('acknowledging', 'readers', 2) \gset
SELECT min(lease_id) AS two FROM iotmq.consume('acknowledging', 'readers', 2) \gset
SELECT :one <> :two AS different;
SELECT iotmq.ack(:one, '{15}');
SELECT iotmq.ack(:two);
SELECT * FROM lag;
SELECT iotmq.ack(:one);
SELECT iotmq.ack(:two);

-- Holes and messages filtered out lie within a lease's offsets, but are not in it.
SELECT iotmq.create_topic('acknowledging_holes');
SELECT iotmq.create_group('acknowledging_holes', 'readers', tags => 'a');
SELECT iotmq.publish('acknowledging_holes', 'd1', '1', tag => 'a');
BEGIN;
SELECT iotmq.publish('acknowledging_holes', 'd1', '2', tag => 'a');
ROLLBACK;
SELECT iotmq.publish('acknowledging_holes', 'd1', '3', tag => 'a');
SELECT iotmq.publish('acknowledging_holes', 'd1', '4', tag => 'b');
SELECT iotmq.publish('acknowledging_holes', 'd1', '5', tag => 'a');
SELECT min(lease_id) AS lease, array_agg(msg_offset) AS offsets, array_agg(payload) AS payloads, cardinality(array_agg(msg_offset)) AS messages
FROM iotmq.consume('acknowledging_holes', 'readers') \gset
\echo :offsets :payloads
SELECT messages = :messages AS counted FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT iotmq.ack(:lease, '{1,2}');
SELECT iotmq.ack(:lease, '{4}');
SELECT iotmq.ack(:lease, '{1,5}');
SELECT iotmq.ack(:lease);
SELECT iotmq.ack(:lease);

-- A large lease in many parts.
SELECT iotmq.create_topic('acknowledging_large');
SELECT iotmq.create_group('acknowledging_large', 'readers');
SELECT cardinality(iotmq.publish_batch('acknowledging_large', array_agg('d1'::text), array_agg(to_jsonb(n)))) FROM generate_series(1, 10000) AS n;
SELECT min(lease_id) AS lease, count(*) FROM iotmq.consume('acknowledging_large', 'readers', 10000) \gset
SELECT iotmq.ack(:lease, array_agg(n)) FROM generate_series(2, 10000, 2) AS n;
SELECT iotmq.ack(:lease, array_agg(n ORDER BY n DESC)) FROM generate_series(3, 10000, 3) AS n;
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT iotmq.ack(:lease, array_agg(n)) FROM generate_series(1, 10000) AS n;
SELECT iotmq.ack(:lease);

-- Exactly once: the effect and the ack commit together, or not at all.
CREATE TABLE effect (msg_offset bigint PRIMARY KEY);
SELECT min(lease_id) AS lease, array_agg(msg_offset) AS offsets FROM iotmq.consume('acknowledging', 'readers', 2) \gset
BEGIN;
INSERT INTO effect SELECT unnest(:'offsets'::bigint[]);
SELECT iotmq.ack(:lease);
ROLLBACK;
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;
BEGIN;
INSERT INTO effect SELECT unnest(:'offsets'::bigint[]);
SAVEPOINT s;
SELECT iotmq.ack(:lease, '{17}');
ROLLBACK TO s;
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT iotmq.ack(:lease);
COMMIT;
SELECT msg_offset FROM effect ORDER BY msg_offset;
SELECT iotmq.ack(:lease);

-- ack and extend work under every isolation level.
SELECT min(lease_id) AS lease, array_agg(msg_offset) AS offsets FROM iotmq.consume('acknowledging', 'readers', 2) \gset
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT iotmq.extend(:lease, '1 hour') > now() + interval '59 min' AS extended;
SELECT iotmq.ack(:lease, '{19}');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT iotmq.ack(:lease);
COMMIT;
SELECT * FROM lag;
SELECT iotmq.count_lag('acknowledging', 'readers');

-- The group that acknowledged nothing of its own kept everything: groups don't touch each other.
SELECT iotmq.create_group('acknowledging', 'others', start_from => '-infinity');
SELECT min(lease_id) AS lease, count(*) AS messages FROM iotmq.consume('acknowledging', 'others') \gset
SELECT :messages AS messages;
SELECT iotmq.drop_group('acknowledging', 'readers');
SELECT iotmq.ack(:lease);

DROP VIEW lag;
DROP TABLE effect;
SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'acknowledging%') AS mine;
