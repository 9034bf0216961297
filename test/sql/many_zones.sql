-- Promise: retention-by-itself
-- A zone begins with the segments of a day. In a topic with 100 zones or more it has the present
-- one and the next, and maintenance makes the others.

SET client_min_messages = warning;
SELECT iotmq.create_topic('t', segment_interval => '12 hours',
	zones => (SELECT array_agg(format('zone%s', to_char(n, 'FM000'))) FROM generate_series(1, 100) AS n));
SELECT iotmq.create_group('t', 'g');
SELECT iotmq.add_zone('t', 'zone101');

CREATE VIEW segments AS
SELECT segments, count(*) AS zones, min(zone) AS first, max(zone) AS last
FROM iotmq.topic_stats
GROUP BY segments
ORDER BY segments;

SELECT * FROM segments;

-- enough to publish, by COPY, too
SELECT iotmq.publish('t', 'd', '1', 'zone101');
SELECT format('COPY %s (device_id, payload) FROM STDIN', iotmq.zone_table('t', 'zone101')) AS copy \gset
:copy;
d	2
\.
SELECT msg_offset, payload FROM iotmq.consume('t', 'g');

CALL iotmq.run_maintenance();
SELECT * FROM segments;

DROP VIEW segments;
SELECT iotmq.drop_topic('t', force => true);
