-- nack, retries and expiry: message by message, attempt by attempt.
-- Promise: bad-message-alone
\set VERBOSITY sqlstate
SELECT iotmq.create_topic('retries');
CREATE VIEW retries_lag AS
SELECT topic, consumer_group, lag_messages, ready_messages, inflight_messages, retry_messages, blocked_devices, dead_letters,
       iotmq.count_lag(topic, consumer_group)
FROM iotmq.consumer_lag
WHERE topic LIKE 'retries%';
-- Time is moved, not slept away: how long the next message still has to wait, an end to all waiting, and to all leases.
CREATE FUNCTION retries_delay(from_time timestamptz) RETURNS interval LANGUAGE sql AS $$
    SELECT date_trunc('second', min(not_before) - from_time) FROM iotmq_internal.redelivery WHERE not_before > from_time
$$;
CREATE FUNCTION retries_skip_delay() RETURNS void LANGUAGE sql AS $$
    UPDATE iotmq_internal.redelivery SET not_before = '-infinity', due_at = least(due_at, '-infinity') WHERE due_at < 'infinity';
    UPDATE iotmq_internal.cursor_state SET next_due = '-infinity' WHERE redeliveries > 0;
$$;
CREATE FUNCTION retries_expire() RETURNS void LANGUAGE sql AS $$
    UPDATE iotmq_internal.lease SET deadline = '-infinity';
    UPDATE iotmq_internal.cursor_state SET next_expiry = '-infinity';
$$;

-- One bad message of five: it alone comes again, after its delay; the rest of the lease is untouched.
SELECT iotmq.create_group('retries', 'readers');
SELECT iotmq.create_group('retries', 'others');
SELECT count(iotmq.publish('retries', 'd' || n, to_jsonb(n), tag => 't', properties => '{"p": 1}', body => '\x01')) FROM generate_series(1, 5) AS n;
SELECT min(lease_id) AS lease FROM iotmq.consume('retries', 'readers', 5) \gset
SELECT iotmq.nack(:lease, '{3}', '1 hour', 'not now');
SELECT messages, attempt FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT * FROM retries_lag ORDER BY consumer_group;
SELECT count(*) FROM iotmq.consume('retries', 'readers');
SELECT retries_skip_delay();
SELECT zone, msg_offset, device_id, tag, payload, body, properties, attempt, lease_id <> :lease AS new_lease, published_at = (SELECT published_at FROM iotmq_topic.retries WHERE msg_offset = 3) AS same_time
FROM iotmq.consume('retries', 'readers');
SELECT iotmq.ack(:lease);
SELECT * FROM retries_lag ORDER BY consumer_group;
SELECT array_agg(msg_offset) AS offsets, max(attempt) AS attempt FROM iotmq.consume('retries', 'others');

-- The result counts what this call settled: twice named is once, settled before is nothing. The last one ends the lease.
SELECT count(iotmq.publish('retries', 'd' || n, to_jsonb(n))) FROM generate_series(6, 12) AS n;
SELECT min(lease_id) AS lease FROM iotmq.consume('retries', 'readers', 7) \gset
SELECT iotmq.ack(:lease, '{6}'), iotmq.reject(:lease, '{7}');
SELECT iotmq.nack(:lease, '{6}'), iotmq.nack(:lease, '{7,7}'), iotmq.nack(:lease, '{}');
SELECT iotmq.nack(:lease, '{8,6,8}', '1 hour');
SELECT iotmq.ack(:lease, '{8}'), iotmq.nack(:lease, '{8}'), iotmq.reject(:lease, '{8}');
SELECT iotmq.reject(:lease, '{9,9,7}');
SELECT iotmq.nack(:lease, delay => '1 hour');
SELECT iotmq.nack(:lease);
SELECT iotmq.nack(:lease, '{}');
SELECT iotmq.reject(:lease, '{8}');
SELECT * FROM retries_lag WHERE consumer_group = 'readers';
SELECT msg_offset FROM iotmq.dead_letter WHERE topic = 'retries' ORDER BY msg_offset;

