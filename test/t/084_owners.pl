# Who owns a zone, where something falls between two steps: a crash that forgets the last commits,
# two servers that take the same zone over, a former owner that has lost what others have, one
# that has to be the owner again before it was filled.
#
# Promise: no-loss, offsets-are-the-servers, mirrors-carry-groups

use strict;
use warnings;

use IPC::Run qw(start timeout);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# a is a server that commits asynchronously, and where nobody but the WAL writer flushes anything; b and
# c are two databases of another one.
my ($first, $second) = map { PostgreSQL::Test::Cluster->new($_) } qw(first second);
foreach my $node ($first, $second)
{
	$node->init;
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\nautovacuum = off\n");
}
$first->append_conf('postgresql.conf', <<'EOC');
synchronous_commit = off
wal_writer_delay = 10s
shared_buffers = 128MB
bgwriter_lru_maxpages = 0
checkpoint_timeout = 1h
restart_after_crash = on
EOC
$_->start foreach $first, $second;
my %place = (a => [ $first, 'postgres' ], b => [ $second, 'postgres' ], c => [ $second, 'c' ]);
$second->safe_psql('postgres', 'CREATE DATABASE c');

sub at
{
	my ($name, $sql) = @_;
	my ($node, $database) = @{ $place{$name} };
	return $node->safe_psql($database, $sql);
}

sub error_of
{
	my ($name, $command) = @_;
	my ($node, $database) = @{ $place{$name} };
	my ($status, $out, $err) = $node->psql($database, "\\set VERBOSITY verbose\n$command");
	return $err;
}

sub content
{
	my ($name, $zone) = @_;
	return at($name, "SELECT count(*), md5(string_agg(m::text, ',' ORDER BY msg_offset)) FROM iotmq_topic.t AS m WHERE zone = '$zone'");
}

# What was committed at a since this began is lost by the crash that ends it.
my $walwriter;

sub forget_from_here
{
	at('a', 'SET synchronous_commit = on; CREATE TABLE IF NOT EXISTS mark (i int); INSERT INTO mark VALUES (1)');
	$walwriter = at('a', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	kill 'STOP', $walwriter;
	return;
}

sub crash
{
	kill 'KILL', $walwriter;
	$first->poll_query_until('postgres',
		"SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'walwriter' AND pid <> $walwriter")
		or die 'a does not come back';
	return;
}

my $user = at('a', 'SELECT current_user');
my $number = 0;
at($_, 'CREATE EXTENSION iotmq; CREATE EXTENSION dblink; SELECT iotmq.set_node(' . $number++ . ')') foreach qw(a b c);

# Lets one of them know another one.
sub introduce
{
	my ($name, $other) = @_;
	my ($node, $database) = @{ $place{$other} };
	at($name, sprintf <<'SQL', $other, $node->host, $node->port, $database, $other, $user);
CREATE SERVER %s FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '%s', port '%s', dbname '%s', connect_timeout '2');
CREATE USER MAPPING FOR CURRENT_USER SERVER %s OPTIONS (user '%s');
SQL
	return;
}

introduce(@$_) foreach [ 'b', 'a' ], [ 'a', 'b' ], [ 'a', 'c' ], [ 'b', 'c' ], [ 'c', 'a' ], [ 'c', 'b' ];
my @zones = qw(lost moved two early trigger one other killed reopened);
at('a', sprintf q{SELECT iotmq.create_topic('t', '{%s}')}, join ',', @zones);
at('a', <<'SQL');
SELECT count(iotmq.publish('t', 'd', to_jsonb(i), zone => z)) FROM generate_series(1, 10) AS i, iotmq.zones('t') AS z;
SQL
at('b', sprintf q{SELECT iotmq.mirror_zone('t', z, 'a'), iotmq.pull('t', z) FROM unnest('{%s}'::text[]) AS z}, join ',', @zones);

