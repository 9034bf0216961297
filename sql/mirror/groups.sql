-- What groups have of a zone, for a mirror of it on another server.
--
-- Most of it is the same at every pull. So what waits, and what is dead, is in buckets: 512
-- offsets in a row are in one, and there is one for 512 rows, up to 256. The mirror says the
-- hashes of those that it has, and gets the others. What a hash is made of is nobody else's
-- business: it is compared here only.
--
-- Rows are sent as columns, each an array as text: small, and fast to read. All is as text,
-- which every version of PostgreSQL reads.

-- groups_hashes(buckets, hashes, total): the hashes of so many buckets as suit a total, from
-- those of 256.
CREATE FUNCTION iotmq.groups_hashes(buckets int[], hashes bigint[], total bigint) RETURNS bigint[]
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n int := 1;
BEGIN
	WHILE n < 256 AND n * 512 < total LOOP
		n := n * 2;
	END LOOP;
	RETURN ARRAY(
		SELECT coalesce(f.hash, 0)
		FROM generate_series(0, n - 1) AS b (bucket)
		LEFT JOIN (
			SELECT u.bucket & (n - 1) AS bucket, bit_xor(u.hash) AS hash
			FROM unnest(buckets, hashes) AS u (bucket, hash)
			GROUP BY 1
		) AS f USING (bucket)
		ORDER BY b.bucket);
END
$$;
COMMENT ON FUNCTION iotmq.groups_hashes IS 'internal: the hashes of buckets of offsets';

