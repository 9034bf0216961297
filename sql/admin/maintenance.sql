-- Maintenance: segments ahead, sealing, expired leases, unwanted messages, retention.
--
-- run_maintenance does it all, in small transactions: one for each step of a zone,
-- each cursor and each segment freed. It takes locks without waiting, or for a moment, and
-- skips what is busy until the next run, so publishers and consumers never queue behind
-- it for longer than that. What fails is skipped likewise, with a warning.

-- maintenance_prepare(zone_id, at): makes the segments ahead of the clock and of at, that of
-- the present first, and notes gaps in the offsets and what a pg_upgrade has lost. made: how
-- many segments; busy: what could not be made, and why. A time further away than ten years gets none.
CREATE FUNCTION iotmq.maintenance_prepare(zone_id int, at timestamptz, OUT made int, OUT busy text[])
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	id int;
	ahead interval;
	from_time timestamptz;
	until timestamptz;
BEGIN
	SELECT t.topic_id, iotmq.segment_ahead(t.segment_interval) INTO id, ahead
	FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE z.zone_id = maintenance_prepare.zone_id;
	made := 0;
	FOR from_time, until IN
		SELECT p.present, p.present + a.length
		FROM (VALUES (1, clock_timestamp()), (2, at)) AS p (n, present)
		CROSS JOIN (VALUES (interval '1 us'), (ahead)) AS a (length)
		WHERE p.present BETWEEN clock_timestamp() - interval '1 day' AND clock_timestamp() + interval '10 years'
		ORDER BY p.n, a.length
	LOOP
		BEGIN
			made := made + coalesce(iotmq.segment_make_until(zone_id, from_time, until), 0);
		EXCEPTION WHEN OTHERS THEN
			busy := array_append(busy, format(' from %s: %s', from_time,
				CASE SQLSTATE WHEN '55P03' THEN 'a lock was not to be had' ELSE iotmq.call_plain_message(SQLERRM) END));
			EXIT;
		END;
	END LOOP;
	BEGIN
		PERFORM iotmq.epoch_note(zone_id);
	EXCEPTION
		WHEN lock_not_available THEN
			busy := array_append(busy, ': offsets are in use');
		WHEN object_not_in_prerequisite_state THEN
			NULL;				-- a segment can't be read, as retention_note_unreadable says
	END;
	PERFORM iotmq.depend_restore(id);
END
$$;
COMMENT ON FUNCTION iotmq.maintenance_prepare IS 'internal: makes the segments ahead of time';

-- maintenance_add(done, step, n): counts what a step did.
CREATE FUNCTION iotmq.maintenance_add(done jsonb, step text, n int) RETURNS jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN done || jsonb_build_object(step, coalesce((done ->> step)::int, 0) + coalesce(n, 0));
COMMENT ON FUNCTION iotmq.maintenance_add IS 'internal: counts what a step of maintenance did';

