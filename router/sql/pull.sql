-- Reading without leases.

-- fetch: as at the node. Errors: those of the node; 08006.
CREATE FUNCTION iotmq.fetch(topic text, zone text, from_offset bigint,
		max_messages int DEFAULT 32) RETURNS SETOF iotmq.delivery
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 32
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place := iotmq_node.place_of(topic, zone);
BEGIN
	RETURN QUERY SELECT m.* FROM iotmq_node.fetch(place.node, topic, zone, from_offset, max_messages) AS m;
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	IF iotmq_node.place_again(topic, zone, place.node, SQLSTATE, SQLERRM) IS NULL THEN
		RAISE;
	END IF;
	RETURN QUERY SELECT m.* FROM iotmq.fetch(topic, zone, from_offset, max_messages) AS m;
END
$$;
COMMENT ON FUNCTION iotmq.fetch IS 'reads messages of a zone from an offset on, without a lease';

-- commit_offset: as at the node. Errors: those of the node; 08006.
CREATE FUNCTION iotmq.commit_offset(topic text, consumer_group text, zone text, next_offset bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place := iotmq_node.place_of(topic, zone);
BEGIN
	PERFORM iotmq_node.commit_offset(place.node, topic, consumer_group, zone, next_offset);
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	IF iotmq_node.place_again(topic, zone, place.node, SQLSTATE, SQLERRM) IS NULL THEN
		RAISE;
	END IF;
	PERFORM iotmq.commit_offset(topic, consumer_group, zone, next_offset);
END
$$;
COMMENT ON FUNCTION iotmq.commit_offset IS 'notes where a group that reads by fetch goes on';

-- committed_offset: as at the node. Errors: those of the node; 08006.
CREATE FUNCTION iotmq.committed_offset(topic text, consumer_group text, zone text) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place := iotmq_node.place_of(topic, zone);
BEGIN
	RETURN iotmq_node.committed_offset(place.node, topic, consumer_group, zone);
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	IF iotmq_node.place_again(topic, zone, place.node, SQLSTATE, SQLERRM) IS NULL THEN
		RAISE;
	END IF;
	RETURN iotmq.committed_offset(topic, consumer_group, zone);
END
$$;
COMMENT ON FUNCTION iotmq.committed_offset IS 'the next offset that a group reads in a zone';

-- message_status: as at the node. Errors: those of the node; 08006.
CREATE FUNCTION iotmq.message_status(topic text, zone text, msg_offset bigint) RETURNS TABLE (consumer_group text, state text, attempt int, lease_id bigint,
		consumer text, until timestamptz, reason text)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place := iotmq_node.place_of(topic, zone);
BEGIN
	RETURN QUERY SELECT m.* FROM iotmq_node.message_status(place.node, topic, zone, msg_offset) AS m;
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	IF iotmq_node.place_again(topic, zone, place.node, SQLSTATE, SQLERRM) IS NULL THEN
		RAISE;
	END IF;
	RETURN QUERY SELECT m.* FROM iotmq.message_status(topic, zone, msg_offset) AS m;
END
$$;
COMMENT ON FUNCTION iotmq.message_status IS 'what became of one message in each consumer group';

-- zones: of all nodes. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.zones(topic text) RETURNS SETOF text
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	found_zones text[];
	denied text;
BEGIN
	FOREACH node IN ARRAY iotmq_node.places_nodes(topic) LOOP
		BEGIN
			found_zones := found_zones || ARRAY(SELECT z FROM iotmq_node.zones(node, topic) AS z);
		EXCEPTION WHEN insufficient_privilege THEN
			denied := SQLERRM;
		END;
	END LOOP;
	PERFORM iotmq_node.node_denied(found_zones IS NULL, denied);
	RETURN QUERY SELECT DISTINCT z FROM unnest(found_zones) AS z ORDER BY z;		-- a mirror is one more of the same
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.zones IS 'the zones of a topic on which the caller has a right';

-- messages_of_device: of all nodes, or of the one that has the zone. A node that has a mirror,
-- too, is asked zone by zone. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.messages_of_device(topic text, device_id text,
		since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity',
		max_messages int DEFAULT 64, zone text DEFAULT NULL) RETURNS SETOF iotmq.delivery
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 64
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place;
	here text[];
	one iotmq.delivery[];
	found_messages iotmq.delivery[];
	denied text;
BEGIN
	IF zone IS NOT NULL THEN
		place := iotmq_node.place_of(topic, zone);
		RETURN QUERY SELECT m.*
			FROM iotmq_node.messages_of_device(place.node, topic, device_id, since, until, max_messages, zone) AS m;
		RETURN;
	END IF;
	FOREACH place.node IN ARRAY iotmq_node.places_nodes(topic) LOOP
		BEGIN
			here := ARRAY(SELECT p.zone FROM iotmq_node.places(topic) AS p WHERE p.node = place.node);
			one := ARRAY(SELECT m
				FROM iotmq_node.messages_of_device(place.node, topic, device_id, since, until, max_messages, NULL) AS m);
			IF EXISTS (SELECT FROM unnest(one) AS m WHERE m.zone <> ALL (here)) THEN
				one := ARRAY(SELECT m
					FROM unnest(here) AS z
					CROSS JOIN LATERAL iotmq_node.messages_of_device(place.node, topic, device_id, since, until, max_messages, z) AS m
					WHERE z IN (SELECT w FROM iotmq_node.zones(place.node, topic) AS w));
			END IF;
			found_messages := found_messages || one;
		EXCEPTION WHEN insufficient_privilege THEN
			denied := SQLERRM;
		END;
	END LOOP;
	PERFORM iotmq_node.node_denied(found_messages IS NULL, denied);
	RETURN QUERY SELECT m.*
		FROM unnest(found_messages) AS m
		ORDER BY m.published_at DESC, m.zone, m.msg_offset DESC
		LIMIT max_messages;
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	IF iotmq_node.place_again(topic, zone, place.node, SQLSTATE, SQLERRM) IS NULL THEN
		RAISE;
	END IF;
	RETURN QUERY SELECT m.* FROM iotmq.messages_of_device(topic, device_id, since, until, max_messages, zone) AS m;
END
$$;
COMMENT ON FUNCTION iotmq.messages_of_device IS 'the messages of a device, newest first';

-- preview_nodes(...): of the last messages of each node, which has its share of them.
CREATE FUNCTION iotmq_node.preview_nodes(topic text, consumer_group text, tags text, filter jsonpath, last int)
		RETURNS TABLE (wanted boolean, messages bigint, example jsonb)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	nodes int[] := iotmq_node.places_nodes(topic);
	share int := ceil(last / cardinality(nodes)::float8);
	seen jsonb := '[]';
BEGIN
	FOREACH node IN ARRAY nodes LOOP
		seen := seen || (SELECT coalesce(jsonb_agg(to_jsonb(p)), '[]')
			FROM iotmq_node.preview_group(node, topic, consumer_group, tags, filter, share) AS p);
	END LOOP;
	RETURN QUERY SELECT r.wanted, sum(r.messages)::bigint, (array_agg(r.example) FILTER (WHERE r.example IS NOT NULL))[1]
		FROM jsonb_to_recordset(seen) AS r (wanted boolean, messages bigint, example jsonb)
		GROUP BY r.wanted
		ORDER BY r.wanted DESC;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq_node.preview_nodes IS 'internal: preview_group at all nodes of a topic';

-- preview_group: of the last messages of each node, which has its share of them.
-- Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.preview_group(topic text, consumer_group text, tags text DEFAULT NULL,
		filter jsonpath DEFAULT NULL, messages int DEFAULT 1000)
		RETURNS TABLE (wanted boolean, messages bigint, example jsonb)
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.wanted, p.messages, p.example FROM iotmq_node.preview_nodes($1, $2, $3, $4, $5) AS p
$$;
COMMENT ON FUNCTION iotmq.preview_group IS 'how many of the last messages these tags and this filter would take and leave, with an example of each';

-- count_lag: of all nodes. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.count_lag(topic text, consumer_group text) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	lag bigint := 0;
BEGIN
	FOREACH node IN ARRAY iotmq_node.places_nodes(topic) LOOP
		lag := lag + iotmq_node.count_lag(node, topic, consumer_group);
	END LOOP;
	RETURN lag;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.count_lag IS 'how many messages a group has not settled, counted exactly';

-- A table of a node is no table here.
CREATE FUNCTION iotmq_node.direct_door(what text) RETURNS regclass
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE EXCEPTION '% is not possible through a router', what
		USING ERRCODE = 'feature_not_supported',
			HINT = 'The tables are at the nodes: SELECT * FROM iotmq.node_of(topic, zone);';
END
$$;
COMMENT ON FUNCTION iotmq_node.direct_door IS 'internal: says that only a node can do that';

-- topic_table, zone_table: 0A000.
CREATE FUNCTION iotmq.topic_table(topic text) RETURNS regclass
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq_node.direct_door('topic_table');
COMMENT ON FUNCTION iotmq.topic_table IS 'not possible through a router: the table of a topic is at its nodes';

CREATE FUNCTION iotmq.zone_table(topic text, zone text) RETURNS regclass
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq_node.direct_door('zone_table');
COMMENT ON FUNCTION iotmq.zone_table IS 'not possible through a router: the table of a zone is at its node';

