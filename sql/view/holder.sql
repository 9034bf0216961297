-- Who keeps a group from reading a zone.

-- holder_xid(cursor_id): the open transaction that has locked the cursor's row; NULL: none.
-- See src/view/holder.c.
CREATE FUNCTION iotmq.holder_xid(cursor_id int) RETURNS xid
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE COST 1000
	AS 'MODULE_PATHNAME', 'iotmq_holder_xid';
COMMENT ON FUNCTION iotmq.holder_xid IS 'internal: the open transaction that has a cursor';

-- holder_transactions(): the open transactions that keep others from a cursor. Candidates are those
-- that have its use lock (src/group/cursor_lock.c) or change its group (src/core/group_lock.c).
-- Of the users of a cursor, those that have its row, and all of them while somebody waits to
-- move it: until he has, there are no new users. pid and since of a prepared transaction: NULL
-- and when it was prepared. Waits for nobody.
CREATE FUNCTION iotmq.holder_transactions(OUT cursor_id int, OUT pid int, OUT since timestamptz,
		OUT application_name text) RETURNS SETOF record
	LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 10 SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	WITH lock AS MATERIALIZED (
		SELECT l.locktype, l.classid, l.objid::int AS id, l.transactionid, l.pid, l.virtualtransaction, l.mode, l.granted
		FROM pg_locks AS l
		WHERE l.locktype = 'object' AND l.objsubid = 1
				AND l.classid IN ('iotmq_internal.cursor'::regclass, 'iotmq_internal.consumer_group'::regclass)
				AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
			OR l.locktype = 'transactionid' AND l.pid IS NULL
	), open AS (
		SELECT DISTINCT l.classid, l.id, l.pid, l.virtualtransaction, l.mode,
			coalesce(a.backend_xid, p.transaction) AS xid,
			coalesce(a.xact_start, p.prepared) AS since,
			a.application_name
		FROM lock AS l
		LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
		LEFT JOIN lock AS x ON l.pid IS NULL AND x.locktype = 'transactionid'
			AND x.virtualtransaction = l.virtualtransaction
		LEFT JOIN pg_prepared_xacts AS p ON p.transaction = x.transactionid
		WHERE l.locktype = 'object' AND l.granted
			AND (l.pid IS NULL AND p.transaction IS NOT NULL OR a.xact_start IS NOT NULL)
	)
	SELECT DISTINCT o.id, o.pid, o.since, o.application_name
	FROM open AS o
	WHERE o.classid = 'iotmq_internal.cursor'::regclass
		AND (o.mode = 'ExclusiveLock'
			OR o.xid = iotmq.holder_xid(o.id)
			OR EXISTS (SELECT FROM lock AS w
				WHERE w.classid = o.classid AND w.id = o.id AND w.mode = 'ExclusiveLock' AND NOT w.granted))
	UNION
	SELECT c.cursor_id, o.pid, o.since, o.application_name
	FROM open AS o
	JOIN iotmq_internal.cursor AS c ON c.group_id = o.id
	WHERE o.classid = 'iotmq_internal.consumer_group'::regclass AND o.mode = 'RowExclusiveLock'
$$;
COMMENT ON FUNCTION iotmq.holder_transactions IS 'internal: the open transactions that keep others from a cursor';

CREATE VIEW iotmq.cursor_holder AS
SELECT
	t.topic,
	g.consumer_group,
	z.zone,
	h.pid,
	h.since,
	h.application_name
FROM iotmq.holder_transactions() AS h
JOIN iotmq_internal.cursor AS c USING (cursor_id)
JOIN iotmq_internal.consumer_group AS g USING (group_id)
JOIN iotmq_internal.zone AS z USING (zone_id)
JOIN iotmq_internal.topic AS t ON t.topic_id = z.topic_id;
COMMENT ON VIEW iotmq.cursor_holder IS 'the open transactions that keep a group from reading a zone';
COMMENT ON COLUMN iotmq.cursor_holder.topic IS 'the topic';
COMMENT ON COLUMN iotmq.cursor_holder.consumer_group IS 'the consumer group';
COMMENT ON COLUMN iotmq.cursor_holder.zone IS 'the zone';
COMMENT ON COLUMN iotmq.cursor_holder.pid IS 'backend; NULL: a prepared transaction';
COMMENT ON COLUMN iotmq.cursor_holder.since IS 'when its transaction began or was prepared';
COMMENT ON COLUMN iotmq.cursor_holder.application_name IS 'of that backend';
