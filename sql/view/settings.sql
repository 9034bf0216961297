-- What was told to create_topic, create_group and later alter_...: each role sees what it has
-- a right on, monitors and administrators see all. Every grant comes with SELECT on both views.
-- The rows come from functions, so that no figures of a plan tell of what a role doesn't see:
-- see src/view/settings.c.

CREATE FUNCTION iotmq.settings_of_topics(OUT topic text, OUT retention interval, OUT segment_interval interval,
		OUT retention_policy text, OUT max_retention interval, OUT device_index boolean,
		OUT dedup_window interval, OUT zones text[], OUT created_at timestamptz) RETURNS SETOF record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_settings_of_topics';
COMMENT ON FUNCTION iotmq.settings_of_topics IS 'internal: the settings of the topics on which the caller has a right';

-- settings_topic_rows(topic_ids, zones): the rows of these topics, each with its zones.
CREATE FUNCTION iotmq.settings_topic_rows(topic_ids int[], zones text[],
		OUT topic text, OUT retention interval, OUT segment_interval interval,
		OUT retention_policy text, OUT max_retention interval, OUT device_index boolean,
		OUT dedup_window interval, OUT zones_of_topic text[], OUT created_at timestamptz) RETURNS SETOF record
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT
		t.topic,
		t.retention,
		t.segment_interval,
		t.retention_policy,
		t.max_retention,
		t.device_index,
		t.dedup_window,
		s.zones::text[],
		t.created_at
	FROM unnest(topic_ids, zones) AS s (topic_id, zones)
	JOIN iotmq_internal.topic AS t USING (topic_id)
$$;
COMMENT ON FUNCTION iotmq.settings_topic_rows IS 'internal: the settings of these topics';

CREATE VIEW iotmq.topic_settings AS
SELECT
	topic,
	retention,
	segment_interval,
	retention_policy,
	max_retention,
	device_index,
	dedup_window,
	zones,
	created_at
FROM iotmq.settings_of_topics();
COMMENT ON VIEW iotmq.topic_settings IS 'the settings of the topics on which the caller has a right';
COMMENT ON COLUMN iotmq.topic_settings.topic IS 'the topic';
COMMENT ON COLUMN iotmq.topic_settings.retention IS 'how long messages are kept';
COMMENT ON COLUMN iotmq.topic_settings.segment_interval IS 'the length of a segment';
COMMENT ON COLUMN iotmq.topic_settings.retention_policy IS 'time or consumed';
COMMENT ON COLUMN iotmq.topic_settings.max_retention IS 'the bound of the policy consumed; NULL: 4 times retention';
COMMENT ON COLUMN iotmq.topic_settings.device_index IS 'whether segments have an index for messages_of_device';
COMMENT ON COLUMN iotmq.topic_settings.dedup_window IS 'for how long a message key is unique; NULL: no message keys';
COMMENT ON COLUMN iotmq.topic_settings.zones IS 'the zones on which the caller has a right';
COMMENT ON COLUMN iotmq.topic_settings.created_at IS 'when the topic was made';

CREATE FUNCTION iotmq.settings_of_groups(OUT topic text, OUT consumer_group text, OUT mode text, OUT tags text,
		OUT filter jsonpath, OUT invisible_for interval, OUT max_retries int, OUT backoff interval[],
		OUT max_delay interval, OUT max_lag bigint, OUT durable_acks boolean, OUT paused boolean,
		OUT created_at timestamptz) RETURNS SETOF record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_settings_of_groups';
COMMENT ON FUNCTION iotmq.settings_of_groups IS 'internal: the settings of the groups that the caller may see';

-- settings_group_rows(group_ids): the rows of these groups.
CREATE FUNCTION iotmq.settings_group_rows(group_ids int[], OUT topic text, OUT consumer_group text, OUT mode text,
		OUT tags text, OUT filter jsonpath, OUT invisible_for interval, OUT max_retries int,
		OUT backoff interval[], OUT max_delay interval, OUT max_lag bigint, OUT durable_acks boolean,
		OUT paused boolean, OUT created_at timestamptz) RETURNS SETOF record
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT
		t.topic,
		g.consumer_group,
		g.mode,
		coalesce(array_to_string(g.tags, ' || '), '*'),
		g.filter,
		g.invisible_for,
		g.max_retries,
		g.backoff,
		g.max_delay,
		g.max_lag,
		g.durable_acks,
		g.paused,
		g.created_at
	FROM iotmq_internal.consumer_group AS g
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE g.group_id = ANY (group_ids)
$$;
COMMENT ON FUNCTION iotmq.settings_group_rows IS 'internal: the settings of these groups';

CREATE VIEW iotmq.group_settings AS
SELECT
	topic,
	consumer_group,
	mode,
	tags,
	filter,
	invisible_for,
	max_retries,
	backoff,
	max_delay,
	max_lag,
	durable_acks,
	paused,
	created_at
FROM iotmq.settings_of_groups();
COMMENT ON VIEW iotmq.group_settings IS 'the settings of the groups that the caller may consume as';
COMMENT ON COLUMN iotmq.group_settings.topic IS 'the topic';
COMMENT ON COLUMN iotmq.group_settings.consumer_group IS 'the consumer group';
COMMENT ON COLUMN iotmq.group_settings.mode IS 'concurrent or orderly';
COMMENT ON COLUMN iotmq.group_settings.tags IS 'the tags delivered, as alter_group takes them; *: all';
COMMENT ON COLUMN iotmq.group_settings.filter IS 'which payloads are delivered; NULL: all';
COMMENT ON COLUMN iotmq.group_settings.invisible_for IS 'how long a lease lasts';
COMMENT ON COLUMN iotmq.group_settings.max_retries IS 'after so many retries a message is a dead letter';
COMMENT ON COLUMN iotmq.group_settings.backoff IS 'the wait after each failed attempt; the last repeats';
COMMENT ON COLUMN iotmq.group_settings.max_delay IS 'from there on it is an alert; NULL: never';
COMMENT ON COLUMN iotmq.group_settings.max_lag IS 'from there on it is an alert; NULL: never';
COMMENT ON COLUMN iotmq.group_settings.durable_acks IS 'whether a transaction that does nothing but ack waits for the disk';
COMMENT ON COLUMN iotmq.group_settings.paused IS 'whether nothing is delivered: see pause_group';
COMMENT ON COLUMN iotmq.group_settings.created_at IS 'when the group was made';

-- zones(topic): the zones on which the caller has a right, by name. Errors: 22004, 42704.
CREATE FUNCTION iotmq.zones(topic text) RETURNS SETOF text
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10
	AS 'MODULE_PATHNAME', 'iotmq_settings_zones';
COMMENT ON FUNCTION iotmq.zones IS 'the zones of a topic on which the caller has a right';
