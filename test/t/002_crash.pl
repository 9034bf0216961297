# The server is killed, and started again.
#
# What was acknowledged as committed is there and is delivered; claims may be
# lost (they are not waited for), but neither what was committed together with
# one, nor may a lease id be given out twice.
#
# Promise: durable-commit, offsets-are-the-servers

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;

# Nothing is flushed but by those who wait for it, so that what is not waited
# for is lost for sure.
$node->append_conf('postgresql.conf', <<'CONF');
synchronous_commit = on
max_prepared_transactions = 10
wal_writer_delay = 10s
wal_writer_flush_after = 0
checkpoint_timeout = 1h
autovacuum = off
wal_log_hints = on
CONF
$node->start;

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('postgres', $query);
}

sub crash
{
	$node->stop('immediate');
	$node->start;
	return;
}

sql(<<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t', ARRAY['a', 'b']);
SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
CREATE TABLE effect (what text);

CREATE FUNCTION try_ack(lease_id bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN iotmq.ack(lease_id);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SQL

# Counters

{
	# a claim that nobody waits for, offsets beyond those that the sequence has logged
	my $counters = q(SELECT string_agg(format('%s %s', name, value), ', ' ORDER BY name) FROM iotmq.metrics
		WHERE name IN ('iotmq_messages_in_total', 'iotmq_messages_out_total') AND labels->>'zone' = 'c');

	sql(q(SELECT iotmq.create_topic('c', '{c}')));
	sql(q(SELECT iotmq.create_group('c', 'g')));
	sql(q(SELECT count(iotmq.publish('c', 'd', '1')) FROM generate_series(1, 10)));
	sql(q(BEGIN; SELECT count(iotmq.publish('c', 'd', '1')) FROM generate_series(1, 90); ROLLBACK));
	sql(q(SELECT count(*) FROM iotmq.consume('c', 'g', 1);) x 7);
	my $seen = sql($counters);
	is($seen, 'iotmq_messages_in_total 100, iotmq_messages_out_total 7', 'counters count');
	crash();
	my ($in, $out) = sql($counters) =~ /total (\d+)/g;
	cmp_ok($in, '>=', 100, 'what a counter of offsets said holds after a crash');
	is($out, 7, 'and what a counter of deliveries said');
	sql(q(SELECT iotmq.drop_topic('c', force => true)));
}

# Lease ids

{
	my %seen;
	my $twice = 0;

	sql(q(SELECT FROM generate_series(1, 300) i, iotmq.publish('t', 'd', to_jsonb(i), zone => 'a')));
	foreach my $round (1 .. 3)
	{
		sql('CHECKPOINT') if $round < 3;
		my $consume =
		  q(SELECT lease_id FROM iotmq.consume('t', 'g', 1, zone => 'a'););
		my @leases = split /\n/, sql($consume x (40 * $round - 39));
		crash();

		my $lease = sql($consume);
		$twice += $seen{$_}++ ? 1 : 0 foreach (@leases, $lease);
		like(sql("SELECT try_ack($leases[-1])"),
			qr/^(1|55000)$/,
			'a lease from before the crash is still held, or lost');
		is(sql("SELECT try_ack($lease)"), 1,
			'a lease from after the crash is untouched by that');
	}
	is($twice, 0, 'no lease id is given out twice');
}

# What is committed together with a claim

my %together = (
	'an effect before the claim' => q(
		BEGIN;
		INSERT INTO effect VALUES ('%s');
		SELECT FROM iotmq.consume('t', 'g', 1, zone => 'a');
		COMMIT;),
	'an effect after the claim' => q(
		BEGIN;
		SELECT FROM iotmq.consume('t', 'g', 1, zone => 'a');
		INSERT INTO effect VALUES ('%s');
		COMMIT;),
	'an effect in the same statement' => q(
		INSERT INTO effect
		SELECT '%s' FROM iotmq.consume('t', 'g', 1, zone => 'a');),
	'an effect after a claim that was rolled back' => q(
		BEGIN;
		SAVEPOINT s;
		SELECT FROM iotmq.consume('t', 'g', 1, zone => 'a');
		ROLLBACK TO SAVEPOINT s;
		INSERT INTO effect VALUES ('%s');
		COMMIT;),
	'an effect in the transaction after the claim' => q(
		SELECT FROM iotmq.consume('t', 'g', 1, zone => 'a');
		INSERT INTO effect VALUES ('%s');),
	'an effect in the transaction of the ack' => q(
		SELECT lease_id FROM iotmq.consume('t', 'g', 1, zone => 'a') \gset
		BEGIN;
		INSERT INTO effect VALUES ('%s');
		SELECT iotmq.ack(:lease_id);
		COMMIT;),
	'an effect after the ack' => q(
		SELECT lease_id FROM iotmq.consume('t', 'g', 1, zone => 'a') \gset
		BEGIN;
		SELECT iotmq.ack(:lease_id);
		INSERT INTO effect VALUES ('%s');
		COMMIT;),
	'an effect with commit_offset' => q(
		BEGIN;
		INSERT INTO effect VALUES ('%s');
		SELECT iotmq.commit_offset('t', 'g', 'b', (SELECT next_offset FROM iotmq.consumer_lag WHERE zone = 'b'));
		COMMIT;),
	'a table' => q(
		BEGIN;
		SELECT FROM iotmq.consume('t', 'g', 1, zone => 'a');
		CREATE TABLE "%s" ();
		INSERT INTO effect VALUES ('%1$s');
		COMMIT;),
	'a publish' => q(
		BEGIN;
		SELECT FROM iotmq.consume('t', 'g', 1, zone => 'a');
		SELECT iotmq.publish('t', 'd', '"%s"', zone => 'b');
		COMMIT;),
	'a publish alone' => q(
		SELECT iotmq.publish('t', 'd', '"%s"', zone => 'b');),);

foreach my $what (sort keys %together)
{
	sql('CHECKPOINT');
	sql(sprintf($together{$what}, $what));
	crash();
	is( sql("SELECT count(*) FROM (SELECT what FROM effect UNION ALL SELECT payload #>> '{}' FROM iotmq_topic.t) AS e WHERE what = '$what'"
		),
		1,
		"$what is durable");
}

# What acknowledges alone is not waited for, unless the group says so or something is rejected.

sql(<<'SQL');
SELECT iotmq.create_topic('k');
SELECT iotmq.create_group('k', 'plain', start_from => '-infinity', max_retries => 0);
SELECT iotmq.create_group('k', 'durable', start_from => '-infinity', durable_acks => true);
SELECT count(iotmq.publish('k', 'd', to_jsonb(n))) FROM generate_series(1, 20) AS n;
CREATE TABLE held AS
	SELECT g AS consumer_group, lease_id, array_agg(msg_offset) AS offsets
	FROM unnest('{plain,durable}'::text[]) AS g, LATERAL iotmq.consume('k', g) GROUP BY 1, 2;
CREATE TABLE nobody_has_read AS SELECT 1 AS n;
INSERT INTO nobody_has_read VALUES (2);
SQL

# Makes a call of the lease of a group, in which {n} is the nth message; how many of its
# messages are open after a crash.
sub open_after_crash
{
	my ($group, $call) = @_;
	my ($lease, $first) = split /\|/, sql("SELECT lease_id, offsets[1] FROM held WHERE consumer_group = '$group'");
	sql('CHECKPOINT');
	$call =~ s/\{(\d)\}/'{' . ($first + $1 - 1) . '}'/ge;
	sql(sprintf($call, $lease));
	crash();
	return sql("SELECT coalesce(sum(messages), 0) FROM iotmq.in_flight WHERE topic = 'k' AND consumer_group = '$group'");
}

my $ack = q(SELECT iotmq.ack(%s, '{1}'));
SKIP:
{
	skip 'the WAL writer of 17 comes earlier', 5 if $node->pg_version >= 17;
	is(open_after_crash('plain', $ack), 20, 'an ack alone is forgotten');
	is(open_after_crash('plain', q(SELECT iotmq.settle(%s, acks => '{1}', nacks => '{2}'))), 20, 'a settle without rejects, too');
	is(open_after_crash('plain', q(BEGIN; SELECT iotmq.extend(%1$s, '1 hour'); SELECT iotmq.ack(%1$s, '{1}'); COMMIT)),
		20, 'several of them in a transaction');
	is(open_after_crash('plain', q(SELECT count(*) FROM iotmq.consume('k', 'plain', ack_lease => %s))), 20, 'ack_lease');
	is(open_after_crash('plain', q(BEGIN; SELECT count(*) FROM nobody_has_read; SELECT iotmq.ack(%s, '{1}'); COMMIT)),
		20, 'an ack after a read that wrote WAL of its own, for hint bits');
}
is(open_after_crash('plain', q(SELECT iotmq.reject(%s, '{3}'))), 19, 'a reject is there');
is(open_after_crash('plain', q(SELECT iotmq.settle(%s, acks => '{4}', rejects => '{5}'))), 17, 'a settle with one, too');
is(open_after_crash('plain', q(BEGIN; SELECT iotmq.ack(%s, '{6}'); INSERT INTO effect VALUES ('k'); COMMIT)),
	16, 'an ack with an effect is there');
is(open_after_crash('durable', $ack), 19, 'with durable_acks an ack is there');
is(open_after_crash('durable', q(SELECT count(*) FROM iotmq.consume('k', 'durable', ack_lease => %s))), 0, 'and ack_lease');
is(sql(q(SELECT count(*) FROM iotmq.dead_letter WHERE topic = 'k')), 2, 'what was rejected is a dead letter');

# Prepared transactions

sql(<<'SQL');
SELECT iotmq.create_topic('p');
SELECT iotmq.create_group('p', 'g', start_from => '-infinity');
SELECT iotmq.publish('p', 'd', '"before"');
BEGIN;
SELECT iotmq.publish('p', 'd', '"committed"');
PREPARE TRANSACTION 'committed';
BEGIN;
SELECT iotmq.publish('p', 'd', '"rolled back"');
PREPARE TRANSACTION 'rolled back';
SELECT iotmq.publish('p', 'd', '"after"');
SQL
crash();
sql(q(SELECT iotmq.publish('p', 'd', '"after the crash"')));
my $read = q(SELECT payload FROM iotmq.consume('p', 'g'));
unlike(sql($read), qr/after/, 'prepared publishers hold back after a crash');
is(sql(q(SELECT count(*) FROM iotmq.held_back WHERE topic = 'p')),
	2, 'and are shown');
sql(q(ROLLBACK PREPARED 'rolled back'));
unlike(sql($read), qr/after/, 'so does one that is left');
crash();
unlike(sql($read), qr/after/, 'and after another crash');
sql(q(COMMIT PREPARED 'committed'));
sql($read);
is( sql(q(SELECT count(*), count(DISTINCT payload) FROM iotmq_topic.p)),
	'4|4', 'what was prepared and committed is in the log');
is(sql(q(SELECT ready_messages FROM iotmq.consumer_lag WHERE topic = 'p')),
	0, 'everything is delivered once the last one is decided');

# Under load

sql(<<'SQL');
SELECT iotmq.create_topic('l', ARRAY['a', 'b']);
SELECT iotmq.create_group('l', 'g', start_from => '-infinity', invisible_for => '500 ms');
CREATE TABLE sent (id text PRIMARY KEY);
CREATE TABLE received (id text);

-- Settles one lease; false if there is none.
CREATE FUNCTION settle_one() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	batch iotmq.delivery[] := (SELECT array_agg(d) FROM iotmq.consume('l', 'g', 20, wait => '100 ms') AS d);
BEGIN
	IF batch IS NULL THEN
		RETURN false;
	END IF;
	INSERT INTO received SELECT payload ->> 'id' FROM unnest(batch);
	RETURN iotmq.ack(batch[1].lease_id) > 0;
END $$;

CREATE PROCEDURE consume_always() LANGUAGE plpgsql AS $$
DECLARE
	batch iotmq.delivery[];
BEGIN
	LOOP
		batch := (SELECT array_agg(d) FROM iotmq.consume('l', 'g', 20, wait => '100 ms') AS d);
		COMMIT;
		BEGIN
			IF batch IS NOT NULL THEN
				INSERT INTO received SELECT payload ->> 'id' FROM unnest(batch);
				PERFORM iotmq.ack(batch[1].lease_id);
			END IF;
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			NULL;
		END;
		COMMIT;
	END LOOP;
END $$;
SQL

# A publisher's script; it prints each id that was acknowledged as committed.
sub publisher_script
{
	my ($who) = @_;
	my $script = '';
	foreach my $n (1 .. 20000)
	{
		my $id   = "$who-$n";
		my $zone = rand() < 0.5 ? 'a' : 'b';
		my $end = rand() < 0.2 ? 'ROLLBACK' : 'COMMIT';
		$script .=
		    "BEGIN;\n"
		  . "SELECT FROM iotmq.publish('l', '$who', '{\"id\": \"$id\"}', zone => '$zone');\n"
		  . "INSERT INTO sent VALUES ('$id');\n"
		  . (rand() < 0.2 ? "SELECT FROM pg_sleep(0.005);\n" : '')
		  . "$end;\n"
		  . ($end eq 'COMMIT' ? "\\echo $id\n" : '');
	}
	return $script;
}

my @acknowledged;
foreach my $round (1 .. 3)
{
	my @clients;
	my $timeout = IPC::Run::timer(120);
	foreach my $n (1 .. 4)
	{
		my $file = $node->basedir . "/client$round-$n.sql";
		my %client = (output => '', error => '');
		append_to_file($file,
			$n < 4 ? publisher_script("p$round-$n") : 'CALL consume_always();');
		$client{run} = IPC::Run::start(
			[
				'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d',
				$node->connstr('postgres'), '-f', $file
			],
			'<', \undef, '>', \$client{output}, '2>', \$client{error}, $timeout);
		push @clients, \%client;
	}
	sleep 2;
	$node->stop('immediate');
	foreach my $client (@clients)
	{
		$client->{run}->finish;
		push @acknowledged, split /\n/, $client->{output};
	}
	$node->start;
}

cmp_ok(scalar(@acknowledged), '>', 300, 'enough was published to mean something');
sql( 'CREATE TABLE acknowledged AS SELECT unnest(ARRAY['
	  . join(',', map { "'$_'" } @acknowledged)
	  . ']) AS id');

# leases from before the crash have to expire first
my $idle = 0;
while ($idle < 10)
{
	$idle = sql('SELECT settle_one()') eq 't' ? 0 : $idle + 1;
}
is(sql('SELECT count(*) FROM acknowledged WHERE id NOT IN (SELECT id FROM sent)'),
	0, 'what was acknowledged is committed');
is(sql('SELECT count(*) FROM sent WHERE id NOT IN (SELECT id FROM received)'),
	0, 'what is committed was delivered');
is(sql('SELECT count(*) FROM received WHERE id NOT IN (SELECT id FROM sent)'),
	0, 'nothing else was delivered');
is(sql('SELECT count(*) - count(DISTINCT id) FROM received'),
	0, 'nothing was settled twice');
is(sql(q(SELECT sum(lag_messages) FROM iotmq.consumer_lag WHERE topic = 'l')),
	0, 'no lag is left');

$node->stop;
done_testing();
