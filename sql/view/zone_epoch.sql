-- For readers that keep their own position: which offsets never came to be.
CREATE VIEW iotmq.zone_epoch AS
SELECT
	t.topic,
	z.zone,
	g.epoch,
	g.first_offset,
	g.last_before,
	g.began_at
FROM iotmq_internal.zone AS z
JOIN iotmq_internal.topic AS t USING (topic_id)
CROSS JOIN LATERAL (
	SELECT n.epoch, n.first_offset, n.last_before, coalesce(n.began_at, iotmq.epoch_began_at(n.zone_id, n.first_offset)) AS began_at
	FROM iotmq_internal.zone_gap AS n
	WHERE n.zone_id = z.zone_id
	UNION ALL
	SELECT f.epoch, f.first_offset, f.last_before, f.began_at
	FROM iotmq.epoch_gaps(z.zone_id, true) AS f
) AS g;
COMMENT ON VIEW iotmq.zone_epoch IS 'where the offsets of a zone jumped after a recovery: what lies between never came to be';
COMMENT ON COLUMN iotmq.zone_epoch.topic IS 'the topic';
COMMENT ON COLUMN iotmq.zone_epoch.zone IS 'the zone';
COMMENT ON COLUMN iotmq.zone_epoch.epoch IS 'its number; a zone begins with epoch 0';
COMMENT ON COLUMN iotmq.zone_epoch.first_offset IS 'the first offset of the epoch';
COMMENT ON COLUMN iotmq.zone_epoch.last_before IS 'the last offset before it that a message has, or where the gap before it ends';
COMMENT ON COLUMN iotmq.zone_epoch.began_at IS 'when its first message was published; NULL: none yet';
