-- Pull reading, without leases: see src/group/pull.c for results and errors.

CREATE FUNCTION iotmq.fetch(topic text, zone text, from_offset bigint, max_messages int DEFAULT 32)
	RETURNS SETOF iotmq.delivery
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 32
	AS 'MODULE_PATHNAME', 'iotmq_fetch';
COMMENT ON FUNCTION iotmq.fetch IS 'reads messages of a zone from an offset on, without a lease';

CREATE FUNCTION iotmq.commit_offset(topic text, consumer_group text, zone text, next_offset bigint)
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_commit_offset';
COMMENT ON FUNCTION iotmq.commit_offset IS 'notes where a group that reads by fetch goes on';

-- pull_messages(messages): what to read a table of messages by, with our names of their columns,
-- whatever users call them. Errors: 42704 it is gone; 55000 its columns don't fit.
CREATE FUNCTION iotmq.pull_messages(messages regclass) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN format('(SELECT %s AS zone, %s AS msg_offset, %s AS published_at, %s AS device_id, %s AS tag,
		%s AS payload, %s AS body, %s AS properties, %s AS message_key FROM ',
		VARIADIC iotmq.message_columns(messages)) || messages::text || ')';
COMMENT ON FUNCTION iotmq.pull_messages IS 'internal: a subquery of messages';

-- messages_of_device: what a device sent in since..until (exclusive), newest
-- first, of one zone or all that the caller may read. Each segment is entered at its newest message of the
-- device, so only what is returned is read (with the topic's device_index).
-- readable: the zones that the caller may read, NULL: all.
-- Errors: 22004 an argument but zone NULL; 22023 bad max_messages; 42704.
CREATE FUNCTION iotmq.pull_device_as_owner(topic text, device_id text, since timestamptz,
		until timestamptz, max_messages int, zone text, readable text[] DEFAULT NULL) RETURNS SETOF iotmq.delivery
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE ROWS 64
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_topic_id(topic);
	missing text := CASE
		WHEN device_id IS NULL THEN 'device_id' WHEN since IS NULL THEN 'since'
		WHEN until IS NULL THEN 'until' WHEN max_messages IS NULL THEN 'max_messages' END;
	zones text;
BEGIN
	IF missing IS NOT NULL THEN
		RAISE EXCEPTION '% must not be NULL', missing USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF max_messages NOT BETWEEN 1 AND 10000 THEN
		RAISE EXCEPTION 'max_messages must be between 1 and 10000, not %', max_messages
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF zone IS NOT NULL THEN
		PERFORM iotmq.call_zone_id(topic, zone);
	END IF;
	SELECT string_agg(format('(SELECT * FROM %s AS message
			WHERE device_id = $1 AND published_at >= $2 AND published_at < $3
			ORDER BY msg_offset DESC LIMIT $4)', iotmq.pull_messages(z.table_name)), ' UNION ALL ')
	INTO zones
	FROM iotmq_internal.zone AS z
	WHERE z.topic_id = id AND (pull_device_as_owner.zone IS NULL OR z.zone = pull_device_as_owner.zone)
		AND (readable IS NULL OR z.zone = ANY (readable));
	IF zones IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY EXECUTE format('
		SELECT NULL::bigint, zone, msg_offset, device_id, tag, payload, body, properties,
			published_at, 0, message_key
		FROM (%s) AS message
		ORDER BY published_at DESC, msg_offset DESC
		LIMIT $4', zones) USING device_id, since, until, max_messages;
EXCEPTION WHEN undefined_table THEN	-- meanwhile
	RAISE EXCEPTION 'topic "%" or a zone of it was dropped', topic USING ERRCODE = 'undefined_object';
END
$$;
COMMENT ON FUNCTION iotmq.pull_device_as_owner IS 'internal: messages_of_device, after the check of rights';

CREATE FUNCTION iotmq.messages_of_device(topic text, device_id text,
		since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity',
		max_messages int DEFAULT 64, zone text DEFAULT NULL) RETURNS SETOF iotmq.delivery
	LANGUAGE C STABLE PARALLEL UNSAFE ROWS 64
	AS 'MODULE_PATHNAME', 'iotmq_messages_of_device';
COMMENT ON FUNCTION iotmq.messages_of_device IS 'the messages of a device, newest first';

-- message_by_key: the messages of a device with that key, newest first; several, if a key was
-- given again after its time, or in several zones. readable: as above.
-- Errors: 22004 an argument but zone NULL; 42704.
CREATE FUNCTION iotmq.pull_key_as_owner(topic text, device_id text, message_key text, zone text,
		readable text[] DEFAULT NULL) RETURNS SETOF iotmq.delivery
	LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 1
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_topic_id(topic);
	messages regclass;
BEGIN
	IF device_id IS NULL OR message_key IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', CASE WHEN device_id IS NULL THEN 'device_id' ELSE 'message_key' END
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF zone IS NULL THEN
		SELECT t.table_name INTO messages FROM iotmq_internal.topic AS t WHERE t.topic_id = id;
	ELSE
		SELECT z.table_name INTO messages FROM iotmq_internal.zone AS z WHERE z.zone_id = iotmq.call_zone_id(pull_key_as_owner.topic, pull_key_as_owner.zone);
	END IF;
	RETURN QUERY EXECUTE format('
		SELECT NULL::bigint, zone, msg_offset, device_id, tag, payload, body, properties,
			published_at, 0, message_key
		FROM %s AS message
		WHERE device_id = $1 AND message_key = $2 AND ($3 IS NULL OR zone = ANY ($3))
		ORDER BY published_at DESC, msg_offset DESC', iotmq.pull_messages(messages)) USING device_id, message_key, readable;
EXCEPTION WHEN undefined_table THEN	-- meanwhile
	RAISE EXCEPTION 'topic "%" or a zone of it was dropped', topic USING ERRCODE = 'undefined_object';
END
$$;
COMMENT ON FUNCTION iotmq.pull_key_as_owner IS 'internal: message_by_key, after the check of rights';

CREATE FUNCTION iotmq.message_by_key(topic text, device_id text, message_key text,
		zone text DEFAULT NULL) RETURNS SETOF iotmq.delivery
	LANGUAGE C STABLE PARALLEL UNSAFE ROWS 1
	AS 'MODULE_PATHNAME', 'iotmq_message_by_key';
COMMENT ON FUNCTION iotmq.message_by_key IS 'the messages of a device with that key, newest first';

-- committed_offset: where a group goes on in a zone, for pull readers that begin
-- again. Errors: 22004, 42704, 42501.
CREATE FUNCTION iotmq.committed_offset(topic text, consumer_group text, zone text) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_committed_offset';
COMMENT ON FUNCTION iotmq.committed_offset IS 'the next offset that a group reads in a zone';
