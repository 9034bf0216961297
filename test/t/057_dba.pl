# What an administrator may do to it: each row of that table in docs/operation.md.
#
# Each row's statement runs in a database of its own, from another session than the one
# that has worked there before.  Then everything is called, in that session with what it
# has cached, and in a new one; as a superuser, as a publisher, and in another topic, which
# nothing was done to.  Each result is compared with that of a database to which nothing
# was done.  What deviates is written down in test/dba/rows.pl, and the SQLSTATEs in it are
# those that the row names.  Never is a connection lost, nor is there an internal error in
# the log, and an error of ours that somebody has to mend something for has a hint.
#
# Promise: every-door-alike

use strict;
use warnings;

use FindBin;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Storable ();
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
# One segment for the whole test, and no retry that becomes due in it.
$node->safe_psql('fixture', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('telemetry', segment_interval => '365 days');
SELECT iotmq.create_group('telemetry', 'g', start_from => '-infinity', backoff => '{1 day}');
SELECT iotmq.grant_publish('telemetry', 'gateway');
SELECT iotmq.publish_batch('telemetry', array_fill('d'::text, '{40}'), array_fill('{}'::jsonb, '{40}'));
SELECT iotmq.reject(lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('telemetry', 'g', 1)) AS c;
SELECT iotmq.nack(lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('telemetry', 'g', 1)) AS c;
SELECT iotmq.create_topic('meters', segment_interval => '365 days');
SELECT iotmq.create_group('meters', 'g', start_from => '-infinity');
SELECT iotmq.publish('meters', 'd', '{}');
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
);
$name_of{OFFSETS} = "$name_of{ZONE}_offset";
$name_of{PKEY} = $node->safe_psql('fixture',
	"SELECT relname FROM pg_class JOIN pg_index ON pg_class.oid = indexrelid WHERE indrelid = '$name_of{SEGMENT}'::regclass ORDER BY indexrelid LIMIT 1");
my @views = split /\n/, $node->safe_psql('fixture',
	q(SELECT viewname FROM pg_views WHERE schemaname = 'iotmq' ORDER BY 1));

# DBA_ROWS, a regular expression, takes some of the rows.
my $rows = $ENV{DBA_ROWS} // '.';
my %row = rows(slurp_file("$FindBin::RealBin/../../docs/operation.md"));
cmp_ok(scalar keys %row, '>', 50, 'the table is there');
is_deeply([ grep { !exists $deviations{$_} } sort keys %row ], [], 'each row has a test');
is_deeply([ grep { !exists $row{$_} } sort keys %deviations ], [], 'each test has a row');

my @statements = grep { /$rows/ } sort keys %row;
my %outcome = outcomes('SELECT', @statements);
my %baseline = %{ $outcome{SELECT} };
is(deviations(\%baseline), '', 'what nothing was done to works');

