-- Segments: how they are made and sealed. When is decided in src/log/segment.c, and
-- by maintenance.

-- segment_ahead(segment_interval): how far ahead of time segments are made: a day, but
-- between 2 and 64 of them.
CREATE FUNCTION iotmq.segment_ahead(segment_interval interval) RETURNS interval
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN least(greatest(interval '1 day', segment_interval * 2), segment_interval * 64);
COMMENT ON FUNCTION iotmq.segment_ahead IS 'internal: how far ahead of time segments are made';

-- segment_make_until(zone_id, at, until): makes the segments missing in that time and
-- returns how many. Locks the zone's table against other makers of segments.
CREATE FUNCTION iotmq.segment_make_until(zone_id int, at timestamptz, until timestamptz) RETURNS int
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_segment_make_until';
COMMENT ON FUNCTION iotmq.segment_make_until IS 'internal: makes the segments that are missing in a time';

-- segment_bounds(segment): the lowest and the highest offset of the rows that are committed
-- now, whatever the isolation level, and when the newest was published; NULL: there is none.
CREATE FUNCTION iotmq.segment_bounds(segment regclass, OUT lowest bigint, OUT highest bigint,
		OUT newest timestamptz)
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_segment_bounds';
COMMENT ON FUNCTION iotmq.segment_bounds IS 'internal: the offsets that a segment holds';

-- segment_add_key_index(segment): the index by which messages with keys are found. Rows without
-- a key are not in it. key.c knows it by its name and columns.
CREATE FUNCTION iotmq.segment_add_key_index(segment regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	SET default_tablespace = ''
AS $$
DECLARE
	columns text[] := iotmq.message_columns(segment);
BEGIN
	EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s (%s, %s) WHERE %4$s IS NOT NULL',
		(SELECT k.relname FROM pg_class AS k WHERE k.oid = segment) || '_message_key', segment, columns[4], columns[9]);
END
$$;
COMMENT ON FUNCTION iotmq.segment_add_key_index IS 'internal: makes the index on the keys of a segment';

