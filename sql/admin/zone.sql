-- Zones.

-- zone_drop_table(name, force): drops a table of messages; with force also what users
-- made of it, such as views. Errors: 55006 there is some, without force, or an extension has it.
CREATE FUNCTION iotmq.zone_drop_table(name text, force boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	dependents text;
	extension text := (
		SELECT format('ALTER EXTENSION %I DROP TABLE %s;', e.extname, name)
		FROM pg_depend AS d
		JOIN pg_extension AS e ON e.oid = d.refobjid
		WHERE d.classid = 'pg_class'::regclass AND d.objid = to_regclass(name) AND d.deptype = 'e');
BEGIN
	IF extension IS NOT NULL THEN
		RAISE EXCEPTION 'table % was made a part of an extension', name
			USING ERRCODE = 'object_in_use', HINT = 'Undo that: ' || extension;
	END IF;
	EXECUTE format('DROP TABLE IF EXISTS %s %s', name, CASE WHEN force THEN 'CASCADE' END);
EXCEPTION WHEN dependent_objects_still_exist THEN
	GET STACKED DIAGNOSTICS dependents = PG_EXCEPTION_DETAIL;
	RAISE EXCEPTION 'other objects depend on table %', name
		USING ERRCODE = 'object_in_use', DETAIL = dependents,
			HINT = 'Drop them first, or use force => true to drop them, too.';
END
$$;
COMMENT ON FUNCTION iotmq.zone_drop_table IS 'internal: drops a table of messages';

-- zone_add(topic, zone, first): add_zone, of a zone that begins with that offset; NULL: above those
-- of an earlier zone of this name. The new zone's id.
CREATE FUNCTION iotmq.zone_add(topic text, zone text, first bigint DEFAULT NULL) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int;
	new_zone int;
	root regclass;
	name text;
	columns text[];
	publisher regrole;
	reader regrole;
BEGIN
	PERFORM iotmq.call_topic_id(topic);
	PERFORM iotmq.call_check_name('zone', zone);
	-- groups must not come or go meanwhile
	id := iotmq.call_hold_topic(topic);
	SELECT t.table_name INTO STRICT root FROM iotmq_internal.topic AS t WHERE t.topic_id = id;
	IF EXISTS (SELECT FROM iotmq_internal.zone AS z WHERE z.topic_id = id AND z.zone = zone_add.zone) THEN
		RAISE EXCEPTION 'zone "%" of topic "%" already exists', zone, topic
			USING ERRCODE = 'duplicate_object';
	END IF;

	columns := iotmq.message_columns(root);
	IF first IS NULL AND current_setting('transaction_isolation') <> 'read committed' THEN
		-- one that was made and dropped since the snapshot: 40001
		INSERT INTO iotmq_internal.past_zone (topic, zone, last_offset)
		VALUES (zone_add.topic, zone_add.zone, 0)
		ON CONFLICT DO NOTHING;
	END IF;
	first := coalesce(first, 1 + (
		SELECT p.last_offset
		FROM iotmq_internal.past_zone AS p
		WHERE p.topic = zone_add.topic AND p.zone = zone_add.zone), 1);
	-- a dump without data leaves the tables of zones that are not known
	LOOP
		new_zone := nextval('iotmq_internal.zone_zone_id_seq');
		name := format('iotmq_zone_%s._zone_%s', id, new_zone);
		EXIT WHEN to_regclass(name) IS NULL AND to_regclass(name || '_offset') IS NULL;
	END LOOP;
	EXECUTE format('CREATE SEQUENCE %s_offset START %s', name, first);
	-- with what the owner has added
	EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMPRESSION
		INCLUDING STORAGE INCLUDING GENERATED) PARTITION BY RANGE (%s)', name, root, columns[3]);
	EXECUTE format('ALTER TABLE %1$s
			ADD CONSTRAINT message CHECK (iotmq.message_is_valid(%4$s)),
			ADD CONSTRAINT place CHECK (iotmq.copy_in_place(%3$s, %6$s, %7$s, %8$s, %9$s)),
			ALTER %5$s SET DEFAULT %2$L,
			ALTER %6$s SET DEFAULT nextval(''%1$s_offset''),
			ALTER %7$s SET DEFAULT iotmq.copy_in_time(%3$s)', name, zone, new_zone,
		array_to_string(columns[4:9], ', '), columns[1], columns[2], columns[3], columns[4], columns[9]);
	EXECUTE format('ALTER SEQUENCE %1$s_offset OWNED BY %1$s.%2$s', name, columns[2]);
	EXECUTE format('CREATE TRIGGER before_publish BEFORE INSERT ON %s
		FOR EACH STATEMENT EXECUTE FUNCTION iotmq.copy_in_begin(%s)', name, new_zone);
	EXECUTE format('CREATE TRIGGER after_publish AFTER INSERT ON %s
		FOR EACH STATEMENT EXECUTE FUNCTION iotmq.copy_in_end(%s)', name, new_zone);
	EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER before_publish, ENABLE ALWAYS TRIGGER after_publish', name);
	BEGIN
		PERFORM iotmq.table_owner_attach(root, name::regclass, format('FOR VALUES IN (%L)', zone));
	EXCEPTION WHEN invalid_object_definition THEN
		RAISE EXCEPTION 'a partition that is not iotmq''s has the rows of zone "%" of topic "%"', zone, topic
			USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = SQLERRM,
				HINT = format('Detach it: ALTER TABLE %s DETACH PARTITION ...;', root);
	END;
	-- with what it has of the topic's table runs code of that one's owner
	IF NOT iotmq.table_owner_is_ours(root) THEN
		EXECUTE format('ALTER TABLE %s OWNER TO %s', name, (SELECT k.relowner::regrole FROM pg_class AS k WHERE k.oid = root));
	END IF;
	EXECUTE format('COMMENT ON TABLE %s IS %L', name, format('zone %s of topic %s', zone, topic));

	INSERT INTO iotmq_internal.zone (zone_id, topic_id, zone, table_name, offset_sequence, earliest_offset)
		OVERRIDING SYSTEM VALUE
	VALUES (new_zone, id, zone, name::regclass, (name || '_offset')::regclass, first);
	-- whoever may publish to all zones, or read them, may this one
	FOR publisher IN	-- as may_insert in access.c has it
		SELECT a.grantee::regrole
		FROM pg_attribute AS c
		CROSS JOIN LATERAL aclexplode(c.attacl) AS a
		WHERE c.attrelid = root AND c.attnum = 6 AND a.privilege_type = 'INSERT' AND a.grantee <> 0
	LOOP
		PERFORM iotmq.grant_publish(topic, publisher, ARRAY[zone]);
	END LOOP;
	FOR reader IN
		SELECT a.grantee::regrole
		FROM pg_class AS k
		CROSS JOIN LATERAL aclexplode(k.relacl) AS a
		WHERE k.oid = root AND a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, k.relowner)
	LOOP
		PERFORM iotmq.grant_read(topic, reader, ARRAY[zone]);
	END LOOP;
	-- Each segment costs what there is already, in the catalogs: with many zones only the present
	-- one and the next, and maintenance makes the others.
	PERFORM iotmq.segment_make_until(new_zone, clock_timestamp(), clock_timestamp() + CASE
		WHEN (SELECT count(*) FROM iotmq_internal.zone AS z WHERE z.topic_id = id) <= 100
		THEN iotmq.segment_ahead(t.segment_interval)
		ELSE t.segment_interval
	END)
	FROM iotmq_internal.topic AS t
	WHERE t.topic_id = id;
	PERFORM iotmq.cursor_create(g.group_id, new_zone, first)
	FROM iotmq_internal.consumer_group AS g
	WHERE g.topic_id = id
	ORDER BY g.group_id;
	RETURN new_zone;
END
$$;
COMMENT ON FUNCTION iotmq.zone_add IS 'internal: adds a zone that begins with an offset';

-- add_zone: one more zone, which every group reads from its beginning. If there was one of
-- this name before, it goes on above that one's offsets.
-- Errors: 42704 unknown topic; 42602 bad name; 42710 the zone exists; 55000 the topic's table
-- can't take it.
CREATE FUNCTION iotmq.add_zone(topic text, zone text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.zone_add(topic, zone);
END
$$;
COMMENT ON FUNCTION iotmq.add_zone IS 'adds a zone to a topic; every group reads it from its beginning';

-- zone_require_done(topic, zone): raises 55006 if a group has something to lose there. The
-- caller keeps publishers and consumers out, so what is seen is what is lost.
CREATE FUNCTION iotmq.zone_require_done(topic text, zone text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_zone_id(topic, zone);
	reader record;
BEGIN
	SELECT g.consumer_group, n.letters INTO reader
	FROM iotmq_internal.cursor AS c
	JOIN iotmq_internal.consumer_group AS g USING (group_id)
	CROSS JOIN LATERAL (SELECT count(*) AS letters FROM iotmq_internal.dead_message AS d WHERE d.cursor_id = c.cursor_id) AS n
	WHERE c.zone_id = id
		AND (n.letters > 0
			OR iotmq.count_ready(c.cursor_id) > 0
			OR EXISTS (SELECT FROM iotmq_internal.redelivery AS r WHERE r.cursor_id = c.cursor_id)
			OR EXISTS (SELECT FROM iotmq_internal.lease AS l
				JOIN iotmq_internal.cursor_state AS p ON p.cursor_id = c.cursor_id AND p.oldest_lease <= l.lease_id
				WHERE l.lease_id >= iotmq.lease_first(c.cursor_id)
					AND l.lease_id < iotmq.lease_first(c.cursor_id + 1)))
	ORDER BY n.letters > 0, g.consumer_group
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'consumer group "%" has % in zone "%" of topic "%"', reader.consumer_group,
				CASE WHEN reader.letters > 0 THEN 'dead letters' ELSE 'unread or unsettled messages' END, zone, topic
			USING ERRCODE = 'object_in_use',
				HINT = format('Drop it nevertheless: SELECT iotmq.drop_zone(%L, %L, force => true);', topic, zone);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.zone_require_done IS 'internal: raises an error if a group would lose something with a zone';

-- zone_note_past(zone_id): remembers up to where a zone that goes has given out offsets: by
-- its sequence, and by what else is known of it, if somebody has dropped or reset that.
CREATE FUNCTION iotmq.zone_note_past(zone_id int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	past record;
	drawn bigint;
	written bigint;
	last bigint;
BEGIN
	SELECT t.topic, z.zone, k.oid::regclass AS offset_sequence INTO past
	FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	LEFT JOIN pg_class AS k ON k.oid = z.offset_sequence
	WHERE z.zone_id = zone_note_past.zone_id;
	IF past.offset_sequence IS NOT NULL THEN
		EXECUTE format('SELECT last_value - 1 + is_called::int FROM %s', past.offset_sequence) INTO drawn;
	END IF;
	BEGIN
		SELECT max(b.highest) INTO written
		FROM iotmq_internal.segment AS s
		JOIN pg_class AS k ON k.oid = s.table_name
		CROSS JOIN LATERAL iotmq.segment_bounds(s.table_name) AS b
		WHERE s.zone_id = zone_note_past.zone_id;
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
		written := NULL;		-- somebody has changed the table's columns
	END;
	last := greatest(drawn, written,
		(SELECT m.next_offset - 1 FROM iotmq_internal.mirror_state AS m WHERE m.zone_id = zone_note_past.zone_id),
		(SELECT max(s.last_offset) FROM iotmq_internal.segment AS s WHERE s.zone_id = zone_note_past.zone_id),
		(SELECT max(greatest(p.next_offset, p.stable_offset)) - 1
			FROM iotmq_internal.cursor AS c
			JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
			WHERE c.zone_id = zone_note_past.zone_id));
	IF last > 0 THEN
		INSERT INTO iotmq_internal.past_zone AS p (topic, zone, last_offset)
		VALUES (past.topic, past.zone, last)
		ON CONFLICT ON CONSTRAINT past_zone_pkey
		DO UPDATE SET last_offset = greatest(p.last_offset, excluded.last_offset);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.zone_note_past IS 'internal: remembers the last offset of a zone that is dropped';

-- zone_detach_moved(zone_table): what somebody has moved to a schema of his own stays his.
CREATE FUNCTION iotmq.zone_detach_moved(zone_table regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	moved regclass;
BEGIN
	FOR moved IN
		SELECT i.inhrelid
		FROM pg_inherits AS i
		JOIN pg_class AS k ON k.oid = i.inhrelid
		WHERE i.inhparent = zone_table AND NOT i.inhdetachpending AND k.relnamespace <> to_regnamespace('iotmq_segment')	-- unless that was renamed
	LOOP
		EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', zone_table, moved);
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.zone_detach_moved IS 'internal: detaches segments that somebody has moved to another schema';

-- drop_zone: a zone with its messages. Errors: 42704 unknown topic or zone;
-- 55006 a group has unread or unsettled messages or dead letters there (unless another server
-- owns the zone), or users made something of its table, without force. Waits for open transactions that use the zone:
-- publishers and consumers, then readers of its table.
CREATE FUNCTION iotmq.drop_zone(topic text, zone text, force boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_zone_id(topic, zone);
	old_table regclass;
	cursors int[];
BEGIN
	IF force IS NULL THEN
		RAISE EXCEPTION 'force must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM iotmq.call_hold_topic(topic);
	id := iotmq.call_zone_id(topic, zone);	-- unless it was dropped meanwhile
	SELECT z.table_name INTO old_table FROM iotmq_internal.zone AS z WHERE z.zone_id = id FOR UPDATE;
	SELECT coalesce(array_agg(c.cursor_id ORDER BY c.cursor_id), '{}') INTO cursors
	FROM iotmq_internal.cursor AS c
	WHERE c.zone_id = id;
	PERFORM iotmq.cursor_lock_exclude(cursors, ARRAY[id]);
	PERFORM FROM iotmq_internal.cursor_state AS p WHERE p.cursor_id = ANY (cursors) ORDER BY p.cursor_id FOR UPDATE;
	IF NOT force AND EXISTS (SELECT FROM iotmq_internal.zone AS z
		WHERE z.zone_id = id AND z.state <> 'mirror' AND NOT z.handed_over)
	THEN
		PERFORM iotmq.zone_require_done(topic, zone);
	END IF;
	PERFORM iotmq.zone_note_past(id);
	PERFORM iotmq.access_hold_roles(ARRAY(
		SELECT p.role FROM iotmq.privileges AS p WHERE p.topic = drop_zone.topic AND p.zone = drop_zone.zone));
	PERFORM iotmq.cursor_drop(one) FROM unnest(cursors) AS one;
	DELETE FROM iotmq_internal.segment AS s WHERE s.zone_id = id;
	DELETE FROM iotmq_internal.overdue AS o WHERE o.zone_id = id;
	DELETE FROM iotmq_internal.zone_gap AS g WHERE g.zone_id = id;
	DELETE FROM iotmq_internal.mirror_state AS m WHERE m.zone_id = id;
	DELETE FROM iotmq_internal.zone AS z WHERE z.zone_id = id;
	IF EXISTS (SELECT FROM pg_class AS k WHERE k.oid = old_table) THEN
		PERFORM iotmq.zone_detach_moved(old_table);
		PERFORM iotmq.zone_drop_table(old_table::text, force);
	END IF;
	PERFORM iotmq.access_tidy();
END
$$;
COMMENT ON FUNCTION iotmq.drop_zone IS 'drops a zone with its messages; with force also if a group still needs some';