# A former owner whose crash has lost messages that the new owner has pulled: its sequence stands
# above them, and it has begun no epoch. They come back to it.
forget_from_here();
at('a', q{SELECT iotmq.publish('t', 'd', to_jsonb(i), zone => 'lost') FROM generate_series(11, 13) AS i});
is(at('b', q{SELECT iotmq.pull('t', 'lost')}), '3', 'a mirror has messages');
crash();
is(at('a', q{SELECT count(*) FROM iotmq.fetch('t', 'lost', 1, 100)}), '10', 'that its source has lost');
at('b', q{SELECT iotmq.promote_zone('t', 'lost', force => true)});
at('b', q{SELECT iotmq.publish('t', 'd', '"b"', zone => 'lost')});
unlike(error_of('a', q{SELECT iotmq.demote_zone('t', 'lost', 'b')}), qr/dropped/, 'it has none that the new owner lacks');
is(at('a', q{SELECT iotmq.pull('t', 'lost')}), '4', 'and pulls those that it has lost');
is(content('a', 'lost'), content('b', 'lost'), 'so it has all');

# A move is not forgotten by a crash, whatever synchronous_commit is.
forget_from_here();
at('b', q{SELECT iotmq.promote_zone('t', 'moved')});
crash();
like(error_of('a', q{SELECT iotmq.publish('t', 'd', '1', zone => 'moved')}), qr/55000: .*is fenced/, 'who has handed a zone over knows it after a crash');
like(error_of('a', q{SELECT iotmq.open_zone('t', 'moved')}), qr/55000: .*was handed over/, 'and does not open it');

# One takes a zone over, and no other.
at('c', q{SELECT iotmq.mirror_zone('t', 'two', 'a')});
at('b', q{SELECT iotmq.promote_zone('t', 'two')});
like(error_of('c', q{SELECT iotmq.promote_zone('t', 'two')}), qr/55000: zone "two" of topic "t" was handed over to another server/,
	'a zone that was taken over is not taken over once more');
like(error_of('c', q{SELECT iotmq.publish('t', 'd', '1', zone => 'two')}), qr/55000: .*is a mirror/, 'it stays a mirror');
at('c', q{CALL iotmq.run_mirrors('0')});
like(at('c', q{SELECT error FROM iotmq.mirror WHERE zone = 'two'}), qr/^the source has handed the zone over to database "postgres"/,
	'which says that its source is no owner');
is(at('c', q{SELECT zone FROM iotmq.alerts WHERE alert = 'mirror'}), 'two', 'and an alert, too');
at('c', q{SELECT iotmq.demote_zone('t', 'two', 'b')});
at('b', q{SELECT iotmq.publish('t', 'd', '"b"', zone => 'two')});
at('c', q{CALL iotmq.run_mirrors('0')});
is(at('c', q{SELECT error IS NULL FROM iotmq.mirror WHERE zone = 'two'}), 't', 'until it follows that');
is(content('c', 'two'), content('b', 'two'), 'as it does then');

# A former owner that has to be the owner again before its first pull: what was in flight there, or
# waited, is not forgotten.
at('a', q{SELECT iotmq.create_group('t', 'g', start_from => '-infinity', backoff => '{0 s}')});
my @lease = map { at('a', "SELECT DISTINCT lease_id FROM iotmq.consume('t', 'g', $_, zone => 'early', invisible_for => '1 hour')") } 2, 3, 2;
at('a', "SELECT iotmq.ack($lease[0])");
at('a', "SELECT iotmq.nack($lease[2])");
at('b', q{SELECT iotmq.promote_zone('t', 'early')});
at('a', q{SELECT iotmq.demote_zone('t', 'early', 'b')});
at('a', q{SELECT iotmq.promote_zone('t', 'early', force => true)});
is(at('a', q{SELECT string_agg(DISTINCT m.msg_offset::text, ' ' ORDER BY m.msg_offset::text)
	FROM generate_series(1, 20) AS i, LATERAL iotmq.consume('t', 'g', 100 + i, zone => 'early') AS m}), '10 3 4 5 6 7 8 9',
	'all that was not acknowledged comes');

# What a former owner drops, it drops: nobody's code runs, and no message stays since it could not be seen.
at('b', q{SELECT iotmq.promote_zone('t', 'trigger', force => true)});
at('a', q{SELECT iotmq.publish('t', 'd', '"tail"', zone => 'trigger')});
my $table = at('a', q{SELECT iotmq.zone_table('t', 'trigger')});
at('a', "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE TRIGGER keep BEFORE DELETE ON $table FOR EACH ROW EXECUTE FUNCTION keep()");
like(error_of('a', q{SELECT iotmq.demote_zone('t', 'trigger', 'b')}), qr/55000: messages of table .*Trigger "keep" would run.*DISABLE TRIGGER keep/s,
	'a trigger of DELETE is not run');
