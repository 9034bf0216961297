-- iotmq: the message layer of an IoT pipeline inside PostgreSQL.
-- This file: the schemas and the catalogs that everything else works on.
\echo Use "CREATE EXTENSION iotmq" to load this file. \quit

CREATE SCHEMA iotmq;
COMMENT ON SCHEMA iotmq IS 'iotmq: functions and views of the message layer';

CREATE SCHEMA iotmq_topic;
COMMENT ON SCHEMA iotmq_topic IS 'iotmq: one table a topic; its zones are in a schema of their own';

-- Whoever can name a table can queue a strong lock on it, whatever he may do with it: CREATE
-- RULE waits for its lock before it asks who the owner is. So what publishers and consumers
-- lock is in schemas that no grant opens, and the zones of each topic, which publishers name
-- for COPY, are in one of that topic's (topic.sql).
CREATE SCHEMA iotmq_internal;
COMMENT ON SCHEMA iotmq_internal IS 'iotmq: the catalogs of the message layer; not for users';

CREATE SCHEMA iotmq_segment;
COMMENT ON SCHEMA iotmq_segment IS 'iotmq: the segments of topics, which hold the messages; not for users';

-- No foreign keys between the catalogs: pg_restore -j loads them in any order, and a
-- publisher in an old REPEATABLE READ snapshot may have to add a segment.

-- What create_topic was told. One row a topic.
CREATE TABLE iotmq_internal.topic (
	topic_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	topic text COLLATE "C" NOT NULL UNIQUE,
	table_name regclass NOT NULL,
	retention interval NOT NULL,
	segment_interval interval NOT NULL,
	retention_policy text COLLATE "C" NOT NULL,
	max_retention interval,
	device_index boolean NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	kept_for interval NOT NULL GENERATED ALWAYS AS (CASE retention_policy
		WHEN 'time' THEN retention
		ELSE coalesce(max_retention, retention * 4)
	END) STORED,
	dedup_window interval
);
COMMENT ON COLUMN iotmq_internal.topic.kept_for IS 'how long retention keeps a message that nobody reads';
COMMENT ON COLUMN iotmq_internal.topic.dedup_window IS 'how long the key of a message is taken; NULL: messages have no keys';
COMMENT ON TABLE iotmq_internal.topic IS 'one row per topic: its table and its retention';

-- One row a zone. floor_time, floor_xid, seal_* belong to sealing (see segment.sql).
-- state: who owns it. Messages are published to an open one only, and consumed there; a fenced
-- one is about to move or has moved (elsewhere: where to; handed_over: the other server has it);
-- a mirror follows the zone of another server (elsewhere: the foreign server).
CREATE TABLE iotmq_internal.zone (
	zone_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	topic_id int NOT NULL,
	zone text COLLATE "C" NOT NULL,
	table_name regclass NOT NULL,
	offset_sequence regclass NOT NULL,
	earliest_offset bigint NOT NULL DEFAULT 1,
	floor_time timestamptz NOT NULL DEFAULT '-infinity',
	floor_xid xid8,
	seal_xid xid8,
	state text COLLATE "C" NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'fenced', 'mirror')),
	elsewhere text COLLATE "C",
	handed_over boolean NOT NULL DEFAULT false,
	generation int NOT NULL DEFAULT 0,
	taken_by text COLLATE "C",
	fence xid8,
	UNIQUE (topic_id, zone)
);
COMMENT ON COLUMN iotmq_internal.zone.state IS 'open, fenced or mirror';
COMMENT ON COLUMN iotmq_internal.zone.elsewhere IS 'where a fenced zone moves to, or the foreign server that a mirror follows';
COMMENT ON COLUMN iotmq_internal.zone.handed_over IS 'of a fenced zone: another server owns it';
COMMENT ON COLUMN iotmq_internal.zone.taken_by IS 'the zone of another server that it was handed over to: see move_taker';
COMMENT ON COLUMN iotmq_internal.zone.fence IS 'the transaction that has fenced it: who takes it over has read it behind this fence';
COMMENT ON COLUMN iotmq_internal.zone.generation IS 'grows when offsets that were decided are filled anew: what backends remember of the zone is void';
COMMENT ON TABLE iotmq_internal.zone IS 'one row per zone of a topic: its table, its offset sequence, its earliest offset';

-- Offsets that never came to be, between the last row before a recovery and the first offset
-- of the epoch after it: see src/log/epoch.c.
CREATE TABLE iotmq_internal.zone_gap (
	zone_id int NOT NULL,
	epoch int NOT NULL,
	first_offset bigint NOT NULL,
	last_before bigint NOT NULL,
	began_at timestamptz,
	PRIMARY KEY (zone_id, epoch)
);
COMMENT ON TABLE iotmq_internal.zone_gap IS 'one row per epoch of a zone that did not go on where the last one ended';

