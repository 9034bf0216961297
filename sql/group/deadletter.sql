-- Dead letters: messages that a group gave up, with a copy of their content.

-- deadletter_own(): the dead letters of the groups that the current user may consume as, none
-- for an administrator: see src/group/deadletter.c.
CREATE FUNCTION iotmq.deadletter_own(OUT id bigint, OUT topic text, OUT consumer_group text, OUT zone text,
		OUT msg_offset bigint, OUT device_id text, OUT tag text, OUT payload jsonb, OUT body bytea,
		OUT properties jsonb, OUT published_at timestamptz, OUT attempts int, OUT reason text,
		OUT dead_at timestamptz, OUT message_key text) RETURNS SETOF record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_deadletter_own';
COMMENT ON FUNCTION iotmq.deadletter_own IS 'internal: the dead letters of the caller''s groups';

-- Shows each role the dead letters of the groups it may consume as. Administrators read the
-- table; for others that branch is never begun, so that no figures of a plan tell of
-- other groups.
CREATE VIEW iotmq.dead_letter AS
SELECT
	d.id,
	t.topic,
	g.consumer_group,
	d.zone,
	d.msg_offset,
	d.device_id,
	d.tag,
	d.payload,
	d.body,
	d.properties,
	d.published_at,
	d.attempts,
	d.reason,
	d.dead_at,
	d.message_key
FROM iotmq_internal.dead_message AS d
JOIN iotmq_internal.cursor AS c USING (cursor_id)
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.topic AS t USING (topic_id)
WHERE NOT d.redriven AND iotmq.access_may_administer()
UNION ALL
SELECT
	d.id,
	d.topic,
	d.consumer_group,
	d.zone,
	d.msg_offset,
	d.device_id,
	d.tag,
	d.payload,
	d.body,
	d.properties,
	d.published_at,
	d.attempts,
	d.reason,
	d.dead_at,
	d.message_key
FROM iotmq.deadletter_own() AS d;
COMMENT ON VIEW iotmq.dead_letter IS 'messages that a group gave up, with their content';
COMMENT ON COLUMN iotmq.dead_letter.id IS 'the dead letter, for redrive and purge_dead_letters';
COMMENT ON COLUMN iotmq.dead_letter.topic IS 'the topic';
COMMENT ON COLUMN iotmq.dead_letter.consumer_group IS 'the consumer group that gave it up';
COMMENT ON COLUMN iotmq.dead_letter.zone IS 'the zone';
COMMENT ON COLUMN iotmq.dead_letter.msg_offset IS 'its offset in the log';
COMMENT ON COLUMN iotmq.dead_letter.device_id IS 'the device';
COMMENT ON COLUMN iotmq.dead_letter.tag IS 'its tag';
COMMENT ON COLUMN iotmq.dead_letter.payload IS 'its payload';
COMMENT ON COLUMN iotmq.dead_letter.body IS 'its body';
COMMENT ON COLUMN iotmq.dead_letter.properties IS 'its properties';
COMMENT ON COLUMN iotmq.dead_letter.published_at IS 'when it was published';
COMMENT ON COLUMN iotmq.dead_letter.attempts IS 'how often it was delivered';
COMMENT ON COLUMN iotmq.dead_letter.reason IS 'why the last attempt failed, as told to nack or reject; lease expired';
COMMENT ON COLUMN iotmq.dead_letter.dead_at IS 'when it became a dead letter';
COMMENT ON COLUMN iotmq.dead_letter.message_key IS 'its key';
