-- Views for operators. None scans messages: figures come from offsets and from
-- the rows of cursors, leases and redeliveries.

-- zone_offsets(zone_id): the first offset not yet decided and the next one to be
-- assigned, as far as they are known now; NULL: the zone is gone. On a standby only
-- what consumers learnt on the primary is known.
CREATE FUNCTION iotmq.zone_offsets(zone_id int, OUT stable_offset bigint, OUT end_offset bigint)
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_zone_offsets';
COMMENT ON FUNCTION iotmq.zone_offsets IS 'internal: stable and end offset of a zone';

-- lag(by_zone, durable): how far every group is behind, a row for each of its zones
-- or, without by_zone, one for all of them. durable: what it says survives a crash,
-- as counters have to. See src/lag.c.
CREATE FUNCTION iotmq.lag(by_zone boolean, durable boolean,
		OUT topic text, OUT consumer_group text, OUT zone text, OUT mode text,
		OUT earliest_offset bigint, OUT next_offset bigint, OUT stable_offset bigint, OUT end_offset bigint,
		OUT lag_messages bigint, OUT ready_messages bigint, OUT inflight_messages bigint,
		OUT retry_messages bigint, OUT blocked_devices bigint, OUT dead_letters bigint,
		OUT expired_unread bigint, OUT lag_time interval, OUT time_to_loss interval,
		OUT last_consumed_at timestamptz, OUT delivered_total bigint, OUT retried_total bigint,
		OUT dead_total bigint) RETURNS SETOF record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_lag';
COMMENT ON FUNCTION iotmq.lag IS 'internal: how far every group is behind';

-- stats(durable): what every zone holds, a row for each. See src/stats.c.
CREATE FUNCTION iotmq.stats(durable boolean,
		OUT topic text, OUT zone text, OUT segments bigint, OUT earliest_offset bigint,
		OUT end_offset bigint, OUT messages_estimate bigint, OUT bytes bigint,
		OUT oldest_published_at timestamptz, OUT newest_published_at timestamptz) RETURNS SETOF record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_stats';
COMMENT ON FUNCTION iotmq.stats IS 'internal: what every zone holds';

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

REVOKE EXECUTE ON FUNCTION iotmq.zone_offsets, iotmq.lag, iotmq.stats,
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
	CASE
		WHEN l.attempts IS NULL THEN 1
		ELSE (SELECT max(attempt) FROM unnest(l.attempts) AS attempt)
	END AS attempt
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
SELECT
	topic,
	consumer_group,
	zone,
	mode,
	earliest_offset,
	next_offset,
	stable_offset,
	end_offset,
	lag_messages,
	ready_messages,
	inflight_messages,
	retry_messages,
	blocked_devices,
	dead_letters,
	expired_unread,
	lag_time,
	time_to_loss,
	last_consumed_at
FROM iotmq.lag(true, false);
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
	earliest_offset,
	next_offset,
	stable_offset,
	end_offset,
	lag_messages,
	ready_messages,
	inflight_messages,
	retry_messages,
	blocked_devices,
	dead_letters,
	expired_unread,
	lag_time,
	time_to_loss,
	last_consumed_at
FROM iotmq.lag(false, false);
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
	topic,
	zone,
	segments,
	earliest_offset,
	end_offset,
	messages_estimate,
	bytes,
	oldest_published_at,
	newest_published_at
FROM iotmq.stats(false);
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

-- Counts are kept with the positions; only those of the last hour are counted here.
CREATE VIEW iotmq.dead_letter_depth AS
WITH dead AS (
	SELECT
		c.group_id,
		sum(p.dead_letters)::bigint AS dead_letters,
		min(d.oldest_dead_at) AS oldest_dead_at,
		max(d.newest_dead_at) AS newest_dead_at,
		sum(d.dead_last_hour)::bigint AS dead_last_hour
	FROM iotmq.position AS p
	JOIN iotmq.cursor AS c USING (cursor_id)
	CROSS JOIN LATERAL (
		SELECT
			(SELECT m.dead_at FROM iotmq.dead_message AS m
			WHERE m.cursor_id = p.cursor_id AND NOT m.redriven
			ORDER BY m.dead_at LIMIT 1) AS oldest_dead_at,
			(SELECT m.dead_at FROM iotmq.dead_message AS m
			WHERE m.cursor_id = p.cursor_id AND NOT m.redriven
			ORDER BY m.dead_at DESC LIMIT 1) AS newest_dead_at,
			(SELECT count(*) FROM iotmq.dead_message AS m
			WHERE m.cursor_id = p.cursor_id AND NOT m.redriven
				AND m.dead_at > statement_timestamp() - interval '1 hour') AS dead_last_hour
	) AS d
	WHERE p.dead_letters > 0
	GROUP BY c.group_id
)
SELECT
	t.topic,
	g.consumer_group,
	coalesce(d.dead_letters, 0) AS dead_letters,
	d.oldest_dead_at,
	d.newest_dead_at,
	coalesce(d.dead_last_hour, 0) AS dead_last_hour
