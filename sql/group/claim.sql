-- Claiming: see src/group/claim.c.

-- claim_pass(cursor_id): moves a group over messages of a zone that it does not want, for
-- a moment; over how many offsets. NULL: the cursor is busy.
CREATE FUNCTION iotmq.claim_pass(cursor_id int) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'iotmq_claim_pass';
COMMENT ON FUNCTION iotmq.claim_pass IS 'internal: moves a group over messages that it does not want';
