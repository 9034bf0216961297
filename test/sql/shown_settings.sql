-- The views topic_settings and group_settings, and zones: each role sees what it has a right on.
-- Promise: default-deny
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_iotmq_settings_publisher, regress_iotmq_settings_publisher_b, regress_iotmq_settings_consumer, regress_iotmq_settings_reader,
	regress_iotmq_settings_monitor, regress_iotmq_settings_admin, regress_iotmq_settings_nobody, regress_iotmq_settings_member;
CREATE ROLE regress_iotmq_settings_publisher;
CREATE ROLE regress_iotmq_settings_publisher_b;
CREATE ROLE regress_iotmq_settings_consumer;
CREATE ROLE regress_iotmq_settings_reader;
CREATE ROLE regress_iotmq_settings_monitor;
CREATE ROLE regress_iotmq_settings_admin;
CREATE ROLE regress_iotmq_settings_nobody;
CREATE ROLE regress_iotmq_settings_member IN ROLE regress_iotmq_settings_consumer, regress_iotmq_settings_publisher_b;
SELECT iotmq.create_topic('settings_one', '{c,a,b}', retention => '10 days', segment_interval => '1 h', retention_policy => 'consumed',
	max_retention => '20 days', device_index => false, dedup_window => '1 day');
SELECT iotmq.create_topic('settings_two');
SELECT iotmq.create_group('settings_one', 'g', 'orderly', tags => 'x || y', filter => '$.a > 1', invisible_for => '5 s', max_retries => 2,
	backoff => '{1 s,2 s}', max_delay => '1 h', max_lag => 7, durable_acks => true);
SELECT iotmq.create_group('settings_one', 'h');
SELECT iotmq.create_group('settings_two', 'g');
SELECT iotmq.pause_group('settings_one', 'h');
SELECT iotmq.grant_publish('settings_one', 'regress_iotmq_settings_publisher');
SELECT iotmq.grant_publish('settings_one', 'regress_iotmq_settings_publisher_b', '{b}');
SELECT iotmq.grant_consume('settings_one', 'g', 'regress_iotmq_settings_consumer');
SELECT iotmq.grant_read('settings_two', 'regress_iotmq_settings_reader');
SELECT iotmq.grant_monitor('regress_iotmq_settings_monitor');
SELECT iotmq.grant_admin('regress_iotmq_settings_admin');

-- what was told to create_..., and what is the default
\x on
SELECT topic, retention, segment_interval, retention_policy, max_retention, device_index, dedup_window, zones, created_at <= now() AS created
FROM iotmq.topic_settings
WHERE topic LIKE 'settings%'
ORDER BY topic;
SELECT topic, consumer_group, mode, tags, filter, invisible_for, max_retries, backoff, max_delay, max_lag, durable_acks, paused, created_at <= now() AS created
FROM iotmq.group_settings
WHERE topic = 'settings_one'
ORDER BY consumer_group;
\x off
-- and what was changed
SELECT iotmq.alter_topic('settings_one', retention => '11 days');
SELECT iotmq.add_zone('settings_one', 'd');
SELECT iotmq.alter_group('settings_one', 'g', tags => '*', max_lag => 8);
SELECT iotmq.resume_group('settings_one', 'h');
SELECT retention, zones FROM iotmq.topic_settings WHERE topic = 'settings_one';
SELECT consumer_group, tags, max_lag, paused FROM iotmq.group_settings WHERE topic = 'settings_one' ORDER BY consumer_group;
-- they can be given back as they are shown
SELECT iotmq.alter_group(topic, consumer_group, tags => tags, filter => filter, backoff => backoff) FROM iotmq.group_settings WHERE topic = 'settings_one';

-- Who sees what: a publisher to all zones also those that came later; one to b that zone, as
-- does a member of its role. A monitor has no right on a zone, and sees all nevertheless.
CREATE FUNCTION pg_temp.sees(role text) RETURNS TABLE (seen_by text, topics text, groups text, zones_of_one text)
	LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM set_config('role', 'regress_iotmq_settings_' || role, true);
	seen_by := role;
	SELECT string_agg(topic || ' ' || zones::text, ', ' ORDER BY topic) INTO topics FROM iotmq.topic_settings WHERE topic LIKE 'settings%';
	SELECT string_agg(topic || ' ' || consumer_group, ', ' ORDER BY topic, consumer_group) INTO groups FROM iotmq.group_settings WHERE topic LIKE 'settings%';
	SELECT string_agg(zone, ',') INTO zones_of_one FROM iotmq.zones('settings_one') AS zone;
	PERFORM set_config('role', 'none', true);
	RETURN NEXT;
END
$$;
SELECT s.*
FROM unnest('{publisher,publisher_b,consumer,member,reader,monitor,admin}'::text[]) WITH ORDINALITY AS r (role, n)
CROSS JOIN LATERAL pg_temp.sees(r.role) AS s
ORDER BY r.n;
SET ROLE regress_iotmq_settings_nobody;
SELECT topic FROM iotmq.topic_settings; \echo :SQLSTATE
SELECT iotmq.zones('settings_one'); \echo :SQLSTATE
RESET ROLE;
-- a function with little cost of its own sees no more
SET ROLE regress_iotmq_settings_publisher_b;
CREATE FUNCTION pg_temp.look(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE WARNING 'saw %', $1; RETURN true; END $$;
SELECT topic FROM iotmq.topic_settings WHERE pg_temp.look(topic);
SELECT topic FROM iotmq.group_settings WHERE pg_temp.look(topic || consumer_group);
DROP FUNCTION pg_temp.look;
RESET ROLE;
-- nor do the figures of a plan say how many there are
CREATE FUNCTION pg_temp.plan(query text) RETURNS SETOF text
	LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM set_config('role', 'regress_iotmq_settings_publisher_b', true);
	RETURN QUERY EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) ' || query;
	PERFORM set_config('role', 'none', true);
END
$$;
SELECT replace(plan, '.00', '') AS plan
FROM unnest('{topic_settings,group_settings}'::text[]) AS view
CROSS JOIN LATERAL pg_temp.plan(format('SELECT * FROM iotmq.%I WHERE topic LIKE %L', view, 'settings%')) AS plan
WHERE plan ~ 'actual rows|Removed';
-- a right that is taken back, and a zone that goes
SELECT iotmq.revoke_publish('settings_one', 'regress_iotmq_settings_publisher', '{a,c}');
SELECT s.* FROM pg_temp.sees('publisher') AS s;
SELECT iotmq.drop_zone('settings_one', 'b');
SELECT iotmq.revoke_consume('settings_one', 'g', 'regress_iotmq_settings_consumer');
SELECT s.* FROM pg_temp.sees('publisher') AS s;
SELECT s.* FROM pg_temp.sees('consumer') AS s; \echo :SQLSTATE

SELECT iotmq.zones('settings_one');
SELECT iotmq.zones('nothing'); \echo :SQLSTATE
SELECT iotmq.zones(NULL); \echo :SQLSTATE

SELECT iotmq.drop_topic('settings_one', force => true);
SELECT iotmq.drop_topic('settings_two', force => true);
SELECT iotmq.revoke_monitor('regress_iotmq_settings_monitor');
SELECT iotmq.revoke_admin('regress_iotmq_settings_admin');
DROP ROLE regress_iotmq_settings_member, regress_iotmq_settings_publisher, regress_iotmq_settings_publisher_b, regress_iotmq_settings_consumer, regress_iotmq_settings_reader,
	regress_iotmq_settings_monitor, regress_iotmq_settings_admin, regress_iotmq_settings_nobody;
