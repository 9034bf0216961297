-- Bad input: the SQLSTATE that the contract names, a message that helps, and nothing changed.
-- Promise: errors-change-nothing
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('bad_input');
SELECT iotmq.create_topic('bad_zones', '{a,b}');
SELECT iotmq.create_group('bad_input', 'readers', tags => 't');
SELECT iotmq.create_group('bad_zones', 'readers');
SELECT count(iotmq.publish('bad_input', 'd' || n, to_jsonb(n), tag => 't')) FROM generate_series(1, 4) AS n;
SELECT min(lease_id) AS lease FROM iotmq.consume('bad_input', 'readers', 2, '1 hour', consumer => 'one') \gset

-- All that anyone can see, but for end_offset: a refused publish may leave a hole.
CREATE FUNCTION pg_temp.all_of_it() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(E'\n',
        (SELECT string_agg(s.topic || '/' || s.zone || ' ' || s.earliest_offset || ' ' || s.segments, E'\n' ORDER BY s.topic, s.zone)
         FROM iotmq.topic_stats s),
        (SELECT string_agg(concat_ws(' ', l.topic, l.consumer_group, l.zone, l.mode, l.next_offset, l.inflight_messages, l.retry_messages,
                                     iotmq.count_lag(l.topic, l.consumer_group), l.last_consumed_at), E'\n' ORDER BY l.topic, l.consumer_group, l.zone)
         FROM iotmq.consumer_lag l),
        (SELECT string_agg(f::text, E'\n' ORDER BY f.lease_id) FROM iotmq.in_flight f),
        (SELECT string_agg(m::text, E'\n' ORDER BY m.zone, m.msg_offset) FROM iotmq_topic.bad_input m),
        (SELECT string_agg(m::text, E'\n' ORDER BY m.zone, m.msg_offset) FROM iotmq_topic.bad_zones m),
        (SELECT string_agg(c.relname, E'\n' ORDER BY c.relname) FROM pg_class c WHERE c.relnamespace::regnamespace::text LIKE 'iotmq\_%'))
$$;
SELECT pg_temp.all_of_it() AS before \gset

