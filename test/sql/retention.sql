-- Retention: which segments go and when, what becomes of the groups that had not read them, and strange times.
-- Messages are put into the past, and run_maintenance is told what the time is. Leases are long, as they expire by that time, too.
-- Promise: loss-is-counted
\set VERBOSITY sqlstate
\set SHOW_CONTEXT never
SET TimeZone = 'UTC';
SET client_min_messages = warning;
SELECT date_trunc('hour', now()) AS hour \gset
-- a time after the first segment of this test begins: six hours before the present one
CREATE FUNCTION retention_at(after interval) RETURNS timestamptz LANGUAGE sql RETURN :'hour'::timestamptz - interval '6 hours' + after;
CREATE FUNCTION retention_insert(topic text, published_at timestamptz[], tag text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    zone_table regclass := iotmq.zone_table(topic, 'default');
BEGIN
    PERFORM iotmq.segment_make_until(z.zone_id, at, at + interval '1 us')
    FROM iotmq_internal.zone AS z, unnest(retention_insert.published_at) AS at WHERE z.table_name = zone_table;
    EXECUTE format('INSERT INTO %s (device_id, tag, payload, published_at) SELECT ''d'', $2, to_jsonb(n), at
                    FROM unnest($1) WITH ORDINALITY AS m(at, n)', zone_table) USING published_at, tag;
END
$$;
CREATE VIEW retention_segment AS
SELECT t.topic, s.from_time, s.first_offset, s.last_offset,
    (SELECT count(*) FROM pg_inherits WHERE inhrelid = s.table_name) AS attached
FROM iotmq_internal.segment AS s JOIN iotmq_internal.zone AS z USING (zone_id) JOIN iotmq_internal.topic AS t USING (topic_id)
WHERE s.to_time <= now() AND t.topic LIKE 'retention%';
CREATE VIEW retention_group AS
SELECT topic, consumer_group AS grp, earliest_offset AS earliest, next_offset AS next, ready_messages AS ready,
    inflight_messages AS inflight, retry_messages AS retry, dead_letters AS dead, expired_unread, iotmq.count_lag(topic, consumer_group)
FROM iotmq.consumer_lag WHERE topic LIKE 'retention%';
-- What comes again, before what is new: which goes first is not promised.
CREATE FUNCTION retention_due(topic text, grp text, max_messages int) RETURNS SETOF iotmq.delivery LANGUAGE plpgsql AS $$
DECLARE
    next bigint := (SELECT g.next FROM retention_group AS g WHERE g.topic = retention_due.topic AND g.grp = retention_due.grp);
    batch iotmq.delivery[];
BEGIN
    LOOP
        BEGIN
            SELECT array_agg(d) INTO batch FROM iotmq.consume(topic, grp, max_messages) AS d;
            EXIT WHEN batch IS NULL OR batch[1].msg_offset < next;
            RAISE EXCEPTION 'new' USING ERRCODE = 'TX001';
        EXCEPTION WHEN SQLSTATE 'TX001' THEN
            NULL;
        END;
    END LOOP;
    RETURN QUERY SELECT * FROM unnest(batch);
END
$$;
CREATE VIEW retention_run AS
SELECT segments_dropped AS dropped, leases_taken_over AS taken_over, skipped, started_at <= finished_at AS in_order
FROM iotmq.maintenance_run ORDER BY run_id DESC LIMIT 1;

-- Policy 'time': segments of an hour, kept for twelve.
SELECT iotmq.create_topic('retention', retention => '12 hours', segment_interval => '1 hour');
SELECT iotmq.create_group('retention', 'slow', start_from => '-infinity', invisible_for => '30 days');
SELECT iotmq.create_group('retention', 'fast', start_from => '-infinity', invisible_for => '30 days');
SELECT iotmq.create_group('retention', 'half', start_from => '-infinity', backoff => '{1 h}', invisible_for => '30 days');
SELECT iotmq.create_group('retention', 'alarms', start_from => '-infinity', tags => 'alarm', invisible_for => '30 days');
SELECT iotmq.create_group('retention', 'orderly', 'orderly', start_from => '-infinity', invisible_for => '30 days');
SELECT iotmq.create_group('retention', 'buried', start_from => '-infinity', max_retries => 0, invisible_for => '30 days');
SELECT retention_insert('retention', ARRAY[retention_at('10 min'), retention_at('20 min')]);
SELECT retention_insert('retention', ARRAY[retention_at('30 min')], 'alarm');
SELECT retention_insert('retention', ARRAY[retention_at('1:10'), retention_at('1:20'), retention_at('1:30')]);
SELECT retention_insert('retention', ARRAY[retention_at('3:10')], 'alarm');
SELECT retention_insert('retention', ARRAY[retention_at('3:20'), retention_at('3:30')]);
SELECT iotmq.publish('retention', 'd', '10');

-- fast has all; half has 1 and 6 done, 2 and 4 in flight, 3 and 5 waiting
SELECT iotmq.ack(lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('retention', 'fast')) AS l;
SELECT DISTINCT lease_id AS a FROM iotmq.consume('retention', 'half', 2) \gset
SELECT iotmq.ack(:a, '{1}');
SELECT DISTINCT lease_id AS b FROM iotmq.consume('retention', 'half', 4) \gset
SELECT iotmq.nack(:b, '{3,5}'), iotmq.ack(:b, '{6}');
-- orderly has 1 in flight, and all the rest waits behind it
SELECT lease_id AS o FROM iotmq.consume('retention', 'orderly', 1) \gset
SELECT count(*) FROM iotmq.consume('retention', 'orderly');
-- buried has 1 dead, 2 redriven and in flight, 3 redriven and waiting
SELECT lease_id AS r FROM iotmq.consume('retention', 'buried', 1) \gset
SELECT iotmq.reject(:r);
SELECT DISTINCT lease_id AS r FROM iotmq.consume('retention', 'buried', 2) \gset
SELECT iotmq.reject(:r);
SELECT iotmq.redrive('retention', 'buried', array_agg(id)) FROM iotmq.dead_letter WHERE topic = 'retention' AND msg_offset IN (2, 3);
SELECT lease_id AS r, msg_offset FROM retention_due('retention', 'buried', 1) \gset
\echo :msg_offset
SELECT * FROM retention_group ORDER BY topic, grp COLLATE "C";

-- How long until something is lost.
SELECT consumer_group, statement_timestamp() + time_to_loss - retention_at('0') AS lost_at
FROM iotmq.consumer_lag WHERE topic = 'retention' AND consumer_group <> 'buried' ORDER BY consumer_group COLLATE "C";

-- Not yet: the newest message of the first segment is not older than twelve hours, though others are, and all of it is over.
CALL iotmq.run_maintenance(retention_at('12:29:59'));
SELECT * FROM retention_run;
SELECT from_time - retention_at('0') AS begins, first_offset, last_offset, attached FROM retention_segment WHERE topic = 'retention' ORDER BY from_time;
-- Now.
CALL iotmq.run_maintenance(retention_at('12:30:01'));
SELECT * FROM retention_run;
SELECT from_time - retention_at('0') AS begins, first_offset, last_offset, attached FROM retention_segment WHERE topic = 'retention' ORDER BY from_time;
SELECT min(msg_offset), count(*) FROM iotmq_topic.retention;
-- fast lost nothing, slow all three, half 2 and 3, alarms 3, orderly all three, buried nothing
SELECT * FROM retention_group ORDER BY topic, grp COLLATE "C";
SELECT consumer_group, statement_timestamp() + time_to_loss - retention_at('0') AS lost_at
FROM iotmq.consumer_lag WHERE topic = 'retention' AND consumer_group <> 'buried' ORDER BY consumer_group COLLATE "C";
-- again: nothing more
CALL iotmq.run_maintenance(retention_at('12:30:01'));
SELECT * FROM retention_run;
SELECT grp, expired_unread FROM retention_group ORDER BY grp COLLATE "C";

-- Leases and retries of what was dropped have ended, the others have not.
SELECT iotmq.ack(:a);
SELECT iotmq.nack(:a);
SELECT iotmq.extend(:a, '1 min');
SELECT iotmq.ack(:o);
SELECT iotmq.ack(:b, '{3}');
SELECT iotmq.ack(:b);
SELECT msg_offset, attempt FROM iotmq.consume('retention', 'orderly');
SELECT array_agg(msg_offset) FROM iotmq.consume('retention', 'slow', 4);
SELECT msg_offset FROM iotmq.consume('retention', 'alarms');
SELECT iotmq.seek('retention', 'alarms', '-infinity');
SELECT msg_offset FROM iotmq.consume('retention', 'alarms');

-- Dead letters outlive the log: those in flight, those waiting and those never redriven.
SELECT msg_offset, payload, tag, attempts FROM iotmq.dead_letter WHERE topic = 'retention';
SELECT iotmq.reject(:r, reason => 'again');
SELECT msg_offset, payload, tag, attempt, lease_id AS r FROM retention_due('retention', 'buried', 1) \gset
\echo :msg_offset :payload :tag :attempt
SELECT iotmq.ack(:r);
SELECT msg_offset, payload, device_id, tag, attempts, reason FROM iotmq.dead_letter WHERE topic = 'retention' ORDER BY msg_offset;
SELECT iotmq.redrive('retention', 'buried');
SELECT c.msg_offset, c.payload, c.attempt, c.published_at - retention_at('0') AS published FROM retention_due('retention', 'buried', 2) AS c;

-- What else looks at the log begins at the earliest now.
SELECT msg_offset FROM iotmq.fetch('retention', 'default', 0, 1);
SELECT iotmq.commit_offset('retention', 'fast', 'default', 3);
SELECT * FROM iotmq.seek_offset('retention', 'fast', 'default', 1, dry_run => true);
SELECT earliest_offset, end_offset, messages_estimate, oldest_published_at - retention_at('0') AS oldest FROM iotmq.topic_stats WHERE topic = 'retention';
SELECT iotmq.create_group('retention', 'new', start_from => '-infinity');
SELECT next, expired_unread FROM retention_group WHERE grp = 'new';

-- Several at once, the empty ones between them too. half had nothing left below 7 but the retry of 5.
CALL iotmq.run_maintenance(retention_at('15:30:01'));
SELECT * FROM retention_run;
SELECT count(*) FROM retention_segment WHERE topic = 'retention' AND from_time <= retention_at('3:00');
SELECT * FROM retention_group ORDER BY topic, grp COLLATE "C";
SELECT msg_offset FROM iotmq.consume('retention', 'new');
SELECT iotmq.drop_topic('retention', force => true);

-- Policy 'consumed': after two hours, when every group has settled it; after eight in any case.
SELECT iotmq.create_topic('retention_consumed', retention => '2 hours', segment_interval => '1 hour', retention_policy => 'consumed');
SELECT iotmq.create_group('retention_consumed', 'a', start_from => '-infinity', backoff => '{1 h}', invisible_for => '30 days');
SELECT iotmq.create_group('retention_consumed', 'b', start_from => '-infinity', max_retries => 0, invisible_for => '30 days');
SELECT retention_insert('retention_consumed', ARRAY[retention_at('10 min'), retention_at('20 min'), retention_at('30 min')]);
SELECT retention_insert('retention_consumed', ARRAY[retention_at('1:10'), retention_at('1:20'), retention_at('1:30')]);
SELECT retention_insert('retention_consumed', ARRAY[retention_at('4:59:59')]);
SELECT retention_insert('retention_consumed', ARRAY[retention_at('5:59')]);
SELECT consumer_group, statement_timestamp() + time_to_loss - retention_at('0') AS lost_at
FROM iotmq.consumer_lag WHERE topic = 'retention_consumed' ORDER BY consumer_group COLLATE "C";
CREATE PROCEDURE retention_step(at timestamptz) LANGUAGE plpgsql AS $$
BEGIN
    CALL iotmq.run_maintenance(at);
END
$$;
CREATE VIEW retention_log AS SELECT min(msg_offset), count(*) FROM iotmq_topic.retention_consumed;
CALL retention_step(:'hour');
SELECT * FROM retention_log;
SELECT iotmq.ack(lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('retention_consumed', 'a')) AS l;
CALL retention_step(:'hour');
SELECT * FROM retention_log;
-- b has it in flight
SELECT DISTINCT lease_id AS b FROM iotmq.consume('retention_consumed', 'b', 4) \gset
CALL retention_step(:'hour');
SELECT * FROM retention_log;
SELECT iotmq.ack(:b, '{1,2,4}');
CALL retention_step(:'hour');
SELECT * FROM retention_log;
-- and gives up the third: a dead letter is settled, and both groups are done with the first segment
SELECT iotmq.nack(:b);
CALL retention_step(:'hour');
SELECT * FROM retention_log;
SELECT * FROM retention_group ORDER BY grp COLLATE "C";
-- a retry that waits keeps its segment; a seek back does so again
SELECT new_offset FROM iotmq.seek_offset('retention_consumed', 'a', 'default', 6);
SELECT iotmq.ack(lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('retention_consumed', 'b')) AS l;
CALL retention_step(:'hour');
SELECT * FROM retention_log;
SELECT iotmq.nack(lease_id) FROM iotmq.consume('retention_consumed', 'a', 1);
CALL retention_step(:'hour');
SELECT * FROM retention_log;
UPDATE iotmq_internal.redelivery SET due_at = '-infinity';
UPDATE iotmq_internal.cursor_state SET next_due = '-infinity' WHERE redeliveries > 0;
SELECT iotmq.ack(lease_id) FROM retention_due('retention_consumed', 'a', 1);
-- a reader without leases counts by what it committed
SELECT iotmq.commit_offset('retention_consumed', 'a', 'default', 6);
CALL retention_step(:'hour');
SELECT * FROM retention_log;
SELECT iotmq.commit_offset('retention_consumed', 'a', 'default', 7);
CALL retention_step(:'hour');
SELECT * FROM retention_log;
SELECT * FROM retention_group ORDER BY grp COLLATE "C";
-- The rest is read, but not older than two hours yet.
SELECT iotmq.commit_offset('retention_consumed', g, 'default', 9) FROM (VALUES ('a'), ('b')) AS v(g);
CALL retention_step(retention_at('6:59:58'));
SELECT * FROM retention_log;
CALL retention_step(retention_at('7:00'));
SELECT * FROM retention_log;
SELECT grp, expired_unread FROM retention_group ORDER BY grp COLLATE "C";
-- In any case: after max_retention, which is four times the retention unless said otherwise.
SELECT retention_insert('retention_consumed', ARRAY[retention_at('10 min'), retention_at('20 min')]);
SELECT count(*) AS in_flight FROM iotmq.consume('retention_consumed', 'b', 1);
CALL retention_step(retention_at('8:19:59'));
SELECT * FROM retention_log;
SELECT grp, expired_unread FROM retention_group ORDER BY grp COLLATE "C";
CALL retention_step(retention_at('8:20:01'));
SELECT * FROM retention_log;
SELECT * FROM retention_group ORDER BY grp COLLATE "C";
SELECT retention_insert('retention_consumed', ARRAY[retention_at('10 min')]);
SELECT iotmq.alter_topic('retention_consumed', max_retention => '5 h');
SELECT consumer_group, time_to_loss FROM iotmq.consumer_lag WHERE topic = 'retention_consumed' ORDER BY consumer_group COLLATE "C";
CALL iotmq.run_maintenance();
SELECT * FROM retention_log;
-- Without groups: after the retention.
SELECT iotmq.drop_group('retention_consumed', 'a', force => true), iotmq.drop_group('retention_consumed', 'b', force => true);
SELECT retention_insert('retention_consumed', ARRAY[retention_at('10 min')]);
CALL retention_step(retention_at('2:09'));
SELECT * FROM retention_log;
CALL retention_step(retention_at('2:11'));
SELECT * FROM retention_log;
DROP VIEW retention_log;
SELECT iotmq.drop_topic('retention_consumed', force => true);

-- Expired leases are put back; of at's time, too.
SELECT iotmq.create_topic('retention_lease');
SELECT iotmq.create_group('retention_lease', 'g', invisible_for => '10 min');
SELECT iotmq.publish('retention_lease', 'd', '1'), iotmq.publish('retention_lease', 'd', '2');
SELECT DISTINCT lease_id AS lease FROM iotmq.consume('retention_lease', 'g') \gset
SELECT iotmq.ack(:lease, '{1}');
CALL iotmq.run_maintenance();
SELECT * FROM retention_run;
SELECT * FROM retention_group;
CALL iotmq.run_maintenance(now() + interval '11 minutes');
SELECT * FROM retention_run;
SELECT * FROM retention_group;
SELECT iotmq.ack(:lease);
SELECT msg_offset, attempt FROM iotmq.consume('retention_lease', 'g');
SELECT iotmq.drop_topic('retention_lease', force => true);

-- Segments ahead: enough for half a day without anybody, and without a hole.
SELECT iotmq.create_topic('retention_ahead', '{a,b}', retention => '10 days', segment_interval => '30 min');
CREATE VIEW retention_ahead AS
SELECT zone, count(*) >= 24 AS segments, min(from_time) <= now() AS covers_now,
    max(to_time) >= now() + interval '12 hours' AS half_a_day, sum(to_time - from_time) = max(to_time) - min(from_time) AS without_hole
FROM iotmq_internal.segment JOIN iotmq_internal.zone USING (zone_id) JOIN iotmq_internal.topic USING (topic_id)
WHERE topic = 'retention_ahead' AND to_time > now() AND from_time < now() + interval '2 days' GROUP BY zone ORDER BY zone;
SELECT * FROM retention_ahead;
CALL iotmq.run_maintenance();
SELECT * FROM retention_ahead;
CALL iotmq.run_maintenance(now() + interval '10 hours');
SELECT segments, covers_now, max(max_to) > now() + interval '22 hours' AS further FROM retention_ahead,
    (SELECT max(to_time) AS max_to FROM iotmq_internal.segment JOIN iotmq_internal.zone USING (zone_id) JOIN iotmq_internal.topic USING (topic_id) WHERE topic = 'retention_ahead') AS m
GROUP BY 1, 2;
SELECT skipped FROM retention_run;

-- Strange times. Nothing but retention follows from them: one can publish, by COPY too, and consume, after each.
SELECT iotmq.create_group('retention_ahead', 'g');
CREATE FUNCTION retention_try() RETURNS TABLE (published bigint, copied bigint) LANGUAGE plpgsql AS $$
BEGIN
    published := iotmq.publish('retention_ahead', 'd', '1', 'a');
    EXECUTE format('COPY %s (device_id, payload) FROM PROGRAM %L', iotmq.zone_table('retention_ahead', 'a'), 'echo d,2 | tr , "\t"');
    GET DIAGNOSTICS copied = ROW_COUNT;
    RETURN NEXT;
END
$$;
CREATE FUNCTION retention_read() RETURNS TABLE (consumed bigint[]) LANGUAGE sql AS $$
    SELECT array_agg(msg_offset) FROM iotmq.consume('retention_ahead', 'g')
$$;
SELECT * FROM retention_try();
CALL iotmq.run_maintenance(NULL);
CALL iotmq.run_maintenance('-infinity');
SELECT dropped, skipped FROM retention_run;
SELECT * FROM retention_try();
CALL iotmq.run_maintenance('4713-01-01 BC');
SELECT dropped, skipped FROM retention_run;
CALL iotmq.run_maintenance(now() - interval '1 year');
SELECT dropped, skipped FROM retention_run;
SELECT * FROM retention_try();
SELECT count(*) FROM iotmq_topic.retention_ahead;
SELECT iotmq.ack(lease_id) FROM iotmq.consume('retention_ahead', 'g', 1);
-- a year later all of it is old, what is written afterwards is new
CALL iotmq.run_maintenance(now() + interval '1 year');
SELECT dropped > 0 AS dropped, skipped FROM retention_run;
SELECT count(*) FROM iotmq_topic.retention_ahead;
SELECT next, ready, expired_unread FROM retention_group WHERE topic = 'retention_ahead' ORDER BY next;
SELECT * FROM retention_ahead;
SELECT * FROM retention_try();
SELECT * FROM retention_read();
CALL iotmq.run_maintenance('infinity');
SELECT dropped > 0 AS dropped, skipped FROM retention_run;
SELECT count(*) FROM iotmq_topic.retention_ahead;
SELECT next, ready, inflight, expired_unread FROM retention_group WHERE topic = 'retention_ahead' ORDER BY next;
SELECT * FROM retention_try();
CALL iotmq.run_maintenance('294276-12-31');
SELECT dropped > 0 AS dropped, skipped FROM retention_run;
SELECT * FROM retention_try();
CALL iotmq.run_maintenance();
SELECT dropped, skipped FROM retention_run;
SELECT * FROM retention_ahead;
SELECT * FROM retention_try();
SELECT * FROM retention_read();
SELECT expired_unread FROM retention_group WHERE topic = 'retention_ahead' ORDER BY next;

-- A week without maintenance, and without anybody: no segment is left ahead, the old ones are still there.
SELECT iotmq.create_topic('retention_week', retention => '3 days', segment_interval => '6 hours');
SELECT iotmq.create_group('retention_week', 'g', start_from => '-infinity');
DO $$
DECLARE
    segment regclass;
BEGIN
    FOR segment IN DELETE FROM iotmq_internal.segment AS s USING iotmq_internal.zone AS z JOIN iotmq_internal.topic AS t USING (topic_id)
                   WHERE z.zone_id = s.zone_id AND t.topic = 'retention_week' RETURNING s.table_name
    LOOP
        EXECUTE format('DROP TABLE %s', segment);
    END LOOP;
    -- before_publish wants one of the present, where this test writes into the past
    PERFORM iotmq.publish('retention_week', 'd', '0');
    PERFORM retention_insert('retention_week', ARRAY[now() - interval '7 days', now() - interval '6 days', now() - interval '2 days']);
END
$$;
SELECT iotmq.publish('retention_week', 'd', '5');
SELECT array_agg(msg_offset) FROM iotmq.consume('retention_week', 'g');
CALL iotmq.run_maintenance();
SELECT dropped, skipped FROM retention_run;
SELECT array_agg(msg_offset ORDER BY msg_offset) FROM iotmq_topic.retention_week;
SELECT * FROM retention_group WHERE topic = 'retention_week';
SELECT iotmq.publish('retention_week', 'd', '6');
SELECT array_agg(msg_offset) FROM iotmq.consume('retention_week', 'g');

-- The table of runs: one row each, the last thousand; and only at top level.
SELECT count(*) AS before FROM iotmq.maintenance_run \gset
RESET client_min_messages;
CALL iotmq.run_maintenance();
SET client_min_messages = warning;
SELECT count(*) - :before AS runs FROM iotmq.maintenance_run;
INSERT INTO iotmq_internal.maintenance_run (started_at, finished_at, at, segments_made, segments_sealed, segments_dropped, leases_taken_over, skipped)
SELECT now(), now(), now(), 0, 0, 0, 0, '{}' FROM generate_series(1, 1100);
CALL iotmq.run_maintenance();
SELECT count(*) FROM iotmq.maintenance_run;
SELECT at = :'hour' AS at_given FROM iotmq.maintenance_run ORDER BY run_id DESC LIMIT 1;
CALL iotmq.run_maintenance(:'hour');
SELECT at = :'hour' AS at_given FROM iotmq.maintenance_run ORDER BY run_id DESC LIMIT 1;
TRUNCATE iotmq_internal.maintenance_run;
BEGIN;
CALL iotmq.run_maintenance();
ROLLBACK;
CREATE FUNCTION retention_function() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CALL iotmq.run_maintenance(); END $$;
SELECT retention_function();
DROP FUNCTION retention_function;
-- without rights it does nothing
CREATE ROLE regress_retention;
SET ROLE regress_retention;
CALL iotmq.run_maintenance();
SELECT count(*) FROM iotmq.maintenance_run;
SELECT iotmq.schedule_maintenance();
SELECT * FROM iotmq.seek('retention_week', 'g', now());
RESET ROLE;
DROP ROLE regress_retention;
SELECT count(*) FROM iotmq.maintenance_run;

-- Without pg_cron there is a hint to run elsewhere.
\set VERBOSITY default
SELECT iotmq.schedule_maintenance('*/5 * * * *'); \echo :SQLSTATE
SELECT iotmq.unschedule_maintenance(); \echo :SQLSTATE
SELECT iotmq.schedule_maintenance(NULL); \echo :SQLSTATE

SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'retention%') AS mine;
DROP PROCEDURE retention_step;
DROP FUNCTION retention_at, retention_try, retention_read, retention_insert;
DROP VIEW retention_segment, retention_group, retention_run, retention_ahead;
