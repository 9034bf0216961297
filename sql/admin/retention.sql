-- Retention: the messages of a segment go all at once.
--
-- Two steps. The first empties the segment by TRUNCATE, which wants a lock on the
-- segment alone: whoever uses others of the zone is not in the way. The second drops the
-- empty table, which wants the zone's table: queries on the topic and COPY use that, publish
-- and consume don't. A segment that can't be truncated, since a foreign key refers to the
-- topic or somebody has a trigger for it, is dropped in the first.
--
-- Locks, in this order: the rows of topic and zone, the use of the zone's cursors, which
-- keeps them from moving back to the segment (cursor_lock.c), the rows of those that still
-- have something of it, their leases, the zone's table (ACCESS EXCLUSIVE), the segment. All
-- NOWAIT, but for one try of the last one for a moment (retention_lock_table), so that
-- readers who overlap don't keep it busy for ever.
--
-- What is not dropped in time is in iotmq_internal.overdue, with who or what is in the way. Nothing
-- that users made of a segment goes along with it.

-- retention_state(segment, at): 'kept'; 'full', retention is to drop its messages; 'empty',
-- it is to drop its table. Messages go when the newest is older than the topic's retention
-- and, under policy 'consumed', every group has settled all of them or it is older than
-- max_retention; an empty table when its time is that old.
CREATE FUNCTION iotmq.retention_state(segment iotmq_internal.segment, at timestamptz) RETURNS text
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	topic iotmq_internal.topic;
	newest timestamptz;
	lowest bigint;
	highest bigint;
BEGIN
	SELECT t.* INTO topic
	FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE z.zone_id = segment.zone_id;
	IF segment.from_time > at - topic.retention AND NOT segment.emptied THEN
		RETURN 'kept';
	END IF;
	SELECT b.lowest, b.highest, b.newest INTO lowest, highest, newest
	FROM iotmq.segment_bounds(segment.table_name) AS b;
	IF newest IS NULL THEN
		RETURN CASE
			WHEN segment.to_time > clock_timestamp() THEN 'kept'
			WHEN segment.emptied OR segment.to_time <= at - topic.retention THEN 'empty'
			ELSE 'kept'
		END;
	END IF;
	IF newest > at - topic.retention THEN
		RETURN 'kept';
	END IF;
	IF newest <= at - topic.kept_for
		OR NOT EXISTS (
			SELECT
			FROM iotmq_internal.cursor AS c
			JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
			WHERE c.zone_id = segment.zone_id
				AND (p.next_offset <= highest
					OR EXISTS (
						SELECT FROM iotmq_internal.redelivery AS r
						WHERE r.cursor_id = c.cursor_id AND NOT r.redriven
							AND r.msg_offset BETWEEN lowest AND highest)
					OR EXISTS (
						SELECT FROM iotmq_internal.lease AS l
						WHERE l.lease_id >= iotmq.lease_first(c.cursor_id)
							AND l.lease_id < iotmq.lease_first(c.cursor_id + 1)
							AND l.first_offset <= highest AND l.last_offset >= lowest)))
	THEN
		RETURN 'full';
	END IF;
	RETURN 'kept';
END
$$;
COMMENT ON FUNCTION iotmq.retention_state IS 'internal: whether retention is to drop a segment';

-- retention_next(zone_id, at, after, state): the first segment of a zone that begins after
-- that time and is in that state; NULLs: there is none. Those that somebody has taken away
-- are left to retention_let_go, and those that can't be read to whoever mends them.
CREATE FUNCTION iotmq.retention_next(zone_id int, at timestamptz, after timestamptz, state text) RETURNS iotmq_internal.segment
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	left_out timestamptz[] := ARRAY(
		SELECT l.from_time FROM iotmq.segment_lost() AS l WHERE l.zone_id = retention_next.zone_id
		UNION ALL
		SELECT u.from_time FROM iotmq.segment_unreadable(retention_next.zone_id) AS u);
	segment iotmq_internal.segment;