-- Bad calls change nothing: an offset of somebody else, NULLs, a negative delay, no such lease.
SELECT count(iotmq.publish('retries', 'd' || n, to_jsonb(n))) FROM generate_series(13, 15) AS n;
SELECT min(lease_id) AS lease FROM iotmq.consume('retries', 'readers', 2) \gset
SELECT iotmq.nack(:lease, '{13,15}');
SELECT iotmq.nack(:lease, '{13,12}');
SELECT iotmq.reject(:lease, '{13,15}');
SELECT iotmq.nack(:lease, '{13,NULL}');
SELECT iotmq.reject(:lease, '{NULL}');
SELECT iotmq.nack(NULL);
SELECT iotmq.reject(NULL);
SELECT iotmq.nack(:lease, '{13}', '-1 us');
SELECT iotmq.nack(:lease, '{13}', '-1 mon');
SELECT iotmq.nack(:lease, '{13}', '178000000 years');
SELECT iotmq.nack(0);
SELECT iotmq.nack(-1);
SELECT iotmq.reject(9223372036854775807);
SELECT iotmq.nack(:lease + 1);
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT * FROM retries_lag WHERE consumer_group = 'readers';

-- Undone with its transaction or savepoint; at every isolation level.
BEGIN;
SELECT iotmq.nack(:lease, '{13}', '0', 'undone');
SAVEPOINT s;
SELECT iotmq.reject(:lease, '{14}', 'undone');
ROLLBACK TO s;
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;
ROLLBACK;
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT * FROM retries_lag WHERE consumer_group = 'readers';
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT iotmq.nack(:lease, '{13}', '0');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT iotmq.reject(:lease, '{14}');
COMMIT;
-- What is due again comes first, with what is new behind it, in the order of the offsets.
SELECT msg_offset, attempt FROM iotmq.consume('retries', 'readers');
SELECT attempt FROM iotmq.in_flight WHERE topic = 'retries' AND consumer_group = 'readers' ORDER BY lease_id DESC LIMIT 1;
SELECT iotmq.drop_group('retries', 'readers', force => true);

-- 16 retries are 17 deliveries, with RocketMQ's delays; then the dead-letter queue, at once, with the last reason.
CREATE FUNCTION retries_until_dead(consumer_group text, delay interval DEFAULT NULL)
    RETURNS TABLE (attempt int, waits interval) LANGUAGE plpgsql AS $$
DECLARE
    d iotmq.delivery;
    before timestamptz;
BEGIN
    FOR i IN 1..100 LOOP
        SELECT * INTO d FROM iotmq.consume('retries', consumer_group, 1);
        EXIT WHEN d.msg_offset IS NULL;
        before := clock_timestamp();
        PERFORM iotmq.nack(d.lease_id, reason => 'reason ' || d.attempt, delay => retries_until_dead.delay);
        attempt := d.attempt;
        waits := retries_delay(before);
        RETURN NEXT;
        PERFORM retries_skip_delay();
    END LOOP;
END
$$;
SELECT iotmq.create_group('retries', 'readers');
SELECT iotmq.publish('retries', 'd1', '"bad"');
SELECT * FROM retries_until_dead('readers');
SELECT payload, attempts, reason FROM iotmq.dead_letter WHERE topic = 'retries';
SELECT * FROM retries_lag WHERE consumer_group = 'readers';

-- A table of one's own: its last delay repeats. A delay given goes before it, but not beyond the retries.
SELECT iotmq.create_group('retries', 'own', backoff => '{5 s,1 min,0}', max_retries => 5);
SELECT iotmq.create_group('retries', 'longer', backoff => '{1 s,2 s,3 s,4 s}', max_retries => 2);
SELECT iotmq.create_group('retries', 'delayed', max_retries => 3);
SELECT iotmq.create_group('retries', 'undelayed', max_retries => 2);
SELECT iotmq.create_group('retries', 'once', max_retries => 1);
SELECT iotmq.create_group('retries', 'never', max_retries => 0);
SELECT iotmq.publish('retries', 'd1', '"worse"');
SELECT * FROM retries_until_dead('own');
SELECT * FROM retries_until_dead('longer');
SELECT * FROM retries_until_dead('delayed', '1 day 02:03:04');
SELECT * FROM retries_until_dead('undelayed', '0');
SELECT * FROM retries_until_dead('once');
SELECT * FROM retries_until_dead('never', '1 hour');
SELECT consumer_group, payload, attempts, reason FROM iotmq.dead_letter WHERE topic = 'retries' ORDER BY consumer_group, payload DESC;
SELECT iotmq.drop_topic('retries', force => true);

