-- Who may consume as which group, see admin/access.sql.

-- A role, or 0 for one that a dump names and this server doesn't have: see consume_grant.c.
CREATE TYPE iotmq_internal.grantee;
CREATE FUNCTION iotmq.grantee_in(cstring) RETURNS iotmq_internal.grantee
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_grantee_in';
COMMENT ON FUNCTION iotmq.grantee_in IS 'internal: reads a role that may be missing';
CREATE FUNCTION iotmq.grantee_out(iotmq_internal.grantee) RETURNS cstring
	LANGUAGE internal STABLE STRICT PARALLEL SAFE
	AS 'regroleout';
COMMENT ON FUNCTION iotmq.grantee_out IS 'internal: writes a role';
CREATE TYPE iotmq_internal.grantee (
	INPUT = iotmq.grantee_in,
	OUTPUT = iotmq.grantee_out,
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

-- A new row: left out if its role is missing; else the role has what goes along with it.
-- pg_restore gives the privileges of an object to all their roles by one command, which
-- fails for all if one is missing.
CREATE FUNCTION iotmq.consume_grant_add() RETURNS trigger
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF new.role::oid = 0 THEN
		RETURN NULL;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_namespace AS n, aclexplode(n.nspacl) AS a
		WHERE n.nspname = 'iotmq' AND a.grantee = new.role::oid AND a.privilege_type = 'USAGE')
	THEN
		EXECUTE format('GRANT USAGE ON SCHEMA iotmq TO %s', new.role::oid::regrole);
	END IF;
	IF NOT EXISTS (SELECT FROM pg_class AS c, aclexplode(c.relacl) AS a
		WHERE c.oid = 'iotmq.dead_letter'::regclass AND a.grantee = new.role::oid AND a.privilege_type = 'SELECT')
	THEN
		EXECUTE format('GRANT SELECT ON iotmq.dead_letter TO %s', new.role::oid::regrole);
	END IF;
	RETURN new;
END
$$;
COMMENT ON FUNCTION iotmq.consume_grant_add IS 'internal: completes the right to consume of a restored dump';
CREATE TRIGGER complete BEFORE INSERT ON iotmq_internal.consume_grant
	FOR EACH ROW EXECUTE FUNCTION iotmq.consume_grant_add();
ALTER TABLE iotmq_internal.consume_grant ENABLE ALWAYS TRIGGER complete;