like(error_of('a', q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT iotmq.demote_zone('t', 'trigger', 'b')}), qr/25001: demote_zone\(\) cannot run/,
	'above READ COMMITTED a zone is not demoted');
at('a', "ALTER TABLE $table DISABLE TRIGGER keep");
like(error_of('a', q{SELECT iotmq.demote_zone('t', 'trigger', 'b')}), qr/has dropped 1 messages/, 'once it is disabled, the message goes');
at('a', q{SELECT iotmq.pull('t', 'trigger')});
is(content('a', 'trigger'), content('b', 'trigger'), 'and nothing stays');

# A group that is dropped and made anew in another mode, while several zones of it are mirrored.
at('a', q{SELECT iotmq.create_group('t', 'h', start_from => '-infinity', backoff => '{1 day}')});
at('a', "SELECT iotmq.nack(lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('t', 'h', 3, zone => '$_')) AS l") foreach qw(one other);
my $pull_both = q{SELECT iotmq.pull('t', z) FROM unnest('{one,other}'::text[]) AS z};
at('b', $pull_both);
my $waits = q{SELECT sum(retry_messages) FROM iotmq.consumer_lag WHERE consumer_group = 'h'};
is(at('b', $waits), '6', 'a group waits in two zones');
at('a', q{SELECT iotmq.drop_group('t', 'h'); SELECT iotmq.create_group('t', 'h', 'orderly', start_from => '-infinity')});
is(error_of('b', $pull_both), '', 'and is pulled as it was made anew');
is(at('b', q{SELECT mode FROM iotmq.group_settings WHERE consumer_group = 'h'}), 'orderly', 'in its mode');
is(at('b', $waits), '0', 'without what waited before');

