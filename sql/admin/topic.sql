-- Topics.

-- topic_check_settings(...): raises 22004 or 22023 unless these go together. Called with the
-- values as they are going to be.
CREATE FUNCTION iotmq.topic_check_settings(retention interval, segment_interval interval,
		retention_policy text, max_retention interval, dedup_window interval) RETURNS void
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF retention IS NULL OR retention_policy IS NULL THEN
		RAISE EXCEPTION '% must not be NULL',
				CASE WHEN retention IS NULL THEN 'retention' ELSE 'retention_policy' END
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM iotmq.call_check_positive('retention', retention);
	PERFORM iotmq.call_check_positive('segment_interval', segment_interval);
	PERFORM iotmq.call_check_positive('max_retention', max_retention);
	PERFORM iotmq.call_check_positive('dedup_window', dedup_window);
	IF retention_policy NOT IN ('time', 'consumed') THEN
		RAISE EXCEPTION 'invalid retention_policy "%"', retention_policy
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Use ''time'' or ''consumed''.';
	END IF;
	IF segment_interval < interval '1 second'
		OR extract(epoch FROM segment_interval) % 1 <> 0 THEN
		RAISE EXCEPTION 'segment_interval must be a whole number of seconds'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF max_retention < retention THEN
		RAISE EXCEPTION 'max_retention must not be shorter than retention'
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF dedup_window > retention THEN
		RAISE EXCEPTION 'dedup_window must not be longer than retention'
			USING ERRCODE = 'invalid_parameter_value',
				DETAIL = 'A message that retention has dropped can''t be found by its key.';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.topic_check_settings IS 'internal: raises an error unless these settings go together';

-- topic_segment_interval(retention): the width of segments if nobody chose one.
CREATE FUNCTION iotmq.topic_segment_interval(retention interval) RETURNS interval
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN make_interval(secs => greatest(60, floor(extract(epoch FROM retention) / 12)));
COMMENT ON FUNCTION iotmq.topic_segment_interval IS 'internal: the default of segment_interval';

-- topic_index_keys(topic_id, dedup_window): makes the indexes on keys that are missing, in all
-- segments in which such a window looks or that are still to be written to. Waits for those who
-- write to one; keeps out who makes segments.
CREATE FUNCTION iotmq.topic_index_keys(topic_id int, dedup_window interval) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone iotmq_internal.zone;
BEGIN
	FOR zone IN
		SELECT z.* FROM iotmq_internal.zone AS z WHERE z.topic_id = topic_index_keys.topic_id ORDER BY z.zone_id
	LOOP
		EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', zone.table_name);
		-- the one of the present last: publishers wait for it
		PERFORM iotmq.segment_add_key_index(s.table_name)
		FROM iotmq_internal.segment AS s
		WHERE s.zone_id = zone.zone_id AND s.to_time > clock_timestamp() - dedup_window
		ORDER BY tstzrange(s.from_time, s.to_time) @> clock_timestamp(), s.from_time;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.topic_index_keys IS 'internal: makes the indexes on keys that a topic lacks';

