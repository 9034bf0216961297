-- Consumer groups.

-- group_check(...): raises 22023 or 22004 unless these settings are legal.
CREATE FUNCTION iotmq.group_check(mode text, filter jsonpath, invisible_for interval, max_retries int,
		backoff interval[], max_delay interval, max_lag bigint) RETURNS void
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF mode NOT IN ('concurrent', 'orderly') THEN
		RAISE EXCEPTION 'invalid mode "%"', mode
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Use ''concurrent'' or ''orderly''.';
	END IF;
	PERFORM iotmq.filter_check(filter);
	IF invisible_for <= interval '0' OR invisible_for > interval '30 days' THEN
		RAISE EXCEPTION 'invisible_for must be more than 0 and at most 30 days'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF max_retries NOT BETWEEN 0 AND 1000 THEN
		RAISE EXCEPTION 'max_retries must be between 0 and 1000'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF EXISTS (SELECT FROM unnest(backoff) AS delay WHERE delay IS NULL) THEN
		RAISE EXCEPTION 'backoff must not contain NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF array_ndims(backoff) > 1 OR cardinality(backoff) NOT BETWEEN 1 AND 1000
		OR EXISTS (SELECT FROM unnest(backoff) AS delay
			WHERE delay < interval '0' OR delay > interval '365 days') THEN
		RAISE EXCEPTION 'backoff must be a list of 1 to 1000 intervals between 0 and 365 days'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM iotmq.call_check_positive('max_delay', max_delay);
	IF max_lag < 0 THEN
		RAISE EXCEPTION 'max_lag must not be negative' USING ERRCODE = 'invalid_parameter_value';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.group_check IS 'internal: raises an error unless these settings of a group are legal';

