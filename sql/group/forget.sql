-- forget_segment(cursor_id, segment): a group's leases and waiting messages of a segment
-- end, and what it had not settled is counted as expired unread. The caller has locked the
-- leases and the cursor.
CREATE FUNCTION iotmq.forget_segment(cursor_id int, segment regclass) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_forget_segment';
COMMENT ON FUNCTION iotmq.forget_segment IS 'internal: ends what a group has of a segment that goes';
