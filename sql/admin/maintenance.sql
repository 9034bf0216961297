-- Maintenance: segments ahead, sealing, expired leases, retention.
--
-- run_maintenance does it all, in small transactions: one for each step of a zone
-- and one for each segment dropped. It takes every lock without waiting and skips
-- what is busy until the next run, so publishers and consumers never queue behind
-- it. What fails is skipped likewise, with a warning.

-- What maintenance did: the last runs.
CREATE TABLE iotmq.maintenance_run (
	run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	started_at timestamptz NOT NULL,
	finished_at timestamptz NOT NULL,
	at timestamptz NOT NULL,
	segments_made int NOT NULL,
	segments_sealed int NOT NULL,
	segments_dropped int NOT NULL,
	leases_taken_over int NOT NULL,
	skipped text[] NOT NULL
);
COMMENT ON TABLE iotmq.maintenance_run IS 'the last 1000 runs of run_maintenance';
COMMENT ON COLUMN iotmq.maintenance_run.run_id IS 'grows with each run';
COMMENT ON COLUMN iotmq.maintenance_run.started_at IS 'when the run began';
COMMENT ON COLUMN iotmq.maintenance_run.finished_at IS 'when it ended';
COMMENT ON COLUMN iotmq.maintenance_run.at IS 'the time that stood for now';
COMMENT ON COLUMN iotmq.maintenance_run.segments_made IS 'segments made ahead of time';
COMMENT ON COLUMN iotmq.maintenance_run.segments_sealed IS 'segments that are over and were sealed';
COMMENT ON COLUMN iotmq.maintenance_run.segments_dropped IS 'segments that retention dropped';
COMMENT ON COLUMN iotmq.maintenance_run.leases_taken_over IS 'expired leases whose messages wait for their next attempt now';
COMMENT ON COLUMN iotmq.maintenance_run.skipped IS 'what was busy or failed, and is left to the next run';

-- prepare_zone(zone_id, at): makes the segments ahead of the clock and of at; NULL:
-- somebody else is at it. A time further away than ten years gets none.
CREATE FUNCTION iotmq.prepare_zone(zone_id int, at timestamptz) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	ahead interval;
	present timestamptz;
	made int := 0;
BEGIN
	SELECT iotmq.ahead(t.segment_interval) INTO ahead
	FROM iotmq.zone AS z
	JOIN iotmq.topic AS t USING (topic_id)
	WHERE z.zone_id = prepare_zone.zone_id;
	FOREACH present IN ARRAY ARRAY[clock_timestamp(), at] LOOP
		IF present BETWEEN clock_timestamp() - interval '1 day' AND clock_timestamp() + interval '10 years' THEN
			made := made + iotmq.make_segments(zone_id, present, present + ahead);
		END IF;
	END LOOP;
	RETURN coalesce(made, 0);
EXCEPTION WHEN lock_not_available THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION iotmq.prepare_zone IS 'internal: makes the segments ahead of time';

