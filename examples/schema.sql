CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('telemetry', dedup_window => '1 hour');
SELECT iotmq.create_group('telemetry', 'analytics');
CREATE TABLE reading (
	zone text,
	msg_offset bigint,
	device_id text,
	celsius numeric CHECK (celsius > -273.15)
);
