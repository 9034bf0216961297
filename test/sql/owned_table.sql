-- What the owner adds to a topic's table counts, whichever way is published: columns,
-- constraints, triggers, indexes. Nothing he does to it crashes the server.
-- Promise: every-door-alike
\set SHOW_CONTEXT never
\set VERBOSITY terse
SELECT iotmq.create_topic('owned', '{a,b}');
SELECT iotmq.create_group('owned', 'g', start_from => '-infinity');
SELECT iotmq.zone_table('owned', 'a') AS zone \gset

-- Columns: with a default, without one, generated.
ALTER TABLE iotmq_topic.owned ADD COLUMN site text;
SELECT iotmq.publish('owned', 'd', '1', 'a');
ALTER TABLE iotmq_topic.owned ADD COLUMN n int DEFAULT 7, ADD COLUMN twice int GENERATED ALWAYS AS (length(device_id) * 2) STORED;
SELECT iotmq.publish('owned', 'd2', '2', 'a');
SELECT iotmq.publish_batch('owned', '{d3,d4}', '{3,4}', 'a');
INSERT INTO :zone (device_id, payload) VALUES ('d5', '5');
SELECT msg_offset, device_id, payload, site, n, twice FROM iotmq_topic.owned ORDER BY msg_offset;
-- in the next segments, too
CALL iotmq.run_maintenance(now() + interval '2 days');
SELECT count(*) > 0 AS more FROM pg_attribute AS a JOIN pg_inherits AS i ON i.inhrelid = a.attrelid
WHERE i.inhparent = :'zone'::regclass AND a.attname = 'twice' AND a.attgenerated = 's';
ALTER TABLE iotmq_topic.owned DROP COLUMN n;
SELECT iotmq.publish('owned', 'd6', '6', 'a');
SELECT msg_offset, device_id, tag, payload FROM iotmq.consume('owned', 'g', zone => 'a');
SELECT msg_offset, device_id, payload FROM iotmq.fetch('owned', 'a', 5);
SELECT msg_offset, payload FROM iotmq.messages_of_device('owned', 'd6');
ALTER TABLE iotmq_topic.owned DROP COLUMN site, DROP COLUMN twice;
SELECT iotmq.publish('owned', 'd', '7', 'a');

-- Constraints.
ALTER TABLE iotmq_topic.owned ADD CONSTRAINT hot CHECK (payload IS NULL OR (payload ->> 'celsius')::int < 100) NOT VALID;
\set VERBOSITY sqlstate
SELECT iotmq.publish('owned', 'd', '{"celsius": 100}', 'a');
SELECT iotmq.publish_batch('owned', '{d,d}', ARRAY['{"celsius": 1}', '{"celsius": 100}']::jsonb[], 'a');
INSERT INTO :zone (device_id, payload) VALUES ('d', '{"celsius": 100}');
SELECT iotmq.publish('owned', 'd', '{"celsius": 99}', 'a') IS NOT NULL AS published;
ALTER TABLE iotmq_topic.owned DROP CONSTRAINT hot;
DELETE FROM iotmq_topic.owned WHERE tag IS NULL;
ALTER TABLE iotmq_topic.owned ALTER tag SET NOT NULL;
SELECT iotmq.publish('owned', 'd', '8', 'a');
SELECT iotmq.publish('owned', 'd', '8', 'a', 'tag') IS NOT NULL AS published;
ALTER TABLE iotmq_topic.owned ALTER tag DROP NOT NULL;
CREATE TABLE device (device_id text COLLATE "C" PRIMARY KEY);
INSERT INTO device VALUES ('d');
ALTER TABLE iotmq_topic.owned ADD CONSTRAINT known FOREIGN KEY (device_id) REFERENCES device;
SELECT iotmq.publish('owned', 'unknown', '9', 'a');
SELECT iotmq.publish('owned', 'd', '9', 'a') IS NOT NULL AS published;
ALTER TABLE iotmq_topic.owned DROP CONSTRAINT known;
DROP TABLE device;

-- Triggers: one changes, one leaves out, one follows; they run as the table's owner.
CREATE TABLE last_value (device_id text, payload jsonb, by_whom name);
CREATE FUNCTION before_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF new.device_id = 'nobody' THEN
		RETURN NULL;
	END IF;
	new.tag := 'by trigger';
	RETURN new;
END $$;
CREATE FUNCTION after_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO last_value VALUES (new.device_id, new.payload, current_user);
	RETURN NULL;
