-- Settling. A lease is where its id says, or where its cursor was moved to. Each call is a
-- transaction of its own at the node, whatever the caller's transaction becomes.

-- ack: as at the node. Errors: those of the node; 08006.
CREATE FUNCTION iotmq.ack(lease_id bigint, msg_offsets bigint[] DEFAULT '{-1}') RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int := iotmq_node.lease_node(lease_id);
	other int;
BEGIN
	LOOP
		BEGIN
			RETURN iotmq_node.ack(node, lease_id, msg_offsets);
		EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
			PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
			other := CASE WHEN other IS NULL THEN iotmq_node.lease_again(lease_id, node, SQLSTATE) END;
			IF other IS NULL THEN
				RAISE;
			END IF;
			node := other;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.ack IS 'settles messages of a lease as done; returns how many';

-- nack: likewise.
CREATE FUNCTION iotmq.nack(lease_id bigint, msg_offsets bigint[] DEFAULT '{-1}',
		delay interval DEFAULT NULL, reason text DEFAULT NULL) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int := iotmq_node.lease_node(lease_id);
	other int;
BEGIN
	LOOP
		BEGIN
			RETURN iotmq_node.nack(node, lease_id, msg_offsets, delay, reason);
		EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
			PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
			other := CASE WHEN other IS NULL THEN iotmq_node.lease_again(lease_id, node, SQLSTATE) END;
			IF other IS NULL THEN
				RAISE;
			END IF;
			node := other;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.nack IS 'settles messages of a lease as failed: they come again after a delay; returns how many';

-- reject: likewise.
CREATE FUNCTION iotmq.reject(lease_id bigint, msg_offsets bigint[] DEFAULT '{-1}',
		reason text DEFAULT NULL) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int := iotmq_node.lease_node(lease_id);
	other int;
BEGIN
	LOOP
		BEGIN
			RETURN iotmq_node.reject(node, lease_id, msg_offsets, reason);
		EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
			PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
			other := CASE WHEN other IS NULL THEN iotmq_node.lease_again(lease_id, node, SQLSTATE) END;
			IF other IS NULL THEN
				RAISE;
			END IF;
			node := other;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.reject IS 'settles messages of a lease as dead letters; returns how many';

-- settle: likewise.
CREATE FUNCTION iotmq.settle(lease_id bigint, acks bigint[] DEFAULT '{}', nacks bigint[] DEFAULT '{}',
		rejects bigint[] DEFAULT '{}', rest text DEFAULT NULL, delay interval DEFAULT NULL,
		reasons text[] DEFAULT NULL) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int := iotmq_node.lease_node(lease_id);
	other int;
BEGIN
	LOOP
		BEGIN
			RETURN iotmq_node.settle(node, lease_id, acks, nacks, rejects, rest, delay, reasons);
		EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
			PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
			other := CASE WHEN other IS NULL THEN iotmq_node.lease_again(lease_id, node, SQLSTATE) END;
			IF other IS NULL THEN
				RAISE;
			END IF;
			node := other;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.settle IS 'settles messages of a lease as done, as failed and as dead letters in one call; returns how many';

-- extend: likewise.
CREATE FUNCTION iotmq.extend(lease_id bigint, invisible_for interval) RETURNS timestamptz
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	node int := iotmq_node.lease_node(lease_id);
	other int;
BEGIN
	LOOP
		BEGIN
			RETURN iotmq_node.extend(node, lease_id, invisible_for);
		EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
			PERFORM iotmq_node.node_failed(node, SQLSTATE, SQLERRM);
			other := CASE WHEN other IS NULL THEN iotmq_node.lease_again(lease_id, node, SQLSTATE) END;
			IF other IS NULL THEN
				RAISE;
			END IF;
			node := other;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.extend IS 'gives a lease more time, counted from now; returns the new deadline';

