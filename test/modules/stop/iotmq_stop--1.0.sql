-- The interface of iotmq_stop.c, whose head says how to use it.

\echo Use "CREATE EXTENSION iotmq_stop" to load this file. \quit

-- For the session that is to stop: at the point, after it has passed there so many
-- times.
CREATE FUNCTION iotmq_stop.arm(point text, passes int DEFAULT 0) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'iotmq_stop_arm';

-- Forget all that the session has armed.
CREATE FUNCTION iotmq_stop.disarm() RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'iotmq_stop_disarm';

-- A stop in a test's own SQL: in a trigger on one of iotmq's tables, between two
-- statements of a DO block.  Does nothing unless the session has armed it.
CREATE FUNCTION iotmq_stop.here(point text) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'iotmq_stop_here';

-- The two keys of a point's advisory lock.
CREATE FUNCTION iotmq_stop.lock_class() RETURNS int
LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'iotmq_stop_lock_class';
CREATE FUNCTION iotmq_stop.lock_key(point text) RETURNS int
LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'iotmq_stop_lock_key';

-- For the controlling session, from here on: whoever has armed the point waits there
-- until release.  A session that holds a stop is ended when it does nothing for a
-- minute, so that a test that went wrong doesn't hang.
CREATE FUNCTION iotmq_stop.hold(point text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM pg_advisory_lock(iotmq_stop.lock_class(), iotmq_stop.lock_key(point));
	PERFORM set_config('idle_session_timeout', '60s', false),
		set_config('idle_in_transaction_session_timeout', '60s', false);
END $$;

-- Lets those who wait there go, and all who come later pass.
CREATE FUNCTION iotmq_stop.release(point text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT pg_advisory_unlock(iotmq_stop.lock_class(), iotmq_stop.lock_key(point)) THEN
		RAISE EXCEPTION 'stop "%" is not held by this session', point;
	END IF;
	IF NOT EXISTS (
		SELECT
		FROM pg_locks
		WHERE locktype = 'advisory' AND pid = pg_backend_pid()
			AND classid = iotmq_stop.lock_class()::oid AND objsubid = 2
	) THEN
		PERFORM set_config('idle_session_timeout', NULL, false),
			set_config('idle_in_transaction_session_timeout', NULL, false);
	END IF;
END $$;

-- How many wait there.
CREATE FUNCTION iotmq_stop.waiting(point text) RETURNS int
LANGUAGE sql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
	SELECT count(*)::int
	FROM pg_locks
	WHERE locktype = 'advisory' AND NOT granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND classid = iotmq_stop.lock_class()::oid
		AND objid = iotmq_stop.lock_key(point)::oid AND objsubid = 2
$$;

-- Comes back when so many wait there.  Not for isolation specs, where the tester
-- itself goes on as soon as a step waits.
CREATE FUNCTION iotmq_stop.await(point text, backends int DEFAULT 1) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + interval '60 s';
BEGIN
	WHILE iotmq_stop.waiting(point) < backends LOOP
		IF clock_timestamp() > deadline THEN
			RAISE EXCEPTION '% of % came to the stop "%"',
				iotmq_stop.waiting(point), backends, point
				USING HINT = 'Stops within iotmq need a build with -DIOTMQ_STOPS.';
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
