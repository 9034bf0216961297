-- What groups have of a zone, taken over by a mirror of it: here the source is another topic
-- of the same database, with the same messages.  With two databases: test/t/082_mirror_groups.pl.
-- Promise: mirrors-carry-groups
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('mirror_source');
SELECT iotmq.create_topic('mirror_target');
SELECT z.zone_id AS source FROM iotmq_internal.zone AS z JOIN iotmq_internal.topic USING (topic_id) WHERE topic = 'mirror_source' \gset
SELECT z.zone_id AS target FROM iotmq_internal.zone AS z JOIN iotmq_internal.topic USING (topic_id) WHERE topic = 'mirror_target' \gset
-- As a pull does it; all that there is was pulled, unless told otherwise.
CREATE FUNCTION pg_temp.state(everything boolean DEFAULT false) RETURNS jsonb LANGUAGE sql
	RETURN iotmq.mirror_groups('mirror_source', 'default', CASE WHEN NOT everything THEN iotmq.read_source_known(
		(SELECT z.zone_id FROM iotmq_internal.zone AS z JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = 'mirror_target' AND z.zone = 'default')) END);
CREATE FUNCTION pg_temp.apply(state jsonb, pulled_end bigint DEFAULT 1000, move boolean DEFAULT false) RETURNS void LANGUAGE sql
	RETURN iotmq.apply_source_groups(
		(SELECT z.zone_id FROM iotmq_internal.zone AS z JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = 'mirror_target' AND z.zone = 'default'),
		state, pulled_end, move);
-- What a group of a topic has, without what differs between two servers.
CREATE VIEW pg_temp.has AS
SELECT t.topic, g.consumer_group, 'position' AS what, to_jsonb(p) - '{cursor_id,stable_offset,sample_offset,sample_xid,last_lease,oldest_lease,next_expiry,next_due}'::text[] AS row
FROM iotmq_internal.cursor AS c
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.topic AS t USING (topic_id)
JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
UNION ALL
SELECT t.topic, g.consumer_group, 'waiting', to_jsonb(r) - '{cursor_id}'::text[]
FROM iotmq_internal.cursor AS c
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.topic AS t USING (topic_id)
JOIN iotmq_internal.redelivery AS r USING (cursor_id)
UNION ALL
SELECT t.topic, g.consumer_group, 'dead', to_jsonb(d) - '{cursor_id,id,published_at}'::text[]
FROM iotmq_internal.cursor AS c
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.topic AS t USING (topic_id)
JOIN iotmq_internal.dead_message AS d USING (cursor_id)
UNION ALL
SELECT t.topic, g.consumer_group, 'lease', to_jsonb(l) || jsonb_build_object('lease_id', l.lease_id & (1::bigint << 43) - 1)
FROM iotmq_internal.cursor AS c
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.topic AS t USING (topic_id)
JOIN iotmq_internal.lease AS l ON iotmq.lease_cursor(l.lease_id) = c.cursor_id
UNION ALL
SELECT t.topic, g.consumer_group, 'settings', to_jsonb(g) - '{group_id,topic_id,created_at}'::text[]
FROM iotmq_internal.consumer_group AS g
JOIN iotmq_internal.topic AS t USING (topic_id);
-- How many rows there are of each, and what one has and the other hasn't: nothing.
CREATE FUNCTION pg_temp.compare(OUT consumer_group text, OUT what text, OUT rows bigint, OUT missing jsonb, OUT too_many jsonb)
	RETURNS SETOF record LANGUAGE sql
AS $$
	SELECT consumer_group, what, count(*) FILTER (WHERE h.topic = 'mirror_target'), min(row::text) FILTER (WHERE h.topic = 'mirror_source'
			AND NOT EXISTS (SELECT FROM pg_temp.has AS o WHERE o.topic = 'mirror_target' AND (o.consumer_group, o.what, o.row) = (h.consumer_group, h.what, h.row)))::jsonb,
		min(row::text) FILTER (WHERE h.topic = 'mirror_target'
			AND NOT EXISTS (SELECT FROM pg_temp.has AS o WHERE o.topic = 'mirror_source' AND (o.consumer_group, o.what, o.row) = (h.consumer_group, h.what, h.row)))::jsonb
	FROM pg_temp.has AS h
	WHERE h.topic IN ('mirror_source', 'mirror_target')
	GROUP BY 1, 2
	ORDER BY 1, 2
$$;
SELECT count(iotmq.publish(topic, 'd' || n % 4, jsonb_build_object('n', n), tag => (ARRAY['a', 'b'])[1 + n % 2], body => '\x00ff', properties => '{"p": null}'))
FROM generate_series(1, 60) AS n, unnest('{mirror_source,mirror_target}'::text[]) AS topic;

