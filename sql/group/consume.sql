-- Consuming: see src/group/consume.c for results and errors.

CREATE FUNCTION iotmq.consume(topic text, consumer_group text, max_messages int DEFAULT 32,
		invisible_for interval DEFAULT NULL, zone text DEFAULT NULL, wait interval DEFAULT NULL,
		consumer text DEFAULT NULL, ack_lease bigint DEFAULT NULL) RETURNS SETOF iotmq.delivery
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 32
	AS 'MODULE_PATHNAME', 'iotmq_consume';
COMMENT ON FUNCTION iotmq.consume IS 'acknowledges a lease, if one is named, and leases the next messages of one zone to the caller';
