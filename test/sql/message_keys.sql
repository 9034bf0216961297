-- A message with a key is there once, within the topic's dedup_window.
-- Promise: once-by-key
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('keys', '{a,b}', retention => '3 hours', segment_interval => '1 minute', dedup_window => '1 hour');
SELECT iotmq.zone_table('keys', 'a') AS a \gset

-- Published again, nothing is stored; the first offset comes back. What else is in it does not count.
SELECT iotmq.publish('keys', 'd', '1', 'a', message_key => 'k');
SELECT iotmq.publish('keys', 'd', '2', 'a', 'tag', message_key => 'k');
-- another device, another zone, another key, or none
SELECT iotmq.publish('keys', 'e', '3', 'a', message_key => 'k'), iotmq.publish('keys', 'd', '4', 'b', message_key => 'k'),
	iotmq.publish('keys', 'd', '5', 'a', message_key => 'K'), iotmq.publish('keys', 'd', '6', 'a'), iotmq.publish('keys', 'd', '7', 'a');
-- device and key don't run into each other
SELECT iotmq.publish('keys', 'x', '8', 'a', message_key => 'yz'), iotmq.publish('keys', 'xy', '9', 'a', message_key => 'z');
SELECT zone, msg_offset, device_id, payload, message_key FROM iotmq_topic.keys ORDER BY zone, msg_offset;

-- In a batch: what is there, what comes twice, in several zones; offsets are in input order.
SELECT iotmq.publish_batch('keys', '{d,d,d,d,e,d}', '{10,11,12,13,14,15}', 'a', message_keys => '{m,NULL,k,l,m,m}');
SELECT iotmq.publish_batch('keys', '{d,d,d,d}', '{16,17,18,19}', zones => '{b,a,b,a}', message_keys => '{m,m,m,n}');
SELECT zone, msg_offset, device_id, payload, message_key FROM iotmq_topic.keys WHERE payload > '9' ORDER BY zone, msg_offset;
-- a batch of nothing new takes no offset, and no zone is held back by it
BEGIN;
SELECT iotmq.publish_batch('keys', '{d,d}', '{1,2}', zones => '{a,b}', message_keys => '{m,m}');
SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'iotmq_internal.zone'::regclass AND pid = pg_backend_pid();
COMMIT;
-- many keys, in all buckets
SELECT array_agg('d' || i % 1500 % 7) AS devices, array_agg(i::text::jsonb) AS payloads, array_agg('many ' || i % 1500) AS keys
FROM generate_series(1, 3000) AS i \gset
SELECT count(DISTINCT o), count(*) FROM unnest(iotmq.publish_batch('keys', :'devices', :'payloads', 'b', message_keys => :'keys')) AS o;
SELECT count(*), count(DISTINCT (device_id, message_key)) FROM iotmq_topic.keys WHERE message_key LIKE 'many%';

-- One's own message counts, as long as it is not rolled back.
BEGIN;
SELECT iotmq.publish('keys', 'own', '1', 'a', message_key => 'k') AS own \gset
SELECT iotmq.publish('keys', 'own', '2', 'a', message_key => 'k') = :own AS same;
SAVEPOINT s;
SELECT iotmq.publish('keys', 'own', '3', 'a', message_key => 's') AS undone \gset
SELECT iotmq.publish('keys', 'own', '4', 'a', message_key => 's') = :undone AS same;
ROLLBACK TO s;
SELECT iotmq.publish('keys', 'own', '5', 'a', message_key => 's') > :undone AS anew;
ROLLBACK;
SELECT iotmq.publish('keys', 'own', '6', 'a', message_key => 'k') > :own AS anew;

