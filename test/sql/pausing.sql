-- A paused group gets nothing; all else of it goes on.
-- Promise: no-loss
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT iotmq.create_topic('pausing');
SELECT iotmq.create_group('pausing', 'g', max_retries => 5, backoff => '{0}', max_lag => 1, max_delay => '1 us', start_from => '-infinity');
SELECT iotmq.create_group('pausing', 'o', 'orderly', backoff => '{0}', start_from => '-infinity');
SELECT iotmq.create_group('pausing', 'other', start_from => '-infinity');
SELECT count(iotmq.publish('pausing', 'd' || n % 2, to_jsonb(n))) FROM generate_series(1, 8) AS n;
SELECT min(lease_id) AS lease, array_agg(payload) FROM iotmq.consume('pausing', 'g', 3) \gset
SELECT min(lease_id) AS olease, array_agg(payload) FROM iotmq.consume('pausing', 'o', 2) \gset

-- Nothing more, with or without wait, in any mode; twice is no error. Other groups don't notice.
SELECT iotmq.pause_group('pausing', 'g'), iotmq.pause_group('pausing', 'o');
SELECT iotmq.pause_group('pausing', 'g');
SELECT count(*) FROM iotmq.consume('pausing', 'g');
SELECT count(*) FROM iotmq.consume('pausing', 'g', wait => '20 ms', zone => 'default');
SELECT count(*) FROM iotmq.consume('pausing', 'o', wait => '20 ms');
SELECT count(*) FROM iotmq.consume('pausing', 'g', zone => 'nowhere'); \echo :SQLSTATE
SELECT count(*) FROM iotmq.consume('pausing', 'other');
SELECT consumer_group, paused FROM iotmq.group_settings WHERE topic = 'pausing' ORDER BY consumer_group;

-- Its leases go on: settled, extended, failed, given up.
SELECT iotmq.ack(:lease, '{1}'), iotmq.extend(:lease, '1 h') > now() AS extended;
SELECT iotmq.nack(:lease, '{2}'), iotmq.reject(:lease, '{3}');
SELECT iotmq.nack(:olease);
SELECT count(*) FROM iotmq.consume('pausing', 'g');
SELECT count(*) FROM iotmq.consume('pausing', 'o');
SELECT consumer_group, inflight_messages, retry_messages, ready_messages, dead_letters
FROM iotmq.group_lag
WHERE topic = 'pausing' AND consumer_group IN ('g', 'o')
ORDER BY consumer_group;

-- An expired lease is maintenance's.
SELECT iotmq.resume_group('pausing', 'g');
SELECT lease_id AS lease FROM iotmq.consume('pausing', 'g', 1, invisible_for => '1 ms') \gset
SELECT iotmq.pause_group('pausing', 'g');
SELECT pg_sleep(0.005);
SELECT count(*) FROM iotmq.consume('pausing', 'g', 1);
SELECT count(*) FROM iotmq.in_flight WHERE lease_id = :lease;
CALL iotmq.run_maintenance();
SELECT count(*) FROM iotmq.in_flight WHERE lease_id = :lease;

-- What moves it works: redrive, retry_now, give_up, seek, commit_offset.
SELECT iotmq.redrive('pausing', 'g', max_messages => 1);
SELECT iotmq.retry_now('pausing', 'g', '{1,2,3,4,5}') > 0 AS retried;
SELECT count(*) FROM iotmq.consume('pausing', 'g');
SELECT new_offset FROM iotmq.seek_offset('pausing', 'g', 'default', 5);
SELECT old_offset, new_offset FROM iotmq.seek('pausing', 'g', '-infinity');
SELECT iotmq.commit_offset('pausing', 'g', 'default', 7);
SELECT msg_offset FROM iotmq.fetch('pausing', 'default', 7);
SELECT count(*) FROM iotmq.consume('pausing', 'g');
SELECT iotmq.alter_group('pausing', 'g', mode => 'orderly');
SELECT paused FROM iotmq.group_settings WHERE topic = 'pausing' AND consumer_group = 'g';