--
-- Each kind of thing that a group has.
--
SELECT iotmq.create_group('mirror_source', 'plain', start_from => '-infinity', backoff => '{1 h, 2 h}', max_retries => 2);
SELECT iotmq.create_group('mirror_source', 'orderly', mode => 'orderly', start_from => '-infinity', backoff => '{1 h}');
SELECT iotmq.create_group('mirror_source', 'all.settings', start_from => '-infinity', tags => 'a || b', filter => '$.n > 10 && $.n < 14', invisible_for => '1 day 02:03:04.5',
	max_retries => 0, backoff => '{1 s, 1 mon, 0}', max_delay => '5 min', max_lag => 7, durable_acks => true);
SELECT iotmq.pause_group('mirror_source', 'all.settings');
SELECT iotmq.create_group('mirror_source', 'new');
-- plain: 1 and 2 acked, 3 and 4 in flight; 5 waits; 6 and 7 dead, of them 7 redriven; 8 redriven and waits
SELECT min(lease_id) AS partly FROM iotmq.consume('mirror_source', 'plain', 4, consumer => 'worker', invisible_for => '1 h') \gset
SELECT iotmq.ack(:partly, '{1,2}');
SELECT min(lease_id) AS rest FROM iotmq.consume('mirror_source', 'plain', 4) \gset
SELECT iotmq.settle(:rest, nacks => '{5}', rejects => '{6,7,8}', reasons => ARRAY['a "reason", {with} \ all, ''NULL''']);
SELECT iotmq.redrive('mirror_source', 'plain', array_agg(id)) FROM iotmq.dead_letter WHERE topic = 'mirror_source' AND msg_offset IN (7, 8);
-- orderly: 1 waits, and what is of its device behind it; 3 in flight, too
SELECT min(lease_id) AS orderly FROM iotmq.consume('mirror_source', 'orderly', 3, invisible_for => '1 h') \gset
SELECT iotmq.settle(:orderly, acks => '{2}', nacks => '{1}');
SELECT count(*) FROM iotmq.consume('mirror_source', 'orderly', 3, invisible_for => '1 h');
SELECT pg_temp.apply(pg_temp.state());
SELECT * FROM pg_temp.compare();
SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'mirror_target';
-- What is due first, and what expires first.
SELECT g.consumer_group,
	p.next_due = coalesce((SELECT min(r.due_at) FROM iotmq_internal.redelivery AS r WHERE r.cursor_id = p.cursor_id), 'infinity') AS due,
	p.next_expiry = coalesce((SELECT min(l.deadline) FROM iotmq_internal.lease AS l WHERE iotmq.lease_cursor(l.lease_id) = p.cursor_id), 'infinity') AS expires,
	p.oldest_lease <= (SELECT min(l.lease_id) FROM iotmq_internal.lease AS l WHERE iotmq.lease_cursor(l.lease_id) = p.cursor_id) AS oldest
FROM iotmq_internal.cursor_state AS p
JOIN iotmq_internal.cursor AS c USING (cursor_id)
JOIN iotmq_internal.consumer_group AS g USING (group_id)
WHERE c.zone_id = :target
ORDER BY g.consumer_group COLLATE "C";
-- Samples are the source's.
SELECT DISTINCT stable_offset, sample_offset, sample_xid FROM iotmq_internal.cursor_state JOIN iotmq_internal.cursor USING (cursor_id) WHERE zone_id = :target;
-- Once more: nothing is written.
CREATE TEMP TABLE before AS
SELECT 'redelivery' AS what, ctid::text AS at FROM iotmq_internal.redelivery
UNION ALL SELECT 'dead_message', ctid::text FROM iotmq_internal.dead_message
UNION ALL SELECT 'lease', ctid::text FROM iotmq_internal.lease
UNION ALL SELECT 'cursor_state', ctid::text FROM iotmq_internal.cursor_state
UNION ALL SELECT 'source_group', ctid::text FROM iotmq_internal.source_group
UNION ALL SELECT 'consumer_group', ctid::text FROM iotmq_internal.consumer_group;
SELECT pg_temp.apply(pg_temp.state());
SELECT pg_temp.apply(pg_temp.state());
SELECT g ->> 'consumer_group' AS consumer_group, g #>> '{waiting,rows}' AS waiting, g #>> '{letters,rows}' AS letters, g #>> '{leases,rows}' AS leases
FROM jsonb_array_elements(pg_temp.state() -> 'groups') AS g;
SELECT what, at FROM before
EXCEPT (SELECT 'redelivery', ctid::text FROM iotmq_internal.redelivery
	UNION ALL SELECT 'dead_message', ctid::text FROM iotmq_internal.dead_message
	UNION ALL SELECT 'lease', ctid::text FROM iotmq_internal.lease
	UNION ALL SELECT 'cursor_state', ctid::text FROM iotmq_internal.cursor_state
	UNION ALL SELECT 'source_group', ctid::text FROM iotmq_internal.source_group
	UNION ALL SELECT 'consumer_group', ctid::text FROM iotmq_internal.consumer_group);
