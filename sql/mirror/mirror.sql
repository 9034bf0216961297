-- Mirrors: zones that follow those of other servers. docs/mirrors.md shows how they are used.
--
-- What the administrator calls runs as himself: so the connection is made with his user
-- mapping, and nobody gets at that of another. Between questions to the source it calls steps
-- that run as the owner. These trust no argument: what they get may be of the source, and a
-- step can be called by every administrator.
--
-- A pull asks the source for its settings and state, for what its groups have, and for messages,
-- in this order: a position never is above the messages. It stores all of it in one
-- transaction, with the position up to which it has come; readers of a mirror go by that
-- (src/log/end.c). Nothing of it is seen before the commit, and nothing comes twice.
--
-- Locks: the zone's pull lock, to the end of the transaction; while the source is asked, no
-- other. Then the zone's row, if sealing can go on, those of import.c, and the mirror's row.

-- mirror_describe(topic, zone): mirror_source, as the owner. sealed_until, sealed_last: all
-- messages that were published before that time are final, and none has a higher offset.
CREATE FUNCTION iotmq.mirror_describe(topic text, zone text) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET IntervalStyle = postgres
	SET TimeZone = 'UTC'
AS $$
DECLARE
	id int := iotmq.call_zone_id(topic, zone);
	sealed record;
	result jsonb;
BEGIN
	SELECT max(s.to_time) AS until, max(s.last_offset) AS last INTO sealed
	FROM iotmq_internal.segment AS s
	WHERE s.zone_id = id AND s.sealed
		AND NOT EXISTS (SELECT FROM iotmq_internal.segment AS o
			WHERE o.zone_id = id AND NOT o.sealed AND o.from_time < s.to_time);
	SELECT jsonb_build_object(
		'format', 1,
		'topic', jsonb_build_object('retention', t.retention, 'segment_interval', t.segment_interval,
			'retention_policy', t.retention_policy, 'max_retention', t.max_retention,
			'device_index', t.device_index, 'dedup_window', t.dedup_window),
		'state', z.state,
		'handed_over', z.handed_over,
		'moved_to', z.elsewhere,
		'fence', z.fence::text,
		'earliest', z.earliest_offset,
		'stable', o.stable_offset,
		'end', o.end_offset,
		'sealed_until', sealed.until,
		'sealed_last', coalesce(sealed.last, 0),
		'gaps', coalesce((
			SELECT jsonb_agg(jsonb_build_object('epoch', g.epoch, 'first_offset', g.first_offset,
				'last_before', g.last_before, 'began_at', g.began_at) ORDER BY g.epoch)
			FROM iotmq.mirror_gaps(id) AS g), '[]'))
	INTO result
	FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	CROSS JOIN LATERAL iotmq.overview_zone_offsets(z.zone_id) AS o
	WHERE z.zone_id = id;
	RETURN result;
END
$$;
COMMENT ON FUNCTION iotmq.mirror_describe IS 'internal: what a mirror asks of its source';

-- mirror_gaps(zone_id): the gaps in its offsets, noted or not.
CREATE FUNCTION iotmq.mirror_gaps(zone_id int, OUT epoch int, OUT first_offset bigint,
		OUT last_before bigint, OUT began_at timestamptz) RETURNS SETOF record
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT n.epoch, n.first_offset, n.last_before, n.began_at
	FROM iotmq_internal.zone_gap AS n
	WHERE n.zone_id = mirror_gaps.zone_id
	UNION ALL
	SELECT f.epoch, f.first_offset, f.last_before, f.began_at
	FROM iotmq.epoch_gaps(mirror_gaps.zone_id, false) AS f
$$;
COMMENT ON FUNCTION iotmq.mirror_gaps IS 'internal: the gaps in the offsets of a zone';

