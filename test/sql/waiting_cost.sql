-- The row of a cursor says when to look for expired leases and what is due again; an ack of the
-- one, an end of the other don't change that. When the time has come and there is nothing, calls
-- that wait, and those in a transaction block, see so without a claim: each would take
-- transaction ids, at every look.
-- Promise: bounded-calls
SELECT iotmq.create_topic('waiting_cost');
SELECT iotmq.create_group('waiting_cost', 'g', backoff => '{0}');
SELECT iotmq.create_group('waiting_cost', 'o', mode => 'orderly', backoff => '{0}');
CREATE FUNCTION next_id() RETURNS bigint LANGUAGE sql AS 'SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint';
SELECT iotmq.publish('waiting_cost', 'd', '1');
SELECT lease_id FROM iotmq.consume('waiting_cost', 'g', 1, '10 ms') \gset
SELECT iotmq.ack(:lease_id);
SELECT lease_id FROM iotmq.consume('waiting_cost', 'o', 1, '10 ms') \gset
SELECT iotmq.ack(:lease_id);
SELECT pg_sleep(0.05);
SELECT next_id() AS before \gset
BEGIN;
DO $$
BEGIN
	FOR n IN 1 .. 100 LOOP
		PERFORM iotmq.consume('waiting_cost', 'g');
		PERFORM iotmq.consume('waiting_cost', 'o');
	END LOOP;
END $$;
COMMIT;
SELECT next_id() - :before < 50 AS few;
SELECT next_id() AS before \gset
SELECT count(*) FROM iotmq.consume('waiting_cost', 'g', wait => '1 s');
SELECT count(*) FROM iotmq.consume('waiting_cost', 'o', wait => '1 s');
SELECT next_id() - :before < 20 AS few;
SELECT iotmq.publish('waiting_cost', 'd', 'null');
SELECT lease_id FROM iotmq.consume('waiting_cost', 'g') \gset
SELECT iotmq.nack(:lease_id, delay => '50 ms');
SELECT iotmq.give_up('waiting_cost', 'g', '{2}');
SELECT lease_id FROM iotmq.consume('waiting_cost', 'o') \gset
SELECT iotmq.nack(:lease_id, delay => '50 ms');
SELECT iotmq.give_up('waiting_cost', 'o', '{2}');
SELECT pg_sleep(0.1);
SELECT next_id() AS before \gset
BEGIN;
DO $$
BEGIN
	FOR n IN 1 .. 100 LOOP
		PERFORM iotmq.consume('waiting_cost', 'g');
		PERFORM iotmq.consume('waiting_cost', 'o');
	END LOOP;
END $$;
COMMIT;
SELECT next_id() - :before < 50 AS few;
-- One that has expired is taken over as ever, by either, and so is one whose lease was shortened.
SELECT iotmq.publish('waiting_cost', 'd', '2');
SELECT lease_id FROM iotmq.consume('waiting_cost', 'g', 1, '100 ms') \gset
SELECT msg_offset, attempt FROM iotmq.consume('waiting_cost', 'g', wait => '1 min');
SELECT lease_id FROM iotmq.consume('waiting_cost', 'o', 1, '50 ms') \gset
SELECT iotmq.extend(:lease_id, '1 h') > now() AS extended;
SELECT pg_sleep(0.1);
SELECT count(*) FROM iotmq.consume('waiting_cost', 'o', wait => '50 ms');
SELECT iotmq.extend(:lease_id, '100 ms') > now() AS shortened;
SELECT msg_offset, attempt FROM iotmq.consume('waiting_cost', 'o', wait => '1 min');
SELECT iotmq.drop_topic('waiting_cost', force => true);
DROP FUNCTION next_id;
