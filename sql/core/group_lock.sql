-- Who changes what claims of a group go by is seen to do so: see src/core/group_lock.c.

-- group_lock_change(group_id): this transaction changes a group's mode, tags or filter,
-- pauses or resumes it, or drops it. Waits for claims that are being made.
CREATE FUNCTION iotmq.group_lock_change(group_id int) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_group_lock_change';
COMMENT ON FUNCTION iotmq.group_lock_change IS 'internal: shows that a consumer group is being changed';
