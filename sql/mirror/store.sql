-- The mirror's part: see src/mirror/store.c.

-- store_messages(zone_id, from_offset, batch): stores the messages that a source sent, in the format
-- of src/mirror/mirror.h.
CREATE FUNCTION iotmq.store_messages(zone_id int, from_offset bigint, batch text,
		OUT stored bigint, OUT begins_at bigint, OUT next_offset bigint, OUT last_offset bigint, OUT published_at timestamptz)
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_store_messages';
COMMENT ON FUNCTION iotmq.store_messages IS 'internal: stores messages of another server';

-- store_described(batch): its first line, which says what mirror_source did.
CREATE FUNCTION iotmq.store_described(batch text) RETURNS text
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_store_described';
COMMENT ON FUNCTION iotmq.store_described IS 'internal: what a source has said of itself, before its messages';

-- store_next(batch): where the next batch begins.
CREATE FUNCTION iotmq.store_next(batch text) RETURNS bigint
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_store_next';
COMMENT ON FUNCTION iotmq.store_next IS 'internal: up to where a batch of messages reaches';
