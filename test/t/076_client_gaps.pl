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

# A server whose machine is gone is noticed: keepalive begins after 30 seconds, not two hours.
my $waiting = begin('consume', '-h', '127.0.0.1', '-p', $node->port, '-d', 'postgres', 'known', 'g');
wait_until(sub { query('SELECT count(*) ' . backends('consume') . q{ AND query LIKE '%iotmq.consume($1%' AND state = 'active'}) }, 'a call that waits');
my $port = sprintf '%04X', $node->port;
sub keepalives
{
	return map { hex } slurp_file('/proc/net/tcp') =~ /: [0-9A-F]{8}:[0-9A-F]{4} [0-9A-F]{8}:$port 01 \S+ 02:([0-9A-F]+) /g;
}
wait_until(sub { keepalives() == 2 }, 'two connections that are silent');
is(scalar(grep { $_ > 3000 } keepalives()), 0, 'a connection that is silent is looked at soon');
$waiting->{run}->signal('TERM');
ended($waiting, 0, '... and waited for');

# The primary becomes another one, and its old server takes no writes but keeps its connections.
my $other = PostgreSQL::Test::Cluster->new('other');
$other->init;
$other->start;
$other->safe_psql('postgres', q{CREATE EXTENSION iotmq; SELECT iotmq.create_topic('away')});
my $both = sprintf 'host=%s,%s port=%s,%s dbname=postgres target_session_attrs=read-write', (map { $_->host } $node, $other), (map { $_->port } $node, $other);
my $publisher = begin('publish', '-d', $both, 'away', 'd');

sub publish_away
{
	my ($payload, $server) = @_;
	$publisher->{in} .= "$payload\n";
	wait_until(sub { $publisher->{run}->pump_nb; $server->safe_psql('postgres', "SELECT count(*) FROM iotmq_topic.away WHERE payload = '$payload'") },
		"message $payload");
}
publish_away(1, $node);
query(q{ALTER SYSTEM SET default_transaction_read_only = on});
query(q{SELECT pg_reload_conf()});
$node->poll_query_until('postgres', 'SHOW default_transaction_read_only', 'on') or die;
publish_away(2, $other);
ended($publisher, 0, 'a primary that is one no more');
like($publisher->{err}, qr/read-only|standby/, '... is told');
is($other->safe_psql('postgres', 'SELECT payload FROM iotmq_topic.away'), '2', '... and left for the new one');
$node->safe_psql('postgres', 'SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only');
query(q{SELECT pg_reload_conf()});
$node->poll_query_until('postgres', 'SHOW default_transaction_read_only', 'off') or die;
$other->stop;

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

# A broker of our own
my $broker = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', Proto => 'tcp') or die;

sub packet
{
	my ($from) = @_;
	my $bytes = '';
	sysread($from, $bytes, 1, length $bytes) or return unpack('H*', $bytes) while length $bytes < 2;
	my $length = 2 + ord substr $bytes, 1;
	sysread($from, $bytes, $length - length $bytes, length $bytes) or last while length $bytes < $length;
	return unpack 'H*', $bytes;
}

# A bridge without poison to a topic, and its broker's end of the connection
sub bridge
{
	my ($topic) = @_;
	append_to_file("$folder/$topic.rules", 'broker = 127.0.0.1:' . $broker->sockport . "\nclient-id = b\npoison = none\n[d/{device}]\ntopic = $topic\ndevice = {device}\n");
	my $call = begin('bridge', @connection, "$folder/$topic.rules");
	my $from = $broker->accept or die;
	packet($from);
	syswrite $from, "\x20\2\0\0";
	packet($from);
	syswrite $from, "\x90\3\0\1\1";
	return ($call, $from);
}

sub message
{
	my ($id, $device, $text) = @_;
	return pack('C C/a*', 0x32, pack('n/a* n a*', "d/$device", $id, $text));
}

