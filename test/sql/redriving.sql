-- A redriven message has one place: the log, a lease, or where messages wait, whatever became of its group since it was given up.
-- Promise: dead-letter-not-lost, no-two-leases, order-per-device, figures-agree
\set VERBOSITY sqlstate
SELECT iotmq.create_topic('redriving', '{a,b}');
-- What the figures say of a group, beside what a recount finds; the last column is 'ok' if they agree.
CREATE FUNCTION redriving_figures(name text) RETURNS TABLE (ready bigint, in_flight bigint, waiting bigint, dead bigint, figures text)
    LANGUAGE plpgsql AS $$
DECLARE
    found record;
BEGIN
    SELECT (SELECT coalesce(sum(l.messages), 0) FROM iotmq.in_flight AS l WHERE l.topic = 'redriving' AND l.consumer_group = name) AS leased,
        count(r) AS waiting
    INTO found
    FROM iotmq_internal.consumer_group AS g
    JOIN iotmq_internal.cursor AS c USING (group_id)
    LEFT JOIN iotmq_internal.redelivery AS r USING (cursor_id)
    WHERE g.consumer_group = name;
    SELECT l.ready_messages, l.inflight_messages, l.retry_messages, l.dead_letters
    INTO ready, in_flight, waiting, dead
    FROM iotmq.group_lag AS l
    WHERE l.topic = 'redriving' AND l.consumer_group = name;
    figures := CASE
        WHEN in_flight <> found.leased THEN 'in flight: ' || found.leased
        WHEN waiting <> found.waiting THEN 'waiting: ' || found.waiting
        WHEN dead <> (SELECT count(*) FROM iotmq.dead_letter AS d WHERE d.topic = 'redriving' AND d.consumer_group = name) THEN 'dead letters'
        WHEN dead <> (SELECT d.dead_letters FROM iotmq.dead_letter_depth AS d WHERE d.topic = 'redriving' AND d.consumer_group = name) THEN 'depth'
        ELSE 'ok' END;
    RETURN NEXT;
END
$$;
-- Consumes and acks until nothing comes; what came, in order.
CREATE FUNCTION redriving_drain(name text, size int DEFAULT 32) RETURNS TABLE (zone text, msg_offset bigint, attempt int)
    LANGUAGE plpgsql AS $$
DECLARE
    batch iotmq.delivery[];
BEGIN
    FOR i IN 1..100 LOOP
        SELECT array_agg(d) INTO batch FROM iotmq.consume('redriving', name, size) AS d;
        EXIT WHEN batch IS NULL;
        RETURN QUERY SELECT d.zone, d.msg_offset, d.attempt FROM unnest(batch) AS d;
        PERFORM iotmq.ack(batch[1].lease_id);
    END LOOP;
END
$$;
-- A group that has given up the messages of these offsets in zone a, and done the others.
CREATE PROCEDURE redriving_group(name text, dead bigint[], mode text DEFAULT 'concurrent', tags text DEFAULT '*')
    LANGUAGE plpgsql AS $$
DECLARE
    lease bigint;
    mine bigint[];
BEGIN
    PERFORM iotmq.create_group('redriving', name, mode, '-infinity', tags, backoff => '{1 h}');
    LOOP
        SELECT min(lease_id), array_agg(msg_offset) FILTER (WHERE zone = 'a' AND msg_offset = ANY (dead))
        INTO lease, mine
        FROM iotmq.consume('redriving', name);
        EXIT WHEN lease IS NULL;
        PERFORM iotmq.reject(lease, coalesce(mine, '{}'), 'bad');
        IF EXISTS (SELECT FROM iotmq.in_flight AS l WHERE l.lease_id = lease) THEN
            PERFORM iotmq.ack(lease);
        END IF;
    END LOOP;
END
$$;
SELECT iotmq.publish('redriving', 'd' || n % 2, to_jsonb(n), 'a', CASE WHEN n = 3 THEN 'odd' ELSE 'even' END) FROM generate_series(1, 6) AS n;