-- segment_report_foreign(zone_table, message): no segment can be attached, since a partition that
-- iotmq doesn't know of has its time, or rows of that time: raises 55000.
CREATE FUNCTION iotmq.segment_report_foreign(zone_table regclass, message text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	foreign_table regclass := (
		SELECT i.inhrelid
		FROM pg_inherits AS i
		WHERE i.inhparent = zone_table
			AND NOT EXISTS (SELECT FROM iotmq_internal.segment AS s WHERE s.table_name = i.inhrelid)
		ORDER BY strpos(message, (SELECT k.relname FROM pg_class AS k WHERE k.oid = i.inhrelid)) = 0, i.inhrelid
		LIMIT 1);
BEGIN
	RAISE EXCEPTION 'a partition that is not iotmq''s is in the way: %', coalesce(foreign_table::text, message)
		USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = format('Detach it: ALTER TABLE %s DETACH PARTITION %s;', zone_table, coalesce(foreign_table::text, '...'));
END
$$;
COMMENT ON FUNCTION iotmq.segment_report_foreign IS 'internal: raises an error about a partition in the way of a segment';

-- segment_create: one segment; the caller has the lock and chose the bounds, and knows whether
-- messages have keys. Made apart and then attached, since that locks out nobody; beside the zone's
-- table, where that one's owner has to attach it. Errors: 42704 the
-- zone's table is gone; 55000 it can't take a segment; 3F000 the schema of segments was renamed.
CREATE FUNCTION iotmq.segment_create(zone_id int, zone_table regclass,
		from_time timestamptz, to_time timestamptz, has_keys boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	SET TimeZone = 'UTC'
	SET default_tablespace = ''
	SET default_table_access_method = 'heap'
AS $$
DECLARE
	first_choice text := format('_zone_%s_p%s', zone_id, to_char(from_time, 'YYYYMMDD_HH24MISS'));
	unqualified text := first_choice;
	name text;
	again int := 0;
	beside regnamespace := (
		SELECT k.relnamespace FROM pg_class AS k WHERE k.oid = zone_table AND iotmq.table_owner_attaches(zone_table));
	columns text[] := iotmq.message_columns(zone_table);
BEGIN
	IF to_regnamespace('iotmq_segment') IS NULL THEN
		RAISE EXCEPTION 'schema iotmq_segment does not exist'
			USING ERRCODE = 'invalid_schema_name',
				HINT = 'It is a part of iotmq. If it was renamed, undo that: ALTER SCHEMA ... RENAME TO iotmq_segment;';
	END IF;
	WHILE to_regclass('iotmq_segment.' || unqualified) IS NOT NULL LOOP	-- one of that time was detached and is still there
		again := again + 1;
		unqualified := first_choice || '_' || again;
	END LOOP;
	name := format('%s.%s', coalesce(beside::text, 'iotmq_segment'), unqualified);
	EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING CONSTRAINTS INCLUDING COMPRESSION
		INCLUDING STORAGE INCLUDING GENERATED, PRIMARY KEY (%s))', name, zone_table, columns[2]);
	IF (SELECT t.device_index
		FROM iotmq_internal.zone AS z
		JOIN iotmq_internal.topic AS t USING (topic_id)
		WHERE z.zone_id = segment_create.zone_id)
	THEN
		EXECUTE format('CREATE INDEX ON %s (%s, %s)', name, columns[4], columns[2]);
	END IF;
	IF has_keys THEN
		PERFORM iotmq.segment_add_key_index(name::regclass);
	END IF;
	BEGIN
		PERFORM iotmq.table_owner_attach(zone_table, name::regclass,
			format('FOR VALUES FROM (%L) TO (%L)', from_time, to_time));
	EXCEPTION WHEN invalid_object_definition OR check_violation THEN
		PERFORM iotmq.segment_report_foreign(zone_table, SQLERRM);
	END;
	IF beside IS NOT NULL THEN
		EXECUTE format('ALTER TABLE %s SET SCHEMA iotmq_segment', name);
		name := 'iotmq_segment.' || unqualified;
	END IF;
	INSERT INTO iotmq_internal.segment (zone_id, from_time, to_time, table_name)
	VALUES (zone_id, from_time, to_time, name::regclass);
END
$$;
COMMENT ON FUNCTION iotmq.segment_create IS 'internal: makes one segment';

-- segment_lost(): the segments that somebody has taken from iotmq. state: dropped; detached
-- from its zone, or about to be; moved to another schema, and still attached. A renamed
-- one is found all the same.
CREATE FUNCTION iotmq.segment_lost(OUT zone_id int, OUT from_time timestamptz, OUT state text) RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL SAFE
AS $$
	SELECT s.zone_id, s.from_time,
		CASE
			WHEN k.oid IS NULL THEN 'dropped'
			WHEN i.inhrelid IS NULL THEN 'detached'
			ELSE 'moved'
		END
	FROM iotmq_internal.segment AS s
	JOIN iotmq_internal.zone AS z USING (zone_id)
	LEFT JOIN pg_catalog.pg_class AS k ON k.oid = s.table_name
	LEFT JOIN pg_catalog.pg_inherits AS i
		ON i.inhrelid = s.table_name AND i.inhparent = z.table_name AND NOT i.inhdetachpending
	LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = k.relnamespace
	WHERE i.inhrelid IS NULL
		-- unless the schema has another name now
		OR n.nspname <> 'iotmq_segment' AND pg_catalog.to_regnamespace('iotmq_segment') IS NOT NULL
$$;
COMMENT ON FUNCTION iotmq.segment_lost IS 'internal: segments that somebody has dropped, detached or moved';

-- segment_unreadable(of_zone): the segments of that zone, or of all (NULL), with rows that
-- somebody has changed so that they can't be read: see open_index in src/log/segment_scan.c,
-- which goes by the same. reason: for operators. Only of those that are so is the size asked
-- for, which would wait for whoever changes a table in this moment: that one is left out.
CREATE FUNCTION iotmq.segment_unreadable(of_zone int DEFAULT NULL, OUT zone_id int,
		OUT from_time timestamptz, OUT reason text) RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL SAFE
AS $$
	WITH fitness AS MATERIALIZED (
		SELECT s.zone_id, s.from_time, k.oid,
			(SELECT pg_catalog.array_agg(a.atttypid ORDER BY a.attnum)
				FROM pg_catalog.pg_attribute AS a
				WHERE a.attrelid = k.oid AND a.attnum BETWEEN 1 AND 9 AND a.attgenerated = ''
			) IS NOT DISTINCT FROM '{text,bigint,timestamptz,text,text,jsonb,bytea,jsonb,text}'::pg_catalog.regtype[]::pg_catalog.oid[]
				AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
					WHERE a.attrelid = k.oid AND a.attnum BETWEEN 1 AND 4 AND NOT a.attnotnull)
				AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS c	-- 18 has them
					WHERE c.conrelid = k.oid AND c.contype = 'n' AND NOT c.convalidated AND c.conkey[1] <= 4) AS has_columns,
			EXISTS (SELECT FROM pg_catalog.pg_index AS i
				WHERE i.indrelid = k.oid AND i.indisprimary AND i.indkey[0] = 2) AS has_key
		FROM iotmq_internal.segment AS s
		JOIN pg_catalog.pg_class AS k ON k.oid = s.table_name
		WHERE of_zone IS NULL OR s.zone_id = of_zone
	), unfit AS MATERIALIZED (
		SELECT f.zone_id, f.from_time, f.oid, f.has_columns
		FROM fitness AS f
		WHERE NOT (f.has_columns AND f.has_key)
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks AS l
				WHERE l.relation = f.oid AND l.mode = 'AccessExclusiveLock' AND l.granted)
	)
	SELECT u.zone_id, u.from_time, 'it can''t be read: somebody has '
		|| CASE WHEN u.has_columns THEN 'dropped its primary key' ELSE 'dropped a column of messages, changed its type, or let it be NULL' END
	FROM unfit AS u
	WHERE pg_catalog.pg_relation_size(u.oid) > 0
