# Consumers that fail in every way, at random: an orderly and a concurrent group
# over two zones, each with four consumers that acknowledge, nack or reject what
# they got, in parts and in any order, stall past their deadline, forget the rest,
# roll back or die in the middle of anything.  Publishers run meanwhile.
#
# Each delivery is noted in the transaction of its claim, with a snapshot; what
# that claim gave up and each settlement likewise, with the transaction's id.  So
# the history in the end says exactly what was known when, and what should have
# become of each message: it is compared with what did.
#
# RANDOM_SECONDS sets how long the publishers run.
#
# Promise: no-loss, no-two-leases, order-per-device, dead-letter-not-lost

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{RANDOM_SECONDS} || 15;
my $timeout = IPC::Run::timer($seconds + 240);

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
SELECT iotmq.create_topic('t', ARRAY['z1', 'z2'], segment_interval => '5 s');
SELECT iotmq.create_group('t', mode, mode, '-infinity', invisible_for => '200 ms', max_retries => 4,
	backoff => '{0,10 ms,50 ms}')
FROM unnest(ARRAY['orderly', 'concurrent']) AS mode;

CREATE TABLE run (stop timestamptz, finished boolean, max_retries int);
CREATE TABLE sent (zone text, msg_offset bigint, device_id text, PRIMARY KEY (zone, msg_offset));
CREATE TABLE delivery (consumer_group text, lease_id bigint, zone text, msg_offset bigint, device_id text,
	attempt int, known pg_snapshot, claim_xid xid8, PRIMARY KEY (consumer_group, lease_id, msg_offset));
-- verdict 'back': taken back with an earlier one of its device, which was nacked
CREATE TABLE settlement (consumer_group text, lease_id bigint, msg_offset bigint, verdict text, xid xid8,
	PRIMARY KEY (consumer_group, lease_id, msg_offset));
CREATE TABLE given_up (consumer_group text, zone text, msg_offset bigint, xid xid8);
CREATE TABLE late (consumer_group text, verdict text);

-- Mostly short, now and then up to the given number of seconds.
CREATE FUNCTION pause(longest float8) RETURNS void LANGUAGE sql VOLATILE AS
	'SELECT pg_sleep(longest * random() ^ 4)';

CREATE FUNCTION die() RETURNS void LANGUAGE sql VOLATILE AS
	'SELECT pg_terminate_backend(pg_backend_pid()); SELECT pg_sleep(10)';

CREATE PROCEDURE publisher() LANGUAGE plpgsql AS $$
DECLARE
	zone text;
	device text;
BEGIN
	WHILE clock_timestamp() < (SELECT stop FROM run) LOOP
		FOR step IN 1 .. 1 + floor(random() * 4) LOOP
			zone := 'z' || 1 + floor(random() * 2)::int;
			-- some devices send much more than others
			device := 'd' || floor(40 * random() ^ 2)::int;
			INSERT INTO sent SELECT zone, iotmq.publish('t', device, '{}', zone), device;
			PERFORM pause(0.005);
		END LOOP;
		IF random() < 0.1 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
		PERFORM pause(0.01);
	END LOOP;
END $$;

-- Settles these messages of a lease and notes it; returns what is still open of it
-- then, or all of open if the lease was lost.
CREATE FUNCTION settle(consumer_group text, verdict text, named bigint[], open iotmq.delivery[])
	RETURNS iotmq.delivery[] LANGUAGE plpgsql AS $$
DECLARE
	lease bigint := open[1].lease_id;
	is_all boolean := cardinality(named) = cardinality(open) AND random() < 0.5;
	back bigint[] := '{}';
	counted int;
BEGIN
	IF consumer_group = 'orderly' AND verdict = 'nack' THEN
		SELECT coalesce(array_agg(DISTINCT later.msg_offset), '{}') INTO back
		FROM unnest(open) AS failed
		JOIN unnest(open) AS later ON later.device_id = failed.device_id AND later.msg_offset > failed.msg_offset
		WHERE failed.msg_offset = ANY (named) AND failed.attempt <= (SELECT max_retries FROM run)
			AND NOT later.msg_offset = ANY (named);
	END IF;
	EXECUTE format('SELECT iotmq.%I($1, $2)', verdict) INTO counted USING lease, CASE WHEN NOT is_all THEN named END;
	ASSERT counted = cardinality(named), format('%s counted %s of %s', verdict, counted, named);
	INSERT INTO settlement SELECT consumer_group, lease, unnest(named), verdict, pg_current_xact_id();
	INSERT INTO settlement SELECT consumer_group, lease, unnest(back), 'back', pg_current_xact_id();
	RETURN (SELECT array_agg(o ORDER BY o.msg_offset) FROM unnest(open) AS o WHERE NOT o.msg_offset = ANY (named || back));
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	INSERT INTO late VALUES (consumer_group, verdict);
	RETURN open;
