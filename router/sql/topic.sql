-- Topics and zones: at all nodes, in their order, each in a transaction of its own. What breaks
-- off halfway names the node; the same call again completes it.

-- topics_of(node, topic): what a node says of a topic; nothing if it lacks it.
CREATE FUNCTION iotmq_node.topics_of(node int, topic text) RETURNS TABLE (retention interval, segment_interval interval,
		retention_policy text, max_retention interval, device_index boolean, dedup_window interval, zones text[])
	LANGUAGE plproxy VOLATILE PARALLEL UNSAFE
AS $$
	CLUSTER iotmq_node.server_of(node, current_user);
	RUN ON 0;
	SELECT s.retention, s.segment_interval, s.retention_policy, s.max_retention, s.device_index, s.dedup_window,
		coalesce(s.zones, '{}') AS zones
	FROM iotmq.topic_settings AS s WHERE s.topic = $2;
$$;
COMMENT ON FUNCTION iotmq_node.topics_of IS 'internal: a node''s settings of a topic';

-- zone_nodes(topic, zone): the nodes that have a zone, or a mirror of it.
CREATE FUNCTION iotmq_node.zone_nodes(topic text, zone text) RETURNS int[]
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	result int[] := '{}';
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		IF EXISTS (SELECT FROM iotmq_node.topics_of(node, topic) AS s WHERE zone = ANY (s.zones)) THEN
			result := result || node;
		END IF;
	END LOOP;
	RETURN result;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq_node.zone_nodes IS 'internal: the nodes that have a zone';

-- topic_check_name(kind, name): raises 22004 or 42602 unless it is a legal name.
CREATE FUNCTION iotmq_node.topic_check_name(kind text, name text) RETURNS void
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF name IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', kind USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF octet_length(name) > 48 OR name COLLATE "C" !~ '^[A-Za-z0-9][A-Za-z0-9_.-]*$' THEN
		RAISE EXCEPTION 'invalid % name "%"', kind, name
			USING ERRCODE = 'invalid_name',
				DETAIL = 'A name has 1 to 48 bytes: first a letter or digit of ASCII, then those, "_", "." or "-".',
				HINT = format('Choose a name such as %L.', 'line-1.telemetry');
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq_node.topic_check_name IS 'internal: raises an error unless it is a legal name';

