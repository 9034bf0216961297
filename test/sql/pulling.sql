-- Reading without leases: fetch, commit_offset and messages_of_device.
-- Promise: no-loss
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('pulling', '{a,b}');
SELECT iotmq.create_group('pulling', 'archiver');
SELECT count(iotmq.publish('pulling', 'd' || n % 3, to_jsonb(n), 'a', 't' || n, '{}', '\x01')) FROM generate_series(1, 50) AS n;
SELECT iotmq.publish('pulling', 'd1', '51', 'b');

-- fetch: in offset order, without a lease, as attempt 0; 32 unless said otherwise.
SELECT lease_id, zone, msg_offset, device_id, tag, payload, body, properties, attempt FROM iotmq.fetch('pulling', 'a', 3, 2);
SELECT count(*), bool_and(f.published_at = m.published_at) AS same_time
FROM iotmq.fetch('pulling', 'a', 1) AS f
JOIN iotmq_topic.pulling m USING (zone, msg_offset);
SELECT array_agg(msg_offset) AS offsets FROM iotmq.fetch('pulling', 'a', 1);
SELECT zone, msg_offset FROM iotmq.fetch('pulling', 'b', 1, max_messages => 10000);

-- From below the earliest it starts at the earliest; from the end on there is nothing.
SELECT msg_offset FROM iotmq.fetch('pulling', 'a', 0, 2);
SELECT msg_offset FROM iotmq.fetch('pulling', 'a', -9223372036854775808, 2);
SELECT msg_offset FROM iotmq.fetch('pulling', 'a', 50);
SELECT count(*) FROM iotmq.fetch('pulling', 'a', 51);
SELECT count(*) FROM iotmq.fetch('pulling', 'a', 9223372036854775807);

-- It may be repeated, skips holes, and takes nothing from any group.
BEGIN;
SELECT iotmq.publish('pulling', 'd1', '0', 'b') IS NOT NULL AS published;
ROLLBACK;
SELECT iotmq.publish('pulling', 'd1', '52', 'b') IS NOT NULL AS published;
SELECT payload FROM iotmq.fetch('pulling', 'b', 2, 1);
SELECT payload FROM iotmq.fetch('pulling', 'b', 2, 1);
SELECT consumer_group, zone, next_offset, inflight_messages FROM iotmq.consumer_lag WHERE topic = 'pulling' ORDER BY zone;
SELECT count(*) FROM iotmq.in_flight WHERE topic = 'pulling';

-- commit_offset: where the group goes on, anywhere from the earliest to the end.
SELECT iotmq.commit_offset('pulling', 'archiver', 'a', 31);
SELECT next_offset, lag_messages, ready_messages, inflight_messages FROM iotmq.consumer_lag WHERE topic = 'pulling' AND zone = 'a';
SELECT iotmq.commit_offset('pulling', 'archiver', 'a', 51);
SELECT next_offset, lag_messages FROM iotmq.consumer_lag WHERE topic = 'pulling' AND zone = 'a';
SELECT iotmq.commit_offset('pulling', 'archiver', 'a', 52); \echo :SQLSTATE
SELECT iotmq.commit_offset('pulling', 'archiver', 'a', 0); \echo :SQLSTATE
SELECT iotmq.commit_offset('pulling', 'archiver', 'a', -1); \echo :SQLSTATE
SELECT iotmq.commit_offset('pulling', 'archiver', 'a', 9223372036854775807); \echo :SQLSTATE
SELECT next_offset, lag_messages FROM iotmq.consumer_lag WHERE topic = 'pulling' AND zone = 'a';
SELECT iotmq.commit_offset('pulling', 'archiver', 'a', 1);
SELECT next_offset, lag_messages FROM iotmq.consumer_lag WHERE topic = 'pulling' AND zone = 'a';
BEGIN;
SELECT iotmq.commit_offset('pulling', 'archiver', 'a', 40);
ROLLBACK;
SELECT next_offset FROM iotmq.consumer_lag WHERE topic = 'pulling' AND zone = 'a';
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM iotmq.fetch('pulling', 'a', 1, 5);
SELECT iotmq.commit_offset('pulling', 'archiver', 'a', 49);
COMMIT;
SELECT msg_offset FROM iotmq.consume('pulling', 'archiver', zone => 'a');

