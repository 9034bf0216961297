-- Topics and zones.

-- check_name(kind, name): raises 22004 or 42602 unless name is a legal name of a
-- topic, zone or group.
CREATE FUNCTION iotmq.check_name(kind text, name text) RETURNS void
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
COMMENT ON FUNCTION iotmq.check_name IS 'internal: raises an error unless this is a legal name';

-- check_positive(argument, value): raises 22023 unless the interval is above 0
-- and at most 1,000 years; NULL passes.
CREATE FUNCTION iotmq.check_positive(argument text, value interval) RETURNS void
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
COMMENT ON FUNCTION iotmq.check_positive IS 'internal: raises an error unless the interval is positive';

-- topic_id(topic): its id; raises 22004 or 42704.
CREATE FUNCTION iotmq.topic_id(topic text) RETURNS int
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int;
BEGIN
	IF topic IS NULL THEN
		RAISE EXCEPTION 'topic must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT t.topic_id INTO id FROM iotmq.topic AS t WHERE t.topic = topic_id.topic;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'topic "%" does not exist', topic
			USING ERRCODE = 'undefined_object',
				HINT = format('Create it: SELECT iotmq.create_topic(%L);', topic);
	END IF;
	RETURN id;
END
$$;
COMMENT ON FUNCTION iotmq.topic_id IS 'internal: the id of a topic';

-- zone_id(topic, zone): its id; raises 22004 or 42704.
CREATE FUNCTION iotmq.zone_id(topic text, zone text) RETURNS int
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	topic_of_zone int := iotmq.topic_id(topic);
	id int;
BEGIN
	IF zone IS NULL THEN
		RAISE EXCEPTION 'zone must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT z.zone_id INTO id
	FROM iotmq.zone AS z
	WHERE z.topic_id = topic_of_zone AND z.zone = zone_id.zone;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'zone "%" of topic "%" does not exist', zone, topic
			USING ERRCODE = 'undefined_object',
				HINT = format('Add it: SELECT iotmq.add_zone(%L, %L);', topic, zone);
	END IF;
	RETURN id;
END
$$;
COMMENT ON FUNCTION iotmq.zone_id IS 'internal: the id of a zone';

