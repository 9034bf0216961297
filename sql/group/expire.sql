-- expire_leases(cursor_id, at): puts the messages of leases expired by then where they wait for
-- their next attempt; returns how many leases. NULL: the cursor is busy.
CREATE FUNCTION iotmq.expire_leases(cursor_id int, at timestamptz) RETURNS int
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'iotmq_expire_leases_of';
COMMENT ON FUNCTION iotmq.expire_leases IS 'internal: puts the messages of expired leases back';
