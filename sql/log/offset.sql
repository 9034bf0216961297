-- Offsets that belong to something: see src/log/offset.c.

-- offset_at(zone_id, at): the smallest offset such that no message published at
-- or after that time lies below it; -infinity: the earliest, infinity: the end.
CREATE FUNCTION iotmq.offset_at(zone_id int, at timestamptz) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_offset_at';
COMMENT ON FUNCTION iotmq.offset_at IS 'internal: the offset that belongs to a time';

-- offset_is_gone(zone_id): has the zone given out its earliest offset, and no message with it?
CREATE FUNCTION iotmq.offset_is_gone(zone_id int) RETURNS boolean
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_offset_is_gone';
COMMENT ON FUNCTION iotmq.offset_is_gone IS 'internal: whether the earliest offset of a zone moves on';

-- offset_lowest(zone_id, stable): no message has a lower offset, or may still come to have
-- one. All below stable is known to be decided.
CREATE FUNCTION iotmq.offset_lowest(zone_id int, stable bigint) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_offset_lowest';
COMMENT ON FUNCTION iotmq.offset_lowest IS 'internal: the lowest offset that a zone holds or may come to hold';

-- offset_last(zone_id): the last offset given out; NULL: the zone, or its sequence, is gone.
CREATE FUNCTION iotmq.offset_last(zone_id int) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_offset_last';
COMMENT ON FUNCTION iotmq.offset_last IS 'internal: the last offset that a zone has given out';