$$;
COMMENT ON FUNCTION iotmq.segment_unreadable IS 'internal: segments that somebody has changed so that they can''t be read';

-- segment_cut(zone_id, segment, at): the segment, which is detached or dropped, ends at that
-- time, so that another can be made for the present. Readers have what is in it until
-- maintenance lets it go.
CREATE FUNCTION iotmq.segment_cut(zone_id int, segment regclass, at timestamptz) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE iotmq_internal.segment AS s
	SET to_time = at
	WHERE s.zone_id = segment_cut.zone_id AND s.table_name = segment AND s.from_time < at AND s.to_time > at
$$;
COMMENT ON FUNCTION iotmq.segment_cut IS 'internal: ends a segment that is not there any more';

-- Sealing. A segment whose time is over is sealed when nobody can write to it any
-- more; then its first and last offset are final, and readers skip it by them. One that can't be
-- read stays as it is.
-- A mirror goes by its source's clock: floor_time, which pulls move on, says up to which time
-- all is here and final; no segment is sealed before.
-- Else there are three steps, each in a transaction of its own:
--   1. floor_time := its end. Whoever begins to publish from the commit of this on
--      puts nothing below it, even if the clock is set back.
--      (Until all are told, its change lock keeps step 2 away.)
--   2. A sample of the zone's publishers (see stable.c): seal_xid.
--   3. When every publisher of that sample has ended: first and last are read.
--
-- segment_seal_past(zone_id, floor_time): notes first and last of the segments that end before that
-- time, which nobody writes to any more; how many.
CREATE FUNCTION iotmq.segment_seal_past(zone_id int, floor_time timestamptz) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	past iotmq_internal.segment;
	lowest bigint;
	highest bigint;
	sealed int := 0;