-- maintenance_note(skipped, step, name, busy): adds what a step left to the next run.
CREATE FUNCTION iotmq.maintenance_note(skipped text[], step text, name text, busy text[]) RETURNS text[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN skipped || ARRAY(
		SELECT format('%s of %s%s',
			CASE WHEN step IN ('lost segments', 'unreadable segments', 'retention', 'empty segments') THEN 'segment' ELSE step END, name, b.one)
		FROM unnest(busy) WITH ORDINALITY AS b (one, n)
		ORDER BY b.n);
COMMENT ON FUNCTION iotmq.maintenance_note IS 'internal: notes what a step of maintenance left out';

-- maintenance_note_failure(skipped, step, name, message): says what failed, and adds it to
-- what is left to the next run.
CREATE FUNCTION iotmq.maintenance_note_failure(skipped text[], step text, name text, message text)
		RETURNS text[]
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	plain text := iotmq.call_plain_message(message);
BEGIN
	RAISE WARNING 'maintenance failed: % of %: %', step, name, plain;
	RETURN array_append(skipped, format('%s of %s: %s', step, name, plain));
END
$$;
COMMENT ON FUNCTION iotmq.maintenance_note_failure IS 'internal: notes a step of maintenance that failed';

-- maintenance_note_run(...): adds a run to the log of runs and says what it did.
CREATE FUNCTION iotmq.maintenance_note_run(started_at timestamptz, at timestamptz, done jsonb,
		skipped text[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	made int := coalesce((done ->> 'segments')::int, 0);
	sealed int := coalesce((done ->> 'sealing')::int, 0);
	dropped int := coalesce((done ->> 'retention')::int, 0) + coalesce((done ->> 'empty segments')::int, 0);
	taken_over int := coalesce((done ->> 'expired leases')::int, 0);
BEGIN
	INSERT INTO iotmq_internal.maintenance_run (started_at, finished_at, at, segments_made, segments_sealed,
		segments_dropped, leases_taken_over, skipped)
	VALUES (started_at, clock_timestamp(), at, made, sealed, dropped, taken_over, skipped);
	DELETE FROM iotmq_internal.maintenance_run AS r
	WHERE r.run_id <= (SELECT max(run_id) - 1000 FROM iotmq_internal.maintenance_run);
	RAISE NOTICE 'segments: % made, % sealed, % dropped; expired leases taken over: %; skipped: %',
		made, sealed, dropped, taken_over,
		CASE WHEN skipped = '{}' THEN 'nothing' ELSE array_to_string(skipped, ', ') END;
END
$$;
COMMENT ON FUNCTION iotmq.maintenance_note_run IS 'internal: reports a run of maintenance';

-- maintenance_needs(zone_id, at): which steps have something to do in a zone, and the last offset
-- that groups may have to pass. By the catalog, and for gaps that are not noted and an earliest
-- offset that is gone by a look at the log. What can't be told is said to be needed: the step
-- that meets the error, or the lock, names it.
CREATE FUNCTION iotmq.maintenance_needs(zone_id int, at timestamptz, OUT segments boolean, OUT sealing boolean,
		OUT retention boolean, OUT empty boolean, OUT earliest boolean, OUT last_offset bigint)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
BEGIN
	last_offset := iotmq.offset_last(zone_id);
	SELECT
		EXISTS (
			SELECT
			FROM unnest(ARRAY[clock_timestamp(), at]) AS p (present)	-- as maintenance_prepare has them
			CROSS JOIN LATERAL (SELECT p.present + iotmq.segment_ahead(t.segment_interval) AS until) AS u
			WHERE p.present BETWEEN clock_timestamp() - interval '1 day' AND clock_timestamp() + interval '10 years'
				AND u.until - p.present > (
					SELECT coalesce(sum(least(s.to_time, u.until) - greatest(s.from_time, p.present)), '0')
					FROM iotmq_internal.segment AS s
					WHERE s.zone_id = z.zone_id AND s.to_time > p.present AND s.from_time < u.until)),
		EXISTS (SELECT FROM iotmq_internal.segment AS s
			WHERE s.zone_id = z.zone_id AND NOT s.sealed
				AND s.to_time <= CASE z.state WHEN 'mirror' THEN z.floor_time ELSE clock_timestamp() END),
		EXISTS (SELECT FROM iotmq_internal.segment AS s
			WHERE s.zone_id = z.zone_id AND s.from_time <= at - t.retention),
		EXISTS (SELECT FROM iotmq_internal.segment AS s WHERE s.zone_id = z.zone_id AND s.emptied)
			OR EXISTS (SELECT FROM iotmq_internal.overdue AS o WHERE o.zone_id = z.zone_id),
		EXISTS (SELECT FROM iotmq_internal.cursor AS c
			JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
			WHERE c.zone_id = z.zone_id AND p.next_offset < z.earliest_offset)
	INTO segments, sealing, retention, empty, earliest
	FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE z.zone_id = maintenance_needs.zone_id;
	IF EXISTS (SELECT FROM iotmq_internal.zone AS z WHERE z.zone_id = maintenance_needs.zone_id AND z.state = 'fenced') THEN
		retention := false;
		empty := false;
		earliest := false;
		RETURN;
	END IF;
	segments := segments OR iotmq.epoch_is_open(zone_id)
		OR EXISTS (SELECT FROM iotmq_internal.zone_gap AS g	-- where nothing was published since
			WHERE g.zone_id = maintenance_needs.zone_id AND g.began_at IS NULL
				AND NOT EXISTS (SELECT FROM iotmq_internal.zone_gap AS l WHERE l.zone_id = g.zone_id AND l.epoch > g.epoch))
		OR (SELECT iotmq.depend_is_lost(z.topic_id) FROM iotmq_internal.zone AS z WHERE z.zone_id = maintenance_needs.zone_id);
	empty := empty OR retention;
	earliest := earliest OR retention OR iotmq.offset_is_gone(zone_id);
EXCEPTION WHEN OTHERS THEN
	segments := true;
	sealing := true;
	retention := true;
	empty := true;
	earliest := true;
	last_offset := 9223372036854775807;
END
$$;
COMMENT ON FUNCTION iotmq.maintenance_needs IS 'internal: which steps of maintenance a zone needs';

-- maintenance_plan(at): what a run goes over: those steps of each zone that have something to
-- do, in order. name is what the step works on, to be told to operators. Asked for all zones
-- at once, since most have nothing; a step decides by itself, under its locks.
CREATE FUNCTION iotmq.maintenance_plan(at timestamptz, OUT zone_id int, OUT cursor_id int, OUT step text,
		OUT name text) RETURNS SETOF record
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	WITH needs AS MATERIALIZED (	-- nothing else here waits for a lock, or can fail by what is in one zone
		SELECT z.zone_id, m.*
		FROM iotmq_internal.zone AS z
		CROSS JOIN LATERAL iotmq.maintenance_needs(z.zone_id, at) AS m
	), work (zone_id, n, cursor_id, step, name) AS (
		SELECT z.zone_id, s.n, NULL::int, s.step, t.topic || '/' || z.zone
		FROM iotmq_internal.zone AS z
		JOIN iotmq_internal.topic AS t USING (topic_id)
		LEFT JOIN (SELECT DISTINCT l.zone_id, true AS is_there FROM iotmq.segment_lost() AS l) AS lost USING (zone_id)
		LEFT JOIN (SELECT DISTINCT u.zone_id, true AS is_there FROM iotmq.segment_unreadable() AS u) AS unreadable USING (zone_id)
		JOIN needs AS m USING (zone_id)
		CROSS JOIN LATERAL (VALUES
			(0, 'lost segments', lost.is_there),
			(1, 'segments', m.segments),
			(2, 'sealing', m.sealing),
			(3, 'sealing', m.sealing),		-- each step of sealing wants a transaction of its own
			(4, 'sealing', m.sealing),
			(7, 'retention', m.retention),
			(8, 'empty segments', m.empty),
			(9, 'unreadable segments', unreadable.is_there),
			(10, 'earliest offset', lost.is_there OR m.earliest AND unreadable.is_there IS NULL)
		) AS s (n, step, is_needed)
		WHERE s.is_needed
		UNION ALL
		SELECT z.zone_id, s.n, c.cursor_id, s.step, g.consumer_group || ' in ' || t.topic || '/' || z.zone
		FROM iotmq_internal.cursor AS c
		JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
		JOIN iotmq_internal.consumer_group AS g USING (group_id)
		JOIN iotmq_internal.zone AS z USING (zone_id)
		JOIN iotmq_internal.topic AS t ON t.topic_id = z.topic_id
		JOIN needs AS m ON m.zone_id = z.zone_id
		CROSS JOIN LATERAL (VALUES
			(5, 'expired leases', p.next_expiry <= at),
			-- what a group gets by tags and filter, and has not passed yet
			(6, 'unwanted messages', CASE WHEN g.tags IS NOT NULL OR g.filter IS NOT NULL
				THEN p.next_offset <= m.last_offset END)
		) AS s (n, step, is_needed)
		WHERE s.is_needed AND z.state = 'open'
	)
	SELECT w.zone_id, w.cursor_id, w.step, w.name
	FROM work AS w
	ORDER BY w.zone_id, w.n, w.cursor_id
$$;
COMMENT ON FUNCTION iotmq.maintenance_plan IS 'internal: what maintenance goes over';

-- maintenance_step(step, zone_id, cursor_id, at, started_at, waits, after): does one step; done: how many
-- segments or leases it was about; busy: what it left to the next run, "" for all of it;
-- after: where the same step goes on (NULL: it is through). Retention goes on by the
-- beginnings of segments, and with waits it may wait for a lock for a moment; over unwanted
-- messages a step goes on for some seconds, since the clock's time in after. Waits for no lock
-- longer than a moment.
CREATE FUNCTION iotmq.maintenance_step(step text, zone_id int, cursor_id int, at timestamptz,
		started_at timestamptz, waits boolean,
		INOUT after timestamptz, OUT done int, OUT busy text[])
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	passed bigint;
BEGIN
	CASE step
		WHEN 'lost segments' THEN
			SELECT l.let_go, l.busy INTO done, busy
			FROM iotmq.retention_let_go(zone_id) AS l;
		WHEN 'unreadable segments' THEN
			busy := iotmq.retention_note_unreadable(zone_id);
		WHEN 'segments' THEN
			SELECT p.made, p.busy INTO done, busy
			FROM iotmq.maintenance_prepare(zone_id, at) AS p;
		WHEN 'sealing' THEN
			done := iotmq.segment_seal(zone_id);
		WHEN 'expired leases' THEN
			done := iotmq.expire_leases(cursor_id, at);
			busy := CASE WHEN done IS NULL THEN '{""}'::text[] END;
		WHEN 'unwanted messages' THEN
			IF after = '-infinity' THEN
				after := clock_timestamp();
			END IF;
			passed := iotmq.claim_pass(cursor_id);
			busy := CASE WHEN passed IS NULL THEN '{""}'::text[] END;
			IF passed > 0 AND clock_timestamp() < after + interval '3 seconds' THEN
				RETURN;
			END IF;
		WHEN 'retention' THEN
			SELECT f.segment_time, f.done::int, CASE WHEN f.busy IS NOT NULL THEN ARRAY[f.busy] END
			INTO after, done, busy
			FROM iotmq.retention_free(zone_id, at, after, waits) AS f;
			RETURN;
		WHEN 'empty segments' THEN
			SELECT d.next, d.dropped, d.busy INTO after, done, busy
			FROM iotmq.retention_drop(zone_id, at, after, waits) AS d;
			IF after IS NULL THEN
				PERFORM iotmq.retention_tidy(zone_id, started_at);
			END IF;
			RETURN;
		WHEN 'earliest offset' THEN
			PERFORM iotmq.retention_move_earliest(zone_id);
	END CASE;
	after := NULL;
EXCEPTION WHEN lock_not_available THEN
	after := NULL;
	busy := '{": a lock was not to be had"}';
END
$$;
COMMENT ON FUNCTION iotmq.maintenance_step IS 'internal: one step of maintenance';

-- run_maintenance(at): see the head of this file; at stands for now in all that it
-- decides. Safe to run twice at once. One step's error does not keep a run from the
-- others. Runs in READ COMMITTED whatever the session's default is: what it has waited for
-- counts. Errors: 22004 at NULL; 25001 in a transaction block.
CREATE PROCEDURE iotmq.run_maintenance(at timestamptz DEFAULT pg_catalog.now())
	LANGUAGE plpgsql
AS $$
-- A procedure that commits can't set its search_path: so every name, type and
-- operator in here has its schema, and all else is in functions.
DECLARE
	started_at pg_catalog.timestamptz := pg_catalog.clock_timestamp();
	work pg_catalog.record;
	result pg_catalog.record;
	after pg_catalog.timestamptz;
	waits boolean;				-- a step waits for a lock, until it has waited in vain
	done pg_catalog.jsonb := '{}';
	skipped pg_catalog.text[] := '{}';
BEGIN
	PERFORM iotmq.call_check_transaction('run_maintenance()');
	IF at IS NULL THEN
		RAISE EXCEPTION 'at must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	COMMIT;
	SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
	FOR work IN SELECT p.* FROM iotmq.maintenance_plan(at) AS p LOOP
		after := '-infinity';
		waits := true;
		LOOP
			BEGIN
				SELECT s.* INTO result
				FROM iotmq.maintenance_step(work.step, work.zone_id, work.cursor_id, at, started_at, waits, after) AS s;
				after := result.after;
				waits := result.busy IS NULL;
				done := iotmq.maintenance_add(done, work.step, result.done);
				skipped := iotmq.maintenance_note(skipped, work.step, work.name, result.busy);
			EXCEPTION WHEN OTHERS THEN
				after := NULL;
				skipped := iotmq.maintenance_note_failure(skipped, work.step, work.name, SQLERRM);
			END;
			COMMIT;
			SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
			EXIT WHEN after IS NULL;
		END LOOP;
	END LOOP;
	PERFORM iotmq.maintenance_note_run(started_at, at, done, skipped);
	COMMIT;
END
$$;
COMMENT ON PROCEDURE iotmq.run_maintenance IS 'makes segments ahead, seals, takes over expired leases, passes unwanted messages, drops expired segments';