-- How far a mirror has come. next_offset is committed together with the messages below it, so
-- it is the end of the zone for readers, instead of the sequence: see src/log/end.c.
CREATE TABLE iotmq_internal.mirror_state (
	zone_id int PRIMARY KEY,
	source_zone text COLLATE "C" NOT NULL,
	next_offset bigint NOT NULL,
	last_offset bigint NOT NULL,
	messages bigint NOT NULL DEFAULT 0,
	missed bigint NOT NULL DEFAULT 0,
	lag_messages bigint,
	last_published timestamptz,
	last_pull timestamptz,
	groups_at timestamptz,
	error text,
	failed_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE iotmq_internal.mirror_state IS 'one row per zone that is a mirror: how far it has come, and what the last pulls found';
COMMENT ON COLUMN iotmq_internal.mirror_state.next_offset IS 'the next offset to pull: all below it is here, if it is anywhere';
COMMENT ON COLUMN iotmq_internal.mirror_state.last_offset IS 'that of the last message that was pulled; between it and next_offset are holes';
COMMENT ON COLUMN iotmq_internal.mirror_state.messages IS 'how many were pulled';
COMMENT ON COLUMN iotmq_internal.mirror_state.missed IS 'offsets that the source had dropped before they were pulled';
COMMENT ON COLUMN iotmq_internal.mirror_state.groups_at IS 'when the state of the groups was pulled last';

-- One row a segment. first_offset, last_offset and bytes are known once it is sealed;
-- both NULL in a sealed one: it is empty. emptied: retention has taken its messages, and
-- its table is to be dropped.
CREATE TABLE iotmq_internal.segment (
	zone_id int NOT NULL,
	from_time timestamptz NOT NULL,
	to_time timestamptz NOT NULL CHECK (from_time < to_time),
	table_name regclass NOT NULL,
	sealed boolean NOT NULL DEFAULT false,
	first_offset bigint,
	last_offset bigint,
	bytes bigint,
	emptied boolean NOT NULL DEFAULT false,
	PRIMARY KEY (zone_id, from_time)
);
COMMENT ON TABLE iotmq_internal.segment IS 'one row per segment: a time slice of a zone, dropped whole by retention';

-- What retention should have dropped and could not, and what can't be read, as the last run
-- found it. Rows of segments that are there no more mean nothing.
CREATE TABLE iotmq_internal.overdue (
	zone_id int NOT NULL,
	from_time timestamptz NOT NULL,
	since timestamptz NOT NULL DEFAULT clock_timestamp(),
	tried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	in_the_way text NOT NULL,
	unreadable boolean NOT NULL DEFAULT false,
	PRIMARY KEY (zone_id, from_time)
);
COMMENT ON TABLE iotmq_internal.overdue IS 'one row per segment that retention could not drop; see the view overdue_segment';

CREATE TABLE iotmq_internal.consumer_group (
	group_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	topic_id int NOT NULL,
	consumer_group text COLLATE "C" NOT NULL,
	mode text COLLATE "C" NOT NULL,
	tags text[] COLLATE "C",
	filter jsonpath,
	invisible_for interval NOT NULL,
	max_retries int NOT NULL,
	backoff interval[] NOT NULL,
	max_delay interval,
	max_lag bigint,
	durable_acks boolean NOT NULL DEFAULT false,
	paused boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE (topic_id, consumer_group)
);
COMMENT ON TABLE iotmq_internal.consumer_group IS 'one row per consumer group: what it reads and how failures are retried';
COMMENT ON COLUMN iotmq_internal.consumer_group.tags IS 'the tags delivered; NULL: all';

-- Which cursor belongs to a group in a zone. Its id is part of every lease id, and has the
-- node and one of its numbers: see group/cursor.sql.
CREATE TABLE iotmq_internal.cursor (
	cursor_id int PRIMARY KEY,
	group_id int NOT NULL,
	zone_id int NOT NULL,
	UNIQUE (zone_id, group_id)
);
CREATE INDEX cursor_group_id ON iotmq_internal.cursor (group_id);
COMMENT ON TABLE iotmq_internal.cursor IS 'one row per group and zone: the id of its cursor';

CREATE SEQUENCE iotmq_internal.cursor_number AS int MAXVALUE 16383 CYCLE;
COMMENT ON SEQUENCE iotmq_internal.cursor_number IS 'internal: numbers for cursors, in turn; those in use are passed over';

-- The lease ids of cursors that were dropped: no later cursor of that id gives them out again.
CREATE TABLE iotmq_internal.past_cursor (
	cursor_id int PRIMARY KEY,
	last_lease bigint NOT NULL
);
COMMENT ON TABLE iotmq_internal.past_cursor IS 'one row per cursor that was dropped: the last lease id that it gave out';

-- The cursors of this node whose zones were moved to another server: their lease ids go on there.
CREATE TABLE iotmq_internal.away_cursor (
	cursor_id int PRIMARY KEY,
	topic text COLLATE "C" NOT NULL,
	consumer_group text COLLATE "C" NOT NULL
);
COMMENT ON TABLE iotmq_internal.away_cursor IS 'one row per cursor of this node that another server has, until it comes back';

-- What the mirror of a zone knows of its source's groups: see mirror/apply_source.sql.
CREATE TABLE iotmq_internal.source_group (
	cursor_id int PRIMARY KEY,
	made boolean NOT NULL,
	settings jsonb NOT NULL,
	hashes jsonb,
	left_as bigint
);
COMMENT ON TABLE iotmq_internal.source_group IS 'one row per cursor of a mirrored zone whose group the source has';
COMMENT ON COLUMN iotmq_internal.source_group.made IS 'the group was made by the mirror';
COMMENT ON COLUMN iotmq_internal.source_group.settings IS 'of the group at the source, as they were seen last';
COMMENT ON COLUMN iotmq_internal.source_group.hashes IS 'of what was taken over; NULL: not all of it';
COMMENT ON COLUMN iotmq_internal.source_group.left_as IS 'a hash of the cursor''s state then; another one now: somebody has changed it here';

-- Which of several servers this is, so that lease ids differ. No row: node 0.
CREATE TABLE iotmq_internal.node (
	node int NOT NULL CHECK (node BETWEEN 0 AND 63),
	one boolean PRIMARY KEY DEFAULT true CHECK (one)
);
COMMENT ON TABLE iotmq_internal.node IS 'the number of this server, which is part of lease ids; no row: 0';

-- What was dropped: a zone made anew under the same names goes on above its offsets.
CREATE TABLE iotmq_internal.past_zone (
	topic text COLLATE "C" NOT NULL,
	zone text COLLATE "C" NOT NULL,
	last_offset bigint NOT NULL,
	PRIMARY KEY (topic, zone)
);
COMMENT ON TABLE iotmq_internal.past_zone IS 'one row per zone that was dropped: the last offset that it gave out';

-- The moving part of a cursor, one row each, updated once a batch. Its index is
-- not unique on purpose: a uniqueness check visits every dead version of the
-- row, which a held-back xmin turns into thousands. New versions stay in the
-- page (HOT) as long as it has room.
CREATE TABLE iotmq_internal.cursor_state (
	cursor_id int NOT NULL,
	next_offset bigint NOT NULL,
	stable_offset bigint NOT NULL,
	sample_offset bigint NOT NULL DEFAULT 0,
	sample_xid xid8 NOT NULL DEFAULT '0',
	last_lease bigint NOT NULL DEFAULT 0,
	oldest_lease bigint NOT NULL DEFAULT 0,
	next_expiry timestamptz NOT NULL DEFAULT 'infinity',
	next_due timestamptz NOT NULL DEFAULT 'infinity',
	last_consumed_at timestamptz NOT NULL DEFAULT '-infinity',
	expired_unread bigint NOT NULL DEFAULT 0,
	redeliveries bigint NOT NULL DEFAULT 0,
	delivered_total bigint NOT NULL DEFAULT 0,
	retried_total bigint NOT NULL DEFAULT 0,
	dead_total bigint NOT NULL DEFAULT 0,
	dead_letters bigint NOT NULL DEFAULT 0,
	next_redriven bigint NOT NULL DEFAULT 9223372036854775807
) WITH (fillfactor = 20);
CREATE INDEX cursor_state_cursor_id ON iotmq_internal.cursor_state (cursor_id);
-- Without an identity a publication FOR ALL TABLES would refuse every change. There is no
-- unique index to be one; all of the row is logged, at wal_level = logical only.
ALTER TABLE iotmq_internal.cursor_state REPLICA IDENTITY FULL;
COMMENT ON TABLE iotmq_internal.cursor_state IS 'where each cursor stands';
COMMENT ON COLUMN iotmq_internal.cursor_state.sample_offset IS 'with sample_xid, a sample that may settle: see stable.c; 0: none';
COMMENT ON COLUMN iotmq_internal.cursor_state.oldest_lease IS 'no open lease of this cursor has a smaller id';
COMMENT ON COLUMN iotmq_internal.cursor_state.next_expiry IS 'no lease of this cursor expires earlier';
COMMENT ON COLUMN iotmq_internal.cursor_state.next_due IS 'nothing in redelivery of this cursor is due earlier';
COMMENT ON COLUMN iotmq_internal.cursor_state.redeliveries IS 'how many messages of this cursor are in redelivery';
COMMENT ON COLUMN iotmq_internal.cursor_state.delivered_total IS 'deliveries by lease since the group was made, repeated ones too';
COMMENT ON COLUMN iotmq_internal.cursor_state.retried_total IS 'failed attempts that led to another one, since the group was made';
COMMENT ON COLUMN iotmq_internal.cursor_state.dead_total IS 'messages that became dead letters since the group was made';
COMMENT ON COLUMN iotmq_internal.cursor_state.dead_letters IS 'how many dead letters of this cursor there are; those redriven are not';
COMMENT ON COLUMN iotmq_internal.cursor_state.next_redriven IS 'no redriven message below it is without a place: see place.c';

-- A batch in flight. The order of its columns matters: see src/group/lease.c.
CREATE TABLE iotmq_internal.lease (
	lease_id bigint PRIMARY KEY,
	first_offset bigint NOT NULL,
	last_offset bigint NOT NULL,
	leased_at timestamptz NOT NULL,
	deadline timestamptz NOT NULL,
	messages int NOT NULL,
	redriven boolean NOT NULL,
	settled bytea,
	batch_limit int,
	consumer text,
	runs bytea,
	devices text[]
) WITH (fillfactor = 80);
-- as it is, since a compressed one differs in all bytes when one bit of it changes
ALTER TABLE iotmq_internal.lease ALTER COLUMN settled SET STORAGE MAIN;
COMMENT ON TABLE iotmq_internal.lease IS 'one row per batch in flight';
COMMENT ON COLUMN iotmq_internal.lease.messages IS 'how many are still open';
COMMENT ON COLUMN iotmq_internal.lease.redriven IS 'some of them were dead letters: their content is in dead_message';
COMMENT ON COLUMN iotmq_internal.lease.settled IS 'one bit a message, least significant first; NULL: none';
COMMENT ON COLUMN iotmq_internal.lease.batch_limit IS 'the largest lease these messages may come in; NULL: any';
COMMENT ON COLUMN iotmq_internal.lease.runs IS 'their offsets and attempts, see runs_messages; NULL: first_offset to last_offset, each as attempt 1';
COMMENT ON COLUMN iotmq_internal.lease.devices IS 'of each message, in an orderly group; else NULL';

-- A message that waits for its next attempt: failed, expired or redriven; in an
-- orderly group also one that waits for an earlier one of its device. Of a device,
-- only the first one has a due_at; those behind it have infinity.
CREATE TABLE iotmq_internal.redelivery (
	cursor_id int NOT NULL,
	attempt int NOT NULL,
	due_at timestamptz NOT NULL,
	not_before timestamptz NOT NULL,
	msg_offset bigint NOT NULL,
	redriven boolean NOT NULL,
	batch_limit int,
	device_id text COLLATE "C",
	reason text,
	deferred boolean NOT NULL DEFAULT false
) WITH (fillfactor = 80);
CREATE INDEX redelivery_due ON iotmq_internal.redelivery (cursor_id, due_at, msg_offset);
CREATE INDEX redelivery_device ON iotmq_internal.redelivery (cursor_id, device_id, msg_offset);
ALTER TABLE iotmq_internal.redelivery REPLICA IDENTITY FULL;	-- as cursor_state
COMMENT ON TABLE iotmq_internal.redelivery IS 'one row per message that waits for its next attempt';
COMMENT ON COLUMN iotmq_internal.redelivery.attempt IS 'the number that its next delivery will have';
COMMENT ON COLUMN iotmq_internal.redelivery.due_at IS 'when it may be delivered; infinity: after another one of its device';
COMMENT ON COLUMN iotmq_internal.redelivery.not_before IS 'its own delay';
COMMENT ON COLUMN iotmq_internal.redelivery.redriven IS 'it was a dead letter: its content is in dead_message';
COMMENT ON COLUMN iotmq_internal.redelivery.batch_limit IS 'the largest lease it may come in; NULL: any';
COMMENT ON COLUMN iotmq_internal.redelivery.device_id IS 'its device, in an orderly group; else NULL';
COMMENT ON COLUMN iotmq_internal.redelivery.deferred IS 'it was put aside and never delivered: today''s tags and filter decide when its turn comes';

-- Dead letters: messages that a group gave up, with a copy of their content.
CREATE TABLE iotmq_internal.dead_message (
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
	properties jsonb,
	message_key text COLLATE "C"
);
-- The planner asks a caller's own operators about the values that it knows from statistics, also of
-- rows that the view dead_letter doesn't show him. So it is to know none of what that view has.
ALTER TABLE iotmq_internal.dead_message
	ALTER COLUMN id SET STATISTICS 0,
	ALTER COLUMN attempts SET STATISTICS 0,
	ALTER COLUMN dead_at SET STATISTICS 0,
	ALTER COLUMN reason SET STATISTICS 0,
	ALTER COLUMN zone SET STATISTICS 0,
	ALTER COLUMN msg_offset SET STATISTICS 0,
	ALTER COLUMN published_at SET STATISTICS 0,
	ALTER COLUMN device_id SET STATISTICS 0,
	ALTER COLUMN tag SET STATISTICS 0,
	ALTER COLUMN payload SET STATISTICS 0,
	ALTER COLUMN body SET STATISTICS 0,
	ALTER COLUMN properties SET STATISTICS 0,
	ALTER COLUMN message_key SET STATISTICS 0;
ALTER TABLE iotmq_internal.topic ALTER COLUMN topic SET STATISTICS 0;
ALTER TABLE iotmq_internal.consumer_group ALTER COLUMN consumer_group SET STATISTICS 0;
CREATE INDEX dead_message_origin ON iotmq_internal.dead_message (cursor_id, msg_offset);
CREATE INDEX dead_message_redriven ON iotmq_internal.dead_message (cursor_id, msg_offset) WHERE redriven;
CREATE INDEX dead_message_age ON iotmq_internal.dead_message (cursor_id, dead_at) WHERE NOT redriven;
COMMENT ON TABLE iotmq_internal.dead_message IS 'one row per message that a group gave up; see the view dead_letter';
COMMENT ON COLUMN iotmq_internal.dead_message.redriven IS 'on its way again: the content is kept until it is settled';

-- What maintenance did: the last runs.
CREATE TABLE iotmq_internal.maintenance_run (
	run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	started_at timestamptz NOT NULL,
	finished_at timestamptz NOT NULL,
	at timestamptz NOT NULL,
	segments_made int NOT NULL,
	segments_sealed int NOT NULL,
	segments_dropped int NOT NULL,
	leases_taken_over int NOT NULL,
	skipped text[] NOT NULL
);
COMMENT ON TABLE iotmq_internal.maintenance_run IS 'the last 1000 runs of run_maintenance';

CREATE VIEW iotmq.maintenance_run AS
SELECT
	run_id,
	started_at,
	finished_at,
	at,
	segments_made,
	segments_sealed,
	segments_dropped,
	leases_taken_over,
	skipped
FROM iotmq_internal.maintenance_run;
COMMENT ON VIEW iotmq.maintenance_run IS 'the last 1000 runs of run_maintenance';
COMMENT ON COLUMN iotmq.maintenance_run.run_id IS 'grows with each run';
COMMENT ON COLUMN iotmq.maintenance_run.started_at IS 'when the run began';
COMMENT ON COLUMN iotmq.maintenance_run.finished_at IS 'when it ended';
COMMENT ON COLUMN iotmq.maintenance_run.at IS 'the time that stood for now';
COMMENT ON COLUMN iotmq.maintenance_run.segments_made IS 'segments made ahead of time';
COMMENT ON COLUMN iotmq.maintenance_run.segments_sealed IS 'segments that are over and were sealed';
COMMENT ON COLUMN iotmq.maintenance_run.segments_dropped IS 'segments that retention dropped';
COMMENT ON COLUMN iotmq.maintenance_run.leases_taken_over IS 'expired leases whose messages wait for their next attempt now';
COMMENT ON COLUMN iotmq.maintenance_run.skipped IS 'what was busy or failed, and is left to the next run';

-- The next statements make pg_dump keep the rows of the catalogs above.
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.topic', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.topic_topic_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.zone', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.zone_zone_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.zone_gap', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.mirror_state', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.segment', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.consumer_group', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.consumer_group_group_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.cursor', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.cursor_number', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.past_cursor', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.away_cursor', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.source_group', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.node', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.past_zone', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.cursor_state', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.lease', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.redelivery', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.dead_message', '');
SELECT pg_catalog.pg_extension_config_dump('iotmq_internal.dead_message_id_seq', '');
