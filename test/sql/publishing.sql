-- publish: one message at a time.
-- Promise: every-door-alike
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('publishing');
SELECT iotmq.create_group('publishing', 'readers');

-- The result is the offset; every argument comes back as it was given.
SELECT iotmq.publish('publishing', 'd1', '{"t": 21.50, "n": null, "a": [1, "\u0041"]}');
SELECT iotmq.publish(topic => 'publishing', device_id => 'd2', payload => '[]', zone => 'default', tag => 'temperature',
                     properties => '{"unit": "C"}', body => '\x00ff10');
SELECT iotmq.publish('publishing', 'd3', NULL, body => '\x');
SELECT iotmq.publish('publishing', 'd4', 'null');
SELECT iotmq.publish('publishing', $$o'brien"; DROP TABLE iotmq_topic.publishing; --$$, '0', NULL, $$a'; "b\ | 100%$$, '[]');
SELECT iotmq.publish('publishing', repeat('d', 255), '255');
SELECT iotmq.publish('publishing', repeat('é', 127) || 'd', '255');
SELECT lease_id IS NOT NULL AS leased, zone, msg_offset, CASE WHEN length(device_id) < 60 THEN device_id END AS device_id, octet_length(device_id) AS bytes, tag, payload, body, properties, attempt
FROM iotmq.consume('publishing', 'readers');
SELECT zone, msg_offset, CASE WHEN length(device_id) < 60 THEN device_id END AS device_id, octet_length(device_id) AS bytes, tag, payload, body, properties
FROM iotmq_topic.publishing
ORDER BY msg_offset;

-- published_at is the clock when the message is published, not when its transaction or statement began.
BEGIN;
SELECT iotmq.publish('publishing', 'early', '1');
SELECT pg_sleep(0.02);
SELECT iotmq.publish('publishing', 'late', '1');
SELECT l.published_at - e.published_at >= '20 ms' AS apart, e.published_at >= now() AND l.published_at <= clock_timestamp() AS own_clock
FROM iotmq_topic.publishing e, iotmq_topic.publishing l
WHERE e.device_id = 'early' AND l.device_id = 'late';
COMMIT;

-- With several zones one has to be named; each counts its own offsets.
SELECT iotmq.create_topic('publishing_zones', '{a,b}');
SELECT iotmq.publish('publishing_zones', 'd1', '1'); \echo :SQLSTATE
SELECT iotmq.publish('publishing_zones', 'd1', '1', 'a'), iotmq.publish('publishing_zones', 'd1', '2', 'a'),
       iotmq.publish('publishing_zones', 'd1', '3', 'b');
SELECT zone, msg_offset, payload FROM iotmq_topic.publishing_zones ORDER BY zone, msg_offset;

-- The fourth argument is the zone: who gives a tag there is told so, where no zone need be given,
-- or a group wants that tag.
SELECT iotmq.publish('publishing', 'd1', '1', 'alarm'); \echo :SQLSTATE
SELECT iotmq.publish('publishing', 'd1', '1', 'alarm', 'tag'); \echo :SQLSTATE
SELECT iotmq.publish_batch('publishing', '{d1}', '{1}', 'alarm'); \echo :SQLSTATE
SELECT iotmq.publish('publishing_zones', 'd1', '1', 'alarm'); \echo :SQLSTATE
SELECT iotmq.create_group('publishing_zones', 'alarms', tags => 'warning || alarm');
SELECT iotmq.publish('publishing_zones', 'd1', '1', 'alarm'); \echo :SQLSTATE

-- A topic may begin without zones.
SELECT iotmq.create_topic('publishing_nowhere', '{}');
SELECT iotmq.create_group('publishing_nowhere', 'readers', start_from => '-infinity');
SELECT iotmq.publish('publishing_nowhere', 'd1', '1'); \echo :SQLSTATE
SELECT iotmq.publish('publishing_nowhere', 'd1', '1', 'a', 'tag'); \echo :SQLSTATE
SELECT count(*) FROM iotmq.consume('publishing_nowhere', 'readers');
SELECT iotmq.alter_topic('publishing_nowhere', dedup_window => '1 hour');
SET client_min_messages = warning;
CALL iotmq.run_maintenance();
RESET client_min_messages;
SELECT iotmq.add_zone('publishing_nowhere', 'a');
SELECT iotmq.publish('publishing_nowhere', 'd1', '1', message_key => 'k'), iotmq.publish('publishing_nowhere', 'd1', '1', message_key => 'k');
SELECT zone, msg_offset, payload, message_key FROM iotmq.consume('publishing_nowhere', 'readers');
SELECT iotmq.drop_topic('publishing_nowhere', force => true);

-- A rolled back publish is never seen; its offset may stay a hole.
SELECT iotmq.create_topic('publishing_undone');
SELECT iotmq.create_group('publishing_undone', 'readers');
BEGIN;
SELECT iotmq.publish('publishing_undone', 'd1', '0') IS NOT NULL AS published;
ROLLBACK;
SELECT count(*) FROM iotmq.consume('publishing_undone', 'readers');
SELECT iotmq.publish('publishing_undone', 'd1', '1') AS first \gset
SELECT count(*) FROM iotmq.fetch('publishing_undone', 'default', 0);
BEGIN;
SELECT iotmq.publish('publishing_undone', 'd1', '2') > :first AS later;
SAVEPOINT s;
SELECT iotmq.publish('publishing_undone', 'd1', '0') IS NOT NULL AS published;
ROLLBACK TO s;
SELECT iotmq.publish('publishing_undone', 'd1', '3') > :first + 1 AS later;
COMMIT;
SELECT payload FROM iotmq.consume('publishing_undone', 'readers');

-- The first publish of a session may fail, be undone or come after DISCARD: the next one works.
\c
\set SHOW_CONTEXT never
BEGIN;
SAVEPOINT s;
SELECT iotmq.publish('publishing_undone', 'd1', '0') IS NOT NULL AS published;
ROLLBACK TO s;
SELECT iotmq.publish('publishing_undone', 'd1', '4') IS NOT NULL AS published;
COMMIT;
DISCARD ALL;
SELECT iotmq.publish('publishing_undone', 'd1', '5') IS NOT NULL AS published;
DISCARD PLANS;
SELECT iotmq.publish('publishing_undone', 'd1', '6') IS NOT NULL AS published;
SELECT payload FROM iotmq.consume('publishing_undone', 'readers');

-- Many from one statement, from a prepared one, from plpgsql and from a trigger: in order, none left out.
SELECT iotmq.create_topic('publishing_many');
SELECT min(published), max(published), count(DISTINCT published)
FROM (SELECT iotmq.publish('publishing_many', 'd' || n % 7, to_jsonb(n)) AS published FROM generate_series(1, 1000) AS n) AS all_of_them;
SELECT count(*), bool_and(msg_offset = payload::bigint) AS in_order FROM iotmq_topic.publishing_many;
PREPARE publish (text, jsonb) AS SELECT iotmq.publish('publishing_many', $1, $2);
DO $$
BEGIN
    FOR n IN 1001..1010 LOOP
        EXECUTE format('EXECUTE publish(%L, %L)', 'd1', to_jsonb(n));
    END LOOP;
    FOR n IN 1011..1020 LOOP
        BEGIN
            PERFORM iotmq.publish('publishing_many', 'd1', to_jsonb(n));
            IF n % 2 = 0 THEN
                RAISE division_by_zero;
            END IF;
        EXCEPTION WHEN division_by_zero THEN
            NULL;
        END;
    END LOOP;
END
$$;
CREATE TABLE reading (device text, value int);
CREATE FUNCTION forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM iotmq.publish('publishing_many', NEW.device, to_jsonb(NEW.value));
    RETURN NULL;
END
$$;
CREATE TRIGGER forward AFTER INSERT ON reading FOR EACH ROW EXECUTE FUNCTION forward();
INSERT INTO reading VALUES ('r1', 1021), ('r2', 1022);
SELECT payload FROM iotmq.fetch('publishing_many', 'default', 1001);
DROP TABLE reading;
DROP FUNCTION forward;

-- A message of up to 4 MiB goes through whole.
SELECT iotmq.create_topic('publishing_large');
SELECT iotmq.publish('publishing_large', 'd1', NULL, body => decode(repeat('5a', 4 * 1024 * 1024 - 65536), 'hex'));
SELECT iotmq.publish('publishing_large', 'd1', to_jsonb(repeat('y', 4 * 1024 * 1024 - 65536)));
SELECT msg_offset, length(body) AS body, length(payload #>> '{}') AS payload FROM iotmq.fetch('publishing_large', 'default', 1);

SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'publishing%') AS mine;
