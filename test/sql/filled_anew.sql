-- Offsets of a zone that are filled anew, as when it was demoted and pulls from its source: what a backend has learnt of them is void.
-- Promise: no-loss
SELECT iotmq.create_topic('filled_anew');
SELECT iotmq.create_group('filled_anew', 'g', start_from => '-infinity', tags => 'alarm');
SELECT iotmq.publish('filled_anew', 'd', '"before"', tag => 'other');
-- learnt, and not written down in a transaction block: there is nothing wanted
BEGIN;
SELECT count(*) FROM iotmq.consume('filled_anew', 'g');
COMMIT;
DELETE FROM iotmq_topic.filled_anew;
UPDATE iotmq_internal.zone SET generation = generation + 1 WHERE table_name = iotmq.zone_table('filled_anew', 'default');
INSERT INTO iotmq_topic.filled_anew (zone, msg_offset, published_at, device_id, payload, tag) VALUES ('default', 1, now(), 'd', '"anew"', 'alarm');
SELECT msg_offset, payload FROM iotmq.consume('filled_anew', 'g');
SELECT iotmq.drop_topic('filled_anew', force => true);