-- A retry is due when its delay is over, not before; a consumer that waits gets it then.
SELECT iotmq.create_topic('retries_due');
SELECT iotmq.create_group('retries_due', 'readers');
SELECT iotmq.publish('retries_due', 'd1', '1');
SELECT lease_id AS lease FROM iotmq.consume('retries_due', 'readers') \gset
SELECT clock_timestamp() AS before \gset
SELECT iotmq.nack(:lease, delay => '200 ms');
SELECT msg_offset, attempt FROM iotmq.consume('retries_due', 'readers', wait => '1 min');
SELECT clock_timestamp() - :'before' BETWEEN interval '200 ms' AND interval '10 s' AS in_time;

-- The retries of a batch are due one by one, and each in the zone of its own.
SELECT iotmq.add_zone('retries_due', 'a');
SELECT count(iotmq.publish('retries_due', 'd' || n, to_jsonb(n), 'a')) FROM generate_series(1, 4) AS n;
SELECT min(lease_id) AS lease FROM iotmq.consume('retries_due', 'readers') \gset
SELECT iotmq.nack(:lease, '{4}', '0'), iotmq.nack(:lease, '{3}', '1 hour'), iotmq.nack(:lease, '{2}', '0'), iotmq.nack(:lease, '{1}', '2 hours');
SELECT count(*) FROM iotmq.consume('retries_due', 'readers', zone => 'default');
SELECT zone, msg_offset, attempt FROM iotmq.consume('retries_due', 'readers', 1);
SELECT zone, msg_offset, attempt FROM iotmq.consume('retries_due', 'readers', zone => 'a');
SELECT zone, inflight_messages, retry_messages FROM iotmq.consumer_lag WHERE topic = 'retries_due' ORDER BY zone;
SELECT iotmq.drop_topic('retries_due', force => true);

-- An expiry is one failed attempt of each message still open. Until the take-over the holder may say what became of them.
SELECT iotmq.create_topic('retries_expiry');
SELECT iotmq.create_group('retries_expiry', 'readers', max_retries => 2);
CREATE FUNCTION retries_consume_all(topic text, consumer_group text, max_messages int DEFAULT 10)
    RETURNS SETOF iotmq.delivery LANGUAGE plpgsql AS $$
BEGIN
    -- how much of an expired lease comes back at once is not promised
    FOR i IN 1..100 LOOP
        RETURN QUERY SELECT * FROM iotmq.consume(topic, consumer_group, max_messages);
        EXIT WHEN NOT FOUND;
    END LOOP;
END
$$;
SELECT count(iotmq.publish('retries_expiry', 'd' || n, to_jsonb(n))) FROM generate_series(1, 8) AS n;
SELECT min(lease_id) AS lease FROM iotmq.consume('retries_expiry', 'readers', 6, '1 ms') \gset
SELECT iotmq.ack(:lease, '{2,5}');
SELECT iotmq.reject(:lease, '{6}', 'no good');
SELECT pg_sleep(0.01);
SELECT * FROM retries_lag WHERE topic = 'retries_expiry';
SELECT iotmq.nack(:lease, '{4}', '1 hour', 'too late?');
SELECT msg_offset, attempt FROM retries_consume_all('retries_expiry', 'readers') ORDER BY msg_offset;
SELECT iotmq.nack(:lease, '{1}');
SELECT iotmq.reject(:lease);
SELECT * FROM retries_lag WHERE topic = 'retries_expiry';
SELECT retries_skip_delay();
SELECT msg_offset, attempt FROM iotmq.consume('retries_expiry', 'readers');
SELECT iotmq.drop_group('retries_expiry', 'readers', force => true);

-- Which goes first is not promised: a claim of new messages is made again until it is one of what comes again.
CREATE FUNCTION retries_due(topic text, consumer_group text, max_messages int) RETURNS SETOF iotmq.delivery LANGUAGE plpgsql AS $$
DECLARE
    next bigint := (SELECT l.next_offset FROM iotmq.group_lag AS g JOIN iotmq.consumer_lag AS l USING (topic, consumer_group)
        WHERE g.topic = retries_due.topic AND g.consumer_group = retries_due.consumer_group);
    batch iotmq.delivery[];
