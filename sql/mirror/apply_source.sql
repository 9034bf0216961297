-- The mirror of a zone takes over what groups have of it at its source.
--
-- What comes from the source is data: types, bounds and what must hold of rows is checked, and
-- whatever it says, it is about the groups of the mirrored zone's topic, and their cursors in
-- that zone. So a source can at worst tell its own zone's groups nonsense.
--
-- What waits and what is dead comes in buckets of offsets: see mirror/groups.sql. Those that
-- come replace what is here of them, row by row, so that nothing is written that stays as it
-- is. The content of dead letters is the log's here; what that doesn't have is asked for. A
-- reason may be longer here than there, in another encoding.
--
-- While it is a mirror, leases are kept as leases, under the cursors that the groups have here:
-- they change with each batch, and one is one row. In a move the cursors get the source's ids,
-- and with them the leases; after a disaster the leases end, as expired (apply_source_expire).
--
-- Locks: the topic, if groups are made, changed or dropped; then the zone's cursors, for itself
-- alone (cursor_lock.c), and their rows.

-- apply_source_require(is_so, what): raises 22023 unless it is so.
CREATE FUNCTION iotmq.apply_source_require(is_so boolean, what text) RETURNS void
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF is_so IS NOT TRUE THEN
		RAISE EXCEPTION '%', what USING ERRCODE = 'invalid_parameter_value';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_require IS 'internal: raises an error unless something holds of what a source sent';

-- apply_source_changed(part): which buckets come, of how many. Errors: 22023.
CREATE FUNCTION iotmq.apply_source_changed(part jsonb, OUT changed int[], OUT buckets int)
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.apply_source_require(jsonb_typeof(part -> 'hashes') = 'array' AND jsonb_typeof(part -> 'changed') = 'array',
		'buckets are missing');
	buckets := jsonb_array_length(part -> 'hashes');
	changed := ARRAY(SELECT e.one::int FROM jsonb_array_elements_text(part -> 'changed') AS e (one));
	PERFORM iotmq.apply_source_require(buckets = ANY ('{1,2,4,8,16,32,64,128,256}'), 'the number of buckets is not a power of 2 up to 256');
	PERFORM iotmq.apply_source_require(changed <@ ARRAY(SELECT generate_series(0, buckets - 1)), 'there is no such bucket');
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_changed IS 'internal: which buckets of offsets a source sent';

