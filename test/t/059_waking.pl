# What ends a wait, one by one, while nothing else happens in the server.
#
# A waiting call looks again only when a transaction has ended, when something is due, or
# when it was told of a change.  Each of these comes alone here, after the calls have looked
# and gone to sleep, and would be found by no other look within half a minute.  The calls
# wait for any zone of a topic of two, for one of them, for any of a topic of many zones, and
# in a transaction block that has an id.
#
# Promise: wait-ends-at-once

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# "At once" on a busy machine.
my $soon = 20;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# nobody but us ends a transaction
$node->append_conf('postgresql.conf', "autovacuum = off\nmax_prepared_transactions = 5\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
CREATE EXTENSION iotmq_stop;
SELECT iotmq.create_topic('few', '{a,b}');
SELECT iotmq.create_topic('many', ARRAY(SELECT chr(97 + n) FROM generate_series(0, 11) AS n));
CREATE TABLE waiting (topic text, consumer_group text, PRIMARY KEY (topic, consumer_group));
INSERT INTO waiting VALUES ('few', 'any'), ('few', 'one'), ('few', 'block'), ('many', 'any');
SELECT iotmq.create_group(topic, consumer_group, max_retries => 3) FROM waiting;
SQL

my @waiters = map { { topic => $_->[0], group => $_->[1], session => $node->background_psql('postgres') } }
  (['few', 'any'], ['few', 'one'], ['few', 'block'], ['many', 'any']);
# those that look at all zones
my @held = grep { $_->{group} ne 'one' } @waiters;
my $other = $node->background_psql('postgres');
my $control = $node->background_psql('postgres');

# The statements of another session, run alone.
sub other
{
	my (@statements) = @_;
	return join "\n", map { $other->query_safe($_) } @statements;
}

# Publishes to zone a of both topics, or to another, in one transaction.
sub publish
{
	my ($payload, $zone) = @_;
	$zone //= 'a';
	return "SELECT iotmq.publish(topic, 'd', '$payload', '$zone') FROM (SELECT DISTINCT topic FROM waiting) AS t ORDER BY topic";
}

# Calls something for each of the groups, in one transaction.
sub each_group
{
	my ($call) = @_;
	return "SELECT $call FROM waiting ORDER BY topic, consumer_group";
}

# Each of the groups takes a message, in one transaction.
sub lend
{
	my ($settings) = @_;
	return "SELECT c.payload FROM waiting AS w, LATERAL iotmq.consume(w.topic, w.consumer_group, 1 $settings) AS c";
}

sub begin_waiting
{
	foreach my $waiter (@waiters)
	{
		my ($topic, $group) = @$waiter{ 'topic', 'group' };
		my $zone = $group eq 'one' ? ", zone => 'a'" : '';
		my $consume = "SELECT payload, attempt FROM iotmq.consume('$topic', '$group', 1, wait => '60 s'$zone)";

		$waiter->{session}->query_safe('BEGIN; SELECT pg_current_xact_id()') if $group eq 'block';
		$waiter->{session}->query_until(qr/sent/, "\\echo sent\n$consume;\n");
	}
	return;
}

sub start_waiters
{
	begin_waiting();
	# all have looked once more than anybody did something
	$node->poll_query_until('postgres',
		q(SELECT count(*) = 4 FROM pg_stat_activity WHERE wait_event = 'Extension'))
	  or die 'the consumers do not wait';
	return;
}

# All come back with that, and say that it is done.
sub are_woken_with
{
	my ($expected, $what) = @_;
	my $start = time;

	foreach my $waiter (@waiters)
	{
		my $got = $waiter->{session}->query_safe($waiter->{group} eq 'block' ? 'COMMIT' : "\\echo");

		$got =~ s/\s+\z//;
		$got =~ s/\A\s+//;
		is($got, $expected, "$what: $waiter->{topic}, $waiter->{group}");
	}
	cmp_ok(time - $start, '<', $soon, "$what: at once");
	other('SELECT iotmq.ack(lease_id) FROM iotmq.in_flight');
	return;
}

# How often a process has gone to sleep.
sub switches
{
	my ($pid) = @_;
	my ($switches) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
	return $switches;
}

# Starts the consumers, lets it happen, and sees what they get.
sub wakes
{
	my ($what, $expected, @happens) = @_;

	start_waiters();
	other(@happens);
	are_woken_with($expected, $what);
	return;
}

wakes('a commit', '1|1', publish(1));
wakes('a commit that does not wait for the disk',
	'2|1', 'BEGIN; SET LOCAL synchronous_commit = off', publish(2), 'COMMIT');

other('BEGIN', publish(3), q(PREPARE TRANSACTION 'publisher'));
wakes('COMMIT PREPARED', '3|1', q(COMMIT PREPARED 'publisher'));

# what holds a message back is rolled back
other('BEGIN', publish(0));
$node->safe_psql('postgres', publish(4));
wakes('ROLLBACK', '4|1', 'ROLLBACK');

other('BEGIN', 'SAVEPOINT s', publish(0));
$node->safe_psql('postgres', publish(5));
wakes('ROLLBACK TO', '5|1', 'ROLLBACK TO s');
other('COMMIT');

other('BEGIN', publish(0), q(PREPARE TRANSACTION 'publisher'));
$node->safe_psql('postgres', publish(6));
wakes('ROLLBACK PREPARED', '6|1', q(ROLLBACK PREPARED 'publisher'));

# another consumer lets a message go
other(publish(7), 'BEGIN', lend(''));
wakes('the rollback of a claim', '7|1', 'ROLLBACK');
other(publish(8), 'BEGIN', 'SAVEPOINT s', lend(''));
wakes('the rollback of a claim to a savepoint', '8|1', 'ROLLBACK TO s');
other('COMMIT');

# by time alone
other(publish(9), lend(", '3 s'"));
wakes('the end of a lease', '9|2');
other(publish(10), lend(''), q(SELECT iotmq.nack(lease_id, delay => '3 s') FROM iotmq.in_flight));
wakes('a retry that is due', '10|2');

# what others do with messages
other(publish(11), lend(''));
wakes('a nack', '11|2', q(SELECT iotmq.nack(lease_id, delay => '0') FROM iotmq.in_flight));
other(publish(12), lend(''));
wakes('a lease that is cut short', '12|2', q(SELECT iotmq.extend(lease_id, '10 ms') FROM iotmq.in_flight));
other(publish(13), lend(''), q(SELECT iotmq.nack(lease_id, delay => '1 h') FROM iotmq.in_flight));
wakes('retry_now', '13|2',
	q(SELECT iotmq.retry_now(topic, consumer_group, ARRAY[msg_offset], zone) FROM iotmq.waiting_message));
other(publish(14), lend(''), 'SELECT iotmq.reject(lease_id) FROM iotmq.in_flight');
wakes('redrive', '14|1', each_group('iotmq.redrive(topic, consumer_group)'));
other(publish(15), lend(''), 'SELECT iotmq.ack(lease_id) FROM iotmq.in_flight');
wakes('commit_offset back', '15|1',
	q(SELECT iotmq.commit_offset(topic, consumer_group, zone, next_offset - 1) FROM iotmq.consumer_lag WHERE zone = 'a'));
wakes('a seek back', '15|1',
	q(SELECT iotmq.seek_offset(topic, consumer_group, zone, next_offset - 1) FROM iotmq.consumer_lag WHERE zone = 'a'));

# what administrators do
other(each_group('iotmq.pause_group(topic, consumer_group)'), publish(16));
wakes('the end of a pause', '16|1', each_group('iotmq.resume_group(topic, consumer_group)'));
other(each_group(q(iotmq.alter_group(topic, consumer_group, tags => 'none'))), publish(17));
wakes('other tags', '17|1', each_group(q(iotmq.alter_group(topic, consumer_group, tags => '*'))));

# The change of a group is seen before it is told of.  Those who look in between know the
# old group, find nothing, and are woken by what they are told.
other(each_group('iotmq.pause_group(topic, consumer_group)'), publish(18));
start_waiters();
$control->query_safe(q(SELECT iotmq_stop.hold('commit')));
other(q(SELECT iotmq_stop.arm('commit')));
$other->query_until(qr/sent/, "\\echo sent\n" . each_group('iotmq.resume_group(topic, consumer_group)') . ";\n");
$control->query_safe(q(SELECT iotmq_stop.await('commit')));
# a look is made some 20 ms later; sleeping for longer can only make the test see more
$control->query_safe('SELECT pg_sleep(0.5)');
$control->query_safe(q(SELECT iotmq_stop.release('commit')));
are_woken_with('18|1', 'being told of a change that was seen before');

# What comes after a zone was looked at and before the look has ended: each call is held there.
$control->query_safe(q(SELECT iotmq_stop.hold('consume_looked')));
$_->{session}->query_safe(q(SELECT iotmq_stop.arm('consume_looked'))) foreach @held;
begin_waiting();
$node->poll_query_until('postgres',
	q(SELECT count(*) = 3 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%consume%'))
  or die 'the consumers are not held';
other(publish(19));
$control->query_safe(q(SELECT iotmq_stop.release('consume_looked')));
are_woken_with('19|1', 'a commit in the middle of a look');

# A zone that did not exist, in the topic of many: as the others wait for theirs.
start_waiters();
other(q(SELECT iotmq.add_zone('many', 'new')), publish(20));
are_woken_with('20|1', 'a commit after a new zone');
start_waiters();
other(q(SELECT iotmq.publish('many', 'd', '21', 'new'), iotmq.publish('few', 'd', '21', 'a')));
are_woken_with('21|1', 'a publish to it');

# Who waits for long looks rarely, whatever its zones are: a sleep is a voluntary switch to
# another process.
SKIP:
{
	my %pids = map { ("$_->{topic}, $_->{group}" => $_->{session}->query_safe('SELECT pg_backend_pid()')) } @waiters;

	skip 'no /proc here', 4 unless -r "/proc/$$/status";
	start_waiters();
	$control->query_safe('SELECT pg_sleep(1)');
	my %before = map { ($_ => switches($pids{$_})) } keys %pids;
	my $begin = time;
	$control->query_safe('SELECT pg_sleep(2)');
	cmp_ok((switches($pids{$_}) - $before{$_}) / (time - $begin), '<', 100, "$_: looks per second") foreach sort keys %pids;
	other(publish(22));
	are_woken_with('22|1', 'a commit after silence');
}

$_->{session}->quit foreach @waiters;
$other->quit;
$control->quit;
$node->stop;
done_testing();
