-- The functions of nodes, each with the node as its first argument. Whoever calls one is the
-- same role there, by PL/Proxy, and the node decides.

-- pass(name, arguments, result, extra): makes one, for the time of this script. A regrole
-- goes by its name; extra is an expression for server_of.
CREATE FUNCTION iotmq_node.pass(name text, arguments text, result text, extra text DEFAULT 'NULL') RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	names text;
BEGIN
	SELECT string_agg(split_part(one, ' ', 1) || CASE WHEN one LIKE '% regrole' THEN '::regrole' ELSE '' END, ', ' ORDER BY place)
	INTO names
	FROM regexp_split_to_table(arguments, ', ') WITH ORDINALITY AS a (one, place);
	EXECUTE format('CREATE FUNCTION iotmq_node.%1$s(node int, %2$s) RETURNS %3$s
			LANGUAGE plproxy VOLATILE PARALLEL UNSAFE
		AS $body$
			CLUSTER iotmq_node.server_of(node, current_user, %4$s);
			RUN ON 0;
			%6$s iotmq.%1$s(%5$s)%7$s;
		$body$',
		name, replace(arguments, ' regrole', ' text'), CASE result WHEN 'void' THEN 'text' ELSE result END, extra, names,
		CASE WHEN result LIKE 'SETOF iotmq.%' OR result LIKE 'TABLE%' THEN 'SELECT * FROM' ELSE 'SELECT' END,
		CASE result WHEN 'void' THEN '::text' END);
	EXECUTE format('COMMENT ON FUNCTION iotmq_node.%s IS ''internal: %1$s at a node''', name);
END
$$;

