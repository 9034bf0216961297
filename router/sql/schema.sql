\echo Use "CREATE EXTENSION iotmq_router" to load this file. \quit
-- The schemas and what the router knows.
--
-- iotmq has the functions and views of iotmq, under the same names. iotmq_node has what they
-- call: each function of a node once more, with the node as its first argument. Everybody may
-- call these, since the node decides by who calls. iotmq_internal has the tables.

CREATE SCHEMA iotmq;
COMMENT ON SCHEMA iotmq IS 'message topics whose zones live on several servers';
CREATE SCHEMA iotmq_node;
COMMENT ON SCHEMA iotmq_node IS 'internal: how iotmq_router calls nodes';
CREATE SCHEMA iotmq_internal;
COMMENT ON SCHEMA iotmq_internal IS 'internal: what iotmq_router knows of nodes and zones';
GRANT USAGE ON SCHEMA iotmq, iotmq_node TO PUBLIC;

CREATE TYPE iotmq.delivery AS (
	lease_id bigint,
	zone text,
	msg_offset bigint,
	device_id text,
	tag text,
	payload jsonb,
	body bytea,
	properties jsonb,
	published_at timestamptz,
	attempt int,
	message_key text
);
COMMENT ON TYPE iotmq.delivery IS 'a message as consume, fetch and the like return it';
COMMENT ON COLUMN iotmq.delivery.lease_id IS 'the lease, for ack and the like; NULL: read without one';
COMMENT ON COLUMN iotmq.delivery.zone IS 'the zone';
COMMENT ON COLUMN iotmq.delivery.msg_offset IS 'its number in the zone';
COMMENT ON COLUMN iotmq.delivery.device_id IS 'the device';
COMMENT ON COLUMN iotmq.delivery.tag IS 'by which groups can choose; NULL: none';
COMMENT ON COLUMN iotmq.delivery.payload IS 'content; NULL: there is only a body';
COMMENT ON COLUMN iotmq.delivery.body IS 'binary content; NULL: there is only a payload';
COMMENT ON COLUMN iotmq.delivery.properties IS 'of the transport; NULL: none';
COMMENT ON COLUMN iotmq.delivery.published_at IS 'the clock of the server at publish';
COMMENT ON COLUMN iotmq.delivery.attempt IS 'which delivery to this group it is, from 1; 0: read without a lease';
COMMENT ON COLUMN iotmq.delivery.message_key IS 'the key that its publisher gave it; NULL: none';

CREATE TYPE iotmq.seek_result AS (
	zone text,
	old_offset bigint,
	new_offset bigint,
	messages bigint
);
COMMENT ON TYPE iotmq.seek_result IS 'where a group stood and goes on';
COMMENT ON COLUMN iotmq.seek_result.zone IS 'the zone';
COMMENT ON COLUMN iotmq.seek_result.old_offset IS 'where the group stood: the next one to deliver';
COMMENT ON COLUMN iotmq.seek_result.new_offset IS 'where it goes on';
COMMENT ON COLUMN iotmq.seek_result.messages IS 'how many are delivered again (positive) or skipped (negative)';

CREATE TABLE iotmq_internal.node (
	node int PRIMARY KEY CHECK (node BETWEEN 0 AND 63),
	server text COLLATE "C" NOT NULL UNIQUE
);
COMMENT ON TABLE iotmq_internal.node IS 'internal: the servers with zones';
COMMENT ON COLUMN iotmq_internal.node.node IS 'its number, as set_node has it there';
COMMENT ON COLUMN iotmq_internal.node.server IS 'the foreign server of PL/Proxy that leads there';

-- A row stays when its zone is dropped: one that is made anew goes on above the old one's
-- offsets, which that node knows.
CREATE TABLE iotmq_internal.placement (
	topic text COLLATE "C",
	zone text COLLATE "C",
	node int NOT NULL REFERENCES iotmq_internal.node,
	made boolean NOT NULL,
	PRIMARY KEY (topic, zone)
);
COMMENT ON TABLE iotmq_internal.placement IS 'internal: where each zone is, or is to be made';
COMMENT ON COLUMN iotmq_internal.placement.topic IS 'the topic';
COMMENT ON COLUMN iotmq_internal.placement.zone IS 'the zone';
COMMENT ON COLUMN iotmq_internal.placement.node IS 'the node';
COMMENT ON COLUMN iotmq_internal.placement.made IS 'the zone is there';

-- Its lock says that a zone changes its node: see place_wait.
CREATE TABLE iotmq_internal.moved_cursor (
	cursor_id int PRIMARY KEY,
	node int NOT NULL REFERENCES iotmq_internal.node
);
COMMENT ON TABLE iotmq_internal.moved_cursor IS 'internal: cursors that are not at the node that their number names';
COMMENT ON COLUMN iotmq_internal.moved_cursor.cursor_id IS 'the upper bits of their lease ids';
COMMENT ON COLUMN iotmq_internal.moved_cursor.node IS 'where they are';

SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.node', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.placement', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.moved_cursor', '');

