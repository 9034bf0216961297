-- The publishers of a zone: see src/log/stable.c.

-- stable_exclude_publishers(zone_id): waits for the publishers of a zone, and lets no others
-- begin before the end of the transaction. Who reads is not concerned.
CREATE FUNCTION iotmq.stable_exclude_publishers(zone_id int) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_stable_exclude_publishers';
COMMENT ON FUNCTION iotmq.stable_exclude_publishers IS 'internal: keeps publishers from a zone that is being dropped';

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
