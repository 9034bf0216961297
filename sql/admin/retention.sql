-- Retention: a segment is dropped whole.
--
-- Locks to drop a segment, in this order, all NOWAIT: the rows of its topic and zone, the
-- use of the zone's cursors, which keeps them from moving back to it (cursor_lock.c), the
-- rows of those that still have something of it, their leases, the zone's table (ACCESS
-- EXCLUSIVE; COPY and queries on the topic use it, publish and consume don't), the segment.

-- retention_is_expired(segment, at): may retention drop the segment? Its newest message is
-- older than the topic's retention and, under policy 'consumed', every group has
-- settled all of it or it is older than max_retention. A segment without messages
-- goes when its time is that old.
CREATE FUNCTION iotmq.retention_is_expired(segment iotmq_internal.segment, at timestamptz) RETURNS boolean
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
	IF segment.from_time > at - topic.retention THEN
		RETURN false;
	END IF;
	SELECT b.lowest, b.highest, b.newest INTO lowest, highest, newest
	FROM iotmq.segment_bounds(segment.table_name) AS b;
	IF newest IS NULL THEN
		RETURN segment.to_time <= least(at - topic.retention, clock_timestamp());
	END IF;
	IF newest > at - topic.retention THEN
		RETURN false;
	END IF;
	RETURN newest <= at - topic.kept_for
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
							AND l.first_offset <= highest AND l.last_offset >= lowest)));
END
$$;
COMMENT ON FUNCTION iotmq.retention_is_expired IS 'internal: whether retention may drop a segment';

-- retention_lock(segment): takes the locks to drop it, see the head of this file, or
-- raises 55P03. Groups that are past the segment and have nothing of it are not
-- asked.
CREATE FUNCTION iotmq.retention_lock(segment iotmq_internal.segment) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lowest bigint := CASE WHEN segment.sealed THEN segment.first_offset ELSE 0 END;
	highest bigint := CASE WHEN segment.sealed THEN segment.last_offset ELSE 9223372036854775807 END;
BEGIN
	-- of the topic, so that no group is being made
	PERFORM FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE z.zone_id = segment.zone_id
	FOR SHARE OF t NOWAIT
	FOR NO KEY UPDATE OF z NOWAIT;
	-- what is past the segment stays past it
	IF EXISTS (SELECT FROM iotmq_internal.cursor AS c WHERE c.zone_id = segment.zone_id AND NOT iotmq.cursor_lock_use(c.cursor_id, false)) THEN
		RAISE lock_not_available;
	END IF;
	PERFORM FROM iotmq_internal.cursor AS c
	JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
	WHERE c.zone_id = segment.zone_id AND (p.next_offset <= highest OR p.redeliveries > 0
		OR EXISTS (SELECT FROM iotmq_internal.lease AS l
			WHERE l.lease_id >= iotmq.lease_first(c.cursor_id)
				AND l.lease_id < iotmq.lease_first(c.cursor_id + 1)
				AND l.first_offset <= highest AND l.last_offset >= lowest))
	FOR UPDATE OF p NOWAIT;
	PERFORM FROM iotmq_internal.cursor AS c
	JOIN iotmq_internal.lease AS l ON l.lease_id >= iotmq.lease_first(c.cursor_id)
		AND l.lease_id < iotmq.lease_first(c.cursor_id + 1)
	WHERE c.zone_id = segment.zone_id AND l.first_offset <= highest AND l.last_offset >= lowest
	FOR UPDATE OF l NOWAIT;
END
$$;
COMMENT ON FUNCTION iotmq.retention_lock IS 'internal: takes the locks to drop a segment';

-- retention_remove(segment, at): drops it under those locks; the segment of the
-- present is emptied, not dropped. False: it is not expired any more. Raises 55P03
-- if something is busy.
CREATE FUNCTION iotmq.retention_remove(segment iotmq_internal.segment, at timestamptz) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone_table regclass := (SELECT z.table_name FROM iotmq_internal.zone AS z WHERE z.zone_id = segment.zone_id);
BEGIN
	PERFORM iotmq.retention_lock(segment);
	IF NOT iotmq.retention_is_expired(segment, at) THEN
		RETURN false;			-- somebody went back to it
	END IF;
	IF segment.sealed THEN
		-- counting may take a while: before the locks that others meet
		PERFORM iotmq.forget_segment(c.cursor_id, segment.table_name)
		FROM iotmq_internal.cursor AS c
		WHERE c.zone_id = segment.zone_id;
	END IF;
	EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', zone_table);
	EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', segment.table_name);
	IF NOT segment.sealed THEN
		IF NOT iotmq.retention_is_expired(segment, at) THEN
			RETURN false;		-- a publisher was faster
		END IF;
		PERFORM iotmq.forget_segment(c.cursor_id, segment.table_name)
		FROM iotmq_internal.cursor AS c
		WHERE c.zone_id = segment.zone_id;
	END IF;
	IF segment.to_time > clock_timestamp() THEN
		EXECUTE format('TRUNCATE %s', segment.table_name);
	ELSE
		-- with whatever somebody made of it: nobody may stop retention
		EXECUTE format('DROP TABLE %s CASCADE', segment.table_name);
		DELETE FROM iotmq_internal.segment AS s
		WHERE s.zone_id = segment.zone_id AND s.from_time = segment.from_time;
	END IF;
	IF segment.last_offset IS NOT NULL THEN
		-- what is not written yet has an offset behind it
		UPDATE iotmq_internal.zone AS z
		SET earliest_offset = greatest(z.earliest_offset,
			least(iotmq.offset_lowest(z.zone_id), least(segment.last_offset, 9223372036854775806) + 1))
		WHERE z.zone_id = segment.zone_id;
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION iotmq.retention_remove IS 'internal: drops a segment that nobody is using';

-- retention_drop(zone_id, at, after): drops the first expired segment of a zone that
-- begins after that time. segment_time: its beginning, NULL: there is none;
-- outcome: dropped, busy, or NULL. Tries for a moment where something is busy: the
-- lock of a consumer lasts a fraction of a millisecond.
CREATE FUNCTION iotmq.retention_drop(zone_id int, at timestamptz, after timestamptz,
		OUT segment_time timestamptz, OUT outcome text)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	segment iotmq_internal.segment;
BEGIN
	FOR try IN 1..10 LOOP
		BEGIN
			-- one run at a time in a zone
			PERFORM FROM iotmq_internal.zone AS z
			WHERE z.zone_id = retention_drop.zone_id
			FOR NO KEY UPDATE NOWAIT;
			SELECT s.* INTO segment
			FROM iotmq_internal.segment AS s
			WHERE s.zone_id = retention_drop.zone_id AND s.from_time > after AND iotmq.retention_is_expired(s, at)
			ORDER BY s.from_time
			LIMIT 1;
			segment_time := segment.from_time;
			IF segment_time IS NULL THEN
				outcome := NULL;
			ELSE
				outcome := CASE WHEN iotmq.retention_remove(segment, at) THEN 'dropped' END;
			END IF;
			RETURN;
		EXCEPTION WHEN lock_not_available OR undefined_table THEN
			outcome := 'busy';
			PERFORM pg_sleep(0.005);
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION iotmq.retention_drop IS 'internal: drops one expired segment';

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
	WHERE z.zone_id = retention_move_earliest.zone_id
	FOR NO KEY UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN;					-- dropped meanwhile, or busy: the next run does it
	END IF;
	earliest := iotmq.offset_at(zone_id, '4000-01-01 BC');
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
