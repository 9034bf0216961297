-- Where zones and leases are.

CREATE TYPE iotmq_node.place AS (node int, zone text);
COMMENT ON TYPE iotmq_node.place IS 'internal: where a zone is';
COMMENT ON COLUMN iotmq_node.place.node IS 'the node';
COMMENT ON COLUMN iotmq_node.place.zone IS 'the zone';

-- place_of(topic, zone): the node of a zone or, for NULL, of the topic's only one. What is not
-- known is asked for at the first node, which knows best what is wrong with it.
-- Errors: 22004 zone NULL, and the topic has several.
CREATE FUNCTION iotmq_node.place_of(topic text, zone text) RETURNS iotmq_node.place
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place;
	zones int;
BEGIN
	SELECT p.node INTO place.node
	FROM iotmq_internal.placement AS p
	WHERE p.topic = place_of.topic AND p.zone = place_of.zone;
	place.zone := zone;
	IF place.node IS NULL AND zone IS NULL THEN
		SELECT min(p.node), min(p.zone), count(*) INTO place.node, place.zone, zones
		FROM iotmq_internal.placement AS p
		WHERE p.topic = place_of.topic AND p.made;
		IF zones > 1 THEN
			RAISE EXCEPTION 'zone must not be NULL: topic "%" has % zones', topic, zones
				USING ERRCODE = 'null_value_not_allowed',
					HINT = format('Name one of its zones: zone => %L.', place.zone);
		END IF;
	END IF;
	IF place.node IS NULL THEN
		place.node := (iotmq_node.nodes())[1];
	END IF;
	RETURN place;
END
$$;
COMMENT ON FUNCTION iotmq_node.place_of IS 'internal: where a zone is';

-- places(topic): the zones of a topic, and their nodes.
CREATE FUNCTION iotmq_node.places(topic text) RETURNS SETOF iotmq_node.place
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.node, p.zone
	FROM iotmq_internal.placement AS p
	WHERE p.topic = places.topic AND p.made
	ORDER BY p.zone
$$;
COMMENT ON FUNCTION iotmq_node.places IS 'internal: the zones of a topic, and their nodes';

-- places_nodes(topic): the nodes that have zones of a topic; else the first node.
CREATE FUNCTION iotmq_node.places_nodes(topic text) RETURNS int[]
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(array_agg(DISTINCT p.node ORDER BY p.node), (iotmq_node.nodes())[1:1])
	FROM iotmq_node.places(places_nodes.topic) AS p
$$;
COMMENT ON FUNCTION iotmq_node.places_nodes IS 'internal: the nodes that have zones of a topic';

-- place_wait(): waits while a zone changes its node (see move_zone), for at most node_timeout.
-- Keeps no lock.
CREATE FUNCTION iotmq_node.place_wait() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq_node.node_limit(NULL);
	LOCK TABLE iotmq_internal.moved_cursor IN ROW SHARE MODE;
	RAISE EXCEPTION USING ERRCODE = 'no_data_found';	-- which gives the lock back
EXCEPTION WHEN no_data_found OR lock_not_available THEN
	NULL;
END
$$;
COMMENT ON FUNCTION iotmq_node.place_wait IS 'internal: waits while a zone changes its node';

-- place_again(topic, zone, node, state, message): where a zone is now, after that error of a
-- node; NULL: still there, or no zone was asked for. Errors: 08006 the node gave no answer.
CREATE FUNCTION iotmq_node.place_again(topic text, zone text, node int, state text, message text) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM iotmq_node.node_failed(node, state, message);
	IF state NOT IN ('42704', '55000') OR node IS NULL OR zone IS NULL THEN
		RETURN NULL;
	END IF;
	PERFORM iotmq_node.place_wait();
	RETURN nullif((iotmq_node.place_of(topic, zone)).node, node);
END
$$;
COMMENT ON FUNCTION iotmq_node.place_again IS 'internal: where a zone is after a node did not know it';

-- lease_home(lease_id): the node that gave a lease.
CREATE FUNCTION iotmq_node.lease_home(lease_id bigint) RETURNS int
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	RETURN (lease_id >> 57)::int & 63;
COMMENT ON FUNCTION iotmq_node.lease_home IS 'internal: the node that gave a lease';

-- lease_node(lease_id): the node where a lease is. What can't be is asked for at the first node.
CREATE FUNCTION iotmq_node.lease_node(lease_id bigint) RETURNS int
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	at_node int;
BEGIN
	SELECT c.node INTO at_node
	FROM iotmq_internal.moved_cursor AS c
	WHERE c.cursor_id = (lease_id >> 43)::int;
	IF at_node IS NULL THEN
		SELECT n.node INTO at_node
		FROM iotmq_internal.node AS n
		WHERE n.node = iotmq_node.lease_home(lease_id);
	END IF;
	RETURN coalesce(at_node, (iotmq_node.nodes())[1]);
