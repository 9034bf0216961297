# The server's clock is wrong for once, and right again.
#
# It runs ahead into a year beyond those that a lease id has room for, and to the day before
# their end.  A lease given out then is its own group's, and nobody else's; when the clock is
# right again, ids go on above it, and what was lent, failed and expired meanwhile is where
# it belongs.
#
# Promise: offsets-are-the-servers, default-deny, no-loss

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($library) = glob '/usr/lib/*/faketime/libfaketime.so.1';
ok($library, 'libfaketime is installed') or BAIL_OUT('tools/packages test installs libfaketime');

my $clock = PostgreSQL::Test::Utils::tempdir . '/clock';

sub set_clock
{
	my ($offset) = @_;
	append_to_file("$clock.new", "$offset\n");
	rename "$clock.new", $clock or die "$clock: $!";
	return;
}

set_clock('+0');
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
{
	local $ENV{LD_PRELOAD} = $library;
	local $ENV{FAKETIME_TIMESTAMP_FILE} = $clock;
	local $ENV{FAKETIME_NO_CACHE} = 1;
	local $ENV{FAKETIME_DONT_FAKE_MONOTONIC} = 1;
	$node->start;
}

sub sql { return $node->safe_psql('postgres', shift) }

sub sqlstate
{
	my ($rc, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY sqlstate\n" . shift);
	return $stderr =~ /ERROR:  (\w+)/ ? $1 : "none: $stdout";
}

# The groups' cursors follow each other: ids that left the range of one would be the next one's.
sql(<<'SQL');
CREATE EXTENSION iotmq;
CREATE ROLE only_a; CREATE ROLE only_b;
SELECT iotmq.create_topic('t', retention => '100 years');
SELECT iotmq.create_group('t', 'a', start_from => '-infinity', invisible_for => '10 min', backoff => '{0 s}');
SELECT iotmq.create_group('t', 'b', start_from => '-infinity');
SELECT iotmq.grant_consume('t', 'a', 'only_a'), iotmq.grant_consume('t', 'b', 'only_b');
SELECT count(iotmq.publish('t', 'd', to_jsonb(n))) FROM generate_series(1, 20) AS n;
SELECT sum(iotmq.ack(lease_id)) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('t', 'b', 100)) AS l;
SQL
is(sql(q{SELECT array_agg(cursor_id ORDER BY cursor_id) FROM iotmq_internal.cursor}), '{1,2}', 'two cursors');

my $take = q{SELECT DISTINCT lease_id FROM iotmq.consume('t', 'a', 1, '10 min')};
my $before = sql($take);
my $last = $before;
foreach my $jump ('+27y', '+28y', '+60y', '+0')
{
	set_clock($jump);
	my $lease = sql($take);
	cmp_ok($lease, '>', $last, "$jump: ids go on");
	is(sql("SELECT iotmq.lease_cursor($lease)"), '1', "$jump: of its own cursor");
	is(sqlstate("SET ROLE only_b; SELECT iotmq.ack($lease)"), '42501', "$jump: not another group's role's");
	is(sql("SET ROLE only_a; SELECT iotmq.ack($lease)"), '1', "$jump: but its own role's");
	$last = $lease;
}

# What fails and expires goes back to the group that it is of.
my $lease = sql($take);
is(sql("SELECT iotmq.nack($lease)"), '1', 'a nack');
is(sql($take) > $lease, 1, 'comes again');
set_clock('+28y');
$lease = sql($take);
set_clock('+29y');
is(sql(q{SELECT count(*) FROM iotmq.consume('t', 'b')}), '0', 'the other group gets nothing of it');
is(sql('CALL iotmq.run_maintenance(); SELECT consumer_group, inflight_messages FROM iotmq.group_lag ORDER BY 1'), "a|0\nb|0", 'what expired waits again');
is(sqlstate("SELECT iotmq.ack($lease)"), '55000', 'its lease is over');
set_clock('+0');
is(sql(q{SELECT consumer_group, lag_messages FROM iotmq.group_lag ORDER BY 1}), "a|16\nb|0", 'every message is where it belongs');

# It is set back while a backend, which has found that all waits for a device in flight, would not
# look again for a moment.
sql(q{SELECT iotmq.create_topic('back'); SELECT iotmq.create_group('back', 'o', 'orderly');
SELECT count(iotmq.publish('back', 'd', to_jsonb(n))) FROM generate_series(1, 2) AS n});
is($node->safe_psql('postgres', <<"SQL"), "0\n1\n2", 'the next message of the device comes at once');
SET statement_timeout = '20 s';
SELECT lease_id AS lease FROM iotmq.consume('back', 'o', 1) \\gset
BEGIN;
SELECT count(*) FROM iotmq.consume('back', 'o', 1, wait => '50 ms');
COMMIT;
\\! echo -1h > '$clock.new' && mv '$clock.new' '$clock'
SELECT iotmq.ack(:lease);
SELECT payload FROM iotmq.consume('back', 'o', 1, wait => '1 min');
SQL
set_clock('+0');

$node->stop;
done_testing();