-- topic_drop_schema(name): drops the schema of a topic's zones, if it did not go along with the
-- topic's table: pg_upgrade, and a dump without data, lose what depend.c noted.
CREATE FUNCTION iotmq.topic_drop_schema(name text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regnamespace(name) IS NOT NULL THEN
		EXECUTE format('DROP SCHEMA %s', name);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.topic_drop_schema IS 'internal: drops the schema of a topic''s zones';

-- topic_drop_remains(topic, force): drops the table of a topic that is not known otherwise, as
-- a dump without data leaves it; whether there was one. Errors: 55006 it has messages, or
-- somebody made something of it, without force.
CREATE FUNCTION iotmq.topic_drop_remains(topic text, force boolean) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name text := format('iotmq_topic.%I', topic);
	schemas text[];
	messages boolean;
BEGIN
	-- an old snapshot knows nothing of topics that others have made since
	IF current_setting('transaction_isolation') <> 'read committed'
		OR NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = to_regclass(name) AND c.relkind = 'p')
		OR EXISTS (SELECT FROM iotmq_internal.topic AS t WHERE t.topic = topic_drop_remains.topic)
	THEN
		RETURN false;
	END IF;
	-- now it stays what it is
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', name);
	IF EXISTS (SELECT FROM iotmq_internal.topic AS t WHERE t.topic = topic_drop_remains.topic) THEN
		RETURN false;
	END IF;
	PERFORM iotmq.table_owner_require(name::regclass);
	EXECUTE format('SELECT EXISTS (SELECT FROM %s)', name) INTO messages;
	IF messages AND NOT force THEN
		RAISE EXCEPTION 'table % has messages', name
			USING ERRCODE = 'object_in_use',
				DETAIL = 'Nothing else of the topic is there, as in a dump without data.',
				HINT = format('Drop it nevertheless: SELECT iotmq.drop_topic(%L, force => true);', topic);
	END IF;
	SELECT array_agg(DISTINCT n.nspname) INTO schemas
	FROM pg_inherits AS i
	JOIN pg_class AS c ON c.oid = i.inhrelid
	JOIN pg_namespace AS n ON n.oid = c.relnamespace
	WHERE i.inhparent = to_regclass(name) AND n.nspname ~ '^iotmq_zone_[0-9]+$';
	PERFORM iotmq.zone_drop_table(name, force);
	PERFORM iotmq.topic_drop_schema(n.nspname) FROM pg_namespace AS n WHERE n.nspname = ANY (schemas);
	RETURN true;
END
$$;
COMMENT ON FUNCTION iotmq.topic_drop_remains IS 'internal: drops the table of a topic that is not known';

