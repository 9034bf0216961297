CREATE FUNCTION iotmq.check_message(device_id text, tag text, payload jsonb, body bytea, properties jsonb)
	RETURNS boolean
	LANGUAGE C IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_check_message';
COMMENT ON FUNCTION iotmq.check_message IS 'internal: true, or the error that says what is wrong with the message';
