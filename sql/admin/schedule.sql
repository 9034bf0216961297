-- pg_cron runs maintenance.

-- The pg_cron job that runs maintenance of this database.
CREATE FUNCTION iotmq.schedule_job() RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN 'iotmq maintenance of ' || current_database();
COMMENT ON FUNCTION iotmq.schedule_job IS 'internal: the name of the pg_cron job';

-- schedule_require_cron(statement): raises 55000, with that statement as the hint, unless
-- pg_cron is in this database.
CREATE FUNCTION iotmq.schedule_require_cron(statement text) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pg_cron') THEN
		RAISE EXCEPTION 'pg_cron is not installed in database "%"', current_database()
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = 'pg_cron lives in one database of a server, the one that cron.database_name names.',
				HINT = statement;
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.schedule_require_cron IS 'internal: raises an error unless pg_cron is here';

-- schedule_maintenance(schedule): a pg_cron job for run_maintenance; one per
-- database, so a second call changes its schedule. Returns the job's id. Errors:
-- 22004; 55000 no pg_cron in this database; what cron.schedule raises.
CREATE FUNCTION iotmq.schedule_maintenance(schedule text DEFAULT '* * * * *') RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job bigint;
BEGIN
	IF schedule IS NULL THEN
		RAISE EXCEPTION 'schedule must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM iotmq.schedule_require_cron(format('SELECT cron.schedule_in_database(%L, %L, %L, %L);',
		iotmq.schedule_job(), schedule, 'CALL iotmq.run_maintenance()', current_database()));
	EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job
	USING iotmq.schedule_job(), schedule, 'CALL iotmq.run_maintenance()';
	RETURN job;
END
$$;
COMMENT ON FUNCTION iotmq.schedule_maintenance IS 'lets pg_cron run maintenance';

-- unschedule_maintenance(): removes that job; false: there was none. Errors: 55000
-- no pg_cron in this database.
CREATE FUNCTION iotmq.unschedule_maintenance() RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found boolean;
BEGIN
	PERFORM iotmq.schedule_require_cron(format('SELECT cron.unschedule(%L);', iotmq.schedule_job()));
	EXECUTE 'SELECT coalesce(bool_or(cron.unschedule(jobid)), false) FROM cron.job WHERE jobname = $1'
	INTO found
	USING iotmq.schedule_job();
	RETURN found;
END
$$;
COMMENT ON FUNCTION iotmq.unschedule_maintenance IS 'removes the pg_cron job of schedule_maintenance';