-- note_run(...): sweeps up, adds a run to the log of runs and says what it did.
CREATE FUNCTION iotmq.note_run(started_at timestamptz, at timestamptz, made int, sealed int,
		dropped int, taken_over int, skipped text[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO iotmq.maintenance_run (started_at, finished_at, at, segments_made, segments_sealed,
		segments_dropped, leases_taken_over, skipped)
	VALUES (started_at, clock_timestamp(), at, made, sealed, dropped, taken_over, skipped);
	-- what a seek or a drop left: see void_leases
	DELETE FROM iotmq.lease AS l
	WHERE l.lease_id IN (
		SELECT f.lease_id
		FROM iotmq.lease AS f
		LEFT JOIN iotmq.position AS p ON p.cursor_id = f.lease_id >> 43
		WHERE p.cursor_id IS NULL OR f.lease_id < p.oldest_lease
		FOR UPDATE OF f SKIP LOCKED);
	DELETE FROM iotmq.maintenance_run AS r
	WHERE r.run_id <= (SELECT max(run_id) - 1000 FROM iotmq.maintenance_run);
	RAISE NOTICE 'segments: % made, % sealed, % dropped; expired leases taken over: %; skipped: %',
		made, sealed, dropped, taken_over,
		CASE WHEN skipped = '{}' THEN 'nothing' ELSE array_to_string(skipped, ', ') END;
END
$$;
COMMENT ON FUNCTION iotmq.note_run IS 'internal: reports a run of maintenance';

-- zones_to_maintain(), readers_to_maintain(zone_id): what a run goes over.
CREATE FUNCTION iotmq.zones_to_maintain(OUT zone_id int, OUT name text) RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT z.zone_id, t.topic || '/' || z.zone
	FROM iotmq.zone AS z
	JOIN iotmq.topic AS t USING (topic_id)
	ORDER BY z.zone_id
$$;
COMMENT ON FUNCTION iotmq.zones_to_maintain IS 'internal: the zones that maintenance goes over';

CREATE FUNCTION iotmq.readers_to_maintain(zone_id int, OUT cursor_id int, OUT name text)
	RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.cursor_id, g.consumer_group || ' in ' || t.topic || '/' || z.zone
	FROM iotmq.cursor AS c
	JOIN iotmq.consumer_group AS g USING (group_id)
	JOIN iotmq.zone AS z USING (zone_id)
	JOIN iotmq.topic AS t ON t.topic_id = z.topic_id
	WHERE c.zone_id = readers_to_maintain.zone_id
	ORDER BY c.cursor_id
$$;
COMMENT ON FUNCTION iotmq.readers_to_maintain IS 'internal: the cursors of a zone that maintenance goes over';

-- note_failure(skipped, what, message): says what failed, and adds it to what is left
-- to the next run. One zone's error must not keep a run from the others.
CREATE FUNCTION iotmq.note_failure(skipped text[], what text, message text) RETURNS text[]
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RAISE WARNING 'maintenance failed: %: %', what, message;
	RETURN array_append(skipped, format('%s: %s', what, message));
END
$$;
COMMENT ON FUNCTION iotmq.note_failure IS 'internal: notes a step of maintenance that failed';

-- run_maintenance(at): see the head of this file; at stands for now in all that it
-- decides. Safe to run twice at once. Errors: 22004 at NULL; 25001 in a
-- transaction block.
CREATE PROCEDURE iotmq.run_maintenance(at timestamptz DEFAULT pg_catalog.now())
	LANGUAGE plpgsql
AS $$
-- A procedure that commits can't set its search_path: so every name, type and
-- operator in here has its schema, and all else is in functions.
DECLARE
	started_at pg_catalog.timestamptz := pg_catalog.clock_timestamp();
	place pg_catalog.record;
	reader pg_catalog.record;
	segment_time pg_catalog.timestamptz;
	outcome pg_catalog.text;
	n pg_catalog.int4;
	made pg_catalog.int4 := 0;
	sealed pg_catalog.int4 := 0;
	dropped pg_catalog.int4 := 0;
	taken_over pg_catalog.int4 := 0;
	skipped pg_catalog.text[] := '{}';
BEGIN
	PERFORM iotmq.check_transaction('run_maintenance()');
	IF at IS NULL THEN
		RAISE EXCEPTION 'at must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	FOR place IN SELECT z.zone_id, z.name FROM iotmq.zones_to_maintain() AS z LOOP
		BEGIN
			n := iotmq.prepare_zone(place.zone_id, at);
			made := made OPERATOR(pg_catalog.+) coalesce(n, 0);
			IF n IS NULL THEN
				skipped := pg_catalog.array_append(skipped, pg_catalog.format('segments of %s', place.name));
			END IF;
		EXCEPTION WHEN OTHERS THEN
			skipped := iotmq.note_failure(skipped, pg_catalog.format('segments of %s', place.name), SQLERRM);
		END;
		COMMIT;
		-- each step of sealing wants a transaction of its own
		FOR step IN 1..3 LOOP
			BEGIN
				sealed := sealed OPERATOR(pg_catalog.+) iotmq.seal_segments(place.zone_id);
			EXCEPTION WHEN OTHERS THEN
				skipped := iotmq.note_failure(skipped, pg_catalog.format('sealing of %s', place.name), SQLERRM);
			END;
			COMMIT;
		END LOOP;
		FOR reader IN SELECT r.cursor_id, r.name FROM iotmq.readers_to_maintain(place.zone_id) AS r LOOP
			BEGIN
				n := iotmq.take_over(reader.cursor_id, at);
				taken_over := taken_over OPERATOR(pg_catalog.+) coalesce(n, 0);
				IF n IS NULL THEN
					skipped := pg_catalog.array_append(skipped, pg_catalog.format('expired leases of %s', reader.name));
				END IF;
			EXCEPTION WHEN OTHERS THEN
				skipped := iotmq.note_failure(skipped, pg_catalog.format('expired leases of %s', reader.name), SQLERRM);
			END;
			COMMIT;
		END LOOP;
		segment_time := '-infinity';
		LOOP
			BEGIN
				SELECT d.segment_time, d.outcome INTO segment_time, outcome
				FROM iotmq.drop_segment(place.zone_id, at, segment_time) AS d;
			EXCEPTION WHEN OTHERS THEN
				outcome := NULL;
				segment_time := NULL;
				skipped := iotmq.note_failure(skipped, pg_catalog.format('retention of %s', place.name), SQLERRM);
			END;
			COMMIT;
			IF outcome OPERATOR(pg_catalog.=) 'dropped' THEN
				dropped := dropped OPERATOR(pg_catalog.+) 1;
			ELSIF outcome IS NOT NULL THEN
				skipped := pg_catalog.array_append(skipped, pg_catalog.format('segment of %s from %s',
					place.name, segment_time));
			END IF;
			EXIT WHEN segment_time IS NULL;
		END LOOP;
		BEGIN
			PERFORM iotmq.move_earliest(place.zone_id);
		EXCEPTION WHEN OTHERS THEN
			skipped := iotmq.note_failure(skipped, pg_catalog.format('earliest offset of %s', place.name), SQLERRM);
		END;
		COMMIT;
	END LOOP;
	PERFORM iotmq.note_run(started_at, at, made, sealed, dropped, taken_over, skipped);
	COMMIT;
END
$$;
COMMENT ON PROCEDURE iotmq.run_maintenance IS 'makes segments ahead, seals, takes over expired leases, drops expired segments';
