-- Connections to other servers, by dblink. Nothing here runs as the owner: a connection is made
-- with the user mapping of whoever calls, and no other role has one of these.
--
-- A connection has a time to be made in, and a question a time to be answered in: src/mirror/link.c.

CREATE FUNCTION iotmq.link_connect(connect regprocedure, name text, server text, seconds int) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_link_connect';
COMMENT ON FUNCTION iotmq.link_connect IS 'internal: connects to a foreign server, within a time';

-- link_require(source): raises 42501 unless this transaction has connected to that foreign server:
-- for steps that run as the owner.
CREATE FUNCTION iotmq.link_require(source text) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_link_require';
COMMENT ON FUNCTION iotmq.link_require IS 'internal: raises an error unless there was a connection to a foreign server';

CREATE FUNCTION iotmq.link_wait(is_busy regprocedure, name text, until timestamptz) RETURNS boolean
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_link_wait';
COMMENT ON FUNCTION iotmq.link_wait IS 'internal: waits for the answer of another server, for a time';

-- link_schema(): where the functions of dblink are, quoted. By its extension: who finds them by
-- search_path may find others. Errors: 55000 it is not installed.
CREATE FUNCTION iotmq.link_schema() RETURNS text
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	schema text;
BEGIN
	SELECT quote_ident(n.nspname) INTO schema
	FROM pg_extension AS e
	JOIN pg_namespace AS n ON n.oid = e.extnamespace
	WHERE e.extname = 'dblink';
	IF schema IS NULL THEN
		RAISE EXCEPTION 'extension "dblink" is not installed'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Install it, as a superuser: CREATE EXTENSION dblink;';
	END IF;
	RETURN schema;
END
$$;
COMMENT ON FUNCTION iotmq.link_schema IS 'internal: the schema of dblink';

-- link_check(source): raises an error unless source is the name of a foreign server that the
-- caller may use. dblink takes connection strings, too, and one of these may lead back to this
-- server as a superuser: so a name that could be one is none, even if a server has it.
-- Errors: 22004; 22023 no name; 42704 no such server; 42501 not allowed.
CREATE FUNCTION iotmq.link_check(source text) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	server oid;
BEGIN
	IF source IS NULL THEN
		RAISE EXCEPTION 'source must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF strpos(source, '=') > 0 OR strpos(source, '://') > 0 THEN
		RAISE EXCEPTION 'source must be the name of a foreign server'
			USING ERRCODE = 'invalid_parameter_value',
				DETAIL = 'Connection strings are not accepted, nor names that look like one.',
				HINT = 'Name the server: CREATE SERVER a FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host ...);';
	END IF;
	SELECT s.oid INTO server FROM pg_foreign_server AS s WHERE s.srvname = source;
	IF server IS NULL THEN
		RAISE EXCEPTION 'server "%" does not exist', source
			USING ERRCODE = 'undefined_object',
				HINT = format('Create it, and a user mapping: CREATE SERVER %I FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host ...);', source);
	END IF;
	IF NOT has_server_privilege(server, 'USAGE') THEN
		RAISE EXCEPTION 'permission denied for foreign server %', source
			USING ERRCODE = 'insufficient_privilege',
				HINT = format('Its owner can run: GRANT USAGE ON FOREIGN SERVER %I TO %I;', source, current_user);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.link_check IS 'internal: raises an error unless this is a foreign server that the caller may use';

-- link_close(name): ends a connection, if there is one of that name.
CREATE FUNCTION iotmq.link_close(name text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	schema text := iotmq.link_schema();
	is_there boolean;
BEGIN
	EXECUTE format('SELECT coalesce($1 = ANY (%s.dblink_get_connections()), false)', schema) INTO is_there USING name;
	IF is_there THEN
		EXECUTE format('SELECT %s.dblink_disconnect($1)', schema) USING name;
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.link_close IS 'internal: ends a connection to another server';

-- link_open(source): connects to a foreign server; returns the name of the connection. One of
-- an earlier call that was interrupted is closed before. Errors: as link_check; 55000 no dblink;
-- dblink's.
CREATE FUNCTION iotmq.link_open(source text) RETURNS text
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	connect regprocedure := iotmq.link_schema() || '.dblink_connect(text, text)';
	name text;
BEGIN
	PERFORM iotmq.link_check(source);
	SELECT 'iotmq_' || s.oid INTO name FROM pg_foreign_server AS s WHERE s.srvname = source;
	PERFORM iotmq.link_close(name);
	PERFORM iotmq.link_connect(connect, name, source, 10);
	RETURN name;
END
$$;
COMMENT ON FUNCTION iotmq.link_open IS 'internal: connects to a foreign server';

-- link_patience(): how long an answer may take: iotmq.source_timeout, if somebody has set that,
-- else a minute.
CREATE FUNCTION iotmq.link_patience() RETURNS interval
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN coalesce(nullif(current_setting('iotmq.source_timeout', true), ''), '1 minute')::interval;
COMMENT ON FUNCTION iotmq.link_patience IS 'internal: how long another server may take to answer';

-- link_send(name, command): asks a question, whose answer link_receive waits for. Errors: 08006.
CREATE FUNCTION iotmq.link_send(name text, command text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sent int;
BEGIN
	EXECUTE format('SELECT %s.dblink_send_query($1, $2)', iotmq.link_schema()) INTO sent USING name, command;
	IF sent <> 1 THEN
		RAISE EXCEPTION 'the source can''t be asked' USING ERRCODE = 'connection_failure';
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.link_send IS 'internal: asks another server a question';

-- link_receive(name): the first column of the one row of the answer, as text. Errors: 08006 it
-- doesn't come in time; those of the other server.
CREATE FUNCTION iotmq.link_receive(name text) RETURNS text
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	schema text := iotmq.link_schema();
	is_busy regprocedure := schema || '.dblink_is_busy(text)';
	until timestamptz := clock_timestamp() + iotmq.link_patience();
	value text;
BEGIN
	-- the answer, then its end, so that another question can be asked
	FOR part IN 1..2 LOOP
		IF NOT iotmq.link_wait(is_busy, name, until) THEN
			RAISE EXCEPTION 'the source does not answer'
				USING ERRCODE = 'connection_failure',
					HINT = 'It may be stopped, or the network to it broken. What was begun is taken up again later.';
		END IF;
		IF part = 1 THEN
			EXECUTE format('SELECT r.value FROM %s.dblink_get_result($1) AS r (value text)', schema) INTO value USING name;
		ELSE
			EXECUTE format('SELECT r.value FROM %s.dblink_get_result($1) AS r (value text)', schema) USING name;
		END IF;
	END LOOP;
	RETURN value;
END
$$;
COMMENT ON FUNCTION iotmq.link_receive IS 'internal: waits for the answer of another server';

-- link_value(name, command): both.
CREATE FUNCTION iotmq.link_value(name text, command text) RETURNS text
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq.link_send(name, command);
	RETURN iotmq.link_receive(name);
END
$$;
COMMENT ON FUNCTION iotmq.link_value IS 'internal: asks another server for one value';
