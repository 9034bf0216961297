# Consumers that wait while their group is changed, where nothing can be delivered, and
# after their clients are gone.
#
# What the looks of a waiting call have learnt dies with the catalog that it was made of.
# Where all that is new has to wait for a device in flight, waiting writes nothing.  And
# who isn't there any more gets nothing.
#
# Promise: no-loss, order-per-device, gone-gets-nothing

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION iotmq');

# Starts a client and comes back when it has looked and waits.
sub start_waiter
{
	my ($sql) = @_;
	my %client = (output => '', error => '');

	$client{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-d',
			$node->connstr('postgres') . ' application_name=waiter', '-c', $sql
		],
		'<', \undef, '>', \$client{output}, '2>', \$client{error}, IPC::Run::timer(180));
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND wait_event = 'Extension'"
	) or die 'the consumer does not wait';
	return \%client;
}

sub result_of
{
	my ($client) = @_;

	$client->{run}->finish;
	return $client->{output} . $client->{error};
}

# A group that wants none of a hundred messages, and a consumer of it that waits.
sub start_case
{
	my ($settings) = @_;

	$node->safe_psql('postgres', <<"SQL");
DO \$\$ BEGIN PERFORM iotmq.drop_topic(topic, force => true) FROM iotmq_internal.topic; END \$\$;
SELECT iotmq.create_topic('t', '{a,b}');
SELECT iotmq.create_group('t', 'g', tags => 'wanted', start_from => '-infinity' $settings);
SELECT count(iotmq.publish('t', 'd', to_jsonb(n), zone => 'a', tag => 'other')) FROM generate_series(1, 100) AS n;
SQL
	return start_waiter(
		q(SELECT count(*) || ' of ' || min(zone) FROM iotmq.consume('t', 'g', 200, wait => '60 s')));
}

my %changes = (
	'other tags and a seek' => <<'SQL',
SELECT iotmq.alter_group('t', 'g', tags => '*');
SELECT iotmq.seek('t', 'g', '-infinity');
SQL
	'other tags' => <<'SQL',
SELECT iotmq.alter_group('t', 'g', tags => '*');
SQL
	'a group made anew' => <<'SQL',
SELECT iotmq.drop_group('t', 'g');
SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
SQL
	'a topic made anew' => <<'SQL',
SELECT iotmq.drop_topic('t', force => true);
SELECT iotmq.create_topic('t', '{a,b}');
SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
SELECT count(iotmq.publish('t', 'd', to_jsonb(n), zone => 'a', tag => 'wanted')) FROM generate_series(1, 100) AS n;
SQL
	'a zone made anew' => <<'SQL',
SELECT iotmq.drop_zone('t', 'a', force => true);
SELECT iotmq.add_zone('t', 'a');
SELECT count(iotmq.publish('t', 'd', to_jsonb(n), zone => 'a', tag => 'wanted')) FROM generate_series(1, 100) AS n;
SQL
);
foreach my $change (sort keys %changes)
{
	foreach my $mode ('', ", mode => 'orderly'")
	{
		my $waiter = start_case($mode);

		$node->safe_psql('postgres', "BEGIN;\n$changes{$change}COMMIT;");
		is(result_of($waiter), "100 of a\n", "$change$mode: all of it is delivered");
	}
}

# Everything new is behind a device in flight: to wait costs nothing but looks.
$node->safe_psql('postgres', <<'SQL');
SELECT iotmq.create_topic('o');
SELECT iotmq.create_group('o', 'g', mode => 'orderly', start_from => '-infinity');
SELECT iotmq.publish('o', 'd', '0');
SELECT FROM iotmq.consume('o', 'g', 1);
SELECT iotmq.publish_batch('o', array_fill('d'::text, '{100}'), array_fill('1'::jsonb, '{100}'));
CHECKPOINT;
SQL
my $before = $node->safe_psql('postgres',
	'SELECT pg_current_wal_insert_lsn(), pg_current_xact_id()::text::bigint');
my ($lsn, $xid) = split /\|/, $before;
my $waiter = start_waiter(q(SELECT payload FROM iotmq.consume('o', 'g', wait => '2 s')));
is(result_of($waiter), '', 'behind a device in flight nothing is delivered');
# the last look puts them aside for good
cmp_ok(
	$node->safe_psql('postgres', "SELECT pg_current_xact_id()::text::bigint - $xid"),
	'<=', 5, 'the waiting call wrote once');
is($node->safe_psql('postgres', q(SELECT retry_messages FROM iotmq.group_lag WHERE topic = 'o')),
	100, 'what it put aside is kept');
$waiter = start_waiter(q(SELECT payload FROM iotmq.consume('o', 'g', wait => '60 s')));
$node->safe_psql('postgres', q(SELECT iotmq.publish('o', 'd', '2'), iotmq.publish('o', 'other', '3')));
is(result_of($waiter), "3\n", 'another device is not held up');

# More than that is kept after a second, and the call goes on when it is made again.
$node->safe_psql('postgres',
	q(SELECT iotmq.publish_batch('o', array_fill('d'::text, '{3000}'), array_fill('1'::jsonb, '{3000}'))));
my $start = time;
$waiter = start_waiter(q(SELECT payload FROM iotmq.consume('o', 'g', wait => '60 s')));
is(result_of($waiter), '', 'a waiting call comes back to keep what it put aside');
cmp_ok(time - $start, '>=', 0.9, 'not before a second is over');
cmp_ok($node->safe_psql('postgres', q(SELECT retry_messages FROM iotmq.group_lag WHERE topic = 'o')),
	'>', 101, 'and it is kept');

# In a transaction block it holds nothing.
my $block = $node->background_psql('postgres');
$block->query_safe('BEGIN');
is($block->query_safe(q(SELECT payload FROM iotmq.consume('o', 'g', wait => '100 ms'))), '',
	'in a transaction block nothing is delivered either');
is( $node->safe_psql('postgres', <<'SQL'), 't', 'and nothing stays locked');
SELECT count(*) = 1 FROM (
	SELECT FROM iotmq_internal.cursor_state AS p
	JOIN iotmq_internal.cursor AS c USING (cursor_id)
	JOIN iotmq_internal.consumer_group AS g USING (group_id)
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE t.topic = 'o'
	FOR UPDATE OF p SKIP LOCKED) AS free
SQL
$block->query_safe('COMMIT');
$block->quit;

# The client of a waiting call is killed: its backend takes nothing, and ends.
$node->safe_psql('postgres', <<'SQL');
SELECT iotmq.create_topic('c');
SELECT iotmq.create_group('c', 'g', max_retries => 0, invisible_for => '1 hour');
SQL
foreach my $round (1 .. 3)
{
	my $killed =
	  start_waiter(q(SELECT payload FROM iotmq.consume('c', 'g', 100, wait => '60 s', consumer => 'killed')));
	$killed->{run}->kill_kill;
	$node->safe_psql('postgres', "SELECT iotmq.publish('c', 'd', '$round')");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'waiter'")
	  or die 'the backend of a client that is gone does not end';
	is( $node->safe_psql('postgres', q(SELECT payload, attempt FROM iotmq.consume('c', 'g'))),
		"$round|1",
		"round $round: nothing was lent to who is gone, others get it");
}

$node->stop;
done_testing();
