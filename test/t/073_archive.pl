# iotmq archive: every message is in one object, whenever the program is killed, in files and
# in object storage whose requests fail, get lost and take effect late.
#
# STORAGE=s3rver takes s3rver, which npm brings, for a server of object storage, too.
#
# Promise: no-loss, exactly-once-effects

use strict;
use warnings;

use IO::Uncompress::Gunzip qw(gunzip $GunzipError);
use IPC::Run qw(start timeout);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{SEED} // int(rand(1_000_000));
note("SEED=$seed");
srand($seed);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->start;

system_or_bail('make', '-s', '-C', 'client');
my $folder = PostgreSQL::Test::Utils::tempdir;
my $run_as_server = $node;    # which one is archived
# PGAPPNAME: the program names itself.
delete @ENV{qw(PGAPPNAME AWS_ENDPOINT_URL AWS_SESSION_TOKEN AWS_DEFAULT_REGION)};
@ENV{qw(AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION)} = qw(id s3/cr+t eu-1);

sub query
{
	my ($sql) = @_;
	return $run_as_server->safe_psql('postgres', $sql);
}

# Starts it; what it says is in $out and $err.
my ($out, $err) = ('', '');

sub begin
{
	($out, $err) = ('', '');
	return start([ 'client/iotmq', 'archive', '-h', $run_as_server->host, '-p', $run_as_server->port, '-d', 'postgres', @_ ],
		'<', \undef, '>', \$out, '2>', \$err, timeout(180));
}

sub ended
{
	my ($run, $status, $name) = @_;
	$run->finish;
	is($run->full_result(0) >> 8, $status, $name) or diag($err);
}

sub wait_until
{
	my ($condition, $what) = @_;
	for (1 .. 1800)
	{
		return if $condition->();
		select(undef, undef, undef, 0.1);
	}
	die "waited in vain for $what: $err";
}

# The objects of a zone, by name: in a folder, in storage.py's and in s3rver's.
sub objects
{
	my ($where, $topic, $zone) = @_;
	my @files = (glob("$where/$topic/$zone/*.gz"), glob("$where/*$topic%2F$zone%2F*.gz"),
		glob("$where/objects/bucket/p/$topic/$zone/*.gz._S3rver_object"));
	return map { [ m{(\d{19}-\d{19})\.ndjson\.gz}, $_ ] } @files;
}

# The messages of the archive, which are in the order and within the bounds that names say.
sub archived
{
	my ($where, $topic, @zones) = @_;
	my (@messages, @wrong);
	foreach my $zone (@zones)
	{
		my $before = 0;
		foreach my $object (objects($where, $topic, $zone))
		{
			my ($name, $file) = @$object;
			my $text;
			gunzip($file => \$text) or die $GunzipError;
			my @lines = map { decode_json($_) } split /^/, $text;
			my ($first, $last) = map { $_ + 0 } split /-/, $name;
			push @wrong, $name if $first <= $before || $lines[0]{msg_offset} != $first || $lines[-1]{msg_offset} != $last;
			$before = $last;
			push @messages, map { "$_->{zone}/$_->{msg_offset}" } @lines;
		}
	}
	is("@wrong", '', 'objects have what their names say, and no two the same offsets');
	return join ' ', @messages;
}

sub all_is_archived
{
	my ($where, $topic, $name, @zones) = @_;
	my $archived = archived($where, $topic, @zones);
	my $expected = query("SELECT string_agg(zone || '/' || msg_offset, ' ' ORDER BY zone, msg_offset) FROM iotmq_topic.$topic");
	ok($archived eq $expected, $name)
		or diag(length $archived < 2000 ? "$archived\n$expected" : scalar(split / /, $archived) . ' of ' . scalar(split / /, $expected));
}

# Publishes n messages for each of so many commits, into the zones in turn, in the background.
sub publisher
{
	my ($topic, $commits, $n) = @_;
	my $sql = "DO \$\$ BEGIN FOR i IN 1..$commits LOOP
		PERFORM iotmq.publish('$topic', 'd' || g, to_jsonb(g), zone => CASE (i + g) % 2 WHEN 0 THEN 'north' ELSE 'south' END)
			FROM generate_series(1, $n) AS g;
		IF i % 7 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
		PERFORM pg_sleep(0.01);
	END LOOP; END \$\$";
	return start([ 'psql', '-qX', '-h', $node->host, '-p', $node->port, '-d', 'postgres', '-c', $sql ],
		'<', \undef, '>', \my $ignored, '2>', \my $noise, timeout(180));
}

