-- What goes when a topic's table goes: see src/core/depend.c.
CREATE FUNCTION iotmq.depend_schema() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME', 'iotmq_depend_schema';
COMMENT ON FUNCTION iotmq.depend_schema() IS 'internal: has the schema of a topic''s zones go with its table';

CREATE TRIGGER depend AFTER INSERT ON iotmq_internal.topic
	FOR EACH ROW EXECUTE FUNCTION iotmq.depend_schema();
ALTER TABLE iotmq_internal.topic ENABLE ALWAYS TRIGGER depend;

-- depend_note(topic_id, table_name): the same for a topic that is there.
CREATE FUNCTION iotmq.depend_note(topic_id int, table_name regclass) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_depend_note';
COMMENT ON FUNCTION iotmq.depend_note IS 'internal: notes that a topic''s zones go with its table';

-- depend_is_lost(topic_id): was it lost, as in a pg_upgrade?
CREATE FUNCTION iotmq.depend_is_lost(topic_id int) RETURNS boolean
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN EXISTS (
		SELECT
		FROM iotmq_internal.topic AS t
		JOIN pg_class AS k ON k.oid = t.table_name
		JOIN pg_namespace AS n ON n.nspname = ('iotmq_zone_' || t.topic_id)::name
		WHERE t.topic_id = depend_is_lost.topic_id
			AND NOT EXISTS (
				SELECT
				FROM pg_depend AS d
				WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid
					AND d.refclassid = 'pg_class'::regclass AND d.refobjid = k.oid));
COMMENT ON FUNCTION iotmq.depend_is_lost IS 'internal: whether a topic''s zones would stay without its table';

-- depend_restore(topic_id): notes it again, unless somebody is changing the topic.
CREATE FUNCTION iotmq.depend_restore(topic_id int) RETURNS void
	LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	table_name regclass;
BEGIN
	IF NOT iotmq.depend_is_lost(topic_id) THEN
		RETURN;
	END IF;
	SELECT t.table_name INTO table_name
	FROM iotmq_internal.topic AS t
	WHERE t.topic_id = depend_restore.topic_id
	FOR NO KEY UPDATE SKIP LOCKED;
	-- another run may have been first
	IF FOUND AND iotmq.depend_is_lost(topic_id) THEN
		PERFORM iotmq.depend_note(topic_id, table_name);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.depend_restore IS 'internal: notes again what a pg_upgrade has lost';
