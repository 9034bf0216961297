# The program iotmq between two of its steps: what it has not done is neither acknowledged nor
# forgotten there, what it has done is not done again, and a device keeps its order.
#
# Promise: no-loss, order-per-device, seek-is-transactional, settings-dont-matter

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Uncompress::Gunzip qw(gunzip $GunzipError);
use IPC::Run qw(start timeout);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Socket qw(AF_UNIX PF_UNSPEC SOCK_DGRAM);
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'");
$node->start;

system_or_bail('make', '-s', '-C', 'client');
my $folder = PostgreSQL::Test::Utils::tempdir;
my @connection = ('-h', $node->host, '-p', $node->port, '-d', 'postgres');
delete @ENV{qw(PGDATABASE PGAPPNAME)};

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

sub wait_until
{
	my ($condition, $what) = @_;
	for (1 .. 1800)
	{
		return if $condition->();
		select(undef, undef, undef, 0.1);
	}
	die "waited in vain for $what";
}

# A call, in the background; what it says is in what it returns.
sub begin
{
	my ($verb, @arguments) = @_;
	my %call = (out => '', err => '', in => '');
	$call{run} = start([ 'client/iotmq', $verb, @arguments ], '<', \$call{in}, '>', \$call{out}, '2>', \$call{err}, timeout(180));
	return \%call;
}

sub ended
{
	my ($call, $status, $name) = @_;
	$call->{run}->finish;
	is($call->{run}->full_result(0) >> 8, $status, $name) or diag($call->{err});
}

sub backends
{
	my ($verb) = @_;
	return "FROM pg_stat_activity WHERE application_name = 'iotmq $verb'";
}

