-- Topics and zones: making, changing and dropping them, and the tables behind them.
-- Promise: changes-are-orderly
\set SHOW_CONTEXT never

-- A topic by default has one zone named default; its table is iotmq_topic.<topic>.
SELECT iotmq.create_topic('topics_one');
SELECT iotmq.topic_table('topics_one');
SELECT topic, zone, segments > 1 AS has_segments, earliest_offset, end_offset, messages_estimate, bytes >= 0 AS has_bytes,
       oldest_published_at, newest_published_at
FROM iotmq.topic_stats
WHERE topic = 'topics_one';

-- The columns that SQL over history counts on.
SELECT attname, format_type(atttypid, atttypmod)
FROM pg_attribute
WHERE attrelid = iotmq.topic_table('topics_one') AND attnum BETWEEN 1 AND 8
ORDER BY attnum;

-- Partitioned by zone, each zone by time.
SELECT iotmq.create_topic('topics_two', '{north,south}');
SELECT z.zone, i.inhparent::regclass AS parent, p.partstrat
FROM unnest('{north,south}'::text[]) AS z (zone)
JOIN pg_inherits i ON i.inhrelid = iotmq.zone_table('topics_two', z.zone)
JOIN pg_partitioned_table p ON p.partrelid = i.inhrelid
ORDER BY z.zone;
SELECT partstrat, (SELECT attname FROM pg_attribute WHERE attrelid = partrelid AND attnum = partattrs[0]) AS by
FROM pg_partitioned_table
WHERE partrelid = iotmq.topic_table('topics_two');
SELECT (SELECT attname FROM pg_attribute WHERE attrelid = partrelid AND attnum = partattrs[0]) AS by, partdefid AS default_partition
FROM pg_partitioned_table
WHERE partrelid = iotmq.zone_table('topics_two', 'south');

-- The width of the segments: what was asked for, else retention / 12 but at least a minute.
CREATE FUNCTION pg_temp.segment_widths(topic text, zone text) RETURNS SETOF interval LANGUAGE sql AS $$
    SELECT DISTINCT bound[2]::timestamptz - bound[1]::timestamptz
    FROM pg_partition_tree(iotmq.zone_table(topic, zone)) AS t
    JOIN pg_class c ON c.oid = t.relid,
    regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.*)''\) TO \(''(.*)''\)') AS bound
    WHERE t.isleaf
$$;
SELECT pg_temp.segment_widths('topics_one', 'default');
SELECT iotmq.create_topic('topics_short', retention => '6 minutes');
SELECT pg_temp.segment_widths('topics_short', 'default');
SELECT iotmq.create_topic('topics_slices', ARRAY['a', 'b'], '10 days', '5 minutes', 'consumed', '20 days', false);
SELECT pg_temp.segment_widths('topics_slices', 'a'), pg_temp.segment_widths('topics_slices', 'b');

-- The index on the device is there unless turned off.
SELECT topic, bool_or(a.attname IS NOT NULL) AS device_index
FROM unnest('{topics_one,topics_slices}'::text[]) AS topic
CROSS JOIN LATERAL pg_partition_tree(iotmq.topic_table(topic)) AS t
LEFT JOIN pg_index x ON x.indrelid = t.relid
LEFT JOIN pg_attribute a ON a.attrelid = x.indexrelid AND a.attname = 'device_id'
WHERE t.isleaf
GROUP BY topic
ORDER BY topic;

-- A topic can't be made twice; what is there stays.
SELECT iotmq.publish('topics_one', 'd1', '1');
SELECT iotmq.create_topic('topics_one'); \echo :SQLSTATE
SELECT iotmq.create_topic('topics_one', '{other}'); \echo :SQLSTATE
SELECT zone, end_offset FROM iotmq.topic_stats WHERE topic = 'topics_one' ORDER BY zone;

-- Names: case counts; digits, reserved words, points and dashes are fine; up to 48 bytes.
SELECT iotmq.create_topic(name, ARRAY[name])
FROM unnest(ARRAY['9', 'select', 'Topics_One', 'topics.one', 'topics-one', 'T.o_p-9.', repeat('n', 48)]) AS name;
SELECT topic, zone, iotmq.topic_table(topic), iotmq.publish(topic, 'd1', '1', zone)
FROM iotmq.topic_stats
WHERE topic NOT LIKE 'topics\_%' AND topic IN ('9', 'select', 'Topics_One', 'topics.one', 'topics-one', 'T.o_p-9.', repeat('n', 48))
ORDER BY topic COLLATE "C";

