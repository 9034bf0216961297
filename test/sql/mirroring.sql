-- Zones that are fenced or mirrors, on one server: what is refused, and with which error. What
-- mirrors do is in test/t/080_mirror.pl and the two behind it.
-- Promise: every-door-alike
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('mirroring', '{a,b}', dedup_window => '1 hour');
SELECT iotmq.create_group('mirroring', 'g', start_from => '-infinity');
SELECT iotmq.publish('mirroring', 'd', '1', 'a', message_key => 'k');
SELECT iotmq.publish('mirroring', 'd', '1', 'b');

-- Without dblink nothing is mirrored. Arguments come first.
\set ON_ERROR_STOP 0
SELECT iotmq.mirror_zone('mirroring', 'c', NULL); \echo :SQLSTATE
SELECT iotmq.mirror_zone('mirroring', 'c', 'host=/tmp'); \echo :SQLSTATE
SELECT iotmq.mirror_zone('mirroring', 'c', 'postgresql://elsewhere'); \echo :SQLSTATE
SELECT iotmq.mirror_zone('mirroring', 'c', 'nowhere'); \echo :SQLSTATE
CREATE FOREIGN DATA WRAPPER mirroring_wrapper;
CREATE SERVER mirroring_server FOREIGN DATA WRAPPER mirroring_wrapper;
SELECT iotmq.mirror_zone('mirroring', 'bad name', 'mirroring_server'); \echo :SQLSTATE
SELECT iotmq.mirror_zone(NULL, 'c', 'mirroring_server'); \echo :SQLSTATE
SELECT iotmq.mirror_zone('mirroring', 'a', 'mirroring_server'); \echo :SQLSTATE
SELECT iotmq.mirror_zone('mirroring', 'c', 'mirroring_server'); \echo :SQLSTATE
SELECT iotmq.demote_zone('mirroring', 'a', 'nowhere'); \echo :SQLSTATE
SELECT iotmq.pull('mirroring', 'a'); \echo :SQLSTATE
SELECT iotmq.pull('mirroring', 'c'); \echo :SQLSTATE
SELECT iotmq.pull('mirroring', 'a', 0); \echo :SQLSTATE
SELECT iotmq.pull('mirroring', 'a', 10001); \echo :SQLSTATE
SELECT iotmq.pull('mirroring', 'a', NULL); \echo :SQLSTATE
SELECT iotmq.promote_zone('mirroring', 'a'); \echo :SQLSTATE
SELECT iotmq.promote_zone('mirroring', 'a', force => NULL); \echo :SQLSTATE
SELECT iotmq.promote_zone('mirroring', 'a', force => true); \echo :SQLSTATE
CALL iotmq.run_mirrors(NULL); \echo :SQLSTATE
CALL iotmq.run_mirrors('-1 s'); \echo :SQLSTATE
CALL iotmq.run_mirrors('25 hours'); \echo :SQLSTATE
BEGIN;
CALL iotmq.run_mirrors('0'); \echo :SQLSTATE
ROLLBACK;
-- without mirrors there is nothing to do, and dblink isn't missed
CALL iotmq.run_mirrors('0');
-- The steps that run as the owner: an administrator without the right to a server can't make a
-- mirror of it by them, which somebody who may use it would fill.
SELECT d AS described, g AS groups FROM iotmq.mirror_source('mirroring', 'b') AS d, iotmq.mirror_groups('mirroring', 'b') AS g \gset
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_iotmq_admin;
RESET client_min_messages;
CREATE ROLE regress_iotmq_admin;
SELECT iotmq.grant_admin('regress_iotmq_admin');
SET ROLE regress_iotmq_admin;
SELECT iotmq.mirror_create('mirroring', 'c', 'mirroring_server', 'c', :'described', :'groups'); \echo :SQLSTATE
SELECT iotmq.move_demote('mirroring', 'b', 'mirroring_server', :'described', NULL, NULL); \echo :SQLSTATE
SELECT iotmq.link_require('mirroring_server'); \echo :SQLSTATE
RESET ROLE;
SELECT topic, zone, source FROM iotmq.mirror;
SELECT iotmq.revoke_admin('regress_iotmq_admin');
DROP ROLE regress_iotmq_admin;

-- A fence. It may be said again, with another place; nothing else of the topic is concerned.
SELECT iotmq.hand_over('mirroring', 'a', 2); \echo :SQLSTATE
SELECT iotmq.fence_zone('mirroring', 'c'); \echo :SQLSTATE
SELECT iotmq.fence_zone('mirroring', 'a');
SELECT iotmq.publish('mirroring', 'd', '2', 'a'); \echo :SQLSTATE
SELECT iotmq.fence_zone('mirroring', 'a', 'node 2');
SELECT iotmq.publish('mirroring', 'd', '1', 'a', message_key => 'k'); \echo :SQLSTATE
SELECT iotmq.publish_batch('mirroring', '{d,d}', '{3,4}', zones => '{b,a}'); \echo :SQLSTATE
SELECT iotmq.publish('mirroring', 'd', '2', 'b');
SELECT zone, msg_offset FROM iotmq.consume('mirroring', 'g');
SELECT zone, msg_offset FROM iotmq.consume('mirroring', 'g', zone => 'a', wait => '10 ms');
SELECT zone, msg_offset FROM iotmq.fetch('mirroring', 'a', 1);
SELECT iotmq.create_group('mirroring', 'later', start_from => '-infinity');
SELECT consumer_group, zone, lag_messages FROM iotmq.consumer_lag WHERE topic = 'mirroring' ORDER BY 1, 2;
SELECT s -> 'state' AS state, s -> 'end' AS "end", s -> 'handed_over' AS handed_over FROM iotmq.mirror_source('mirroring', 'a') AS s;
SELECT iotmq.open_zone('mirroring', 'a', force => NULL); \echo :SQLSTATE
SELECT iotmq.open_zone('mirroring', 'a');
SELECT iotmq.open_zone('mirroring', 'a');
SELECT iotmq.publish('mirroring', 'd', '1', 'a', message_key => 'k'), iotmq.publish('mirroring', 'd', '2', 'a');

-- Handed over: by whoever has all of it, and as often as he likes.
SELECT iotmq.fence_zone('mirroring', 'a', 'node 2');
SELECT iotmq.hand_over('mirroring', 'a', 2); \echo :SQLSTATE
SELECT iotmq.hand_over('mirroring', 'a', NULL); \echo :SQLSTATE
SELECT iotmq.hand_over('mirroring', 'a', 3);
SELECT iotmq.hand_over('mirroring', 'a', 3);
-- but to nobody else
SELECT iotmq.hand_over('mirroring', 'a', 3, 'another'); \echo :SQLSTATE
SELECT iotmq.open_zone('mirroring', 'a'); \echo :SQLSTATE
-- two owners: this one leaves room for what the other one gives out
SELECT iotmq.open_zone('mirroring', 'a', force => true);
SELECT iotmq.publish('mirroring', 'd', '3', 'a') >> 32 AS epoch;
SELECT iotmq.fence_zone('mirroring', 'a');
SELECT iotmq.hand_over('mirroring', 'a', s.next, 'another') FROM (SELECT max(msg_offset) + 1 AS next FROM iotmq_topic.mirroring WHERE zone = 'a') AS s;
-- what groups have not read there is not lost with it
SELECT iotmq.drop_zone('mirroring', 'a');
SELECT iotmq.drop_topic('mirroring', force => true);
DROP FOREIGN DATA WRAPPER mirroring_wrapper CASCADE;
