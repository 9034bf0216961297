# A bridge that finds 100,000 retained messages at its broker takes all of them, in bounded memory,
# though the broker sends them all at once and the database doesn't take any for a while.
#
# Promise: no-loss

use strict;
use warnings;

use IPC::Run qw(start timeout);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $messages = 100_000;
my $bytes = 600;	# of each: 60 MB together
my $most = 80;		# MB that the bridge may have had

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
system_or_bail('make', '-s', '-C', 'client');

my $folder = PostgreSQL::Test::Utils::tempdir;
my $port = PostgreSQL::Test::Cluster::get_free_port();
append_to_file("$folder/mosquitto.conf", <<"CONF");
listener $port 127.0.0.1
allow_anonymous true
max_inflight_messages 0
max_queued_messages 0
CONF
my $broker = start([ '/usr/sbin/mosquitto', '-c', "$folder/mosquitto.conf" ], '<', \undef, '>&', \my $noise);
system_or_bail('sh', '-c', "until mosquitto_pub -p $port -t nobody -n 2>/dev/null; do sleep 0.1; done");
system_or_bail('/usr/bin/python3', '-B', 'test/client/retain.py', $port, $messages, $bytes);

$node->safe_psql('postgres', q{CREATE EXTENSION iotmq; SELECT iotmq.create_topic('kept')});
append_to_file("$folder/rules", <<"RULES");
broker = 127.0.0.1:$port
client-id = bridge
poison = none
[kept/{device}]
topic = kept
device = {device}
RULES

my $blocker = $node->background_psql('postgres');
$blocker->query_safe('BEGIN; LOCK TABLE iotmq_topic.kept IN ACCESS EXCLUSIVE MODE');
my ($out, $err) = ('', '');
my $bridge = start([ 'client/iotmq', 'bridge', '-h', $node->host, '-p', $node->port, '-d', 'postgres', '--confirm=async', "$folder/rules" ],
	'<', \undef, '>', \$out, '2>', \$err, timeout(600));
$node->poll_query_until('postgres', 'SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)') or die;

# It stops reading: what it may hold is there, and nothing more comes.
my $pid = $bridge->{KIDS}[0]{PID};
my ($before, $now) = (-1, 0);
while ($now != $before)
{
	sleep 1;
	($before, $now) = ($now, slurp_file("/proc/$pid/io") =~ /^rchar: (\d+)/m);
}
$blocker->query_safe('COMMIT');
$blocker->quit;
$node->poll_query_until('postgres', "SELECT count(*) >= $messages FROM iotmq_topic.kept") or die $err;
my ($peak) = slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m;
$bridge->signal('TERM');
$bridge->finish;
is($bridge->full_result(0), 0, 'a bridge with 100,000 retained messages') or diag($err);
like($out, qr/^$messages published, 0 poison$/m, '... publishes them');
is($node->safe_psql('postgres', q{SELECT count(*), count(DISTINCT payload->>'n') FROM iotmq_topic.kept}), "$messages|$messages", '... each once');
cmp_ok($peak, '<', $most * 1024, '... in bounded memory') or diag("$peak kB");
note("$peak kB");

$broker->signal('TERM');
$broker->finish;
done_testing();