-- Gone back behind it: it comes from the log, in its turn, once; acknowledged it is gone.
CALL redriving_group('replay', '{2,5}');
SELECT new_offset, messages FROM iotmq.seek('redriving', 'replay', '-infinity', 'a');
SELECT iotmq.redrive('redriving', 'replay');
SELECT * FROM redriving_figures('replay');
SELECT * FROM redriving_drain('replay', 3);
SELECT * FROM redriving_figures('replay');
SELECT count(*) FROM iotmq_internal.dead_message;

-- In flight: the lease that has it is the one; redrive gives nobody a second one.
CALL redriving_group('in_flight', '{2}');
SELECT new_offset FROM iotmq.seek_offset('redriving', 'in_flight', 'a', 2);
SELECT min(lease_id) AS lease FROM iotmq.consume('redriving', 'in_flight', 2) \gset
SELECT iotmq.redrive('redriving', 'in_flight');
SELECT * FROM redriving_figures('in_flight');
SELECT msg_offset FROM iotmq.consume('redriving', 'in_flight', 10, consumer => 'B');
-- nacked it comes again, with its dead letter
SELECT iotmq.nack(:lease, '{2}', '0');
SELECT * FROM redriving_figures('in_flight');
SELECT min(lease_id) AS lease, array_agg(msg_offset) AS offsets FROM iotmq.consume('redriving', 'in_flight') \gset
SELECT iotmq.reject(:lease, '{2}', 'worse');
SELECT msg_offset, reason FROM iotmq.dead_letter WHERE consumer_group = 'in_flight';
SELECT * FROM redriving_figures('in_flight');
-- once more, and this time it is done
SELECT new_offset FROM iotmq.seek_offset('redriving', 'in_flight', 'a', 2);
SELECT min(lease_id) AS lease FROM iotmq.consume('redriving', 'in_flight', 1) \gset
SELECT iotmq.redrive('redriving', 'in_flight'), iotmq.ack(:lease);
SELECT count(*) FROM redriving_drain('in_flight');
SELECT * FROM redriving_figures('in_flight');
SELECT count(*) FROM iotmq_internal.dead_message;

-- Settled before in that lease: it is not in flight.
CALL redriving_group('settled', '{2}');
SELECT new_offset FROM iotmq.seek_offset('redriving', 'settled', 'a', 1);
SELECT min(lease_id) AS lease FROM iotmq.consume('redriving', 'settled') \gset
SELECT iotmq.ack(:lease, '{2}'), iotmq.redrive('redriving', 'settled');
SELECT lease_id AS again, msg_offset, attempt FROM iotmq.consume('redriving', 'settled', 1) \gset
\echo :msg_offset :attempt
SELECT iotmq.ack(:lease), iotmq.ack(:again);
SELECT count(*) FROM redriving_drain('settled');
SELECT * FROM redriving_figures('settled');

-- Waiting for a retry: that becomes the redriven one, now, from attempt 1 on.
CALL redriving_group('waiting', '{2}');
SELECT new_offset FROM iotmq.seek_offset('redriving', 'waiting', 'a', 2);
SELECT iotmq.nack(lease_id) FROM iotmq.consume('redriving', 'waiting', 1);
SELECT iotmq.redrive('redriving', 'waiting');
SELECT * FROM redriving_figures('waiting');
SELECT * FROM redriving_drain('waiting');
SELECT * FROM redriving_figures('waiting');
SELECT count(*) FROM iotmq_internal.dead_message;