-- create_topic: at all nodes; each zone where place_zone put it, or where it is already, or at
-- the node with the fewest zones. What is there with the same settings is passed over, unless
-- all of it is. Errors: those of the nodes; 42710 all is there, or a node has the topic with
-- other settings, or with zones not named; 08006.
CREATE FUNCTION iotmq.create_topic(topic text, zones text[] DEFAULT '{default}',
		retention interval DEFAULT '72 hours', segment_interval interval DEFAULT NULL,
		retention_policy text DEFAULT 'time', max_retention interval DEFAULT NULL,
		device_index boolean DEFAULT true, dedup_window interval DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	there record;
	zone text;
	here text[];
	changed boolean := false;
	other text;
BEGIN
	PERFORM iotmq_node.topic_check_name('topic', topic);
	IF zones IS NULL THEN
		RAISE EXCEPTION 'zones must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	FOREACH zone IN ARRAY zones LOOP
		PERFORM iotmq_node.topic_check_name('zone', zone);
		IF cardinality(array_positions(zones, zone)) > 1 THEN
			RAISE EXCEPTION 'zone "%" is named twice', zone USING ERRCODE = 'duplicate_object';
		END IF;
	END LOOP;

	PERFORM iotmq_node.place_begin();
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		FOR there IN SELECT s.* FROM iotmq_node.topics_of(node, topic) AS s LOOP
			other := CASE
				WHEN there.retention IS DISTINCT FROM retention THEN 'another retention'
				WHEN there.segment_interval <> segment_interval THEN 'another segment_interval'
				WHEN there.retention_policy IS DISTINCT FROM retention_policy THEN 'another retention_policy'
				WHEN there.max_retention IS DISTINCT FROM max_retention THEN 'another max_retention'
				WHEN there.device_index IS DISTINCT FROM device_index THEN 'another device_index'
				WHEN there.dedup_window IS DISTINCT FROM dedup_window THEN 'another dedup_window'
				WHEN NOT there.zones <@ zones THEN 'other zones' END;
			IF other IS NOT NULL THEN
				RAISE EXCEPTION 'topic "%" already exists', topic
					USING ERRCODE = 'duplicate_object',
						DETAIL = format('Node %s has it with %s.', node, other),
						HINT = format('Change it: SELECT iotmq.alter_topic(%L, ...);', topic);
			END IF;
			FOREACH zone IN ARRAY there.zones LOOP
				IF iotmq_node.place_known(topic, zone) IS NULL THEN
					PERFORM iotmq_node.place_set(topic, zone, node, true);
					changed := true;
				END IF;
			END LOOP;
		END LOOP;
	END LOOP;
	FOREACH zone IN ARRAY zones LOOP
		PERFORM iotmq_node.place_set(topic, zone, coalesce(iotmq_node.place_known(topic, zone), iotmq_node.place_least()), true);
	END LOOP;

	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		here := ARRAY(SELECT z FROM unnest(zones) WITH ORDINALITY AS u (z, i)
			WHERE iotmq_node.place_known(topic, z) = node ORDER BY i);
		SELECT s.* INTO there FROM iotmq_node.topics_of(node, topic) AS s;
		IF NOT FOUND THEN
			PERFORM iotmq_node.create_topic(node, topic, here, retention, segment_interval, retention_policy, max_retention,
				device_index, dedup_window);
			changed := true;
			CONTINUE;
		END IF;
		FOREACH zone IN ARRAY here LOOP
			IF zone <> ALL (there.zones) THEN
				PERFORM iotmq_node.add_zone(node, topic, zone);
				changed := true;
			END IF;
		END LOOP;
	END LOOP;
	IF NOT changed THEN
		RAISE EXCEPTION 'topic "%" already exists', topic
			USING ERRCODE = 'duplicate_object', HINT = format('Change it: SELECT iotmq.alter_topic(%L, ...);', topic);
	END IF;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.create_topic IS 'creates a topic at all nodes, each of its zones at one';

-- alter_topic: at all nodes. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.alter_topic(topic text, retention interval DEFAULT NULL,
		segment_interval interval DEFAULT NULL, retention_policy text DEFAULT NULL,
		max_retention interval DEFAULT NULL, dedup_window interval DEFAULT NULL,
		reset text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		PERFORM iotmq_node.alter_topic(node, topic, retention, segment_interval, retention_policy, max_retention,
			dedup_window, reset);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.alter_topic IS 'changes the settings of a topic; NULL leaves one unchanged, reset puts some back to their defaults';

-- drop_topic: at all nodes; one that has it no longer is passed over, unless none has it.
-- Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.drop_topic(topic text, force boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	nodes int[] := iotmq_node.nodes();
	dropped int := 0;
BEGIN
	PERFORM iotmq_node.place_begin();
	FOREACH node IN ARRAY nodes LOOP
		BEGIN
			PERFORM iotmq_node.drop_topic(node, topic, force);
			dropped := dropped + 1;
		EXCEPTION WHEN undefined_object THEN
			IF dropped = 0 AND node = nodes[cardinality(nodes)] THEN
				RAISE;
			END IF;
		END;
	END LOOP;
	PERFORM iotmq_node.place_unset(topic, NULL);
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.drop_topic IS 'drops a topic with its messages at all nodes; with force also its consumer groups';

-- add_zone: at the node where place_zone put it, or at the one with the fewest zones. One that
-- a node has already, without a place here, gets its place. Errors: those of the node; 08006.
CREATE FUNCTION iotmq.add_zone(topic text, zone text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place;
	there int[];
BEGIN
	PERFORM iotmq_node.topic_check_name('topic', topic);
	PERFORM iotmq_node.topic_check_name('zone', zone);
	PERFORM iotmq_node.place_begin();
	place.node := iotmq_node.place_known(topic, zone);
	there := iotmq_node.zone_nodes(topic, zone);
	IF there <> '{}' AND NOT EXISTS (SELECT FROM iotmq_node.places(topic) AS p WHERE p.zone = add_zone.zone) THEN
		PERFORM iotmq_node.place_set(topic, zone,
			CASE WHEN place.node = ANY (there) THEN place.node ELSE there[1] END, true);
		RETURN;
	END IF;
	place.node := coalesce(place.node, iotmq_node.place_least());
	PERFORM iotmq_node.add_zone(place.node, topic, zone);
	PERFORM iotmq_node.place_set(topic, zone, place.node, true);
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(place.node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.add_zone IS 'adds a zone to a topic, at one node; every group reads it from its beginning';

-- drop_zone: at its node, which remembers its offsets: made anew, it is made there.
-- Errors: those of the node; 08006.
CREATE FUNCTION iotmq.drop_zone(topic text, zone text, force boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place;
BEGIN
	PERFORM iotmq_node.place_begin();
	place.node := coalesce(iotmq_node.place_known(topic, zone), (iotmq_node.nodes())[1]);
	BEGIN
		PERFORM iotmq_node.drop_zone(place.node, topic, zone, force);
	EXCEPTION WHEN undefined_object THEN
		IF NOT EXISTS (SELECT FROM iotmq_node.places(topic) AS p WHERE p.zone = drop_zone.zone) THEN
			RAISE;
		END IF;
	END;
	PERFORM iotmq_node.place_unset(topic, zone);
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(place.node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.drop_zone IS 'drops a zone with its messages; with force also if a group still needs some';

-- add_node(node, server): a server gets that number, and zones. server is a foreign server of
-- PL/Proxy with one partition. The same again changes nothing. The node needs what the others
-- have before zones come there: create_topic and create_group, once more, make it.
-- Errors: 22004; 22023 no number of a node, or no such server; 42704; 42710 one of them is
-- taken; 55000 the server has another number, or lacks iotmq; 55006 it has groups, and no
-- number yet; 08006.
CREATE FUNCTION iotmq.add_node(node int, server text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	number int;
BEGIN
	IF node IS NULL OR server IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', CASE WHEN node IS NULL THEN 'node' ELSE 'server' END
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF node NOT BETWEEN 0 AND 63 THEN
		RAISE EXCEPTION 'node must be between 0 and 63, not %', node USING ERRCODE = 'invalid_parameter_value';
	END IF;
	PERFORM iotmq_node.place_begin();
	PERFORM iotmq_node.node_note(node, server);
	IF iotmq_node.hello(node) IS NULL THEN
		RAISE EXCEPTION 'server "%" does not have iotmq', server
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run there: CREATE EXTENSION iotmq;';
	END IF;
	number := iotmq_node.this_node(node);
	IF number <> node THEN
		RAISE EXCEPTION 'server "%" is node % by its own account', server, number
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format('Add it by that number: SELECT iotmq.add_node(%s, %L);', number, server);
	END IF;
	IF number IS NULL THEN
		BEGIN
			PERFORM iotmq_node.set_node(node, node);
		EXCEPTION WHEN object_in_use THEN
			IF node <> 0 THEN		-- which it is without a number
				RAISE;
			END IF;
		END;
	END IF;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.add_node IS 'adds a server on which zones can be';

-- place_zone(topic, zone, node): where create_topic and add_zone make a zone; or, of one that
-- a node has already, that it is there. Errors: 22004; 42602; 42704 unknown node; 55006 the zone
-- is at another node; 08006.
CREATE FUNCTION iotmq.place_zone(topic text, zone text, node int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	there int[];
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
	PERFORM iotmq_node.place_begin();
	there := iotmq_node.zone_nodes(topic, zone);
	IF there = '{}' THEN
		PERFORM iotmq_node.place_set(topic, zone, node, false);
	ELSIF node <> ALL (there) OR iotmq_node.place_known(topic, zone) <> node AND iotmq_node.place_known(topic, zone) = ANY (there) THEN
		RAISE EXCEPTION 'zone "%" of topic "%" is at node %', zone, topic,
				CASE WHEN node <> ALL (there) THEN there[1] ELSE iotmq_node.place_known(topic, zone) END
			USING ERRCODE = 'object_in_use',
				HINT = format('Move it: SELECT iotmq.move_zone(%L, %L, %s);', topic, zone, node);
	ELSE
		PERFORM iotmq_node.place_set(topic, zone, node, true);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.place_zone IS 'says at which node a zone is to be made, or is';

