-- How far mirrors have come. By what the last pulls have found: no view asks another server.
CREATE VIEW iotmq.mirror AS
SELECT
	t.topic,
	z.zone,
	z.elsewhere AS source,
	m.lag_messages,
	greatest(CASE WHEN m.lag_messages = 0 THEN statement_timestamp() - m.last_pull
		ELSE statement_timestamp() - coalesce(m.last_published, m.last_pull) END, '0') AS lag_time,
	m.last_pull,
	m.error,
	m.failed_at,
	m.source_zone,
	m.next_offset,
	m.messages AS pulled_messages,
	m.missed AS missed_messages
FROM iotmq_internal.mirror_state AS m
JOIN iotmq_internal.zone AS z USING (zone_id)
JOIN iotmq_internal.topic AS t USING (topic_id);
COMMENT ON VIEW iotmq.mirror IS 'zones that follow those of other servers: how far they have come';
COMMENT ON COLUMN iotmq.mirror.topic IS 'the topic';
COMMENT ON COLUMN iotmq.mirror.zone IS 'the zone';
COMMENT ON COLUMN iotmq.mirror.source IS 'the foreign server whose zone it follows';
COMMENT ON COLUMN iotmq.mirror.lag_messages IS 'how many messages the source had more, when it was asked last; NULL: it was not yet';
COMMENT ON COLUMN iotmq.mirror.lag_time IS 'what was published within this time may be missing here; NULL: nothing was pulled yet';
COMMENT ON COLUMN iotmq.mirror.last_pull IS 'when the source was asked last, with success';
COMMENT ON COLUMN iotmq.mirror.error IS 'why the last pull of run_mirrors failed; NULL: it did not';
COMMENT ON COLUMN iotmq.mirror.failed_at IS 'when it failed';
COMMENT ON COLUMN iotmq.mirror.source_zone IS 'the zone there';
COMMENT ON COLUMN iotmq.mirror.next_offset IS 'the next offset to pull: all below it is here';
COMMENT ON COLUMN iotmq.mirror.pulled_messages IS 'messages pulled since it is a mirror';
COMMENT ON COLUMN iotmq.mirror.missed_messages IS 'offsets that the source had dropped before they were pulled';
