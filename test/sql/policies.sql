-- Row level security on a topic's table: fetch, messages_of_device, message_by_key and
-- preview_group give a reader the rows that SQL gives him. Publishers and consumers get all.
-- Promise: default-deny
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_iotmq_north, regress_iotmq_south, regress_iotmq_worker, regress_iotmq_zoned,
	regress_iotmq_bypass, regress_iotmq_admin;
RESET client_min_messages;
CREATE ROLE regress_iotmq_north;
CREATE ROLE regress_iotmq_south;
CREATE ROLE regress_iotmq_worker;
CREATE ROLE regress_iotmq_zoned;
CREATE ROLE regress_iotmq_bypass BYPASSRLS;
CREATE ROLE regress_iotmq_admin;
SELECT iotmq.create_topic('policies', '{a,b}', dedup_window => '1 hour');
SELECT iotmq.create_group('policies', 'g', start_from => '-infinity');
SELECT iotmq.grant_read('policies', 'regress_iotmq_north');
SELECT iotmq.grant_read('policies', 'regress_iotmq_south');
SELECT iotmq.grant_read('policies', 'regress_iotmq_bypass');
SELECT iotmq.grant_read('policies', 'regress_iotmq_zoned', '{a}');
SELECT iotmq.grant_consume('policies', 'g', 'regress_iotmq_worker');
SELECT iotmq.grant_publish('policies', 'regress_iotmq_north');
SELECT iotmq.grant_admin('regress_iotmq_admin');
-- Odd ones are of the north, even ones of the south; each device has some of both.
SELECT count(iotmq.publish('policies', (ARRAY['pump', 'valve'])[1 + n / 2 % 2],
	jsonb_build_object('n', n, 'tenant', (ARRAY['south', 'north'])[1 + n % 2]), zone, message_key => 'key ' || n))
FROM unnest('{a,b}'::text[]) AS zone, generate_series(1, 8) AS n;

-- What each sees, one way and the other.
-- What the caller sees, by each way.
CREATE FUNCTION seen() RETURNS TABLE (way text, messages text) LANGUAGE sql AS $$
	SELECT s.way, string_agg(s.zone || s.n, ' ' ORDER BY s.zone, s.n)
	FROM (
		SELECT 'sql' AS way, zone, payload ->> 'n' AS n
		FROM iotmq_topic.policies
		UNION ALL
		SELECT 'fetch', f.zone, f.payload ->> 'n'
		FROM unnest('{a,b}'::text[]) AS z, LATERAL iotmq.fetch('policies', z, 1) AS f
		UNION ALL
		SELECT 'device', m.zone, m.payload ->> 'n'
		FROM unnest('{pump,valve}'::text[]) AS d, LATERAL iotmq.messages_of_device('policies', d) AS m
		UNION ALL
		SELECT 'key', m.zone, m.payload ->> 'n'
		FROM unnest('{pump,valve}'::text[]) AS d, generate_series(1, 8) AS k,
			LATERAL iotmq.message_by_key('policies', d, 'key ' || k) AS m
		UNION ALL
		SELECT 'preview', p.wanted::text, p.messages::text
		FROM iotmq.preview_group('policies', 'g', filter => '$.n > 4') AS p
	) AS s
	GROUP BY s.way
	ORDER BY s.way
$$;

--
-- Policies count once they are enabled, for whom they are made; superusers and roles with
-- BYPASSRLS see all. Without a policy for him a reader sees nothing.
--
CREATE POLICY north ON iotmq_topic.policies FOR SELECT TO regress_iotmq_north
	USING (payload ->> 'tenant' = 'north');
CREATE POLICY south ON iotmq_topic.policies FOR SELECT TO regress_iotmq_south
	USING (payload ->> 'tenant' = 'south' AND device_id LIKE 'pu%');
SET ROLE regress_iotmq_north;
SELECT * FROM seen() WHERE way IN ('sql', 'fetch');
RESET ROLE;
ALTER TABLE iotmq_topic.policies ENABLE ROW LEVEL SECURITY;
SET ROLE regress_iotmq_north;
SELECT * FROM seen();
SET ROLE regress_iotmq_south;
SELECT * FROM seen();
SET ROLE regress_iotmq_bypass;
SELECT * FROM seen();
RESET ROLE;
SELECT * FROM seen() WHERE way IN ('sql', 'fetch');
DROP POLICY south ON iotmq_topic.policies;
SET ROLE regress_iotmq_south;
SELECT * FROM seen();
RESET ROLE;

