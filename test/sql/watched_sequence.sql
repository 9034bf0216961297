-- A zone's sequence that somebody has altered, set back, or restored without its rows:
-- no message is lost without a word.
-- Promise: no-loss
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('watched');
SELECT iotmq.create_group('watched', 'g', start_from => '-infinity');
SELECT pg_get_serial_sequence(iotmq.zone_table('watched', 'default')::text, 'msg_offset') AS sequence,
	iotmq.zone_table('watched', 'default') AS zone \gset
\set VERBOSITY terse
SELECT iotmq.publish('watched', 'd', to_jsonb(i)) FROM generate_series(1, 3) AS i;

-- Set back by a script: this session knows better, and another one finds the rows.
SELECT setval(:'sequence', 1);
SELECT iotmq.publish('watched', 'd', '4');
SELECT setval(:'sequence', 1);
\c
\set VERBOSITY terse
SELECT iotmq.publish('watched', 'd', '5');
SELECT setval(:'sequence', 2);
INSERT INTO :zone (device_id, payload) VALUES ('d', '6') RETURNING msg_offset;
ALTER SEQUENCE :sequence RESTART;
SELECT iotmq.publish('watched', 'd', '7');

-- A cursor beyond the end, as of a dump without the topics' rows.
SELECT count(*) FROM iotmq.consume('watched', 'g');
TRUNCATE :zone RESTART IDENTITY;
SELECT next_offset, end_offset FROM iotmq.consumer_lag WHERE topic = 'watched';
SELECT alert, zone FROM iotmq.alerts WHERE topic = 'watched';
\c
\set VERBOSITY terse
SELECT iotmq.publish('watched', 'd', '8');
SELECT msg_offset, payload FROM iotmq.consume('watched', 'g');
SELECT alert FROM iotmq.alerts WHERE topic = 'watched';

-- A cache, a cycle or a way down is refused, by every way of publishing.
ALTER SEQUENCE :sequence CACHE 10;
\set VERBOSITY terse
SELECT iotmq.publish('watched', 'd', '9');
\set VERBOSITY sqlstate
SELECT iotmq.publish_batch('watched', '{d}', '{9}');
INSERT INTO :zone (device_id, payload) VALUES ('d', '9');
ALTER SEQUENCE :sequence CACHE 1 INCREMENT -1 NO MINVALUE MAXVALUE 9223372036854775807;
SELECT iotmq.publish('watched', 'd', '9');
ALTER SEQUENCE :sequence INCREMENT 1 CYCLE;
SELECT iotmq.publish('watched', 'd', '9');
ALTER SEQUENCE :sequence NO CYCLE;
SELECT iotmq.publish('watched', 'd', '9');
SELECT msg_offset, payload FROM iotmq.consume('watched', 'g');
SELECT iotmq.drop_topic('watched', force => true);

-- Set far forward, as the owner of the zone's table may: it is that zone's trouble. A recovery
-- does not take the others along to where no epoch is left.
SELECT iotmq.create_topic('watched', '{a,b}');
SELECT pg_get_serial_sequence(iotmq.zone_table('watched', 'a')::text, 'msg_offset') AS sequence,
	iotmq.zone_table('watched', 'a') AS zone \gset
SELECT last_value AS epoch FROM iotmq_internal.epoch \gset
SELECT last_value AS last_epoch, is_called FROM iotmq_internal.last_epoch \gset
SELECT setval(:'sequence', (2147483647::bigint << 32) - 1) IS NOT NULL AS is_set;
SELECT setval('iotmq_internal.epoch', 1, false);	-- as a recovery does
\c
\set VERBOSITY terse
SELECT iotmq.publish('watched', 'd', '1', 'b') >> 32 BETWEEN 1 AND 1000 AS published;
\set VERBOSITY sqlstate
SELECT iotmq.publish('watched', 'd', '1', 'a');
INSERT INTO :zone (device_id, payload) VALUES ('d', '1');
\set VERBOSITY terse
SELECT setval(:'sequence', 1);
\c
SELECT iotmq.publish('watched', 'd', '1', 'a') >> 32 BETWEEN 1 AND 1000 AS published;
SELECT iotmq.drop_topic('watched', force => true);
DELETE FROM iotmq_internal.past_zone WHERE topic = 'watched';
SELECT setval('iotmq_internal.last_epoch', :last_epoch, :'is_called') = :last_epoch AS is_back, setval('iotmq_internal.epoch', :epoch) = :epoch AS is_back;
