-- The views: lag per zone and per group, topic_stats, in_flight, and count_lag.
-- Promise: figures-agree
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('views_lag', '{a,b}');
SELECT iotmq.create_group('views_lag', 'readers');
SELECT iotmq.create_group('views_lag', 'idle');
CREATE VIEW lag AS
SELECT consumer_group, zone, mode, earliest_offset AS earliest, next_offset AS next, stable_offset AS stable, end_offset AS "end",
       lag_messages AS lag, ready_messages AS ready, inflight_messages AS inflight, retry_messages AS retry,
       blocked_devices AS blocked, dead_letters AS dead, expired_unread AS expired,
       coalesce(lag_time, '0') > '0' AS late, last_consumed_at IS NOT NULL AS consumed
FROM iotmq.consumer_lag
WHERE topic = 'views_lag'
ORDER BY consumer_group, zone;
CREATE VIEW total AS
SELECT consumer_group, lag_messages AS lag, ready_messages AS ready, inflight_messages AS inflight, retry_messages AS retry,
       blocked_devices AS blocked, dead_letters AS dead, expired_unread AS expired,
       coalesce(lag_time, '0') > '0' AS late, last_consumed_at IS NOT NULL AS consumed,
       iotmq.count_lag(topic, consumer_group) AS counted
FROM iotmq.group_lag
WHERE topic = 'views_lag'
ORDER BY consumer_group;

-- Nothing published yet.
SELECT * FROM lag;
SELECT * FROM total;
SELECT topic, zone, earliest_offset, end_offset, messages_estimate, oldest_published_at, newest_published_at
FROM iotmq.topic_stats
WHERE topic = 'views_lag'
ORDER BY zone;

-- All of it ready.
SELECT count(iotmq.publish('views_lag', 'd' || n, to_jsonb(n), 'a')), count(pg_sleep(0.02)) AS pauses FROM generate_series(1, 5) AS n;
SELECT count(iotmq.publish('views_lag', 'd' || n, to_jsonb(n), 'b')) FROM generate_series(1, 3) AS n;
SELECT * FROM lag;
SELECT * FROM total;

-- Some of it in flight, at different consumers.
SELECT count(*) FROM iotmq.consume('views_lag', 'readers', 2, zone => 'a', consumer => 'one');
SELECT count(*) FROM iotmq.consume('views_lag', 'readers', 2, zone => 'a', consumer => 'two');
SELECT count(*) FROM iotmq.consume('views_lag', 'readers', 1, zone => 'b');
SELECT * FROM lag;
SELECT * FROM total;
SELECT consumer_group, zone, consumer, messages, attempt, leased_at <= deadline AS in_order FROM iotmq.in_flight WHERE topic = 'views_lag' ORDER BY zone, consumer;

-- Settled in part, then whole.
SELECT lease_id AS one FROM iotmq.in_flight WHERE topic = 'views_lag' AND consumer = 'one' \gset
SELECT lease_id AS two FROM iotmq.in_flight WHERE topic = 'views_lag' AND consumer = 'two' \gset
SELECT iotmq.ack(:one, '{1}');
SELECT iotmq.ack(:two);
SELECT * FROM lag WHERE consumer_group = 'readers';
SELECT * FROM total;

-- lag_time is the age of the oldest message not settled: those in flight count, settled ones don't.
CREATE TEMP TABLE age AS
SELECT now() AS began, consumer_group, zone, lag_time FROM iotmq.consumer_lag WHERE topic = 'views_lag'
UNION ALL
SELECT now(), consumer_group, 'all', lag_time FROM iotmq.group_lag WHERE topic = 'views_lag';
SELECT a.consumer_group, a.zone, o.zone AS oldest_in, o.msg_offset AS oldest,
       a.lag_time BETWEEN a.began - m.published_at AND clock_timestamp() - m.published_at AS age_of_oldest
