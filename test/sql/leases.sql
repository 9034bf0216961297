-- Leases over time: extend, expiry, and the take-over by the next consumer.
-- Promise: no-two-leases, lost-lease-changes-nothing
\set VERBOSITY sqlstate
SELECT iotmq.create_topic('leases');
SELECT iotmq.create_group('leases', 'readers');

-- Consumes until there is nothing more: how much of an expired lease comes back at once is not promised.
CREATE FUNCTION pg_temp.consume_all(topic text, consumer_group text, max_messages int, invisible_for interval, consumer text DEFAULT NULL)
    RETURNS SETOF iotmq.delivery LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        RETURN QUERY SELECT * FROM iotmq.consume(topic, consumer_group, max_messages, invisible_for, consumer => consumer);
        EXIT WHEN NOT FOUND;
    END LOOP;
END
$$;
SELECT count(iotmq.publish('leases', 'd' || n, to_jsonb(n), tag => 't', properties => '{}', body => '\x01')) FROM generate_series(1, 6) AS n;

-- extend counts from now, and gives the new deadline; it may come closer too.
SELECT min(lease_id) AS lease FROM iotmq.consume('leases', 'readers', 5, '1 minute', consumer => 'first') \gset
SELECT iotmq.extend(:lease, '2 hours') AS deadline \gset
SELECT :'deadline'::timestamptz - clock_timestamp() BETWEEN interval '119 min' AND interval '2 hours' AS from_now;
SELECT deadline = :'deadline' AS same_deadline, messages, consumer, attempt FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT iotmq.extend(:lease, '1 minute') < :'deadline'::timestamptz AS closer;
SELECT msg_offset FROM iotmq.consume('leases', 'readers', 1, '1 hour');
SELECT count(*) FROM iotmq.consume('leases', 'readers');

-- It is undone with its transaction.
SELECT deadline FROM iotmq.in_flight WHERE lease_id = :lease \gset
BEGIN;
SELECT iotmq.extend(:lease, '1 day') > :'deadline' AS later;
ROLLBACK;
SELECT deadline = :'deadline' AS as_before FROM iotmq.in_flight WHERE lease_id = :lease;

-- An expired lease that nobody took over still counts as held: seen, acknowledged in part, and prolonged.
SELECT iotmq.extend(:lease, '10 ms') < clock_timestamp() + interval '1 s' AS shortened;
SELECT pg_sleep(0.05);
SELECT messages, deadline < clock_timestamp() AS expired FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT iotmq.ack(:lease, '{2}');
SELECT inflight_messages, ready_messages, lag_messages FROM iotmq.consumer_lag WHERE topic = 'leases';
SELECT iotmq.extend(:lease, '1 hour') > clock_timestamp() + interval '59 min' AS held_again;
SELECT msg_offset, attempt FROM iotmq.consume('leases', 'readers', 10, '1 hour');

-- Taken over: what was open comes again, under other leases, as the next attempt, with its content.
SELECT iotmq.extend(:lease, '10 ms') < clock_timestamp() + interval '1 s' AS shortened;
SELECT pg_sleep(0.05);
SELECT max(lease_id) AS second, array_agg(msg_offset) AS offsets, array_agg(DISTINCT attempt) AS attempts,
       array_agg(DISTINCT zone || tag || properties || body) AS content, bool_or(lease_id = :lease) AS same_lease
FROM pg_temp.consume_all('leases', 'readers', 10, '1 hour', 'second') \gset
\echo :offsets :attempts :content :same_lease
SELECT count(*) AS first_lease FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT consumer, attempt, sum(messages) FROM iotmq.in_flight WHERE topic = 'leases' GROUP BY consumer, attempt ORDER BY consumer;

-- The old lease is lost, for every offset, and can't harm the new ones.
SELECT iotmq.ack(:lease);
SELECT iotmq.ack(:lease, '{1}');
SELECT iotmq.ack(:lease, '{2}');
SELECT iotmq.ack(:lease, '{}');
SELECT iotmq.extend(:lease, '1 hour');
SELECT consumer, attempt, sum(messages) FROM iotmq.in_flight WHERE topic = 'leases' GROUP BY consumer, attempt ORDER BY consumer;
SELECT iotmq.ack(:second, '{2}');
SELECT sum(iotmq.ack(lease_id)) FROM iotmq.in_flight WHERE topic = 'leases';
SELECT lag_messages, retry_messages, inflight_messages FROM iotmq.consumer_lag WHERE topic = 'leases';
SELECT iotmq.drop_group('leases', 'readers');

-- With the first claim after its end the whole lease is lost, though only a part of it came along.
SELECT iotmq.create_group('leases', 'small', start_from => '-infinity');
SELECT min(lease_id) AS lease FROM iotmq.consume('leases', 'small', 5) \gset
SELECT msg_offset AS other FROM iotmq.consume('leases', 'small');
SELECT iotmq.extend(:lease, '10 ms') IS NOT NULL AS shortened;
SELECT pg_sleep(0.1);
SELECT msg_offset, attempt FROM iotmq.consume('leases', 'small', 1, '1 hour');
SELECT iotmq.ack(:lease);
SELECT iotmq.ack(:lease, '{5}');
SELECT iotmq.extend(:lease, '1 min');
SELECT lag_messages, ready_messages, inflight_messages, retry_messages, iotmq.count_lag('leases', 'small')
FROM iotmq.consumer_lag
WHERE topic = 'leases';

