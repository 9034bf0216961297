-- Views for operators. None scans messages: figures come from offsets and from
-- the rows of cursors, leases and redeliveries.

-- zone_offsets(zone_id): the first offset not yet decided and the next one to be
-- assigned, as far as they are known now; NULL: the zone is gone. On a standby only
-- what consumers learnt on the primary is known.
CREATE FUNCTION iotmq.zone_offsets(zone_id int, OUT stable_offset bigint, OUT end_offset bigint)
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_zone_offsets';
COMMENT ON FUNCTION iotmq.zone_offsets IS 'internal: stable and end offset of a zone';

-- published_at(zone_id, msg_offset): when the first message at or after
-- that offset was published; NULL: there is none.
CREATE FUNCTION iotmq.published_at(zone_id int, msg_offset bigint) RETURNS timestamptz
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_published_at';
COMMENT ON FUNCTION iotmq.published_at IS 'internal: when the first message from an offset on was published';

CREATE FUNCTION iotmq.newest_published_at(zone_id int) RETURNS timestamptz
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_newest_published_at';
COMMENT ON FUNCTION iotmq.newest_published_at IS 'internal: when the last message of a zone was published';

CREATE FUNCTION iotmq.count_ready(cursor_id int) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_count_ready';
COMMENT ON FUNCTION iotmq.count_ready IS 'internal: how many messages a group has not been delivered yet in a zone';

-- zone_holders(): who holds the lock that publishers of a zone take, and has a
-- transaction id; pid and since of a prepared transaction: NULL and when it was
-- prepared.
CREATE FUNCTION iotmq.zone_holders(OUT offset_sequence regclass, OUT pid int, OUT xid xid,
		OUT since timestamptz, OUT application_name text) RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT l.relation, a.pid, a.backend_xid, a.xact_start, a.application_name
	FROM pg_locks AS l
	JOIN pg_stat_activity AS a USING (pid)
	WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
		AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
		AND l.relation IN (SELECT z.offset_sequence FROM iotmq.zone AS z)
		AND a.backend_xid IS NOT NULL
	UNION ALL
	SELECT l.relation, NULL, p.transaction, p.prepared, NULL
	FROM pg_locks AS l
	JOIN pg_locks AS x ON x.virtualtransaction = l.virtualtransaction
		AND x.pid IS NULL AND x.locktype = 'transactionid'
	JOIN pg_prepared_xacts AS p ON p.transaction = x.transactionid
	WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted AND l.pid IS NULL
		AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
		AND l.relation IN (SELECT z.offset_sequence FROM iotmq.zone AS z)
$$;
COMMENT ON FUNCTION iotmq.zone_holders IS 'internal: the open transactions that published';

-- count_lag: what a group has not settled, counted by reading: not yet delivered
-- (filters applied), in flight, or waiting for a retry. Errors: 22004, 42704.
CREATE FUNCTION iotmq.count_lag(topic text, consumer_group text) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.group_id(topic, consumer_group);
BEGIN
	RETURN (
		SELECT coalesce(sum(iotmq.count_ready(c.cursor_id)
			+ (SELECT coalesce(sum(l.messages), 0)
				FROM iotmq.lease AS l
				JOIN iotmq.position AS p ON p.cursor_id = c.cursor_id AND p.oldest_lease <= l.lease_id
				WHERE l.lease_id >= c.cursor_id::bigint << 43
					AND l.lease_id < (c.cursor_id + 1)::bigint << 43)
			+ (SELECT count(*) FROM iotmq.redelivery AS r WHERE r.cursor_id = c.cursor_id)), 0)
		FROM iotmq.cursor AS c
		WHERE c.group_id = id);
END
$$;
COMMENT ON FUNCTION iotmq.count_lag IS 'how many messages a group has not settled, counted exactly';

REVOKE EXECUTE ON FUNCTION iotmq.zone_offsets, iotmq.published_at, iotmq.newest_published_at,
	iotmq.count_ready, iotmq.zone_holders, iotmq.count_lag FROM PUBLIC;

CREATE VIEW iotmq.in_flight AS
SELECT
	l.lease_id,
	t.topic,
	g.consumer_group,
	z.zone,
	l.consumer,
	l.leased_at,
	l.deadline,
	l.messages,
	coalesce((SELECT max(attempt) FROM unnest(l.attempts) AS attempt), 1) AS attempt
