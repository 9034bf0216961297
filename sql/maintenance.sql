-- Maintenance: segments ahead, sealing, expired leases, retention.
--
-- run_maintenance does it all, in small transactions: one for each step of a zone
-- and one for each segment dropped. It takes every lock without waiting and skips
-- what is busy until the next run, so publishers and consumers never queue behind
-- it. What fails is skipped likewise, with a warning.
--
-- Locks to drop a segment, in this order, all NOWAIT: the rows of its topic and zone,
-- the positions of the groups that still have something of it, their leases, the
-- zone's table (ACCESS EXCLUSIVE; COPY and queries on the topic use it, publish and
-- consume don't), the segment.

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

-- take_over(cursor_id, at): puts the messages of leases expired by then where they wait for
-- their next attempt; returns how many leases. NULL: the cursor is busy.
CREATE FUNCTION iotmq.take_over(cursor_id int, at timestamptz) RETURNS int
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_take_over';
COMMENT ON FUNCTION iotmq.take_over IS 'internal: puts the messages of expired leases back';

-- check_transaction(): raises 25001 in a transaction block.
CREATE FUNCTION iotmq.check_transaction(procedure_name text) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_check_transaction';
COMMENT ON FUNCTION iotmq.check_transaction IS 'internal: raises an error in a transaction block';

-- prepare_zone(zone_id, at): makes the segments ahead of the clock and of at; NULL:
-- somebody else is at it. A time further away than ten years gets none.
CREATE FUNCTION iotmq.prepare_zone(zone_id int, at timestamptz) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
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

-- lowest_offset(zone_id): the lowest offset in the log, of open transactions, too.
CREATE FUNCTION iotmq.lowest_offset(zone_id int) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_lowest_offset';
COMMENT ON FUNCTION iotmq.lowest_offset IS 'internal: the lowest offset that a zone holds';

-- is_expired(segment, at): may retention drop the segment? Its newest message is
-- older than the topic's retention and, under policy 'consumed', every group has
-- settled all of it or it is older than max_retention. A segment without messages
-- goes when its time is that old.
CREATE FUNCTION iotmq.is_expired(segment iotmq.segment, at timestamptz) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	topic iotmq.topic;
	newest timestamptz;
	lowest bigint;
	highest bigint;
