# Consumers, and operators who replay, redrive, purge, retry and give up, at random: an
# orderly and a concurrent group with four consumers and two operators each.
#
# Meanwhile and in the end each message has one place at most, and one that is redriven has
# exactly one; the counters of the cursors are what a recount finds.  Then all is replayed
# and redriven once more: each message comes once, an orderly group's in order.
#
# REDRIVING_SECONDS sets how long it takes.
#
# Promise: dead-letter-not-lost, no-two-leases, order-per-device, figures-agree

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{REDRIVING_SECONDS} || 10;
my $timeout = IPC::Run::timer($seconds + 240);
my @modes = ('orderly', 'concurrent');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('postgres', $query);
}

sql(<<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t');
SELECT iotmq.create_group('t', mode, mode, '-infinity', invisible_for => '200 ms', max_retries => 2, backoff => '{0,20 ms}')
FROM unnest('{orderly,concurrent}'::text[]) AS mode;
SELECT iotmq.publish('t', 'd' || n % 7, to_jsonb(n)) FROM generate_series(1, 1000) AS n;

CREATE TABLE run (stop timestamptz);
CREATE TABLE done (what text, consumer_group text, messages bigint);

CREATE PROCEDURE consumer(consumer_group text) LANGUAGE plpgsql AS $$
DECLARE
	lease bigint;
	offsets bigint[];
	named bigint[];
	size int;
	verdict text;
	settled int;
BEGIN
	WHILE clock_timestamp() < (SELECT stop FROM run) LOOP
		SELECT min(lease_id), array_agg(msg_offset) INTO lease, offsets
		FROM iotmq.consume('t', consumer_group, 1 + floor(60 * random() ^ 2)::int);
		COMMIT;
		IF lease IS NULL THEN
			PERFORM pg_sleep(0.005);
			CONTINUE;
		END IF;
		ASSERT offsets = (SELECT array_agg(DISTINCT o ORDER BY o) FROM unnest(offsets) AS o), 'a lease that is not in order';
		BEGIN
			-- all at once or one by one, in one transaction; some are left to expire
			size := CASE WHEN random() < 0.5 THEN cardinality(offsets) ELSE 1 END;
			FOR i IN 1 .. cardinality(offsets) BY size LOOP
				named := offsets[i : i + size - 1];
				verdict := (ARRAY['ack', 'ack', 'ack', 'nack', 'reject', NULL])[1 + floor(random() * 6)];
				CONTINUE WHEN verdict IS NULL;
				EXECUTE format('SELECT iotmq.%I($1, $2)', verdict) INTO settled USING lease, named;
				INSERT INTO done VALUES (verdict, consumer_group, settled);
			END LOOP;
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			INSERT INTO done VALUES ('late', consumer_group, 1);
		END;
		IF random() < 0.1 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
	END LOOP;
END $$;

CREATE PROCEDURE operator(consumer_group text) LANGUAGE plpgsql AS $$
DECLARE
	near bigint[];
	goal bigint;
	dice float8;
	what text;
	n bigint;
BEGIN
	WHILE clock_timestamp() < (SELECT stop FROM run) LOOP
		PERFORM pg_sleep(0.02 * random());
		dice := random();
		goal := 1 + floor(1000 * random());
		near := (SELECT array_agg(o) FROM generate_series(goal, goal + 100) AS o);
		IF dice < 0.35 THEN
			what := 'redrive';
			n := iotmq.redrive('t', consumer_group, max_messages => (ARRAY[NULL, 1, 10])[1 + floor(random() * 3)]);
		ELSIF dice < 0.55 THEN
			what := 'replay';
			IF random() < 0.5 THEN
				SELECT abs(messages) INTO n FROM iotmq.seek_offset('t', consumer_group, 'default', goal);
			ELSE
				PERFORM iotmq.commit_offset('t', consumer_group, 'default', goal);
				n := 1;
			END IF;
		ELSIF dice < 0.7 THEN
			what := 'retry_now';
			n := iotmq.retry_now('t', consumer_group, near);
		ELSIF dice < 0.8 THEN
			what := 'give_up';
			n := iotmq.give_up('t', consumer_group, near);
		ELSE
			what := 'purge';
			n := iotmq.purge_dead_letters('t', consumer_group, (
				SELECT array_agg(id)
				FROM iotmq.dead_letter AS d
				WHERE d.consumer_group = operator.consumer_group AND d.msg_offset = ANY (near)));
		END IF;
		INSERT INTO done VALUES (what, consumer_group, n);
		IF random() < 0.1 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
	END LOOP;
END $$;

-- What is wrong, in one snapshot.
CREATE VIEW wrong AS
WITH cursor AS (
	SELECT p.*, g.consumer_group, g.mode
	FROM iotmq_internal.cursor AS c
	JOIN iotmq_internal.cursor_state AS p USING (cursor_id)
	JOIN iotmq_internal.consumer_group AS g USING (group_id)
), leased AS MATERIALIZED (
	SELECT c.cursor_id, u.msg_offset, l.redriven
	FROM cursor AS c
	JOIN iotmq_internal.lease AS l ON iotmq.lease_cursor(l.lease_id) = c.cursor_id AND l.lease_id >= c.oldest_lease
	CROSS JOIN LATERAL iotmq.runs_messages(l.first_offset, l.last_offset, l.runs) AS u
	WHERE l.settled IS NULL OR get_bit(l.settled, u.nth) = 0
), place AS MATERIALIZED (
	SELECT cursor_id, msg_offset, redriven FROM leased
	UNION ALL
	SELECT cursor_id, msg_offset, redriven FROM iotmq_internal.redelivery
), letter AS MATERIALIZED (
	SELECT DISTINCT cursor_id, msg_offset FROM iotmq_internal.dead_message WHERE redriven
)
SELECT 'more than one place' AS what, cursor_id, msg_offset
FROM place
GROUP BY cursor_id, msg_offset
HAVING count(*) > 1
UNION ALL
SELECT 'not passed, but has a place', cursor_id, msg_offset
FROM place
JOIN cursor USING (cursor_id)
WHERE msg_offset >= next_offset
UNION ALL
SELECT 'redriven, without a place', l.cursor_id, l.msg_offset
FROM letter AS l
JOIN cursor AS c USING (cursor_id)
LEFT JOIN place AS p ON p.cursor_id = l.cursor_id AND p.msg_offset = l.msg_offset AND p.redriven
WHERE p IS NULL AND l.msg_offset < c.next_redriven
UNION ALL
SELECT 'redriven, without a dead letter', r.cursor_id, r.msg_offset
FROM iotmq_internal.redelivery AS r
LEFT JOIN letter AS l USING (cursor_id, msg_offset)
WHERE r.redriven AND l IS NULL
UNION ALL
SELECT 'first of its device', cursor_id, min(msg_offset)
FROM iotmq_internal.redelivery
WHERE device_id IS NOT NULL
GROUP BY cursor_id, device_id
HAVING count(*) FILTER (WHERE due_at < 'infinity') <> 1
	OR min(msg_offset) FILTER (WHERE due_at < 'infinity') <> min(msg_offset)
UNION ALL
SELECT 'count of what waits', cursor_id, redeliveries
FROM cursor AS c
WHERE redeliveries <> (SELECT count(*) FROM iotmq_internal.redelivery AS r WHERE r.cursor_id = c.cursor_id)
UNION ALL
SELECT 'count of dead letters', cursor_id, dead_letters
FROM cursor AS c
WHERE dead_letters <> (SELECT count(*) FROM iotmq_internal.dead_message AS d WHERE d.cursor_id = c.cursor_id AND NOT d.redriven);

-- Acknowledges all that comes, until there is nothing.
CREATE TABLE seen (n int, consumer_group text, device_id text, msg_offset bigint);
CREATE PROCEDURE drain(consumer_group text) LANGUAGE plpgsql AS $$
DECLARE
	batch iotmq.delivery[];
BEGIN
	FOR i IN 1 .. 100000 LOOP
		SELECT array_agg(d) INTO batch FROM iotmq.consume('t', consumer_group, 50, wait => '20 ms') AS d;
		COMMIT;
		IF batch IS NULL THEN
			EXIT WHEN (SELECT lag_messages = 0 FROM iotmq.group_lag AS l WHERE l.consumer_group = drain.consumer_group);
			CONTINUE;
		END IF;
		INSERT INTO seen SELECT i, consumer_group, d.device_id, d.msg_offset FROM unnest(batch) AS d;
		PERFORM iotmq.ack(batch[1].lease_id);
		COMMIT;
	END LOOP;
END $$;
SQL

sub start_client
{
	my ($name, $query) = @_;
	my %client = (name => $name, output => '');

	$client{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $query ],
		'<', \undef, '>', \$client{output}, '2>&1', $timeout);
	return \%client;
}

