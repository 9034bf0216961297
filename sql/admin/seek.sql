-- Moving a group.

CREATE TYPE iotmq.seek_result AS (
	zone text,
	old_offset bigint,
	new_offset bigint,
	messages bigint
);
COMMENT ON TYPE iotmq.seek_result IS 'what a seek did in a zone: messages delivered again (positive) or skipped (negative)';
COMMENT ON COLUMN iotmq.seek_result.zone IS 'the zone';
COMMENT ON COLUMN iotmq.seek_result.old_offset IS 'where the group stood: the next one to deliver';
COMMENT ON COLUMN iotmq.seek_result.new_offset IS 'where it goes on';
COMMENT ON COLUMN iotmq.seek_result.messages IS 'how many are delivered again (positive) or skipped (negative)';

-- seek_cursor: seek_offset by ids; a target beyond the ends is clamped to them. The caller
-- has excluded the cursor's users, and with them retention.
-- Errors: 42704 the cursor was dropped.
CREATE FUNCTION iotmq.seek_cursor(cursor_id int, to_offset bigint, dry_run boolean) RETURNS iotmq.seek_result
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result iotmq.seek_result;
	target bigint;
BEGIN
	IF NOT dry_run THEN
		PERFORM FROM iotmq_internal.cursor_state AS p WHERE p.cursor_id = seek_cursor.cursor_id FOR UPDATE;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'the consumer group or zone does not exist any more'
				USING ERRCODE = 'undefined_object',
					DETAIL = 'It was dropped meanwhile.',
					HINT = 'If it is still in iotmq.group_settings, somebody has deleted its position: drop the group, and create it again.';
		END IF;
	END IF;
	SELECT z.zone, p.next_offset, least(greatest(to_offset, z.earliest_offset), o.end_offset)
	INTO result.zone, result.old_offset, target
	FROM iotmq_internal.cursor AS c
	JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
	JOIN iotmq_internal.zone AS z USING (zone_id)
	CROSS JOIN LATERAL iotmq.overview_zone_offsets(z.zone_id) AS o
	WHERE c.cursor_id = seek_cursor.cursor_id;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'the consumer group or zone does not exist any more'
			USING ERRCODE = 'undefined_object', DETAIL = 'It was dropped meanwhile.';
	END IF;
	result.new_offset := target;
	result.messages := iotmq.count_between(cursor_id, target, result.old_offset)
		- iotmq.count_between(cursor_id, result.old_offset, target);
	IF NOT dry_run THEN
		PERFORM iotmq.cursor_move(cursor_id, target);
	END IF;
	RETURN result;
END
$$;
COMMENT ON FUNCTION iotmq.seek_cursor IS 'internal: moves a group in one zone';

-- seek_begin(topic, consumer_group, zone, dry_run): the group's cursors, in that zone or all,
-- once nobody uses them, but for zones that are not open; with dry_run only those. Errors:
-- 22004, 42704; 55000 that zone is not open.
CREATE FUNCTION iotmq.seek_begin(topic text, consumer_group text, zone text, dry_run boolean) RETURNS int[]
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_group_id(topic, consumer_group);
	one int := CASE WHEN zone IS NOT NULL THEN iotmq.call_zone_id(topic, zone) END;
	cursors int[];
BEGIN
	SELECT array_agg(c.cursor_id ORDER BY c.cursor_id) INTO cursors
	FROM iotmq_internal.cursor AS c
	WHERE c.group_id = id AND (one IS NULL OR c.zone_id = one);
	IF NOT dry_run THEN
		PERFORM iotmq.cursor_lock_exclude(cursors);
	END IF;
	IF NOT EXISTS (SELECT FROM iotmq_internal.consumer_group AS g WHERE g.group_id = id)
		OR NOT EXISTS (SELECT FROM iotmq_internal.zone AS z WHERE z.zone_id = one) AND one IS NOT NULL
		OR cursors IS NULL AND one IS NOT NULL
	THEN
		RAISE EXCEPTION 'consumer group "%" of topic "%" was dropped%', consumer_group, topic,
				CASE WHEN one IS NOT NULL THEN format(' in zone "%s"', zone) ELSE '' END
			USING ERRCODE = 'undefined_object';
	END IF;
	-- of zones that are not open only what is asked for, and that is an error
	IF one IS NOT NULL THEN
		PERFORM iotmq.state_require_open(one);
		RETURN cursors;
	END IF;
	RETURN ARRAY(
		SELECT c.cursor_id
		FROM iotmq_internal.cursor AS c
		JOIN iotmq_internal.zone AS z USING (zone_id)
		WHERE c.cursor_id = ANY (cursors) AND z.state = 'open'
		ORDER BY c.cursor_id);
END
$$;
COMMENT ON FUNCTION iotmq.seek_begin IS 'internal: the cursors that a seek moves';

-- seek: a group goes on at a time, in one zone or all: at the smallest offset such
-- that no message published at or after that time lies below it. Its leases and
-- waiting retries there are void. Transactional; dry_run changes nothing. Waits for open
-- transactions of the group's consumers there, and keeps its consumers out until the end.
-- Errors: 22004, 42704.
CREATE FUNCTION iotmq.seek(topic text, consumer_group text, to_time timestamptz,
		zone text DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS SETOF iotmq.seek_result
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 10 SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cursors int[];
BEGIN
	PERFORM iotmq.call_group_id(topic, consumer_group);
	IF to_time IS NULL OR dry_run IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', CASE WHEN to_time IS NULL THEN 'to_time' ELSE 'dry_run' END
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	cursors := iotmq.seek_begin(topic, consumer_group, zone, dry_run);
	RETURN QUERY
	SELECT s.*
	FROM (
		SELECT c.cursor_id, iotmq.offset_at(c.zone_id, to_time) AS target
		FROM iotmq_internal.cursor AS c
		JOIN iotmq_internal.zone AS z USING (zone_id)
		WHERE c.cursor_id = ANY (cursors)
		ORDER BY z.zone
	) AS c
	CROSS JOIN LATERAL iotmq.seek_cursor(c.cursor_id, c.target, dry_run) AS s;
END
$$;
COMMENT ON FUNCTION iotmq.seek IS 'lets a group go on at a time, back or forward';

-- seek_offset: a group goes on at an offset of a zone. As seek.
CREATE FUNCTION iotmq.seek_offset(topic text, consumer_group text, zone text, to_offset bigint,
		dry_run boolean DEFAULT false) RETURNS SETOF iotmq.seek_result
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 1 SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cursors int[];
BEGIN
	PERFORM iotmq.call_group_id(topic, consumer_group), iotmq.call_zone_id(topic, zone);
	IF to_offset IS NULL OR dry_run IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', CASE WHEN to_offset IS NULL THEN 'to_offset' ELSE 'dry_run' END
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	cursors := iotmq.seek_begin(topic, consumer_group, zone, dry_run);
	RETURN QUERY SELECT s.* FROM iotmq.seek_cursor(cursors[1], to_offset, dry_run) AS s;
END
$$;
COMMENT ON FUNCTION iotmq.seek_offset IS 'lets a group go on at an offset of a zone';
