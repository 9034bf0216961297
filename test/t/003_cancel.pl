# What ends a waiting consumer, and what one that is gone leaves behind.
#
# A wait ends at once on cancel, a timeout, termination and shutdown.  It holds
# nothing that others want.
#
# Promise: wait-ends-at-once

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# "At once" on a busy machine; the waits themselves last a minute.
my $at_once = 10;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('postgres', $query);
}

# Starts a client and comes back when its server process is in the wait.
my $wait_minute =
  q(SELECT payload FROM iotmq.consume('t', 'g', 1, wait => '60 s'););

sub start_waiter
{
	my ($query) = @_;
	my %client = (output => '', error => '');
	$client{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-v',
			'VERBOSITY=verbose', '-d',
			$node->connstr('postgres') . " application_name=waiter", '-c',
			$query
		],
		'<', \undef, '>', \$client{output}, '2>', \$client{error},
		IPC::Run::timer(120));
	$node->poll_query_until('postgres', <<'SQL') or die 'the consumer does not wait';
SELECT count(*) = 1 FROM pg_stat_activity
WHERE application_name = 'waiter' AND state = 'active'
AND query LIKE '%wait =>%' AND query_start < clock_timestamp() - interval '200 ms'
SQL
	return \%client;
}

# Waits for a client's end and returns how long that took.
sub finish_waiter
{
	my ($client) = @_;
	my $start = time();
	$client->{run}->finish;
	return time() - $start;
}

my $waiter = q(FROM pg_stat_activity WHERE application_name = 'waiter');

sql(<<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t');
SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
SELECT iotmq.create_group('t', 'h', start_from => '-infinity');
SQL

# Ends of a wait

my $client = start_waiter($wait_minute);
sql("SELECT pg_cancel_backend(pid) $waiter");
cmp_ok(finish_waiter($client), '<', $at_once, 'cancel ends a wait');
like($client->{error}, qr/57014/, 'with query_canceled');

$client = start_waiter("SET statement_timeout = '1 s'; $wait_minute");
cmp_ok(finish_waiter($client), '<', $at_once, 'statement_timeout ends a wait');
like($client->{error}, qr/57014.*statement timeout/, 'with query_canceled');

$client = start_waiter($wait_minute);
sql("SELECT pg_terminate_backend(pid) $waiter");
cmp_ok(finish_waiter($client), '<', $at_once, 'termination ends a wait');
like($client->{error}, qr/57P01/, 'with admin_shutdown');

$client = start_waiter($wait_minute);
my $start = time();
$node->stop('fast');
cmp_ok(time() - $start, '<', 2 * $at_once, 'fast shutdown does not wait for it');
finish_waiter($client);
$node->start;

$start = time();
is(sql(q(SELECT count(*) FROM iotmq.consume('t', 'g', wait => '500 ms'))),
	0, 'a wait in vain returns nothing');
cmp_ok(time() - $start, '>', 0.5, 'not before its time');
cmp_ok(time() - $start, '<', $at_once, 'nor long after');

# What a wait holds: what it needs to be woken up, and no more

$client = start_waiter($wait_minute);
is(sql("SELECT backend_xid IS NULL $waiter"), 't', 'a waiting consumer has no xid');
is( sql("SELECT string_agg(DISTINCT mode, ' ') FROM pg_locks WHERE pid = (SELECT pid $waiter) AND locktype = 'relation' AND mode <> 'AccessShareLock'"
	),
	'',
	'and no lock beyond those of a reader');
is( sql("SELECT count(*) FROM pg_locks WHERE pid = (SELECT pid $waiter) AND relation IN (SELECT relid FROM pg_partition_tree('iotmq_topic.t') WHERE isleaf)"
	),
	0,
	'and none at all on a segment');
is( sql("SET statement_timeout = '10 s'; SELECT iotmq.alter_group('t', 'g', tags => '*')"
	),
	'',
	'its group can be altered');
is( sql("SET statement_timeout = '10 s'; SELECT iotmq.add_zone('t', 'late')"),
	'', 'its topic can get a zone');
sql(q(SELECT iotmq.publish('t', 'd', '"woken"', zone => 'late')));
cmp_ok(finish_waiter($client), '<', $at_once, 'a publish ends a wait, in a new zone too');
is($client->{output}, "\"woken\"\n", 'with the message');

$client = start_waiter($wait_minute);
sql("SET statement_timeout = '10 s'; SELECT iotmq.drop_group('t', 'g')");
cmp_ok(finish_waiter($client), '<', $at_once, 'dropping the group ends a wait');
like($client->{error}, qr/42704/, 'with undefined_object');

# What a terminated consumer leaves behind

sql(q(SELECT iotmq.publish('t', 'd', to_jsonb('m' || i), zone => 'default') FROM generate_series(1, 2) i));

my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe(q(SET application_name = 'waiter'));
$session->query_safe('BEGIN');
is( $session->query_safe(
		q(SELECT payload FROM iotmq.consume('t', 'h', 1, zone => 'default'))),
	'"m1"',
	'a consumer has a message');
sql("SELECT pg_terminate_backend(pid, 10000) $waiter");
eval { $session->quit };
is( sql(q(SELECT payload, attempt FROM iotmq.consume('t', 'h', 1, '1 s', zone => 'default'))),
	'"m1"|1',
	'terminated before its commit, it leaves nothing');

$session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe(q(SET application_name = 'waiter'));
is( $session->query_safe(
		q(SELECT payload FROM iotmq.consume('t', 'h', 1, '1 s', zone => 'default'))),
	'"m2"',
	'a consumer has a lease');
sql("SELECT pg_terminate_backend(pid, 10000) $waiter");
eval { $session->quit };
is(sql(q(SELECT count(*) FROM iotmq.in_flight WHERE consumer_group = 'h')),
	2, 'terminated after its commit, it leaves the lease');
is(sql(q(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')),
	0, 'and no advisory lock');
is( sql(q(SELECT payload, attempt FROM iotmq.consume('t', 'h', 1, zone => 'default', wait => '60 s');) x 2),
	qq("m1"|2\n"m2"|2),
	'which is taken over when it has expired');

$node->stop;
done_testing();
