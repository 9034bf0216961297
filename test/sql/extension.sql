-- Installing and removing iotmq, and the shape of everything public.
-- Leaves the extension installed; every other file runs with or without this one.
-- Promise: documented
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS iotmq;
RESET client_min_messages;

-- A schema iotmq that somebody else made: refused, and left as it was.
CREATE SCHEMA iotmq;
CREATE TABLE iotmq.mine (n int);
CREATE EXTENSION iotmq; \echo :SQLSTATE
SELECT count(*) AS extensions FROM pg_extension WHERE extname = 'iotmq';
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'iotmq%' ORDER BY nspname;
SELECT relname FROM pg_class WHERE relnamespace = 'iotmq'::regnamespace ORDER BY relname;
DROP TABLE iotmq.mine;
DROP SCHEMA iotmq;

CREATE EXTENSION iotmq;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'iotmq%' ORDER BY nspname;

-- The functions of the main path: arguments, defaults and results.
\pset format unaligned
\pset tuples_only on
SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ') RETURNS ' || pg_get_function_result(p.oid)
FROM pg_proc p
WHERE p.pronamespace = 'iotmq'::regnamespace
  AND p.proname IN ('create_topic', 'alter_topic', 'drop_topic', 'add_zone', 'drop_zone', 'topic_table', 'zone_table',
                    'publish', 'publish_batch', 'create_group', 'alter_group', 'drop_group', 'set_node',
                    'consume', 'ack', 'nack', 'reject', 'settle', 'extend', 'fetch', 'commit_offset', 'messages_of_device', 'count_lag')
ORDER BY p.proname COLLATE "C", p.oid;

-- The type of what is delivered, and the columns of the views.
SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
FROM pg_attribute a
WHERE a.attrelid = 'iotmq.delivery'::regclass AND a.attnum > 0
ORDER BY a.attnum;

SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'iotmq'::regnamespace AND c.relkind = 'v'
  AND c.relname IN ('consumer_lag', 'group_lag', 'topic_stats', 'in_flight', 'held_back')
ORDER BY c.relname COLLATE "C", a.attnum;
\pset tuples_only off
\pset format aligned

-- Every function, view, view column and type has a comment.
SELECT p.oid::regprocedure AS function_without_comment
FROM pg_proc p
WHERE p.pronamespace = 'iotmq'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
ORDER BY p.oid::regprocedure::text;

SELECT c.relname AS view_without_comment
FROM pg_class c
WHERE c.relnamespace = 'iotmq'::regnamespace AND c.relkind IN ('v', 'm') AND obj_description(c.oid, 'pg_class') IS NULL
ORDER BY c.relname;

SELECT c.relname AS view, a.attname AS column_without_comment
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'iotmq'::regnamespace AND c.relkind IN ('v', 'm') AND col_description(c.oid, a.attnum) IS NULL
ORDER BY c.relname, a.attnum;

-- Row types of tables and views, and array types, come with something else that is commented.
SELECT t.typname AS type_without_comment
FROM pg_type t
LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typnamespace = 'iotmq'::regnamespace
  AND coalesce(c.relkind = 'c', t.typelem = 0)
  AND obj_description(t.oid, 'pg_type') IS NULL
ORDER BY t.typname;

SELECT obj_description(e.oid, 'pg_extension') IS NOT NULL AS extension_has_comment
FROM pg_extension e
WHERE e.extname = 'iotmq';

-- Nothing that runs with rights may find a name through the caller's search_path.
SELECT p.oid::regprocedure AS open_search_path
FROM pg_proc p
WHERE p.pronamespace = 'iotmq'::regnamespace AND p.prosecdef
  AND NOT EXISTS (SELECT 1 FROM unnest(p.proconfig) AS setting WHERE setting LIKE 'search\_path=%')
ORDER BY p.oid::regprocedure::text;

-- A dump keeps the rows of every table but what maintenance notes of its runs, and not the epoch,
-- which another server begins anew.
SELECT c.relname AS not_dumped
FROM pg_class c
WHERE c.relnamespace = 'iotmq_internal'::regnamespace AND c.relkind IN ('r', 'S')
  AND c.oid <> ALL (SELECT unnest(e.extconfig) FROM pg_extension e WHERE e.extname = 'iotmq')
ORDER BY c.relname;

-- Triggers fire whatever session_replication_role is.
SELECT t.tgrelid::regclass AS relation, t.tgname
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname LIKE 'iotmq%' AND t.tgenabled <> 'A'
ORDER BY 1, 2;

-- Nothing relies on foreign keys, which don't.
SELECT conrelid::regclass AS relation, conname
FROM pg_constraint
JOIN pg_namespace n ON n.oid = connamespace
WHERE n.nspname LIKE 'iotmq%' AND contype = 'f'
ORDER BY 1, 2;

-- It doesn't move: its functions name their schema.
ALTER EXTENSION iotmq SET SCHEMA public; \echo :SQLSTATE

-- With a topic the extension can't be dropped by mistake.
SELECT iotmq.create_topic('extension_topic');
SELECT iotmq.create_group('extension_topic', 'readers');
SELECT iotmq.publish('extension_topic', 'd1', '1');
\set VERBOSITY terse
DROP EXTENSION iotmq; \echo :SQLSTATE
DROP SCHEMA iotmq CASCADE; \echo :SQLSTATE
\set VERBOSITY default
SELECT iotmq.publish('extension_topic', 'd1', '2');

-- A drop that is rolled back leaves everything working in the same session.
SET client_min_messages = warning;
BEGIN;
DROP EXTENSION iotmq CASCADE;
SELECT iotmq.publish('extension_topic', 'd1', '0'); \echo :SQLSTATE
ROLLBACK;
SELECT iotmq.publish('extension_topic', 'd1', '3');
SELECT msg_offset, payload FROM iotmq.consume('extension_topic', 'readers');

-- CASCADE removes everything.
DROP EXTENSION iotmq CASCADE;
RESET client_min_messages;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'iotmq%';
SELECT relname FROM pg_class WHERE relname LIKE '%extension\_topic%';
SELECT evtname FROM pg_event_trigger WHERE evtname LIKE 'iotmq%';
SELECT proname FROM pg_proc WHERE prosrc LIKE '%iotmq%' OR probin LIKE '%iotmq%';
SELECT iotmq.publish('extension_topic', 'd1', '0'); \echo :SQLSTATE

-- And the same names start anew in the same session.
CREATE EXTENSION iotmq;
SELECT count(*) AS topics FROM iotmq.topic_stats;
SELECT iotmq.publish('extension_topic', 'd1', '0'); \echo :SQLSTATE
SELECT iotmq.create_topic('extension_topic');
SELECT iotmq.create_group('extension_topic', 'readers');
SELECT iotmq.publish('extension_topic', 'd1', '10');
SELECT msg_offset, payload, attempt FROM iotmq.consume('extension_topic', 'readers');

-- Without topics it goes without CASCADE.
SELECT iotmq.drop_topic('extension_topic', force => true);
DROP EXTENSION iotmq;
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'iotmq%';
CREATE EXTENSION iotmq;
