-- Backends keep the small catalogs in memory (src/core/catalog.c); any change to them says so.
CREATE FUNCTION iotmq.catalog_changed() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME', 'iotmq_catalog_changed';
COMMENT ON FUNCTION iotmq.catalog_changed() IS 'internal: tells every backend that a catalog of iotmq changed';

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON iotmq_internal.topic
	FOR EACH STATEMENT EXECUTE FUNCTION iotmq.catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON iotmq_internal.zone
	FOR EACH STATEMENT EXECUTE FUNCTION iotmq.catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON iotmq_internal.zone_gap
	FOR EACH STATEMENT EXECUTE FUNCTION iotmq.catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON iotmq_internal.segment
	FOR EACH STATEMENT EXECUTE FUNCTION iotmq.catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON iotmq_internal.consumer_group
	FOR EACH STATEMENT EXECUTE FUNCTION iotmq.catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON iotmq_internal.cursor
	FOR EACH STATEMENT EXECUTE FUNCTION iotmq.catalog_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON iotmq_internal.consume_grant
	FOR EACH STATEMENT EXECUTE FUNCTION iotmq.catalog_changed();

-- also where session_replication_role is replica: else other sessions go by what was
ALTER TABLE iotmq_internal.topic ENABLE ALWAYS TRIGGER changed;
ALTER TABLE iotmq_internal.zone ENABLE ALWAYS TRIGGER changed;
ALTER TABLE iotmq_internal.zone_gap ENABLE ALWAYS TRIGGER changed;
ALTER TABLE iotmq_internal.segment ENABLE ALWAYS TRIGGER changed;
ALTER TABLE iotmq_internal.consumer_group ENABLE ALWAYS TRIGGER changed;
ALTER TABLE iotmq_internal.cursor ENABLE ALWAYS TRIGGER changed;
ALTER TABLE iotmq_internal.consume_grant ENABLE ALWAYS TRIGGER changed;
