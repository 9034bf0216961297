-- What becomes of dead letters: see src/group/redrive.c for results and errors.

CREATE FUNCTION iotmq.redrive(topic text, consumer_group text, ids bigint[] DEFAULT NULL,
		max_messages bigint DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_redrive';
COMMENT ON FUNCTION iotmq.redrive IS 'delivers dead letters again, to their group alone; returns how many';

CREATE FUNCTION iotmq.purge_dead_letters(topic text, consumer_group text, ids bigint[] DEFAULT NULL,
		older_than interval DEFAULT NULL) RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_purge_dead_letters';
COMMENT ON FUNCTION iotmq.purge_dead_letters IS 'deletes dead letters for good; returns how many';
