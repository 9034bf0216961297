-- preview_group: what tags and a filter would take and leave of the last messages.
-- Promise: figures-agree
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_iotmq_preview_reader, regress_iotmq_preview_consumer, regress_iotmq_preview_other, regress_iotmq_preview_publisher;
CREATE ROLE regress_iotmq_preview_reader;
CREATE ROLE regress_iotmq_preview_consumer;
CREATE ROLE regress_iotmq_preview_other;
CREATE ROLE regress_iotmq_preview_publisher;
SELECT iotmq.create_topic('previewing', '{a,b,c}', segment_interval => '1 h');
SELECT iotmq.create_group('previewing', 'g', tags => 'x || y', filter => '$.n > 4', start_from => '-infinity');
SELECT iotmq.create_group('previewing', 'all', start_from => '-infinity');

-- nothing there yet: both rows all the same
SELECT p.* FROM iotmq.preview_group('previewing', 'g') AS p;

-- 1 to 12 in turn in zones a and b, in this order; every second has a tag
SELECT count(iotmq.publish('previewing', 'd' || n % 3, jsonb_build_object('n', n), CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END,
	CASE n % 4 WHEN 0 THEN 'x' WHEN 2 THEN 'y' END)) FROM generate_series(1, 12) AS n;
SELECT iotmq.publish('previewing', 'bodied', NULL, 'c', 'x', body => '\x01');

-- the group's own; other tags, another filter, both
SELECT wanted, messages, example - 'published_at' AS example FROM iotmq.preview_group('previewing', 'g');
SELECT wanted, messages, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'g', tags => 'x');
SELECT wanted, messages, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'g', tags => '*');
SELECT wanted, messages, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'g', filter => '$.n <= 4');
SELECT wanted, messages, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'g', '*', 'exists($.n)');
SELECT wanted, messages, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'all', 'z');
-- it says what the group gets: the filter as it is delivered by
SELECT count(*) FROM iotmq.consume('previewing', 'g', zone => 'a');
-- when they were published, as JSON has it
SELECT (SELECT m.published_at FROM iotmq_topic.previewing AS m WHERE m.zone = p.example ->> 'zone' AND m.msg_offset = (p.example ->> 'msg_offset')::bigint)
	= (p.example ->> 'published_at')::timestamptz AS same
FROM iotmq.preview_group('previewing', 'all') AS p
WHERE wanted;

-- only the last ones, of all zones together
SELECT messages, wanted, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'all', messages => 1);
SELECT messages, wanted, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'all', filter => '$.n > 9', messages => 5);
SELECT messages, wanted, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'all', filter => '$.n < 9', messages => 6);
SELECT sum(messages) FROM iotmq.preview_group('previewing', 'all', messages => 13);
SELECT sum(messages) FROM iotmq.preview_group('previewing', 'all', messages => 10000);

-- across segments: those of earlier ones come last, sealed and then dropped
SELECT iotmq.segment_make_until(z.zone_id, now() - interval '3 h', now() - interval '3 h' + interval '1 us') > 0 AS made
FROM iotmq_internal.zone AS z
WHERE z.table_name = iotmq.zone_table('previewing', 'c');
SELECT iotmq.zone_table('previewing', 'c') AS zone_table \gset
INSERT INTO :zone_table (device_id, payload, published_at) VALUES ('d', '{"n": 101}', now() - interval '3 h'), ('d', '{"n": 102}', now() - interval '3 h');
SELECT messages, wanted, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'all', filter => '$.n > 100', messages => 13);
SELECT messages, wanted, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'all', filter => '$.n > 100', messages => 14);
CALL iotmq.run_maintenance();
CALL iotmq.run_maintenance();
CALL iotmq.run_maintenance();
SELECT messages, wanted, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'all', filter => '$.n > 100');
SELECT iotmq.alter_topic('previewing', retention => '2 h');
CALL iotmq.run_maintenance();
SELECT messages, wanted, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'all', filter => '$.n > 100');

