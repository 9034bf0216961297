-- stats(durable): what every zone holds, a row for each. See src/view/stats.c.
CREATE FUNCTION iotmq.stats(durable boolean,
		OUT topic text, OUT zone text, OUT segments bigint, OUT earliest_offset bigint,
		OUT end_offset bigint, OUT messages_estimate bigint, OUT bytes bigint,
		OUT oldest_published_at timestamptz, OUT newest_published_at timestamptz,
		OUT assigned bigint) RETURNS SETOF record
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_stats';
COMMENT ON FUNCTION iotmq.stats IS 'internal: what every zone holds';

CREATE VIEW iotmq.topic_stats AS
SELECT
	topic,
	zone,
	segments,
	earliest_offset,
	end_offset,
	messages_estimate,
	bytes,
	oldest_published_at,
	newest_published_at
FROM iotmq.stats(false);
COMMENT ON VIEW iotmq.topic_stats IS 'what every topic holds, per zone';
COMMENT ON COLUMN iotmq.topic_stats.topic IS 'the topic';
COMMENT ON COLUMN iotmq.topic_stats.zone IS 'the zone';
COMMENT ON COLUMN iotmq.topic_stats.segments IS 'number of segments';
COMMENT ON COLUMN iotmq.topic_stats.earliest_offset IS 'the lowest offset that the log may still hold';
COMMENT ON COLUMN iotmq.topic_stats.end_offset IS 'the next one to be assigned';
COMMENT ON COLUMN iotmq.topic_stats.messages_estimate IS 'messages in the log, counting holes';
COMMENT ON COLUMN iotmq.topic_stats.bytes IS 'size on disk with indexes';
COMMENT ON COLUMN iotmq.topic_stats.oldest_published_at IS 'of the oldest message';
COMMENT ON COLUMN iotmq.topic_stats.newest_published_at IS 'of the newest message';