FROM iotmq.lease AS l
JOIN iotmq.cursor AS c ON c.cursor_id = l.lease_id >> 43
JOIN iotmq.position AS p ON p.cursor_id = c.cursor_id AND p.oldest_lease <= l.lease_id
JOIN iotmq.consumer_group AS g USING (group_id)
JOIN iotmq.zone AS z USING (zone_id)
JOIN iotmq.topic AS t ON t.topic_id = z.topic_id;
COMMENT ON VIEW iotmq.in_flight IS 'the open leases of every group';
COMMENT ON COLUMN iotmq.in_flight.lease_id IS 'the lease';
COMMENT ON COLUMN iotmq.in_flight.topic IS 'the topic';
COMMENT ON COLUMN iotmq.in_flight.consumer_group IS 'the consumer group';
COMMENT ON COLUMN iotmq.in_flight.zone IS 'the zone';
COMMENT ON COLUMN iotmq.in_flight.consumer IS 'who consumes, as told to consume';
COMMENT ON COLUMN iotmq.in_flight.leased_at IS 'when the lease was given';
COMMENT ON COLUMN iotmq.in_flight.deadline IS 'when it expires';
COMMENT ON COLUMN iotmq.in_flight.messages IS 'messages in it that are still open';
COMMENT ON COLUMN iotmq.in_flight.attempt IS 'the highest attempt among its messages';

CREATE VIEW iotmq.consumer_lag AS
WITH zone_offset AS MATERIALIZED (
	SELECT z.zone_id, o.stable_offset, o.end_offset
	FROM iotmq.zone AS z
	CROSS JOIN LATERAL iotmq.zone_offsets(z.zone_id) AS o
	WHERE o.end_offset IS NOT NULL
), inflight AS (
	SELECT
		(l.lease_id >> 43)::int AS cursor_id,
		sum(l.messages) AS messages,
		min(coalesce(l.offsets[o.i + 1], l.first_offset + o.i)) AS first_offset
	FROM iotmq.lease AS l
	JOIN iotmq.position AS p ON p.cursor_id = l.lease_id >> 43 AND p.oldest_lease <= l.lease_id
	CROSS JOIN LATERAL (
		-- the first message that is still open
		SELECT coalesce(min(i), 0) AS i
		FROM generate_series(0, octet_length(l.settled) * 8 - 1) AS i
		WHERE get_bit(l.settled, i) = 0
	) AS o
	GROUP BY 1
), retry AS (
	SELECT
		r.cursor_id,
		count(*) AS messages,
		count(r.device_id) FILTER (WHERE r.due_at < 'infinity') AS devices,
		min(r.msg_offset) AS first_offset
	FROM iotmq.redelivery AS r
	GROUP BY r.cursor_id
), dead AS (
	SELECT d.cursor_id, count(*) AS messages
	FROM iotmq.dead_message AS d
	WHERE NOT d.redriven
	GROUP BY d.cursor_id
), lag AS MATERIALIZED (
	SELECT
		CASE t.retention_policy
			WHEN 'time' THEN t.retention
			ELSE coalesce(t.max_retention, t.retention * 4)
		END AS kept_for,
		t.topic,
		g.consumer_group,
		z.zone,
		g.mode,
		z.zone_id,
		z.earliest_offset,
		p.next_offset,
		greatest(o.stable_offset, p.next_offset) AS stable_offset,
		o.end_offset,
		greatest(o.stable_offset - p.next_offset, 0) AS ready_messages,
		coalesce(i.messages, 0)::bigint AS inflight_messages,
		coalesce(r.messages, 0)::bigint AS retry_messages,
		coalesce(r.devices, 0)::bigint AS blocked_devices,
		coalesce(d.messages, 0)::bigint AS dead_letters,
		p.expired_unread,
		least(i.first_offset, r.first_offset,
			CASE WHEN p.next_offset < o.stable_offset THEN p.next_offset END) AS oldest_offset,
		nullif(p.last_consumed_at, '-infinity') AS last_consumed_at
	FROM iotmq.cursor AS c
	JOIN iotmq.position AS p USING (cursor_id)
	JOIN iotmq.consumer_group AS g USING (group_id)
	JOIN iotmq.zone AS z USING (zone_id)
	JOIN iotmq.topic AS t ON t.topic_id = z.topic_id
	JOIN zone_offset AS o USING (zone_id)
	LEFT JOIN inflight AS i USING (cursor_id)
	LEFT JOIN retry AS r USING (cursor_id)
	LEFT JOIN dead AS d USING (cursor_id)
), oldest AS MATERIALIZED (
	-- groups mostly stand at the same place
	SELECT d.zone_id, d.oldest_offset, iotmq.published_at(d.zone_id, d.oldest_offset) AS published_at
	FROM (SELECT DISTINCT zone_id, oldest_offset FROM lag WHERE oldest_offset IS NOT NULL) AS d
)
SELECT
	topic,
	consumer_group,
	zone,
	mode,
	earliest_offset,
	next_offset,
	stable_offset,
	end_offset,
	ready_messages + inflight_messages + retry_messages AS lag_messages,
	ready_messages,
	inflight_messages,
	retry_messages,
	blocked_devices,
	dead_letters,
	expired_unread,
	coalesce(greatest(statement_timestamp() - o.published_at, interval '0'), interval '0') AS lag_time,
	CASE
		WHEN o.published_at IS NOT NULL
		THEN greatest(o.published_at + kept_for - statement_timestamp(), interval '0')
	END AS time_to_loss,
	last_consumed_at
