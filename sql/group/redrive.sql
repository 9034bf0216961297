-- What becomes of dead letters: they are delivered again, or deleted.

-- redrive_wait(cursor_id, msg_offset): a redriven message waits for its first
-- attempt. Locks the cursor's position.
CREATE FUNCTION iotmq.redrive_wait(cursor_id int, msg_offset bigint) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_redrive_wait';
COMMENT ON FUNCTION iotmq.redrive_wait IS 'internal: puts a redriven message where it waits for delivery';

-- redrive: dead letters of a group are delivered to it again, oldest first, from
-- attempt 1 on; returns how many (dry_run: would be). ids NULL: all; ids that are
-- no dead letters of the group don't count. Errors: 22004, 42704, 22023.
-- Locks the positions of the group, so each dead letter is moved once.
CREATE FUNCTION iotmq.redrive_as_owner(topic text, consumer_group text, ids bigint[],
		max_messages bigint, dry_run boolean) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id_of_group int := iotmq.call_group_id(topic, consumer_group);
	dead record;
	moved bigint := 0;
BEGIN
	IF dry_run IS NULL THEN
		RAISE EXCEPTION 'dry_run must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF max_messages < 0 THEN
		RAISE EXCEPTION 'max_messages must not be negative' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF NOT dry_run THEN
		PERFORM iotmq.cursor_lock_use(c.cursor_id, true) FROM iotmq.cursor AS c WHERE c.group_id = id_of_group;
		PERFORM FROM iotmq.cursor_state AS p
		WHERE p.cursor_id IN (SELECT c.cursor_id FROM iotmq.cursor AS c WHERE c.group_id = id_of_group)
		ORDER BY p.cursor_id
		FOR UPDATE;
	END IF;
	FOR dead IN
		SELECT d.id, d.cursor_id, d.msg_offset
		FROM iotmq.dead_message AS d
		JOIN iotmq.cursor AS c USING (cursor_id)
		WHERE c.group_id = id_of_group AND NOT d.redriven AND (ids IS NULL OR d.id = ANY (ids))
		ORDER BY d.id
		LIMIT max_messages
	LOOP
		moved := moved + 1;
		CONTINUE WHEN dry_run;
		UPDATE iotmq.dead_message AS d SET redriven = true WHERE d.id = dead.id;
		PERFORM iotmq.redrive_wait(dead.cursor_id, dead.msg_offset);
	END LOOP;
	RETURN moved;
END
$$;
COMMENT ON FUNCTION iotmq.redrive_as_owner IS 'internal: redrive, after the check of rights';

CREATE FUNCTION iotmq.redrive(topic text, consumer_group text, ids bigint[] DEFAULT NULL,
		max_messages bigint DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_redrive';
COMMENT ON FUNCTION iotmq.redrive IS 'delivers dead letters again, to their group alone; returns how many';

-- purge_dead_letters: deletes dead letters of a group for good; returns how many.
-- ids NULL: all; older_than NULL: of any age. Errors: 22004, 42704, 22023.
CREATE FUNCTION iotmq.redrive_purge_as_owner(topic text, consumer_group text, ids bigint[],
		older_than interval) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id_of_group int := iotmq.call_group_id(topic, consumer_group);
	purged bigint;
BEGIN
	IF older_than < interval '0' THEN
		RAISE EXCEPTION 'older_than must not be negative' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	-- as redrive does, so that each dead letter goes one way
	PERFORM iotmq.cursor_lock_use(c.cursor_id, true) FROM iotmq.cursor AS c WHERE c.group_id = id_of_group;
	PERFORM FROM iotmq.cursor_state AS p
	WHERE p.cursor_id IN (SELECT c.cursor_id FROM iotmq.cursor AS c WHERE c.group_id = id_of_group)
	ORDER BY p.cursor_id
	FOR UPDATE;
	WITH gone AS (
		DELETE FROM iotmq.dead_message AS d
		USING iotmq.cursor AS c
		WHERE c.cursor_id = d.cursor_id AND c.group_id = id_of_group AND NOT d.redriven
			AND (ids IS NULL OR d.id = ANY (ids))
			AND (older_than IS NULL OR d.dead_at < clock_timestamp() - older_than)
		RETURNING d.cursor_id
	), counted AS (
		UPDATE iotmq.cursor_state AS p
		SET dead_letters = p.dead_letters - g.messages
		FROM (SELECT cursor_id, count(*) AS messages FROM gone GROUP BY cursor_id) AS g
		WHERE p.cursor_id = g.cursor_id
		RETURNING g.messages
	)
	SELECT coalesce(sum(c.messages), 0) INTO purged FROM counted AS c;
	RETURN purged;
END
$$;
COMMENT ON FUNCTION iotmq.redrive_purge_as_owner IS 'internal: purge_dead_letters, after the check of rights';

CREATE FUNCTION iotmq.purge_dead_letters(topic text, consumer_group text, ids bigint[] DEFAULT NULL,
		older_than interval DEFAULT NULL) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_purge_dead_letters';
COMMENT ON FUNCTION iotmq.purge_dead_letters IS 'deletes dead letters for good; returns how many';