FROM (VALUES ('idle', 'a', 'a', 1), ('idle', 'b', 'b', 1), ('idle', 'all', 'a', 1),
             ('readers', 'a', 'a', 2), ('readers', 'b', 'b', 1), ('readers', 'all', 'a', 2)) AS o (consumer_group, in_zone, zone, msg_offset)
JOIN age a ON a.consumer_group = o.consumer_group AND a.zone = o.in_zone
JOIN iotmq_topic.views_lag m ON m.zone = o.zone AND m.msg_offset = o.msg_offset
ORDER BY a.consumer_group, a.zone;

-- All settled.
SELECT count(iotmq.ack(lease_id)) FROM iotmq.in_flight WHERE topic = 'views_lag';
DO $$
DECLARE
    lease bigint;
BEGIN
    LOOP
        SELECT min(lease_id) INTO lease FROM iotmq.consume('views_lag', 'readers');
        EXIT WHEN lease IS NULL;
        PERFORM iotmq.ack(lease);
    END LOOP;
END
$$;
SELECT * FROM lag;
SELECT * FROM total;
SELECT topic, zone, segments > 0 AS segments, earliest_offset, end_offset, bytes > 0 AS bytes,
       oldest_published_at <= newest_published_at AS in_order,
       newest_published_at <= clock_timestamp() AS published
FROM iotmq.topic_stats
WHERE topic = 'views_lag'
ORDER BY zone;
SELECT s.zone, s.oldest_published_at <= min(m.published_at) AS oldest, s.newest_published_at >= max(m.published_at) AS newest
FROM iotmq.topic_stats s
JOIN iotmq_topic.views_lag m USING (zone)
WHERE s.topic = 'views_lag'
GROUP BY s.zone, s.oldest_published_at, s.newest_published_at
ORDER BY s.zone;

-- count_lag reads: holes and what the group filters out are not counted.
SELECT iotmq.create_group('views_lag', 'filtered', tags => 'x', filter => '$ > 7');
BEGIN;
SELECT cardinality(iotmq.publish_batch('views_lag', '{d1,d1}', ARRAY['8', '9']::jsonb[], 'a', '{x,x}')) AS published;
ROLLBACK;
SELECT iotmq.publish('views_lag', 'd1', '8', 'a', 'x') AS eighth, iotmq.publish('views_lag', 'd1', '9', 'a', 'y') AS ninth,
       iotmq.publish('views_lag', 'd1', '7', 'a', 'x') AS seventh, iotmq.publish('views_lag', 'd1', '10', 'b', 'x') AS tenth \gset
SELECT iotmq.count_lag('views_lag', 'readers') AS readers, iotmq.count_lag('views_lag', 'filtered') AS filtered;
SELECT lag_messages >= 2 AS not_fewer FROM iotmq.group_lag WHERE topic = 'views_lag' AND consumer_group = 'filtered';
SELECT count(*) FROM iotmq.consume('views_lag', 'filtered', zone => 'a');
SELECT count(*) FROM iotmq.consume('views_lag', 'filtered', zone => 'b');
SELECT lag, ready, inflight, counted FROM total WHERE consumer_group = 'filtered';
SELECT count(iotmq.ack(lease_id)) FROM iotmq.in_flight WHERE topic = 'views_lag';
SELECT lag, ready, inflight, counted FROM total WHERE consumer_group = 'filtered';

DROP VIEW lag, total;
SELECT iotmq.drop_topic('views_lag', force => true);
SELECT count(*) FROM iotmq.group_lag WHERE topic = 'views_lag';

-- Whatever becomes of messages, the figures are what counting them would give.
-- Made anew, a topic goes on above its old offsets; here it is to begin at 1.
DELETE FROM iotmq_internal.past_zone WHERE topic = 'views_lag';
SELECT iotmq.create_topic('views_lag', '{a}', segment_interval => '1 hour');
SELECT iotmq.create_group('views_lag', 'concurrent');
SELECT iotmq.create_group('views_lag', 'orderly', 'orderly');
CREATE VIEW counted AS
SELECT l.consumer_group, l.inflight_messages AS inflight, l.retry_messages AS retry, l.blocked_devices AS blocked,
       l.dead_letters AS dead, o.msg_offset AS oldest,
       (l.retry_messages = w.messages AND l.blocked_devices = w.devices AND l.dead_letters = d.messages
        AND d.messages = p.dead_letters
        AND l.lag_time IS NOT DISTINCT FROM coalesce(statement_timestamp() - m.published_at, '0')) AS as_counted