FROM lag
LEFT JOIN oldest AS o USING (zone_id, oldest_offset);
COMMENT ON VIEW iotmq.consumer_lag IS 'how far every group is behind, per zone';
COMMENT ON COLUMN iotmq.consumer_lag.topic IS 'the topic';
COMMENT ON COLUMN iotmq.consumer_lag.consumer_group IS 'the consumer group';
COMMENT ON COLUMN iotmq.consumer_lag.zone IS 'the zone';
COMMENT ON COLUMN iotmq.consumer_lag.mode IS 'concurrent or orderly';
COMMENT ON COLUMN iotmq.consumer_lag.earliest_offset IS 'the lowest offset that the log may still hold';
COMMENT ON COLUMN iotmq.consumer_lag.next_offset IS 'the next one to deliver';
COMMENT ON COLUMN iotmq.consumer_lag.stable_offset IS 'the first one not yet decided';
COMMENT ON COLUMN iotmq.consumer_lag.end_offset IS 'the next one to be assigned';
COMMENT ON COLUMN iotmq.consumer_lag.lag_messages IS 'ready + inflight + retry';
COMMENT ON COLUMN iotmq.consumer_lag.ready_messages IS 'decided and not yet delivered, before filters';
COMMENT ON COLUMN iotmq.consumer_lag.inflight_messages IS 'delivered and not yet settled';
COMMENT ON COLUMN iotmq.consumer_lag.retry_messages IS 'waiting for another attempt';
COMMENT ON COLUMN iotmq.consumer_lag.blocked_devices IS 'devices with waiting messages, in an orderly group';
COMMENT ON COLUMN iotmq.consumer_lag.dead_letters IS 'given up';
COMMENT ON COLUMN iotmq.consumer_lag.expired_unread IS 'dropped by retention before the group had settled them';
COMMENT ON COLUMN iotmq.consumer_lag.lag_time IS 'age of the oldest message not settled';
COMMENT ON COLUMN iotmq.consumer_lag.time_to_loss IS 'how long until retention drops an unsettled message';
COMMENT ON COLUMN iotmq.consumer_lag.last_consumed_at IS 'when a consumer got its last lease or committed an offset';

CREATE VIEW iotmq.group_lag AS
SELECT
	topic,
	consumer_group,
	mode,
	sum(earliest_offset)::bigint AS earliest_offset,
	sum(next_offset)::bigint AS next_offset,
	sum(stable_offset)::bigint AS stable_offset,
	sum(end_offset)::bigint AS end_offset,
	sum(lag_messages)::bigint AS lag_messages,
	sum(ready_messages)::bigint AS ready_messages,
	sum(inflight_messages)::bigint AS inflight_messages,
	sum(retry_messages)::bigint AS retry_messages,
	sum(blocked_devices)::bigint AS blocked_devices,
	sum(dead_letters)::bigint AS dead_letters,
	sum(expired_unread)::bigint AS expired_unread,
	max(lag_time) AS lag_time,
	min(time_to_loss) AS time_to_loss,
	max(last_consumed_at) AS last_consumed_at
