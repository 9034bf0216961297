-- Lease ids: positive, of one cursor, never given out twice.
-- Promise: offsets-are-the-servers
\set SHOW_CONTEXT never
-- The layout: 6 bits of the node and 14 of the cursor's number, then 43 of a time or serial number.
SELECT n AS cursor_id, iotmq.lease_first(n) > 0 AS positive, iotmq.lease_cursor(iotmq.lease_first(n)) AS first,
    iotmq.lease_cursor(iotmq.lease_first(n) + iotmq.lease_left(n, 0) - 1) AS last, iotmq.lease_left(n, 0) >= 1::bigint << 42 AS many,
    iotmq.lease_left(n, iotmq.lease_first(n) + iotmq.lease_left(n, 0) - 1) AS left_after_the_last
FROM unnest('{1,2,16383,16384,16385,32767,1048574,1048575}'::int[]) AS n;
SELECT iotmq.lease_first(1048575) < iotmq.lease_first(1048576) AS the_last_range_ends;

-- The node.
SELECT iotmq.set_node(NULL); \echo :SQLSTATE
SELECT iotmq.set_node(-1); \echo :SQLSTATE
SELECT iotmq.set_node(64); \echo :SQLSTATE
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT iotmq.set_node(1); \echo :SQLSTATE
ROLLBACK;
SELECT iotmq.set_node(1), iotmq.set_node(63);
SELECT n.node FROM iotmq_internal.node AS n;
SELECT iotmq.create_topic('lease_ids', '{a,b}');
SELECT count(iotmq.publish('lease_ids', 'd', to_jsonb(n), 'a')) FROM generate_series(1, 9) AS n;
SELECT iotmq.create_group('lease_ids', 'far', start_from => '-infinity');
SELECT DISTINCT lease_id AS far FROM iotmq.consume('lease_ids', 'far', 1) \gset
SELECT :far > 0 AS positive, iotmq.lease_cursor(:far) >> 14 AS node;
SELECT iotmq.ack(:far);
SELECT iotmq.set_node(2); \echo :SQLSTATE
SELECT iotmq.drop_group('lease_ids', 'far');
SELECT iotmq.set_node(0);

-- What the clock says beyond the cursor's range doesn't count: a lease given out at its end is followed by no other.
CREATE FUNCTION lease_ids_cursor() RETURNS int LANGUAGE sql AS $$
    SELECT c.cursor_id FROM iotmq_internal.cursor AS c JOIN iotmq_internal.zone AS z USING (zone_id) WHERE z.zone = 'a'
$$;
SELECT iotmq.create_group('lease_ids', 'g', start_from => '-infinity', backoff => '{0 s}');
SELECT lease_ids_cursor() AS cursor \gset
SELECT DISTINCT lease_id AS one FROM iotmq.consume('lease_ids', 'g', 1) \gset
UPDATE iotmq_internal.cursor_state SET last_lease = :one + iotmq.lease_left(:cursor, :one) - 1 WHERE cursor_id = :cursor;
SELECT DISTINCT lease_id AS last FROM iotmq.consume('lease_ids', 'g', 1) \gset
SELECT :last - :one = iotmq.lease_left(:cursor, :one) AS the_last, iotmq.lease_cursor(:last) = :cursor AS its_own;
SELECT iotmq.ack(:one), iotmq.nack(:last);
SELECT * FROM iotmq.consume('lease_ids', 'g', 1);
\echo :SQLSTATE
SELECT inflight_messages, retry_messages, ready_messages FROM iotmq.consumer_lag WHERE zone = 'a';

-- Numbers come again once all have been used, with lease ids above the old ones; not those that are in use or used up.
SELECT iotmq.create_group('lease_ids', 'h', start_from => '-infinity');
SELECT max(c.cursor_id) AS number FROM iotmq_internal.cursor AS c JOIN iotmq_internal.zone AS z USING (zone_id) WHERE z.zone = 'a' \gset
-- that number's ids are ahead of the clock
UPDATE iotmq_internal.cursor_state SET last_lease = iotmq.lease_first(:number) + (1::bigint << 42) + (1::bigint << 41) WHERE cursor_id = :number;
SELECT DISTINCT lease_id AS old FROM iotmq.consume('lease_ids', 'h', 1) \gset
SELECT iotmq.drop_group('lease_ids', 'g'), iotmq.drop_group('lease_ids', 'h');
SELECT count(*) FROM iotmq_internal.past_cursor WHERE cursor_id IN (:cursor, :number);
SELECT setval('iotmq_internal.cursor_number', :cursor, false) = :cursor AS set;
SELECT iotmq.create_group('lease_ids', 'again', start_from => '-infinity');
SELECT lease_ids_cursor() > :cursor AS passed_over;
SELECT iotmq.drop_group('lease_ids', 'again');
SELECT setval('iotmq_internal.cursor_number', :number, false) = :number AS set;
SELECT iotmq.create_group('lease_ids', 'anew', start_from => '-infinity');
SELECT c.cursor_id = :number AS again
FROM iotmq_internal.cursor AS c
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.zone AS z USING (zone_id)
WHERE g.consumer_group = 'anew' AND z.zone = 'a';
SELECT DISTINCT lease_id AS new FROM iotmq.consume('lease_ids', 'anew', 1, zone => 'a') \gset
SELECT :new > :old AS above, iotmq.lease_cursor(:new) = :number AS its_own;
\set VERBOSITY sqlstate
SELECT iotmq.ack(:old);
\set VERBOSITY default
SELECT iotmq.ack(:new);

-- The last number is followed by the first.
SELECT setval('iotmq_internal.cursor_number', 16383, false);
SELECT iotmq.create_group('lease_ids', 'last', start_from => '-infinity');
SELECT max(cursor_id) FROM iotmq_internal.cursor;

-- Beyond 16,383 cursors.
BEGIN;
INSERT INTO iotmq_internal.cursor (cursor_id, group_id, zone_id) SELECT n, -n, -1 FROM generate_series(1, 16383) AS n ON CONFLICT DO NOTHING;
SELECT iotmq.create_group('lease_ids', 'one_too_many');
\echo :SQLSTATE
ROLLBACK;
BEGIN;
INSERT INTO iotmq_internal.cursor (cursor_id, group_id, zone_id) SELECT n, -n, -1 FROM generate_series(1, 16383) AS n ON CONFLICT DO NOTHING;
DELETE FROM iotmq_internal.cursor WHERE group_id = -4242 OR group_id = -777;
SELECT iotmq.create_group('lease_ids', 'just_in_time');
ROLLBACK;

SELECT iotmq.drop_topic('lease_ids', force => true);
DROP FUNCTION lease_ids_cursor;
