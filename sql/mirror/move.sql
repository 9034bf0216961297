-- Which server owns a zone, and how that changes: fenced where it was, promoted where it is
-- going to be. Any crash between two steps leaves one owner, and the same command goes on.
--
-- Locks: the zone's pull lock, its row, then all that publishers and consumers use of it, which
-- waits for them (cursor_lock.c).

-- move_state(topic, zone): the zone, locked. What becomes of it is on disk with the commit, also
-- with synchronous_commit = off: the other server relies on it, and if one of them forgot it in
-- a crash, both would own the zone, or none. Errors: 22004, 42704.
CREATE FUNCTION iotmq.move_state(topic text, zone text) RETURNS iotmq_internal.zone
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_zone_id(topic, zone);
	result iotmq_internal.zone;
BEGIN
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'local', true);
	END IF;
	PERFORM iotmq.zone_lock_pull(id, true);
	SELECT z.* INTO result FROM iotmq_internal.zone AS z WHERE z.zone_id = id FOR UPDATE;
	IF NOT FOUND THEN
		PERFORM iotmq.call_zone_id(topic, zone);	-- dropped meanwhile
	END IF;
	RETURN result;
END
$$;
COMMENT ON FUNCTION iotmq.move_state IS 'internal: locks a zone whose owner is to change';