FROM iotmq.consumer_lag
GROUP BY topic, consumer_group, mode;
COMMENT ON VIEW iotmq.group_lag IS 'how far every group is behind, over all zones';
COMMENT ON COLUMN iotmq.group_lag.topic IS 'the topic';
COMMENT ON COLUMN iotmq.group_lag.consumer_group IS 'the consumer group';
COMMENT ON COLUMN iotmq.group_lag.mode IS 'concurrent or orderly';
COMMENT ON COLUMN iotmq.group_lag.earliest_offset IS 'the lowest offset that the log may still hold, summed over zones';
COMMENT ON COLUMN iotmq.group_lag.next_offset IS 'the next one to deliver, summed over zones';
COMMENT ON COLUMN iotmq.group_lag.stable_offset IS 'the first one not yet decided, summed over zones';
COMMENT ON COLUMN iotmq.group_lag.end_offset IS 'the next one to be assigned, summed over zones';
COMMENT ON COLUMN iotmq.group_lag.lag_messages IS 'ready + inflight + retry';
COMMENT ON COLUMN iotmq.group_lag.ready_messages IS 'decided and not yet delivered, before filters';
COMMENT ON COLUMN iotmq.group_lag.inflight_messages IS 'delivered and not yet settled';
COMMENT ON COLUMN iotmq.group_lag.retry_messages IS 'waiting for another attempt';
COMMENT ON COLUMN iotmq.group_lag.blocked_devices IS 'devices with waiting messages, in an orderly group';
COMMENT ON COLUMN iotmq.group_lag.dead_letters IS 'given up';
COMMENT ON COLUMN iotmq.group_lag.expired_unread IS 'dropped by retention before the group had settled them';
COMMENT ON COLUMN iotmq.group_lag.lag_time IS 'age of the oldest message not settled';
COMMENT ON COLUMN iotmq.group_lag.time_to_loss IS 'how long until retention drops an unsettled message';
COMMENT ON COLUMN iotmq.group_lag.last_consumed_at IS 'when a consumer got its last lease or committed an offset';

CREATE VIEW iotmq.topic_stats AS
SELECT
	t.topic,
	z.zone,
	s.segments,
	z.earliest_offset,
	o.end_offset,
	greatest(o.end_offset - z.earliest_offset, 0) AS messages_estimate,
	s.bytes,
	iotmq.published_at(z.zone_id, z.earliest_offset) AS oldest_published_at,
	iotmq.newest_published_at(z.zone_id) AS newest_published_at
FROM iotmq.topic AS t
JOIN iotmq.zone AS z USING (topic_id)
CROSS JOIN LATERAL iotmq.zone_offsets(z.zone_id) AS o
CROSS JOIN LATERAL (
	-- those made ahead of time are empty
	SELECT count(*) AS segments,
		coalesce(sum(CASE
			WHEN s.sealed THEN s.bytes
			WHEN s.from_time <= statement_timestamp() THEN pg_total_relation_size(s.table_name)
		END), 0)::bigint AS bytes
	FROM iotmq.segment AS s
	WHERE s.zone_id = z.zone_id
) AS s
WHERE o.end_offset IS NOT NULL;
COMMENT ON VIEW iotmq.topic_stats IS 'what every topic holds, per zone';
COMMENT ON COLUMN iotmq.topic_stats.topic IS 'the topic';
COMMENT ON COLUMN iotmq.topic_stats.zone IS 'the zone';
COMMENT ON COLUMN iotmq.topic_stats.segments IS 'number of segments';
COMMENT ON COLUMN iotmq.topic_stats.earliest_offset IS 'the lowest offset that the log may still hold';
COMMENT ON COLUMN iotmq.topic_stats.end_offset IS 'the next one to be assigned';
COMMENT ON COLUMN iotmq.topic_stats.messages_estimate IS 'messages in the log, counting holes';
COMMENT ON COLUMN iotmq.topic_stats.bytes IS 'size on disk with indexes';
COMMENT ON COLUMN iotmq.topic_stats.oldest_published_at IS 'of the oldest message';
COMMENT ON COLUMN iotmq.topic_stats.newest_published_at IS 'of the newest message';

CREATE VIEW iotmq.held_back AS
SELECT
	t.topic,
	z.zone,
	o.stable_offset,
	o.end_offset,
	h.pid,
	h.xid,
	h.since,
	h.application_name
FROM iotmq.zone_holders() AS h
JOIN iotmq.zone AS z ON z.offset_sequence = h.offset_sequence
JOIN iotmq.topic AS t USING (topic_id)
CROSS JOIN LATERAL iotmq.zone_offsets(z.zone_id) AS o
WHERE o.end_offset IS NOT NULL;
COMMENT ON VIEW iotmq.held_back IS 'the open transactions that published to a zone and hold its stable offset back';
COMMENT ON COLUMN iotmq.held_back.topic IS 'the topic';
COMMENT ON COLUMN iotmq.held_back.zone IS 'the zone';
COMMENT ON COLUMN iotmq.held_back.stable_offset IS 'the first one not yet decided';
COMMENT ON COLUMN iotmq.held_back.end_offset IS 'the next one to be assigned';
COMMENT ON COLUMN iotmq.held_back.pid IS 'backend; NULL: a prepared transaction';
COMMENT ON COLUMN iotmq.held_back.xid IS 'transaction id';
COMMENT ON COLUMN iotmq.held_back.since IS 'when its transaction began or was prepared';
COMMENT ON COLUMN iotmq.held_back.application_name IS 'of that backend';

