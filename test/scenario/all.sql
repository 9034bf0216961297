-- A bit of everything that iotmq does, for tests that run it under unusual circumstances.
-- What it prints is the same each time, and under any setting: names, numbers and contents,
-- no times, intervals, ids or bytea. It needs the extension, a role scenario_user, and leaves
-- nothing behind. Texts with backslashes and quotes are in dollar quotes, so that they mean
-- the same whatever standard_conforming_strings is.

\set ON_ERROR_STOP on
\set VERBOSITY terse
SET client_min_messages = warning;

\echo -- topics, zones and groups
SELECT iotmq.create_topic('scenario', '{a,b}', retention => '3 hours', segment_interval => '1 hour',
	retention_policy => 'consumed', max_retention => '6 hours');
SELECT iotmq.add_zone('scenario', 'c');
SELECT iotmq.create_group('scenario', 'all', start_from => '-infinity', backoff => '{0}', max_retries => 1);
SELECT iotmq.create_group('scenario', 'devices', mode => 'orderly', start_from => '-infinity', backoff => '{0}');
SELECT iotmq.create_group('scenario', 'some', start_from => '-infinity', tags => $$x\y || it's$$,
	filter => $$$.text == "a\\b\"c'd" || $.text like_regex "^\\d+$"$$, max_delay => '1 mon -2 days 03:00:04.000005', max_lag => 7);
