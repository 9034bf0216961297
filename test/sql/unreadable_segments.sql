-- Segments that can't be read, since somebody has dropped a column of the topic, or a primary key;
-- and one that somebody has emptied. Views show all other topics and what they still can of this one,
-- maintenance says what is wrong and goes on, and groups of other segments miss nothing.
-- Promise: retention-by-itself, no-loss, every-door-alike
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
-- four segments of an hour, long ago, with three messages each, a hole before the second, and one
-- of the present
CREATE FUNCTION unreadable_make(topic text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	zone record;
	messages regclass;
	at timestamptz;
BEGIN
	PERFORM iotmq.create_topic(topic, retention => '10 days', segment_interval => '1 hour');
	PERFORM iotmq.create_group(topic, 'g', start_from => '-infinity', invisible_for => '30 days');
	messages := iotmq.zone_table(topic, 'default');
	SELECT z.zone_id, z.offset_sequence INTO zone FROM iotmq_internal.zone AS z WHERE z.table_name = messages;
	FOR n IN 0..3 LOOP
		at := date_trunc('hour', now()) - interval '24 hours' + n * interval '1 hour';
		PERFORM iotmq.segment_make_until(zone.zone_id, at, at + interval '1 us');
		IF n = 1 THEN
			PERFORM nextval(zone.offset_sequence);
		END IF;
		EXECUTE format('INSERT INTO %s (device_id, payload, published_at)
			SELECT ''d'', to_jsonb(i), $1 FROM generate_series(1, 3) AS i', messages) USING at;
	END LOOP;
	PERFORM iotmq.publish(topic, 'd', '14');
	FOR n IN 1..3 LOOP
		PERFORM iotmq.segment_seal(zone.zone_id);
	END LOOP;
END $$;
CREATE FUNCTION unreadable_segment(topic text, n int) RETURNS regclass LANGUAGE sql AS $$
	SELECT s.table_name
	FROM iotmq_internal.segment AS s
	JOIN iotmq_internal.zone AS z USING (zone_id)
	WHERE z.table_name = iotmq.zone_table(topic, 'default')
	ORDER BY s.from_time
	OFFSET n - 1
	LIMIT 1
$$;
CREATE FUNCTION unreadable_consume(topic text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	offsets bigint[];
	delivered bigint[] := '{}';
BEGIN
	LOOP
		SELECT array_agg(c.msg_offset ORDER BY c.msg_offset) INTO offsets FROM iotmq.consume(topic, 'g', 100) AS c;
		EXIT WHEN offsets IS NULL;
		delivered := delivered || offsets;
	END LOOP;
	RETURN delivered::text;
END $$;
CREATE VIEW unreadable_views AS
SELECT l.topic, l.lag_messages, l.lag_time IS NOT NULL AS dated, s.messages_estimate,
	s.oldest_published_at IS NOT NULL AS has_oldest, s.newest_published_at IS NOT NULL AS has_newest
FROM iotmq.consumer_lag AS l
JOIN iotmq.topic_stats AS s USING (topic, zone)
ORDER BY l.topic;
CREATE VIEW unreadable_noted AS
SELECT o.topic, count(*) AS segments, o.in_the_way FROM iotmq.overdue_segment AS o GROUP BY o.topic, o.in_the_way ORDER BY o.topic;

-- emptied by hand, behind a hole: what lies behind it is not lost
SELECT unreadable_make('emptied');
SELECT unreadable_segment('emptied', 2) AS second \gset
TRUNCATE :second;
SELECT unreadable_consume('emptied');
SELECT iotmq.drop_topic('emptied', force => true);

-- a column is gone
SELECT unreadable_make('broken');
SELECT unreadable_make('whole');
SELECT * FROM unreadable_views;
ALTER TABLE iotmq_topic.broken DROP COLUMN properties;
-- a session that remembers no time of a message
\c -
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SELECT * FROM unreadable_views;
SELECT count(DISTINCT labels ->> 'topic') AS topics FROM iotmq.metrics WHERE name = 'iotmq_consumer_lag_messages';
SELECT topic, alert FROM iotmq.alerts ORDER BY topic, alert;
CALL iotmq.run_maintenance();
SELECT * FROM unreadable_noted;
SELECT cardinality(skipped) AS skipped, regexp_replace(skipped[1], 'from [0-9].*\+00', 'from TIME') AS first
FROM iotmq.maintenance_run ORDER BY run_id DESC LIMIT 1;
SELECT topic, alert, value, zone FROM iotmq.alerts WHERE alert = 'maintenance' ORDER BY topic, alert;
SELECT unreadable_consume('whole');
\set VERBOSITY default
SELECT iotmq.publish('broken', 'd', '1');
SELECT * FROM iotmq.consume('broken', 'g');
SELECT count(*) FROM iotmq.messages_of_device('broken', 'd');
SELECT iotmq.add_zone('broken', 'other');
\set VERBOSITY terse
SELECT iotmq.drop_topic('broken', force => true);

-- a primary key is gone: retention drops all other segments
SELECT unreadable_make('keyless');
SELECT unreadable_segment('keyless', 2) AS second \gset
SELECT conname AS key FROM pg_constraint WHERE conrelid = :'second'::regclass AND contype = 'p' \gset
ALTER TABLE :second DROP CONSTRAINT :key;
CALL iotmq.run_maintenance(now() + interval '9 days 20 hours');
SELECT * FROM unreadable_noted;
SELECT count(*) FROM iotmq_topic.keyless;
SELECT count(*) FROM iotmq.fetch('keyless', 'default', 0);
-- another one is none
ALTER TABLE :second ADD PRIMARY KEY (device_id, msg_offset);
SELECT count(*) FROM iotmq.fetch('keyless', 'default', 0);
ALTER TABLE :second DROP CONSTRAINT :key, ADD PRIMARY KEY (msg_offset);
CALL iotmq.run_maintenance();
SELECT * FROM unreadable_noted;
SELECT topic, alert FROM iotmq.alerts WHERE alert = 'maintenance';
SELECT count(*) FROM iotmq.fetch('keyless', 'default', 0);
SELECT iotmq.drop_topic(topic, force => true) FROM iotmq.topic_settings;
DROP VIEW unreadable_views, unreadable_noted;
DROP FUNCTION unreadable_make, unreadable_segment, unreadable_consume;