-- COPY and INSERT: an error, and nothing is stored.
\set VERBOSITY terse
COPY :a (device_id, payload, message_key) FROM STDIN;
c	1	c1
c	2	\N
c	3	c2
\.
COPY :a (device_id, payload, message_key) FROM STDIN;
c	4	c3
c	5	c2
\.
COPY :a (device_id, payload, message_key) FROM STDIN;
c	6	c4
c	7	c4
\.
INSERT INTO :a (device_id, payload, message_key) VALUES ('d', '8', 'k'); \echo :SQLSTATE
\set VERBOSITY default
INSERT INTO :a (device_id, payload, message_key) VALUES ('c', '9', 'c5'), ('c', '10', 'c6');
INSERT INTO :a (device_id, payload, message_key) SELECT 'c', to_jsonb(i), 'c' || i FROM generate_series(7, 11000) AS i;
\set VERBOSITY terse
INSERT INTO :a (device_id, payload, message_key) SELECT 'c', to_jsonb(i), 'c' || i % 30000 FROM generate_series(11001, 31000) AS i; \echo :SQLSTATE
INSERT INTO :a (device_id, payload, message_key) SELECT 'f', to_jsonb(i), 'f' || i % 25000 FROM generate_series(1, 25001) AS i;
\set VERBOSITY default
SELECT iotmq.publish('keys', 'c', '0', 'a', message_key => 'c2') = (SELECT msg_offset FROM iotmq_topic.keys WHERE device_id = 'c' AND message_key = 'c2') AS found;
SELECT count(*), count(DISTINCT message_key) FROM iotmq_topic.keys WHERE device_id IN ('c', 'f') AND message_key IS NOT NULL;
-- an error in a savepoint is forgotten with it
BEGIN;
SAVEPOINT s;
INSERT INTO :a (device_id, payload, message_key) VALUES ('s', '1', 's1'), ('s', '2', ''); \echo :SQLSTATE
ROLLBACK TO s;
INSERT INTO :a (device_id, payload, message_key) VALUES ('s', '1', 's1');
COMMIT;

-- The window is exact, and goes over segments: the time is chosen here, as only a superuser can.
SELECT iotmq.alter_topic('keys', dedup_window => '30 min');
SELECT now() + interval '20 min' AS t0 \gset
INSERT INTO :a (published_at, device_id, payload, message_key) VALUES (:'t0', 'w', '1', 'w');
\set VERBOSITY sqlstate
INSERT INTO :a (published_at, device_id, payload, message_key) VALUES (timestamptz :'t0' + interval '30 min' - interval '1 us', 'w', '2', 'w');
INSERT INTO :a (published_at, device_id, payload, message_key) VALUES (timestamptz :'t0' + interval '25 min', 'w', '3', 'w');
\set VERBOSITY default
INSERT INTO :a (published_at, device_id, payload, message_key) VALUES (timestamptz :'t0' + interval '25 min', 'v', '4', 'v');
SELECT count(*) FROM iotmq_topic.keys WHERE device_id IN ('v', 'w');
-- what is further away than that is no obstacle: both ends
SELECT iotmq.alter_topic('keys', dedup_window => '9 min');
SELECT iotmq.publish('keys', 'w', '5', 'a', message_key => 'w') IS NOT NULL AS published;
SELECT count(*) FROM iotmq_topic.keys WHERE device_id = 'w';
INSERT INTO :a (published_at, device_id, payload, message_key) VALUES (timestamptz :'t0' + interval '9 min', 'w', '6', 'w');
\set VERBOSITY sqlstate
INSERT INTO :a (published_at, device_id, payload, message_key) VALUES (timestamptz :'t0' + interval '18 min' - interval '1 us', 'w', '7', 'w');
\set VERBOSITY default
INSERT INTO :a (published_at, device_id, payload, message_key) VALUES (timestamptz :'t0' + interval '18 min', 'w', '8', 'w');
SELECT iotmq.alter_topic('keys', dedup_window => '1 hour');

-- message_by_key: newest first, of one zone or all.
SELECT lease_id, zone, msg_offset IS NOT NULL AS has_offset, device_id, payload, attempt, message_key FROM iotmq.message_by_key('keys', 'w', 'w');
SELECT zone, payload, message_key FROM iotmq.message_by_key('keys', 'd', 'k');
SELECT zone, payload, message_key FROM iotmq.message_by_key('keys', 'd', 'k', 'b');
SELECT count(*) FROM iotmq.message_by_key('keys', 'd', 'nothing');
\set VERBOSITY terse
SELECT * FROM iotmq.message_by_key('keys', NULL, 'k'); \echo :SQLSTATE
SELECT * FROM iotmq.message_by_key('keys', 'd', NULL); \echo :SQLSTATE
SELECT * FROM iotmq.message_by_key('keys', 'd', 'k', 'c'); \echo :SQLSTATE
SELECT * FROM iotmq.message_by_key('nothing', 'd', 'k'); \echo :SQLSTATE
\set VERBOSITY default
-- by its index
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS off) ' || query; END $$;
SET enable_seqscan = off;
SELECT count(*) = (SELECT count(*) FROM pg_partition_tree(:'a') WHERE isleaf) AS by_index
FROM plan_of(format('SELECT FROM %s WHERE device_id = %L AND message_key = %L', :'a', 'd', 'k')) AS line WHERE line ~ 'Scan using .*_message_key';
RESET enable_seqscan;
DROP FUNCTION plan_of;

