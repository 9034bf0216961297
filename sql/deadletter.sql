-- Dead letters: messages that a group gave up, with a copy of their content.
CREATE TABLE iotmq.dead_message (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	cursor_id int NOT NULL,
	attempts int NOT NULL,
	dead_at timestamptz NOT NULL,
	redriven boolean NOT NULL,
	reason text,
	zone text COLLATE "C" NOT NULL,
	msg_offset bigint NOT NULL,
	published_at timestamptz NOT NULL,
	device_id text COLLATE "C" NOT NULL,
	tag text COLLATE "C",
	payload jsonb,
	body bytea,
	properties jsonb
);
CREATE INDEX dead_message_origin ON iotmq.dead_message (cursor_id, msg_offset);
CREATE INDEX dead_message_age ON iotmq.dead_message (cursor_id, dead_at) WHERE NOT redriven;
COMMENT ON TABLE iotmq.dead_message IS 'one row per message that a group gave up; see the view dead_letter';
COMMENT ON COLUMN iotmq.dead_message.redriven IS 'on its way again: the content is kept until it is settled';

SELECT pg_catalog.pg_extension_config_dump('iotmq.dead_message', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq.dead_message_id_seq', '');

-- Shows each role the dead letters of the groups it may consume as.
CREATE VIEW iotmq.dead_letter WITH (security_barrier) AS
SELECT
	d.id,
	t.topic,
	g.consumer_group,
	d.zone,
	d.msg_offset,
	d.device_id,
	d.tag,
	d.payload,
	d.body,
	d.properties,
	d.published_at,
	d.attempts,
	d.reason,
	d.dead_at
FROM iotmq.dead_message AS d
JOIN iotmq.cursor AS c USING (cursor_id)
JOIN iotmq.consumer_group AS g USING (group_id)
JOIN iotmq.topic AS t USING (topic_id)
WHERE NOT d.redriven AND iotmq.may_consume(g.group_id);
COMMENT ON VIEW iotmq.dead_letter IS 'messages that a group gave up, with their content';
COMMENT ON COLUMN iotmq.dead_letter.id IS 'the dead letter, for redrive and purge_dead_letters';
COMMENT ON COLUMN iotmq.dead_letter.topic IS 'the topic';
COMMENT ON COLUMN iotmq.dead_letter.consumer_group IS 'the consumer group that gave it up';
COMMENT ON COLUMN iotmq.dead_letter.zone IS 'the zone';
COMMENT ON COLUMN iotmq.dead_letter.msg_offset IS 'its offset in the log';
COMMENT ON COLUMN iotmq.dead_letter.device_id IS 'the device';
COMMENT ON COLUMN iotmq.dead_letter.tag IS 'its tag';
COMMENT ON COLUMN iotmq.dead_letter.payload IS 'its payload';
COMMENT ON COLUMN iotmq.dead_letter.body IS 'its body';
COMMENT ON COLUMN iotmq.dead_letter.properties IS 'its properties';
COMMENT ON COLUMN iotmq.dead_letter.published_at IS 'when it was published';
COMMENT ON COLUMN iotmq.dead_letter.attempts IS 'how often it was delivered';
COMMENT ON COLUMN iotmq.dead_letter.reason IS 'why the last attempt failed, as told to nack or reject; lease expired';
COMMENT ON COLUMN iotmq.dead_letter.dead_at IS 'when it became a dead letter';

-- wait_again(cursor_id, msg_offset): a redriven message waits for its first
-- attempt. Locks the cursor's position.
CREATE FUNCTION iotmq.wait_again(cursor_id int, msg_offset bigint) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_wait_again';
COMMENT ON FUNCTION iotmq.wait_again IS 'internal: puts a redriven message where it waits for delivery';

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
	id_of_group int := iotmq.group_id(topic, consumer_group);
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
		PERFORM FROM iotmq.position AS p
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
		PERFORM iotmq.wait_again(dead.cursor_id, dead.msg_offset);
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
CREATE FUNCTION iotmq.purge_as_owner(topic text, consumer_group text, ids bigint[],
		older_than interval) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id_of_group int := iotmq.group_id(topic, consumer_group);
	purged bigint;
BEGIN
	IF older_than < interval '0' THEN
		RAISE EXCEPTION 'older_than must not be negative' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	-- as redrive does, so that each dead letter goes one way
	PERFORM FROM iotmq.position AS p
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
		UPDATE iotmq.position AS p
		SET dead_letters = p.dead_letters - g.messages
		FROM (SELECT cursor_id, count(*) AS messages FROM gone GROUP BY cursor_id) AS g
		WHERE p.cursor_id = g.cursor_id
		RETURNING g.messages
	)
	SELECT coalesce(sum(c.messages), 0) INTO purged FROM counted AS c;
	RETURN purged;
END
$$;
COMMENT ON FUNCTION iotmq.purge_as_owner IS 'internal: purge_dead_letters, after the check of rights';

CREATE FUNCTION iotmq.purge_dead_letters(topic text, consumer_group text, ids bigint[] DEFAULT NULL,
		older_than interval DEFAULT NULL) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_purge_dead_letters';
COMMENT ON FUNCTION iotmq.purge_dead_letters IS 'deletes dead letters for good; returns how many';

REVOKE EXECUTE ON FUNCTION iotmq.wait_again, iotmq.redrive_as_owner, iotmq.purge_as_owner FROM PUBLIC;