sql("INSERT INTO run VALUES (clock_timestamp() + interval '$seconds s')");
$timeout->start;
my @clients;
foreach my $mode (@modes)
{
	push @clients, map { start_client("$mode consumer $_", "CALL consumer('$mode')") } (1 .. 4);
	push @clients, map { start_client("$mode operator $_", "CALL operator('$mode')") } (1 .. 2);
}

my ($looks, $wrong) = (0, '');
while (sql('SELECT clock_timestamp() < stop FROM run') eq 't')
{
	$wrong .= sql('SELECT * FROM wrong LIMIT 5');
	$looks++;
}
foreach my $client (@clients)
{
	$client->{run}->finish;
	is($client->{output}, '', "$client->{name} ended without a complaint");
}
cmp_ok($looks, '>', 0, 'looked');
is($wrong, '', 'all was in its place');

# It has to mean something.
foreach my $mode (@modes)
{
	foreach my $what ('ack', 'nack', 'reject', 'late', 'redrive', 'replay', 'retry_now', 'give_up', 'purge')
	{
		cmp_ok(sql("SELECT coalesce(sum(messages), 0) FROM done WHERE consumer_group = '$mode' AND what = '$what'"),
			'>', 0, "$mode: $what happened");
	}
}

foreach my $mode (@modes)
{
	sql("CALL drain('$mode')");
	is( sql("SELECT lag_messages, iotmq.count_lag(topic, consumer_group) FROM iotmq.group_lag WHERE consumer_group = '$mode'"),
		'0|0', "$mode: all is settled");
	# a letter at least, whatever has happened before
	sql("SELECT iotmq.seek_offset('t', '$mode', 'default', 500); SELECT iotmq.reject(min(lease_id)) FROM iotmq.consume('t', '$mode', 100)");
	sql("TRUNCATE seen; SELECT iotmq.seek('t', '$mode', '-infinity')");
	cmp_ok(sql("SELECT iotmq.redrive('t', '$mode')"), '>=', 100, "$mode: dead letters are redriven");
	sql("CALL drain('$mode')");
	is(sql('SELECT count(*), count(DISTINCT msg_offset) FROM seen'), '1000|1000', "$mode: a replay brings each message once");
	is( sql(<<'SQL'), '0', "$mode: in order") if $mode eq 'orderly';
SELECT count(*)
FROM (SELECT msg_offset < lag(msg_offset) OVER (PARTITION BY device_id ORDER BY n, msg_offset) AS is_late FROM seen) AS s
WHERE is_late
SQL
}
is(sql('SELECT count(*) FROM iotmq_internal.dead_message'), '0', 'no dead letter is left');
is(sql('SELECT * FROM wrong'), '', 'all is in its place');

$node->stop;
done_testing();
