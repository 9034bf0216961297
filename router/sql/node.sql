-- Nodes.

-- node_timeout(): how long a node may take for what should be quick.
CREATE FUNCTION iotmq_node.node_timeout() RETURNS interval
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN coalesce(nullif(current_setting('iotmq_router.node_timeout', true), ''), '15 s')::interval;
COMMENT ON FUNCTION iotmq_node.node_timeout IS 'internal: how long a node may take for what should be quick';

-- node_limit(extra): what comes next may take node_timeout and extra.
CREATE FUNCTION iotmq_node.node_limit(extra interval) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT iotmq_internal.time_limit(
		least(1000 * extract(epoch FROM iotmq_node.node_timeout() + coalesce(extra, interval '0')), 2000000000)::int)
$$;
COMMENT ON FUNCTION iotmq_node.node_limit IS 'internal: limits the time of what comes next';

-- server_of(node, caller, extra): where PL/Proxy finds a node; what is called next has
-- node_timeout and extra. Errors: 42704 unknown node; 42501 the caller would be another there.
CREATE FUNCTION iotmq_node.server_of(node int, caller name, extra interval DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_server text;
	other text;
BEGIN
	SELECT n.server, (
			SELECT o.option_value
			FROM pg_foreign_server AS s
			JOIN pg_user_mapping AS m ON m.umserver = s.oid
			CROSS JOIN LATERAL pg_options_to_table(m.umoptions) AS o
			WHERE s.srvname = n.server AND m.umuser IN (0, caller::regrole) AND o.option_name = 'user'
				AND o.option_value <> caller
			LIMIT 1)
	INTO found_server, other
	FROM iotmq_internal.node AS n
	WHERE n.node = server_of.node;
	IF found_server IS NULL THEN
		RAISE EXCEPTION 'node % does not exist', node
			USING ERRCODE = 'undefined_object', HINT = format('Add it: SELECT iotmq.add_node(%s, ''server'');', node);
	END IF;
	-- who may use a server may make a mapping for himself
	IF other IS NOT NULL THEN
		RAISE EXCEPTION 'role "%" must not be "%" at node %', caller, other, node
			USING ERRCODE = 'insufficient_privilege',
				HINT = format('Take the option "user" off: ALTER USER MAPPING FOR %I SERVER %I OPTIONS (DROP user);', caller, found_server);
	END IF;
	PERFORM iotmq_node.node_limit(extra);
	RETURN found_server;
END
$$;
COMMENT ON FUNCTION iotmq_node.server_of IS 'internal: where PL/Proxy finds a node';

-- node_failed(node, state, message): raises 08006 if an error is not the node's, but comes of
-- its silence.
CREATE FUNCTION iotmq_node.node_failed(node int, state text, message text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF iotmq_node.node_is_silent(state, message) THEN
		RAISE EXCEPTION '%', iotmq_node.node_silence(node)
			USING ERRCODE = 'connection_failure', DETAIL = message,
				HINT = 'Is it up? See its address: SELECT * FROM iotmq.node;';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq_node.node_failed IS 'internal: raises an error if a node gave no answer';

-- node_is_silent(state, message): is an error PL/Proxy's own, or the time limit?
CREATE FUNCTION iotmq_node.node_is_silent(state text, message text) RETURNS boolean
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN state IN ('XX000', '55P03') AND message NOT LIKE '%] REMOTE %'
		OR state IN ('57P01', '57P02', '57P03');
COMMENT ON FUNCTION iotmq_node.node_is_silent IS 'internal: whether an error says that a node gave no answer';

-- node_silence(node): a message for that.
CREATE FUNCTION iotmq_node.node_silence(node int) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format('node %s (server "%s") does not answer', node_silence.node,
		(SELECT n.server FROM iotmq_internal.node AS n WHERE n.node = node_silence.node))
$$;
COMMENT ON FUNCTION iotmq_node.node_silence IS 'internal: says that a node gave no answer';

-- node_warn(node, state, message): as node_failed, but a WARNING; else raises what it was given.
CREATE FUNCTION iotmq_node.node_warn(node int, state text, message text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT iotmq_node.node_is_silent(state, message) THEN
		RAISE EXCEPTION '%', message USING ERRCODE = state;
	END IF;
	RAISE WARNING '%', iotmq_node.node_silence(node)
		USING ERRCODE = 'connection_failure', DETAIL = message;
END
$$;
COMMENT ON FUNCTION iotmq_node.node_warn IS 'internal: warns that a node gave no answer';

-- node_denied(by_all, message): raises 42501 if all nodes that answered have denied what was asked
-- of all: a role may have rights at some. message NULL: none has.
CREATE FUNCTION iotmq_node.node_denied(by_all boolean, message text) RETURNS void
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF by_all AND message IS NOT NULL THEN
		RAISE EXCEPTION '%', message USING ERRCODE = 'insufficient_privilege';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq_node.node_denied IS 'internal: raises an error if no node has allowed something';

-- nodes(): all of them, in order. Errors: 55000 there is none.
CREATE FUNCTION iotmq_node.nodes() RETURNS int[]
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_nodes int[] := ARRAY(SELECT n.node FROM iotmq_internal.node AS n ORDER BY n.node);
BEGIN
	IF found_nodes = '{}' THEN
		RAISE EXCEPTION 'this router has no nodes'
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Add one: SELECT iotmq.add_node(0, ''server'');';
	END IF;
	RETURN found_nodes;
END
$$;
COMMENT ON FUNCTION iotmq_node.nodes IS 'internal: the numbers of all nodes';

-- node_note(node, server): remembers a node; lets everybody try to log in there.
-- Errors: 42704 unknown server; 42710 the number or the server is taken; 22023 not a server
-- with which a role is itself at the node.
CREATE FUNCTION iotmq_node.node_note(node int, server text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wrapper text;
	addresses text[];
	taken iotmq_internal.node;
BEGIN
	SELECT w.fdwname,
		ARRAY(SELECT o.option_value FROM pg_options_to_table(s.srvoptions) AS o WHERE o.option_name ~ '^(p|partition_)[0-9]+$')
	INTO wrapper, addresses
	FROM pg_foreign_server AS s
	JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw
	WHERE s.srvname = node_note.server;
	IF wrapper IS NULL THEN
		RAISE EXCEPTION 'server "%" does not exist', server
			USING ERRCODE = 'undefined_object',
				HINT = format('Make it: CREATE SERVER %I FOREIGN DATA WRAPPER plproxy OPTIONS (p0 ''host=... dbname=...'');', server);
	END IF;
	IF wrapper <> 'plproxy' OR cardinality(addresses) <> 1 THEN
		RAISE EXCEPTION 'server "%" is not one of PL/Proxy with one partition', server
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Make it with: FOREIGN DATA WRAPPER plproxy OPTIONS (p0 ''host=... dbname=...'')';
	END IF;
	IF addresses[1] ~ '(user|password|passfile|service)[[:space:]]*=' THEN
		RAISE EXCEPTION 'the address of server "%" must not say who logs in', server
			USING ERRCODE = 'invalid_parameter_value',
				HINT = format('Each role logs in as itself; its password: CREATE USER MAPPING FOR role SERVER %I OPTIONS (password ''...'');', server);
	END IF;
	SELECT n.* INTO taken
	FROM iotmq_internal.node AS n
	WHERE (n.node = node_note.node OR n.server = node_note.server)
		AND NOT (n.node = node_note.node AND n.server = node_note.server);
	IF FOUND THEN
		RAISE EXCEPTION 'server "%" is node % already', taken.server, taken.node USING ERRCODE = 'duplicate_object';
	END IF;
	INSERT INTO iotmq_internal.node (node, server)
	VALUES (node_note.node, node_note.server)
	ON CONFLICT DO NOTHING;
	EXECUTE format('GRANT USAGE ON FOREIGN SERVER %I TO PUBLIC', server);
	IF NOT EXISTS (SELECT FROM pg_user_mappings AS m WHERE m.srvname = server AND m.umuser = 0) THEN
		EXECUTE format('CREATE USER MAPPING FOR PUBLIC SERVER %I', server);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq_node.node_note IS 'internal: remembers a node';

CREATE VIEW iotmq.node AS
SELECT n.node, n.server, pg_catalog.max(o.option_value) AS address,
	(SELECT pg_catalog.count(*) FROM iotmq_internal.placement AS p WHERE p.node = n.node AND p.made) AS zones
FROM iotmq_internal.node AS n
LEFT JOIN pg_catalog.pg_foreign_server AS s ON s.srvname = n.server
LEFT JOIN LATERAL pg_catalog.pg_options_to_table(s.srvoptions) AS o ON o.option_name ~ '^(p|partition_)[0-9]+$'
GROUP BY n.node, n.server;
COMMENT ON VIEW iotmq.node IS 'the servers that have the zones';
COMMENT ON COLUMN iotmq.node.node IS 'its number, which is part of its lease ids';
COMMENT ON COLUMN iotmq.node.server IS 'the foreign server of PL/Proxy that leads there';
COMMENT ON COLUMN iotmq.node.address IS 'its own address, for whoever needs the direct door';
COMMENT ON COLUMN iotmq.node.zones IS 'how many zones it has';

