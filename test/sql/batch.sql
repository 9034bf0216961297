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

-- A zone for each message. Offsets are in input order, each of its zone.
SELECT iotmq.publish_batch('batch_zones', '{d1,d2,d3,d4}', ARRAY['1', '2', '3', '4']::jsonb[], zones => '{b,a,b,a}') AS offsets \gset
SELECT o.n, m.zone, m.device_id, m.payload, m.msg_offset - min(m.msg_offset) OVER (PARTITION BY m.zone) AS msg_offset
FROM unnest(:'offsets'::bigint[]) WITH ORDINALITY AS o (msg_offset, n)
JOIN iotmq_topic.batch_zones AS m ON m.msg_offset = o.msg_offset AND m.zone = ('{b,a,b,a}'::text[])[o.n] AND m.device_id = 'd' || o.n
ORDER BY o.n;
SELECT iotmq.publish_batch('batch', '{d1,d2}', '{1,2}', zones => '{NULL,default}') IS NOT NULL AS published;
SELECT iotmq.publish_batch('batch', '{}', '{}', zones => '{}');
SELECT iotmq.publish_batch('batch_zones', '{d1}', '{1}', 'a', zones => '{a}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('batch_zones', '{d1,d2}', '{1,2}', zones => '{a}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('batch_zones', '{d1,d2}', '{1,2}', zones => '{a,NULL}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('batch_zones', '{d1,d2}', '{1,2}', zones => '{a,c}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('batch_zones', '{d1,d2}', ARRAY['1', NULL]::jsonb[], zones => '{b,a}'); \echo :SQLSTATE
SELECT count(*) FROM iotmq_topic.batch_zones WHERE device_id = 'd1';
-- all of them or none
CREATE ROLE regress_iotmq_batch;
SELECT iotmq.grant_publish('batch_zones', 'regress_iotmq_batch', '{a}');
SET ROLE regress_iotmq_batch;
SELECT iotmq.publish_batch('batch_zones', '{d1,d2}', '{1,2}', zones => '{a,a}') IS NOT NULL AS published;
SELECT iotmq.publish_batch('batch_zones', '{d1,d2}', '{1,2}', zones => '{a,b}'); \echo :SQLSTATE
RESET ROLE;
SELECT iotmq.revoke_publish('batch_zones', 'regress_iotmq_batch');
DROP ROLE regress_iotmq_batch;
-- at most 64, also with keys in all of them
SELECT iotmq.create_topic('batch_many', array_agg('z' || n), '1000 hours', '500 hours', dedup_window => '1 hour') FROM generate_series(1, 65) AS n;
SELECT array_length(iotmq.publish_batch('batch_many', array_agg('d' || n), array_agg(to_jsonb(n)), zones => array_agg('z' || n % 64 + 1), message_keys => array_agg('k' || n)), 1) FROM generate_series(1, 5000) AS n;
SELECT iotmq.publish_batch('batch_many', array_agg('d' || n), array_agg(to_jsonb(n)), zones => array_agg('z' || n)) FROM generate_series(1, 65) AS n; \echo :SQLSTATE

-- What the owner of the table has made of it names the element, too.
CREATE FUNCTION detail_of(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE command;
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ': ' || left(detail, 24);
END $$;
SELECT tableoid::regclass AS leaf FROM iotmq_topic.batch_zones WHERE zone = 'a' LIMIT 1 \gset
CREATE UNIQUE INDEX device_once ON :leaf (device_id) WHERE device_id LIKE 'once%';
SELECT detail_of($$SELECT iotmq.publish_batch('batch_zones', '{e1,once,e2,once}', '{1,2,3,4}', 'a')$$);
DROP INDEX iotmq_segment.device_once;
DELETE FROM iotmq_topic.batch_zones;
CREATE UNIQUE INDEX device_once ON :leaf (device_id);
SELECT detail_of($$SELECT iotmq.publish_batch('batch_zones', '{e1,once,e2,once}', '{1,2,3,4}', 'a')$$);
DROP INDEX iotmq_segment.device_once;
ALTER TABLE iotmq_topic.batch_zones ADD CONSTRAINT hot CHECK (payload < '100');
SELECT detail_of($$SELECT iotmq.publish_batch('batch_zones', '{d1,d2,d3}', '{1,2,300}', zones => '{b,b,a}')$$);
SELECT detail_of($$SELECT iotmq.publish('batch_zones', 'd', '300', 'a')$$);
DROP FUNCTION detail_of;

SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'batch%') AS mine;
