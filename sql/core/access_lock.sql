-- Who changes rights takes turns: see src/core/access_lock.c.

-- access_lock_shared(wait): before what topics share is changed; false, only without wait:
-- somebody else is at it.
CREATE FUNCTION iotmq.access_lock_shared(wait boolean) RETURNS boolean
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_access_lock_shared';
COMMENT ON FUNCTION iotmq.access_lock_shared IS 'internal: takes a turn at changing rights on what topics share';

-- access_lock_role(role, alone, wait): before a right of a role is changed; alone: before one is
-- taken, or what went along with it; false, only without wait: somebody changes its rights.
CREATE FUNCTION iotmq.access_lock_role(role oid, alone boolean, wait boolean) RETURNS boolean
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_access_lock_role';
COMMENT ON FUNCTION iotmq.access_lock_role IS 'internal: keeps a role from losing what goes along with its rights';
