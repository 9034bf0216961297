-- Lease ids: a cursor's lie from lease_first(cursor_id) to below that of the next one.
-- See src/group/lease.c.
CREATE FUNCTION iotmq.lease_first(cursor_id int) RETURNS bigint
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_lease_first';
COMMENT ON FUNCTION iotmq.lease_first IS 'internal: the lowest id that a lease of a cursor can have';

CREATE FUNCTION iotmq.lease_cursor(lease_id bigint) RETURNS int
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_lease_cursor_of';
COMMENT ON FUNCTION iotmq.lease_cursor IS 'internal: the cursor that a lease is of';

-- lease_left(cursor_id, last_lease): how many ids are left above that one.
CREATE FUNCTION iotmq.lease_left(cursor_id int, last_lease bigint) RETURNS bigint
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_lease_left';
COMMENT ON FUNCTION iotmq.lease_left IS 'internal: how many lease ids a cursor has left';

-- lease_void(cursor_id): ends the leases of a cursor whose users are excluded.
CREATE FUNCTION iotmq.lease_void(cursor_id int) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_lease_void';
COMMENT ON FUNCTION iotmq.lease_void IS 'internal: ends the leases of a group in a zone';