-- Deliveries have it: consume, fetch, messages_of_device, dead letters and what is redriven.
SELECT msg_offset, message_key FROM iotmq.fetch('keys', 'a', 1, 4);
SELECT msg_offset, message_key FROM iotmq.messages_of_device('keys', 'x');
SELECT iotmq.create_topic('keys_dead', dedup_window => '1 hour');
SELECT iotmq.create_group('keys_dead', 'g', start_from => '-infinity', max_retries => 0);
SELECT iotmq.publish('keys_dead', 'd', '1', message_key => 'k');
SELECT lease_id AS lease, message_key FROM iotmq.consume('keys_dead', 'g') \gset
SELECT iotmq.reject(:lease), :'message_key' AS message_key;
SELECT msg_offset, message_key FROM iotmq.dead_letter WHERE topic = 'keys_dead';
CREATE ROLE regress_iotmq_keys;
SELECT iotmq.grant_consume('keys_dead', 'g', 'regress_iotmq_keys');
SET ROLE regress_iotmq_keys;
SELECT msg_offset, message_key FROM iotmq.dead_letter;
RESET ROLE;
SELECT iotmq.revoke_consume('keys_dead', 'g', 'regress_iotmq_keys');
DROP ROLE regress_iotmq_keys;
DELETE FROM iotmq_topic.keys_dead;
SELECT iotmq.redrive('keys_dead', 'g');
SELECT msg_offset, device_id, payload, message_key FROM iotmq.consume('keys_dead', 'g');
SELECT iotmq.drop_topic('keys_dead', force => true);

-- What a key may be.
\set VERBOSITY terse
SELECT iotmq.publish('keys', 'd', '1', 'a', message_key => ''); \echo :SQLSTATE
SELECT iotmq.publish('keys', 'd', '1', 'a', message_key => repeat('k', 256)); \echo :SQLSTATE
SELECT iotmq.publish('keys', 'd', '1', 'a', message_key => repeat('é', 127) || 'k') IS NOT NULL AS published;
INSERT INTO :a (device_id, payload, message_key) VALUES ('d', '1', repeat('k', 256)); \echo :SQLSTATE
\set VERBOSITY default
SELECT iotmq.publish_batch('keys', '{d,d}', '{1,2}', 'a', message_keys => '{n,""}'); \echo :SQLSTATE
SELECT iotmq.publish_batch('keys', '{d,d}', '{1,2}', 'a', message_keys => '{n}'); \echo :SQLSTATE

