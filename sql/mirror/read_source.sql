-- What the source of a mirrored zone says of its groups: read over a connection of dblink.

-- read_source_dblink(): the function dblink(connection, command), with its schema.
-- Errors: 55000 this database has no dblink.
CREATE FUNCTION iotmq.read_source_dblink() RETURNS text
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name text;
BEGIN
	SELECT format('%I.dblink', n.nspname) INTO name
	FROM pg_extension AS e
	JOIN pg_namespace AS n ON n.oid = e.extnamespace
	WHERE e.extname = 'dblink';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'dblink is not installed in this database'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run: CREATE EXTENSION dblink;';
	END IF;
	RETURN name;
END
$$;
COMMENT ON FUNCTION iotmq.read_source_dblink IS 'internal: what dblink is called here';

-- read_source_value(conn, command): the one value that a query returns at the source. The
-- name must be that of a connection: dblink takes another text for where to connect to.
CREATE FUNCTION iotmq.read_source_value(conn text, command text) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	dblink text := iotmq.read_source_dblink();
	is_open boolean;
	value jsonb;
BEGIN
	EXECUTE format('SELECT $1 = ANY (%s_get_connections())', dblink) INTO is_open USING conn;
	IF is_open IS NOT TRUE THEN
		RAISE EXCEPTION 'there is no connection "%"', conn USING ERRCODE = 'connection_does_not_exist';
	END IF;
	EXECUTE format('SELECT s.value FROM %s($1, $2) AS s (value jsonb)', dblink) INTO value USING conn, command;
	RETURN value;
END
$$;
COMMENT ON FUNCTION iotmq.read_source_value IS 'internal: the result of a query at the source';

-- read_source_known(zone_id): of each group of a mirrored zone the hashes of what was taken over.
-- What somebody has changed here since is not among them, and so is asked for again.
CREATE FUNCTION iotmq.read_source_known(zone_id int) RETURNS jsonb
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_object_agg(g.consumer_group, s.hashes)
	FROM iotmq_internal.cursor AS c
	JOIN iotmq_internal.consumer_group AS g USING (group_id)
	JOIN iotmq_internal.source_group AS s USING (cursor_id)
	JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
	WHERE c.zone_id = read_source_known.zone_id AND s.left_as = hash_record_extended(p, 0)
$$;
COMMENT ON FUNCTION iotmq.read_source_known IS 'internal: what a mirror knows of its source''s groups';

-- read_source_groups(conn, topic, source_zone, zone_id): what the groups of a zone have at the
-- source, for apply_source_groups; with zone_id (the mirror of the zone here) what of it has
-- changed since that. To be read before the messages: it must not be ahead of them. Runs as the
-- owner: who has opened the connection may ask by it, and what is known here says nothing.
-- Errors: 08003 there is no such connection; 55000 no dblink; 22023; the source's.
CREATE FUNCTION iotmq.read_source_groups(conn text, topic text, source_zone text, zone_id int DEFAULT NULL) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	state jsonb := iotmq.read_source_value(conn, format('SELECT iotmq.mirror_groups(%L, %L, %L)', topic, source_zone,
		iotmq.read_source_known(zone_id)));
BEGIN
	IF jsonb_typeof(state) IS DISTINCT FROM 'object' THEN
		RAISE EXCEPTION 'the source of topic "%" sent no state of its groups', topic
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	RETURN state || jsonb_build_object('conn', conn, 'topic', topic, 'zone', source_zone);
END
$$;
COMMENT ON FUNCTION iotmq.read_source_groups IS 'internal: what the groups of a zone have at its source';