FROM iotmq.consumer_lag AS l
JOIN iotmq.dead_letter_depth AS p USING (topic, consumer_group)
JOIN iotmq_internal.topic AS t USING (topic)
JOIN iotmq_internal.consumer_group AS g USING (topic_id, consumer_group)
JOIN iotmq_internal.cursor AS c USING (group_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS messages, count(DISTINCT device_id) AS devices, min(msg_offset) AS first
    FROM iotmq_internal.redelivery AS r
    WHERE r.cursor_id = c.cursor_id
) AS w
CROSS JOIN LATERAL (SELECT count(*) AS messages FROM iotmq.dead_letter AS d WHERE (d.topic, d.consumer_group) = (l.topic, l.consumer_group)) AS d
CROSS JOIN LATERAL (
    SELECT min(m.msg_offset) AS first
    FROM iotmq_internal.lease AS e
    CROSS JOIN LATERAL iotmq.runs_messages(e.first_offset, e.last_offset, e.runs) AS m
    WHERE iotmq.lease_cursor(e.lease_id) = c.cursor_id AND (e.settled IS NULL OR get_bit(e.settled, m.nth) = 0)
) AS f
CROSS JOIN LATERAL (
    SELECT least(w.first, f.first, CASE WHEN l.ready_messages > 0 THEN l.next_offset END) AS msg_offset
) AS o
LEFT JOIN LATERAL (
    SELECT m.published_at FROM iotmq_topic.views_lag AS m WHERE m.msg_offset >= o.msg_offset ORDER BY m.msg_offset LIMIT 1
) AS m ON true
WHERE l.topic = 'views_lag'
ORDER BY l.consumer_group;
-- Messages of different times, and all of a zone rolled back.
BEGIN;
SELECT iotmq.publish('views_lag', 'd0', '0');
ROLLBACK;
SELECT end_offset, oldest_published_at, newest_published_at FROM iotmq.topic_stats WHERE topic = 'views_lag';
SELECT * FROM counted;
DO $$
BEGIN
    FOR n IN 1 .. 12 LOOP
        PERFORM iotmq.publish('views_lag', 'd' || n % 3, to_jsonb(n));
        PERFORM pg_sleep(0.001);
        COMMIT;
    END LOOP;
