-- Consumer groups: where they start, what they are given, changing and dropping them.
-- Promise: groups-independent, start-is-exact
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('groups');

-- Where a group starts: latest unless said otherwise, earliest, or a time, from that time on.
SELECT iotmq.publish('groups', 'd1', '1');
SELECT pg_sleep(0.002);
SELECT iotmq.publish('groups', 'd1', '2');
SELECT pg_sleep(0.002);
SELECT iotmq.publish('groups', 'd1', '3');
SELECT published_at AS second FROM iotmq_topic.groups WHERE msg_offset = 2 \gset
SELECT published_at AS third FROM iotmq_topic.groups WHERE msg_offset = 3 \gset
SELECT iotmq.create_group('groups', 'latest');
SELECT iotmq.create_group('groups', 'earliest', start_from => '-infinity');
SELECT iotmq.create_group('groups', 'at_second', start_from => :'second');
SELECT iotmq.create_group('groups', 'after_second', start_from => :'second'::timestamptz + interval '1 us');
SELECT iotmq.create_group('groups', 'at_third', start_from => :'third');
SELECT iotmq.create_group('groups', 'long_ago', start_from => '1970-01-01');
SELECT iotmq.create_group('groups', 'tomorrow', start_from => now() + interval '1 day');
SELECT consumer_group, zone, mode, next_offset, lag_messages, iotmq.count_lag(topic, consumer_group)
FROM iotmq.consumer_lag
WHERE topic = 'groups'
ORDER BY consumer_group;
SELECT msg_offset FROM iotmq.consume('groups', 'after_second');
SELECT count(*) FROM iotmq.consume('groups', 'latest');
SELECT count(*) FROM iotmq.consume('groups', 'tomorrow');
SELECT iotmq.publish('groups', 'd1', '4');
SELECT msg_offset FROM iotmq.consume('groups', 'latest');
SELECT msg_offset FROM iotmq.consume('groups', 'tomorrow');

-- The start holds in each zone; a topic without messages starts every group at the beginning.
SELECT iotmq.create_topic('groups_zones', '{a,b,c}');
SELECT iotmq.create_group('groups_zones', 'before');
SELECT iotmq.publish('groups_zones', 'd1', '1', 'a'), iotmq.publish('groups_zones', 'd1', '1', 'b');
SELECT published_at AS first_of_b FROM iotmq_topic.groups_zones WHERE zone = 'b' \gset
SELECT pg_sleep(0.002);
SELECT iotmq.publish('groups_zones', 'd1', '2', 'b');
SELECT iotmq.create_group('groups_zones', 'at_time', start_from => :'first_of_b'::timestamptz + interval '1 us');
SELECT consumer_group, zone, next_offset, lag_messages
FROM iotmq.consumer_lag
WHERE topic = 'groups_zones'
ORDER BY consumer_group, zone;

-- Groups of one name in different topics have nothing in common.
SELECT iotmq.create_group('groups_zones', 'latest');
SELECT iotmq.create_group('groups_zones', 'latest'); \echo :SQLSTATE
SELECT topic, consumer_group FROM iotmq.group_lag WHERE consumer_group = 'latest' ORDER BY topic;

