-- A session's settings, objects and search_path change nothing.
-- Promise: settings-dont-matter
\set SHOW_CONTEXT never

-- Look-alikes that break whoever finds them first.
CREATE SCHEMA settings_evil;
CREATE FUNCTION settings_evil.trap() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'found through search_path'; END $$;
CREATE FUNCTION settings_evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT settings_evil.trap()';
CREATE FUNCTION settings_evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT settings_evil.trap()';
CREATE FUNCTION settings_evil.quote_ident(text) RETURNS text LANGUAGE sql AS 'SELECT settings_evil.trap()::text';
CREATE FUNCTION settings_evil.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT settings_evil.trap()::text';
CREATE FUNCTION settings_evil.nextval(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT extract(epoch FROM settings_evil.trap())::bigint';
CREATE FUNCTION settings_evil.equal(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT settings_evil.trap() IS NULL';
CREATE FUNCTION settings_evil.equal(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT settings_evil.trap() IS NULL';
CREATE FUNCTION settings_evil.less(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT settings_evil.trap() IS NULL';
CREATE FUNCTION settings_evil.less(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT settings_evil.trap() IS NULL';
CREATE OPERATOR settings_evil.= (FUNCTION = settings_evil.equal, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR settings_evil.= (FUNCTION = settings_evil.equal, LEFTARG = bigint, RIGHTARG = bigint);
CREATE OPERATOR settings_evil.< (FUNCTION = settings_evil.less, LEFTARG = bigint, RIGHTARG = bigint);
CREATE OPERATOR settings_evil.< (FUNCTION = settings_evil.less, LEFTARG = timestamptz, RIGHTARG = timestamptz);
CREATE DOMAIN settings_evil.text AS pg_catalog.text CHECK (settings_evil.trap() IS NULL);
CREATE TEMP TABLE topic (n int);
CREATE TEMP TABLE zone (n int);
CREATE TEMP TABLE segment (n int);
CREATE TEMP TABLE consumer_group (n int);
CREATE TEMP TABLE cursor (n int);
CREATE TEMP TABLE lease (n int);
CREATE TEMP TABLE settings (n int);
CREATE TYPE pg_temp.delivery AS (n int);

SET search_path = settings_evil, pg_temp, pg_catalog, public;
SET "DateStyle" = 'SQL, DMY';
SET "IntervalStyle" = 'sql_standard';
SET "TimeZone" = 'Pacific/Chatham';
SET bytea_output = 'escape';
SET extra_float_digits = 0;
SET array_nulls = off;
SET transform_null_equals = on;
SET backslash_quote = off;
SET quote_all_identifiers = on;
SET plan_cache_mode = force_generic_plan;
SET enable_partition_pruning = off;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SET row_security = off;
SET lock_timeout = '1 min';

SELECT iotmq.create_topic('settings', '{a,b}', segment_interval => '1 hour');
SELECT iotmq.alter_topic('settings', retention => '10 days');
SELECT iotmq.add_zone('settings', 'c');
SELECT iotmq.create_group('settings', 'readers', tags => 'x || y', filter => '$ > 0', backoff => '{1 s}');
SELECT iotmq.alter_group('settings', 'readers', invisible_for => '90 s');
SELECT iotmq.publish('settings', 'd1', '1', 'a', 'x', '{}', '\x01');
SELECT iotmq.publish_batch('settings', '{d1,d2}', ARRAY['2', '3']::jsonb[], 'a', ARRAY['y', NULL], ARRAY[NULL, '[]']::jsonb[]);
SELECT iotmq.zone_table('settings', 'a') AS zone_table \gset
COPY :zone_table (device_id, payload, tag) FROM STDIN;
d3	4	x
\.
SELECT iotmq.count_lag('settings', 'readers');
SELECT pg_catalog.min(lease_id) AS lease, pg_catalog.array_agg(msg_offset) AS offsets FROM iotmq.consume('settings', 'readers', 2, '1 minute', wait => '1 s') \gset
\echo :offsets
SELECT iotmq.ack(:lease, '{1}');
SELECT iotmq.extend(:lease, '10 ms') IS NOT NULL AS extended;
SELECT pg_catalog.pg_sleep(0.05);
SELECT msg_offset, attempt
FROM (SELECT * FROM iotmq.consume('settings', 'readers', 10) UNION ALL SELECT * FROM iotmq.consume('settings', 'readers', 10)) AS d
ORDER BY msg_offset;
\set VERBOSITY sqlstate
SELECT iotmq.ack(:lease);
\set VERBOSITY default
SELECT msg_offset, tag FROM iotmq.fetch('settings', 'a', 3);
SELECT iotmq.commit_offset('settings', 'readers', 'b', 1);
SELECT msg_offset FROM iotmq.messages_of_device('settings', 'd1');
SELECT zone, next_offset, inflight_messages FROM iotmq.consumer_lag ORDER BY zone COLLATE "C";
SELECT inflight_messages FROM iotmq.group_lag;
SELECT zone, end_offset FROM iotmq.topic_stats ORDER BY zone COLLATE "C";
SELECT messages FROM iotmq.in_flight ORDER BY lease_id;
SELECT iotmq.drop_zone('settings', 'c');
SELECT iotmq.topic_table('settings');
SELECT iotmq.publish('nothing"; --', 'd1', '1', 'a'); \echo :SQLSTATE
SELECT iotmq.drop_group('settings', 'readers');
SELECT iotmq.drop_topic('settings');

-- Nothing of it is left behind in the session.
SHOW search_path;
SHOW lock_timeout;
SELECT current_user = session_user AS same_user;
RESET ALL;

-- A topic made under one TimeZone and DateStyle has the same segments under another.
SET "TimeZone" = 'Asia/Kathmandu';
SET "DateStyle" = 'German';
SELECT iotmq.create_topic('settings', segment_interval => '1 hour');
SET "TimeZone" = 'America/St_Johns';
SET "DateStyle" = 'SQL, DMY';
SELECT iotmq.publish('settings', 'd1', '1');
SELECT iotmq.add_zone('settings', 'b');
SELECT iotmq.publish('settings', 'd1', '1', 'b');
SELECT zone, msg_offset FROM iotmq_topic.settings ORDER BY zone;
RESET ALL;

-- The caller is the caller again after an error.
SELECT iotmq.publish('settings', 'd1', '2', 'nowhere'); \echo :SQLSTATE
SELECT current_user = session_user AS same_user;

SET client_min_messages = warning;
DROP SCHEMA settings_evil CASCADE;
RESET client_min_messages;
SELECT iotmq.drop_topic('settings');