query(<<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic(t) FROM unnest('{strict,printed,arrays,keys,stale,again,closed,ordered,kept,two,moved,known,away}'::text[]) AS t;
SELECT iotmq.create_group('strict', 'g', mode => 'orderly', max_retries => 0, invisible_for => '3 s'),
	iotmq.create_group('arrays', 'g', mode => 'orderly', max_retries => 3, backoff => '{10 ms}'),
	iotmq.create_group('again', 'g', mode => 'orderly'), iotmq.create_group('stale', 'g', mode => 'orderly', invisible_for => '2 s'),
	iotmq.create_group('keys', 'g', backoff => '{1 hour}'), iotmq.create_group('printed', 'g'), iotmq.create_group('known', 'g');
SELECT iotmq.create_group(t, 'a', start_from => '-infinity') FROM unnest('{kept,two,moved}'::text[]) AS t;
SQL

# In an orderly group, a message's last attempt fails: the next one of its device is tried all the
# same, and not acknowledged along with what is done of others.
query(q{SELECT iotmq.publish('strict', d, to_jsonb(p)) FROM (VALUES (1, 'a', 'a1'), (2, 'a', 'a2'), (3, 'b', 'b1'), (4, 'a', 'a3')) AS x(n, d, p) ORDER BY n});
ended(begin('consume', @connection, '--until-empty', 'strict', 'g', '--exec', "read x; echo \$x >>$folder/strict; test \$x != '\"a1\"'"),
	0, 'an orderly group that gives up at once');
is(slurp_file("$folder/strict"), qq("a1"\n"b1"\n"a2"\n"a3"\n), '... tries each message');
is(query(q{SELECT string_agg(payload::text, ' ') FROM iotmq.dead_letter WHERE topic = 'strict'}), '"a1"', '... and gives up the one that failed');

# What could not be written is not acknowledged, though what came after it could be: a socket of
# datagrams refuses what is too large for it.
query(q{SELECT iotmq.publish('printed', 'd', to_jsonb(repeat('x', 1000000)))});
socketpair(my $reader, my $writer, AF_UNIX, SOCK_DGRAM, PF_UNSPEC) or die;
my $child = fork // die;
if ($child == 0)
{
	open STDOUT, '>&', $writer or die;
	exec 'client/iotmq', 'consume', @connection, '--json', '--count=1', 'printed', 'g' or die;
}
waitpid $child, 0;
is($? >> 8, 1, 'a message that can\'t be written');
is(query(q{SELECT lag_messages FROM iotmq.group_lag WHERE topic = 'printed'}), '1', '... is not acknowledged');

# A parent that ignores the ends of its children
query(q{SELECT iotmq.publish('known', 'd', '1')});
my $ignored = start([ $^X, '-e', '$SIG{CHLD} = "IGNORE"; exec @ARGV', 'client/iotmq', 'consume', @connection, '--count=1', 'known', 'g', '--exec', 'true' ],
	'<', \undef, timeout(60));
eval { $ignored->finish } or $ignored->kill_kill;
is($ignored->full_result(0), 0, 'a command ends, whoever has started the program');

# Arrays of an orderly group: one has failed, and the database is away before that is settled. What
# follows of its device waits.
my $web = IO::Socket::INET->new(Listen => 10, LocalAddr => '127.0.0.1', Proto => 'tcp') or die;

# The offsets in a request's array, its connection and its key; nothing if none comes any more
sub request
{
	my ($call) = @_;
	my ($text, $client) = ('', undef);
	until ($client)
	{
		return if !$call->{run}->pumpable;
		$call->{run}->pump_nb;
		$client = $web->accept if IO::Select->new($web)->can_read(0.1);
	}
	sysread($client, $text, 65536, length $text) or die until $text =~ /\r\n\r\n/;
	my ($length) = $text =~ /^Content-Length: (\d+)/mi or die $text;
	my $content = $text =~ s/.*?\r\n\r\n//sr;
	sysread($client, $content, 65536, length $content) or die while length $content < $length;
	my ($key) = $text =~ /^Idempotency-Key: (\S+)/mi;
	return (join(' ', map { $_->{msg_offset} } @{ decode_json($content) }), $client, $key);
}

sub answer
{
	my ($client, $status) = @_;
	print $client "HTTP/1.1 $status As said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
	close $client;
}

# All that comes until it ends
sub received
{
	my ($call) = @_;
	my @requests;
	while (my @request = request($call))
	{
		answer($request[1], 200);
		push @requests, \@request;
	}
	return @requests;
}

my $web_url = 'http://127.0.0.1:' . $web->sockport;

sub end_database
{
	query(q{ALTER ROLE hook NOLOGIN; SELECT count(pg_terminate_backend(pid, 60000)) } . backends('webhook'));
}

# Answers, and gives the webhook time to do something wrong before the database is there again.
sub answer_without_database
{
	my ($client, $status) = @_;
	answer($client, $status);
	select(undef, undef, undef, 1);
	query(q{ALTER ROLE hook LOGIN});
}

query(q{CREATE ROLE hook LOGIN; SELECT iotmq.grant_consume('arrays', 'g', 'hook'), iotmq.grant_consume('stale', 'g', 'hook');
	SELECT iotmq.publish('arrays', 'd', to_jsonb(g)) FROM generate_series(1, 6) AS g});
my $webhook = begin('webhook', @connection, '-U', 'hook', '--until-empty', '--arrays=2', 'arrays', 'g', $web_url);
my ($offsets, $client) = request($webhook);
is($offsets, '1 2', 'the first array');
end_database();
answer_without_database($client, 500);
my @then = map { $_->[0] } received($webhook);
ended($webhook, 0, '... fails while the database is away');
like("@then", qr/^1 /, '... and comes again before what follows it');
is(join(' ', sort { $a <=> $b } split / /, "@then"), '1 2 3 4 5 6', '... which comes then');

# A lease that can't be extended is over in the end, and others have its messages: after that they
# are not sent.
query(q{SELECT iotmq.publish('stale', d, '1') FROM unnest('{a,b}'::text[]) AS d});
$webhook = begin('webhook', @connection, '-U', 'hook', '--concurrency=1', '--arrays=1', 'stale', 'g', $web_url);
($offsets, $client) = request($webhook);
wait_until(sub { query(q{SELECT sum(messages) FROM iotmq.in_flight WHERE topic = 'stale'}) eq '2' }, 'a lease that waits');
end_database();
my $others = '';
wait_until(sub { $others .= query(q{SELECT string_agg(msg_offset::text, '') FROM iotmq.consume('stale', 'g', invisible_for => '1 hour', wait => '1 s')});
	$others =~ /1/ && $others =~ /2/ }, 'the end of leases');
answer_without_database($client, 200);
$webhook->{run}->pump until $webhook->{err} =~ /is over/ || !$webhook->{run}->pumpable;
$webhook->{run}->signal('TERM');
is(join(' ', map { $_->[0] } received($webhook)), '', 'what others have is not sent');
ended($webhook, 0, '... and the webhook goes on');

# A lease that is over, while a request of it is out: the device's next one, in another lease, waits
# for its answer.
query(q{SELECT iotmq.publish('again', 'd', to_jsonb(g)) FROM generate_series(1, 2) AS g});
$webhook = begin('webhook', @connection, '--until-empty', '--arrays=1', 'again', 'g', $web_url);
($offsets, $client) = request($webhook);
my $lease = query(q{SELECT lease_id FROM iotmq.in_flight WHERE topic = 'again'});
query(q{SELECT iotmq.seek('again', 'g', '-infinity')});
wait_until(sub { query("SELECT count(*) FROM iotmq.in_flight WHERE topic = 'again' AND lease_id <> $lease") }, 'another lease');
is(scalar(() = IO::Select->new($web)->can_read(1)), 0, 'a device has one request at a time, whatever lease it is in');
answer($client, 200);
is(join(' ', map { $_->[0] } received($webhook)), '1 2', '... and goes on in order');
ended($webhook, 0, '... to the end');

# Two arrays that are not the same have not the same key.
query(q{SELECT iotmq.publish('keys', 'd', to_jsonb(g)) FROM generate_series(1, 6) AS g});
$webhook = begin('webhook', @connection, '--concurrency=2', '--arrays=3', 'keys', 'g', $web_url);
my @arrays = map { [ request($webhook) ] } 1, 2;
answer($_->[1], 500) foreach @arrays;
wait_until(sub { query(q{SELECT count(*) FROM iotmq.waiting_message WHERE topic = 'keys'}) eq '6' }, 'what has failed');
$webhook->{run}->signal('TERM');
ended($webhook, 0, 'arrays that fail');
query(q{SELECT iotmq.give_up('keys', 'g', '{2}'), iotmq.retry_now('keys', 'g', '{1,3,4,5,6}')});
$webhook = begin('webhook', @connection, '--until-empty', '--arrays=3', 'keys', 'g', $web_url);
push @arrays, received($webhook);
ended($webhook, 0, '... and come again otherwise');
my (%arrays, %keys);
foreach my $array (@arrays)
{
	$arrays{ $array->[2] }{ $array->[0] } = 1;
	$keys{ $array->[0] }{ $array->[2] } = 1;
}
is(scalar(grep { keys %$_ > 1 } values %arrays, values %keys), 0, '... with keys of their own') or diag(explain(\%arrays));

done_testing();
