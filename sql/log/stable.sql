-- The publishers of a zone: see src/log/stable.c.

-- stable_sample(zone_id), stable_is_decided(zone_id, sample_xid): whether every publisher
-- of a moment has ended, for what outlives a call: sealing.
CREATE FUNCTION iotmq.stable_sample(zone_id int) RETURNS xid8
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_stable_sample';
COMMENT ON FUNCTION iotmq.stable_sample IS 'internal: a sample of the publishers of a zone';

CREATE FUNCTION iotmq.stable_is_decided(zone_id int, sample_xid xid8) RETURNS boolean
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_stable_is_decided';
COMMENT ON FUNCTION iotmq.stable_is_decided IS 'internal: whether the publishers of a sample have ended';
