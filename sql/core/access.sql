-- may_consume(group_id): may the current user consume as that group?
CREATE FUNCTION iotmq.may_consume(group_id int) RETURNS boolean
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_may_consume';
COMMENT ON FUNCTION iotmq.may_consume IS 'internal: whether the current user may consume as a group';