-- Also with everything once more.
SELECT pg_temp.apply(pg_temp.state(true));
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;
SELECT what, at FROM before WHERE what <> 'lease'
EXCEPT (SELECT 'redelivery', ctid::text FROM iotmq_internal.redelivery
	UNION ALL SELECT 'dead_message', ctid::text FROM iotmq_internal.dead_message
	UNION ALL SELECT 'cursor_state', ctid::text FROM iotmq_internal.cursor_state
	UNION ALL SELECT 'source_group', ctid::text FROM iotmq_internal.source_group
	UNION ALL SELECT 'consumer_group', ctid::text FROM iotmq_internal.consumer_group);

--
-- It goes on at the source: each of these changes is found, and nothing else written.
--
SELECT iotmq.ack(:partly, '{3}');
SELECT pg_temp.apply(pg_temp.state());
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;
SELECT iotmq.retry_now('mirror_source', 'plain', '{5}'), iotmq.retry_now('mirror_source', 'orderly', '{1}');
SELECT pg_temp.apply(pg_temp.state());
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;
SELECT iotmq.give_up('mirror_source', 'plain', '{5}', reason => 'enough');
SELECT pg_temp.apply(pg_temp.state());
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;
-- A dead letter that is redriven, and dies again, keeps its id here, too.
SELECT id AS letter FROM iotmq.dead_letter WHERE topic = 'mirror_target' AND msg_offset = 5 \gset
SELECT iotmq.redrive('mirror_source', 'plain', array_agg(id)) FROM iotmq.dead_letter WHERE topic = 'mirror_source' AND msg_offset = 5;
SELECT pg_temp.apply(pg_temp.state());
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;
SELECT iotmq.give_up('mirror_source', 'plain', '{5}', reason => 'at last');
SELECT pg_temp.apply(pg_temp.state());
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;
SELECT id = :letter AS the_same, reason FROM iotmq.dead_letter WHERE topic = 'mirror_target' AND msg_offset = 5;
SELECT iotmq.purge_dead_letters('mirror_source', 'plain', array_agg(id)) FROM iotmq.dead_letter WHERE topic = 'mirror_source' AND msg_offset = 5;
SELECT pg_temp.apply(pg_temp.state());
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;
SELECT count(*) FROM iotmq.consume('mirror_source', 'new');
SELECT min(lease_id) AS gone FROM iotmq.consume('mirror_source', 'plain', 4) \gset
SELECT iotmq.settle(:gone, acks => '{9,10}', nacks => '{7,8}', delay => '0'), iotmq.ack(:orderly, '{3}');
SELECT new_offset FROM iotmq.seek_offset('mirror_source', 'new', 'default', 20);
SELECT iotmq.commit_offset('mirror_source', 'new', 'default', 30);
SELECT pg_temp.apply(pg_temp.state());
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;

-- What somebody has changed here is found as well.
UPDATE iotmq_internal.cursor_state SET next_offset = 1 WHERE cursor_id = (SELECT cursor_id FROM iotmq_internal.cursor JOIN iotmq_internal.consumer_group USING (group_id) WHERE zone_id = :target AND consumer_group = 'plain');
DELETE FROM iotmq_internal.redelivery WHERE cursor_id = (SELECT cursor_id FROM iotmq_internal.cursor JOIN iotmq_internal.consumer_group USING (group_id) WHERE zone_id = :target AND consumer_group = 'plain');
SELECT pg_temp.apply(pg_temp.state());
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;

--
-- Many: in buckets, of which only those that changed come.
--
SELECT cardinality(iotmq.publish_batch(topic, array_fill('many'::text, '{3000}'), array_fill('1'::jsonb, '{3000}')))
FROM unnest('{mirror_source,mirror_target}'::text[]) AS topic;
SELECT iotmq.create_group('mirror_source', 'many', backoff => '{1 h}');
SELECT new_offset FROM iotmq.seek_offset('mirror_source', 'many', 'default', 61);
SELECT min(lease_id) AS many FROM iotmq.consume('mirror_source', 'many', 3000) \gset
SELECT iotmq.nack(:many);
SELECT pg_temp.apply(pg_temp.state(), 4000);
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL OR consumer_group = 'many';
SELECT iotmq.retry_now('mirror_source', 'many', '{2000}');
SELECT g #> '{waiting,changed}' AS changed, jsonb_array_length(g #> '{waiting,hashes}') AS buckets, cardinality((g #>> '{waiting,rows,msg_offset}')::bigint[]) AS rows
FROM jsonb_array_elements(pg_temp.state() -> 'groups') AS g
WHERE g ->> 'consumer_group' = 'many';
SELECT pg_temp.apply(pg_temp.state(), 4000);
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;
-- fewer buckets
SELECT iotmq.give_up('mirror_source', 'many', array_agg(n)) FROM generate_series(61, 2900) AS n;
SELECT pg_temp.apply(pg_temp.state(), 4000);
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL OR consumer_group = 'many';
SELECT iotmq.purge_dead_letters('mirror_source', 'many');
SELECT pg_temp.apply(pg_temp.state(), 4000);
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL OR consumer_group = 'many';
SELECT iotmq.drop_group('mirror_source', 'many');
SELECT pg_temp.apply(pg_temp.state());

