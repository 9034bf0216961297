-- Rights: each node keeps its own, and decides by the role that calls. A role needs the same
-- name at all nodes and here.

-- grant_publish: at the nodes that have these zones; NULL: at all. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.grant_publish(topic text, role regrole, zones text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	here text[];
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		here := ARRAY(SELECT z FROM unnest(zones) AS z WHERE (iotmq_node.place_of(topic, z)).node = node);
		CONTINUE WHEN zones <> '{}' AND here = '{}';
		PERFORM iotmq_node.grant_publish(node, topic, role::text, CASE WHEN zones IS NOT NULL THEN here END);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.grant_publish IS 'lets a role publish to a topic, to these zones or all';

-- revoke_publish: at the nodes that have these zones; NULL: at all. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.revoke_publish(topic text, role regrole, zones text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	here text[];
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		here := ARRAY(SELECT z FROM unnest(zones) AS z WHERE (iotmq_node.place_of(topic, z)).node = node);
		CONTINUE WHEN zones <> '{}' AND here = '{}';
		PERFORM iotmq_node.revoke_publish(node, topic, role::text, CASE WHEN zones IS NOT NULL THEN here END);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.revoke_publish IS 'takes the right to publish to a topic back, to these zones or all';

-- grant_consume: at all nodes. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.grant_consume(topic text, consumer_group text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		PERFORM iotmq_node.grant_consume(node, topic, consumer_group, role::text);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.grant_consume IS 'lets a role consume as a group';

-- revoke_consume: at all nodes. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.revoke_consume(topic text, consumer_group text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		PERFORM iotmq_node.revoke_consume(node, topic, consumer_group, role::text);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.revoke_consume IS 'takes the right to consume as a group back';

-- grant_read: at the nodes that have these zones; NULL: at all. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.grant_read(topic text, role regrole, zones text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	here text[];
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		here := ARRAY(SELECT z FROM unnest(zones) AS z WHERE (iotmq_node.place_of(topic, z)).node = node);
		CONTINUE WHEN zones <> '{}' AND here = '{}';
		PERFORM iotmq_node.grant_read(node, topic, role::text, CASE WHEN zones IS NOT NULL THEN here END);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.grant_read IS 'lets a role read the history of a topic, of these zones or all';

-- revoke_read: at the nodes that have these zones; NULL: at all. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.revoke_read(topic text, role regrole, zones text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	here text[];
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		here := ARRAY(SELECT z FROM unnest(zones) AS z WHERE (iotmq_node.place_of(topic, z)).node = node);
		CONTINUE WHEN zones <> '{}' AND here = '{}';
		PERFORM iotmq_node.revoke_read(node, topic, role::text, CASE WHEN zones IS NOT NULL THEN here END);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.revoke_read IS 'takes the right to read the history of a topic back, of these zones or all';

-- grant_monitor: at all nodes. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.grant_monitor(role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		PERFORM iotmq_node.grant_monitor(node, role::text);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.grant_monitor IS 'lets a role read all views but dead_letter';

-- revoke_monitor: at all nodes. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.revoke_monitor(role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		PERFORM iotmq_node.revoke_monitor(node, role::text);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.revoke_monitor IS 'takes the right to read the views back';

-- grant_mirror: at all nodes. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.grant_mirror(topic text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		PERFORM iotmq_node.grant_mirror(node, topic, role::text);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.grant_mirror IS 'lets a role pull a topic to another server, with what its groups have';

-- revoke_mirror: at all nodes. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.revoke_mirror(topic text, role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		PERFORM iotmq_node.revoke_mirror(node, topic, role::text);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.revoke_mirror IS 'takes the right to pull a topic back';

-- access_administer(role, may): lets a role change what is where, too, or no longer.
CREATE FUNCTION iotmq_node.access_administer(role regrole, may boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	routine regprocedure;
BEGIN
	FOR routine IN
		SELECT p.oid
		FROM pg_proc AS p
		WHERE p.oid IN (SELECT a FROM iotmq_node.access_administration() AS a)
	LOOP
		EXECUTE format(CASE WHEN may THEN 'GRANT EXECUTE ON FUNCTION %s TO %s' ELSE 'REVOKE EXECUTE ON FUNCTION %s FROM %s' END,
			routine, role);
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq_node.access_administer IS 'internal: lets a role change what is where';

-- access_administration(): the functions that need more than the nodes' consent.
CREATE FUNCTION iotmq_node.access_administration() RETURNS SETOF regprocedure
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.oid::regprocedure
	FROM pg_proc AS p
	WHERE p.pronamespace = 'iotmq'::regnamespace
			AND p.proname = ANY ('{create_topic,drop_topic,add_zone,drop_zone,add_node,place_zone,move_zone,
				cancel_move,grant_admin,revoke_admin}'::text[])
		OR p.pronamespace = 'iotmq_node'::regnamespace
			AND p.proname = ANY ('{place_begin,place_set,place_unset,place_moved,place_hold,node_note,access_administer}'::text[])
$$;
COMMENT ON FUNCTION iotmq_node.access_administration IS 'internal: the functions of administrators';

-- grant_admin: at all nodes, and here. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.grant_admin(role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		PERFORM iotmq_node.grant_admin(node, role::text);
	END LOOP;
	PERFORM iotmq_node.access_administer(role, true);
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.grant_admin IS 'lets a role administer all of iotmq';

-- revoke_admin: at all nodes, and here. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.revoke_admin(role regrole) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
BEGIN
	PERFORM iotmq_node.access_administer(role, false);
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		PERFORM iotmq_node.revoke_admin(node, role::text);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.revoke_admin IS 'takes the right to administer back, and that to monitor';

