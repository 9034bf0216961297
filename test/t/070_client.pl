# The program iotmq, its verbs and the loops under them: what is refused is told and stops
# nothing else, and a lost connection, a restart or a seek loses nothing.
#
# Promise: no-loss, once-by-key, errors-change-nothing

use strict;
use warnings;

use IPC::Run qw(start timeout);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "timezone = 'UTC'\nwal_level = replica\nmax_wal_senders = 2");
$node->start;

my $iotmq = 'client/iotmq';
system_or_bail('make', '-s', '-C', 'client');
delete @ENV{qw(PGDATABASE PGAPPNAME)};
my @connection = ('-h', $node->host, '-p', $node->port, '-d', 'postgres');

# (exit status, output, errors) of a call; the input of the first form is none.
sub call
{
	return call_with('', @_);
}

sub call_with
{
	my ($input, $verb, @arguments) = @_;
	my ($output, $errors) = ('', '');
	my $run = start([ $iotmq, $verb, @connection, @arguments ], '<', \$input, '>', \$output, '2>', \$errors, timeout(180));
	$run->finish;
	return ($run->full_result(0) >> 8, $output, $errors);
}

sub says
{
	my ($call, $status, $output, $name) = @_;
	my ($got_status, $got, $errors) = @$call;
	is("$got_status: $got", "$status: $output", $name) or diag($errors);
	return $errors;
}

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('plant', zones => '{north,south}', dedup_window => '1 hour'),
	iotmq.create_topic('one');
SELECT iotmq.create_group('plant', 'all', max_retries => 1, backoff => '{10 ms}');
SELECT iotmq.create_group('one', 'work', max_retries => 1, backoff => '{10 ms}', invisible_for => '1 s');
SQL

# Calls that can't be right
foreach my $wrong ([], ['nonsense'], [ 'lag', 'a', 'b', 'c' ], [ 'publish' ], [ 'consume', '--count=0', 'one', 'work' ],
	[ 'seek', 'one', 'work' ], [ 'seek', 'one', 'work', 'latest', '--offset=1' ], [ 'lag', '--watch=never' ])
{
	my ($output, $errors) = ('', '');
	my $run = start([ $iotmq, @$wrong ], '<', \undef, '>', \$output, '2>', \$errors, timeout(180));
	$run->finish;
	is($run->full_result(0) >> 8, 2, "usage: @$wrong");
	isnt($errors, '', '... and it says why');
}
my ($help) = run_command([ $iotmq, '--help' ]);
foreach my $verb ($help =~ /^  (\S+)/gm)
{
	my ($text) = run_command([ $iotmq, $verb, '--help' ]);
	like($text, qr/Usage: iotmq \Q$verb\E /, "help of $verb");
}
is(system("$iotmq lag -h /nowhere 2>/dev/null") >> 8, 3, 'no server');

# Publishing
says([ call('publish', 'one', 'pump', '{"c": 71}', '-t', 'warm') ], 0, "1\n", 'publish prints the offset');
like(says([ call('publish', 'one', 'pump', '{bad') ], 1, '', 'no JSON'), qr/22P02/, '... and says so');
like(says([ call('publish', 'plant', 'pump', '1') ], 1, '', 'no zone'), qr/22004/, '... and says so');
says([ call('publish', 'plant', 'pump', '1', '-z', 'north', '-k', 'k') ], 0, "1\n", 'with a key')
	foreach (1, 2);
says([ call('publish', '--body', 'one', 'pump', "a\tb") ], 0, "2\n", 'a body');
says([ call_with("1\n\n2\n3", 'publish', 'one', 'fan') ], 0, "3 published, 0 refused\n", 'a payload in each line');
says([ call_with("1\0\n", 'publish', 'one', 'fan') ], 1, "0 published, 1 refused\n", 'NUL');

my $lines = join '', map { qq({"device_id": "d$_", "zone": "south", "payload": {"v": $_}, "message_key": "k$_"}\n) } 1 .. 3000;
my @lines = split /^/, $lines;
splice @lines, 1500, 0, "bad\n", qq({"device_id": "x", "zone": "nowhere", "payload": 1}\n), qq({"device_id": "x", "zone": "south"}\n);
my $errors = says([ call_with(join('', @lines), 'publish', 'plant') ], 1, "3000 published, 3 refused\n", 'bad lines among good ones');
is(join(' ', sort $errors =~ /\((\w+)\)$/gm), '22004 22P02 42704', '... each is told');
is(query(q{SELECT count(*), count(DISTINCT payload), sum((payload->>'v')::int) FROM iotmq_topic.plant WHERE zone = 'south'}),
	'3000|3000|4501500', '... and the good ones are there');
