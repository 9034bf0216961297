# Every look at PostgreSQL's caches finds them empty: what is kept in memory of topics,
# zones and groups is then read again all the time, and a pointer into what was read
# before points to memory that is gone. All calls end, with their normal results.
# Promise: settings-dont-matter
#
# CREATE and DROP take long under it and are not our code alone: they are done without.
#
# Promise: no-loss, settings-dont-matter

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
if ($node->safe_psql('postgres', 'SHOW debug_assertions') ne 'on')
{
	$node->stop;
	plan skip_all => 'only a server with assertions can discard its caches (make test-assert)';
}

$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t');
SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
SELECT iotmq.create_group('t', 'filtered', start_from => '-infinity', filter => '$.n >= 3');
SELECT iotmq.create_group('t', 'orderly', mode => 'orderly', start_from => '-infinity');
SQL

my $limit = $PostgreSQL::Test::Utils::timeout_default;

# The query's rows, caches discarded. A call that does not end is cancelled.
sub discarding
{
	my ($query, $expected, $name) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $query, extra_params => ['-q'], connstr =>
		  $node->connstr('postgres') .
		  " options='-c debug_discard_caches=1 -c statement_timeout=${limit}s'");

	is($status == 0 ? $out : $err, $expected, $name);
}

discarding(q(SELECT iotmq.publish('t', 'd', '{"n": 1}')), '1', 'publish');
discarding(q(SELECT iotmq.publish_batch('t', '{d,e}', array['{"n": 2}', '{"n": 3}']::jsonb[])),
	'{2,3}', 'publish_batch');
discarding(q(INSERT INTO iotmq_zone_1._zone_1 (device_id, payload) VALUES ('f', '{"n": 4}')), '', 'INSERT');
discarding(q(BEGIN; SELECT iotmq.publish('t', 'd', '{"n": 5}'); ROLLBACK), '5', 'publish, rolled back');
discarding(q(SELECT iotmq.publish('t', 'd', '{"n": 6}')), '6', 'publish after a gap');

discarding(q(SELECT iotmq.count_lag('t', 'g'), iotmq.count_lag('t', 'filtered')), '5|3', 'count_lag');
discarding(q(SELECT string_agg(msg_offset::text, ',' ORDER BY msg_offset) FROM iotmq.consume('t', 'filtered')),
	'3,4,6', 'consume past a gap, filtered');
discarding(q(SELECT string_agg(msg_offset::text, ',' ORDER BY msg_offset) FROM iotmq.consume('t', 'orderly', 2)),
	'1,2', 'consume, orderly');

my $consume = q(SELECT DISTINCT lease_id AS lease FROM iotmq.consume('t', 'g', 2) \gset
);
discarding($consume . q(SELECT iotmq.nack(:lease, '{1}', '0 s'), iotmq.ack(:lease, '{2}')), '1|1', 'nack and ack');
discarding($consume . q(SELECT iotmq.extend(:lease, '1 hour') > now(), iotmq.reject(:lease)), 't|2', 'extend and reject');
discarding(q(SELECT count(*) FROM iotmq.dead_letter), '2', 'dead_letter');
discarding(q(SELECT iotmq.redrive('t', 'g', max_messages => 1), iotmq.purge_dead_letters('t', 'g')),
	'1|1', 'redrive and purge');
discarding(q(SELECT string_agg(msg_offset::text, ',') FROM iotmq.messages_of_device('t', 'd')), '6,2,1',
	'messages_of_device');
discarding(q(SELECT count(*) FROM iotmq.fetch('t', 'default', 1)), '5', 'fetch');
discarding(q(SELECT new_offset FROM iotmq.seek('t', 'filtered', '-infinity')), '1', 'seek');
discarding(q(SELECT consumer_group, dead_letters, lag_messages > 0 FROM iotmq.group_lag ORDER BY 1),
	"filtered|0|t\ng|0|t\norderly|0|t", 'group_lag');
discarding(q(SELECT count(*) > 0 FROM iotmq.metrics), 't', 'metrics');

$node->stop;
done_testing();
