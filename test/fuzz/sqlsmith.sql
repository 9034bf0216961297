-- What sqlsmith is let loose on: two topics with messages in every state, and a role
-- that may do all that can be granted.
CREATE EXTENSION iotmq;
CREATE ROLE smith LOGIN;
ALTER ROLE smith SET statement_timeout = '1s';
ALTER ROLE smith SET lock_timeout = '200ms';

SELECT iotmq.create_topic('t', '{z1,z2}');
SELECT iotmq.create_topic('u', '{default}', segment_interval => '1 hour');
SELECT iotmq.create_group(topic, topic || mode, mode, '-infinity', max_retries => 0)
FROM unnest('{t,u}'::text[]) AS topic, unnest('{orderly,concurrent}'::text[]) AS mode;
SELECT iotmq.publish_batch('t', array_fill('d' || i % 5, ARRAY[20]), array_fill('{"v": 1}'::jsonb, ARRAY[20]), 'z1')
FROM generate_series(1, 10) AS i;
SELECT count(*) FROM iotmq.consume('t', 'torderly', 10, invisible_for => '30 days');
SELECT iotmq.reject(lease_id) FROM iotmq.consume('t', 'tconcurrent', 10) LIMIT 1;
SELECT iotmq.nack(lease_id, delay => '1 hour') FROM iotmq.consume('t', 'tconcurrent', 10) LIMIT 1;

SELECT iotmq.grant_admin('smith');
SELECT iotmq.grant_publish(topic, 'smith'), iotmq.grant_read(topic, 'smith')
FROM unnest('{t,u}'::text[]) AS topic;
SELECT iotmq.grant_consume(topic, topic || mode, 'smith')
FROM unnest('{t,u}'::text[]) AS topic, unnest('{orderly,concurrent}'::text[]) AS mode;
