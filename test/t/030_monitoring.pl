# The folder monitoring, with the programs that it is made for: what Debian's
# prometheus-postgres-exporter exports is what the views say, for a role that may
# do nothing but monitor; the alert rules pass promtool's tests; Prometheus itself loads
# them, scrapes the exporter, and has series for every panel of the dashboard.
#
# Promise: figures-agree

use strict;
use warnings;

use FindBin;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $folder = "$FindBin::RealBin/../../monitoring";
my ($exporter, $promtool, $prometheus) =
  map { find_program($_) } qw(prometheus-postgres-exporter promtool prometheus);
plan skip_all => 'Debian\'s packages prometheus and prometheus-postgres-exporter are not installed'
  unless $exporter && $promtool && $prometheus;

command_ok([ $promtool, 'check', 'rules', "$folder/alerts.yml" ], 'the alert rules are valid');
command_ok([ $promtool, 'test', 'rules', "$folder/alerts_test.yml" ], 'they pass their tests');

# Figures of every kind: two zones, a lease, a retry, dead letters, an alert, a
# zone without messages, an open publisher, an open consumer.
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
CREATE ROLE monitor LOGIN;
SELECT iotmq.grant_monitor('monitor');
SELECT iotmq.create_topic('t', '{a,b}');
SELECT iotmq.create_topic('Topic-2.x', '{zone_1,empty}');
SELECT iotmq.create_group('t', 'g', max_lag => 3);
SELECT iotmq.create_group('t', 'idle');
SELECT iotmq.create_group('Topic-2.x', 'orderly', mode => 'orderly');
SELECT count(iotmq.publish('t', 'd', to_jsonb(i), CASE i % 3 WHEN 0 THEN 'a' ELSE 'b' END))
FROM generate_series(1, 30) i;
SELECT count(iotmq.publish('Topic-2.x', 'd' || i % 2, to_jsonb(i), 'zone_1'))
FROM generate_series(1, 6) i;
SELECT count(iotmq.reject(lease_id, ARRAY[msg_offset]))
FROM iotmq.consume('t', 'g', 5, zone => 'b')
WHERE msg_offset < 3;
SELECT count(iotmq.nack(lease_id, ARRAY[msg_offset], '1 hour'))
FROM iotmq.consume('Topic-2.x', 'orderly', 4)
WHERE msg_offset = 1;
SQL
my $publisher = $node->background_psql('postgres');
$publisher->query_safe(q(BEGIN; SELECT iotmq.publish('t', 'd', '0', 'a')));
my $consumer = $node->background_psql('postgres');
$consumer->query_safe(q(BEGIN; SELECT msg_offset FROM iotmq.consume('t', 'idle', 1, zone => 'a')));

my $failed = qr/^pg_exporter_last_scrape_error\{?.*\}? 1$/m;
my $port = PostgreSQL::Test::Cluster::get_free_port();
my ($log, $process) = ('');
my $prometheus_port = PostgreSQL::Test::Cluster::get_free_port();
my ($prometheus_log, $prometheus_process) = ('');
start_exporter();

my ($types, $helps) = compare_scrape();

# What it says about the figures is what the view says.
my %described = map { my ($name, @is) = split /\|/; ($name => \@is) } split /\n/,
  $node->safe_psql('postgres', 'SELECT DISTINCT name, kind, help FROM iotmq.metrics');
is_deeply(
	{ map { ($_ => [ $types->{$_}, $helps->{$_} ]) } grep { $_ ne 'iotmq_alert_active' } keys %$types },
	\%described, 'types and help');

# Everything that rules and dashboard ask for is exported.
my %asked = map { ($_ => 1) }
  map { slurp_file("$folder/$_") =~ /\biotmq_[a-z_]+/g } qw(alerts.yml alerts_test.yml dashboard.json);
is(join(' ', sort grep { !exists $types->{$_} } keys %asked), '', 'rules and dashboard use no other figures');

my $readme = slurp_file("$folder/README.md");
is(join(' ', sort grep { $readme !~ /`$_`/ } keys %$types), '', 'the README tells of each');