foreach my $statement (@statements)
{
	my $deviations = deviations($outcome{$statement});

	is(without_chance($deviations), without_chance($deviations{$statement} // ''), $statement);
	is_deeply([ states($row{$statement}) ], [ states($deviations) ], "$statement: the SQLSTATEs of its row");
}

my $log = slurp_file($node->logfile);
unlike($log, qr/ERROR:  XX...:|PANIC:|terminated by signal/, 'no internal error, no crash');
is_deeply([ without_hint($log) ], [], 'errors have a hint');
$node->stop;
done_testing();

# What there is for a group at a moment depends on whether a retry or a new message had its turn.
sub without_chance
{
	my ($deviations) = @_;
	my ($states, $others) = split /(?:^|; )other: /, $deviations;
	my @others = grep { !/^(?:last_consume|lag_messages|redrive)$/ } split / /, $others // '';

	return join '; ', grep { $_ ne '' } $states // '', @others ? "other: @others" : '';
}

# What came of each of these statements, each in a database of its own: statement =>
# outcome.  Two are at work at a time.
sub outcomes
{
	my @statements = @_;
	my @pids;
	my %outcome;

	foreach my $worker (0, 1)
	{
		my $pid = fork // die "fork: $!";

		if ($pid == 0)
		{
			my @mine = @statements[grep { $_ % 2 == $worker } 0 .. $#statements];

			$name_of{THIS} = "done_$worker";
			Storable::store({ map { $_ => { outcome($_) } } @mine }, outcome_file($worker));
			POSIX::_exit(0);
		}
		push @pids, $pid;
	}
	foreach my $worker (0, 1)
	{
		waitpid $pids[$worker], 0;
		is($?, 0, "worker $worker has ended");
		%outcome = (%outcome, %{ Storable::retrieve(outcome_file($worker)) });
	}
	return %outcome;
}

sub outcome_file
{
	return $node->basedir . "/outcome_$_[0]";
}

# Errors in the log that somebody has to mend something for, raised by a function of ours,
# and tell nobody how.
sub without_hint
{
	my %found;

	foreach my $entry (split /^(?=.* (?:ERROR|LOG|WARNING|NOTICE):  )/m, $_[0])
	{
		my ($error) = $entry =~ /ERROR:  (.*)/ or next;
		my ($statement) = $entry =~ /STATEMENT:  (.*)/;

		next if $error !~ /^(?:55000|55006|42704|42P17|3F000):/ || $entry =~ /HINT:/;
		next if $error =~ /at character \d|schema "iotmq_zone_/;	# the statement's own names
		$found{"$error in $statement"} = 1;
	}
	return sort keys %found;
}

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
	my $file = $node->basedir . "/$name_of{THIS}.sql";
	my $connstr = $node->connstr($name_of{THIS});

	play('postgres', "DROP DATABASE IF EXISTS $name_of{THIS} WITH (FORCE);\nCREATE DATABASE $name_of{THIS} TEMPLATE fixture;\n");
	open my $handle, '>', $file or die "$file: $!";
	print $handle "$sql;\n\\echo \@statement :SQLSTATE\n";
	close $handle or die "$file: $!";

	my $output = play($name_of{THIS}, calls('before') . "\\! psql -XAtq -d '$connstr' -f $file\n" . calls('after'));
	$output .= play($name_of{THIS}, calls('new') . <<'SQL');
SELECT iotmq.drop_topic('telemetry', true);
\echo @new_drop_topic :SQLSTATE
SELECT iotmq.drop_topic('meters', true);
\echo @new_other_drop_topic :SQLSTATE
SELECT count(*) AS value FROM pg_class WHERE relkind IN ('r', 'p') AND relname ~ '^(telemetry|_zone_)' \gset
\echo @new_left_behind :SQLSTATE :value
\echo @done 00000
SQL
	return $output =~ /^@(.*?) (.*)$/mg;
}

sub play
{
	my ($database, $script) = @_;
	my ($stdout, $stderr) = ('', '');

	IPC::Run::run [ 'psql', '-XAtq', '-d', $node->connstr($database) ], '<', \$script, '>', \$stdout, '2>', \$stderr;
	print STDERR $stderr if $ENV{DBA_NOTES};
	return $stdout;
}

# Everything, each call followed by a line with its result.
sub calls
{
	my ($when) = @_;
	my $consume = q(SELECT count(*) AS value, coalesce(max(lease_id), 0) AS next_lease FROM iotmq.consume);
	my $publish = q(SELECT sign(iotmq.publish('telemetry', 'd', '{}')) AS value);
	my $copy = qq(COPY $name_of{ZONE} (device_id, payload) FROM PROGRAM 'printf "d\\\\t3\\\\n"');
	my $settle = 'AS value FROM (SELECT :lease::bigint AS l) AS c WHERE l > 0';
	my @calls = (
		publish => $publish,
		gateway_publish => $publish,
		publish_batch => q(SELECT count(o) AS value FROM unnest(iotmq.publish_batch('telemetry', '{d,d}', '{1,2}')) AS o),
		copy => $copy,
		insert => qq(INSERT INTO $name_of{ZONE} (device_id, payload) VALUES ('d', '4')),
		consume => "$consume('telemetry', 'g', 2)",
		ack => "SELECT iotmq.ack(l) $settle",
		consume_again => "$consume('telemetry', 'g', 2)",
		nack => "SELECT iotmq.nack(l) $settle",
		consume_third => "$consume('telemetry', 'g', 1)",
		reject => "SELECT iotmq.reject(l) $settle",
		fetch => q(SELECT count(*) AS value FROM iotmq.fetch('telemetry', 'default', 0, 1000)),
		messages_of_device => q(SELECT count(*) AS value FROM iotmq.messages_of_device('telemetry', 'd', max_messages => 1000)),
		preview_group => q(SELECT sum(n) AS value FROM (SELECT (to_jsonb(p) ->> 'messages')::int AS n FROM iotmq.preview_group('telemetry', 'g') AS p) AS p),
		count_lag => q(SELECT iotmq.count_lag('telemetry', 'g') AS value),
		seek => q(SELECT sum(messages) AS value FROM iotmq.seek('telemetry', 'g', '-infinity')),
		redrive => q(SELECT iotmq.redrive('telemetry', 'g') AS value),
		(map { ("views_$_" => "SELECT count(*) >= 0 AS value FROM iotmq.$_") } @views),
		gateway_topic_settings => q(SELECT array_agg(topic) AS value FROM iotmq.topic_settings),
		lag_messages => q(SELECT sum(lag_messages) AS value FROM iotmq.consumer_lag WHERE topic = 'telemetry'),
		other_lag => q(SELECT count(lag_time) AS value FROM iotmq.consumer_lag WHERE topic = 'meters'),
		other_stats => q(SELECT count(newest_published_at) AS value FROM iotmq.topic_stats WHERE topic = 'meters'),
		other_publish => q(SELECT sign(iotmq.publish('meters', 'd', '{}')) AS value),
		other_consume => "$consume('meters', 'g', 1)",
		other_ack => "SELECT iotmq.ack(l) $settle",
		run_maintenance => q(CALL iotmq.run_maintenance()),
		skipped => q(SELECT coalesce(sum(cardinality(skipped)), 0) AS value FROM (SELECT skipped FROM iotmq.maintenance_run ORDER BY run_id DESC LIMIT 1) AS r),
		alerts => q(SELECT count(*) AS value FROM iotmq.alerts WHERE alert = 'maintenance'),
		later_publish => $publish,
		later_copy => $copy,
		later_run_maintenance => q(CALL iotmq.run_maintenance(now() + interval '5 days')),
		last_publish => $publish,
		last_fetch => q(SELECT count(*) AS value FROM iotmq.fetch('telemetry', 'default', 0, 1000)),
		last_consume => q(SELECT count(*) AS value FROM iotmq.consume('telemetry', 'g', 10)),
		other_last_fetch => q(SELECT count(*) AS value FROM iotmq.fetch('meters', 'default', 0, 1000)));
	my $script = "\\set next_lease 0\n";

	while (my ($call, $sql) = splice @calls, 0, 2)
	{
		# what drops the log's present segment is for the end
		next if $call =~ /(^|_)la(ter|st)_/ && $when ne 'new';

		my $gset = $sql =~ / AS value/ ? ' \gset' : ';';
		my ($become, $return) = $call =~ /^gateway_/ ? ("SET ROLE gateway;\n", "RESET ROLE;\n") : ('', '');
		$script .= "\\set value -\n\\set lease :next_lease\n\\set next_lease 0\n$become$sql$gset\n\\echo \@${when}_$call :SQLSTATE :value\n$return";
	}
	return $script;
}

# What is otherwise than where nothing was done, in one of the two sessions or both:
# "SQLSTATE: calls; ..." of errors, "other: calls" where a result is another one.  What a
# group gets, once something is redriven, is drawn between that and new messages: so of that
# counts only whether there is any.
sub deviations
{
	my ($outcome) = @_;
	my %calls;

	foreach my $key ('statement', 'done', grep { !/^before_/ } sort keys %baseline)
	{
		my ($state, $value) = split / /, $outcome->{$key} // 'lost';
		my (undef, $expected) = split / /, $baseline{$key} // '';
		my $call = $key =~ s/^(?:after|new)_//r;

		if ($call =~ /^(last_)?(consume|ack|nack|reject|seek|redrive|count_lag|lag_messages)/)
		{
			$_ = ($_ // '') =~ /[1-9]/ ? 1 : 0 foreach $value, $expected;
		}
		$call = 'views' if $call =~ /^views_/;
		$call =~ s/_again$|_third$|_batch$//;
		if ($state ne '00000') { $calls{$state}{$call} = 1 }
		elsif (($value // '') ne ($expected // '')) { $calls{other}{$call} = 1 }
	}
	return join '; ', map { "$_: " . join(' ', sort keys %{ $calls{$_} }) } sort keys %calls;
}
