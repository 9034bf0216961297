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

-- seek_cursor: seek_offset by ids; a target beyond the ends is clamped to them.
CREATE FUNCTION iotmq.seek_cursor(cursor_id int, to_offset bigint, dry_run boolean) RETURNS iotmq.seek_result
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result iotmq.seek_result;
	target bigint;
BEGIN
	IF NOT dry_run THEN
		-- nobody claims from here on; leases first, see void_leases
		PERFORM iotmq.cursor_void_leases(cursor_id, true);
		PERFORM FROM iotmq.cursor_state AS p WHERE p.cursor_id = seek_cursor.cursor_id FOR UPDATE;
	END IF;
	SELECT z.zone, p.next_offset, least(greatest(to_offset, z.earliest_offset), o.end_offset)
	INTO result.zone, result.old_offset, target
	FROM iotmq.cursor AS c
	JOIN iotmq.cursor_state AS p USING (cursor_id)
	JOIN iotmq.zone AS z USING (zone_id)
	CROSS JOIN LATERAL iotmq.overview_zone_offsets(z.zone_id) AS o
	WHERE c.cursor_id = seek_cursor.cursor_id;
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

-- seek: a group goes on at a time, in one zone or all: at the smallest offset such
-- that no message published at or after that time lies below it. Its leases and
-- waiting retries there are void. Transactional; dry_run changes nothing.
-- Errors: 22004, 42704.
CREATE FUNCTION iotmq.seek(topic text, consumer_group text, to_time timestamptz,
		zone text DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS SETOF iotmq.seek_result
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 10 SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_group_id(topic, consumer_group);
	one int := CASE WHEN zone IS NOT NULL THEN iotmq.call_zone_id(topic, zone) END;
BEGIN
	IF to_time IS NULL OR dry_run IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', CASE WHEN to_time IS NULL THEN 'to_time' ELSE 'dry_run' END
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	RETURN QUERY
	SELECT s.*
	FROM (
		SELECT c.cursor_id, iotmq.offset_at(c.zone_id, to_time) AS target
		FROM iotmq.cursor AS c
		JOIN iotmq.zone AS z USING (zone_id)
		WHERE c.group_id = id AND (one IS NULL OR c.zone_id = one)
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
	id int := iotmq.call_group_id(topic, consumer_group);
	id_of_zone int := iotmq.call_zone_id(topic, zone);
BEGIN
	IF to_offset IS NULL OR dry_run IS NULL THEN
		RAISE EXCEPTION '% must not be NULL', CASE WHEN to_offset IS NULL THEN 'to_offset' ELSE 'dry_run' END
			USING ERRCODE = 'null_value_not_allowed';
	END IF;
	RETURN QUERY
	SELECT s.*
	FROM iotmq.cursor AS c
	CROSS JOIN LATERAL iotmq.seek_cursor(c.cursor_id, to_offset, dry_run) AS s
	WHERE c.group_id = id AND c.zone_id = id_of_zone;
END
$$;
COMMENT ON FUNCTION iotmq.seek_offset IS 'lets a group go on at an offset of a zone';
