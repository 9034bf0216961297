-- Publishing. A zone that moved away under a call is looked for once more, here and in the
-- other functions that work on one zone.

-- publish: as at the node. Errors: those of the node; 08006 it does not answer.
CREATE FUNCTION iotmq.publish(topic text, device_id text, payload jsonb, zone text DEFAULT NULL,
		tag text DEFAULT NULL, properties jsonb DEFAULT NULL, body bytea DEFAULT NULL,
		message_key text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place := iotmq_node.place_of(topic, zone);
BEGIN
	RETURN iotmq_node.publish(place.node, topic, device_id, payload, place.zone, tag, properties, body, message_key);
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	IF iotmq_node.place_again(topic, place.zone, place.node, SQLSTATE, SQLERRM) IS NULL THEN
		RAISE;
	END IF;
	RETURN iotmq.publish(topic, device_id, payload, zone, tag, properties, body, message_key);
END
$$;
COMMENT ON FUNCTION iotmq.publish IS 'publishes one message; returns its offset';

-- batch_nodes(topic, zones): the node of each element.
CREATE FUNCTION iotmq_node.batch_nodes(topic text, zones text[]) RETURNS int[]
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT array_agg(coalesce(p.node, first.node) ORDER BY z.element)
	FROM unnest(batch_nodes.zones) WITH ORDINALITY AS z (zone, element)
	CROSS JOIN (SELECT (iotmq_node.nodes())[1]) AS first (node)
	LEFT JOIN iotmq_internal.placement AS p ON p.topic = batch_nodes.topic AND p.zone = z.zone
$$;
COMMENT ON FUNCTION iotmq_node.batch_nodes IS 'internal: the node of each element of a batch';

-- publish_batch: as at the node. With zones of several nodes there is a call, and a
-- transaction, for each node, in their order: if one fails, what was published at those
-- before it stays; DETAIL says how much that is. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.publish_batch(topic text, device_ids text[], payloads jsonb[], zone text DEFAULT NULL,
		tags text[] DEFAULT NULL, properties jsonb[] DEFAULT NULL, bodies bytea[] DEFAULT NULL,
		zones text[] DEFAULT NULL, message_keys text[] DEFAULT NULL) RETURNS bigint[]
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place;
	nodes int[];
	count int := cardinality(device_ids);
	part record;
	offsets bigint[];
	result bigint[];
	done int := 0;
	detail text;
	hint text;
BEGIN
	IF zones IS NULL OR zone IS NOT NULL THEN
		place := iotmq_node.place_of(topic, zone);
	ELSE
		IF array_position(zones, NULL) IS NOT NULL THEN
			place := iotmq_node.place_of(topic, NULL);
			zones := array_replace(zones, NULL, place.zone);
		END IF;
		nodes := iotmq_node.batch_nodes(topic, zones);
		place.zone := NULL;
		place.node := coalesce(nodes[1], (iotmq_node.nodes())[1]);
	END IF;
	-- what a node would refuse goes there as it is
	IF nodes IS NULL OR place.node = ALL (nodes)
		OR count <> cardinality(zones)
		OR count <> cardinality(payloads) OR count <> cardinality(tags) OR count <> cardinality(properties)
		OR count <> cardinality(bodies) OR count <> cardinality(message_keys)
		OR (SELECT pg_catalog.count(DISTINCT z) FROM unnest(zones) AS z) > 64
	THEN
		RETURN iotmq_node.publish_batch(place.node, topic, device_ids, payloads, place.zone, tags, properties, bodies,
			zones, message_keys);
	END IF;

	result := array_fill(NULL::bigint, ARRAY[count]);
	FOR part IN
		SELECT e.node, array_agg(e.element::int ORDER BY e.element) AS elements,
			array_agg(e.device_id ORDER BY e.element) AS device_ids,
			array_agg(e.payload ORDER BY e.element) AS payloads,
			array_agg(e.zone ORDER BY e.element) AS zones,
			array_agg(e.tag ORDER BY e.element) AS tags,
			array_agg(e.property ORDER BY e.element) AS properties,
			array_agg(e.body ORDER BY e.element) AS bodies,
			array_agg(e.message_key ORDER BY e.element) AS message_keys
		FROM unnest(nodes, device_ids, payloads, zones, tags, properties, bodies, message_keys) WITH ORDINALITY
			AS e (node, device_id, payload, zone, tag, property, body, message_key, element)
		GROUP BY e.node
		ORDER BY e.node
	LOOP
		BEGIN
			offsets := iotmq.publish_batch(topic, part.device_ids,
				CASE WHEN payloads IS NOT NULL THEN part.payloads END, NULL,
				CASE WHEN tags IS NOT NULL THEN part.tags END,
				CASE WHEN properties IS NOT NULL THEN part.properties END,
				CASE WHEN bodies IS NOT NULL THEN part.bodies END, part.zones,
				CASE WHEN message_keys IS NOT NULL THEN part.message_keys END);
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
			-- the node counts the elements that it got
			detail := regexp_replace(detail, 'Element [0-9]+ of the batch',
				format('Element %s of the batch', part.elements[substring(detail FROM 'Element ([0-9]+) of the batch')::int]));
			RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM,
				DETAIL = concat_ws(' ', nullif(detail, ''), format('%s of the %s elements are published, at other nodes.', done, count)),
				HINT = coalesce(nullif(hint, ''), 'With message keys the whole batch can be published again.');
		END;
		FOR i IN 1..cardinality(offsets) LOOP
			result[part.elements[i]] := offsets[i];
		END LOOP;
		done := done + cardinality(offsets);
	END LOOP;
	RETURN result;
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	-- all went to one node; if it is another one now, or are several: once more
	IF done > 0 OR nodes IS NOT NULL AND NOT coalesce(place.node = ALL (nodes), true) THEN
		RAISE;
	END IF;
	PERFORM iotmq_node.node_failed(place.node, SQLSTATE, SQLERRM);
	PERFORM iotmq_node.place_wait();
	IF (nodes IS NULL AND (iotmq_node.place_of(topic, zone)).node = place.node)
		OR iotmq_node.batch_nodes(topic, zones) IS NOT DISTINCT FROM nodes
	THEN
		RAISE;
	END IF;
	RETURN iotmq.publish_batch(topic, device_ids, payloads, zone, tags, properties, bodies, zones, message_keys);
END
$$;
COMMENT ON FUNCTION iotmq.publish_batch IS 'publishes many messages; returns their offsets in input order';

-- message_by_key: as at the node. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.message_by_key(topic text, device_id text, message_key text,
		zone text DEFAULT NULL) RETURNS SETOF iotmq.delivery
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 1
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place;
	found_messages iotmq.delivery[];
	denied text;
BEGIN
	IF zone IS NULL THEN
		FOREACH place.node IN ARRAY iotmq_node.places_nodes(topic) LOOP
			BEGIN
				found_messages := found_messages || ARRAY(
					SELECT m
					FROM iotmq_node.message_by_key(place.node, topic, device_id, message_key, NULL) AS m
					WHERE (iotmq_node.place_of(topic, m.zone)).node = place.node);		-- others may have a mirror
			EXCEPTION WHEN insufficient_privilege THEN
				denied := SQLERRM;
			END;
		END LOOP;
		PERFORM iotmq_node.node_denied(found_messages IS NULL, denied);
		RETURN QUERY SELECT m.* FROM unnest(found_messages) AS m ORDER BY m.published_at DESC, m.zone, m.msg_offset DESC;
		RETURN;
	END IF;
	place := iotmq_node.place_of(topic, zone);
	RETURN QUERY SELECT m.* FROM iotmq_node.message_by_key(place.node, topic, device_id, message_key, zone) AS m;
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	IF iotmq_node.place_again(topic, zone, place.node, SQLSTATE, SQLERRM) IS NULL THEN
		RAISE;
	END IF;
	RETURN QUERY SELECT m.* FROM iotmq.message_by_key(topic, device_id, message_key, zone) AS m;
END
$$;
COMMENT ON FUNCTION iotmq.message_by_key IS 'the messages of a device with that key, newest first';