END $$;

-- Consumes until everything is published and settled.
CREATE PROCEDURE consumer(consumer_group text) LANGUAGE plpgsql AS $$
DECLARE
	batch iotmq.delivery[];
	open iotmq.delivery[];
	named bigint[];
	dice float8;
BEGIN
	LOOP
		SELECT array_agg(d) INTO batch
		FROM iotmq.consume('t', consumer_group, 1 + floor(20 * random() ^ 2)::int, wait => '50 ms') AS d;
		INSERT INTO given_up
		SELECT l.consumer_group, zone, msg_offset, pg_current_xact_id()
		FROM iotmq.dead_letter AS l
		WHERE l.consumer_group = consumer.consumer_group AND reason = 'lease expired'
			AND NOT EXISTS (SELECT FROM given_up AS g
				WHERE g.consumer_group = l.consumer_group AND g.zone = l.zone AND g.msg_offset = l.msg_offset);
		IF batch IS NULL THEN
			COMMIT;
			EXIT WHEN (SELECT finished FROM run)
				AND (SELECT lag_messages = 0 FROM iotmq.group_lag AS l WHERE l.consumer_group = consumer.consumer_group);
			-- something is stuck
			EXIT WHEN clock_timestamp() > (SELECT stop + interval '1 min' FROM run);
			CONTINUE;
		END IF;
		ASSERT (SELECT count(DISTINCT (zone, lease_id)) FROM unnest(batch)) = 1, 'more than one zone or lease in a call';
		ASSERT (SELECT array_agg(msg_offset) = array_agg(DISTINCT msg_offset) FROM unnest(batch)), 'offsets not in order';
		INSERT INTO delivery
		SELECT consumer_group, lease_id, zone, msg_offset, device_id, attempt, pg_current_snapshot(), pg_current_xact_id()
		FROM unnest(batch);

		dice := random();
		IF dice < 0.01 THEN
			PERFORM die();
		ELSIF dice < 0.03 THEN
			ROLLBACK;
			CONTINUE;
		END IF;
		COMMIT;

		open := batch;
		LOOP
			dice := random();
			IF dice < 0.01 THEN
				PERFORM die();
			ELSIF dice < 0.04 THEN
				PERFORM pg_sleep(0.4 * random());
			ELSIF dice < 0.06 THEN
				EXIT;
			ELSIF dice < 0.08 THEN
				BEGIN
					PERFORM iotmq.extend(open[1].lease_id, '300 ms');
				EXCEPTION WHEN object_not_in_prerequisite_state THEN
					INSERT INTO late VALUES (consumer_group, 'extend');
					batch := NULL;
				END;
				COMMIT;
				EXIT WHEN batch IS NULL;
			END IF;

			SELECT array_agg(msg_offset ORDER BY random()) INTO named
			FROM unnest(open)
			WHERE dice > 0.5 OR random() < 0.5;
			CONTINUE WHEN named IS NULL;
			dice := random();
			batch := open;
			open := settle(consumer_group,
				CASE WHEN dice < 0.8 THEN 'ack' WHEN dice < 0.97 THEN 'nack' ELSE 'reject' END, named, batch);
			dice := random();
			IF dice < 0.01 THEN
				PERFORM die();
			ELSIF dice < 0.03 THEN
				ROLLBACK;
				open := batch;
				CONTINUE;
			END IF;
			COMMIT;
			-- nothing open, or lost
			EXIT WHEN open IS NULL OR open = batch;
		END LOOP;
	END LOOP;
END $$;
SQL

# Starts a client; one that was terminated comes back.
sub start_client
{
	my ($name, $query) = @_;
	my %client = (name => $name, output => '');

	$client{run} = IPC::Run::start(
		[
			'sh', '-c',
			'while psql -XAtq -d "$1" -c "$2"; [ $? = 2 ]; do :; done',
			'sh', $node->connstr('postgres'), $query
		],
		'<', \undef, '>', \$client{output}, '2>&1', $timeout);
	return \%client;
}

