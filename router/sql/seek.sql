-- Positions.

-- seek: as at the node; without zone one zone after the other, each in a transaction of its
-- own. Errors: those of the nodes; 08006.
CREATE FUNCTION iotmq.seek(topic text, consumer_group text, to_time timestamptz, zone text DEFAULT NULL,
		dry_run boolean DEFAULT false) RETURNS SETOF iotmq.seek_result
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place;
BEGIN
	IF zone IS NULL THEN
		FOR place IN SELECT p.node, p.zone FROM iotmq_node.places(topic) AS p LOOP
			RETURN QUERY SELECT m.* FROM iotmq_node.seek(place.node, topic, consumer_group, to_time, place.zone, dry_run) AS m;
		END LOOP;
	END IF;
	IF place IS NULL THEN
		place := iotmq_node.place_of(topic, zone);
		RETURN QUERY SELECT m.* FROM iotmq_node.seek(place.node, topic, consumer_group, to_time, zone, dry_run) AS m;
	END IF;
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	IF iotmq_node.place_again(topic, zone, place.node, SQLSTATE, SQLERRM) IS NULL THEN
		RAISE;
	END IF;
	RETURN QUERY SELECT m.* FROM iotmq.seek(topic, consumer_group, to_time, zone, dry_run) AS m;
END
$$;
COMMENT ON FUNCTION iotmq.seek IS 'lets a group go on at a time, back or forward';

-- seek_offset: as at the node. Errors: those of the node; 08006.
CREATE FUNCTION iotmq.seek_offset(topic text, consumer_group text, zone text, to_offset bigint,
		dry_run boolean DEFAULT false) RETURNS SETOF iotmq.seek_result
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	place iotmq_node.place := iotmq_node.place_of(topic, zone);
BEGIN
	RETURN QUERY SELECT m.* FROM iotmq_node.seek_offset(place.node, topic, consumer_group, zone, to_offset, dry_run) AS m;
EXCEPTION WHEN undefined_object OR object_not_in_prerequisite_state OR internal_error OR lock_not_available OR admin_shutdown OR crash_shutdown THEN
	IF iotmq_node.place_again(topic, zone, place.node, SQLSTATE, SQLERRM) IS NULL THEN
		RAISE;
	END IF;
	RETURN QUERY SELECT m.* FROM iotmq.seek_offset(topic, consumer_group, zone, to_offset, dry_run) AS m;
END
$$;
COMMENT ON FUNCTION iotmq.seek_offset IS 'lets a group go on at an offset of a zone';