# What a program that was killed has left: its backend may be at work, or wait for a lock, and
# keeps the zone meanwhile.  Returns how many there were.
sub end_backends
{
	return query(q{SELECT count(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity WHERE application_name = 'iotmq archive'});
}

# The program killed at random moments while publishers run, again and again.
sub kill_often
{
	my ($topic, $destination, @options) = @_;
	my @publishers = map { publisher($topic, 100, 5) } 1 .. 2;
	for (1 .. 12)
	{
		my $run = begin('--messages=60', '--seconds=' . (0.1 + rand(0.3)), @options, $topic, 'a', $destination);
		select(undef, undef, undef, rand(1));
		$run->kill_kill(grace => 0);
		unlike($err, qr/ERROR|HTTP 4/, 'no trouble but what passes') if $err =~ /ERROR|HTTP 4/;
	}
	$_->finish foreach @publishers;
	end_backends();
	ended(begin('--until-empty', '--messages=60', @options, $topic, 'a', $destination), 0, 'the last run');
}

query(<<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic(t, zones => '{north,south}', dedup_window => '1 hour'), iotmq.create_group(t, 'a', start_from => '-infinity')
FROM unnest('{plant,killed,storage,late,server}'::text[]) AS t;
SELECT iotmq.create_topic(t), iotmq.create_group(t, 'a', start_from => '-infinity') FROM unnest('{one,kept,restored}'::text[]) AS t;
SELECT iotmq.publish('plant', 'pump "ä"', '{"v": 1.50}', zone => 'south', tag => 'warm', message_key => 'k', properties => '{"a": [1]}');
SELECT iotmq.publish('plant', 'd', NULL, body => '\x00ff', zone => 'south');
SELECT iotmq.publish('plant', 'd' || g % 7, to_jsonb(g), zone => 'north') FROM generate_series(1, 2500) AS g;
SQL

# Files
my $files = "$folder/deep/files";
ended(begin('--until-empty', '--messages=1000', '--json', 'plant', 'a', $files), 0, 'files');
is(join(' ', sort map { "$_->{zone}:$_->{first_offset}-$_->{last_offset}=$_->{messages}" } map { decode_json($_) } split /^/, $out),
	'north:1-1000=1000 north:1001-2000=1000 north:2001-2500=500 south:1-2=2', '... each is told');
all_is_archived($files, 'plant', '... and all is there', 'north', 'south');
my ($south) = objects($files, 'plant', 'south');
my $text;
gunzip($south->[1] => \$text);
is($text, query(<<'SQL') . "\n", '... lines are those of consume, with times in UTC');
SELECT format(E'{"zone": "south", "msg_offset": "1", "published_at": "%s", "device_id": "pump \\"ä\\"", "tag": "warm", "payload": {"v": 1.50}, "properties": {"a": [1]}, "message_key": "k"}\n', a)
	|| format('{"zone": "south", "msg_offset": "2", "published_at": "%s", "device_id": "d", "body": "AP8="}', b)
FROM (SELECT replace(to_jsonb(min(published_at) AT TIME ZONE 'UTC') #>> '{}', 'T', ' ') || '+00',
	replace(to_jsonb(max(published_at) AT TIME ZONE 'UTC') #>> '{}', 'T', ' ') || '+00' FROM iotmq_topic.plant WHERE zone = 'south') AS x(a, b)
SQL
is(query(q{SELECT lag_messages FROM iotmq.group_lag WHERE topic = 'plant'}), '0', '... and the group is behind them');
is(join(' ', grep { !/\.gz\z/ } glob("$files/plant/*/* $files/plant/*/.[a-z0-9]*")), '', '... and nothing else');

# The same bytes in another session, whatever its settings are, of a role that may consume and
# no more; and nothing where it is there.
query(q{CREATE ROLE archivist LOGIN; SELECT iotmq.grant_consume('plant', 'a', 'archivist'), iotmq.seek('plant', 'a', '-infinity')});
{
	local $ENV{PGOPTIONS} = '-c timezone=Asia/Tokyo -c datestyle=German -c bytea_output=escape -c extra_float_digits=-5';
	ended(begin('-U', 'archivist', '--until-empty', '--messages=1000', 'plant', 'a', "$folder/again"), 0, 'archived again');
}
is(system('diff', '-r', $files, "$folder/again"), 0, '... to the same bytes');
query(q{SELECT iotmq.seek('plant', 'a', '-infinity')});
ended(begin('--until-empty', '--messages=70', 'plant', 'a', $files), 0, 'with other limits over what is there');
is($out, '', '... nothing is written');
is(system('diff', '-r', $files, "$folder/again"), 0, '... or changed');
query(q{SELECT iotmq.seek_offset('plant', 'a', 'north', 1500)});
unlink((objects($files, 'plant', 'north'))[2]->[1]);
ended(begin('--until-empty', '--messages=1000', 'plant', 'a', $files), 0, 'from the middle of an object, the next one deleted');
is(system('diff', '-r', $files, "$folder/again"), 0, '... which alone is written again');

# Killed between an object and the commit behind it, while more comes: the object has what it had.
query(q{SELECT iotmq.publish('one', 'd', to_jsonb(g)) FROM generate_series(1, 10) AS g});
my $session = $node->background_psql('postgres');
$session->query_safe("BEGIN; SELECT iotmq.commit_offset('one', 'a', 'default', 1)");
my $run = begin('--seconds=0.1', 'one', 'a', $files);
wait_until(sub { objects($files, 'one', 'default') }, 'an object');
$run->kill_kill(grace => 0);
is(end_backends(), '1', 'killed before its commit');
$session->query_safe('ROLLBACK');
$session->quit;
query(q{SELECT iotmq.publish('one', 'd', to_jsonb(g)) FROM generate_series(11, 15) AS g});
is(query(q{SELECT iotmq.committed_offset('one', 'a', 'default')}), '1', '... which is not done');
ended(begin('--until-empty', 'one', 'a', $files), 0, '... and started again');
is(join(' ', map { $_->[0] =~ s/\b0+//gr } objects($files, 'one', 'default')), '1-10 11-15', '... the object stays as it was');

# SIGTERM writes what has been read; another one waits for the zone; both outlive a restart.
sub has_read
{
	return $node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity
		WHERE application_name = 'iotmq archive' AND state = 'idle' AND query LIKE '%iotmq.fetch%'});
}
query(q{SELECT iotmq.publish('one', 'd', '16')});
$run = begin('--seconds=3600', 'one', 'a', $files);
has_read() or die;
my ($other_out, $other_err) = ('', '');
my $other = start([ 'client/iotmq', 'archive', '-h', $node->host, '-p', $node->port, '-d', 'postgres', '--seconds=0.1', 'one', 'a', $files ],
	'<', \undef, '>', \$other_out, '2>', \$other_err, timeout(180));
$other->pump until $other_err =~ /\n/;
like($other_err, qr/another session/, 'one session at a time works on a zone');
is(scalar(objects($files, 'one', 'default')), 2, 'an object waits for more');
$run->signal('TERM');
ended($run, 0, 'SIGTERM');
like($out, qr/^one\/default\/0*16-0*16\.ndjson\.gz  1 messages\n\z/, '... writes what has been read');
query(q{SELECT iotmq.publish('one', 'd', '17')});
wait_until(sub { objects($files, 'one', 'default') == 4 }, 'the other one');
$node->restart;
query(q{SELECT iotmq.publish('one', 'd', '18')});
wait_until(sub { objects($files, 'one', 'default') == 5 }, 'an object after a restart');
$node->stop('immediate');
$node->start;
query(q{SELECT iotmq.publish('one', 'd', '19')});
wait_until(sub { query(q{SELECT lag_messages = 0 FROM iotmq.group_lag WHERE topic = 'one'}) eq 't' }, 'the group');
$other->signal('TERM');
$other->finish;
is($other->full_result(0), 0, 'two restarts') or diag($other_err);
all_is_archived($files, 'one', '... lose and repeat nothing', 'default');

kill_often('killed', $files);
all_is_archived($files, 'killed', 'killed often: files', 'north', 'south');

# Object storage
sub storage
{
	my ($where, @faults) = @_;
	my ($port, $noise) = ('', '');
	mkdir $where;
	my $server = start([ '/usr/bin/python3', '-B', 'test/client/storage.py', $where, 'id', 's3/cr+t', 'eu-1', @faults ],
		'<', \undef, '>', \$port, '2>', \$noise);
	$server->pump until $port =~ /\n/;
	chomp $port;
	return ($server, "http://127.0.0.1:$port");
}

my ($good, $endpoint) = storage("$folder/good");
query(q{SELECT iotmq.seek('plant', 'a', '-infinity')});
ended(begin('--until-empty', '--messages=1000', "--endpoint=$endpoint/", 'plant', 'a', 's3://bucket/my own/ü+(1)/'), 0, 'object storage');
is(system('sh', '-c', qq{cd '$folder/again' && for file in plant/*/*; do cmp \$file '$folder/good/my%20own%2F%C3%BC%2B%281%29%2F'\$(echo \$file | sed 's|/|%2F|g') || exit; done}),
	0, '... gets the same bytes');

# What can't pass by itself ends it with the answer's message.
foreach my $case (
	[ { AWS_ACCESS_KEY_ID => 'nobody' }, 's3://bucket/p', 1, qr/HTTP 403: There's no key "nobody" & <none> like it$/m ],
	[ { AWS_SECRET_ACCESS_KEY => 'wrong' }, 's3://bucket/p', 1, qr/HTTP 403: The signature differs$/m ],
	[ {}, 's3://nowhere/p', 1, qr/HTTP 404: The specified bucket does not exist$/m ],
	[ { AWS_SECRET_ACCESS_KEY => '' }, 's3://bucket/p', 2, qr/AWS_SECRET_ACCESS_KEY/ ],
	[ { AWS_ENDPOINT_URL => 'ftp://x' }, 's3://bucket/p', 2, qr/endpoint/ ],
	[ {}, 's3://', 2, qr/bucket/ ],
	[ {}, 'http://bucket', 2, qr/neither/ ])
{
	my ($environment, $destination, $status, $message) = @$case;
	local @ENV{ 'AWS_ENDPOINT_URL', keys %$environment } = ($endpoint, values %$environment);
	ended(begin('--until-empty', 'plant', 'a', $destination), $status, "$destination " . join(' ', %$environment));
	like($err, $message, '... says why');
}
append_to_file("$folder/file", '');
ended(begin('--until-empty', 'plant', 'a', "$folder/file"), 1, 'a folder that is none');
ended(begin('--until-empty', 'plant', 'nobody', $files), 1, 'no such group');
ended(begin('--until-empty', '--zone=west', 'plant', 'a', $files), 1, 'no such zone');

# A request that is carried out after its program is dead, and after another one has begun:
# that one writes the same object.
query(q{SELECT iotmq.publish('late', 'd', to_jsonb(g), zone => 'north') FROM generate_series(1, 10) AS g});
append_to_file("$folder/good.hold", '');
$run = begin('--until-empty', "--endpoint=$endpoint", 'late', 'a', 's3://bucket');
wait_until(sub { -e "$folder/good.held" }, 'a request');
$run->kill_kill(grace => 0);
end_backends();
query(q{SELECT iotmq.publish('late', 'd', to_jsonb(g), zone => 'north') FROM generate_series(11, 20) AS g});
ended(begin('--until-empty', "--endpoint=$endpoint", 'late', 'a', 's3://bucket'), 0, 'a request is late');
append_to_file("$folder/good.release", '');
wait_until(sub { -e "$folder/good.done" }, 'the late request');
all_is_archived("$folder/good", 'late', '... and changes nothing', 'north');
$good->kill_kill;

# Storage that fails in every way, and a program that is killed often.
(my $bad, $endpoint) = storage("$folder/bad", 7);
kill_often('storage', 's3://bucket/p', "--endpoint=$endpoint");
all_is_archived("$folder/bad", 'storage', 'killed often: object storage', 'north', 'south');
$bad->kill_kill;
query(q{SELECT iotmq.publish('storage', 'd', '1', zone => 'north')});
$run = begin('--seconds=0.1', "--endpoint=$endpoint", 'storage', 'a', 's3://bucket/p');
$run->pump until $err =~ /trying again/;
$run->signal('TERM');
ended($run, 0, 'SIGTERM while the storage is away, before anything is read');

SKIP:
{
	skip 'STORAGE is not s3rver', 3 unless ($ENV{STORAGE} // '') eq 's3rver';
	my ($port, $noise) = ('', '');
	mkdir "$folder/s3rver";
	my $server = start([ 'test/client/s3rver', "$folder/s3rver" ], '<', \undef, '>', \$port, '2>', \$noise);
	$server->pump until $port =~ /\n/ || !$server->pumpable;
	chomp $port;
	skip 's3rver can\'t be had', 3 unless $port;
	local @ENV{qw(AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY)} = qw(S3RVER S3RVER);
	kill_often('server', 's3://bucket/p', "--endpoint=http://127.0.0.1:$port");
	all_is_archived("$folder/s3rver", 'server', 'killed often: s3rver', 'north', 'south');
	$server->kill_kill;
}

# What retention has dropped is told.
query(q{SELECT iotmq.publish('kept', 'd', '1') FROM generate_series(1, 3)});
query(q{CALL iotmq.run_maintenance(at => now() + '100 hours')});
query(q{SELECT iotmq.publish('kept', 'd', '1')});
ended(begin('--until-empty', 'kept', 'a', $files), 0, 'after retention');
like($err, qr/zone "default": retention has dropped 3 messages before/, '... which is told');
all_is_archived($files, 'kept', '... goes on with what is there', 'default');

# A restore to an earlier time: the archive has messages that never came to be, which is told,
# and the zone goes on behind them.
query(q{SELECT iotmq.grant_consume('restored', 'a', 'archivist'), iotmq.publish('restored', 'd', to_jsonb(g)) FROM generate_series(1, 10) AS g});
my $base = query(q{SELECT min(msg_offset) - 1 FROM iotmq_topic.restored});
$node->backup('backup');
query(q{SELECT iotmq.publish('restored', 'd', to_jsonb(g)) FROM generate_series(11, 20) AS g});
ended(begin('--until-empty', '--messages=8', 'restored', 'a', $files), 0, 'before the restore');
$node->stop;
$run_as_server = PostgreSQL::Test::Cluster->new('restored');
$run_as_server->init_from_backup($node, 'backup', has_streaming => 0);
$run_as_server->set_standby_mode;
$run_as_server->start;
$run_as_server->promote;
$run_as_server->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
ended(begin('--until-empty', 'restored', 'a', $files), 0, 'restored, and nothing new');
sub is_told
{
	is(join(' ', map { $_ - $base } $err =~ /archive's (\d+)-(\d+), those from offset (\d+) on never came to be$/mg),
		'9 16 11 17 20 17', '... what is lost is told');
}
is_told();
query(q{SELECT iotmq.seek('restored', 'a', '-infinity')});
my $new = query(q{SELECT min(iotmq.publish('restored', 'd', to_jsonb(g))) FROM generate_series(21, 25) AS g});
ended(begin('--until-empty', 'restored', 'a', $files), 0, '... and something new');
is_told();
query(q{SELECT iotmq.seek('restored', 'a', '-infinity')});
ended(begin('-U', 'archivist', '--until-empty', 'restored', 'a', $files), 0, '... again, by a role that sees no epochs');
like($err, qr/goes on at offset $new after a recovery/, '... as fetch says');
is(join(' ', map { join '-', map { $_ < $new ? $_ - $base : $_ - $new + 21 } split /-/, $_->[0] } objects($files, 'restored', 'default')),
	'1-8 9-16 17-20 21-25', '... is archived behind it');
is(query(q{SELECT lag_messages FROM iotmq.group_lag WHERE topic = 'restored'}), '0', '... and the group has no lag');

done_testing();
