-- Orderly groups: of one device in offset order, whatever happens, and no other device waits for it.
-- Promise: order-per-device
\set VERBOSITY sqlstate
SELECT iotmq.create_topic('orderly');
SELECT iotmq.create_group('orderly', 'readers', mode => 'orderly', backoff => '{0}');
CREATE VIEW orderly_lag AS
SELECT consumer_group, ready_messages, inflight_messages, retry_messages, blocked_devices, dead_letters, iotmq.count_lag(topic, consumer_group)
FROM iotmq.consumer_lag
WHERE topic = 'orderly';
-- What is not settled yet, for the next case to begin with nothing.
CREATE FUNCTION orderly_drain() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    drained bigint := 0;
    n bigint;
BEGIN
    FOR i IN 1..1000 LOOP
        PERFORM iotmq.ack(lease_id) FROM iotmq.in_flight WHERE topic = 'orderly';
        UPDATE iotmq_internal.redelivery SET not_before = '-infinity', due_at = least(due_at, '-infinity') WHERE due_at < 'infinity';
        UPDATE iotmq_internal.cursor_state SET next_due = '-infinity' WHERE redeliveries > 0;
        SELECT count(*) INTO n FROM iotmq.consume('orderly', 'readers', 100);
        EXIT WHEN n = 0;
        drained := drained + n;
    END LOOP;
    RETURN drained;
END
$$;
-- Publishes for each device in turn; the payload says which of its messages it is.
CREATE FUNCTION orderly_publish(devices text[], first int, last int) RETURNS void LANGUAGE sql AS $$
    SELECT iotmq.publish_batch('orderly', array_agg(device ORDER BY n, i), array_agg(to_jsonb(device || n) ORDER BY n, i))
    FROM generate_series(first, last) AS n, unnest(devices) WITH ORDINALITY AS u (device, i)
