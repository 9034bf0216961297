-- access_may_consume_as(group_id): may the current user consume as that group?
CREATE FUNCTION iotmq.access_may_consume_as(group_id int) RETURNS boolean
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_access_may_consume_as';
COMMENT ON FUNCTION iotmq.access_may_consume_as IS 'internal: whether the current user may consume as a group';
