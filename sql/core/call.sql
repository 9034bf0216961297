-- What the functions written in SQL share of their arguments, as src/core/call.c does for
-- those in C: legal names, and the ids and tables of what is named.

-- call_check_name(kind, name): raises 22004 or 42602 unless name is a legal name of a
-- topic, zone or group.
CREATE FUNCTION iotmq.call_check_name(kind text, name text) RETURNS void
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF name IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', kind
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF octet_length(name) > 48 OR name COLLATE "C" !~ '^[A-Za-z0-9][A-Za-z0-9_.-]*$' THEN
		RAISE EXCEPTION 'invalid % name "%"', replace(kind, '_', ' '), name
			USING ERRCODE = 'invalid_name',
				DETAIL = 'A name has 1 to 48 bytes: first a letter or digit of ASCII, then those, "_", "." or "-".',
				HINT = format('Choose a name such as %L.', 'line-1.telemetry');
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.call_check_name IS 'internal: raises an error unless this is a legal name';

-- call_check_positive(argument, value): raises 22023 unless the interval is above 0
-- and at most 1,000 years; NULL passes.
CREATE FUNCTION iotmq.call_check_positive(argument text, value interval) RETURNS void
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF value <= interval '0' OR value > interval '1000 years' THEN
		RAISE EXCEPTION '% must be more than 0 and at most 1000 years', argument
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.call_check_positive IS 'internal: raises an error unless the interval is positive';

-- call_topic_id(topic): its id; raises 22004 or 42704.
CREATE FUNCTION iotmq.call_topic_id(topic text) RETURNS int
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int;
BEGIN
	IF topic IS NULL THEN
		RAISE EXCEPTION 'topic must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT t.topic_id INTO id FROM iotmq_internal.topic AS t WHERE t.topic = call_topic_id.topic;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'topic "%" does not exist', topic
			USING ERRCODE = 'undefined_object',
				HINT = format('Create it: SELECT iotmq.create_topic(%L);', topic);
	END IF;
	RETURN id;
END
$$;
COMMENT ON FUNCTION iotmq.call_topic_id IS 'internal: the id of a topic';

-- call_hold_topic(topic): its id, locked to the end of the transaction: nobody else makes or
-- drops zones and groups of it meanwhile. Raises 22004 or 42704. It is an update, so that a
-- transaction whose snapshot is older than the last such change fails with 40001 instead of
-- going by what was.
CREATE FUNCTION iotmq.call_hold_topic(topic text) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int;
BEGIN
	LOOP
		UPDATE iotmq_internal.topic AS t
		SET topic = t.topic
		WHERE t.topic = call_hold_topic.topic
		RETURNING t.topic_id INTO id;
		IF FOUND THEN
			RETURN id;
		END IF;
		PERFORM iotmq.call_topic_id(topic);	-- unless it was made anew meanwhile
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.call_hold_topic IS 'internal: locks a topic against other changes';

-- call_zone_id(topic, zone): its id; raises 22004 or 42704.
CREATE FUNCTION iotmq.call_zone_id(topic text, zone text) RETURNS int
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	topic_of_zone int := iotmq.call_topic_id(topic);
	id int;
BEGIN
	IF zone IS NULL THEN
		RAISE EXCEPTION 'zone must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT z.zone_id INTO id
	FROM iotmq_internal.zone AS z
	WHERE z.topic_id = topic_of_zone AND z.zone = call_zone_id.zone;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'zone "%" of topic "%" does not exist', zone, topic
			USING ERRCODE = 'undefined_object',
				HINT = format('Add it: SELECT iotmq.add_zone(%L, %L);', topic, zone);
	END IF;
	RETURN id;
END
$$;
COMMENT ON FUNCTION iotmq.call_zone_id IS 'internal: the id of a zone';

-- topic_table, zone_table: the tables, for SQL over history and for COPY.
-- Errors: 22004, 42704.
CREATE FUNCTION iotmq.topic_table(topic text) RETURNS regclass
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.table_name FROM iotmq_internal.topic AS t WHERE t.topic_id = iotmq.call_topic_id(topic_table.topic)
$$;
COMMENT ON FUNCTION iotmq.topic_table IS 'the table of a topic, for SQL over its history';

CREATE FUNCTION iotmq.zone_table(topic text, zone text) RETURNS regclass
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT z.table_name
	FROM iotmq_internal.zone AS z
	WHERE z.zone_id = iotmq.call_zone_id(zone_table.topic, zone_table.zone)
$$;
COMMENT ON FUNCTION iotmq.zone_table IS 'the table of a zone, to COPY messages into';

-- call_group_id(topic, consumer_group): its id; raises 22004 or 42704.
CREATE FUNCTION iotmq.call_group_id(topic text, consumer_group text) RETURNS int
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	topic_of_group int := iotmq.call_topic_id(topic);
	id int;
BEGIN
	IF consumer_group IS NULL THEN
		RAISE EXCEPTION 'consumer_group must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT g.group_id INTO id
	FROM iotmq_internal.consumer_group AS g
	WHERE g.topic_id = topic_of_group AND g.consumer_group = call_group_id.consumer_group;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'consumer group "%" of topic "%" does not exist', consumer_group, topic
			USING ERRCODE = 'undefined_object',
				HINT = format('Create it: SELECT iotmq.create_group(%L, %L);', topic, consumer_group);
	END IF;
	RETURN id;
END
$$;
COMMENT ON FUNCTION iotmq.call_group_id IS 'internal: the id of a consumer group';

-- call_check_transaction(): raises 25001 in a transaction block.
CREATE FUNCTION iotmq.call_check_transaction(procedure_name text) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_call_check_transaction';
COMMENT ON FUNCTION iotmq.call_check_transaction IS 'internal: raises an error in a transaction block';

-- call_plain_message(message): a message of PostgreSQL's for operators, without the names that
-- iotmq gives to its tables.
CREATE FUNCTION iotmq.call_plain_message(message text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN regexp_replace(regexp_replace(regexp_replace(regexp_replace(message,
		E'"?(iotmq_\\w+\\.)?_zone_\\d+_p\\d+_\\w+"?', 'of the segment', 'g'),
		E'"?(iotmq_\\w+\\.)?_zone_\\d+_offset"?', 'of the zone''s offsets', 'g'),
		E'"?(iotmq_\\w+\\.)?_zone_\\d+"?', 'of the zone', 'g'),
		E'\\m(zone|cursor) \\d+', E'the \\1', 'g');
COMMENT ON FUNCTION iotmq.call_plain_message IS 'internal: a message without names of internal tables';
