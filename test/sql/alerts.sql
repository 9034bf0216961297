-- alerts, dead_letter_depth and metrics: what they say, and when.
-- Promise: figures-agree
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('alerts', '{a,b}', retention => '8 hours', segment_interval => '1 hour');
SELECT iotmq.create_group('alerts', 'strict', max_lag => 3, max_delay => '10 minutes', max_retries => 0);
SELECT iotmq.create_group('alerts', 'easy');
CREATE TEMP VIEW alert AS
SELECT consumer_group, alert, value, threshold
FROM iotmq.alerts
WHERE topic = 'alerts'
ORDER BY consumer_group, alert;

-- Messages as if published a while ago: a publisher can't do that, the owner can.
CREATE FUNCTION pg_temp.published_ago(zone text, ago interval) RETURNS void
	LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM iotmq.segment_make_until(z.zone_id, now() - ago, now() - ago + interval '1 s')
	FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE t.topic = 'alerts' AND z.zone = published_ago.zone;
	EXECUTE format('INSERT INTO %s (device_id, payload, published_at) VALUES (''d'', ''0'', now() - %L::interval)',
		iotmq.zone_table('alerts', zone), ago);
END
$$;

-- Nothing to say about groups without messages, read or not.
SELECT * FROM alert;
SELECT consumer_group, dead_letters, oldest_dead_at, newest_dead_at, dead_last_hour
FROM iotmq.dead_letter_depth
WHERE topic = 'alerts'
ORDER BY consumer_group;
SELECT consumer_group, lag_messages, lag_time, time_to_loss FROM iotmq.group_lag WHERE topic = 'alerts' ORDER BY consumer_group;

-- Lag: more than max_lag, over all zones, whatever their state.
SELECT iotmq.publish('alerts', 'd', '1', 'a'), iotmq.publish('alerts', 'd', '2', 'b'), iotmq.publish('alerts', 'd', '3', 'b');
SELECT * FROM alert;
SELECT iotmq.publish('alerts', 'd', '4', 'a');
SELECT * FROM alert;
SELECT min(lease_id) AS lease FROM iotmq.consume('alerts', 'strict', 1, zone => 'a') \gset
SELECT * FROM alert;
SELECT iotmq.nack(:lease, delay => '1 hour');
SELECT * FROM alert;
SELECT min(lease_id) AS lease FROM iotmq.consume('alerts', 'strict', 1, zone => 'b') \gset
SELECT iotmq.ack(:lease);
SELECT * FROM alert;
-- A threshold that comes, one that is raised. NULL leaves one as it is.
SELECT iotmq.alter_group('alerts', 'easy', max_lag => 0);
SELECT * FROM alert;
SELECT iotmq.alter_group('alerts', 'easy', max_lag => 100);
SELECT * FROM alert;

-- Dead letters: any in the last hour.
SELECT iotmq.alter_group('alerts', 'strict', max_lag => 100);
SELECT iotmq.create_group('alerts', 'buried', start_from => '-infinity', max_retries => 0);
SELECT min(lease_id) AS lease FROM iotmq.consume('alerts', 'buried', zone => 'a') \gset
SELECT iotmq.reject(:lease, '{1}'), iotmq.nack(:lease, '{2}');
SELECT * FROM alert;
SELECT dead_letters, oldest_dead_at <= newest_dead_at AS in_order, newest_dead_at <= now() AS in_time, dead_last_hour
FROM iotmq.dead_letter_depth
WHERE consumer_group = 'buried';
-- One of them long ago.
UPDATE iotmq_internal.dead_message AS d
SET dead_at = now() - interval '61 minutes'
FROM iotmq.dead_letter AS l
WHERE l.id = d.id AND l.consumer_group = 'buried' AND l.msg_offset = 1;
SELECT dead_letters, newest_dead_at - oldest_dead_at > interval '1 hour' AS apart, dead_last_hour
FROM iotmq.dead_letter_depth
WHERE consumer_group = 'buried';
SELECT * FROM alert;
-- The other one is on its way again; no more than the old one is left.
SELECT iotmq.redrive('alerts', 'buried', array_agg(id)) FROM iotmq.dead_letter WHERE consumer_group = 'buried' AND msg_offset = 2;
SELECT dead_letters, dead_last_hour FROM iotmq.dead_letter_depth WHERE consumer_group = 'buried';
SELECT * FROM alert;
SELECT iotmq.purge_dead_letters('alerts', 'buried');
SELECT consumer_group, dead_letters, oldest_dead_at IS NULL AS none, dead_last_hour
FROM iotmq.dead_letter_depth
WHERE topic = 'alerts'
ORDER BY consumer_group;
SELECT iotmq.drop_group('alerts', 'buried', force => true);
SELECT * FROM alert;