-- create_topic
SELECT iotmq.create_topic(NULL); \echo :SQLSTATE
SELECT iotmq.create_topic(''); \echo :SQLSTATE
SELECT iotmq.create_topic(' bad'); \echo :SQLSTATE
SELECT iotmq.create_topic('-bad'); \echo :SQLSTATE
SELECT iotmq.create_topic('_bad'); \echo :SQLSTATE
SELECT iotmq.create_topic('.bad'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad topic'); \echo :SQLSTATE
SELECT iotmq.create_topic(E'bad\n'); \echo :SQLSTATE
SELECT iotmq.create_topic('bäd'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad/topic'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad%s%n'); \echo :SQLSTATE
SELECT iotmq.create_topic($$bad"; DROP TABLE iotmq_topic.bad_input; --$$); \echo :SQLSTATE
SELECT iotmq.create_topic($$bad'; DROP TABLE iotmq_topic.bad_input; --$$); \echo :SQLSTATE
SELECT iotmq.create_topic(repeat('b', 49)); \echo :SQLSTATE
SELECT iotmq.create_topic('bad_input'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', NULL); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', '{a,NULL}'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', '{a,""}'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', '{a,"b c"}'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', ARRAY['a', repeat('z', 49)]); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', ARRAY[$$a'); DROP TABLE iotmq_topic.bad_input; --$$]); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', '{a,b,a}'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', retention => NULL); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', retention => '0'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', retention => '-1 day'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', segment_interval => '0'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', segment_interval => '-1 hour'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', retention_policy => 'never'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', retention_policy => NULL); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', max_retention => '0'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', max_retention => '-1 day'); \echo :SQLSTATE
SELECT iotmq.create_topic('bad', device_index => NULL); \echo :SQLSTATE

-- alter_topic, drop_topic, zones and the tables
SELECT iotmq.alter_topic(NULL); \echo :SQLSTATE
SELECT iotmq.alter_topic('nowhere'); \echo :SQLSTATE
SELECT iotmq.alter_topic('bad_input', retention => '0'); \echo :SQLSTATE
SELECT iotmq.alter_topic('bad_input', retention => '-1 day'); \echo :SQLSTATE
SELECT iotmq.alter_topic('bad_input', segment_interval => '0'); \echo :SQLSTATE
SELECT iotmq.alter_topic('bad_input', retention_policy => 'never'); \echo :SQLSTATE
SELECT iotmq.alter_topic('bad_input', max_retention => '-1 day'); \echo :SQLSTATE
SELECT iotmq.drop_topic(NULL); \echo :SQLSTATE
SELECT iotmq.drop_topic('nowhere'); \echo :SQLSTATE
SELECT iotmq.drop_topic('nowhere', force => true); \echo :SQLSTATE
SELECT iotmq.drop_topic('Bad_Input', force => true); \echo :SQLSTATE
SELECT iotmq.drop_topic('bad_input'); \echo :SQLSTATE
SELECT iotmq.drop_topic('bad_input', force => NULL); \echo :SQLSTATE
SELECT iotmq.add_zone(NULL, 'c'); \echo :SQLSTATE
SELECT iotmq.add_zone('bad_zones', NULL); \echo :SQLSTATE
SELECT iotmq.add_zone('nowhere', 'c'); \echo :SQLSTATE
SELECT iotmq.add_zone('bad_zones', 'a'); \echo :SQLSTATE
SELECT iotmq.add_zone('bad_zones', 'a b'); \echo :SQLSTATE
SELECT iotmq.add_zone('bad_zones', ''); \echo :SQLSTATE
SELECT iotmq.add_zone('bad_zones', repeat('z', 49)); \echo :SQLSTATE
SELECT iotmq.add_zone('bad_zones', $$c'; DROP TABLE iotmq_topic.bad_input; --$$); \echo :SQLSTATE
SELECT iotmq.drop_zone(NULL, 'a'); \echo :SQLSTATE
SELECT iotmq.drop_zone('bad_zones', NULL); \echo :SQLSTATE
SELECT iotmq.drop_zone('nowhere', 'a'); \echo :SQLSTATE
SELECT iotmq.drop_zone('bad_zones', 'nowhere'); \echo :SQLSTATE
SELECT iotmq.drop_zone('bad_zones', 'nowhere', force => true); \echo :SQLSTATE
BEGIN;
SELECT iotmq.drop_zone('bad_zones', 'a', force => NULL); \echo :SQLSTATE
ROLLBACK;
SELECT iotmq.topic_table(NULL); \echo :SQLSTATE
SELECT iotmq.topic_table('nowhere'); \echo :SQLSTATE
SELECT iotmq.zone_table(NULL, 'a'); \echo :SQLSTATE
SELECT iotmq.zone_table('bad_zones', NULL); \echo :SQLSTATE
SELECT iotmq.zone_table('nowhere', 'a'); \echo :SQLSTATE
SELECT iotmq.zone_table('bad_zones', 'nowhere'); \echo :SQLSTATE
SELECT pg_temp.all_of_it() = :'before' AS nothing_changed;

-- publish
SELECT iotmq.publish(NULL, 'd1', '1'); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', NULL, '1'); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', '', '1'); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', repeat('d', 256), '1'); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', repeat('é', 128), '1'); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', NULL); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', NULL, tag => 't', properties => '{}'); \echo :SQLSTATE
SELECT iotmq.publish('nowhere', 'd1', '1'); \echo :SQLSTATE
SELECT iotmq.publish('', 'd1', '1'); \echo :SQLSTATE
SELECT iotmq.publish('BAD_INPUT', 'd1', '1'); \echo :SQLSTATE
SELECT iotmq.publish($$bad_input"; DROP TABLE iotmq_topic.bad_input; --$$, 'd1', '1'); \echo :SQLSTATE
SELECT iotmq.publish('bad%s%n', 'd1', '1'); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', '1', 'nowhere'); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', '1', ''); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', '1', $$default'; DROP TABLE iotmq_topic.bad_input; --$$); \echo :SQLSTATE
SELECT iotmq.publish('bad_zones', 'd1', '1'); \echo :SQLSTATE
SELECT iotmq.publish('bad_zones', 'd1', '1', NULL); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', '1', tag => ''); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', '1', tag => '*'); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', '1', tag => ' t'); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', '1', tag => 'a || b'); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', '1', tag => repeat('t', 256)); \echo :SQLSTATE

