-- What a session keeps in memory of topics: dropped when what it is about changes, and only
-- then; by whichever statement. See src/core/catalog.c. In two sessions: other_topic.spec.
-- Promise: no-loss
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('catalog_cache_' || n, '{a,b}'), iotmq.create_group('catalog_cache_' || n, 'g')
FROM generate_series(1, 3) AS n;
-- Topics that are in memory now.
CREATE TEMP VIEW kept AS
SELECT count(*) AS topics FROM pg_backend_memory_contexts WHERE name = 'iotmq topic';
CREATE FUNCTION pg_temp.look(topic text) RETURNS bigint
	LANGUAGE sql
	RETURN (SELECT count(*) FROM iotmq.fetch(topic, 'a', 1));
CREATE TEMP VIEW looked AS
SELECT sum(pg_temp.look('catalog_cache_' || n)) AS messages FROM generate_series(1, 3) AS n;
SELECT * FROM looked;
SELECT * FROM kept;

--
-- A change of one leaves the others. What each is is seen at its next use.
--
SELECT iotmq.alter_topic('catalog_cache_1', retention => '1 day');
SELECT pg_temp.look('catalog_cache_2');
SELECT * FROM kept;
SELECT * FROM looked;
SELECT iotmq.create_group('catalog_cache_1', 'h');
SELECT iotmq.alter_group('catalog_cache_1', 'h', max_lag => 1);
SELECT pg_temp.look('catalog_cache_2');
SELECT * FROM kept;
SELECT * FROM looked;
SELECT iotmq.add_zone('catalog_cache_1', 'c');
SELECT pg_temp.look('catalog_cache_2');
SELECT * FROM kept;
SELECT count(*) FROM iotmq.fetch('catalog_cache_1', 'c', 1);
SELECT iotmq.drop_zone('catalog_cache_1', 'c');
SELECT iotmq.fetch('catalog_cache_1', 'c', 1);
SELECT * FROM looked;
SELECT * FROM kept;
-- Of what belongs to a zone, not even its own topic's other zones know.
SELECT iotmq.segment_make_until(zone_id, now() + interval '10 days', now() + interval '10 days' + interval '1 us')
FROM iotmq_internal.zone AS z
WHERE z.table_name = iotmq.zone_table('catalog_cache_1', 'a');
SELECT pg_temp.look('catalog_cache_2');
SELECT * FROM kept;

--
-- By hand: other names, other owners of a part, and parts in any order.
--
UPDATE iotmq_internal.topic SET topic = 'catalog_cache_x' WHERE topic = 'catalog_cache_1';
SELECT pg_temp.look('catalog_cache_1');
SELECT pg_temp.look('catalog_cache_x');
BEGIN;
UPDATE iotmq_internal.topic SET topic = 'catalog_cache_1' WHERE topic = 'catalog_cache_3';
UPDATE iotmq_internal.topic SET topic = 'catalog_cache_3' WHERE topic = 'catalog_cache_x';
COMMIT;
SELECT iotmq.publish('catalog_cache_1', 'd', '3', 'a');
SELECT iotmq.publish('catalog_cache_3', 'd', '1', 'b');
SELECT zone, payload FROM iotmq.messages_of_device('catalog_cache_1', 'd');
SELECT zone, payload FROM iotmq.messages_of_device('catalog_cache_3', 'd');
SELECT pg_temp.look('catalog_cache_x');
BEGIN;
UPDATE iotmq_internal.topic SET topic = 'catalog_cache_x' WHERE topic = 'catalog_cache_3';
UPDATE iotmq_internal.topic SET topic = 'catalog_cache_3' WHERE topic = 'catalog_cache_1';
UPDATE iotmq_internal.topic SET topic = 'catalog_cache_1' WHERE topic = 'catalog_cache_x';
COMMIT;
SELECT zone, payload FROM iotmq.messages_of_device('catalog_cache_1', 'd');
-- a zone, under another name and back
UPDATE iotmq_internal.zone SET zone = 'z' WHERE table_name = iotmq.zone_table('catalog_cache_2', 'b');
SELECT iotmq.publish('catalog_cache_2', 'd', '2', 'b');
SELECT count(*) FROM iotmq.fetch('catalog_cache_2', 'z', 1);
UPDATE iotmq_internal.zone SET zone = 'b' WHERE table_name = iotmq.zone_table('catalog_cache_2', 'z');
SELECT count(*) FROM iotmq.fetch('catalog_cache_2', 'b', 1);
BEGIN;
SELECT iotmq.publish('catalog_cache_2', 'd', '2', 'b');
DELETE FROM iotmq_internal.consumer_group;		-- before its cursors and grants
DELETE FROM iotmq_internal.cursor;
SAVEPOINT s;
SELECT iotmq.consume('catalog_cache_2', 'g');
ROLLBACK TO s;
DELETE FROM iotmq_internal.segment AS s USING iotmq_internal.zone AS z
WHERE z.zone_id = s.zone_id AND z.table_name = iotmq.zone_table('catalog_cache_2', 'b');
SELECT count(*) FROM iotmq.fetch('catalog_cache_2', 'b', 1);
TRUNCATE iotmq_internal.zone;
SELECT iotmq.fetch('catalog_cache_2', 'b', 1);
ROLLBACK;
SELECT count(*) FROM iotmq.fetch('catalog_cache_2', 'b', 1), iotmq.consume('catalog_cache_2', 'g');

--
-- Dropped and made in one transaction, under the same names; and not, after all.
--
BEGIN;
SELECT iotmq.drop_topic('catalog_cache_2', force => true);
SELECT iotmq.create_topic('catalog_cache_2', '{a}');
SELECT iotmq.create_group('catalog_cache_2', 'g', start_from => '-infinity');
SELECT iotmq.fetch('catalog_cache_2', 'b', 1);
ROLLBACK;
SELECT count(*) FROM iotmq.fetch('catalog_cache_2', 'b', 1);
BEGIN;
SELECT iotmq.drop_topic('catalog_cache_2', force => true);
SELECT iotmq.create_topic('catalog_cache_2', '{a}');
SELECT iotmq.create_group('catalog_cache_2', 'g', start_from => '-infinity');
COMMIT;
SELECT iotmq.publish('catalog_cache_2', 'd', '"new"');
SELECT payload FROM iotmq.consume('catalog_cache_2', 'g');

SELECT iotmq.drop_topic('catalog_cache_' || n, force => true) FROM generate_series(1, 3) AS n;
