-- Access: who may do what. Default deny: a role without a grant can publish,
-- consume and read nothing.
--
-- A right lives where PostgreSQL keeps such rights, so GRANT's rules, \dp, pg_dump
-- and DROP OWNED know it:
--   publish  INSERT on the columns of the zone's table that a publisher may set (and
--            USAGE on its sequence), which COPY needs anyway; on the topic's table:
--            zones added later get it, too
--   read     SELECT on the zone's table; on the topic's table: all zones, with those
--            added later
--   monitor  SELECT on the views, EXECUTE on the functions in them; who may execute stats
--            counts as a monitor in src/core/access.c
--   admin    EXECUTE on the functions of administration; who may execute
--            grant_admin counts as an administrator in src/core/access.c
-- Each comes with USAGE of the schemas that it needs, which nobody else has: who may name a
-- table may queue a lock on it. The zones of each topic have a schema of their own. And with
-- SELECT on topic_settings and group_settings, which show each role what it has a right on.
-- Only consume and mirror have no privilege of PostgreSQL's: they are rows of
-- iotmq_internal.consume_grant and mirror_grant. A role that was dropped is no role any more
-- there either: its successor of the same name has another oid.
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

-- Who changes rights holds the topic (call_hold_topic) and the role (access_lock.c). Consumers
-- and publishers take neither.

-- access_hold_roles(roles): before a group, zone or topic goes, and with it rights of these: of
-- two who take a role's last rights the second sees that nothing is left.
CREATE FUNCTION iotmq.access_hold_roles(roles oid[]) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq.access_lock_role(r.role, true, true)
	FROM (SELECT DISTINCT one AS role FROM unnest(roles) AS one WHERE one <> 0 ORDER BY one) AS r
$$;
COMMENT ON FUNCTION iotmq.access_hold_roles IS 'internal: locks roles that lose a right with what is dropped';

-- access_owns(role, topic): does a table of the topic belong to the role, which then needs USAGE
-- of the schemas for what its code does? topic NULL: of any.
CREATE FUNCTION iotmq.access_owns(role oid, topic text) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN EXISTS (
		SELECT
		FROM iotmq_internal.topic AS t
		LEFT JOIN iotmq_internal.zone AS z USING (topic_id)
		JOIN pg_class AS k ON k.oid IN (t.table_name, z.table_name)
		WHERE k.relowner = access_owns.role AND (access_owns.topic IS NULL OR t.topic = access_owns.topic));
COMMENT ON FUNCTION iotmq.access_owns IS 'internal: whether a role owns a table of messages';