# Waits for clients to end, with no complaint but that they were terminated;
# returns how often that was.
sub finish_clients
{
	my $deaths = 0;

	foreach my $client (@_)
	{
		$client->{run}->finish;
		$deaths += () = $client->{output} =~ /^FATAL: /mg;
		my @complaints = grep {
			!/^(FATAL:  terminating connection due to administrator command$|CONTEXT:  SQL|SQL|PL\/pgSQL function|server closed the connection|\tThis probably means|\tbefore or while|connection to server was lost)/
		} split /\n/, $client->{output};
		is("@complaints", '', "$client->{name} ended without a complaint");
	}
	return $deaths;
}

sql("INSERT INTO run VALUES (clock_timestamp() + interval '$seconds s', false, 4)");
$timeout->start;
my @publishers = map { start_client("publisher$_", 'CALL publisher()') } (1 .. 3);
my @consumers =
  map { my $group = $_; map { start_client("$group$_", "CALL consumer('$group')") } (1 .. 4) } ('orderly', 'concurrent');

# The views hold together meanwhile.
my ($looks, $wrong) = (0, 0);
while (sql('SELECT clock_timestamp() < stop FROM run') eq 't')
{
	$wrong += sql(<<'SQL');
SELECT count(*) FROM iotmq.consumer_lag
WHERE (next_offset <= stable_offset AND stable_offset <= end_offset AND ready_messages >= 0
	AND lag_messages = ready_messages + inflight_messages + retry_messages
	AND blocked_devices <= least(retry_messages, 40) AND (mode = 'orderly' OR blocked_devices = 0)) IS NOT TRUE
SQL
	$looks++;
	sleep 1;
}
cmp_ok($looks, '>', 0, 'looked at consumer_lag');
is($wrong, 0, 'it was always right');

finish_clients(@publishers);
sql('UPDATE run SET finished = true');
my $deaths = finish_clients(@consumers);

# What became of each delivery.  What nobody settled has expired.
sql(<<'SQL');
CREATE TABLE dead AS SELECT consumer_group, zone, msg_offset, attempts, reason FROM iotmq.dead_letter;
CREATE TABLE history AS
SELECT *, fate IN ('ack', 'reject') OR (fate IN ('nack', 'expired') AND attempt > max_retries) AS is_last
FROM (
	SELECT d.*, coalesce(s.verdict, 'expired') AS fate, s.xid, max_retries,
		row_number() OVER by_message AS n, lead(d.attempt) OVER by_message AS next_attempt
	FROM delivery AS d
	LEFT JOIN settlement AS s USING (consumer_group, lease_id, msg_offset)
	CROSS JOIN run
	WINDOW by_message AS (PARTITION BY d.consumer_group, d.zone, d.msg_offset ORDER BY d.lease_id)
) AS d;
CREATE INDEX ON history (consumer_group, zone, device_id);
ANALYZE;
SQL

note sql(q(SELECT format('%s messages sent', count(*)) FROM sent));
note sql(q(SELECT string_agg(format('%s: %s %s', consumer_group, n, fate), E'\n' ORDER BY consumer_group, n DESC)
	FROM (SELECT consumer_group, fate, count(*) AS n FROM history GROUP BY consumer_group, fate) AS f));
note "$deaths consumers died";

# It has to mean something.
cmp_ok(sql('SELECT count(*) FROM sent'), '>', 30 * $seconds, 'enough was published');
cmp_ok($deaths, '>', 0, 'consumers died');
foreach my $group ('orderly', 'concurrent')
{
	foreach my $fate ('ack', 'nack', 'reject', 'expired')
	{
		cmp_ok(sql("SELECT count(*) FROM history WHERE consumer_group = '$group' AND fate = '$fate'"),
			'>', 0, "$group: $fate happened");
	}
	cmp_ok(sql("SELECT count(*) FROM late WHERE consumer_group = '$group'"),
		'>', 0, "$group: some came too late");
	cmp_ok(sql("SELECT count(*) FROM dead WHERE consumer_group = '$group' AND attempts = 5"),
		'>', 0, "$group: some messages used up their retries");
}
cmp_ok(sql(q(SELECT count(*) FROM history WHERE fate = 'back')), '>', 0, 'orderly: messages were taken back');

# Each query returns the first few rows that are wrong.
sub nothing
{
	my ($query, $name) = @_;
	is(sql("$query LIMIT 5"), '', $name);
	return;
}

