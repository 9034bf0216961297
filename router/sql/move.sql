-- Moving zones between nodes: the target follows the source until it is close, the source is
-- fenced, the target pulls the rest and opens, and here the way leads there. Each step can be
-- done again; whatever breaks off, one node owns the zone, and move_zone goes on.
--
-- Each node reaches the others by foreign servers of dblink with the names that these have here.
--
-- From the fence on the lock of moved_cursor is held: calls that the fence has turned away wait
-- for it (place_wait) and then go to the new node.

-- state_at(node, topic, zone): what a zone is at a node.
CREATE FUNCTION iotmq_node.state_at(node int, topic text, zone text) RETURNS jsonb
	LANGUAGE plproxy VOLATILE PARALLEL UNSAFE
AS $$
	CLUSTER iotmq_node.server_of(node, current_user);
	RUN ON 0;
	SELECT iotmq.mirror_source(topic, zone);
$$;
COMMENT ON FUNCTION iotmq_node.state_at IS 'internal: what a zone is at a node';

-- cursors_at(node, topic, zone): the cursors of a zone at a node.
CREATE FUNCTION iotmq_node.cursors_at(node int, topic text, zone text) RETURNS int[]
	LANGUAGE plproxy VOLATILE PARALLEL UNSAFE
AS $$
	CLUSTER iotmq_node.server_of(node, current_user);
	RUN ON 0;
	SELECT ARRAY(SELECT (g.value ->> 'cursor_id')::int FROM pg_catalog.jsonb_array_elements(iotmq.mirror_groups(topic, zone) -> 'groups') AS g);
$$;
COMMENT ON FUNCTION iotmq_node.cursors_at IS 'internal: the cursors of a zone at a node';

-- move_state(node, topic, zone): none, open, fenced, handed over, or mirror of a server, whose
-- name comes along; silent: no answer.
CREATE FUNCTION iotmq_node.move_state(node int, topic text, zone text, OUT state text, OUT elsewhere text)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	described jsonb;
BEGIN
	described := iotmq_node.state_at(node, topic, zone);
	state := CASE WHEN (described ->> 'handed_over')::boolean THEN 'handed over' ELSE described ->> 'state' END;
	elsewhere := described ->> 'moved_to';
EXCEPTION
	WHEN undefined_object THEN
		state := 'none';
	WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
		IF NOT iotmq_node.node_is_silent(SQLSTATE, SQLERRM) THEN
			RAISE;
		END IF;
		state := 'silent';
END
$$;
COMMENT ON FUNCTION iotmq_node.move_state IS 'internal: whether a node owns a zone, and who else may';

-- place_hold(): calls that a fence turns away wait from here on, until the commit.
CREATE FUNCTION iotmq_node.place_hold() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	LOCK TABLE iotmq_internal.moved_cursor IN EXCLUSIVE MODE;
END
$$;
COMMENT ON FUNCTION iotmq_node.place_hold IS 'internal: lets calls wait that a fence turns away';

-- place_moved(topic, zone, node, cursors): notes where a zone and its leases are now.
CREATE FUNCTION iotmq_node.place_moved(topic text, zone text, node int, cursors int[]) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq_node.place_set(topic, zone, node, true);
	DELETE FROM iotmq_internal.moved_cursor AS c WHERE c.cursor_id = ANY (cursors);
	INSERT INTO iotmq_internal.moved_cursor (cursor_id, node)
	SELECT c.cursor_id, place_moved.node
	FROM unnest(cursors) AS c (cursor_id)
	WHERE c.cursor_id >> 14 <> place_moved.node;
$$;
COMMENT ON FUNCTION iotmq_node.place_moved IS 'internal: notes where a zone and its leases are now';

-- move_server(node): its foreign server, at the nodes and here.
CREATE FUNCTION iotmq_node.move_server(node int) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	RETURN (SELECT n.server FROM iotmq_internal.node AS n WHERE n.node = move_server.node);
COMMENT ON FUNCTION iotmq_node.move_server IS 'internal: the foreign server of a node';