says([ call_with(join('', @lines[0 .. 9]), 'publish', '--json', 'plant') ], 0,
	join('', map { qq({"msg_offset": "$_"}\n) } map { query("SELECT msg_offset FROM iotmq_topic.plant WHERE device_id = 'd$_'") } 1 .. 10),
	'published again with their keys');

# A server that goes away while lines are published: each is there once, by its key.  What the
# program calls published has been committed, and not only answered.
my $many = join '', map { qq({"device_id": "d", "zone": "north", "payload": $_, "message_key": "m$_"}\n) } 1 .. 30000;
my $input = PostgreSQL::Test::Utils::tempdir . '/input';
append_to_file($input, $many);
my ($out, $err) = ('', '');
my $run = start([ $iotmq, 'publish', @connection, '--batch=100', 'plant' ], '<', $input, '>', \$out, '2>', \$err, timeout(180));
$node->poll_query_until('postgres', q{SELECT count(*) > 100 FROM iotmq_topic.plant WHERE zone = 'north'}) or die;
$node->stop('immediate');
$node->start;
query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'iotmq publish'");
$run->finish;
is($out, "30000 published, 0 refused\n", 'a restart and a killed connection while publishing');
is(query(q{SELECT count(*), count(DISTINCT message_key) FROM iotmq_topic.plant WHERE message_key LIKE 'm%'}),
	'30000|30000', '... each is there once');

# Consuming
says([ call('tail', 'one', '--no-follow', '--json', '-n', '1') ], 0,
	query(q{SELECT format(E'{"zone": "default", "msg_offset": "5", "published_at": "%s", "device_id": "fan", "payload": 3}', published_at)
		FROM iotmq_topic.one WHERE msg_offset = 5}) . "\n", 'tail');
my ($status, $output) = call('consume', 'plant', 'all', '--until-empty', '--max=1000');
is($status, 0, 'consume until empty');
is(scalar(() = $output =~ /^/gm), 33001, '... all there is');
is(query(q{SELECT lag_messages FROM iotmq.group_lag WHERE topic = 'plant'}), '0', '... and is acknowledged');
says([ call('consume', 'plant', 'all', '--until-empty') ], 0, '', '... once');
like(says([ call('consume', 'plant', 'nobody') ], 1, '', 'an unknown group'), qr/nobody/, '... is named');

# What a command's end means
my $command = 'read x; case $IOTMQ_DEVICE-$x in pump-*71*) exit 0;; pump-*) echo "$IOTMQ_ZONE $IOTMQ_OFFSET bad" >&2; exit 65;;'
	. ' fan-1) exit 3;; *) kill -9 $$;; esac';
says([ call('consume', 'one', 'work', '--until-empty', '--exec', $command) ], 0, '', 'consume by a command');
is(query(q{SELECT msg_offset, attempts, reason FROM iotmq.dead_letter WHERE topic = 'one' ORDER BY 1}), <<'ROWS' =~ s/\n\z//r,
2|1|default 2 bad
3|2|the command ended with status 3
4|2|the command was killed by signal 9
5|2|the command was killed by signal 9
ROWS
	'... reject, nack, and a dead command');

# A command that takes longer than its lease, a killed connection, and SIGTERM
query("SELECT iotmq.publish('one', 'slow', g::text::jsonb) FROM generate_series(1, 3) g");
my $log = PostgreSQL::Test::Utils::tempdir . '/log';
$run = start([ $iotmq, 'consume', @connection, 'one', 'work', '--exec', "echo \$(cat) \$IOTMQ_ATTEMPT >>$log; sleep 1.3" ],
	'<', \undef, '>', \$out, '2>', \$err, timeout(180));
PostgreSQL::Test::Utils::system_or_bail('sh', '-c', "until test -s $log; do sleep 0.1; done");
query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'iotmq consume'");
$run->signal('TERM');
$run->finish;
is($run->full_result(0), 0, 'SIGTERM');
is(slurp_file($log), "1 1\n2 1\n3 1\n", '... finishes the batch, whose lease was extended');
is(query(q{SELECT lag_messages FROM iotmq.group_lag WHERE topic = 'one'}), '0', '... and acknowledges it');