-- Names that only differ at their end, or that a joined name would confuse, stay apart.
SELECT iotmq.create_topic(repeat('n', 47) || 'm', ARRAY[repeat('z', 47) || '1', repeat('z', 47) || '2', 'z']);
SELECT iotmq.create_topic('topics_x', '{y,y_z,y.z,Y}');
SELECT iotmq.create_topic('topics_x_y', '{z}'), iotmq.create_topic('topics_x.y', '{z}'), iotmq.create_topic('topics_x-y', '{z}');
SELECT iotmq.publish(topic, 'd1', to_jsonb(topic || ' ' || zone), zone)
FROM iotmq.topic_stats
WHERE topic LIKE 'topics\_x%' OR topic = repeat('n', 47) || 'm'
ORDER BY topic, zone;
SELECT s.topic, s.zone, f.msg_offset, f.payload = to_jsonb(s.topic || ' ' || s.zone) AS own
FROM iotmq.topic_stats s
CROSS JOIN LATERAL iotmq.fetch(s.topic, s.zone, 1) AS f
WHERE s.topic LIKE 'topics\_x%' OR s.topic = repeat('n', 47) || 'm'
ORDER BY s.topic COLLATE "C", s.zone COLLATE "C";
SELECT count(*) AS topics, count(DISTINCT iotmq.zone_table(topic, zone)) = count(*) AS zones_apart
FROM iotmq.topic_stats
WHERE topic LIKE 'topics\_x%';

-- Making and dropping are transactional, for a session that knows the topic too.
BEGIN;
SELECT iotmq.create_topic('topics_undone');
SELECT iotmq.publish('topics_undone', 'd1', '1');
ROLLBACK;
SELECT iotmq.publish('topics_undone', 'd1', '1'); \echo :SQLSTATE
SELECT iotmq.topic_table('topics_undone'); \echo :SQLSTATE
BEGIN;
SAVEPOINT s;
SELECT iotmq.create_topic('topics_undone', '{a,b}');
ROLLBACK TO s;
SELECT iotmq.create_topic('topics_undone', '{c}');
SELECT iotmq.publish('topics_undone', 'd1', '1');
COMMIT;
SELECT iotmq.publish('topics_undone', 'd1', '2');
BEGIN;
SELECT iotmq.drop_topic('topics_undone');
SELECT iotmq.publish('topics_undone', 'd1', '3'); \echo :SQLSTATE
ROLLBACK;
SELECT iotmq.publish('topics_undone', 'd1', '3');

-- Dropped and made again under the same name: nothing of the old one is left, in the same session.
SELECT iotmq.create_group('topics_undone', 'readers', start_from => '-infinity');
SELECT count(*) FROM iotmq.consume('topics_undone', 'readers', 1);
SELECT iotmq.drop_topic('topics_undone'); \echo :SQLSTATE
SELECT iotmq.drop_topic('topics_undone', force => false); \echo :SQLSTATE
SELECT iotmq.publish('topics_undone', 'd1', '4');
SELECT consumer_group, inflight_messages, lag_messages FROM iotmq.consumer_lag WHERE topic = 'topics_undone';
SELECT iotmq.drop_topic('topics_undone', force => true);
SELECT count(*) FROM iotmq.consumer_lag WHERE topic = 'topics_undone';
SELECT count(*) FROM iotmq.in_flight WHERE topic = 'topics_undone';
SELECT count(*) FROM iotmq.topic_stats WHERE topic = 'topics_undone';
SELECT to_regclass('iotmq_topic.topics_undone') IS NULL AS table_gone;
SELECT iotmq.create_topic('topics_undone', '{c}');
SELECT iotmq.publish('topics_undone', 'd1', '5');
SELECT iotmq.consume('topics_undone', 'readers'); \echo :SQLSTATE
SELECT iotmq.drop_topic('topics_undone');
SELECT iotmq.drop_topic('topics_undone'); \echo :SQLSTATE

