-- Backends keep the small catalogs in memory (src/core/catalog.c); any change to them is told.
CREATE FUNCTION iotmq.catalog_change_tell() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME', 'iotmq_catalog_change_tell';
COMMENT ON FUNCTION iotmq.catalog_change_tell() IS 'internal: tells every backend what changed in a catalog of iotmq';

DO $$
DECLARE
	name text;
BEGIN
	FOREACH name IN ARRAY '{topic,zone,zone_gap,segment,consumer_group,cursor,consume_grant,mirror_grant}'::text[] LOOP
		EXECUTE format('CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON iotmq_internal.%I
			FOR EACH ROW EXECUTE FUNCTION iotmq.catalog_change_tell()', name);
		EXECUTE format('CREATE TRIGGER emptied AFTER TRUNCATE ON iotmq_internal.%I
			FOR EACH STATEMENT EXECUTE FUNCTION iotmq.catalog_change_tell()', name);
		-- also where session_replication_role is replica: else other sessions go by what was
		EXECUTE format('ALTER TABLE iotmq_internal.%1$I ENABLE ALWAYS TRIGGER changed, ENABLE ALWAYS TRIGGER emptied', name);
	END LOOP;
END
$$;
