-- create_group(start_from): a new group gets exactly the messages from there on.
-- Promise: start-is-exact
\set VERBOSITY sqlstate
\set SHOW_CONTEXT never
SET TimeZone = 'UTC';
SET client_min_messages = warning;
SELECT iotmq.create_topic('start', '{a,b}', retention => '100 years', segment_interval => '1 hour');
CREATE FUNCTION start_insert(zone text, published_at timestamptz[], tag text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    zone_table regclass := iotmq.zone_table('start', zone);
BEGIN
    PERFORM iotmq.segment_make_until(z.zone_id, at, at + interval '1 us')
    FROM iotmq_internal.zone AS z, unnest(start_insert.published_at) AS at WHERE z.table_name = zone_table;
    EXECUTE format('INSERT INTO %s (device_id, tag, payload, published_at) SELECT ''d'', $2, to_jsonb(n), at
                    FROM unnest($1) WITH ORDINALITY AS m(at, n)', zone_table) USING published_at, tag;
END
$$;
-- a makes a pause from 12 to 13; b has only two
SELECT start_insert('a', '{2026-01-05 10:10, 2026-01-05 10:20, 2026-01-05 10:20, 2026-01-05 11:00, 2026-01-05 13:30, 2026-01-05 14:30}');
SELECT start_insert('b', '{2026-01-05 10:30, 2026-01-05 13:00}');

-- A group that starts at each of these times, what it gets, and what is new for it.
CREATE FUNCTION start_all(at timestamptz[]) RETURNS TABLE (started timestamptz, mode text, lag bigint, a bigint[], b bigint[]) LANGUAGE plpgsql AS $$
BEGIN
    FOREACH started IN ARRAY at LOOP
        FOREACH mode IN ARRAY '{concurrent,orderly}'::text[] LOOP
            PERFORM iotmq.create_group('start', 'g', mode, start_from => started);
            lag := iotmq.count_lag('start', 'g');
            a := (SELECT array_agg(msg_offset) FROM iotmq.consume('start', 'g', zone => 'a'));
            b := (SELECT array_agg(msg_offset) FROM iotmq.consume('start', 'g', zone => 'b'));
            PERFORM iotmq.drop_group('start', 'g');
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$$;
CREATE TEMPORARY TABLE start_time (at timestamptz[]);
INSERT INTO start_time VALUES ('{-infinity, 4713-01-01 BC, 2026-01-05 10:09:59.999999, 2026-01-05 10:10, 2026-01-05 10:10:00.000001, 2026-01-05 10:20,
    2026-01-05 10:20:00.000001, 2026-01-05 11:00, 2026-01-05 11:00:00.000001, 2026-01-05 12:00, 2026-01-05 12:30, 2026-01-05 13:00,
    2026-01-05 13:30:00.000001, 2026-01-05 14:30, 2026-01-05 14:30:00.000001, 2026-01-05 15:00, 9999-01-01, infinity}');
SELECT s.* FROM start_time, start_all(at) AS s;
-- in sealed segments the same
CREATE TABLE start_before AS SELECT s.* FROM start_time, start_all(at) AS s;
CALL iotmq.run_maintenance();
SELECT count(*) FILTER (WHERE sealed) AS sealed FROM iotmq_internal.segment JOIN iotmq_internal.zone USING (zone_id) JOIN iotmq_internal.topic USING (topic_id) WHERE topic = 'start';
SELECT count(*) AS differ FROM (TABLE start_before EXCEPT SELECT s.* FROM start_time, start_all(at) AS s) AS d;

-- The latest is the default: only what comes afterwards.
SELECT iotmq.create_group('start', 'latest');
SELECT count(*) FROM iotmq.consume('start', 'latest');
SELECT iotmq.publish('start', 'd', '"new"', 'a'), iotmq.publish('start', 'd', '"new"', 'b');
SELECT zone, msg_offset FROM iotmq.consume('start', 'latest', zone => 'a') UNION ALL
SELECT zone, msg_offset FROM iotmq.consume('start', 'latest', zone => 'b');

-- What was rolled back at that time is nobody's, and what the same transaction published is.
BEGIN;
SAVEPOINT s;
SELECT iotmq.publish('start', 'd', '"never"', 'a');
ROLLBACK TO SAVEPOINT s;
SELECT iotmq.create_group('start', 'now', start_from => now());
SELECT iotmq.publish('start', 'd', '"later"', 'a');
COMMIT;
SELECT payload FROM iotmq.consume('start', 'now');
SELECT count(*) FROM iotmq.consume('start', 'now');
BEGIN;
SELECT iotmq.publish('start', 'd', '"own"', 'b');
SELECT iotmq.create_group('start', 'own', start_from => now());
SELECT iotmq.create_group('start', 'own_latest');
SELECT count(*) FROM iotmq.consume('start', 'own');
COMMIT;
SELECT payload FROM iotmq.consume('start', 'own', zone => 'b');
SELECT count(*) FROM iotmq.consume('start', 'own_latest');

-- Together with tags and a filter.
SELECT start_insert('b', '{2026-01-05 16:00, 2026-01-05 16:10}', 'alarm');
SELECT iotmq.create_group('start', 'alarms', start_from => '2026-01-05 16:05', tags => 'alarm', filter => '$ > 1');
SELECT iotmq.count_lag('start', 'alarms');
SELECT zone, payload FROM iotmq.consume('start', 'alarms');

-- Below the earliest it begins there.
CREATE PROCEDURE start_drop(at timestamptz) LANGUAGE plpgsql AS $$ BEGIN CALL iotmq.run_maintenance(at); END $$;
SELECT iotmq.create_topic('start_short', retention => '1 day', segment_interval => '1 hour');
SELECT iotmq.publish('start_short', 'd', '1');
SELECT max(published_at) AS published FROM iotmq_topic.start_short \gset
CALL start_drop(now() + interval '2 days');
SELECT iotmq.publish('start_short', 'd', '2');
SELECT iotmq.create_group('start_short', 'a', start_from => '-infinity');
SELECT iotmq.create_group('start_short', 'b', start_from => :'published');
SELECT consumer_group, earliest_offset, next_offset, lag_messages, expired_unread FROM iotmq.consumer_lag WHERE topic = 'start_short' ORDER BY 1;

-- A zone that is added later is read from its beginning.
SELECT iotmq.add_zone('start', 'c');
SELECT iotmq.publish('start', 'd', '"c"', 'c');
SELECT payload FROM iotmq.consume('start', 'latest', zone => 'c');
SELECT iotmq.create_group('start', 'not', start_from => NULL);

DROP PROCEDURE start_drop;
DROP FUNCTION start_insert, start_all;
DROP TABLE start_time, start_before;
SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'start%') AS mine;
