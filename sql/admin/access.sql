-- Access: who may do what. Default deny: a role without a grant can publish,
-- consume and read nothing.
--
-- A right lives where PostgreSQL keeps such rights, so GRANT's rules, \dp, pg_dump
-- and DROP OWNED know it:
--   publish  INSERT on the columns of the zone's table that a publisher may set (and
--            USAGE on its sequence), which COPY needs anyway; on the topic's table:
--            zones added later get it, too
--   read     SELECT on the topic's table
--   monitor  SELECT on the views, EXECUTE on the functions in them; who may execute stats
--            counts as a monitor in src/core/access.c
--   admin    EXECUTE on the functions of administration; who may execute
--            grant_admin counts as an administrator in src/core/access.c
-- Each comes with USAGE of the schemas that it needs, which nobody else has: who may name a
-- table may queue a lock on it. The zones of each topic have a schema of their own.
-- Only consume has no table of its own: iotmq_internal.consume_grant. A role that was
-- dropped is no role any more there either: its successor of the same name has
-- another oid.
-- Functions of administration are SECURITY DEFINER and not for PUBLIC; those that
-- check the caller's right themselves are for everybody.

-- access_check_role(role): raises 22004 or 42704 unless the role exists.
CREATE FUNCTION iotmq.access_check_role(role regrole) RETURNS void
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
COMMENT ON FUNCTION iotmq.access_check_role IS 'internal: raises an error unless the role exists';

-- Who changes rights takes turns, since GRANT and REVOKE fail when they meet at an
-- object: by a lock on iotmq_internal.consume_grant, after that of the topic's row where there
-- is one. Consumers and publishers don't take it.

-- access_tidy(): takes back what only goes along with a right, from roles that have
-- none any more: USAGE of the schemas (iotmq_topic is for those who read a topic,
-- iotmq_zone_<topic_id> for those with a right to one of its zones), SELECT on the views of
-- consumers. So a role without a grant can't even name a table, and DROP
-- ROLE has nothing left to complain about. Forgets what dropped roles had.
CREATE FUNCTION iotmq.access_tidy() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	idle record;
BEGIN
	LOCK TABLE iotmq_internal.consume_grant IN SHARE ROW EXCLUSIVE MODE;
	IF EXISTS (SELECT FROM iotmq_internal.consume_grant AS c WHERE c.role NOT IN (SELECT r.oid FROM pg_roles AS r)) THEN
		DELETE FROM iotmq_internal.consume_grant AS c WHERE c.role NOT IN (SELECT r.oid FROM pg_roles AS r);
	END IF;
	FOR idle IN
		SELECT o.object, a.grantee::regrole AS role
		FROM (
			SELECT 'USAGE ON SCHEMA iotmq' AS object, n.nspacl AS acl, n.nspowner AS owner,
				'{publish,consume,read,monitor,admin}'::text[] AS actions, NULL AS topic, NULL::boolean AS of_zone
			FROM pg_namespace AS n
			WHERE n.nspname = 'iotmq'
			UNION ALL
			SELECT 'USAGE ON SCHEMA iotmq_topic', n.nspacl, n.nspowner, '{read}', NULL, false
			FROM pg_namespace AS n
			WHERE n.nspname = 'iotmq_topic'
			UNION ALL
			SELECT 'USAGE ON SCHEMA ' || n.nspname, n.nspacl, n.nspowner, '{publish,read}', t.topic, true
			FROM iotmq_internal.topic AS t
			JOIN pg_namespace AS n ON n.nspname = 'iotmq_zone_' || t.topic_id
			UNION ALL
			SELECT 'SELECT ON ' || c.oid::regclass, c.relacl, c.relowner,
				CASE c.relname WHEN 'dead_letter' THEN '{consume,admin}'::text[] ELSE '{consume,monitor,admin}' END,
				NULL, NULL
			FROM pg_class AS c
			WHERE 'SELECT ON ' || c.oid::regclass = ANY (iotmq.access_consumer_views())
		) AS o
		CROSS JOIN LATERAL aclexplode(o.acl) AS a
		WHERE a.grantee NOT IN (0, o.owner)
			AND NOT EXISTS (SELECT FROM iotmq.privileges AS p
				WHERE p.role = a.grantee AND p.action = ANY (o.actions)
					AND (o.topic IS NULL OR p.topic = o.topic)
					AND (o.of_zone IS NULL OR o.of_zone = (p.zone IS NOT NULL)))
	LOOP
		EXECUTE format('REVOKE %s FROM %s CASCADE', idle.object, idle.role);
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.access_tidy IS 'internal: takes back what only goes along with a right';