BEGIN
    LOOP
        BEGIN
            SELECT array_agg(d) INTO batch FROM iotmq.consume(topic, consumer_group, max_messages) AS d;
            EXIT WHEN batch IS NULL OR batch[1].msg_offset < next;
            RAISE EXCEPTION 'new' USING ERRCODE = 'TX001';
        EXCEPTION WHEN SQLSTATE 'TX001' THEN
            NULL;
        END;
    END LOOP;
    RETURN QUERY SELECT * FROM unnest(batch);
END
$$;

-- Expiries and nacks count together. The dead letter is there with the take-over, whatever that has to deliver.
SELECT iotmq.create_group('retries_expiry', 'readers', max_retries => 2, backoff => '{0}');
SELECT iotmq.create_group('retries_expiry', 'never', max_retries => 0);
SELECT count(iotmq.publish('retries_expiry', 'd' || n, to_jsonb(n))) FROM generate_series(1, 2) AS n;
SELECT msg_offset, attempt FROM iotmq.consume('retries_expiry', 'readers', 1);
SELECT retries_expire();
SELECT lease_id AS lease, attempt FROM retries_due('retries_expiry', 'readers', 1) \gset
SELECT iotmq.nack(:lease, reason => 'second');
SELECT msg_offset, attempt FROM retries_due('retries_expiry', 'readers', 1);
SELECT retries_expire();
SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'retries_expiry';
-- until there is nothing: a lease of new messages and the take-over
SELECT msg_offset, attempt FROM retries_consume_all('retries_expiry', 'readers');
SELECT payload, attempts, reason FROM iotmq.dead_letter WHERE topic = 'retries_expiry';
SELECT count(*) FROM iotmq.consume('retries_expiry', 'never');
SELECT retries_expire();
SELECT count(*) FROM iotmq.consume('retries_expiry', 'never');
SELECT payload, attempts, reason FROM iotmq.dead_letter WHERE topic = 'retries_expiry' AND consumer_group = 'never' ORDER BY id;
SELECT iotmq.drop_topic('retries_expiry', force => true);

-- Poison: messages whose consumer dies, over and over. Only they become dead letters, none of those that were in a lease with
-- them: what comes again comes in smaller leases, for the last time alone.
SELECT iotmq.create_topic('retries_poison');
CREATE TABLE retries_leases (consumer_group text, attempt int, messages int, poisonous boolean);
CREATE FUNCTION retries_survive(consumer_group text, max_messages int, poison int[], careful boolean DEFAULT false)
    RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    batch iotmq.delivery[];
    killed bigint[];
BEGIN
    FOR i IN 1..1000 LOOP
        SELECT array_agg(d), array_agg(msg_offset) FILTER (WHERE payload::int = ANY (poison)) INTO batch, killed
        FROM iotmq.consume('retries_poison', consumer_group, max_messages) AS d;
        EXIT WHEN batch IS NULL;
        INSERT INTO retries_leases
        SELECT consumer_group, max(attempt), count(*), killed IS NOT NULL FROM unnest(batch);
        IF killed IS NULL THEN
            PERFORM iotmq.ack(batch[1].lease_id);
        ELSE
            IF careful THEN
                PERFORM iotmq.ack(lease_id, array_agg(msg_offset)) FROM unnest(batch) WHERE msg_offset < killed[1] GROUP BY lease_id;
            END IF;
            PERFORM retries_expire();
        END IF;
    END LOOP;
