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
my $odd = q{it's 100 % "odd"};
$node->safe_psql('postgres', q{CREATE DATABASE "it's 100 % ""odd"""});
foreach my $db ('home', 'away', 'bare', $odd)
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

is(payloads($_), qq{"old"\n"new"}, "$_: before") foreach ('home', 'away', 'bare', $odd);
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

# Names that want quoting

($code, $hint) = failure($odd, 'SELECT iotmq.schedule_maintenance()');
$node->safe_psql('home', $hint);
is( jobs(), <<'JOBS' =~ s/\n\z//r, 'a database with an odd name');
iotmq maintenance of home|* * * * *|CALL iotmq.run_maintenance()|home|t
iotmq maintenance of away|* * * * *|CALL iotmq.run_maintenance()|away|t
iotmq maintenance of it's 100 % "odd"|* * * * *|CALL iotmq.run_maintenance()|it's 100 % "odd"|t
JOBS

# They run.

foreach my $db ('home', 'away', $odd)
{
	ok($node->poll_query_until($db, 'SELECT count(*) > 0 FROM iotmq.maintenance_run'), "$db: a run");
	is(payloads($db), '"new"', "$db: a segment dropped");
	is($node->safe_psql($db, 'SELECT segments_dropped, skipped FROM iotmq.maintenance_run ORDER BY run_id LIMIT 1'),
		'1|{}', "$db: noted");
}
ok( $node->poll_query_until('home', <<'SQL'), 'and pg_cron says so');
SELECT count(*) = 3 AND bool_and(status = 'succeeded')
FROM (SELECT DISTINCT ON (database) database, status FROM cron.job_run_details ORDER BY database, runid) AS first_run
SQL
is($node->safe_psql('home', q{SELECT DISTINCT status, return_message FROM cron.job_run_details WHERE status NOT IN ('succeeded', 'running', 'starting')}),
	'', 'without an error');
is(payloads('bare'), qq{"old"\n"new"}, 'nothing happens where no job is');

# Unscheduled, once.

($code, $hint) = failure($odd, 'SELECT iotmq.unschedule_maintenance()');
$node->safe_psql('home', $hint);
is($node->safe_psql('home', 'SELECT iotmq.unschedule_maintenance()'), 't', 'removed');
is($node->safe_psql('home', 'SELECT iotmq.unschedule_maintenance()'), 'f', 'no more there');
is(jobs(), 'iotmq maintenance of away|* * * * *|CALL iotmq.run_maintenance()|away|t', 'the other one stays');
($code, $hint) = failure('away', 'SELECT iotmq.unschedule_maintenance()');
is($code, '55000', 'from the other database: not here');
$node->safe_psql('home', $hint);
is(jobs(), '', 'but by its hint');

# Names that are too long for a job's

my $long = 'd' x 60;
foreach my $db ("${long}_1", "${long}_2")
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION iotmq');
	($code, $hint) = failure($db, q{SELECT iotmq.schedule_maintenance('5 4 * * *')});
	$node->safe_psql('home', $hint);
}
is($node->safe_psql('home', q{SELECT count(DISTINCT database) FROM cron.job WHERE database ~ 'ddd'}), 2, 'long names have a job each');
foreach my $db ("${long}_1", "${long}_2")
{
	($code, $hint) = failure($db, 'SELECT iotmq.unschedule_maintenance()');
	$node->safe_psql('home', $hint);
}
is(jobs(), '', 'and are without them again');

# Several administrators have one job, and each of them can change and remove it.

$node->safe_psql('home', <<'SQL');
CREATE ROLE first_admin LOGIN;
CREATE ROLE second_admin LOGIN SUPERUSER;
SELECT iotmq.grant_admin('first_admin');
SQL
my $as_first = 'SET ROLE first_admin; SELECT iotmq.';
my $as_second = 'SET ROLE second_admin; SELECT iotmq.';
$first = $node->safe_psql('home', q{SELECT iotmq.schedule_maintenance('1 1 * * *')});
is($node->safe_psql('home', $as_first . q{schedule_maintenance('2 2 * * *')}), $first, 'an administrator changes the job of another');
is($node->safe_psql('home', $as_second . q{schedule_maintenance('3 3 * * *')}), $first, 'so does a superuser');
is(jobs(), 'iotmq maintenance of home|3 3 * * *|CALL iotmq.run_maintenance()|home|t', 'there is one');
is($node->safe_psql('home', $as_first . 'unschedule_maintenance()'), 't', 'and each removes it');
is(jobs(), '', 'for all');

# What was made by hand, by somebody else, goes with the next call.

$node->safe_psql('home', q{SET ROLE second_admin; SELECT cron.schedule('iotmq maintenance of home', '* * * * *', 'CALL iotmq.run_maintenance()')});
$node->safe_psql('home', q{SELECT cron.schedule('mine', '4 4 * * *', 'SELECT 1')});
$node->safe_psql('home', q{SELECT iotmq.schedule_maintenance('5 5 * * *')});
is( jobs(), <<'JOBS' =~ s/\n\z//r, 'one job, and those of others stay');
mine|4 4 * * *|SELECT 1|home|t
iotmq maintenance of home|5 5 * * *|CALL iotmq.run_maintenance()|home|t
JOBS

# Databases that are renamed

($code, $hint) = failure('away', q{SELECT iotmq.schedule_maintenance('6 6 * * *')});
$node->safe_psql('home', $hint);
$node->safe_psql('postgres', 'ALTER DATABASE away RENAME TO far');
($code, $hint) = failure('far', q{SELECT iotmq.unschedule_maintenance()});
$node->safe_psql('home', $hint);
unlike(jobs(), qr/away/, 'the job of a former name is removed');
$node->append_conf('postgresql.conf', "cron.database_name = 'house'");
$node->restart;
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'home'}), 'nobody is there');
$node->safe_psql('postgres', 'ALTER DATABASE home RENAME TO house');
isnt($node->safe_psql('house', q{SELECT iotmq.schedule_maintenance('7 7 * * *')}), '', 'scheduled under its new name');
is($node->safe_psql('house', q{SELECT jobname, schedule, database FROM cron.job WHERE jobname ~ 'iotmq'}),
	'iotmq maintenance of house|7 7 * * *|house', 'that is its only job');
is($node->safe_psql('house', 'SELECT iotmq.unschedule_maintenance()'), 't', 'and is removed');
is($node->safe_psql('house', 'SELECT count(*) FROM cron.job'), 1, 'all but the job of somebody else');

$node->stop;
done_testing();
