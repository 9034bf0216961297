#!/bin/sh
# Stores the readings of a topic, each exactly once: in one transaction with its
# acknowledgement.  SIGTERM ends it after the batch at hand.

lease=60		# seconds
stopping=
trap 'stopping=1' TERM
batches=0

until [ "$stopping" ]; do
	batches=$((batches + 1))
	consumer=$(hostname)-$$-$batches

	# extends the lease while the batch is worked on
	psql -qXAt -v consumer="$consumer" -v lease="$lease s" >/dev/null <<SQL &
SELECT iotmq.extend(lease_id, :'lease') FROM iotmq.in_flight WHERE consumer = :'consumer' \watch $((lease / 3))
SQL
	heartbeat=$!

	# What fails here, such as by 55000, a lease that is over, comes again: with the next batch or for others.
	psql -qXAt -v ON_ERROR_STOP=1 -v consumer="$consumer" -v lease="$lease s" >/dev/null <<'SQL' || sleep 1
CREATE TEMPORARY TABLE batch AS
SELECT *, NULL::text AS reason
FROM iotmq.consume('telemetry', 'analytics', 100, invisible_for => :'lease', wait => '5 s', consumer => :'consumer');

SELECT count(*) > 0 AS has_messages FROM batch \gset
\if :has_messages
BEGIN;
DO $$
DECLARE
	message batch;
BEGIN
	FOR message IN SELECT * FROM batch ORDER BY msg_offset LOOP
		BEGIN
			IF message.body IS NOT NULL THEN
				RAISE 'not a reading: %', encode(message.body, 'escape');
			END IF;
			PERFORM pg_sleep((message.payload->>'pause')::float8);		-- stands for what takes long
			IF (message.payload->>'celsius')::numeric > 1000 THEN
				RAISE 'not plausible: %', message.payload->>'celsius';
			END IF;
			INSERT INTO reading (zone, msg_offset, device_id, celsius)
			VALUES (message.zone, message.msg_offset, message.device_id, (message.payload->>'celsius')::numeric);
		EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
			UPDATE batch SET reason = sqlerrm WHERE msg_offset = message.msg_offset;
		END;
	END LOOP;
END
$$;
SELECT iotmq.settle(min(lease_id),
	coalesce(array_agg(msg_offset) FILTER (WHERE reason IS NULL), '{}'),
	nacks => coalesce(array_agg(msg_offset ORDER BY msg_offset) FILTER (WHERE reason IS NOT NULL), '{}'),
	reasons => coalesce(array_agg(reason ORDER BY msg_offset) FILTER (WHERE reason IS NOT NULL), '{}'))
FROM batch;
COMMIT;
\endif
SQL
	kill "$heartbeat" 2>/dev/null
	wait "$heartbeat" 2>/dev/null || true
done
