-- Several servers with topics in common.

-- set_node(node): the number of this server, which is part of the ids of its leases, so that
-- they differ from those of others. Errors: 22004; 22023 not 0 to 63; 55006 there is a
-- consumer group already; 25001 above READ COMMITTED.
CREATE FUNCTION iotmq.set_node(node int) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF node IS NULL THEN
		RAISE EXCEPTION 'node must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF node NOT BETWEEN 0 AND 63 THEN
		RAISE EXCEPTION 'node must be between 0 and 63, not %', node
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'set_node() cannot run in a transaction with isolation level %',
				upper(current_setting('transaction_isolation'))
			USING ERRCODE = 'active_sql_transaction',
				HINT = 'Begin it with: BEGIN ISOLATION LEVEL READ COMMITTED;';
	END IF;
	-- whoever is making a cursor has it in ROW SHARE
	LOCK TABLE iotmq_internal.node IN EXCLUSIVE MODE;
	IF EXISTS (SELECT FROM iotmq_internal.consumer_group) THEN
		RAISE EXCEPTION 'the node can''t be changed while there are consumer groups'
			USING ERRCODE = 'object_in_use',
				DETAIL = 'It is part of the ids of their leases.';
	END IF;
	INSERT INTO iotmq_internal.node AS n (node)
	VALUES (set_node.node)
	ON CONFLICT (one) DO UPDATE SET node = excluded.node;
END
$$;
COMMENT ON FUNCTION iotmq.set_node IS 'says which of several servers this is; before the first consumer group';

-- this_node(): the number that set_node has given this server; NULL: none.
CREATE FUNCTION iotmq.this_node() RETURNS int
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT n.node FROM iotmq_internal.node AS n
$$;
COMMENT ON FUNCTION iotmq.this_node IS 'which of several servers this is; NULL: nobody has said so';
