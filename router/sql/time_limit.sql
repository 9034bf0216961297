-- time_limit(milliseconds): an end for the call of a node. After that time 55P03 is raised;
-- the limit ends with the transaction or subtransaction, as at the end of a block with
-- exception handlers.
--
-- PL/Proxy's query_timeout doesn't count while nothing at all comes from the node, and a
-- statement that is cancelled (57014, statement_timeout) has it ask the node to cancel, too,
-- and wait for an answer: a node whose processes stand still gives none.
CREATE FUNCTION iotmq_internal.time_limit(milliseconds int) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_time_limit';
COMMENT ON FUNCTION iotmq_internal.time_limit IS 'internal: raises an error after a time, wherever the backend is then';