END
$$;
SELECT iotmq.create_group('retries_poison', 'once', max_retries => 1);
SELECT iotmq.create_group('retries_poison', 'twice', max_retries => 2);
SELECT iotmq.create_group('retries_poison', 'thrice', max_retries => 3);
SELECT iotmq.create_group('retries_poison', 'usual');
SELECT iotmq.create_group('retries_poison', 'small', max_retries => 2);
SELECT iotmq.create_group('retries_poison', 'careful', max_retries => 2);
SELECT iotmq.create_group('retries_poison', 'orderly', mode => 'orderly', max_retries => 2);
SELECT cardinality(iotmq.publish_batch('retries_poison', array_agg('d' || n % 3), array_agg(to_jsonb(n)))) FROM generate_series(1, 300) AS n;
SELECT retries_survive('once', 100, '{37}');
SELECT retries_survive('twice', 100, '{37,38,250}');
SELECT retries_survive('thrice', 10000, '{1,150,300}');
SELECT retries_survive('usual', 100, '{37}');
SELECT retries_survive('small', 2, '{2,3,300}');
SELECT retries_survive('careful', 100, '{37,38,39}', careful => true);
SELECT retries_survive('orderly', 100, '{37,38,250}');
SELECT consumer_group, array_agg(payload ORDER BY msg_offset) AS dead, min(attempts) AS attempts, max(reason) AS reason
FROM iotmq.dead_letter
WHERE topic = 'retries_poison'
GROUP BY consumer_group
ORDER BY consumer_group;
SELECT consumer_group, lag_messages FROM iotmq.group_lag WHERE topic = 'retries_poison' ORDER BY consumer_group;
SELECT consumer_group,
       max(largest) FILTER (WHERE attempt = 1) AS first,
       bool_and(smaller OR largest = 1) AS then_smaller,
       max(largest) FILTER (WHERE last) AS last
FROM (
    SELECT consumer_group, attempt, max(messages) AS largest,
           max(messages) < lag(max(messages), 1, 10000) OVER by_attempt AS smaller,
           lead(attempt) OVER by_attempt IS NULL AS last
    FROM retries_leases
    GROUP BY consumer_group, attempt
    WINDOW by_attempt AS (PARTITION BY consumer_group ORDER BY attempt)
) AS by_attempt
GROUP BY consumer_group
ORDER BY consumer_group;
-- a last attempt is made alone, whatever failed before: here it was no poison
SELECT iotmq.create_group('retries_poison', 'nacked', max_retries => 1, backoff => '{0}');
SELECT iotmq.publish('retries_poison', 'd1', '1') AS first, iotmq.publish('retries_poison', 'd2', '2') \gset
SELECT min(lease_id) AS lease FROM iotmq.consume('retries_poison', 'nacked') \gset
SELECT iotmq.nack(:lease, ARRAY[:first]), iotmq.ack(:lease, ARRAY[:first + 1]);
SELECT iotmq.publish('retries_poison', 'd3', '3') IS NOT NULL AS published;
SELECT payload, attempt FROM retries_due('retries_poison', 'nacked', 32);
SELECT payload, attempt FROM iotmq.consume('retries_poison', 'nacked');
-- with many retries nobody pays for caution with a lease a message
SELECT count(*) FILTER (WHERE NOT poisonous) < 100 AS few_leases FROM retries_leases WHERE consumer_group = 'usual';
SELECT iotmq.drop_topic('retries_poison', force => true);

-- A reason is kept up to 1,024 bytes, whole characters; a delay has an end.
SELECT iotmq.create_topic('retries_reason');
SELECT iotmq.create_group('retries_reason', 'g');
SELECT iotmq.publish('retries_reason', 'd' || n, to_jsonb(n)) FROM generate_series(1, 5) AS n;
SELECT min(lease_id) AS lease FROM iotmq.consume('retries_reason', 'g') \gset
SELECT iotmq.reject(:lease, '{1}', repeat('x', 1024)), iotmq.reject(:lease, '{2}', repeat('x', 5000000)), iotmq.reject(:lease, '{3}', 'x' || repeat(U&'\00e4', 1000)), iotmq.nack(:lease, '{4}', '365 days', repeat('y', 1025));
SELECT msg_offset, octet_length(reason), length(reason) FROM iotmq.dead_letter WHERE topic = 'retries_reason' ORDER BY msg_offset;
SELECT msg_offset, octet_length(reason), due_at > now() + interval '364 days' AS late FROM iotmq_internal.redelivery;
SELECT iotmq.nack(:lease, '{5}', '365 days 1 us');
SELECT iotmq.nack(:lease, '{5}', '1000 years');
SELECT iotmq.nack(:lease, '{5}', '-1 us');
SELECT messages FROM iotmq.in_flight WHERE topic = 'retries_reason';
SELECT iotmq.drop_topic('retries_reason', force => true);

DROP TABLE retries_leases;
DROP VIEW retries_lag;
DROP FUNCTION retries_delay, retries_skip_delay, retries_expire, retries_until_dead, retries_consume_all, retries_due, retries_survive;