END
$$;
COMMENT ON FUNCTION iotmq_node.lease_node IS 'internal: the node where a lease is';

-- lease_again(lease_id, node, state): where else a lease may be, after that error of a node;
-- NULL: nowhere. A number whose cursor was moved may have come again at its home.
CREATE FUNCTION iotmq_node.lease_again(lease_id bigint, node int, state text) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF state NOT IN ('42704', '55000') THEN
		RETURN NULL;
	END IF;
	PERFORM iotmq_node.place_wait();
	RETURN CASE WHEN iotmq_node.lease_node(lease_id) <> node THEN iotmq_node.lease_node(lease_id)
		WHEN iotmq_node.lease_home(lease_id) = ANY (iotmq_node.nodes())
			THEN nullif(iotmq_node.lease_home(lease_id), node) END;
END
$$;
COMMENT ON FUNCTION iotmq_node.lease_again IS 'internal: where else a lease may be after a node did not know it';

-- place_begin(): one administrator at a time.
CREATE FUNCTION iotmq_node.place_begin() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	LOCK TABLE iotmq_internal.placement IN SHARE ROW EXCLUSIVE MODE;
END
$$;
COMMENT ON FUNCTION iotmq_node.place_begin IS 'internal: lets one administrator at a time change what is where';

-- place_known(topic, zone): where a zone is, or is to be made; NULL: nobody has said so.
CREATE FUNCTION iotmq_node.place_known(topic text, zone text) RETURNS int
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.node
	FROM iotmq_internal.placement AS p
	WHERE p.topic = place_known.topic AND p.zone = place_known.zone
$$;
COMMENT ON FUNCTION iotmq_node.place_known IS 'internal: where a zone is, or is to be made';

-- place_least(): the node with the fewest zones, the first of several.
CREATE FUNCTION iotmq_node.place_least() RETURNS int
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT n.node
	FROM unnest(iotmq_node.nodes()) AS n (node)
	LEFT JOIN iotmq_internal.placement AS p ON p.node = n.node AND p.made
	GROUP BY n.node
	ORDER BY count(p.node), n.node
	LIMIT 1
$$;
COMMENT ON FUNCTION iotmq_node.place_least IS 'internal: the node with the fewest zones';

-- place_set(topic, zone, node, made): notes where a zone is, or is to be made.
CREATE FUNCTION iotmq_node.place_set(topic text, zone text, node int, made boolean) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO iotmq_internal.placement (topic, zone, node, made)
	VALUES (place_set.topic, place_set.zone, place_set.node, place_set.made)
	ON CONFLICT (topic, zone) DO UPDATE SET node = excluded.node, made = excluded.made
$$;
COMMENT ON FUNCTION iotmq_node.place_set IS 'internal: notes where a zone is, or is to be made';

-- place_unset(topic, zone): notes that a zone, or all of a topic (NULL), is not there any more.
CREATE FUNCTION iotmq_node.place_unset(topic text, zone text) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE iotmq_internal.placement AS p
	SET made = false
	WHERE p.topic = place_unset.topic AND (place_unset.zone IS NULL OR p.zone = place_unset.zone) AND p.made
$$;
COMMENT ON FUNCTION iotmq_node.place_unset IS 'internal: notes that zones are not there any more';

-- node_of(topic, zone): where a zone is. zone NULL: the topic's only one.
-- Errors: 42704 unknown zone; 22004 the topic has several.
CREATE FUNCTION iotmq.node_of(topic text, zone text, OUT node int, OUT server text, OUT address text)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place := iotmq_node.place_of(topic, zone);
BEGIN
	SELECT n.node, n.server, n.address INTO node_of.node, node_of.server, node_of.address
	FROM iotmq.node AS n
	JOIN iotmq_internal.placement AS p ON p.node = n.node
	WHERE p.topic = node_of.topic AND p.zone = place.zone AND p.made;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'zone "%" of topic "%" is at no node', zone, topic
			USING ERRCODE = 'undefined_object',
				HINT = format('Add it: SELECT iotmq.add_zone(%L, %L);', topic, coalesce(zone, 'default'));
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.node_of IS 'the node that has a zone, with its own address';

CREATE VIEW iotmq.placement AS
SELECT p.topic, p.zone, p.node, n.server, p.made
FROM iotmq_internal.placement AS p
JOIN iotmq_internal.node AS n USING (node);
COMMENT ON VIEW iotmq.placement IS 'where each zone is, or is to be made';
COMMENT ON COLUMN iotmq.placement.topic IS 'the topic';
COMMENT ON COLUMN iotmq.placement.zone IS 'the zone';
COMMENT ON COLUMN iotmq.placement.node IS 'the node';
COMMENT ON COLUMN iotmq.placement.server IS 'its foreign server';
COMMENT ON COLUMN iotmq.placement.made IS 'the zone is there; false: it is made there by add_zone';