-- access_tidy(wait): takes back what only goes along with a right, from roles that have
-- none any more: USAGE of the schemas (iotmq_topic is for those who read all of a topic,
-- iotmq_zone_<topic_id> for those with a right to one of its zones), SELECT on the settings and
-- the views of consumers; not the schemas from whoever owns a table there. So a role without a
-- grant can't even name a table, and DROP ROLE
-- has nothing left to complain about. Forgets what dropped roles had. What somebody else is
-- changing is left to the next call, with wait only if it is the same role.
CREATE FUNCTION iotmq.access_tidy(wait boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	idle record;
BEGIN
	IF EXISTS (SELECT FROM iotmq_internal.consume_grant AS c WHERE c.role NOT IN (SELECT r.oid FROM pg_roles AS r)) THEN
		DELETE FROM iotmq_internal.consume_grant AS c
		USING (
			SELECT c.group_id, c.role
			FROM iotmq_internal.consume_grant AS c
			WHERE c.role NOT IN (SELECT r.oid FROM pg_roles AS r)
			FOR UPDATE SKIP LOCKED
		) AS gone
		WHERE c.group_id = gone.group_id AND c.role::oid = gone.role::oid;
	END IF;
	IF EXISTS (SELECT FROM iotmq_internal.mirror_grant AS m WHERE m.role NOT IN (SELECT r.oid FROM pg_roles AS r)) THEN
		DELETE FROM iotmq_internal.mirror_grant AS m
		USING (
			SELECT m.topic_id, m.role
			FROM iotmq_internal.mirror_grant AS m
			WHERE m.role NOT IN (SELECT r.oid FROM pg_roles AS r)
			FOR UPDATE SKIP LOCKED
		) AS gone
		WHERE m.topic_id = gone.topic_id AND m.role::oid = gone.role::oid;
	END IF;
	FOR idle IN
		SELECT o.object, o.actions, o.topic, o.of_zone, a.grantee AS role
		FROM (
			SELECT 'USAGE ON SCHEMA iotmq' AS object, n.nspacl AS acl, n.nspowner AS owner,
				'{publish,consume,read,mirror,monitor,admin}'::text[] AS actions, NULL AS topic, NULL::boolean AS of_zone
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
			SELECT 'SELECT ON iotmq.' || v.relname, v.relacl, v.relowner, '{publish,consume,read,mirror,monitor,admin}', NULL, NULL
			FROM pg_class AS v
			WHERE v.oid IN ('iotmq.topic_settings'::regclass, 'iotmq.group_settings'::regclass)
			UNION ALL
			SELECT 'SELECT ON iotmq.' || c.relname, c.relacl, c.relowner,
				CASE c.relname WHEN 'dead_letter' THEN '{consume,admin}'::text[] ELSE '{consume,monitor,admin}' END,
				NULL, NULL
			FROM pg_class AS c
			WHERE c.relnamespace = 'iotmq'::regnamespace
				AND 'SELECT ON iotmq.' || c.relname = ANY (iotmq.access_consumer_views())
		) AS o
		CROSS JOIN LATERAL aclexplode(o.acl) AS a
		WHERE a.grantee NOT IN (0, o.owner)
			AND NOT EXISTS (SELECT FROM iotmq.privileges AS p
				WHERE p.role = a.grantee AND p.action = ANY (o.actions)
					AND (o.topic IS NULL OR p.topic = o.topic)
					AND (o.of_zone IS NULL OR o.of_zone = (p.zone IS NOT NULL)))
			AND NOT (o.of_zone IS NOT NULL AND iotmq.access_owns(a.grantee, o.topic))
	LOOP
		CONTINUE WHEN NOT iotmq.access_lock_role(idle.role, true, false);
		IF NOT iotmq.access_lock_shared(wait) THEN
			RETURN;
		END IF;
		-- as it is now
		CONTINUE WHEN NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = idle.role)
			OR EXISTS (SELECT FROM iotmq.privileges AS p
				WHERE p.role = idle.role AND p.action = ANY (idle.actions)
					AND (idle.topic IS NULL OR p.topic = idle.topic)
					AND (idle.of_zone IS NULL OR idle.of_zone = (p.zone IS NOT NULL)))
			OR idle.of_zone IS NOT NULL AND iotmq.access_owns(idle.role, idle.topic);
		EXECUTE format('REVOKE %s FROM %s CASCADE', idle.object, idle.role::regrole);
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.access_tidy IS 'internal: takes back what only goes along with a right';

-- access_goes_along(right, role): has the role this right, of what goes along with others?
-- NULL: it is another right. An old snapshot alone does not count.
CREATE FUNCTION iotmq.access_goes_along(one text, role regrole) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM aclexplode(n.nspacl) AS a
			WHERE a.grantee = access_goes_along.role AND a.grantor = n.nspowner AND a.privilege_type = 'USAGE')
		AND has_schema_privilege(access_goes_along.role, n.oid, 'USAGE')
	FROM pg_namespace AS n
	WHERE one = 'USAGE ON SCHEMA ' || n.nspname
	UNION ALL
	SELECT EXISTS (SELECT FROM aclexplode(c.relacl) AS a
			WHERE a.grantee = access_goes_along.role AND a.grantor = c.relowner AND a.privilege_type = 'SELECT')
		AND has_table_privilege(access_goes_along.role, c.oid, 'SELECT')
	FROM pg_class AS c
	WHERE one = 'SELECT ON iotmq.' || c.relname AND c.relnamespace = 'iotmq'::regnamespace
		AND (one = ANY (iotmq.access_consumer_views())
			OR c.relname IN ('topic_settings', 'group_settings'))
$$;
COMMENT ON FUNCTION iotmq.access_goes_along IS 'internal: whether a role has what goes along with a right';