-- create_topic: a topic with its zones, and their segments for the next time.
-- Errors: 22004 topic, zones or an element of zones NULL; 42602 bad name; 42710
-- the topic exists, or a zone is named twice; 22023 bad value. The new tables are
-- seen by others when the transaction commits.
CREATE FUNCTION iotmq.create_topic(topic text, zones text[] DEFAULT '{default}',
		retention interval DEFAULT '72 hours', segment_interval interval DEFAULT NULL,
		retention_policy text DEFAULT 'time', max_retention interval DEFAULT NULL,
		device_index boolean DEFAULT true, dedup_window interval DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int;
	zone text;
BEGIN
	PERFORM iotmq.call_check_name('topic', topic);
	IF zones IS NULL OR device_index IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', CASE WHEN zones IS NULL THEN 'zones' ELSE 'device_index' END
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM iotmq.topic_check_settings(retention, segment_interval, retention_policy, max_retention, dedup_window);
	segment_interval := coalesce(segment_interval, iotmq.topic_segment_interval(retention));

	BEGIN
		PERFORM iotmq.topic_drop_remains(topic, false);
		EXECUTE format('CREATE TABLE iotmq_topic.%1$I (
			zone text COLLATE "C" NOT NULL DEFAULT iotmq.copy_in_elsewhere(%2$L),
			msg_offset bigint NOT NULL DEFAULT iotmq.copy_in_elsewhere(%2$L)::bigint,
			published_at timestamptz NOT NULL DEFAULT iotmq.copy_in_elsewhere(%2$L)::timestamptz,
			device_id text COLLATE "C" NOT NULL,
			tag text COLLATE "C",
			payload jsonb,
			body bytea,
			properties jsonb,
			message_key text COLLATE "C"
		) PARTITION BY LIST (zone)', topic, topic);
		LOOP
			id := nextval('iotmq_internal.topic_topic_id_seq');
			EXIT WHEN to_regnamespace('iotmq_zone_' || id) IS NULL;	-- left by somebody
		END LOOP;
		EXECUTE format('CREATE SCHEMA iotmq_zone_%s', id);
		INSERT INTO iotmq_internal.topic (topic_id, topic, table_name, retention, segment_interval,
			retention_policy, max_retention, device_index, dedup_window)
			OVERRIDING SYSTEM VALUE
		VALUES (id, topic, format('iotmq_topic.%I', topic)::regclass, retention, segment_interval,
			retention_policy, max_retention, device_index, dedup_window);
	EXCEPTION WHEN duplicate_table OR unique_violation THEN
		RAISE EXCEPTION 'topic "%" already exists', topic
			USING ERRCODE = 'duplicate_object',
				HINT = format('Change it: SELECT iotmq.alter_topic(%L, ...);', topic);
	END;
	EXECUTE format('COMMENT ON TABLE iotmq_topic.%1$I IS ''messages of an iotmq topic: append-only, written by iotmq.publish'';
		COMMENT ON COLUMN iotmq_topic.%1$I.zone IS ''where the device lives'';
		COMMENT ON COLUMN iotmq_topic.%1$I.msg_offset IS ''number in the zone, in the order of publishing, with holes'';
		COMMENT ON COLUMN iotmq_topic.%1$I.published_at IS ''the clock of the server at publish'';
		COMMENT ON COLUMN iotmq_topic.%1$I.device_id IS ''the device'';
		COMMENT ON COLUMN iotmq_topic.%1$I.tag IS ''by which groups can choose'';
		COMMENT ON COLUMN iotmq_topic.%1$I.payload IS ''content'';
		COMMENT ON COLUMN iotmq_topic.%1$I.body IS ''binary content'';
		COMMENT ON COLUMN iotmq_topic.%1$I.properties IS ''of the transport'';
		COMMENT ON COLUMN iotmq_topic.%1$I.message_key IS ''by which a publisher sees to it that a message is not there twice'';
		COMMENT ON SCHEMA iotmq_zone_%2$s IS %3$L', topic, id, format('iotmq: the zones of topic %s', topic));
	FOREACH zone IN ARRAY zones LOOP
		PERFORM iotmq.add_zone(topic, zone);
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.create_topic IS 'creates a topic with its zones, its table iotmq_topic.<topic> and its retention';

-- topic_check_reset(reset, given): raises 22004 or 22023 unless reset names settings of a topic,
-- none of which is given.
CREATE FUNCTION iotmq.topic_check_reset(reset text[], given text[]) RETURNS void
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	settings text[] := '{retention,segment_interval,retention_policy,max_retention,dedup_window}';
	one text;
BEGIN
	FOREACH one IN ARRAY reset LOOP
		IF one IS NULL THEN
			RAISE EXCEPTION 'an element of reset must not be NULL' USING ERRCODE = 'null_value_not_allowed';
		END IF;
		IF one <> ALL (settings) THEN
			RAISE EXCEPTION 'a topic has no setting "%"', one
				USING ERRCODE = 'invalid_parameter_value',
					HINT = format('Those that can be reset: %s.', array_to_string(settings, ', '));
		END IF;
		IF one = ANY (given) THEN
			RAISE EXCEPTION '% is given, and to be reset', one USING ERRCODE = 'invalid_parameter_value';
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.topic_check_reset IS 'internal: raises an error unless these settings can be reset';

-- alter_topic: changes what is not NULL; puts those that reset names back to their defaults. A
-- new segment_interval counts for the segments made from now on. A dedup_window waits for open
-- publishers, where segments need an index for it; without one, keys that are there stay.
-- Errors: 42704 unknown topic; 22023 bad value; 22004 an element of reset NULL.
CREATE FUNCTION iotmq.alter_topic(topic text, retention interval DEFAULT NULL,
		segment_interval interval DEFAULT NULL, retention_policy text DEFAULT NULL,
		max_retention interval DEFAULT NULL, dedup_window interval DEFAULT NULL,
		reset text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_hold_topic(topic);
	new iotmq_internal.topic;
BEGIN
	IF reset IS NULL THEN
		reset := '{}';
	END IF;
	PERFORM iotmq.topic_check_reset(reset, array_remove(ARRAY[
		CASE WHEN retention IS NOT NULL THEN 'retention' END,
		CASE WHEN segment_interval IS NOT NULL THEN 'segment_interval' END,
		CASE WHEN retention_policy IS NOT NULL THEN 'retention_policy' END,
		CASE WHEN max_retention IS NOT NULL THEN 'max_retention' END,
		CASE WHEN dedup_window IS NOT NULL THEN 'dedup_window' END], NULL));
	SELECT t.* INTO STRICT new FROM iotmq_internal.topic AS t WHERE t.topic_id = id;
	new.retention := CASE WHEN 'retention' = ANY (reset) THEN interval '72 hours'
		ELSE coalesce(retention, new.retention) END;
	new.segment_interval := CASE WHEN 'segment_interval' = ANY (reset) THEN iotmq.topic_segment_interval(new.retention)
		ELSE coalesce(segment_interval, new.segment_interval) END;
	new.retention_policy := CASE WHEN 'retention_policy' = ANY (reset) THEN 'time'
		ELSE coalesce(retention_policy, new.retention_policy) END;
	new.max_retention := CASE WHEN 'max_retention' = ANY (reset) THEN NULL
		ELSE coalesce(max_retention, new.max_retention) END;
	new.dedup_window := CASE WHEN 'dedup_window' = ANY (reset) THEN NULL
		ELSE coalesce(dedup_window, new.dedup_window) END;
	PERFORM iotmq.topic_check_settings(new.retention, new.segment_interval, new.retention_policy,
		new.max_retention, new.dedup_window);
	UPDATE iotmq_internal.topic AS t
	SET retention = new.retention, segment_interval = new.segment_interval,
		retention_policy = new.retention_policy, max_retention = new.max_retention,
		dedup_window = new.dedup_window
	WHERE t.topic_id = id;
	IF dedup_window IS NOT NULL THEN
		PERFORM iotmq.topic_index_keys(id, dedup_window);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.alter_topic IS 'changes the settings of a topic; NULL leaves one unchanged, reset puts some back to their defaults';

-- drop_topic: the topic with its messages and, with force, its groups and what users
-- made of its tables. Errors: 42704 unknown topic; 55006 there is some of these,
-- without force. Waits for open transactions that use the topic.
CREATE FUNCTION iotmq.drop_topic(topic text, force boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int;
	groups text;
	zone text;
BEGIN
	IF topic IS NOT NULL AND force IS NOT NULL AND iotmq.topic_drop_remains(topic, force) THEN
		RETURN;
	END IF;
	PERFORM iotmq.call_topic_id(topic);
	IF force IS NULL THEN
		RAISE EXCEPTION 'force must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	id := iotmq.call_hold_topic(topic);
	SELECT string_agg(format('"%s"', g.consumer_group), ', ' ORDER BY g.consumer_group) INTO groups
	FROM iotmq_internal.consumer_group AS g
	WHERE g.topic_id = id;
	IF groups IS NOT NULL AND NOT force THEN
		RAISE EXCEPTION 'topic "%" still has consumer groups', topic
			USING ERRCODE = 'object_in_use',
				DETAIL = format('Its groups: %s.', groups),
				HINT = format('Drop them too: SELECT iotmq.drop_topic(%L, force => true);', topic);
	END IF;
	-- from all zones at once: see cursor_lock.c
	PERFORM iotmq.cursor_lock_exclude(
		(SELECT coalesce(array_agg(c.cursor_id ORDER BY c.cursor_id), '{}')
			FROM iotmq_internal.cursor AS c
			JOIN iotmq_internal.zone AS z USING (zone_id)
			WHERE z.topic_id = id),
		(SELECT coalesce(array_agg(z.zone_id ORDER BY z.zone_id), '{}') FROM iotmq_internal.zone AS z WHERE z.topic_id = id));
	-- what the groups know of their zones counts, too
	PERFORM iotmq.zone_note_past(z.zone_id) FROM iotmq_internal.zone AS z WHERE z.topic_id = id;
	-- of all at once, in one order
	PERFORM iotmq.access_hold_roles(ARRAY(SELECT p.role FROM iotmq.privileges AS p WHERE p.topic = drop_topic.topic));
	PERFORM iotmq.drop_group(topic, g.consumer_group, force)
	FROM iotmq_internal.consumer_group AS g
	WHERE g.topic_id = id;
	PERFORM iotmq.drop_zone(topic, z.zone, force)
	FROM iotmq_internal.zone AS z
	WHERE z.topic_id = id;
	-- by its number: somebody may have renamed it
	PERFORM iotmq.zone_drop_table(k.oid::regclass::text, force)
	FROM iotmq_internal.topic AS t
	JOIN pg_class AS k ON k.oid = t.table_name
	WHERE t.topic_id = id;
	PERFORM iotmq.topic_drop_schema('iotmq_zone_' || id);
	DELETE FROM iotmq_internal.mirror_grant AS m WHERE m.topic_id = id;
	DELETE FROM iotmq_internal.topic AS t WHERE t.topic_id = id;
	PERFORM iotmq.access_tidy();
END
$$;
COMMENT ON FUNCTION iotmq.drop_topic IS 'drops a topic with its messages; with force also its consumer groups';
