-- forget_segment(cursor_ids, segment): the leases and waiting messages of a segment, of these
-- groups, end, and what they had not settled is counted as expired unread. The caller has
-- locked the leases and the cursors.
CREATE FUNCTION iotmq.forget_segment(cursor_ids int[], segment regclass) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_forget_segment';
COMMENT ON FUNCTION iotmq.forget_segment IS 'internal: ends what groups have of a segment that goes';
