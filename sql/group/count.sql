-- Counting by reading: see src/group/count.c.

-- count_between(cursor_id, from_offset, to_offset): the messages in from..to
-- (exclusive) that the group wants.
CREATE FUNCTION iotmq.count_between(cursor_id int, from_offset bigint, to_offset bigint) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_count_between';
COMMENT ON FUNCTION iotmq.count_between IS 'internal: how many messages of a range a group wants';

CREATE FUNCTION iotmq.count_ready(cursor_id int) RETURNS bigint
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_count_ready';
COMMENT ON FUNCTION iotmq.count_ready IS 'internal: how many messages a group has not been delivered yet in a zone';

-- count_lag: what a group has not settled, counted by reading: not yet delivered
-- (filters applied), in flight, or waiting for a retry. For monitors and the group's
-- consumers. Errors: 22004, 42704, 42501.
CREATE FUNCTION iotmq.count_lag_as_owner(topic text, consumer_group text) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id int := iotmq.call_group_id(topic, consumer_group);
BEGIN
	RETURN (
		SELECT coalesce(sum(iotmq.count_ready(c.cursor_id)
			+ (SELECT coalesce(sum(l.messages), 0)
				FROM iotmq_internal.lease AS l
				JOIN iotmq_internal.cursor_state AS p ON p.cursor_id = c.cursor_id AND p.oldest_lease <= l.lease_id
				WHERE l.lease_id >= iotmq.lease_first(c.cursor_id)
					AND l.lease_id < iotmq.lease_first(c.cursor_id + 1))
			+ (SELECT count(*) FROM iotmq_internal.redelivery AS r WHERE r.cursor_id = c.cursor_id)), 0)
		FROM iotmq_internal.cursor AS c
		WHERE c.group_id = id);
END
$$;
COMMENT ON FUNCTION iotmq.count_lag_as_owner IS 'internal: count_lag, after the check of rights';

CREATE FUNCTION iotmq.count_lag(topic text, consumer_group text) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_count_lag';
COMMENT ON FUNCTION iotmq.count_lag IS 'how many messages a group has not settled, counted exactly';