-- check_retention(...): raises 22023 unless these go together. Called with the
-- values as they are going to be.
CREATE FUNCTION iotmq.check_retention(retention interval, segment_interval interval,
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
	PERFORM iotmq.check_positive('retention', retention);
	PERFORM iotmq.check_positive('segment_interval', segment_interval);
	PERFORM iotmq.check_positive('max_retention', max_retention);
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
COMMENT ON FUNCTION iotmq.check_retention IS 'internal: raises an error unless these settings go together';

-- create_topic: a topic with its zones, and their segments for the next time.
-- Errors: 22004 topic, zones or an element of zones NULL; 42602 bad name; 42710
-- the topic exists, or a zone is named twice; 22023 bad value. The new tables are
-- seen by others when the transaction commits.
CREATE FUNCTION iotmq.create_topic(topic text, zones text[] DEFAULT '{default}',
		retention interval DEFAULT '72 hours', segment_interval interval DEFAULT NULL,
		retention_policy text DEFAULT 'time', max_retention interval DEFAULT NULL,
		device_index boolean DEFAULT true) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone text;
BEGIN
	PERFORM iotmq.check_name('topic', topic);
	IF zones IS NULL OR device_index IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', CASE WHEN zones IS NULL THEN 'zones' ELSE 'device_index' END
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF cardinality(zones) = 0 THEN
		RAISE EXCEPTION 'a topic needs at least one zone'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Name its zones, such as zones => ''{default}''.';
	END IF;
	PERFORM iotmq.check_retention(retention, segment_interval, retention_policy, max_retention);
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
		INSERT INTO iotmq.topic (topic, table_name, retention, segment_interval,
			retention_policy, max_retention, device_index)
		VALUES (topic, format('iotmq_topic.%I', topic)::regclass, retention, segment_interval,
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
		COMMENT ON COLUMN iotmq_topic.%1$I.properties IS ''of the transport''', topic);
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
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.topic_id(topic);
	old iotmq.topic;
BEGIN
	SELECT t.* INTO STRICT old FROM iotmq.topic AS t WHERE t.topic_id = id FOR UPDATE;
	PERFORM iotmq.check_retention(
		coalesce(alter_topic.retention, old.retention),
		coalesce(alter_topic.segment_interval, old.segment_interval),
		coalesce(alter_topic.retention_policy, old.retention_policy),
		coalesce(alter_topic.max_retention, old.max_retention));
	UPDATE iotmq.topic AS t
	SET retention = coalesce(alter_topic.retention, old.retention),
		segment_interval = coalesce(alter_topic.segment_interval, old.segment_interval),
		retention_policy = coalesce(alter_topic.retention_policy, old.retention_policy),
		max_retention = coalesce(alter_topic.max_retention, old.max_retention)
	WHERE t.topic_id = id;
END
$$;
COMMENT ON FUNCTION iotmq.alter_topic IS 'changes the retention of a topic; NULL leaves a setting unchanged';

-- drop_table(name, force): drops a table of iotmq_topic; with force also what users
-- made of it, such as views. Errors: 55006 there is some, without force.
CREATE FUNCTION iotmq.drop_table(name text, force boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	dependents text;
BEGIN
	EXECUTE format('DROP TABLE IF EXISTS %s %s', name, CASE WHEN force THEN 'CASCADE' END);
EXCEPTION WHEN dependent_objects_still_exist THEN
	GET STACKED DIAGNOSTICS dependents = PG_EXCEPTION_DETAIL;
	RAISE EXCEPTION 'other objects depend on table %', name
		USING ERRCODE = 'object_in_use', DETAIL = dependents,
			HINT = 'Drop them first, or use force => true to drop them, too.';
END
$$;
COMMENT ON FUNCTION iotmq.drop_table IS 'internal: drops a table of messages';

-- drop_topic: the topic with its messages and, with force, its groups and what users
-- made of its tables. Errors: 42704 unknown topic; 55006 there is some of these,
-- without force. Waits for open transactions that use the topic.
CREATE FUNCTION iotmq.drop_topic(topic text, force boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.topic_id(topic);
	groups text;
	zone text;
BEGIN
	IF force IS NULL THEN
		RAISE EXCEPTION 'force must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT string_agg(format('"%s"', g.consumer_group), ', ' ORDER BY g.consumer_group) INTO groups
	FROM iotmq.consumer_group AS g
	WHERE g.topic_id = id;
	IF groups IS NOT NULL AND NOT force THEN
		RAISE EXCEPTION 'topic "%" still has consumer groups', topic
			USING ERRCODE = 'object_in_use',
				DETAIL = format('Its groups: %s.', groups),
				HINT = format('Drop them too: SELECT iotmq.drop_topic(%L, force => true);', topic);
	END IF;
	PERFORM iotmq.drop_group(topic, g.consumer_group)
	FROM iotmq.consumer_group AS g
	WHERE g.topic_id = id;
	PERFORM iotmq.drop_zone(topic, z.zone, force)
	FROM iotmq.zone AS z
	WHERE z.topic_id = id;
	PERFORM iotmq.drop_table(format('iotmq_topic.%I', topic), force);
	DELETE FROM iotmq.topic AS t WHERE t.topic_id = id;
	PERFORM iotmq.settle_rights();
END
$$;
COMMENT ON FUNCTION iotmq.drop_topic IS 'drops a topic with its messages; with force also its consumer groups';

-- add_zone: one more zone, which every group reads from its beginning.
-- Errors: 42704 unknown topic; 42602 bad name; 42710 the zone exists.
CREATE FUNCTION iotmq.add_zone(topic text, zone text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.topic_id(topic);
	new_zone int;
	root regclass;
	name text;
	publisher regrole;
BEGIN
	PERFORM iotmq.check_name('zone', zone);
	-- groups must not come or go meanwhile
	SELECT t.table_name INTO STRICT root FROM iotmq.topic AS t WHERE t.topic_id = id FOR UPDATE;
	IF EXISTS (SELECT FROM iotmq.zone AS z WHERE z.topic_id = id AND z.zone = add_zone.zone) THEN
		RAISE EXCEPTION 'zone "%" of topic "%" already exists', zone, topic
			USING ERRCODE = 'duplicate_object';
	END IF;

	new_zone := nextval('iotmq.zone_zone_id_seq');
	name := format('iotmq_topic._zone_%s', new_zone);
	EXECUTE format('CREATE SEQUENCE %s_offset', name);
	EXECUTE format('CREATE TABLE %s (LIKE %s) PARTITION BY RANGE (published_at)', name, root);
	EXECUTE format('ALTER TABLE %1$s
			ADD CONSTRAINT message CHECK (iotmq.check_message(device_id, tag, payload, body, properties)),
			ADD CONSTRAINT place CHECK (iotmq.check_place(%3$s, msg_offset, published_at)),
			ALTER zone SET DEFAULT %2$L,
			ALTER msg_offset SET DEFAULT nextval(''%1$s_offset''),
			ALTER published_at SET DEFAULT iotmq.publish_time(%3$s)', name, zone, new_zone);
	EXECUTE format('ALTER SEQUENCE %1$s_offset OWNED BY %1$s.msg_offset', name);
	EXECUTE format('CREATE TRIGGER before_publish BEFORE INSERT ON %s
		FOR EACH STATEMENT EXECUTE FUNCTION iotmq.before_publish(%s)', name, new_zone);
	EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER before_publish', name);
	EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES IN (%L)', root, name, zone);
	EXECUTE format('COMMENT ON TABLE %s IS %L', name, format('zone %s of topic %s', zone, topic));

	INSERT INTO iotmq.zone (zone_id, topic_id, zone, table_name, offset_sequence)
		OVERRIDING SYSTEM VALUE
	VALUES (new_zone, id, zone, name::regclass, (name || '_offset')::regclass);
	-- whoever may publish to all zones may to this one
	FOR publisher IN
		SELECT a.grantee::regrole
		FROM pg_attribute AS c
		CROSS JOIN LATERAL aclexplode(c.attacl) AS a
		WHERE c.attrelid = root AND c.attname = 'payload' AND a.privilege_type = 'INSERT' AND a.grantee <> 0
	LOOP
		PERFORM iotmq.grant_publish(topic, publisher, ARRAY[zone]);
	END LOOP;
	PERFORM iotmq.make_segments(new_zone, clock_timestamp(),
		clock_timestamp() + iotmq.ahead(t.segment_interval))
	FROM iotmq.topic AS t
	WHERE t.topic_id = id;
	PERFORM iotmq.create_cursor(g.group_id, new_zone, 1)
	FROM iotmq.consumer_group AS g
	WHERE g.topic_id = id
	ORDER BY g.group_id;
END
$$;
COMMENT ON FUNCTION iotmq.add_zone IS 'adds a zone to a topic; every group reads it from its beginning';

-- drop_zone: a zone with its messages. Errors: 42704 unknown topic or zone;
-- 55006 a group has unread or unsettled messages there, or users made something of
-- its table, without force. Waits for open transactions that use the zone, in the order
-- in which they lock: publishers (sequence, table), consumers (position, table).
CREATE FUNCTION iotmq.drop_zone(topic text, zone text, force boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.zone_id(topic, zone);
	old_table regclass;
	sequence regclass;
	reader text;
BEGIN
	IF force IS NULL THEN
		RAISE EXCEPTION 'force must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM FROM iotmq.topic AS t WHERE t.topic = drop_zone.topic FOR UPDATE;
	SELECT z.table_name, z.offset_sequence INTO old_table, sequence
	FROM iotmq.zone AS z
	WHERE z.zone_id = id
	FOR UPDATE;
	IF old_table IS NULL THEN
		RETURN;					-- somebody else dropped it while we waited
	END IF;
	PERFORM iotmq.exclude_publishers(sequence);
	IF NOT force THEN
		SELECT g.consumer_group INTO reader
		FROM iotmq.cursor AS c
		JOIN iotmq.consumer_group AS g USING (group_id)
		WHERE c.zone_id = id
			AND (iotmq.count_ready(c.cursor_id) > 0
				OR EXISTS (SELECT FROM iotmq.redelivery AS r WHERE r.cursor_id = c.cursor_id)
				OR EXISTS (SELECT FROM iotmq.lease AS l
					WHERE l.lease_id >= c.cursor_id::bigint << 43
						AND l.lease_id < (c.cursor_id + 1)::bigint << 43))
		ORDER BY g.consumer_group
		LIMIT 1;
		IF reader IS NOT NULL THEN
			RAISE EXCEPTION 'consumer group "%" has unread or unsettled messages in zone "%" of topic "%"',
					reader, zone, topic
				USING ERRCODE = 'object_in_use',
					HINT = format('Drop it nevertheless: SELECT iotmq.drop_zone(%L, %L, force => true);', topic, zone);
		END IF;
	END IF;
	PERFORM iotmq.drop_cursor(c.cursor_id) FROM iotmq.cursor AS c WHERE c.zone_id = id;
	DELETE FROM iotmq.segment AS s WHERE s.zone_id = id;
	DELETE FROM iotmq.zone AS z WHERE z.zone_id = id;
	IF EXISTS (SELECT FROM pg_class AS k WHERE k.oid = old_table) THEN
		PERFORM iotmq.drop_table(old_table::text, force);
	END IF;
	PERFORM iotmq.settle_rights();
END
$$;
COMMENT ON FUNCTION iotmq.drop_zone IS 'drops a zone with its messages; with force also if a group still needs some';

-- topic_table, zone_table: the tables, for SQL over history and for COPY.
-- Errors: 22004, 42704.
CREATE FUNCTION iotmq.topic_table(topic text) RETURNS regclass
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.table_name FROM iotmq.topic AS t WHERE t.topic_id = iotmq.topic_id(topic_table.topic)
$$;
COMMENT ON FUNCTION iotmq.topic_table IS 'the table of a topic, for SQL over its history';

CREATE FUNCTION iotmq.zone_table(topic text, zone text) RETURNS regclass
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT z.table_name
	FROM iotmq.zone AS z
	WHERE z.zone_id = iotmq.zone_id(zone_table.topic, zone_table.zone)
$$;
COMMENT ON FUNCTION iotmq.zone_table IS 'the table of a zone, to COPY messages into';

REVOKE EXECUTE ON FUNCTION iotmq.check_name, iotmq.check_positive, iotmq.topic_id, iotmq.zone_id,
	iotmq.check_retention, iotmq.create_topic, iotmq.alter_topic, iotmq.drop_table, iotmq.drop_topic,
	iotmq.add_zone, iotmq.drop_zone FROM PUBLIC;