$$;
-- The messages of one call, as payload:attempt.
CREATE FUNCTION orderly_consume(max_messages int, invisible_for interval DEFAULT NULL) RETURNS TABLE (lease bigint, messages text)
    LANGUAGE sql AS $$
    SELECT min(lease_id), string_agg((payload #>> '{}') || ':' || attempt, ' ' ORDER BY msg_offset)
    FROM iotmq.consume('orderly', 'readers', max_messages, invisible_for)
$$;
-- A call of which the time is up has gone on: the next one continues.
CREATE FUNCTION orderly_consume_at_last(max_messages int) RETURNS TABLE (messages text) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..10000 LOOP
        SELECT c.messages INTO messages FROM orderly_consume(max_messages) AS c;
        EXIT WHEN messages IS NOT NULL;
    END LOOP;
    RETURN NEXT;
END
$$;
CREATE FUNCTION orderly_offsets(VARIADIC payloads text[]) RETURNS bigint[] LANGUAGE sql AS $$
    SELECT array_agg(msg_offset) FROM iotmq_topic.orderly WHERE payload #>> '{}' = ANY (payloads)
$$;

-- Of 1, 2, 3, 4 take three; ack 1 and 3, nack 2: then 2, then 4, and 3 stays acknowledged.
SELECT orderly_publish('{a}', 1, 4);
SELECT * FROM orderly_consume(3) \gset
\echo :messages
SELECT iotmq.ack(:lease, orderly_offsets('a1', 'a3')), iotmq.nack(:lease, orderly_offsets('a2'));
SELECT * FROM orderly_consume(1) \gset
\echo :messages
SELECT messages FROM orderly_consume(10);
SELECT iotmq.ack(:lease);
SELECT * FROM orderly_consume(10) \gset
\echo :messages
SELECT iotmq.ack(:lease);
SELECT * FROM orderly_lag;

-- The same with 3 not yet acknowledged: then 2, 3, 4; 3 was only taken back and keeps its attempt.
SELECT orderly_publish('{b}', 1, 4);
SELECT * FROM orderly_consume(3) \gset
\echo :messages
SELECT iotmq.ack(:lease, orderly_offsets('b1'));
SELECT iotmq.nack(:lease, orderly_offsets('b2'));
SELECT iotmq.ack(:lease);
SELECT * FROM orderly_lag;
SELECT * FROM orderly_consume(10) \gset
\echo :messages
SELECT iotmq.ack(:lease);
-- one call for each
SELECT orderly_publish('{c}', 1, 4);
SELECT * FROM orderly_consume(3) \gset
SELECT iotmq.nack(:lease, orderly_offsets('c1'));
SELECT * FROM orderly_consume(1) \gset
\echo :messages
SELECT messages FROM orderly_consume(1);
SELECT iotmq.ack(:lease);
SELECT * FROM orderly_consume(1) \gset
\echo :messages
SELECT iotmq.ack(:lease);
SELECT * FROM orderly_consume(1) \gset
\echo :messages
SELECT iotmq.ack(:lease);
SELECT * FROM orderly_consume(1) \gset
\echo :messages
SELECT iotmq.ack(:lease);
SELECT orderly_drain();

-- Five taken and never acknowledged: after the deadline these five again, attempt 2, in order, before the next five.
SELECT orderly_publish('{d}', 1, 10);
SELECT messages FROM orderly_consume(5, '1 ms');
SELECT pg_sleep(0.01);
CREATE TABLE orderly_seen (n int GENERATED ALWAYS AS IDENTITY, messages text);
DO $$
DECLARE
    batch record;
BEGIN
    FOR i IN 1..100 LOOP
        SELECT * INTO batch FROM orderly_consume(5);
        EXIT WHEN batch.lease IS NULL;
        INSERT INTO orderly_seen (messages) VALUES (batch.messages);
        PERFORM iotmq.ack(batch.lease);
    END LOOP;
END
$$;
SELECT string_agg(messages, ' ' ORDER BY n) FROM orderly_seen;
TRUNCATE orderly_seen;

-- Two devices interleaved, one always failing: the other is never late, and the failing one never out of order.
DO $$
DECLARE
    batch iotmq.delivery[];
BEGIN
    FOR i IN 1..5 LOOP
        PERFORM orderly_publish('{bad,good}', i, i);
        COMMIT;
        SELECT array_agg(d) INTO batch FROM iotmq.consume('orderly', 'readers', 20) AS d;
        INSERT INTO orderly_seen (messages) SELECT string_agg((payload #>> '{}') || ':' || attempt, ' ' ORDER BY msg_offset) FROM unnest(batch);
        PERFORM iotmq.nack(lease_id, ARRAY[min(msg_offset)]) FROM unnest(batch) WHERE device_id = 'bad' GROUP BY lease_id;
        PERFORM iotmq.ack(lease_id, array_agg(msg_offset)) FROM unnest(batch) WHERE device_id = 'good' GROUP BY lease_id;
    END LOOP;
END
$$;
SELECT messages FROM orderly_seen ORDER BY n;
SELECT orderly_drain();
TRUNCATE orderly_seen;
-- with a delay it is out of the way altogether
SELECT orderly_publish('{ill,well}', 1, 6);
SELECT * FROM orderly_consume(3) \gset
\echo :messages
SELECT iotmq.nack(:lease, orderly_offsets('ill1'), '1 hour');
SELECT iotmq.ack(:lease, orderly_offsets('well1'));
SELECT * FROM orderly_lag;
SELECT messages FROM orderly_consume(10);
SELECT * FROM orderly_lag;
SELECT orderly_drain();

-- In flight, a device has its later messages held back, from every consumer; other devices are not.
SELECT orderly_publish('{e,f}', 1, 2);
SELECT * FROM orderly_consume(1) \gset first_
\echo :first_messages
SELECT * FROM orderly_consume(2) \gset second_
\echo :second_messages
SELECT messages FROM orderly_consume(10);
SELECT * FROM orderly_lag;
SELECT orderly_publish('{e,g}', 3, 3);
SELECT * FROM orderly_consume(10) \gset third_
\echo :third_messages
SELECT * FROM orderly_lag;
-- a part of the lease settled: the devices free that have nothing else in it
SELECT orderly_publish('{f,g}', 4, 4);
SELECT iotmq.ack(:second_lease, orderly_offsets('f1'));
SELECT messages FROM orderly_consume(10);
SELECT iotmq.ack(:third_lease);
SELECT messages FROM orderly_consume(10);
SELECT iotmq.ack(:second_lease);
SELECT messages FROM orderly_consume(10);
SELECT iotmq.ack(:first_lease);
SELECT messages FROM orderly_consume(10);
SELECT * FROM orderly_lag;
SELECT orderly_drain();

-- extend keeps the device, too; a lease that nobody took over yet as well.
SELECT orderly_publish('{h}', 1, 2);
SELECT * FROM orderly_consume(1, '1 ms') \gset
SELECT iotmq.extend(:lease, '1 hour') > now() AS extended;
SELECT pg_sleep(0.01);
SELECT messages FROM orderly_consume(10);
SELECT iotmq.extend(:lease, '1 ms') > now() AS shortened;
SELECT pg_sleep(0.01);
SELECT iotmq.ack(:lease);
SELECT messages FROM orderly_consume(10);
SELECT orderly_drain();

-- A nack takes back the later ones of its device, with their attempts, and no others; those before it stay leased.
SELECT orderly_publish('{i,j}', 1, 4);
SELECT * FROM orderly_consume(8) \gset
SELECT iotmq.nack(:lease, orderly_offsets('i3'));
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT * FROM orderly_lag;
SELECT messages FROM orderly_consume(10);
-- and one of those before fails then: they come in order all the same
SELECT iotmq.nack(:lease, orderly_offsets('i1'), '0');
SELECT iotmq.ack(:lease);
SELECT * FROM orderly_consume(10) \gset
\echo :messages
-- several of one device failed in one call; the delay of the first is what the others wait for
SELECT iotmq.ack(:lease, orderly_offsets('i1'));
SELECT iotmq.nack(:lease, orderly_offsets('i4', 'i2'), '0');
SELECT * FROM orderly_consume(10) \gset
\echo :messages
SELECT iotmq.nack(:lease, orderly_offsets('i2'), '1 hour');
SELECT messages FROM orderly_consume(10);
SELECT * FROM orderly_lag;
SELECT orderly_drain();
-- a later one has the longer delay: the earlier one comes without it, and what follows stays behind it
SELECT orderly_publish('{k}', 1, 4);
SELECT * FROM orderly_consume(3) \gset
SELECT iotmq.nack(:lease, orderly_offsets('k2'), '1 hour'), iotmq.nack(:lease, orderly_offsets('k1'), '0');
SELECT * FROM orderly_consume(10) \gset
\echo :messages
SELECT iotmq.ack(:lease);
SELECT messages FROM orderly_consume(10);
SELECT * FROM orderly_lag;
SELECT orderly_drain();

-- A dead letter lets its device go on: by reject, by the last retry, by expiry.
SELECT iotmq.alter_group('orderly', 'readers', max_retries => 1);
SELECT orderly_publish('{l,m}', 1, 4);
SELECT * FROM orderly_consume(4) \gset
SELECT iotmq.reject(:lease, orderly_offsets('l1'));
SELECT messages FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT messages FROM orderly_consume(10);
SELECT iotmq.ack(:lease);
SELECT * FROM orderly_consume(10) \gset
\echo :messages
SELECT iotmq.nack(:lease, orderly_offsets('l3'));
SELECT iotmq.ack(:lease);
SELECT * FROM orderly_consume(10) \gset
\echo :messages
SELECT iotmq.nack(:lease, orderly_offsets('l3'), '1 hour', 'twice');
SELECT * FROM orderly_consume(10) \gset
\echo :messages
SELECT iotmq.ack(:lease);
SELECT orderly_publish('{n}', 1, 3);
SELECT messages FROM orderly_consume(1, '1 ms');
SELECT pg_sleep(0.01);
SELECT messages FROM orderly_consume(1, '1 ms');
SELECT pg_sleep(0.01);
SELECT * FROM orderly_consume(10) \gset
\echo :messages
SELECT payload, attempts, reason FROM iotmq.dead_letter WHERE topic = 'orderly' ORDER BY msg_offset;
SELECT * FROM orderly_lag;

-- Redriven, a message goes ahead of what waits of its device, behind what is in flight, and blocks it meanwhile.
SELECT orderly_publish('{n}', 4, 5);
SELECT iotmq.redrive('orderly', 'readers');
SELECT messages FROM orderly_consume(1);
SELECT messages FROM orderly_consume(1);
SELECT messages FROM orderly_consume(10);
SELECT * FROM orderly_lag;
SELECT iotmq.ack(:lease, orderly_offsets('n2'));
SELECT messages FROM orderly_consume(10);
SELECT iotmq.ack(:lease);
SELECT * FROM orderly_consume(1) \gset
\echo :messages
SELECT messages FROM orderly_consume(10);
SELECT iotmq.nack(:lease);
SELECT * FROM orderly_consume(1) \gset
\echo :messages
SELECT iotmq.ack(:lease);
SELECT messages FROM orderly_consume(10);
SELECT orderly_drain();
-- with others of its device that are dead, too, and one that waits for its retry: by their offsets
SELECT iotmq.alter_group('orderly', 'readers', max_retries => 16);
SELECT orderly_publish('{o}', 1, 5);
SELECT * FROM orderly_consume(4) \gset
SELECT iotmq.reject(:lease, orderly_offsets('o2', 'o4')), iotmq.ack(:lease, orderly_offsets('o1')), iotmq.nack(:lease, orderly_offsets('o3'), '0');
SELECT iotmq.redrive('orderly', 'readers');
SELECT * FROM orderly_consume(10) \gset
\echo :messages
-- ahead of one that still has to wait; what comes after that one waits with it
SELECT iotmq.nack(:lease, orderly_offsets('o4'), '1 hour');
SELECT iotmq.reject(:lease, orderly_offsets('o2')), iotmq.ack(:lease);
SELECT orderly_publish('{o}', 6, 6);
SELECT messages FROM orderly_consume(10);
SELECT iotmq.redrive('orderly', 'readers');
SELECT * FROM orderly_consume(10) \gset
\echo :messages
SELECT iotmq.ack(:lease);
SELECT messages FROM orderly_consume(10);
SELECT * FROM orderly_lag;
SELECT orderly_drain();

-- Several messages of one device expire, some acknowledged before: the rest in order, one attempt later, nothing beside them.
SELECT orderly_publish('{p,q}', 1, 10);
SELECT * FROM orderly_consume(12, '1 ms') \gset
SELECT iotmq.ack(:lease, orderly_offsets('p2', 'p4', 'q1'));
SELECT iotmq.nack(:lease, orderly_offsets('p6'), '0');
SELECT pg_sleep(0.01);
DO $$
DECLARE
    batch iotmq.delivery[];
BEGIN
    FOR i IN 1..100 LOOP
        SELECT array_agg(d) INTO batch FROM iotmq.consume('orderly', 'readers', 4) AS d;
        EXIT WHEN batch IS NULL;
        INSERT INTO orderly_seen (messages) SELECT (payload #>> '{}') || ':' || attempt FROM unnest(batch) ORDER BY msg_offset;
        PERFORM iotmq.ack(batch[1].lease_id);
    END LOOP;
END
$$;
SELECT string_agg(messages, ' ' ORDER BY n) FROM orderly_seen GROUP BY left(messages, 1) ORDER BY left(messages, 1);
SELECT * FROM orderly_lag;

-- Devices are told apart by their whole names.
SELECT orderly_publish(ARRAY['x', 'X', 'x ', repeat('x', 255), repeat('x', 254) || 'y'], 1, 2);
SELECT iotmq.publish('orderly', 'x', '"x3"');
SELECT count(*) FROM iotmq.consume('orderly', 'readers', 2);
SELECT count(*) FROM iotmq.consume('orderly', 'readers', 100);
SELECT * FROM orderly_lag;
SELECT orderly_drain();

-- Many messages of a device that is blocked, and one of another behind them: found.
SELECT orderly_publish('{blocked}', 1, 1);
SELECT * FROM orderly_consume(1) \gset
SELECT cardinality(iotmq.publish_batch('orderly', array_fill('blocked'::text, '{9999}'), array_agg(to_jsonb('blocked' || n)))) FROM generate_series(2, 10000) AS n;
SELECT iotmq.publish_batch('orderly', array_fill('blocked'::text, '{2000}'), array_fill('"more"'::jsonb, '{2000}')) IS NOT NULL AS published;
SELECT orderly_publish('{free}', 1, 1);
SELECT messages FROM orderly_consume_at_last(10);
SELECT retry_messages, blocked_devices FROM orderly_lag;
SELECT iotmq.ack(:lease);
SELECT count(*), (array_agg(payload ORDER BY msg_offset))[1:2] AS first, bool_and(attempt = 1) AS first_attempt FROM iotmq.consume('orderly', 'readers', 10000);
SELECT orderly_drain();

-- Tags: what the group doesn't want blocks nothing.
SELECT iotmq.create_group('orderly', 'tagged', mode => 'orderly', tags => 'a');
SELECT iotmq.publish('orderly', 'd1', '1', tag => 'b'), iotmq.publish('orderly', 'd1', '2', tag => 'a'), iotmq.publish('orderly', 'd1', '3', tag => 'b'), iotmq.publish('orderly', 'd1', '4', tag => 'a');
SELECT lease_id AS lease, payload FROM iotmq.consume('orderly', 'tagged', 1) \gset
SELECT payload FROM iotmq.consume('orderly', 'tagged');
SELECT iotmq.ack(:lease);
SELECT payload FROM iotmq.consume('orderly', 'tagged');

-- What was put aside and never delivered is judged when its turn comes, by the tags and filter of then; what was delivered comes again.
SELECT iotmq.create_group('orderly', 'judged', mode => 'orderly', backoff => '{0}');
SELECT orderly_publish('{judged}', 1, 5);
SELECT lease_id AS lease, payload FROM iotmq.consume('orderly', 'judged', 1) \gset
SELECT count(*) FROM iotmq.consume('orderly', 'judged');
SELECT retry_messages FROM iotmq.group_lag WHERE topic = 'orderly' AND consumer_group = 'judged';
SELECT iotmq.alter_group('orderly', 'judged', filter => '$ == "judged4"');
SELECT iotmq.nack(:lease);
SELECT lease_id AS lease, payload, attempt FROM iotmq.consume('orderly', 'judged', 1) \gset
\echo :payload :attempt
SELECT iotmq.ack(:lease);
SELECT payload, attempt FROM iotmq.consume('orderly', 'judged', 1);
SELECT count(*) FROM iotmq.consume('orderly', 'judged');
SELECT lag_messages, retry_messages, expired_unread, iotmq.count_lag(topic, consumer_group)
FROM iotmq.group_lag WHERE topic = 'orderly' AND consumer_group = 'judged';
-- taken back with an earlier one, it was delivered
SELECT iotmq.create_group('orderly', 'taken_back', mode => 'orderly', backoff => '{0}');
SELECT orderly_publish('{judged}', 6, 7);
SELECT min(lease_id) AS lease FROM iotmq.consume('orderly', 'taken_back') \gset
SELECT iotmq.nack(:lease, orderly_offsets('judged6'));
SELECT iotmq.alter_group('orderly', 'taken_back', filter => '$ == "none"');
SELECT payload, attempt FROM iotmq.consume('orderly', 'taken_back');
SELECT iotmq.drop_group('orderly', 'judged'), iotmq.drop_group('orderly', 'taken_back');

-- Zones have nothing to do with each other, even if a device publishes to two.
SELECT iotmq.create_topic('orderly_zones', '{a,b}');
SELECT iotmq.create_group('orderly_zones', 'readers', mode => 'orderly');
SELECT iotmq.publish('orderly_zones', 'd1', '1', 'a'), iotmq.publish('orderly_zones', 'd1', '2', 'b');
SELECT count(*) FROM iotmq.consume('orderly_zones', 'readers');
SELECT count(*) FROM iotmq.consume('orderly_zones', 'readers');
SELECT iotmq.drop_topic('orderly_zones', force => true);

SELECT iotmq.drop_topic('orderly', force => true);
DROP TABLE orderly_seen;
DROP VIEW orderly_lag;
DROP FUNCTION orderly_drain, orderly_publish, orderly_consume, orderly_offsets;