# A seek ends the lease that is worked on; the messages come again.
query("SELECT iotmq.publish('one', 'slow', g::text::jsonb) FROM generate_series(4, 5) g");
my $first = query(q{SELECT msg_offset FROM iotmq_topic.one WHERE payload = '4'});
unlink $log;
$run = start([ $iotmq, 'consume', @connection, 'one', 'work', '--until-empty', '--exec',
		"echo \$(cat) >>$log; until test -e $log.go; do sleep 0.1; done" ],
	'<', \undef, '>', \$out, '2>', \$err, timeout(180));
PostgreSQL::Test::Utils::system_or_bail('sh', '-c', "until test -s $log; do sleep 0.1; done");
like((call('seek', 'one', 'work', '--zone=default', "--offset=$first"))[1],
	qr/^zone +old_offset +new_offset +messages\ndefault +\d+ +$first +2\n\z/, 'seek by offset');
append_to_file("$log.go", '');
$run->finish;
is($run->full_result(0), 0, 'consume survives a seek');
is(slurp_file($log), "4\n4\n5\n", '... and what it had comes again');
like($err, qr/lease \d+ is over/, '... and it says so');

# Looking after groups
like((call('lag', 'one'))[1], qr/^one +work +0 +0 +0 +0 +4 /m, 'lag');
says([ call('lag', 'one', 'nobody') ], 1, '', 'lag of an unknown group');
like((call('lag', '--zones', '--json', 'plant', 'all'))[1], qr/"zone":"north","next_offset":"\d+"/, 'lag by zone as JSON');
like((call('groups'))[1], qr/^plant +all +concurrent/m, 'groups');
like((call('trace', 'one', 'default', '2'))[1], qr/^work +dead letter/m, 'trace');
like(says([ call('trace', 'one', 'default', 'x') ], 1, '', 'trace of no offset'), qr/invalid input syntax/, '... says so');
my ($id) = (call('dead-letters', 'one', 'work'))[1] =~ /^ *(\d+) +default +2 /m;
says([ call('redrive', '--dry-run', 'one', 'work') ], 0, "redriven\n       4\n", 'redrive, dry run');
says([ call('redrive', 'one', 'work', $id) ], 0, "redriven\n       1\n", 'redrive of one');
is((call('consume', 'one', 'work', '--count=1', '--json'))[1] =~ /"msg_offset": "2".*"body": "YQli"/, 1, '... which comes again');
like((call('seek', 'one', 'work', 'earliest', '--dry-run'))[1], qr/^default +\d+ +1 +10$/m, 'seek, dry run');
says([ call('seek', 'one', 'work', 'no time') ], 1, '', 'seek to no time');

# lag --watch goes on until it is told to end, also when the server was away.
($out, $err) = ('', '');
$run = start([ $iotmq, 'lag', '--watch=0.1', @connection, 'one' ], '<', \undef, '>', \$out, '2>', \$err, timeout(180));
$run->pump until $out =~ /work.*work/s;
$node->stop;
$run->pump until $err =~ /connection to server/ || !$run->pumpable;
$node->start;
$out = '';
$run->pump until $out =~ /work.*work/s || !$run->pumpable;
$run->signal('INT');
$run->finish;
is($run->full_result(0), 0, 'lag --watch');

# tail of all zones goes on when one of them is dropped.
query(q{SELECT iotmq.create_topic('zones', zones => '{a,b}'), iotmq.publish('zones', 'd', '1', zone => 'a')});
($out, $err) = ('', '');
$run = start([ $iotmq, 'tail', @connection, 'zones' ], '<', \undef, '>', \$out, '2>', \$err, timeout(180));
$run->pump until $out =~ m{ a/\d+ } || !$run->pumpable;
query(q{SELECT iotmq.drop_zone('zones', 'a', force => true)});
$run->pump until $err =~ /zone "a" is gone/ || !$run->pumpable;
query(q{SELECT iotmq.add_zone('zones', 'a'), iotmq.publish('zones', 'd', '2', zone => 'b')});
query(q{SELECT iotmq.publish('zones', 'd', '3', zone => 'a')});
$run->pump until ($out =~ m{ b/\d+ } && $out =~ m{ a/\d+ .* a/\d+ .*3$}ms) || !$run->pumpable;
$run->signal('TERM');
$run->finish;
is($run->full_result(0), 0, 'tail goes on without a zone, and with it again');

