-- The publishers of a zone: see src/log/stable.c.

-- exclude_publishers(sequence): waits for the publishers of a zone, and lets no others
-- begin before the end of the transaction. Who reads is not concerned.
CREATE FUNCTION iotmq.exclude_publishers(sequence regclass) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_exclude_publishers';
COMMENT ON FUNCTION iotmq.exclude_publishers IS 'internal: keeps publishers from a zone that is being dropped';

CREATE FUNCTION iotmq.stable_sample(sequence regclass, OUT sample_offset bigint, OUT sample_xid xid8)
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_stable_sample';
COMMENT ON FUNCTION iotmq.stable_sample IS 'internal: a sample of the publishers of a zone';

CREATE FUNCTION iotmq.stable_settled(sequence regclass, sample_xid xid8) RETURNS boolean
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_stable_settled';
COMMENT ON FUNCTION iotmq.stable_settled IS 'internal: whether the publishers of a sample have ended';
