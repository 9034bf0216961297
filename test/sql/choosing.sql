-- What a group can choose by: a filter that is true or false of a payload, tags without a
-- comma. What would never match is refused, with what was meant in the hint.
-- Promise: errors-change-nothing, every-door-alike
\set SHOW_CONTEXT never
SELECT iotmq.create_topic('choosing');
SELECT iotmq.create_group('choosing', 'g');

-- A path only finds something; each gets the predicate that was meant.
SELECT iotmq.create_group('choosing', 'path', filter => '$.celsius'); \echo :SQLSTATE
SELECT iotmq.create_group('choosing', 'path', filter => '$.celsius ? (@ > 90)'); \echo :SQLSTATE
SELECT iotmq.alter_group('choosing', 'g', filter => '$.celsius'); \echo :SQLSTATE
SELECT iotmq.alter_group('choosing', 'g', filter => '$ ? (@.celsius > 90)'); \echo :SQLSTATE
SELECT iotmq.preview_group('choosing', 'g', filter => '$.readings[*] ? (@.celsius > 90 && @.ok == true)'); \echo :SQLSTATE
SELECT iotmq.alter_group('choosing', 'g', filter => 'strict $."in side".is ? (@ starts with "it''s ?(@")');
SELECT iotmq.alter_group('choosing', 'g', filter => '$.a ? (@.b > 1).c ? (@ like_regex "^x" flag "i")');
SELECT iotmq.alter_group('choosing', 'g', filter => '$.a ? (@ > 90).b');
SELECT iotmq.alter_group('choosing', 'g', filter => '$.a.type()');

-- What it says of others: nothing that could be wrong.
\set VERBOSITY terse
CREATE TEMP TABLE refused (filter text);
INSERT INTO refused VALUES ('$'), ('$.**'), ('$.a + 1'), ('-$.a'), ('1'), ('"x"'), ('true'), ('null'),
	('($.a > 1).type()'), ('($.a + 1) ? (@ > 1)'), ('$.t.datetime() ? (@ < "2030-01-01".datetime())');
SELECT filter, iotmq.filter_as_predicate(filter::jsonpath) FROM refused ORDER BY filter COLLATE "C";
DO $$
DECLARE
	one text;
BEGIN
	FOR one IN SELECT filter FROM refused LOOP
		BEGIN
			PERFORM iotmq.alter_group('choosing', 'g', filter => one::jsonpath);
			RAISE WARNING '% was accepted', one;
		EXCEPTION WHEN invalid_parameter_value THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT filter FROM iotmq.group_settings WHERE topic = 'choosing';

-- Every kind of predicate is one.
SELECT filter, iotmq.alter_group('choosing', 'g', filter => filter::jsonpath)
FROM unnest(ARRAY['$.a == 1', '$.a <> 1', '$.a < 1', '$.a <= 1', '$.a > 1', '$.a >= 1', '$.a > 1 && $.b < 2', '$.a > 1 || $.b < 2',
	'!($.a > 1)', '($.a > 1) is unknown', 'exists($.a)', 'exists($.a ? (@ > 1))', '$.a starts with "x"', '$.a like_regex "x"',
	'strict $.a > 1', '($.a > 1).type() == "boolean"']) AS filter;

-- Those that the hints name mean what the refused ones were thought to mean.
SELECT payload, payload @@ '$.celsius > 90' AS compared, payload @@ 'exists($.celsius ? (@ > 90))' AS there, payload @? '$.celsius ? (@ > 90)' AS meant
FROM unnest('{"{\"celsius\": 91}","{\"celsius\": 90}","{}","{\"celsius\": [1, 91]}"}'::jsonb[]) AS payload;
SELECT payload @@ '$.ok' AS path, payload @@ '$.ok == true' AS compared
FROM unnest('{"{\"ok\": true}","{\"ok\": false}","{\"ok\": 1}","{}"}'::jsonb[]) AS payload;

-- Tags are separated by ||; none has a comma in it, whoever writes it.
\set VERBOSITY default
SELECT iotmq.create_group('choosing', 'comma', tags => 'alarm, warn'); \echo :SQLSTATE
SELECT iotmq.alter_group('choosing', 'g', tags => 'alarm,warn || info'); \echo :SQLSTATE
SELECT iotmq.preview_group('choosing', 'g', tags => 'alarm,'); \echo :SQLSTATE
SELECT iotmq.alter_group('choosing', 'g', tags => ','); \echo :SQLSTATE
SELECT iotmq.publish('choosing', 'd', '1', tag => 'alarm,warn'); \echo :SQLSTATE
SELECT iotmq.publish_batch('choosing', '{d,d}', '{1,2}', tags => ARRAY['alarm', ',']); \echo :SQLSTATE
SELECT iotmq.zone_table('choosing', 'default') AS zone_table \gset
INSERT INTO :zone_table (device_id, tag, payload) VALUES ('d', 'alarm, warn', '1'); \echo :SQLSTATE
COPY :zone_table (device_id, tag, payload) FROM STDIN;
d	a,b	1
\.
\echo :SQLSTATE
SELECT iotmq.publish('choosing', 'd', '1', tag => 'alarm; warn|info');
SELECT iotmq.alter_group('choosing', 'g', tags => 'alarm || warn');
SELECT count(*) FROM iotmq_topic.choosing;

SELECT iotmq.drop_topic('choosing', force => true);
