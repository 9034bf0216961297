-- held_back_holders(): who holds the publish or the change lock of a zone
-- (src/log/zone_lock.c), and has a transaction id; pid and since of a prepared transaction: NULL and when it was
-- prepared.
CREATE FUNCTION iotmq.held_back_holders(OUT zone_id int, OUT pid int, OUT xid xid,
		OUT since timestamptz, OUT application_name text) RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10 SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	WITH publisher AS (
		SELECT DISTINCT l.objid::int AS zone_id, l.pid, l.virtualtransaction
		FROM pg_locks AS l
		WHERE l.locktype = 'object' AND l.mode = 'RowExclusiveLock' AND l.granted
			AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
			AND l.classid = 'iotmq_internal.zone'::regclass AND l.objsubid IN (1, 2)
	)
	SELECT l.zone_id, a.pid, a.backend_xid, a.xact_start, a.application_name
	FROM publisher AS l
	JOIN pg_stat_activity AS a USING (pid)
	WHERE a.backend_xid IS NOT NULL
	UNION ALL
	SELECT l.zone_id, NULL, p.transaction, p.prepared, NULL
	FROM publisher AS l
	JOIN pg_locks AS x ON x.virtualtransaction = l.virtualtransaction
		AND x.pid IS NULL AND x.locktype = 'transactionid'
	JOIN pg_prepared_xacts AS p ON p.transaction = x.transactionid
	WHERE l.pid IS NULL
$$;
COMMENT ON FUNCTION iotmq.held_back_holders IS 'internal: the open transactions that published';

CREATE VIEW iotmq.held_back AS
SELECT
	t.topic,
	z.zone,
	o.stable_offset,
	o.end_offset,
	h.pid,
	h.xid,
	h.since,
	h.application_name
FROM iotmq.held_back_holders() AS h
JOIN iotmq_internal.zone AS z USING (zone_id)
JOIN iotmq_internal.topic AS t USING (topic_id)
CROSS JOIN LATERAL iotmq.overview_zone_offsets(z.zone_id) AS o
WHERE o.end_offset IS NOT NULL;
COMMENT ON VIEW iotmq.held_back IS 'the open transactions that published to a zone and hold its stable offset back';
COMMENT ON COLUMN iotmq.held_back.topic IS 'the topic';
COMMENT ON COLUMN iotmq.held_back.zone IS 'the zone';
COMMENT ON COLUMN iotmq.held_back.stable_offset IS 'the first one not yet decided';
COMMENT ON COLUMN iotmq.held_back.end_offset IS 'the next one to be assigned';
COMMENT ON COLUMN iotmq.held_back.pid IS 'backend; NULL: a prepared transaction';
COMMENT ON COLUMN iotmq.held_back.xid IS 'transaction id';
COMMENT ON COLUMN iotmq.held_back.since IS 'when its transaction began or was prepared';
COMMENT ON COLUMN iotmq.held_back.application_name IS 'of that backend';
