-- consume: what one call lends, in which order, and how it waits.
-- Promise: no-loss, groups-independent
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('consuming');
SELECT iotmq.create_group('consuming', 'readers');
SELECT iotmq.create_group('consuming', 'others');

-- Nothing there: no row.
SELECT * FROM iotmq.consume('consuming', 'readers');

-- One lease, in offset order, at most max_messages (32 unless said otherwise), nothing twice.
SELECT count(iotmq.publish('consuming', 'd' || n % 3, to_jsonb(n), tag => 't' || n)) FROM generate_series(1, 100) AS n;
SELECT * FROM iotmq.in_flight WHERE topic = 'consuming';
SELECT count(DISTINCT lease_id) AS leases, array_agg(msg_offset) AS offsets, bool_and(payload::bigint = msg_offset AND tag = 't' || msg_offset) AS right_rows,
       min(attempt), max(attempt)
FROM iotmq.consume('consuming', 'readers');
SELECT count(DISTINCT lease_id) AS leases, array_agg(msg_offset) AS offsets FROM iotmq.consume('consuming', 'readers', 3);
SELECT msg_offset FROM iotmq.consume('consuming', 'readers', max_messages => 1);
SELECT count(*), min(msg_offset), max(msg_offset) FROM iotmq.consume('consuming', 'readers', 10000);
SELECT count(*) FROM iotmq.consume('consuming', 'readers', 10000);

-- Another group is given all of it again.
SELECT count(*), min(msg_offset), max(msg_offset), max(attempt) AS attempt FROM iotmq.consume('consuming', 'others', 10000);

-- published_at is what the log says.
SELECT iotmq.publish('consuming', 'd1', '101');
SELECT c.msg_offset, c.published_at = m.published_at AS same_time
FROM iotmq.consume('consuming', 'readers') AS c
JOIN iotmq_topic.consuming m USING (zone, msg_offset);

-- Each call of one statement is a claim of its own; so is each of a function that loops.
SELECT iotmq.create_topic('consuming_calls');
SELECT iotmq.create_group('consuming_calls', 'readers');
SELECT count(iotmq.publish('consuming_calls', 'd1', to_jsonb(n))) FROM generate_series(1, 12) AS n;
SELECT n, c.msg_offset
FROM generate_series(1, 3) AS n
CROSS JOIN LATERAL iotmq.consume('consuming_calls', 'readers', 1 + 0 * n) AS c
ORDER BY n;
SELECT (iotmq.consume('consuming_calls', 'readers', 2)).msg_offset;
DO $$
DECLARE
    got bigint[] := '{}';
    part bigint[];
BEGIN
    LOOP
        SELECT array_agg(c.msg_offset) INTO part FROM iotmq.consume('consuming_calls', 'readers', 2) AS c;
        EXIT WHEN part IS NULL;
        got := got || part;
    END LOOP;
    RAISE NOTICE '%', got;
END
$$;
SELECT iotmq.publish('consuming_calls', 'd1', '13'), c.msg_offset
FROM (VALUES (1)) AS one
LEFT JOIN LATERAL iotmq.consume('consuming_calls', 'readers') AS c ON true;
PREPARE claim AS SELECT msg_offset FROM iotmq.consume('consuming_calls', 'readers', 1);
EXECUTE claim;
EXECUTE claim;

-- One zone a call; all zones get their turn, one that was asked for is the only one served.
SELECT iotmq.create_topic('consuming_zones', '{a,b,c}');
SELECT iotmq.create_group('consuming_zones', 'readers');
SELECT iotmq.create_group('consuming_zones', 'picky');
SELECT count(iotmq.publish('consuming_zones', 'd1', to_jsonb(n), zone)) FROM unnest('{a,b,c}'::text[]) AS zone, generate_series(1, 20) AS n;
CREATE TEMP TABLE claimed (claim int, zone text, msg_offset bigint);
DO $$
BEGIN
    FOR claim IN 1..30 LOOP
        INSERT INTO claimed SELECT claim, c.zone, c.msg_offset FROM iotmq.consume('consuming_zones', 'readers', 2) AS c;
    END LOOP;
END
$$;
SELECT max(zones) AS zones_a_claim, max(messages) AS messages_a_claim
FROM (SELECT count(DISTINCT zone) AS zones, count(*) AS messages FROM claimed GROUP BY claim) AS c;
SELECT zone, count(*), count(DISTINCT msg_offset) AS different FROM claimed GROUP BY zone ORDER BY zone;
SELECT count(*) FROM iotmq.consume('consuming_zones', 'readers');
SELECT array_agg(DISTINCT zone) AS zones, count(*) FROM iotmq.consume('consuming_zones', 'picky', 15, zone => 'c');
SELECT array_agg(DISTINCT zone) AS zones, count(*) FROM iotmq.consume('consuming_zones', 'picky', 15, zone => 'c');
SELECT count(*) FROM iotmq.consume('consuming_zones', 'picky', zone => 'c');

