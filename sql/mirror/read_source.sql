-- What the source of a mirrored zone says of its groups: read over a connection of dblink.

-- read_source_value(conn, command): the one value that a query returns at the source.
CREATE FUNCTION iotmq.read_source_value(conn text, command text) RETURNS jsonb
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq.link_value(conn, command)::jsonb
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
