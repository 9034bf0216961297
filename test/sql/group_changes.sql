-- Changing and dropping a group while its messages are in flight, wait for a retry, or are dead letters.
-- Promise: changes-are-orderly
\set VERBOSITY sqlstate
SELECT iotmq.create_topic('group_changes', '{a,b}');
SELECT iotmq.create_group('group_changes', 'readers', tags => 'one');
SELECT iotmq.create_group('group_changes', 'others');
CREATE VIEW group_changes_lag AS
SELECT consumer_group, mode, sum(ready_messages) AS ready, sum(inflight_messages) AS inflight, sum(retry_messages) AS retry,
       sum(blocked_devices) AS blocked, sum(dead_letters) AS dead
FROM iotmq.consumer_lag
WHERE topic = 'group_changes'
GROUP BY consumer_group, mode;
CREATE FUNCTION group_changes_publish(tag text, first int, last int, zone text DEFAULT 'a') RETURNS bigint LANGUAGE sql AS $$
    SELECT count(iotmq.publish('group_changes', 'd' || n, to_jsonb(n), zone, tag)) FROM generate_series(first, last) AS n
$$;
CREATE FUNCTION group_changes_skip_delay() RETURNS void LANGUAGE sql AS $$
    UPDATE iotmq_internal.redelivery SET not_before = '-infinity', due_at = least(due_at, '-infinity') WHERE due_at < 'infinity';
    UPDATE iotmq_internal.cursor_state SET next_due = '-infinity' WHERE redeliveries > 0;
$$;

-- Tags, filter and the length of a lease: from the next claim on; what is out stays as it is.
SELECT group_changes_publish('one', 1, 2), group_changes_publish('two', 3, 4), group_changes_publish('one', 5, 6);
SELECT lease_id AS lease, payload FROM iotmq.consume('group_changes', 'readers', 1) \gset
SELECT deadline FROM iotmq.in_flight WHERE lease_id = :lease \gset
SELECT iotmq.alter_group('group_changes', 'readers', tags => 'two', invisible_for => '2 hours');
SELECT deadline = :'deadline' AS same_deadline FROM iotmq.in_flight WHERE lease_id = :lease;
SELECT min(lease_id) AS other_lease, array_agg(payload) AS payloads FROM iotmq.consume('group_changes', 'readers') \gset
\echo :payloads
SELECT deadline - leased_at > interval '119 min' AS two_hours FROM iotmq.in_flight WHERE lease_id = :other_lease;
SELECT iotmq.alter_group('group_changes', 'readers', tags => '*', filter => '$ > 8');
SELECT group_changes_publish('three', 7, 10);
SELECT payload FROM iotmq.consume('group_changes', 'readers');
SELECT iotmq.alter_group('group_changes', 'readers', filter => '$ > 0');
SELECT group_changes_publish(NULL, 0, 1);
SELECT payload FROM iotmq.consume('group_changes', 'readers');
SELECT iotmq.ack(:lease);
-- in a transaction of one's own at once, and undone with it
BEGIN;
SELECT iotmq.alter_group('group_changes', 'readers', tags => 'none');
SELECT count(*) FROM iotmq.consume('group_changes', 'readers');
ROLLBACK;
SELECT group_changes_publish('one', 1, 1);
SELECT payload FROM iotmq.consume('group_changes', 'readers');

-- Retries and their delays.
SELECT iotmq.drop_group('group_changes', 'readers', force => true);
SELECT iotmq.create_group('group_changes', 'readers', max_retries => 5, backoff => '{1 hour}');
SELECT group_changes_publish(NULL, 1, 2);
SELECT lease_id AS lease, payload FROM iotmq.consume('group_changes', 'readers', 1) \gset
SELECT iotmq.nack(:lease);
SELECT iotmq.alter_group('group_changes', 'readers', backoff => '{0}');
SELECT lease_id AS lease, payload FROM iotmq.consume('group_changes', 'readers') \gset
\echo :payload
SELECT iotmq.nack(:lease);
SELECT payload, attempt FROM iotmq.consume('group_changes', 'readers');
SELECT group_changes_skip_delay();
SELECT iotmq.alter_group('group_changes', 'readers', max_retries => 1);
SELECT lease_id AS lease, payload, attempt FROM iotmq.consume('group_changes', 'readers') \gset
\echo :payload :attempt
SELECT iotmq.nack(:lease, reason => 'fewer retries');
SELECT payload, attempts, reason FROM iotmq.dead_letter WHERE topic = 'group_changes';
SELECT iotmq.alter_group('group_changes', 'readers', max_retries => 3);
SELECT lease_id AS lease FROM iotmq.in_flight WHERE topic = 'group_changes' AND consumer_group = 'readers' \gset
SELECT iotmq.nack(:lease);
SELECT lease_id AS lease, payload, attempt FROM iotmq.consume('group_changes', 'readers') \gset
\echo :payload :attempt
SELECT iotmq.nack(:lease);
SELECT lease_id AS lease, payload, attempt FROM iotmq.consume('group_changes', 'readers') \gset
\echo :payload :attempt
SELECT iotmq.nack(:lease, reason => 'more retries');
SELECT count(*) FROM iotmq.consume('group_changes', 'readers');
SELECT payload, attempts, reason FROM iotmq.dead_letter WHERE topic = 'group_changes' ORDER BY id;
SELECT * FROM group_changes_lag ORDER BY consumer_group;