-- Delay: the oldest message not settled is older than max_delay.
SELECT iotmq.drop_zone('alerts', 'a', force => true), iotmq.drop_zone('alerts', 'b', force => true), iotmq.add_zone('alerts', 'c');
SELECT pg_temp.published_ago('c', '9 minutes');
SELECT * FROM alert;
SELECT iotmq.drop_zone('alerts', 'c', force => true), iotmq.add_zone('alerts', 'd');
SELECT pg_temp.published_ago('d', '11 minutes');
SELECT consumer_group, alert, date_trunc('minute', value::interval) AS value, threshold FROM alert;
SELECT min(lease_id) AS lease FROM iotmq.consume('alerts', 'strict') \gset
-- in flight it isn't settled
SELECT alert, threshold FROM alert;
SELECT iotmq.ack(:lease);
SELECT alert, threshold FROM alert;

-- Time to loss: less than a quarter of the retention.
SELECT iotmq.drop_zone('alerts', 'd', force => true), iotmq.add_zone('alerts', 'e');
SELECT iotmq.alter_group('alerts', 'strict', max_delay => '1 day');
SELECT pg_temp.published_ago('e', '5 hours 59 minutes');
SELECT * FROM alert;
SELECT pg_temp.published_ago('e', '0');
SELECT date_trunc('hour', time_to_loss) AS time_to_loss FROM iotmq.group_lag WHERE topic = 'alerts' AND consumer_group = 'easy';
SELECT iotmq.drop_zone('alerts', 'e', force => true), iotmq.add_zone('alerts', 'f');
SELECT pg_temp.published_ago('f', '6 hours 1 minute');
SELECT consumer_group, alert, date_trunc('hour', value::interval) AS value, threshold FROM alert;
SELECT min(lease_id) AS lease FROM iotmq.consume('alerts', 'easy') \gset
SELECT iotmq.ack(:lease);
SELECT consumer_group, alert, date_trunc('hour', value::interval) AS value, threshold FROM alert;
-- Under policy 'consumed' a message is lost later: 4 x retention, or max_retention.
SELECT iotmq.alter_topic('alerts', retention_policy => 'consumed');
SELECT * FROM alert;
SELECT date_trunc('hour', time_to_loss + interval '2 minutes') AS time_to_loss
FROM iotmq.group_lag
WHERE topic = 'alerts' AND consumer_group = 'strict';
SELECT iotmq.alter_topic('alerts', max_retention => '8 hours');
SELECT consumer_group, alert, date_trunc('hour', value::interval) AS value, threshold FROM alert;
-- It is never negative: late maintenance may drop the message at any time.
SELECT iotmq.drop_zone('alerts', 'f', force => true), iotmq.add_zone('alerts', 'g');
SELECT pg_temp.published_ago('g', '10 hours');
SELECT consumer_group, time_to_loss, lag_time > interval '9 hours' AS late
FROM iotmq.group_lag
WHERE topic = 'alerts'
ORDER BY consumer_group;
SELECT consumer_group, alert, date_trunc('hour', value::interval) AS value, threshold FROM alert WHERE alert <> 'maintenance';
-- Which it should have done by now.
SELECT consumer_group, zone, value::interval > interval '8 hours 59 minutes' AS late, threshold, look_at
FROM iotmq.alerts
WHERE topic = 'alerts' AND alert = 'maintenance';
SET client_min_messages = warning;
CALL iotmq.run_maintenance();
RESET client_min_messages;
SELECT * FROM alert;
SELECT iotmq.drop_topic('alerts', force => true);
SELECT * FROM alert;