-- access_change(command, rights, role): GRANT or REVOKE, for each of these rights.
CREATE FUNCTION iotmq.access_change(command text, rights text[], role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one text;
BEGIN
	PERFORM iotmq.access_check_role(role);
	LOCK TABLE iotmq_internal.consume_grant IN SHARE ROW EXCLUSIVE MODE;
	FOREACH one IN ARRAY rights LOOP
		EXECUTE format(command, one, role);
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.access_change IS 'internal: grants or revokes privileges';

-- access_grant, access_revoke(rights, role): rights as GRANT and REVOKE write them.
CREATE FUNCTION iotmq.access_grant(rights text[], role regrole) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq.access_change('GRANT %s TO %s', array_prepend('USAGE ON SCHEMA iotmq', rights), role);
COMMENT ON FUNCTION iotmq.access_grant IS 'internal: grants privileges';

CREATE FUNCTION iotmq.access_revoke(rights text[], role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- an old snapshot may show a row of a system catalog twice
	IF EXISTS (SELECT FROM pg_namespace AS n WHERE n.nspname = 'iotmq' AND n.nspowner = role) THEN
		RAISE EXCEPTION 'role % owns iotmq', role
			USING ERRCODE = 'invalid_parameter_value',
				DETAIL = 'Its rights can''t be revoked.';
	END IF;
	PERFORM iotmq.access_change('REVOKE %s FROM %s CASCADE', rights, role);
	PERFORM iotmq.access_tidy();
END
$$;
COMMENT ON FUNCTION iotmq.access_revoke IS 'internal: revokes privileges';

-- access_check_revoked(role, action, topic, zones): raises 2BP01 if the role still has it,
-- by a grant of somebody else, made by hand. topic, zones NULL: any.
CREATE FUNCTION iotmq.access_check_revoked(role regrole, action text, topic text, zones text[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM iotmq.privileges AS p
		WHERE p.role = access_check_revoked.role AND p.action = access_check_revoked.action
			AND (access_check_revoked.topic IS NULL OR p.topic = access_check_revoked.topic)
			AND (zones IS NULL OR p.zone = ANY (zones)))
	THEN
		RAISE EXCEPTION 'role % still has the right to %', role, action
			USING ERRCODE = 'dependent_objects_still_exist',
				DETAIL = 'It was granted by a role other than the owner of iotmq, with GRANT.',
				HINT = 'Revoke it as that role; \dp shows which it is.';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.access_check_revoked IS 'internal: raises an error if a role still has a right';

-- access_publish_rights(insertion, topic, zones, all_zones): to publish to these zones (NULL:
-- all), and with all_zones what says that zones added later are meant, too. insertion:
-- INSERT on some columns or all.
CREATE FUNCTION iotmq.access_publish_rights(insertion text, topic text, zones text[], all_zones boolean) RETURNS text[]
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_topic_id(topic);
	rights text[];
BEGIN
	PERFORM iotmq.call_zone_id(topic, zone) FROM unnest(zones) AS zone;
	-- zones must not come meanwhile
	PERFORM FROM iotmq_internal.topic AS t WHERE t.topic_id = id FOR SHARE;
	SELECT array_agg(r.one ORDER BY z.zone_id) INTO rights
	FROM iotmq_internal.zone AS z
	CROSS JOIN LATERAL (VALUES
		(insertion || ' ON ' || z.table_name),
		('USAGE ON SEQUENCE ' || z.offset_sequence)
	) AS r (one)
	WHERE z.topic_id = id AND (zones IS NULL OR z.zone = ANY (zones));
	IF all_zones THEN
		rights := array_append(rights, insertion || ' ON ' || iotmq.topic_table(topic));
	END IF;
	RETURN rights;
END
$$;
COMMENT ON FUNCTION iotmq.access_publish_rights IS 'internal: the privileges to publish to zones';

-- grant_publish, revoke_publish: publishing by functions and COPY, to these zones
-- or to all (those added later, too). Errors: 22004; 42704 unknown topic or zone.
CREATE FUNCTION iotmq.grant_publish(topic text, role regrole, zones text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.access_grant(array_prepend('USAGE ON SCHEMA iotmq_zone_' || iotmq.call_topic_id(topic),
		iotmq.access_publish_rights('INSERT (device_id, tag, payload, body, properties)', topic, zones, zones IS NULL)), role);
	PERFORM iotmq.access_tidy();	-- no zone, no right
END
$$;
COMMENT ON FUNCTION iotmq.grant_publish IS 'lets a role publish to a topic, to these zones or all';

CREATE FUNCTION iotmq.revoke_publish(topic text, role regrole, zones text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.access_revoke(iotmq.access_publish_rights('INSERT', topic, zones, true), role);
	PERFORM iotmq.access_check_revoked(role, 'publish', topic, zones);
END
$$;
COMMENT ON FUNCTION iotmq.revoke_publish IS 'takes the right to publish to a topic back, to these zones or all';

-- access_consumer_views(): the views in which consumers see the rows of their groups.
CREATE FUNCTION iotmq.access_consumer_views() RETURNS text[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg('SELECT ON iotmq.' || view)
	FROM unnest('{dead_letter,consumer_lag,group_lag,in_flight,waiting_message}'::text[]) AS view
$$;
COMMENT ON FUNCTION iotmq.access_consumer_views IS 'internal: the privileges to see what a group has';

-- grant_consume, revoke_consume: consuming and settling as a group, fetch and
-- commit_offset, its dead letters. Errors: 22004; 42704 unknown topic or group.
CREATE FUNCTION iotmq.grant_consume(topic text, consumer_group text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_group_id(topic, consumer_group);
BEGIN
	PERFORM iotmq.access_grant(iotmq.access_consumer_views(), role);
	id := iotmq.call_group_id(topic, consumer_group);	-- unless it was dropped meanwhile
	PERFORM FROM iotmq_internal.consumer_group AS g WHERE g.group_id = id FOR KEY SHARE;	-- 40001 if an old snapshot still shows it
	INSERT INTO iotmq_internal.consume_grant (group_id, role) VALUES (id, role) ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION iotmq.grant_consume IS 'lets a role consume as a group';

CREATE FUNCTION iotmq.revoke_consume(topic text, consumer_group text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_group_id(topic, consumer_group);
BEGIN
	PERFORM iotmq.access_change('', '{}', role);	-- takes its turn
	DELETE FROM iotmq_internal.consume_grant AS c WHERE c.group_id = id AND c.role = revoke_consume.role;
	PERFORM iotmq.access_tidy();
END
$$;
COMMENT ON FUNCTION iotmq.revoke_consume IS 'takes the right to consume as a group back';

-- grant_read, revoke_read: SQL over a topic's history, messages_of_device, fetch.
-- Errors: 22004; 42704 unknown topic.
CREATE FUNCTION iotmq.grant_read(topic text, role regrole) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq.access_grant(ARRAY['USAGE ON SCHEMA iotmq_topic', 'SELECT ON ' || iotmq.topic_table(topic)], role);
COMMENT ON FUNCTION iotmq.grant_read IS 'lets a role read the history of a topic';

CREATE FUNCTION iotmq.revoke_read(topic text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.access_revoke(ARRAY['SELECT ON ' || iotmq.topic_table(topic)], role);
	PERFORM iotmq.access_check_revoked(role, 'read', topic, NULL);
END
$$;
COMMENT ON FUNCTION iotmq.revoke_read IS 'takes the right to read the history of a topic back';

-- access_monitor_rights(): the views but dead_letter, and what they call.
CREATE FUNCTION iotmq.access_monitor_rights() RETURNS text[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg('SELECT ON iotmq.' || view)
		|| array_remove(iotmq.access_consumer_views(), 'SELECT ON iotmq.dead_letter')
		|| '{EXECUTE ON FUNCTION iotmq.overview_zone_offsets,EXECUTE ON FUNCTION iotmq.stats,
			EXECUTE ON FUNCTION iotmq.held_back_holders,EXECUTE ON FUNCTION iotmq.holder_transactions,
			EXECUTE ON FUNCTION iotmq.alerts_maintenance,
			EXECUTE ON FUNCTION iotmq.epoch_gaps}'::text[]
	FROM unnest('{dead_letter_depth,topic_stats,held_back,cursor_holder,zone_epoch,alerts,
		metrics,privileges,maintenance_run}'::text[]) AS view
$$;
COMMENT ON FUNCTION iotmq.access_monitor_rights IS 'internal: the privileges to monitor';

-- access_take(rights, role): revokes them, but for the views of consumers: access_tidy knows
-- who still may see them.
CREATE FUNCTION iotmq.access_take(rights text[], role regrole) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq.access_revoke(array_agg(one), role)
	FROM unnest(rights) AS one
	WHERE one <> ALL (iotmq.access_consumer_views())
$$;
COMMENT ON FUNCTION iotmq.access_take IS 'internal: revokes privileges, but for those that other rights may give, too';

-- grant_monitor, revoke_monitor: all views but dead_letter, which holds message
-- content; count_lag. Errors: 22004.
CREATE FUNCTION iotmq.grant_monitor(role regrole) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq.access_grant(iotmq.access_monitor_rights(), role);
COMMENT ON FUNCTION iotmq.grant_monitor IS 'lets a role read all views but dead_letter';

CREATE FUNCTION iotmq.revoke_monitor(role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.access_take(iotmq.access_monitor_rights(), role);
	PERFORM iotmq.access_check_revoked(role, 'monitor', NULL, NULL);
END
$$;
COMMENT ON FUNCTION iotmq.revoke_monitor IS 'takes the right to read the views back';

-- access_admin_rights(): all views, the functions of administration, and the steps of
-- run_maintenance, which runs as its caller. No other internal function: those that
-- act as the owner trust their arguments.
CREATE FUNCTION iotmq.access_admin_rights() RETURNS text[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq.access_monitor_rights() || '{SELECT ON iotmq.dead_letter}'::text[]
		|| array_agg('EXECUTE ON ROUTINE iotmq.' || routine)
	FROM unnest('{create_topic,alter_topic,drop_topic,add_zone,drop_zone,
		create_group,alter_group,drop_group,seek,seek_offset,set_node,
		grant_publish,revoke_publish,grant_consume,revoke_consume,grant_read,revoke_read,
		grant_monitor,revoke_monitor,grant_admin,revoke_admin,
		run_maintenance,call_check_transaction,maintenance_plan,maintenance_step,maintenance_prepare,
		maintenance_add,maintenance_note,
		segment_seal,expire_leases,claim_pass,retention_drop,retention_move_earliest,maintenance_note_failure,maintenance_note_run,
		schedule_maintenance,unschedule_maintenance,schedule_job,schedule_require_cron}'::text[]) AS routine
$$;
COMMENT ON FUNCTION iotmq.access_admin_rights IS 'internal: the privileges to administer';

-- grant_admin, revoke_admin: everything, on every topic. Errors: 22004.
CREATE FUNCTION iotmq.grant_admin(role regrole) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq.access_grant(iotmq.access_admin_rights(), role);
COMMENT ON FUNCTION iotmq.grant_admin IS 'lets a role administer all of iotmq';

CREATE FUNCTION iotmq.revoke_admin(role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.access_take(iotmq.access_admin_rights(), role);
	PERFORM iotmq.access_check_revoked(role, 'admin', NULL, NULL);
END
$$;
COMMENT ON FUNCTION iotmq.revoke_admin IS 'takes the right to administer back, and that to monitor';

-- Who may do what. The role of a grant to PUBLIC is -.
CREATE VIEW iotmq.privileges AS
SELECT DISTINCT t.topic, NULL::text AS consumer_group, z.zone, a.grantee::regrole AS role, 'publish' AS action
FROM iotmq_internal.topic AS t
JOIN iotmq_internal.zone AS z USING (topic_id)
JOIN pg_catalog.pg_class AS k ON k.oid = z.table_name
JOIN pg_catalog.pg_attribute AS c ON c.attrelid = k.oid AND c.attname = 'payload'
CROSS JOIN LATERAL (
	SELECT e.grantee, e.privilege_type FROM pg_catalog.aclexplode(c.attacl) AS e
	UNION ALL
	SELECT e.grantee, e.privilege_type FROM pg_catalog.aclexplode(k.relacl) AS e
) AS a
WHERE (c.attacl IS NOT NULL OR k.relacl IS NOT NULL) AND a.privilege_type = 'INSERT' AND a.grantee <> k.relowner
UNION ALL
SELECT t.topic, NULL, NULL, a.grantee::regrole, 'read'
FROM iotmq_internal.topic AS t
JOIN pg_catalog.pg_class AS c ON c.oid = t.table_name
CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
WHERE a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
UNION ALL
SELECT t.topic, g.consumer_group, NULL, c.role, 'consume'
FROM iotmq_internal.consume_grant AS c
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.topic AS t USING (topic_id)
JOIN pg_catalog.pg_roles AS r ON r.oid = c.role
UNION ALL
SELECT NULL, NULL, NULL, a.grantee::regrole, CASE p.proname WHEN 'grant_admin' THEN 'admin' ELSE 'monitor' END
FROM pg_catalog.pg_proc AS p
CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) AS a
WHERE p.oid IN ('iotmq.grant_admin(regrole)'::regprocedure, 'iotmq.stats(boolean)'::regprocedure)
	AND a.privilege_type = 'EXECUTE' AND a.grantee <> p.proowner;
COMMENT ON VIEW iotmq.privileges IS 'who may do what: the grants of iotmq';
COMMENT ON COLUMN iotmq.privileges.topic IS 'on that topic; NULL: all';
COMMENT ON COLUMN iotmq.privileges.consumer_group IS 'as that group; NULL: not about groups';
COMMENT ON COLUMN iotmq.privileges.zone IS 'to that zone; NULL: not about zones';
COMMENT ON COLUMN iotmq.privileges.role IS 'the role';
COMMENT ON COLUMN iotmq.privileges.action IS 'publish, consume, read, monitor or admin';