END $$;
CREATE TRIGGER before_row BEFORE INSERT ON iotmq_topic.owned FOR EACH ROW EXECUTE FUNCTION before_row();
CREATE TRIGGER after_row AFTER INSERT ON iotmq_topic.owned FOR EACH ROW EXECUTE FUNCTION after_row();
CREATE ROLE regress_iotmq_publisher;
SELECT iotmq.grant_publish('owned', 'regress_iotmq_publisher');
SET ROLE regress_iotmq_publisher;
SELECT iotmq.publish('owned', 'nobody', '10', 'a') IS NULL AS left_out;
SELECT array_position(iotmq.publish_batch('owned', '{d,nobody,d}', '{11,12,13}', 'a'), NULL) AS left_out;
RESET ROLE;
SELECT payload, tag FROM iotmq.consume('owned', 'g', zone => 'a') WHERE payload > '9';
SELECT device_id, payload, by_whom = (SELECT tableowner FROM pg_tables WHERE schemaname = 'iotmq_topic' AND tablename = 'owned') AS by_owner FROM last_value;
-- the publisher can't lead them to a table of his own, nor do they have more rights than the owner
SET ROLE regress_iotmq_publisher;
CREATE TEMP TABLE last_value (device_id text, payload jsonb, by_whom name);
SELECT iotmq.publish('owned', 'd', '14', 'a') IS NOT NULL AS published;
SELECT count(*) FROM pg_temp.last_value;
DROP TABLE pg_temp.last_value;
SELECT current_user;
RESET ROLE;
SELECT payload FROM last_value WHERE payload = '14';
DROP TRIGGER before_row ON iotmq_topic.owned;
DROP TRIGGER after_row ON iotmq_topic.owned;
DROP TABLE last_value;

-- Indexes: unique, partial, on an expression.
CREATE INDEX ON iotmq_topic.owned ((properties ->> 'key'));
CREATE INDEX ON iotmq_topic.owned (device_id) WHERE tag = 'alarm';
SELECT iotmq.publish('owned', 'd', '15', 'a', 'alarm', '{"key": "k"}') IS NOT NULL AS published;
SET enable_seqscan = off;
SELECT payload FROM iotmq_topic.owned WHERE properties ->> 'key' = 'k';
SELECT payload FROM iotmq_topic.owned WHERE device_id = 'd' AND tag = 'alarm';
RESET enable_seqscan;

-- A zone that comes later has all of it.
ALTER TABLE iotmq_topic.owned ADD COLUMN n int DEFAULT 7, ADD COLUMN twice int GENERATED ALWAYS AS (length(device_id) * 2) STORED,
	ADD CONSTRAINT hot CHECK (payload IS NULL OR (payload ->> 'celsius')::int < 100) NOT VALID;
SELECT iotmq.add_zone('owned', 'c');
SELECT iotmq.zone_table('owned', 'c') AS later \gset
SELECT iotmq.publish('owned', 'd', '{"celsius": 100}', 'c');
INSERT INTO :later (device_id, payload) VALUES ('d', '{"celsius": 100}');
SELECT iotmq.publish('owned', 'd', '{"celsius": 98}', 'c') IS NOT NULL AS published;
INSERT INTO :later (device_id, payload) VALUES ('dd', '{"celsius": 99}');
SELECT payload, n, twice FROM iotmq_topic.owned WHERE zone = 'c' ORDER BY msg_offset;
ALTER TABLE iotmq_topic.owned DROP COLUMN n, DROP COLUMN twice, DROP CONSTRAINT hot;

-- What is needed is missing: an error, not a crash.
SELECT iotmq.create_group('owned', 'o', mode => 'orderly', start_from => '-infinity');
ALTER TABLE iotmq_topic.owned ALTER device_id DROP NOT NULL;
ALTER TABLE :zone DROP CONSTRAINT message;
UPDATE :zone SET device_id = NULL WHERE payload > '13';
SELECT iotmq.consume('owned', 'o', 100, zone => 'a');
SELECT iotmq.message_status('owned', 'a', max(msg_offset)) FROM :zone;
SELECT iotmq.publish('owned', 'd', '16', 'a', 'tag');
INSERT INTO :zone (payload, tag) VALUES ('16', 'tag');
SELECT count(*) FROM iotmq.consumer_lag WHERE topic = 'owned' AND consumer_group = 'o';
UPDATE :zone SET device_id = 'd' WHERE device_id IS NULL;
ALTER TABLE iotmq_topic.owned ALTER device_id SET NOT NULL;
SELECT count(*) > 0 AS delivered FROM iotmq.consume('owned', 'o', 100, zone => 'a');
ALTER TABLE iotmq_topic.owned DROP COLUMN tag CASCADE;
SELECT iotmq.publish('owned', 'd', '16', 'a');
SELECT iotmq.consume('owned', 'g', zone => 'a');
SELECT count(*) FROM iotmq.fetch('owned', 'a', 1);
SELECT count(*) FROM iotmq.consumer_lag WHERE topic = 'owned';
SELECT iotmq.drop_topic('owned', force => true);
DROP FUNCTION before_row, after_row;
DROP ROLE regress_iotmq_publisher;

-- Maintenance of a group that filters, where a zone's sequence is gone, or goes after the run has begun
SELECT iotmq.create_topic('unsequenced', '{a,b}'), iotmq.create_group('unsequenced', 'g', tags => 'x', start_from => '-infinity');
SELECT iotmq.publish('unsequenced', 'd', '1', 'b', tag => 'y') IS NOT NULL AS published;
SELECT offset_sequence AS sequence FROM iotmq_internal.zone WHERE table_name = iotmq.zone_table('unsequenced', 'a') \gset
SET client_min_messages = warning;
DROP SEQUENCE :sequence CASCADE;
RESET client_min_messages;
CALL iotmq.run_maintenance();
SELECT zone, lag_messages FROM iotmq.consumer_lag WHERE topic = 'unsequenced' AND zone = 'b';
SELECT iotmq.drop_topic('unsequenced', force => true);
DELETE FROM iotmq_internal.past_zone WHERE topic = 'unsequenced';
