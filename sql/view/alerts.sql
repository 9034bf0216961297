-- What is wrong now. lag and delay have a threshold of the group's own, unless it is paused; dead
-- letters of the last hour, a quarter of the retention left until loss, a cursor beyond
-- the end of its zone, and a lease or a retry that is due days after what the group's
-- settings give always count; so do a publisher or a consumer whose transaction is open for
-- 5 minutes, or the group's max_delay, maintenance that doesn't come, segments that can't be
-- read, and a mirror whose last pull failed or that is as long behind.

-- alerts_maintenance(): how long ago the last run of maintenance began, how long that may be, and
-- whether there was one. It may be three times as long as it mostly is between two of the
-- last runs, a minute at least. Without a run it counts from the first topic on.
CREATE FUNCTION iotmq.alerts_maintenance(OUT age interval, OUT patience interval, OUT has_run boolean)
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT
		statement_timestamp() - coalesce(r.last_run, t.first_topic),
		3 * greatest(interval '1 minute', (r.last_run - r.first_run) / nullif(r.n - 1, 0)),
		r.n > 0
	FROM (
		SELECT max(l.started_at) AS last_run, min(l.started_at) AS first_run, count(*) AS n
		FROM (SELECT m.started_at FROM iotmq.maintenance_run AS m ORDER BY m.run_id DESC LIMIT 10) AS l
	) AS r
	CROSS JOIN (SELECT min(t.created_at) AS first_topic FROM iotmq_internal.topic AS t) AS t
	WHERE t.first_topic IS NOT NULL
$$;
COMMENT ON FUNCTION iotmq.alerts_maintenance IS 'internal: how long ago maintenance ran, and how long that may be';

CREATE VIEW iotmq.alerts AS
WITH lag AS MATERIALIZED (
	SELECT
		l.topic,
		l.consumer_group,
		l.zone,
		l.next_offset,
		l.end_offset,
		l.lag_messages,
		l.lag_time,
		l.time_to_loss
	FROM iotmq.lag(true, false) AS l
), group_lag AS (
	SELECT
		topic,
		consumer_group,
		sum(lag_messages) AS lag_messages,
		max(lag_time) AS lag_time,
		min(time_to_loss) AS time_to_loss
	FROM lag
	GROUP BY topic, consumer_group
)
SELECT a.topic, a.consumer_group, a.alert, a.value, a.threshold, NULL::text AS zone,
	format('SELECT * FROM iotmq.%I WHERE topic = %L AND consumer_group = %L;',
		CASE a.alert WHEN 'dead_letters' THEN 'dead_letter' ELSE 'consumer_lag' END,
		a.topic, a.consumer_group) AS look_at
FROM group_lag AS l
JOIN iotmq_internal.topic AS t USING (topic)
JOIN iotmq_internal.consumer_group AS g USING (topic_id, consumer_group)
JOIN iotmq.dead_letter_depth AS d USING (topic, consumer_group)
CROSS JOIN LATERAL (
	SELECT l.topic, l.consumer_group, 'lag' AS alert, l.lag_messages::text AS value, g.max_lag::text AS threshold
	WHERE l.lag_messages > g.max_lag AND NOT g.paused
	UNION ALL
	SELECT l.topic, l.consumer_group, 'delay', l.lag_time::text, g.max_delay::text
	WHERE l.lag_time > g.max_delay AND NOT g.paused
	UNION ALL
	SELECT l.topic, l.consumer_group, 'dead_letters', d.dead_last_hour::text, '0 in the last hour'
	WHERE d.dead_last_hour > 0
	UNION ALL
	SELECT l.topic, l.consumer_group, 'time_to_loss', l.time_to_loss::text, (t.kept_for / 4)::text
	WHERE l.time_to_loss < t.kept_for / 4
) AS a
UNION ALL
SELECT l.topic, l.consumer_group, 'beyond_end', l.next_offset::text, l.end_offset::text, l.zone,
	format('SELECT * FROM iotmq.consumer_lag WHERE topic = %L AND zone = %L;', l.topic, l.zone)
FROM lag AS l
WHERE l.next_offset > l.end_offset
UNION ALL
SELECT t.topic, g.consumer_group, 'due_late', d.due_in::text, d.threshold::text, z.zone,
	format('SELECT * FROM iotmq.%I WHERE topic = %L AND consumer_group = %L AND zone = %L;', d.seen_in, t.topic, g.consumer_group, z.zone)
FROM (
	SELECT p.cursor_id, 'in_flight' AS seen_in, max(l.deadline) - now() AS due_in
	FROM iotmq_internal.lease AS l
	JOIN iotmq_internal.cursor_state AS p ON p.cursor_id = iotmq.lease_cursor(l.lease_id) AND p.oldest_lease <= l.lease_id
	WHERE l.deadline > now() + interval '1 day'		-- few: the others need not be joined
	GROUP BY p.cursor_id
	UNION ALL
	SELECT p.cursor_id, 'waiting_message', r.due_at - now()
	FROM iotmq_internal.cursor_state AS p
	CROSS JOIN LATERAL (
		SELECT r.due_at
		FROM iotmq_internal.redelivery AS r
		WHERE r.cursor_id = p.cursor_id AND r.due_at < 'infinity'
		ORDER BY r.due_at DESC
		LIMIT 1
	) AS r
	WHERE p.redeliveries > 0
) AS late
JOIN iotmq_internal.cursor AS c USING (cursor_id)
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.zone AS z USING (zone_id)
JOIN iotmq_internal.topic AS t ON t.topic_id = z.topic_id
CROSS JOIN LATERAL (
	SELECT late.seen_in, late.due_in, interval '1 day' + CASE late.seen_in
		WHEN 'in_flight' THEN g.invisible_for
		ELSE (SELECT max(delay) FROM unnest(g.backoff) AS delay)
	END AS threshold
) AS d
WHERE late.due_in > interval '1 day' AND d.due_in > d.threshold
UNION ALL
SELECT t.topic, NULL, 'held_back', h.age::text, p.patience::text, z.zone,
	format('SELECT * FROM iotmq.held_back WHERE topic = %L AND zone = %L;', t.topic, z.zone)