--
-- Settings: what the source changes, and nothing else.
--
SELECT iotmq.alter_group('mirror_target', 'all.settings', invisible_for => '7 s');
SELECT iotmq.alter_group('mirror_source', 'all.settings', tags => 'b', max_retries => 3, reset => '{filter,max_lag,backoff}', durable_acks => false);
SELECT iotmq.resume_group('mirror_source', 'all.settings');
SELECT pg_temp.apply(pg_temp.state());
SELECT row - '{backoff}'::text[] AS settings FROM pg_temp.has WHERE topic = 'mirror_target' AND consumer_group = 'all.settings' AND what = 'settings';
SELECT iotmq.alter_group('mirror_source', 'all.settings', mode => 'orderly', tags => '*', filter => '$.n > 1', max_delay => '1 s', invisible_for => '8 s');
SELECT count(*) FROM iotmq.consume('mirror_source', 'all.settings', 9);
SELECT pg_temp.apply(pg_temp.state());
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;

-- A group that is made here has no settings of the source's but what it changes; another
-- mode is the administrator's to decide.
SELECT iotmq.create_group('mirror_target', 'both', max_lag => 5);
SELECT iotmq.create_group('mirror_target', 'mine');
SELECT iotmq.create_group('mirror_source', 'both', mode => 'orderly', start_from => '-infinity', max_lag => 9);
SELECT pg_temp.apply(pg_temp.state());
SELECT iotmq.alter_group('mirror_target', 'both', mode => 'orderly');
SELECT pg_temp.apply(pg_temp.state());
SELECT max_lag FROM iotmq.group_settings WHERE topic = 'mirror_target' AND consumer_group = 'both';
SELECT * FROM pg_temp.compare() WHERE (missing IS NOT NULL OR too_many IS NOT NULL) AND what <> 'settings';

-- Dropped there: what the mirror made is dropped here, and what was made here stays.
SELECT iotmq.drop_group('mirror_source', consumer_group, force => true) FROM unnest('{both,new}'::text[]) AS consumer_group;
SELECT pg_temp.apply(pg_temp.state());
SELECT consumer_group FROM iotmq.group_settings WHERE topic = 'mirror_target' ORDER BY consumer_group COLLATE "C";
-- Another zone has it from elsewhere: it stays.
SELECT iotmq.create_group('mirror_source', 'new');
SELECT pg_temp.apply(pg_temp.state());
SELECT iotmq.add_zone('mirror_target', 'other');
SELECT iotmq.drop_group('mirror_source', 'new');
SELECT pg_temp.apply(pg_temp.state());
SELECT consumer_group FROM iotmq.group_settings WHERE topic = 'mirror_target' ORDER BY consumer_group COLLATE "C";
SELECT iotmq.drop_zone('mirror_target', 'other');
-- Both zones have it from the source: it goes with the first that says so.
SELECT iotmq.create_group('mirror_source', 'two', max_retries => 3);
SELECT iotmq.add_zone('mirror_target', 'other');
SELECT pg_temp.apply(pg_temp.state());
SELECT z.zone_id AS other FROM iotmq_internal.zone AS z JOIN iotmq_internal.topic USING (topic_id) WHERE topic = 'mirror_target' AND zone = 'other' \gset
SELECT iotmq.apply_source_groups(:other, jsonb_set(s, '{groups}', (SELECT jsonb_agg(g) FROM jsonb_array_elements(s -> 'groups') AS g WHERE g ->> 'consumer_group' = 'two')), 1, false)
FROM pg_temp.state(true) AS s;
SELECT iotmq.drop_group('mirror_source', 'two');
SELECT iotmq.apply_source_groups(:other, jsonb_set(s, '{groups}', '[]'), 1, false) FROM pg_temp.state(true) AS s;
SELECT max_retries FROM iotmq.group_settings WHERE topic = 'mirror_target' AND consumer_group = 'two';
SELECT iotmq.drop_zone('mirror_target', 'other');
SELECT pg_temp.apply(pg_temp.state());
SELECT consumer_group FROM iotmq.group_settings WHERE topic = 'mirror_target' ORDER BY consumer_group COLLATE "C";

