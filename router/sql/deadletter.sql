-- Dead letters. Their ids are numbers of a node: through the router the upper bits say of
-- which, so that one names one dead letter.

-- deadletter_id(node, id): the id here of a dead letter of a node.
CREATE FUNCTION iotmq_node.deadletter_id(node int, id bigint) RETURNS bigint
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN (node::bigint << 56) + id;
COMMENT ON FUNCTION iotmq_node.deadletter_id IS 'internal: the id of a dead letter in the views of the router';

-- deadletter_ids(node, ids): those of the ids that are of a node, as it has them; NULL: all.
CREATE FUNCTION iotmq_node.deadletter_ids(node int, ids bigint[]) RETURNS bigint[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN ids IS NOT NULL THEN ARRAY(
		SELECT i & ((1::bigint << 56) - 1)
		FROM unnest(ids) AS i
		WHERE (i >> 56)::int = deadletter_ids.node)
	END
$$;
COMMENT ON FUNCTION iotmq_node.deadletter_ids IS 'internal: the ids of a node''s dead letters';

-- redrive: at all nodes, one after the other. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.redrive(topic text, consumer_group text, ids bigint[] DEFAULT NULL,
		max_messages bigint DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	done bigint := 0;
BEGIN
	FOREACH node IN ARRAY iotmq_node.places_nodes(topic) LOOP
		done := done + iotmq_node.redrive(node, topic, consumer_group, iotmq_node.deadletter_ids(node, ids),
			max_messages - done, dry_run);
		EXIT WHEN done >= max_messages;
	END LOOP;
	RETURN done;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.redrive IS 'delivers dead letters again, to their group alone; returns how many';

-- purge_dead_letters: at all nodes, one after the other. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.purge_dead_letters(topic text, consumer_group text, ids bigint[] DEFAULT NULL,
		older_than interval DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	done bigint := 0;
BEGIN
	FOREACH node IN ARRAY iotmq_node.places_nodes(topic) LOOP
		done := done + iotmq_node.purge_dead_letters(node, topic, consumer_group, iotmq_node.deadletter_ids(node, ids), older_than);
	END LOOP;
	RETURN done;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.purge_dead_letters IS 'deletes dead letters for good; returns how many';