FROM (
	SELECT h.zone_id, max(statement_timestamp() - h.since) AS age
	FROM iotmq.held_back_holders() AS h
	GROUP BY h.zone_id
) AS h
JOIN iotmq_internal.zone AS z USING (zone_id)
JOIN iotmq_internal.topic AS t USING (topic_id)
CROSS JOIN LATERAL (
	SELECT coalesce(min(coalesce(g.max_delay, '5 minutes')), '5 minutes') AS patience
	FROM iotmq_internal.consumer_group AS g
	WHERE g.topic_id = t.topic_id
) AS p
WHERE h.age > p.patience
UNION ALL
SELECT h.topic, h.consumer_group, 'cursor_held', h.age::text, coalesce(g.max_delay, '5 minutes')::text, h.zone,
	format('SELECT * FROM iotmq.cursor_holder WHERE topic = %L AND consumer_group = %L AND zone = %L;',
		h.topic, h.consumer_group, h.zone)
FROM (
	SELECT h.topic, h.consumer_group, h.zone, max(statement_timestamp() - h.since) AS age
	FROM iotmq.cursor_holder AS h
	GROUP BY h.topic, h.consumer_group, h.zone
) AS h
JOIN iotmq_internal.topic AS t USING (topic)
JOIN iotmq_internal.consumer_group AS g USING (topic_id, consumer_group)
WHERE h.age > coalesce(g.max_delay, '5 minutes')
UNION ALL
SELECT NULL, NULL, 'maintenance', CASE WHEN m.has_run THEN m.age::text ELSE 'never' END, m.patience::text, NULL,
	'SELECT * FROM iotmq.maintenance_run ORDER BY run_id DESC LIMIT 10;'
FROM iotmq.alerts_maintenance() AS m
WHERE m.age > m.patience
UNION ALL
SELECT t.topic, NULL, 'maintenance', (statement_timestamp() - s.to_time)::text, t.kept_for::text, z.zone,
	format('SELECT * FROM iotmq.overdue_segment WHERE topic = %L AND zone = %L;', t.topic, z.zone)
FROM iotmq_internal.topic AS t
JOIN iotmq_internal.zone AS z USING (topic_id)
CROSS JOIN iotmq.alerts_maintenance() AS m
CROSS JOIN LATERAL (
	SELECT s.to_time
	FROM iotmq_internal.segment AS s
	WHERE s.zone_id = z.zone_id AND NOT s.emptied AND (NOT s.sealed OR s.last_offset IS NOT NULL)
	ORDER BY s.from_time
	LIMIT 1
) AS s
WHERE s.to_time < statement_timestamp() - t.kept_for - m.patience
UNION ALL
SELECT t.topic, NULL, 'maintenance', format('%s segments can''t be read', count(*)), '0', z.zone,
	format('SELECT * FROM iotmq.overdue_segment WHERE topic = %L AND zone = %L;', t.topic, z.zone)
FROM iotmq_internal.overdue AS o
JOIN iotmq_internal.segment AS s USING (zone_id, from_time)
JOIN iotmq_internal.zone AS z USING (zone_id)
JOIN iotmq_internal.topic AS t USING (topic_id)
WHERE o.unreadable
GROUP BY t.topic, z.zone
UNION ALL
SELECT m.topic, NULL, 'mirror', coalesce(m.error, m.lag_time::text, 'never pulled'), p.patience::text, m.zone,
	format('SELECT * FROM iotmq.mirror WHERE topic = %L AND zone = %L;', m.topic, m.zone)
FROM iotmq.mirror AS m
JOIN iotmq_internal.topic AS t USING (topic)
CROSS JOIN LATERAL (
	SELECT coalesce(min(coalesce(g.max_delay, '5 minutes')), '5 minutes') AS patience
	FROM iotmq_internal.consumer_group AS g
	WHERE g.topic_id = t.topic_id
) AS p
WHERE m.error IS NOT NULL OR m.lag_time IS NULL OR m.lag_time > p.patience;
COMMENT ON VIEW iotmq.alerts IS 'what an operator should look at now';
COMMENT ON COLUMN iotmq.alerts.topic IS 'the topic; NULL: it is about all of them';
COMMENT ON COLUMN iotmq.alerts.consumer_group IS 'the consumer group; NULL: it is about all of them';
COMMENT ON COLUMN iotmq.alerts.alert IS 'lag, delay, dead_letters, time_to_loss, beyond_end, due_late, held_back, cursor_held, maintenance or mirror';
COMMENT ON COLUMN iotmq.alerts.value IS 'how it is';
COMMENT ON COLUMN iotmq.alerts.threshold IS 'how it should be at worst';
COMMENT ON COLUMN iotmq.alerts.zone IS 'the zone; NULL: it is about all of them';
COMMENT ON COLUMN iotmq.alerts.look_at IS 'the query to run next';