--
-- Metrics.
--
-- Made anew, a topic goes on above its old offsets; here it is to begin at 1.
DELETE FROM iotmq_internal.past_zone WHERE topic = 'alerts';
SELECT iotmq.create_topic('alerts', '{a}', retention => '1 hour', segment_interval => '10 minutes');
SELECT iotmq.create_group('alerts', 'g', mode => 'orderly', max_retries => 1, backoff => '{0}');
CREATE TEMP VIEW metric AS
SELECT name, labels - 'topic' AS labels, value, kind
FROM iotmq.metrics
WHERE labels->>'topic' = 'alerts'
ORDER BY kind, name;

-- Names, kinds and help: these are known to others.
SELECT DISTINCT name, kind, help, array(SELECT jsonb_object_keys(labels) ORDER BY 1) AS labels
FROM iotmq.metrics
WHERE labels->>'topic' = 'alerts'
ORDER BY name;
-- Each series once; every name begins with iotmq_, a counter's ends in _total.
SELECT name, labels FROM iotmq.metrics GROUP BY name, labels HAVING count(*) > 1;
SELECT name FROM iotmq.metrics WHERE name !~ '^iotmq_[a-z_]+$' OR (kind = 'counter') <> (name ~ '_total$');
SELECT name FROM iotmq.metrics WHERE value IS NULL OR value < 0 OR labels IS NULL OR help IS NULL;

-- Counters, as things happen: 4 messages in, 3 rolled back.
SELECT count(iotmq.publish('alerts', 'd', to_jsonb(i))) FROM generate_series(1, 4) AS i;
BEGIN;
SELECT count(iotmq.publish('alerts', 'd', '0')) FROM generate_series(1, 3) AS i;
ROLLBACK;
SELECT * FROM metric WHERE kind = 'counter';
SELECT min(lease_id) AS lease FROM iotmq.consume('alerts', 'g', 4) \gset
SELECT iotmq.ack(:lease, '{1}'), iotmq.nack(:lease, '{2}');
SELECT * FROM metric WHERE kind = 'counter';
-- What goes back behind it waits, but has not failed.
SELECT name, value FROM metric WHERE name ~ 'lag_messages|ready|inflight|retry|blocked|dlq_messages$';
-- The last attempt comes alone; then the others.
SELECT min(lease_id) AS lease, count(*) AS n FROM iotmq.consume('alerts', 'g', 3) \gset
SELECT :n AS messages, iotmq.nack(:lease, '{2}') AS nacked;
SELECT min(lease_id) AS lease FROM iotmq.consume('alerts', 'g', 3) \gset
SELECT iotmq.ack(:lease);
SELECT name, value FROM metric WHERE kind = 'counter';
SELECT name, value FROM metric WHERE name ~ 'lag_messages|ready|inflight|retry|blocked|dlq_messages$';
-- More of them, of another device.
SELECT count(iotmq.publish('alerts', 'e', to_jsonb(i))) FROM generate_series(5, 8) AS i;
-- Latencies are in milliseconds.
SELECT name, value BETWEEN 0 AND 60000 AS recent
FROM metric
WHERE name IN ('iotmq_consumer_lag_latency', 'iotmq_storage_message_reserve_time')
ORDER BY name;
SELECT value BETWEEN 3540000 AND 3600000 AS within_the_hour FROM metric WHERE name = 'iotmq_consumer_time_to_loss';

-- No counter ever goes backwards, whatever happens to messages and position.
CREATE TEMP TABLE seen (step serial, name text, labels jsonb, value float8);
CREATE FUNCTION pg_temp.look() RETURNS SETOF text
	LANGUAGE sql
