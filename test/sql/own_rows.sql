-- Who consumes as a group sees its rows of the views, and nothing of other groups: neither
-- rows nor figures of a plan.
-- Promise: default-deny
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_iotmq_mine, regress_iotmq_both, regress_iotmq_member, regress_iotmq_publisher, regress_iotmq_monitor;
RESET client_min_messages;
CREATE ROLE regress_iotmq_mine;
CREATE ROLE regress_iotmq_both;
CREATE ROLE regress_iotmq_member;
CREATE ROLE regress_iotmq_publisher;
CREATE ROLE regress_iotmq_monitor;
GRANT regress_iotmq_mine TO regress_iotmq_member;
SELECT iotmq.create_topic('own_rows', '{a,b}'), iotmq.create_topic('own_rows_other');
SELECT iotmq.create_group('own_rows', 'mine'), iotmq.create_group('own_rows', 'other'), iotmq.create_group('own_rows_other', 'mine');
SELECT iotmq.grant_consume('own_rows', 'mine', 'regress_iotmq_mine');
SELECT iotmq.grant_consume('own_rows', g, 'regress_iotmq_both') FROM unnest('{mine,other}'::text[]) AS g;
SELECT iotmq.grant_publish('own_rows', 'regress_iotmq_publisher');
SELECT iotmq.grant_monitor('regress_iotmq_monitor');

-- Two leases, waiting messages and dead letters of each group, in one zone.
SELECT count(iotmq.publish(t, 'd', to_jsonb(n), z)) FROM (VALUES ('own_rows', 'a'), ('own_rows_other', 'default')) AS v (t, z), generate_series(1, 9) AS n;
SELECT count(iotmq.nack(lease_id, ARRAY[msg_offset], '1 day', 'busy')) FROM (VALUES ('own_rows', 'mine'), ('own_rows', 'other'), ('own_rows_other', 'mine')) AS v (t, g), iotmq.consume(t, g, 4) WHERE msg_offset < 3;
SELECT count(iotmq.reject(lease_id, ARRAY[msg_offset])) FROM (VALUES ('own_rows', 'mine'), ('own_rows', 'other'), ('own_rows_other', 'mine')) AS v (t, g), iotmq.consume(t, g, 3) WHERE msg_offset < 7;

-- What a role sees of each view.
CREATE FUNCTION pg_temp.seen(role text) RETURNS TABLE (view text, rows text)
	LANGUAGE plpgsql
AS $$
DECLARE
	query text;
BEGIN
	PERFORM set_config('role', role, true);
	FOREACH view IN ARRAY '{consumer_lag,group_lag,in_flight,waiting_message,dead_letter,topic_stats,cursor_holder,message_status,count_lag}'::text[] LOOP
		query := CASE view
			WHEN 'message_status' THEN 'SELECT s.consumer_group || s.state AS one FROM iotmq.message_status(''own_rows'', ''a'', 9) AS s'
			WHEN 'count_lag' THEN 'SELECT g || iotmq.count_lag(''own_rows'', g) AS one FROM unnest(''{mine,other}''::text[]) AS g'
			WHEN 'topic_stats' THEN 'SELECT topic AS one FROM iotmq.topic_stats WHERE topic ~ ''own_rows'''
			ELSE format('SELECT concat_ws(''/'', topic, consumer_group) AS one FROM iotmq.%I WHERE topic ~ ''own_rows''', view)
		END;
		BEGIN
			EXECUTE format('SELECT string_agg(DISTINCT one, '', '' ORDER BY one) FROM (%s) AS q', query) INTO rows;
		EXCEPTION WHEN insufficient_privilege THEN
			rows := 'denied';
		END;
		RETURN NEXT;
	END LOOP;
	PERFORM set_config('role', 'none', true);
END
$$;
SELECT * FROM pg_temp.seen('regress_iotmq_mine');
SELECT * FROM pg_temp.seen('regress_iotmq_both');
SELECT * FROM pg_temp.seen('regress_iotmq_member');
SELECT * FROM pg_temp.seen('regress_iotmq_publisher');
SELECT * FROM pg_temp.seen('regress_iotmq_monitor');

-- A topic of which the role has no group.
SET ROLE regress_iotmq_mine;
SELECT iotmq.count_lag('own_rows', 'other');
SELECT * FROM iotmq.message_status('own_rows_other', 'default', 1);
SELECT consumer_group, zone, lag_messages, inflight_messages, retry_messages, dead_letters FROM iotmq.consumer_lag ORDER BY zone;
SELECT consumer_group, lag_messages, inflight_messages, retry_messages, dead_letters FROM iotmq.group_lag;
RESET ROLE;