--
-- What is returned is as it is without policies, in its order and number; max_messages counts
-- what the reader sees, and he finds what comes behind others' messages.
--
SET ROLE regress_iotmq_north;
SELECT lease_id, zone, msg_offset, device_id, tag, payload, attempt, message_key
FROM iotmq.fetch('policies', 'a', 2, 2);
SELECT lease_id, zone, msg_offset, device_id, tag, payload, attempt, message_key
FROM iotmq.messages_of_device('policies', 'pump', max_messages => 2, zone => 'b');
SELECT lease_id, zone, msg_offset, device_id, tag, payload, attempt, message_key
FROM iotmq.message_by_key('policies', 'pump', 'key 5', zone => 'b');
SELECT zone FROM iotmq.message_by_key('policies', 'pump', 'key 4');
SELECT msg_offset FROM iotmq.messages_of_device('policies', 'pump', until => now() - interval '1 day');
SELECT msg_offset FROM iotmq.fetch('policies', 'a', 8);
SELECT wanted, messages, example -> 'msg_offset' AS example
FROM iotmq.preview_group('policies', 'g', filter => '$.n > 4', messages => 3);
\set VERBOSITY sqlstate
SELECT iotmq.messages_of_device('policies', NULL);
SELECT iotmq.messages_of_device('policies', 'd', NULL);
SELECT iotmq.messages_of_device('policies', 'd', until => NULL);
SELECT iotmq.messages_of_device('policies', 'd', max_messages => 0);
SELECT iotmq.message_by_key('policies', 'd', NULL);
SELECT iotmq.message_by_key('policies', NULL, 'k');
SELECT iotmq.fetch('policies', 'unknown', 1);
\set VERBOSITY default
RESET ROLE;
-- More of others than are looked at in one go.
SELECT cardinality(iotmq.publish_batch('policies', array_fill('other'::text, '{10000}'),
	array_fill('{"tenant": "south"}'::jsonb, '{10000}'), 'a')) AS others;
SELECT cardinality(iotmq.publish_batch('policies', array_fill('other'::text, '{5000}'),
	array_fill('{"tenant": "south"}'::jsonb, '{5000}'), 'a')) AS others;
SELECT iotmq.publish('policies', 'pump', '{"n": 9, "tenant": "north"}', 'a');
SET ROLE regress_iotmq_north;
SELECT msg_offset, payload FROM iotmq.fetch('policies', 'a', 8);
SELECT msg_offset, payload FROM iotmq.fetch('policies', 'a', 5);
RESET ROLE;

--
-- A publisher is not bound, and who consumes gets everything.
--
SET ROLE regress_iotmq_north;
SELECT iotmq.publish('policies', 'valve', '{"n": 10, "tenant": "south"}', 'b');
SELECT iotmq.publish_batch('policies', '{valve}', '{"{\"n\": 11, \"tenant\": \"north\"}"}', 'b');
SET ROLE regress_iotmq_worker;
SELECT string_agg(payload ->> 'n', ' ' ORDER BY msg_offset) FROM iotmq.fetch('policies', 'b', 1);
SELECT sum(messages) FROM iotmq.preview_group('policies', 'g', messages => 10000);
SELECT string_agg(payload ->> 'n', ' ' ORDER BY msg_offset) FROM iotmq.consume('policies', 'g', zone => 'b');
SELECT string_agg(payload ->> 'n', ' ' ORDER BY msg_offset) FROM iotmq.fetch('policies', 'b', 1);
RESET ROLE;

--
-- A mirror gets everything, one that may also read, too.
--
SELECT iotmq.grant_mirror('policies', 'regress_iotmq_south');
SET ROLE regress_iotmq_south;
SELECT string_agg(payload ->> 'n', ' ' ORDER BY msg_offset) FROM iotmq.fetch('policies', 'b', 1);
SELECT string_agg(payload ->> 'n', ' ') FROM iotmq_topic.policies WHERE payload ->> 'tenant' = 'north';
RESET ROLE;
SELECT iotmq.revoke_mirror('policies', 'regress_iotmq_south');
SELECT iotmq.grant_mirror('policies', 'regress_iotmq_worker');
SELECT iotmq.revoke_consume('policies', 'g', 'regress_iotmq_worker');
SET ROLE regress_iotmq_worker;
SELECT string_agg(payload ->> 'n', ' ' ORDER BY msg_offset) FROM iotmq.fetch('policies', 'b', 1);
RESET ROLE;
SELECT iotmq.revoke_mirror('policies', 'regress_iotmq_worker');
SET ROLE regress_iotmq_south;
SELECT string_agg(payload ->> 'n', ' ' ORDER BY msg_offset) FROM iotmq.fetch('policies', 'b', 1);
RESET ROLE;

--
-- Administrators are no readers: they may consume as any group. With the right to SELECT
-- they are as others.
--
SET ROLE regress_iotmq_admin;
SELECT count(*) FROM iotmq.fetch('policies', 'b', 1);
SELECT iotmq.grant_read('policies', 'regress_iotmq_admin');
SELECT count(*) FROM iotmq.fetch('policies', 'b', 1);
RESET ROLE;

