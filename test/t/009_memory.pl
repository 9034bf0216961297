# A call that passes over many large messages keeps none of them in memory: what a
# group's filter takes to look at one is given back before the next.
#
# Promise: little-memory

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'the memory of a process is read from /proc' unless -r '/proc/self/status';

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t');
SELECT iotmq.create_group('t', 'tagged', tags => 'wanted');
SELECT iotmq.create_group('t', 'filtered', filter => '$.wanted == true');
SELECT count(iotmq.publish('t', 'd', jsonb_build_object('x', repeat('x', 1000000)))) FROM generate_series(1, 400);
SQL

# MB, the most that a new session had after that query
sub peak
{
	my ($query) = @_;
	my $out = $node->safe_psql('postgres', "$query;
		SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\\s+(\\d+)')::int / 1024");
	return (split /\n/, $out)[-1];
}

my $without = peak(q(SELECT count(*) FROM iotmq.consume('t', 'tagged')));
foreach my $query (
	q(SELECT iotmq.count_lag('t', 'filtered')),
	q(SELECT messages FROM iotmq.seek('t', 'filtered', 'infinity', dry_run => true)),
	q(SELECT count(*) FROM iotmq.consume('t', 'filtered')))
{
	my $with = peak($query);
	cmp_ok($with - $without, '<', 100, "400 MB are looked at in turn: $query");
	note("$with MB, $without MB without a filter");
}

$node->stop;
done_testing();