-- The rest comes again, each message once, in leases no larger than asked for.
CREATE TEMP TABLE rest AS SELECT * FROM pg_temp.consume_all('leases', 'small', 2, '1 hour');
SELECT array_agg(msg_offset ORDER BY msg_offset) AS offsets, array_agg(attempt ORDER BY msg_offset) AS attempts FROM rest;
SELECT max(messages) <= 2 AS small FROM (SELECT count(*) AS messages FROM rest GROUP BY lease_id) AS claims;
SELECT lag_messages, ready_messages, inflight_messages, retry_messages, iotmq.count_lag('leases', 'small')
FROM iotmq.consumer_lag
WHERE topic = 'leases';
SELECT sum(iotmq.ack(lease_id)) FROM iotmq.in_flight WHERE topic = 'leases';
SELECT lag_messages, iotmq.count_lag('leases', 'small') FROM iotmq.consumer_lag WHERE topic = 'leases';
SELECT iotmq.drop_group('leases', 'small');

-- Acknowledged offsets never come back, wherever they lie in the lease; attempts go on counting.
SELECT iotmq.create_group('leases', 'partly', start_from => '-infinity');
SELECT min(lease_id) AS lease FROM iotmq.consume('leases', 'partly', 6, '10 ms') \gset
SELECT iotmq.ack(:lease, '{1,4,6}');
SELECT pg_sleep(0.05);
CREATE TEMP TABLE again AS SELECT * FROM pg_temp.consume_all('leases', 'partly', 10, '1 hour');
SELECT msg_offset, attempt FROM again ORDER BY msg_offset;
SELECT iotmq.ack(lease_id, '{1}') FROM again WHERE msg_offset = 2;
SELECT iotmq.ack(lease_id, '{3}') FROM again WHERE msg_offset = 3;
SELECT count(iotmq.extend(lease_id, '10 ms')) > 0 AS shortened FROM iotmq.in_flight WHERE topic = 'leases';
SELECT pg_sleep(0.05);
SELECT msg_offset, attempt FROM pg_temp.consume_all('leases', 'partly', 10, '1 hour') ORDER BY msg_offset;
SELECT sum(iotmq.ack(lease_id)) FROM iotmq.in_flight WHERE topic = 'leases';
SELECT lag_messages, iotmq.count_lag('leases', 'partly') FROM iotmq.consumer_lag WHERE topic = 'leases';
SELECT iotmq.drop_group('leases', 'partly');

-- Several expired leases of different zones: all come back, one zone and one lease a claim.
SELECT iotmq.create_topic('leases_zones', '{a,b}');
SELECT iotmq.create_group('leases_zones', 'readers');
SELECT count(iotmq.publish('leases_zones', 'd1', to_jsonb(n), zone)) FROM unnest('{a,b}'::text[]) AS zone, generate_series(1, 4) AS n;
SELECT count(*) FROM iotmq.consume('leases_zones', 'readers', 2, zone => 'a');
SELECT count(*) FROM iotmq.consume('leases_zones', 'readers', 2, zone => 'a');
SELECT count(*) FROM iotmq.consume('leases_zones', 'readers', 4, zone => 'b');
SELECT count(iotmq.extend(lease_id, '10 ms')) FROM iotmq.in_flight WHERE topic = 'leases_zones';
SELECT pg_sleep(0.05);
CREATE TEMP TABLE claimed (claim int, lease_id bigint, zone text, msg_offset bigint, attempt int);
DO $$
BEGIN
    FOR claim IN 1..20 LOOP
        INSERT INTO claimed SELECT claim, c.lease_id, c.zone, c.msg_offset, c.attempt FROM iotmq.consume('leases_zones', 'readers', 3, '1 hour') AS c;
    END LOOP;
END
$$;
SELECT zone, array_agg(msg_offset ORDER BY msg_offset) AS offsets, array_agg(DISTINCT attempt) AS attempts FROM claimed GROUP BY zone ORDER BY zone;
SELECT count(DISTINCT claim) = count(DISTINCT lease_id) AS lease_a_claim, count(DISTINCT (claim, zone)) = count(DISTINCT claim) AS zone_a_claim FROM claimed;

-- A take-over that is rolled back leaves the expired lease with its holder.
SELECT iotmq.publish('leases_zones', 'd1', '5', 'a');
SELECT min(lease_id) AS lease FROM iotmq.consume('leases_zones', 'readers', 1, '10 ms') \gset
SELECT pg_sleep(0.05);
BEGIN;
SELECT min(lease_id) AS taken, max(attempt) AS attempt FROM iotmq.consume('leases_zones', 'readers', 1) \gset
SELECT :attempt AS attempt, :taken <> :lease AS taken;
SELECT iotmq.ack(:lease);
ROLLBACK;
SELECT iotmq.ack(:taken);
SELECT iotmq.ack(:lease);

-- A zone asked for: expired leases of other zones stay where they are.
SELECT iotmq.publish('leases_zones', 'd1', '6', 'a');
SELECT count(*) FROM iotmq.consume('leases_zones', 'readers', 1, '10 ms', 'a');
SELECT pg_sleep(0.05);
SELECT count(*) FROM iotmq.consume('leases_zones', 'readers', zone => 'b');
SELECT payload, attempt FROM iotmq.consume('leases_zones', 'readers', zone => 'a');

-- What the group filters out doesn't come in by way of a lease that expired.
SELECT iotmq.create_topic('leases_filter');
SELECT iotmq.create_group('leases_filter', 'readers', tags => 'a || b');
SELECT iotmq.publish('leases_filter', 'd1', '1', tag => 'a'), iotmq.publish('leases_filter', 'd1', '2', tag => 'c'), iotmq.publish('leases_filter', 'd1', '3', tag => 'b');
SELECT count(*) FROM iotmq.consume('leases_filter', 'readers', 10, '10 ms');
SELECT pg_sleep(0.05);
SELECT msg_offset, tag, attempt FROM pg_temp.consume_all('leases_filter', 'readers', 10, '1 hour') ORDER BY msg_offset;

SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'leases%') AS mine;
