-- What is wrong now. lag and delay have a threshold of the group's own; dead
-- letters of the last hour, and a quarter of the retention left until loss, always
-- count.
CREATE VIEW iotmq.alerts AS
SELECT a.topic, a.consumer_group, a.alert, a.value, a.threshold
FROM iotmq.group_lag AS l
JOIN iotmq.topic AS t USING (topic)
JOIN iotmq.consumer_group AS g USING (topic_id, consumer_group)
JOIN iotmq.dead_letter_depth AS d USING (topic, consumer_group)
CROSS JOIN LATERAL (
	SELECT l.topic, l.consumer_group, 'lag' AS alert, l.lag_messages::text AS value, g.max_lag::text AS threshold
	WHERE l.lag_messages > g.max_lag
	UNION ALL
	SELECT l.topic, l.consumer_group, 'delay', l.lag_time::text, g.max_delay::text
	WHERE l.lag_time > g.max_delay
	UNION ALL
	SELECT l.topic, l.consumer_group, 'dead_letters', d.dead_last_hour::text, '0 in the last hour'
	WHERE d.dead_last_hour > 0
	UNION ALL
	SELECT l.topic, l.consumer_group, 'time_to_loss', l.time_to_loss::text, (t.kept_for / 4)::text
	WHERE l.time_to_loss < t.kept_for / 4
) AS a;
COMMENT ON VIEW iotmq.alerts IS 'what an operator should look at now';
COMMENT ON COLUMN iotmq.alerts.topic IS 'the topic';
COMMENT ON COLUMN iotmq.alerts.consumer_group IS 'the consumer group';
COMMENT ON COLUMN iotmq.alerts.alert IS 'lag, delay, dead_letters or time_to_loss';
COMMENT ON COLUMN iotmq.alerts.value IS 'how it is';
COMMENT ON COLUMN iotmq.alerts.threshold IS 'how it should be at worst';
