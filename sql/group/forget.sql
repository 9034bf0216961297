-- forget_segment(cursor_id, segment table): a group's leases and retries of
-- messages there end, and what it had not settled is counted as expired unread.
-- The caller has locked the leases and the position.
CREATE FUNCTION iotmq.forget_segment(cursor_id int, segment_table regclass) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place record;
	lease iotmq.lease;
	gone int[];
	unread bigint;
	retries bigint;
	lost bigint := 0;
BEGIN
	SELECT p.next_offset, g.tags, g.filter INTO STRICT place
	FROM iotmq.cursor AS c
	JOIN iotmq.position AS p USING (cursor_id)
	JOIN iotmq.consumer_group AS g USING (group_id)
	WHERE c.cursor_id = forget_segment.cursor_id;
	EXECUTE format('SELECT count(*) FROM %s
		WHERE msg_offset >= $1
			AND ($2 IS NULL OR tag = ANY ($2))
			AND ($3 IS NULL OR iotmq.filter_matches(payload, $3))', segment_table)
	INTO unread USING place.next_offset, place.tags, place.filter;

	FOR lease IN
		SELECT l.*
		FROM iotmq.lease AS l
		WHERE l.lease_id >= forget_segment.cursor_id::bigint << 43
			AND l.lease_id < (forget_segment.cursor_id + 1)::bigint << 43
	LOOP
		EXECUTE format('SELECT array_agg(m.i)
			FROM (
				SELECT i, coalesce($1[i + 1], $2 + i) AS msg_offset
				FROM generate_series(0, coalesce(cardinality($1), $3 - $2 + 1)::int - 1) AS i
				WHERE $4 IS NULL OR get_bit($4, i) = 0
			) AS m
			JOIN %s USING (msg_offset)
			WHERE NOT EXISTS (
				SELECT FROM iotmq.dead_message AS d
				WHERE d.cursor_id = $5 AND d.msg_offset = m.msg_offset AND d.redriven)', segment_table)
		INTO gone
		USING lease.offsets, lease.first_offset, lease.last_offset, lease.settled, forget_segment.cursor_id;
		CONTINUE WHEN gone IS NULL;
		lost := lost + cardinality(gone);
		IF cardinality(gone) = lease.messages THEN
			DELETE FROM iotmq.lease AS l WHERE l.lease_id = lease.lease_id;
		ELSE
			lease.settled := coalesce(lease.settled, decode(repeat('00',
				((coalesce(cardinality(lease.offsets), lease.last_offset - lease.first_offset + 1) + 7) / 8)::int), 'hex'));
			FOR n IN 1 .. cardinality(gone) LOOP
				lease.settled := set_bit(lease.settled, gone[n], 1);
			END LOOP;
			UPDATE iotmq.lease AS l
			SET settled = lease.settled, messages = l.messages - cardinality(gone)
			WHERE l.lease_id = lease.lease_id;
		END IF;
	END LOOP;

	EXECUTE format('DELETE FROM iotmq.redelivery AS r
		USING %s AS m
		WHERE r.cursor_id = $1 AND r.msg_offset = m.msg_offset AND NOT r.redriven', segment_table)
	USING forget_segment.cursor_id;
	GET DIAGNOSTICS retries = ROW_COUNT;
	IF retries > 0 THEN
		-- the next one of a device is its first now
		UPDATE iotmq.redelivery AS r
		SET due_at = r.not_before
		WHERE r.cursor_id = forget_segment.cursor_id AND r.due_at = 'infinity'
			AND NOT EXISTS (
				SELECT FROM iotmq.redelivery AS e
				WHERE e.cursor_id = r.cursor_id AND e.device_id = r.device_id
					AND e.msg_offset < r.msg_offset);
	END IF;

	UPDATE iotmq.position AS p
	SET expired_unread = p.expired_unread + unread + lost + retries,
		waiting = p.waiting - retries,
		next_due = CASE WHEN retries > 0 THEN '-infinity' ELSE p.next_due END
	WHERE p.cursor_id = forget_segment.cursor_id AND unread + lost + retries > 0;
END
$$;
COMMENT ON FUNCTION iotmq.forget_segment IS 'internal: ends what a group has of a segment that goes';
