-- access_may_administer(): is the current user an administrator, the owner or a superuser?
CREATE FUNCTION iotmq.access_may_administer() RETURNS boolean
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_access_may_administer';
COMMENT ON FUNCTION iotmq.access_may_administer IS 'internal: whether the current user is an administrator';
