CREATE TYPE iotmq.delivery AS (
	lease_id bigint,
	zone text,
	msg_offset bigint,
	device_id text,
	tag text,
	payload jsonb,
	body bytea,
	properties jsonb,
	published_at timestamptz,
	attempt int,
	message_key text
);
COMMENT ON TYPE iotmq.delivery IS 'a message as it is delivered';
COMMENT ON COLUMN iotmq.delivery.lease_id IS 'the lease, for ack and the like; NULL: read without one';
COMMENT ON COLUMN iotmq.delivery.zone IS 'the zone';
COMMENT ON COLUMN iotmq.delivery.msg_offset IS 'its number in the zone';
COMMENT ON COLUMN iotmq.delivery.device_id IS 'the device';
COMMENT ON COLUMN iotmq.delivery.tag IS 'by which groups can choose; NULL: none';
COMMENT ON COLUMN iotmq.delivery.payload IS 'content; NULL: there is only a body';
COMMENT ON COLUMN iotmq.delivery.body IS 'binary content; NULL: there is only a payload';
COMMENT ON COLUMN iotmq.delivery.properties IS 'of the transport; NULL: none';
COMMENT ON COLUMN iotmq.delivery.published_at IS 'the clock of the server at publish';
COMMENT ON COLUMN iotmq.delivery.attempt IS 'which delivery to this group it is, from 1; 0: read without a lease';
COMMENT ON COLUMN iotmq.delivery.message_key IS 'the key that its publisher gave it; NULL: none';
