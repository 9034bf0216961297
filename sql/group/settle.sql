-- What a consumer says of its lease: see src/group/settle.c for results and errors.

CREATE FUNCTION iotmq.ack(lease_id bigint, msg_offsets bigint[] DEFAULT '{-1}') RETURNS int
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_ack';
COMMENT ON FUNCTION iotmq.ack IS 'settles messages of a lease as done; returns how many';

CREATE FUNCTION iotmq.nack(lease_id bigint, msg_offsets bigint[] DEFAULT '{-1}',
		delay interval DEFAULT NULL, reason text DEFAULT NULL) RETURNS int
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_nack';
COMMENT ON FUNCTION iotmq.nack IS 'settles messages of a lease as failed: they come again after a delay; returns how many';

CREATE FUNCTION iotmq.reject(lease_id bigint, msg_offsets bigint[] DEFAULT '{-1}',
		reason text DEFAULT NULL) RETURNS int
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_reject';
COMMENT ON FUNCTION iotmq.reject IS 'settles messages of a lease as dead letters; returns how many';

CREATE FUNCTION iotmq.settle(lease_id bigint, acks bigint[] DEFAULT '{}', nacks bigint[] DEFAULT '{}',
		rejects bigint[] DEFAULT '{}', rest text DEFAULT NULL, delay interval DEFAULT NULL,
		reasons text[] DEFAULT NULL) RETURNS int
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_settle';
COMMENT ON FUNCTION iotmq.settle IS 'settles messages of a lease as done, as failed and as dead letters in one call; returns how many';

CREATE FUNCTION iotmq.extend(lease_id bigint, invisible_for interval) RETURNS timestamptz
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_extend';
COMMENT ON FUNCTION iotmq.extend IS 'gives a lease more time, counted from now; returns the new deadline';