-- A message over 4 MiB: in one piece, in the sum of its pieces, and where compression hides it.
SELECT iotmq.publish('bad_input', 'd1', NULL, body => decode(repeat('5a', 4 * 1024 * 1024 + 1), 'hex')); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', to_jsonb(repeat('x', 4 * 1024 * 1024 + 1))); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', '1', properties => to_jsonb(repeat('x', 4 * 1024 * 1024 + 1))); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', to_jsonb(repeat('x', 2 * 1024 * 1024)), properties => to_jsonb(repeat('x', 1024 * 1024)),
                     body => decode(repeat('5a', 1024 * 1024 + 1), 'hex')); \echo :SQLSTATE
-- Numbers that are short in the table, and long for whoever is sent them; JSON that is deeper than others can read it.
SELECT iotmq.publish('bad_input', 'd1', jsonb_agg('1e131071'::numeric)) FROM generate_series(1, 200); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', '1', properties => jsonb_agg(jsonb_build_object('n', '1e-16383'::numeric))) FROM generate_series(1, 1100); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', jsonb_agg('1e250'::numeric)) FROM generate_series(1, 70000); \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', (repeat('[', 5001) || repeat(']', 5001))::jsonb); \echo :SQLSTATE
SELECT iotmq.message_is_valid('d1', NULL, (repeat('[', 5000) || repeat(']', 5000))::jsonb, NULL, NULL, NULL);
SELECT iotmq.message_is_valid('d1', NULL, jsonb_agg(n) || jsonb_build_object('a', NULL, 'b', true, 'c', jsonb_build_array(n, '1e131071'::numeric)), NULL, jsonb_agg(-0.00001), NULL)
FROM (SELECT 12345.678 * 10 ^ n AS n FROM generate_series(-100, 100) AS n) AS numbers GROUP BY n LIMIT 1;
CREATE TEMP TABLE large AS SELECT to_jsonb(repeat('x', 5 * 1024 * 1024)) AS payload, decode(repeat('5a', 5 * 1024 * 1024), 'hex') AS body;
SELECT pg_column_size(payload) < 1024 * 1024 AS compressed FROM large;
SELECT iotmq.publish('bad_input', 'd1', payload) FROM large; \echo :SQLSTATE
SELECT iotmq.publish('bad_input', 'd1', '1', body => body) FROM large; \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1,d2}', ARRAY['1', payload]) FROM large; \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1,d2}', NULL, bodies => ARRAY[body, '\x01']) FROM large; \echo :SQLSTATE

-- publish_batch
SELECT iotmq.publish_batch(NULL, '{d1}', '{1}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', NULL, '{1}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1}', NULL); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1,d2}', '{1}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1}', '{1,2}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{}', '{1}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1}', '{}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1,d2}', '{1,2}', tags => '{t}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1,d2}', '{1,2}', tags => '{}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1,d2}', '{1,2}', properties => '{1,2,3}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1,d2}', '{1,2}', bodies => ARRAY['\x01']::bytea[]); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{{d1,d2},{d3,d4}}', '{1,2,3,4}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1,NULL}', '{1,2}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1,""}', '{1,2}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1,d2}', '{1,NULL}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1,d2}', '{1,NULL}', bodies => ARRAY['\x01', NULL]::bytea[]); \echo :SQLSTATE
SELECT iotmq.publish_batch('nowhere', '{d1}', '{1}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('nowhere', '{}', '{}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_input', '{d1}', '{1}', 'nowhere'); \echo :SQLSTATE
SELECT iotmq.publish_batch('bad_zones', '{d1}', '{1}'); \echo :SQLSTATE
SELECT pg_temp.all_of_it() = :'before' AS nothing_changed;

-- create_group
SELECT iotmq.create_group(NULL, 'bad'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', NULL); \echo :SQLSTATE
SELECT iotmq.create_group('nowhere', 'bad'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'readers'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', ''); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad group'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', repeat('g', 49)); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', $$bad'; DROP TABLE iotmq_topic.bad_input; --$$); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', mode => NULL); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', mode => 'Concurrent'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', start_from => NULL); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', tags => NULL); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', tags => ''); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', tags => 'a ||'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', tags => 'a || || b'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', invisible_for => NULL); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', invisible_for => '0'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', invisible_for => '-1 s'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', max_retries => NULL); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', max_retries => -1); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', backoff => '{}'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', backoff => '{1 s,-1 s}'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', backoff => '{1 s,NULL}'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', backoff => '{{1 s,2 s}}'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', max_delay => '-1 s'); \echo :SQLSTATE
SELECT iotmq.create_group('bad_input', 'bad', max_lag => -1); \echo :SQLSTATE