# A run over all mirrors, which has listed them, and one of them is to follow another server meanwhile: the
# former one is not asked any more.
at('c', q{SELECT iotmq.mirror_zone('t', 'other', 'a'); SELECT iotmq.pull('t', 'other'); SELECT iotmq.promote_zone('t', 'other', force => true)});
at('a', q{SELECT iotmq.publish('t', 'd', '"more"', zone => z) FROM unnest('{one,other}'::text[]) AS z});
$table = at('b', q{SELECT iotmq.zone_table('t', 'one')});
at('b', "CREATE TABLE gate (i int);
	CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM FROM public.gate; RETURN new; END';
	CREATE TRIGGER pass BEFORE INSERT ON $table FOR EACH ROW EXECUTE FUNCTION pass();
	BEGIN; LOCK TABLE gate; PREPARE TRANSACTION 'gate'");
my $run = start([ 'psql', '-XAtq', '-d', $second->connstr('postgres'), '-c', q{CALL iotmq.run_mirrors('0')} ],
	'<', \undef, '>', \my $out, '2>', \my $err, timeout(180));
$second->poll_query_until('postgres',
	q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CALL iotmq.run_mirrors%'})
	or die 'the run does not wait';
at('b', q{SELECT iotmq.demote_zone('t', 'other', 'c')});
at('b', q{COMMIT PREPARED 'gate'});
$run->finish;
is(at('b', q{SELECT count(*) FROM iotmq.fetch('t', 'one', 1, 100)}), '11', 'the run goes on');
is(content('b', 'other'), content('c', 'other'), 'and pulls nothing of a former source');

# Who promotes a mirror is killed while the source waits for its publishers: it is not fenced once they
# have ended.
at('a', q{BEGIN; SELECT iotmq.publish('t', 'd', '"open"', zone => 'killed'); PREPARE TRANSACTION 'open'});
$run = start([ 'psql', '-XAtq', '-d', $second->connstr('postgres'), '-c', q{SET iotmq.source_timeout = '1 h'}, '-c', q{SELECT iotmq.promote_zone('t', 'killed')} ],
	'<', \undef, '>', \$out, '2>', \$err, timeout(180));
my $fences = q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT iotmq.fence_zone(%'};
$first->poll_query_until('postgres', "$fences AND wait_event_type = 'Lock'", '1') or die 'the fence does not wait';
at('b', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT iotmq.promote_zone(%'});
$run->finish;
ok($first->poll_query_until('postgres', $fences, '0'), 'a fence ends with who has asked for it');
at('a', q{COMMIT PREPARED 'open'});
is(at('a', q{SELECT iotmq.publish('t', 'd', '"more"', zone => 'killed') > 0}), 't', 'and the zone is open');

# A fence is taken back, and put up again, behind the back of who promotes the mirror: what groups did
# meanwhile is not forgotten.
at('b', q{BEGIN; SELECT 1 FROM iotmq_internal.zone WHERE zone = 'reopened' FOR UPDATE; PREPARE TRANSACTION 'holds'});
$run = start([ 'psql', '-XAtq', '-d', $second->connstr('postgres'), '-c', q{SELECT iotmq.promote_zone('t', 'reopened')} ],
	'<', \undef, '>', \$out, '2>', \$err, timeout(180));
$second->poll_query_until('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT iotmq.promote_zone(%'}, '1')
	or die 'the promotion does not wait';
at('a', q{SELECT iotmq.open_zone('t', 'reopened')});
is(at('a', q{SELECT sum(iotmq.ack(lease_id)) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('t', 'g', zone => 'reopened')) AS l}), '10',
	'a group goes on where the fence was taken back');
at('a', q{SELECT iotmq.fence_zone('t', 'reopened', 'b')});
at('b', q{COMMIT PREPARED 'holds'});
$run->finish;
like($err, qr/zone "reopened" of topic "t" was opened, and fenced once more/, 'who has read the zone before does not get it');
at('b', q{SELECT iotmq.promote_zone('t', 'reopened')});
is(at('b', q{SELECT count(*) FROM iotmq.consume('t', 'g', zone => 'reopened')}), '0', 'what was acknowledged does not come again');

# A reason that fills its room there, and takes more in the encoding here.
$first->safe_psql('postgres', q{CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0});
$first->safe_psql('latin', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('latin');
SELECT iotmq.create_group('latin', 'g', start_from => '-infinity', max_retries => 1, backoff => '{1 day}');
SELECT iotmq.publish('latin', 'd', to_jsonb(i)) FROM generate_series(1, 2) AS i;
SELECT iotmq.settle(lease_id, nacks => '{1}', rejects => '{2}', reasons => array_fill(repeat(chr(252), 1024), '{2}'))
FROM (SELECT DISTINCT lease_id FROM iotmq.consume('latin', 'g')) AS l;
SQL
at('b', sprintf q{CREATE SERVER latin FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '%s', port '%s', dbname 'latin');
	CREATE USER MAPPING FOR CURRENT_USER SERVER latin OPTIONS (user '%s');
	SELECT iotmq.mirror_zone('latin', 'default', 'latin')}, $first->host, $first->port, $user);
is(error_of('b', q{SELECT iotmq.pull('latin', 'default')}), '', 'a source of another encoding');
is(at('b', q{SELECT max(length(reason)) FROM (SELECT reason FROM iotmq.dead_letter UNION ALL SELECT reason FROM iotmq_internal.redelivery) AS r}), '1024', 'with what it says');

# A source is lost with a lease in flight, of messages that retention takes here before
# anybody promotes the mirror. That can be promoted all the same.
at('a', q{SELECT iotmq.create_topic('aged'); SELECT iotmq.create_group('aged', 'g', start_from => '-infinity');
	SELECT iotmq.publish('aged', 'd', '1'); SELECT count(*) FROM iotmq.consume('aged', 'g', invisible_for => '1 hour')});
at('b', q{SELECT iotmq.mirror_zone('aged', 'default', 'a'); SELECT iotmq.pull('aged', 'default')});
is(at('b', q{SELECT inflight_messages FROM iotmq.consumer_lag WHERE topic = 'aged'}), '1', 'a lease of a mirror');
at('b', q{CALL iotmq.run_maintenance(now() + interval '30 days')}) foreach 1 .. 3;
is(at('b', q{SELECT count(*) FROM iotmq_topic.aged}), '0', 'whose message retention has taken');
is(error_of('b', q{SELECT iotmq.promote_zone('aged', 'default', force => true)}), '', 'is promoted');
at('b', q{SELECT iotmq.publish('aged', 'd', '"b"')});
is(at('b', q{SELECT string_agg(payload::text, ',') FROM iotmq.consume('aged', 'g')}), '"b"', 'and goes on');

$_->stop foreach $first, $second;
done_testing();