AS $$
	WITH new AS (
		INSERT INTO seen (name, labels, value)
		SELECT name, labels, value FROM metric WHERE kind = 'counter'
		RETURNING name, labels, value
	)
	SELECT format('%s went from %s to %s', name, old.value, new.value)
	FROM new
	JOIN (SELECT name, labels, max(value) AS value FROM seen GROUP BY name, labels) AS old USING (name, labels)
	WHERE new.value < old.value
	UNION ALL
	SELECT format('%s is gone', old.name)
	FROM (SELECT DISTINCT name, labels FROM seen) AS old
	WHERE NOT EXISTS (SELECT FROM new WHERE new.name = old.name AND new.labels = old.labels)
$$;
SELECT pg_temp.look() AS backwards;
SELECT old_offset, new_offset, messages FROM iotmq.seek('alerts', 'g', '-infinity');
SELECT pg_temp.look() AS backwards;
SELECT min(lease_id) AS lease, count(*) AS n FROM iotmq.consume('alerts', 'g', 100) \gset
SELECT :n AS messages, iotmq.reject(:lease, '{1}');
SELECT pg_temp.look() AS backwards;
SELECT old_offset, new_offset, messages FROM iotmq.seek('alerts', 'g', 'infinity');
SELECT pg_temp.look() AS backwards;
SELECT iotmq.redrive('alerts', 'g');
SELECT pg_temp.look() AS backwards;
SELECT iotmq.purge_dead_letters('alerts', 'g');
SELECT pg_temp.look() AS backwards;
SELECT new_offset FROM iotmq.seek_offset('alerts', 'g', 'a', 7);
-- retention drops all of it; offsets 7 and 8 were not settled
SET client_min_messages = warning;
CALL iotmq.run_maintenance(now() + interval '2 hours');
RESET client_min_messages;
SELECT pg_temp.look() AS backwards;
SELECT name, value FROM metric WHERE kind = 'counter';
SELECT name, value FROM metric WHERE name IN ('iotmq_storage_messages', 'iotmq_consumer_lag_messages') ORDER BY name;
SELECT iotmq.alter_group('alerts', 'g', tags => 'x');
SELECT iotmq.add_zone('alerts', 'b');
SELECT pg_temp.look() AS backwards;
SELECT count(iotmq.publish('alerts', 'd', '1', 'a')), count(iotmq.publish('alerts', 'd', '1', 'a', 'x')) FROM generate_series(1, 2);
SELECT count(*) FROM iotmq.consume('alerts', 'g', zone => 'a');
SELECT pg_temp.look() AS backwards;
-- What was delivered counts; what tags skip does not.
SELECT name, value FROM metric WHERE kind = 'counter' AND labels->>'zone' = 'a';

-- A publish that is open shows, here one's own.
BEGIN;
SELECT iotmq.publish('alerts', 'd', '0', 'b');
SELECT name, labels, value >= 0 AS value FROM metric WHERE name = 'iotmq_held_back_time';
ROLLBACK;
SELECT name, labels FROM metric WHERE name = 'iotmq_held_back_time';

SELECT iotmq.drop_topic('alerts', force => true);
SELECT * FROM metric;

-- Due days after what the settings give: a lease, then a retry; what frees them.
SELECT iotmq.create_topic('alerts_late');
SELECT iotmq.create_group('alerts_late', 'usual', invisible_for => '30 days', backoff => '{365 days}');
SELECT iotmq.create_group('alerts_late', 'late');
CREATE TEMP VIEW late AS
SELECT consumer_group, value::interval > threshold::interval AS later, zone, look_at FROM iotmq.alerts WHERE alert = 'due_late';
SELECT iotmq.publish('alerts_late', 'd', '1'), iotmq.publish('alerts_late', 'd', '2');
SELECT iotmq.nack(lease_id) FROM iotmq.consume('alerts_late', 'usual', 1);
SELECT msg_offset FROM iotmq.consume('alerts_late', 'usual', 1);
SELECT lease_id AS lease FROM iotmq.consume('alerts_late', 'late', 1, '1 day') \gset
SELECT * FROM late;
SELECT iotmq.extend(:lease, '30 days') > now() + interval '29 days' AS extended;
SELECT * FROM late;
SELECT iotmq.nack(:lease, delay => '365 days');
SELECT * FROM late;
SELECT iotmq.retry_now('alerts_late', 'late', '{1}');
SELECT * FROM late;
DROP VIEW late;
SELECT iotmq.drop_topic('alerts_late', force => true);