-- alter_group, drop_group
SELECT iotmq.alter_group(NULL, 'readers'); \echo :SQLSTATE
SELECT iotmq.alter_group('bad_input', NULL); \echo :SQLSTATE
SELECT iotmq.alter_group('nowhere', 'readers'); \echo :SQLSTATE
SELECT iotmq.alter_group('bad_input', 'nobody'); \echo :SQLSTATE
SELECT iotmq.alter_group('bad_input', 'readers', mode => 'x'); \echo :SQLSTATE
SELECT iotmq.alter_group('bad_input', 'readers', tags => ''); \echo :SQLSTATE
SELECT iotmq.alter_group('bad_input', 'readers', invisible_for => '0'); \echo :SQLSTATE
SELECT iotmq.alter_group('bad_input', 'readers', max_retries => -1); \echo :SQLSTATE
SELECT iotmq.alter_group('bad_input', 'readers', backoff => '{}'); \echo :SQLSTATE
SELECT iotmq.alter_group('bad_input', 'readers', max_delay => '-1 s'); \echo :SQLSTATE
SELECT iotmq.alter_group('bad_input', 'readers', max_lag => -1); \echo :SQLSTATE
SELECT iotmq.drop_group(NULL, 'readers'); \echo :SQLSTATE
SELECT iotmq.drop_group('bad_input', NULL); \echo :SQLSTATE
SELECT iotmq.drop_group('nowhere', 'readers'); \echo :SQLSTATE
SELECT iotmq.drop_group('bad_input', 'nobody'); \echo :SQLSTATE
SELECT iotmq.drop_group('bad_input', 'Readers'); \echo :SQLSTATE
SELECT pg_temp.all_of_it() = :'before' AS nothing_changed;

-- consume
SELECT * FROM iotmq.consume(NULL, 'readers'); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', NULL); \echo :SQLSTATE
SELECT * FROM iotmq.consume('nowhere', 'readers'); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'nobody'); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', $$readers' OR true; --$$); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'readers', NULL); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'readers', 0); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'readers', -1); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'readers', 10001); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'readers', 2147483647); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'readers', invisible_for => '0'); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'readers', invisible_for => '-1 s'); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'readers', zone => 'nowhere'); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'readers', zone => ''); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'readers', wait => '-1 s'); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'readers', wait => '5 min 1 s'); \echo :SQLSTATE
SELECT * FROM iotmq.consume('bad_input', 'readers', wait => '1000000 years'); \echo :SQLSTATE
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM iotmq.consume('bad_input', 'readers'); \echo :SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM iotmq.consume('bad_input', 'readers'); \echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT * FROM iotmq.consume('bad_input', 'readers'); \echo :SQLSTATE
ROLLBACK;

-- ack and extend
SELECT iotmq.ack(NULL); \echo :SQLSTATE
SELECT iotmq.ack(0); \echo :SQLSTATE
SELECT iotmq.ack(-1); \echo :SQLSTATE
SELECT iotmq.ack(42); \echo :SQLSTATE
SELECT iotmq.ack(9223372036854775807); \echo :SQLSTATE
SELECT iotmq.ack((-9223372036854775808)::bigint); \echo :SQLSTATE
SELECT iotmq.ack(42, '{1}'); \echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT iotmq.ack(:lease + 1);
SELECT iotmq.ack(:lease, '{3}');
SELECT iotmq.ack(:lease, '{1,3}');
\set VERBOSITY default
SELECT iotmq.ack(:lease, '{1,NULL}'); \echo :SQLSTATE
SELECT iotmq.extend(NULL, '1 min'); \echo :SQLSTATE
SELECT iotmq.extend(:lease, NULL); \echo :SQLSTATE
SELECT iotmq.extend(42, '1 min'); \echo :SQLSTATE
SELECT iotmq.extend(:lease, '0'); \echo :SQLSTATE
SELECT iotmq.extend(:lease, '-1 s'); \echo :SQLSTATE
SELECT iotmq.nack(NULL); \echo :SQLSTATE
SELECT iotmq.reject(NULL); \echo :SQLSTATE

