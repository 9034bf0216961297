-- Maintenance: segments ahead, sealing. Dropping expired segments comes later.

-- run_maintenance(at): makes segments ahead of time and seals what is over, zone by
-- zone, committing after each. Both the clock and at get their segments: whatever
-- at is, publishing goes on.
CREATE PROCEDURE iotmq.run_maintenance(at timestamptz DEFAULT now())
	LANGUAGE plpgsql
AS $$
DECLARE
	zone record;
	present timestamptz;
BEGIN
	FOR zone IN
		SELECT z.zone_id, iotmq.ahead(t.segment_interval) AS ahead
		FROM iotmq.zone AS z
		JOIN iotmq.topic AS t USING (topic_id)
		ORDER BY z.zone_id
	LOOP
		FOREACH present IN ARRAY ARRAY[pg_catalog.clock_timestamp(), at] LOOP
			PERFORM iotmq.make_segments(zone.zone_id, present, present + zone.ahead);
			COMMIT;
		END LOOP;
		FOR step IN 1..3 LOOP
			PERFORM iotmq.seal_segments(zone.zone_id);
			COMMIT;
		END LOOP;
	END LOOP;
END
$$;
COMMENT ON PROCEDURE iotmq.run_maintenance IS 'makes segments ahead of time and seals those that are over';
REVOKE EXECUTE ON PROCEDURE iotmq.run_maintenance FROM PUBLIC;
