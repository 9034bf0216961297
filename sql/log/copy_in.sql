-- What a zone's table has for COPY and INSERT: see src/log/copy_in.c.

-- publish_time(zone_id): now, as messages of that zone get it.
CREATE FUNCTION iotmq.publish_time(zone_id int) RETURNS timestamptz
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_publish_time_default';
COMMENT ON FUNCTION iotmq.publish_time IS 'internal: the default of published_at';

CREATE FUNCTION iotmq.check_place(zone_id int, msg_offset bigint, published_at timestamptz)
	RETURNS boolean
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_check_place';
COMMENT ON FUNCTION iotmq.check_place IS 'internal: true, or an error if a publisher chose offset and time of its message';

CREATE FUNCTION iotmq.before_publish() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME', 'iotmq_before_publish';
COMMENT ON FUNCTION iotmq.before_publish IS 'internal: what a statement must do before it publishes by COPY or INSERT';