-- A table dropped by hand: publishers are told, nothing hangs, and drop_topic removes the rest.
SELECT iotmq.create_topic('topics_broken', '{a,b}');
SELECT iotmq.create_group('topics_broken', 'readers');
SELECT iotmq.publish('topics_broken', 'd1', '1', 'a');
DROP TABLE iotmq_topic.topics_broken;
SET statement_timeout = '10 s';
SELECT iotmq.publish('topics_broken', 'd1', '2', 'a'); \echo :SQLSTATE
RESET statement_timeout;
SELECT count(*) FROM iotmq.consume('topics_broken', 'readers');
SELECT iotmq.drop_topic('topics_broken', force => true);
SELECT iotmq.create_topic('topics_broken', '{a}');
SELECT iotmq.publish('topics_broken', 'd1', '3');
SELECT iotmq.drop_topic('topics_broken');

-- alter_topic: NULL leaves a setting unchanged.
SELECT iotmq.alter_topic('topics_one');
SELECT iotmq.alter_topic('topics_one', '96 hours', '2 hours', 'consumed', '30 days');
SELECT iotmq.alter_topic('topics_one', retention_policy => 'time');
SELECT iotmq.alter_topic('topics_undone', retention => '1 day'); \echo :SQLSTATE
SELECT iotmq.publish('topics_one', 'd1', '2');

-- A zone added later: groups that are there read it from its beginning, publishers have to name one now.
SELECT iotmq.create_group('topics_one', 'readers');
SELECT iotmq.add_zone('topics_one', 'east');
SELECT iotmq.add_zone('topics_one', 'east'); \echo :SQLSTATE
SELECT iotmq.publish('topics_one', 'd1', '3'); \echo :SQLSTATE
SELECT iotmq.publish('topics_one', 'd1', '3', 'east');
SELECT zone, msg_offset, payload FROM iotmq.consume('topics_one', 'readers');
SELECT zone, earliest_offset, next_offset, end_offset, inflight_messages
FROM iotmq.consumer_lag
WHERE topic = 'topics_one'
ORDER BY zone;

-- It can't go while a group has unsettled or unread messages there.
SELECT iotmq.drop_zone('topics_one', 'east'); \echo :SQLSTATE
SELECT lease_id AS lease FROM iotmq.in_flight WHERE topic = 'topics_one' \gset
SELECT iotmq.ack(:lease);
SELECT iotmq.publish('topics_one', 'd1', '4', 'east');
SELECT iotmq.drop_zone('topics_one', 'east'); \echo :SQLSTATE
SELECT msg_offset FROM iotmq.fetch('topics_one', 'east', 1) ORDER BY msg_offset;
SELECT lease_id AS lease FROM iotmq.consume('topics_one', 'readers') \gset
SELECT iotmq.ack(:lease);
SELECT iotmq.drop_zone('topics_one', 'east');
SELECT iotmq.drop_zone('topics_one', 'east'); \echo :SQLSTATE
SELECT iotmq.zone_table('topics_one', 'east'); \echo :SQLSTATE
SELECT iotmq.publish('topics_one', 'd1', '5', 'east'); \echo :SQLSTATE
SELECT iotmq.publish('topics_one', 'd1', '5');
SELECT zone FROM iotmq.consumer_lag WHERE topic = 'topics_one';
SELECT count(*) AS history FROM iotmq_topic.topics_one;

-- With force it goes with what is unread; a zone of that name made later starts anew.
SELECT iotmq.add_zone('topics_one', 'east');
SELECT iotmq.publish('topics_one', 'd1', '6', 'east');
SELECT count(*) FROM iotmq.consume('topics_one', 'readers', zone => 'east');
SELECT iotmq.drop_zone('topics_one', 'east', force => true);
SELECT count(*) FROM iotmq.in_flight WHERE topic = 'topics_one';
SELECT iotmq.add_zone('topics_one', 'east');
SELECT iotmq.publish('topics_one', 'd1', '7', 'east');
SELECT zone, payload, attempt FROM iotmq.consume('topics_one', 'readers', zone => 'east');

SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats
      WHERE topic LIKE 'topics\_%' OR topic IN ('9', 'select', 'Topics_One', 'topics.one', 'topics-one', 'T.o_p-9.', repeat('n', 48), repeat('n', 47) || 'm')) AS mine;
SELECT relname FROM pg_class WHERE relnamespace = 'iotmq_topic'::regnamespace AND relname LIKE 'topics%';
