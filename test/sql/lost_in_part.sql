-- A lease that expired is so large that another consumer takes over a part of it only: its holder has lost all of it.
-- Promise: exactly-once-effects, lost-lease-changes-nothing, no-two-leases
\set VERBOSITY sqlstate
SELECT iotmq.create_topic('lost_in_part');
SELECT iotmq.create_group('lost_in_part', 'g', start_from => '-infinity');
SELECT cardinality(iotmq.publish_batch('lost_in_part', array_fill('d'::text, '{6000}'), array_fill('1'::jsonb, '{6000}')));
SELECT min(lease_id) AS lease, max(msg_offset) AS last FROM iotmq.consume('lost_in_part', 'g', 10000, '1 ms') \gset
SELECT pg_sleep(0.01);
CREATE TABLE lost_in_part_got AS SELECT msg_offset, attempt FROM iotmq.consume('lost_in_part', 'g', 1, '1 hour');
SELECT inflight_messages > 1 AS some_left, inflight_messages + retry_messages AS messages FROM iotmq.consumer_lag WHERE topic = 'lost_in_part';
SELECT count(*) FROM iotmq.in_flight WHERE lease_id = :lease;

-- Whatever he says of it, of the part that is left, too.
SELECT iotmq.ack(:lease);
SELECT iotmq.ack(:lease, ARRAY[:last]);
SELECT iotmq.nack(:lease);
SELECT iotmq.settle(:lease, rest => 'ack');
SELECT iotmq.extend(:lease, '1 hour');
SELECT count(*) FROM iotmq.consume('lost_in_part', 'g', ack_lease => :lease);

-- Each message comes again, once.
DO $$
BEGIN
    FOR i IN 1..1000 LOOP
        INSERT INTO lost_in_part_got SELECT msg_offset, attempt FROM iotmq.consume('lost_in_part', 'g', 10000, '1 hour');
        EXIT WHEN NOT FOUND AND (SELECT count(*) >= 6000 FROM lost_in_part_got);
        COMMIT;
    END LOOP;
END
$$;
SELECT count(*), count(DISTINCT msg_offset), min(attempt), max(attempt) FROM lost_in_part_got;
SELECT sum(iotmq.ack(lease_id)) FROM iotmq.in_flight WHERE topic = 'lost_in_part';
SELECT lag_messages FROM iotmq.consumer_lag WHERE topic = 'lost_in_part';
DROP TABLE lost_in_part_got;
SELECT iotmq.drop_topic('lost_in_part', force => true);
