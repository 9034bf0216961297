-- pg_cron runs maintenance.
--
-- A job belongs to whoever makes it, and others neither see nor change it. So these functions
-- run as the extension's owner, and so does the job: there is one a database, whichever
-- administrator asks. A job names its database, and goes on naming it after
-- ALTER DATABASE ... RENAME: jobs of ours for a database that is no more are removed by the
-- next call.

-- The pg_cron job that runs maintenance of this database: its name is of type name.
CREATE FUNCTION iotmq.schedule_job() RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN 'iotmq maintenance of '
		|| CASE WHEN octet_length(current_database()) <= 42 THEN current_database() ELSE md5(current_database()) END;
COMMENT ON FUNCTION iotmq.schedule_job IS 'internal: the name of the pg_cron job';

-- schedule_jobs(): which of pg_cron's jobs are ours: this database's, and those of databases
-- that are no more; a condition on cron.job.
CREATE FUNCTION iotmq.schedule_jobs() RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	RETURN format('jobname LIKE %L AND command = %L AND (database = %L OR database NOT IN (SELECT datname FROM pg_database))',
		'iotmq maintenance of %', 'CALL iotmq.run_maintenance()', current_database());
COMMENT ON FUNCTION iotmq.schedule_jobs IS 'internal: which pg_cron jobs are those of this database';

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
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	job bigint;
BEGIN
	IF schedule IS NULL THEN
		RAISE EXCEPTION 'schedule must not be NULL' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	PERFORM iotmq.schedule_require_cron(format('SELECT cron.schedule_in_database(%L, %L, %L, %L, %L);',
		iotmq.schedule_job(), schedule, 'CALL iotmq.run_maintenance()', current_database(), current_user));
	EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job
	USING iotmq.schedule_job(), schedule, 'CALL iotmq.run_maintenance()';
	EXECUTE 'SELECT FROM cron.job AS j, cron.unschedule(j.jobid) WHERE j.jobid <> $1 AND ' || iotmq.schedule_jobs()
	USING job;
	RETURN job;
END
$$;
COMMENT ON FUNCTION iotmq.schedule_maintenance IS 'lets pg_cron run maintenance';

-- unschedule_maintenance(): removes that job; false: there was none. Errors: 55000
-- no pg_cron in this database.
CREATE FUNCTION iotmq.unschedule_maintenance() RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found boolean;
BEGIN
	PERFORM iotmq.schedule_require_cron(format('SELECT cron.unschedule(jobid) FROM cron.job WHERE %s;', iotmq.schedule_jobs()));
	EXECUTE 'SELECT coalesce(bool_or(cron.unschedule(jobid)), false) FROM cron.job WHERE ' || iotmq.schedule_jobs()
	INTO found;
	RETURN found;
END
$$;
COMMENT ON FUNCTION iotmq.unschedule_maintenance IS 'removes the pg_cron job of schedule_maintenance';