-- A publisher and a consumer whose transaction is open for longer than a group's max_delay, or
-- for 5 minutes.
SELECT iotmq.create_topic('alerts_open', '{a,b}');
SELECT iotmq.create_group('alerts_open', 'patient', start_from => '-infinity', max_delay => '1 hour');
SELECT iotmq.create_group('alerts_open', 'usual', start_from => '-infinity');
SELECT iotmq.publish('alerts_open', 'd', '1', 'a');
CREATE TEMP VIEW open_now AS
SELECT consumer_group, alert, value::interval > threshold::interval AS longer, threshold, zone, look_at
FROM iotmq.alerts
WHERE topic = 'alerts_open' AND alert <> 'delay'
ORDER BY consumer_group, alert;
BEGIN;
SELECT iotmq.publish('alerts_open', 'd', '2', 'b');
SELECT msg_offset FROM iotmq.consume('alerts_open', 'usual', 1);
SELECT * FROM open_now;
SELECT iotmq.create_group('alerts_open', 'hasty', max_delay => '1 us');
SELECT * FROM open_now;
SELECT name, labels, value > 0 AS value FROM iotmq.metrics WHERE name = 'iotmq_cursor_held_time' ORDER BY labels;
ROLLBACK;
SELECT iotmq.create_group('alerts_open', 'hasty', start_from => '-infinity', max_delay => '1 us');
BEGIN;
SELECT msg_offset FROM iotmq.consume('alerts_open', 'hasty', 1);
SELECT * FROM open_now;
ROLLBACK;
SELECT * FROM open_now;

-- Maintenance: none ever, then three runs missed, of those that mostly come once an hour.
BEGIN;
CREATE TEMP VIEW maintenance AS
SELECT topic, consumer_group, zone, CASE value WHEN 'never' THEN value ELSE date_trunc('minute', value::interval)::text END AS value, threshold, look_at FROM iotmq.alerts WHERE alert = 'maintenance';
DELETE FROM iotmq_internal.maintenance_run;
UPDATE iotmq_internal.topic SET created_at = statement_timestamp() - interval '2 minutes';
SELECT * FROM maintenance;
UPDATE iotmq_internal.topic SET created_at = created_at - interval '2 minutes';
SELECT * FROM maintenance;
INSERT INTO iotmq_internal.maintenance_run (started_at, finished_at, at, segments_made, segments_sealed, segments_dropped, leases_taken_over, skipped)
SELECT started_at, started_at, started_at, 0, 0, 0, 0, '{}' FROM (SELECT now() - n * interval '1 hour' + interval '1 minute' AS started_at FROM generate_series(14, 3, -1) AS n) AS run;
SELECT * FROM maintenance;
UPDATE iotmq_internal.maintenance_run SET started_at = started_at - interval '2 minutes';
SELECT * FROM maintenance;
DELETE FROM iotmq_internal.maintenance_run WHERE started_at < (SELECT max(started_at) FROM iotmq.maintenance_run);
SELECT threshold FROM maintenance;
UPDATE iotmq_internal.maintenance_run SET started_at = statement_timestamp();
SELECT * FROM maintenance;
SELECT value BETWEEN 0 AND 60000 AS value, labels FROM iotmq.metrics WHERE name = 'iotmq_maintenance_age';
ROLLBACK;
DROP VIEW open_now;
SELECT iotmq.drop_topic('alerts_open', force => true);
