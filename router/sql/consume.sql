-- Consuming.

-- consume: as at the node; without zone the nodes that have some of the topic are asked in
-- turn, beginning with any of them, and waited at for short times, so that a wait at one hides
-- no message of another, nor of a zone that has moved. A node that does not answer is passed over with a warning, unless
-- none answers. Errors: those of the nodes; 0A000 ack_lease is given; 08006.
CREATE FUNCTION iotmq.consume(topic text, consumer_group text, max_messages int DEFAULT 32,
		invisible_for interval DEFAULT NULL, zone text DEFAULT NULL, wait interval DEFAULT NULL,
		consumer text DEFAULT NULL, ack_lease bigint DEFAULT NULL) RETURNS SETOF iotmq.delivery
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 32
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place;
	nodes int[];
	silent int[] := '{}';
	turn int := floor(random() * 64);
	round int := 0;
	pause interval;
	until timestamptz := clock_timestamp() + wait;
BEGIN
	IF ack_lease IS NOT NULL THEN
		RAISE EXCEPTION 'ack_lease is not possible through a router'
			USING ERRCODE = 'feature_not_supported',
				DETAIL = 'The lease and the next messages may be at two nodes.',
				HINT = 'Acknowledge it by a call of its own: SELECT iotmq.ack(lease_id);';
	END IF;
	LOOP
		-- each time: zones may have moved
		nodes := CASE WHEN zone IS NULL THEN iotmq_node.places_nodes(topic) ELSE ARRAY[(iotmq_node.place_of(topic, zone)).node] END;
		FOR i IN 1..cardinality(nodes) LOOP
			place.node := nodes[1 + (turn + i) % cardinality(nodes)];
			CONTINUE WHEN place.node = ANY (silent);
			pause := CASE
				WHEN wait IS NULL THEN NULL
				WHEN wait NOT BETWEEN interval '0' AND interval '5 min' THEN wait		-- which is an error
				WHEN cardinality(nodes) = 1 THEN greatest(least(until - clock_timestamp(), interval '5 s'), interval '0')
				WHEN round > 0 THEN greatest(least(until - clock_timestamp(), interval '5 ms' * 2 ^ least(round, 3)), interval '0') END;
			BEGIN
				RETURN QUERY SELECT m.*
					FROM iotmq_node.consume(place.node, topic, consumer_group, max_messages, invisible_for, zone, pause, consumer) AS m;
				IF FOUND THEN
					RETURN;
				END IF;
			EXCEPTION WHEN internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
				IF nodes <@ (silent || place.node) THEN
					PERFORM iotmq_node.node_failed(place.node, SQLSTATE, SQLERRM);
					RAISE;
				END IF;
				PERFORM iotmq_node.node_warn(place.node, SQLSTATE, SQLERRM);
				silent := silent || place.node;
			END;
		END LOOP;
		EXIT WHEN wait IS NULL OR clock_timestamp() >= until OR nodes <@ silent;
		round := round + 1;
	END LOOP;
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	IF iotmq_node.place_again(topic, zone, place.node, SQLSTATE, SQLERRM) IS NULL THEN
		RAISE;
	END IF;
	RETURN QUERY SELECT m.* FROM iotmq.consume(topic, consumer_group, max_messages, invisible_for, zone, wait, consumer) AS m;
END
$$;
COMMENT ON FUNCTION iotmq.consume IS 'leases the next messages of one zone to the caller; ack_lease is not possible';

-- retry_now: as at the node. Errors: those of the node; 08006.
CREATE FUNCTION iotmq.retry_now(topic text, consumer_group text, msg_offsets bigint[],
		zone text DEFAULT NULL) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place := iotmq_node.place_of(topic, zone);
BEGIN
	RETURN iotmq_node.retry_now(place.node, topic, consumer_group, msg_offsets, place.zone);
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	IF iotmq_node.place_again(topic, place.zone, place.node, SQLSTATE, SQLERRM) IS NULL THEN
		RAISE;
	END IF;
	RETURN iotmq.retry_now(topic, consumer_group, msg_offsets, zone);
END
$$;
COMMENT ON FUNCTION iotmq.retry_now IS 'lets messages that wait for a retry be due now; returns how many';

-- give_up: as at the node. Errors: those of the node; 08006.
CREATE FUNCTION iotmq.give_up(topic text, consumer_group text, msg_offsets bigint[],
		zone text DEFAULT NULL, reason text DEFAULT NULL) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place := iotmq_node.place_of(topic, zone);
BEGIN
	RETURN iotmq_node.give_up(place.node, topic, consumer_group, msg_offsets, place.zone, reason);
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	IF iotmq_node.place_again(topic, place.zone, place.node, SQLSTATE, SQLERRM) IS NULL THEN
		RAISE;
	END IF;
	RETURN iotmq.give_up(topic, consumer_group, msg_offsets, zone, reason);
END
$$;
COMMENT ON FUNCTION iotmq.give_up IS 'makes dead letters of messages that wait for a retry; returns how many';

