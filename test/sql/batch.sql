-- publish_batch: many messages in one call.
-- Promise: every-door-alike
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('batch');
SELECT iotmq.create_group('batch', 'readers');

-- The offsets come back in input order, and each message keeps what belongs to it.
SELECT iotmq.publish_batch('batch', '{d3,d1,d2}', ARRAY['3', '1', '2']::jsonb[]);
SELECT iotmq.publish_batch(topic => 'batch', device_ids => '{d1,d2,d3}', payloads => ARRAY['{"v": 1}', NULL, 'null']::jsonb[],
                           zone => 'default', tags => '{temperature,NULL,"a;b"}',
                           properties => ARRAY['{"p": 1}', NULL, '[]']::jsonb[], bodies => ARRAY[NULL, '\x02', '\x']::bytea[]);
SELECT zone, msg_offset, device_id, tag, payload, body, properties, attempt FROM iotmq.consume('batch', 'readers');

-- Bodies alone will do; an empty batch is nothing.
SELECT iotmq.publish_batch('batch', '{d1,d2}', NULL, bodies => ARRAY['\x01', '\x02']::bytea[]);
SELECT iotmq.publish_batch('batch', '{}', '{}');
SELECT msg_offset, device_id, payload, body FROM iotmq.consume('batch', 'readers');

-- An array's lower bound is of no account.
SELECT iotmq.publish_batch('batch', '[0:1]={d1,d2}', '[5:6]={1,2}'::jsonb[], tags => '[-1:0]={a,b}');
SELECT msg_offset, device_id, tag, payload FROM iotmq.consume('batch', 'readers');

-- A large one, over every device, with a rolled back one before it.
BEGIN;
SELECT array_length(iotmq.publish_batch('batch', array_agg('d' || n), array_agg(to_jsonb(-n))), 1) FROM generate_series(1, 100) AS n;
ROLLBACK;
CREATE TEMP TABLE published AS
SELECT p.n, p.published
FROM (SELECT array_agg('d' || n % 10 ORDER BY n) AS devices, array_agg(to_jsonb(n) ORDER BY n) AS payloads FROM generate_series(1, 5000) AS n) AS input,
     unnest(iotmq.publish_batch('batch', input.devices, input.payloads)) WITH ORDINALITY AS p (published, n);
SELECT count(*), bool_and(m.payload = to_jsonb(p.n) AND m.device_id = 'd' || p.n % 10) AS right_offsets,
       max(p.published) - min(p.published) AS span
FROM published p
JOIN iotmq_topic.batch m ON m.msg_offset = p.published;
SELECT count(*), min(payload::int), max(payload::int) FROM iotmq.consume('batch', 'readers', 10000);

-- With several zones one has to be named.
SELECT iotmq.create_topic('batch_zones', '{a,b}');
SELECT iotmq.publish_batch('batch_zones', '{d1}', ARRAY['1']::jsonb[]); \echo :SQLSTATE
SELECT iotmq.publish_batch('batch_zones', '{d1,d2}', ARRAY['1', '2']::jsonb[], 'b');
SELECT zone, msg_offset, device_id FROM iotmq_topic.batch_zones ORDER BY zone, msg_offset;

-- One bad message refuses the batch whole.
SELECT end_offset AS next FROM iotmq.topic_stats WHERE topic = 'batch' \gset
SELECT iotmq.publish_batch('batch', '{d1,"",d3}', ARRAY['1', '2', '3']::jsonb[]); \echo :SQLSTATE
SELECT iotmq.publish_batch('batch', '{d1,NULL,d3}', ARRAY['1', '2', '3']::jsonb[]); \echo :SQLSTATE
SELECT iotmq.publish_batch('batch', '{d1,d2,d3}', ARRAY['1', '2', NULL]::jsonb[]); \echo :SQLSTATE
SELECT iotmq.publish_batch('batch', ARRAY['d1', 'd2', repeat('d', 256)], ARRAY['1', '2', '3']::jsonb[]); \echo :SQLSTATE
SELECT iotmq.publish_batch('batch', '{d1,d2}', ARRAY['1', to_jsonb(repeat('x', 4 * 1024 * 1024))]); \echo :SQLSTATE
SELECT count(*) FROM iotmq.fetch('batch', 'default', :next);
SELECT count(*) FROM iotmq.consume('batch', 'readers');
SELECT array_length(iotmq.publish_batch('batch', '{d1,d2}', ARRAY['1', '2']::jsonb[]), 1);
SELECT device_id, payload FROM iotmq.consume('batch', 'readers');

SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'batch%') AS mine;
