-- Consumer groups: at all nodes, in their order, each in a transaction of its own. What breaks
-- off halfway names the node; the same call again completes it.

-- groups_of(node, topic, consumer_group): what a node says of a group; nothing if it lacks it.
CREATE FUNCTION iotmq_node.groups_of(node int, topic text, consumer_group text) RETURNS TABLE (mode text, tags text, filter text,
		invisible_for interval, max_retries int, backoff interval[], max_delay interval, max_lag bigint, durable_acks boolean)
	LANGUAGE plproxy VOLATILE PARALLEL UNSAFE
AS $$
	CLUSTER iotmq_node.server_of(node, current_user);
	RUN ON 0;
	SELECT s.mode, s.tags, s.filter::text, s.invisible_for, s.max_retries, s.backoff, s.max_delay, s.max_lag, s.durable_acks
	FROM iotmq.group_settings AS s WHERE s.topic = $2 AND s.consumer_group = $3;
$$;
COMMENT ON FUNCTION iotmq_node.groups_of IS 'internal: a node''s settings of a group';

-- group_tags(tags): in the order in which a node shows them.
CREATE FUNCTION iotmq_node.group_tags(tags text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN (SELECT string_agg(DISTINCT trim(part), ' || ') FROM unnest(string_to_array(tags, '||')) AS part);
COMMENT ON FUNCTION iotmq_node.group_tags IS 'internal: tags as the settings of a group show them';

-- create_group: at all nodes; one that has it with the same settings is passed over, unless
-- all have it. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.create_group(topic text, consumer_group text, mode text DEFAULT 'concurrent',
		start_from timestamptz DEFAULT 'infinity', tags text DEFAULT '*',
		filter jsonpath DEFAULT NULL, invisible_for interval DEFAULT '60 s',
		max_retries int DEFAULT 16, backoff interval[] DEFAULT NULL,
		max_delay interval DEFAULT NULL, max_lag bigint DEFAULT NULL,
		durable_acks boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	nodes int[] := iotmq_node.nodes();
	there record;
	passed int[] := '{}';
BEGIN
	FOREACH node IN ARRAY nodes LOOP
		SELECT s.* INTO there FROM iotmq_node.groups_of(node, topic, consumer_group) AS s;
		IF FOUND
			AND there.mode = mode
			AND there.tags = iotmq_node.group_tags(tags)
			AND there.filter IS NOT DISTINCT FROM filter::text
			AND there.invisible_for = invisible_for AND there.max_retries = max_retries
			AND (backoff IS NULL OR there.backoff = backoff)
			AND there.max_delay IS NOT DISTINCT FROM max_delay
			AND there.max_lag IS NOT DISTINCT FROM max_lag AND there.durable_acks = durable_acks
		THEN
			passed := passed || node;
			CONTINUE WHEN cardinality(passed) < cardinality(nodes);
		END IF;
		PERFORM iotmq_node.create_group(node, topic, consumer_group, mode, start_from, tags, filter, invisible_for,
			max_retries, backoff, max_delay, max_lag, durable_acks);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.create_group IS 'creates a consumer group, which reads all of a topic independently of others';

-- alter_group: at all nodes. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.alter_group(topic text, consumer_group text, mode text DEFAULT NULL,
		tags text DEFAULT NULL, filter jsonpath DEFAULT NULL, invisible_for interval DEFAULT NULL,
		max_retries int DEFAULT NULL, backoff interval[] DEFAULT NULL,
		max_delay interval DEFAULT NULL, max_lag bigint DEFAULT NULL,
		reset text[] DEFAULT NULL, durable_acks boolean DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		PERFORM iotmq_node.alter_group(node, topic, consumer_group, mode, tags, filter, invisible_for, max_retries, backoff,
			max_delay, max_lag, reset, durable_acks);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.alter_group IS 'changes the settings of a consumer group; NULL leaves one unchanged';

-- drop_group: at all nodes; one that has it no longer is passed over, unless none has it.
-- Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.drop_group(topic text, consumer_group text, force boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
	nodes int[] := iotmq_node.nodes();
	dropped int := 0;
BEGIN
	FOREACH node IN ARRAY nodes LOOP
		BEGIN
			PERFORM iotmq_node.drop_group(node, topic, consumer_group, force);
			dropped := dropped + 1;
		EXCEPTION WHEN undefined_object THEN
			IF dropped = 0 AND node = nodes[cardinality(nodes)] THEN
				RAISE;
			END IF;
		END;
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.drop_group IS 'drops a consumer group with its position and leases; with force also its dead letters';

-- pause_group: at all nodes. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.pause_group(topic text, consumer_group text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		PERFORM iotmq_node.pause_group(node, topic, consumer_group);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.pause_group IS 'delivers nothing more to a consumer group, until resume_group';

-- resume_group: at all nodes. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.resume_group(topic text, consumer_group text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int;
BEGIN
	FOREACH node IN ARRAY iotmq_node.nodes() LOOP
		PERFORM iotmq_node.resume_group(node, topic, consumer_group);
	END LOOP;
EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
	RAISE;
END
$$;
COMMENT ON FUNCTION iotmq.resume_group IS 'goes on delivering to a consumer group that was paused';