--
-- Who may read single zones is told; what he may consume is his.
--
SET ROLE regress_iotmq_zoned;
SELECT iotmq.fetch('policies', 'a', 1);
\set VERBOSITY sqlstate
SELECT iotmq.messages_of_device('policies', 'pump');
SELECT iotmq.messages_of_device('policies', 'pump', zone => 'a');
SELECT iotmq.message_by_key('policies', 'pump', 'key 1');
SELECT iotmq.preview_group('policies', 'g');
RESET ROLE;
SELECT iotmq.grant_consume('policies', 'g', 'regress_iotmq_zoned');
SET ROLE regress_iotmq_zoned;
SELECT string_agg(payload ->> 'n', ' ' ORDER BY msg_offset) FROM iotmq.fetch('policies', 'a', 1, 3);
SELECT iotmq.messages_of_device('policies', 'pump');
RESET ROLE;

--
-- A session that wants to be told when policies would leave something out is told.
--
SET ROLE regress_iotmq_north;
\set VERBOSITY terse
SET row_security = off;
SELECT zone FROM iotmq_topic.policies;
SELECT iotmq.fetch('policies', 'b', 1);
SELECT iotmq.messages_of_device('policies', 'pump');
SELECT iotmq.message_by_key('policies', 'pump', 'key 1');
SELECT iotmq.preview_group('policies', 'g');
RESET row_security;
RESET ROLE;

--
-- The owner is bound by FORCE only.
--
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_iotmq_owner;
RESET client_min_messages;
CREATE ROLE regress_iotmq_owner;
SELECT iotmq.grant_read('policies', 'regress_iotmq_owner');
ALTER TABLE iotmq_topic.policies OWNER TO regress_iotmq_owner;
SET ROLE regress_iotmq_owner;
SELECT count(*) FROM iotmq.fetch('policies', 'b', 1);
ALTER TABLE iotmq_topic.policies FORCE ROW LEVEL SECURITY;
SELECT count(*) FROM iotmq.fetch('policies', 'b', 1);
SELECT count(*) FROM iotmq_topic.policies;
ALTER TABLE iotmq_topic.policies NO FORCE ROW LEVEL SECURITY;
RESET ROLE;
ALTER TABLE iotmq_topic.policies OWNER TO CURRENT_USER;

--
-- A policy's code runs as the caller, and can do what he can; its errors come through.
--
CREATE TABLE ran (as_user name);
GRANT INSERT, SELECT ON ran TO PUBLIC;
CREATE FUNCTION note_user() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO ran VALUES (current_user);
	RETURN true;
END
$$;
ALTER POLICY north ON iotmq_topic.policies USING (note_user());
SET ROLE regress_iotmq_north;
SELECT count(*) FROM iotmq.fetch('policies', 'b', 1);
SELECT count(*) FROM iotmq.messages_of_device('policies', 'pump', zone => 'b');
SELECT count(*) FROM iotmq.message_by_key('policies', 'pump', 'key 1', 'b');
SELECT sum(messages) FROM iotmq.preview_group('policies', 'g', messages => 2);
RESET ROLE;
SELECT as_user, count(*) > 0 AS ran FROM ran GROUP BY as_user;
CREATE FUNCTION pry() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	RETURN EXISTS (SELECT FROM iotmq_internal.topic);
END
$$;
ALTER POLICY north ON iotmq_topic.policies USING (pry());
SET ROLE regress_iotmq_north;
SELECT iotmq.fetch('policies', 'b', 1);
SELECT iotmq.messages_of_device('policies', 'pump');
SELECT iotmq.message_by_key('policies', 'pump', 'key 1');
SELECT iotmq.preview_group('policies', 'g');
RESET ROLE;
ALTER POLICY north ON iotmq_topic.policies USING (1 / (length(device_id) - 4) > 0);
SET ROLE regress_iotmq_north;
SELECT iotmq.fetch('policies', 'b', 1);
SELECT iotmq.messages_of_device('policies', 'pump');
SELECT iotmq.message_by_key('policies', 'pump', 'key 1');
SELECT iotmq.preview_group('policies', 'g');
RESET ROLE;
\set VERBOSITY default
-- It may use iotmq itself, and changes to topics meanwhile don't matter.
CREATE FUNCTION look_up() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	PERFORM iotmq.create_topic('policies_other');
	PERFORM iotmq.alter_topic('policies', retention => '30 days');
	PERFORM iotmq.drop_topic('policies_other');
	RETURN true;
END
$$;
ALTER POLICY north ON iotmq_topic.policies USING (device_id <> 'other' AND look_up());
SET ROLE regress_iotmq_north;
SELECT string_agg(payload ->> 'n', ' ' ORDER BY msg_offset) FROM iotmq.fetch('policies', 'b', 1);
SELECT wanted, messages FROM iotmq.preview_group('policies', 'g', messages => 3);
RESET ROLE;

SELECT iotmq.drop_topic('policies', force => true);
DROP FUNCTION seen, note_user, pry, look_up;
DROP TABLE ran;
DROP OWNED BY regress_iotmq_north, regress_iotmq_south, regress_iotmq_worker, regress_iotmq_zoned,
	regress_iotmq_bypass, regress_iotmq_admin, regress_iotmq_owner;
DROP ROLE regress_iotmq_north, regress_iotmq_south, regress_iotmq_worker, regress_iotmq_zoned,
	regress_iotmq_bypass, regress_iotmq_admin, regress_iotmq_owner;