-- access_change(command, rights, role): GRANT or REVOKE, for each of these rights. The
-- caller holds the topic that they are about.
CREATE FUNCTION iotmq.access_change(command text, rights text[], role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one text;
BEGIN
	PERFORM iotmq.access_check_role(role);
	PERFORM iotmq.access_lock_role(role, command NOT LIKE 'GRANT%', true);
	FOREACH one IN ARRAY rights LOOP
		CONTINUE WHEN command LIKE 'GRANT%' AND iotmq.access_goes_along(one, role);
		IF replace(one, '"', '') NOT LIKE ALL ('{% iotmq_topic.%,% iotmq_zone_%.%}') THEN
			PERFORM iotmq.access_lock_shared(true);
		END IF;
		EXECUTE format(command, one, role);
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.access_change IS 'internal: grants or revokes privileges';

-- access_grant, access_revoke(rights, role): rights as GRANT and REVOKE write them.
CREATE FUNCTION iotmq.access_grant(rights text[], role regrole) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq.access_change('GRANT %s TO %s',
		'{USAGE ON SCHEMA iotmq,SELECT ON iotmq.topic_settings,SELECT ON iotmq.group_settings}' || rights, role);
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
	PERFORM iotmq.access_tidy(true);
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
			AND coalesce(p.zone = ANY (zones), true))
	THEN
		RAISE EXCEPTION 'role % still has the right to %', role, action
			USING ERRCODE = 'dependent_objects_still_exist',
				DETAIL = 'It was granted by a role other than the owner of iotmq, with GRANT.',
				HINT = E'Revoke it as that role; \\dp shows which it is.';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.access_check_revoked IS 'internal: raises an error if a role still has a right';

-- access_zone_rights(on_table, on_sequence, topic, zones, all_zones): these privileges on the
-- tables and offset sequences (NULL: none) of these zones (NULL: all), and with all_zones
-- what says that zones added later are meant, too.
CREATE FUNCTION iotmq.access_zone_rights(on_table text, on_sequence text, topic text, zones text[],
		all_zones boolean) RETURNS text[]
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_hold_topic(topic);
	rights text[];
BEGIN
	PERFORM iotmq.call_zone_id(topic, zone) FROM unnest(zones) AS zone;
	SELECT array_agg(r.one ORDER BY z.zone_id) INTO rights
	FROM iotmq_internal.zone AS z
	CROSS JOIN LATERAL (VALUES
		(on_table || ' ON ' || z.table_name),
		(on_sequence || ' ON SEQUENCE ' || z.offset_sequence)
	) AS r (one)
	WHERE z.topic_id = id AND r.one IS NOT NULL AND (zones IS NULL OR z.zone = ANY (zones));
	IF all_zones THEN
		rights := array_append(rights, on_table || ' ON ' || iotmq.topic_table(topic));
	END IF;
	RETURN rights;
END
$$;
COMMENT ON FUNCTION iotmq.access_zone_rights IS 'internal: privileges on the tables of zones';

