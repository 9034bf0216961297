-- Epochs: no offset is given out twice, whatever a recovery lost. See src/log/epoch.c.

-- The epoch + 1; every recovery resets it, which means that it has to be found out anew.
CREATE UNLOGGED SEQUENCE iotmq_internal.epoch;
COMMENT ON SEQUENCE iotmq_internal.epoch IS 'internal: the epoch that offsets are given out in, plus 1';
SELECT pg_catalog.setval('iotmq_internal.epoch', 1);

-- What recoveries have left of the epoch: not all of what was published in it need be there.
CREATE SEQUENCE iotmq_internal.last_epoch;
COMMENT ON SEQUENCE iotmq_internal.last_epoch IS 'internal: the last epoch that was begun';

-- epoch_gaps(zone_id, lenient): gaps in the offsets that iotmq_internal.zone_gap does not have
-- yet. Segments that can't be read don't count with lenient, and are an error (55000) without.
CREATE FUNCTION iotmq.epoch_gaps(zone_id int, lenient boolean, OUT epoch int, OUT first_offset bigint,
		OUT last_before bigint, OUT began_at timestamptz) RETURNS SETOF record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 1
	AS 'MODULE_PATHNAME', 'iotmq_epoch_gaps_found';
COMMENT ON FUNCTION iotmq.epoch_gaps IS 'internal: gaps of a zone that are not noted yet';

-- epoch_began_at(zone_id, first_offset): when the first message of the epoch that begins there
-- was published; NULL: there is none yet.
CREATE FUNCTION iotmq.epoch_began_at(zone_id int, first_offset bigint) RETURNS timestamptz
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_epoch_began_at';
COMMENT ON FUNCTION iotmq.epoch_began_at IS 'internal: when the first message of an epoch was published';

-- epoch_is_open(zone_id): may there be such gaps?
CREATE FUNCTION iotmq.epoch_is_open(zone_id int) RETURNS boolean
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_epoch_is_open';
COMMENT ON FUNCTION iotmq.epoch_is_open IS 'internal: whether a zone may have gaps that are not noted yet';

-- epoch_note(zone_id): notes them, before somebody drops what shows them or moves the earliest
-- offset. began_at stays open until a message is there. Errors: 55000, see epoch_gaps.
CREATE FUNCTION iotmq.epoch_note(zone_id int) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO iotmq_internal.zone_gap (zone_id, epoch, first_offset, last_before)
	SELECT epoch_note.zone_id, g.epoch, g.first_offset, g.last_before
	FROM iotmq.epoch_gaps(epoch_note.zone_id, false) AS g
	ON CONFLICT DO NOTHING;
	UPDATE iotmq_internal.zone_gap AS n
	SET began_at = b.began_at
	FROM (
		SELECT o.epoch, iotmq.epoch_began_at(o.zone_id, o.first_offset) AS began_at
		FROM iotmq_internal.zone_gap AS o
		WHERE o.zone_id = epoch_note.zone_id AND o.began_at IS NULL
	) AS b
	WHERE n.zone_id = epoch_note.zone_id AND n.epoch = b.epoch AND b.began_at IS NOT NULL
$$;
COMMENT ON FUNCTION iotmq.epoch_note IS 'internal: notes the gaps of a zone';
