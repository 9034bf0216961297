-- COPY into a zone's table: the bulk path, with the guarantees of publish.
-- Promise: every-door-alike, offsets-are-the-servers
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('copy_in', '{a,b}');
SELECT iotmq.create_group('copy_in', 'readers');
SELECT iotmq.zone_table('copy_in', 'a') AS a, iotmq.zone_table('copy_in', 'b') AS b \gset

-- Offsets in the order of the input, from the same sequence as publish.
COPY :a (device_id, tag, payload, body, properties) FROM STDIN;
d1	temperature	{"v": 1}	\N	{"unit": "C"}
d2	\N	\N	\\x00ff	\N
d3	a'"b	null	\\x	[]
\.
SELECT iotmq.publish('copy_in', 'd4', '4', 'a');
COPY :a (payload, device_id) FROM STDIN WITH (FORMAT csv);
"{""v"": 5}",d5
6,"d,6"
\.
COPY :b (device_id, payload) FROM STDIN;
d1	1
\.
SELECT zone, msg_offset, device_id, tag, payload, body, properties, published_at BETWEEN now() - interval '10 min' AND clock_timestamp() AS dated
FROM iotmq.fetch('copy_in', 'a', 0);
SELECT zone, msg_offset, device_id, payload FROM iotmq_topic.copy_in WHERE zone = 'b';
SELECT zone, msg_offset, device_id, attempt FROM iotmq.consume('copy_in', 'readers', zone => 'a');
SELECT zone, msg_offset, device_id, attempt FROM iotmq.consume('copy_in', 'readers');

-- Rolled back, or broken off in the middle: nothing of it is ever seen.
BEGIN;
COPY :a (device_id, payload) FROM STDIN;
undone	1
undone	2
\.
ROLLBACK;
\set VERBOSITY sqlstate
COPY :a (device_id, payload) FROM STDIN;
broken	1
broken	{
\.
\set VERBOSITY default
BEGIN;
COPY :a (device_id, payload) FROM STDIN;
kept	1
\.
SAVEPOINT s;
COPY :a (device_id, payload) FROM STDIN;
undone	3
\.
ROLLBACK TO s;
COPY :a (device_id, payload) FROM STDIN;
kept	2
\.
SELECT count(*) AS own_uncommitted FROM iotmq.consume('copy_in', 'readers');
COMMIT;
SELECT device_id, payload FROM iotmq.consume('copy_in', 'readers');

-- What publish refuses is refused here, whole.
\set VERBOSITY sqlstate
COPY :a (device_id, payload) FROM STDIN;
fine	1
	2
\.
COPY :a (device_id, payload) FROM STDIN;
fine	1
\N	2
\.
COPY :a (device_id, payload, body) FROM STDIN;
fine	1	\N
d2	\N	\N
\.
COPY :a (tag, payload) FROM STDIN;
fine	1
\.
COPY :a (device_id, payload) FROM PROGRAM 'printf "fine\t1\n"; head -c 256 /dev/zero | tr "\000" d; printf "\t2\n"';
COPY :a (device_id, payload) FROM PROGRAM 'printf "fine\t1\nd2\t\""; head -c 4200000 /dev/zero | tr "\000" x; printf "\"\n"';
\set VERBOSITY default
SELECT count(*) FROM iotmq.consume('copy_in', 'readers');
SELECT count(*) FROM iotmq_topic.copy_in WHERE device_id = 'fine';

-- The limits themselves are allowed.
COPY :a (device_id, payload) FROM PROGRAM 'head -c 255 /dev/zero | tr "\000" d; printf "\t\""; head -c 4128768 /dev/zero | tr "\000" x; printf "\"\n"';
SELECT length(device_id) AS device, length(payload #>> '{}') AS payload FROM iotmq.consume('copy_in', 'readers');

-- Many at once.
COPY :b (device_id, payload) FROM PROGRAM 'seq 1 5000 | sed "s/.*/d&\t&/"';
SELECT count(*), max(msg_offset) - min(msg_offset) AS span, bool_and(device_id = 'd' || (payload #>> '{}')) AS paired
FROM iotmq.consume('copy_in', 'readers', 10000);

-- INSERT into the zone's table does the same.
INSERT INTO :b (device_id, payload) SELECT 'i' || n, to_jsonb(n) FROM generate_series(1, 3) AS n;
SELECT zone, device_id, payload FROM iotmq.consume('copy_in', 'readers');

-- The topic's own table is not written to: offsets are the zones'.
INSERT INTO iotmq_topic.copy_in (device_id, payload) VALUES ('d', '1'); \echo :SQLSTATE
INSERT INTO iotmq_topic.copy_in (zone, device_id, payload) VALUES ('a', 'd', '1'); \echo :SQLSTATE
\set VERBOSITY terse
INSERT INTO iotmq_topic.copy_in (zone, msg_offset, device_id, payload) VALUES ('a', 99, 'd', '1'); \echo :SQLSTATE
INSERT INTO iotmq_topic.copy_in DEFAULT VALUES; \echo :SQLSTATE
COPY iotmq_topic.copy_in (device_id, payload) FROM STDIN;
d	1
\.
\set VERBOSITY default
CREATE ROLE regress_iotmq_copy_in;
SELECT iotmq.grant_publish('copy_in', 'regress_iotmq_copy_in');
SET ROLE regress_iotmq_copy_in;
INSERT INTO iotmq_topic.copy_in (device_id, payload) VALUES ('d', '1'); \echo :SQLSTATE
RESET ROLE;
SELECT iotmq.revoke_publish('copy_in', 'regress_iotmq_copy_in');
DROP ROLE regress_iotmq_copy_in;

SELECT iotmq.drop_topic('copy_in', force => true);
