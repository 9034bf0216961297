-- overview_zone_offsets(zone_id): the first offset not yet decided and the next one to be
-- assigned, as far as they are known now; NULL: the zone is gone. On a standby only
-- what consumers learnt on the primary is known.
CREATE FUNCTION iotmq.overview_zone_offsets(zone_id int, OUT stable_offset bigint, OUT end_offset bigint)
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_overview_zone_offsets';
COMMENT ON FUNCTION iotmq.overview_zone_offsets IS 'internal: stable and end offset of a zone';