# A zone that is being moved is waited for: nothing is left out, or acknowledged, meanwhile.
(my $bridge, my $from) = bridge('closed');
query(q{SELECT iotmq.fence_zone('closed', 'default')});
syswrite $from, message(1, 'a', '{"n": 1}') . message(2, 'b', '{"n": 2}');
$bridge->{run}->pump until $bridge->{err} =~ /fenced/ || !$bridge->{run}->pumpable;
like($bridge->{err}, qr/zone "default" of topic "closed" is fenced.*trying again$/s, 'a zone that is fenced is told');
is(scalar(() = IO::Select->new($from)->can_read(0)), 0, '... and nothing is acknowledged');
query(q{SELECT iotmq.open_zone('closed', 'default')});
is(packet($from) . packet($from), '4002000140020002', '... before it is open again');
is(query(q{SELECT string_agg(payload->>'n', ' ' ORDER BY device_id) FROM iotmq_topic.closed}), '1 2', '... and nothing is left out');
query(q{SELECT iotmq.fence_zone('closed', 'default')});
syswrite $from, message(3, 'a', '{"n": 3}');
$bridge->{run}->pump until $bridge->{err} =~ /trying again.*trying again/s || !$bridge->{run}->pumpable;
$bridge->{run}->signal('TERM');
is(packet($from), 'e000', 'SIGTERM doesn\'t wait for it');
close $from;
ended($bridge, 0, '... and leaves what waits to the broker');

# A topic that is gone is no fault of the messages.
query(q{SELECT iotmq.create_topic('gone')});
($bridge, $from) = bridge('gone');
query(q{SELECT iotmq.drop_topic('gone')});
syswrite $from, message(1, 'a', '1');
is(packet($from), '', 'a topic that is gone: nothing is acknowledged');
ended($bridge, 1, '... and the bridge ends');
like($bridge->{err}, qr/gone: a message is refused: .*\(42704\)/, '... which it tells');
close $from;

# What the server refuses for a while comes in its device's order.
query(<<'SQL');
CREATE SEQUENCE tries;
CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF nextval('public.tries') <= 4 THEN RAISE EXCEPTION 'busy' USING ERRCODE = '55P03'; END IF; RETURN new; END $$;
CREATE TRIGGER busy BEFORE INSERT ON iotmq_topic.ordered FOR EACH ROW EXECUTE FUNCTION busy();
SQL
($bridge, $from) = bridge('ordered');
syswrite $from, join '', map { message($_, 'd', "{\"n\": $_}") } 1 .. 5;
is(join(' ', map { hex substr packet($from), 4 } 1 .. 5), '1 2 3 4 5', 'errors that pass: all is acknowledged');
is(query(q{SELECT string_agg(payload->>'n', ' ' ORDER BY msg_offset) FROM iotmq_topic.ordered}), '1 2 3 4 5', '... in the order of the device');
$bridge->{run}->signal('TERM');
packet($from);
close $from;
ended($bridge, 0, '... and it ends');

# Archives
system_or_bail('gcc', qw(-g -O1 -shared -fPIC -D_GNU_SOURCE -o), "$folder/stop_at.so", 'test/client/stop_at.c', '-ldl');
my $files = "$folder/files";

sub archive
{
	my ($environment, @arguments) = @_;
	local @ENV{ 'LD_PRELOAD', keys %$environment } = ("$folder/stop_at.so", values %$environment);
	return begin('archive', @connection, @arguments, 'a', $files);
}

# The objects of a topic, as first-last, and the messages in them
sub objects
{
	my ($topic) = @_;
	my (@names, @messages);
	foreach my $file (glob "$files/$topic/default/*.gz")
	{
		my $text;
		gunzip($file => \$text) or die $GunzipError;
		push @names, join '-', map { $_ + 0 } $file =~ /(\d+)-(\d+)\.ndjson/;
		push @messages, map { decode_json($_)->{msg_offset} } split /^/, $text;
	}
	return ("@names", "@messages");
}

sub end_backends
{
	query('SELECT count(pg_terminate_backend(pid, 60000)) ' . backends('archive'));
}

