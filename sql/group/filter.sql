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
	IF tags LIKE '%,%' THEN
		RAISE EXCEPTION 'invalid tags "%"', tags
			USING ERRCODE = 'invalid_parameter_value',
				DETAIL = 'A tag has no comma in it.',
				HINT = format('Put || between tags: %L.',
					coalesce((SELECT string_agg(trim(part), ' || ') FROM regexp_split_to_table(tags, E',|\\|\\|') AS part WHERE trim(part) <> ''), 'alarm || warn'));
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

-- filter_is_predicate(filter): whether it is true or false of a payload; a path only finds
-- something in it.
CREATE FUNCTION iotmq.filter_is_predicate(filter jsonpath) RETURNS boolean
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_filter_is_predicate';
COMMENT ON FUNCTION iotmq.filter_is_predicate IS 'internal: whether a filter is true or false of a payload';

-- filter_as_predicate(filter): a hint, how a filter that is none would be written.
CREATE FUNCTION iotmq.filter_as_predicate(filter jsonpath) RETURNS text
	LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- as people write it: $.celsius, not $."celsius"
	mode text := CASE WHEN filter::text LIKE 'strict %' THEN 'strict ' ELSE '' END;
	path text := regexp_replace(substr(filter::text, length(mode) + 1), E'\\."([A-Za-z_][A-Za-z0-9_]*)"', E'.\\1', 'g');
	-- $.a ? (@.b > 90): the path, what follows @, and the comparison with a value
	condition text[] := regexp_match(path, E'^(\\$.*)\\?\\(@(\\S*) ((?:==|!=|<|<=|>|>=|starts with|like_regex) (?:-?[0-9.]+|true|false|null|"(?:\\\\.|[^"\\\\])*"(?: flag "[a-z]+")?))\\)$');
	there text := format('%sexists(%s)', mode, path);
	compared text := mode || CASE
		WHEN condition IS NOT NULL THEN format('%s%s %s', condition[1], condition[2], condition[3])
		ELSE path || ' == true' END;
BEGIN
	IF path NOT LIKE '$%' OR path LIKE '%?(%' AND NOT iotmq.filter_is_predicate(there::jsonpath) THEN
		RETURN 'Compare what it finds with something, such as ''$.celsius > 90''.';
	ELSIF condition IS NOT NULL AND iotmq.filter_is_predicate(compared::jsonpath) THEN
		RETURN format('Compare what the path finds: %L, or ask whether there is something: %L.', compared, there);
	ELSIF path LIKE '%?(%' THEN
		RETURN format('Ask whether the path finds something: %L.', there);
	END IF;
	RETURN format('Compare what the path finds, such as %L, or ask whether there is something: %L.', compared, there);
EXCEPTION WHEN syntax_error THEN
	RETURN 'Compare what it finds with something, such as ''$.celsius > 90''.';
END
$$;
COMMENT ON FUNCTION iotmq.filter_as_predicate IS 'internal: how a filter that is no predicate would be written';

-- filter_check(filter): raises 22023 unless a group can have that filter.
CREATE FUNCTION iotmq.filter_check(filter jsonpath) RETURNS void
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- a variable is a $ before a string; all else is strings and what stands between
	IF filter::text !~ E'^("(\\\\.|[^"\\\\])*"|[^"$]|\\$(?!"))*$' THEN
		RAISE EXCEPTION 'filter must not contain variables'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Write the value itself, such as ''$.celsius > 90''.';
	END IF;
	IF NOT iotmq.filter_is_predicate(filter) THEN
		RAISE EXCEPTION 'filter must be a predicate, which is true or false of a payload'
			USING ERRCODE = 'invalid_parameter_value',
				DETAIL = format('%s finds something in a payload, and is not true or false of it.', filter),
				HINT = iotmq.filter_as_predicate(filter);
	END IF;
END
$$;
COMMENT ON FUNCTION iotmq.filter_check IS 'internal: raises an error unless a group can have that filter';

-- filter_matches(payload, filter): whether a group with that filter gets the message.
CREATE FUNCTION iotmq.filter_matches(payload jsonb, filter jsonpath) RETURNS boolean
	LANGUAGE C STABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'iotmq_filter_matches';
COMMENT ON FUNCTION iotmq.filter_matches IS 'internal: whether a filter lets a payload pass';
