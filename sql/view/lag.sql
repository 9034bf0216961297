-- Views for operators. None scans messages: figures come from offsets and from
-- the rows of cursors, leases and redeliveries. This file: how far groups are behind.

-- lag(by_zone, durable): how far every group is behind that the current user may see
-- (monitors all, others those that they may consume as), a row for each of its zones
-- or, without by_zone, one for all of them. durable: what it says survives a crash,
-- as counters have to. See src/view/lag.c.
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
COMMENT ON COLUMN iotmq.consumer_lag.lag_time IS 'age of the oldest message not settled; NULL: it can''t be read';
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

-- Counts are kept with the positions; only those of the last hour are counted here.
CREATE VIEW iotmq.dead_letter_depth AS
WITH dead AS (
	SELECT
		c.group_id,
		sum(p.dead_letters)::bigint AS dead_letters,
		min(d.oldest_dead_at) AS oldest_dead_at,
		max(d.newest_dead_at) AS newest_dead_at,
		sum(d.dead_last_hour)::bigint AS dead_last_hour
	FROM iotmq_internal.cursor_state AS p
	JOIN iotmq_internal.cursor AS c USING (cursor_id)
	CROSS JOIN LATERAL (
		SELECT
			(SELECT m.dead_at FROM iotmq_internal.dead_message AS m
			WHERE m.cursor_id = p.cursor_id AND NOT m.redriven
			ORDER BY m.dead_at LIMIT 1) AS oldest_dead_at,
			(SELECT m.dead_at FROM iotmq_internal.dead_message AS m
			WHERE m.cursor_id = p.cursor_id AND NOT m.redriven
			ORDER BY m.dead_at DESC LIMIT 1) AS newest_dead_at,
			(SELECT count(*) FROM iotmq_internal.dead_message AS m
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
FROM iotmq_internal.consumer_group AS g
JOIN iotmq_internal.topic AS t USING (topic_id)
LEFT JOIN dead AS d USING (group_id);
COMMENT ON VIEW iotmq.dead_letter_depth IS 'how many dead letters every group has';
COMMENT ON COLUMN iotmq.dead_letter_depth.topic IS 'the topic';
COMMENT ON COLUMN iotmq.dead_letter_depth.consumer_group IS 'the consumer group';
COMMENT ON COLUMN iotmq.dead_letter_depth.dead_letters IS 'its dead letters';
COMMENT ON COLUMN iotmq.dead_letter_depth.oldest_dead_at IS 'when the oldest was given up';
COMMENT ON COLUMN iotmq.dead_letter_depth.newest_dead_at IS 'when the newest was given up';
COMMENT ON COLUMN iotmq.dead_letter_depth.dead_last_hour IS 'given up in the last hour';