# Killed when an object has its name, and its folder may not be on disk: the next one brings it
# there before the group goes behind the object.
query(q{SELECT iotmq.publish('kept', 'd', to_jsonb(g)) FROM generate_series(1, 3) AS g});
my $archive = archive({ KILL_AT_RENAME => 1 }, '--until-empty', 'kept');
$archive->{run}->finish;
is($archive->{run}->full_result(0) & 127, 9, 'killed when an object has its name');
end_backends();
is(query(q{SELECT iotmq.committed_offset('kept', 'a', 'default')}), '1', '... and the group is not behind it');
ended(archive({ NOTE_FSYNC => "$folder/synced" }, '--until-empty', 'kept'), 0, '... and started again');
is(query(q{SELECT iotmq.committed_offset('kept', 'a', 'default')}), '4', '... the group goes behind it');
is(-e "$folder/synced" ? slurp_file("$folder/synced") : '', "$files/kept/default\n$files/kept\n$files\n", '... with its folders on disk');

# A session that is lost while its program is about to write, and another program that waits for
# the zone: each message is in one object.
query(q{SELECT iotmq.publish('two', 'd', to_jsonb(g)) FROM generate_series(1, 10) AS g});
my $first = archive({ HOLD_AT_OPEN => "$folder/two" }, '--seconds=0.1', 'two');
wait_until(sub { -e "$folder/two.held" }, 'an object');
query(q{SELECT iotmq.publish('two', 'd', to_jsonb(g)) FROM generate_series(11, 20) AS g});
end_backends();
my $second = archive({}, '--seconds=0.1', 'two');
$second->{run}->pump until $second->{err} =~ /using it/ || $second->{out} =~ /two/ || !$second->{run}->pumpable;
append_to_file("$folder/two.go", '');
$first->{run}->pump until $first->{err} =~ /another session/ || !$first->{run}->pumpable;
wait_until(sub { query(q{SELECT lag_messages = 0 FROM iotmq.group_lag WHERE topic = 'two'}) eq 't' }, 'the second one');
$_->{run}->signal('TERM') foreach $first, $second;
ended($first, 0, 'a session is lost');
ended($second, 0, '... and another one goes on');
is(join(': ', objects('two')), '1-10 11-20: ' . join(' ', 1 .. 20), '... each message is in one object');

# A seek that commits while an object is being written is not undone.
query(q{SELECT iotmq.publish('moved', 'd', to_jsonb(g)) FROM generate_series(1, 5) AS g});
ended(archive({}, '--until-empty', 'moved'), 0, 'before a seek');
query(q{SELECT iotmq.publish('moved', 'd', to_jsonb(g)) FROM generate_series(6, 10) AS g});
my $session = $node->background_psql('postgres');
$session->query_safe("BEGIN; SELECT iotmq.seek_offset('moved', 'a', 'default', 1)");
$archive = archive({}, '--until-empty', 'moved');
wait_until(sub { query('SELECT count(*) FROM pg_locks WHERE NOT granted') }, 'its commit');
unlink glob "$files/moved/default/*1-*5.ndjson.gz";
$session->query_safe('COMMIT');
$session->quit;
ended($archive, 0, 'a seek in the middle');
is(join(': ', objects('moved')), '1-5 6-10: ' . join(' ', 1 .. 10), '... counts: what was deleted is written again');

