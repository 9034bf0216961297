# The folder monitoring, with the programs that it is made for: what Debian's
# prometheus-postgres-exporter exports is what the views say, for a role that may
# do nothing but monitor; the alert rules pass promtool's tests; Prometheus itself loads
# them, scrapes the exporter, and has series above 0 for every query of the dashboard, with
# the labels of its legend, of what is chosen and of nothing else.
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
# zone without messages, an open publisher, an open consumer, a paused group.
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
CREATE ROLE monitor LOGIN;
SELECT iotmq.grant_monitor('monitor');
SELECT iotmq.create_topic('t', '{a,b}');
SELECT iotmq.create_topic('Topic-2.x', '{zone_1,empty}');
SELECT iotmq.create_topic('short', retention => '1 hour');
SELECT iotmq.create_group('t', 'g', max_lag => 3);
SELECT iotmq.create_group('t', 'idle');
SELECT iotmq.create_group('Topic-2.x', 'orderly', mode => 'orderly');
SELECT iotmq.create_group('short', 'paused', max_lag => 0);
SELECT iotmq.pause_group('short', 'paused');
SELECT count(iotmq.publish('t', 'd', to_jsonb(i), CASE i % 3 WHEN 0 THEN 'a' ELSE 'b' END))
FROM generate_series(1, 30) i;
SELECT count(iotmq.publish('Topic-2.x', 'd' || i % 2, to_jsonb(i), 'zone_1'))
FROM generate_series(1, 6) i;
SELECT count(iotmq.reject(lease_id, ARRAY[msg_offset]))
FROM iotmq.consume('t', 'g', 5, zone => 'b')
WHERE msg_offset < 3;
SELECT count(iotmq.nack(lease_id, ARRAY[msg_offset], '1 hour'))
FROM iotmq.consume('Topic-2.x', 'orderly', 4, invisible_for => '12 hours')
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