-- A topic without a window has none; one whose window was taken away keeps those it has.
SELECT iotmq.create_topic('keys_off');
SELECT iotmq.zone_table('keys_off', 'default') AS off \gset
SELECT iotmq.publish('keys_off', 'd', '1', message_key => 'k'); \echo :SQLSTATE
SELECT iotmq.publish_batch('keys_off', '{d,d}', '{1,2}', message_keys => '{NULL,k}'); \echo :SQLSTATE
INSERT INTO :off (device_id, payload, message_key) VALUES ('d', '1', 'k'); \echo :SQLSTATE
INSERT INTO :off (device_id, payload, message_key) VALUES ('d', '1', NULL);
SELECT iotmq.publish('keys_off', 'd', '2'), iotmq.publish_batch('keys_off', '{d,d}', '{1,2}', message_keys => '{NULL,NULL}');
SELECT iotmq.alter_topic('keys_off', dedup_window => '72 hours');
SELECT count(*) = count(i.indexrelid) AS all_have_it FROM pg_partition_tree(:'off') AS p
LEFT JOIN pg_index AS i ON i.indrelid = p.relid AND i.indpred IS NOT NULL WHERE p.isleaf;
SET client_min_messages = warning;
CALL iotmq.run_maintenance(now() + interval '1 day');
RESET client_min_messages;
SELECT count(*) = count(i.indexrelid) AS all_have_it FROM pg_partition_tree(:'off') AS p
LEFT JOIN pg_index AS i ON i.indrelid = p.relid AND i.indpred IS NOT NULL WHERE p.isleaf;
SELECT iotmq.publish('keys_off', 'd', '3', message_key => 'k') AS first \gset
SELECT iotmq.alter_topic('keys_off', reset => '{dedup_window}');
SELECT iotmq.publish('keys_off', 'd', '4', message_key => 'k'); \echo :SQLSTATE
SELECT payload FROM iotmq.message_by_key('keys_off', 'd', 'k');
SELECT iotmq.alter_topic('keys_off', dedup_window => '1 hour');
SELECT iotmq.publish('keys_off', 'd', '5', message_key => 'k') = :first AS found;
-- without its index a key is found, too
SELECT indexrelid::regclass AS index FROM pg_index WHERE indrelid = (SELECT tableoid FROM iotmq_topic.keys_off LIMIT 1) AND indpred IS NOT NULL \gset
DROP INDEX :index;
SELECT iotmq.publish('keys_off', 'd', '6', message_key => 'k') = :first AS found;
SELECT iotmq.publish('keys_off', 'd', '7', message_key => 'l') > :first AS published;
SELECT iotmq.alter_topic('keys_off', dedup_window => '1 hour');
SELECT iotmq.publish('keys_off', 'd', '8', message_key => 'l') > :first AS found, (SELECT count(*) FROM iotmq.message_by_key('keys_off', 'd', 'l'));

-- In a table that its owner has changed; a key that his trigger gives counts.
ALTER TABLE iotmq_topic.keys_off ADD COLUMN site text DEFAULT 'here';
SELECT iotmq.publish('keys_off', 'd', '9', message_key => 'm') > :first AS published;
SELECT iotmq.publish('keys_off', 'd', '10', message_key => 'k') = :first AS found;
SELECT o[1] = :first AS found, o[2] = o[3] AS twice FROM iotmq.publish_batch('keys_off', '{d,d,d}', '{1,2,3}', message_keys => '{k,n,n}') AS o;
INSERT INTO :off (device_id, payload, message_key) VALUES ('d', '1', 'm'); \echo :SQLSTATE
CREATE FUNCTION same_key() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.message_key := 'k'; RETURN new; END $$;
CREATE TRIGGER same_key BEFORE INSERT ON iotmq_topic.keys_off FOR EACH ROW EXECUTE FUNCTION same_key();
SELECT iotmq.publish('keys_off', 'd', '11'); \echo :SQLSTATE
SELECT message_key, count(*) FROM iotmq_topic.keys_off WHERE message_key IS NOT NULL GROUP BY message_key ORDER BY message_key;
SELECT iotmq.drop_topic('keys_off');
DROP FUNCTION same_key;

-- The window is at most retention, whoever changes which.
\set VERBOSITY terse
SELECT iotmq.create_topic('keys_off', retention => '1 hour', dedup_window => '61 min'); \echo :SQLSTATE
SELECT iotmq.create_topic('keys_off', dedup_window => '0'); \echo :SQLSTATE
SELECT iotmq.create_topic('keys_off', retention => '1 hour', dedup_window => '1 hour');
SELECT iotmq.alter_topic('keys_off', retention => '59 min'); \echo :SQLSTATE
SELECT iotmq.alter_topic('keys_off', dedup_window => '61 min'); \echo :SQLSTATE
SELECT iotmq.alter_topic('keys_off', retention => '2 hours', dedup_window => '2 hours');
SELECT iotmq.alter_topic('keys_off', dedup_window => '-1 min'); \echo :SQLSTATE
SELECT retention, dedup_window FROM iotmq_internal.topic WHERE topic = 'keys_off';