-- Other tags, in the log and waiting: it is delivered all the same, and no other message.
CALL redriving_group('tags', '{3}', 'concurrent', 'odd');
SELECT iotmq.alter_group('redriving', 'tags', tags => 'neither');
SELECT new_offset, messages FROM iotmq.seek('redriving', 'tags', '-infinity', 'a');
SELECT iotmq.redrive('redriving', 'tags');
SELECT iotmq.count_lag('redriving', 'tags');
SELECT * FROM redriving_drain('tags');
SELECT * FROM redriving_figures('tags');
CALL redriving_group('tags_2', '{3}', 'concurrent', 'odd');
SELECT new_offset FROM iotmq.seek('redriving', 'tags_2', '-infinity', 'a');
SELECT iotmq.redrive('redriving', 'tags_2');
SELECT iotmq.alter_group('redriving', 'tags_2', tags => 'neither', filter => '$ > 100');
SELECT * FROM redriving_drain('tags_2');
SELECT * FROM redriving_figures('tags_2');
SELECT count(*) FROM iotmq_internal.dead_message;

-- A seek, and a reader who commits an offset beyond it: it is a dead letter again, as it was.
CALL redriving_group('forward', '{2,5}');
SELECT id AS first FROM iotmq.dead_letter WHERE consumer_group = 'forward' AND msg_offset = 2 \gset
SELECT new_offset FROM iotmq.seek('redriving', 'forward', '-infinity', 'a');
SELECT iotmq.redrive('redriving', 'forward');
SELECT new_offset FROM iotmq.seek('redriving', 'forward', 'infinity', 'a');
SELECT msg_offset, attempts, reason FROM iotmq.dead_letter WHERE consumer_group = 'forward' ORDER BY msg_offset;
SELECT * FROM redriving_figures('forward');
SELECT iotmq.commit_offset('redriving', 'forward', 'a', 1);
SELECT iotmq.redrive('redriving', 'forward');
SELECT iotmq.commit_offset('redriving', 'forward', 'a', 4);
SELECT id = :first AS same_id, msg_offset, attempts, reason FROM iotmq.dead_letter WHERE consumer_group = 'forward' ORDER BY msg_offset;
SELECT * FROM redriving_figures('forward');
SELECT * FROM redriving_drain('forward');
SELECT * FROM redriving_figures('forward');
SELECT iotmq.redrive('redriving', 'forward');
SELECT * FROM redriving_drain('forward');

-- commit_offset back is a seek: leases and what waits there are void.
CALL redriving_group('back', '{2}');
SELECT iotmq.redrive('redriving', 'back');
SELECT new_offset FROM iotmq.seek_offset('redriving', 'back', 'a', 3);
SELECT iotmq.nack(lease_id, '{3}', '1 h') FROM iotmq.consume('redriving', 'back', 1);
SELECT min(lease_id) AS lease FROM iotmq.consume('redriving', 'back', 2) \gset
SELECT * FROM redriving_figures('back');
SELECT iotmq.commit_offset('redriving', 'back', 'a', 2);
SELECT * FROM redriving_figures('back');
SELECT iotmq.ack(:lease);
SELECT * FROM redriving_drain('back');
SELECT * FROM redriving_figures('back');

