-- What the column runs of iotmq_internal.lease says: see src/group/runs.c.

-- runs_messages(first_offset, last_offset, runs): the messages of a row of lease, in order.
CREATE FUNCTION iotmq.runs_messages(first_offset bigint, last_offset bigint, runs bytea,
		OUT nth int, OUT msg_offset bigint, OUT attempt int) RETURNS SETOF record
	LANGUAGE C IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_runs_messages';
COMMENT ON FUNCTION iotmq.runs_messages IS 'internal: the messages of a lease; nth, from 0, is the bit of settled';