BEGIN
	FOR past IN
		SELECT s.*
		FROM iotmq_internal.segment AS s
		WHERE s.zone_id = segment_seal_past.zone_id AND NOT s.sealed AND s.to_time <= segment_seal_past.floor_time
			AND NOT EXISTS (SELECT FROM iotmq.segment_lost() AS l WHERE l.zone_id = s.zone_id AND l.from_time = s.from_time)
			AND NOT EXISTS (SELECT FROM iotmq.segment_unreadable(segment_seal_past.zone_id) AS u WHERE u.from_time = s.from_time)
		ORDER BY s.from_time
	LOOP
		SELECT b.lowest, b.highest INTO lowest, highest
		FROM iotmq.segment_bounds(past.table_name) AS b;
		UPDATE iotmq_internal.segment AS s
		SET sealed = true, first_offset = lowest, last_offset = highest,
			bytes = pg_total_relation_size(past.table_name)
		WHERE s.zone_id = segment_seal_past.zone_id AND s.from_time = past.from_time;
		sealed := sealed + 1;
	END LOOP;
	RETURN sealed;
END
$$;
COMMENT ON FUNCTION iotmq.segment_seal_past IS 'internal: notes first and last offset of segments that nobody writes to';

-- segment_seal(zone_id, at): does the steps that can be done now; returns how
-- many segments it sealed. Skips a zone that somebody else is sealing, and segments that
-- somebody has taken away, which maintenance lets go.
CREATE FUNCTION iotmq.segment_seal(zone_id int, at timestamptz DEFAULT clock_timestamp()) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '100ms'
AS $$
DECLARE
	zone iotmq_internal.zone;
	new_floor timestamptz;
	decided boolean;
	sealed int;
BEGIN
	SELECT z.* INTO zone
	FROM iotmq_internal.zone AS z
	WHERE z.zone_id = segment_seal.zone_id
	FOR NO KEY UPDATE SKIP LOCKED;
	IF zone.state = 'mirror' THEN
		RETURN iotmq.segment_seal_past(zone_id, zone.floor_time);
	END IF;
	SELECT max(s.to_time) INTO new_floor
	FROM iotmq_internal.segment AS s
	WHERE s.zone_id = segment_seal.zone_id AND NOT s.sealed
		AND s.to_time <= least(at, clock_timestamp())
		AND NOT EXISTS (SELECT FROM iotmq.segment_lost() AS l WHERE l.zone_id = s.zone_id AND l.from_time = s.from_time)
		AND NOT EXISTS (SELECT FROM iotmq.segment_unreadable(segment_seal.zone_id) AS u WHERE u.from_time = s.from_time);
	IF zone.zone_id IS NULL OR new_floor IS NULL THEN
		RETURN 0;
	END IF;

	IF zone.seal_xid IS NULL AND zone.floor_time < new_floor THEN
		PERFORM iotmq.zone_lock_change(zone_id);
		UPDATE iotmq_internal.zone AS z
		SET floor_time = new_floor, floor_xid = pg_current_xact_id()
		WHERE z.zone_id = segment_seal.zone_id;
		RETURN 0;
	END IF;
	IF zone.seal_xid IS NULL AND zone.floor_xid <> pg_current_xact_id() THEN
		zone.seal_xid := iotmq.stable_sample(zone_id);
		UPDATE iotmq_internal.zone AS z
		SET seal_xid = zone.seal_xid
		WHERE z.zone_id = segment_seal.zone_id;
	END IF;
	decided := iotmq.stable_is_decided(zone_id, zone.seal_xid);
	IF decided IS NULL AND zone.seal_xid IS NOT NULL THEN
		UPDATE iotmq_internal.zone AS z SET seal_xid = NULL WHERE z.zone_id = segment_seal.zone_id;
	END IF;
	IF decided IS NOT TRUE THEN
		RETURN 0;
	END IF;

	sealed := iotmq.segment_seal_past(zone_id, zone.floor_time);
	UPDATE iotmq_internal.zone AS z SET seal_xid = NULL WHERE z.zone_id = segment_seal.zone_id;
	RETURN sealed;
EXCEPTION WHEN lock_not_available OR undefined_table THEN
	RETURN 0;					-- somebody is dropping or rewriting a segment
END
$$;
COMMENT ON FUNCTION iotmq.segment_seal IS 'internal: notes first and last offset of segments that are over';