-- Orderly: a device that was replayed and redriven goes on, each message once and in order.
CALL redriving_group('orderly', '{1}', 'orderly');
SELECT new_offset FROM iotmq.seek('redriving', 'orderly', '-infinity', 'a');
SELECT iotmq.nack(lease_id, delay => '0') FROM iotmq.consume('redriving', 'orderly', 1);
SELECT iotmq.redrive('redriving', 'orderly');
SELECT * FROM redriving_figures('orderly');
SELECT * FROM redriving_drain('orderly');
SELECT * FROM redriving_figures('orderly');
-- all of a device given up, its later ones behind the first
CALL redriving_group('orderly_2', '{1,3,5}', 'orderly');
SELECT new_offset FROM iotmq.seek('redriving', 'orderly_2', '-infinity', 'a');
SELECT min(lease_id) AS lease FROM iotmq.consume('redriving', 'orderly_2', 1) \gset
SELECT msg_offset FROM iotmq.consume('redriving', 'orderly_2', 1);
-- 3 is put aside behind 1
SELECT count(*) FROM iotmq.consume('redriving', 'orderly_2', 1);
SELECT iotmq.redrive('redriving', 'orderly_2');
SELECT * FROM redriving_figures('orderly_2');
SELECT iotmq.ack(:lease), iotmq.nack(lease_id, delay => '0') FROM iotmq.in_flight WHERE consumer_group = 'orderly_2' AND lease_id <> :lease;
SELECT * FROM redriving_drain('orderly_2');
SELECT * FROM redriving_figures('orderly_2');
-- put aside behind one in flight, when tags and filter change: what was redriven comes, the others don't
CALL redriving_group('orderly_4', '{3}', 'orderly');
SELECT new_offset FROM iotmq.seek('redriving', 'orderly_4', '-infinity', 'a');
SELECT min(lease_id) AS lease FROM iotmq.consume('redriving', 'orderly_4', 1) \gset
SELECT iotmq.ack(min(lease_id)) FROM iotmq.consume('redriving', 'orderly_4', 10);
SELECT iotmq.redrive('redriving', 'orderly_4');
SELECT iotmq.alter_group('redriving', 'orderly_4', tags => 'neither');
SELECT iotmq.ack(:lease);
SELECT * FROM redriving_drain('orderly_4');
SELECT * FROM redriving_figures('orderly_4');
-- and by commit_offset back, while a retry waits
CALL redriving_group('orderly_3', '{1}', 'orderly');
SELECT new_offset FROM iotmq.seek_offset('redriving', 'orderly_3', 'a', 3);
SELECT iotmq.nack(lease_id, delay => '0') FROM iotmq.consume('redriving', 'orderly_3', 1);
SELECT iotmq.commit_offset('redriving', 'orderly_3', 'a', 1);
SELECT iotmq.redrive('redriving', 'orderly_3');
SELECT * FROM redriving_drain('orderly_3');
SELECT * FROM redriving_figures('orderly_3');
SELECT count(*) FROM iotmq_internal.dead_message;

-- Retention drops it while the group has not come to it: it is kept, and comes.
SELECT iotmq.create_topic('redriving_old', retention => '1 h', segment_interval => '1 min');
SELECT iotmq.create_group('redriving_old', 'g', start_from => '-infinity');
SELECT iotmq.publish('redriving_old', 'd', to_jsonb(n)) FROM generate_series(1, 3) AS n;
SELECT iotmq.reject(min(lease_id), '{2,3}', 'bad') FROM iotmq.consume('redriving_old', 'g');
SELECT new_offset FROM iotmq.seek('redriving_old', 'g', '-infinity');
SELECT iotmq.redrive('redriving_old', 'g', max_messages => 1);
SET client_min_messages = warning;
CALL iotmq.run_maintenance(now() + interval '3 hours');
RESET client_min_messages;
SELECT count(*) FROM iotmq_topic.redriving_old;
SELECT ready_messages, retry_messages, dead_letters, expired_unread, iotmq.count_lag(topic, consumer_group) FROM iotmq.group_lag WHERE topic = 'redriving_old';
-- the other one is redriven when it is gone
SELECT iotmq.redrive('redriving_old', 'g');
SELECT iotmq.publish('redriving_old', 'd', '4');
SELECT array_agg(d.payload ORDER BY d.msg_offset) AS payloads, sum(iotmq.ack(d.lease_id, ARRAY[d.msg_offset])) AS acked FROM iotmq.consume('redriving_old', 'g') AS d;
SELECT ready_messages, inflight_messages, retry_messages, dead_letters, expired_unread FROM iotmq.group_lag WHERE topic = 'redriving_old';
SELECT count(*) FROM iotmq_internal.dead_message;