-- The mode only while nothing is in flight or waiting, in any zone; dead letters and unread messages are no obstacle.
SELECT group_changes_publish(NULL, 1, 1, 'b');
SELECT lease_id AS lease FROM iotmq.consume('group_changes', 'readers', zone => 'b') \gset
SELECT iotmq.alter_group('group_changes', 'readers', mode => 'orderly');
SELECT iotmq.alter_group('group_changes', 'readers', mode => 'concurrent', max_lag => 7);
SELECT iotmq.nack(:lease, delay => '1 hour');
SELECT iotmq.alter_group('group_changes', 'readers', mode => 'orderly', max_retries => 9);
SELECT group_changes_skip_delay();
SELECT lease_id AS lease FROM iotmq.consume('group_changes', 'readers', invisible_for => '1 ms') \gset
SELECT pg_sleep(0.01);
-- expired, but not taken over: still in flight
SELECT iotmq.alter_group('group_changes', 'readers', mode => 'orderly');
SELECT iotmq.ack(:lease);
SELECT iotmq.redrive('group_changes', 'readers', max_messages => 1);
SELECT iotmq.alter_group('group_changes', 'readers', mode => 'orderly');
SELECT lease_id AS lease FROM iotmq.consume('group_changes', 'readers') \gset
SELECT iotmq.reject(:lease);
SELECT iotmq.alter_group('group_changes', 'readers', mode => 'random');
SELECT consumer_group, mode FROM group_changes_lag ORDER BY consumer_group;
SELECT iotmq.publish('group_changes', 'd1', '3', 'a'), iotmq.publish('group_changes', 'd1', '4', 'a'), iotmq.publish('group_changes', 'd2', '5', 'a');
SELECT iotmq.alter_group('group_changes', 'readers', mode => 'orderly');
SELECT * FROM group_changes_lag ORDER BY consumer_group;
-- it is orderly now, for what was published and given up before, too
SELECT lease_id AS lease, payload FROM iotmq.consume('group_changes', 'readers', 1) \gset
\echo :payload
SELECT iotmq.redrive('group_changes', 'readers');
SELECT device_id, payload, attempt FROM iotmq.consume('group_changes', 'readers');
SELECT iotmq.alter_group('group_changes', 'readers', mode => 'concurrent');
SELECT iotmq.ack(:lease);
SELECT device_id, payload, attempt FROM iotmq.consume('group_changes', 'readers');
SELECT iotmq.ack(lease_id) FROM iotmq.in_flight WHERE topic = 'group_changes' AND consumer_group = 'readers';
SELECT * FROM group_changes_lag ORDER BY consumer_group;
-- and concurrent again
SELECT iotmq.alter_group('group_changes', 'readers', mode => 'concurrent');
SELECT iotmq.publish('group_changes', 'd1', '6', 'a'), iotmq.publish('group_changes', 'd1', '7', 'a');
SELECT lease_id AS lease, payload FROM iotmq.consume('group_changes', 'readers', 1) \gset
SELECT payload FROM iotmq.consume('group_changes', 'readers');

-- drop_group with leases out, retries waiting and dead letters: nothing of it is left, and a late word about it changes nothing.
SELECT group_changes_publish(NULL, 1, 4);
SELECT min(lease_id) AS second_lease, count(*) AS n FROM iotmq.consume('group_changes', 'readers') \gset
SELECT min(msg_offset) AS first FROM (SELECT msg_offset FROM iotmq_topic.group_changes WHERE zone = 'a' ORDER BY msg_offset DESC LIMIT 4) AS newest \gset
SELECT iotmq.nack(:second_lease, ARRAY[:first], '1 hour'), iotmq.reject(:second_lease, ARRAY[:first + 1]);
SELECT * FROM group_changes_lag ORDER BY consumer_group;
BEGIN;
SELECT iotmq.drop_group('group_changes', 'readers', force => true);
ROLLBACK;
SELECT * FROM group_changes_lag ORDER BY consumer_group;
SELECT lease_id AS others_lease FROM iotmq.consume('group_changes', 'others', 1) \gset
SELECT iotmq.drop_group('group_changes', 'readers', force => true);
SELECT * FROM group_changes_lag ORDER BY consumer_group;
SELECT count(*) FROM iotmq.in_flight WHERE topic = 'group_changes';
SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'group_changes';
SELECT count(*) FROM iotmq_internal.redelivery;
SELECT iotmq.ack(:second_lease);
SELECT iotmq.nack(:second_lease);
SELECT iotmq.reject(:second_lease);
SELECT iotmq.extend(:second_lease, '1 hour');
SELECT iotmq.redrive('group_changes', 'readers');
SELECT iotmq.purge_dead_letters('group_changes', 'readers');
SELECT count(*) FROM iotmq.consume('group_changes', 'readers');
-- a new group by the same name has nothing to do with it
SELECT iotmq.create_group('group_changes', 'readers');
SELECT iotmq.ack(:second_lease);
SELECT iotmq.nack(:lease);
SELECT * FROM group_changes_lag ORDER BY consumer_group;
SELECT group_changes_publish(NULL, 1, 1);
SELECT payload, attempt FROM iotmq.consume('group_changes', 'readers');
-- and the other group never noticed
SELECT iotmq.ack(:others_lease);

SELECT iotmq.drop_topic('group_changes', force => true);
DROP VIEW group_changes_lag;
DROP FUNCTION group_changes_publish, group_changes_skip_delay;