-- what is rolled back, deleted by hand, or not committed is no message
BEGIN;
SELECT iotmq.publish('previewing', 'd', '{"n": 13}', 'a');
SELECT sum(messages) FROM iotmq.preview_group('previewing', 'all');
ROLLBACK;
DELETE FROM :zone_table WHERE device_id = 'bodied';
SELECT iotmq.publish('previewing', 'd', '{"n": 14}', 'a');
SELECT messages, wanted, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'all');

-- a payload that the filter can't be applied to is left, and a scalar can be an example
SELECT iotmq.publish('previewing', 'd', '"text"', 'a');
SELECT messages, wanted, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'all', filter => '$.n.double() > 0');
SELECT iotmq.publish('previewing', 'd', '[1, {"a": []}]', 'a');
SELECT messages, wanted, example -> 'payload' AS payload FROM iotmq.preview_group('previewing', 'all', filter => '$[0] == 1');
-- nothing of it moves or changes the group
SELECT next_offset, inflight_messages FROM iotmq.consumer_lag WHERE topic = 'previewing' AND consumer_group = 'all' ORDER BY zone;
SELECT tags, filter FROM iotmq.group_settings WHERE topic = 'previewing' AND consumer_group = 'g';

-- errors
SELECT iotmq.preview_group('previewing', 'nobody'); \echo :SQLSTATE
SELECT iotmq.preview_group('nothing', 'g'); \echo :SQLSTATE
SELECT iotmq.preview_group('previewing', NULL); \echo :SQLSTATE
SELECT iotmq.preview_group('previewing', 'g', messages => NULL); \echo :SQLSTATE
SELECT iotmq.preview_group('previewing', 'g', messages => 0); \echo :SQLSTATE
SELECT iotmq.preview_group('previewing', 'g', messages => 10001); \echo :SQLSTATE
SELECT iotmq.preview_group('previewing', 'g', filter => '$.n'); \echo :SQLSTATE
SELECT iotmq.preview_group('previewing', 'g', filter => '$.n > $limit'); \echo :SQLSTATE
SELECT iotmq.preview_group('previewing', 'g', tags => 'x, y'); \echo :SQLSTATE

-- Rights as of fetch: who may read the topic; who may consume as the group, from its position on.
SELECT iotmq.grant_read('previewing', 'regress_iotmq_preview_reader');
SELECT iotmq.grant_consume('previewing', 'g', 'regress_iotmq_preview_consumer');
SELECT iotmq.grant_consume('previewing', 'all', 'regress_iotmq_preview_other');
SELECT iotmq.grant_publish('previewing', 'regress_iotmq_preview_publisher');
SELECT zone, iotmq.commit_offset('previewing', 'g', zone, CASE zone WHEN 'a' THEN 6 ELSE end_offset END)
FROM iotmq.topic_stats
WHERE topic = 'previewing'
ORDER BY zone;
SET ROLE regress_iotmq_preview_reader;
SELECT sum(messages) FROM iotmq.preview_group('previewing', 'g');
SET ROLE regress_iotmq_preview_consumer;
SELECT messages, wanted, example -> 'msg_offset' AS msg_offset FROM iotmq.preview_group('previewing', 'g');
SELECT iotmq.preview_group('previewing', 'all'); \echo :SQLSTATE
-- a reader of one zone sees that one
RESET ROLE;
SELECT iotmq.grant_read('previewing', 'regress_iotmq_preview_publisher', '{b}');
SET ROLE regress_iotmq_preview_publisher;
SELECT messages, wanted, example -> 'zone' AS zone FROM iotmq.preview_group('previewing', 'g');
RESET ROLE;
SELECT iotmq.revoke_read('previewing', 'regress_iotmq_preview_publisher', '{b}');
SET ROLE regress_iotmq_preview_publisher;
SELECT iotmq.preview_group('previewing', 'g'); \echo :SQLSTATE
RESET ROLE;
BEGIN READ ONLY;
SELECT iotmq.preview_group('previewing', 'g'); \echo :SQLSTATE
ROLLBACK;

SELECT iotmq.drop_topic('previewing', force => true);
DROP ROLE regress_iotmq_preview_reader, regress_iotmq_preview_consumer, regress_iotmq_preview_other, regress_iotmq_preview_publisher;
