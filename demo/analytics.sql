-- Group "analytics": window aggregates of every device, and what stands out.
--
-- A consumer calls demo.take, then demo.aggregate, each in a transaction of its own.
-- Several of them run at once, and one device's messages may be in the batches of two.
-- A device's row is locked for the whole transaction, always in the order of zone and
-- device_id, so they neither overwrite each other nor deadlock.

-- What was measured: how often, the mean, and the sum of squared distances from it.
CREATE TABLE demo.device (
	zone text,
	device_id text,
	readings bigint NOT NULL DEFAULT 0,
	mean double precision NOT NULL DEFAULT 0,
	squares double precision NOT NULL DEFAULT 0,
	PRIMARY KEY (zone, device_id)
) WITH (fillfactor = 50);

CREATE TABLE demo.device_window (
	zone text,
	device_id text,
	window_start timestamptz,
	readings bigint NOT NULL,
	total double precision NOT NULL,
	lowest double precision NOT NULL,
	highest double precision NOT NULL,
	PRIMARY KEY (zone, device_id, window_start)
) WITH (fillfactor = 70);

CREATE TABLE demo.anomaly (
	id bigint PRIMARY KEY,				-- of the message
	zone text NOT NULL,
	device_id text NOT NULL,
	at timestamptz NOT NULL,
	value double precision NOT NULL,
	z_score double precision NOT NULL
);

-- The columns of a batch, which each consumer has as a temporary table.
CREATE TABLE demo.reading (
	lease_id bigint,
	zone text,
	device_id text,
	id bigint,
	at timestamptz,
	value double precision,
	sent double precision				-- by the device, in seconds
);

-- Fills the batch; returns how many messages it has.
CREATE FUNCTION demo.take(consumer text, max_messages int)
RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
	taken bigint;
BEGIN
	TRUNCATE batch;
	INSERT INTO batch
	SELECT lease_id, zone, device_id, (payload->>'id')::bigint, (payload->>'at')::timestamptz,
		coalesce(payload->'temperature', payload->'value')::float8, (payload->>'sent')::float8
	FROM iotmq.consume('telemetry', 'analytics', max_messages, wait => '1 s', consumer => take.consumer);
	GET DIAGNOSTICS taken = ROW_COUNT;
	RETURN taken;
END
$$;

-- The effects of a batch, the receipt for the final count, and the acknowledgement.
CREATE FUNCTION demo.aggregate(window_length interval)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
	far CONSTANT float8 := 4;			-- standard deviations from the mean that make an anomaly
	enough CONSTANT bigint := 12;		-- readings that it takes to judge
	received CONSTANT float8 := extract(epoch FROM clock_timestamp());
BEGIN
	INSERT INTO demo.device (zone, device_id)
	SELECT DISTINCT zone, device_id
	FROM batch
	ORDER BY zone, device_id
	ON CONFLICT DO NOTHING;

	PERFORM
	FROM demo.device
	WHERE (zone, device_id) IN (SELECT zone, device_id FROM batch)
	ORDER BY zone, device_id
	FOR UPDATE;

	INSERT INTO demo.anomaly
	SELECT b.id, zone, device_id, b.at, b.value, z
	FROM batch AS b
	JOIN demo.device AS d USING (zone, device_id)
	CROSS JOIN LATERAL (SELECT (b.value - d.mean) / greatest(sqrt(d.squares / nullif(d.readings, 0)), 1e-9)) AS x(z)
	WHERE d.readings >= enough
	AND abs(z) > far;

	UPDATE demo.device AS d
	SET readings = d.readings + b.readings,
		mean = d.mean + (b.mean - d.mean) * b.readings / (d.readings + b.readings),
		squares = d.squares + b.squares
			+ (b.mean - d.mean) ^ 2 * d.readings * b.readings / (d.readings + b.readings)
	FROM (
		SELECT zone, device_id, count(*) AS readings, avg(value) AS mean, var_pop(value) * count(*) AS squares
		FROM batch
		GROUP BY zone, device_id
	) AS b
	WHERE (d.zone, d.device_id) = (b.zone, b.device_id);

	INSERT INTO demo.device_window AS w
	SELECT zone, device_id, date_bin(window_length, at, '2000-01-01 00:00 UTC') AS start,
		count(*), sum(value), min(value), max(value)
	FROM batch
	GROUP BY zone, device_id, start
	ORDER BY zone, device_id, start
	ON CONFLICT (zone, device_id, window_start) DO UPDATE
	SET readings = w.readings + excluded.readings,
		total = w.total + excluded.total,
		lowest = least(w.lowest, excluded.lowest),
		highest = greatest(w.highest, excluded.highest);

	INSERT INTO demo.delivered (consumer_group, messages, ids, latency_ms)
	SELECT 'analytics', count(*), array_agg(id), array_agg((1000 * (received - sent))::real)
	FROM batch;

	PERFORM iotmq.ack(lease_id)
	FROM batch
	LIMIT 1;
END
$$;