CREATE VIEW iotmq.dead_letter_depth AS
SELECT
	t.topic,
	g.consumer_group,
	count(d.id) AS dead_letters,
	min(d.dead_at) AS oldest_dead_at,
	max(d.dead_at) AS newest_dead_at,
	count(d.id) FILTER (WHERE d.dead_at > statement_timestamp() - interval '1 hour') AS dead_last_hour
FROM iotmq.consumer_group AS g
JOIN iotmq.topic AS t USING (topic_id)
LEFT JOIN iotmq.cursor AS c USING (group_id)
LEFT JOIN iotmq.dead_message AS d ON d.cursor_id = c.cursor_id AND NOT d.redriven
GROUP BY t.topic, g.consumer_group;
COMMENT ON VIEW iotmq.dead_letter_depth IS 'how many dead letters every group has';
COMMENT ON COLUMN iotmq.dead_letter_depth.topic IS 'the topic';
COMMENT ON COLUMN iotmq.dead_letter_depth.consumer_group IS 'the consumer group';
COMMENT ON COLUMN iotmq.dead_letter_depth.dead_letters IS 'its dead letters';
COMMENT ON COLUMN iotmq.dead_letter_depth.oldest_dead_at IS 'when the oldest was given up';
COMMENT ON COLUMN iotmq.dead_letter_depth.newest_dead_at IS 'when the newest was given up';
COMMENT ON COLUMN iotmq.dead_letter_depth.dead_last_hour IS 'given up in the last hour';

-- What is wrong now. lag and delay have a threshold of the group's own; dead
-- letters of the last hour, and a quarter of the retention left until loss, always
-- count.
CREATE VIEW iotmq.alerts AS
SELECT a.topic, a.consumer_group, a.alert, a.value, a.threshold
FROM iotmq.group_lag AS l
JOIN iotmq.topic AS t USING (topic)
JOIN iotmq.consumer_group AS g USING (topic_id, consumer_group)
JOIN iotmq.dead_letter_depth AS d USING (topic, consumer_group)
CROSS JOIN LATERAL (
	SELECT CASE t.retention_policy
		WHEN 'time' THEN t.retention
		ELSE coalesce(t.max_retention, t.retention * 4)
	END / 4 AS quarter
) AS k
CROSS JOIN LATERAL (
	SELECT l.topic, l.consumer_group, 'lag' AS alert, l.lag_messages::text AS value, g.max_lag::text AS threshold
	WHERE l.lag_messages > g.max_lag
	UNION ALL
	SELECT l.topic, l.consumer_group, 'delay', l.lag_time::text, g.max_delay::text
	WHERE l.lag_time > g.max_delay
	UNION ALL
	SELECT l.topic, l.consumer_group, 'dead_letters', d.dead_last_hour::text, '0 in the last hour'
	WHERE d.dead_last_hour > 0
	UNION ALL
	SELECT l.topic, l.consumer_group, 'time_to_loss', l.time_to_loss::text, k.quarter::text
	WHERE l.time_to_loss < k.quarter
) AS a;
COMMENT ON VIEW iotmq.alerts IS 'what an operator should look at now';
COMMENT ON COLUMN iotmq.alerts.topic IS 'the topic';
COMMENT ON COLUMN iotmq.alerts.consumer_group IS 'the consumer group';
COMMENT ON COLUMN iotmq.alerts.alert IS 'lag, delay, dead_letters or time_to_loss';
COMMENT ON COLUMN iotmq.alerts.value IS 'how it is';
COMMENT ON COLUMN iotmq.alerts.threshold IS 'how it should be at worst';

