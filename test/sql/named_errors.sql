-- PostgreSQL's own errors about the table of a topic name topic and zone, not the table of a
-- segment.
-- Promise: errors-change-nothing, every-door-alike
\set SHOW_CONTEXT never
\set VERBOSITY terse
SELECT iotmq.create_topic('named_errors', '{north,south}');
ALTER TABLE iotmq_topic.named_errors ADD CONSTRAINT small CHECK (length(payload::text) < 3);
SELECT iotmq.publish('named_errors', 'd', '100', 'north');
SELECT iotmq.publish_batch('named_errors', '{d,d}', '{1,100}', 'south');
DO $$
BEGIN
	PERFORM iotmq.publish('named_errors', 'd', '100', 'north');
EXCEPTION WHEN check_violation THEN
	RAISE NOTICE 'caught: %', SQLERRM;
END
$$;
SELECT iotmq.zone_table('named_errors', 'north') AS north, iotmq.zone_table('named_errors', 'south') AS south \gset
COPY :north (device_id, payload) FROM STDIN;
d	100
\.
INSERT INTO :south (device_id, payload) VALUES ('d', '100');
-- likewise a unique index of the owner's
CREATE UNIQUE INDEX ON iotmq_topic.named_errors (zone, published_at, (payload::text));
BEGIN;
CREATE FUNCTION pg_temp.twice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.published_at := date_trunc('minute', now()); RETURN NEW; END $$;
CREATE TRIGGER twice BEFORE INSERT ON iotmq_topic.named_errors FOR EACH ROW EXECUTE FUNCTION pg_temp.twice();
SELECT regexp_replace(iotmq.publish_batch('named_errors', '{d,d}', '{1,1}', 'north')::text, '.*', 'x');
ROLLBACK;
-- What only looks like one stays as it is.
CREATE TABLE pg_temp._zone_999999999 (n int CHECK (n > 0));
INSERT INTO pg_temp._zone_999999999 VALUES (0);
SELECT _zone_ FROM pg_temp._zone_999999999;
DROP TABLE pg_temp._zone_999999999;
SELECT iotmq.drop_topic('named_errors', force => true);
