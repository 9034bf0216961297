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
		jsonb_object(ARRAY['topic', topic, 'zone', zone]) AS labels,
		s.assigned::float8,
		s.messages_estimate::float8,
		s.bytes::float8,
		s.segments::float8,
		CASE
			WHEN s.oldest_published_at IS NOT NULL
			THEN date_part('epoch', greatest(statement_timestamp() - s.oldest_published_at, '0')) * 1000
		END AS reserve_time,
		coalesce(o.overdue, 0)::float8 AS overdue,
		coalesce(o.emptied, 0)::float8 AS emptied
	FROM iotmq.stats(true) AS s
	LEFT JOIN (
		SELECT
			o.topic,
			o.zone,
			count(*) FILTER (WHERE NOT o.emptied) AS overdue,
			count(*) FILTER (WHERE o.emptied) AS emptied
		FROM iotmq.overdue_segment AS o
		GROUP BY o.topic, o.zone
	) AS o USING (topic, zone)
)
SELECT 'iotmq_consumer_lag_messages' AS name, l.labels, l.lag_messages AS value,
	'Messages not settled: ready, in flight and waiting for a retry.' AS help, 'gauge' AS kind
FROM lag AS l
UNION ALL
SELECT 'iotmq_consumer_lag_latency', l.labels, l.lag_latency,
	'Age of the oldest message not settled, in milliseconds.', 'gauge'
FROM lag AS l
WHERE l.lag_latency IS NOT NULL
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
SELECT 'iotmq_storage_overdue_segments', s.labels, s.overdue,
	'Segments that retention should have freed and could not.', 'gauge'
FROM stats AS s
UNION ALL
SELECT 'iotmq_storage_emptied_segments', s.labels, s.emptied,
	'Freed segments whose empty table could not be dropped yet.', 'gauge'
FROM stats AS s
UNION ALL
SELECT 'iotmq_held_back_time', jsonb_build_object('topic', h.topic, 'zone', h.zone),
	date_part('epoch', greatest(max(statement_timestamp() - h.since), '0')) * 1000,
	'Age of the oldest open transaction that published to the zone, in milliseconds.', 'gauge'
FROM iotmq.held_back AS h
GROUP BY h.topic, h.zone
UNION ALL
SELECT 'iotmq_cursor_held_time', jsonb_build_object('topic', h.topic, 'zone', h.zone, 'consumer_group', h.consumer_group),
	date_part('epoch', greatest(max(statement_timestamp() - h.since), '0')) * 1000,
	'Age of the oldest open transaction that keeps the group from reading the zone, in milliseconds.', 'gauge'
FROM iotmq.cursor_holder AS h
GROUP BY h.topic, h.zone, h.consumer_group
UNION ALL
SELECT 'iotmq_group_paused', jsonb_build_object('topic', t.topic, 'consumer_group', g.consumer_group), g.paused::int::float8,
	'Whether nothing is delivered to the group: 1, else 0.', 'gauge'
FROM iotmq_internal.consumer_group AS g
JOIN iotmq_internal.topic AS t USING (topic_id)
UNION ALL
SELECT k.name, jsonb_build_object('topic', m.topic, 'zone', m.zone), k.value, k.help, k.kind
FROM iotmq.mirror AS m
CROSS JOIN LATERAL (VALUES
	('iotmq_mirror_lag_messages', m.lag_messages::float8,
		'Messages that the source of the mirror had more, when it was asked last.', 'gauge'),
	('iotmq_mirror_lag_latency', date_part('epoch', m.lag_time) * 1000,
		'What was published within this time may be missing in the mirror, in milliseconds.', 'gauge'),
	('iotmq_mirror_failed', (m.error IS NOT NULL)::int::float8,
		'Whether the last pull of the mirror failed: 1, else 0.', 'gauge'),
	('iotmq_mirror_messages_total', m.pulled_messages::float8,
		'Messages pulled since the zone is a mirror.', 'counter'),
	('iotmq_mirror_missed_total', m.missed_messages::float8,
		'Offsets that the source of the mirror had dropped before they were pulled.', 'counter')
) AS k (name, value, help, kind)
WHERE k.value IS NOT NULL
UNION ALL
SELECT 'iotmq_maintenance_age', '{}', date_part('epoch', greatest(m.age, '0')) * 1000,
	'Time since maintenance began to run last or could have begun first, in milliseconds.', 'gauge'
FROM iotmq.alerts_maintenance() AS m;
COMMENT ON VIEW iotmq.metrics IS 'figures for Prometheus';
COMMENT ON COLUMN iotmq.metrics.name IS 'the metric';
COMMENT ON COLUMN iotmq.metrics.labels IS 'topic, zone and consumer_group, as far as it has them';
COMMENT ON COLUMN iotmq.metrics.value IS 'its value';
COMMENT ON COLUMN iotmq.metrics.help IS 'what it means';
COMMENT ON COLUMN iotmq.metrics.kind IS 'counter or gauge';
