-- The lock of a cursor's users, and of those who move it: see src/group/cursor_lock.c.

-- cursor_lock_use(cursor_id, wait): taken by whoever changes what the cursor's group has;
-- false, only without wait: somebody is about to move or drop it.
CREATE FUNCTION iotmq.cursor_lock_use(cursor_id int, wait boolean) RETURNS boolean
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE COST 1000
	AS 'MODULE_PATHNAME', 'iotmq_cursor_lock_use_in_sql';
COMMENT ON FUNCTION iotmq.cursor_lock_use IS 'internal: keeps a cursor from being moved or dropped';

-- cursor_lock_exclude(cursor_ids, zone_ids): waits for the open transactions that have used
-- these cursors or published to these zones; there are no others until this one has ended.
CREATE FUNCTION iotmq.cursor_lock_exclude(cursor_ids int[], zone_ids int[] DEFAULT '{}') RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_cursor_lock_exclude';
COMMENT ON FUNCTION iotmq.cursor_lock_exclude IS 'internal: keeps users from cursors that are moved or dropped';
