-- The source's part of a mirror: see src/mirror/send.c. Called by other servers, as a role that
-- grant_mirror was given.

-- mirror_source(topic, zone): the zone's settings, offsets and state. Errors: 22004, 42704, 42501.
CREATE FUNCTION iotmq.mirror_source(topic text, zone text) RETURNS jsonb
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_send_source';
COMMENT ON FUNCTION iotmq.mirror_source IS 'what a mirror on another server asks of its source: settings, offsets and state of a zone';

-- mirror_messages(topic, zone, from_offset, max_messages): its messages from an offset on, in
-- the format of src/mirror/mirror.h. Errors: 22004, 22023, 42704, 42501.
CREATE FUNCTION iotmq.mirror_messages(topic text, zone text, from_offset bigint, max_messages int) RETURNS text
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_send_messages';
COMMENT ON FUNCTION iotmq.mirror_messages IS 'what a mirror on another server pulls: messages of a zone from an offset on, a line each';

-- hand_over(topic, zone, end_offset, taker, fence): the fenced zone is the other server's from now on.
-- taker: who that is, so that no two are told so; fence: behind which it has read the zone, as
-- mirror_source says. Errors: 22004, 42704, 42501; 55000 it is not fenced, or anew, ends
-- elsewhere, or was handed over to another one.
CREATE FUNCTION iotmq.hand_over(topic text, zone text, end_offset bigint, taker text DEFAULT NULL,
		fence text DEFAULT NULL) RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'iotmq_send_over';
COMMENT ON FUNCTION iotmq.hand_over IS 'gives a fenced zone to the server that has all of it; called by that server';
