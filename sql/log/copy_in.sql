-- What a zone's table has for COPY and INSERT: see src/log/copy_in.c.

-- copy_in_time(zone_id): now, as messages of that zone get it.
CREATE FUNCTION iotmq.copy_in_time(zone_id int) RETURNS timestamptz
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_copy_in_time';
COMMENT ON FUNCTION iotmq.copy_in_time IS 'internal: the default of published_at';

CREATE FUNCTION iotmq.copy_in_place(zone_id int, msg_offset bigint, published_at timestamptz,
		device_id text, message_key text) RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_copy_in_place';
COMMENT ON FUNCTION iotmq.copy_in_place IS 'internal: true, or an error if a publisher chose offset and time of its message';

CREATE FUNCTION iotmq.copy_in_begin() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME', 'iotmq_copy_in_begin';
COMMENT ON FUNCTION iotmq.copy_in_begin IS 'internal: what a statement must do before it publishes by COPY or INSERT';

CREATE FUNCTION iotmq.copy_in_end() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME', 'iotmq_copy_in_end';
COMMENT ON FUNCTION iotmq.copy_in_end IS 'internal: an error if such a statement has published a key that was taken';

-- copy_in_elsewhere(topic): the default in a topic's own table, which leads to those of zones.
CREATE FUNCTION iotmq.copy_in_elsewhere(topic text) RETURNS text
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_copy_in_elsewhere';
COMMENT ON FUNCTION iotmq.copy_in_elsewhere IS 'internal: the error that the table of a zone has to be written to';
