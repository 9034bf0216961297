-- What is decided of messages that wait: see src/group/waiting.c for results and errors.

CREATE FUNCTION iotmq.retry_now(topic text, consumer_group text, msg_offsets bigint[],
		zone text DEFAULT NULL) RETURNS int
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_retry_now';
COMMENT ON FUNCTION iotmq.retry_now IS 'lets messages that wait for a retry be due now; returns how many';

CREATE FUNCTION iotmq.give_up(topic text, consumer_group text, msg_offsets bigint[],
		zone text DEFAULT NULL, reason text DEFAULT NULL) RETURNS int
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_give_up';
COMMENT ON FUNCTION iotmq.give_up IS 'makes dead letters of messages that wait for a retry; returns how many';