-- mirror_read(described): what a source has said of its zone, as far as offsets go. Errors: 55000
-- it is of another version, 22023 it makes no sense.
CREATE FUNCTION iotmq.mirror_read(described jsonb, OUT state text, OUT earliest bigint, OUT stable bigint,
		OUT end_offset bigint, OUT sealed_until timestamptz, OUT sealed_last bigint)
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF described ->> 'format' IS DISTINCT FROM '1' THEN
		RAISE EXCEPTION 'the source speaks another version of iotmq'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Update both servers: ALTER EXTENSION iotmq UPDATE;';
	END IF;
	state := described ->> 'state';
	earliest := (described ->> 'earliest')::bigint;
	stable := (described ->> 'stable')::bigint;
	end_offset := (described ->> 'end')::bigint;
	sealed_until := (described ->> 'sealed_until')::timestamptz;
	sealed_last := (described ->> 'sealed_last')::bigint;
	IF state IS NULL OR coalesce(earliest BETWEEN 1 AND end_offset AND stable BETWEEN 0 AND end_offset
		AND sealed_last >= 0 AND jsonb_typeof(described -> 'gaps') = 'array', false) IS FALSE
	THEN
		RAISE EXCEPTION 'the offsets of the source make no sense'
			USING ERRCODE = 'invalid_parameter_value',
				DETAIL = format('It begins at %s, is stable up to %s and ends at %s.', earliest, stable, end_offset);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.mirror_read IS 'internal: the offsets of a source';

-- mirror_read_gaps(described): the gaps that a source has said it has. Errors: 22023 they make no sense.
CREATE FUNCTION iotmq.mirror_read_gaps(described jsonb, OUT epoch int, OUT first_offset bigint,
		OUT last_before bigint, OUT began_at timestamptz) RETURNS SETOF record
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	before bigint := 0;
BEGIN
	FOR epoch, first_offset, last_before, began_at IN
		SELECT r.epoch, r.first_offset, r.last_before, r.began_at
		FROM jsonb_to_recordset(described -> 'gaps')
			AS r (epoch int, first_offset bigint, last_before bigint, began_at timestamptz)
		ORDER BY r.epoch
	LOOP
		IF coalesce(epoch > 0 AND first_offset = epoch::bigint << 32 AND last_before BETWEEN 0 AND first_offset - 1
			AND first_offset > before AND isfinite(coalesce(began_at, 'epoch')), false) IS FALSE
		THEN
			RAISE EXCEPTION 'the epochs of the source make no sense'
				USING ERRCODE = 'invalid_parameter_value',
					DETAIL = format('Epoch %s begins at offset %s, behind %s.', epoch, first_offset, last_before);
		END IF;
		before := first_offset;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.mirror_read_gaps IS 'internal: the gaps in the offsets of a source';

-- mirror_missing(described, from_offset, to_offset): how many offsets between these the source
-- never had.
CREATE FUNCTION iotmq.mirror_missing(described jsonb, from_offset bigint, to_offset bigint) RETURNS bigint
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(sum(greatest(0, least(to_offset, g.first_offset) - greatest(from_offset, g.last_before + 1))), 0)::bigint
	FROM iotmq.mirror_read_gaps(described) AS g
$$;
COMMENT ON FUNCTION iotmq.mirror_missing IS 'internal: how many offsets a source never had';

-- mirror_require_kept(topic, zone, source, next_offset, last_offset, described): raises 55000 if the mirror, which
-- stands at next_offset and has no message above last_offset, has some that the source has lost
-- in a recovery. That it has passed holes which were lost doesn't matter.
CREATE FUNCTION iotmq.mirror_require_kept(topic text, zone text, source text, next_offset bigint, last_offset bigint,
		described jsonb) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	offsets record := iotmq.mirror_read(described);
	last_before bigint := least(offsets.end_offset - 1, (
		SELECT min(g.last_before)
		FROM iotmq.mirror_read_gaps(described) AS g
		WHERE next_offset > g.last_before + 1 AND next_offset < g.first_offset));
BEGIN
	IF last_offset > last_before THEN
		RAISE EXCEPTION 'the source has lost messages that the mirror has'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = format('The mirror has messages up to offset %s; the source, restored or recovered to an earlier time, has none above offset %s.',
					last_offset, last_before),
				HINT = format('Let the mirror own the zone: SELECT iotmq.promote_zone(%1$L, %2$L, force => true), or let it forget what the source has lost: SELECT iotmq.demote_zone(%1$L, %2$L, %3$L);',
					topic, zone, source);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.mirror_require_kept IS 'internal: raises an error if a source has lost what its mirror has';