-- move_exclude(zone_id): waits for the open transactions that have published there, or used
-- a cursor of it; there are no others until this one has ended. The leases and cursors are
-- as these have left them.
CREATE FUNCTION iotmq.move_exclude(zone_id int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cursors int[] := ARRAY(
		SELECT c.cursor_id FROM iotmq_internal.cursor AS c WHERE c.zone_id = move_exclude.zone_id ORDER BY c.cursor_id);
BEGIN
	PERFORM iotmq.cursor_lock_exclude(cursors, ARRAY[zone_id]);
	-- rows last, whoever holds one without the lock of its cursor
	PERFORM FROM iotmq_internal.cursor_state AS p WHERE p.cursor_id = ANY (cursors) ORDER BY p.cursor_id FOR UPDATE;
END
$$;
COMMENT ON FUNCTION iotmq.move_exclude IS 'internal: keeps publishers and consumers from a zone';

-- fence_zone: nothing is published to the zone any more, and nothing of its groups changes
-- there, from the commit on; retention drops nothing. moved_to: what publishers and consumers
-- are told. Waits for open transactions of publishers and consumers (lock_timeout counts). Again:
-- another moved_to. Errors: 22004, 42704; 55000 it is a mirror, or handed over.
CREATE FUNCTION iotmq.fence_zone(topic text, zone text, moved_to text DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	fenced iotmq_internal.zone := iotmq.move_state(topic, zone);
BEGIN
	IF fenced.state = 'mirror' THEN
		RAISE EXCEPTION 'zone "%" of topic "%" is a mirror', zone, topic
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format('Fence it at its source, the foreign server "%s".', fenced.elsewhere);
	END IF;
	IF fenced.state = 'open' THEN
		PERFORM iotmq.move_exclude(fenced.zone_id);
	END IF;
	UPDATE iotmq_internal.zone AS z
	SET state = 'fenced', elsewhere = coalesce(moved_to, z.elsewhere),
		fence = CASE WHEN z.state = 'fenced' THEN z.fence ELSE pg_current_xact_id() END
	WHERE z.zone_id = fenced.zone_id;
END
$$;
COMMENT ON FUNCTION iotmq.fence_zone IS 'closes a zone that is to move: to publishers, and to all that changes what its groups have';

-- move_hand_over: hand_over, as the owner.
CREATE FUNCTION iotmq.move_hand_over(topic text, zone text, end_offset bigint, taker text, fence text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	fenced iotmq_internal.zone := iotmq.move_state(topic, zone);
	ends_at bigint := iotmq.offset_last(fenced.zone_id) + 1;
BEGIN
	IF end_offset IS NULL THEN
		RAISE EXCEPTION 'end_offset must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF fenced.state <> 'fenced' THEN
		RAISE EXCEPTION 'zone "%" of topic "%" is not fenced', zone, topic
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format('Fence it: SELECT iotmq.fence_zone(%L, %L);', topic, zone);
	END IF;
	IF end_offset <> ends_at THEN
		RAISE EXCEPTION 'zone "%" of topic "%" ends at offset %, not at %', zone, topic, ends_at, end_offset
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Who takes it over must have pulled all of it.';
	END IF;
	IF fence <> fenced.fence::text THEN
		RAISE EXCEPTION 'zone "%" of topic "%" was opened, and fenced once more', zone, topic
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'What groups did meanwhile has to be pulled: SELECT iotmq.promote_zone(...), once more.';
	END IF;
	IF fenced.handed_over AND fenced.taken_by IS DISTINCT FROM taker THEN
		RAISE EXCEPTION 'zone "%" of topic "%" was handed over to another server', zone, topic
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = format('It has moved to %s.', fenced.elsewhere),
				HINT = format('Follow that one: SELECT iotmq.demote_zone(%L, %L, ...); if it is lost, promote the mirror by force.', topic, zone);
	END IF;
	IF NOT fenced.handed_over THEN
		PERFORM iotmq.cursor_give_away(fenced.zone_id);
		UPDATE iotmq_internal.zone AS z
		SET handed_over = true, taken_by = taker, elsewhere = coalesce(z.elsewhere, 'another server')
		WHERE z.zone_id = fenced.zone_id;
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.move_hand_over IS 'internal: notes that another server owns a zone';

-- move_open(zone_id, last_offset, epochs): the zone is open from the commit on, and goes on so many
-- epochs above the last offset that is known, here or of an earlier zone of its name.
CREATE FUNCTION iotmq.move_open(zone_id int, last_offset bigint, epochs int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	opened record;
	epoch bigint;
BEGIN
	SELECT z.offset_sequence, t.segment_interval,
		greatest(last_offset, (SELECT p.last_offset FROM iotmq_internal.past_zone AS p WHERE p.topic = t.topic AND p.zone = z.zone)) AS last_offset
	INTO opened
	FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE z.zone_id = move_open.zone_id;
	epoch := (opened.last_offset >> 32) + epochs;
	-- as epoch.c has it
	IF epoch - (SELECT e.last_value FROM iotmq_internal.last_epoch AS e) >= 1 << 20 THEN
		RAISE EXCEPTION 'there is no epoch left behind offset %', opened.last_offset
			USING ERRCODE = 'program_limit_exceeded',
				DETAIL = 'It is too far ahead of the epochs of this server.';
	END IF;
	PERFORM setval(opened.offset_sequence, (epoch << 32) - 1);
	PERFORM iotmq.segment_make_until(zone_id, clock_timestamp(), clock_timestamp() + iotmq.segment_ahead(opened.segment_interval));
	DELETE FROM iotmq_internal.mirror_state AS m WHERE m.zone_id = move_open.zone_id;
	UPDATE iotmq_internal.zone AS z
	SET state = 'open', elsewhere = NULL, handed_over = false, taken_by = NULL
	WHERE z.zone_id = move_open.zone_id;
END
$$;
COMMENT ON FUNCTION iotmq.move_open IS 'internal: opens a zone in a new epoch';

-- move_forced_epochs(): by how many epochs a zone goes on that was opened without asking its
-- former owner. That one begins a new epoch with each recovery: what it may still give out, until
-- somebody notices, is not given out here.
CREATE FUNCTION iotmq.move_forced_epochs() RETURNS int
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN 1000;
COMMENT ON FUNCTION iotmq.move_forced_epochs IS 'internal: how many epochs are left to an owner that was not asked';

-- open_zone: takes a fence back. force: also once another server has taken the zone over: then
-- there are two owners, until somebody decides. Errors: 22004, 42704; 55000 it is a mirror, or
-- handed over, without force.
CREATE FUNCTION iotmq.open_zone(topic text, zone text, force boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	opened iotmq_internal.zone;
BEGIN
	IF force IS NULL THEN
		RAISE EXCEPTION 'force must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	opened := iotmq.move_state(topic, zone);
	IF opened.state = 'mirror' THEN
		RAISE EXCEPTION 'zone "%" of topic "%" is a mirror', zone, topic
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format('Let it own the zone: SELECT iotmq.promote_zone(%L, %L);', topic, zone);
	END IF;
	IF opened.handed_over AND NOT force THEN
		RAISE EXCEPTION 'zone "%" of topic "%" was handed over', zone, topic
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = format('It has moved to %s.', opened.elsewhere),
				HINT = format('Drop it here: SELECT iotmq.drop_zone(%1$L, %2$L); or let it follow the other server: SELECT iotmq.demote_zone(%1$L, %2$L, ...);', topic, zone);
	END IF;
	IF opened.handed_over THEN
		DELETE FROM iotmq_internal.away_cursor AS a
		USING iotmq_internal.cursor AS c
		WHERE c.cursor_id = a.cursor_id AND c.zone_id = opened.zone_id;
		PERFORM iotmq.move_open(opened.zone_id, iotmq.offset_last(opened.zone_id), iotmq.move_forced_epochs());
	ELSE
		UPDATE iotmq_internal.zone AS z
		SET state = 'open', elsewhere = NULL
		WHERE z.zone_id = opened.zone_id AND z.state = 'fenced';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.open_zone IS 'opens a zone that was fenced';

-- move_apply(topic, zone, groups): what groups have, with their leases, once all messages are here.
CREATE FUNCTION iotmq.move_apply(topic text, zone text, groups jsonb) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	begun record := iotmq.mirror_begin(topic, zone, true);
BEGIN
	PERFORM iotmq.apply_source_groups(iotmq.call_zone_id(topic, zone), groups, begun.next_offset, true);
END
$$;
COMMENT ON FUNCTION iotmq.move_apply IS 'internal: takes over what groups have, with their leases';

-- move_promote(topic, zone, forced): the mirror is open from the commit on.
CREATE FUNCTION iotmq.move_promote(topic text, zone text, forced boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	promoted iotmq_internal.zone := iotmq.move_state(topic, zone);
	begun record := iotmq.mirror_begin(topic, zone, true);
BEGIN
	PERFORM iotmq.move_open(promoted.zone_id, begun.next_offset - 1,
		CASE WHEN forced THEN iotmq.move_forced_epochs() ELSE 1 END);
	IF forced THEN
		PERFORM iotmq.apply_source_expire(promoted.zone_id);	-- once it is open
	END IF;
	PERFORM iotmq.apply_source_forget(promoted.zone_id);
END
$$;
COMMENT ON FUNCTION iotmq.move_promote IS 'internal: opens a mirror';

-- move_require_fenced(described, topic, zone, source_zone): raises 55000 unless the source is fenced.
CREATE FUNCTION iotmq.move_require_fenced(described jsonb, topic text, zone text, source_zone text) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	offsets record := iotmq.mirror_read(described);
BEGIN
	IF offsets.state = 'mirror' THEN
		RAISE EXCEPTION 'the source of zone "%" of topic "%" is a mirror itself', zone, topic
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format('Promote that one, or this one although it doesn''t own the zone: SELECT iotmq.promote_zone(%L, %L, force => true);', topic, zone);
	END IF;
	IF offsets.state <> 'fenced' THEN
		RAISE EXCEPTION 'the source of zone "%" of topic "%" was opened meanwhile', zone, topic
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Somebody else decides on the zone, too: settle it with him, and try again.';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.move_require_fenced IS 'internal: raises an error unless a source is fenced';

-- move_catch_up(topic, zone, connection, until): pulls messages, at least once, until all below
-- that offset are here.
CREATE FUNCTION iotmq.move_catch_up(topic text, zone text, connection text, until bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	begun record := iotmq.mirror_begin(topic, zone, true);
BEGIN
	LOOP
		PERFORM iotmq.mirror_store(topic, zone, NULL,
			iotmq.link_value(connection, iotmq.mirror_question(topic, begun.source_zone, begun.next_offset, 10000)));
		begun := iotmq.mirror_begin(topic, zone, true);
		EXIT WHEN begun.next_offset >= until;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.move_catch_up IS 'internal: pulls messages until all below an offset are here';

-- move_taker(zone_id): what this zone is called by its source, once that has handed it over. After a
-- crash or a failover it is still the same.
CREATE FUNCTION iotmq.move_taker(zone_id int) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	RETURN format('%s/%s/%s', (SELECT c.system_identifier FROM pg_control_system() AS c),
		(SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()), zone_id);
COMMENT ON FUNCTION iotmq.move_taker IS 'internal: what this zone is called by the source that has handed it over';

-- move_may_fence(connection): whether the role of that connection administers the source.
CREATE FUNCTION iotmq.move_may_fence(connection text) RETURNS boolean
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	RETURN iotmq.link_value(connection, $$SELECT has_function_privilege('iotmq.fence_zone(text, text, text)', 'EXECUTE')$$)::boolean;
COMMENT ON FUNCTION iotmq.move_may_fence IS 'internal: whether a source can be fenced from here';

-- move_fence_source(connection, topic, source_zone): fences the source; its publishers are told
-- this server. It gives up on them before the answer is given up on, and when this session
-- has ended, so nothing is fenced that nobody knows of.
CREATE FUNCTION iotmq.move_fence_source(connection text, topic text, source_zone text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.link_value(connection, format('SELECT set_config(%L, %L, false)', 'lock_timeout',
		greatest(1, extract(epoch FROM iotmq.link_patience()) * 500)::int::text));
	PERFORM iotmq.link_value(connection, format('SELECT set_config(%L, %L, false)', 'client_connection_check_interval', '1s'));
	PERFORM iotmq.link_value(connection, format('SELECT iotmq.fence_zone(%L, %L, %L)', topic, source_zone,
		format('database "%s" of %s', current_database(),
			coalesce(host(inet_server_addr()) || ':' || inet_server_port(), 'the server with port ' || current_setting('port')))));
END
$$;
COMMENT ON FUNCTION iotmq.move_fence_source IS 'internal: fences the source of a mirror';

-- move_open_source(topic, zone, source, source_zone): takes that fence back, after something failed.
-- Where it can't, a warning says so: the zone is closed then, and nothing is lost.
CREATE FUNCTION iotmq.move_open_source(topic text, zone text, source text, source_zone text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	connection text;
BEGIN
	connection := iotmq.link_open(source);
	PERFORM iotmq.link_value(connection, format('SELECT iotmq.open_zone(%L, %L)', topic, source_zone));
	PERFORM iotmq.link_close(connection);
EXCEPTION WHEN OTHERS OR query_canceled THEN		-- one more cancel must not be silent
	RAISE WARNING 'the source of zone "%" of topic "%" stays fenced', zone, topic
		USING DETAIL = SQLERRM,
			HINT = format('Go on: SELECT iotmq.promote_zone(%L, %L); or take the fence back there: SELECT iotmq.open_zone(%L, %L);',
				topic, zone, topic, source_zone);
END
$$;
COMMENT ON FUNCTION iotmq.move_open_source IS 'internal: takes the fence of a source back';

-- promote_zone: the mirror becomes the zone's owner, in a new epoch: no offset is given out
-- twice. Without force the source is fenced, if nobody has done that: all that is missing is
-- pulled, then what groups have, with their leases, and last of all the source is told that it
-- owns the zone no more. What fails before that opens it again. Where the role there may not
-- fence, it is pulled once more and warned that the source is open still; leases become
-- retries. With force the source isn't asked: what was not pulled is lost.
-- Errors: 22004, 42704; 55000 it is no mirror, or the source is a mirror itself; 55P03
-- publishers at the source stay open; as pull.
CREATE FUNCTION iotmq.promote_zone(topic text, zone text, force boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	begun record;
	connection text;
	described jsonb;
	groups jsonb;
	fences boolean := false;	-- it is we who do
BEGIN
	IF force IS NULL THEN
		RAISE EXCEPTION 'force must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	begun := iotmq.mirror_begin(topic, zone, true);
	IF force THEN
		PERFORM iotmq.move_promote(topic, zone, true);
		RETURN;
	END IF;
	connection := iotmq.link_open(begun.source);
	BEGIN
		described := iotmq.link_value(connection, format('SELECT iotmq.mirror_source(%L, %L)', topic, begun.source_zone));
		IF described ->> 'state' = 'open' THEN
			-- most of it while publishers go on
			PERFORM iotmq.move_catch_up(topic, zone, connection, (described ->> 'stable')::bigint);
			IF NOT iotmq.move_may_fence(connection) THEN
				PERFORM iotmq.mirror_pull(topic, zone, connection, 10000);
				PERFORM iotmq.link_close(connection);
				PERFORM iotmq.move_promote(topic, zone, true);
				RAISE WARNING 'the source of zone "%" of topic "%" is open still', zone, topic
					USING DETAIL = 'The role that pulls from it may not fence it. What is published there from now on is not here.',
						HINT = format('Fence it there: SELECT iotmq.fence_zone(%1$L, %2$L); or let it follow this server: SELECT iotmq.demote_zone(%1$L, %2$L, ...);',
							topic, begun.source_zone);
				RETURN;
			END IF;
			fences := true;
			PERFORM iotmq.move_fence_source(connection, topic, begun.source_zone);
			described := iotmq.link_value(connection, format('SELECT iotmq.mirror_source(%L, %L)', topic, begun.source_zone));
		END IF;
		PERFORM iotmq.move_require_fenced(described, topic, zone, begun.source_zone);
		-- a fenced zone stays as it is: it is described once
		PERFORM iotmq.move_catch_up(topic, zone, connection, (described ->> 'end')::bigint);
		groups := iotmq.read_source_groups(connection, topic, begun.source_zone, begun.zone_id);
		PERFORM iotmq.move_apply(topic, zone, groups);
		PERFORM iotmq.move_promote(topic, zone, false);
		PERFORM iotmq.link_value(connection, format('SELECT iotmq.hand_over(%L, %L, %s, %L, %L)', topic, begun.source_zone,
			described ->> 'end', iotmq.move_taker(begun.zone_id), described ->> 'fence'));
	EXCEPTION WHEN OTHERS OR query_canceled THEN
		PERFORM iotmq.link_close(connection);
		IF fences THEN
			PERFORM iotmq.move_open_source(topic, zone, begun.source, begun.source_zone);
		END IF;
		RAISE;
	END;
	PERFORM iotmq.link_close(connection);
END
$$;
COMMENT ON FUNCTION iotmq.promote_zone IS 'makes a mirror the owner of its zone';

-- move_check_source(topic, zone, described): raises 55000 unless a zone may follow that source.
CREATE FUNCTION iotmq.move_check_source(topic text, zone text, source text, described jsonb) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	offsets record := iotmq.mirror_read(described);
BEGIN
	IF offsets.state <> 'open' THEN
		RAISE EXCEPTION 'zone "%" of topic "%" is % at server "%"', zone, topic,
				CASE offsets.state WHEN 'mirror' THEN 'a mirror' ELSE 'fenced' END, source
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Who follows another server needs one that owns the zone.';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.move_check_source IS 'internal: raises an error unless a zone may follow that source';

-- move_common_end(zone_id, described): up to where the zone and its source have the same history. They
-- part where one of them has begun an epoch that the other has not, or behind another message.
CREATE FUNCTION iotmq.move_common_end(zone_id int, described jsonb) RETURNS bigint
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	WITH here AS (
		SELECT g.first_offset, g.last_before FROM iotmq.mirror_gaps(move_common_end.zone_id) AS g
	), there AS (
		SELECT g.first_offset, g.last_before FROM iotmq.mirror_read_gaps(described) AS g
	)
	SELECT least(
		(SELECT min(d.last_before)
		FROM ((TABLE here EXCEPT TABLE there) UNION ALL (TABLE there EXCEPT TABLE here)) AS d),
		iotmq.offset_last(move_common_end.zone_id), (described ->> 'end')::bigint - 1)
$$;
COMMENT ON FUNCTION iotmq.move_common_end IS 'internal: up to where a zone and its source have the same history';

-- move_probe(topic, zone, described, OUT first_offset, OUT common): up to where a zone and its source have the same
-- history, and from which offset on the last ten thousand messages are that both should have;
-- NULL: there is none.
CREATE FUNCTION iotmq.move_probe(topic text, zone text, described jsonb, OUT first_offset bigint, OUT common bigint)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	probed iotmq_internal.zone := iotmq.move_state(topic, zone);
BEGIN
	PERFORM iotmq.table_owner_require(probed.table_name);
	common := iotmq.move_common_end(probed.zone_id, described);
	EXECUTE format('SELECT min(o) FROM (SELECT %2$s AS o FROM %1$s WHERE %2$s <= $1 ORDER BY %2$s DESC LIMIT 10000) AS l',
		probed.table_name, (iotmq.message_columns(probed.table_name))[2])
	INTO first_offset USING common;
END
$$;
COMMENT ON FUNCTION iotmq.move_probe IS 'internal: which messages of a zone are compared with those of its source';

-- move_lacks(topic, zone, batch, common, OUT lowest, OUT next_offset): the lowest offset up to common that the source has, as of that
-- batch, and the zone has not; NULL: there is none. A crash may have lost messages that others
-- have pulled, while the sequence stands behind them. next_offset: where the batch ends.
CREATE FUNCTION iotmq.move_lacks(topic text, zone text, batch text, common bigint, OUT lowest bigint, OUT next_offset bigint)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_zone_id(topic, zone);
	messages regclass;
	columns text[];
BEGIN
	SELECT z.table_name, iotmq.message_columns(z.table_name) INTO messages, columns
	FROM iotmq_internal.zone AS z
	WHERE z.zone_id = id;
	PERFORM iotmq.table_owner_require(messages);
	next_offset := split_part(split_part(batch, E'\n', 1), E'\t', 2)::bigint;
	EXECUTE format($q$
		WITH there AS MATERIALIZED (
			SELECT split_part(l.line, E'\t', 1)::bigint AS o
			FROM string_to_table($1, E'\n') WITH ORDINALITY AS l (line, n)
			WHERE l.n > 1 AND l.line <> ''
		), here AS MATERIALIZED (
			SELECT %2$s AS o FROM %1$s WHERE %2$s BETWEEN (SELECT min(t.o) FROM there AS t) AND $2
		)
		SELECT min(t.o) FROM there AS t LEFT JOIN here AS h USING (o) WHERE t.o <= $2 AND h.o IS NULL $q$, messages, columns[2])
	INTO lowest
	USING batch, common;
END
$$;
COMMENT ON FUNCTION iotmq.move_lacks IS 'internal: the first message that a zone lacks of those of its source';

-- move_require_same(topic, zone, source, batch, common): raises 55000 unless messages of that batch, as
-- mirror_messages sends it, are those of the zone, as far as both have them; if the source has
-- none of them, its retention was faster. Another zone of the same name is no source. batch
-- NULL: nothing is below common here; then there is nothing at all.
CREATE FUNCTION iotmq.move_require_same(topic text, zone text, source text, batch text, common bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_zone_id(topic, zone);
	messages regclass;
	columns text[];
	other bigint;
BEGIN
	SELECT z.table_name, iotmq.message_columns(z.table_name) INTO messages, columns
	FROM iotmq_internal.zone AS z
	WHERE z.zone_id = id;
	IF batch IS NULL THEN
		EXECUTE format('SELECT min(%s) FROM %s', columns[2], messages) INTO other;
	ELSE
		EXECUTE format($q$
			SELECT coalesce(
				min(s.msg_offset) FILTER (WHERE (extract(epoch FROM m.%3$s) - extract(epoch FROM timestamptz '2000-01-01 00:00+00')) * 1000000 <> s.published_at),
				CASE WHEN count(m.*) = 0 AND (count(*) > 0 OR split_part($1, E'\t', 1)::bigint <= $2) THEN $2 END)
			FROM (
				SELECT split_part(l.line, E'\t', 1)::bigint AS msg_offset, split_part(l.line, E'\t', 2)::bigint AS published_at
				FROM string_to_table($1, E'\n') WITH ORDINALITY AS l (line, n)
				WHERE l.n > 1 AND l.line <> ''
			) AS s
			LEFT JOIN %1$s AS m ON m.%2$s = s.msg_offset
			WHERE s.msg_offset <= $2 $q$, messages, columns[2], columns[3])
		INTO other
		USING batch, common;
	END IF;
	IF other IS NOT NULL THEN
		RAISE EXCEPTION 'zone "%" of topic "%" is another one at server "%"', zone, topic, source
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = format('They have no message in common, or differ at offset %s.', other),
				HINT = format('If it is to follow that one all the same, drop it, and make it anew: SELECT iotmq.mirror_zone(%L, %L, %L);', topic, zone, source);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.move_require_same IS 'internal: raises an error unless a zone has the messages of its source';

-- move_drop_behind(messages, column_name, kept, common): deletes the messages of a zone's table that have an offset above kept;
-- how many of them lay above common, and which. Nobody's code runs meanwhile: it would run as the
-- owner. Errors: 55000 there is some, or rows are kept from being deleted.
CREATE FUNCTION iotmq.move_drop_behind(messages regclass, column_name text, kept bigint, common bigint,
		OUT dropped bigint, OUT lowest bigint, OUT highest bigint)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	is_some boolean;
	blocking text;
BEGIN
	dropped := 0;
	EXECUTE format('SELECT EXISTS (SELECT FROM %1$s WHERE %2$s > $1)', messages, column_name) INTO is_some USING kept;
	IF NOT is_some THEN
		RETURN;
	END IF;
	SELECT min(g.tgname) INTO blocking
	FROM pg_trigger AS g
	JOIN pg_partition_tree(messages) AS p ON p.relid = g.tgrelid
	WHERE NOT g.tgisinternal AND g.tgtype & 8 <> 0 AND g.tgenabled <> 'D';		-- of DELETE
	IF blocking IS NULL THEN
		EXECUTE format('WITH gone AS (DELETE FROM %1$s WHERE %2$s > $1 RETURNING %2$s AS o)
			SELECT count(*), min(o), max(o) FROM gone WHERE o > $2', messages, column_name)
		INTO dropped, lowest, highest USING kept, common;
		EXECUTE format('SELECT EXISTS (SELECT FROM %1$s WHERE %2$s > $1)', messages, column_name) INTO is_some USING kept;
	END IF;
	IF is_some THEN
		RAISE EXCEPTION 'messages of table % can''t be dropped', messages
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = CASE WHEN blocking IS NULL THEN 'A rule of the table keeps them.' ELSE format('Trigger "%s" would run.', blocking) END,
				HINT = CASE WHEN blocking IS NOT NULL THEN format('Disable it meanwhile: ALTER TABLE %s DISABLE TRIGGER %I;', messages, blocking) END;
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.move_drop_behind IS 'internal: drops what only this server has of a zone';

-- move_cut(cursor_id, next_offset): the cursor, whose users are excluded, has nothing from that
-- offset on, which comes again. What it has below stays until the source is asked: if that is
-- lost before, it must not be.
CREATE FUNCTION iotmq.move_cut(cursor_id int, next_offset bigint) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq.apply_source_cut(move_cut.cursor_id, move_cut.next_offset);
	DELETE FROM iotmq_internal.redelivery AS r
	WHERE r.cursor_id = move_cut.cursor_id AND r.msg_offset >= move_cut.next_offset;
	UPDATE iotmq_internal.dead_message AS d
	SET redriven = false
	WHERE d.cursor_id = move_cut.cursor_id AND d.redriven AND d.msg_offset >= move_cut.next_offset;
	UPDATE iotmq_internal.cursor_state AS p
	SET next_offset = least(p.next_offset, move_cut.next_offset), stable_offset = 0, sample_offset = 0, sample_xid = '0',
		oldest_lease = coalesce(l.oldest, p.last_lease + 1), next_expiry = l.next_expiry, next_due = r.next_due, redeliveries = r.waiting, dead_letters = d.letters
	FROM (
		SELECT min(e.lease_id) AS oldest, coalesce(min(e.deadline), 'infinity') AS next_expiry
		FROM iotmq_internal.lease AS e
		WHERE e.lease_id >= iotmq.lease_first(move_cut.cursor_id) AND e.lease_id < iotmq.lease_first(move_cut.cursor_id + 1)
	) AS l, (
		SELECT count(*) AS waiting, coalesce(min(w.due_at), 'infinity') AS next_due
		FROM iotmq_internal.redelivery AS w
		WHERE w.cursor_id = move_cut.cursor_id
	) AS r, (
		SELECT count(*) AS letters
		FROM iotmq_internal.dead_message AS m
		WHERE m.cursor_id = move_cut.cursor_id AND NOT m.redriven
	) AS d
	WHERE p.cursor_id = move_cut.cursor_id
$$;
COMMENT ON FUNCTION iotmq.move_cut IS 'internal: takes from a cursor what lies behind an offset';

-- move_demote(topic, zone, source, described, batch, lacks): the zone follows that source from the commit on. batch:
-- what the source has from move_probe on; lacks: the lowest of it that is not here, NULL: all
-- is. What only this server has goes, and a NOTICE says what that was; what lies behind what
-- it lacks goes, too, and comes again. All its segments are to be filled again, as
-- far as the source has something of their time; so none is sealed. What groups have comes
-- with the next pull.
CREATE FUNCTION iotmq.move_demote(topic text, zone text, source text, described jsonb, batch text, lacks bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	demoted iotmq_internal.zone := iotmq.move_state(topic, zone);
	offsets record := iotmq.mirror_read(described);
	common bigint;
	kept bigint;
	tail record;
BEGIN
	PERFORM iotmq.link_require(source);
	PERFORM iotmq.move_check_source(topic, zone, source, described);
	PERFORM iotmq.move_exclude(demoted.zone_id);
	PERFORM iotmq.zone_lock_change(demoted.zone_id);
	PERFORM iotmq.table_owner_require(demoted.table_name);
	common := greatest(iotmq.move_common_end(demoted.zone_id, described), 0);
	PERFORM iotmq.move_require_same(topic, zone, source, batch, common);
	-- where nothing is here, all that retention has not dropped comes again
	kept := greatest(least(common, lacks - 1, CASE WHEN batch IS NULL THEN demoted.earliest_offset - 1 END), 0);
	tail := iotmq.move_drop_behind(demoted.table_name, (iotmq.message_columns(demoted.table_name))[2], kept, common);
	DELETE FROM iotmq_internal.zone_gap AS g WHERE g.zone_id = demoted.zone_id AND g.first_offset > kept;
	UPDATE iotmq_internal.segment AS s
	SET sealed = false, first_offset = NULL, last_offset = NULL, bytes = NULL, emptied = false
	WHERE s.zone_id = demoted.zone_id AND (s.sealed OR s.emptied);
	PERFORM iotmq.move_cut(c.cursor_id, kept + 1)
	FROM iotmq_internal.cursor AS c
	WHERE c.zone_id = demoted.zone_id
	ORDER BY c.cursor_id;
	UPDATE iotmq_internal.source_group AS s
	SET hashes = NULL
	FROM iotmq_internal.cursor AS c
	WHERE c.cursor_id = s.cursor_id AND c.zone_id = demoted.zone_id;
	INSERT INTO iotmq_internal.mirror_state AS m (zone_id, source_zone, next_offset, last_offset)
	VALUES (demoted.zone_id, zone, kept + 1, kept)
	ON CONFLICT ON CONSTRAINT mirror_state_pkey
	DO UPDATE SET source_zone = excluded.source_zone, next_offset = excluded.next_offset, last_offset = excluded.last_offset, lag_messages = NULL,
		last_pull = NULL, groups_at = NULL, error = NULL, failed_at = NULL;
	UPDATE iotmq_internal.zone AS z
	SET state = 'mirror', elsewhere = source, handed_over = false, taken_by = NULL, generation = z.generation + 1,
		floor_time = '-infinity', floor_xid = NULL, seal_xid = NULL, earliest_offset = least(z.earliest_offset, kept + 1)
	WHERE z.zone_id = demoted.zone_id;
	IF tail.dropped > 0 THEN
		RAISE NOTICE 'zone "%" of topic "%" has dropped % messages that its source doesn''t have', zone, topic, tail.dropped
			USING DETAIL = format('Their offsets were %s to %s.', tail.lowest, tail.highest);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.move_demote IS 'internal: makes a zone follow another server';

-- demote_zone: what was the zone's owner, or followed another one, becomes a mirror of that foreign
-- server, which owns the zone now. Messages that the source doesn't have are dropped, and named by
-- a NOTICE. Waits for open transactions of publishers and consumers. Errors: 22004, 42704; 25001 above
-- READ COMMITTED, where messages of others would not be seen; 55000
-- the source doesn't own the zone, or has another one of that name, or triggers would run; those of the foreign server and of the source, as mirror_zone.
CREATE FUNCTION iotmq.demote_zone(topic text, zone text, source text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	connection text;
	described jsonb;
	probe record;
	from_offset bigint;
	part text;
	batch text;
	lacks record;
	lowest bigint;
BEGIN
	PERFORM iotmq.link_check(source);
	PERFORM iotmq.call_check_name('topic', topic), iotmq.call_check_name('zone', zone);
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'demote_zone() cannot run in a transaction with isolation level %',
				upper(current_setting('transaction_isolation'))
			USING ERRCODE = 'active_sql_transaction',
				HINT = 'Begin it with: BEGIN ISOLATION LEVEL READ COMMITTED;';
	END IF;
	connection := iotmq.link_open(source);
	BEGIN
		described := iotmq.link_value(connection, format('SELECT iotmq.mirror_source(%L, %L)', topic, zone));
		probe := iotmq.move_probe(topic, zone, described);
		from_offset := probe.first_offset;
		WHILE from_offset <= probe.common LOOP
			part := iotmq.link_value(connection, format('SELECT iotmq.mirror_messages(%L, %L, %s, 10000)', topic, zone, from_offset));
			batch := coalesce(batch, part);
			lacks := iotmq.move_lacks(topic, zone, part, probe.common);
			lowest := lacks.lowest;
			EXIT WHEN lowest IS NOT NULL OR lacks.next_offset <= from_offset;
			from_offset := lacks.next_offset;
		END LOOP;
	EXCEPTION WHEN OTHERS OR query_canceled THEN
		PERFORM iotmq.link_close(connection);
		RAISE;
	END;
	PERFORM iotmq.link_close(connection);
	PERFORM iotmq.move_demote(topic, zone, source, described, batch, lowest);
END
$$;
COMMENT ON FUNCTION iotmq.demote_zone IS 'makes a zone follow another server that has taken it over';
