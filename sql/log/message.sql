CREATE FUNCTION iotmq.message_is_valid(device_id text, tag text, payload jsonb, body bytea, properties jsonb,
		message_key text)
	RETURNS boolean
	LANGUAGE C IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_message_is_valid';
COMMENT ON FUNCTION iotmq.message_is_valid IS 'internal: true, or the error that says what is wrong with the message';

-- message_columns(messages): what the columns of a message are called in a table of theirs, quoted,
-- by number: users may rename them. Errors: 42704 there is no such table; 55000 one was dropped,
-- or has another type.
CREATE FUNCTION iotmq.message_columns(messages regclass) RETURNS text[]
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_message_columns_of';
COMMENT ON FUNCTION iotmq.message_columns IS 'internal: the columns of a message, as a table has them';
