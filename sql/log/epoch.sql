-- Epochs: no offset is given out twice, whatever a recovery lost. See src/log/epoch.c.

-- The epoch + 1; every recovery resets it, which means that it has to be found out anew.
CREATE UNLOGGED SEQUENCE iotmq_internal.epoch;
COMMENT ON SEQUENCE iotmq_internal.epoch IS 'internal: the epoch that offsets are given out in, plus 1';
SELECT pg_catalog.setval('iotmq_internal.epoch', 1);

-- epoch_gaps(zone_id): gaps in the offsets that iotmq_internal.zone_gap does not have yet.
CREATE FUNCTION iotmq.epoch_gaps(zone_id int, OUT epoch int, OUT first_offset bigint,
		OUT last_before bigint, OUT began_at timestamptz) RETURNS SETOF record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 1
	AS 'MODULE_PATHNAME', 'iotmq_epoch_gaps_found';
COMMENT ON FUNCTION iotmq.epoch_gaps IS 'internal: gaps of a zone that are not noted yet';

-- epoch_is_open(zone_id): may there be such gaps?
CREATE FUNCTION iotmq.epoch_is_open(zone_id int) RETURNS boolean
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_epoch_is_open';
COMMENT ON FUNCTION iotmq.epoch_is_open IS 'internal: whether a zone may have gaps that are not noted yet';

-- epoch_note(zone_id): notes them, before retention drops what shows them. began_at stays
-- open until a message is there.
CREATE FUNCTION iotmq.epoch_note(zone_id int) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO iotmq_internal.zone_gap (zone_id, epoch, first_offset, last_before, began_at)
	SELECT epoch_note.zone_id, g.epoch, g.first_offset, g.last_before, g.began_at
	FROM iotmq.epoch_gaps(epoch_note.zone_id) AS g
	-- an epoch whose first message came to nothing, too, if a later one is noted: what is not
	-- noted is looked for above the last one only
	WHERE g.epoch <= (SELECT max(b.epoch) FROM iotmq.epoch_gaps(epoch_note.zone_id) AS b WHERE b.began_at IS NOT NULL)
	ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION iotmq.epoch_note IS 'internal: notes the gaps of a zone';
