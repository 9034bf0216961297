# Retention between its two steps, and segments that can't be made ahead.
#
# After a crash, and in a copy of the database, what was emptied is dropped; so is what
# somebody has dropped by hand.  A lock that keeps tables from being made keeps nobody from
# publishing and consuming in the present segment.
#
# Promise: retention-by-itself, publish-without-maintenance, dump-restore

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t', retention => '1 day', segment_interval => '1 hour');
SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
DO $$
BEGIN
	FOR n IN 1..3 LOOP
		PERFORM iotmq.segment_make_until(zone_id, now() - n * interval '1 hour' - interval '3 days', now() - n * interval '1 hour' - interval '3 days' + interval '1 us') FROM iotmq_internal.zone;
		EXECUTE format('INSERT INTO %s (device_id, payload, published_at) VALUES (''d'', ''1'', $1), (''d'', ''2'', $1)',
			iotmq.zone_table('t', 'default')) USING now() - n * interval '1 hour' - interval '3 days';
	END LOOP;
	PERFORM iotmq.publish('t', 'd', '3');
END $$;
SQL

sub maintain
{
	my ($at, $database) = @_;
	$node->safe_psql($database // 'postgres', "SET client_min_messages = warning; CALL iotmq.run_maintenance($at)");
	return $node->safe_psql($database // 'postgres', 'SELECT skipped FROM iotmq.maintenance_run ORDER BY run_id DESC LIMIT 1');
}
my $log = q{SELECT count(*), (SELECT count(*) FROM iotmq_internal.segment WHERE to_time < now() - interval '1 day'),
	(SELECT expired_unread FROM iotmq.consumer_lag), iotmq.count_lag('t', 'g') FROM iotmq_topic.t};

# sealed; nothing is due that long ago
maintain(q{now() - interval '4 days'});
# one is dropped by hand, unnoticed until a dump is taken
$node->safe_psql('postgres', q{DO $$ BEGIN EXECUTE format('DROP TABLE %s', (SELECT table_name FROM iotmq_internal.segment ORDER BY from_time LIMIT 1)); END $$});
my $user = $node->background_psql('postgres', on_error_stop => 1);
$user->query_safe(q{BEGIN; DO $$ BEGIN EXECUTE format('LOCK TABLE ONLY %s IN ACCESS SHARE MODE', iotmq.zone_table('t', 'default')); END $$});
$node->run_log([ 'pg_dump', '-Fc', '-f', $node->basedir . '/before.dump', $node->connstr('postgres') ]);
like(maintain('now()'), qr/empty, in use by pid/, 'the zone is in use');
is($node->safe_psql('postgres', $log), '1|2|6|1', 'the messages are gone, the tables are not');
$node->run_log([ 'pg_dump', '-Fc', '-f', $node->basedir . '/between.dump', $node->connstr('postgres') ]);

$node->stop('immediate');
$node->start;
is(maintain('now()'), '{}', 'after a crash nothing is left out');
is($node->safe_psql('postgres', $log), '1|0|6|1', 'after a crash the tables are dropped');

foreach my $dump ('before', 'between')
{
	$node->safe_psql('postgres', "CREATE DATABASE $dump");
	$node->command_ok([ 'pg_restore', '-d', $node->connstr($dump), $node->basedir . "/$dump.dump" ], "restored what was $dump");
	is(maintain('now()', $dump), '{}', "$dump: nothing is left out");
	is($node->safe_psql($dump, $log), '1|0|6|1', "$dump: all is dropped and counted");
	is($node->safe_psql($dump, q{SELECT msg_offset, payload FROM iotmq.consume('t', 'g')}), '7|3', "$dump: the rest is there");
}

# Nobody may make a table.
$node->safe_psql('postgres', q{DO $$ DECLARE s regclass; BEGIN
	FOR s IN DELETE FROM iotmq_internal.segment WHERE from_time > now() RETURNING table_name LOOP EXECUTE format('DROP TABLE %s', s); END LOOP; END $$});
$user = $node->background_psql('postgres', on_error_stop => 1);
$user->query_safe('BEGIN; LOCK TABLE pg_catalog.pg_class IN SHARE MODE');
is($node->safe_psql('postgres', q{SELECT iotmq.publish('t', 'd', '8') > 7}), 't', 'published');
is($node->safe_psql('postgres', q{SELECT count(*) FROM iotmq.consume('t', 'g')}), '2', 'consumed');
is($node->safe_psql('postgres', q{SELECT iotmq.commit_offset('t', 'g', 'default', 1 + max(msg_offset)) FROM iotmq_topic.t}), '', 'committed an offset');
like(maintain('now()'), qr/^\{"segments of t\/default from [^"]*: a lock was not to be had"\}$/, 'maintenance says so');
$user->query_safe('ROLLBACK');
$user->quit;
is(maintain('now()'), '{}', 'and makes them when it can');
is($node->safe_psql('postgres', 'SELECT count(*) > 1 FROM iotmq_internal.segment WHERE from_time > now()'), 't', 'segments are there');

$node->stop;
done_testing();
