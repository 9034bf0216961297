CREATE FUNCTION iotmq.message_is_valid(device_id text, tag text, payload jsonb, body bytea, properties jsonb,
		message_key text)
	RETURNS boolean
	LANGUAGE C IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_message_is_valid';
COMMENT ON FUNCTION iotmq.message_is_valid IS 'internal: true, or the error that says what is wrong with the message';