-- group_default_backoff(): RocketMQ's table of delays.
CREATE FUNCTION iotmq.group_default_backoff() RETURNS interval[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN '{10s,30s,1m,2m,3m,4m,5m,6m,7m,8m,9m,10m,20m,30m,1h,2h}'::interval[];
COMMENT ON FUNCTION iotmq.group_default_backoff IS 'internal: the delays of a group that was given none';

-- create_group: a group that reads the topic from start_from on.
-- Errors: 22004 a required argument NULL; 42602 bad name; 42704 unknown topic;
-- 42710 the group exists; 22023 bad value.
CREATE FUNCTION iotmq.create_group(topic text, consumer_group text, mode text DEFAULT 'concurrent',
		start_from timestamptz DEFAULT 'infinity', tags text DEFAULT '*',
		filter jsonpath DEFAULT NULL, invisible_for interval DEFAULT '60 s',
		max_retries int DEFAULT 16, backoff interval[] DEFAULT NULL,
		max_delay interval DEFAULT NULL, max_lag bigint DEFAULT NULL,
		durable_acks boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	topic_of_group int;
	new_group int;
	missing text := CASE
		WHEN mode IS NULL THEN 'mode' WHEN start_from IS NULL THEN 'start_from'
		WHEN tags IS NULL THEN 'tags' WHEN invisible_for IS NULL THEN 'invisible_for'
		WHEN max_retries IS NULL THEN 'max_retries'
		WHEN durable_acks IS NULL THEN 'durable_acks' END;
BEGIN
	PERFORM iotmq.call_topic_id(topic);
	PERFORM iotmq.call_check_name('consumer_group', consumer_group);
	IF missing IS NOT NULL THEN
		RAISE EXCEPTION '% must not be NULL', missing USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM iotmq.group_check(mode, filter, invisible_for, max_retries, backoff, max_delay, max_lag);
	-- zones must not come or go meanwhile
	topic_of_group := iotmq.call_hold_topic(topic);
	BEGIN
		INSERT INTO iotmq_internal.consumer_group (topic_id, consumer_group, mode, tags, filter,
			invisible_for, max_retries, backoff, max_delay, max_lag, durable_acks)
		VALUES (topic_of_group, consumer_group, mode, iotmq.filter_parse_tags(tags), filter,
			invisible_for, max_retries, coalesce(backoff, iotmq.group_default_backoff()),
			max_delay, max_lag, durable_acks)
		RETURNING group_id INTO new_group;
	EXCEPTION WHEN unique_violation THEN
		RAISE EXCEPTION 'consumer group "%" of topic "%" already exists', consumer_group, topic
			USING ERRCODE = 'duplicate_object',
				HINT = format('Change it: SELECT iotmq.alter_group(%L, %L, ...);', topic, consumer_group);
	END;
	PERFORM iotmq.cursor_create(new_group, z.zone_id, iotmq.offset_at(z.zone_id, start_from))
	FROM iotmq_internal.zone AS z
	WHERE z.topic_id = topic_of_group
	ORDER BY z.zone_id;
END
$$;
COMMENT ON FUNCTION iotmq.create_group IS 'creates a consumer group, which reads all of a topic independently of others';

-- group_check_reset(reset, given): raises 22004 or 22023 unless reset names settings, which
-- are the keys of given, and none that has a value there.
CREATE FUNCTION iotmq.group_check_reset(reset text[], given jsonb) RETURNS void
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT r.name FROM unnest(reset) AS r (name) LOOP
		IF name IS NULL THEN
			RAISE EXCEPTION 'reset must not contain NULL' USING ERRCODE = 'null_value_not_allowed';
		ELSIF NOT given ? name THEN
			RAISE EXCEPTION 'there is no setting "%" to reset', name
				USING ERRCODE = 'invalid_parameter_value',
					HINT = format('Settings are %s.', (SELECT string_agg(key, ', ' ORDER BY key) FROM jsonb_object_keys(given) AS key));
		ELSIF given ->> name IS NOT NULL THEN
			RAISE EXCEPTION 'setting "%" is both given and reset', name
				USING ERRCODE = 'invalid_parameter_value',
					HINT = 'Give it a value, or name it in reset.';
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.group_check_reset IS 'internal: raises an error unless these settings can be reset';

-- alter_group: changes what is not NULL, for the next claim on, and puts what reset names
-- back to the defaults of create_group. While its transaction changes mode, tags or filter,
-- nobody claims as the group. Errors: 42704 unknown topic or group; 22023 bad value, or an
-- unknown name in reset, or one that is given, too; 22004 a NULL in reset; 55006 another
-- mode while messages are in flight or wait.
CREATE FUNCTION iotmq.alter_group(topic text, consumer_group text, mode text DEFAULT NULL,
		tags text DEFAULT NULL, filter jsonpath DEFAULT NULL, invisible_for interval DEFAULT NULL,
		max_retries int DEFAULT NULL, backoff interval[] DEFAULT NULL,
		max_delay interval DEFAULT NULL, max_lag bigint DEFAULT NULL,
		reset text[] DEFAULT NULL, durable_acks boolean DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_group_id(topic, consumer_group);
BEGIN
	PERFORM iotmq.group_check(mode, filter, invisible_for, max_retries, backoff, max_delay, max_lag);
	PERFORM iotmq.group_check_reset(reset, jsonb_build_object('mode', mode, 'tags', tags, 'filter', filter::text,
		'invisible_for', invisible_for, 'max_retries', max_retries, 'backoff', backoff, 'max_delay', max_delay,
		'max_lag', max_lag, 'durable_acks', durable_acks));
	mode := CASE WHEN 'mode' = ANY (reset) THEN 'concurrent' ELSE mode END;
	tags := CASE WHEN 'tags' = ANY (reset) THEN '*' ELSE tags END;
	IF mode IS NOT NULL THEN
		-- a zone that was added since the snapshot is not looked at below: 40001
		PERFORM FROM iotmq_internal.topic AS t WHERE t.topic = alter_group.topic FOR SHARE;
	END IF;
	IF coalesce(mode, tags, filter::text) IS NOT NULL OR 'filter' = ANY (reset) THEN
		PERFORM iotmq.group_lock_change(id);
	END IF;
	IF mode <> (SELECT g.mode FROM iotmq_internal.consumer_group AS g WHERE g.group_id = id FOR UPDATE) THEN
		-- nobody claims or settles from here on
		PERFORM iotmq.cursor_lock_exclude(array_agg(c.cursor_id ORDER BY c.cursor_id))
		FROM iotmq_internal.cursor AS c
		WHERE c.group_id = id;
		PERFORM FROM iotmq_internal.cursor_state AS p
		WHERE p.cursor_id IN (SELECT c.cursor_id FROM iotmq_internal.cursor AS c WHERE c.group_id = id)
		ORDER BY p.cursor_id
		FOR UPDATE;
		IF EXISTS (SELECT FROM iotmq_internal.cursor AS c
			WHERE c.group_id = id
				AND (EXISTS (SELECT FROM iotmq_internal.redelivery AS r WHERE r.cursor_id = c.cursor_id)
					OR EXISTS (SELECT FROM iotmq_internal.lease AS l
						WHERE l.lease_id >= iotmq.lease_first(c.cursor_id)
							AND l.lease_id < iotmq.lease_first(c.cursor_id + 1))))
		THEN
			RAISE EXCEPTION 'consumer group "%" of topic "%" has messages in flight or waiting for a retry',
					consumer_group, topic
				USING ERRCODE = 'object_in_use',
					HINT = 'Stop its consumers, settle what iotmq.in_flight shows, and change the mode then.';
		END IF;
	END IF;
	UPDATE iotmq_internal.consumer_group AS g
	SET mode = coalesce(alter_group.mode, g.mode),
		tags = CASE WHEN alter_group.tags IS NULL THEN g.tags ELSE iotmq.filter_parse_tags(alter_group.tags) END,
		filter = CASE WHEN 'filter' = ANY (reset) THEN NULL ELSE coalesce(alter_group.filter, g.filter) END,
		invisible_for = CASE WHEN 'invisible_for' = ANY (reset) THEN '60 s'
			ELSE coalesce(alter_group.invisible_for, g.invisible_for) END,
		max_retries = CASE WHEN 'max_retries' = ANY (reset) THEN 16
			ELSE coalesce(alter_group.max_retries, g.max_retries) END,
		backoff = CASE WHEN 'backoff' = ANY (reset) THEN iotmq.group_default_backoff()
			ELSE coalesce(alter_group.backoff, g.backoff) END,
		max_delay = CASE WHEN 'max_delay' = ANY (reset) THEN NULL
			ELSE coalesce(alter_group.max_delay, g.max_delay) END,
		max_lag = CASE WHEN 'max_lag' = ANY (reset) THEN NULL ELSE coalesce(alter_group.max_lag, g.max_lag) END,
		durable_acks = CASE WHEN 'durable_acks' = ANY (reset) THEN false
			ELSE coalesce(alter_group.durable_acks, g.durable_acks) END
	WHERE g.group_id = id;
	IF NOT FOUND THEN
		PERFORM iotmq.call_group_id(topic, consumer_group);	-- dropped meanwhile
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.alter_group IS 'changes the settings of a consumer group; NULL leaves one unchanged';

-- group_pause(topic, consumer_group, paused): no claim that began before is made after it,
-- since whoever changes the group waits for those: see group_lock.c. Errors: 22004, 42704.
CREATE FUNCTION iotmq.group_pause(topic text, consumer_group text, paused boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_group_id(topic, consumer_group);
BEGIN
	PERFORM iotmq.group_lock_change(id);
	-- also if it is so already: somebody may be about to change it
	UPDATE iotmq_internal.consumer_group AS g
	SET paused = group_pause.paused
	WHERE g.group_id = id;
	IF NOT FOUND THEN
		PERFORM iotmq.call_group_id(topic, consumer_group);	-- dropped meanwhile
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.group_pause IS 'internal: pauses or resumes a consumer group';

-- pause_group: from the commit on nothing is delivered to the group, until resume_group:
-- consume is as for an empty group. All else goes on: leases, retention, fetch, seek. Waits
-- for claims that are being made, not for their transactions. Errors: 22004, 42704.
CREATE FUNCTION iotmq.pause_group(topic text, consumer_group text) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq.group_pause(topic, consumer_group, true);
COMMENT ON FUNCTION iotmq.pause_group IS 'delivers nothing more to a consumer group, until resume_group';

-- resume_group: the paused group goes on where it stands. Errors: 22004, 42704.
CREATE FUNCTION iotmq.resume_group(topic text, consumer_group text) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq.group_pause(topic, consumer_group, false);
COMMENT ON FUNCTION iotmq.resume_group IS 'goes on delivering to a consumer group that was paused';

-- drop_group: the group with its position, leases and retries; with force also its dead
-- letters. Errors: 42704; 55006 it has dead letters, without force. Waits for open
-- transactions of its consumers.
CREATE FUNCTION iotmq.drop_group(topic text, consumer_group text, force boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id_of_group int := iotmq.call_group_id(topic, consumer_group);
	letters bigint;
	underway bigint;
BEGIN
	IF force IS NULL THEN
		RAISE EXCEPTION 'force must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM iotmq.call_hold_topic(topic);
	id_of_group := iotmq.call_group_id(topic, consumer_group);	-- unless it was dropped meanwhile
	PERFORM iotmq.cursor_lock_exclude(array_agg(c.cursor_id ORDER BY c.cursor_id))
	FROM iotmq_internal.cursor AS c
	WHERE c.group_id = id_of_group;
	PERFORM FROM iotmq_internal.cursor_state AS p
	WHERE p.cursor_id IN (SELECT c.cursor_id FROM iotmq_internal.cursor AS c WHERE c.group_id = id_of_group)
	FOR UPDATE;
	SELECT count(*), count(*) FILTER (WHERE d.redriven) INTO letters, underway
	FROM iotmq_internal.cursor AS c
	JOIN iotmq_internal.dead_message AS d USING (cursor_id)
	WHERE c.group_id = id_of_group;
	IF letters > 0 AND NOT force THEN
		RAISE EXCEPTION 'consumer group "%" of topic "%" still has dead letters', consumer_group, topic
			USING ERRCODE = 'object_in_use',
				DETAIL = format('It has %s, of which %s are redriven and not settled yet.', letters, underway),
				HINT = format('Drop them too: SELECT iotmq.drop_group(%L, %L, force => true);', topic, consumer_group);
	END IF;
	PERFORM iotmq.group_lock_change(id_of_group);
	PERFORM iotmq.cursor_drop(c.cursor_id) FROM iotmq_internal.cursor AS c WHERE c.group_id = id_of_group;
	PERFORM iotmq.access_hold_roles(ARRAY(SELECT r.role FROM iotmq_internal.consume_grant AS r WHERE r.group_id = id_of_group));
	DELETE FROM iotmq_internal.consume_grant AS r WHERE r.group_id = id_of_group;
	DELETE FROM iotmq_internal.consumer_group AS g WHERE g.group_id = id_of_group;
	PERFORM iotmq.access_tidy();
END
$$;
COMMENT ON FUNCTION iotmq.drop_group IS 'drops a consumer group with its position and leases; with force also its dead letters';
