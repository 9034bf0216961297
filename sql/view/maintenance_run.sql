-- What maintenance did.
CREATE VIEW iotmq.maintenance_run AS
SELECT
	run_id,
	started_at,
	finished_at,
	at,
	segments_made,
	segments_sealed,
	segments_dropped,
	leases_taken_over,
	skipped
FROM iotmq_internal.maintenance_run;
COMMENT ON VIEW iotmq.maintenance_run IS 'the last 1000 runs of run_maintenance';
COMMENT ON COLUMN iotmq.maintenance_run.run_id IS 'grows with each run';
COMMENT ON COLUMN iotmq.maintenance_run.started_at IS 'when the run began';
COMMENT ON COLUMN iotmq.maintenance_run.finished_at IS 'when it ended';
COMMENT ON COLUMN iotmq.maintenance_run.at IS 'the time that stood for now';
COMMENT ON COLUMN iotmq.maintenance_run.segments_made IS 'segments made ahead of time';
COMMENT ON COLUMN iotmq.maintenance_run.segments_sealed IS 'segments that are over and were sealed';
COMMENT ON COLUMN iotmq.maintenance_run.segments_dropped IS 'segments that retention dropped';
COMMENT ON COLUMN iotmq.maintenance_run.leases_taken_over IS 'expired leases whose messages wait for their next attempt now';
COMMENT ON COLUMN iotmq.maintenance_run.skipped IS 'what was busy or failed, and is left to the next run';
