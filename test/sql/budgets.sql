-- What one call does without a delivery has a bound, and every call gets on.
-- Promise: bounded-calls
\set VERBOSITY sqlstate
SELECT iotmq.create_topic('budgets', '{a}');

-- A device in flight with a lot behind it: another one's message is found at once, or in a few calls, each of which puts some aside.
SELECT iotmq.create_group('budgets', 'hot', mode => 'orderly', start_from => '-infinity');
SELECT iotmq.publish('budgets', 'hot', '0') IS NOT NULL AS published;
SELECT device_id FROM iotmq.consume('budgets', 'hot', 1);
DO $$
BEGIN
    FOR i IN 1..4 LOOP
        PERFORM iotmq.publish_batch('budgets', array_fill('hot'::text, '{10000}'), array_fill('1'::jsonb, '{10000}'));
    END LOOP;
    PERFORM iotmq.publish('budgets', 'other', '2');
END
$$;
CREATE TABLE budgets_call (n int, got text, put_aside bigint);
DO $$
DECLARE
    got text;
    before bigint := 0;
    after bigint;
BEGIN
    FOR n IN 1..1000 LOOP
        SELECT string_agg(device_id, ' ') INTO got FROM iotmq.consume('budgets', 'hot', 10);
        SELECT retry_messages INTO after FROM iotmq.group_lag WHERE topic = 'budgets' AND consumer_group = 'hot';
        INSERT INTO budgets_call VALUES (n, got, after - before);
        COMMIT;
        EXIT WHEN got IS NOT NULL;
        before := after;
    END LOOP;
END
$$;
SELECT got FROM budgets_call WHERE got IS NOT NULL;
SELECT min(put_aside) > 0 AS each_got_on, max(put_aside) <= 25000 AS bounded, sum(put_aside) FROM budgets_call;
-- the device is free: all of it, in order
SELECT iotmq.ack(lease_id) FROM iotmq.in_flight WHERE topic = 'budgets' AND consumer_group = 'hot';
SELECT count(*), min(msg_offset), max(msg_offset) FROM iotmq.consume('budgets', 'hot', 10000);
TRUNCATE budgets_call;
SELECT iotmq.drop_group('budgets', 'hot');

-- Found behind many that were put aside in the same call, one lease comes.
SELECT iotmq.create_group('budgets', 'behind', mode => 'orderly');
SELECT iotmq.publish('budgets', 'hot', '0') IS NOT NULL AS published;
SELECT device_id FROM iotmq.consume('budgets', 'behind', 1);
SELECT cardinality(iotmq.publish_batch('budgets', array_fill('hot'::text, '{8000}') || '{one,two,three}', array_fill('1'::jsonb, '{8003}')));
DO $$
DECLARE
    got text;
BEGIN
    FOR n IN 1..1000 LOOP
        SELECT string_agg(device_id, ' ') INTO got FROM iotmq.consume('budgets', 'behind', 1);
        INSERT INTO budgets_call VALUES (n, got);
        COMMIT;
        EXIT WHEN got IS NOT NULL;
    END LOOP;
END
$$;
SELECT got FROM budgets_call WHERE got IS NOT NULL;
TRUNCATE budgets_call;
SELECT iotmq.drop_group('budgets', 'behind');

-- What a call has put aside comes, though it was rolled back when nothing came of it, and another one was given up meanwhile.
SELECT iotmq.create_topic('budgets_rolled_back');
SELECT iotmq.create_group('budgets_rolled_back', 'g', mode => 'orderly');
SELECT iotmq.publish_batch('budgets_rolled_back', '{A,A,B}', '{1,2,3}', tags => '{x,x,x}');
SELECT lease_id AS first FROM iotmq.consume('budgets_rolled_back', 'g', 1) \gset
SELECT lease_id AS second FROM iotmq.consume('budgets_rolled_back', 'g', 1) \gset
SELECT iotmq.alter_group('budgets_rolled_back', 'g', tags => 'y');
SELECT iotmq.ack(:first);
SELECT iotmq.publish('budgets_rolled_back', 'B', '4', tag => 'y');
SELECT cardinality(iotmq.publish_batch('budgets_rolled_back', array_fill('Z'::text, '{6000}'), array_fill('5'::jsonb, '{6000}'), tags => array_fill('x'::text, '{6000}')));
SELECT iotmq.publish('budgets_rolled_back', 'C', '6', tag => 'y');
CREATE TABLE budgets_got AS SELECT msg_offset FROM iotmq.consume('budgets_rolled_back', 'g', wait => '1 s');
SELECT iotmq.ack(:second);
INSERT INTO budgets_got SELECT msg_offset FROM iotmq.consume('budgets_rolled_back', 'g', wait => '1 s');
SELECT array_agg(msg_offset ORDER BY msg_offset) FROM budgets_got;
DROP TABLE budgets_got;
SELECT iotmq.drop_topic('budgets_rolled_back', force => true);

-- Nothing wanted in many messages: each call gets on, and in the end there is what is wanted.
SELECT iotmq.create_group('budgets', 'filtered', start_from => '-infinity', filter => '$ == 2');
DO $$
DECLARE
    got text;
    before bigint := 0;
    after bigint;