-- grant_publish, revoke_publish: publishing by functions and COPY, to these zones
-- or to all (those added later, too). Errors: 22004; 42704 unknown topic or zone.
CREATE FUNCTION iotmq.grant_publish(topic text, role regrole, zones text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.access_grant(array_prepend('USAGE ON SCHEMA iotmq_zone_' || iotmq.call_topic_id(topic),
		iotmq.access_zone_rights(format('INSERT (%s)', array_to_string((iotmq.message_columns(iotmq.topic_table(topic)))[4:9], ', ')),
			'USAGE', topic, zones, zones IS NULL)), role);
	PERFORM iotmq.access_tidy();	-- no zone, no right
END
$$;
COMMENT ON FUNCTION iotmq.grant_publish IS 'lets a role publish to a topic, to these zones or all';

CREATE FUNCTION iotmq.revoke_publish(topic text, role regrole, zones text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.access_revoke(iotmq.access_zone_rights('INSERT', 'USAGE', topic, zones, true), role);
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
	id int;
BEGIN
	PERFORM iotmq.call_hold_topic(topic);
	id := iotmq.call_group_id(topic, consumer_group);
	PERFORM iotmq.access_grant(iotmq.access_consumer_views(), role);
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
	id int;
BEGIN
	PERFORM iotmq.call_hold_topic(topic);
	id := iotmq.call_group_id(topic, consumer_group);
	PERFORM iotmq.access_change('', '{}', role);
	DELETE FROM iotmq_internal.consume_grant AS c WHERE c.group_id = id AND c.role = revoke_consume.role;
	PERFORM iotmq.access_tidy(true);
END
$$;
COMMENT ON FUNCTION iotmq.revoke_consume IS 'takes the right to consume as a group back';

-- grant_read, revoke_read: SQL over the history, messages_of_device, fetch, of these zones or
-- of all (those added later, too). SQL over the topic's table wants all.
-- Errors: 22004; 42704 unknown topic or zone.
CREATE FUNCTION iotmq.grant_read(topic text, role regrole, zones text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.access_grant(array_prepend('USAGE ON SCHEMA ' ||
			CASE WHEN zones IS NULL THEN 'iotmq_topic' ELSE 'iotmq_zone_' || iotmq.call_topic_id(topic) END,
		iotmq.access_zone_rights('SELECT', NULL, topic, zones, zones IS NULL)), role);
	PERFORM iotmq.access_tidy();	-- no zone, no right
END
$$;
COMMENT ON FUNCTION iotmq.grant_read IS 'lets a role read the history of a topic, of these zones or all';

CREATE FUNCTION iotmq.revoke_read(topic text, role regrole, zones text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.access_revoke(iotmq.access_zone_rights('SELECT', NULL, topic, zones, true), role);
	-- who could read all of the topic reads the others of its zones by their own tables now
	IF EXISTS (SELECT FROM iotmq.privileges AS p
			WHERE p.role = revoke_read.role AND p.action = 'read' AND p.topic = revoke_read.topic AND p.zone IS NOT NULL) THEN
		PERFORM iotmq.access_grant(ARRAY['USAGE ON SCHEMA iotmq_zone_' || iotmq.call_topic_id(topic)], role);
	END IF;
	PERFORM iotmq.access_check_revoked(role, 'read', topic, zones);
END
$$;
COMMENT ON FUNCTION iotmq.revoke_read IS 'takes the right to read the history of a topic back, of these zones or all';

-- grant_mirror, revoke_mirror: a server that has this role's name and password may pull the
-- topic: read all its messages by fetch, and what its groups have. Errors: 22004; 42704.
CREATE FUNCTION iotmq.grant_mirror(topic text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_hold_topic(topic);
BEGIN
	PERFORM iotmq.access_grant('{}', role);
	INSERT INTO iotmq_internal.mirror_grant (topic_id, role) VALUES (id, role) ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION iotmq.grant_mirror IS 'lets a role pull a topic to another server, with what its groups have';

CREATE FUNCTION iotmq.revoke_mirror(topic text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_hold_topic(topic);
BEGIN
	PERFORM iotmq.access_change('', '{}', role);
	DELETE FROM iotmq_internal.mirror_grant AS m WHERE m.topic_id = id AND m.role = revoke_mirror.role;
	PERFORM iotmq.access_tidy(true);
END
$$;
COMMENT ON FUNCTION iotmq.revoke_mirror IS 'takes the right to pull a topic back';

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
			EXECUTE ON FUNCTION iotmq.epoch_gaps,EXECUTE ON FUNCTION iotmq.epoch_began_at}'::text[]
	FROM unnest('{dead_letter_depth,topic_stats,held_back,cursor_holder,zone_epoch,alerts,
		overdue_segment,mirror,metrics,privileges,maintenance_run}'::text[]) AS view
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
-- run_maintenance, and of pulls and moves, which run as their caller. No other internal function: those that
-- act as the owner trust their arguments.
CREATE FUNCTION iotmq.access_admin_rights() RETURNS text[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq.access_monitor_rights() || '{SELECT ON iotmq.dead_letter}'::text[]
		|| array_agg('EXECUTE ON ROUTINE iotmq.' || routine)
	FROM unnest('{create_topic,alter_topic,drop_topic,add_zone,drop_zone,
		create_group,alter_group,drop_group,pause_group,resume_group,seek,seek_offset,set_node,this_node,
		grant_publish,revoke_publish,grant_consume,revoke_consume,grant_read,revoke_read,grant_mirror,revoke_mirror,
		grant_monitor,revoke_monitor,grant_admin,revoke_admin,
		run_maintenance,call_check_transaction,call_plain_message,maintenance_plan,maintenance_step,maintenance_prepare,
		maintenance_add,maintenance_note,
		segment_seal,expire_leases,claim_pass,retention_let_go,retention_note_unreadable,retention_free,retention_drop,retention_tidy,retention_move_earliest,maintenance_note_failure,maintenance_note_run,
		schedule_maintenance,unschedule_maintenance,
		mirror_zone,pull,run_mirrors,promote_zone,demote_zone,fence_zone,open_zone,
		link_connect,link_wait,link_schema,link_patience,link_check,link_close,link_open,link_send,link_receive,link_value,
		store_described,store_next,read_source_groups,
		mirror_read,mirror_read_gaps,mirror_missing,mirror_require_kept,mirror_question,mirror_check_new,mirror_create,mirror_begin,
		mirror_store,mirror_pull,mirror_ahead,mirror_all,mirror_note_error,mirror_try,mirror_end,
		move_apply,move_promote,move_require_fenced,move_catch_up,move_may_fence,move_fence_source,move_open_source,move_check_source,move_taker,move_probe,move_lacks,move_demote}'::text[]) AS routine
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
JOIN pg_catalog.pg_attribute AS c ON c.attrelid = k.oid AND c.attnum = 6	-- payload
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
SELECT t.topic, NULL, z.zone, a.grantee::regrole, 'read'
FROM iotmq_internal.topic AS t
JOIN iotmq_internal.zone AS z USING (topic_id)
JOIN pg_catalog.pg_class AS c ON c.oid = z.table_name
JOIN pg_catalog.pg_class AS k ON k.oid = t.table_name
CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
WHERE a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
	AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(k.relacl) AS w
		WHERE w.grantee = a.grantee AND w.privilege_type = 'SELECT')
UNION ALL
SELECT t.topic, g.consumer_group, NULL, c.role::oid::regrole, 'consume'
FROM iotmq_internal.consume_grant AS c
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.topic AS t USING (topic_id)
JOIN pg_catalog.pg_roles AS r ON r.oid = c.role
UNION ALL
SELECT t.topic, NULL, NULL, m.role::oid::regrole, 'mirror'
FROM iotmq_internal.mirror_grant AS m
JOIN iotmq_internal.topic AS t USING (topic_id)
JOIN pg_catalog.pg_roles AS r ON r.oid = m.role
UNION ALL
SELECT NULL, NULL, NULL, a.grantee::regrole, CASE p.proname WHEN 'grant_admin' THEN 'admin' ELSE 'monitor' END
FROM pg_catalog.pg_proc AS p
CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) AS a
WHERE p.oid IN ('iotmq.grant_admin(regrole)'::regprocedure, 'iotmq.stats(boolean)'::regprocedure)
	AND a.privilege_type = 'EXECUTE' AND a.grantee <> p.proowner;
COMMENT ON VIEW iotmq.privileges IS 'who may do what: the grants of iotmq';
COMMENT ON COLUMN iotmq.privileges.topic IS 'on that topic; NULL: all';
COMMENT ON COLUMN iotmq.privileges.consumer_group IS 'as that group; NULL: not about groups';
COMMENT ON COLUMN iotmq.privileges.zone IS 'to or of that zone; NULL: all, or not about zones';
COMMENT ON COLUMN iotmq.privileges.role IS 'the role';
COMMENT ON COLUMN iotmq.privileges.action IS 'publish, consume, read, mirror, monitor or admin';

-- A new row: left out if its role is missing; else the role has what goes along with it.
-- pg_restore gives the privileges of an object to all their roles by one command, which
-- fails for all if one is missing.
CREATE FUNCTION iotmq.access_complete() RETURNS trigger
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF new.role::oid = 0 THEN
		RETURN NULL;
	END IF;
	PERFORM iotmq.access_grant(CASE TG_TABLE_NAME WHEN 'consume_grant' THEN iotmq.access_consumer_views() ELSE '{}' END,
		new.role::oid::regrole);
	RETURN new;
END
$$;
COMMENT ON FUNCTION iotmq.access_complete IS 'internal: completes the right to consume or mirror of a restored dump';
CREATE TRIGGER complete BEFORE INSERT ON iotmq_internal.consume_grant
	FOR EACH ROW EXECUTE FUNCTION iotmq.access_complete();
ALTER TABLE iotmq_internal.consume_grant ENABLE ALWAYS TRIGGER complete;
CREATE TRIGGER complete BEFORE INSERT ON iotmq_internal.mirror_grant
	FOR EACH ROW EXECUTE FUNCTION iotmq.access_complete();
ALTER TABLE iotmq_internal.mirror_grant ENABLE ALWAYS TRIGGER complete;