FROM iotmq.consumer_group AS g
JOIN iotmq.topic AS t USING (topic_id)
LEFT JOIN dead AS d USING (group_id);
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
-- anyway. They survive restarts and never go backwards: what they say is made durable
-- before it is said.
CREATE VIEW iotmq.metrics AS
WITH lag AS MATERIALIZED (
	SELECT
		jsonb_object(ARRAY['topic', l.topic, 'zone', l.zone, 'consumer_group', l.consumer_group]) AS labels,
		l.lag_messages::float8,
		date_part('epoch', l.lag_time) * 1000 AS lag_latency,
		l.ready_messages::float8,
		l.inflight_messages::float8,
		l.retry_messages::float8,
		l.blocked_devices::float8,
		l.dead_letters::float8,
		date_part('epoch', l.time_to_loss) * 1000 AS time_to_loss,
		l.delivered_total::float8,
		l.retried_total::float8,
		l.dead_total::float8,
		l.expired_unread::float8
	FROM iotmq.lag(true, true) AS l
), stats AS MATERIALIZED (
	SELECT
		jsonb_object(ARRAY['topic', s.topic, 'zone', s.zone]) AS labels,
		(s.end_offset - 1)::float8 AS assigned,
		s.messages_estimate::float8,
		s.bytes::float8,
		s.segments::float8,
		CASE
			WHEN s.oldest_published_at IS NOT NULL
			THEN date_part('epoch', greatest(statement_timestamp() - s.oldest_published_at, '0')) * 1000
		END AS reserve_time
	FROM iotmq.stats(true) AS s
)
SELECT 'iotmq_consumer_lag_messages' AS name, l.labels, l.lag_messages AS value,
	'Messages not settled: ready, in flight and waiting for a retry.' AS help, 'gauge' AS kind
FROM lag AS l
UNION ALL
SELECT 'iotmq_consumer_lag_latency', l.labels, l.lag_latency,
	'Age of the oldest message not settled, in milliseconds.', 'gauge'
FROM lag AS l
UNION ALL
SELECT 'iotmq_consumer_ready_messages', l.labels, l.ready_messages,
	'Messages not delivered yet.', 'gauge'
FROM lag AS l
UNION ALL
SELECT 'iotmq_consumer_inflight_messages', l.labels, l.inflight_messages,
	'Messages delivered and not settled.', 'gauge'
FROM lag AS l
UNION ALL
SELECT 'iotmq_consumer_retry_messages', l.labels, l.retry_messages,
	'Messages that wait for another attempt.', 'gauge'
FROM lag AS l
UNION ALL
SELECT 'iotmq_consumer_blocked_devices', l.labels, l.blocked_devices,
	'Devices of an orderly group with waiting messages.', 'gauge'
FROM lag AS l
UNION ALL
SELECT 'iotmq_consumer_dlq_messages', l.labels, l.dead_letters,
	'Dead letters.', 'gauge'
FROM lag AS l
UNION ALL
SELECT 'iotmq_consumer_time_to_loss', l.labels, l.time_to_loss,
	'Time until retention may drop an unsettled message, in milliseconds.', 'gauge'
FROM lag AS l
WHERE l.time_to_loss IS NOT NULL
UNION ALL
SELECT 'iotmq_messages_out_total', l.labels, l.delivered_total,
	'Messages delivered by lease, repeated deliveries too.', 'counter'
FROM lag AS l
UNION ALL
SELECT 'iotmq_messages_retried_total', l.labels, l.retried_total,
	'Failed attempts that led to another one.', 'counter'
FROM lag AS l
UNION ALL
SELECT 'iotmq_send_to_dlq_messages_total', l.labels, l.dead_total,
	'Messages that became dead letters.', 'counter'
FROM lag AS l
UNION ALL
SELECT 'iotmq_messages_expired_unread_total', l.labels, l.expired_unread,
	'Messages that retention dropped before the group had settled them.', 'counter'
FROM lag AS l
UNION ALL
SELECT 'iotmq_messages_in_total', s.labels, s.assigned,
	'Offsets assigned to messages, those of rolled back ones too.', 'counter'
FROM stats AS s
UNION ALL
SELECT 'iotmq_storage_messages', s.labels, s.messages_estimate,
	'Messages in the log, counting holes.', 'gauge'
FROM stats AS s
UNION ALL
SELECT 'iotmq_storage_size', s.labels, s.bytes,
	'Size of the log on disk with indexes, in bytes.', 'gauge'
FROM stats AS s
UNION ALL
SELECT 'iotmq_storage_segments', s.labels, s.segments,
	'Segments, those made ahead of time too.', 'gauge'
FROM stats AS s
UNION ALL
SELECT 'iotmq_storage_message_reserve_time', s.labels, s.reserve_time,
	'Age of the oldest message in the log, in milliseconds.', 'gauge'
FROM stats AS s
WHERE s.reserve_time IS NOT NULL
UNION ALL
SELECT 'iotmq_held_back_time', jsonb_build_object('topic', h.topic, 'zone', h.zone),
	date_part('epoch', greatest(max(statement_timestamp() - h.since), '0')) * 1000,
	'Age of the oldest open transaction that published to the zone, in milliseconds.', 'gauge'
FROM iotmq.held_back AS h
GROUP BY h.topic, h.zone;
COMMENT ON VIEW iotmq.metrics IS 'figures for Prometheus';
COMMENT ON COLUMN iotmq.metrics.name IS 'the metric';
COMMENT ON COLUMN iotmq.metrics.labels IS 'topic, zone and consumer_group, as far as it has them';
COMMENT ON COLUMN iotmq.metrics.value IS 'its value';
COMMENT ON COLUMN iotmq.metrics.help IS 'what it means';
COMMENT ON COLUMN iotmq.metrics.kind IS 'counter or gauge';