my $dashboard = decode_json(slurp_file("$folder/dashboard.json"));
is($dashboard->{uid}, 'iotmq', 'the dashboard is JSON');
my @targets = map { @{ $_->{targets} // [] } } @{ $dashboard->{panels} };
is(scalar(grep { $_->{datasource}{uid} ne '${datasource}' } @targets), 0, 'of the data source that is chosen');

# Its expressions can be parsed: promtool takes rules only, so they are made some.
my $rules = PostgreSQL::Test::Utils::tempdir() . '/dashboard.yml';
my @records = map { {
	record => 'd',
	labels => { n => "$_" },
	expr => $targets[$_]{expr} =~ s/\$__rate_interval/1m/gr
} } 0 .. $#targets;
append_to_file($rules, encode_json({ groups => [ { name => 'd', rules => \@records } ] }));
command_ok([ $promtool, 'check', 'rules', $rules ], 'the expressions of the dashboard are valid');

# Prometheus takes them and the rules, and has something to show of a group that works. A
# panel may take some scrapes, since a rate wants two figures.
start_prometheus();
my %missing = map { ($_ => $targets[$_]{expr} =~ s/\$__rate_interval/1m/gr =~ s/\$(?:topic|consumer_group)\b/.*/gr) }
  0 .. $#targets;
foreach (1 .. 600)
{
	work();
	delete @missing{ grep { @{ query($missing{$_}) } > 0 } keys %missing };
	last unless %missing;
	usleep(500_000);
}
is(join("\n", map { $missing{$_} } sort keys %missing), '', 'every panel of the dashboard has series')
  or diag($prometheus_log);

# So have the lists to choose from.
my @lists = map { $_->{query}{query} =~ /^label_values\((.*), (\w+)\)$/ ? [ $1, $2 ] : () }
  grep { ref $_->{query} } @{ $dashboard->{templating}{list} };
is(scalar(@lists), 2, 'there are two lists');
foreach my $list (@lists)
{
	my ($series, $label) = @$list;
	my @values = grep { defined && $_ ne '' } map { $_->{metric}{$label} } @{ query($series =~ s/\$topic\b/.*/r) };
	cmp_ok(scalar(@values), '>', 0, "that of $label has some");
}
my @loaded = map { @{ $_->{rules} } } @{ ask('rules')->{data}{groups} };
my $alerts = () = slurp_file("$folder/alerts.yml") =~ /^\s+- alert:/mg;
is(scalar(@loaded), $alerts, 'all rules are loaded');
is(join(' ', map { $_->{name} } grep { $_->{health} eq 'err' } @loaded), '', 'and none fails');
stop_prometheus();
$consumer->query_safe('ROLLBACK');

# Newer exporters warn that they find no configuration file, and of --extend.query-path.
my @complaints = grep { !/postgres_exporter\.yml|DEPRECATED/ } $log =~ /^.*level=(?:error|warn).*$/gim;
is(join("\n", @complaints), '', 'the exporter has nothing to complain about');

# Counters survive a restart.  The transaction that was open has ended, and its
# offset counts as one that was assigned.
my $before = figures('_total');
$publisher->quit;
$node->stop;
like(scrape(), $failed, 'that the server is away is an error');
$node->start;
is_deeply(figures('_total'), $before, 'no counter changed by a restart');
scrape();	# with the connection that is lost
compare_scrape();

# A role without the grant sees nothing, and that shows.
$node->safe_psql('postgres', q(SELECT iotmq.revoke_monitor('monitor')));
my $denied = scrape();
unlike($denied, qr/^iotmq_/m, 'nothing is exported after revoke_monitor');
like($denied, $failed, 'which is an error');

stop_exporter();
$node->stop;
done_testing();

END { local $?; stop_exporter(); stop_prometheus() }

sub find_program
{
	my ($name) = @_;

	foreach my $dir (split(/:/, $ENV{PATH}), '/usr/bin')
	{
		return "$dir/$name" if -x "$dir/$name";
	}
	return;
}

sub start_exporter
{
	local $ENV{DATA_SOURCE_NAME} =
	  'user=monitor dbname=postgres sslmode=disable host=' . $node->host . ' port=' . $node->port;

	# which figures about the server it has depends on its version
	my $help = join '', run_command([ $exporter, '--help' ]);
	my @collectors = $help =~ /--(?:\[no-\])?(collector\.\w+)(?![\w.=])/g;

	$process = IPC::Run::start(
		[
			$exporter, "--web.listen-address=127.0.0.1:$port",
			"--extend.query-path=$folder/queries.yaml",
			'--disable-default-metrics', '--disable-settings-metrics',
			map { "--no-$_" } @collectors
		],
		'<', \undef, '>', \$log, '2>&1');
	foreach (1 .. 300)
	{
		$process->pump_nb;
		die "the exporter ended: $log" unless $process->pumpable;
		return if HTTP::Tiny->new(timeout => 5)->get("http://127.0.0.1:$port/")->{success};
		usleep(100_000);
	}
	die "the exporter does not answer: $log";
}

sub stop_exporter
{
	return unless $process;
	$process->kill_kill;
	undef $process;
	return;
}

sub start_prometheus
{
	my $dir = PostgreSQL::Test::Utils::tempdir();
	my $data = PostgreSQL::Test::Utils::tempdir();

	append_to_file("$dir/prometheus.yml", <<"YAML");
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files:
  - $folder/alerts.yml
scrape_configs:
  - job_name: iotmq
    scrape_interval: 2s
    scrape_timeout: 2s
    static_configs:
      - targets: ['127.0.0.1:$port']
YAML
	$prometheus_process = IPC::Run::start(
		[
			$prometheus, "--config.file=$dir/prometheus.yml", "--storage.tsdb.path=$data",
			"--web.listen-address=127.0.0.1:$prometheus_port"
		],
		'<', \undef, '>', \$prometheus_log, '2>&1');
	foreach (1 .. 300)
	{
		$prometheus_process->pump_nb;
		die "prometheus ended: $prometheus_log" unless $prometheus_process->pumpable;
		return if HTTP::Tiny->new(timeout => 5)->get("http://127.0.0.1:$prometheus_port/-/ready")->{success};
		usleep(100_000);
	}
	die "prometheus does not answer: $prometheus_log";
}

sub stop_prometheus
{
	return unless $prometheus_process;
	$prometheus_process->kill_kill;
	undef $prometheus_process;
	return;
}

# What Prometheus answers.
sub ask
{
	my ($path, %params) = @_;
	my $http = HTTP::Tiny->new(timeout => 60);
	my $params = %params ? '?' . $http->www_form_urlencode(\%params) : '';
	my $answer = $http->get("http://127.0.0.1:$prometheus_port/api/v1/$path$params");

	$prometheus_process->pump_nb;
	die "$path: $answer->{status} $answer->{content}" unless $answer->{success};
	return decode_json($answer->{content});
}

# The series of an expression.
sub query
{
	my ($expr) = @_;

	return ask('query', query => $expr)->{data}{result};
}

# A group at work: of four messages one fails, one is given up, two are done.
sub work
{
	$node->safe_psql('postgres', <<'SQL');
SELECT iotmq.publish('t', 'd', '1', 'b') FROM generate_series(1, 4);
CREATE TEMP TABLE batch AS SELECT lease_id, msg_offset, row_number() OVER (ORDER BY msg_offset) AS n FROM iotmq.consume('t', 'g', 4);
SELECT CASE n WHEN 1 THEN iotmq.nack(lease_id, ARRAY[msg_offset], '1 hour') WHEN 2 THEN iotmq.reject(lease_id, ARRAY[msg_offset]) ELSE iotmq.ack(lease_id, ARRAY[msg_offset]) END FROM batch;
SQL
	return;
}

sub scrape
{
	my $answer = HTTP::Tiny->new(timeout => 60)->get("http://127.0.0.1:$port/metrics");
	die "no scrape: $answer->{status} $answer->{content}\n$log" unless $answer->{success};
	$process->pump_nb;
	return $answer->{content};
}

# The view's figures, by name and labels in order.
sub figures
{
	my ($pattern) = @_;

	return { map { split /\|/ } split /\n/, $node->safe_psql('postgres', <<"SQL") };
SELECT format('%s{%s}', name, l.list), value
FROM iotmq.metrics
CROSS JOIN LATERAL (
	SELECT string_agg(format('%s="%s"', key, value), ',' ORDER BY key) AS list
	FROM jsonb_each_text(labels)
) AS l
WHERE name ~ '$pattern'
UNION ALL
SELECT format('iotmq_alert_active{alert="%s",consumer_group="%s",topic="%s",zone="%s"}', alert, consumer_group, topic, zone), 1
FROM iotmq.alerts
WHERE 'iotmq_alert_active' ~ '$pattern'
SQL
}

# A scrape lies between what the view says before and after. Returns types and help.
sub compare_scrape
{
	my $before = figures('.');
	my $text = scrape();
	my $after = figures('.');
	my %seen;

	while ($text =~ /^(iotmq_\w+)\{(.*)\} (\S+)$/mg)
	{
		my ($name, $labels, $value) = ($1, $2, $3);
		$labels = join ',', sort grep { !/^server=/ } split /,/, $labels;
		$seen{"${name}{$labels}"} = $value;
	}
	is_deeply([ sort keys %seen ], [ sort keys %$after ], 'all series are exported, and no others')
	  or diag($log);
	my @wrong = grep {
		my ($low, $high) = sort { $a <=> $b } $before->{$_} // 'nan', $after->{$_};
		!($seen{$_} >= $low && $seen{$_} <= $high)
	} grep { exists $seen{$_} } keys %$after;
	is(join(' ', map { "$_ $before->{$_} $seen{$_} $after->{$_}" } @wrong), '', 'with the figures of the view');
	like($text, qr/^pg_exporter_last_scrape_error\{?.*\}? 0$/m, 'without an error');
	return ({ $text =~ /^# TYPE (iotmq_\w+) (\w+)$/mg }, { $text =~ /^# HELP (iotmq_\w+) (.*)$/mg });
}