-- messages_of_device: newest first over all zones, or one; up to 64, or as many as asked for.
SELECT lease_id, zone, device_id, tag, payload, body, properties, attempt FROM iotmq.messages_of_device('pulling', 'd1', max_messages => 4);
SELECT count(*), bool_and(m.published_at = h.published_at) AS same_time
FROM iotmq.messages_of_device('pulling', 'd1') AS m
JOIN iotmq_topic.pulling h USING (zone, msg_offset);
SELECT zone, payload FROM iotmq.messages_of_device('pulling', 'd1', zone => 'b');
SELECT zone, msg_offset FROM iotmq.messages_of_device('pulling', 'd1', max_messages => 1, zone => 'a');
SELECT count(*) FROM iotmq.messages_of_device('pulling', 'D1');
SELECT count(*) FROM iotmq.messages_of_device('pulling', $$d1' OR true; --$$);

-- Between two times: from the first on, before the second.
SELECT pg_sleep(0.002);
SELECT iotmq.publish('pulling', 'd9', '1', 'a');
SELECT pg_sleep(0.002);
SELECT iotmq.publish('pulling', 'd9', '2', 'b') IS NOT NULL AS published;
SELECT pg_sleep(0.002);
SELECT iotmq.publish('pulling', 'd9', '3', 'a');
SELECT published_at AS second FROM iotmq_topic.pulling WHERE device_id = 'd9' AND payload = '2' \gset
SELECT published_at AS third FROM iotmq_topic.pulling WHERE device_id = 'd9' AND payload = '3' \gset
SELECT payload FROM iotmq.messages_of_device('pulling', 'd9');
SELECT payload FROM iotmq.messages_of_device('pulling', 'd9', since => :'second');
SELECT payload FROM iotmq.messages_of_device('pulling', 'd9', until => :'third');
SELECT payload FROM iotmq.messages_of_device('pulling', 'd9', :'second', :'third', 1);
SELECT count(*) FROM iotmq.messages_of_device('pulling', 'd9', :'third', :'second');
SELECT count(*) FROM iotmq.messages_of_device('pulling', 'd9', 'infinity');

-- 64 unless said otherwise; without the index on the device too.
SELECT iotmq.create_topic('pulling_bare', device_index => false);
SELECT count(iotmq.publish('pulling_bare', 'd' || n % 2, to_jsonb(n))) FROM generate_series(1, 200) AS n;
SELECT count(*), min(payload::int), max(payload::int) FROM iotmq.messages_of_device('pulling_bare', 'd1');
SELECT payload FROM iotmq.messages_of_device('pulling_bare', 'd0', max_messages => 3);

-- A stream processor: fetch from the group's position, work, commit the position with the work.
SELECT iotmq.create_group('pulling_bare', 'archiver', start_from => '-infinity');
CREATE TABLE archive (n int);
CREATE PROCEDURE archive_all() LANGUAGE plpgsql AS $$
DECLARE
    start bigint;
    upto bigint;
BEGIN
    LOOP
        SELECT next_offset INTO start FROM iotmq.consumer_lag WHERE topic = 'pulling_bare' AND consumer_group = 'archiver';
        WITH part AS (
            SELECT f.msg_offset, f.payload FROM iotmq.fetch('pulling_bare', 'default', start, 30) AS f
        ), kept AS (
            INSERT INTO archive SELECT payload::int FROM part
        )
        SELECT max(msg_offset) + 1 INTO upto FROM part;
        EXIT WHEN upto IS NULL;
        PERFORM iotmq.commit_offset('pulling_bare', 'archiver', 'default', upto);
        COMMIT;
    END LOOP;
END
$$;
CALL archive_all();
SELECT count(*), count(DISTINCT n), min(n), max(n) FROM archive;
SELECT lag_messages FROM iotmq.group_lag WHERE topic = 'pulling_bare';
DROP PROCEDURE archive_all;
DROP TABLE archive;

SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'pulling%') AS mine;