-- groups_changed(hashes, known): which buckets a mirror that knows those lacks.
CREATE FUNCTION iotmq.groups_changed(hashes bigint[], known jsonb) RETURNS int[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(array_agg((h.nth - 1)::int ORDER BY h.nth), '{}')
	FROM unnest(hashes) WITH ORDINALITY AS h (hash, nth)
	WHERE jsonb_typeof(known) IS DISTINCT FROM 'array'
		OR jsonb_array_length(known) <> cardinality(hashes)
		OR to_jsonb(h.hash) IS DISTINCT FROM known -> (h.nth - 1)::int
$$;
COMMENT ON FUNCTION iotmq.groups_changed IS 'internal: which buckets of offsets a mirror lacks';

-- groups_waiting(cursor_id, known): what waits.
CREATE FUNCTION iotmq.groups_waiting(cursor_id int, known jsonb) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET work_mem = '64MB'
AS $$
DECLARE
	hashes bigint[];
	changed int[];
	n int;
	rows jsonb;
BEGIN
	SELECT iotmq.groups_hashes(coalesce(array_agg(f.bucket), '{}'), array_agg(f.hash), coalesce(sum(f.n), 0)::bigint) INTO hashes
	FROM (
		SELECT (r.msg_offset >> 9 & 255)::int AS bucket, count(*) AS n, bit_xor(hash_record_extended(r, 0)) AS hash
		FROM iotmq_internal.redelivery AS r
		WHERE r.cursor_id = groups_waiting.cursor_id
		GROUP BY 1
	) AS f;
	n := cardinality(hashes);
	changed := iotmq.groups_changed(hashes, known);
	IF changed <> '{}' THEN
		SELECT jsonb_build_object('msg_offset', array_agg(r.msg_offset)::text, 'attempt', array_agg(r.attempt)::text,
			'due_at', array_agg(r.due_at)::text, 'not_before', array_agg(r.not_before)::text,
			'redriven', array_agg(r.redriven)::text, 'batch_limit', array_agg(r.batch_limit)::text,
			'device_id', array_agg(r.device_id)::text, 'reason', array_agg(r.reason)::text,
			'deferred', array_agg(r.deferred)::text) INTO rows
		FROM iotmq_internal.redelivery AS r
		WHERE r.cursor_id = groups_waiting.cursor_id AND (r.msg_offset >> 9 & (n - 1))::int = ANY (changed);
	END IF;
	RETURN jsonb_build_object('hashes', hashes, 'changed', changed, 'rows', rows);
END
$$;
COMMENT ON FUNCTION iotmq.groups_waiting IS 'internal: what a group waits for in a zone, or what changed of it';

-- groups_letters(cursor_id, known): what is dead, or was and is redriven, without the content.
CREATE FUNCTION iotmq.groups_letters(cursor_id int, known jsonb) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET work_mem = '64MB'
AS $$
DECLARE
	hashes bigint[];
	changed int[];
	n int;
	rows jsonb;
BEGIN
	SELECT iotmq.groups_hashes(coalesce(array_agg(f.bucket), '{}'), array_agg(f.hash), coalesce(sum(f.n), 0)::bigint) INTO hashes
	FROM (
		SELECT (d.msg_offset >> 9 & 255)::int AS bucket, count(*) AS n,
			bit_xor(hash_record_extended(ROW(d.id, d.msg_offset, d.attempts, d.dead_at, d.redriven, d.reason), 0)) AS hash
		FROM iotmq_internal.dead_message AS d
		WHERE d.cursor_id = groups_letters.cursor_id
		GROUP BY 1
	) AS f;
	n := cardinality(hashes);
	changed := iotmq.groups_changed(hashes, known);
	IF changed <> '{}' THEN
		SELECT jsonb_build_object('msg_offset', array_agg(d.msg_offset)::text, 'attempts', array_agg(d.attempts)::text,
			'dead_at', array_agg(d.dead_at)::text, 'redriven', array_agg(d.redriven)::text,
			'reason', array_agg(d.reason)::text) INTO rows
		FROM iotmq_internal.dead_message AS d
		WHERE d.cursor_id = groups_letters.cursor_id AND (d.msg_offset >> 9 & (n - 1))::int = ANY (changed);
	END IF;
	RETURN jsonb_build_object('hashes', hashes, 'changed', changed, 'rows', rows);
END
$$;
COMMENT ON FUNCTION iotmq.groups_letters IS 'internal: the dead letters of a group in a zone, or what changed of them';

-- groups_leases(cursor_id, oldest_lease, known): what is in flight; the ids without the cursor.
CREATE FUNCTION iotmq.groups_leases(cursor_id int, oldest_lease bigint, known jsonb) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET bytea_output = 'hex'
AS $$
DECLARE
	first bigint := iotmq.lease_first(cursor_id);
	hash bigint;
	rows jsonb;
BEGIN
	SELECT coalesce(bit_xor(hash_record_extended(l, 0)), 0) INTO hash
	FROM iotmq_internal.lease AS l
	WHERE l.lease_id >= greatest(first, oldest_lease) AND l.lease_id < iotmq.lease_first(cursor_id + 1);
	IF to_jsonb(hash) IS DISTINCT FROM known THEN
		SELECT jsonb_build_object('number', array_agg(l.lease_id - first)::text,
			'first_offset', array_agg(l.first_offset)::text, 'last_offset', array_agg(l.last_offset)::text,
			'leased_at', array_agg(l.leased_at)::text, 'deadline', array_agg(l.deadline)::text,
			'messages', array_agg(l.messages)::text, 'redriven', array_agg(l.redriven)::text,
			'settled', array_agg(l.settled)::text, 'batch_limit', array_agg(l.batch_limit)::text,
			'consumer', array_agg(l.consumer)::text, 'runs', array_agg(l.runs)::text,
			'devices', array_agg(l.devices::text)::text) INTO rows
		FROM (
			SELECT o.*
			FROM iotmq_internal.lease AS o
			WHERE o.lease_id >= greatest(first, oldest_lease) AND o.lease_id < iotmq.lease_first(cursor_id + 1)
			ORDER BY o.lease_id
		) AS l;
	END IF;
	RETURN jsonb_build_object('hash', hash, 'rows', rows);
END
$$;
COMMENT ON FUNCTION iotmq.groups_leases IS 'internal: the leases of a group in a zone, unless they are known';

-- groups_now(topic, zone, known): mirror_groups, after the check of rights.
CREATE FUNCTION iotmq.groups_now(topic text, zone text, known jsonb) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET intervalstyle = 'postgres'
AS $$
DECLARE
	id int := iotmq.call_zone_id(topic, zone);
BEGIN
	RETURN (
		SELECT jsonb_build_object('version', 1, 'earliest_offset', min(z.earliest_offset),
			'groups', coalesce(jsonb_agg(jsonb_build_object(
				'consumer_group', g.consumer_group,
				'cursor_id', c.cursor_id,
				'settings', jsonb_build_object('mode', g.mode, 'tags', g.tags, 'filter', g.filter::text,
					'invisible_for', g.invisible_for, 'max_retries', g.max_retries, 'backoff', g.backoff,
					'max_delay', g.max_delay, 'max_lag', g.max_lag, 'durable_acks', g.durable_acks, 'paused', g.paused),
				'position', jsonb_build_object('next_offset', p.next_offset,
					'last_lease', CASE WHEN p.last_lease = 0 THEN 0 ELSE p.last_lease - iotmq.lease_first(c.cursor_id) END,
					'last_consumed_at', p.last_consumed_at, 'expired_unread', p.expired_unread, 'next_redriven', p.next_redriven,
					'delivered_total', p.delivered_total, 'retried_total', p.retried_total, 'dead_total', p.dead_total),
				'waiting', iotmq.groups_waiting(c.cursor_id, known -> g.consumer_group -> 'waiting'),
				'letters', iotmq.groups_letters(c.cursor_id, known -> g.consumer_group -> 'letters'),
				'leases', iotmq.groups_leases(c.cursor_id, p.oldest_lease, known -> g.consumer_group -> 'leases')
			) ORDER BY g.consumer_group) FILTER (WHERE p.cursor_id IS NOT NULL), '[]'))
		FROM iotmq_internal.zone AS z
		LEFT JOIN (iotmq_internal.cursor AS c
			JOIN iotmq_internal.consumer_group AS g USING (group_id)
			JOIN iotmq_internal.cursor_state AS p USING (cursor_id)) ON c.zone_id = z.zone_id
		WHERE z.zone_id = id);
END
$$;
COMMENT ON FUNCTION iotmq.groups_now IS 'internal: mirror_groups, after the check of rights';

-- mirror_groups(topic, zone, known): the groups that read a zone: settings, position, what is
-- in flight, waits, or is dead, as the snapshot of the query has it. known: by group, the
-- hashes that an earlier answer had; what they say is left out.
CREATE FUNCTION iotmq.mirror_groups(topic text, zone text, known jsonb DEFAULT NULL) RETURNS jsonb
	LANGUAGE C STABLE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_mirror_groups';
COMMENT ON FUNCTION iotmq.mirror_groups IS 'what the groups of a zone have, for a mirror of it on another server';

-- groups_letters_content(topic, zone, consumer_group, msg_offsets): mirror_letters, likewise.
CREATE FUNCTION iotmq.groups_letters_content(topic text, zone text, consumer_group text, msg_offsets bigint[]) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET bytea_output = 'hex'
AS $$
DECLARE
	cursor_of int := (
		SELECT c.cursor_id
		FROM iotmq_internal.cursor AS c
		WHERE c.zone_id = iotmq.call_zone_id(topic, zone) AND c.group_id = iotmq.call_group_id(topic, consumer_group));
	letter record;
	letters jsonb[] := '{}';
	room bigint := 16 << 20;
BEGIN
	FOR letter IN
		SELECT DISTINCT ON (d.msg_offset) d.msg_offset, d.published_at, d.device_id, d.tag, d.payload::text AS payload,
			d.body::text AS body, d.properties::text AS properties, d.message_key
		FROM iotmq_internal.dead_message AS d
		WHERE d.cursor_id = cursor_of AND d.msg_offset = ANY (msg_offsets)
		ORDER BY d.msg_offset
	LOOP
		letters := letters || to_jsonb(letter);
		room := room - octet_length(concat(letter.payload, letter.body, letter.properties));
		EXIT WHEN room < 0;
	END LOOP;
	RETURN to_jsonb(letters);
END
$$;
COMMENT ON FUNCTION iotmq.groups_letters_content IS 'internal: mirror_letters, after the check of rights';

-- mirror_letters(topic, zone, consumer_group, msg_offsets): the content of dead letters of these
-- offsets, redriven or not, as many as fit into some 16 MB, the first in order.
CREATE FUNCTION iotmq.mirror_letters(topic text, zone text, consumer_group text, msg_offsets bigint[]) RETURNS jsonb
	LANGUAGE C STABLE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_mirror_letters';
COMMENT ON FUNCTION iotmq.mirror_letters IS 'the content of dead letters, for a mirror of their zone on another server';