BEGIN
	IF EXISTS (SELECT FROM iotmq_internal.zone AS z WHERE z.zone_id = retention_next.zone_id AND z.state = 'fenced') THEN
		RETURN NULL;			-- what moves is to be the same at its end
	END IF;
	FOR segment IN
		SELECT s.*
		FROM iotmq_internal.segment AS s
		WHERE s.zone_id = retention_next.zone_id AND s.from_time > after AND s.from_time <> ALL (left_out)
		ORDER BY s.from_time
	LOOP
		IF iotmq.retention_state(segment, at) = state THEN
			RETURN segment;
		END IF;
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION iotmq.retention_next IS 'internal: the next segment that retention is to drop';

-- retention_cursors(segment): the cursors that may still have something of it.
CREATE FUNCTION iotmq.retention_cursors(segment iotmq_internal.segment) RETURNS SETOF int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lowest bigint := CASE WHEN segment.sealed THEN segment.first_offset ELSE 0 END;
	highest bigint := CASE WHEN segment.sealed THEN segment.last_offset ELSE 9223372036854775807 END;
BEGIN
	RETURN QUERY
	SELECT c.cursor_id
	FROM iotmq_internal.cursor AS c
	JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
	WHERE c.zone_id = segment.zone_id AND (p.next_offset <= highest
		OR p.redeliveries > 0 AND EXISTS (SELECT FROM iotmq_internal.redelivery AS r
			WHERE r.cursor_id = c.cursor_id AND r.msg_offset BETWEEN lowest AND highest)
		OR EXISTS (SELECT FROM iotmq_internal.lease AS l
			WHERE l.lease_id >= iotmq.lease_first(c.cursor_id)
				AND l.lease_id < iotmq.lease_first(c.cursor_id + 1)
				AND l.first_offset <= highest AND l.last_offset >= lowest));
END
$$;
COMMENT ON FUNCTION iotmq.retention_cursors IS 'internal: the cursors that may have something of a segment';

