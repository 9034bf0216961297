-- seek and seek_offset: back and forward, to times and offsets, with what is in flight.
-- Promise: seek-is-transactional
\set VERBOSITY sqlstate
\set SHOW_CONTEXT never
SET TimeZone = 'UTC';

-- A log of the past: segments of an hour, none of the messages in the hour of 12, and two publishers that met at 14:00.
SELECT iotmq.create_topic('seeking', '{a,b}', retention => '100 years', segment_interval => '1 hour');
SELECT count(iotmq.segment_make_until(zone_id, '2026-01-05 10:00', '2026-01-05 15:00')) AS zones
FROM iotmq_internal.zone JOIN iotmq_internal.topic USING (topic_id) WHERE topic = 'seeking';
CREATE FUNCTION seeking_insert(topic text, zone text, published_at timestamptz[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO %s (device_id, payload, published_at) SELECT ''d'' || n %% 2, to_jsonb(n), at
                    FROM unnest($1) WITH ORDINALITY AS m(at, n)', iotmq.zone_table(topic, zone)) USING published_at;
END
$$;
SELECT iotmq.create_group('seeking', 'g', start_from => '-infinity');
SELECT seeking_insert('seeking', 'a', '{2026-01-05 10:10, 2026-01-05 10:20, 2026-01-05 10:20, 2026-01-05 10:20,
    2026-01-05 10:20:00.000001, 2026-01-05 11:00, 2026-01-05 13:00:00.5, 2026-01-05 13:30,
    2026-01-05 14:00, 2026-01-05 13:59:59.9, 2026-01-05 14:30}');
SELECT seeking_insert('seeking', 'b', '{2026-01-05 10:30, 2026-01-05 13:00}');
SELECT msg_offset, published_at FROM iotmq_topic.seeking WHERE zone = 'a' ORDER BY msg_offset;

-- Where a time leads to: the smallest offset with nothing of that time or later below it. A dry run says so and changes nothing.
CREATE TABLE seeking_time (n int GENERATED ALWAYS AS IDENTITY, at timestamptz, what text);
INSERT INTO seeking_time (at, what) VALUES
    ('-infinity', 'the earliest'),
    ('4713-01-01 BC', 'long before'),
    ('2026-01-05 10:09:59.999999', 'before the first'),
    ('2026-01-05 10:10', 'of the first'),
    ('2026-01-05 10:10:00.000001', 'between two'),
    ('2026-01-05 10:20', 'of three'),
    ('2026-01-05 10:20:00.000001', 'a microsecond later'),
    ('2026-01-05 10:20:00.000002', 'and another, in the same segment nothing is left'),
    ('2026-01-05 11:00', 'at a boundary, of a message'),
    ('2026-01-05 11:00:00.000001', 'after the only one of its segment'),
    ('2026-01-05 12:00', 'at the beginning of the gap'),
    ('2026-01-05 12:30', 'in the gap'),
    ('2026-01-05 13:00', 'at the end of the gap'),
    ('2026-01-05 13:45', 'before two that are in disorder'),
    ('2026-01-05 13:59:59.9', 'of the older one, which has the higher offset'),
    ('2026-01-05 14:00', 'of the newer one'),
    ('2026-01-05 14:00:00.000001', 'after both'),
    ('2026-01-05 14:30', 'of the last'),
    ('2026-01-05 14:30:00.000001', 'after the last, in its segment'),
    ('2026-01-05 15:00', 'where no segment is'),
    (clock_timestamp() + interval '1 minute', 'in the future, where a segment is'),
    ('9999-01-01', 'long after'),
    ('infinity', 'the end');
SELECT t.what, s.zone, s.old_offset, s.new_offset, s.messages
FROM seeking_time AS t, iotmq.seek('seeking', 'g', t.at, 'a', dry_run => true) AS s ORDER BY t.n;
SELECT zone, next_offset, lag_messages FROM iotmq.consumer_lag WHERE topic = 'seeking' ORDER BY zone;

-- The same when the segments are sealed.
CREATE TABLE seeking_before AS
SELECT t.n, s.* FROM seeking_time AS t, iotmq.seek('seeking', 'g', t.at, dry_run => true) AS s;
SET client_min_messages = warning;
CALL iotmq.run_maintenance();
RESET client_min_messages;
SELECT z.zone, s.from_time, s.sealed, s.first_offset, s.last_offset
FROM iotmq_internal.segment AS s JOIN iotmq_internal.zone AS z USING (zone_id) JOIN iotmq_internal.topic AS t USING (topic_id)
WHERE t.topic = 'seeking' AND s.from_time < '2026-02-01' ORDER BY z.zone, s.from_time;
SELECT count(*) AS zones_and_times, count(*) FILTER (WHERE (b.*) IS DISTINCT FROM (t.n, s.zone, s.old_offset, s.new_offset, s.messages)) AS differ
FROM seeking_time AS t CROSS JOIN iotmq.seek('seeking', 'g', t.at, dry_run => true) AS s
FULL JOIN seeking_before AS b USING (n, zone);

-- The same really, and what comes then.
CREATE FUNCTION seeking_walk() RETURNS TABLE (what text, old_offset bigint, new_offset bigint, messages bigint, delivered bigint[]) LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz;
BEGIN
    FOR at, what IN SELECT t.at, t.what FROM seeking_time AS t ORDER BY t.n LOOP
        SELECT s.old_offset, s.new_offset, s.messages INTO old_offset, new_offset, messages FROM iotmq.seek('seeking', 'g', at, 'a') AS s;
        delivered := (SELECT array_agg(c.msg_offset) FROM iotmq.consume('seeking', 'g', zone => 'a') AS c);
        RETURN NEXT;
    END LOOP;
END
$$;
SELECT * FROM seeking_walk();

-- All zones in one call, by their name; what comes after everything was read is new.
SELECT * FROM iotmq.seek('seeking', 'g', '2026-01-05 13:00');
SELECT zone, msg_offset FROM iotmq.consume('seeking', 'g', zone => 'a');
SELECT zone, msg_offset FROM iotmq.consume('seeking', 'g', zone => 'b');
SELECT * FROM iotmq.seek('seeking', 'g', 'infinity');
SELECT zone, lag_messages, inflight_messages FROM iotmq.consumer_lag WHERE topic = 'seeking' ORDER BY zone;
SELECT iotmq.publish('seeking', 'd', '"new"', 'b');
SELECT zone, msg_offset FROM iotmq.consume('seeking', 'g');
SELECT count(*) FROM iotmq.consume('seeking', 'g');

-- A batch has one time, so a seek to it begins with its first message.
SELECT iotmq.create_topic('seeking_now');
SELECT iotmq.create_group('seeking_now', 'g');
SELECT iotmq.publish('seeking_now', 'd', '0');
SELECT iotmq.publish_batch('seeking_now', array_fill('d'::text, '{100}'), array_fill('1'::jsonb, '{100}')) IS NOT NULL AS published;
SELECT count(DISTINCT published_at) AS times, min(published_at) AS batch_time FROM iotmq_topic.seeking_now WHERE msg_offset > 1 \gset
\echo :times
SELECT * FROM iotmq.seek('seeking_now', 'g', :'batch_time', dry_run => true);
SELECT * FROM iotmq.seek('seeking_now', 'g', :'batch_time'::timestamptz + interval '1 us', dry_run => true);

-- Offsets: the same, clamped to what is there.
SELECT w.to_offset, s.zone, s.old_offset, s.new_offset, s.messages
FROM (VALUES (1::bigint), (0), (-5), (-9223372036854775808), (50), (101), (102), (103), (9223372036854775807)) AS w(to_offset),
    iotmq.seek_offset('seeking_now', 'g', 'default', w.to_offset) AS s;
SELECT * FROM iotmq.seek_offset('seeking_now', 'g', 'default', 101);
SELECT msg_offset, attempt FROM iotmq.consume('seeking_now', 'g');
SELECT * FROM iotmq.seek_offset('seeking', 'g', 'b', 2, dry_run => true);
-- Not into what retention dropped.
UPDATE iotmq_internal.zone SET earliest_offset = 40 FROM iotmq_internal.topic WHERE topic.topic_id = zone.topic_id AND topic = 'seeking_now';
SELECT * FROM iotmq.seek_offset('seeking_now', 'g', 'default', 1, dry_run => true);
SELECT * FROM iotmq.seek('seeking_now', 'g', '-infinity', dry_run => true);
UPDATE iotmq_internal.zone SET earliest_offset = 1 FROM iotmq_internal.topic WHERE topic.topic_id = zone.topic_id AND topic = 'seeking_now';

-- messages counts what the group wants: tags and filter applied, holes not.
SELECT iotmq.create_topic('seeking_tags');
SELECT count(iotmq.publish('seeking_tags', 'd', to_jsonb(n), tag => CASE n % 3 WHEN 0 THEN 'alarm' ELSE 'temperature' END))
FROM generate_series(1, 30) AS n;
BEGIN;
SELECT count(iotmq.publish('seeking_tags', 'd', '0', tag => 'alarm')) FROM generate_series(1, 10);
ROLLBACK;
SELECT iotmq.publish('seeking_tags', 'd', '31', tag => 'alarm');
SELECT iotmq.create_group('seeking_tags', 'alarms', tags => 'alarm', filter => '$ > 10', start_from => '-infinity');
SELECT * FROM iotmq.seek('seeking_tags', 'alarms', 'infinity');
SELECT * FROM iotmq.seek('seeking_tags', 'alarms', '-infinity');
SELECT array_agg(payload) FROM iotmq.consume('seeking_tags', 'alarms');

-- Reset back while ten are in flight: all are delivered again, as for the first time; acks from before have no effect.
SELECT iotmq.create_topic('seeking_flight');
SELECT iotmq.create_group('seeking_flight', 'g', backoff => '{1 h}');
SELECT iotmq.create_group('seeking_flight', 'other');
SELECT count(iotmq.publish('seeking_flight', 'd' || n % 4, to_jsonb(n))) FROM generate_series(1, 20) AS n;
SELECT DISTINCT lease_id AS other FROM iotmq.consume('seeking_flight', 'other', 20) \gset
SELECT DISTINCT lease_id AS first FROM iotmq.consume('seeking_flight', 'g', 5) \gset
SELECT DISTINCT lease_id AS second FROM iotmq.consume('seeking_flight', 'g', 5) \gset
SELECT iotmq.ack(:first, '{1}');
SELECT iotmq.nack(:second, '{6}');
SELECT iotmq.ack(:second, '{7}');
SELECT next_offset, ready_messages, inflight_messages, retry_messages FROM iotmq.consumer_lag WHERE topic = 'seeking_flight' AND consumer_group = 'g';
BEGIN;
SELECT * FROM iotmq.seek('seeking_flight', 'g', '-infinity');
SELECT msg_offset, attempt FROM iotmq.consume('seeking_flight', 'g', 2);
SELECT next_offset, ready_messages, inflight_messages, retry_messages FROM iotmq.consumer_lag WHERE topic = 'seeking_flight' AND consumer_group = 'g';
ROLLBACK;
-- rolled back: nothing changed
SELECT next_offset, ready_messages, inflight_messages, retry_messages FROM iotmq.consumer_lag WHERE topic = 'seeking_flight' AND consumer_group = 'g';
SELECT iotmq.ack(:first, '{2}');
SELECT * FROM iotmq.seek('seeking_flight', 'g', '-infinity', dry_run => true);
SELECT iotmq.ack(:first, '{3}');
SELECT * FROM iotmq.seek('seeking_flight', 'g', '-infinity');
SELECT next_offset, ready_messages, inflight_messages, retry_messages, iotmq.count_lag(topic, consumer_group)
FROM iotmq.consumer_lag WHERE topic = 'seeking_flight' AND consumer_group = 'g';
SELECT count(*) FROM iotmq.in_flight WHERE topic = 'seeking_flight' AND consumer_group = 'g';
SELECT iotmq.ack(:first);
SELECT iotmq.ack(:first, '{4}');
SELECT iotmq.nack(:second);
SELECT iotmq.reject(:second);
SELECT iotmq.extend(:second, '1 h');
SELECT lease_id NOT IN (:first, :second) AS new_lease, msg_offset, attempt FROM iotmq.consume('seeking_flight', 'g', 12);
SELECT iotmq.ack(:first);
SELECT next_offset, ready_messages, inflight_messages, retry_messages FROM iotmq.consumer_lag WHERE topic = 'seeking_flight' AND consumer_group = 'g';
SELECT count(*) AS dead_letters FROM iotmq.dead_letter WHERE topic = 'seeking_flight';
-- the other group noticed nothing
SELECT iotmq.ack(:other);

-- Forward skips, what is in flight or waits for its retry as well.
SELECT lease_id AS lease, msg_offset FROM iotmq.consume('seeking_flight', 'g', 1) \gset
SELECT iotmq.nack(:lease);
SELECT * FROM iotmq.seek_offset('seeking_flight', 'g', 'default', 17);
SELECT array_agg(msg_offset) FROM iotmq.consume('seeking_flight', 'g');
SELECT * FROM iotmq.seek('seeking_flight', 'g', 'infinity');
SELECT next_offset, lag_messages FROM iotmq.consumer_lag WHERE topic = 'seeking_flight' AND consumer_group = 'g';
SELECT count(*) FROM iotmq.consume('seeking_flight', 'g');

-- Twice in a running loop: every message from the target on comes again each time, once.
CREATE TABLE seeking_got (round int, msg_offset bigint);
CREATE FUNCTION seeking_loop(topic text, round int, batches int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    batch iotmq.delivery[];
BEGIN
    FOR i IN 1..batches LOOP
        batch := (SELECT array_agg(d) FROM iotmq.consume(seeking_loop.topic, 'g', 3) AS d);
        EXIT WHEN batch IS NULL;
        INSERT INTO seeking_got SELECT round, m.msg_offset FROM unnest(batch) AS m;
        -- every other lease is left open
        IF i % 2 = 1 THEN
            PERFORM iotmq.ack(batch[1].lease_id);
        END IF;
    END LOOP;
END
$$;
SELECT * FROM iotmq.seek('seeking_flight', 'g', '-infinity');
SELECT seeking_loop('seeking_flight', 1, 4);
SELECT * FROM iotmq.seek_offset('seeking_flight', 'g', 'default', 3);
SELECT seeking_loop('seeking_flight', 2, 2);
SELECT * FROM iotmq.seek_offset('seeking_flight', 'g', 'default', 3);
SELECT * FROM iotmq.seek_offset('seeking_flight', 'g', 'default', 2);
SELECT seeking_loop('seeking_flight', 3, 100);
SELECT round, array_agg(msg_offset ORDER BY msg_offset) FROM seeking_got GROUP BY round ORDER BY round;

-- An orderly group: the same. Devices that were blocked are free, and each one's order holds.
SELECT iotmq.create_topic('seeking_orderly');
SELECT iotmq.create_group('seeking_orderly', 'g', 'orderly', backoff => '{1 h}');
SELECT count(iotmq.publish('seeking_orderly', 'd' || n % 3, to_jsonb(n))) FROM generate_series(1, 12) AS n;
SELECT DISTINCT lease_id AS first FROM iotmq.consume('seeking_orderly', 'g', 2) \gset
SELECT array_agg(msg_offset) AS offsets, array_agg(DISTINCT device_id) AS devices, min(lease_id) AS second
FROM iotmq.consume('seeking_orderly', 'g', 2) \gset
\echo :offsets :devices
SELECT iotmq.nack(:first, '{1}');
SELECT ready_messages, inflight_messages, retry_messages, blocked_devices FROM iotmq.consumer_lag WHERE topic = 'seeking_orderly';
BEGIN;
SELECT * FROM iotmq.seek('seeking_orderly', 'g', 'infinity');
ROLLBACK;
SELECT ready_messages, inflight_messages, retry_messages, blocked_devices FROM iotmq.consumer_lag WHERE topic = 'seeking_orderly';
SELECT new_offset FROM iotmq.seek('seeking_orderly', 'g', '-infinity');
SELECT ready_messages, inflight_messages, retry_messages, blocked_devices FROM iotmq.consumer_lag WHERE topic = 'seeking_orderly';
SELECT iotmq.ack(:first);
SELECT iotmq.ack(:second);
SELECT msg_offset, device_id, attempt FROM iotmq.consume('seeking_orderly', 'g', 3) ORDER BY msg_offset;
-- all devices are in flight: no more until they are back, and after a reset at once
SELECT count(*) FROM iotmq.consume('seeking_orderly', 'g');
SELECT ready_messages, inflight_messages, retry_messages FROM iotmq.consumer_lag WHERE topic = 'seeking_orderly';
SELECT * FROM iotmq.seek_offset('seeking_orderly', 'g', 'default', 6);
SELECT array_agg(msg_offset) FROM iotmq.consume('seeking_orderly', 'g');
SELECT * FROM iotmq.seek_offset('seeking_orderly', 'g', 'default', 6);
TRUNCATE seeking_got;
SELECT iotmq.seek('seeking_orderly', 'g', '-infinity') IS NOT NULL AS sought;
SELECT seeking_loop('seeking_orderly', 1, 1);
SELECT iotmq.seek('seeking_orderly', 'g', '-infinity') IS NOT NULL AS sought;
SELECT seeking_loop('seeking_orderly', 2, 1);
SELECT round, array_agg(msg_offset ORDER BY msg_offset) FROM seeking_got GROUP BY round ORDER BY round;

-- What was redriven and waits is a dead letter again.
SELECT iotmq.create_topic('seeking_dead');
SELECT iotmq.create_group('seeking_dead', 'g', max_retries => 0);
SELECT iotmq.publish('seeking_dead', 'd', '1');
SELECT iotmq.reject(lease_id) FROM iotmq.consume('seeking_dead', 'g');
SELECT iotmq.redrive('seeking_dead', 'g');
SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'seeking_dead';
SELECT * FROM iotmq.seek('seeking_dead', 'g', 'infinity');
SELECT msg_offset, payload, attempts FROM iotmq.dead_letter WHERE topic = 'seeking_dead';
SELECT count(*) FROM iotmq.consume('seeking_dead', 'g');
SELECT iotmq.redrive('seeking_dead', 'g');
SELECT msg_offset, payload, attempt FROM iotmq.consume('seeking_dead', 'g');
-- a lease with a redriven one as well
SELECT * FROM iotmq.seek('seeking_dead', 'g', 'infinity');
SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'seeking_dead';

-- In transactions: a savepoint, and the other isolation levels.
BEGIN;
SELECT new_offset, messages FROM iotmq.seek('seeking_now', 'g', '-infinity');
SAVEPOINT s;
SELECT new_offset, messages FROM iotmq.seek('seeking_now', 'g', 'infinity');
ROLLBACK TO SAVEPOINT s;
COMMIT;
SELECT next_offset, ready_messages, inflight_messages FROM iotmq.consumer_lag WHERE topic = 'seeking_now';
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM iotmq.seek_offset('seeking_now', 'g', 'default', 42);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM iotmq.seek_offset('seeking_now', 'g', 'default', 52);
COMMIT;
SELECT next_offset FROM iotmq.consumer_lag WHERE topic = 'seeking_now';

-- One's own open publish lies at the end: a seek to its time leads to it, not past it.
BEGIN;
SELECT iotmq.publish('seeking_now', 'd', '"own"');
SELECT s.new_offset FROM iotmq_topic.seeking_now AS m, iotmq.seek('seeking_now', 'g', m.published_at) AS s WHERE m.payload = '"own"';
COMMIT;
SELECT msg_offset, payload FROM iotmq.consume('seeking_now', 'g');

-- A topic that never had a message; a zone that was added later.
SELECT iotmq.create_topic('seeking_empty');
SELECT iotmq.create_group('seeking_empty', 'g');
SELECT s.* FROM (VALUES ('-infinity'::timestamptz), (now()), ('infinity')) AS w(at), iotmq.seek('seeking_empty', 'g', w.at) AS s;
SELECT * FROM iotmq.seek_offset('seeking_empty', 'g', 'default', 7);
SELECT iotmq.add_zone('seeking_empty', 'second');
SELECT * FROM iotmq.seek('seeking_empty', 'g', '-infinity');

-- Mistakes.
SELECT * FROM iotmq.seek('nothing', 'g', now());
SELECT * FROM iotmq.seek('seeking', 'nobody', now());
SELECT * FROM iotmq.seek('seeking', 'g', now(), 'nowhere');
SELECT * FROM iotmq.seek(NULL, 'g', now());
SELECT * FROM iotmq.seek('seeking', NULL, now());
SELECT * FROM iotmq.seek('seeking', 'g', NULL);
SELECT * FROM iotmq.seek('seeking', 'g', now(), dry_run => NULL);
SELECT * FROM iotmq.seek_offset('nothing', 'g', 'a', 1);
SELECT * FROM iotmq.seek_offset('seeking', 'nobody', 'a', 1);
SELECT * FROM iotmq.seek_offset('seeking', 'g', 'nowhere', 1);
SELECT * FROM iotmq.seek_offset('seeking', 'g', NULL, 1);
SELECT * FROM iotmq.seek_offset('seeking', 'g', 'a', NULL);
SELECT * FROM iotmq.seek_offset('seeking', 'g', 'a', 1, NULL);

DROP FUNCTION seeking_insert, seeking_walk, seeking_loop;
DROP TABLE seeking_time, seeking_before, seeking_got;
SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'seeking%') AS mine;
