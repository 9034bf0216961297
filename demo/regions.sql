-- What the demo with two regions counts with, at b, which takes over from a.

-- Messages that b had not pulled when a fell.
CREATE TABLE demo.tail (
	zone text,
	msg_offset bigint,
	id bigint NOT NULL,
	PRIMARY KEY (zone, msg_offset)
);

-- Those of them that are nowhere else. What a's bridge had not confirmed came to b again.
CREATE VIEW demo.lost_message AS
SELECT id
FROM demo.tail
EXCEPT
SELECT (payload->>'id')::bigint
FROM iotmq_topic.telemetry;

-- What each group had settled at a, as far as b knew. None of it may come again.
CREATE TABLE demo.settled (
	consumer_group text,
	id bigint,
	PRIMARY KEY (consumer_group, id)
);

-- What was received before that was received at a.
CREATE TABLE demo.promotion (noted_at timestamptz NOT NULL);

-- The windows of a. One that both have something of becomes one.
CREATE TABLE demo.window_of_a (LIKE demo.device_window);

CREATE PROCEDURE demo.add_windows()
LANGUAGE sql
AS $$
	INSERT INTO demo.device_window AS w
	SELECT zone, device_id, window_start, readings, total, lowest, highest
	FROM demo.window_of_a
	ON CONFLICT (zone, device_id, window_start) DO UPDATE
	SET readings = w.readings + excluded.readings,
		total = w.total + excluded.total,
		lowest = least(w.lowest, excluded.lowest),
		highest = greatest(w.highest, excluded.highest)
$$;

-- To be called when the zones are open at b, before anybody consumes.
CREATE PROCEDURE demo.note_settled(urgent text[])
LANGUAGE sql
AS $$
	INSERT INTO demo.promotion VALUES (clock_timestamp());
	INSERT INTO demo.settled
	SELECT l.consumer_group, (m.payload->>'id')::bigint
	FROM iotmq.consumer_lag AS l
	JOIN iotmq_topic.telemetry AS m ON m.zone = l.zone AND m.msg_offset < l.next_offset
	WHERE l.topic = 'telemetry'
		AND (l.consumer_group <> 'threshold' OR m.tag = ANY (urgent))
		AND NOT EXISTS (SELECT FROM iotmq.waiting_message AS w
			WHERE (w.topic, w.consumer_group, w.zone, w.msg_offset) = (l.topic, l.consumer_group, l.zone, m.msg_offset))
$$;