--
-- What was not pulled yet is not passed.
--
SELECT iotmq.drop_group('mirror_target', consumer_group, force => true) FROM iotmq.group_settings WHERE topic = 'mirror_target';
SELECT min(lease_id) AS ahead FROM iotmq.consume('mirror_source', 'plain', 10, invisible_for => '1 h') \gset
SELECT iotmq.settle(:ahead, acks => '{11}', nacks => '{12,14}');
SELECT iotmq.create_group('mirror_source', 'last', start_from => '-infinity', max_retries => 0);
SELECT count(*) FROM iotmq.consume('mirror_source', 'last', 2, invisible_for => '1 h');
SELECT pg_temp.apply(pg_temp.state(), 13);
SELECT next_offset, inflight_messages, retry_messages, dead_letters FROM iotmq.consumer_lag WHERE topic = 'mirror_target' AND consumer_group = 'plain';
SELECT l.messages, r.msg_offset, l.settled IS NOT NULL AND get_bit(l.settled, r.nth) = 1 AS settled
FROM iotmq_internal.lease AS l
JOIN iotmq_internal.cursor AS c ON c.cursor_id = iotmq.lease_cursor(l.lease_id) AND c.zone_id = :target
JOIN iotmq_internal.consumer_group AS g ON g.group_id = c.group_id AND g.consumer_group = 'plain'
CROSS JOIN LATERAL iotmq.runs_messages(l.first_offset, l.last_offset, l.runs) AS r
ORDER BY l.lease_id, r.nth;
-- and nothing of it is forgotten afterwards
SELECT pg_temp.apply(pg_temp.state());
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;

--
-- A disaster: what was in flight is due, as if it had expired: what had its last attempt is dead.
--
BEGIN;
SELECT iotmq.apply_source_expire(:target), iotmq.apply_source_forget(:target);
SELECT consumer_group, next_offset, inflight_messages, retry_messages, blocked_devices, dead_letters FROM iotmq.consumer_lag WHERE topic = 'mirror_target' ORDER BY consumer_group COLLATE "C";
SELECT consumer_group, msg_offset, device_id, attempt, due_at <= now() + interval '1 min' AS due, reason, redriven
FROM iotmq.waiting_message WHERE topic = 'mirror_target' AND (msg_offset < 20 OR reason IS NOT NULL) ORDER BY consumer_group COLLATE "C", msg_offset;
SELECT consumer_group, msg_offset, attempts, reason, payload, body, properties FROM iotmq.dead_letter WHERE topic = 'mirror_target' ORDER BY consumer_group COLLATE "C", msg_offset;
SELECT redeliveries = (SELECT count(*) FROM iotmq_internal.redelivery AS r WHERE r.cursor_id = p.cursor_id) AS counted
FROM iotmq_internal.cursor_state AS p JOIN iotmq_internal.cursor AS c USING (cursor_id) WHERE c.zone_id = :target;
SELECT count(*) FROM iotmq_internal.source_group;
SELECT p.last_lease - iotmq.lease_first(p.cursor_id) - extract(epoch FROM now() - timestamptz '2026-01-01 00:00+00') * 10000 BETWEEN 35000000 AND 40000000 AS an_hour_ahead
FROM iotmq_internal.cursor_state AS p JOIN iotmq_internal.cursor AS c USING (cursor_id) WHERE c.zone_id = :target;
ROLLBACK;

--
-- A move: the cursors get the source's ids, of node 1, and the leases keep theirs.
--
CREATE FUNCTION pg_temp.of_node(state jsonb, node int) RETURNS jsonb LANGUAGE sql
	RETURN jsonb_set(state, '{groups}', (SELECT jsonb_agg(g || jsonb_build_object('cursor_id', (g ->> 'cursor_id')::int & 16383 | (node << 14))) FROM jsonb_array_elements(state -> 'groups') AS g));
