-- Topics.

-- topic_check_retention(...): raises 22023 unless these go together. Called with the
-- values as they are going to be.
CREATE FUNCTION iotmq.topic_check_retention(retention interval, segment_interval interval,
		retention_policy text, max_retention interval) RETURNS void
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
END
$$;
COMMENT ON FUNCTION iotmq.topic_check_retention IS 'internal: raises an error unless these settings go together';

-- create_topic: a topic with its zones, and their segments for the next time.
-- Errors: 22004 topic, zones or an element of zones NULL; 42602 bad name; 42710
-- the topic exists, or a zone is named twice; 22023 bad value. The new tables are
-- seen by others when the transaction commits.
CREATE FUNCTION iotmq.create_topic(topic text, zones text[] DEFAULT '{default}',
		retention interval DEFAULT '72 hours', segment_interval interval DEFAULT NULL,
		retention_policy text DEFAULT 'time', max_retention interval DEFAULT NULL,
		device_index boolean DEFAULT true) RETURNS void
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
	IF cardinality(zones) = 0 THEN
		RAISE EXCEPTION 'a topic needs at least one zone'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Name its zones, such as zones => ''{default}''.';
	END IF;
	PERFORM iotmq.topic_check_retention(retention, segment_interval, retention_policy, max_retention);
	segment_interval := coalesce(segment_interval,
		make_interval(secs => greatest(60, floor(extract(epoch FROM retention) / 12))));

	BEGIN
		EXECUTE format('CREATE TABLE iotmq_topic.%I (
			zone text COLLATE "C" NOT NULL,
			msg_offset bigint NOT NULL,
			published_at timestamptz NOT NULL,
			device_id text COLLATE "C" NOT NULL,
			tag text COLLATE "C",
			payload jsonb,
			body bytea,
			properties jsonb
		) PARTITION BY LIST (zone)', topic);
		LOOP
			id := nextval('iotmq_internal.topic_topic_id_seq');
			EXIT WHEN to_regnamespace('iotmq_zone_' || id) IS NULL;	-- left by somebody
		END LOOP;
		EXECUTE format('CREATE SCHEMA iotmq_zone_%s', id);
		INSERT INTO iotmq_internal.topic (topic_id, topic, table_name, retention, segment_interval,
			retention_policy, max_retention, device_index)
			OVERRIDING SYSTEM VALUE
		VALUES (id, topic, format('iotmq_topic.%I', topic)::regclass, retention, segment_interval,
			retention_policy, max_retention, device_index);
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
		COMMENT ON SCHEMA iotmq_zone_%2$s IS %3$L', topic, id, format('iotmq: the zones of topic %s', topic));
	FOREACH zone IN ARRAY zones LOOP
		PERFORM iotmq.add_zone(topic, zone);
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.create_topic IS 'creates a topic with its zones, its table iotmq_topic.<topic> and its retention';

-- alter_topic: changes what is not NULL. A new segment_interval counts for the
-- segments made from now on. Errors: 42704 unknown topic; 22023 bad value.
CREATE FUNCTION iotmq.alter_topic(topic text, retention interval DEFAULT NULL,
		segment_interval interval DEFAULT NULL, retention_policy text DEFAULT NULL,
		max_retention interval DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_hold_topic(topic);
	old iotmq_internal.topic;
BEGIN
	SELECT t.* INTO STRICT old FROM iotmq_internal.topic AS t WHERE t.topic_id = id;
	PERFORM iotmq.topic_check_retention(
		coalesce(alter_topic.retention, old.retention),
		coalesce(alter_topic.segment_interval, old.segment_interval),
		coalesce(alter_topic.retention_policy, old.retention_policy),
		coalesce(alter_topic.max_retention, old.max_retention));
	UPDATE iotmq_internal.topic AS t
	SET retention = coalesce(alter_topic.retention, old.retention),
		segment_interval = coalesce(alter_topic.segment_interval, old.segment_interval),
		retention_policy = coalesce(alter_topic.retention_policy, old.retention_policy),
		max_retention = coalesce(alter_topic.max_retention, old.max_retention)
	WHERE t.topic_id = id;
END
$$;
COMMENT ON FUNCTION iotmq.alter_topic IS 'changes the retention of a topic; NULL leaves a setting unchanged';

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
	PERFORM iotmq.drop_group(topic, g.consumer_group, force)
	FROM iotmq_internal.consumer_group AS g
	WHERE g.topic_id = id;
	PERFORM iotmq.drop_zone(topic, z.zone, force)
	FROM iotmq_internal.zone AS z
	WHERE z.topic_id = id;
	PERFORM iotmq.zone_drop_table(format('iotmq_topic.%I', topic), force);
	-- it went along, unless pg_upgrade has lost what depend.c noted
	IF to_regnamespace('iotmq_zone_' || id) IS NOT NULL THEN
		EXECUTE format('DROP SCHEMA iotmq_zone_%s', id);
	END IF;
	DELETE FROM iotmq_internal.topic AS t WHERE t.topic_id = id;
	PERFORM iotmq.access_tidy();
END
$$;
COMMENT ON FUNCTION iotmq.drop_topic IS 'drops a topic with its messages; with force also its consumer groups';