nothing(<<'SQL', 'each committed message was delivered to each group, and nothing else');
SELECT consumer_group, zone, msg_offset, s.device_id, h.device_id
FROM (SELECT g.consumer_group, s.* FROM sent AS s, (VALUES ('orderly'), ('concurrent')) AS g (consumer_group)) AS s
FULL JOIN (SELECT * FROM history WHERE n = 1) AS h USING (consumer_group, zone, msg_offset)
WHERE s.device_id IS DISTINCT FROM h.device_id
SQL

nothing(<<'SQL', 'attempts begin with 1, go up by 1 with each failure, and end when they are used up');
SELECT consumer_group, zone, msg_offset, n, attempt, fate, next_attempt
FROM history
WHERE (n = 1 AND attempt <> 1)
	OR attempt NOT BETWEEN 1 AND max_retries + 1
	OR next_attempt IS DISTINCT FROM CASE WHEN is_last THEN NULL WHEN fate = 'back' THEN attempt ELSE attempt + 1 END
SQL

nothing(<<'SQL', 'each message was acknowledged once or is a dead letter, with its last attempt and reason');
SELECT consumer_group, zone, msg_offset, h.attempt, h.fate, d.attempts, d.reason
FROM (SELECT * FROM history WHERE is_last AND fate <> 'ack') AS h
FULL JOIN dead AS d USING (consumer_group, zone, msg_offset)
WHERE h.attempt IS DISTINCT FROM d.attempts
	OR d.reason IS DISTINCT FROM CASE WHEN h.fate = 'expired' THEN 'lease expired' END
SQL

# Earlier ones of the device: settled for good, as far as the claim could know or
# by itself, or in the same lease.
nothing(<<'SQL', 'orderly: nothing was delivered before its predecessors were settled');
SELECT h.zone, h.device_id, h.msg_offset, h.lease_id, h.attempt, e.msg_offset, e.lease_id, e.attempt, e.fate
FROM history AS h
JOIN history AS e ON e.consumer_group = h.consumer_group AND e.zone = h.zone AND e.device_id = h.device_id
	AND e.msg_offset < h.msg_offset AND e.is_last
LEFT JOIN given_up AS g ON g.consumer_group = e.consumer_group AND g.zone = e.zone AND g.msg_offset = e.msg_offset
WHERE h.consumer_group = 'orderly'
	AND NOT coalesce(pg_visible_in_snapshot(coalesce(e.xid, g.xid), h.known), false)
	AND g.xid IS DISTINCT FROM h.claim_xid
	AND NOT EXISTS (SELECT FROM delivery AS s
		WHERE s.consumer_group = h.consumer_group AND s.lease_id = h.lease_id AND s.msg_offset = e.msg_offset)
SQL

nothing(<<'SQL', 'nothing is left behind');
SELECT consumer_group, zone, lag_messages, blocked_devices, next_offset, end_offset FROM iotmq.consumer_lag
WHERE lag_messages <> 0 OR blocked_devices <> 0 OR next_offset <> end_offset
	OR EXISTS (SELECT FROM iotmq.in_flight) OR EXISTS (SELECT FROM iotmq.redelivery)
SQL

# The dead letters get a second life, in order, and this time a quiet one.
foreach my $group ('orderly', 'concurrent')
{
	is( sql("SELECT iotmq.redrive('t', '$group')"),
		sql("SELECT count(*) FROM dead WHERE consumer_group = '$group'"),
		"$group: all dead letters are redriven");
	sql(<<"SQL");
DO \$\$
DECLARE
	batch iotmq.delivery[];
BEGIN
	LOOP
		SELECT array_agg(d) INTO batch FROM iotmq.consume('t', '$group', 7) AS d;
		EXIT WHEN batch IS NULL;
		INSERT INTO settlement SELECT '$group', lease_id, msg_offset, 'again', NULL FROM unnest(batch) WHERE attempt = 1;
		PERFORM iotmq.ack(batch[1].lease_id);
	END LOOP;
END \$\$
SQL
	is( sql("SELECT count(*) FROM settlement WHERE consumer_group = '$group' AND verdict = 'again'"),
		sql("SELECT count(*) FROM dead WHERE consumer_group = '$group'"),
		"$group: all come again, from attempt 1 on");
}
is(sql('SELECT count(*) FROM iotmq.dead_message'), 0, 'no dead letter is left');
nothing('SELECT consumer_group FROM iotmq.consumer_lag WHERE lag_messages <> 0 OR dead_letters <> 0', 'no lag is left');

$node->stop;
done_testing();