# Object storage that gives the same page of its list again and again
$ENV{AWS_ACCESS_KEY_ID} = $ENV{AWS_SECRET_ACCESS_KEY} = 'x';
delete @ENV{qw(AWS_ENDPOINT_URL AWS_SESSION_TOKEN)};
my $key = 'p/kept/default/' . sprintf('%019d-%019d', 1, 3) . '.ndjson.gz';
$archive = begin('archive', @connection, '--until-empty', "--endpoint=$web_url", 'kept', 'a', 's3://bucket/p');
for (1 .. 10)
{
	my $storage;
	$archive->{run}->pump_nb until !$archive->{run}->pumpable || ($storage = IO::Select->new($web)->can_read(0.1) ? $web->accept : undef);
	last if !$storage;
	my $text = '';
	sysread($storage, $text, 65536, length $text) or die until $text =~ /\r\n\r\n/;
	my ($status, $content) = $text =~ /_plan/ ? ('404 Not Found', '<Error><Code>NoSuchKey</Code></Error>') :
		('200 OK', "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>$key</Key></Contents></ListBucketResult>");
	print $storage "HTTP/1.1 $status\r\nContent-Length: " . length($content) . "\r\nConnection: close\r\n\r\n$content";
	close $storage;
}
close $web;
ended($archive, 1, 'a list without an end');
like($archive->{err}, qr/the list doesn't go on/, '... is told');

# Functions and operators of others, which fit better than PostgreSQL's own, are not called with the
# rights of the program's role.
query('CREATE DATABASE alike');
$node->safe_psql('alike', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t'), iotmq.create_group('t', 'g', start_from => '-infinity'), iotmq.create_group('t', 'a', start_from => '-infinity');
CREATE FUNCTION trap(anyelement) RETURNS anyelement LANGUAGE plpgsql AS $$ BEGIN RAISE 'a look-alike was called'; END $$;
CREATE FUNCTION unnest(bigint[]) RETURNS SETOF bigint LANGUAGE sql AS $$ SELECT trap(1::bigint) $$;
CREATE FUNCTION unnest(jsonb[]) RETURNS SETOF jsonb LANGUAGE sql AS $$ SELECT trap('1'::jsonb) $$;
CREATE FUNCTION make_interval(secs float8) RETURNS interval LANGUAGE sql AS $$ SELECT trap('1 s'::interval) $$;
CREATE FUNCTION cardinality(text[]) RETURNS int LANGUAGE sql AS $$ SELECT trap(1) $$;
CREATE FUNCTION to_jsonb(timestamp) RETURNS jsonb LANGUAGE sql AS $$ SELECT trap('1'::jsonb) $$;
CREATE FUNCTION jsonb_trap(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT trap($1) $$;
CREATE FUNCTION text_trap(jsonb, jsonb) RETURNS text LANGUAGE sql AS $$ SELECT trap(''::text) $$;
CREATE FUNCTION boolean_trap(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS $$ SELECT trap(true) $$;
CREATE FUNCTION numeric_trap(numeric, int) RETURNS boolean LANGUAGE sql AS $$ SELECT trap(true) $$;
CREATE FUNCTION state_trap(text[], text) RETURNS text[] LANGUAGE sql AS $$ SELECT trap($1) $$;
CREATE AGGREGATE array_agg(text) (sfunc = state_trap, stype = text[]);
CREATE OPERATOR -> (leftarg = jsonb, rightarg = jsonb, function = jsonb_trap);
CREATE OPERATOR ->> (leftarg = jsonb, rightarg = jsonb, function = text_trap);
CREATE OPERATOR #>> (leftarg = jsonb, rightarg = jsonb, function = text_trap);
CREATE OPERATOR ? (leftarg = jsonb, rightarg = jsonb, function = boolean_trap);
CREATE OPERATOR = (leftarg = numeric, rightarg = int, function = numeric_trap);
SQL
my @alike = ('-h', $node->host, '-p', $node->port, '-d', 'alike');
my $lines = begin('publish', @alike, 't');
$lines->{in} = qq({"device_id": "d", "payload": 1, "tag": "a"}\n{"device_id": "d", "body": "AP8="}\n);
ended($lines, 0, 'look-alikes: publish');
foreach my $call ([ 'publish', 't', 'd', '1' ], [ 'consume', '--until-empty', 't', 'g' ], [ 'archive', '--until-empty', 't', 'a', "$folder/alike" ],
	[ 'tail', '--no-follow', 't' ], [ 'lag', 't' ], [ 'lag', '--json', '--zones' ], ['groups'], [ 'dead-letters', 't', 'g' ],
	[ 'dead-letters', '--json', 't', 'g' ], [ 'trace', 't', 'default', '1' ], [ 'redrive', 't', 'g' ], [ 'seek', 't', 'g', 'earliest' ])
{
	my ($verb, @arguments) = @$call;
	ended(begin($verb, @alike, @arguments), 0, "look-alikes: $verb @arguments");
}
append_to_file("$folder/alike.rules", "broker = 127.0.0.1:1\nclient-id = b\npoison = none\n[d/{device}]\ntopic = t\ndevice = {device}\n");
ended(begin('bridge', @alike, "$folder/alike.rules"), 3, 'look-alikes: bridge, without a broker');

done_testing();
