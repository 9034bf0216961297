-- alter_group puts settings back to what create_group gives; durable_acks is one of them.
-- Promise: changes-are-orderly
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('resetting', '{a,b}');
SELECT iotmq.create_group('resetting', 'plain');
SELECT iotmq.create_group('resetting', 'all', 'orderly', tags => 'x || y', filter => '$ > 0', invisible_for => '5 min', max_retries => 3,
	backoff => '{1 s}', max_delay => '1 h', max_lag => 10, durable_acks => true);
CREATE TEMP VIEW settings AS
SELECT consumer_group, mode, tags, filter, invisible_for, max_retries, backoff, max_delay, max_lag, durable_acks
FROM iotmq.group_settings
WHERE topic = 'resetting'
ORDER BY consumer_group;
SELECT s.* FROM settings AS s;

-- one, and what is not named stays; twice, or none, is no error
SELECT iotmq.alter_group('resetting', 'all', reset => '{filter}');
SELECT iotmq.alter_group('resetting', 'all', reset => '{max_lag,max_lag}');
SELECT iotmq.alter_group('resetting', 'all', reset => '{}');
SELECT tags, filter, max_lag, max_retries FROM settings WHERE consumer_group = 'all';
-- with other settings that are given
SELECT iotmq.alter_group('resetting', 'all', max_retries => 4, reset => '{max_delay,durable_acks}', tags => 'z');
SELECT tags, max_retries, max_delay, durable_acks FROM settings WHERE consumer_group = 'all';
SELECT iotmq.alter_group('resetting', 'all', durable_acks => true);
SELECT durable_acks FROM settings WHERE consumer_group = 'all';

-- what is no setting, or given too, or NULL; then nothing is changed
SELECT iotmq.alter_group('resetting', 'all', reset => '{tags,filters}'); \echo :SQLSTATE
SELECT iotmq.alter_group('resetting', 'all', reset => '{paused}'); \echo :SQLSTATE
SELECT iotmq.alter_group('resetting', 'all', tags => 'x', reset => '{tags}'); \echo :SQLSTATE
SELECT iotmq.alter_group('resetting', 'all', backoff => '{1 s}', durable_acks => false, reset => '{durable_acks}'); \echo :SQLSTATE
SELECT iotmq.alter_group('resetting', 'all', reset => ARRAY['tags', NULL]); \echo :SQLSTATE
SELECT iotmq.create_group('resetting', 'null', durable_acks => NULL); \echo :SQLSTATE
SELECT tags FROM settings WHERE consumer_group = 'all';

-- the mode only while nothing is in flight or waits
SELECT iotmq.publish('resetting', 'd', '1', 'b', 'z');
SELECT lease_id AS lease FROM iotmq.consume('resetting', 'all') \gset
SELECT iotmq.alter_group('resetting', 'all', reset => '{mode}'); \echo :SQLSTATE
SELECT iotmq.nack(:lease, delay => '1 h');
SELECT iotmq.alter_group('resetting', 'all', reset => '{mode,tags}'); \echo :SQLSTATE
SELECT mode, tags FROM settings WHERE consumer_group = 'all';
SELECT count(*) FROM iotmq.seek('resetting', 'all', 'infinity');

-- all of them: as a group that was given none
SELECT iotmq.alter_group('resetting', 'all', reset => '{mode,tags,filter,invisible_for,max_retries,backoff,max_delay,max_lag,durable_acks}');
SELECT s.* FROM settings AS s;
SELECT count(DISTINCT (mode, tags, filter::text, invisible_for, max_retries, backoff, max_delay, max_lag, durable_acks)) FROM settings;

-- a filter that is reset lets through what it did not, at once and in this session, too
SELECT iotmq.alter_group('resetting', 'all', filter => '$ == "none"', tags => 'none');
SELECT iotmq.publish('resetting', 'd', '2', 'a');
SELECT count(*) FROM iotmq.consume('resetting', 'all', zone => 'b');
BEGIN;
SELECT iotmq.alter_group('resetting', 'all', reset => '{tags,filter}');
SELECT payload FROM iotmq.consume('resetting', 'all');
ROLLBACK;
SELECT count(*) FROM iotmq.consume('resetting', 'all');
SELECT iotmq.alter_group('resetting', 'all', reset => '{tags}');
SELECT iotmq.publish('resetting', 'd', '3', 'a');
SELECT count(*) FROM iotmq.consume('resetting', 'all');
SELECT iotmq.alter_group('resetting', 'all', reset => '{filter}');
SELECT iotmq.publish('resetting', 'd', '4', 'a');
SELECT payload FROM iotmq.consume('resetting', 'all');

SELECT iotmq.drop_topic('resetting', force => true);
