# Consumers that wait while others publish.
#
# A wait ends as soon as something can be delivered, and not before: not at a
# publish that is still open or was rolled back.  The end of another consumer's
# transaction and of its lease count, too.
#
# Promise: wait-ends-at-once

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

# "As soon as" on a busy machine; the waits themselves last a minute.
my $soon = 10;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t', ARRAY['a', 'b']);
SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
SQL

# the one who gets in the way of the waiting consumers
my $other = $node->background_psql('postgres');

# Starts n consumers and comes back when they wait.
my @waiters;

sub start_waiters
{
	my ($n) = @_;
	@waiters = ();
	foreach (1 .. $n)
	{
		my %client = (output => '', error => '');
		$client{run} = IPC::Run::start(
			[
				'psql', '-XAtq', '-d',
				$node->connstr('postgres') . ' application_name=waiter', '-c',
				q(SELECT payload, attempt FROM iotmq.consume('t', 'g', 1, wait => '60 s'))
			],
			'<', \undef, '>', \$client{output}, '2>', \$client{error},
			IPC::Run::timer(120));
		push @waiters, \%client;
	}
	$node->poll_query_until('postgres',
		"SELECT count(*) = $n FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active'"
	) or die 'the consumers do not wait';
	return;
}

sub still_waiting
{
	my ($what) = @_;
	usleep(300_000);
	is( $node->safe_psql('postgres',
			q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active')
		),
		scalar(@waiters),
		"not woken by $what");
	return;
}

# Waits for the consumers' ends; what they got, in order of that.
sub woken_with
{
	my ($expected, $what) = @_;
	my $start = time();
	$_->{run}->finish foreach @waiters;
	cmp_ok(time() - $start, '<', $soon, "woken by $what");
	is(join('', sort map { $_->{output} . $_->{error} } @waiters),
		$expected, 'with what it brought');
	return;
}

start_waiters(1);
$other->query_safe(q(BEGIN; SELECT iotmq.publish('t', 'd', '"one"', zone => 'a')));
still_waiting('an open publish');
$other->query_safe('COMMIT');
woken_with(qq("one"|1\n), 'its commit');

start_waiters(1);
$other->query_safe(q(BEGIN; SELECT iotmq.publish('t', 'd', '"never"', zone => 'a')));
$other->query_safe('ROLLBACK');
still_waiting('one that was rolled back');
$other->query_safe(q(SELECT iotmq.publish('t', 'd', '"two"', zone => 'b')));
woken_with(qq("two"|1\n), 'a publish in another zone');

start_waiters(2);
$other->query_safe(
	q(BEGIN; SELECT iotmq.publish('t', 'd', to_jsonb('m' || i), zone => 'a') FROM generate_series(1, 2) i; COMMIT));
woken_with(qq("m1"|1\n"m2"|1\n), 'a publish of two messages, each');

$other->query_safe(q(SELECT iotmq.publish('t', 'd', '"three"', zone => 'a')));
$other->query_safe(q(BEGIN; SELECT payload FROM iotmq.consume('t', 'g', 1)));
start_waiters(1);
still_waiting('a message that another consumer has in its transaction');
$other->query_safe('ROLLBACK');
woken_with(qq("three"|1\n), 'the rollback of that');

$other->query_safe(q(SELECT iotmq.publish('t', 'd', '"four"', zone => 'a')));
is($other->query_safe(q(SELECT payload FROM iotmq.consume('t', 'g', 1, '2 s'))),
	'"four"', 'a consumer has a lease');
start_waiters(1);
woken_with(qq("four"|2\n), 'its expiry');

$other->query_safe(q(SELECT iotmq.publish('t', 'd', '"five"', zone => 'a')));
my $lease = $other->query_safe(q(SELECT lease_id FROM iotmq.consume('t', 'g', 1)));
start_waiters(1);
still_waiting('a message that another consumer has');
$other->query_safe("SELECT iotmq.extend($lease, '10 ms')");
woken_with(qq("five"|2\n), 'its expiry, which was put forward');

$other->quit;
$node->stop;
done_testing();