-- The lease: its length is the call's or else the group's, and it knows who holds it.
SELECT min(lease_id) AS lease FROM iotmq.consume('consuming_zones', 'picky', 5, '2 hours', 'a', consumer => $$worker "7"; '$$) \gset
SELECT topic, consumer_group, zone, consumer, messages, attempt,
       deadline - leased_at BETWEEN interval '7199 s' AND interval '7201 s' AS two_hours,
       leased_at BETWEEN now() - interval '1 min' AND clock_timestamp() AS leased_now
FROM iotmq.in_flight
WHERE lease_id = :lease;
SELECT min(lease_id) AS lease FROM iotmq.consume('consuming_zones', 'picky', 5, zone => 'a') \gset
SELECT messages, deadline - leased_at BETWEEN interval '59 s' AND interval '61 s' AS sixty_seconds FROM iotmq.in_flight WHERE lease_id = :lease;

-- A claim that is rolled back never was.
BEGIN;
SELECT min(lease_id) AS lease, array_agg(msg_offset) AS offsets FROM iotmq.consume('consuming_zones', 'picky', 3, zone => 'b') \gset
\echo :offsets
ROLLBACK;
\set VERBOSITY sqlstate
SELECT iotmq.ack(:lease);
\set VERBOSITY default
BEGIN;
SAVEPOINT s;
SELECT msg_offset, attempt FROM iotmq.consume('consuming_zones', 'picky', 1, zone => 'b');
ROLLBACK TO s;
SELECT msg_offset, attempt FROM iotmq.consume('consuming_zones', 'picky', 2, zone => 'b');
COMMIT;
SELECT msg_offset, attempt FROM iotmq.consume('consuming_zones', 'picky', 1, zone => 'b');

-- wait: as long as there is nothing, but no longer than asked; at once when there is something.
SELECT iotmq.create_topic('consuming_wait', '{a,b}');
SELECT iotmq.create_group('consuming_wait', 'readers');
SELECT clock_timestamp() AS before \gset
SELECT count(*) FROM iotmq.consume('consuming_wait', 'readers', wait => '100 ms');
SELECT clock_timestamp() - :'before' BETWEEN interval '100 ms' AND interval '5 s' AS waited;
SELECT clock_timestamp() AS before \gset
SELECT count(*) FROM iotmq.consume('consuming_wait', 'readers', zone => 'b', wait => '0 s');
SELECT iotmq.publish('consuming_wait', 'd1', '1', 'b');
SELECT count(*) FROM iotmq.consume('consuming_wait', 'readers', wait => '5 minutes');
SELECT iotmq.publish('consuming_wait', 'd1', '2', 'b');
SELECT count(*) FROM iotmq.consume('consuming_wait', 'readers', zone => 'b', wait => '5 minutes');
SELECT clock_timestamp() - :'before' < interval '5 s' AS at_once;
SELECT iotmq.publish('consuming_wait', 'd1', '3', 'b');
SELECT clock_timestamp() AS before \gset
SELECT count(*) FROM iotmq.consume('consuming_wait', 'readers', zone => 'a', wait => '50 ms');
SELECT clock_timestamp() - :'before' >= interval '50 ms' AS waited;

-- A waiting consume ends at statement_timeout, and its session goes on.
SET statement_timeout = '100 ms';
SELECT clock_timestamp() AS before \gset
SELECT * FROM iotmq.consume('consuming_wait', 'readers', zone => 'a', wait => '1 minute'); \echo :SQLSTATE
RESET statement_timeout;
SELECT clock_timestamp() - :'before' < interval '5 s' AS at_once;
SELECT payload FROM iotmq.consume('consuming_wait', 'readers');

-- An expired lease wakes it too.
SELECT count(*) FROM iotmq.consume('consuming_wait', 'readers', zone => 'b');
SELECT iotmq.publish('consuming_wait', 'd1', '4', 'b');
SELECT payload, attempt FROM iotmq.consume('consuming_wait', 'readers', invisible_for => '100 ms');
SELECT payload, attempt FROM iotmq.consume('consuming_wait', 'readers', wait => '10 s');

-- Not where old snapshots would hide what was published; the transaction before and after is not touched.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM iotmq.consume('consuming_wait', 'readers'); \echo :SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM iotmq.consume('consuming_wait', 'readers', wait => '1 minute'); \echo :SQLSTATE
ROLLBACK;
SET default_transaction_isolation = 'serializable';
SELECT * FROM iotmq.consume('consuming_wait', 'readers'); \echo :SQLSTATE
RESET default_transaction_isolation;
SELECT count(*) FROM iotmq.consume('consuming_wait', 'readers');

-- No session state: anything may come between consume and ack.
SELECT iotmq.publish('consuming_wait', 'd1', '5', 'a');
SELECT lease_id AS lease FROM iotmq.consume('consuming_wait', 'readers') \gset
DISCARD ALL;
SELECT count(*) FROM iotmq.consume('consuming_wait', 'readers');
\c
SELECT iotmq.ack(:lease);

SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'consuming%') AS mine;
