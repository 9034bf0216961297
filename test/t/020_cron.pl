# pg_cron, the real one, runs maintenance.
#
# pg_cron lives in one database of a server.  There, schedule_maintenance makes the
# job; in another database its error's hint is the statement that does the same when
# it is run in pg_cron's.  The schedule's unit is the minute, so this takes one.
#
# Promise: retention-by-itself

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;

my $installed = -e $node->config_data('--sharedir') . '/extension/pg_cron.control';
plan skip_all => 'pg_cron is not installed' unless $installed;

# Background workers need no password, nor a line in pg_hba.conf.
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'pg_cron'
cron.database_name = 'home'
cron.use_background_workers = on
max_worker_processes = 20
CONF
$node->start;
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach ('home', 'away', 'bare');

# a message that is old and one that is not, in each database
foreach my $db ('home', 'away', 'bare')
{
	$node->safe_psql($db, 'CREATE EXTENSION pg_cron') if $db eq 'home';
	$node->safe_psql($db, <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t', retention => '1 hour', segment_interval => '10 min');
SELECT iotmq.segment_make_until(zone_id, now() - interval '2 hours', now() - interval '2 hours' + interval '1 us') FROM iotmq_internal.zone;
INSERT INTO iotmq_zone_1._zone_1 (device_id, payload, published_at) VALUES ('d', '"old"', now() - interval '2 hours');
SELECT iotmq.publish('t', 'd', '"new"');
SQL
}

# Jobs, as pg_cron has them; and what is left of a database's log.
sub jobs
{
	return $node->safe_psql('home', 'SELECT jobname, schedule, command, database, active FROM cron.job ORDER BY jobid');
}

sub payloads
{
	my ($db) = @_;
	return $node->safe_psql($db, 'SELECT payload FROM iotmq_topic.t ORDER BY msg_offset');
}

# The code and the hint of the error that a statement ends with.
sub failure
{
	my ($db, $query) = @_;
	my ($rc, $stdout, $stderr) = $node->psql($db, "\\set VERBOSITY verbose\n$query");
	my ($code) = $stderr =~ /ERROR:  (\w+):/;
	my ($hint) = $stderr =~ /HINT:  (.*)/;
	return ($code // 'none', $hint // $stderr);
}

# Without a job

is($node->safe_psql('home', 'SELECT iotmq.unschedule_maintenance()'), 'f', 'no job to remove');

# Scheduled twice, there is one job: the one that was asked for last.

my $first = $node->safe_psql('home', q{SELECT iotmq.schedule_maintenance('*/7 * * * *')});
is(jobs(), 'iotmq maintenance of home|*/7 * * * *|CALL iotmq.run_maintenance()|home|t', 'a job');
my $second = $node->safe_psql('home', 'SELECT iotmq.schedule_maintenance()');
is($second, $first, 'the same job');
is(jobs(), 'iotmq maintenance of home|* * * * *|CALL iotmq.run_maintenance()|home|t', 'with another schedule');
my ($code) = failure('home', q{SELECT iotmq.schedule_maintenance('now and then')});
isnt($code, 'none', 'not a schedule');
($code) = failure('home', 'SELECT iotmq.schedule_maintenance(NULL)');
is($code, '22004', 'no schedule');
is(jobs(), 'iotmq maintenance of home|* * * * *|CALL iotmq.run_maintenance()|home|t', 'as it was');

# From another database: the hint, run in pg_cron's database.

($code, my $hint) = failure('away', 'SELECT iotmq.schedule_maintenance()');
is($code, '55000', 'pg_cron is not in this database');
like($hint, qr/^SELECT cron\.schedule_in_database\(.*\);$/, 'the hint is a statement');
$node->safe_psql('home', $hint);
$node->safe_psql('home', $hint);
is( jobs(), <<'JOBS' =~ s/\n\z//r, 'a job for each database, once');
iotmq maintenance of home|* * * * *|CALL iotmq.run_maintenance()|home|t
iotmq maintenance of away|* * * * *|CALL iotmq.run_maintenance()|away|t
JOBS

# They run.

is(payloads($_), qq{"old"\n"new"}, "$_: before") foreach ('home', 'away', 'bare');
foreach my $db ('home', 'away')
{
	ok($node->poll_query_until($db, 'SELECT count(*) > 0 FROM iotmq.maintenance_run'), "$db: a run");
	is(payloads($db), '"new"', "$db: a segment dropped");
	is($node->safe_psql($db, 'SELECT segments_dropped, skipped FROM iotmq.maintenance_run ORDER BY run_id LIMIT 1'),
		'1|{}', "$db: noted");
}
ok( $node->poll_query_until('home', <<'SQL'), 'and pg_cron says so');
SELECT count(*) = 2 AND bool_and(status = 'succeeded')
FROM (SELECT DISTINCT ON (database) database, status FROM cron.job_run_details ORDER BY database, runid) AS first_run
SQL
is($node->safe_psql('home', q{SELECT DISTINCT status, return_message FROM cron.job_run_details WHERE status NOT IN ('succeeded', 'running', 'starting')}),
	'', 'without an error');
is(payloads('bare'), qq{"old"\n"new"}, 'nothing happens where no job is');

# Unscheduled, once.

is($node->safe_psql('home', 'SELECT iotmq.unschedule_maintenance()'), 't', 'removed');
is($node->safe_psql('home', 'SELECT iotmq.unschedule_maintenance()'), 'f', 'no more there');
is(jobs(), 'iotmq maintenance of away|* * * * *|CALL iotmq.run_maintenance()|away|t', 'the other one stays');
($code, $hint) = failure('away', 'SELECT iotmq.unschedule_maintenance()');
is($code, '55000', 'from the other database: not here');
$node->safe_psql('home', $hint);
is(jobs(), '', 'but by its hint');

# Names that want quoting

$node->safe_psql('postgres', q{CREATE DATABASE "it's 100 % ""odd"""});
$node->safe_psql(q{it's 100 % "odd"}, 'CREATE EXTENSION iotmq');
($code, $hint) = failure(q{it's 100 % "odd"}, q{SELECT iotmq.schedule_maintenance('5 4 * * *')});
$node->safe_psql('home', $hint);
is(jobs(), q{iotmq maintenance of it's 100 % "odd"|5 4 * * *|CALL iotmq.run_maintenance()|it's 100 % "odd"|t}, 'a database with an odd name');
($code, $hint) = failure(q{it's 100 % "odd"}, 'SELECT iotmq.unschedule_maintenance()');
$node->safe_psql('home', $hint);
is(jobs(), '', 'and without its job again');

$node->stop;
done_testing();