-- So many that claims give them their places: the figures count them at once, and each comes once.
SELECT iotmq.create_topic('redriving_many');
SELECT iotmq.create_group('redriving_many', 'g', start_from => '-infinity');
SELECT iotmq.create_group('redriving_many', 'orderly', 'orderly', start_from => '-infinity');
SELECT count(*) FROM unnest(iotmq.publish_batch('redriving_many', (SELECT array_agg('d' || n % 7) FROM generate_series(1, 1200) AS n), (SELECT array_agg(to_jsonb(n)) FROM generate_series(1, 1200) AS n)));
SELECT iotmq.reject(min(lease_id)) FROM iotmq.consume('redriving_many', 'g', 10000);
SELECT iotmq.reject(min(lease_id)) FROM iotmq.consume('redriving_many', 'orderly', 10000);
SELECT iotmq.redrive('redriving_many', 'g'), iotmq.redrive('redriving_many', 'orderly');
SELECT count(*) BETWEEN 2 AND 2399 AS in_portions FROM iotmq_internal.redelivery;
CREATE VIEW redriving_many_lag AS
SELECT consumer_group, ready_messages, inflight_messages, retry_messages, dead_letters, iotmq.count_lag(topic, consumer_group)
FROM iotmq.group_lag
WHERE topic = 'redriving_many'
ORDER BY consumer_group;
SELECT * FROM redriving_many_lag;
-- some have no place yet when the group is moved
SELECT iotmq.seek('redriving_many', 'g', 'infinity');
SELECT * FROM redriving_many_lag;
SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'redriving_many';
SELECT iotmq.redrive('redriving_many', 'g');
CREATE TABLE redriving_seen (n int, consumer_group text, device_id text, msg_offset bigint, attempt int);
DO $$
DECLARE
    name text;
    batch iotmq.delivery[];
BEGIN
    FOREACH name IN ARRAY '{g,orderly}'::text[] LOOP
        FOR i IN 1..100 LOOP
            -- g: more than a portion at once
            SELECT array_agg(d) INTO batch FROM iotmq.consume('redriving_many', name, CASE WHEN name = 'g' THEN 10000 ELSE 100 END) AS d;
            EXIT WHEN batch IS NULL;
            INSERT INTO redriving_seen SELECT i, name, d.device_id, d.msg_offset, d.attempt FROM unnest(batch) AS d;
            PERFORM iotmq.ack(batch[1].lease_id);
        END LOOP;
    END LOOP;
END
$$;
SELECT consumer_group, count(*), count(DISTINCT msg_offset), max(attempt) FROM redriving_seen GROUP BY consumer_group ORDER BY consumer_group;
SELECT bool_and(msg_offset > before) AS in_order
FROM (SELECT msg_offset, lag(msg_offset, 1, 0::bigint) OVER (PARTITION BY device_id ORDER BY n, msg_offset) AS before FROM redriving_seen WHERE consumer_group = 'orderly') AS s;
SELECT * FROM redriving_many_lag;
-- from the log, in a lease that is larger than a portion
SELECT iotmq.seek('redriving_many', 'g', '-infinity');
SELECT iotmq.reject(min(lease_id)) FROM iotmq.consume('redriving_many', 'g', 10000);
SELECT iotmq.seek('redriving_many', 'g', '-infinity');
SELECT iotmq.redrive('redriving_many', 'g');
SELECT iotmq.ack(min(lease_id)) FROM iotmq.consume('redriving_many', 'g', 10000);
SELECT count(*) FROM iotmq.consume('redriving_many', 'g');
SELECT * FROM redriving_many_lag;
SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'redriving_many';
DROP VIEW redriving_many_lag;
DROP TABLE redriving_seen;

-- In transactions above READ COMMITTED.
CALL redriving_group('repeatable', '{1,2,3}');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT iotmq.redrive('redriving', 'repeatable', max_messages => 1), iotmq.purge_dead_letters('redriving', 'repeatable', (SELECT array_agg(id) FROM iotmq.dead_letter WHERE consumer_group = 'repeatable' AND msg_offset = 2));
COMMIT;
SELECT * FROM redriving_figures('repeatable');
SELECT iotmq.purge_dead_letters('redriving', 'repeatable');
SELECT * FROM redriving_drain('repeatable');

SELECT iotmq.drop_topic('redriving', force => true), iotmq.drop_topic('redriving_old', force => true), iotmq.drop_topic('redriving_many', force => true);
DROP FUNCTION redriving_figures, redriving_drain;
DROP PROCEDURE redriving_group;
