#!/bin/sh
# Publishes measurements, a line each: device, number of the measurement, degrees.
#
# They are published until there is an answer.  The number is the message's key, so that
# none is stored twice, also if an answer was lost.

set -eu

file=$(mktemp)
trap 'rm -f "$file"' EXIT
cat >"$file"

until psql -qX -v ON_ERROR_STOP=1 \
	-c 'CREATE TEMPORARY TABLE measurement (id serial, device_id text, number text, celsius numeric)' \
	-c "\copy measurement (device_id, number, celsius) FROM pstdin (DELIMITER ' ')" \
	-c "SELECT iotmq.publish_batch('telemetry', array_agg(device_id ORDER BY id),
			array_agg(jsonb_build_object('celsius', celsius) ORDER BY id),
			message_keys => array_agg(number ORDER BY id))
		FROM measurement
		GROUP BY id / 1000" <"$file" >/dev/null; do
	sleep 1
done
