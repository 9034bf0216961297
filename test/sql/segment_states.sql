-- What somebody may do to segments by hand: rename, detach, move, drop; make foreign keys, views and triggers.
-- Retention of the zone goes on, nothing of theirs is dropped, and publishing and consuming meet no error.
-- Promise: retention-by-itself, publish-without-maintenance, loss-is-counted
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SELECT date_trunc('hour', now()) AS hour \gset
-- four segments of an hour, long ago, with three messages each, and one of the present
CREATE FUNCTION states_make(topic text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	zone_table regclass;
BEGIN
	PERFORM iotmq.create_topic(topic, retention => '10 days', segment_interval => '1 hour');
	PERFORM iotmq.create_group(topic, 'g', start_from => '-infinity', invisible_for => '30 days');
	zone_table := iotmq.zone_table(topic, 'default');
	FOR n IN 0..3 LOOP
		PERFORM iotmq.segment_make_until(z.zone_id, at, at + interval '1 us')
		FROM iotmq_internal.zone AS z, LATERAL (SELECT date_trunc('hour', now()) - interval '24 hours' + n * interval '1 hour' AS at) AS a
		WHERE z.table_name = zone_table;
		EXECUTE format('INSERT INTO %s (device_id, payload, published_at)
			SELECT ''d'', to_jsonb(i), date_trunc(''hour'', now()) - interval ''24 hours'' + $1 * interval ''1 hour'' FROM generate_series(1, 3) AS i', zone_table) USING n;
	END LOOP;
	PERFORM iotmq.publish(topic, 'd', '13');
	FOR n IN 1..3 LOOP
		PERFORM iotmq.segment_seal(z.zone_id) FROM iotmq_internal.zone AS z WHERE z.table_name = zone_table;
	END LOOP;
END $$;
CREATE FUNCTION states_segment(topic text, n int) RETURNS regclass LANGUAGE sql AS $$
	SELECT s.table_name
	FROM iotmq_internal.segment AS s
	JOIN iotmq_internal.zone AS z USING (zone_id)
	WHERE z.table_name = iotmq.zone_table(topic, 'default')
	ORDER BY s.from_time
	OFFSET n - 1
	LIMIT 1
$$;
CREATE FUNCTION states_present(topic text) RETURNS regclass LANGUAGE sql AS $$
	SELECT s.table_name
	FROM iotmq_internal.segment AS s
	JOIN iotmq_internal.zone AS z USING (zone_id)
	WHERE z.table_name = iotmq.zone_table(topic, 'default') AND s.from_time <= now() AND now() < s.to_time
$$;
CREATE FUNCTION states_detach(topic text, segment regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', iotmq.zone_table(topic, 'default'), segment);
END $$;
CREATE FUNCTION states_insert(topic text, payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO %s (device_id, payload) VALUES (''d'', $1)', iotmq.zone_table(topic, 'default')) USING payload;
END $$;
CREATE VIEW states_log AS
SELECT t.topic, s.earliest_offset AS earliest, l.next_offset AS next, l.ready_messages AS ready, l.inflight_messages AS inflight,
	l.retry_messages AS retry, l.expired_unread, iotmq.count_lag(t.topic, 'g'),
	(SELECT count(*) FROM iotmq_internal.segment AS g JOIN iotmq_internal.zone AS z USING (zone_id) WHERE z.topic_id = t.topic_id AND g.to_time <= now()) AS past_segments
FROM iotmq_internal.topic AS t
JOIN iotmq.topic_stats AS s USING (topic)
JOIN iotmq.consumer_lag AS l USING (topic);
-- what the last run left out, without its time
CREATE VIEW states_skipped AS
SELECT split_part(one, ' from ', 1) AS what, regexp_replace(one, '^.* from [-0-9]+ [:0-9.]+\+00: ', '') AS why, one ~ '_zone_|iotmq_' AS has_internal_name
FROM (SELECT run_id, skipped FROM iotmq.maintenance_run ORDER BY run_id DESC LIMIT 1) AS run, unnest(run.skipped) AS one;
CREATE VIEW states_overdue AS
SELECT topic, zone, to_time - from_time AS length, since <= now() AS noted, emptied, in_the_way FROM iotmq.overdue_segment;

-- Renamed: found all the same.
SELECT states_make('renamed');
SELECT states_segment('renamed', 1) AS renamed \gset
ALTER TABLE :renamed RENAME TO "by 'hand'";
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
SELECT * FROM states_log;
SELECT iotmq.alter_topic('renamed', retention => '20 hours');
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
SELECT * FROM states_log;
SELECT count(*) FROM pg_class WHERE relname = 'by ''hand''';
SELECT iotmq.drop_topic('renamed', force => true);

-- Detached, moved, dropped: of some the group has messages in flight and waiting.
SELECT states_make('taken');
SELECT lease_id AS lease FROM iotmq.consume('taken', 'g', 5) LIMIT 1 \gset
SELECT iotmq.nack(:lease, '{2,5}');
CREATE SCHEMA archive;
SELECT states_detach('taken', states_segment('taken', 1));
SELECT states_segment('taken', 1) AS detached, states_segment('taken', 2) AS moved, states_segment('taken', 3) AS dropped \gset
ALTER TABLE :moved SET SCHEMA archive;
DROP TABLE :dropped;
-- nobody stumbles meanwhile
SELECT iotmq.publish('taken', 'd', '14');
SELECT array_agg(msg_offset) FROM iotmq.fetch('taken', 'default', 0);
SELECT topic, segments > 0 AS segments FROM iotmq.topic_stats;
SELECT count(*) FROM iotmq.consumer_lag;
SELECT count(*) FROM iotmq.metrics WHERE value IS NULL;
SELECT old_offset, new_offset FROM iotmq.seek('taken', 'g', :'hour', dry_run => true);
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
-- 1, 2 and 3 were detached, 4 to 6 moved, 7 to 9 dropped: none had been settled
SELECT * FROM states_log;
SELECT count(*) FROM :detached;
SELECT relnamespace::regnamespace, relispartition FROM pg_class WHERE oid IN (SELECT oid FROM pg_class WHERE relname LIKE '\_zone%' AND relnamespace = 'archive'::regnamespace AND relkind = 'r');
SELECT array_agg(msg_offset) FROM iotmq.fetch('taken', 'default', 0);
SELECT array_agg(msg_offset) FROM iotmq.consume('taken', 'g');
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
-- the rest goes when it is due; what was taken stays, also when the topic goes
SELECT iotmq.alter_topic('taken', retention => '1 hour');
CALL iotmq.run_maintenance();
SELECT * FROM states_log;
-- moved, and not let go yet
SELECT states_present('taken') AS present \gset
ALTER TABLE :present SET SCHEMA archive;
SELECT iotmq.publish('taken', 'd', '15');
SELECT iotmq.drop_topic('taken', force => true);
SELECT count(*) FROM pg_class WHERE relnamespace = 'archive'::regnamespace AND relkind = 'r';
SELECT count(*) FROM :detached;
DROP TABLE :detached;

-- The segment of the present: dropped, then detached, then attached to a table of somebody else's.
SELECT states_make('now');
SELECT states_present('now') AS present \gset
DROP TABLE :present;
\set VERBOSITY default
SELECT states_insert('now', '1');
\set VERBOSITY terse
SELECT iotmq.publish('now', 'd', '14');
SELECT states_insert('now', '15');
SELECT states_present('now') AS present \gset
SELECT states_detach('now', :'present');
BEGIN;
SELECT iotmq.publish_batch('now', '{d,d}', '{16,17}');
COMMIT;
SELECT count(*) FROM :present;
SELECT states_present('now') AS present2 \gset
SELECT states_detach('now', :'present2');
CREATE TABLE archive.theirs (LIKE :present2) PARTITION BY RANGE (msg_offset);
ALTER TABLE archive.theirs ATTACH PARTITION :present2 FOR VALUES FROM (1) TO (1000);
SELECT iotmq.publish('now', 'd', '18') > 0 AS published;
SELECT count(*) FROM archive.theirs;
-- readers have what is in them until maintenance lets them go: 13 was dropped
SELECT array_agg(payload) FROM iotmq.fetch('now', 'default', 0);
SELECT array_agg(payload) FROM iotmq.consume('now', 'g', 12);
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
SELECT expired_unread FROM states_log;
SELECT array_agg(payload) FROM iotmq.consume('now', 'g');
SELECT array_agg(payload) FROM iotmq.fetch('now', 'default', 0);
SELECT count(*) FROM :present;
SELECT count(*) FROM archive.theirs;
SELECT iotmq.drop_topic('now', force => true);
DROP TABLE :present;

-- One that was detached and changed by its owner is no trouble to others.
SELECT states_make('changed');
SELECT states_segment('changed', 1) AS changed \gset
SELECT states_detach('changed', :'changed');
ALTER TABLE :changed DROP COLUMN tag;
\set VERBOSITY sqlstate
SELECT iotmq.consume('changed', 'g');
\set VERBOSITY terse
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
SELECT * FROM states_log;
SELECT array_agg(msg_offset) FROM iotmq.consume('changed', 'g');
SELECT iotmq.drop_topic('changed', force => true);
DROP TABLE :changed;

-- A foreign key to the topic, a view, a trigger: they stay, and what they need. The rest goes.
SELECT states_make('needed');
ALTER TABLE iotmq_topic.needed ADD UNIQUE (zone, published_at, msg_offset);
CREATE TABLE archive.finding (zone text COLLATE "C", published_at timestamptz, msg_offset bigint,
	FOREIGN KEY (zone, published_at, msg_offset) REFERENCES iotmq_topic.needed (zone, published_at, msg_offset));
INSERT INTO archive.finding SELECT zone, published_at, msg_offset FROM iotmq_topic.needed WHERE msg_offset = 4;
SELECT iotmq.alter_topic('needed', retention => '20 hours');
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
SELECT * FROM states_overdue;
SELECT name, value FROM iotmq.metrics WHERE name ~ 'overdue|emptied' ORDER BY name;
SELECT * FROM states_log;
SELECT count(*) FROM archive.finding;
SELECT count(*) AS foreign_keys FROM pg_constraint WHERE conrelid = 'archive.finding'::regclass AND confrelid = 'iotmq_topic.needed'::regclass;
INSERT INTO archive.finding VALUES ('default', now(), 4);
DELETE FROM archive.finding;
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
SELECT * FROM states_overdue;
SELECT * FROM states_log;
DROP TABLE archive.finding;
SELECT iotmq.drop_topic('needed', force => true);

SELECT states_make('seen');
SELECT states_segment('seen', 1) AS first, states_segment('seen', 2) AS second \gset
CREATE VIEW archive.of_first AS SELECT payload FROM :first;
CREATE FUNCTION archive.no_truncate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON :second EXECUTE FUNCTION archive.no_truncate();
SELECT iotmq.alter_topic('seen', retention => '20 hours');
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
SELECT * FROM states_overdue;
SELECT name, value FROM iotmq.metrics WHERE name ~ 'overdue|emptied' ORDER BY name;
SELECT * FROM states_log;
SELECT count(*) FROM archive.of_first;
CALL iotmq.run_maintenance();
SELECT count(*) FROM states_overdue;
-- kept longer: overdue no more, but what is empty is not needed
SELECT iotmq.alter_topic('seen', retention => '30 days');
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
DROP VIEW archive.of_first;
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
SELECT * FROM states_overdue;
SELECT * FROM states_log;
SELECT iotmq.drop_topic('seen', force => true);

-- The next segment can't be made: publishing and consuming go on in the present one.
SELECT states_make('frozen');
CREATE FUNCTION states_forget_ahead() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	segment regclass;
BEGIN
	FOR segment IN
		DELETE FROM iotmq_internal.segment WHERE from_time > now() RETURNING table_name
	LOOP
		EXECUTE format('DROP TABLE %s', segment);
	END LOOP;
END $$;
SELECT states_forget_ahead();
CREATE FUNCTION archive.freeze() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no changes on Fridays'; END $$;
CREATE EVENT TRIGGER states_freeze ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION archive.freeze();
SELECT iotmq.publish('frozen', 'd', '14');
SELECT iotmq.publish_batch('frozen', '{d}', '{15}');
SELECT count(*) FROM iotmq.consume('frozen', 'g');
SELECT iotmq.commit_offset('frozen', 'g', 'default', 3);
SELECT count(*) FROM iotmq_internal.segment WHERE from_time > now();
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
-- not without one for the present
SELECT states_present('frozen') AS present \gset
DROP TABLE :present;
\set VERBOSITY default
SELECT iotmq.publish('frozen', 'd', '16');
\set VERBOSITY terse
SELECT count(*) > 0 AS others_are_read FROM iotmq.fetch('frozen', 'default', 0);
DROP EVENT TRIGGER states_freeze;
SELECT iotmq.publish('frozen', 'd', '17') > 0 AS published;
CALL iotmq.run_maintenance();
SELECT * FROM states_skipped;
SELECT count(*) >= 2 AS ahead FROM iotmq_internal.segment WHERE from_time > now();
SELECT iotmq.drop_topic('frozen', force => true);

DROP SCHEMA archive CASCADE;
DROP VIEW states_log, states_skipped, states_overdue;
DROP FUNCTION states_make, states_segment, states_present, states_forget_ahead, states_detach, states_insert;
