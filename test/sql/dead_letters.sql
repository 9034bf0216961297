-- Dead letters: their content, redrive to their group alone, purge; with and without the original in the log.
-- Promise: dead-letter-not-lost
\set VERBOSITY sqlstate
SELECT iotmq.create_topic('dead_letters', '{a,b}');
SELECT iotmq.create_group('dead_letters', 'readers', max_retries => 2, backoff => '{0}');
SELECT iotmq.create_group('dead_letters', 'others');
CREATE VIEW dead_letters_lag AS
SELECT consumer_group, zone, ready_messages, inflight_messages, retry_messages, dead_letters, iotmq.count_lag(topic, consumer_group)
FROM iotmq.consumer_lag
WHERE topic = 'dead_letters';
-- Consumes all there is and says of it what the verdict is: 'ack', 'nack' or 'reject'.
CREATE FUNCTION dead_letters_settle(consumer_group text, verdict text) RETURNS TABLE (zone text, msg_offset bigint, attempt int)
    LANGUAGE plpgsql AS $$
DECLARE
    batch iotmq.delivery[];
BEGIN
    FOR i IN 1..100 LOOP
        SELECT array_agg(d) INTO batch FROM iotmq.consume('dead_letters', consumer_group) AS d;
        EXIT WHEN batch IS NULL;
        CASE verdict
            WHEN 'ack' THEN PERFORM iotmq.ack(batch[1].lease_id);
            WHEN 'nack' THEN PERFORM iotmq.nack(batch[1].lease_id, reason => 'nacked');
            WHEN 'reject' THEN PERFORM iotmq.reject(batch[1].lease_id, reason => 'rejected');
        END CASE;
        RETURN QUERY SELECT d.zone, d.msg_offset, d.attempt FROM unnest(batch) AS d;
    END LOOP;
END
$$;