CREATE FUNCTION pg_temp.failure(command text, OUT error text, OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	error := 'none';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	error := SQLSTATE || ': ' || SQLERRM;
	detail := regexp_replace(detail, '\ycursor [0-9]+', 'cursor N');
END
$$;
\x on
SELECT * FROM pg_temp.failure('SELECT pg_temp.apply(pg_temp.state(), move => true)');
\x off
SELECT pg_temp.apply(pg_temp.of_node(pg_temp.state(), 1), move => true);
SELECT DISTINCT cursor_id >> 14 AS node FROM iotmq_internal.cursor WHERE zone_id = :target;
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;
SELECT iotmq.apply_source_forget(:target);
SELECT iotmq.ack(:partly + (1::bigint << 57)), iotmq.nack(:ahead + (1::bigint << 57), '{13}');
\set VERBOSITY sqlstate
SELECT iotmq.ack(:partly + (1::bigint << 57));
\set VERBOSITY default
SELECT count(*) = 1 AS new_ones_are_higher FROM (SELECT DISTINCT lease_id FROM iotmq.consume('mirror_target', 'plain', 3)) AS l WHERE l.lease_id > :ahead + (1::bigint << 57);
SELECT min(msg_offset) FROM iotmq.consume('mirror_target', 'orderly', 10);
SELECT iotmq.redrive('mirror_target', 'plain');
SELECT iotmq.create_group('mirror_target', 'local');
SELECT cursor_id >> 14 AS node FROM iotmq_internal.cursor JOIN iotmq_internal.consumer_group USING (group_id) WHERE zone_id = :target AND consumer_group = 'local';
-- What was dropped here before goes on above its lease ids.
INSERT INTO iotmq_internal.past_cursor VALUES (1 << 15 | 77, iotmq.lease_first(1 << 15 | 78) - 2000000000);
SELECT iotmq.drop_group('mirror_target', 'plain', force => true);
SELECT pg_temp.apply(jsonb_set(s, '{groups}', (SELECT jsonb_agg(g || '{"cursor_id": 32845}') FROM jsonb_array_elements(s -> 'groups') AS g WHERE g ->> 'consumer_group' = 'plain')), move => true)
FROM pg_temp.of_node(pg_temp.state(), 1) AS s;
SELECT p.last_lease = past.last_lease AS above FROM iotmq_internal.past_cursor AS past JOIN iotmq_internal.cursor_state AS p USING (cursor_id) WHERE past.cursor_id = 32845;

--
-- There and back: a cursor that is away is nobody else's, until it comes back.
--
SELECT iotmq.create_topic('mirror_away');
SELECT iotmq.create_group('mirror_away', 'g');
SELECT z.zone_id AS away, c.cursor_id FROM iotmq_internal.cursor AS c JOIN iotmq_internal.zone AS z USING (zone_id) JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = 'mirror_away' \gset
SELECT iotmq.mirror_groups('mirror_away', 'default') AS away_state \gset
SELECT iotmq.cursor_give_away(:away);
SELECT iotmq.cursor_give_away(:away);
SELECT iotmq.drop_zone('mirror_away', 'default', force => true);
SELECT setval('iotmq_internal.cursor_number', :cursor_id - 1) > 0 AS next_would_be_that_one;
SELECT iotmq.add_zone('mirror_away', 'default');
SELECT z.zone_id AS away, c.cursor_id <> :cursor_id AS another FROM iotmq_internal.cursor AS c JOIN iotmq_internal.zone AS z USING (zone_id) JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = 'mirror_away' \gset
SELECT :'another' AS another;
-- not as somebody else's
SELECT jsonb_set(s, '{groups}', jsonb_build_array(jsonb_set(g, '{cursor_id}', to_jsonb(:cursor_id)))) AS stolen
FROM pg_temp.state(true) AS s, jsonb_array_elements(s -> 'groups') AS g
WHERE g ->> 'consumer_group' = 'orderly' \gset
SELECT error, detail FROM pg_temp.failure(format('SELECT pg_temp.apply(%L, move => true)', :'stolen'));
SELECT iotmq.apply_source_groups(:away, :'away_state', 1, true);
SELECT c.cursor_id = :cursor_id AS back FROM iotmq_internal.cursor AS c WHERE c.zone_id = :away;
SELECT count(*) FROM iotmq_internal.away_cursor;
SELECT iotmq.apply_source_groups(:away, :'away_state', 1, true);
SELECT iotmq.drop_topic('mirror_away', force => true);

--
-- A state that can't be changes nothing, whatever is wrong with it.
--
SELECT iotmq.drop_group('mirror_target', consumer_group, force => true) FROM iotmq.group_settings WHERE topic = 'mirror_target';
SELECT pg_temp.apply(pg_temp.state());
CREATE TEMP TABLE attempt (n int GENERATED ALWAYS AS IDENTITY, path text[], value jsonb);
INSERT INTO attempt (path, value) VALUES
	('{}', '[]'), ('{}', '1'), ('{version}', '2'), ('{groups}', '{}'), ('{groups}', '[1]'), ('{groups}', '[null]'), ('{earliest_offset}', '0'), ('{earliest_offset}', '"x"'),
	('{groups,0,consumer_group}', 'null'), ('{groups,0,consumer_group}', '"; DROP"'), ('{groups,0,consumer_group}', '"orderly"'),
	('{groups,0,settings}', 'null'), ('{groups,0,settings}', '[]'), ('{groups,0,settings,mode}', '"unknown"'), ('{groups,0,settings,mode}', 'null'),
	('{groups,0,settings,tags}', '["a,b"]'), ('{groups,0,settings,tags}', '[]'), ('{groups,0,settings,filter}', '"$.n >"'), ('{groups,0,settings,filter}', '"$.n"'),
	('{groups,0,settings,invisible_for}', '"-1 s"'), ('{groups,0,settings,invisible_for}', '"long"'), ('{groups,0,settings,max_retries}', '99999999999'),
	('{groups,0,settings,max_retries}', '1001'), ('{groups,0,settings,backoff}', '[]'), ('{groups,0,settings,backoff}', '["1 s", null]'),
	('{groups,0,settings,max_lag}', '-1'), ('{groups,0,settings,paused}', 'null'),
	('{groups,0,position}', 'null'), ('{groups,0,position,next_offset}', '0'), ('{groups,0,position,next_offset}', '1e30'), ('{groups,0,position,next_offset}', 'null'),
	('{groups,0,position,last_lease}', '-1'), ('{groups,0,position,last_lease}', '8796093022208'), ('{groups,0,position,delivered_total}', '-1'), ('{groups,0,position,next_redriven}', '-1'),
	('{groups,0,position,last_consumed_at}', '"infinity"'), ('{groups,0,position,last_consumed_at}', '"yesterday noon"'),
	('{groups,0,waiting}', 'null'), ('{groups,0,waiting,hashes}', '[]'), ('{groups,0,waiting,hashes}', '[1,2,3]'), ('{groups,0,waiting,changed}', '[1]'), ('{groups,0,waiting,changed}', '["x"]'),
	('{groups,0,waiting,changed}', '[-1]'), ('{groups,0,waiting,rows,msg_offset}', '"x"'), ('{groups,0,waiting,rows,redriven}', 'null'), ('{groups,1,waiting,rows,device_id}', 'null'),
	('{groups,0,letters}', 'null'), ('{groups,0,letters,changed}', '[7]'), ('{groups,0,leases,rows,runs}', '"{\"\\\\xffffff\",NULL}"'), ('{groups,1,leases,rows,devices}', 'null');
-- the first of a column: 4 is in flight, and the group stands at 19
CREATE TEMP TABLE attempt_first (n int GENERATED ALWAYS AS IDENTITY, path text[], element text);
INSERT INTO attempt_first (path, element) VALUES
	('{groups,0,waiting,rows,msg_offset}', '0'), ('{groups,0,waiting,rows,msg_offset}', '8'), ('{groups,0,waiting,rows,msg_offset}', '19'), ('{groups,0,waiting,rows,msg_offset}', '999'),
	('{groups,0,waiting,rows,msg_offset}', '4'), ('{groups,0,waiting,rows,attempt}', '0'), ('{groups,0,waiting,rows,due_at}', 'infinity'), ('{groups,0,waiting,rows,not_before}', 'infinity'),
	('{groups,0,waiting,rows,redriven}', 'NULL'), ('{groups,0,waiting,rows,batch_limit}', '0'), ('{groups,0,waiting,rows,device_id}', 'd'), ('{groups,0,waiting,rows,reason}', repeat('x', 4097)),
	('{groups,0,waiting,rows,deferred}', 'maybe'), ('{groups,1,waiting,rows,device_id}', 'NULL'), ('{groups,1,waiting,rows,device_id}', repeat('x', 256)), ('{groups,1,waiting,rows,due_at}', '-infinity'),
	('{groups,0,letters,rows,msg_offset}', '0'), ('{groups,0,letters,rows,msg_offset}', '999999'), ('{groups,0,letters,rows,attempts}', '-1'), ('{groups,0,letters,rows,dead_at}', 'infinity'),
	('{groups,0,letters,rows,redriven}', 'NULL'), ('{groups,0,letters,rows,reason}', repeat('x', 4097)),
	('{groups,0,leases,rows,number}', '-1'), ('{groups,0,leases,rows,number}', '9000000000000'), ('{groups,0,leases,rows,number}', 'NULL'),
	('{groups,0,leases,rows,first_offset}', '0'), ('{groups,0,leases,rows,first_offset}', 'NULL'), ('{groups,0,leases,rows,last_offset}', '1'), ('{groups,0,leases,rows,last_offset}', '99999'),
	('{groups,0,leases,rows,leased_at}', 'infinity'), ('{groups,0,leases,rows,deadline}', 'infinity'), ('{groups,0,leases,rows,messages}', '0'), ('{groups,0,leases,rows,messages}', '3'),
	('{groups,0,leases,rows,settled}', E'"\\\\x"'), ('{groups,0,leases,rows,settled}', E'"\\\\x0000"'), ('{groups,0,leases,rows,batch_limit}', '-1'),
	('{groups,0,leases,rows,devices}', '"{d,d,d,d}"'), ('{groups,1,leases,rows,devices}', '"{d,d}"'), ('{groups,1,leases,rows,devices}', '"{{d,d,d}}"'), ('{groups,1,leases,rows,devices}', '"{d,NULL,d}"');
CREATE FUNCTION pg_temp.attempt(state jsonb, path text[], value jsonb, OUT error text, OUT detail text) LANGUAGE plpgsql AS $$
BEGIN
	IF path <> '{}' AND state #> path IS NULL THEN
		RAISE EXCEPTION 'no such path: %', path;
	END IF;
	PERFORM pg_temp.apply(CASE path WHEN '{}' THEN value ELSE jsonb_set(state, path, value) END, 3061);
	error := 'none';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	error := SQLSTATE;
	detail := left(regexp_replace(detail, '\. Failing row.*|\. Key .*', ''), 140);
END
$$;
SELECT jsonb_set(s, '{groups}', (SELECT jsonb_agg(g ORDER BY g ->> 'consumer_group' <> 'plain', g ->> 'consumer_group') FROM jsonb_array_elements(s -> 'groups') AS g
	WHERE g ->> 'consumer_group' IN ('plain', 'orderly'))) AS state
FROM pg_temp.state(true) AS s \gset
SELECT g ->> 'consumer_group', g #>> '{waiting,rows,msg_offset}' AS waiting, g #>> '{letters,rows,msg_offset}' AS letters, g #>> '{leases,rows,first_offset}' AS leases
FROM jsonb_array_elements(:'state'::jsonb -> 'groups') AS g;
SELECT a.n, a.path, left(a.value::text, 40) AS value, r.* FROM attempt AS a CROSS JOIN LATERAL pg_temp.attempt(:'state', a.path, a.value) AS r ORDER BY a.n;
SELECT a.n, a.path, left(a.element, 40) AS element, r.*
FROM attempt_first AS a
CROSS JOIN LATERAL (SELECT to_jsonb(regexp_replace(:'state'::jsonb #>> a.path, E'^\\{("([^"\\\\]|\\\\.)*"|[^,}]*)', '{' || regexp_replace(a.element, E'\\\\', E'\\\\\\\\', 'g'))) AS value) AS v
CROSS JOIN LATERAL pg_temp.attempt(:'state', a.path, v.value) AS r
ORDER BY a.n;
-- two leases, of which one was given out with the other's id; both have the same message
SELECT r.error, r.detail FROM pg_temp.attempt(:'state', '{groups,0,leases,rows,number}', to_jsonb(regexp_replace(:'state'::jsonb #>> '{groups,0,leases,rows,number}', E'\\{([0-9]+),[0-9]+', E'{\\1,\\1'))) AS r;
SELECT r.error, r.detail FROM pg_temp.attempt(:'state', '{groups,0,leases,rows}', (
	SELECT jsonb_object_agg(c.key, regexp_replace(c.value, E'^\\{("(?:[^"\\\\]|\\\\.)*"|[^,}]*),("(?:[^"\\\\]|\\\\.)*"|[^,}]*)', CASE c.key WHEN 'number' THEN E'{\\1,\\2' ELSE E'{\\1,\\1' END))
	FROM jsonb_each_text(:'state'::jsonb #> '{groups,0,leases,rows}') AS c)) AS r;
-- In a move, too: numbers of no cursor, of this node, and of others.
SELECT iotmq.create_topic('mirror_other');
SELECT iotmq.create_group('mirror_other', 'g');
SELECT c.cursor_id AS other FROM iotmq_internal.cursor AS c JOIN iotmq_internal.zone AS z USING (zone_id) JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = 'mirror_other' \gset
SELECT CASE c.id WHEN :'other' THEN 'of another topic' ELSE c.id END AS cursor_id, f.error, f.detail
FROM unnest(array_append('{0,16384,1048577,"null",16383,"\"x\""}', :'other')) WITH ORDINALITY AS c (id, n)
CROSS JOIN LATERAL pg_temp.failure(format('SELECT pg_temp.apply(%L, move => true)', jsonb_set(:'state', '{groups,0,cursor_id}', c.id::jsonb))) AS f
ORDER BY c.n;
\set VERBOSITY terse
SELECT iotmq.set_node(1);
INSERT INTO iotmq_internal.cursor SELECT 16384 + 5, -1, -1;
SELECT detail FROM pg_temp.failure(format('SELECT pg_temp.apply(%L, move => true)', jsonb_set(:'state', '{groups,0,cursor_id}', '16389')));
DELETE FROM iotmq_internal.cursor WHERE cursor_id = 16389;
SELECT iotmq.apply_source_groups(NULL, '{}', 1, false);
SELECT iotmq.apply_source_groups(:target, NULL, 1, false);
SELECT iotmq.apply_source_groups(:target, '{}', NULL, false);
SELECT iotmq.apply_source_groups(:target, '{}', 1, NULL);
SELECT iotmq.apply_source_groups(-1, '{}', 1, false);
\set VERBOSITY default
SELECT iotmq.drop_topic('mirror_other', force => true);
-- Nothing of all that came in.
SELECT * FROM pg_temp.compare() WHERE missing IS NOT NULL OR too_many IS NOT NULL;

-- The connection that the content of dead letters comes over has a name that is one.
SELECT iotmq.read_source_groups('host=elsewhere', 'mirror_source', 'default', :target);

SELECT iotmq.drop_topic(topic, force => true) FROM unnest('{mirror_source,mirror_target}'::text[]) AS topic;
SELECT count(*) FROM iotmq_internal.source_group;
DELETE FROM iotmq_internal.past_cursor WHERE cursor_id = 32845;
