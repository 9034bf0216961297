-- Nothing starves: zones beside full ones, new messages beside those that come again.
-- Promise: nothing-starves
\set VERBOSITY sqlstate

-- One zone of a hundred is always full; a message in each of the ten behind it comes soon.
SELECT iotmq.create_topic('fair', ARRAY(SELECT 'z' || lpad(n::text, 3, '0') FROM generate_series(1, 100) AS n), segment_interval => '6 hours');
SELECT iotmq.create_group('fair', 'g', start_from => '-infinity');
SELECT cardinality(iotmq.publish_batch('fair', array_fill('d'::text, '{10000}'), array_fill('1'::jsonb, '{10000}'), zone => 'z050'));
SELECT count(iotmq.publish('fair', 'd', '2', zone => 'z0' || n)) FROM generate_series(51, 60) AS n;
CREATE TABLE fair_got (n int, zone text);
DO $$
BEGIN
    FOR n IN 1..1000 LOOP
        INSERT INTO fair_got SELECT n, zone FROM iotmq.consume('fair', 'g', 1);
        COMMIT;
        EXIT WHEN (SELECT count(DISTINCT zone) FROM fair_got) = 11;
    END LOOP;
END
$$;
-- the last one of them has a chance of a half at each call
SELECT count(*) <= 80 AS soon, count(DISTINCT zone) FROM fair_got;
SELECT iotmq.drop_topic('fair', force => true);
TRUNCATE fair_got;

-- As many messages that always fail as a batch has room for, due at once: a new one comes, and the others go on.
SELECT iotmq.create_topic('fair');
SELECT iotmq.create_group('fair', 'g', start_from => '-infinity', max_retries => 1000, backoff => '{0}');
SELECT iotmq.create_group('fair', 'o', start_from => '-infinity', max_retries => 1000, backoff => '{0}', mode => 'orderly');
SELECT cardinality(iotmq.publish_batch('fair', array_agg('bad' || n), array_agg('1'::jsonb))) FROM generate_series(1, 40) AS n;
CREATE FUNCTION fair_fail(consumer_group text, max_messages int, calls int, OUT new int, OUT again int) LANGUAGE plpgsql AS $$
DECLARE
    batch iotmq.delivery[];
BEGIN
    new := 0;
    again := 0;
    FOR i IN 1..calls LOOP
        SELECT array_agg(d) INTO batch FROM iotmq.consume('fair', consumer_group, max_messages) AS d;
        IF batch[1].device_id LIKE 'bad%' THEN
            again := again + 1;
            PERFORM iotmq.nack(batch[1].lease_id);
        ELSIF batch IS NOT NULL THEN
            new := new + 1;
            PERFORM iotmq.ack(batch[1].lease_id);
        END IF;
        EXIT WHEN new > 0 AND again > 4;
    END LOOP;
END
$$;
SELECT again FROM fair_fail('g', 10, 4);
SELECT again FROM fair_fail('o', 10, 4);
SELECT count(iotmq.publish('fair', 'good', '2')) FROM generate_series(1, 10);
SELECT new > 0 AS new, again > 0 AS again FROM fair_fail('g', 10, 200);
SELECT new > 0 AS new, again > 0 AS again FROM fair_fail('o', 10, 200);
SELECT iotmq.drop_topic('fair', force => true);

-- A large lease that expired, each of its messages with one attempt left, alone: new ones come meanwhile.
SELECT iotmq.create_topic('fair');
SELECT iotmq.create_group('fair', 'g', start_from => '-infinity', max_retries => 1);
SELECT cardinality(iotmq.publish_batch('fair', array_fill('bad'::text, '{5000}'), array_fill('1'::jsonb, '{5000}')));
SELECT count(*) FROM iotmq.consume('fair', 'g', 5000, '1 ms');
SELECT pg_sleep(0.01);
SELECT cardinality(iotmq.publish_batch('fair', array_fill('good'::text, '{200}'), array_fill('2'::jsonb, '{200}')));
DO $$
BEGIN
    FOR n IN 1..400 LOOP
        INSERT INTO fair_got SELECT n, device_id FROM iotmq.consume('fair', 'g', 10, '1 hour') LIMIT 1;
        COMMIT;
        EXIT WHEN (SELECT count(*) FROM fair_got WHERE zone = 'good') = 20;
    END LOOP;
END
$$;
SELECT count(*) FILTER (WHERE zone = 'good') AS new, count(*) FILTER (WHERE zone = 'bad') > 0 AS again FROM fair_got;
SELECT iotmq.drop_topic('fair', force => true);
DROP TABLE fair_got;
DROP FUNCTION fair_fail;