-- mirror_check_new(topic, zone): raises an error if there is such a zone: 42710 it is a mirror,
-- 55000 it is none; 22004 and 42602 of their names.
CREATE FUNCTION iotmq.mirror_check_new(topic text, zone text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	state text;
BEGIN
	PERFORM iotmq.call_check_name('topic', topic), iotmq.call_check_name('zone', zone);
	SELECT z.state INTO state
	FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE t.topic = mirror_check_new.topic AND z.zone = mirror_check_new.zone;
	IF state = 'mirror' THEN
		RAISE EXCEPTION 'zone "%" of topic "%" is a mirror already', zone, topic
			USING ERRCODE = 'duplicate_object', HINT = format('Fill it: SELECT iotmq.pull(%L, %L);', topic, zone);
	END IF;
	IF state IS NOT NULL THEN
		RAISE EXCEPTION 'zone "%" of topic "%" exists, and is no mirror', zone, topic
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format('If the other server has taken over, let it follow that: SELECT iotmq.demote_zone(%L, %L, ...);', topic, zone);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.mirror_check_new IS 'internal: raises an error if there is such a zone';

-- mirror_create(topic, zone, source, source_zone, described, groups): makes the mirror, empty,
-- and its topic, if that is missing, as the source has described it.
CREATE FUNCTION iotmq.mirror_create(topic text, zone text, source text, source_zone text, described jsonb,
		groups jsonb) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	offsets record := iotmq.mirror_read(described);
	id int;
BEGIN
	PERFORM iotmq.link_require(source);
	IF NOT EXISTS (SELECT FROM iotmq_internal.topic AS t WHERE t.topic = mirror_create.topic) THEN
		PERFORM iotmq.create_topic(topic, '{}', r.retention, r.segment_interval, r.retention_policy, r.max_retention,
			r.device_index, r.dedup_window)
		FROM jsonb_to_record(described -> 'topic') AS r (retention interval, segment_interval interval,
			retention_policy text, max_retention interval, device_index boolean, dedup_window interval);
	END IF;
	PERFORM iotmq.call_hold_topic(topic);
	PERFORM iotmq.mirror_check_new(topic, zone);
	id := iotmq.zone_add(topic, zone, offsets.earliest);
	UPDATE iotmq_internal.zone AS z SET state = 'mirror', elsewhere = source WHERE z.zone_id = id;
	INSERT INTO iotmq_internal.mirror_state (zone_id, source_zone, next_offset, last_offset)
	VALUES (id, source_zone, offsets.earliest, offsets.earliest - 1);
	PERFORM iotmq.mirror_note_gaps(id, described, offsets.earliest);
	PERFORM iotmq.apply_source_groups(id, groups, offsets.earliest, false);
END
$$;
COMMENT ON FUNCTION iotmq.mirror_create IS 'internal: makes a mirror';

-- mirror_note_gaps(zone_id, described, next_offset): notes those of the source's gaps that the
-- mirror has come to.
CREATE FUNCTION iotmq.mirror_note_gaps(zone_id int, described jsonb, next_offset bigint) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO iotmq_internal.zone_gap AS o (zone_id, epoch, first_offset, last_before, began_at)
	SELECT mirror_note_gaps.zone_id, g.epoch, g.first_offset, g.last_before, g.began_at
	FROM iotmq.mirror_read_gaps(described) AS g
	WHERE g.first_offset < mirror_note_gaps.next_offset
		AND NOT EXISTS (SELECT FROM iotmq_internal.zone_gap AS k
			WHERE k.zone_id = mirror_note_gaps.zone_id AND k.epoch = g.epoch AND k.last_before = g.last_before
				AND k.began_at IS NOT DISTINCT FROM g.began_at)
	ON CONFLICT ON CONSTRAINT zone_gap_pkey
	DO UPDATE SET last_before = excluded.last_before, began_at = excluded.began_at
$$;
COMMENT ON FUNCTION iotmq.mirror_note_gaps IS 'internal: notes gaps of the source';

-- mirror_zone: a zone that follows one of another server, which grant_mirror has been called on for
-- the role that the caller's user mapping names. Closed to publishers and groups; to be filled
-- by pull or run_mirrors. Topic and groups are made with the source's settings where they are
-- missing. source_zone NULL: it has the same name there.
-- Errors: 22004, 42602; 42710 it is a mirror already; 55000 it is a zone that is none, or dblink
-- is missing; 22023, 42704 or 42501 of the foreign server; those of the source.
CREATE FUNCTION iotmq.mirror_zone(topic text, zone text, source text, source_zone text DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	there text := coalesce(source_zone, zone);
	connection text;
	described jsonb;
	groups jsonb;
BEGIN
	PERFORM iotmq.link_check(source);
	PERFORM iotmq.mirror_check_new(topic, zone);
	connection := iotmq.link_open(source);
	BEGIN
		described := iotmq.link_value(connection, format('SELECT iotmq.mirror_source(%L, %L)', topic, there));
		groups := iotmq.read_source_groups(connection, topic, there);
		PERFORM iotmq.mirror_create(topic, zone, source, there, described, groups);
	EXCEPTION WHEN OTHERS OR query_canceled THEN
		PERFORM iotmq.link_close(connection);
		RAISE;
	END;
	PERFORM iotmq.link_close(connection);
END
$$;
COMMENT ON FUNCTION iotmq.mirror_zone IS 'makes a zone that follows one of another server';

-- mirror_begin(topic, zone, wait): what a pull starts from; NULL, only without wait: somebody
-- else is filling it. Errors: 22004, 42704; 55000 it is no mirror.
CREATE FUNCTION iotmq.mirror_begin(topic text, zone text, wait boolean, OUT zone_id int, OUT source text, OUT source_zone text,
		OUT next_offset bigint, OUT last_offset bigint, OUT groups_at timestamptz)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_zone_id(topic, zone);
BEGIN
	IF NOT iotmq.zone_lock_pull(id, wait) THEN
		RETURN;
	END IF;
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		-- 40001 if its snapshot shows what was before
		PERFORM FROM iotmq_internal.mirror_state AS m WHERE m.zone_id = id FOR SHARE;
	END IF;
	SELECT z.zone_id, z.elsewhere, m.source_zone, m.next_offset, m.last_offset, m.groups_at
	INTO mirror_begin.zone_id, source, mirror_begin.source_zone, mirror_begin.next_offset, mirror_begin.last_offset, mirror_begin.groups_at
	FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.mirror_state AS m USING (zone_id)
	WHERE z.zone_id = id AND z.state = 'mirror';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'zone "%" of topic "%" is no mirror', zone, topic
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'SELECT topic, zone FROM iotmq.mirror; shows those that are.';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.mirror_begin IS 'internal: locks a mirror to be filled';

-- mirror_store(topic, zone, groups, batch): stores what was pulled; how many messages. groups NULL:
-- they stay as they are. Errors: as mirror_begin; 22023, 22P02, 54000 what came makes no sense;
-- 55000 the source has lost messages.
CREATE FUNCTION iotmq.mirror_store(topic text, zone text, groups jsonb, batch text) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_zone_id(topic, zone);
	begun record := iotmq.mirror_begin(topic, zone, true);
	described jsonb := iotmq.store_described(batch);
	offsets record := iotmq.mirror_read(described);
	done record;
	-- what comes from there from now on is no owner's
	moved text := CASE WHEN (described ->> 'handed_over')::boolean
		THEN left(format('the source has handed the zone over to %s', coalesce(described ->> 'moved_to', 'another server')), 1000) END;
BEGIN
	PERFORM iotmq.mirror_require_kept(topic, zone, begun.source, begun.next_offset, begun.last_offset, described);
	-- what the source has sealed is complete here as well, once we are past it
	IF begun.next_offset > offsets.sealed_last THEN
		UPDATE iotmq_internal.zone AS z
		SET floor_time = offsets.sealed_until
		WHERE z.zone_id = id AND z.floor_time < offsets.sealed_until AND isfinite(offsets.sealed_until);
	END IF;
	SELECT s.* INTO done FROM iotmq.store_messages(id, begun.next_offset, batch) AS s;
	IF groups IS NOT NULL THEN
		PERFORM iotmq.apply_source_groups(id, groups, done.next_offset, false);
	END IF;
	PERFORM iotmq.mirror_note_gaps(id, described, done.next_offset);
	UPDATE iotmq_internal.mirror_state AS m
	SET next_offset = done.next_offset,
		last_offset = greatest(m.last_offset, done.last_offset),	-- 0: a trigger has left it out
		messages = m.messages + done.stored,
		missed = m.missed + done.begins_at - m.next_offset - iotmq.mirror_missing(described, m.next_offset, done.begins_at),
		lag_messages = greatest(0, offsets.end_offset - done.next_offset
			- iotmq.mirror_missing(described, done.next_offset, offsets.end_offset)),
		last_published = coalesce(done.published_at, m.last_published),
		last_pull = clock_timestamp(),
		groups_at = CASE WHEN groups IS NULL THEN m.groups_at ELSE clock_timestamp() END,
		error = moved,
		failed_at = CASE WHEN moved IS NOT NULL THEN clock_timestamp() END
	WHERE m.zone_id = id
		-- who pulls all the time writes twice a second that there is nothing
		AND (done.next_offset > m.next_offset OR groups IS NOT NULL OR m.error IS DISTINCT FROM moved OR offsets.end_offset > done.next_offset
			OR coalesce(clock_timestamp() > m.last_pull + interval '0.5 s', true));
	RETURN done.stored;
END
$$;
COMMENT ON FUNCTION iotmq.mirror_store IS 'internal: stores what a mirror has pulled';

-- mirror_question(topic, zone, from_offset, max_messages): what a pull asks its source. In one go, and
-- in this order: what is said of the zone never is ahead of the messages.
CREATE FUNCTION iotmq.mirror_question(topic text, zone text, from_offset bigint, max_messages int) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN format('SELECT iotmq.mirror_source(%1$L, %2$L)::text || chr(10) || iotmq.mirror_messages(%1$L, %2$L, %3$s, %4$s)',
		topic, zone, from_offset, max_messages);
COMMENT ON FUNCTION iotmq.mirror_question IS 'internal: what a pull asks its source';

-- mirror_pull(topic, zone, connection, max_messages): one pull over an open connection.
CREATE FUNCTION iotmq.mirror_pull(topic text, zone text, connection text, max_messages int) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	begun record := iotmq.mirror_begin(topic, zone, true);
	groups jsonb;
BEGIN
	-- before the messages: a position is never above what is here
	groups := iotmq.read_source_groups(connection, topic, begun.source_zone, begun.zone_id);
	RETURN iotmq.mirror_store(topic, zone, groups,
		iotmq.link_value(connection, iotmq.mirror_question(topic, begun.source_zone, begun.next_offset, max_messages)));
END
$$;
COMMENT ON FUNCTION iotmq.mirror_pull IS 'internal: pulls messages of a mirror over an open connection';

-- pull: takes messages over, and what groups have; how many messages. All of it becomes
-- visible with the commit, and if that fails, the next pull brings it. Of two at once, the second
-- waits. Errors: 22004, 42704; 22023 bad max_messages; 55000 it is no mirror, the source
-- has lost messages, or dblink is missing; 22023, 42704 or 42501 of the foreign server; 08006 it
-- doesn't answer; those of the source.
CREATE FUNCTION iotmq.pull(topic text, zone text, max_messages int DEFAULT 10000) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	begun record;
	connection text;
	pulled bigint;
BEGIN
	IF max_messages IS NULL THEN
		RAISE EXCEPTION 'max_messages must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF max_messages NOT BETWEEN 1 AND 10000 THEN
		RAISE EXCEPTION 'max_messages must be between 1 and 10000, not %', max_messages
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	begun := iotmq.mirror_begin(topic, zone, true);
	connection := iotmq.link_open(begun.source);
	BEGIN
		pulled := iotmq.mirror_pull(topic, zone, connection, max_messages);
	EXCEPTION WHEN OTHERS OR query_canceled THEN
		PERFORM iotmq.link_close(connection);
		RAISE;
	END;
	PERFORM iotmq.link_close(connection);
	RETURN pulled;
END
$$;
COMMENT ON FUNCTION iotmq.pull IS 'takes over what the source of a mirror has: messages, and what its groups have';

-- mirror_all(): all mirrors, with their sources.
CREATE FUNCTION iotmq.mirror_all(OUT topic text, OUT zone text, OUT source text) RETURNS SETOF record
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.topic, z.zone, z.elsewhere
	FROM iotmq_internal.mirror_state AS m
	JOIN iotmq_internal.zone AS z USING (zone_id)
	JOIN iotmq_internal.topic AS t USING (topic_id)
	ORDER BY z.zone_id
$$;
COMMENT ON FUNCTION iotmq.mirror_all IS 'internal: all mirrors';

-- mirror_note_error(topic, zone, message, detail): for the view mirror; what pulls succeed clears it.
CREATE FUNCTION iotmq.mirror_note_error(topic text, zone text, message text) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE iotmq_internal.mirror_state AS m
	SET error = left(message, 1000), failed_at = clock_timestamp()
	FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE m.zone_id = z.zone_id AND t.topic = mirror_note_error.topic AND z.zone = mirror_note_error.zone
$$;
COMMENT ON FUNCTION iotmq.mirror_note_error IS 'internal: notes why a pull failed';

-- mirror_ahead(topic, zone, source, connection, asked, goes_on): one pull of run_mirrors; how many messages, NULL:
-- somebody else is filling the mirror, or it follows another source by now. asked: from which offset on the source was asked for
-- messages already, so that it was at work meanwhile; with goes_on it is asked for the next
-- ones before these are stored, as long as many are to come. What groups have is asked for
-- every second; while many messages are to come, every ten.
CREATE FUNCTION iotmq.mirror_ahead(topic text, zone text, source text, connection text, goes_on boolean,
		INOUT asked bigint, OUT pulled bigint)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	begun record := iotmq.mirror_begin(topic, zone, false);
	next bigint;
	groups jsonb;
	batch text;
BEGIN
	IF asked IS NOT NULL THEN
		batch := iotmq.link_receive(connection);
	END IF;
	IF begun.source IS DISTINCT FROM source OR begun.next_offset <> asked
		OR coalesce(clock_timestamp() >= begun.groups_at + CASE WHEN asked IS NULL THEN interval '1 s' ELSE interval '10 s' END, true)
	THEN
		batch := NULL;
	END IF;
	asked := NULL;
	IF begun.source IS DISTINCT FROM source THEN
		RETURN;
	END IF;
	IF batch IS NULL THEN
		-- before the messages: a position is never above what is here
		IF coalesce(clock_timestamp() >= begun.groups_at + interval '1 s', true) THEN
			groups := iotmq.read_source_groups(connection, topic, begun.source_zone, begun.zone_id);
		END IF;
		batch := iotmq.link_value(connection, iotmq.mirror_question(topic, begun.source_zone, begun.next_offset, 10000));
	END IF;
	next := iotmq.store_next(batch);
	-- what groups have may need the connection while it is stored
	IF goes_on AND groups IS NULL AND (iotmq.mirror_read(iotmq.store_described(batch)::jsonb)).stable - next >= 10000 THEN
		PERFORM iotmq.link_send(connection, iotmq.mirror_question(topic, begun.source_zone, next, 10000));
		asked := next;
	END IF;
	pulled := iotmq.mirror_store(topic, zone, groups, batch);
END
$$;
COMMENT ON FUNCTION iotmq.mirror_ahead IS 'internal: pulls messages of a mirror, and asks for the next ones';

-- mirror_try(topic, zone, source, connections, goes_on): one pull of run_mirrors. pulled: as above, NULL also if
-- it failed. failed: what did, the source or the mirror. connections: those that are open,
-- by source; one that failed is closed. asked: see above.
CREATE FUNCTION iotmq.mirror_try(topic text, zone text, source text, goes_on boolean, INOUT connections jsonb,
		INOUT asked bigint, OUT pulled bigint, OUT failed text)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	detail text;
BEGIN
	BEGIN
		IF NOT connections ? source THEN
			connections := connections || jsonb_build_object(source, iotmq.link_open(source));
		END IF;
		SELECT p.asked, p.pulled INTO mirror_try.asked, mirror_try.pulled
		FROM iotmq.mirror_ahead(topic, zone, source, connections ->> source, goes_on, mirror_try.asked) AS p;
		IF pulled = 0 THEN
			-- what is lost of it is found again
			PERFORM set_config('synchronous_commit', 'off', true);
		END IF;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		failed := CASE WHEN SQLSTATE LIKE '08%' THEN source ELSE topic || '/' || zone END;
		asked := NULL;
		IF connections ? source THEN
			PERFORM iotmq.link_close(connections ->> source);
			connections := connections - source;
		END IF;
		PERFORM iotmq.mirror_note_error(topic, zone, iotmq.call_plain_message(SQLERRM) || coalesce(E'\n' || nullif(detail, ''), ''));
	END;
END
$$;
COMMENT ON FUNCTION iotmq.mirror_try IS 'internal: one pull of a run over all mirrors';

-- mirror_end(connections): closes them.
CREATE FUNCTION iotmq.mirror_end(connections jsonb) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq.link_close(c.value) FROM jsonb_each_text(connections) AS c
$$;
COMMENT ON FUNCTION iotmq.mirror_end IS 'internal: ends the connections of a run over all mirrors';

-- run_mirrors: pulls all mirrors, in turn, for that time, and commits as it goes. What fails is
-- in the view mirror, and is tried again: after a second, or ten times as long as it took to
-- fail, so that a source that doesn't answer costs the others little. A mirror that somebody
-- else is filling is passed over: so it is safe to run twice at once. Errors: 22004; 22023
-- for_time below 0 or above a day; 25001 in a transaction block.
CREATE PROCEDURE iotmq.run_mirrors(for_time interval DEFAULT '55 s')
	LANGUAGE plpgsql
AS $$
-- A procedure that commits can't set its search_path: so every name, type and
-- operator in here has its schema, and all else is in functions.
DECLARE
	start pg_catalog.timestamptz := pg_catalog.clock_timestamp();
	pauses pg_catalog.jsonb := '{}';	-- when a mirror or a source that failed is tried again
	connections pg_catalog.jsonb := '{}';
	mirror pg_catalog.record;
	tried pg_catalog.record;
	before pg_catalog.timestamptz;
	again pg_catalog.timestamptz;
	nap pg_catalog.float8 := 0.01;
	asked pg_catalog.int8;
	pulled pg_catalog.int8;
BEGIN
	PERFORM iotmq.call_check_transaction('run_mirrors()');
	IF for_time IS NULL THEN
		RAISE EXCEPTION 'for_time must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF for_time OPERATOR(pg_catalog.<) '0'::pg_catalog.interval OR for_time OPERATOR(pg_catalog.>) '1 day'::pg_catalog.interval THEN
		RAISE EXCEPTION 'for_time must be between 0 and 1 day' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	COMMIT;
	LOOP
		pulled := 0;
		FOR mirror IN SELECT m.topic, m.zone, m.source FROM iotmq.mirror_all() AS m LOOP
			before := pg_catalog.clock_timestamp();
			again := GREATEST((pauses OPERATOR(pg_catalog.->>) mirror.source)::pg_catalog.timestamptz,
				(pauses OPERATOR(pg_catalog.->>) (mirror.topic OPERATOR(pg_catalog.||) '/' OPERATOR(pg_catalog.||) mirror.zone))::pg_catalog.timestamptz);
			CONTINUE WHEN again OPERATOR(pg_catalog.>) before;
			asked := NULL;
			-- one that is far behind has a second at a time
			LOOP
				SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
				SELECT t.* INTO tried
				FROM iotmq.mirror_try(mirror.topic, mirror.zone, mirror.source,
					pg_catalog.clock_timestamp() OPERATOR(pg_catalog.<) LEAST(before OPERATOR(pg_catalog.+) '1 s'::pg_catalog.interval,
						start OPERATOR(pg_catalog.+) for_time), connections, asked) AS t;
				COMMIT;
				connections := tried.connections;
				asked := tried.asked;
				pulled := pulled OPERATOR(pg_catalog.+) COALESCE(tried.pulled, 0);
				EXIT WHEN asked IS NULL;
			END LOOP;
			IF tried.failed IS NOT NULL THEN
				again := pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) GREATEST('1 s'::pg_catalog.interval,
					(pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) before) OPERATOR(pg_catalog.*) 10::pg_catalog.float8);
				pauses := pauses OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object(tried.failed, again);
			END IF;
		END LOOP;
		EXIT WHEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>=) (start OPERATOR(pg_catalog.+) for_time);
		-- nothing came: longer and longer naps, up to 0.1 s
		IF pulled OPERATOR(pg_catalog.=) 0 THEN
			PERFORM pg_catalog.pg_sleep(nap);
			nap := LEAST(nap OPERATOR(pg_catalog.*) 2::pg_catalog.float8, 0.1::pg_catalog.float8);
		ELSE
			nap := 0.01;
		END IF;
		COMMIT;
	END LOOP;
	PERFORM iotmq.mirror_end(connections);
	COMMIT;
END
$$;
COMMENT ON PROCEDURE iotmq.run_mirrors IS 'pulls all mirrors for a time; for pg_cron, or in a loop';