-- apply_source_settled(cursor_id): what the group had in another mode was settled at the source,
-- in all zones that are mirrored from there: none of them may keep the mode as it is.
CREATE FUNCTION iotmq.apply_source_settled(cursor_id int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cursors int[] := ARRAY(
		SELECT o.cursor_id
		FROM iotmq_internal.cursor AS c
		JOIN iotmq_internal.zone AS z USING (zone_id)
		JOIN iotmq_internal.cursor AS o USING (group_id)
		JOIN iotmq_internal.zone AS y ON y.zone_id = o.zone_id
		WHERE c.cursor_id = apply_source_settled.cursor_id
			AND (o.cursor_id = c.cursor_id OR (y.state = 'mirror' AND y.elsewhere = z.elsewhere))
		ORDER BY o.cursor_id);
BEGIN
	PERFORM iotmq.cursor_lock_exclude(cursors);
	PERFORM FROM iotmq_internal.cursor_state AS p WHERE p.cursor_id = ANY (cursors) ORDER BY p.cursor_id FOR UPDATE;
	PERFORM iotmq.lease_void(c) FROM unnest(cursors) AS c;
	DELETE FROM iotmq_internal.redelivery AS r WHERE r.cursor_id = ANY (cursors);
	UPDATE iotmq_internal.cursor_state AS p
	SET oldest_lease = p.last_lease + 1, next_expiry = 'infinity', next_due = 'infinity', redeliveries = 0
	WHERE p.cursor_id = ANY (cursors);
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_settled IS 'internal: ends what a group had in another mode at the source';

-- apply_source_settings(topic, group, settings, cursor_id): the group exists, with the source's
-- settings if it is made here, and with what the source has changed of them since. cursor_id:
-- of the group in the zone, NULL: there is no group. True: it was made.
-- Errors: 22004, 22023, 42602; 55000 it has another mode here.
CREATE FUNCTION iotmq.apply_source_settings(topic text, consumer_group text, settings jsonb, cursor_id int) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	new iotmq_internal.consumer_group;
	old jsonb;
	given jsonb;
	mode_here text;
BEGIN
	new := jsonb_populate_record(NULL::iotmq_internal.consumer_group, settings);
	PERFORM iotmq.apply_source_require(num_nulls(new.mode, new.invisible_for, new.max_retries, new.backoff, new.durable_acks, new.paused) = 0,
		'settings are missing');
	IF cursor_id IS NULL THEN
		-- what other zones have, nobody has read as this group
		PERFORM iotmq.create_group(topic, consumer_group, new.mode, '-infinity', coalesce(array_to_string(new.tags, ' || '), '*'),
			new.filter, new.invisible_for, new.max_retries, new.backoff, new.max_delay, new.max_lag, new.durable_acks);
		IF new.paused THEN
			PERFORM iotmq.group_pause(topic, consumer_group, true);
		END IF;
		RETURN true;
	END IF;

	SELECT s.settings INTO old
	FROM iotmq_internal.source_group AS s
	WHERE s.cursor_id = apply_source_settings.cursor_id;
	SELECT g.mode INTO mode_here
	FROM iotmq_internal.consumer_group AS g
	JOIN iotmq_internal.cursor AS c USING (group_id)
	WHERE c.cursor_id = apply_source_settings.cursor_id;
	IF old IS NOT NULL AND old <> settings THEN
		-- those that are as they were may have been changed here
		SELECT jsonb_object_agg(s.key, s.value) INTO given
		FROM jsonb_each(settings) AS s
		WHERE s.value IS DISTINCT FROM old -> s.key;
		IF given ? 'mode' AND new.mode <> mode_here THEN
			PERFORM iotmq.apply_source_settled(cursor_id);
			mode_here := new.mode;
		END IF;
		PERFORM iotmq.alter_group(topic, consumer_group,
			CASE WHEN given ? 'mode' THEN new.mode END,
			CASE WHEN given ? 'tags' THEN coalesce(array_to_string(new.tags, ' || '), '*') END,
			CASE WHEN given ? 'filter' THEN new.filter END,
			CASE WHEN given ? 'invisible_for' THEN new.invisible_for END,
			CASE WHEN given ? 'max_retries' THEN new.max_retries END,
			CASE WHEN given ? 'backoff' THEN new.backoff END,
			CASE WHEN given ? 'max_delay' THEN new.max_delay END,
			CASE WHEN given ? 'max_lag' THEN new.max_lag END,
			ARRAY(SELECT s.key
				FROM jsonb_each(given) AS s
				WHERE s.key IN ('filter', 'max_delay', 'max_lag') AND s.value = 'null'),
			CASE WHEN given ? 'durable_acks' THEN new.durable_acks END);
		IF given ? 'paused' THEN
			PERFORM iotmq.group_pause(topic, consumer_group, new.paused);
		END IF;
	ELSIF old IS NULL THEN
		PERFORM iotmq.group_check(new.mode, new.filter, new.invisible_for, new.max_retries, new.backoff, new.max_delay, new.max_lag);
	END IF;
	IF new.mode IS DISTINCT FROM mode_here THEN
		RAISE EXCEPTION 'consumer group "%" of topic "%" is % here, and % at the source', consumer_group, topic, mode_here, new.mode
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format('Run: SELECT iotmq.alter_group(%L, %L, mode => %L);', topic, consumer_group, new.mode);
	END IF;
	RETURN false;
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_settings IS 'internal: makes a group, or changes it as the source did';

-- apply_source_waiting(cursor_id, part, orderly, next_offset, pulled_end): what waits. Errors: 22023.
CREATE FUNCTION iotmq.apply_source_waiting(cursor_id int, part jsonb, orderly boolean, next_offset bigint,
		pulled_end bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	come record := iotmq.apply_source_changed(part);
	rows jsonb := part -> 'rows';
	wrong boolean;
BEGIN
	IF come.changed = '{}' THEN
		RETURN;
	END IF;
	-- what lies at or above the position would be delivered from the log, too
	SELECT count(*) <> count(DISTINCT w.msg_offset) OR count(*) > count(*) FILTER (WHERE
			w.msg_offset >= 1 AND w.attempt >= 1 AND isfinite(w.not_before)
			AND (isfinite(w.due_at) OR (orderly AND w.due_at = 'infinity'))
			AND w.redriven IS NOT NULL AND w.deferred IS NOT NULL
			AND coalesce(w.batch_limit BETWEEN 1 AND 10000, true) AND coalesce(octet_length(w.reason) <= 4096, true)
			AND CASE WHEN orderly THEN octet_length(w.device_id) BETWEEN 1 AND 255 ELSE w.device_id IS NULL END
			AND (w.msg_offset < next_offset OR w.msg_offset >= pulled_end)
			AND (w.msg_offset >> 9 & (come.buckets - 1))::int = ANY (come.changed)) INTO wrong
	FROM unnest((rows ->> 'msg_offset')::bigint[], (rows ->> 'attempt')::int[], (rows ->> 'due_at')::timestamptz[],
		(rows ->> 'not_before')::timestamptz[], (rows ->> 'redriven')::boolean[], (rows ->> 'batch_limit')::int[],
		(rows ->> 'device_id')::text[], (rows ->> 'reason')::text[], (rows ->> 'deferred')::boolean[])
		AS w (msg_offset, attempt, due_at, not_before, redriven, batch_limit, device_id, reason, deferred);
	PERFORM iotmq.apply_source_require(NOT wrong, 'what waits has rows that can''t be');

	WITH sent AS MATERIALIZED (
		SELECT apply_source_waiting.cursor_id, w.attempt, w.due_at, w.not_before, w.msg_offset, w.redriven, w.batch_limit,
			w.device_id COLLATE "C" AS device_id, w.reason, w.deferred
		FROM unnest((rows ->> 'msg_offset')::bigint[], (rows ->> 'attempt')::int[], (rows ->> 'due_at')::timestamptz[],
			(rows ->> 'not_before')::timestamptz[], (rows ->> 'redriven')::boolean[], (rows ->> 'batch_limit')::int[],
			(rows ->> 'device_id')::text[], (rows ->> 'reason')::text[], (rows ->> 'deferred')::boolean[])
			AS w (msg_offset, attempt, due_at, not_before, redriven, batch_limit, device_id, reason, deferred)
		WHERE w.msg_offset < apply_source_waiting.next_offset
	), here AS MATERIALIZED (
		SELECT r.ctid AS tid, r
		FROM iotmq_internal.redelivery AS r
		WHERE r.cursor_id = apply_source_waiting.cursor_id
			AND (r.msg_offset >> 9 & (come.buckets - 1))::int = ANY (come.changed)
	), gone AS (
		DELETE FROM iotmq_internal.redelivery AS d
		USING here AS h
		LEFT JOIN sent AS s ON s.msg_offset = (h.r).msg_offset
		WHERE d.ctid = h.tid
			AND (s.msg_offset IS NULL OR h.r IS DISTINCT FROM ROW(s.*)::iotmq_internal.redelivery)
	)
	INSERT INTO iotmq_internal.redelivery (cursor_id, attempt, due_at, not_before, msg_offset, redriven, batch_limit,
		device_id, reason, deferred)
	SELECT s.cursor_id, s.attempt, s.due_at, s.not_before, s.msg_offset, s.redriven, s.batch_limit, s.device_id, s.reason,
		s.deferred
	FROM sent AS s
	LEFT JOIN here AS h ON (h.r).msg_offset = s.msg_offset
	WHERE h.tid IS NULL OR h.r IS DISTINCT FROM ROW(s.*)::iotmq_internal.redelivery;

	-- the first of a device is due some time, and no other: see redelivery.c
	UPDATE iotmq_internal.redelivery AS r
	SET due_at = CASE WHEN o.is_first THEN r.not_before ELSE 'infinity' END
	FROM (
		SELECT w.ctid AS tid, row_number() OVER (PARTITION BY w.device_id ORDER BY w.msg_offset) = 1 AS is_first
		FROM iotmq_internal.redelivery AS w
		WHERE orderly AND w.cursor_id = apply_source_waiting.cursor_id
	) AS o
	WHERE r.ctid = o.tid AND o.is_first = (r.due_at = 'infinity');
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_waiting IS 'internal: takes over what waits at the source';

-- apply_source_answer(answer): what mirror_letters returned, as rows.
CREATE FUNCTION iotmq.apply_source_answer(answer jsonb, OUT msg_offset bigint, OUT published_at timestamptz, OUT device_id text,
		OUT tag text, OUT payload jsonb, OUT body bytea, OUT properties jsonb, OUT message_key text) RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT a.msg_offset, a.published_at, a.device_id, a.tag, a.payload::jsonb, a.body::bytea, a.properties::jsonb, a.message_key
	FROM jsonb_to_recordset(answer) AS a (msg_offset bigint, published_at timestamptz, device_id text, tag text,
		payload text, body text, properties text, message_key text)
$$;
COMMENT ON FUNCTION iotmq.apply_source_answer IS 'internal: the content of dead letters, as a source sent it';

-- apply_source_content(zone_id, msg_offsets, state, consumer_group): makes dead letters, which
-- have all but their content, of messages. Of those that the log here does not have, the
-- source is asked; what it has not any more is none.
-- Errors: 22023 there is nobody to be asked; those of message_is_valid.
CREATE FUNCTION iotmq.apply_source_content(zone_id int, msg_offsets bigint[], state jsonb, consumer_group text)
		RETURNS SETOF iotmq_internal.dead_message
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place record;
	columns text[];
	missing bigint[];
	answer jsonb;
	came bigint[];
BEGIN
	SELECT z.zone, z.table_name INTO STRICT place FROM iotmq_internal.zone AS z WHERE z.zone_id = apply_source_content.zone_id;
	columns := iotmq.message_columns(place.table_name);
	PERFORM iotmq.table_owner_require(place.table_name);
	RETURN QUERY EXECUTE format(
		'SELECT 0::bigint, 0, 0, NULL::timestamptz, false, NULL::text, %L::text COLLATE "C", %s FROM %s WHERE %s = ANY ($1)',
		place.zone, array_to_string(columns[2:9], ', '), place.table_name, columns[2]) USING msg_offsets;
	EXECUTE format('SELECT array_agg(o ORDER BY o) FROM unnest($1) AS o WHERE NOT EXISTS (SELECT FROM %s AS m WHERE m.%s = o)',
		place.table_name, columns[2]) INTO missing USING msg_offsets;
	PERFORM iotmq.apply_source_require(missing IS NULL OR state ? 'conn',
		format('the dead letter of offset %s has no content', missing[1]));
	WHILE cardinality(missing) > 0 LOOP
		answer := iotmq.read_source_value(state ->> 'conn', format('SELECT iotmq.mirror_letters(%L, %L, %L, %L::bigint[])',
			state ->> 'topic', state ->> 'zone', consumer_group, missing[1:1000]));
		PERFORM iotmq.apply_source_require(jsonb_typeof(answer) = 'array', 'the content of dead letters is no list');
		SELECT array_agg(m.msg_offset) INTO came
		FROM iotmq.apply_source_answer(answer) AS m
		WHERE m.msg_offset = ANY (missing[1:1000]) AND m.device_id IS NOT NULL AND isfinite(m.published_at)
			AND iotmq.message_is_valid(m.device_id, m.tag, m.payload, m.body, m.properties, m.message_key);
		PERFORM iotmq.apply_source_require(coalesce(cardinality(came), 0) = jsonb_array_length(answer)
			AND (SELECT count(DISTINCT o) FROM unnest(came) AS o) = jsonb_array_length(answer), 'the content of a dead letter can''t be');
		RETURN QUERY
		SELECT 0::bigint, 0, 0, NULL::timestamptz, false, NULL::text, place.zone, m.msg_offset, m.published_at, m.device_id,
			m.tag, m.payload, m.body, m.properties, m.message_key
		FROM iotmq.apply_source_answer(answer) AS m;
		-- they come in order, as many as there is room for
		missing := ARRAY(
			SELECT o FROM unnest(missing[1:1000]) AS o WHERE o > (SELECT max(c) FROM unnest(came) AS c)
		) || missing[1001:];
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_content IS 'internal: the content of messages, from the log here or the source';

-- apply_source_letters(cursor_id, zone_id, state, consumer_group, part): what is dead. Errors: 22023.
CREATE FUNCTION iotmq.apply_source_letters(cursor_id int, zone_id int, state jsonb, consumer_group text, part jsonb) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	come record := iotmq.apply_source_changed(part);
	rows jsonb := part -> 'rows';
	wrong boolean;
	lacking bigint[];
BEGIN
	IF come.changed = '{}' THEN
		RETURN;
	END IF;
	SELECT count(*) > count(*) FILTER (WHERE l.msg_offset >= 1 AND l.attempts >= 0 AND isfinite(l.dead_at) AND l.redriven IS NOT NULL
			AND coalesce(octet_length(l.reason) <= 4096, true)
			AND (l.msg_offset >> 9 & (come.buckets - 1))::int = ANY (come.changed)) INTO wrong
	FROM unnest((rows ->> 'msg_offset')::bigint[], (rows ->> 'attempts')::int[], (rows ->> 'dead_at')::timestamptz[],
		(rows ->> 'redriven')::boolean[], (rows ->> 'reason')::text[]) AS l (msg_offset, attempts, dead_at, redriven, reason);
	PERFORM iotmq.apply_source_require(NOT wrong, 'there are dead letters that can''t be');

	-- those of a message differ in how it ended: in the order of that, one is for one
	WITH sent AS MATERIALIZED (
		SELECT l.*, row_number() OVER (PARTITION BY l.msg_offset ORDER BY l.dead_at, l.attempts, l.redriven, l.reason) AS nth
		FROM unnest((rows ->> 'msg_offset')::bigint[], (rows ->> 'attempts')::int[], (rows ->> 'dead_at')::timestamptz[],
			(rows ->> 'redriven')::boolean[], (rows ->> 'reason')::text[]) AS l (msg_offset, attempts, dead_at, redriven, reason)
	), here AS MATERIALIZED (
		SELECT d.id, d.msg_offset, d.attempts, d.dead_at, d.redriven, d.reason,
			row_number() OVER (PARTITION BY d.msg_offset ORDER BY d.dead_at, d.attempts, d.redriven, d.reason) AS nth
		FROM iotmq_internal.dead_message AS d
		WHERE d.cursor_id = apply_source_letters.cursor_id
			AND (d.msg_offset >> 9 & (come.buckets - 1))::int = ANY (come.changed)
	), gone AS (
		DELETE FROM iotmq_internal.dead_message AS d
		USING here AS h
		WHERE d.id = h.id AND NOT EXISTS (SELECT FROM sent AS s WHERE s.msg_offset = h.msg_offset AND s.nth = h.nth)
	), changed AS (
		UPDATE iotmq_internal.dead_message AS d
		SET attempts = s.attempts, dead_at = s.dead_at, redriven = s.redriven, reason = s.reason
		FROM here AS h
		JOIN sent AS s USING (msg_offset, nth)
		WHERE d.id = h.id
			AND (h.attempts, h.dead_at, h.redriven, h.reason) IS DISTINCT FROM (s.attempts, s.dead_at, s.redriven, s.reason)
	)
	SELECT array_agg(DISTINCT s.msg_offset) INTO lacking
	FROM sent AS s
	WHERE NOT EXISTS (SELECT FROM here AS h WHERE h.msg_offset = s.msg_offset AND h.nth = s.nth);

	IF lacking IS NOT NULL THEN
		INSERT INTO iotmq_internal.dead_message (cursor_id, attempts, dead_at, redriven, reason, zone, msg_offset, published_at,
			device_id, tag, payload, body, properties, message_key)
		SELECT apply_source_letters.cursor_id, s.attempts, s.dead_at, s.redriven, s.reason, m.zone, m.msg_offset, m.published_at,
			m.device_id, m.tag, m.payload, m.body, m.properties, m.message_key
		FROM (
			SELECT l.*, row_number() OVER (PARTITION BY l.msg_offset ORDER BY l.dead_at, l.attempts, l.redriven, l.reason) AS nth
			FROM unnest((rows ->> 'msg_offset')::bigint[], (rows ->> 'attempts')::int[], (rows ->> 'dead_at')::timestamptz[],
				(rows ->> 'redriven')::boolean[], (rows ->> 'reason')::text[]) AS l (msg_offset, attempts, dead_at, redriven, reason)
		) AS s
		JOIN iotmq.apply_source_content(zone_id, lacking, state, consumer_group) AS m USING (msg_offset)
		WHERE s.nth > (
			SELECT count(*)
			FROM iotmq_internal.dead_message AS d
			WHERE d.cursor_id = apply_source_letters.cursor_id AND d.msg_offset = s.msg_offset)
		ORDER BY s.dead_at, s.msg_offset;
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_letters IS 'internal: takes over the dead letters of the source';

-- apply_source_cut(cursor_id, next_offset): of the cursor's leases, what they have from that
-- offset on counts as settled.
CREATE FUNCTION iotmq.apply_source_cut(cursor_id int, next_offset bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ahead record;
	bits bytea;
BEGIN
	FOR ahead IN
		SELECT l.lease_id, l.settled, l.messages, m.n, m.beyond
		FROM iotmq_internal.lease AS l
		CROSS JOIN LATERAL (
			SELECT count(*)::int AS n, array_agg(o.nth) FILTER (WHERE o.msg_offset >= apply_source_cut.next_offset) AS beyond
			FROM iotmq.runs_messages(l.first_offset, l.last_offset, l.runs) AS o
		) AS m
		WHERE l.lease_id >= iotmq.lease_first(apply_source_cut.cursor_id)
			AND l.lease_id < iotmq.lease_first(apply_source_cut.cursor_id + 1)
			AND l.last_offset >= apply_source_cut.next_offset
	LOOP
		bits := coalesce(ahead.settled, decode(repeat('00', (ahead.n + 7) / 8), 'hex'));
		FOR i IN 1 .. coalesce(cardinality(ahead.beyond), 0) LOOP
			ahead.messages := ahead.messages - 1 + get_bit(bits, ahead.beyond[i]);
			bits := set_bit(bits, ahead.beyond[i], 1);
		END LOOP;
		IF ahead.messages > 0 THEN
			UPDATE iotmq_internal.lease AS l SET settled = bits, messages = ahead.messages WHERE l.lease_id = ahead.lease_id;
		ELSE
			DELETE FROM iotmq_internal.lease AS l WHERE l.lease_id = ahead.lease_id;
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_cut IS 'internal: takes from leases what lies behind an offset';

-- apply_source_leases(cursor_id, part, orderly, next_offset, pulled_end): what is in flight. Errors: 22023.
CREATE FUNCTION iotmq.apply_source_leases(cursor_id int, part jsonb, orderly boolean, next_offset bigint,
		pulled_end bigint, last_lease bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	first bigint := iotmq.lease_first(cursor_id);
	rows jsonb := part -> 'rows';
	wrong boolean;
	stored bigint;
BEGIN
	IF jsonb_typeof(rows) IS DISTINCT FROM 'object' THEN
		RETURN;
	END IF;
	-- all anew: a batch is one row, and few of them stay from one pull to the next
	DELETE FROM iotmq_internal.lease AS l WHERE l.lease_id >= first AND l.lease_id < iotmq.lease_first(cursor_id + 1);
	INSERT INTO iotmq_internal.lease (lease_id, first_offset, last_offset, leased_at, deadline, messages, redriven, settled,
		batch_limit, consumer, runs, devices)
	SELECT first + l.number, l.first_offset, l.last_offset, l.leased_at, l.deadline, l.messages, l.redriven, l.settled,
		l.batch_limit, l.consumer, l.runs, l.devices::text[]
	FROM unnest((rows ->> 'number')::bigint[], (rows ->> 'first_offset')::bigint[], (rows ->> 'last_offset')::bigint[],
		(rows ->> 'leased_at')::timestamptz[], (rows ->> 'deadline')::timestamptz[], (rows ->> 'messages')::int[],
		(rows ->> 'redriven')::boolean[], (rows ->> 'settled')::bytea[], (rows ->> 'batch_limit')::int[],
		(rows ->> 'consumer')::text[], (rows ->> 'runs')::bytea[], (rows ->> 'devices')::text[])
		AS l (number, first_offset, last_offset, leased_at, deadline, messages, redriven, settled, batch_limit, consumer, runs,
			devices)
	WHERE l.number BETWEEN 0 AND last_lease - first;
	GET DIAGNOSTICS stored = ROW_COUNT;
	PERFORM iotmq.apply_source_require(stored = coalesce(cardinality((rows ->> 'number')::bigint[]), 0), 'a lease has an id that can''t be');

	SELECT count(*) > count(*) FILTER (WHERE isfinite(l.leased_at) AND isfinite(l.deadline) AND l.messages > 0 AND l.messages = m.open
			AND coalesce(octet_length(l.settled) = (m.n + 7) / 8, true) AND coalesce(l.batch_limit BETWEEN 1 AND 10000, true)
			AND CASE WHEN orderly THEN m.n = cardinality(l.devices) AND array_ndims(l.devices) = 1 AND array_lower(l.devices, 1) = 1
				AND NOT EXISTS (SELECT FROM unnest(l.devices) AS device WHERE octet_length(device) BETWEEN 1 AND 255 IS NOT TRUE)
				ELSE l.devices IS NULL END
			AND (m.highest < next_offset OR m.highest >= pulled_end)) INTO wrong
	FROM iotmq_internal.lease AS l
	CROSS JOIN LATERAL (
		SELECT count(*)::int AS n, max(o.msg_offset) AS highest,
			count(*) FILTER (WHERE l.settled IS NULL OR get_bit(l.settled, o.nth) = 0)::int AS open
		FROM iotmq.runs_messages(l.first_offset, l.last_offset, l.runs) AS o
	) AS m
	WHERE l.lease_id >= first AND l.lease_id < iotmq.lease_first(cursor_id + 1);
	PERFORM iotmq.apply_source_require(NOT wrong, 'there are leases that can''t be');

	-- what was not pulled yet is delivered from the log some day
	PERFORM iotmq.apply_source_cut(cursor_id, next_offset);
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_leases IS 'internal: takes over the leases of the source';

-- apply_source_require_once(cursor_id): raises 22023 if a message is in two leases, or in one and
-- waits, too: then a lease could get it twice.
CREATE FUNCTION iotmq.apply_source_require_once(cursor_id int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.apply_source_require(NOT EXISTS (
		SELECT
		FROM (
			SELECT o.msg_offset, count(*) AS n
			FROM iotmq_internal.lease AS l
			CROSS JOIN LATERAL iotmq.runs_messages(l.first_offset, l.last_offset, l.runs) AS o
			WHERE l.lease_id >= iotmq.lease_first(apply_source_require_once.cursor_id)
				AND l.lease_id < iotmq.lease_first(apply_source_require_once.cursor_id + 1)
				AND (l.settled IS NULL OR get_bit(l.settled, o.nth) = 0)
			GROUP BY o.msg_offset
		) AS f
		LEFT JOIN iotmq_internal.redelivery AS r
			ON r.cursor_id = apply_source_require_once.cursor_id AND r.msg_offset = f.msg_offset
		WHERE f.n > 1 OR r.msg_offset IS NOT NULL), 'a message is in flight, and in flight or waiting once more');
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_require_once IS 'internal: raises an error if a message is in two places';

-- apply_source_cursor(cursor_id, zone_id, state, of_group, pulled_end, move, made): what one group
-- has. Errors: 22023.
CREATE FUNCTION iotmq.apply_source_cursor(cursor_id int, zone_id int, state jsonb, of_group jsonb, pulled_end bigint,
		move boolean, made boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id_here int := cursor_id;
	sent iotmq_internal.cursor_state;
	orderly boolean;
	full_next bigint;
	next bigint;
	number bigint;
	here iotmq_internal.cursor_state;
	leases record;
BEGIN
	IF move THEN
		id_here := (of_group ->> 'cursor_id')::int;
		PERFORM iotmq.cursor_renumber(cursor_id, id_here);
	END IF;
	SELECT g.mode = 'orderly' INTO orderly
	FROM iotmq_internal.cursor AS c
	JOIN iotmq_internal.consumer_group AS g USING (group_id)
	WHERE c.cursor_id = id_here;
	sent := jsonb_populate_record(NULL::iotmq_internal.cursor_state, of_group -> 'position');
	number := sent.last_lease;
	PERFORM iotmq.apply_source_require(sent.next_offset >= 1 AND sent.expired_unread >= 0 AND sent.delivered_total >= 0
		AND sent.retried_total >= 0 AND sent.dead_total >= 0 AND sent.next_redriven >= 0 AND sent.last_consumed_at < 'infinity'
		AND number BETWEEN 0 AND (1::bigint << 43) - 2, 'the position can''t be');
	-- a group goes on at the earliest message; what is not here yet is not passed
	full_next := greatest(sent.next_offset, (state ->> 'earliest_offset')::bigint);
	next := least(full_next, pulled_end);
	-- no lease was given out with another number than this cursor's
	sent.last_lease := CASE WHEN number = 0 THEN 0 ELSE iotmq.lease_first(id_here) + number END;

	PERFORM iotmq.apply_source_waiting(id_here, of_group -> 'waiting', orderly, next, pulled_end);
	PERFORM iotmq.apply_source_letters(id_here, zone_id, state, of_group ->> 'consumer_group', of_group -> 'letters');
	PERFORM iotmq.apply_source_leases(id_here, of_group -> 'leases', orderly, next, pulled_end, sent.last_lease);

	-- what did not come is as it was
	SELECT p.* INTO STRICT here FROM iotmq_internal.cursor_state AS p WHERE p.cursor_id = id_here;
	IF of_group #> '{waiting,changed}' <> '[]' THEN
		SELECT count(*), coalesce(min(r.due_at), 'infinity') INTO here.redeliveries, here.next_due
		FROM iotmq_internal.redelivery AS r
		WHERE r.cursor_id = id_here;
	END IF;
	IF of_group #> '{letters,changed}' <> '[]' THEN
		SELECT count(*) INTO here.dead_letters
		FROM iotmq_internal.dead_message AS d
		WHERE d.cursor_id = id_here AND NOT d.redriven;
	END IF;
	-- those that the position does not pass have their place in the log: see place.c
	here.next_redriven := least(sent.next_redriven, (
		SELECT min(d.msg_offset)
		FROM iotmq_internal.dead_message AS d
		WHERE d.cursor_id = id_here AND d.redriven AND d.msg_offset >= next));
	IF of_group #> '{waiting,changed}' <> '[]' OR of_group #> '{leases,rows}' <> 'null' THEN
		PERFORM iotmq.apply_source_require_once(id_here);
	END IF;
	sent.last_lease := greatest(sent.last_lease, (SELECT past.last_lease FROM iotmq_internal.past_cursor AS past WHERE past.cursor_id = id_here));
	SELECT coalesce(min(l.lease_id), sent.last_lease + 1) AS oldest, coalesce(min(l.deadline), 'infinity') AS next_expiry INTO leases
	FROM iotmq_internal.lease AS l
	WHERE l.lease_id >= iotmq.lease_first(id_here) AND l.lease_id < iotmq.lease_first(id_here + 1);
	-- what is known to be stable is so at the source
	UPDATE iotmq_internal.cursor_state AS p
	SET next_offset = next, stable_offset = 0, sample_offset = 0, sample_xid = '0', last_lease = sent.last_lease,
		oldest_lease = leases.oldest, next_expiry = leases.next_expiry, next_due = here.next_due,
		last_consumed_at = sent.last_consumed_at, expired_unread = sent.expired_unread, redeliveries = here.redeliveries,
		delivered_total = sent.delivered_total, retried_total = sent.retried_total, dead_total = sent.dead_total,
		dead_letters = here.dead_letters, next_redriven = here.next_redriven
	WHERE p.cursor_id = id_here
		AND (p.next_offset, p.stable_offset, p.sample_offset, p.last_lease, p.oldest_lease, p.next_expiry, p.next_due,
			p.last_consumed_at, p.expired_unread, p.redeliveries, p.delivered_total, p.retried_total, p.dead_total,
			p.dead_letters, p.next_redriven)
		IS DISTINCT FROM (next, 0::bigint, 0::bigint, sent.last_lease, leases.oldest, leases.next_expiry, here.next_due,
			sent.last_consumed_at, sent.expired_unread, here.redeliveries, sent.delivered_total, sent.retried_total, sent.dead_total,
			here.dead_letters, here.next_redriven);

	INSERT INTO iotmq_internal.source_group AS s (cursor_id, made, settings, hashes, left_as)
	SELECT id_here, apply_source_cursor.made, of_group -> 'settings',
		CASE WHEN full_next <= pulled_end THEN jsonb_build_object('waiting', of_group -> 'waiting' -> 'hashes',
			'letters', of_group -> 'letters' -> 'hashes', 'leases', of_group -> 'leases' -> 'hash') END,
		hash_record_extended(p, 0)
	FROM iotmq_internal.cursor_state AS p
	WHERE p.cursor_id = id_here
	ON CONFLICT ON CONSTRAINT source_group_pkey
	DO UPDATE SET settings = excluded.settings, hashes = excluded.hashes, left_as = excluded.left_as
	WHERE (s.settings, s.hashes, s.left_as) IS DISTINCT FROM (excluded.settings, excluded.hashes, excluded.left_as);
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_cursor IS 'internal: takes over what a group has at the source';

-- apply_source_dropped(topic, zone_id, groups): groups that the source had, and has no more, are
-- dropped, if the mirror made them and no zone of the topic has them from elsewhere.
CREATE FUNCTION iotmq.apply_source_dropped(topic text, zone_id int, groups text[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	dropped record;
BEGIN
	FOR dropped IN
		SELECT g.consumer_group, s.cursor_id,
			s.made AND NOT EXISTS (SELECT FROM iotmq_internal.cursor AS o
				WHERE o.group_id = g.group_id AND o.cursor_id NOT IN (SELECT e.cursor_id FROM iotmq_internal.source_group AS e)) AS entirely
		FROM iotmq_internal.source_group AS s
		JOIN iotmq_internal.cursor AS c USING (cursor_id)
		JOIN iotmq_internal.consumer_group AS g USING (group_id)
		WHERE c.zone_id = apply_source_dropped.zone_id AND g.consumer_group <> ALL (groups)
		ORDER BY g.group_id
	LOOP
		IF dropped.entirely THEN
			PERFORM iotmq.drop_group(topic, dropped.consumer_group, force => true);
		ELSE
			DELETE FROM iotmq_internal.source_group AS s WHERE s.cursor_id = dropped.cursor_id;
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_dropped IS 'internal: drops the groups that the source has dropped';

-- apply_source_groups(zone_id, state, pulled_end, move): the zone's groups have what they have at
-- the source, as read_source_groups read it; pulled_end: the first offset that is not pulled
-- yet, which no position passes. move: the source gives the zone up, and all of it is pulled:
-- the cursors get the source's ids, by which leases are known.
-- Errors: 22004; 42704 there is no such zone; 22023 the state can't be; 55000 a group has
-- another mode here. Nothing is changed then.
CREATE FUNCTION iotmq.apply_source_groups(zone_id int, state jsonb, pulled_end bigint, move boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET intervalstyle = 'postgres'
AS $$
DECLARE
	place record;
	of_group jsonb;
	name text;
	names text[] := '{}';
	cursor_here int;
	made boolean[] := '{}';
	made_here boolean;
	detail text;
	hint text;
BEGIN
	IF zone_id IS NULL OR state IS NULL OR pulled_end IS NULL OR move IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', CASE WHEN zone_id IS NULL THEN 'zone_id' WHEN state IS NULL THEN 'state'
				WHEN pulled_end IS NULL THEN 'pulled_end' ELSE 'move' END
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	SELECT t.topic, z.zone INTO place
	FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE z.zone_id = apply_source_groups.zone_id;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no zone %', zone_id USING ERRCODE = 'undefined_object';
	END IF;
	BEGIN
		PERFORM iotmq.apply_source_require(state ->> 'version' = '1' AND jsonb_typeof(state -> 'groups') = 'array'
			AND (state ->> 'earliest_offset')::bigint >= 1, 'it is not the state of groups, or of another version of iotmq');
		-- two mirrors of the topic may change its groups: in turns
		IF EXISTS (
			SELECT s.settings, g.consumer_group
			FROM iotmq_internal.source_group AS s
			JOIN iotmq_internal.cursor AS c USING (cursor_id)
			JOIN iotmq_internal.consumer_group AS g USING (group_id)
			FULL JOIN jsonb_array_elements(state -> 'groups') AS e (one) ON e.one ->> 'consumer_group' = g.consumer_group
				AND c.zone_id = apply_source_groups.zone_id
			WHERE coalesce(c.zone_id, apply_source_groups.zone_id) = apply_source_groups.zone_id
				AND s.settings IS DISTINCT FROM e.one -> 'settings')
		THEN
			PERFORM iotmq.call_hold_topic(place.topic);
		END IF;
		FOR of_group IN SELECT e.one FROM jsonb_array_elements(state -> 'groups') AS e (one) LOOP
			name := of_group ->> 'consumer_group';
			PERFORM iotmq.call_check_name('consumer_group', name);
			PERFORM iotmq.apply_source_require(name <> ALL (names), 'a consumer group comes twice');
			SELECT c.cursor_id INTO cursor_here
			FROM iotmq_internal.consumer_group AS g
			JOIN iotmq_internal.topic AS t USING (topic_id)
			JOIN iotmq_internal.cursor AS c ON c.group_id = g.group_id AND c.zone_id = apply_source_groups.zone_id
			WHERE t.topic = place.topic AND g.consumer_group = name;
			names := names || name;
			made := made || iotmq.apply_source_settings(place.topic, name, of_group -> 'settings', cursor_here);
		END LOOP;
		name := NULL;
		PERFORM iotmq.apply_source_dropped(place.topic, zone_id, names);

		PERFORM iotmq.cursor_lock_exclude(array_agg(c.cursor_id ORDER BY c.cursor_id))
		FROM iotmq_internal.cursor AS c
		JOIN iotmq_internal.consumer_group AS g USING (group_id)
		WHERE c.zone_id = apply_source_groups.zone_id AND g.consumer_group = ANY (names)
		HAVING count(*) > 0;
		FOR i IN 1 .. cardinality(names) LOOP
			name := names[i];
			SELECT c.cursor_id, made[i] OR EXISTS (SELECT FROM iotmq_internal.cursor AS o
					JOIN iotmq_internal.source_group AS s USING (cursor_id)
					WHERE o.group_id = g.group_id AND s.made)
			INTO cursor_here, made_here
			FROM iotmq_internal.cursor AS c
			JOIN iotmq_internal.consumer_group AS g USING (group_id)
			JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
			WHERE c.zone_id = apply_source_groups.zone_id AND g.consumer_group = name
			FOR UPDATE OF p;
			PERFORM iotmq.apply_source_cursor(cursor_here, zone_id, state, state -> 'groups' -> (i - 1), pulled_end, move, made_here);
		END LOOP;
	EXCEPTION WHEN data_exception OR syntax_error OR data_corrupted OR integrity_constraint_violation OR invalid_name THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		RAISE EXCEPTION 'what the source of zone "%" of topic "%" says of its groups can''t be taken over', place.zone, place.topic
			USING ERRCODE = 'invalid_parameter_value',
				HINT = coalesce(NULLIF(hint, ''), format('Look at it there: SELECT jsonb_pretty(iotmq.mirror_groups(%L, %L));',
					coalesce(state ->> 'topic', place.topic), coalesce(state ->> 'zone', place.zone))),
				DETAIL = concat('Consumer group "' || name || '": ', SQLERRM, '. ' || NULLIF(detail, ''));
	END;
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_groups IS 'internal: takes over what the groups of a mirrored zone have at its source';

-- apply_source_expire(zone_id): the source is gone, and with it whoever had a lease: what was in
-- flight is due now, as after a lease that expired. The zone is open already. New leases begin
-- an hour ahead: those that the source has given out since have other ids, although its clock
-- may have been fast, and its node this one's. Errors: 55000 leases stay.
CREATE FUNCTION iotmq.apply_source_expire(zone_id int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cursors int[] := ARRAY(
		SELECT c.cursor_id FROM iotmq_internal.cursor AS c WHERE c.zone_id = apply_source_expire.zone_id ORDER BY c.cursor_id);
	one int;
	ended int;
	ahead bigint := (extract(epoch FROM clock_timestamp() + interval '1 hour' - timestamptz '2026-01-01 00:00+00') * 10000)::bigint;
BEGIN
	PERFORM iotmq.cursor_lock_exclude(cursors);
	PERFORM FROM iotmq_internal.cursor_state AS p WHERE p.cursor_id = ANY (cursors) ORDER BY p.cursor_id FOR UPDATE;
	FOREACH one IN ARRAY cursors LOOP
		-- a step each; the last one finds none, if retention has ended those that were there
		WHILE (SELECT p.next_expiry < 'infinity' FROM iotmq_internal.cursor_state AS p WHERE p.cursor_id = one) LOOP
			ended := coalesce(iotmq.expire_leases(one, 'infinity'), 0);
			IF ended = 0 AND (SELECT p.next_expiry < 'infinity' FROM iotmq_internal.cursor_state AS p WHERE p.cursor_id = one) THEN
				RAISE EXCEPTION 'the leases of zone % can''t be ended', zone_id
					USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'It is not open.';
			END IF;
		END LOOP;
		UPDATE iotmq_internal.cursor_state AS p
		SET last_lease = iotmq.lease_first(one) + least(ahead, (7::bigint << 40) - 1)	-- as lease.c, where the time ends
		WHERE p.cursor_id = one AND p.last_lease < iotmq.lease_first(one) + least(ahead, (7::bigint << 40) - 1);
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.apply_source_expire IS 'internal: puts back what was in flight at a source that is gone';

-- apply_source_forget(zone_id): the zone is a mirror no longer.
CREATE FUNCTION iotmq.apply_source_forget(zone_id int) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	DELETE FROM iotmq_internal.source_group AS s
	USING iotmq_internal.cursor AS c
	WHERE c.cursor_id = s.cursor_id AND c.zone_id = apply_source_forget.zone_id
$$;
COMMENT ON FUNCTION iotmq.apply_source_forget IS 'internal: forgets what a mirror knew of its source';
