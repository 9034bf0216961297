-- What goes when a topic's table goes: see src/core/depend.c.
CREATE FUNCTION iotmq.depend_schema() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME', 'iotmq_depend_schema';
COMMENT ON FUNCTION iotmq.depend_schema() IS 'internal: has the schema of a topic''s zones go with its table';

CREATE TRIGGER depend AFTER INSERT ON iotmq_internal.topic
	FOR EACH ROW EXECUTE FUNCTION iotmq.depend_schema();
ALTER TABLE iotmq_internal.topic ENABLE ALWAYS TRIGGER depend;
