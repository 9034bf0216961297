-- A run of maintenance goes over what has something to do, and over nothing else.
-- Promise: maintenance-in-nobodys-way, retention-by-itself
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('idle_maintenance', '{a,b}', retention => '100 days', segment_interval => '10 days');
SELECT iotmq.create_group('idle_maintenance', 'g', start_from => '-infinity');
SELECT iotmq.create_group('idle_maintenance', 'chooses', start_from => '-infinity', tags => 'alarm');
CREATE TEMP VIEW work AS
SELECT p.name, p.step, count(*)
FROM iotmq.maintenance_plan(now()) AS p
WHERE p.name LIKE '%idle_maintenance/%'
GROUP BY p.name, p.step
ORDER BY p.name, p.step;
SELECT zone_id AS zone_a FROM iotmq_internal.zone WHERE table_name = iotmq.zone_table('idle_maintenance', 'a') \gset
SELECT * FROM work;

-- Messages that a group does not want.
SELECT iotmq.publish('idle_maintenance', 'd', '1', 'a');
SELECT * FROM work;
CALL iotmq.run_maintenance();
SELECT * FROM work;

-- An expired lease.
SELECT count(*) FROM iotmq.consume('idle_maintenance', 'g', invisible_for => '1 ms');
SELECT pg_sleep(0.01);
SELECT * FROM work;
CALL iotmq.run_maintenance();
SELECT * FROM work;

-- Segments that are missing ahead, in the middle, too.
DO $$
DECLARE
	leaf regclass;
BEGIN
	SELECT s.table_name INTO leaf
	FROM iotmq_internal.segment AS s
	JOIN iotmq_internal.zone AS z USING (zone_id)
	WHERE z.table_name = iotmq.zone_table('idle_maintenance', 'b')
	ORDER BY s.from_time
	OFFSET 1
	LIMIT 1;
	DELETE FROM iotmq_internal.segment AS s WHERE s.table_name = leaf;
	EXECUTE format('DROP TABLE %s', leaf);
END
$$;
SELECT * FROM work;
CALL iotmq.run_maintenance();
SELECT * FROM work;
SELECT step, count(*) > 0 AS wanted
FROM iotmq.maintenance_plan(now() + interval '100 days') AS p
WHERE name = 'idle_maintenance/a'
GROUP BY step
ORDER BY step;

-- A past segment: to be sealed, then dropped; then the earliest offset moves on.
SELECT iotmq.segment_make_until(:zone_a, now() - interval '300 days', now() - interval '300 days' + interval '1 us');
SELECT iotmq.zone_table('idle_maintenance', 'a') AS table_a \gset
INSERT INTO :table_a (device_id, payload, published_at) VALUES ('d', '0', now() - interval '300 days');
SELECT * FROM work;
CALL iotmq.run_maintenance();
SELECT * FROM work;
SELECT zone, earliest_offset FROM iotmq.topic_stats WHERE topic = 'idle_maintenance' ORDER BY zone;

-- Offsets that never came to be at the beginning of a zone.
BEGIN;
SELECT iotmq.publish('idle_maintenance', 'd', '1', 'b');
ROLLBACK;
SELECT * FROM work;
CALL iotmq.run_maintenance();
SELECT * FROM work;
SELECT zone, earliest_offset FROM iotmq.topic_stats WHERE topic = 'idle_maintenance' ORDER BY zone;
SELECT iotmq.drop_topic('idle_maintenance', force => true);
