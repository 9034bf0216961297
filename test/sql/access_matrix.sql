-- Every function, view and table of schema iotmq x every kind of role: what may be done
-- is listed here, what is there comes from the catalogs. Whatever is added to iotmq
-- without a line below makes this test fail.
-- Promise: default-deny
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_iotmq_nobody, regress_iotmq_publisher, regress_iotmq_publisher_a,
	regress_iotmq_consumer, regress_iotmq_reader, regress_iotmq_mirror, regress_iotmq_monitor, regress_iotmq_admin,
	regress_iotmq_owner;
RESET client_min_messages;
CREATE ROLE regress_iotmq_nobody;
CREATE ROLE regress_iotmq_publisher;
CREATE ROLE regress_iotmq_publisher_a;
CREATE ROLE regress_iotmq_consumer;
CREATE ROLE regress_iotmq_reader;
CREATE ROLE regress_iotmq_mirror;
CREATE ROLE regress_iotmq_monitor;
CREATE ROLE regress_iotmq_admin;
-- owner: a member of the role that owns the extension, not a superuser
CREATE ROLE regress_iotmq_owner;
\set ECHO none
SELECT format('GRANT %s TO regress_iotmq_owner', nspowner::regrole) FROM pg_namespace WHERE nspname = 'iotmq' \gexec
\set ECHO all

SELECT iotmq.create_topic('access_matrix', '{a,b}');
SELECT iotmq.create_group('access_matrix', 'mine');
SELECT iotmq.create_group('access_matrix', 'other');
SELECT iotmq.grant_publish('access_matrix', 'regress_iotmq_publisher');
SELECT iotmq.grant_publish('access_matrix', 'regress_iotmq_publisher_a', '{a}');
SELECT iotmq.grant_consume('access_matrix', 'mine', 'regress_iotmq_consumer');
SELECT iotmq.grant_read('access_matrix', 'regress_iotmq_reader');
SELECT iotmq.grant_mirror('access_matrix', 'regress_iotmq_mirror');
SELECT iotmq.grant_monitor('regress_iotmq_monitor');
SELECT iotmq.grant_admin('regress_iotmq_admin');

-- Something for every call: messages, a lease of each group, a dead letter of each.
SELECT count(iotmq.publish('access_matrix', 'd', to_jsonb(i), 'a')) FROM generate_series(1, 9) AS i;
SELECT min(lease_id) AS dead_of_mine FROM iotmq.consume('access_matrix', 'mine', 1) \gset
SELECT min(lease_id) AS dead_of_other FROM iotmq.consume('access_matrix', 'other', 1) \gset
SELECT iotmq.reject(:dead_of_mine), iotmq.reject(:dead_of_other);
SELECT min(lease_id) AS mine FROM iotmq.consume('access_matrix', 'mine', 3) \gset
SELECT min(lease_id) AS other FROM iotmq.consume('access_matrix', 'other', 3) \gset

