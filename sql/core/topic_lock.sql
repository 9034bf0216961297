-- Changes that claims go by, shown until every backend knows of them: see
-- src/core/topic_lock.c. Before the change, whoever makes it.

-- topic_lock_change(topic_id): of all groups of a topic, such as a zone that goes.
CREATE FUNCTION iotmq.topic_lock_change(topic_id int) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_topic_lock_change';
COMMENT ON FUNCTION iotmq.topic_lock_change IS 'internal: shows that a topic is being changed';

-- topic_lock_change_group(group_id): of one group, such as its filter.
CREATE FUNCTION iotmq.topic_lock_change_group(group_id int) RETURNS void
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_topic_lock_change_group';
COMMENT ON FUNCTION iotmq.topic_lock_change_group IS 'internal: shows that a group is being changed';
