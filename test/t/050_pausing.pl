# Consumers that wait while their group is paused and goes on.
#
# A pause in the middle of a wait stops what is published after it; the end of the pause is
# the end of the wait.
#
# Promise: wait-ends-at-once

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t', '{a,b}');
SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
SELECT iotmq.create_group('t', 'o', 'orderly', start_from => '-infinity');
SQL

# Starts a consumer of that group, and comes back when it waits.
sub start_waiter
{
	my ($group, $wait, $zone) = @_;
	my %client = (output => '', error => '');
	$client{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-d', $node->connstr('postgres') . ' application_name=waiter', '-c',
			"SELECT payload FROM iotmq.consume('t', '$group', 1, wait => '$wait', zone => $zone)"
		],
		'<', \undef, '>', \$client{output}, '2>', \$client{error}, IPC::Run::timeout(180));
	$node->poll_query_until('postgres',
		q(SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active'))
		or die 'the consumer does not wait';
	return \%client;
}

sub got
{
	my ($client) = @_;
	$client->{run}->finish;
	is($client->{error}, '', 'without an error');
	return $client->{output};
}

my $n = 0;
foreach my $group ('g', 'o')
{
	foreach my $zone ('NULL', q('b'))
	{
		# paused while it waits: nothing comes of what is published then, to the end of the wait
		my $waiter = start_waiter($group, '3 s', $zone);
		$node->safe_psql('postgres', "SELECT iotmq.pause_group('t', '$group')");
		$n++;
		$node->safe_psql('postgres', "SELECT iotmq.publish('t', 'd', '$n', 'b')");
		is(got($waiter), '', "$group, $zone: a pause stops a consumer that waits");

		# goes on while it waits: what is there comes at once, long before the end of the wait
		$waiter = start_waiter($group, '5 min', $zone);
		$node->safe_psql('postgres', "SELECT iotmq.resume_group('t', '$group')");
		is(got($waiter), "$n\n", "$group, $zone: the end of a pause ends the wait");
		is($node->safe_psql('postgres',
				"SELECT iotmq.ack(lease_id) FROM iotmq.in_flight WHERE consumer_group = '$group'"),
			'1', "$group, $zone: and it is acked");
	}
	# what was for one group was for the other, too
	$node->safe_psql('postgres', "SELECT * FROM iotmq.seek('t', '$_', 'infinity')") foreach ('g', 'o');
}

# paused and gone on, and paused again, all in one wait: as if it had not been
my $waiter = start_waiter('g', '5 min', 'NULL');
$node->safe_psql('postgres', "SELECT iotmq.pause_group('t', 'g')");
$node->safe_psql('postgres', "SELECT iotmq.publish('t', 'd', '100', 'a')");
$node->safe_psql('postgres', "BEGIN; SELECT iotmq.resume_group('t', 'g'); ROLLBACK");
$node->safe_psql('postgres', "BEGIN; SELECT iotmq.resume_group('t', 'g'); SELECT iotmq.pause_group('t', 'g'); COMMIT");
$node->safe_psql('postgres', "SELECT iotmq.alter_group('t', 'g', max_lag => 3)");
is($node->safe_psql('postgres', "SELECT count(*) FROM iotmq.in_flight"), '0', 'nothing is lent');
$node->safe_psql('postgres', "SELECT iotmq.resume_group('t', 'g')");
is(got($waiter), "100\n", 'until it goes on for good');

done_testing();
