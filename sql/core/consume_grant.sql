-- Who may consume as which group, and who may mirror which topic: see admin/access.sql.

-- A role, or 0 for one that a dump names and this server doesn't have: see consume_grant.c.
CREATE TYPE iotmq_internal.grantee;
CREATE FUNCTION iotmq.consume_grant_in(cstring) RETURNS iotmq_internal.grantee
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_consume_grant_in';
COMMENT ON FUNCTION iotmq.consume_grant_in IS 'internal: reads a role that may be missing';
CREATE FUNCTION iotmq.consume_grant_out(iotmq_internal.grantee) RETURNS cstring
	LANGUAGE internal STABLE STRICT PARALLEL SAFE
	AS 'regroleout';
COMMENT ON FUNCTION iotmq.consume_grant_out IS 'internal: writes a role';
CREATE TYPE iotmq_internal.grantee (
	INPUT = iotmq.consume_grant_in,
	OUTPUT = iotmq.consume_grant_out,
	LIKE = pg_catalog.oid
);
COMMENT ON TYPE iotmq_internal.grantee IS 'internal: a role, missing or not';
CREATE CAST (iotmq_internal.grantee AS pg_catalog.oid) WITHOUT FUNCTION AS IMPLICIT;
COMMENT ON CAST (iotmq_internal.grantee AS pg_catalog.oid) IS 'internal: the role''s oid';
CREATE CAST (pg_catalog.regrole AS iotmq_internal.grantee) WITHOUT FUNCTION AS ASSIGNMENT;
COMMENT ON CAST (pg_catalog.regrole AS iotmq_internal.grantee) IS 'internal: a role that is there';

CREATE TABLE iotmq_internal.consume_grant (
	group_id int NOT NULL,
	role iotmq_internal.grantee NOT NULL,
	PRIMARY KEY (group_id, role)
);
COMMENT ON TABLE iotmq_internal.consume_grant IS 'which roles may consume as which group';
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.consume_grant',
	'WHERE role::pg_catalog.oid IN (SELECT r.oid FROM pg_catalog.pg_roles AS r)');

CREATE TABLE iotmq_internal.mirror_grant (
	topic_id int NOT NULL,
	role iotmq_internal.grantee NOT NULL,
	PRIMARY KEY (topic_id, role)
);
COMMENT ON TABLE iotmq_internal.mirror_grant IS 'which roles may pull which topic to another server';
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.mirror_grant',
	'WHERE role::pg_catalog.oid IN (SELECT r.oid FROM pg_catalog.pg_roles AS r)');
