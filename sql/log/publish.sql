-- Publishing: see src/log/publish.c for results and errors.
CREATE FUNCTION iotmq.publish(topic text, device_id text, payload jsonb, zone text DEFAULT NULL,
		tag text DEFAULT NULL, properties jsonb DEFAULT NULL, body bytea DEFAULT NULL,
		message_key text DEFAULT NULL) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_publish';
COMMENT ON FUNCTION iotmq.publish IS 'publishes one message; returns its offset';

CREATE FUNCTION iotmq.publish_batch(topic text, device_ids text[], payloads jsonb[],
		zone text DEFAULT NULL, tags text[] DEFAULT NULL, properties jsonb[] DEFAULT NULL,
		bodies bytea[] DEFAULT NULL, zones text[] DEFAULT NULL, message_keys text[] DEFAULT NULL) RETURNS bigint[]
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_publish_batch';
COMMENT ON FUNCTION iotmq.publish_batch IS 'publishes many messages; returns their offsets in input order';