-- reject: a dead letter at the first attempt, with everything that was published, and what the group said of it.
SELECT iotmq.publish('dead_letters', 'd1', '{"n": 1}', 'a', 'alarm', '{"k": "v"}', '\x00ff'),
       iotmq.publish('dead_letters', 'd2', NULL, 'a', body => '\x'),
       iotmq.publish('dead_letters', $$it's "d3"$$, 'null', 'a', 'T', 'null');
SELECT min(lease_id) AS lease FROM iotmq.consume('dead_letters', 'readers') \gset
SELECT clock_timestamp() AS before \gset
SELECT iotmq.reject(:lease, '{1}', 'it''s broken');
SELECT iotmq.reject(:lease, '{3,2}');
SELECT topic, consumer_group, zone, msg_offset, device_id, tag, payload, body, properties, attempts, reason FROM iotmq.dead_letter WHERE topic = 'dead_letters' ORDER BY msg_offset;
SELECT d.published_at = m.published_at AS same_time, d.dead_at BETWEEN :'before' AND clock_timestamp() AS dead_now
FROM iotmq.dead_letter AS d
JOIN iotmq_topic.dead_letters AS m USING (zone, msg_offset)
WHERE d.topic = 'dead_letters';
SELECT count(DISTINCT id) FROM iotmq.dead_letter WHERE topic = 'dead_letters';
-- the group has settled them, the other one knows nothing of it
SELECT * FROM dead_letters_lag ORDER BY consumer_group, zone;
SELECT consumer_group, dead_letters FROM iotmq.group_lag WHERE topic = 'dead_letters' ORDER BY consumer_group;
SELECT count(*) FROM iotmq.consume('dead_letters', 'readers');
SELECT count(*) FROM dead_letters_settle('others', 'ack');

-- Dry run, then some by their ids: ids of no dead letter, of another group's, and repeated ones don't count.
SELECT iotmq.publish('dead_letters', 'd1', '1', 'b');
SELECT * FROM dead_letters_settle('others', 'reject');
SELECT array_agg(id ORDER BY msg_offset) AS ids FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'readers' \gset
SELECT id AS other FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'others' \gset
SELECT count(*) FROM dead_letters_settle('readers', 'ack');
SELECT iotmq.redrive('dead_letters', 'readers', dry_run => true) AS whole,
       iotmq.redrive('dead_letters', 'readers', max_messages => 2, dry_run => true) AS two,
       iotmq.redrive('dead_letters', 'readers', max_messages => 100, dry_run => true) AS hundred,
       iotmq.redrive('dead_letters', 'readers', :'ids', 2, true) AS two_of_three,
       iotmq.redrive('dead_letters', 'readers', ARRAY[:other, 0, -1, 9223372036854775807], dry_run => true) AS none;
SELECT iotmq.redrive('dead_letters', 'readers', '{}') AS no_ids, iotmq.redrive('dead_letters', 'readers', max_messages => 0) AS no_messages,
       iotmq.redrive('dead_letters', 'readers', ARRAY[:other]) AS not_its_own;
SELECT * FROM dead_letters_lag ORDER BY consumer_group, zone;
SELECT count(*) FROM iotmq.consume('dead_letters', 'readers');
SELECT iotmq.redrive('dead_letters', 'readers', (:'ids'::bigint[])[2:2] || (:'ids'::bigint[])[2:2] || ARRAY[:other, 0]);
SELECT msg_offset FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'readers' ORDER BY msg_offset;
SELECT * FROM dead_letters_lag WHERE zone = 'a' ORDER BY consumer_group;

-- It comes to that group alone, as attempt 1, with its content; no second redrive and no purge reaches it on its way.
SELECT iotmq.redrive('dead_letters', 'readers', (:'ids'::bigint[])[2:2]) AS again, iotmq.purge_dead_letters('dead_letters', 'readers', (:'ids'::bigint[])[2:2]) AS purged;
SELECT zone, msg_offset, device_id, tag, payload, body, properties, attempt FROM iotmq.consume('dead_letters', 'readers');
SELECT iotmq.redrive('dead_letters', 'readers', (:'ids'::bigint[])[2:2]) AS again, iotmq.purge_dead_letters('dead_letters', 'readers', (:'ids'::bigint[])[2:2]) AS purged;
SELECT count(*) FROM iotmq.consume('dead_letters', 'others');
-- acknowledged it is gone for good
SELECT lease_id AS lease FROM iotmq.in_flight WHERE topic = 'dead_letters' \gset
SELECT iotmq.ack(:lease);
SELECT * FROM dead_letters_lag WHERE zone = 'a' ORDER BY consumer_group;
SELECT iotmq.redrive('dead_letters', 'readers', (:'ids'::bigint[])[2:2]) AS again;
SELECT count(*) FROM iotmq_internal.dead_message;

-- By count, the oldest first. All attempts are there again; then it is dead again, once.
SELECT iotmq.redrive('dead_letters', 'readers', max_messages => 1);
SELECT * FROM dead_letters_settle('readers', 'nack');
SELECT msg_offset, attempts, reason, id = ANY (:'ids') AS same_id FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'readers' ORDER BY msg_offset;
SELECT iotmq.redrive('dead_letters', 'readers');
SELECT * FROM dead_letters_settle('readers', 'reject');
SELECT msg_offset, attempts, reason, id = ANY (:'ids') AS same_id FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'readers' ORDER BY msg_offset;
-- an expiry counts for a redriven one like for any other
SELECT iotmq.redrive('dead_letters', 'readers', (:'ids'::bigint[])[1:1]);
SELECT msg_offset, attempt FROM iotmq.consume('dead_letters', 'readers', invisible_for => '1 ms');
SELECT pg_sleep(0.01);
SELECT msg_offset, attempt FROM iotmq.consume('dead_letters', 'readers', invisible_for => '1 ms');
SELECT pg_sleep(0.01);
SELECT msg_offset, attempt FROM iotmq.consume('dead_letters', 'readers', invisible_for => '1 ms');
SELECT pg_sleep(0.01);
SELECT count(*) FROM iotmq.consume('dead_letters', 'readers');
SELECT msg_offset, attempts, reason FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'readers' ORDER BY msg_offset;

-- With others in one lease, settled in parts; undone with its transaction.
SELECT count(iotmq.publish('dead_letters', 'd' || n, to_jsonb(n), 'a')) FROM generate_series(4, 6) AS n;
BEGIN;
SELECT iotmq.redrive('dead_letters', 'readers');
SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'readers';
ROLLBACK;
SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'readers';
SELECT iotmq.redrive('dead_letters', 'readers');
SELECT min(lease_id) AS lease, array_agg(msg_offset) AS offsets, array_agg(attempt) AS attempts FROM iotmq.consume('dead_letters', 'readers') \gset
\echo :offsets :attempts
SELECT iotmq.ack(:lease, '{1,4}'), iotmq.nack(:lease, '{5}'), iotmq.reject(:lease, '{6}', 'new'), iotmq.nack(:lease, '{3}');
SELECT * FROM dead_letters_settle('readers', 'ack');
SELECT msg_offset, attempts, reason FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'readers';
SELECT count(*) FROM iotmq.in_flight WHERE topic = 'dead_letters';
SELECT * FROM dead_letters_lag WHERE zone = 'a' ORDER BY consumer_group;

-- purge: by ids, by age, by both, all; of that group alone.
SELECT count(iotmq.publish('dead_letters', 'd' || n, to_jsonb(n), 'b')) FROM generate_series(2, 6) AS n;
SELECT count(*) FROM dead_letters_settle('readers', 'reject');
SELECT count(*) FROM dead_letters_settle('others', 'reject');
SELECT array_agg(id ORDER BY msg_offset) AS ids FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'readers' AND zone = 'b' \gset
SELECT id AS other FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'others' LIMIT 1 \gset
UPDATE iotmq_internal.dead_message SET dead_at = dead_at - interval '1 day' WHERE id = (:'ids'::bigint[])[2];
SELECT iotmq.purge_dead_letters('dead_letters', 'readers', ARRAY[:other, 0]) AS not_its_own,
       iotmq.purge_dead_letters('dead_letters', 'readers', '{}') AS no_ids,
       iotmq.purge_dead_letters('dead_letters', 'readers', older_than => '25 hours') AS too_old,
       iotmq.purge_dead_letters('dead_letters', 'readers', (:'ids'::bigint[])[3:4], '23 hours') AS neither;
SELECT iotmq.purge_dead_letters('dead_letters', 'readers', (:'ids'::bigint[])[1:1]) AS by_id;
SELECT iotmq.purge_dead_letters('dead_letters', 'readers', older_than => '23 hours') AS by_age;
SELECT zone, msg_offset FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'readers' ORDER BY zone, msg_offset;
SELECT iotmq.redrive('dead_letters', 'readers', :'ids') AS redriven;
SELECT iotmq.purge_dead_letters('dead_letters', 'readers') AS rest, iotmq.purge_dead_letters('dead_letters', 'readers') AS nothing;
SELECT consumer_group, count(*) FROM iotmq.dead_letter WHERE topic = 'dead_letters' GROUP BY consumer_group;
SELECT * FROM dead_letters_settle('readers', 'ack');

-- Bad input.
SELECT iotmq.redrive('dead_letters', 'nobody');
SELECT iotmq.redrive('nothing', 'readers');
SELECT iotmq.redrive(NULL, 'readers');
SELECT iotmq.redrive('dead_letters', NULL);
SELECT iotmq.redrive('dead_letters', 'readers', dry_run => NULL);
SELECT iotmq.redrive('dead_letters', 'readers', max_messages => -1);
SELECT iotmq.purge_dead_letters('dead_letters', 'nobody');
SELECT iotmq.purge_dead_letters('nothing', 'readers');
SELECT iotmq.purge_dead_letters(NULL, 'readers');
SELECT iotmq.purge_dead_letters('dead_letters', NULL);
SELECT iotmq.purge_dead_letters('dead_letters', 'readers', older_than => '-1 s');
SELECT iotmq.redrive('dead_letters', 'readers', '{NULL}'), iotmq.purge_dead_letters('dead_letters', 'readers', '{NULL}');
SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'dead_letters';

-- Its own copy: the log may have dropped the original, of any size, and the letter lives through a second life and death.
SELECT iotmq.drop_group('dead_letters', 'others', force => true);
SELECT iotmq.publish('dead_letters', 'd1', (SELECT jsonb_agg(md5(n::text)) FROM generate_series(1, 20000) AS n), 'a', 'large', '{"k": "v"}', (SELECT string_agg(sha512(n::text::bytea), '') FROM generate_series(1, 5000) AS n)),
       iotmq.publish('dead_letters', 'd2', '"small"', 'a'),
       iotmq.publish('dead_letters', 'd3', '"retried"', 'a');
SELECT min(lease_id) AS lease FROM iotmq.consume('dead_letters', 'readers') \gset
SELECT iotmq.reject(:lease, '{7,8}', 'first death'), iotmq.nack(:lease, '{9}', '0');
CREATE TABLE dead_letters_content AS
SELECT zone, msg_offset, device_id, tag, payload, body, properties, published_at FROM iotmq_topic.dead_letters WHERE zone = 'a' AND msg_offset IN (7, 8);
DELETE FROM iotmq_topic.dead_letters;
VACUUM iotmq_topic.dead_letters;
SELECT d.msg_offset, (d.zone, d.device_id, d.tag, d.payload, d.body, d.properties, d.published_at) IS NOT DISTINCT FROM (c.zone, c.device_id, c.tag, c.payload, c.body, c.properties, c.published_at) AS kept
FROM iotmq.dead_letter AS d
JOIN dead_letters_content AS c USING (msg_offset)
WHERE d.topic = 'dead_letters'
ORDER BY d.msg_offset;
SELECT iotmq.redrive('dead_letters', 'readers');
CREATE TABLE dead_letters_delivery AS SELECT * FROM iotmq.consume('dead_letters', 'readers', invisible_for => '1 ms');
SELECT d.msg_offset, d.attempt, (d.zone, d.device_id, d.tag, d.payload, d.body, d.properties, d.published_at) IS NOT DISTINCT FROM (c.zone, c.device_id, c.tag, c.payload, c.body, c.properties, c.published_at) AS kept
FROM dead_letters_delivery AS d
JOIN dead_letters_content AS c USING (msg_offset)
ORDER BY d.msg_offset;
-- the one that waited for a retry when its segment went is lost unread, and nothing else
SELECT msg_offset FROM dead_letters_delivery WHERE msg_offset = 9;
SELECT expired_unread, inflight_messages, retry_messages FROM iotmq.consumer_lag WHERE topic = 'dead_letters' AND zone = 'a';
SELECT pg_sleep(0.01);
SELECT * FROM dead_letters_settle('readers', 'nack');
SELECT d.msg_offset, d.attempts, d.reason, (d.zone, d.device_id, d.tag, d.payload, d.body, d.properties, d.published_at) IS NOT DISTINCT FROM (c.zone, c.device_id, c.tag, c.payload, c.body, c.properties, c.published_at) AS kept
FROM iotmq.dead_letter AS d
JOIN dead_letters_content AS c USING (msg_offset)
WHERE d.topic = 'dead_letters'
ORDER BY d.msg_offset;
SELECT iotmq.redrive('dead_letters', 'readers');
SELECT * FROM dead_letters_settle('readers', 'ack');
SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'dead_letters';

-- What waits and was dropped from the log hides neither what is new nor what else waits.
SELECT iotmq.publish('dead_letters', 'd1', '"old"', 'a');
SELECT msg_offset, attempt FROM iotmq.consume('dead_letters', 'readers', invisible_for => '1 ms');
SELECT pg_sleep(0.01);
DELETE FROM iotmq_topic.dead_letters;
SELECT iotmq.publish('dead_letters', 'd1', '"new"', 'a');
SELECT payload, attempt FROM iotmq.consume('dead_letters', 'readers');
SELECT iotmq.publish('dead_letters', 'd1', '"letter"', 'a');
SELECT lease_id AS lease FROM iotmq.consume('dead_letters', 'readers') \gset
SELECT iotmq.reject(:lease);
SELECT iotmq.publish('dead_letters', 'd1', '"old"', 'a');
SELECT iotmq.alter_group('dead_letters', 'readers', max_retries => 1);
SELECT lease_id AS lease FROM iotmq.consume('dead_letters', 'readers') \gset
SELECT iotmq.nack(:lease);
DELETE FROM iotmq_topic.dead_letters;
SELECT iotmq.redrive('dead_letters', 'readers');
SELECT payload, attempt FROM iotmq.consume('dead_letters', 'readers');
SELECT count(*) FROM iotmq.consume('dead_letters', 'readers');
SELECT zone, lag_messages, inflight_messages, retry_messages, expired_unread FROM iotmq.consumer_lag WHERE topic = 'dead_letters' ORDER BY zone;

-- Dead letters go with their group.
SELECT iotmq.publish('dead_letters', 'd1', '1', 'b');
SELECT count(*) FROM dead_letters_settle('readers', 'reject');
SELECT iotmq.drop_group('dead_letters', 'readers', force => true);
SELECT iotmq.create_group('dead_letters', 'readers');
SELECT iotmq.redrive('dead_letters', 'readers');
SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'dead_letters';
SELECT count(*) FROM iotmq_internal.dead_message;

-- After a seek back, what is redriven may come from the log as well: each lease is in order all the same, and names each message once.
SELECT iotmq.create_group('dead_letters', 'seekers');
SELECT count(iotmq.publish('dead_letters', 'd' || n, to_jsonb(n), 'b')) FROM generate_series(1, 60) AS n;
SELECT max(msg_offset) AS first FROM iotmq_topic.dead_letters WHERE zone = 'b' AND payload = '1' \gset
SELECT min(lease_id) AS lease FROM iotmq.consume('dead_letters', 'seekers', 100) \gset
SELECT iotmq.reject(:lease, ARRAY[:first + 56, :first + 57, :first + 58]), iotmq.ack(:lease);
SELECT new_offset = :first AS back FROM iotmq.seek_offset('dead_letters', 'seekers', 'b', :first);
CREATE TABLE dead_letters_seen (n int, msg_offset bigint, acked int);
CREATE FUNCTION dead_letters_look() RETURNS TABLE (in_order boolean, each_acked boolean, messages bigint, more_than_once boolean) LANGUAGE plpgsql AS $$
DECLARE
    batch iotmq.delivery[];
BEGIN
    FOR i IN 1..100 LOOP
        SELECT array_agg(d) INTO batch FROM iotmq.consume('dead_letters', 'seekers', 40) AS d;
        EXIT WHEN batch IS NULL;
        FOR j IN 1..cardinality(batch) LOOP
            INSERT INTO dead_letters_seen VALUES (i, batch[j].msg_offset, iotmq.ack(batch[j].lease_id, ARRAY[batch[j].msg_offset]));
        END LOOP;
    END LOOP;
    RETURN QUERY
    SELECT bool_and(s.in_order), bool_and(s.acked), count(DISTINCT s.msg_offset), bool_or(s.repeated)
    FROM (SELECT msg_offset, acked = 1 AS acked, msg_offset > lag(msg_offset, 1, 0) OVER (PARTITION BY n ORDER BY ctid) AS in_order,
                 count(*) OVER (PARTITION BY n, msg_offset) > 1 AS repeated
          FROM dead_letters_seen) AS s;
END
$$;
SELECT iotmq.redrive('dead_letters', 'seekers');
SELECT * FROM dead_letters_look();
SELECT inflight_messages, retry_messages, dead_letters FROM iotmq.group_lag WHERE topic = 'dead_letters' AND consumer_group = 'seekers';
-- given up twice
TRUNCATE dead_letters_seen;
SELECT new_offset = :first + 50 AS back FROM iotmq.seek_offset('dead_letters', 'seekers', 'b', :first + 50);
SELECT iotmq.reject(min(lease_id)) FROM iotmq.consume('dead_letters', 'seekers');
SELECT new_offset = :first + 55 AS back FROM iotmq.seek_offset('dead_letters', 'seekers', 'b', :first + 55);
SELECT iotmq.reject(min(lease_id)) FROM iotmq.consume('dead_letters', 'seekers');
SELECT count(DISTINCT msg_offset) FROM iotmq.dead_letter WHERE topic = 'dead_letters' AND consumer_group = 'seekers';
SELECT iotmq.redrive('dead_letters', 'seekers') >= 10 AS redriven;
SELECT * FROM dead_letters_look();
SELECT inflight_messages, retry_messages, dead_letters FROM iotmq.group_lag WHERE topic = 'dead_letters' AND consumer_group = 'seekers';

SELECT iotmq.drop_topic('dead_letters', force => true);
DROP TABLE dead_letters_seen, dead_letters_content, dead_letters_delivery;
DROP VIEW dead_letters_lag;
DROP FUNCTION dead_letters_settle, dead_letters_look;