-- retention_lock_zone(zone_id): so that no group is being made, and one run is at work in
-- the zone. Raises 55P03.
CREATE FUNCTION iotmq.retention_lock_zone(zone_id int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE z.zone_id = retention_lock_zone.zone_id
	FOR SHARE OF t NOWAIT
	FOR NO KEY UPDATE OF z NOWAIT;
END
$$;
COMMENT ON FUNCTION iotmq.retention_lock_zone IS 'internal: locks a zone for retention';

-- retention_lock_cursors(segment): what is past the segment stays past it, and what is
-- not, is ours. Raises 55P03.
CREATE FUNCTION iotmq.retention_lock_cursors(segment iotmq_internal.segment) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lowest bigint := CASE WHEN segment.sealed THEN segment.first_offset ELSE 0 END;
	highest bigint := CASE WHEN segment.sealed THEN segment.last_offset ELSE 9223372036854775807 END;
BEGIN
	IF EXISTS (SELECT FROM iotmq_internal.cursor AS c WHERE c.zone_id = segment.zone_id AND NOT iotmq.cursor_lock_use(c.cursor_id, false)) THEN
		RAISE lock_not_available;
	END IF;
	PERFORM FROM iotmq_internal.cursor_state AS p
	WHERE p.cursor_id IN (SELECT c FROM iotmq.retention_cursors(segment) AS c)
	FOR UPDATE OF p NOWAIT;
	PERFORM FROM iotmq_internal.cursor AS c
	JOIN iotmq_internal.lease AS l ON l.lease_id >= iotmq.lease_first(c.cursor_id)
		AND l.lease_id < iotmq.lease_first(c.cursor_id + 1)
	WHERE c.zone_id = segment.zone_id AND l.first_offset <= highest AND l.last_offset >= lowest
	FOR UPDATE OF l NOWAIT;
END
$$;
COMMENT ON FUNCTION iotmq.retention_lock_cursors IS 'internal: locks what groups have of a segment';

-- retention_lock_table(name, waits): ACCESS EXCLUSIVE. With waits in a queue, for the 100 ms
-- of the caller's lock_timeout: for so long others wait, too. Raises 55P03.
CREATE FUNCTION iotmq.retention_lock_table(name regclass, waits boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE %s', name, CASE WHEN NOT waits THEN 'NOWAIT' END);
END
$$;
COMMENT ON FUNCTION iotmq.retention_lock_table IS 'internal: locks a table for retention';

-- retention_holders(segment, step): who holds what retention waits for in that step: zone,
-- cursors, segment, table (the zone's and the segment's). NULL: nobody any more.
CREATE FUNCTION iotmq.retention_holders(segment iotmq_internal.segment, step text) RETURNS text
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	WITH zone AS (
		SELECT z.table_name, z.xmax AS zone_holder, t.xmax AS topic_holder
		FROM iotmq_internal.zone AS z
		JOIN iotmq_internal.topic AS t USING (topic_id)
		WHERE z.zone_id = segment.zone_id
	), holder AS (
		SELECT DISTINCT l.pid, l.virtualtransaction
		FROM pg_locks AS l
		CROSS JOIN zone AS z
		WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
			AND CASE step
				WHEN 'zone' THEN l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock'
					AND l.transactionid IN (z.zone_holder, z.topic_holder)
				WHEN 'cursors' THEN l.locktype = 'object' AND l.classid = 'iotmq_internal.cursor'::regclass
					AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
					AND l.objid::int IN (SELECT c FROM iotmq.retention_cursors(segment) AS c)
				ELSE l.locktype = 'relation'
					AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
					AND (l.relation = segment.table_name OR step = 'table' AND l.relation = z.table_name)
			END
	)
	SELECT string_agg(n.name, ', ' ORDER BY n.name)
	FROM (
		SELECT format('pid %s (%s)', a.pid, coalesce(nullif(a.application_name, ''), a.backend_type)) AS name
		FROM holder AS h
		JOIN pg_stat_activity AS a USING (pid)
		UNION ALL
		SELECT format('prepared transaction %L', p.gid)
		FROM holder AS h
		JOIN pg_locks AS x ON x.virtualtransaction = h.virtualtransaction
			AND x.pid IS NULL AND x.locktype = 'transactionid'
		JOIN pg_prepared_xacts AS p ON p.transaction = x.transactionid
		WHERE h.pid IS NULL
	) AS n
$$;
COMMENT ON FUNCTION iotmq.retention_holders IS 'internal: who is in retention''s way';

-- retention_dependents(segment): what users made of its table.
CREATE FUNCTION iotmq.retention_dependents(segment regclass) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(DISTINCT coalesce(
			'view ' || w.ev_class::regclass,
			'foreign key of table ' || f.conrelid::regclass,
			pg_describe_object(d.classid, d.objid, d.objsubid)), ', ')
	FROM pg_depend AS d
	LEFT JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
	LEFT JOIN pg_constraint AS f ON d.classid = 'pg_constraint'::regclass AND f.oid = d.objid
	WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = segment AND d.deptype = 'n'
		AND f.conrelid IS DISTINCT FROM segment
$$;
COMMENT ON FUNCTION iotmq.retention_dependents IS 'internal: what users made of a segment';

-- retention_can_truncate(segment): nothing refers to it, and nobody's code would run.
CREATE FUNCTION iotmq.retention_can_truncate(segment regclass) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.confrelid = segment AND c.contype = 'f')
		AND NOT EXISTS (SELECT FROM pg_trigger AS g
			WHERE g.tgrelid = segment AND NOT g.tgisinternal AND g.tgtype & 32 <> 0);	-- of TRUNCATE
COMMENT ON FUNCTION iotmq.retention_can_truncate IS 'internal: whether a segment can be truncated';

-- retention_drop_table(segment): the segment's table and its row, under the lock of the
-- zone's table. A foreign key to the topic lets a partition go that no row refers to. Raises
-- 2BP01 if something else depends on it, 23503 if a row does.
CREATE FUNCTION iotmq.retention_drop_table(segment iotmq_internal.segment) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.epoch_note(segment.zone_id);
	BEGIN
		EXECUTE format('DROP TABLE %s', segment.table_name);
	EXCEPTION WHEN dependent_objects_still_exist THEN
		EXECUTE format('ALTER TABLE %s DETACH PARTITION %s',
			(SELECT z.table_name FROM iotmq_internal.zone AS z WHERE z.zone_id = segment.zone_id), segment.table_name);
		EXECUTE format('DROP TABLE %s', segment.table_name);
	END;
	DELETE FROM iotmq_internal.segment AS s
	WHERE s.zone_id = segment.zone_id AND s.from_time = segment.from_time;
END
$$;
COMMENT ON FUNCTION iotmq.retention_drop_table IS 'internal: drops the table of a segment';

-- retention_note_earliest(segment): what a zone begins with when a sealed segment is gone.
-- An offset below its last one may be drawn and not written yet, by a publisher that came
-- when the segment was closed already: so what is decided counts, as groups know it, too.
CREATE FUNCTION iotmq.retention_note_earliest(segment iotmq_internal.segment) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE iotmq_internal.zone AS z
	SET earliest_offset = greatest(z.earliest_offset,
		least(iotmq.offset_lowest(z.zone_id, coalesce((
				SELECT max(p.stable_offset)
				FROM iotmq_internal.cursor AS c
				JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
				WHERE c.zone_id = z.zone_id), 0)),
			least(segment.last_offset, 9223372036854775806) + 1))
	WHERE z.zone_id = segment.zone_id AND segment.last_offset IS NOT NULL
$$;
COMMENT ON FUNCTION iotmq.retention_note_earliest IS 'internal: notes what a zone begins with after a segment is gone';

-- retention_note_overdue(segment, in_the_way, unreadable): the run could not drop it, or read it.
-- NULL: it could.
CREATE FUNCTION iotmq.retention_note_overdue(segment iotmq_internal.segment, in_the_way text,
		unreadable boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF in_the_way IS NULL THEN
		DELETE FROM iotmq_internal.overdue AS o WHERE o.zone_id = segment.zone_id AND o.from_time = segment.from_time;
	ELSE
		INSERT INTO iotmq_internal.overdue AS o (zone_id, from_time, in_the_way, unreadable)
		VALUES (segment.zone_id, segment.from_time, in_the_way, unreadable)
		ON CONFLICT ON CONSTRAINT overdue_pkey
		DO UPDATE SET tried_at = excluded.tried_at, in_the_way = excluded.in_the_way, unreadable = excluded.unreadable;
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.retention_note_overdue IS 'internal: notes a segment that retention could not drop';

-- retention_reason(segment, step, sqlstate, message): why an attempt failed, in words for
-- operators. Not of the form RETURN: nobody could add a column to the table then.
CREATE FUNCTION iotmq.retention_reason(segment iotmq_internal.segment, step text, sqlstate text, message text) RETURNS text
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN sqlstate = '55P03' OR sqlstate = '42P01' THEN coalesce('in use by ' || iotmq.retention_holders(segment, step), 'in use')
		WHEN sqlstate IN ('2BP01', '23503') THEN coalesce('needed by ' || iotmq.retention_dependents(segment.table_name), 'needed by other objects')
		ELSE iotmq.call_plain_message(message)
	END
$$;
COMMENT ON FUNCTION iotmq.retention_reason IS 'internal: why retention could not drop a segment';

-- retention_empty(segment, at, waits): takes its messages, under the locks of the zone and
-- the cursors. False: it is not expired any more. The segment of the present is not
-- to be dropped afterwards.
CREATE FUNCTION iotmq.retention_empty(segment iotmq_internal.segment, at timestamptz, waits boolean) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	truncates boolean := iotmq.retention_can_truncate(segment.table_name);
BEGIN
	IF segment.sealed THEN
		-- Counting may take a while: before the locks that others meet. Groups that have nothing of it
		-- are not held up.
		IF NOT waits AND iotmq.retention_holders(segment, CASE WHEN truncates THEN 'segment' ELSE 'table' END) IS NOT NULL THEN
			RAISE lock_not_available;
		END IF;
		PERFORM iotmq.forget_segment(ARRAY(SELECT iotmq.retention_cursors(segment)), segment.table_name);
	END IF;
	IF NOT truncates THEN
		PERFORM iotmq.retention_lock_table(z.table_name, waits)
		FROM iotmq_internal.zone AS z
		WHERE z.zone_id = segment.zone_id;
	END IF;
	PERFORM iotmq.retention_lock_table(segment.table_name, waits);
	IF NOT segment.sealed THEN
		IF iotmq.retention_state(segment, at) <> 'full' THEN
			RETURN false;		-- a publisher was faster
		END IF;
		PERFORM iotmq.forget_segment(ARRAY(SELECT iotmq.retention_cursors(segment)), segment.table_name);
	END IF;
	IF truncates THEN
		PERFORM iotmq.epoch_note(segment.zone_id);
		EXECUTE format('TRUNCATE %s', segment.table_name);
		UPDATE iotmq_internal.segment AS s
		SET emptied = true, first_offset = NULL, last_offset = NULL,
			bytes = CASE WHEN s.sealed THEN pg_total_relation_size(s.table_name) END
		WHERE s.zone_id = segment.zone_id AND s.from_time = segment.from_time AND s.to_time <= clock_timestamp();
	ELSE
		PERFORM iotmq.retention_drop_table(segment);
	END IF;
	PERFORM iotmq.retention_note_earliest(segment);
	RETURN true;
END
$$;
COMMENT ON FUNCTION iotmq.retention_empty IS 'internal: takes the messages of a segment';

-- retention_note_busy(zone_id, at): the zone can't be had; notes what is overdue in any case.
-- busy: in words, NULL: nothing is.
CREATE FUNCTION iotmq.retention_note_busy(zone_id int, at timestamptz, OUT busy text)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	segment iotmq_internal.segment;
	reason text;
BEGIN
	FOR segment IN
		SELECT s.*
		FROM iotmq_internal.segment AS s
		JOIN iotmq_internal.zone AS z USING (zone_id)
		JOIN iotmq_internal.topic AS t USING (topic_id)
		WHERE s.zone_id = retention_note_busy.zone_id AND s.to_time <= at - t.kept_for
		ORDER BY s.from_time
	LOOP
		reason := coalesce(reason, iotmq.retention_reason(segment, 'zone', '55P03', NULL));
		busy := coalesce(busy, format(' from %s: %s', segment.from_time, reason));
		PERFORM iotmq.retention_note_overdue(segment, reason);
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.retention_note_busy IS 'internal: notes what is overdue in a zone that is busy';

-- retention_free(zone_id, at, after, waits): takes the messages of the first expired segment
-- of a zone that begins after that time. segment_time: its beginning, NULL: there is
-- none, or the zone is busy; done: whether it could; busy: what is in the way. Tries for a
-- moment where something is busy: the lock of a consumer lasts a fraction of a millisecond.
-- With waits once more in a queue, see retention_lock_table.
CREATE FUNCTION iotmq.retention_free(zone_id int, at timestamptz, after timestamptz, waits boolean,
		OUT segment_time timestamptz, OUT done boolean, OUT busy text)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	segment iotmq_internal.segment;
	tries int := CASE WHEN waits THEN 11 ELSE 10 END;
	step text;
	reason text;
BEGIN
	FOR try IN 1..tries LOOP
		BEGIN
			done := false;
			reason := NULL;
			step := 'zone';
			PERFORM iotmq.retention_lock_zone(zone_id);
			segment := iotmq.retention_next(zone_id, at, after, 'full');
			segment_time := segment.from_time;
			IF segment_time IS NOT NULL THEN
				step := 'cursors';
				PERFORM iotmq.retention_lock_cursors(segment);
				-- unless somebody went back to it
				IF iotmq.retention_state(segment, at) = 'full' THEN
					step := CASE WHEN iotmq.retention_can_truncate(segment.table_name) THEN 'segment' ELSE 'table' END;
					done := iotmq.retention_empty(segment, at, try > 10);
					PERFORM iotmq.retention_note_overdue(segment, NULL);
				END IF;
			END IF;
			RETURN;
		EXCEPTION
			WHEN lock_not_available OR undefined_table THEN
				done := false;
				reason := '55P03';
				IF try < 10 THEN
					PERFORM pg_sleep(0.005);
				END IF;
			WHEN OTHERS THEN
				IF segment_time IS NULL THEN
					RAISE;
				END IF;
				done := false;
				reason := SQLSTATE;
				busy := SQLERRM;
				EXIT;
		END;
	END LOOP;
	IF segment_time IS NULL THEN
		busy := iotmq.retention_note_busy(zone_id, at);
	ELSE
		reason := iotmq.retention_reason(segment, step, reason, busy);
		busy := format(' from %s: %s', segment_time, reason);
		PERFORM iotmq.retention_note_overdue(segment, reason);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.retention_free IS 'internal: takes the messages of one expired segment';

-- retention_drop(zone_id, at, after, waits): drops empty segments of a zone that are expired
-- and begin after that time, for as long as a reader may wait for it. next: where to
-- go on, NULL: there is none; dropped: those of them that retention had not emptied; busy:
-- what is in the way, of each segment that stays.
CREATE FUNCTION iotmq.retention_drop(zone_id int, at timestamptz, after timestamptz, waits boolean,
		OUT next timestamptz, OUT dropped int, OUT busy text[])
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	segment iotmq_internal.segment;
	tries int := CASE WHEN waits THEN 11 ELSE 10 END;
	finish timestamptz;
	is_busy boolean;
	reason text;
BEGIN
	dropped := 0;
	FOR try IN 1..tries LOOP
		BEGIN
			is_busy := false;
			PERFORM iotmq.retention_lock_zone(zone_id);
			segment := iotmq.retention_next(zone_id, at, after, 'empty');
			IF segment.zone_id IS NULL THEN
				RETURN;
			END IF;
			PERFORM iotmq.retention_lock_table(z.table_name, try > 10)
			FROM iotmq_internal.zone AS z
			WHERE z.zone_id = retention_drop.zone_id;
			EXIT;
		EXCEPTION WHEN lock_not_available OR undefined_table THEN
			is_busy := true;
			IF try < 10 THEN
				PERFORM pg_sleep(0.005);
			END IF;
		END;
	END LOOP;
	IF is_busy AND segment.zone_id IS NULL THEN
		RETURN;					-- nobody has looked: what is overdue was noted before
	END IF;
	IF is_busy THEN
		reason := iotmq.retention_reason(segment, 'table', '55P03', NULL);
		busy := ARRAY[format(' from %s: empty, %s', segment.from_time, reason)];
		-- the same is in the way of those behind it
		WHILE segment.zone_id IS NOT NULL LOOP
			PERFORM iotmq.retention_note_overdue(segment, reason);
			segment := iotmq.retention_next(zone_id, at, segment.from_time, 'empty');
		END LOOP;
		RETURN;
	END IF;

	finish := clock_timestamp() + interval '50 ms';
	WHILE segment.zone_id IS NOT NULL LOOP
		next := segment.from_time;
		BEGIN
			PERFORM iotmq.retention_lock_table(segment.table_name, false);
			IF iotmq.retention_state(segment, at) = 'empty' THEN	-- or a publisher was faster
				PERFORM iotmq.retention_drop_table(segment);
				PERFORM iotmq.retention_note_overdue(segment, NULL);
				dropped := dropped + (NOT segment.emptied)::int;
			END IF;
		EXCEPTION WHEN OTHERS THEN
			reason := iotmq.retention_reason(segment, 'segment', SQLSTATE, SQLERRM);
			busy := array_append(busy, format(' from %s: empty, %s', segment.from_time, reason));
			PERFORM iotmq.retention_note_overdue(segment, reason);
		END;
		IF clock_timestamp() > finish THEN
			RETURN;
		END IF;
		segment := iotmq.retention_next(zone_id, at, next, 'empty');
	END LOOP;
	next := NULL;
END
$$;
COMMENT ON FUNCTION iotmq.retention_drop IS 'internal: drops empty segments that are expired';

-- retention_lost_messages(segment, from_offset): how many messages were in a segment that
-- somebody has dropped, from that offset on: offsets that no other segment has. Holes
-- count, since nobody knows any more.
CREATE FUNCTION iotmq.retention_lost_messages(segment iotmq_internal.segment, from_offset bigint) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone iotmq_internal.zone;
	lowest bigint := segment.first_offset;
	highest bigint := segment.last_offset;
	there bigint;
BEGIN
	SELECT z.* INTO zone FROM iotmq_internal.zone AS z WHERE z.zone_id = segment.zone_id;
	IF NOT segment.sealed THEN
		-- between those before it and those after it
		SELECT coalesce(max(b.highest) + 1, zone.earliest_offset) INTO lowest
		FROM iotmq_internal.segment AS s
		CROSS JOIN LATERAL iotmq.segment_bounds(s.table_name) AS b
		WHERE s.zone_id = segment.zone_id AND s.from_time < segment.from_time;
		SELECT coalesce(min(b.lowest), (SELECT o.stable_offset FROM iotmq.overview_zone_offsets(segment.zone_id) AS o)) - 1 INTO highest
		FROM iotmq_internal.segment AS s
		CROSS JOIN LATERAL iotmq.segment_bounds(s.table_name) AS b
		WHERE s.zone_id = segment.zone_id AND s.from_time > segment.from_time;
	END IF;
	lowest := greatest(lowest, from_offset);
	IF lowest IS NULL OR highest IS NULL OR lowest > highest THEN
		RETURN 0;
	END IF;
	IF EXISTS (SELECT FROM pg_class AS k WHERE k.oid = zone.table_name AND iotmq.table_owner_is_harmless(zone.table_name)) THEN
		EXECUTE format('SELECT count(*) FROM %s WHERE %s BETWEEN $1 AND $2', zone.table_name,
				(iotmq.message_columns(zone.table_name))[2])
			INTO there USING lowest, highest;
	END IF;
	RETURN greatest(0, highest - lowest + 1 - coalesce(there, 0) - coalesce((
		SELECT sum(greatest(0, least(highest + 1, g.first_offset) - greatest(lowest, g.last_before + 1)))
		FROM iotmq_internal.zone_gap AS g
		WHERE g.zone_id = segment.zone_id), 0));
END
$$;
COMMENT ON FUNCTION iotmq.retention_lost_messages IS 'internal: how many messages were in a segment that somebody has dropped';

-- retention_forget_lost(segment, state): what groups had of a segment that is not iotmq's any
-- more is counted as expired unread. Its rows are read if they are there; else leases and
-- retries end when it is their turn.
CREATE FUNCTION iotmq.retention_forget_lost(segment iotmq_internal.segment, state text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF state <> 'dropped' THEN
		BEGIN
			PERFORM iotmq.forget_segment(ARRAY(SELECT iotmq.retention_cursors(segment)), segment.table_name);
			RETURN;
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			NULL;				-- its owner has changed it: as if it was dropped
		END;
	END IF;
	BEGIN
		UPDATE iotmq_internal.cursor_state AS p
		SET expired_unread = p.expired_unread + iotmq.retention_lost_messages(segment, p.next_offset)
		WHERE p.cursor_id IN (SELECT c FROM iotmq.retention_cursors(segment) AS c);
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
		NULL;					-- its neighbours can't be read: nobody can tell how many they were
	END;
END
$$;
COMMENT ON FUNCTION iotmq.retention_forget_lost IS 'internal: ends what groups have of a segment that somebody has taken away';

-- retention_let_go(zone_id): lets go of segments that somebody has dropped, detached or
-- moved to another schema: their rows go, what groups had of them is counted as when
-- retention drops them, and the table is left to whoever took it. let_go: how many; busy:
-- what is in the way, of each that stays.
CREATE FUNCTION iotmq.retention_let_go(zone_id int, OUT let_go int, OUT busy text[])
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	zone_table regclass := (SELECT z.table_name FROM iotmq_internal.zone AS z WHERE z.zone_id = retention_let_go.zone_id);
	lost record;
	segment iotmq_internal.segment;
	step text;
	reason text;
BEGIN
	let_go := 0;
	FOR lost IN
		SELECT l.from_time, l.state
		FROM iotmq.segment_lost() AS l
		WHERE l.zone_id = retention_let_go.zone_id
		ORDER BY l.from_time
	LOOP
		SELECT s.* INTO segment
		FROM iotmq_internal.segment AS s
		WHERE s.zone_id = retention_let_go.zone_id AND s.from_time = lost.from_time;
		BEGIN
			step := 'zone';
			PERFORM iotmq.retention_lock_zone(zone_id);
			step := 'cursors';
			PERFORM iotmq.retention_lock_cursors(segment);
			PERFORM iotmq.zone_lock_change(zone_id);
			step := 'table';
			IF lost.state = 'moved' THEN
				PERFORM iotmq.retention_lock_table(zone_table, false);
				EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', zone_table, segment.table_name);
			END IF;
			PERFORM iotmq.epoch_note(zone_id);
			PERFORM iotmq.retention_forget_lost(segment, lost.state);
			DELETE FROM iotmq_internal.segment AS s
			WHERE s.zone_id = segment.zone_id AND s.from_time = segment.from_time;
			PERFORM iotmq.retention_note_earliest(segment);
			let_go := let_go + 1;
		EXCEPTION WHEN OTHERS THEN
			reason := iotmq.retention_reason(segment, step, SQLSTATE, SQLERRM);
			busy := array_append(busy, format(' from %s: %s, but %s', segment.from_time, lost.state, reason));
			PERFORM iotmq.retention_note_overdue(segment, reason);
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.retention_let_go IS 'internal: lets go of segments that somebody has taken away';

-- retention_note_unreadable(zone_id): segments that can't be read are overdue from then on: nobody
-- can tell what is in them. busy: each, with the reason.
CREATE FUNCTION iotmq.retention_note_unreadable(zone_id int, OUT busy text[])
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	one record;
BEGIN
	FOR one IN
		SELECT s AS segment, u.from_time, u.reason
		FROM iotmq.segment_unreadable(retention_note_unreadable.zone_id) AS u
		JOIN iotmq_internal.segment AS s USING (zone_id, from_time)
		ORDER BY u.from_time
	LOOP
		busy := array_append(busy, format(' from %s: %s', one.from_time, one.reason));
		PERFORM iotmq.retention_note_overdue(one.segment, one.reason, true);
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.retention_note_unreadable IS 'internal: notes the segments that can''t be read';

-- retention_tidy(zone_id, started_at): what the run that began then did not find overdue is
-- overdue no more.
CREATE FUNCTION iotmq.retention_tidy(zone_id int, started_at timestamptz) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	DELETE FROM iotmq_internal.overdue AS o
	WHERE o.zone_id = retention_tidy.zone_id AND o.tried_at < started_at
$$;
COMMENT ON FUNCTION iotmq.retention_tidy IS 'internal: forgets what is not overdue any more';

-- retention_move_earliest(zone_id): notes the lowest offset that the zone still has; groups
-- that stand below it go on there, but for those that are busy.
CREATE FUNCTION iotmq.retention_move_earliest(zone_id int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	earliest bigint;
BEGIN
	PERFORM FROM iotmq_internal.zone AS z
	WHERE z.zone_id = retention_move_earliest.zone_id AND z.state <> 'fenced'
	FOR NO KEY UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN;					-- dropped or fenced meanwhile, or busy: the next run does it
	END IF;
	earliest := iotmq.offset_at(zone_id, '4000-01-01 BC');
	PERFORM iotmq.epoch_note(zone_id);
	UPDATE iotmq_internal.zone AS z
	SET earliest_offset = earliest
	WHERE z.zone_id = retention_move_earliest.zone_id AND z.earliest_offset < earliest;
	UPDATE iotmq_internal.cursor_state AS p
	SET next_offset = earliest
	FROM (
		SELECT p.cursor_id
		FROM iotmq_internal.cursor AS c
		JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
		WHERE c.zone_id = retention_move_earliest.zone_id AND p.next_offset < earliest
		FOR UPDATE OF p SKIP LOCKED
	) AS behind
	WHERE p.cursor_id = behind.cursor_id AND p.next_offset < earliest;
EXCEPTION WHEN lock_not_available THEN
	RETURN;						-- somebody is dropping a segment or the zone
END
$$;
COMMENT ON FUNCTION iotmq.retention_move_earliest IS 'internal: notes the earliest offset of a zone';
