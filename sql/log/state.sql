-- What a zone is: see src/log/state.c.

-- state_require_open(zone_id): raises 55000 unless the zone is open. The caller holds the zone's
-- publish lock or the use of one of its cursors.
CREATE FUNCTION iotmq.state_require_open(zone_id int) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_state_require_open_in_sql';
COMMENT ON FUNCTION iotmq.state_require_open IS 'internal: raises an error unless a zone is open';

-- state_elsewhere(zone_id): where a zone is that is not open.
CREATE FUNCTION iotmq.state_elsewhere(zone_id int) RETURNS text
	LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	RETURN (SELECT z.elsewhere FROM iotmq_internal.zone AS z WHERE z.zone_id = state_elsewhere.zone_id);
COMMENT ON FUNCTION iotmq.state_elsewhere IS 'internal: where a zone is that is not open';