-- For Prometheus. Names follow RocketMQ's; latencies are in milliseconds as there.
-- Counters come from offsets and positions, which publishing and consuming write
-- anyway, so they survive restarts and never go backwards.
CREATE VIEW iotmq.metrics AS
WITH lag AS MATERIALIZED (
	SELECT l.*, jsonb_build_object('topic', l.topic, 'zone', l.zone, 'consumer_group', l.consumer_group) AS labels
	FROM iotmq.consumer_lag AS l
), stats AS MATERIALIZED (
	SELECT s.*, jsonb_build_object('topic', s.topic, 'zone', s.zone) AS labels
	FROM iotmq.topic_stats AS s
), totals AS MATERIALIZED (
	SELECT p.*, jsonb_build_object('topic', t.topic, 'zone', z.zone, 'consumer_group', g.consumer_group) AS labels
	FROM iotmq.cursor AS c
	JOIN iotmq.position AS p USING (cursor_id)
	JOIN iotmq.consumer_group AS g USING (group_id)
	JOIN iotmq.zone AS z USING (zone_id)
	JOIN iotmq.topic AS t ON t.topic_id = z.topic_id
)
SELECT m.name, lag.labels, m.value, m.help, 'gauge' AS kind
FROM lag
CROSS JOIN LATERAL (VALUES
	('iotmq_consumer_lag_messages', lag.lag_messages::float8, 'Messages not settled: ready, in flight and waiting for a retry.'),
	('iotmq_consumer_lag_latency', extract(epoch FROM lag.lag_time)::float8 * 1000, 'Age of the oldest message not settled, in milliseconds.'),
	('iotmq_consumer_ready_messages', lag.ready_messages::float8, 'Messages not delivered yet.'),
	('iotmq_consumer_inflight_messages', lag.inflight_messages::float8, 'Messages delivered and not settled.'),
	('iotmq_consumer_retry_messages', lag.retry_messages::float8, 'Messages that wait for another attempt.'),
	('iotmq_consumer_blocked_devices', lag.blocked_devices::float8, 'Devices of an orderly group with waiting messages.'),
	('iotmq_consumer_dlq_messages', lag.dead_letters::float8, 'Dead letters.'),
	('iotmq_consumer_time_to_loss', extract(epoch FROM lag.time_to_loss)::float8 * 1000, 'Time until retention may drop an unsettled message, in milliseconds.')
) AS m (name, value, help)
WHERE m.value IS NOT NULL
UNION ALL
SELECT m.name, totals.labels, m.value, m.help, 'counter'
FROM totals
CROSS JOIN LATERAL (VALUES
	('iotmq_messages_out_total', totals.delivered_total::float8, 'Messages delivered by lease, repeated deliveries too.'),
	('iotmq_messages_retried_total', totals.retried_total::float8, 'Failed attempts that led to another one.'),
	('iotmq_send_to_dlq_messages_total', totals.dead_total::float8, 'Messages that became dead letters.'),
	('iotmq_messages_expired_unread_total', totals.expired_unread::float8, 'Messages that retention dropped before the group had settled them.')
) AS m (name, value, help)
UNION ALL
SELECT m.name, stats.labels, m.value, m.help, m.kind
FROM stats
CROSS JOIN LATERAL (VALUES
	('iotmq_messages_in_total', (stats.end_offset - 1)::float8, 'Offsets assigned to messages, those of rolled back ones too.', 'counter'),
	('iotmq_storage_messages', stats.messages_estimate::float8, 'Messages in the log, counting holes.', 'gauge'),
	('iotmq_storage_size', stats.bytes::float8, 'Size of the log on disk with indexes, in bytes.', 'gauge'),
	('iotmq_storage_segments', stats.segments::float8, 'Segments, those made ahead of time too.', 'gauge'),
	('iotmq_storage_message_reserve_time', extract(epoch FROM statement_timestamp() - stats.oldest_published_at)::float8 * 1000, 'Age of the oldest message in the log, in milliseconds.', 'gauge')
) AS m (name, value, help, kind)
WHERE m.value IS NOT NULL
UNION ALL
SELECT 'iotmq_held_back_time', jsonb_build_object('topic', h.topic, 'zone', h.zone),
	extract(epoch FROM max(statement_timestamp() - h.since))::float8 * 1000,
	'Age of the oldest open transaction that published to the zone, in milliseconds.', 'gauge'
FROM iotmq.held_back AS h
GROUP BY h.topic, h.zone;
COMMENT ON VIEW iotmq.metrics IS 'figures for Prometheus';
COMMENT ON COLUMN iotmq.metrics.name IS 'the metric';
COMMENT ON COLUMN iotmq.metrics.labels IS 'topic, zone and consumer_group, as far as it has them';
COMMENT ON COLUMN iotmq.metrics.value IS 'its value';
COMMENT ON COLUMN iotmq.metrics.help IS 'what it means';
COMMENT ON COLUMN iotmq.metrics.kind IS 'counter or gauge';