BEGIN
    FOR n IN 1..1000 LOOP
        SELECT string_agg(device_id, ' ') INTO got FROM iotmq.consume('budgets', 'filtered');
        SELECT next_offset INTO after FROM iotmq.group_lag WHERE topic = 'budgets' AND consumer_group = 'filtered';
        INSERT INTO budgets_call VALUES (n, got, after - before);
        COMMIT;
        EXIT WHEN got IS NOT NULL;
        before := after;
    END LOOP;
END
$$;
SELECT got FROM budgets_call WHERE got IS NOT NULL;
SELECT min(put_aside) > 0 AS each_got_on FROM budgets_call;
SELECT iotmq.drop_group('budgets', 'filtered');

-- In a transaction block nothing stays locked, nothing is written, and what was learnt is not lost on the way.
SELECT iotmq.create_group('budgets', 'block', start_from => '-infinity', tags => 'none');
BEGIN;
SELECT count(*) FROM iotmq.consume('budgets', 'block');
SELECT count(*) FROM iotmq.consume('budgets', 'block', wait => '10 ms');
SELECT pg_current_xact_id_if_assigned() IS NULL OR NOT EXISTS (
    SELECT FROM iotmq_internal.cursor_state AS p WHERE p.xmax = pg_current_xact_id_if_assigned()::xid) AS nothing_locked;
COMMIT;
SELECT next_offset FROM iotmq.consumer_lag WHERE topic = 'budgets' AND consumer_group = 'block';
-- maintenance passes it for good
SET client_min_messages = warning;
CALL iotmq.run_maintenance();
RESET client_min_messages;
SELECT next_offset, end_offset, lag_messages FROM iotmq.consumer_lag WHERE topic = 'budgets' AND consumer_group = 'block';
-- but nothing that is wanted, nor of a group that wants all
SELECT iotmq.create_group('budgets', 'wanted', start_from => '-infinity', filter => '$ == 1');
SELECT iotmq.create_group('budgets', 'all', start_from => '-infinity');
SELECT DISTINCT p.consumer_group FROM iotmq.maintenance_plan(now()) AS m JOIN iotmq_internal.cursor AS c USING (cursor_id)
JOIN iotmq_internal.consumer_group AS p USING (group_id) WHERE m.step = 'unwanted messages';
SET client_min_messages = warning;
CALL iotmq.run_maintenance();
RESET client_min_messages;
SELECT consumer_group, next_offset FROM iotmq.consumer_lag WHERE topic = 'budgets' AND consumer_group IN ('all', 'wanted') ORDER BY consumer_group;
SELECT iotmq.drop_topic('budgets', force => true);

-- A large lease that expired is taken over in parts; each message comes again once.
SELECT iotmq.create_topic('budgets');
SELECT iotmq.create_group('budgets', 'large', start_from => '-infinity');
SELECT cardinality(iotmq.publish_batch('budgets', array_fill('d'::text, '{10000}'), array_fill('1'::jsonb, '{10000}')));
SELECT count(*) FROM iotmq.consume('budgets', 'large', 10000, '1 ms');
SELECT pg_sleep(0.01);
CREATE TABLE budgets_again (msg_offset bigint, attempt int);
DO $$
DECLARE
    n bigint;
BEGIN
    FOR i IN 1..1000 LOOP
        INSERT INTO budgets_again SELECT msg_offset, attempt FROM iotmq.consume('budgets', 'large', 10000, '1 hour');
        GET DIAGNOSTICS n = ROW_COUNT;
        COMMIT;
        EXIT WHEN n = 0 AND (SELECT count(*) FROM budgets_again) = 10000;
    END LOOP;
END
$$;
SELECT count(*), count(DISTINCT msg_offset), min(attempt), max(attempt) FROM budgets_again;
SELECT inflight_messages, retry_messages, lag_messages, iotmq.count_lag('budgets', 'large') FROM iotmq.group_lag WHERE topic = 'budgets';
SELECT iotmq.drop_topic('budgets', force => true);
-- Of one device, in a transaction block, where nothing can be delivered before all of it is: the parts add up.
SELECT iotmq.create_topic('budgets');
SELECT iotmq.create_group('budgets', 'large', mode => 'orderly', start_from => '-infinity');
SELECT cardinality(iotmq.publish_batch('budgets', array_fill('d'::text, '{5500}'), array_fill('1'::jsonb, '{5500}')));
SELECT count(*) FROM iotmq.consume('budgets', 'large', 10000, '1 ms');
SELECT pg_sleep(0.01);
BEGIN;
SELECT count(*), min(d.attempt), max(d.attempt)
FROM generate_series(1, 60) AS n
CROSS JOIN LATERAL iotmq.consume('budgets', 'large', 9999 + least(n, 1), '1 hour') AS d;
COMMIT;
SELECT inflight_messages, retry_messages FROM iotmq.group_lag WHERE topic = 'budgets';
SELECT iotmq.drop_topic('budgets', force => true);
DROP TABLE budgets_call, budgets_again;
