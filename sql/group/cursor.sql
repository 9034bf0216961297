-- Cursors: where a group stands in a zone, made, moved and dropped.

-- cursor_void_leases(cursor_id, wait): its leases end; without wait but for those that
-- somebody has locked. Who needs a lease and the position locks them in that order:
-- so a seek or a drop voids the leases, waiting, then locks the position, then voids
-- those made meanwhile. For these it must not wait: who has one may be waiting for
-- the position. He finds that it is void (see src/group/settle.c), and maintenance sweeps
-- up the row.
CREATE FUNCTION iotmq.cursor_void_leases(cursor_id int, wait boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	first bigint := iotmq.lease_first(cursor_id);
	next bigint := iotmq.lease_first(cursor_id + 1);
BEGIN
	IF wait THEN
		DELETE FROM iotmq.lease AS l WHERE l.lease_id >= first AND l.lease_id < next;
	ELSE
		DELETE FROM iotmq.lease AS l
		WHERE l.lease_id IN (
			SELECT f.lease_id FROM iotmq.lease AS f
			WHERE f.lease_id >= first AND f.lease_id < next
			FOR UPDATE SKIP LOCKED);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.cursor_void_leases IS 'internal: ends the leases of a group in a zone';

-- cursor_create, cursor_drop: where a group stands in a zone. Dead letters are locked before
-- the position, as by whoever redrives or purges them.
CREATE FUNCTION iotmq.cursor_create(group_id int, zone_id int, next_offset bigint) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	WITH new AS (
		INSERT INTO iotmq.cursor (group_id, zone_id) VALUES (group_id, zone_id) RETURNING cursor_id
	)
	INSERT INTO iotmq.cursor_state (cursor_id, next_offset, stable_offset)
	SELECT cursor_id, next_offset, 0 FROM new
$$;
COMMENT ON FUNCTION iotmq.cursor_create IS 'internal: lets a group read a zone from an offset on';

CREATE FUNCTION iotmq.cursor_drop(cursor_id int) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq.cursor_void_leases(cursor_id, true);
	DELETE FROM iotmq.dead_message AS d WHERE d.cursor_id = cursor_drop.cursor_id;
	DELETE FROM iotmq.cursor_state AS p WHERE p.cursor_id = cursor_drop.cursor_id;
	SELECT iotmq.cursor_void_leases(cursor_id, false);
	DELETE FROM iotmq.redelivery AS r WHERE r.cursor_id = cursor_drop.cursor_id;
	DELETE FROM iotmq.dead_message AS d WHERE d.cursor_id = cursor_drop.cursor_id;
	DELETE FROM iotmq.cursor AS c WHERE c.cursor_id = cursor_drop.cursor_id;
$$;
COMMENT ON FUNCTION iotmq.cursor_drop IS 'internal: a group reads a zone no longer';

-- cursor_move(cursor_id, next_offset): the group goes on there; its leases and
-- waiting retries in the zone are void; what was redriven is a dead letter again.
-- The caller has voided the leases and locked the position: see void_leases.
CREATE FUNCTION iotmq.cursor_move(cursor_id int, next_offset bigint) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq.cursor_void_leases(cursor_id, false);
	DELETE FROM iotmq.redelivery AS r WHERE r.cursor_id = cursor_move.cursor_id;
	WITH dead AS (
		UPDATE iotmq.dead_message AS d
		SET redriven = false
		WHERE d.cursor_id = cursor_move.cursor_id AND d.redriven
		RETURNING d.id
	)
	UPDATE iotmq.cursor_state AS p
	SET next_offset = cursor_move.next_offset,
		next_expiry = 'infinity',
		next_due = 'infinity',
		oldest_lease = p.last_lease + 1,
		redeliveries = 0,
		next_redriven = 9223372036854775807,
		dead_letters = p.dead_letters + (SELECT count(*) FROM dead)
	WHERE p.cursor_id = cursor_move.cursor_id;
$$;
COMMENT ON FUNCTION iotmq.cursor_move IS 'internal: lets a group go on at an offset of a zone';
