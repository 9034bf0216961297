-- What became of one message: see src/view/status.c.

-- status_of(zone_id, msg_offset, fate, device_id, group_ids, wanted): what these groups have of
-- a message. fate: of the offset in the log, 'there', 'undecided' or 'nothing'; wanted: for each
-- group, whether its tags and filter take the message. The first place that has it counts; a
-- redriven one at or above the cursor comes from the log.
CREATE FUNCTION iotmq.status_of(zone_id int, msg_offset bigint, fate text, device_id text,
		group_ids int[], wanted boolean[],
		OUT consumer_group text, OUT state text, OUT attempt int, OUT lease_id bigint,
		OUT consumer text, OUT until timestamptz, OUT reason text) RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT g.consumer_group, s.state, s.attempt, s.lease_id, s.consumer, s.until, s.reason
	FROM unnest(status_of.group_ids, status_of.wanted) AS seen (group_id, wanted)
	JOIN iotmq_internal.consumer_group AS g USING (group_id)
	JOIN iotmq_internal.cursor AS c ON c.zone_id = status_of.zone_id AND c.group_id = g.group_id
	JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
	JOIN iotmq_internal.zone AS z ON z.zone_id = c.zone_id
	LEFT JOIN LATERAL (
		SELECT d.device_id
		FROM iotmq_internal.dead_message AS d
		WHERE d.cursor_id = c.cursor_id AND d.msg_offset = status_of.msg_offset AND d.redriven
		LIMIT 1
	) AS redriven ON true
	CROSS JOIN LATERAL (
		SELECT 1 AS place, 'in flight' AS state, m.attempt, l.lease_id, l.consumer,
			l.deadline AS until, NULL::text AS reason
		FROM iotmq_internal.lease AS l
		CROSS JOIN LATERAL iotmq.runs_messages(l.first_offset, l.last_offset, l.runs) AS m
		WHERE l.lease_id >= greatest(p.oldest_lease, iotmq.lease_first(c.cursor_id))
			AND l.lease_id < iotmq.lease_first(c.cursor_id + 1)
			AND l.first_offset <= status_of.msg_offset AND l.last_offset >= status_of.msg_offset
			AND m.msg_offset = status_of.msg_offset AND (l.settled IS NULL OR get_bit(l.settled, m.nth) = 0)
		UNION ALL
		SELECT 2, 'waiting', r.attempt, NULL, NULL, nullif(r.due_at, 'infinity'), r.reason
		FROM iotmq_internal.redelivery AS r
		WHERE g.mode <> 'orderly' AND r.cursor_id = c.cursor_id AND r.device_id IS NULL
			AND r.msg_offset = status_of.msg_offset
		UNION ALL
		SELECT 2, 'waiting', r.attempt, NULL, NULL, nullif(r.due_at, 'infinity'), r.reason
		FROM iotmq_internal.redelivery AS r
		WHERE g.mode = 'orderly' AND r.cursor_id = c.cursor_id
			AND r.device_id = coalesce(status_of.device_id, redriven.device_id)
			AND r.msg_offset = status_of.msg_offset
		UNION ALL
		SELECT 3, CASE WHEN status_of.msg_offset < p.next_offset THEN 'waiting' ELSE 'ready' END,
			1, NULL, NULL, CASE WHEN status_of.msg_offset < p.next_offset THEN statement_timestamp() END, NULL
		WHERE redriven.device_id IS NOT NULL
		UNION ALL
		SELECT 4, 'ready', 1, NULL, NULL, NULL, NULL
		WHERE fate = 'there' AND seen.wanted AND status_of.msg_offset >= greatest(p.next_offset, z.earliest_offset)
		UNION ALL
		(SELECT 5, 'dead letter', d.attempts, NULL, NULL, NULL, d.reason
		FROM iotmq_internal.dead_message AS d
		WHERE d.cursor_id = c.cursor_id AND d.msg_offset = status_of.msg_offset AND NOT d.redriven
		ORDER BY d.dead_at DESC
		LIMIT 1)
		UNION ALL
		SELECT 6, CASE
				WHEN status_of.msg_offset < z.earliest_offset THEN 'dropped'
				WHEN fate = 'undecided' THEN 'undecided'
				WHEN NOT seen.wanted THEN 'unwanted'
				ELSE 'done'
			END, NULL, NULL, NULL, NULL, NULL
		WHERE fate <> 'nothing' OR status_of.msg_offset < z.earliest_offset
		ORDER BY place
		LIMIT 1
	) AS s
	ORDER BY g.consumer_group
$$;
COMMENT ON FUNCTION iotmq.status_of IS 'internal: what groups have of a message';

CREATE FUNCTION iotmq.message_status(topic text, zone text, msg_offset bigint)
	RETURNS TABLE (consumer_group text, state text, attempt int, lease_id bigint, consumer text,
		until timestamptz, reason text)
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10
	AS 'MODULE_PATHNAME', 'iotmq_message_status';
COMMENT ON FUNCTION iotmq.message_status IS 'what became of one message in each consumer group';