-- fetch, commit_offset, messages_of_device, count_lag
SELECT * FROM iotmq.fetch(NULL, 'a', 1); \echo :SQLSTATE
SELECT * FROM iotmq.fetch('bad_zones', NULL, 1); \echo :SQLSTATE
SELECT * FROM iotmq.fetch('bad_zones', 'a', NULL); \echo :SQLSTATE
SELECT * FROM iotmq.fetch('bad_zones', 'a', 1, NULL); \echo :SQLSTATE
SELECT * FROM iotmq.fetch('nowhere', 'a', 1); \echo :SQLSTATE
SELECT * FROM iotmq.fetch('bad_zones', 'nowhere', 1); \echo :SQLSTATE
SELECT * FROM iotmq.fetch('bad_zones', 'a', 1, 0); \echo :SQLSTATE
SELECT * FROM iotmq.fetch('bad_zones', 'a', 1, -1); \echo :SQLSTATE
SELECT * FROM iotmq.fetch('bad_zones', 'a', 1, 10001); \echo :SQLSTATE
SELECT iotmq.commit_offset(NULL, 'readers', 'default', 1); \echo :SQLSTATE
SELECT iotmq.commit_offset('bad_input', NULL, 'default', 1); \echo :SQLSTATE
SELECT iotmq.commit_offset('bad_zones', 'readers', NULL, 1); \echo :SQLSTATE
SELECT iotmq.commit_offset('bad_input', 'readers', 'default', NULL); \echo :SQLSTATE
SELECT iotmq.commit_offset('nowhere', 'readers', 'default', 1); \echo :SQLSTATE
SELECT iotmq.commit_offset('bad_input', 'nobody', 'default', 1); \echo :SQLSTATE
SELECT iotmq.commit_offset('bad_input', 'readers', 'nowhere', 1); \echo :SQLSTATE
SELECT iotmq.commit_offset('bad_input', 'readers', 'default', 0); \echo :SQLSTATE
SELECT iotmq.commit_offset('bad_input', 'readers', 'default', 1000); \echo :SQLSTATE
SELECT * FROM iotmq.messages_of_device(NULL, 'd1'); \echo :SQLSTATE
SELECT * FROM iotmq.messages_of_device('bad_input', NULL); \echo :SQLSTATE
SELECT * FROM iotmq.messages_of_device('bad_input', 'd1', NULL); \echo :SQLSTATE
SELECT * FROM iotmq.messages_of_device('bad_input', 'd1', until => NULL); \echo :SQLSTATE
SELECT * FROM iotmq.messages_of_device('bad_input', 'd1', max_messages => NULL); \echo :SQLSTATE
SELECT * FROM iotmq.messages_of_device('bad_input', 'd1', max_messages => 0); \echo :SQLSTATE
SELECT * FROM iotmq.messages_of_device('bad_input', 'd1', max_messages => 10001); \echo :SQLSTATE
SELECT * FROM iotmq.messages_of_device('nowhere', 'd1'); \echo :SQLSTATE
SELECT * FROM iotmq.messages_of_device('bad_input', 'd1', zone => 'nowhere'); \echo :SQLSTATE
SELECT iotmq.count_lag(NULL, 'readers'); \echo :SQLSTATE
SELECT iotmq.count_lag('bad_input', NULL); \echo :SQLSTATE
SELECT iotmq.count_lag('nowhere', 'readers'); \echo :SQLSTATE
SELECT iotmq.count_lag('bad_input', 'nobody'); \echo :SQLSTATE
SELECT pg_temp.all_of_it() = :'before' AS nothing_changed;

-- After all that everything still works in this session.
SELECT current_user = session_user AS same_user;
SELECT iotmq.publish('bad_input', 'd5', '5', tag => 't') IS NOT NULL AS published;
SELECT payload FROM iotmq.consume('bad_input', 'readers');
SELECT iotmq.ack(:lease);

SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic IN ('bad_input', 'bad_zones')) AS mine;
