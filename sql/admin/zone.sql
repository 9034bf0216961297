-- Zones.

-- zone_drop_table(name, force): drops a table of iotmq_topic; with force also what users
-- made of it, such as views. Errors: 55006 there is some, without force.
CREATE FUNCTION iotmq.zone_drop_table(name text, force boolean) RETURNS void
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
COMMENT ON FUNCTION iotmq.zone_drop_table IS 'internal: drops a table of messages';

-- add_zone: one more zone, which every group reads from its beginning.
-- Errors: 42704 unknown topic; 42602 bad name; 42710 the zone exists.
CREATE FUNCTION iotmq.add_zone(topic text, zone text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_topic_id(topic);
	new_zone int;
	root regclass;
	name text;
	publisher regrole;
BEGIN
	PERFORM iotmq.call_check_name('zone', zone);
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
			ADD CONSTRAINT message CHECK (iotmq.message_is_valid(device_id, tag, payload, body, properties)),
			ADD CONSTRAINT place CHECK (iotmq.copy_in_place(%3$s, msg_offset, published_at)),
			ALTER zone SET DEFAULT %2$L,
			ALTER msg_offset SET DEFAULT nextval(''%1$s_offset''),
			ALTER published_at SET DEFAULT iotmq.copy_in_time(%3$s)', name, zone, new_zone);
	EXECUTE format('ALTER SEQUENCE %1$s_offset OWNED BY %1$s.msg_offset', name);
	EXECUTE format('CREATE TRIGGER before_publish BEFORE INSERT ON %s
		FOR EACH STATEMENT EXECUTE FUNCTION iotmq.copy_in_begin(%s)', name, new_zone);
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
	PERFORM iotmq.segment_make_until(new_zone, clock_timestamp(),
		clock_timestamp() + iotmq.segment_ahead(t.segment_interval))
	FROM iotmq.topic AS t
	WHERE t.topic_id = id;
	PERFORM iotmq.cursor_create(g.group_id, new_zone, 1)
	FROM iotmq.consumer_group AS g
	WHERE g.topic_id = id
	ORDER BY g.group_id;
END
$$;
COMMENT ON FUNCTION iotmq.add_zone IS 'adds a zone to a topic; every group reads it from its beginning';

-- drop_zone: a zone with its messages. Errors: 42704 unknown topic or zone;
-- 55006 a group has unread or unsettled messages there, or users made something of
-- its table, without force. Waits for open transactions that use the zone, in the order
-- in which they lock: publishers (zone lock, table), consumers (position, table).
CREATE FUNCTION iotmq.drop_zone(topic text, zone text, force boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_zone_id(topic, zone);
	old_table regclass;
	reader text;
BEGIN
	IF force IS NULL THEN
		RAISE EXCEPTION 'force must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM FROM iotmq.topic AS t WHERE t.topic = drop_zone.topic FOR UPDATE;
	SELECT z.table_name INTO old_table
	FROM iotmq.zone AS z
	WHERE z.zone_id = id
	FOR UPDATE;
	IF old_table IS NULL THEN
		RETURN;					-- somebody else dropped it while we waited
	END IF;
	PERFORM iotmq.stable_exclude_publishers(id);
	IF NOT force THEN
		SELECT g.consumer_group INTO reader
		FROM iotmq.cursor AS c
		JOIN iotmq.consumer_group AS g USING (group_id)
		WHERE c.zone_id = id
			AND (iotmq.count_ready(c.cursor_id) > 0
				OR EXISTS (SELECT FROM iotmq.redelivery AS r WHERE r.cursor_id = c.cursor_id)
				OR EXISTS (SELECT FROM iotmq.lease AS l
					WHERE l.lease_id >= iotmq.lease_first(c.cursor_id)
						AND l.lease_id < iotmq.lease_first(c.cursor_id + 1)))
		ORDER BY g.consumer_group
		LIMIT 1;
		IF reader IS NOT NULL THEN
			RAISE EXCEPTION 'consumer group "%" has unread or unsettled messages in zone "%" of topic "%"',
					reader, zone, topic
				USING ERRCODE = 'object_in_use',
					HINT = format('Drop it nevertheless: SELECT iotmq.drop_zone(%L, %L, force => true);', topic, zone);
		END IF;
	END IF;
	PERFORM iotmq.cursor_drop(c.cursor_id) FROM iotmq.cursor AS c WHERE c.zone_id = id;
	DELETE FROM iotmq.segment AS s WHERE s.zone_id = id;
	DELETE FROM iotmq.zone AS z WHERE z.zone_id = id;
	IF EXISTS (SELECT FROM pg_class AS k WHERE k.oid = old_table) THEN
		PERFORM iotmq.zone_drop_table(old_table::text, force);
	END IF;
	PERFORM iotmq.access_tidy();
END
$$;
COMMENT ON FUNCTION iotmq.drop_zone IS 'drops a zone with its messages; with force also if a group still needs some';
