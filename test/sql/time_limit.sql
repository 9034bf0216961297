-- What ends a router's call of a node that stands still: src/core/time_limit.c. Its SQL
-- function is the router's.
--
-- Promise: one-door
CREATE FUNCTION time_limit(milliseconds int) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS '$libdir/iotmq', 'iotmq_time_limit';
\set VERBOSITY sqlstate

-- The error is not that of a cancelled statement.
SELECT time_limit(100), pg_sleep(600);
SELECT time_limit(0);

-- The limit ends with the transaction.
SELECT time_limit(100);
SELECT pg_sleep(0.3) IS NULL AS woken;
BEGIN;
SELECT time_limit(100);
ROLLBACK;
SELECT pg_sleep(0.3) IS NULL AS woken;

-- And with a subtransaction, however that ends.
BEGIN;
SAVEPOINT s;
SELECT time_limit(100);
RELEASE SAVEPOINT s;
SELECT pg_sleep(0.3) IS NULL AS woken;
SAVEPOINT s;
SELECT time_limit(100);
ROLLBACK TO SAVEPOINT s;
SELECT pg_sleep(0.3) IS NULL AS woken;
COMMIT;
DO $$
BEGIN
	BEGIN
		PERFORM time_limit(100);
		PERFORM pg_sleep(600);
	EXCEPTION WHEN lock_not_available THEN
		PERFORM pg_sleep(0.3);
		RAISE NOTICE 'caught';
	END;
END
$$;

-- Each call starts it anew.
SELECT time_limit(600000);
SELECT time_limit(600000), time_limit(100), pg_sleep(600);
DROP FUNCTION time_limit;
