# What an administrator may do to it: each row of that table in docs/operation.md.
#
# Each row's statement runs in a database of its own, from another session than the one
# that has worked there before.  Then everything is called, in that session with what it
# has cached, and in a new one.  What deviates from a database to which nothing was done
# is written down below, and the SQLSTATEs in it are those that the row names.  Never is
# a connection lost, nor is there an internal error in the log.
#
# Promise: every-door-alike

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Statement of the row => what deviates, as deviations() puts it.
my %deviations = do "$FindBin::RealBin/../dba/rows.pl";

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
wal_level = logical
fsync = off
allow_in_place_tablespaces = on
log_error_verbosity = verbose
CONF
$node->start;

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE gateway;
CREATE ROLE other;
CREATE TABLESPACE disk LOCATION '';
CREATE DATABASE fixture;
SQL
$node->safe_psql('fixture', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('telemetry');
SELECT iotmq.create_group('telemetry', 'g', start_from => '-infinity');
SELECT iotmq.grant_publish('telemetry', 'gateway');
SELECT iotmq.publish_batch('telemetry', array_fill('d'::text, '{40}'), array_fill('{}'::jsonb, '{40}'));
SELECT iotmq.reject(lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('telemetry', 'g', 1)) AS c;
SELECT iotmq.nack(lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('telemetry', 'g', 1)) AS c;
CREATE TABLE device (device_id text COLLATE "C" PRIMARY KEY);
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;
CREATE FUNCTION frozen() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'frozen'; END$$;
SQL
my %name_of = (
	TOPIC => 'iotmq_topic.telemetry',
	ZONE => $node->safe_psql('fixture', q(SELECT iotmq.zone_table('telemetry', 'default'))),
	SEGMENT => $node->safe_psql('fixture',
		q(SELECT DISTINCT tableoid::regclass FROM iotmq_topic.telemetry)),
	THIS => 'done',
);
$name_of{OFFSETS} = "$name_of{ZONE}_offset";
$name_of{PKEY} = $node->safe_psql('fixture',
	"SELECT relname FROM pg_class JOIN pg_index ON pg_class.oid = indexrelid WHERE indrelid = '$name_of{SEGMENT}'::regclass ORDER BY indexrelid LIMIT 1");
my @views = split /\n/, $node->safe_psql('fixture',
	q(SELECT viewname FROM pg_views WHERE schemaname = 'iotmq' ORDER BY 1));

my %baseline = outcome('SELECT');
is(deviations(\%baseline), '', 'what nothing was done to works');

my %row = rows(slurp_file("$FindBin::RealBin/../../docs/operation.md"));
cmp_ok(scalar keys %row, '>', 50, 'the table is there');
is_deeply([ grep { !exists $deviations{$_} } sort keys %row ], [], 'each row has a test');
is_deeply([ grep { !exists $row{$_} } sort keys %deviations ], [], 'each test has a row');

foreach my $statement (sort keys %row)
{
	my %outcome = outcome($statement);
	my $deviations = deviations(\%outcome);

	is($deviations, $deviations{$statement} // '', $statement);
	is_deeply([ states($row{$statement}) ], [ states($deviations) ], "$statement: the SQLSTATEs of its row");
}

unlike(slurp_file($node->logfile), qr/ERROR:  XX...:|PANIC:|terminated by signal/, 'no internal error, no crash');
$node->stop;
done_testing();

# The rows of the table: statement => what is said of it.
sub rows
{
	my ($text) = @_;
	my ($section) = $text =~ /^## What an administrator may do to it\n(.*?)^## /ms;

	return map { /^\| [^|]* \| `([^`]+)` \| (.*) \|$/ ? ($1 => $2) : () } split /\n/, $section // '';
}

# The SQLSTATEs in a text, each once.
sub states
{
	my %seen = map { $_ => 1 } $_[0] =~ /\b(?=[0-9A-Z]*[0-9])([0-9][0-9A-Z]{4}|P0001)\b/g;

	return sort keys %seen;
}

# What came of each call, before the statement, after it in the same session, and in a
# new one: "when call" => "SQLSTATE value".
sub outcome
{
	my ($statement) = @_;
	my $sql = $statement =~ s/\b([A-Z]+)\b/$name_of{$1} \/\/ $1/ger;
	my $dir = PostgreSQL::Test::Utils::tempdir;
	my $connstr = $node->connstr('done');

	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS done WITH (FORCE)');
	$node->safe_psql('postgres', 'CREATE DATABASE done TEMPLATE fixture');
	append_to_file("$dir/statement.sql", "$sql;\n\\echo \@statement :SQLSTATE\n");

	my $output = play(calls('before') . "\\! psql -XAtq -d '$connstr' -f $dir/statement.sql\n" . calls('after'));
	$output .= play(calls('new') . <<'SQL');
SELECT iotmq.drop_topic('telemetry', true);
\echo @new_drop_topic :SQLSTATE
\echo @done 00000
SQL
	return $output =~ /^@(.*?) (.*)$/mg;
}

sub play
{
	my ($script) = @_;
	my ($stdout, $stderr) = ('', '');

	IPC::Run::run [ 'psql', '-XAtq', '-d', $node->connstr('done') ], '<', \$script, '>', \$stdout, '2>', \$stderr;
	note($stderr) if $ENV{DBA_NOTES};
	return $stdout;
}

# Everything, each call followed by a line with its result.
sub calls
{
	my ($when) = @_;
	my @calls = (
		publish => q(SELECT coalesce(sign(iotmq.publish('telemetry', 'd', '{}')), 0) AS value),
		publish_batch => q(SELECT count(o) AS value FROM unnest(iotmq.publish_batch('telemetry', '{d,d}', '{1,2}')) AS o),
		copy => qq(COPY $name_of{ZONE} (device_id, payload) FROM PROGRAM 'printf "d\\\\t3\\\\n"'),
		insert => qq(INSERT INTO $name_of{ZONE} (device_id, payload) VALUES ('d', '4')),
		consume => q(SELECT count(*) AS value, coalesce(max(lease_id), 0) AS next_lease FROM iotmq.consume('telemetry', 'g', 2)),
		ack => q(SELECT iotmq.ack(l) AS value FROM (SELECT :lease::bigint AS l) AS c WHERE l > 0),
		consume_again => q(SELECT count(*) AS value, coalesce(max(lease_id), 0) AS next_lease FROM iotmq.consume('telemetry', 'g', 2)),
		nack => q(SELECT iotmq.nack(l) AS value FROM (SELECT :lease::bigint AS l) AS c WHERE l > 0),
		consume_third => q(SELECT count(*) AS value, coalesce(max(lease_id), 0) AS next_lease FROM iotmq.consume('telemetry', 'g', 1)),
		reject => q(SELECT iotmq.reject(l) AS value FROM (SELECT :lease::bigint AS l) AS c WHERE l > 0),
		fetch => q(SELECT sign(count(*)) AS value FROM iotmq.fetch('telemetry', 'default', 0, 1000)),
		messages_of_device => q(SELECT sign(count(*)) AS value FROM iotmq.messages_of_device('telemetry', 'd')),
		preview_group => q(SELECT sign(count(*)) AS value FROM iotmq.preview_group('telemetry', 'g')),
		count_lag => q(SELECT sign(iotmq.count_lag('telemetry', 'g')) AS value),
		seek => q(SELECT count(*) AS value FROM iotmq.seek('telemetry', 'g', '-infinity')),
		redrive => q(SELECT sign(iotmq.redrive('telemetry', 'g')) AS value),
		(map { ("views_$_" => "SELECT sign(count(*)) >= 0 AS value FROM iotmq.$_") } @views),
		run_maintenance => q(CALL iotmq.run_maintenance()),
		later_publish => q(SELECT coalesce(sign(iotmq.publish('telemetry', 'd', '{}')), 0) AS value),
		later_copy => qq(COPY $name_of{ZONE} (device_id, payload) FROM PROGRAM 'printf "d\\\\t3\\\\n"'),
		later_run_maintenance => q(CALL iotmq.run_maintenance(now() + interval '5 days')),
		last_publish => q(SELECT coalesce(sign(iotmq.publish('telemetry', 'd', '{}')), 0) AS value),
		last_fetch => q(SELECT sign(count(*)) AS value FROM iotmq.fetch('telemetry', 'default', 0, 1000)),
		last_consume => q(SELECT sign(count(*)) AS value FROM iotmq.consume('telemetry', 'g', 10)));
	my $script = "\\set next_lease 0\n";

	while (my ($call, $sql) = splice @calls, 0, 2)
	{
		# what drops the log's present segment is for the end
		next if $call =~ /^l(ater|ast)_/ && $when ne 'new';

		my $gset = $sql =~ / AS value/ ? ' \gset' : ';';
		$script .= "\\set value -\n\\set lease :next_lease\n\\set next_lease 0\n$sql$gset\n\\echo \@${when}_$call :SQLSTATE :value\n";
	}
	return $script;
}

# What is otherwise than where nothing was done, in one of the two sessions or both:
# "SQLSTATE: calls; ..." of errors, "nothing: calls" of what returns no message; what a
# group is given next depends on the time that retries are due, and doesn't count.
sub deviations
{
	my ($outcome) = @_;
	my %calls;

	foreach my $key ('statement', 'done', grep { !/^before_/ } sort keys %baseline)
	{
		my ($state, $value) = split / /, $outcome->{$key} // 'lost';
		my $call = $key =~ s/^(?:after|new)_//r;

		$call = 'views' if $call =~ /^views_/;
		$call =~ s/_again$|_third$|_batch$//;
		if ($state ne '00000') { $calls{$state}{$call} = 1 }
		elsif ($call =~ /publish|fetch|messages/ && ($value // '') eq '0' && $baseline{$key} ne "00000 0") { $calls{nothing}{$call} = 1 }
	}
	return join '; ', map { "$_: " . join(' ', sort keys %{ $calls{$_} }) } sort keys %calls;
}