-- reset: settings as create_topic has them.
SELECT iotmq.alter_topic('keys_off', retention => '96 hours', segment_interval => '2 hours', retention_policy => 'consumed', max_retention => '100 hours');
SELECT iotmq.alter_topic('keys_off', reset => '{retention}');
SELECT retention, segment_interval, retention_policy, max_retention, dedup_window FROM iotmq_internal.topic WHERE topic = 'keys_off';
SELECT iotmq.alter_topic('keys_off', reset => '{segment_interval,retention_policy,max_retention,dedup_window}');
SELECT retention, segment_interval, retention_policy, max_retention, dedup_window FROM iotmq_internal.topic WHERE topic = 'keys_off';
SELECT iotmq.alter_topic('keys_off', retention => '24 hours', max_retention => '25 hours', reset => '{segment_interval}');
SELECT retention, segment_interval FROM iotmq_internal.topic WHERE topic = 'keys_off';
SELECT iotmq.alter_topic('keys_off', reset => '{}');
\set VERBOSITY default
-- together they must make sense: 72 hours are more than max_retention
SELECT iotmq.alter_topic('keys_off', reset => '{retention}'); \echo :SQLSTATE
SELECT iotmq.alter_topic('keys_off', reset => '{retention,zones}'); \echo :SQLSTATE
SELECT iotmq.alter_topic('keys_off', reset => '{retention,NULL}'); \echo :SQLSTATE
SELECT iotmq.alter_topic('keys_off', retention => '1 day', reset => '{retention}'); \echo :SQLSTATE
SELECT iotmq.drop_topic('keys_off');

-- A row without a key is stored without the column, and as large as it was before there were keys.
CREATE EXTENSION pageinspect;
SELECT iotmq.publish('keys', 'd', '{"celsius": 71}', 'b'), iotmq.publish('keys', 'd', '{"celsius": 71}', 'b', 'tag', '1', '\x01'),
	iotmq.publish('keys', 'd', '{"celsius": 71}', 'b', message_key => 'size') \g /dev/null
CREATE TABLE before_keys (zone text, msg_offset bigint, published_at timestamptz, device_id text, tag text, payload jsonb, body bytea, properties jsonb);
INSERT INTO before_keys SELECT zone, msg_offset, published_at, device_id, tag, payload, body, properties FROM iotmq_topic.keys
WHERE zone = 'b' ORDER BY msg_offset DESC LIMIT 3;
SELECT i.t_infomask2 & 2047 AS columns, i.t_hoff, i.lp_len - b.lp_len AS more_bytes
FROM (SELECT tableoid::regclass::text AS name, (ctid::text::point)[0]::int AS page, (ctid::text::point)[1]::int AS line,
		row_number() OVER (ORDER BY msg_offset DESC) AS n
	FROM iotmq_topic.keys WHERE zone = 'b' ORDER BY msg_offset DESC LIMIT 3) AS r
CROSS JOIN LATERAL heap_page_items(get_raw_page(r.name, r.page)) AS i
JOIN heap_page_items(get_raw_page('before_keys', 0)) AS b ON b.lp = r.n
WHERE i.lp = r.line ORDER BY r.n DESC;
DROP EXTENSION pageinspect;
DROP TABLE before_keys;
SELECT iotmq.drop_topic('keys');

-- Rights: publishing with keys takes the right to publish, finding by key that to read.
SELECT iotmq.create_topic('keys_rights', '{a,b}', dedup_window => '1 hour');
SELECT iotmq.zone_table('keys_rights', 'a') AS a \gset
CREATE ROLE regress_iotmq_keys;
SELECT iotmq.grant_publish('keys_rights', 'regress_iotmq_keys', '{a}');
SET ROLE regress_iotmq_keys;
SELECT iotmq.publish('keys_rights', 'd', '1', 'a', message_key => 'k'), iotmq.publish('keys_rights', 'd', '1', 'a', message_key => 'k');
INSERT INTO :a (device_id, payload, message_key) VALUES ('d', '1', 'l');
\set VERBOSITY terse
INSERT INTO :a (device_id, payload, message_key) VALUES ('d', '1', 'k'); \echo :SQLSTATE
SELECT iotmq.publish_batch('keys_rights', '{d,d}', '{1,2}', zones => '{a,b}', message_keys => '{k,k}'); \echo :SQLSTATE
SELECT count(*) FROM iotmq.message_by_key('keys_rights', 'd', 'k'); \echo :SQLSTATE
RESET ROLE;
SELECT iotmq.drop_topic('keys_rights');
DROP ROLE regress_iotmq_keys;