SELECT iotmq_node.pass('publish', 'topic text, device_id text, payload jsonb, zone text, tag text, properties jsonb, body bytea, message_key text', 'bigint');
SELECT iotmq_node.pass('publish_batch', 'topic text, device_ids text[], payloads jsonb[], zone text, tags text[], properties jsonb[], bodies bytea[], zones text[], message_keys text[]', 'bigint[]');
SELECT iotmq_node.pass('message_by_key', 'topic text, device_id text, message_key text, zone text', 'SETOF iotmq.delivery');
SELECT iotmq_node.pass('consume', 'topic text, consumer_group text, max_messages int, invisible_for interval, zone text, wait interval, consumer text', 'SETOF iotmq.delivery', 'wait');
SELECT iotmq_node.pass('ack', 'lease_id bigint, msg_offsets bigint[]', 'int');
SELECT iotmq_node.pass('nack', 'lease_id bigint, msg_offsets bigint[], delay interval, reason text', 'int');
SELECT iotmq_node.pass('reject', 'lease_id bigint, msg_offsets bigint[], reason text', 'int');
SELECT iotmq_node.pass('settle', 'lease_id bigint, acks bigint[], nacks bigint[], rejects bigint[], rest text, delay interval, reasons text[]', 'int');
SELECT iotmq_node.pass('extend', 'lease_id bigint, invisible_for interval', 'timestamptz');
SELECT iotmq_node.pass('retry_now', 'topic text, consumer_group text, msg_offsets bigint[], zone text', 'int', $$'5 min'$$);
SELECT iotmq_node.pass('give_up', 'topic text, consumer_group text, msg_offsets bigint[], zone text, reason text', 'int', $$'5 min'$$);
SELECT iotmq_node.pass('fetch', 'topic text, zone text, from_offset bigint, max_messages int', 'SETOF iotmq.delivery');
SELECT iotmq_node.pass('commit_offset', 'topic text, consumer_group text, zone text, next_offset bigint', 'void');
SELECT iotmq_node.pass('committed_offset', 'topic text, consumer_group text, zone text', 'bigint');
SELECT iotmq_node.pass('zones', 'topic text', 'SETOF text');
SELECT iotmq_node.pass('messages_of_device', 'topic text, device_id text, since timestamptz, until timestamptz, max_messages int, zone text', 'SETOF iotmq.delivery');
SELECT iotmq_node.pass('message_status', 'topic text, zone text, msg_offset bigint', 'TABLE (consumer_group text, state text, attempt int, lease_id bigint, consumer text, until timestamptz, reason text)');
SELECT iotmq_node.pass('count_lag', 'topic text, consumer_group text', 'bigint', $$'5 min'$$);
SELECT iotmq_node.pass('preview_group', 'topic text, consumer_group text, tags text, filter jsonpath, messages int', 'TABLE (wanted boolean, messages bigint, example jsonb)', $$'5 min'$$);
SELECT iotmq_node.pass('seek', 'topic text, consumer_group text, to_time timestamptz, zone text, dry_run boolean', 'SETOF iotmq.seek_result', $$'5 min'$$);
SELECT iotmq_node.pass('seek_offset', 'topic text, consumer_group text, zone text, to_offset bigint, dry_run boolean', 'SETOF iotmq.seek_result', $$'5 min'$$);
SELECT iotmq_node.pass('redrive', 'topic text, consumer_group text, ids bigint[], max_messages bigint, dry_run boolean', 'bigint', $$'5 min'$$);
SELECT iotmq_node.pass('purge_dead_letters', 'topic text, consumer_group text, ids bigint[], older_than interval', 'bigint', $$'5 min'$$);
SELECT iotmq_node.pass('create_topic', 'topic text, zones text[], retention interval, segment_interval interval, retention_policy text, max_retention interval, device_index boolean, dedup_window interval', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('alter_topic', 'topic text, retention interval, segment_interval interval, retention_policy text, max_retention interval, dedup_window interval, reset text[]', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('drop_topic', 'topic text, force boolean', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('add_zone', 'topic text, zone text', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('drop_zone', 'topic text, zone text, force boolean', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('create_group', 'topic text, consumer_group text, mode text, start_from timestamptz, tags text, filter jsonpath, invisible_for interval, max_retries int, backoff interval[], max_delay interval, max_lag bigint, durable_acks boolean', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('alter_group', 'topic text, consumer_group text, mode text, tags text, filter jsonpath, invisible_for interval, max_retries int, backoff interval[], max_delay interval, max_lag bigint, reset text[], durable_acks boolean', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('drop_group', 'topic text, consumer_group text, force boolean', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('pause_group', 'topic text, consumer_group text', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('resume_group', 'topic text, consumer_group text', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('grant_publish', 'topic text, role regrole, zones text[]', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('revoke_publish', 'topic text, role regrole, zones text[]', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('grant_consume', 'topic text, consumer_group text, role regrole', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('revoke_consume', 'topic text, consumer_group text, role regrole', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('grant_read', 'topic text, role regrole, zones text[]', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('revoke_read', 'topic text, role regrole, zones text[]', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('grant_monitor', 'role regrole', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('revoke_monitor', 'role regrole', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('grant_admin', 'role regrole', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('revoke_admin', 'role regrole', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('grant_mirror', 'topic text, role regrole', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('revoke_mirror', 'topic text, role regrole', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('mirror_zone', 'topic text, zone text, source text, source_zone text', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('pull', 'topic text, zone text, max_messages int', 'bigint', $$'5 min'$$);
SELECT iotmq_node.pass('fence_zone', 'topic text, zone text, moved_to text', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('promote_zone', 'topic text, zone text, force boolean', 'void', $$'30 min'$$);
SELECT iotmq_node.pass('open_zone', 'topic text, zone text, force boolean', 'void', $$'5 min'$$);
SELECT iotmq_node.pass('set_node', 'number int', 'void');

DROP FUNCTION iotmq_node.pass;

-- hello(node): the version of iotmq there; NULL: none.
CREATE FUNCTION iotmq_node.hello(node int) RETURNS text
	LANGUAGE plproxy VOLATILE PARALLEL UNSAFE
AS $$
	CLUSTER iotmq_node.server_of(node, current_user);
	RUN ON 0;
	SELECT (SELECT e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname = 'iotmq');
$$;
COMMENT ON FUNCTION iotmq_node.hello IS 'internal: the version of iotmq at a node';

-- this_node(node): the number that a node has by its own account; NULL: none.
CREATE FUNCTION iotmq_node.this_node(node int) RETURNS int
	LANGUAGE plproxy VOLATILE PARALLEL UNSAFE
AS $$
	CLUSTER iotmq_node.server_of(node, current_user);
	RUN ON 0;
	SELECT iotmq.this_node();
$$;
COMMENT ON FUNCTION iotmq_node.this_node IS 'internal: the number of a node by its own account';

