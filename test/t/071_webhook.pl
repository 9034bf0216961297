# iotmq webhook against a web server that fails in every way: what an answer means, the order
# of a device, signatures, and that a message is posted until it is answered.
#
# Promise: no-loss, order-per-device

use strict;
use warnings;

use IPC::Run qw(start timeout);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

system_or_bail('make', '-s', '-C', 'client');
my $folder = PostgreSQL::Test::Utils::tempdir;
my $log = "$folder/log";
my ($port, $noise) = ('', '');
append_to_file("$folder/secret", "s3cret\n");
my $receiver = start([ '/usr/bin/python3', '-B', 'test/client/receiver.py', $log, 's3cret' ],
	'<', \undef, '>', \$port, '2>', \$noise);
$receiver->pump until $port =~ /\n/;
chomp $port;

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

sub begin
{
	my ($group, $err, @options) = @_;
	return start([ 'client/iotmq', 'webhook', '-h', $node->host, '-p', $node->port, '-d', 'postgres',
			@options, 't', $group, "http://127.0.0.1:$port/in" ],
		'<', \undef, '>', \my $out, '2>', $err, timeout(180));
}

# The requests since the last call.
my $read = 0;

sub requests
{
	my @lines = -e $log ? split(/^/, slurp_file($log)) : ();
	my @new = map { decode_json($_) } @lines[ $read .. $#lines ];
	$read = @lines;
	return @new;
}

sub offsets
{
	return join ' ', map { $_->{headers}{'iotmq-offset'} } @_;
}

query(<<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t', dedup_window => '1 hour');
SELECT iotmq.create_group('t', 'hook', max_retries => 2, backoff => '{10 ms}', invisible_for => '2 s');
SELECT iotmq.create_group('t', 'order', mode => 'orderly', max_retries => 3, backoff => '{100 ms}');
SELECT iotmq.create_group('t', 'array');
SELECT iotmq.publish('t', E'pump 1\r\nEvil: yes', '{"v": 1}', tag => 'warm', message_key => 'ä', properties => '{"a": 1}');
SELECT iotmq.publish('t', 'd', '{"answers": [500, 200]}');
SELECT iotmq.publish('t', 'd', '{"answers": [422]}');
SELECT iotmq.publish('t', 'd', '{"answers": [429, 200]}');
SELECT iotmq.publish('t', 'd', '{"answers": [-1, 200]}');
SELECT iotmq.publish('t', 'd', '{"answers": [0, 200]}');
SELECT iotmq.publish('t', 'd', '{"answers": [503]}');
SELECT iotmq.publish('t', 'd', '{"answers": [301, 200]}');
SELECT iotmq.publish('t', 'd', '{"sleep": 3}');
SELECT iotmq.publish('t', 'd', NULL, body => '\x00ff');
SQL

my $err = '';
my $run = begin('hook', \$err, '--until-empty', '--timeout=10', "--secret-file=$folder/secret", '--header=X-Own: 1');
$run->finish;
is($run->full_result(0), 0, 'all is answered') or diag($err);
my @requests = requests();
is(scalar(grep { !$_->{signed} } @requests), 0, 'every request is signed');
is(scalar(grep { $_->{headers}{'idempotency-key'} ne "t/default/$_->{headers}{'iotmq-offset'}" } @requests), 0, '... and has its key');
my ($first) = grep { $_->{headers}{'iotmq-offset'} == 1 } @requests;
is_deeply([ @{ $first->{headers} }{qw(content-type iotmq-topic iotmq-zone iotmq-device iotmq-tag iotmq-key iotmq-properties iotmq-attempt x-own evil)} ],
	[ 'application/json', 't', 'default', 'pump%201%0D%0AEvil%3A%20yes', 'warm', '%C3%A4', '%7B%22a%22%3A%201%7D', '1', '1', undef ],
	'headers, in which no text of a device can be one');
is_deeply($first->{payload}, { v => 1 }, '... and the payload');
my ($body) = grep { $_->{headers}{'iotmq-offset'} == 10 } @requests;
is("$body->{headers}{'content-type'} $body->{payload}", "application/octet-stream \0\xff", 'a body');
my %answers;
push @{ $answers{ $_->{headers}{'iotmq-offset'} } }, $_ foreach sort { $a->{begin} <=> $b->{begin} } @requests;
is(join(' ', map { "$_:" . join(',', map { $_->{answer} } @{ $answers{$_} }) } sort { $a <=> $b } keys %answers),
	'1:200 2:500,200 3:422 4:429,200 5:-1,200 6:0,200 7:503,503,503 8:301,200 9:200 10:200',
	'what failed came again, what was refused did not');
cmp_ok($answers{4}[1]{begin} - $answers{4}[0]{end}, '>', 0.9, 'Retry-After counts');
is(query("SELECT msg_offset, attempts, reason FROM iotmq.dead_letter WHERE consumer_group = 'hook' ORDER BY 1"),
	"3|1|HTTP 422: 422 f?r 1\r\n\n7|3|HTTP 503: 503 für 3\r\n", 'dead letters with status and answer');

# An orderly group: a device waits for its failures, others don't.
query(<<'SQL');
SELECT iotmq.seek('t', 'order', 'infinity'), iotmq.seek('t', 'array', 'infinity');
SELECT iotmq.publish('t', 'd' || g % 3, CASE g WHEN 4 THEN '{"answers": [500, 500, 200]}' ELSE '{"sleep": 0.02}' END::jsonb)
FROM generate_series(1, 60) AS g;
SQL
$run = begin('order', \$err, '--until-empty', "--secret-file=$folder/secret");
$run->finish;
is($run->full_result(0), 0, 'an orderly group') or diag($err);
@requests = requests();
my (%last, %until, @wrong);
foreach my $request (sort { $a->{begin} <=> $b->{begin} } @requests)
{
	my ($device, $offset) = @{ $request->{headers} }{qw(iotmq-device iotmq-offset)};
	push @wrong, $offset if $offset < ($last{$device} // 0) || $request->{begin} < ($until{$device} // 0);
	($last{$device}, $until{$device}) = ($offset, $request->{end});
}
is("@wrong", '', '... each device has one request at a time, in order');
is(scalar(@requests), 62, '... and each message as often as it must');
cmp_ok((sort { $b <=> $a } map { $_->{together} } @requests)[0], '>', 1, '... with several devices at a time');

# Arrays
$run = begin('array', \$err, '--until-empty', '--arrays=50', "--secret-file=$folder/secret");
$run->finish;
# both at once, where no device is in both
@requests = sort { $a->{payload}[0]{msg_offset} <=> $b->{payload}[0]{msg_offset} } requests();
is(join(' ', map { scalar @{ $_->{payload} } } @requests), '50 10', 'arrays');
is($requests[1]{headers}{'idempotency-key'}, 't/default/' . $requests[1]{payload}[0]{msg_offset} . '+10', '... with a key');
like($requests[1]{payload}[0]{lease_id}, qr/^\d+\z/, '... of the objects that consume prints');

# A slow server: leases are extended, and nothing is posted twice.
query(<<'SQL');
SELECT iotmq.create_topic('slow'), iotmq.create_group('slow', 'slowly', invisible_for => '4 s');
SELECT iotmq.publish('slow', 'd' || g, '{"sleep": 6}') FROM generate_series(1, 20) AS g;
SQL
sub post_slow
{
	my ($url, @options) = @_;
	my $call = start([ 'client/iotmq', 'webhook', '-h', $node->host, '-p', $node->port, '-d', 'postgres', '--until-empty',
			@options, 'slow', 'slowly', $url ], '<', \undef, '>', \my $out, '2>', \my $told, timeout(180));
	$call->finish;
	return ($call->full_result(0) >> 8, $told);
}
is((post_slow("http://127.0.0.1:$port/in", '--concurrency=20', "--secret-file=$folder/secret"))[0], 0, 'a slow server');
@requests = requests();
is(join(' ', sort { $a <=> $b } map { $_->{headers}{'iotmq-offset'} } @requests), join(' ', 1 .. 20), '... gets each message once');
cmp_ok((sort { $b <=> $a } map { $_->{together} } @requests)[0], '>', 1, '... and several at a time');

# TLS: a server with a certificate that somebody knows, and one that wants ours
system_or_bail('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost',
	'-addext', 'subjectAltName=DNS:localhost', '-keyout', "$folder/key", '-out', "$folder/certificate");
my $secure_port = '';
my $secure = start([ '/usr/bin/python3', '-B', 'test/client/receiver.py', "$folder/secure", 's3cret', "$folder/certificate", "$folder/key" ],
	'<', \undef, '>', \$secure_port, '2>', \$noise);
$secure->pump until $secure_port =~ /\n/;
chomp $secure_port;
my @ours = ("--cert=$folder/certificate", "--key=$folder/key", "--secret-file=$folder/secret");
query(q{SELECT iotmq.alter_group('slow', 'slowly', max_retries => 0), iotmq.publish('slow', 'd', '1')});
post_slow("https://localhost:$secure_port/in", @ours);
query(q{SELECT iotmq.publish('slow', 'd', '2')});
post_slow("https://localhost:$secure_port/in", "--ca-file=$folder/certificate", "--secret-file=$folder/secret");
query(q{SELECT iotmq.publish('slow', 'd', '3')});
is((post_slow("https://localhost:$secure_port/in", "--ca-file=$folder/certificate", @ours))[0], 0, 'over TLS');
like(query(q{SELECT string_agg(reason, ' | ' ORDER BY msg_offset) FROM iotmq.dead_letter WHERE topic = 'slow'}),
	qr/^SSL certificate problem: self.signed certificate \| ./,
	'... not from a server that nobody knows, nor without a certificate of ours');
is(scalar(split /^/, slurp_file("$folder/secure")), 1, '... and the right one is posted');
my ($usage, $told) = post_slow("https://localhost:$secure_port/in", '--cert=/nowhere');
is("$usage $told", "2 iotmq: /nowhere: No such file or directory\n", 'a file that is not there');
$secure->kill_kill;

# Killed in the middle, a seek, and a restart of the server: all that was published is posted,
# and SIGTERM ends it when the requests that are out are answered.
query(q{SELECT iotmq.publish('t', 'd' || g % 10, '{"sleep": 0.05}') FROM generate_series(1, 300) AS g});
my $from = query(q{SELECT max(msg_offset) - 299 FROM iotmq_topic.t});
$run = begin('hook', \$err, "--secret-file=$folder/secret");
sub wait_for
{
	my ($count) = @_;
	my @seen;
	for (1 .. 1800)
	{
		push @seen, requests();
		return @seen if @seen >= $count;
		select(undef, undef, undef, 0.1);
	}
	die 'no more requests come';
}
my @seen = wait_for(30);
$run->kill_kill(grace => 0);
$err = '';
$run = begin('hook', \$err, "--secret-file=$folder/secret");
push @seen, wait_for(30);
query("SELECT iotmq.seek_offset('t', 'hook', 'default', $from)");
push @seen, wait_for(30);
$node->restart;
$node->poll_query_until('postgres', q{SELECT lag_messages = 0 FROM iotmq.group_lag WHERE consumer_group = 'hook'}) or die;
$run->signal('TERM');
$run->finish;
is($run->full_result(0), 0, 'SIGTERM') or diag($err);
push @seen, requests();
my %posted = map { $_->{headers}{'iotmq-offset'} => 1 } @seen;
is(scalar(grep { $posted{$_} } $from .. $from + 299), 300, 'a kill, a seek and a restart: all is posted');

# SIGTERM ends one that waits for messages, however soon the server has answered: it has nothing
# that would wake it, and polls for a minute.
foreach my $try (1 .. 3)
{
	my $begin = time;
	$run = begin('hook', \$err);
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%iotmq.consume($1%'
		AND pid <> pg_backend_pid()}) or die;
	$run->signal('TERM');
	$run->finish;
	cmp_ok(time - $begin, '<', 50, 'SIGTERM ends one that waits');
}

$receiver->kill_kill;
done_testing();
