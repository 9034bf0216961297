-- Nothing uncommitted is ever delivered, not even to the transaction that published it.
-- Promise: no-uncommitted-delivery
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('own_transaction');
SELECT iotmq.create_group('own_transaction', 'readers');
CREATE VIEW position AS
SELECT next_offset AS next, stable_offset AS stable, end_offset AS "end", ready_messages AS ready, inflight_messages AS inflight
FROM iotmq.consumer_lag
WHERE topic = 'own_transaction';

-- Its own publishes: by function, batch, COPY and INSERT.
SELECT iotmq.zone_table('own_transaction', 'default') AS zone_table \gset
BEGIN;
SELECT iotmq.publish('own_transaction', 'd1', '1');
SELECT count(*) FROM iotmq.consume('own_transaction', 'readers');
SELECT iotmq.publish_batch('own_transaction', '{d1,d2}', ARRAY['2', '3']::jsonb[]);
SELECT count(*) FROM iotmq.consume('own_transaction', 'readers');
COPY :zone_table (device_id, payload) FROM STDIN;
d1	4
\.
INSERT INTO :zone_table (device_id, payload) VALUES ('d1', '5');
SELECT count(*) FROM iotmq.consume('own_transaction', 'readers', wait => '20 ms');
SELECT count(*) FROM iotmq.fetch('own_transaction', 'default', 1);
SELECT * FROM position;
SELECT topic, zone, stable_offset, end_offset, pid = pg_backend_pid() AS own, xid IS NOT NULL AS writes, since <= clock_timestamp() AS began,
       application_name = current_setting('application_name') AS named
FROM iotmq.held_back
WHERE topic = 'own_transaction';
COMMIT;
SELECT * FROM position;
SELECT count(*) FROM iotmq.held_back WHERE topic = 'own_transaction';
SELECT msg_offset, payload FROM iotmq.consume('own_transaction', 'readers');

-- What was committed before is delivered in the same transaction, up to its own first one.
SELECT iotmq.publish('own_transaction', 'd1', '6'), iotmq.publish('own_transaction', 'd1', '7');
BEGIN;
SELECT iotmq.publish('own_transaction', 'd1', '8');
SELECT array_agg(payload) FROM iotmq.consume('own_transaction', 'readers', 1);
SELECT iotmq.publish('own_transaction', 'd1', '9');
SELECT array_agg(payload) FROM iotmq.consume('own_transaction', 'readers', 10);
SELECT array_agg(payload) FROM iotmq.consume('own_transaction', 'readers', 10);
SELECT array_agg(payload) FROM iotmq.fetch('own_transaction', 'default', 6);
COMMIT;
SELECT array_agg(payload) FROM iotmq.consume('own_transaction', 'readers', 10);

-- Rolled back: the position hasn't passed anything.
BEGIN;
SELECT iotmq.publish('own_transaction', 'd1', '0') IS NOT NULL AS published;
SELECT count(*) FROM iotmq.consume('own_transaction', 'readers');
ROLLBACK;
SELECT iotmq.publish('own_transaction', 'd1', '10') IS NOT NULL AS published;
SELECT array_agg(payload) FROM iotmq.consume('own_transaction', 'readers');

-- Savepoints: released, rolled back, nested; the consume in between sees none of it.
BEGIN;
SELECT iotmq.publish('own_transaction', 'd1', '11') IS NOT NULL AS published;
SAVEPOINT a;
SELECT iotmq.publish('own_transaction', 'd1', '0') IS NOT NULL AS published;
SAVEPOINT b;
SELECT iotmq.publish('own_transaction', 'd1', '0') IS NOT NULL AS published;
RELEASE b;
SELECT count(*) FROM iotmq.consume('own_transaction', 'readers');
ROLLBACK TO a;
SELECT count(*) FROM iotmq.consume('own_transaction', 'readers');
SAVEPOINT c;
SELECT iotmq.publish('own_transaction', 'd1', '12') IS NOT NULL AS published;
RELEASE c;
SELECT count(*) FROM iotmq.consume('own_transaction', 'readers');
COMMIT;
SELECT array_agg(payload) FROM iotmq.consume('own_transaction', 'readers');

