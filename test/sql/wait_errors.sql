-- An error in the middle of a waiting consume, caught by the caller: the claim's own
-- subtransaction must be gone then. The error is made: the next lease's id is taken.
-- Promise: errors-change-nothing
SELECT iotmq.create_topic('wait_errors');
SELECT iotmq.create_group('wait_errors', 'g', start_from => '-infinity');
SELECT iotmq.publish('wait_errors', 'd', '1');
CREATE TEMP TABLE mine AS
SELECT c.cursor_id, iotmq.lease_first(c.cursor_id) + (1::bigint << 42) AS last_lease
FROM iotmq_internal.cursor AS c
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.topic AS t USING (topic_id)
WHERE t.topic = 'wait_errors';
UPDATE iotmq_internal.cursor_state AS p SET last_lease = m.last_lease FROM mine AS m WHERE p.cursor_id = m.cursor_id;
INSERT INTO iotmq_internal.lease (lease_id, first_offset, last_offset, leased_at, deadline, messages, redriven)
SELECT last_lease + 1, 1000, 1000, now(), now() + interval '1 day', 1, false FROM mine;

CREATE FUNCTION wait_errors_catch() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM FROM iotmq.consume('wait_errors', 'g', wait => '10 s');
	RETURN 'not reached';
EXCEPTION WHEN unique_violation THEN
	RETURN 'caught';
END
$$;
SELECT wait_errors_catch();
-- Nothing of it is open: this fails inside a transaction.
VACUUM iotmq_internal.topic;

DELETE FROM iotmq_internal.lease AS l USING mine AS m WHERE l.lease_id = m.last_lease + 1;
SELECT payload, attempt FROM iotmq.consume('wait_errors', 'g', wait => '10 s');
DROP FUNCTION wait_errors_catch();
SELECT iotmq.drop_topic('wait_errors', force => true);