-- A call, and the kinds of roles that may make it; the owner may make every call, admin
-- all but those on what is internal. call NULL: the privilege to execute it is all there
-- is to check. %s in a call is the object.
CREATE TEMP TABLE expected (object text COLLATE "C", call text, allowed text[], admin boolean DEFAULT true);
INSERT INTO expected VALUES
	-- publishing
	('publish', $$SELECT %s('access_matrix', 'd', '1', 'a')$$, '{publisher_a,publisher}'),
	('publish', $$SELECT %s('access_matrix', 'd', '1', 'b')$$, '{publisher}'),
	('publish_batch', $$SELECT %s('access_matrix', '{d}', '{"1"}', 'a')$$, '{publisher_a,publisher}'),
	('publish_batch', $$SELECT %s('access_matrix', '{d}', '{"1"}', 'b')$$, '{publisher}'),
	-- consuming, and the same as another group
	('consume', $$SELECT %s('access_matrix', 'mine')$$, '{consumer}'),
	('consume', $$SELECT %s('access_matrix', 'other')$$, '{}'),
	('ack', format('SELECT %%s(%s)', :mine), '{consumer}'),
	('ack', format('SELECT %%s(%s)', :other), '{}'),
	('nack', format('SELECT %%s(%s)', :mine), '{consumer}'),
	('nack', format('SELECT %%s(%s)', :other), '{}'),
	('reject', format('SELECT %%s(%s)', :mine), '{consumer}'),
	('reject', format('SELECT %%s(%s)', :other), '{}'),
	('settle', format('SELECT %%s(%s, rest => ''reject'')', :mine), '{consumer}'),
	('settle', format('SELECT %%s(%s, rest => ''reject'')', :other), '{}'),
	('consume', format('SELECT %%s(''access_matrix'', ''mine'', ack_lease => %s)', :mine), '{consumer}'),
	('consume', format('SELECT %%s(''access_matrix'', ''other'', ack_lease => %s)', :other), '{}'),
	('extend', format('SELECT %%s(%s, ''1 h'')', :mine), '{consumer}'),
	('extend', format('SELECT %%s(%s, ''1 h'')', :other), '{}'),
	('redrive', $$SELECT %s('access_matrix', 'mine')$$, '{consumer}'),
	('redrive', $$SELECT %s('access_matrix', 'other')$$, '{}'),
	('purge_dead_letters', $$SELECT %s('access_matrix', 'mine')$$, '{consumer}'),
	('purge_dead_letters', $$SELECT %s('access_matrix', 'other')$$, '{}'),
	('retry_now', $$SELECT %s('access_matrix', 'mine', '{1}', 'a')$$, '{consumer}'),
	('retry_now', $$SELECT %s('access_matrix', 'other', '{1}', 'a')$$, '{}'),
	('give_up', $$SELECT %s('access_matrix', 'mine', '{1}', 'a')$$, '{consumer}'),
	('give_up', $$SELECT %s('access_matrix', 'other', '{1}', 'a')$$, '{}'),
	('commit_offset', $$SELECT %s('access_matrix', 'mine', 'a', 9)$$, '{consumer}'),
	('commit_offset', $$SELECT %s('access_matrix', 'other', 'a', 9)$$, '{}'),
	('committed_offset', $$SELECT %s('access_matrix', 'mine', 'a')$$, '{consumer}'),
	('committed_offset', $$SELECT %s('access_matrix', 'other', 'a')$$, '{}'),
	-- reading
	('fetch', $$SELECT %s('access_matrix', 'a', 1)$$, '{consumer,reader,mirror}'),
	('preview_group', $$SELECT %s('access_matrix', 'mine')$$, '{consumer,reader,mirror}'),
	('preview_group', $$SELECT %s('access_matrix', 'other')$$, '{reader,mirror}'),
	('messages_of_device', $$SELECT %s('access_matrix', 'd')$$, '{reader,mirror}'),
	('message_by_key', $$SELECT %s('access_matrix', 'd', 'k')$$, '{reader,mirror}'),
	('mirror_groups', $$SELECT %s('access_matrix', 'a')$$, '{mirror}'),
	('mirror_letters', $$SELECT %s('access_matrix', 'a', 'mine', '{1}')$$, '{mirror}'),
	-- whoever has a grant: names of tables
	('topic_table', $$SELECT %s('access_matrix')$$, '{publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('zone_table', $$SELECT %s('access_matrix', 'a')$$, '{publisher_a,publisher,consumer,reader,mirror,monitor}'),
	-- whoever has a grant: of what it is on
	('zones', $$SELECT %s('access_matrix')$$, '{publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('topic_settings', 'SELECT * FROM %s', '{publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('group_settings', 'SELECT * FROM %s', '{publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('settings_of_topics', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('settings_of_groups', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	-- everybody who comes so far: what a message that is inserted needs
	('copy_in_time', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('copy_in_elsewhere', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('message_is_valid', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('copy_in_place', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	-- says what the caller itself may do
	('lease_cursor', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('access_may_administer', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	-- rows of the groups that the caller may see: see own_rows
	('lag', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('deadletter_own', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('open_leases', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('open_waiting', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	-- administration
	('create_topic', $$SELECT %s('access_matrix_new')$$, '{}'),
	('alter_topic', $$SELECT %s('access_matrix', retention => '1 day')$$, '{}'),
	('drop_topic', $$SELECT %s('access_matrix', force => true)$$, '{}'),
	('add_zone', $$SELECT %s('access_matrix', 'c')$$, '{}'),
	('drop_zone', $$SELECT %s('access_matrix', 'a', force => true)$$, '{}'),
	('create_group', $$SELECT %s('access_matrix', 'new')$$, '{}'),
	('alter_group', $$SELECT %s('access_matrix', 'mine', max_lag => 1)$$, '{}'),
	('drop_group', $$SELECT %s('access_matrix', 'mine', force => true)$$, '{}'),
	('pause_group', $$SELECT %s('access_matrix', 'mine')$$, '{}'),
	('resume_group', $$SELECT %s('access_matrix', 'mine')$$, '{}'),
	('seek', $$SELECT %s('access_matrix', 'mine', '-infinity')$$, '{}'),
	('seek', $$SELECT %s('access_matrix', 'mine', '-infinity', dry_run => true)$$, '{}'),
	('seek_offset', $$SELECT %s('access_matrix', 'mine', 'a', 1)$$, '{}'),
	('grant_publish', $$SELECT %s('access_matrix', 'regress_iotmq_nobody')$$, '{}'),
	('revoke_publish', $$SELECT %s('access_matrix', 'regress_iotmq_publisher')$$, '{}'),
	('grant_consume', $$SELECT %s('access_matrix', 'mine', 'regress_iotmq_nobody')$$, '{}'),
	('revoke_consume', $$SELECT %s('access_matrix', 'mine', 'regress_iotmq_consumer')$$, '{}'),
	('grant_read', $$SELECT %s('access_matrix', 'regress_iotmq_nobody')$$, '{}'),
	('revoke_read', $$SELECT %s('access_matrix', 'regress_iotmq_reader')$$, '{}'),
	('grant_mirror', $$SELECT %s('access_matrix', 'regress_iotmq_nobody')$$, '{}'),
	('revoke_mirror', $$SELECT %s('access_matrix', 'regress_iotmq_mirror')$$, '{}'),
	('grant_monitor', $$SELECT %s('regress_iotmq_nobody')$$, '{}'),
	('revoke_monitor', $$SELECT %s('regress_iotmq_monitor')$$, '{}'),
	('grant_admin', $$SELECT %s('regress_iotmq_nobody')$$, '{}'),
	('revoke_admin', $$SELECT %s('regress_iotmq_admin')$$, '{}'),
	-- before the first group
	('set_node', NULL, '{}'),
	('this_node', NULL, '{}'),
	-- zones on other servers; those with a connection need dblink
	('fence_zone', $$SELECT %s('access_matrix', 'a')$$, '{}'),
	('open_zone', $$SELECT %s('access_matrix', 'a')$$, '{}'),
	('mirror_source', $$SELECT %s('access_matrix', 'a')$$, '{mirror}'),
	('mirror_messages', $$SELECT %s('access_matrix', 'a', 1, 10)$$, '{mirror}'),
	('hand_over', NULL, '{nobody,publisher_a,publisher,consumer,reader,mirror,monitor}'),
	('mirror_zone', NULL, '{}'),
	('pull', NULL, '{}'),
	('run_mirrors', NULL, '{}'),
	('promote_zone', NULL, '{}'),
	('demote_zone', NULL, '{}'),
	-- not in a transaction block; need pg_cron
	('run_maintenance', NULL, '{}'),
	('call_check_transaction', NULL, '{}'),
	('maintenance_plan', NULL, '{}'),
	('maintenance_step', NULL, '{}'),
	('maintenance_add', NULL, '{}'),
	('maintenance_note', NULL, '{}'),
	('maintenance_prepare', NULL, '{}'),
	('segment_seal', NULL, '{}'),
	('expire_leases', NULL, '{}'),
	('claim_pass', NULL, '{}'),
	('retention_let_go', NULL, '{}'),
	('retention_note_unreadable', NULL, '{}'),
	('retention_free', NULL, '{}'),
	('retention_drop', NULL, '{}'),
	('retention_tidy', NULL, '{}'),
	('retention_move_earliest', NULL, '{}'),
	('call_plain_message', NULL, '{}'),
	('maintenance_note_failure', NULL, '{}'),
	('maintenance_note_run', NULL, '{}'),
	('schedule_maintenance', NULL, '{}'),
	('unschedule_maintenance', NULL, '{}'),
	-- views, and what they call
	('count_lag', $$SELECT %s('access_matrix', 'mine')$$, '{consumer,monitor}'),
	('count_lag', $$SELECT %s('access_matrix', 'other')$$, '{monitor}'),
	('message_status', $$SELECT %s('access_matrix', 'a', 1)$$, '{consumer,monitor}'),
	('held_back_holders', $$SELECT %s()$$, '{monitor}'),
	('overview_zone_offsets', NULL, '{monitor}'),
	('holder_transactions', $$SELECT %s()$$, '{monitor}'),
	('alerts_maintenance', $$SELECT %s()$$, '{monitor}'),
	('stats', 'SELECT %s(false)', '{monitor}'),
	('consumer_lag', 'SELECT * FROM %s', '{consumer,monitor}'),
	('group_lag', 'SELECT * FROM %s', '{consumer,monitor}'),
	('dead_letter_depth', 'SELECT * FROM %s', '{monitor}'),
	('topic_stats', 'SELECT * FROM %s', '{monitor}'),
	('in_flight', 'SELECT * FROM %s', '{consumer,monitor}'),
	('waiting_message', 'SELECT * FROM %s', '{consumer,monitor}'),
	('cursor_holder', 'SELECT * FROM %s', '{monitor}'),
	('held_back', 'SELECT * FROM %s', '{monitor}'),
	('zone_epoch', 'SELECT * FROM %s', '{monitor}'),
	('epoch_gaps', NULL, '{monitor}'),
	('epoch_began_at', NULL, '{monitor}'),
	('overdue_segment', 'SELECT * FROM %s', '{monitor}'),
	('mirror', 'SELECT * FROM %s', '{monitor}'),
	('alerts', 'SELECT * FROM %s', '{monitor}'),
	('metrics', 'SELECT * FROM %s', '{monitor}'),
	('privileges', 'SELECT * FROM %s', '{monitor}'),
	('maintenance_run', 'SELECT * FROM %s', '{monitor}'),
	('dead_letter', 'SELECT * FROM %s', '{consumer}');
-- internal: catalogs, and functions that trust their arguments; who may execute one of
-- them nevertheless stands above
INSERT INTO expected
SELECT 'iotmq_internal.' || unnest('{topic,zone,zone_gap,segment,consumer_group,cursor,cursor_state,lease,redelivery,
	dead_message,consume_grant,mirror_grant,past_cursor,past_zone,away_cursor,source_group,node,maintenance_run,overdue,mirror_state}'::text[]), 'SELECT * FROM %s', '{}', false;
-- the steps of pulls and moves, which run as their caller
INSERT INTO expected
SELECT unnest('{link_connect,link_wait,link_schema,link_patience,link_check,link_close,link_open,link_send,link_receive,link_value,store_described,store_next,read_source_groups,
	mirror_read,mirror_read_gaps,mirror_missing,mirror_require_kept,mirror_question,mirror_check_new,mirror_create,mirror_begin,mirror_store,
	mirror_pull,mirror_ahead,mirror_all,mirror_note_error,mirror_try,mirror_end,
	move_apply,move_promote,move_require_fenced,move_catch_up,move_may_fence,move_fence_source,move_open_source,move_check_source,move_taker,move_probe,move_lacks,move_demote}'::text[]), NULL, '{}';
INSERT INTO expected
SELECT p.proname, NULL, '{}', false
FROM pg_proc AS p
WHERE p.pronamespace = 'iotmq'::regnamespace AND obj_description(p.oid, 'pg_proc') LIKE 'internal:%'
	AND p.proname COLLATE "C" NOT IN (SELECT object FROM expected);

CREATE TEMP VIEW kind AS
SELECT kind, 'regress_iotmq_' || kind AS role, n
FROM unnest('{nobody,publisher_a,publisher,consumer,reader,mirror,monitor,admin,owner}'::text[]) WITH ORDINALITY AS k (kind, n);

-- What there is. Two functions of one name would need a closer look than this, and
-- nobody needs the sequences.
CREATE TEMP VIEW object AS
SELECT proname::text COLLATE "C" AS object, oid AS function, NULL::oid AS relation
FROM pg_proc
WHERE pronamespace = 'iotmq'::regnamespace
UNION ALL
SELECT CASE WHEN relnamespace = 'iotmq_internal'::regnamespace THEN 'iotmq_internal.' ELSE '' END || relname, NULL, oid
FROM pg_class
WHERE relnamespace IN ('iotmq'::regnamespace, 'iotmq_internal'::regnamespace) AND relkind NOT IN ('i', 'I', 'c', 't', 'S');

-- What happens when a role makes a call; it is undone.
CREATE FUNCTION pg_temp.attempt(role text, call text) RETURNS text
	LANGUAGE plpgsql
AS $$
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE call;
	RAISE EXCEPTION USING ERRCODE = 'UNDO0';
EXCEPTION
	WHEN SQLSTATE 'UNDO0' THEN
		RETURN 'allowed';
	WHEN insufficient_privilege THEN
		RETURN 'denied';
	WHEN OTHERS THEN
		RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;

CREATE TEMP VIEW unlisted AS
SELECT o.object AS not_listed_here FROM object AS o WHERE o.object NOT IN (SELECT e.object FROM expected AS e);

-- Everything is listed, once a name, and what is listed is there.
SELECT * FROM unlisted ORDER BY not_listed_here;
SELECT object AS two_of_a_name FROM object GROUP BY object HAVING count(*) > 1 ORDER BY object;
SELECT object AS not_there FROM expected WHERE object NOT IN (SELECT o.object FROM object AS o) ORDER BY object;

-- This is how something new would show.
BEGIN;
CREATE FUNCTION iotmq.added_later() RETURNS int LANGUAGE sql RETURN 1;
CREATE VIEW iotmq.added_later_too AS SELECT 1 AS n;
SELECT * FROM unlisted ORDER BY not_listed_here;
ROLLBACK;

-- The matrix: what differs from the list.
SELECT e.object, e.call, k.kind, a.expected, a.seen
FROM expected AS e
JOIN object AS o USING (object)
CROSS JOIN kind AS k
CROSS JOIN LATERAL (
	SELECT
		CASE
			WHEN k.kind = ANY (e.allowed || '{owner}'::text[]) OR (k.kind = 'admin' AND e.admin) THEN 'allowed'
			ELSE 'denied'
		END AS expected,
		CASE
			WHEN e.call IS NOT NULL THEN pg_temp.attempt(k.role, format(e.call, coalesce(o.relation::regclass::text, format('iotmq.%I', e.object))))
			WHEN has_function_privilege(k.role, o.function, 'EXECUTE') THEN 'allowed'
			ELSE 'denied'
		END AS seen
) AS a
WHERE a.expected <> a.seen
ORDER BY e.object, e.call, k.n;

-- What everybody may execute must check by itself, or tell nothing.
SELECT o.object AS executable_by_everybody
FROM object AS o
WHERE has_function_privilege('regress_iotmq_nobody', o.function, 'EXECUTE')
ORDER BY o.object;

-- Nobody but the owner may change anything directly.
SELECT k.kind, o.object, p.privilege
FROM object AS o
CROSS JOIN kind AS k
CROSS JOIN unnest('{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS p (privilege)
WHERE k.kind <> 'owner'
	AND (has_table_privilege(k.role, o.relation, p.privilege)
		OR p.privilege IN ('INSERT', 'UPDATE', 'REFERENCES')
			AND has_any_column_privilege(k.role, o.relation, p.privilege))
ORDER BY k.n, o.object, p.privilege;
SELECT k.kind, c.relname AS sequence
FROM pg_class AS c
CROSS JOIN kind AS k
WHERE c.relnamespace IN ('iotmq'::regnamespace, 'iotmq_internal'::regnamespace) AND c.relkind = 'S'
	AND k.kind <> 'owner' AND has_sequence_privilege(k.role, c.oid, 'USAGE, SELECT, UPDATE')
ORDER BY k.n, c.relname;

-- The tables of a topic: who has what on which, all columns or some.
CREATE TEMP VIEW part AS
SELECT 'topic' AS part, table_name AS relation FROM iotmq_internal.topic WHERE topic = 'access_matrix'
UNION ALL
SELECT 'zone ' || zone, z.table_name FROM iotmq_internal.zone AS z JOIN iotmq_internal.topic USING (topic_id) WHERE topic = 'access_matrix'
UNION ALL
SELECT 'offsets of zone ' || zone, z.offset_sequence
FROM iotmq_internal.zone AS z
JOIN iotmq_internal.topic USING (topic_id)
WHERE topic = 'access_matrix'
UNION ALL
SELECT DISTINCT ON (zone) 'a segment of zone ' || zone, s.table_name
FROM iotmq_internal.segment AS s
JOIN iotmq_internal.zone AS z USING (zone_id)
JOIN iotmq_internal.topic USING (topic_id)
WHERE topic = 'access_matrix';
SELECT p.part, k.kind, string_agg(r.privilege, ', ' ORDER BY r.privilege) AS privileges
FROM part AS p
JOIN pg_class AS c ON c.oid = p.relation
CROSS JOIN kind AS k
CROSS JOIN LATERAL (
	SELECT privilege
	FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS privilege
	WHERE c.relkind <> 'S' AND has_table_privilege(k.role, c.oid, privilege)
	UNION ALL
	SELECT format('%s (%s)', privilege, string_agg(a.attname, ', ' ORDER BY a.attnum))
	FROM unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) AS privilege
	JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
		AND has_column_privilege(k.role, c.oid, a.attnum, privilege)
	WHERE c.relkind <> 'S' AND NOT has_table_privilege(k.role, c.oid, privilege)
	GROUP BY privilege
	UNION ALL
	SELECT privilege
	FROM unnest('{USAGE,SELECT,UPDATE}'::text[]) AS privilege
	WHERE c.relkind = 'S' AND has_sequence_privilege(k.role, c.oid, privilege)
) AS r
WHERE k.kind <> 'owner'
GROUP BY p.part, k.kind, k.n
ORDER BY p.part COLLATE "C", k.n;

-- Nor may anyone make objects in the schemas; who may name those that are there.
SELECT k.kind, s.name, string_agg(p.privilege, ', ') AS privileges
FROM kind AS k
JOIN pg_namespace AS n ON n.nspname LIKE 'iotmq%'
CROSS JOIN LATERAL regexp_replace(n.nspname, '[0-9]+$', 'N') AS s (name)
JOIN unnest('{CREATE,USAGE}'::text[]) AS p (privilege) ON has_schema_privilege(k.role, n.oid, p.privilege)
WHERE k.kind <> 'owner'
GROUP BY k.kind, k.n, s.name
ORDER BY k.n, s.name;

-- What works as the owner is for nobody else or safe with any argument: none takes a
-- table, a name of one, or SQL, and each has a search_path.
SELECT p.oid::regprocedure AS works_as_owner
FROM pg_proc AS p
WHERE p.pronamespace = 'iotmq'::regnamespace AND p.prosecdef
	AND (p.proconfig IS NULL OR NOT p.proconfig::text LIKE '%search_path=pg_catalog, pg_temp%'
		OR EXISTS (SELECT FROM unnest(p.proargtypes) AS t WHERE t IN ('regclass'::regtype, 'regproc'::regtype, 'record'::regtype)
			OR (SELECT typtype FROM pg_type WHERE oid = t) = 'c'))
ORDER BY 1;

-- All of that was undone.
SELECT consumer_group, messages FROM iotmq.in_flight WHERE topic = 'access_matrix' ORDER BY consumer_group;
SELECT consumer_group, zone, next_offset, dead_letters
FROM iotmq.consumer_lag
WHERE topic = 'access_matrix'
ORDER BY consumer_group, zone;

SELECT iotmq.drop_topic('access_matrix', force => true);
SELECT iotmq.revoke_monitor('regress_iotmq_monitor');
SELECT iotmq.revoke_admin('regress_iotmq_admin');
DROP OWNED BY regress_iotmq_consumer;
DROP ROLE regress_iotmq_nobody, regress_iotmq_publisher, regress_iotmq_publisher_a,
	regress_iotmq_consumer, regress_iotmq_reader, regress_iotmq_mirror, regress_iotmq_monitor, regress_iotmq_admin,
	regress_iotmq_owner;
