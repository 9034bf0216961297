-- What tags and a filter would make of the last messages: see src/group/preview.c for result
-- and errors.
CREATE FUNCTION iotmq.preview_group(topic text, consumer_group text, tags text DEFAULT NULL,
		filter jsonpath DEFAULT NULL, messages int DEFAULT 1000)
	RETURNS TABLE (wanted boolean, messages bigint, example jsonb)
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 2
	AS 'MODULE_PATHNAME', 'iotmq_preview_group';
COMMENT ON FUNCTION iotmq.preview_group IS 'how many of the last messages these tags and this filter would take and leave, with an example of each';
