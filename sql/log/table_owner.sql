-- Tables of topics and zones that belong to another role than iotmq's owner, whose code never
-- runs with the rights of that: see src/log/table_owner.c. Called as iotmq's owner.

-- table_owner_run(messages, command): runs a command as the owner of that table, as a
-- security-restricted operation. Errors: the command's.
CREATE FUNCTION iotmq.table_owner_run(messages regclass, command text) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_table_owner_run';
COMMENT ON FUNCTION iotmq.table_owner_run IS 'internal: runs a command as the owner of a table';

-- table_owner_is_ours(messages): has its owner the rights of iotmq's owner anyway?
CREATE FUNCTION iotmq.table_owner_is_ours(messages regclass) RETURNS boolean
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN (SELECT pg_has_role(k.relowner, current_user, 'USAGE') FROM pg_class AS k WHERE k.oid = messages);
COMMENT ON FUNCTION iotmq.table_owner_is_ours IS 'internal: whether the owner of a table has the rights of iotmq''s owner';

-- table_owner_has_code(messages): would a plan, or an attached partition, run what is neither
-- PostgreSQL's nor iotmq's, out of the table's constraints?
CREATE FUNCTION iotmq.table_owner_has_code(messages regclass) RETURNS boolean
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN EXISTS (
		SELECT
		FROM pg_constraint AS c
		JOIN pg_depend AS d ON d.classid = 'pg_constraint'::regclass AND d.objid = c.oid
		WHERE c.conrelid = messages AND c.contype = 'c'
			AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)
			AND NOT EXISTS (
				SELECT
				FROM pg_depend AS m
				JOIN pg_extension AS e ON e.oid = m.refobjid
				WHERE m.classid = d.refclassid AND m.objid = d.refobjid AND m.deptype = 'e' AND e.extname = 'iotmq'));
COMMENT ON FUNCTION iotmq.table_owner_has_code IS 'internal: whether a table has constraints with code of others';

-- table_owner_is_harmless(messages): may it, with its partitions, be read and written by iotmq's
-- owner? Not where another role has one that iotmq doesn't know, or has put code into one.
CREATE FUNCTION iotmq.table_owner_is_harmless(messages regclass) RETURNS boolean
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE part AS (
		SELECT messages::oid AS oid
		UNION ALL
		SELECT i.inhrelid FROM part AS p JOIN pg_inherits AS i ON i.inhparent = p.oid
	)
	SELECT NOT EXISTS (
		SELECT
		FROM part AS p
		WHERE NOT iotmq.table_owner_is_ours(p.oid)
			AND (p.oid NOT IN (
					SELECT t.table_name FROM iotmq_internal.topic AS t
					UNION ALL
					SELECT z.table_name FROM iotmq_internal.zone AS z
					UNION ALL
					SELECT s.table_name FROM iotmq_internal.segment AS s)
				OR iotmq.table_owner_has_code(p.oid)
				OR EXISTS (SELECT FROM pg_rewrite AS r WHERE r.ev_class = p.oid)
				OR EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = p.oid AND NOT g.tgisinternal AND g.tgtype & 8 <> 0)))	-- of DELETE
$$;
COMMENT ON FUNCTION iotmq.table_owner_is_harmless IS 'internal: whether iotmq''s owner may use a table and its partitions';

-- table_owner_require(messages): raises 55000 unless it is so.
CREATE FUNCTION iotmq.table_owner_require(messages regclass) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT iotmq.table_owner_is_harmless(messages) THEN
		RAISE EXCEPTION 'table %, or a partition of it, has code of its owner''s that would run with the rights of iotmq''s', messages
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format('Take out what it is, or make the table your own: ALTER TABLE %s OWNER TO %I;', messages, current_user);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.table_owner_require IS 'internal: raises an error unless iotmq''s owner may use a table';

-- table_owner_attaches(parent): has a partition of it to be attached by its owner, since
-- PostgreSQL would compute what is constant in his constraints?
CREATE FUNCTION iotmq.table_owner_attaches(parent regclass) RETURNS boolean
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN NOT iotmq.table_owner_is_ours(parent)
		AND (iotmq.table_owner_has_code(parent)
			OR EXISTS (SELECT FROM pg_partitioned_table AS p WHERE p.partrelid = parent AND p.partdefid <> 0));
COMMENT ON FUNCTION iotmq.table_owner_attaches IS 'internal: whether a table''s owner has to attach its partitions';

-- table_owner_attach(parent, part, bounds): attaches a partition, a table of iotmq's owner, which
-- stays that. Errors: PostgreSQL's; 42501 the owner of the parent has to do it, and may not use
-- the schemas.
CREATE FUNCTION iotmq.table_owner_attach(parent regclass, part regclass, bounds text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	command text := format('ALTER TABLE %s ATTACH PARTITION %s %s', parent, part, bounds);
BEGIN
	IF NOT iotmq.table_owner_attaches(parent) THEN
		EXECUTE command;
		RETURN;
	END IF;
	EXECUTE format('ALTER TABLE %s OWNER TO %s', part, (SELECT k.relowner::regrole FROM pg_class AS k WHERE k.oid = parent));
	PERFORM iotmq.table_owner_run(parent, command);
	EXECUTE format('ALTER TABLE %s OWNER TO %I', part, current_user);
END
$$;
COMMENT ON FUNCTION iotmq.table_owner_attach IS 'internal: attaches a partition with the rights of the table''s owner';
