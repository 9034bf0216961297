-- What groups have begun and not settled: see src/view/open.c. Each role sees the groups that
-- it may consume as, monitors see all.

CREATE FUNCTION iotmq.open_leases(OUT lease_id bigint, OUT topic text, OUT consumer_group text,
		OUT zone text, OUT consumer text, OUT leased_at timestamptz, OUT deadline timestamptz,
		OUT messages int, OUT attempt int) RETURNS SETOF record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_open_leases';
COMMENT ON FUNCTION iotmq.open_leases IS 'internal: the open leases of every group';

CREATE VIEW iotmq.in_flight AS
SELECT
	lease_id,
	topic,
	consumer_group,
	zone,
	consumer,
	leased_at,
	deadline,
	messages,
	attempt
FROM iotmq.open_leases();
COMMENT ON VIEW iotmq.in_flight IS 'the open leases of every group';
COMMENT ON COLUMN iotmq.in_flight.lease_id IS 'the lease';
COMMENT ON COLUMN iotmq.in_flight.topic IS 'the topic';
COMMENT ON COLUMN iotmq.in_flight.consumer_group IS 'the consumer group';
COMMENT ON COLUMN iotmq.in_flight.zone IS 'the zone';
COMMENT ON COLUMN iotmq.in_flight.consumer IS 'who consumes, as told to consume';
COMMENT ON COLUMN iotmq.in_flight.leased_at IS 'when the lease was given';
COMMENT ON COLUMN iotmq.in_flight.deadline IS 'when it expires';
COMMENT ON COLUMN iotmq.in_flight.messages IS 'messages in it that are still open';
COMMENT ON COLUMN iotmq.in_flight.attempt IS 'the highest attempt among its messages';

CREATE FUNCTION iotmq.open_waiting(OUT topic text, OUT consumer_group text, OUT zone text,
		OUT msg_offset bigint, OUT device_id text, OUT attempt int, OUT due_at timestamptz,
		OUT reason text, OUT redriven boolean) RETURNS SETOF record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_open_waiting';
COMMENT ON FUNCTION iotmq.open_waiting IS 'internal: the waiting messages of every group';

CREATE VIEW iotmq.waiting_message AS
SELECT
	topic,
	consumer_group,
	zone,
	msg_offset,
	device_id,
	attempt,
	due_at,
	reason,
	redriven
FROM iotmq.open_waiting();
COMMENT ON VIEW iotmq.waiting_message IS 'the messages of every group that wait for another attempt';
COMMENT ON COLUMN iotmq.waiting_message.topic IS 'the topic';
COMMENT ON COLUMN iotmq.waiting_message.consumer_group IS 'the consumer group';
COMMENT ON COLUMN iotmq.waiting_message.zone IS 'the zone';
COMMENT ON COLUMN iotmq.waiting_message.msg_offset IS 'its offset';
COMMENT ON COLUMN iotmq.waiting_message.device_id IS 'the device';
COMMENT ON COLUMN iotmq.waiting_message.attempt IS 'the number that its next delivery will have';
COMMENT ON COLUMN iotmq.waiting_message.due_at IS 'when it may be delivered; NULL: after an earlier one of its device';
COMMENT ON COLUMN iotmq.waiting_message.reason IS 'why its last attempt failed, as told to nack; NULL: not told, or it was not delivered yet';
COMMENT ON COLUMN iotmq.waiting_message.redriven IS 'it was a dead letter';
