# iotmq bridge with the real Mosquitto: what it makes of messages, and that what the broker
# has acknowledged to a publisher is in the log, whatever is killed or restarted.
#
# Promise: no-loss, once-by-key

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IPC::Run qw(start timeout);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

my $folder = PostgreSQL::Test::Utils::tempdir;
system_or_bail('make', '-s', '-C', 'client');

# The parser, by samples and mutations of them, under sanitizers
system_or_bail('gcc', qw(-g -O1 -std=gnu11 -D_GNU_SOURCE), '-fsanitize=address,undefined',
	qw(-fno-sanitize-recover=all -Iclient/lib -Iclient/mqtt -Iclient/bridge), '-o', "$folder/parse",
	qw(test/client/parse.c client/mqtt/reader.c client/bridge/filter.c client/bridge/json_path.c client/lib/memory.c));
my ($parsed, $parse_errors) = run_command([ "$folder/parse", 'test/client/packets' ]);
like($parsed, qr/\A\d+ samples and 20000 mutations, with messages in them\z/, 'packets') or diag($parse_errors);

# A broker that keeps what it has, over TCP and, with a certificate of its own, over TLS
my ($port, $tls_port, $mutual_port) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 3;
system_or_bail('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost',
	'-addext', 'subjectAltName=DNS:localhost', '-keyout', "$folder/key", '-out', "$folder/certificate");
system_or_bail('mosquitto_passwd', '-b', '-c', "$folder/passwords", 'bridge', 's3cret');
append_to_file("$folder/password", "s3cret\n");
append_to_file("$folder/wrong-password", "wrong\n");
mkdir "$folder/kept" or die;
append_to_file("$folder/mosquitto.conf", <<"CONF");
per_listener_settings true
persistence true
persistence_location $folder/kept/
max_inflight_messages 200
max_queued_messages 0
log_dest file $folder/mosquitto.log
listener $port 127.0.0.1
allow_anonymous true
listener $tls_port 127.0.0.1
certfile $folder/certificate
keyfile $folder/key
password_file $folder/passwords
listener $mutual_port 127.0.0.1
certfile $folder/certificate
keyfile $folder/key
cafile $folder/certificate
require_certificate true
allow_anonymous true
CONF

my ($broker, $broker_out);

sub start_broker
{
	$broker = start([ '/usr/sbin/mosquitto', '-c', "$folder/mosquitto.conf" ], '<', \undef, '>&', \$broker_out);
	for (1 .. 1800)
	{
		return if system("mosquitto_pub -p $port -t nobody -n 2>/dev/null") == 0;
		select(undef, undef, undef, 0.1);
	}
	die "the broker doesn't start: $broker_out";
}

sub stop_broker
{
	$broker->signal('TERM');
	$broker->finish;
}

# Publishes; "of": each line of the input is a message.
sub mqtt
{
	my (@arguments) = @_;
	system_or_bail('mosquitto_pub', '-h', '127.0.0.1', '-p', $port, @arguments);
}

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

sub wait_until
{
	my ($condition) = @_;
	$node->poll_query_until('postgres', "SELECT $condition") or die "never: $condition";
}

my $number = 0;

# A file of rules
sub rules
{
	my ($text) = @_;
	my $name = "$folder/rules" . ++$number;
	append_to_file($name, $text);
	return $name;
}

my ($out, $err);

sub bridge
{
	my (@arguments) = @_;
	($out, $err) = ('', '');
	return start([ 'client/iotmq', 'bridge', '-h', $node->host, '-p', $node->port, '-d', 'postgres', @arguments ],
		'<', \undef, '>', \$out, '2>', \$err, timeout(300));
}

# Until it has subscribed
sub up
{
	my (@arguments) = @_;
	my $run = bridge(@arguments);
	$run->pump until $out =~ /subscribed/ || !$run->pumpable;
	$out =~ /subscribed/ or die "no bridge: $err";
	return $run;
}

# Ends it by SIGTERM; returns its last line.
sub down
{
	my ($run) = @_;
	$run->signal('TERM');
	$run->finish;
	is($run->full_result(0), 0, 'SIGTERM') or diag($err);
	return (split /\n/, $out)[-1];
}

# The status of one that ends by itself
sub fails
{
	my (@arguments) = @_;
	my $run = bridge(@arguments);
	$run->finish;
	return $run->full_result(0) >> 8;
}

