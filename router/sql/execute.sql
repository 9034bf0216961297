-- Who may execute what: everybody what the nodes decide on, administrators the rest.
DO $$
DECLARE
	routine regprocedure;
BEGIN
	FOR routine IN SELECT a FROM iotmq_node.access_administration() AS a LOOP
		EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', routine);
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION iotmq_internal.time_limit, iotmq_node.node_limit FROM PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA iotmq TO PUBLIC;	-- views: the nodes decide