END
$$;
SELECT t.oldest_published_at = min(m.published_at) AS oldest, t.newest_published_at = max(m.published_at) AS newest
FROM iotmq.topic_stats AS t
CROSS JOIN iotmq_topic.views_lag AS m
WHERE t.topic = 'views_lag'
GROUP BY t.oldest_published_at, t.newest_published_at;
SELECT * FROM counted;
SELECT DISTINCT lease_id AS c FROM iotmq.consume('views_lag', 'concurrent', 6) \gset
SELECT DISTINCT lease_id AS o FROM iotmq.consume('views_lag', 'orderly', 6) \gset
SELECT iotmq.ack(:c, '{2,3}'), iotmq.ack(:o, '{2,3}');
SELECT * FROM counted;
SELECT iotmq.nack(:c, '{5,6}', '1 hour'), iotmq.nack(:o, '{5}', '1 hour');
SELECT * FROM counted;
SELECT iotmq.reject(:c, '{4}'), iotmq.reject(:o, '{4}');
SELECT * FROM counted;
SELECT iotmq.ack(:c), iotmq.ack(:o);
SELECT * FROM counted;
-- All of the rest; the orderly group leaves two devices out.
SELECT DISTINCT lease_id AS c FROM iotmq.consume('views_lag', 'concurrent') \gset
SELECT DISTINCT lease_id AS o FROM iotmq.consume('views_lag', 'orderly') \gset
SELECT iotmq.ack(:c), iotmq.ack(:o);
SELECT * FROM counted;
-- On its way again a dead letter is none; given up again it is one; settled it is gone.
SELECT iotmq.redrive('views_lag', 'concurrent'), iotmq.redrive('views_lag', 'orderly');
SELECT * FROM counted;
SELECT DISTINCT lease_id AS c FROM iotmq.consume('views_lag', 'concurrent') \gset
SELECT DISTINCT lease_id AS o FROM iotmq.consume('views_lag', 'orderly') \gset
SELECT * FROM counted;
SELECT iotmq.reject(:c), iotmq.ack(:o);
SELECT * FROM counted;
SELECT iotmq.redrive('views_lag', 'concurrent');
-- A seek makes one of it again that waits, and of none.
SELECT new_offset FROM iotmq.seek('views_lag', 'concurrent', 'infinity');
SELECT * FROM counted;
-- Rejected once more where it is a dead letter already.
SELECT new_offset FROM iotmq.seek_offset('views_lag', 'concurrent', 'a', 4);
SELECT DISTINCT lease_id AS c FROM iotmq.consume('views_lag', 'concurrent', 3) \gset
SELECT iotmq.reject(:c);
SELECT * FROM counted;
SELECT new_offset FROM iotmq.seek_offset('views_lag', 'concurrent', 'a', 5);
-- Redriven ahead of the position: it comes from the log by itself.
SELECT iotmq.redrive('views_lag', 'concurrent');
SELECT * FROM counted;
SELECT DISTINCT lease_id AS c FROM iotmq.consume('views_lag', 'concurrent', 3) \gset
SELECT iotmq.reject(:c);
SELECT iotmq.purge_dead_letters('views_lag', 'concurrent', array_agg(id)) FROM iotmq.dead_letter WHERE msg_offset < 6 AND topic = 'views_lag';
SELECT * FROM counted;
SELECT iotmq.purge_dead_letters('views_lag', 'concurrent');
SELECT * FROM counted;
DROP VIEW counted;
-- A session that has looked at nothing yet.
\c -
SELECT iotmq.count_lag('views_lag', 'orderly');
\c -
SELECT zone FROM iotmq.topic_stats WHERE topic = 'views_lag';
\c -
SELECT lag_messages FROM iotmq.group_lag WHERE topic = 'views_lag' ORDER BY consumer_group;
-- A redriven message that the log has dropped keeps its age, and what is gone is no message.
SELECT DISTINCT lease_id AS c FROM iotmq.consume('views_lag', 'concurrent', 1) \gset
SELECT iotmq.reject(:c);
SELECT newest_published_at IS NOT NULL AS newest FROM iotmq.topic_stats WHERE topic = 'views_lag';
SET client_min_messages = warning;
CALL iotmq.run_maintenance(now() + interval '4 days');
RESET client_min_messages;
SELECT messages_estimate, oldest_published_at, newest_published_at FROM iotmq.topic_stats WHERE topic = 'views_lag';
SELECT iotmq.redrive('views_lag', 'concurrent');
-- Not by what this session knows from before.
\c -
SELECT l.lag_messages, l.ready_messages, l.retry_messages, l.lag_time = statement_timestamp() - d.published_at AS as_old
FROM iotmq.consumer_lag AS l
JOIN iotmq_internal.cursor AS c ON true
JOIN iotmq_internal.dead_message AS d USING (cursor_id)
WHERE l.topic = 'views_lag' AND l.consumer_group = 'concurrent';
SELECT name, value >= 0 AS as_old FROM iotmq.metrics
WHERE labels->>'topic' = 'views_lag' AND name IN ('iotmq_storage_message_reserve_time', 'iotmq_storage_messages')
ORDER BY name;
SELECT iotmq.drop_topic('views_lag', force => true);