-- move_require(topic, zone, node): where the zone is. Errors: 22004; 42704 unknown node, or the zone is
-- at none.
CREATE FUNCTION iotmq_node.move_require(topic text, zone text, node int) RETURNS int
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq_node.topic_check_name('topic', topic);
	PERFORM iotmq_node.topic_check_name('zone', zone);
	IF node IS NULL THEN
		RAISE EXCEPTION 'node must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF node <> ALL (iotmq_node.nodes()) THEN
		RAISE EXCEPTION 'node % does not exist', node
			USING ERRCODE = 'undefined_object', HINT = format('Add it: SELECT iotmq.add_node(%s, ''server'');', node);
	END IF;
	RETURN (SELECT n.node FROM iotmq.node_of(topic, zone) AS n);
END
$$;
COMMENT ON FUNCTION iotmq_node.move_require IS 'internal: where a zone is that is to move';

-- move_follow(topic, zone, source, node): the target follows the source, and is close to it.
-- Errors: 55000 the target is something else than a mirror of it.
CREATE FUNCTION iotmq_node.move_follow(topic text, zone text, source int, node int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	there record := iotmq_node.move_state(node, topic, zone);
	pulled bigint;
	rounds int := 0;			-- since a pull was not full
BEGIN
	IF there.state = 'none' THEN
		PERFORM iotmq_node.mirror_zone(node, topic, zone, iotmq_node.move_server(source), NULL);
	ELSIF there.state <> 'mirror' OR there.elsewhere <> iotmq_node.move_server(source) THEN
		RAISE EXCEPTION 'node % has a zone "%" of topic "%" that is %', node, zone, topic,
				CASE there.state WHEN 'mirror' THEN format('a mirror of server "%s"', there.elsewhere) ELSE there.state END
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format('Drop it there, if nobody needs it: SELECT iotmq.drop_zone(%L, %L, force => true);', topic, zone);
	END IF;
	LOOP
		pulled := iotmq_node.pull(node, topic, zone, 10000);
		EXIT WHEN pulled < 1000 OR rounds = 20;
		rounds := rounds + (pulled < 10000)::int;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq_node.move_follow IS 'internal: lets a node follow the one that has a zone, until it is close';

-- move_watch(node): what is called there from now on ends when this session has, and not when
-- whoever it waits for has ended, and nobody is there any more.
CREATE FUNCTION iotmq_node.move_watch(node int) RETURNS text
	LANGUAGE plproxy VOLATILE PARALLEL UNSAFE
AS $$
	CLUSTER iotmq_node.server_of(node, current_user);
	RUN ON 0;
	SELECT pg_catalog.set_config('client_connection_check_interval', '1s', false);
$$;
COMMENT ON FUNCTION iotmq_node.move_watch IS 'internal: lets a node end what nobody waits for';

-- rights_at(node, topic, zone): who may publish to a zone of a node, or read it.
CREATE FUNCTION iotmq_node.rights_at(node int, topic text, zone text) RETURNS TABLE (role text, action text)
	LANGUAGE plproxy VOLATILE PARALLEL UNSAFE
AS $$
	CLUSTER iotmq_node.server_of(node, current_user);
	RUN ON 0;
	SELECT p.role::text, p.action FROM iotmq.privileges AS p
	WHERE p.topic = $2 AND p.zone = $3 AND p.action IN ('publish', 'read') AND p.role::oid <> 0::oid;
$$;
COMMENT ON FUNCTION iotmq_node.rights_at IS 'internal: the rights on a zone at a node';

-- move_rights(topic, zone, source, node): who has a right on the zone at the source has it at the target,
-- from before the move on; a WARNING names a role that the target lacks.
CREATE FUNCTION iotmq_node.move_rights(topic text, zone text, source int, node int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	granted record;
BEGIN
	FOR granted IN SELECT r.role, r.action FROM iotmq_node.rights_at(source, topic, zone) AS r LOOP
		BEGIN
			IF granted.action = 'publish' THEN
				PERFORM iotmq_node.grant_publish(node, topic, granted.role, ARRAY[zone]);
			ELSE
				PERFORM iotmq_node.grant_read(node, topic, granted.role, ARRAY[zone]);
			END IF;
		EXCEPTION WHEN undefined_object THEN
			RAISE WARNING 'role % has no right on zone "%" of topic "%" at node %', granted.role, zone, topic, node
				USING DETAIL = SQLERRM,
					HINT = format('It had that to %s: create it there, and grant it anew.', granted.action);
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq_node.move_rights IS 'internal: the rights on a zone go along with it';

-- move_leave(topic, zone, node): what a former owner, or a mirror, has of the zone goes; it is
-- no error if it can't be had now: move_zone, once more, does it.
CREATE FUNCTION iotmq_node.move_leave(topic text, zone text, node int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq_node.drop_zone(node, topic, zone, true);
EXCEPTION
	WHEN undefined_object THEN
		NULL;
	WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
		PERFORM iotmq_node.node_warn(node, SQLSTATE, SQLERRM);
END
$$;
COMMENT ON FUNCTION iotmq_node.move_leave IS 'internal: drops what a node has of a zone that is at another';

-- move_zone: the zone is at that node from then on, with its messages, its groups' positions,
-- retries, dead letters, and leases under their ids; it is closed for a moment. After whatever
-- broke off the same call goes on. A zone that is there already: what is left of it elsewhere
-- goes. Errors: 22004; 42602; 42704 unknown node or zone; 55000 the target has another zone of
-- that name; those of the nodes; 08006.
CREATE FUNCTION iotmq.move_zone(topic text, zone text, node int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	source int := iotmq_node.move_require(topic, zone, node);
	asked int;
	here text;
BEGIN
	IF source <> node THEN
		asked := node;
		-- opened is what was promoted, or opened by force since the source is lost
		IF (iotmq_node.move_state(node, topic, zone)).state <> 'open' THEN
			PERFORM iotmq_node.move_follow(topic, zone, source, node);
			PERFORM iotmq_node.move_rights(topic, zone, source, node);
		END IF;
	END IF;
	PERFORM iotmq_node.place_begin();
	source := iotmq_node.move_require(topic, zone, node);	-- unless somebody has moved it meanwhile
	IF source <> node THEN
		PERFORM iotmq_node.place_hold();
		here := (iotmq_node.move_state(source, topic, zone)).state;
		IF (iotmq_node.move_state(node, topic, zone)).state = 'open' THEN
			-- a router that was told of a mirror first has taken it for the zone
			IF here NOT IN ('none', 'handed over', 'silent', 'mirror') THEN
				RAISE EXCEPTION 'nodes % and % both have an open zone "%" of topic "%"', source, node, zone, topic
					USING ERRCODE = 'object_not_in_prerequisite_state',
						HINT = format('Drop one of them at its node: SELECT iotmq.drop_zone(%L, %L, force => true);', topic, zone);
			END IF;
		ELSE
			IF here <> 'handed over' THEN
				asked := source;
				PERFORM iotmq_node.move_watch(source);
				PERFORM iotmq_node.fence_zone(source, topic, zone, iotmq_node.move_server(node));
				asked := node;
			END IF;
			PERFORM iotmq_node.promote_zone(node, topic, zone, false);
		END IF;
		PERFORM iotmq_node.place_moved(topic, zone, node, iotmq_node.cursors_at(node, topic, zone));
	END IF;
	FOREACH asked IN ARRAY iotmq_node.nodes() LOOP
		IF asked <> node AND (asked = source AND here IS DISTINCT FROM 'mirror'
				OR (iotmq_node.move_state(asked, topic, zone)).state = 'handed over') THEN
			PERFORM iotmq_node.move_leave(topic, zone, asked);
		END IF;
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(asked, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.move_zone IS 'moves a zone to another node, with all that its groups have; goes on after a crash';

-- cancel_move: takes a move back that has not handed the zone over: the zone is open where it
-- is, and what follows it at other nodes is dropped. Errors: 22004; 42602; 42704; 55000 the zone was
-- handed over; those of the nodes; 08006.
CREATE FUNCTION iotmq.cancel_move(topic text, zone text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	source int;
	asked int;
BEGIN
	PERFORM iotmq_node.place_begin();
	source := iotmq_node.move_require(topic, zone, (iotmq_node.nodes())[1]);
	asked := source;
	IF (iotmq_node.move_state(source, topic, zone)).state = 'handed over' THEN
		RAISE EXCEPTION 'zone "%" of topic "%" was handed over by node %', zone, topic, source
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format('Go on: SELECT iotmq.move_zone(%L, %L, ...);', topic, zone);
	END IF;
	PERFORM iotmq_node.open_zone(source, topic, zone, false);
	FOREACH asked IN ARRAY iotmq_node.nodes() LOOP
		IF asked <> source AND (iotmq_node.move_state(asked, topic, zone)).state = 'mirror' THEN
			PERFORM iotmq_node.move_leave(topic, zone, asked);
		END IF;
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(asked, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.cancel_move IS 'takes the move of a zone back, as long as it was not handed over';