BEGIN
	SELECT t.* INTO topic
	FROM iotmq.zone AS z
	JOIN iotmq.topic AS t USING (topic_id)
	WHERE z.zone_id = segment.zone_id;
	IF segment.from_time > at - topic.retention THEN
		RETURN false;
	END IF;
	-- offsets and times agree but for neighbours
	EXECUTE format('SELECT max(published_at), min(msg_offset), max(msg_offset)
		FROM (
			(SELECT published_at, msg_offset FROM %1$s ORDER BY msg_offset DESC LIMIT 1000)
			UNION ALL
			(SELECT NULL, msg_offset FROM %1$s ORDER BY msg_offset LIMIT 1)
		) AS message', segment.table_name)
	INTO newest, lowest, highest;
	IF newest IS NULL THEN
		RETURN segment.to_time <= least(at - topic.retention, clock_timestamp());
	END IF;
	IF newest > at - topic.retention THEN
		RETURN false;
	END IF;
	RETURN topic.retention_policy = 'time'
		OR newest <= at - coalesce(topic.max_retention, topic.retention * 4)
		OR NOT EXISTS (
			SELECT
			FROM iotmq.cursor AS c
			JOIN iotmq.position AS p USING (cursor_id)
			WHERE c.zone_id = segment.zone_id
				AND (p.next_offset <= highest
					OR EXISTS (
						SELECT FROM iotmq.redelivery AS r
						WHERE r.cursor_id = c.cursor_id AND NOT r.redriven
							AND r.msg_offset BETWEEN lowest AND highest)
					OR EXISTS (
						SELECT FROM iotmq.lease AS l
						WHERE l.lease_id >= c.cursor_id::bigint << 43
							AND l.lease_id < (c.cursor_id + 1)::bigint << 43
							AND l.first_offset <= highest AND l.last_offset >= lowest)));
END
$$;
COMMENT ON FUNCTION iotmq.is_expired IS 'internal: whether retention may drop a segment';

-- forget_segment(cursor_id, segment table): a group's leases and retries of
-- messages there end, and what it had not settled is counted as expired unread.
-- The caller has locked the leases and the position.
CREATE FUNCTION iotmq.forget_segment(cursor_id int, segment_table regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place record;
	lease iotmq.lease;
	gone int[];
	unread bigint;
	retries bigint;
	lost bigint := 0;
BEGIN
	SELECT p.next_offset, g.tags, g.filter INTO STRICT place
	FROM iotmq.cursor AS c
	JOIN iotmq.position AS p USING (cursor_id)
	JOIN iotmq.consumer_group AS g USING (group_id)
	WHERE c.cursor_id = forget_segment.cursor_id;
	EXECUTE format('SELECT count(*) FROM %s
		WHERE msg_offset >= $1
			AND ($2 IS NULL OR tag = ANY ($2))
			AND ($3 IS NULL OR iotmq.filter_matches(payload, $3))', segment_table)
	INTO unread USING place.next_offset, place.tags, place.filter;

	FOR lease IN
		SELECT l.*
		FROM iotmq.lease AS l
		WHERE l.lease_id >= forget_segment.cursor_id::bigint << 43
			AND l.lease_id < (forget_segment.cursor_id + 1)::bigint << 43
	LOOP
		EXECUTE format('SELECT array_agg(m.i)
			FROM (
				SELECT i, coalesce($1[i + 1], $2 + i) AS msg_offset
				FROM generate_series(0, coalesce(cardinality($1), $3 - $2 + 1)::int - 1) AS i
				WHERE $4 IS NULL OR get_bit($4, i) = 0
			) AS m
			JOIN %s USING (msg_offset)
			WHERE NOT EXISTS (
				SELECT FROM iotmq.dead_message AS d
				WHERE d.cursor_id = $5 AND d.msg_offset = m.msg_offset AND d.redriven)', segment_table)
		INTO gone
		USING lease.offsets, lease.first_offset, lease.last_offset, lease.settled, forget_segment.cursor_id;
		CONTINUE WHEN gone IS NULL;
		lost := lost + cardinality(gone);
		IF cardinality(gone) = lease.messages THEN
			DELETE FROM iotmq.lease AS l WHERE l.lease_id = lease.lease_id;
		ELSE
			lease.settled := coalesce(lease.settled, decode(repeat('00',
				((coalesce(cardinality(lease.offsets), lease.last_offset - lease.first_offset + 1) + 7) / 8)::int), 'hex'));
			FOR n IN 1 .. cardinality(gone) LOOP
				lease.settled := set_bit(lease.settled, gone[n], 1);
			END LOOP;
			UPDATE iotmq.lease AS l
			SET settled = lease.settled, messages = l.messages - cardinality(gone)
			WHERE l.lease_id = lease.lease_id;
		END IF;
	END LOOP;

	EXECUTE format('DELETE FROM iotmq.redelivery AS r
		USING %s AS m
		WHERE r.cursor_id = $1 AND r.msg_offset = m.msg_offset AND NOT r.redriven', segment_table)
	USING forget_segment.cursor_id;
	GET DIAGNOSTICS retries = ROW_COUNT;
	IF retries > 0 THEN
		-- the next one of a device is its first now
		UPDATE iotmq.redelivery AS r
		SET due_at = r.not_before
		WHERE r.cursor_id = forget_segment.cursor_id AND r.due_at = 'infinity'
			AND NOT EXISTS (
				SELECT FROM iotmq.redelivery AS e
				WHERE e.cursor_id = r.cursor_id AND e.device_id = r.device_id
					AND e.msg_offset < r.msg_offset);
	END IF;

	UPDATE iotmq.position AS p
	SET expired_unread = p.expired_unread + unread + lost + retries,
		waiting = p.waiting - retries,
		next_due = CASE WHEN retries > 0 THEN '-infinity' ELSE p.next_due END
	WHERE p.cursor_id = forget_segment.cursor_id AND unread + lost + retries > 0;
END
$$;
COMMENT ON FUNCTION iotmq.forget_segment IS 'internal: ends what a group has of a segment that goes';

-- lock_segment(segment): takes the locks to drop it, see the head of this file, or
-- raises 55P03. Groups that are past the segment and have nothing of it are not
-- asked.
CREATE FUNCTION iotmq.lock_segment(segment iotmq.segment) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lowest bigint := CASE WHEN segment.sealed THEN segment.first_offset ELSE 0 END;
	highest bigint := CASE WHEN segment.sealed THEN segment.last_offset ELSE 9223372036854775807 END;
BEGIN
	-- of the topic, so that no group is being made
	PERFORM FROM iotmq.zone AS z
	JOIN iotmq.topic AS t USING (topic_id)
	WHERE z.zone_id = segment.zone_id
	FOR SHARE OF t NOWAIT
	FOR NO KEY UPDATE OF z NOWAIT;
	PERFORM FROM iotmq.cursor AS c
	JOIN iotmq.position AS p USING (cursor_id)
	WHERE c.zone_id = segment.zone_id AND (p.next_offset <= highest OR p.waiting > 0
		OR EXISTS (SELECT FROM iotmq.lease AS l
			WHERE l.lease_id >= c.cursor_id::bigint << 43
				AND l.lease_id < (c.cursor_id + 1)::bigint << 43
				AND l.first_offset <= highest AND l.last_offset >= lowest))
	FOR UPDATE OF p NOWAIT;
	PERFORM FROM iotmq.cursor AS c
	JOIN iotmq.lease AS l ON l.lease_id >= c.cursor_id::bigint << 43
		AND l.lease_id < (c.cursor_id + 1)::bigint << 43
	WHERE c.zone_id = segment.zone_id AND l.first_offset <= highest AND l.last_offset >= lowest
	FOR UPDATE OF l NOWAIT;
END
$$;
COMMENT ON FUNCTION iotmq.lock_segment IS 'internal: takes the locks to drop a segment';

-- remove_segment(segment, at): drops it under those locks; the segment of the
-- present is emptied, not dropped. False: it is not expired any more. Raises 55P03
-- if something is busy.
CREATE FUNCTION iotmq.remove_segment(segment iotmq.segment, at timestamptz) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone_table regclass := (SELECT z.table_name FROM iotmq.zone AS z WHERE z.zone_id = segment.zone_id);
BEGIN
	PERFORM iotmq.lock_segment(segment);
	IF NOT iotmq.is_expired(segment, at) THEN
		RETURN false;			-- somebody went back to it
	END IF;
	IF segment.sealed THEN
		-- counting may take a while: before the locks that others meet
		PERFORM iotmq.forget_segment(c.cursor_id, segment.table_name)
		FROM iotmq.cursor AS c
		WHERE c.zone_id = segment.zone_id;
	END IF;
	EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', zone_table);
	EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', segment.table_name);
	IF NOT segment.sealed THEN
		IF NOT iotmq.is_expired(segment, at) THEN
			RETURN false;		-- a publisher was faster
		END IF;
		PERFORM iotmq.forget_segment(c.cursor_id, segment.table_name)
		FROM iotmq.cursor AS c
		WHERE c.zone_id = segment.zone_id;
	END IF;
	IF segment.to_time > clock_timestamp() THEN
		EXECUTE format('TRUNCATE %s', segment.table_name);
	ELSE
		-- with whatever somebody made of it: nobody may stop retention
		EXECUTE format('DROP TABLE %s CASCADE', segment.table_name);
		DELETE FROM iotmq.segment AS s
		WHERE s.zone_id = segment.zone_id AND s.from_time = segment.from_time;
	END IF;
	IF segment.last_offset IS NOT NULL THEN
		-- what is not written yet has an offset behind it
		UPDATE iotmq.zone AS z
		SET earliest_offset = greatest(z.earliest_offset,
			least(iotmq.lowest_offset(z.zone_id), least(segment.last_offset, 9223372036854775806) + 1))
		WHERE z.zone_id = segment.zone_id;
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION iotmq.remove_segment IS 'internal: drops a segment that nobody is using';

-- drop_segment(zone_id, at, after): drops the first expired segment of a zone that
-- begins after that time. segment_time: its beginning, NULL: there is none;
-- outcome: dropped, busy, or NULL. Tries for a moment where something is busy: the
-- lock of a consumer lasts a fraction of a millisecond.
CREATE FUNCTION iotmq.drop_segment(zone_id int, at timestamptz, after timestamptz,
		OUT segment_time timestamptz, OUT outcome text)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	segment iotmq.segment;
BEGIN
	FOR try IN 1..10 LOOP
		BEGIN
			-- one run at a time in a zone
			PERFORM FROM iotmq.zone AS z
			WHERE z.zone_id = drop_segment.zone_id
			FOR NO KEY UPDATE NOWAIT;
			SELECT s.* INTO segment
			FROM iotmq.segment AS s
			WHERE s.zone_id = drop_segment.zone_id AND s.from_time > after AND iotmq.is_expired(s, at)
			ORDER BY s.from_time
			LIMIT 1;
			segment_time := segment.from_time;
			IF segment_time IS NULL THEN
				outcome := NULL;
			ELSE
				outcome := CASE WHEN iotmq.remove_segment(segment, at) THEN 'dropped' END;
			END IF;
			RETURN;
		EXCEPTION WHEN lock_not_available OR undefined_table THEN
			outcome := 'busy';
			PERFORM pg_sleep(0.005);
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.drop_segment IS 'internal: drops one expired segment';

-- move_earliest(zone_id): notes the lowest offset that the zone still has; groups
-- that stand below it go on there, but for those that are busy.
CREATE FUNCTION iotmq.move_earliest(zone_id int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	earliest bigint;
BEGIN
	PERFORM FROM iotmq.zone AS z
	WHERE z.zone_id = move_earliest.zone_id
	FOR NO KEY UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN;					-- dropped meanwhile, or busy: the next run does it
	END IF;
	earliest := iotmq.offset_at(zone_id, '4000-01-01 BC');
	UPDATE iotmq.zone AS z
	SET earliest_offset = earliest
	WHERE z.zone_id = move_earliest.zone_id AND z.earliest_offset < earliest;
	UPDATE iotmq.position AS p
	SET next_offset = earliest
	FROM (
		SELECT p.cursor_id
		FROM iotmq.cursor AS c
		JOIN iotmq.position AS p USING (cursor_id)
		WHERE c.zone_id = move_earliest.zone_id AND p.next_offset < earliest
		FOR UPDATE OF p SKIP LOCKED
	) AS behind
	WHERE p.cursor_id = behind.cursor_id AND p.next_offset < earliest;
EXCEPTION WHEN lock_not_available THEN
	RETURN;						-- somebody is dropping a segment or the zone
END
$$;
COMMENT ON FUNCTION iotmq.move_earliest IS 'internal: notes the earliest offset of a zone';

-- note_run(...): sweeps up, adds a run to the log of runs and says what it did.
CREATE FUNCTION iotmq.note_run(started_at timestamptz, at timestamptz, made int, sealed int,
		dropped int, taken_over int, skipped text[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
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

-- The pg_cron job that runs maintenance of this database.
CREATE FUNCTION iotmq.maintenance_job() RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN 'iotmq maintenance of ' || current_database();
COMMENT ON FUNCTION iotmq.maintenance_job IS 'internal: the name of the pg_cron job';

-- require_cron(statement): raises 55000, with that statement as the hint, unless
-- pg_cron is in this database.
CREATE FUNCTION iotmq.require_cron(statement text) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pg_cron') THEN
		RAISE EXCEPTION 'pg_cron is not installed in database "%"', current_database()
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = 'pg_cron lives in one database of a server, the one that cron.database_name names.',
				HINT = statement;
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.require_cron IS 'internal: raises an error unless pg_cron is here';

-- schedule_maintenance(schedule): a pg_cron job for run_maintenance; one per
-- database, so a second call changes its schedule. Returns the job's id. Errors:
-- 22004; 55000 no pg_cron in this database; what cron.schedule raises.
CREATE FUNCTION iotmq.schedule_maintenance(schedule text DEFAULT '* * * * *') RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job bigint;
BEGIN
	IF schedule IS NULL THEN
		RAISE EXCEPTION 'schedule must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM iotmq.require_cron(format('SELECT cron.schedule_in_database(%L, %L, %L, %L);',
		iotmq.maintenance_job(), schedule, 'CALL iotmq.run_maintenance()', current_database()));
	EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job
	USING iotmq.maintenance_job(), schedule, 'CALL iotmq.run_maintenance()';
	RETURN job;
END
$$;
COMMENT ON FUNCTION iotmq.schedule_maintenance IS 'lets pg_cron run maintenance';

-- unschedule_maintenance(): removes that job; false: there was none. Errors: 55000
-- no pg_cron in this database.
CREATE FUNCTION iotmq.unschedule_maintenance() RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found boolean;
BEGIN
	PERFORM iotmq.require_cron(format('SELECT cron.unschedule(%L);', iotmq.maintenance_job()));
	EXECUTE 'SELECT coalesce(bool_or(cron.unschedule(jobid)), false) FROM cron.job WHERE jobname = $1'
	INTO found
	USING iotmq.maintenance_job();
	RETURN found;
END
$$;
COMMENT ON FUNCTION iotmq.unschedule_maintenance IS 'removes the pg_cron job of schedule_maintenance';

REVOKE EXECUTE ON FUNCTION iotmq.take_over, iotmq.check_transaction, iotmq.prepare_zone,
	iotmq.lowest_offset, iotmq.is_expired, iotmq.forget_segment, iotmq.lock_segment, iotmq.remove_segment,
	iotmq.drop_segment, iotmq.zones_to_maintain, iotmq.readers_to_maintain, iotmq.move_earliest, iotmq.note_failure,
	iotmq.note_run,
	iotmq.maintenance_job, iotmq.require_cron, iotmq.schedule_maintenance,
	iotmq.unschedule_maintenance FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE iotmq.run_maintenance FROM PUBLIC;
