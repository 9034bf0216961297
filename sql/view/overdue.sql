-- What retention should have dropped and could not, and what could not be read, when it last ran:
-- see admin/retention.sql.
CREATE VIEW iotmq.overdue_segment AS
SELECT
	t.topic,
	z.zone,
	s.from_time,
	s.to_time,
	o.since,
	s.emptied OR s.sealed AND s.last_offset IS NULL AS emptied,
	o.in_the_way
FROM iotmq_internal.overdue AS o
JOIN iotmq_internal.segment AS s USING (zone_id, from_time)
JOIN iotmq_internal.zone AS z USING (zone_id)
JOIN iotmq_internal.topic AS t USING (topic_id);
COMMENT ON VIEW iotmq.overdue_segment IS 'segments that retention should have dropped and could not, or that can''t be read';
COMMENT ON COLUMN iotmq.overdue_segment.topic IS 'the topic';
COMMENT ON COLUMN iotmq.overdue_segment.zone IS 'the zone';
COMMENT ON COLUMN iotmq.overdue_segment.from_time IS 'when the segment begins';
COMMENT ON COLUMN iotmq.overdue_segment.to_time IS 'when it ends';
COMMENT ON COLUMN iotmq.overdue_segment.since IS 'when a run first had to leave it';
COMMENT ON COLUMN iotmq.overdue_segment.emptied IS 'it has no messages, only its table is left';
COMMENT ON COLUMN iotmq.overdue_segment.in_the_way IS 'who used it, what depends on it, or why it can''t be read, at the last try';