-- Its lag shows, but is no alert; it is one again when it goes on.
SELECT lag_messages, lag_time > '0' AS behind FROM iotmq.group_lag WHERE topic = 'pausing' AND consumer_group = 'g';
SELECT alert FROM iotmq.alerts WHERE topic = 'pausing' AND consumer_group = 'g' ORDER BY alert;
SELECT value FROM iotmq.metrics WHERE name = 'iotmq_group_paused' AND labels = '{"topic": "pausing", "consumer_group": "g"}';
SELECT iotmq.resume_group('pausing', 'g');
SELECT iotmq.resume_group('pausing', 'g');
SELECT alert FROM iotmq.alerts WHERE topic = 'pausing' AND consumer_group = 'g' ORDER BY alert;
SELECT value FROM iotmq.metrics WHERE name = 'iotmq_group_paused' AND labels = '{"topic": "pausing", "consumer_group": "g"}';
SELECT payload FROM iotmq.consume('pausing', 'g', 1);

-- It goes on where it stood, in order.
SELECT iotmq.resume_group('pausing', 'o');
SELECT payload, attempt FROM iotmq.consume('pausing', 'o', 1);

-- Nor does maintenance move it over what its filter leaves out: a filter that is changed
-- meanwhile counts for all that comes after the pause.
SELECT iotmq.create_group('pausing', 'filtered', filter => '$ > 100', start_from => '-infinity');
SELECT iotmq.pause_group('pausing', 'filtered');
CALL iotmq.run_maintenance();
SELECT next_offset FROM iotmq.consumer_lag WHERE topic = 'pausing' AND consumer_group = 'filtered';
SELECT count(*) FROM iotmq.consume('pausing', 'filtered', wait => '20 ms');
SELECT iotmq.alter_group('pausing', 'filtered', filter => '$ < 3');
SELECT iotmq.resume_group('pausing', 'filtered');
SELECT payload FROM iotmq.consume('pausing', 'filtered');

-- In a transaction at once, and undone with it; in a transaction block that waits, too.
BEGIN;
SELECT iotmq.pause_group('pausing', 'filtered');
SELECT iotmq.publish('pausing', 'd', '0');
SELECT count(*) FROM iotmq.consume('pausing', 'filtered', wait => '5 ms');
ROLLBACK;
SELECT iotmq.publish('pausing', 'd', '0');
SELECT payload FROM iotmq.consume('pausing', 'filtered');

-- Retention goes on: what it drops of a paused group is counted.
SELECT iotmq.create_topic('pausing_short', retention => '2 h', segment_interval => '1 h');
SELECT iotmq.create_group('pausing_short', 'g');
SELECT iotmq.pause_group('pausing_short', 'g');
SELECT iotmq.segment_make_until(z.zone_id, now() - interval '5 h', now() - interval '5 h' + interval '1 us') > 0 AS made
FROM iotmq_internal.zone AS z
WHERE z.table_name = iotmq.zone_table('pausing_short', 'default');
SELECT iotmq.zone_table('pausing_short', 'default') AS zone_table \gset
INSERT INTO :zone_table (device_id, payload, published_at) VALUES ('d', '1', now() - interval '5 h');
CALL iotmq.run_maintenance();
CALL iotmq.run_maintenance();
CALL iotmq.run_maintenance();
SELECT expired_unread FROM iotmq.group_lag WHERE topic = 'pausing_short';

SELECT iotmq.pause_group('pausing', 'nobody'); \echo :SQLSTATE
SELECT iotmq.pause_group('nothing', 'g'); \echo :SQLSTATE
SELECT iotmq.pause_group('pausing', NULL); \echo :SQLSTATE
SELECT iotmq.resume_group(NULL, 'g'); \echo :SQLSTATE
SELECT iotmq.drop_topic('pausing', force => true);
SELECT iotmq.drop_topic('pausing_short', force => true);
