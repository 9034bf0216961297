-- access_may_administer(): is the current user an administrator, the owner or a superuser?
CREATE FUNCTION iotmq.access_may_administer() RETURNS boolean
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_access_may_administer';
COMMENT ON FUNCTION iotmq.access_may_administer IS 'internal: whether the current user is an administrator';

-- zones(topic): the zones on which the caller has a right. Errors: 22004, 42704.
CREATE FUNCTION iotmq.zones(topic text) RETURNS SETOF text
	LANGUAGE C STABLE PARALLEL SAFE ROWS 10
	AS 'MODULE_PATHNAME', 'iotmq_access_zones';
COMMENT ON FUNCTION iotmq.zones IS 'the zones of a topic on which one has a right';
