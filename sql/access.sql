-- Access: who may do what. Default deny: a role without a grant can publish,
-- consume and read nothing.
--
-- A right lives where PostgreSQL keeps such rights, so GRANT's rules, \dp, pg_dump
-- and DROP OWNED know it:
--   publish  INSERT on the columns of the zone's table that a publisher may set (and
--            USAGE on its sequence), which COPY needs anyway; on the topic's table:
--            zones added later get it, too
--   read     SELECT on the topic's table
--   monitor  SELECT on the views, EXECUTE on the functions in them
--   admin    EXECUTE on the functions of this extension; who may execute
--            grant_admin counts as an administrator in src/access.c
-- Only consume has no table of its own: iotmq.consume_grant. A role that was
-- dropped is no role any more there either: its successor of the same name has
-- another oid.
-- Functions of administration are SECURITY DEFINER and not for PUBLIC; those that
-- check the caller's right themselves are for everybody.

-- check_role(role): raises 22004 or 42704 unless the role exists.
CREATE FUNCTION iotmq.check_role(role regrole) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF role IS NULL THEN
		RAISE EXCEPTION 'role must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = role) THEN
		RAISE EXCEPTION 'role % does not exist', role USING ERRCODE = 'undefined_object';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.check_role IS 'internal: raises an error unless the role exists';