-- Only a rolled back savepoint has published: the transaction itself holds nothing back that exists.
BEGIN;
SAVEPOINT a;
SELECT iotmq.publish('own_transaction', 'd1', '0') IS NOT NULL AS published;
ROLLBACK TO a;
SELECT count(*) FROM iotmq.consume('own_transaction', 'readers');
COMMIT;
SELECT iotmq.publish('own_transaction', 'd1', '13') IS NOT NULL AS published;
SELECT array_agg(payload) FROM iotmq.consume('own_transaction', 'readers');

-- A block of plpgsql with a handler is a savepoint too.
DO $$
BEGIN
    PERFORM iotmq.publish('own_transaction', 'd1', '14');
    BEGIN
        PERFORM iotmq.publish('own_transaction', 'd1', '0');
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
        RAISE NOTICE 'consumed: %', (SELECT count(*) FROM iotmq.consume('own_transaction', 'readers'));
    END;
END
$$;
SELECT array_agg(payload) FROM iotmq.consume('own_transaction', 'readers');

-- One statement that publishes and consumes.
WITH published AS MATERIALIZED (
    SELECT iotmq.publish('own_transaction', 'd1', '15') AS msg_offset
)
SELECT p.msg_offset IS NOT NULL AS published, c.payload
FROM published p
LEFT JOIN LATERAL iotmq.consume('own_transaction', 'readers', 1 + 0 * p.msg_offset::int) AS c ON true;
SELECT array_agg(payload) FROM iotmq.consume('own_transaction', 'readers');

-- A trigger that consumes has an offset of its own that is not written yet: it is not passed over.
CREATE FUNCTION pg_temp.consume_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM iotmq.consume('own_transaction', 'readers');
    RETURN new;
END
$$;
CREATE TRIGGER consume_first BEFORE INSERT ON iotmq_topic.own_transaction FOR EACH ROW EXECUTE FUNCTION pg_temp.consume_first();
SELECT iotmq.publish('own_transaction', 'd1', '"triggered"') IS NOT NULL AS published;
BEGIN;
SELECT iotmq.publish('own_transaction', 'd1', '"triggered, too"') IS NOT NULL AS published;
SELECT count(*) FROM iotmq.consume('own_transaction', 'readers', 1);
COMMIT;
DROP TRIGGER consume_first ON iotmq_topic.own_transaction;
SELECT array_agg(payload ORDER BY msg_offset) FROM iotmq.consume('own_transaction', 'readers');
SELECT ready_messages, inflight_messages FROM iotmq.consumer_lag WHERE topic = 'own_transaction';

-- consume, effect, publish to another topic and ack in one transaction: a step of a pipeline.
SELECT iotmq.create_topic('own_transaction_next');
SELECT iotmq.create_group('own_transaction_next', 'readers');
SELECT iotmq.publish('own_transaction', 'd1', '16') IS NOT NULL AS published;
BEGIN;
SELECT min(lease_id) AS lease FROM iotmq.consume('own_transaction', 'readers') \gset
SELECT iotmq.publish('own_transaction_next', 'd1', '"from 16"');
SELECT iotmq.ack(:lease);
SELECT count(*) FROM iotmq.consume('own_transaction_next', 'readers');
ROLLBACK;
SELECT count(*) FROM iotmq.consume('own_transaction_next', 'readers');
BEGIN;
SELECT min(lease_id) AS lease, max(attempt) AS attempt FROM iotmq.consume('own_transaction', 'readers') \gset
SELECT :attempt AS attempt;
SELECT iotmq.publish('own_transaction_next', 'd1', '"from 16"') IS NOT NULL AS published;
SELECT iotmq.ack(:lease);
COMMIT;
SELECT payload FROM iotmq.consume('own_transaction_next', 'readers');
\set VERBOSITY sqlstate
SELECT iotmq.ack(:lease);
\set VERBOSITY default

-- A topic, a group and a message of one transaction.
BEGIN;
SELECT iotmq.create_topic('own_transaction_new');
SELECT iotmq.create_group('own_transaction_new', 'readers', start_from => '-infinity');
SELECT iotmq.publish('own_transaction_new', 'd1', '1');
SELECT count(*) FROM iotmq.consume('own_transaction_new', 'readers');
COMMIT;
SELECT payload FROM iotmq.consume('own_transaction_new', 'readers');

DROP VIEW position;
SELECT iotmq.drop_topic(topic, force => true)
FROM (SELECT DISTINCT topic FROM iotmq.topic_stats WHERE topic LIKE 'own\_transaction%') AS mine;