-- A plan has no figures of others either.
CREATE FUNCTION pg_temp.plan(role text, query text) RETURNS SETOF text
	LANGUAGE plpgsql
AS $$
DECLARE
	line text;
BEGIN
	PERFORM set_config('role', role, true);
	-- 18 counts rows with two decimals, and shows buffers unless it is told not to
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, BUFFERS off, COSTS off, TIMING off, SUMMARY off) ' || query LOOP
		RETURN NEXT replace(line, '.00 ', ' ');
	END LOOP;
	PERFORM set_config('role', 'none', true);
END
$$;
SELECT plan FROM unnest('{consumer_lag,group_lag,in_flight,waiting_message,dead_letter}'::text[]) AS view, pg_temp.plan('regress_iotmq_mine', 'SELECT * FROM iotmq.' || view) AS plan WHERE plan ~ 'actual rows|Removed';
SELECT pg_temp.plan('regress_iotmq_mine', 'SELECT iotmq.count_lag(''own_rows'', ''mine'')');
SELECT pg_temp.plan('regress_iotmq_mine', 'SELECT * FROM iotmq.message_status(''own_rows'', ''a'', 1)');

-- Nor is an operator of its own asked about what the planner knows of others, from statistics.
UPDATE iotmq_internal.dead_message AS d
SET reason = 'secret'
FROM iotmq_internal.cursor AS c, iotmq_internal.consumer_group AS g
WHERE c.cursor_id = d.cursor_id AND g.group_id = c.group_id AND g.consumer_group = 'other';
ANALYZE iotmq_internal.dead_message, iotmq_internal.topic, iotmq_internal.consumer_group;
SET ROLE regress_iotmq_mine;
CREATE FUNCTION pg_temp.peek(value text, other text) RETURNS boolean STRICT LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'it is asked about %', value;
	RETURN true;
END
$$;
CREATE OPERATOR pg_temp.<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.peek, RESTRICT = matchingsel);
SELECT count(*) FROM iotmq.dead_letter WHERE reason OPERATOR(pg_temp.<<<) '';
RESET ROLE;
DROP OPERATOR pg_temp.<<< (text, text);
DROP FUNCTION pg_temp.peek;
SELECT tablename, attname
FROM pg_stats
WHERE schemaname = 'iotmq_internal'
	AND (tablename = 'dead_message' AND attname IN (SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = 'iotmq.dead_letter'::regclass)
		OR (tablename, attname) IN (('topic', 'topic'), ('consumer_group', 'consumer_group')));

-- The views go with the last right that gives them.
SELECT iotmq.grant_monitor('regress_iotmq_mine');
SELECT * FROM pg_temp.seen('regress_iotmq_mine') WHERE view IN ('in_flight', 'topic_stats', 'dead_letter');
SELECT iotmq.revoke_monitor('regress_iotmq_mine');
SELECT * FROM pg_temp.seen('regress_iotmq_mine') WHERE view IN ('in_flight', 'topic_stats', 'dead_letter');
SELECT iotmq.grant_admin('regress_iotmq_mine');
SELECT iotmq.revoke_consume('own_rows', 'mine', 'regress_iotmq_mine');
SELECT * FROM pg_temp.seen('regress_iotmq_mine') WHERE view IN ('in_flight', 'topic_stats', 'dead_letter');
SELECT iotmq.revoke_admin('regress_iotmq_mine');
SELECT * FROM pg_temp.seen('regress_iotmq_mine') WHERE view IN ('in_flight', 'topic_stats', 'dead_letter');
SELECT role, action FROM iotmq.privileges WHERE role IN ('regress_iotmq_mine'::regrole, 'regress_iotmq_monitor'::regrole);
SELECT c.oid::regclass AS left_over
FROM pg_class AS c
WHERE c.relnamespace = 'iotmq'::regnamespace AND has_any_column_privilege('regress_iotmq_mine', c.oid, 'SELECT') AND c.relkind = 'v';

SELECT iotmq.drop_topic('own_rows', force => true), iotmq.drop_topic('own_rows_other', force => true);
DROP OWNED BY regress_iotmq_both;
SELECT iotmq.revoke_monitor('regress_iotmq_monitor');
DROP OWNED BY regress_iotmq_publisher;
DROP ROLE regress_iotmq_mine, regress_iotmq_both, regress_iotmq_member, regress_iotmq_publisher, regress_iotmq_monitor;