# An acknowledgement that is committed, but whose answer is lost: its commit waits for a standby
# that nobody has when its session is ended.
$node->append_conf('postgresql.conf', 'synchronous_commit = local');
$node->reload;
query(q{SELECT iotmq.create_group('zones', 'durable', durable_acks => true, start_from => '-infinity')});
unlink $log;
{
	local $ENV{PGOPTIONS} = '-c synchronous_commit=on';
	($out, $err) = ('', '');
	$run = start([ $iotmq, 'consume', @connection, 'zones', 'durable', '--zone=b', '--count=1', '--exec',
			"echo >>$log; until test -e $log.ack; do sleep 0.1; done" ], '<', \undef, '>', \$out, '2>', \$err, timeout(180));
}
PostgreSQL::Test::Utils::system_or_bail('sh', '-c', "until test -s $log; do sleep 0.1; done");
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
$node->reload;
append_to_file("$log.ack", '');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'}) or die;
query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
$node->reload;
$run->finish;
is($run->full_result(0), 0, 'an answer that is lost');
like($err, qr/lease \d+ is over: its messages were settled as the connection was lost, or come again/, '... is told as what it is');
is(query(q{SELECT lag_messages FROM iotmq.consumer_lag WHERE topic = 'zones' AND consumer_group = 'durable' AND zone = 'b'}), '0', '... and was acknowledged');

# A second SIGTERM ends it at once, whatever the command does.
query("SELECT iotmq.publish('one', 'slow', '9')");
unlink $log;
$run = start([ $iotmq, 'consume', @connection, 'one', 'work', '--exec', "echo >>$log; until test -e $log.end; do sleep 0.1; done" ],
	'<', \undef, '>', \$out, '2>', \$err, timeout(180));
PostgreSQL::Test::Utils::system_or_bail('sh', '-c', "until test -s $log; do sleep 0.1; done");
my $pid = $run->{KIDS}[0]{PID};
$run->signal('TERM');
PostgreSQL::Test::Utils::system_or_bail('sh', '-c',
	"until test \$((0x\$(sed -n 's/SigCgt:.//p' /proc/$pid/status) & 0x4000)) = 0; do sleep 0.1; done");
$run->signal('TERM');
append_to_file("$log.end", '');
$run->finish;	# the command has the output, too
is($run->full_result(0) & 127, 15, 'a second SIGTERM');
says([ call('consume', 'one', 'work', '--until-empty', '--exec', 'true') ], 0, '', '... and the message comes again');

# What devices choose does nothing to a terminal.
query(q{SELECT iotmq.create_topic('esc'), iotmq.publish('esc', E'a\x1b[2J\n\u009bb', '"\u007f"', tag => E'c\x07\u00e9')});
like((call('tail', 'esc', '--no-follow'))[1], qr{^\S+ \S+  default/\d+  a \[2J  b  \[c \xC3\xA9\]  " "\n\z}, 'control characters');
like((call('publish', 'one', 'd', '1', '-z', "x\e[2J"))[2], qr/x \[2J/, '... in an error');

# A line that has no end takes no memory without end.
says([ call_with("1\n" . ('x' x (70 << 20)) . "\n2\n", 'publish', 'esc', 'd') ], 1, "2 published, 1 refused\n", 'an endless line');

# Too many for a statement_timeout: fewer at a time, and it is told.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.02); RETURN new; END';
CREATE TRIGGER slow BEFORE INSERT ON iotmq_topic.esc FOR EACH ROW EXECUTE FUNCTION slow();
CREATE ROLE hurried LOGIN;
SELECT iotmq.grant_publish('esc', 'hurried');
ALTER ROLE hurried SET statement_timeout = '0.5 s';
SQL
like(says([ call_with(join('', map { "$_\n" } 1 .. 64), 'publish', '-U', 'hurried', 'esc', 'd') ], 0, "64 published, 0 refused\n",
		'statement_timeout'), qr/statement timeout/, '... is told');

done_testing();
