# Everything at the same time, judged by the checker of test/faults: publishers with
# pauses inside their transactions, rollbacks, savepoints rolled back, batches, COPY and
# two-phase commit, against consumers that acknowledge, nack or reject in parts, stall past
# their deadline, forget, roll back or are gone in the middle of anything.
#
# At first segments are made just in time by whoever publishes; then maintenance runs, and
# an administrator changes retries, redrives and purges, adds and drops a zone.
#
# TORTURE_SECONDS sets how long the publishers run each time, TORTURE_SEED the dice.
#
# Promise: no-loss, no-uncommitted-delivery, no-two-leases, lost-lease-changes-nothing, exactly-once-effects, order-per-device, dead-letter-not-lost

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{TORTURE_SECONDS} || 15;
my $seed    = $ENV{TORTURE_SEED}    || 1 + int(rand(1_000_000));
my @python  = ('/usr/bin/python3', '-B');

command_ok([ @python, 'test/faults/test_checker.py' ], 'the checker finds each kind of violation');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "max_prepared_transactions = 10\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION iotmq');

# What is printed goes to this test's log.
sub load
{
	my ($topic, $name, @options) = @_;

	local $ENV{PGDATABASE} = 'postgres';
	$node->command_ok(
		[
			@python, 'test/faults/load.py', '--check',
			'--topic', $topic, '--seed', $seed, '--seconds', $seconds,
			'--journal', $node->basedir . "/$topic.journal", @options
		],
		"$name (seed $seed)");
	return;
}

load('just_in_time', 'segments made just in time', '--just-in-time', '--actions', '');
load('maintained', 'with maintenance and an administrator',
	'--actions', 'maintain,retries,redrive,purge,zone');

$node->stop;
done_testing();
