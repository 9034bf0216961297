-- What a group wants.

-- filter_parse_tags('a || b'): the tags, NULL for '*'; raises 22023.
CREATE FUNCTION iotmq.filter_parse_tags(tags text) RETURNS text[]
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts text[];
BEGIN
	SELECT array_agg(DISTINCT trim(part)) INTO parts FROM unnest(string_to_array(tags, '||')) AS part;
	IF parts = '{*}' THEN
		RETURN NULL;
	END IF;
	IF cardinality(parts) > 0 IS NOT TRUE OR parts && '{*,""}'
		OR EXISTS (SELECT FROM unnest(parts) AS part WHERE octet_length(part) > 255) THEN
		RAISE EXCEPTION 'invalid tags "%"', tags
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Name the tags, such as ''temperature || alarm'', or ''*'' for all.';
	END IF;
	RETURN parts;
END
$$;
COMMENT ON FUNCTION iotmq.filter_parse_tags IS 'internal: the tags in a list of tags';

-- filter_matches(payload, filter): whether a group with that filter gets the message.
CREATE FUNCTION iotmq.filter_matches(payload jsonb, filter jsonpath) RETURNS boolean
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_filter_matches';
COMMENT ON FUNCTION iotmq.filter_matches IS 'internal: whether a filter lets a payload pass';