-- Tags: whole words, case counts, no tag matches only '*'.
SELECT iotmq.create_topic('groups_tags');
SELECT iotmq.create_group('groups_tags', 'one', tags => 'temperature');
SELECT iotmq.create_group('groups_tags', 'either', tags => 'temperature || alarm');
SELECT iotmq.create_group('groups_tags', 'tight', tags => 'alarm||humidity');
SELECT iotmq.create_group('groups_tags', 'all_of_them', tags => '*');
SELECT iotmq.create_group('groups_tags', 'nothing', tags => 'temp || Alarm || NULL');
SELECT iotmq.create_group('groups_tags', 'quotes', tags => $$it's || "odd" || a\b || 100%$$);
SELECT iotmq.publish_batch('groups_tags', '{d1,d1,d1,d1,d1,d1,d1,d1,d1}', array_fill('0'::jsonb, '{9}'),
                           tags => ARRAY['temperature', 'alarm', 'humidity', NULL, 'temperatures', $$it's$$, '"odd"', 'a\b', '100%']);
SELECT 'one' AS consumer_group, msg_offset, tag FROM iotmq.consume('groups_tags', 'one');
SELECT 'either' AS consumer_group, msg_offset, tag FROM iotmq.consume('groups_tags', 'either');
SELECT 'tight' AS consumer_group, msg_offset, tag FROM iotmq.consume('groups_tags', 'tight');
SELECT 'nothing' AS consumer_group, msg_offset, tag FROM iotmq.consume('groups_tags', 'nothing');
SELECT 'quotes' AS consumer_group, msg_offset, tag FROM iotmq.consume('groups_tags', 'quotes');
SELECT 'all' AS consumer_group, count(*) FROM iotmq.consume('groups_tags', 'all_of_them');

-- A filter: delivered where it is true, not where it is false, unknown or an error; it combines with tags.
SELECT iotmq.create_topic('groups_filter');
SELECT iotmq.create_group('groups_filter', 'hot', filter => '$.t > 30');
SELECT iotmq.create_group('groups_filter', 'hot_alarms', tags => 'alarm', filter => '$.t > 30');
SELECT iotmq.publish_batch('groups_filter', '{d1,d1,d1,d1,d1,d1}',
                           ARRAY['{"t": 31}', '{"t": 30}', '{"t": "hot"}', '{"u": 40}', NULL, '{"t": 99}']::jsonb[],
                           tags => '{NULL,alarm,alarm,alarm,alarm,alarm}', bodies => array_fill('\x01'::bytea, '{6}'));
SELECT iotmq.count_lag('groups_filter', 'hot') AS hot, iotmq.count_lag('groups_filter', 'hot_alarms') AS hot_alarms;
SELECT min(lease_id) AS lease, array_agg(msg_offset) AS offsets FROM iotmq.consume('groups_filter', 'hot') \gset
\echo :offsets
SELECT messages FROM iotmq.in_flight WHERE topic = 'groups_filter';
SELECT iotmq.ack(:lease);
SELECT msg_offset FROM iotmq.consume('groups_filter', 'hot_alarms');

-- What is filtered out is skipped in the server, moves the position on and needs no ack.
SELECT iotmq.publish_batch('groups_filter', array_fill('d1'::text, '{3000}'), array_fill('{"t": 1}'::jsonb, '{3000}')) IS NOT NULL AS published;
SELECT iotmq.publish('groups_filter', 'd1', '{"t": 50}');
SELECT msg_offset FROM iotmq.consume('groups_filter', 'hot', 1, wait => '2 s');
SELECT iotmq.publish_batch('groups_filter', array_fill('d1'::text, '{10}'), array_fill('{"t": 1}'::jsonb, '{10}')) IS NOT NULL AS published;
SELECT count(*) FROM iotmq.consume('groups_filter', 'hot');
SELECT next_offset = end_offset AS moved_on, ready_messages, inflight_messages, lag_messages
FROM iotmq.consumer_lag
WHERE topic = 'groups_filter' AND consumer_group = 'hot';

-- alter_group: NULL leaves a setting unchanged, what is given holds from the next consume.
SELECT iotmq.create_topic('groups_alter');
SELECT iotmq.create_group('groups_alter', 'readers', 'concurrent', '-infinity', 'a', '$.n > 0', '10 minutes', 3, '{1 s,2 s}', '5 minutes', 1000);
SELECT iotmq.alter_group('groups_alter', 'readers');
SELECT iotmq.publish_batch('groups_alter', '{d1,d2,d3,d4,d5}', ARRAY['{"n": 1}', '{"n": 1}', '{"n": 0}', '{"n": 0}', '{"n": 1}']::jsonb[],
                           tags => '{a,b,a,b,a}');
SELECT msg_offset FROM iotmq.consume('groups_alter', 'readers', 1);
SELECT deadline - leased_at BETWEEN interval '599 s' AND interval '601 s' AS ten_minutes FROM iotmq.in_flight WHERE topic = 'groups_alter';
SELECT iotmq.alter_group('groups_alter', 'readers', tags => 'b', invisible_for => '20 s');
SELECT msg_offset FROM iotmq.consume('groups_alter', 'readers', 1);
SELECT iotmq.alter_group('groups_alter', 'readers', 'concurrent', '*', '$.n >= 0', '30 s', 0, '{5 s}', '1 hour', 1);
SELECT iotmq.publish('groups_alter', 'd6', '{"n": 0}');
SELECT max(msg_offset) AS last FROM iotmq.consume('groups_alter', 'readers');
SELECT deadline - leased_at BETWEEN interval '29 s' AND interval '31 s' AS thirty_seconds
FROM iotmq.in_flight
WHERE topic = 'groups_alter'
ORDER BY leased_at DESC
LIMIT 1;

-- Making, changing and dropping are transactional.
BEGIN;
SELECT iotmq.create_group('groups', 'undone');
ROLLBACK;
SELECT iotmq.consume('groups', 'undone'); \echo :SQLSTATE
BEGIN;
SELECT iotmq.alter_group('groups_tags', 'nothing', tags => '*');
ROLLBACK;
SELECT iotmq.publish('groups_tags', 'd1', '0', tag => 'alarm');
SELECT count(*) FROM iotmq.consume('groups_tags', 'nothing');
BEGIN;
SELECT iotmq.drop_group('groups', 'earliest');
SELECT iotmq.consume('groups', 'earliest'); \echo :SQLSTATE
ROLLBACK;
SELECT min(lease_id) AS lease, array_agg(msg_offset) AS offsets FROM iotmq.consume('groups', 'earliest', 2) \gset
\echo :offsets

-- A dropped group's leases are gone with it, others stay; of the same name again, it starts anew.
SELECT count(*) FROM iotmq.consume('groups', 'at_second', 1);
SELECT iotmq.drop_group('groups', 'earliest');
\set VERBOSITY sqlstate
SELECT iotmq.ack(:lease);
SELECT iotmq.extend(:lease, '1 min');
\set VERBOSITY default
SELECT consumer_group FROM iotmq.in_flight WHERE topic = 'groups' ORDER BY consumer_group;
SELECT iotmq.drop_group('groups', 'earliest'); \echo :SQLSTATE
SELECT iotmq.create_group('groups', 'earliest', start_from => '-infinity');
SELECT msg_offset, attempt FROM iotmq.consume('groups', 'earliest');
\set VERBOSITY sqlstate
SELECT iotmq.ack(:lease);

SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'groups%') AS mine;