# What began in this very moment may have begun after the statement that looks.
my @ages = grep { /statement_timestamp\(\) - / } split /\n/, slurp_file("$folder/queries.yaml");
is(join("\n", grep { !/greatest\(/ } @ages), '', 'no age is below 0');

my $readme = slurp_file("$folder/README.md");
is(join(' ', sort grep { $readme !~ /`$_`/ } keys %$types), '', 'the README tells of each');

my $dashboard = decode_json(slurp_file("$folder/dashboard.json"));
is($dashboard->{uid}, 'iotmq', 'the dashboard is JSON');
my @panels = grep { $_->{type} ne 'row' } map { $_, @{ $_->{panels} // [] } } @{ $dashboard->{panels} };
is(join(' ', map { $_->{title} } grep { !@{ $_->{targets} // [] } } @panels), '', 'every panel asks for something');
my @targets = map { @{ $_->{targets} } } @panels;
my @variables = grep { $_->{type} eq 'query' } @{ $dashboard->{templating}{list} };
is(scalar(grep { $_->{datasource}{uid} ne '${datasource}' } @panels, @targets, @variables),
	0, 'of the data source that is chosen');
is(join(' ', grep { /\$/ } map { expression($_->{expr}, 'a', 'a') } @targets), '', 'there are no other variables');

# Each is in a picture of the documentation: after a change, demo/pictures draws them anew.
my $pictures = join '', map { slurp_file($_) } glob "$folder/../docs/pictures/dashboard-*.svg";
is(join(', ', grep { index($pictures, ">$_</text>") < 0 } map { $_->{title} } @panels), '', 'the pictures have every panel');
unlike($pictures, qr/>no data</, 'with something in it');

# Its expressions can be parsed: promtool takes rules only, so they are made some.
my $rules = PostgreSQL::Test::Utils::tempdir() . '/dashboard.yml';
my @records = map { {
	record => 'd',
	labels => { n => "$_" },
	expr => expression($targets[$_]{expr}, '.*', '.*')
} } 0 .. $#targets;
append_to_file($rules, encode_json({ groups => [ { name => 'd', rules => \@records } ] }));
command_ok([ $promtool, 'check', 'rules', $rules ], 'the expressions of the dashboard are valid');

# Prometheus takes them and the rules, and has something to show of groups that work. A
# query may take some scrapes, since a rate wants two figures. What is 0 shows no more than
# an axis, and a legend's label that isn't there leaves its place empty.
start_prometheus();
my %missing = map { ($_ => 1) } 0 .. $#targets;
foreach (1 .. 240)
{
	work();
	delete @missing{ grep { shows_something($targets[$_]) } keys %missing };
	last unless %missing;
	usleep(500_000);
}
is(join("\n", map { $targets[$_]{expr} } sort { $a <=> $b } keys %missing),
	'', 'every query of the dashboard has series above 0, with the labels of its legend')
  or diag($prometheus_log);

# What is chosen is shown, and nothing else. Grafana quotes for a regular expression.
my @others = grep {
	grep { ($_->{topic} // '') !~ /^(?:Topic-2\.x|)$/ || ($_->{consumer_group} // '') !~ /^(?:orderly|)$/ }
	map { $_->{metric} } @{ query(expression($_->{expr}, 'Topic-2\\\\.x', 'orderly')) }
} @targets;
is(join("\n", map { $_->{expr} } @others), '', 'a topic and a group can be chosen');
my $chosen = query(expression($targets[0]{expr}, '(t|Topic-2\\\\.x)', '(g|orderly)'));
is(join(' ', sort map { "$_->{metric}{topic}/$_->{metric}{consumer_group}" } @$chosen), 'Topic-2.x/orderly t/g', 'or several');

# The lists to choose from have all that there is, a group's those of the topics chosen.
my %list = map { ($_->{name} => $_->{query}{query}) } @variables;
is_deeply(values_of($list{topic}, ''), [qw(Topic-2.x short t)], 'the list of topics');
is_deeply(values_of($list{consumer_group}, '.*'), [qw(g idle orderly paused)], 'the list of groups');
is_deeply(values_of($list{consumer_group}, 't'), [qw(g idle)], 'that of the groups of a topic');
is_deeply([ map { $_->{definition} } @variables ], [ map { $_->{query}{query} } @variables ],
	'Grafana\'s two places for them agree');

# A paused group falls behind, and that is no alert.
is(scalar(@{ query('iotmq_consumer_lag_messages{consumer_group="paused"} > 0') }), 1, 'a paused group has a lag');
is(scalar(@{ query('iotmq_alert_active{consumer_group="paused", alert=~"lag|delay"}') }), 0, 'without an alert');

# The rules ask for what is there, by labels that are there.
my @loaded = map { @{ $_->{rules} } } @{ ask('rules')->{data}{groups} };
my $alerts = () = slurp_file("$folder/alerts.yml") =~ /^\s+- alert:/mg;
is(scalar(@loaded), $alerts, 'all rules are loaded');
is(join(' ', map { $_->{name} } grep { $_->{health} eq 'err' } @loaded), '', 'and none fails');
foreach my $rule (@loaded)
{
	my %asked = selectors($rule->{query});
	my %labels = map { ($_ => labels_of($_)) } keys %asked;

	cmp_ok(scalar(keys %asked), '>', 0, "$rule->{name} asks for figures");
	is(join(' ', grep { !%{ $labels{$_} } } keys %asked), '', 'all of which there are');
	my @wanted = map { my $name = $_; map { "$name $_" } grep { !$labels{$name}{$_} } @{ $asked{$name} } } keys %asked;
	is(join(', ', @wanted), '', 'with the labels that it chooses by');

	my %left = map { %$_ } values %labels;
	delete @left{ map { split /,\s*/ } $rule->{query} =~ /\bwithout \(([^)]*)\)/g };
	my @told = join('', values %{ $rule->{annotations} }) =~ /\$labels\.(\w+)/g;
	is(join(' ', grep { !$left{$_} } @told), '', 'and those that it tells of');
}
my $lost;
foreach (1 .. 240)
{
	($lost) = grep { $_->{name} eq 'IotmqMessagesLost' } map { @{ $_->{rules} } } @{ ask('rules')->{data}{groups} };
	last if @{ $lost->{alerts} };
	work();
	usleep(500_000);
}
is_deeply(
	[ map { "$_->{state}: $_->{annotations}{summary}" } @{ $lost->{alerts} } ],
	['firing: Consumer group paused of topic short lost messages'],
	'messages that retention drops unread are an alert');
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
    scrape_interval: 5s
    scrape_timeout: 5s
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

# An expression of the dashboard as Grafana sends it, with regular expressions for what is chosen.
sub expression
{
	my ($expr, $topic, $group) = @_;

	return $expr =~ s/\$__rate_interval\b/1m/gr =~ s/\$topic\b/$topic/gr =~ s/\$consumer_group\b/$group/gr;
}

# Whether a query has a series above 0 with each label of its legend.
sub shows_something
{
	my ($target) = @_;
	my @labels = $target->{legendFormat} =~ /\{\{\s*(\w+)\s*\}\}/g;

	foreach my $series (@{ query(expression($target->{expr}, '.*', '.*')) })
	{
		return 1 if $series->{value}[1] > 0 && !grep { ($series->{metric}{$_} // '') eq '' } @labels;
	}
	return 0;
}

# What Grafana makes of label_values(series, label).
sub values_of
{
	my ($list, $topic) = @_;
	my ($series, $label) = $list =~ /^label_values\((.*), (\w+)\)$/ or die $list;
	my %values = map { ($_->{metric}{$label} // '' => 1) } @{ query($series =~ s/\$topic\b/$topic/r) };

	return [ sort keys %values ];
}

# The figures that an expression asks for, each with the labels that it chooses them by.
sub selectors
{
	my ($expr) = @_;
	my %labels;

	$expr =~ s/"(?:[^"\\]|\\.)*"/""/g;
	$expr =~ s/\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)//g;
	while ($expr =~ /\b([a-zA-Z_:][\w:]*)\b(?!\s*\()\s*(?:\{([^}]*)\})?/g)
	{
		my ($name, $list) = ($1, $2 // '');
		next if $name =~ /^(?:and|or|unless|offset|bool)$/;
		push @{ $labels{$name} }, $list =~ /(\w+)\s*[=!]/g;
	}
	return %labels;
}

# The labels of a figure: those that any of its series has.
sub labels_of
{
	my ($name) = @_;

	return { map { %{ $_->{metric} } } @{ query($name) } };
}

# A group at work: of four messages one fails, one is given up, two are done. And a topic
# whose messages are gone before they are read: its maintenance believes that it is later.
sub work
{
	$node->safe_psql('postgres', <<'SQL');
SELECT iotmq.publish('t', 'd', '1', 'b') FROM generate_series(1, 4);
CREATE TEMP TABLE batch AS SELECT lease_id, msg_offset, row_number() OVER (ORDER BY msg_offset) AS n FROM iotmq.consume('t', 'g', 4);
SELECT CASE n WHEN 1 THEN iotmq.nack(lease_id, ARRAY[msg_offset], '1 hour') WHEN 2 THEN iotmq.reject(lease_id, ARRAY[msg_offset]) ELSE iotmq.ack(lease_id, ARRAY[msg_offset]) END FROM batch;
CALL iotmq.run_maintenance(at => now() + '2 hours');
SELECT iotmq.publish('short', 'd', '1');
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