SELECT iotmq.alter_topic('scenario', retention => '2 hours', max_retention => '1 day -2:30');
SELECT iotmq.alter_group('scenario', 'some', invisible_for => '1 day 12:00', backoff => '{0.5 s,1 day -2 h}');
SELECT extract(epoch FROM retention), extract(epoch FROM segment_interval), extract(epoch FROM max_retention)
FROM iotmq_internal.topic WHERE topic = 'scenario';
SELECT consumer_group, tags = ARRAY[$$it's$$, $$x\y$$], md5(filter::text), extract(epoch FROM invisible_for),
	extract(epoch FROM backoff[1]), extract(epoch FROM backoff[2]), extract(epoch FROM max_delay), max_lag
FROM iotmq_internal.consumer_group ORDER BY consumer_group;

\echo -- publishing
SELECT iotmq.publish('scenario', $$d\1 'q' "Q"$$, $$"a\\b"$$, zone => 'a', tag => $$x\y$$,
	properties => $${"k\\": "v\"'"}$$, body => decode('005c27ff', 'hex'));
SELECT iotmq.publish_batch('scenario', '{d2,d3,d2}', ARRAY[$${"text": "a\\b\"c'd"}$$, $${"text": "12"}$$, $${"text": "x"}$$]::jsonb[],
	zone => 'a', tags => ARRAY[$$it's$$, $$x\y$$, $$it's$$]);
SELECT iotmq.zone_table('scenario', 'b') AS zone_b \gset
COPY :zone_b (device_id, payload) FROM STDIN;
copied	{"n": 1}
copied	{"n": 2}
\.
INSERT INTO :zone_b (device_id, payload)
SELECT 'inserted', to_jsonb(n) FROM generate_series(1, 3) AS n;
SELECT zone, msg_offset, device_id, tag, payload, encode(body, 'hex'), properties
FROM iotmq_topic.scenario ORDER BY zone, msg_offset;
SELECT count(*) > 5, bool_and(to_time - from_time = interval '1 hour'), bool_and(extract(epoch FROM from_time)::bigint % 3600 = 0)
FROM iotmq_internal.segment AS s JOIN iotmq_internal.zone AS z USING (zone_id) JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = 'scenario';
SELECT count(*) = (SELECT count(*) FROM iotmq_internal.segment AS s JOIN iotmq_internal.zone AS z USING (zone_id)
	JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = 'scenario')
FROM pg_partition_tree('iotmq_topic.scenario') WHERE isleaf;

\echo -- consuming
SELECT lease_id AS lease, msg_offset, device_id, payload, encode(body, 'hex') AS body, attempt
FROM iotmq.consume('scenario', 'some', zone => 'a') ORDER BY msg_offset LIMIT 1 \gset some_
SELECT :'some_msg_offset', :'some_device_id', :'some_attempt';
SELECT iotmq.nack(:some_lease, '{2}', delay => '1 day 02:00', reason => $$it's a \ "failure"$$), iotmq.ack(:some_lease);
SELECT reason, attempt, extract(epoch FROM date_trunc('hour', due_at - now() + interval '1 min')) FROM iotmq_internal.redelivery;
SELECT iotmq.retry_now('scenario', 'some', '{2}', 'a');
SELECT lease_id AS lease, msg_offset, attempt FROM iotmq.consume('scenario', 'some', zone => 'a') \gset some_
SELECT :some_msg_offset, :some_attempt, iotmq.extend(:some_lease, '3 hours') > now() + interval '2 hours';
SELECT iotmq.reject(:some_lease, reason => $$it's \ given up$$);
SELECT msg_offset, device_id, payload, attempts, reason FROM iotmq.dead_letter;
SELECT iotmq.redrive('scenario', 'some');
SELECT lease_id AS lease, msg_offset, attempt FROM iotmq.consume('scenario', 'some', zone => 'a') \gset some_
SELECT :some_msg_offset, :some_attempt, iotmq.nack(:some_lease, delay => '1 hour');
SELECT iotmq.give_up('scenario', 'some', '{2}', 'a', 'no more');
SELECT iotmq.purge_dead_letters('scenario', 'some', older_than => '0 s');
SELECT lease_id AS lease FROM iotmq.consume('scenario', 'devices', 10, zone => 'b') LIMIT 1 \gset devices_
SELECT iotmq.nack(:devices_lease, '{1,4}'), iotmq.ack(:devices_lease);
SELECT msg_offset, device_id, attempt FROM iotmq.consume('scenario', 'devices', 10, zone => 'b', invisible_for => '0.001 s') ORDER BY msg_offset;
SELECT lease_id AS lease FROM iotmq.consume('scenario', 'all', 10, zone => 'a') LIMIT 1 \gset all_
SELECT iotmq.ack(:all_lease);
SELECT msg_offset, payload FROM iotmq.fetch('scenario', 'b', 2, 3);
SELECT iotmq.commit_offset('scenario', 'all', 'b', 3), iotmq.committed_offset('scenario', 'all', 'b');
SELECT payload FROM iotmq.messages_of_device('scenario', 'inserted', since => now() - interval '1 day');

\echo -- moving a group
SELECT * FROM iotmq.seek('scenario', 'all', '-infinity');
SELECT * FROM iotmq.seek('scenario', 'all', now() - interval '1 month', zone => 'a', dry_run => true);
SELECT * FROM iotmq.seek_offset('scenario', 'all', 'b', 4);
SELECT * FROM iotmq.seek('scenario', 'devices', 'infinity');

\echo -- rights
SELECT iotmq.grant_publish('scenario', 'scenario_user', '{a,c}'), iotmq.grant_consume('scenario', 'all', 'scenario_user'),
	iotmq.grant_read('scenario', 'scenario_user'), iotmq.grant_monitor('scenario_user');
SELECT topic, consumer_group, zone, action FROM iotmq.privileges
WHERE role = 'scenario_user'::regrole ORDER BY action, zone;
SET ROLE scenario_user;
SELECT iotmq.publish('scenario', 'mine', '5', zone => 'c');
SELECT payload FROM iotmq.consume('scenario', 'all', zone => 'c');
SELECT count(*) FROM iotmq_topic.scenario;
SELECT consumer_group, lag_messages, ready_messages, inflight_messages, retry_messages, dead_letters FROM iotmq.group_lag ORDER BY consumer_group;
SELECT zone, end_offset FROM iotmq.topic_stats ORDER BY zone;
SELECT alert, consumer_group FROM iotmq.alerts WHERE topic = 'scenario' ORDER BY 1, 2;
SELECT name, sum(value)::bigint FROM iotmq.metrics
WHERE labels ->> 'topic' = 'scenario' AND name !~ 'seconds|time|latency|bytes|size|segments' GROUP BY name ORDER BY name;
RESET ROLE;
SELECT iotmq.revoke_publish('scenario', 'scenario_user'), iotmq.revoke_consume('scenario', 'all', 'scenario_user'),
	iotmq.revoke_read('scenario', 'scenario_user'), iotmq.revoke_monitor('scenario_user');
SELECT iotmq.grant_admin('scenario_user'), iotmq.revoke_admin('scenario_user');
SELECT count(*) FROM iotmq.privileges WHERE role = 'scenario_user'::regrole;

\echo -- maintenance
CALL iotmq.run_maintenance();
CALL iotmq.run_maintenance(now() + interval '30 hours');
CALL iotmq.run_maintenance(now() + interval '90 days');
SELECT count(*) FROM iotmq_topic.scenario;
SELECT consumer_group, sum(expired_unread) > 0 FROM iotmq.consumer_lag GROUP BY consumer_group ORDER BY consumer_group;
SELECT count(*), bool_or(segments_made > 0), bool_or(segments_dropped > 0) FROM iotmq.maintenance_run;
SELECT iotmq.publish('scenario', 'later', '6', zone => 'c') > 1;

\echo -- drops
SELECT iotmq.drop_zone('scenario', 'b', force => true);
SELECT iotmq.drop_group('scenario', 'devices', force => true);
SELECT iotmq.drop_group('scenario', 'some', force => true);
SELECT iotmq.drop_topic('scenario', force => true);
SELECT (SELECT count(*) FROM iotmq_internal.zone), (SELECT count(*) FROM iotmq_internal.segment), (SELECT count(*) FROM iotmq_internal.consumer_group),
	(SELECT count(*) FROM iotmq_internal.cursor), (SELECT count(*) FROM iotmq_internal.cursor_state), (SELECT count(*) FROM iotmq_internal.lease),
	(SELECT count(*) FROM iotmq_internal.redelivery), (SELECT count(*) FROM iotmq_internal.dead_message), (SELECT count(*) FROM iotmq_internal.consume_grant);
