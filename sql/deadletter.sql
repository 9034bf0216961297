-- Dead letters: messages that a group gave up, with a copy of their content.
CREATE TABLE iotmq.dead_message (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	cursor_id int NOT NULL,
	attempts int NOT NULL,
	dead_at timestamptz NOT NULL,
	redriven boolean NOT NULL,
	reason text,
	zone text COLLATE "C" NOT NULL,
	msg_offset bigint NOT NULL,
	published_at timestamptz NOT NULL,
	device_id text COLLATE "C" NOT NULL,
	tag text COLLATE "C",
	payload jsonb,
	body bytea,
	properties jsonb
);
CREATE INDEX dead_message_origin ON iotmq.dead_message (cursor_id, msg_offset);
COMMENT ON TABLE iotmq.dead_message IS 'one row per message that a group gave up; see the view dead_letter';
COMMENT ON COLUMN iotmq.dead_message.redriven IS 'on its way again: the content is kept until it is settled';

SELECT pg_catalog.pg_extension_config_dump('iotmq.dead_message', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq.dead_message_id_seq', '');
