-- Cursors: where a group stands in a zone, made, moved and dropped.
--
-- A cursor's id is part of every lease id: 6 bits of the node (iotmq_internal.node), then a number of
-- 14 bits. Numbers come in turn, and again once their cursors have been dropped: the new
-- cursor's lease ids begin above the old one's (iotmq_internal.past_cursor). A cursor that was
-- moved to another server with its zone keeps its id there, with this node in it: until it
-- comes back, its number is not given out here (iotmq_internal.away_cursor).
--
-- Who moves or drops a cursor has excluded its users before: see cursor_lock.c.

-- cursor_create(group_id, zone_id, next_offset): lets a group read a zone from an offset on.
-- Errors: 54000 all numbers are in use.
CREATE FUNCTION iotmq.cursor_create(group_id int, zone_id int, next_offset bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	first int;
	new_cursor int;
	last_lease bigint;
BEGIN
	LOCK TABLE iotmq_internal.node IN ROW SHARE MODE;	-- see set_node
	first := coalesce((SELECT n.node FROM iotmq_internal.node AS n), 0) << 14;
	FOR try IN 1..16383 LOOP
		new_cursor := first + nextval('iotmq_internal.cursor_number');
		CONTINUE WHEN EXISTS (SELECT FROM iotmq_internal.away_cursor AS a WHERE a.cursor_id = new_cursor);
		INSERT INTO iotmq_internal.cursor (cursor_id, group_id, zone_id)
		VALUES (new_cursor, cursor_create.group_id, cursor_create.zone_id)
		ON CONFLICT (cursor_id) DO NOTHING;
		CONTINUE WHEN NOT FOUND;
		last_lease := coalesce((SELECT p.last_lease FROM iotmq_internal.past_cursor AS p WHERE p.cursor_id = new_cursor), 0);
		IF iotmq.lease_left(new_cursor, last_lease) > 1000000000 THEN
			INSERT INTO iotmq_internal.cursor_state (cursor_id, next_offset, stable_offset, last_lease, oldest_lease)
			VALUES (new_cursor, cursor_create.next_offset, 0, last_lease, last_lease + 1);
			RETURN;
		END IF;
		-- its ids are used up, after a clock that was wrong
		DELETE FROM iotmq_internal.cursor AS c WHERE c.cursor_id = new_cursor;
	END LOOP;
	RAISE EXCEPTION 'all 16383 cursors of this database are in use'
		USING ERRCODE = 'program_limit_exceeded',
			DETAIL = 'Each consumer group has one in each zone of its topic.',
			HINT = 'Drop consumer groups that nobody consumes any more: SELECT iotmq.drop_group(...);';
END
$$;
COMMENT ON FUNCTION iotmq.cursor_create IS 'internal: lets a group read a zone from an offset on';

-- cursor_drop(cursor_id): a group reads a zone no longer.
CREATE FUNCTION iotmq.cursor_drop(cursor_id int) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq.lease_void(cursor_drop.cursor_id);
	WITH past AS (
		DELETE FROM iotmq_internal.cursor_state AS p
		WHERE p.cursor_id = cursor_drop.cursor_id
		RETURNING p.cursor_id, p.last_lease
	)
	INSERT INTO iotmq_internal.past_cursor AS p (cursor_id, last_lease)
	SELECT past.cursor_id, past.last_lease FROM past WHERE past.last_lease > 0
	ON CONFLICT (cursor_id) DO UPDATE SET last_lease = greatest(p.last_lease, excluded.last_lease);
	DELETE FROM iotmq_internal.redelivery AS r WHERE r.cursor_id = cursor_drop.cursor_id;
	DELETE FROM iotmq_internal.dead_message AS d WHERE d.cursor_id = cursor_drop.cursor_id;
	DELETE FROM iotmq_internal.source_group AS s WHERE s.cursor_id = cursor_drop.cursor_id;
	DELETE FROM iotmq_internal.cursor AS c WHERE c.cursor_id = cursor_drop.cursor_id;
$$;
COMMENT ON FUNCTION iotmq.cursor_drop IS 'internal: a group reads a zone no longer';

-- cursor_move(cursor_id, next_offset): the group goes on there; its leases and waiting
-- retries in the zone are void; what was redriven is a dead letter again.
CREATE FUNCTION iotmq.cursor_move(cursor_id int, next_offset bigint) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq.lease_void(cursor_move.cursor_id);
	DELETE FROM iotmq_internal.redelivery AS r WHERE r.cursor_id = cursor_move.cursor_id;
	WITH dead AS (
		UPDATE iotmq_internal.dead_message AS d
		SET redriven = false
		WHERE d.cursor_id = cursor_move.cursor_id AND d.redriven
		RETURNING d.id
	)
	UPDATE iotmq_internal.cursor_state AS p
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

-- cursor_give_away(zone_id): the zone's cursors go on at another server. Those of this node are
-- not made here again until they come back: cursor_renumber.
CREATE FUNCTION iotmq.cursor_give_away(zone_id int) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO iotmq_internal.away_cursor (cursor_id, topic, consumer_group)
	SELECT c.cursor_id, t.topic, g.consumer_group
	FROM iotmq_internal.cursor AS c
	JOIN iotmq_internal.consumer_group AS g USING (group_id)
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE c.zone_id = cursor_give_away.zone_id
		AND c.cursor_id >> 14 = coalesce((SELECT n.node FROM iotmq_internal.node AS n), 0)
	ON CONFLICT (cursor_id) DO UPDATE SET topic = excluded.topic, consumer_group = excluded.consumer_group
$$;
COMMENT ON FUNCTION iotmq.cursor_give_away IS 'internal: keeps the numbers of cursors that go to another server';

-- cursor_renumber(cursor_id, new_id): the cursor, whose users are excluded, gets the id that its
-- group has in the zone it was moved from. Errors: 22023 it is no id of a cursor, or of this
-- node and not away as this group's, or in use.
CREATE FUNCTION iotmq.cursor_renumber(cursor_id int, new_id int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	this_node int := coalesce((SELECT n.node FROM iotmq_internal.node AS n), 0);
BEGIN
	IF new_id BETWEEN 1 AND (1 << 20) - 1 IS NOT TRUE OR new_id & 16383 = 0 THEN
		RAISE EXCEPTION '% is not the id of a cursor', new_id USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF cursor_id <> new_id AND new_id >> 14 = this_node AND NOT EXISTS (
		SELECT FROM iotmq_internal.away_cursor AS a
		JOIN iotmq_internal.topic AS t USING (topic)
		JOIN iotmq_internal.consumer_group AS g USING (topic_id, consumer_group)
		JOIN iotmq_internal.cursor AS c USING (group_id)
		WHERE a.cursor_id = new_id AND c.cursor_id = cursor_renumber.cursor_id)
	THEN
		RAISE EXCEPTION 'cursor % of the source is one of this server''s node, %', new_id, this_node
			USING ERRCODE = 'invalid_parameter_value',
				DETAIL = 'Its leases could not be told from those of this server.',
				HINT = 'Servers that move zones have a node each, from before their first consumer group on: SELECT iotmq.set_node(...);';
	END IF;
	IF cursor_id <> new_id THEN
		IF EXISTS (SELECT FROM iotmq_internal.cursor AS c WHERE c.cursor_id = new_id) THEN
			RAISE EXCEPTION 'cursor % of the source is in use here', new_id USING ERRCODE = 'invalid_parameter_value';
		END IF;
		INSERT INTO iotmq_internal.past_cursor AS past (cursor_id, last_lease)
		SELECT p.cursor_id, p.last_lease
		FROM iotmq_internal.cursor_state AS p
		WHERE p.cursor_id = cursor_renumber.cursor_id AND p.last_lease > 0
		ON CONFLICT ON CONSTRAINT past_cursor_pkey
		DO UPDATE SET last_lease = greatest(past.last_lease, excluded.last_lease);
		UPDATE iotmq_internal.lease AS l
		SET lease_id = l.lease_id - iotmq.lease_first(cursor_renumber.cursor_id) + iotmq.lease_first(new_id)
		WHERE l.lease_id >= iotmq.lease_first(cursor_renumber.cursor_id)
			AND l.lease_id < iotmq.lease_first(cursor_renumber.cursor_id + 1);
		UPDATE iotmq_internal.redelivery AS r SET cursor_id = new_id WHERE r.cursor_id = cursor_renumber.cursor_id;
		UPDATE iotmq_internal.dead_message AS d SET cursor_id = new_id WHERE d.cursor_id = cursor_renumber.cursor_id;
		UPDATE iotmq_internal.source_group AS s SET cursor_id = new_id WHERE s.cursor_id = cursor_renumber.cursor_id;
		UPDATE iotmq_internal.cursor_state AS p SET cursor_id = new_id WHERE p.cursor_id = cursor_renumber.cursor_id;
		UPDATE iotmq_internal.cursor AS c SET cursor_id = new_id WHERE c.cursor_id = cursor_renumber.cursor_id;
	END IF;
	DELETE FROM iotmq_internal.away_cursor AS a WHERE a.cursor_id = new_id;
END
$$;
COMMENT ON FUNCTION iotmq.cursor_renumber IS 'internal: gives a cursor the id that it has had on another server';
