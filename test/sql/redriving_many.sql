-- Dead letters of messages that wait for another attempt, after a seek back: more are redriven than get their places at once.
-- Promise: no-two-leases, dead-letter-not-lost
SELECT iotmq.create_topic('redriving_many');
SELECT iotmq.create_group('redriving_many', 'g', start_from => '-infinity', backoff => '{0}');
SELECT cardinality(iotmq.publish_batch('redriving_many', array_fill('d'::text, '{2000}'), array_fill('1'::jsonb, '{2000}')));
SELECT iotmq.reject(min(lease_id)) FROM iotmq.consume('redriving_many', 'g', 2000);
SELECT messages FROM iotmq.seek('redriving_many', 'g', '-infinity');
SELECT iotmq.nack(min(lease_id)) FROM iotmq.consume('redriving_many', 'g', 2000);
SELECT iotmq.redrive('redriving_many', 'g');

-- Each comes once, and is done then.
CREATE TABLE redriving_many_got (msg_offset bigint);
DO $$
DECLARE
	lease bigint;
BEGIN
	LOOP
		WITH delivery AS (
			SELECT * FROM iotmq.consume('redriving_many', 'g', 100)
		), got AS (
			INSERT INTO redriving_many_got SELECT msg_offset FROM delivery
		)
		SELECT min(lease_id) INTO lease FROM delivery;
		EXIT WHEN lease IS NULL AND (SELECT lag_messages = 0 FROM iotmq.group_lag WHERE topic = 'redriving_many');
		PERFORM iotmq.ack(lease) WHERE lease IS NOT NULL;
		COMMIT;
	END LOOP;
END
$$;
SELECT count(*), count(DISTINCT msg_offset) FROM redriving_many_got;
SELECT inflight_messages, retry_messages, dead_letters, (SELECT count(*) FROM iotmq_internal.dead_message AS d JOIN iotmq_internal.cursor AS c USING (cursor_id) JOIN iotmq_internal.consumer_group AS g USING (group_id) JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = 'redriving_many') AS rows
FROM iotmq.group_lag
WHERE topic = 'redriving_many';
DROP TABLE redriving_many_got;
SELECT iotmq.drop_topic('redriving_many', force => true);
