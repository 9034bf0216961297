-- What a zone's table has for COPY and INSERT: see src/log/copy_in.c.

-- copy_in_time(zone_id): now, as messages of that zone get it.
CREATE FUNCTION iotmq.copy_in_time(zone_id int) RETURNS timestamptz
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_copy_in_time';
COMMENT ON FUNCTION iotmq.copy_in_time IS 'internal: the default of published_at';

CREATE FUNCTION iotmq.copy_in_place(zone_id int, msg_offset bigint, published_at timestamptz)
	RETURNS boolean
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_copy_in_place';
COMMENT ON FUNCTION iotmq.copy_in_place IS 'internal: true, or an error if a publisher chose offset and time of its message';

CREATE FUNCTION iotmq.copy_in_begin() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME', 'iotmq_copy_in_begin';
COMMENT ON FUNCTION iotmq.copy_in_begin IS 'internal: what a statement must do before it publishes by COPY or INSERT';