start_broker();
query(<<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('telemetry', zones => '{north,south}', dedup_window => '1 hour'),
	iotmq.create_topic('raw'), iotmq.create_topic('poison');
SQL

# Rules that can't be used
my $head = "broker = 127.0.0.1:$port\nclient-id = test\npoison = poison\n";
my $rule = "[a/{device}]\ntopic = raw\ndevice = {device}\n";
foreach my $wrong (
	[ $head, qr/:3: there is no rule/ ],
	[ "client-id = test\npoison = none\n$rule", qr/no "broker"/ ],
	[ "broker = x\npoison = none\n$rule", qr/no "client-id"/ ],
	[ "broker = x\nclient-id = test\n$rule", qr/no "poison"/ ],
	[ "broker = x:y\n", qr/:1: a bad value of "broker"/ ],
	[ "${head}keep-alive = 0\n", qr/:4: a bad value of "keep-alive"/ ],
	[ "${head}tls = maybe\n", qr/:4: a bad value of "tls"/ ],
	[ "${head}password-file = /nowhere\n", qr/:4: a bad value of "password-file"/ ],
	[ "${head}password-file = $folder/password\n$rule", qr/a password needs a "user"/ ],
	[ "${head}ca-file = $folder/certificate\n$rule", qr/need "tls = on"/ ],
	[ "${head}tls = on\nkey-file = $folder/key\n$rule", qr/a "key-file" needs a "cert-file"/ ],
	[ "${head}colour = red\n", qr/:4: there is no setting "colour" here/ ],
	[ "${head}nonsense\n", qr/:4: this is no/ ],
	[ "$head${rule}broker = x\n", qr/:7: there is no setting "broker" here/ ],
	[ "$head${rule}zone = {zone}\n", qr/:7: a bad value of "zone"/ ],
	[ "$head${rule}zone = {device\n", qr/:7: a bad value of "zone"/ ],
	(map { [ "$head${rule}tag = {$_}\n", qr/:7: a bad value of "tag"/ ] } '$', '$.', '$.a b', '$[x]', '$[1', 'id', '$id'),
	[ "$head${rule}payload = xml\n", qr/:7: a bad value of "payload"/ ],
	[ "$head${rule}share = a/b\n", qr/:7: a bad value of "share"/ ],
	[ "$head${rule}property.a = 1\nproperty.a = 2\n", qr/:8: a bad value of "property.a"/ ],
	[ "$head\[a/{b}]\ntopic = raw\n", qr/:4: this rule has no "device"/ ],
	[ "$head\[a/{b}]\ndevice = {b}\n", qr/:4: this rule has no "topic"/ ],
	(map { [ "$head\[$_->[0]]\n", qr/:4: .*$_->[1]/ ] } [ '', 'a filter has' ], [ 'a/#/b', 'whole levels' ], [ 'a+', 'whole levels' ],
		[ 'a/b{c}', 'whole levels' ], [ '{a}b', 'all of a level' ], [ '{a}/{a}', 'twice' ], [ '{A}', 'a name has letters' ],
		[ '{topic}', 'have their meaning' ], [ join('/', map { "{n$_}" } 1 .. 17), 'more than 16' ]),
	[ "$head\[a\n", qr/:4: a filter ends with/ ])
{
	my ($text, $error) = @$wrong;
	is(fails(rules($text)), 2, "rules that are refused: $error");
	like($err, $error, '... and why');
}
is(fails("$folder/nowhere"), 2, 'no rules');
is(fails('--confirm=perhaps', rules($head . $rule)), 2, 'confirmed in no known way');
is(fails('-d', 'nowhere', rules($head . $rule)), 3, 'no database');
is(fails(rules($head =~ s/$port/1/r . $rule)), 3, 'no broker');
like($err, qr/127\.0\.0\.1:1: Connection refused/, '... and it says so');

is(fails(rules($head =~ s/poison = poison/poison = nowhere/r . $rule)), 1, 'no topic of poison');
like($err, qr/topic "nowhere": there is no such topic/, '... is told');
is(fails(rules($head =~ s/poison = poison/poison = telemetry/r . $rule)), 1, 'a topic of poison with zones');
like($err, qr/topic "telemetry": a topic of poison has one zone/, '... is told');
is(fails(rules($head . $rule =~ s/topic = raw/topic = nowhere/r)), 1, 'no topic');
like($err, qr/topic "nowhere": there is no such topic/, '... is told');
is(fails(rules("$head${rule}key = {device}\n")), 1, 'a key where there are none');
like($err, qr/topic "raw": a key needs a dedup_window/, '... is told');
query(q{CREATE ROLE bridge LOGIN; CREATE ROLE stranger LOGIN;
	SELECT iotmq.grant_publish(topic, 'bridge') FROM unnest(ARRAY['telemetry', 'raw', 'poison']) AS topic});
is(fails('-U', 'stranger', rules($head . $rule)), 1, 'no right');
like($err, qr/permission denied for schema iotmq/, '... is told');

# What becomes of a message
my $rules = rules(<<"RULES");
# Where from
broker = 127.0.0.1:$port
client-id = bridge
poison = poison

[plant/{zone}/{device}/{kind}]
topic = telemetry
zone = {zone}
device = {device}
tag = {kind}
key = {sha256}
property.line = {zone}-{kind} of {topic}
property.by = mqtt

[json/{device}]
topic = raw
device = {device}
payload = json

[body/{device}/#]
topic = raw
device = {device}
payload = body
share = some

[value/+]
topic = telemetry
zone = {\$.where.zone}
device = {\$.devices[0]}
tag = v{\$.version}
key = {\$.where.zone}/{\$.id}
RULES
mqtt('-r', '-q', '1', '-t', 'plant/north/kept/warm', '-m', '{"kept": true}');
my $run = up('-U', 'bridge', $rules);
wait_until('count(*) = 1 FROM iotmq_topic.telemetry');
mqtt('-q', '1', '-t', 'plant/north/pump-1/warm', '-m', '{"c": 71}') foreach 1, 2;
mqtt('-q', '0', '-t', 'plant/south/pump "2"/warm', '-m', ' [1]');
mqtt('-q', '2', '-t', 'plant/south/pump-3/cold', '-m', '23.5C');
mqtt('-q', '1', '-t', 'plant/south/pump-4/cold', '-m', 'warm');
mqtt('-q', '1', '-t', 'plant/south/pump-5/cold', '-m', '"\u0000"');
mqtt('-q', '1', '-t', 'plant/south/pump-6/cold', '-n');
mqtt('-q', '1', '-t', 'json/a', '-m', '{"a": 1}');
mqtt('-q', '1', '-t', 'body/b/c/d', '-m', '{"a": 1}');
mqtt('-q', '1', '-t', 'body/b', '-m', 'é');
wait_until('count(*) = 7 FROM iotmq_topic.telemetry');
wait_until('count(*) = 3 FROM iotmq_topic.raw');
is(query(<<'SQL'), <<'ROWS' =~ s/\n\z//r, 'captures, JSON and bodies; the same message twice is there once');
SELECT zone, device_id, tag, payload, convert_from(body, 'UTF8'), properties, length(message_key)
FROM iotmq_topic.telemetry ORDER BY device_id COLLATE "C"
SQL
north|kept|warm|{"kept": true}||{"by": "mqtt", "line": "north-warm of plant/north/kept/warm"}|64
south|pump "2"|warm|[1]||{"by": "mqtt", "line": "south-warm of plant/south/pump \"2\"/warm"}|64
north|pump-1|warm|{"c": 71}||{"by": "mqtt", "line": "north-warm of plant/north/pump-1/warm"}|64
south|pump-3|cold||23.5C|{"by": "mqtt", "line": "south-cold of plant/south/pump-3/cold"}|64
south|pump-4|cold||warm|{"by": "mqtt", "line": "south-cold of plant/south/pump-4/cold"}|64
south|pump-5|cold||"\u0000"|{"by": "mqtt", "line": "south-cold of plant/south/pump-5/cold"}|64
south|pump-6|cold|||{"by": "mqtt", "line": "south-cold of plant/south/pump-6/cold"}|64
ROWS
is(query(q{SELECT device_id, payload, convert_from(body, 'UTF8'), properties FROM iotmq_topic.raw ORDER BY device_id, msg_offset}),
	qq(a|{"a": 1}||\nb||{"a": 1}|\nb||é|), 'as the rules say');

# Values within the payload
mqtt('-q', '1', '-t', 'value/a', '-m', $_)
	foreach '{"id": 1, "where": {"zone": "north"}, "devices": ["v-1"], "version": 2}',
	'{"id": 1, "where": {"zone": "north"}, "devices": ["v-1"], "version": 2, "sent": "again"}',
	'{"id": 1, "where": {"zone": "south"}, "devices": ["v-\u00e4"], "version": true}';
wait_until(q{count(*) = 2 FROM iotmq_topic.telemetry WHERE message_key LIKE '%/1'});
is(query(q{SELECT zone, device_id, tag, message_key, payload ? 'sent' FROM iotmq_topic.telemetry WHERE message_key LIKE '%/1' ORDER BY 1}),
	"north|v-1|v2|north/1|f\nsouth|v-ä|vtrue|south/1|f", 'values within the payload; a device that sends again is heard once');

# Poison: each kind is kept with its reason, and stops nothing.
my $large = "$folder/large";
append_to_file($large, '"' . 'x' x (4 << 20) . '"');
mqtt('-q', '1', '-t', 'json/a', '-m', 'yes');
mqtt('-q', '1', '-t', 'json/a', '-m', '{no');
mqtt('-q', '1', '-t', 'plant/south//warm', '-m', '1');
mqtt('-q', '1', '-t', 'plant/south/' . 'd' x 256 . '/warm', '-m', '1');
mqtt('-q', '1', '-t', 'plant/west/pump-1/warm', '-m', '1');
mqtt('-q', '1', '-t', 'plant/south/pump-1/a||b', '-m', '1');
mqtt('-q', '1', '-t', 'json/a', '-f', $large);
truncate $large, 4 << 20;
mqtt('-q', '1', '-t', 'body/large', '-f', $large);
mqtt('-q', '1', '-t', 'value/b', '-m', '{"id": {}, "where": {"zone": "north"}, "devices": ["v"], "version": 1}');
mqtt('-q', '1', '-t', 'value/c', '-m', 'no JSON');
mqtt('-q', '1', '-t', 'json/a', '-m', '{"last": 1}');
wait_until(q{count(*) = 1 FROM iotmq_topic.raw WHERE payload ? 'last'});
wait_until('count(*) = 10 FROM iotmq_topic.poison');
is(query(<<'SQL'), <<'ROWS' =~ s/\n\z//r, 'poison');
SELECT device_id, properties->>'sqlstate', properties->>'reason', left(properties->>'mqtt_topic', 20), properties->>'filter',
	properties->>'length', length(body), properties->>'mqtt_qos'
FROM iotmq_topic.poison ORDER BY properties->>'mqtt_topic' COLLATE "C", properties->>'reason' COLLATE "C"
SQL
mqtt|54000|message of 4194309 bytes exceeds the limit of 4194304 bytes|body/large|body/+/#|4194304|4128768|1
mqtt|22P02|invalid input syntax for type json|json/a|json/+|3|3|1
mqtt||the message is over 4 MiB|json/a|json/+|4194306|4096|1
mqtt||this is no JSON|json/a|json/+|3|3|1
mqtt||no device|plant/south//warm|plant/+/+/+|1|1|1
mqtt||the device id has more than 255 bytes|plant/south/dddddddd|plant/+/+/+|1|1|1
mqtt|22023|invalid tag "a||b"|plant/south/pump-1/a|plant/+/+/+|1|1|1
mqtt|42704|zone "west" of topic "telemetry" does not exist|plant/west/pump-1/wa|plant/+/+/+|1|1|1
mqtt||the payload has no $.id|value/b|value/+|70|70|1
mqtt||the payload has no $.devices[0]|value/c|value/+|7|7|1
ROWS
is(down($run), '15 published, 10 poison', '... and counted');
is($err, '', '... without a word');

# TLS: with the right certificate, name and password alone.
my $secure = "client-id = secure\npoison = none\ntls = on\nuser = bridge\n[secure/{device}]\ntopic = raw\ndevice = {device}\n";
my $passed = "broker = localhost:$tls_port\npassword-file = $folder/password\n";
my $trusted = "ca-file = $folder/certificate\n";
is(fails(rules($passed . $secure)), 3, 'a certificate of nobody who is known');
like($err, qr/the broker's certificate: self.signed certificate/, '... is told');
is(fails(rules($passed =~ s/localhost/127.0.0.1/r . $trusted . $secure)), 3, 'a certificate of another name');
like($err, qr/the broker's certificate: IP address mismatch/, '... is told');
is(fails(rules($passed . "ca-file = $folder/password\n" . $secure)), 3, 'no certificates');
is(fails(rules($passed =~ s/password$/wrong-password/mr . $trusted . $secure)), 1, 'a wrong password');
like($err, qr/it refuses/, '... is told');
$run = up(rules($passed . $trusted . $secure));
truncate $large, 1 << 20;
mqtt('-q', '1', '-t', 'secure/large', '-f', $large) foreach 1 .. 3;
mqtt('-q', '1', '-t', 'secure/small', '-m', '1');
wait_until(q{count(*) = 4 FROM iotmq_topic.raw WHERE device_id IN ('large', 'small')});
is(query(q{SELECT DISTINCT length(body) FROM iotmq_topic.raw WHERE device_id = 'large'}), 1 << 20, 'over TLS');
is(down($run), '4 published, 0 poison', '... and counted');

# A broker that wants a certificate of its clients
my $mutual = "broker = localhost:$mutual_port\nclient-id = mutual\npoison = none\ntls = on\n${trusted}CERT[mutual/{device}]\ntopic = raw\ndevice = {device}\n";
is(fails(rules($mutual =~ s/CERT//r)), 3, 'no certificate');
like($err, qr/certificate required/, '... is told');
is(fails(rules($mutual =~ s/CERT/cert-file = $folder\/certificate\nkey-file = $folder\/password\n/r)), 3, 'no key');
like($err, qr/there is no certificate in ".*certificate" with its key in ".*password"/, '... is told');
$run = up(rules($mutual =~ s/CERT/cert-file = $folder\/certificate\nkey-file = $folder\/key\n/r));
mqtt('-q', '1', '-t', 'mutual/m', '-m', '1');
wait_until(q{count(*) = 1 FROM iotmq_topic.raw WHERE device_id = 'm'});
is(down($run), '1 published, 0 poison', 'a certificate of ours');

# Under load the bridge is killed, the broker is restarted, and the database crashes: what was
# published is there, and with a key it is there once.
my $load = <<"RULES";
broker = 127.0.0.1:$port
client-id = load
poison = none
[MODE/keyed/{device}]
topic = telemetry
zone = south
device = MODE-{device}
key = MODE-{\$.n}
[MODE/plain/{device}]
topic = raw
device = MODE-{device}
RULES
foreach my $mode ('sync', 'async')
{
	my @call = ("--confirm=$mode", rules($load =~ s/MODE/$mode/gr =~ s/client-id = load/client-id = $mode/r));
	my $count = 2500;
	my $stored = "count(DISTINCT payload) FROM iotmq_topic.raw WHERE device_id LIKE '$mode-%' HAVING count(DISTINCT payload)";
	$run = up(@call);
	my $connections = '';
	my $publisher = start([ '/usr/bin/python3', '-B', 'test/client/publisher.py', $port, $count, "$mode/keyed/%d", "$mode/plain/%d" ],
		'<', \undef, '>', \$connections, timeout(600));
	wait_until("EXISTS (SELECT $stored > 100)");
	$run->kill_kill(grace => 0);
	$run = up(@call);
	wait_until("EXISTS (SELECT $stored > 300)");
	stop_broker();
	start_broker();
	wait_until("EXISTS (SELECT $stored > 600)");
	$node->stop('immediate');
	$node->start;
	$publisher->finish;
	is($publisher->full_result(0), 0, "$mode: all is acknowledged to the publisher");
	cmp_ok($connections, '>', 1, '... and the broker was restarted under load');
	wait_until("EXISTS (SELECT $stored = $count)");
	wait_until("count(*) >= $count FROM iotmq_topic.telemetry WHERE device_id LIKE '$mode-%'");
	down($run);
	is(query("SELECT count(*), count(DISTINCT payload) FROM iotmq_topic.telemetry WHERE device_id LIKE '$mode-%'"),
		"$count|$count", '... and with a key it is there once');
	is(query("SELECT count(*) >= $count, count(DISTINCT payload) FROM iotmq_topic.raw WHERE device_id LIKE '$mode-%'"),
		"t|$count", '... without one at least once');
	like($err, qr/127\.0\.0\.1:$port: /, '... a lost broker is told');
}

# A device keeps its order, though a topic has several connections.
$run = up(rules("broker = 127.0.0.1:$port\nclient-id = order\npoison = none\n[order/{device}]\ntopic = raw\ndevice = order-{device}\n"));
system_or_bail('/usr/bin/python3', '-B', 'test/client/publisher.py', $port, 300, 'order/%d');
wait_until(q{count(*) = 300 FROM iotmq_topic.raw WHERE device_id LIKE 'order-%'});
cmp_ok(query(q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%publish_batch($1%' AND pid <> pg_backend_pid()}), '>', 1, 'several connections');
is(query(q{SELECT count(*) FILTER (WHERE n < before) FROM (SELECT (payload->>'n')::int AS n,
	lag((payload->>'n')::int) OVER (PARTITION BY device_id ORDER BY msg_offset) AS before
	FROM iotmq_topic.raw WHERE device_id LIKE 'order-%') AS x}), '0', '... and each device has its order');
is(down($run), '300 published, 0 poison', '... and all of it');

# The database away: nothing is acknowledged, and SIGTERM doesn't wait for it.
$run = up($rules);
$node->stop;
mqtt('-q', '1', '-t', "json/away", '-m', "{\"n\": $_}") foreach 1 .. 20;
$run->pump until $err =~ /connection to server/ || !$run->pumpable;
is(down($run), '0 published, 0 poison', 'the database is away');
$node->start;
$run = up($rules);
wait_until(q{count(*) = 20 FROM iotmq_topic.raw WHERE device_id = 'away'});
down($run);
is(query(q{SELECT count(DISTINCT payload) FROM iotmq_topic.raw WHERE device_id = 'away'}), '20', '... and the broker had kept it');

query(q{SELECT iotmq.create_topic('poison_2')});

# A topic of poison that refuses it ends the bridge, and the broker keeps the message.
my $bad_poison = $head =~ s/poison = poison/poison = poison_2/r =~ s/test/bad/r . $rule . "payload = json\n";
$run = up(rules($bad_poison));
query(q{SELECT iotmq.drop_topic('poison_2')});
mqtt('-q', '1', '-t', 'a/b', '-m', 'yes');
$run->finish;
is($run->full_result(0) >> 8, 1, 'poison is refused');
like($err, qr/poison_2: poison is refused: .*\(42704\)/, '... which is told');
$run = up(rules($bad_poison =~ s/poison_2/none/r));
$run->pump until $err =~ /left out/ || !$run->pumpable;
like($err, qr{a message of a/b is left out: this is no JSON}, '... and the message comes again');
is(down($run), '0 published, 1 poison', '... and is counted');

# A broker of our own, to see what it is told: here every byte counts.
my $listener = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', Proto => 'tcp') or die;
my $keep_alive = 600;

sub own
{
	my ($content) = @_;
	return rules("broker = 127.0.0.1:" . $listener->sockport . "\nclient-id = i\nuser = u\npassword-file = $folder/password\n"
		. "keep-alive = $keep_alive\npoison = none\n[o/{device}]\ndevice = {device}\nshare = s\n" . ($content // "topic = raw\n"));
}

sub message
{
	my ($id, $text) = @_;
	return pack('C C/a*', 0x32, pack('n/a* n a*', 'o/own', $id, $text));
}

sub take
{
	my ($client, $length) = @_;
	my $bytes = '';
	while (length $bytes < $length)
	{
		sysread($client, $bytes, $length - length $bytes, length $bytes) or return unpack('H*', $bytes) . ' and no more';
	}
	return unpack 'H*', $bytes;
}

# Accepts the bridge, and says this after CONNECT and, unless it is undefined, that after SUBSCRIBE.
sub greet
{
	my ($connack, $suback) = @_;
	my $client = $listener->accept or die;
	is(take($client, 26), unpack('H*', "\x10\x18\0\4MQTT\4\xc0" . pack('n', $keep_alive) . "\0\1i\0\1u\0\6s3cret"), 'CONNECT');
	syswrite($client, $connack);
	return $client unless defined $suback;
	is(take($client, 19), unpack('H*', "\x82\x11\0\1\0\x0c\$share/s/o/+\1"), 'SUBSCRIBE');
	syswrite($client, $suback);
	return $client;
}

# What it refuses at the beginning
foreach my $case (
	[ "\x20\2\0\3", undef, 1, 'it is not available' ],
	[ "\x20\2\0\0", "\x90\3\0\1\x80", 1, 'it refuses a subscription to \$share/s/o/\+' ],
	[ "\x20\2\0\0", "\x90\4\0\1\1\1", 3, 'a SUBACK for something else' ],
	[ "\x20\2\0\0", "\x20\2\0\0", 3, 'a packet at a wrong time' ],
	[ message(1, '1'), undef, 3, 'a message before its CONNACK' ],
	[ "\xff", undef, 3, 'a packet that is not for a subscriber' ])
{
	my ($connack, $suback, $status, $error) = @$case;
	$run = bridge(own());
	my $client = greet($connack, $suback);
	$run->finish;
	is($run->full_result(0) >> 8, $status, "a broker's answer: $error");
	like($err, qr/$error/, '... is told');
}

# Acknowledged after the commit, and in order: the first of these is published twice.
$run = bridge('--confirm=async', own());
my $client = greet("\x20\2\0\0", "\x90\3\0\1\1");
my $blocker = $node->background_psql('postgres');
$blocker->query_safe('BEGIN; LOCK TABLE iotmq_topic.raw IN ACCESS EXCLUSIVE MODE');
syswrite($client, message(7, '{no') . message(3, '{"own": 2}') . message(9, '{"own": 3}'));
wait_until('EXISTS (SELECT FROM pg_locks WHERE NOT granted)');
is(scalar(() = IO::Select->new($client)->can_read(0)), 0, 'nothing is acknowledged before it is committed');
$blocker->query_safe('COMMIT');
$blocker->quit;
is(take($client, 12), '400200074002000340020009', 'PUBACKs in the order of the messages');
is(query(q{SELECT string_agg(coalesce(payload::text, convert_from(body, 'UTF8')), ' ' ORDER BY msg_offset)
	FROM iotmq_topic.raw WHERE device_id = 'own'}), '{"own": 2} {"own": 3} {no', '... which were published');

# What came by a connection that is lost is not acknowledged on the next one.
$blocker = $node->background_psql('postgres');
$blocker->query_safe('BEGIN; LOCK TABLE iotmq_topic.raw IN ACCESS EXCLUSIVE MODE');
syswrite($client, message(1, '{"own": 4}'));
wait_until('EXISTS (SELECT FROM pg_locks WHERE NOT granted)');
$client->close;
$client = greet("\x20\2\1\0", undef);
$blocker->query_safe('COMMIT');
$blocker->quit;
syswrite($client, message(2, '{"own": 5}'));
is(take($client, 4), '40020002', 'a session that is there needs no SUBSCRIBE, and its messages are acknowledged');
$run->signal('TERM');
is(take($client, 2), 'e000', 'DISCONNECT');
$client->close;
$run->finish;
is($run->full_result(0), 0, '... after SIGTERM');

# A connection that is lost between commit and PUBACK: the message comes again, and its key tells.
query(q{SELECT iotmq.create_topic('keyed', dedup_window => '1 hour')});
$run = bridge(own("topic = keyed\nkey = {device}-{\$.id}\n"));
$client = greet("\x20\2\0\0", "\x90\3\0\1\1");
$blocker = $node->background_psql('postgres');
$blocker->query_safe('BEGIN; LOCK TABLE iotmq_topic.keyed IN ACCESS EXCLUSIVE MODE');
syswrite($client, message(1, '{"id": 1}') . message(2, '{"id": 2}'));
wait_until('EXISTS (SELECT FROM pg_locks WHERE NOT granted)');
$client->close;
$blocker->query_safe('COMMIT');
$blocker->quit;
$client = greet("\x20\2\1\0", undef);
wait_until('count(*) = 2 FROM iotmq_topic.keyed');
syswrite($client, join '', map { message($_, "{\"id\": $_}") =~ s/^./\x3a/r } 1 .. 3);
is(take($client, 12), '400200014002000240020003', 'a lost PUBACK: what comes again is acknowledged');
is(query('SELECT message_key FROM iotmq_topic.keyed ORDER BY 1'), "own-1\nown-2\nown-3", '... and is there once');
$run->signal('TERM');
$run->finish;
$client->close;

# A broker that is silent gets a ping and is left, one without the session gets a SUBSCRIBE again.
$keep_alive = 1;
$run = bridge(own());
$client = greet("\x20\2\0\0", "\x90\3\0\1\1");
is(take($client, 2), 'c000', 'a ping');
my $next = greet("\x20\2\0\0", "\x90\3\0\1\1");
$run->pump until $err =~ /no answer/ || !$run->pumpable;
like($err, qr/no answer/, '... without an answer');
$run->kill_kill(grace => 0);

stop_broker();
done_testing();