-- set_publish(statement, ...): GRANT ... TO or REVOKE ... FROM, on these zones or all.
CREATE FUNCTION iotmq.set_publish(statement text, topic text, role regrole, zones text[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.topic_id(topic);
	place record;
BEGIN
	PERFORM iotmq.check_role(role);
	PERFORM iotmq.zone_id(topic, zone) FROM unnest(zones) AS zone;
	-- zones must not come meanwhile
	PERFORM FROM iotmq.topic AS t WHERE t.topic_id = id FOR UPDATE;
	FOR place IN
		SELECT z.table_name, z.offset_sequence
		FROM iotmq.zone AS z
		WHERE z.topic_id = id AND (zones IS NULL OR z.zone = ANY (zones))
		ORDER BY z.zone_id
	LOOP
		EXECUTE format(statement, 'INSERT (device_id, tag, payload, body, properties)', place.table_name, role);
		EXECUTE format(statement, 'USAGE', 'SEQUENCE ' || place.offset_sequence, role);
	END LOOP;
	IF zones IS NULL OR statement LIKE 'REVOKE%' THEN
		EXECUTE format(statement, 'INSERT (device_id, tag, payload, body, properties)',
			(SELECT t.table_name FROM iotmq.topic AS t WHERE t.topic_id = id), role);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.set_publish IS 'internal: grants or revokes publishing';

-- grant_publish, revoke_publish: publishing by functions and COPY, to these zones
-- or to all (those added later, too). Errors: 22004; 42704 unknown topic or zone.
CREATE FUNCTION iotmq.grant_publish(topic text, role regrole, zones text[] DEFAULT NULL) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq.set_publish('GRANT %s ON %s TO %s', topic, role, zones);
COMMENT ON FUNCTION iotmq.grant_publish IS 'lets a role publish to a topic, to these zones or all';

CREATE FUNCTION iotmq.revoke_publish(topic text, role regrole, zones text[] DEFAULT NULL) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq.set_publish('REVOKE %s ON %s FROM %s', topic, role, zones);
COMMENT ON FUNCTION iotmq.revoke_publish IS 'takes the right to publish to a topic back, to these zones or all';

-- grant_consume, revoke_consume: consuming and settling as a group, fetch and
-- commit_offset, its dead letters. Errors: 22004; 42704 unknown topic or group.
CREATE FUNCTION iotmq.grant_consume(topic text, consumer_group text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.check_role(role);
	INSERT INTO iotmq.consume_grant (group_id, role)
	VALUES (iotmq.group_id(topic, consumer_group), role)
	ON CONFLICT DO NOTHING;
	EXECUTE format('GRANT SELECT ON iotmq.dead_letter TO %s', role);
END
$$;
COMMENT ON FUNCTION iotmq.grant_consume IS 'lets a role consume as a group';

CREATE FUNCTION iotmq.revoke_consume(topic text, consumer_group text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.check_role(role);
	DELETE FROM iotmq.consume_grant AS c
	WHERE c.group_id = iotmq.group_id(topic, consumer_group) AND c.role = revoke_consume.role;
	IF NOT EXISTS (SELECT FROM iotmq.consume_grant AS c WHERE c.role = revoke_consume.role) THEN
		EXECUTE format('REVOKE SELECT ON iotmq.dead_letter FROM %s', role);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.revoke_consume IS 'takes the right to consume as a group back';

-- grant_read, revoke_read: SQL over a topic's history, messages_of_device, fetch.
-- Errors: 22004; 42704 unknown topic.
CREATE FUNCTION iotmq.grant_read(topic text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.topic_id(topic), iotmq.check_role(role);
	EXECUTE format('GRANT SELECT ON %s TO %s', iotmq.topic_table(topic), role);
END
$$;
COMMENT ON FUNCTION iotmq.grant_read IS 'lets a role read the history of a topic';

CREATE FUNCTION iotmq.revoke_read(topic text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.topic_id(topic), iotmq.check_role(role);
	EXECUTE format('REVOKE SELECT ON %s FROM %s', iotmq.topic_table(topic), role);
END
$$;
COMMENT ON FUNCTION iotmq.revoke_read IS 'takes the right to read the history of a topic back';

-- set_monitor(statement, role): GRANT or REVOKE on what monitoring reads.
CREATE FUNCTION iotmq.set_monitor(statement text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	object text;
BEGIN
	PERFORM iotmq.check_role(role);
	FOREACH object IN ARRAY '{consumer_lag,group_lag,dead_letter_depth,topic_stats,in_flight,held_back,
		alerts,metrics,privileges,maintenance_run}'::text[]
	LOOP
		EXECUTE format(statement, 'SELECT', format('iotmq.%I', object), role);
	END LOOP;
	FOREACH object IN ARRAY '{zone_offsets,lag,stats,zone_holders,count_lag}'::text[]
	LOOP
		EXECUTE format(statement, 'EXECUTE', format('FUNCTION iotmq.%I', object), role);
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.set_monitor IS 'internal: grants or revokes monitoring';

-- grant_monitor, revoke_monitor: all views but dead_letter, which holds message
-- content; count_lag. Errors: 22004.
CREATE FUNCTION iotmq.grant_monitor(role regrole) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq.set_monitor('GRANT %s ON %s TO %s', role);
COMMENT ON FUNCTION iotmq.grant_monitor IS 'lets a role read all views but dead_letter';

CREATE FUNCTION iotmq.revoke_monitor(role regrole) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq.set_monitor('REVOKE %s ON %s FROM %s', role);
COMMENT ON FUNCTION iotmq.revoke_monitor IS 'takes the right to read the views back';

-- grant_admin, revoke_admin: everything, on every topic. Errors: 22004.
CREATE FUNCTION iotmq.grant_admin(role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.check_role(role);
	EXECUTE format('GRANT EXECUTE ON ALL ROUTINES IN SCHEMA iotmq TO %s', role);
	EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA iotmq TO %s', role);
END
$$;
COMMENT ON FUNCTION iotmq.grant_admin IS 'lets a role administer all of iotmq';

CREATE FUNCTION iotmq.revoke_admin(role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.check_role(role);
	EXECUTE format('REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA iotmq FROM %s', role);
	EXECUTE format('REVOKE SELECT ON ALL TABLES IN SCHEMA iotmq FROM %s', role);
	IF EXISTS (SELECT FROM iotmq.consume_grant AS c WHERE c.role = revoke_admin.role) THEN
		EXECUTE format('GRANT SELECT ON iotmq.dead_letter TO %s', role);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.revoke_admin IS 'takes the right to administer back, and that to monitor';

-- Who may do what.
CREATE VIEW iotmq.privileges AS
SELECT t.topic, NULL::text AS consumer_group, z.zone, a.grantee::regrole AS role, 'publish' AS action
FROM iotmq.topic AS t
JOIN iotmq.zone AS z USING (topic_id)
JOIN pg_catalog.pg_attribute AS c ON c.attrelid = z.table_name AND c.attname = 'payload'
CROSS JOIN LATERAL pg_catalog.aclexplode(c.attacl) AS a
WHERE a.privilege_type = 'INSERT' AND a.grantee <> 0
UNION ALL
SELECT t.topic, NULL, NULL, a.grantee::regrole, 'read'
FROM iotmq.topic AS t
JOIN pg_catalog.pg_class AS c ON c.oid = t.table_name
CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
WHERE a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, c.relowner)
UNION ALL
SELECT t.topic, g.consumer_group, NULL, c.role, 'consume'
FROM iotmq.consume_grant AS c
JOIN iotmq.consumer_group AS g USING (group_id)
JOIN iotmq.topic AS t USING (topic_id)
JOIN pg_catalog.pg_roles AS r ON r.oid = c.role
UNION ALL
SELECT NULL, NULL, NULL, a.grantee::regrole, CASE p.proname WHEN 'grant_admin' THEN 'admin' ELSE 'monitor' END
FROM pg_catalog.pg_proc AS p
CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) AS a
WHERE p.oid IN ('iotmq.grant_admin(regrole)'::regprocedure, 'iotmq.count_lag(text, text)'::regprocedure)
	AND a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, p.proowner);
COMMENT ON VIEW iotmq.privileges IS 'who may do what: the grants of iotmq';
COMMENT ON COLUMN iotmq.privileges.topic IS 'on that topic; NULL: all';
COMMENT ON COLUMN iotmq.privileges.consumer_group IS 'as that group; NULL: not about groups';
COMMENT ON COLUMN iotmq.privileges.zone IS 'to that zone; NULL: not about zones';
COMMENT ON COLUMN iotmq.privileges.role IS 'the role';
COMMENT ON COLUMN iotmq.privileges.action IS 'publish, consume, read, monitor or admin';

-- What runs for an administrator runs as the extension's owner. Not run_maintenance
-- and what it is made of: a procedure that commits can't.
ALTER FUNCTION iotmq.create_topic SECURITY DEFINER;
ALTER FUNCTION iotmq.alter_topic SECURITY DEFINER;
ALTER FUNCTION iotmq.drop_topic SECURITY DEFINER;
ALTER FUNCTION iotmq.add_zone SECURITY DEFINER;
ALTER FUNCTION iotmq.drop_zone SECURITY DEFINER;
ALTER FUNCTION iotmq.create_group SECURITY DEFINER;
ALTER FUNCTION iotmq.alter_group SECURITY DEFINER;
ALTER FUNCTION iotmq.drop_group SECURITY DEFINER;
ALTER FUNCTION iotmq.seek SECURITY DEFINER;
ALTER FUNCTION iotmq.seek_offset SECURITY DEFINER;
ALTER FUNCTION iotmq.prepare_zone SECURITY DEFINER;
ALTER FUNCTION iotmq.seal_segments SECURITY DEFINER;
ALTER FUNCTION iotmq.take_over SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION iotmq.drop_segment SECURITY DEFINER;
ALTER FUNCTION iotmq.move_earliest SECURITY DEFINER;
ALTER FUNCTION iotmq.note_run SECURITY DEFINER;
ALTER FUNCTION iotmq.zone_holders SECURITY DEFINER;
ALTER FUNCTION iotmq.count_lag SECURITY DEFINER;
ALTER FUNCTION iotmq.create_segment SECURITY DEFINER;

REVOKE EXECUTE ON FUNCTION iotmq.check_role, iotmq.set_publish, iotmq.grant_publish,
	iotmq.revoke_publish, iotmq.grant_consume, iotmq.revoke_consume, iotmq.grant_read,
	iotmq.revoke_read, iotmq.set_monitor, iotmq.grant_monitor, iotmq.revoke_monitor,
	iotmq.grant_admin, iotmq.revoke_admin FROM PUBLIC;
