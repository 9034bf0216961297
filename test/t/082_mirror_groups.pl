# What groups have moves along with a zone, and administrators who may do it.
#
# A fenced zone is the same at its end as it was: nothing of a group changes there. Its leases
# are known at the new owner by their old ids. After a disaster they are retries. A source that
# is frozen costs other mirrors nothing. Connections are made with the caller's user mapping,
# never with that of another, and never by a connection string.
#
# Promise: no-loss, default-deny

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my %node = map { $_ => PostgreSQL::Test::Cluster->new($_) } qw(a b);
my $number = 0;
foreach my $name (sort keys %node)
{
	$node{$name}->init;
	$node{$name}->start;
	$node{$name}->safe_psql('postgres', 'CREATE EXTENSION iotmq; CREATE EXTENSION dblink SCHEMA public; SELECT iotmq.set_node(' . $number++ . ')');
}

sub at
{
	my ($name, $sql) = @_;
	return $node{$name}->safe_psql('postgres', $sql);
}

sub error_of
{
	my ($name, $command) = @_;
	my ($status, $out, $err) = $node{$name}->psql('postgres', "\\set VERBOSITY verbose\n$command");
	return $err;
}

my ($host, $port) = ($node{a}->host, $node{a}->port);
my $hba = $node{a}->data_dir . '/pg_hba.conf';
my $lines = slurp_file($hba);
unlink $hba;
append_to_file($hba, "local all puller scram-sha-256\n$lines");
$node{a}->reload;
at('a', <<'SQL');
CREATE ROLE puller LOGIN PASSWORD 'secret';
SELECT iotmq.create_topic('t', '{z,x}');
SELECT iotmq.grant_mirror('t', 'puller');
SELECT iotmq.create_group('t', 'g', start_from => '-infinity', backoff => '{1 day}', max_retries => 1);
SELECT iotmq.create_group('t', 'o', 'orderly', start_from => '-infinity');
SELECT iotmq.publish('t', 'd' || i % 4, to_jsonb(i), zone => z) FROM generate_series(1, 20) AS i, unnest('{z,x}'::text[]) AS z;
SQL
at('b', <<SQL);
CREATE SERVER a FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '$host', port '$port', dbname 'postgres', connect_timeout '2');
CREATE USER MAPPING FOR CURRENT_USER SERVER a OPTIONS (user 'puller', password 'secret');
SELECT iotmq.mirror_zone('t', z, 'a') FROM unnest('{z,x}'::text[]) AS z;
SQL
is(at('b', q{SELECT string_agg(consumer_group || ' ' || mode, ', ' ORDER BY consumer_group) FROM iotmq.group_settings}), 'g concurrent, o orderly',
	'the groups are made');

# At a: a lease that stays open, one that is acked, one that fails, one that is dead.
sub lease
{
	my ($zone, $group, $n) = @_;
	return at('a', "SELECT DISTINCT lease_id FROM iotmq.consume('t', '$group', $n, zone => '$zone', invisible_for => '1 hour')");
}
my (%held, %lag);
foreach my $zone ('z', 'x')
{
	at('a', 'SELECT iotmq.ack(' . lease($zone, 'g', 4) . ')');
	at('a', 'SELECT iotmq.nack(' . lease($zone, 'g', 2) . ", reason => 'failed')");
	at('a', 'SELECT iotmq.reject(' . lease($zone, 'g', 1) . ')');
	$held{$zone} = lease($zone, 'g', 5);
	at('a', "SELECT iotmq.ack($held{$zone}, '{8}')");
	at('a', 'SELECT iotmq.ack(' . lease($zone, 'o', 3) . ')');
}
my $lag = q{SELECT zone, consumer_group, lag_messages, ready_messages, inflight_messages, retry_messages, dead_letters, next_offset
	FROM iotmq.consumer_lag ORDER BY 1, 2};
at('b', q{SELECT iotmq.pull('t', z) FROM unnest('{z,x}'::text[]) AS z});
is(at('b', $lag), at('a', $lag), 'a mirror has what groups have');
is(at('b', q{SELECT count(*) FROM iotmq.consume('t', 'g') UNION ALL SELECT count(*) FROM iotmq.consume('t', 'o', zone => 'x')}), "0\n0",
	'nobody consumes there');
like(error_of('b', q{SELECT iotmq.seek_offset('t', 'g', 'z', 1)}), qr/55000: zone "z" of topic "t" is a mirror/, 'nor moves a group');
is(at('b', q{SELECT count(*) FROM iotmq.seek('t', 'g', '-infinity')}), '0', 'not even in all zones');
is(at('b', q{SELECT iotmq.redrive('t', 'g')}), '0', 'nor redrives');

# A fenced zone: all that would change something of a group, or of the log.
at('a', q{SELECT iotmq.fence_zone('t', 'z', 'server b')});
my $letter = at('a', q{SELECT id FROM iotmq.dead_letter WHERE zone = 'z'});
foreach my $command (
	"ack($held{z})", "nack($held{z})", "reject($held{z})", "settle($held{z}, rest => 'ack')", "extend($held{z}, '1 s')",
	"consume('t', 'g', ack_lease => $held{z})", q{seek('t', 'g', '-infinity', zone => 'z')}, q{seek_offset('t', 'g', 'z', 1)},
	q{commit_offset('t', 'g', 'z', 20)}, "redrive('t', 'g', '{$letter}')", "purge_dead_letters('t', 'g', '{$letter}')",
	q{retry_now('t', 'g', '{5}', 'z')}, q{give_up('t', 'g', '{5}', 'z')})
{
	like(error_of('a', "SELECT * FROM iotmq.$command"), qr/55000: zone "z" of topic "t" is fenced.*It has moved to server b\./s, "refused: $command");
}
is(at('a', q{SELECT count(*) FROM iotmq.consume('t', 'g', zone => 'z')}), '0', 'nothing is delivered');
is(at('a', q{SELECT count(*) > 0 FROM iotmq.consume('t', 'g', 1)}), 't', 'but from other zones');
is(at('a', q{SELECT count(*) FROM iotmq.fetch('t', 'z', 1)}), '20', 'fetch works');
my $before = at('a', q{SELECT * FROM iotmq_internal.cursor_state WHERE cursor_id IN (SELECT cursor_id FROM iotmq_internal.cursor
	JOIN iotmq_internal.zone USING (zone_id) WHERE zone = 'z') ORDER BY cursor_id});
at('a', q{CALL iotmq.run_maintenance(now() + interval '30 days')}) foreach 1 .. 2;
is(at('a', q{SELECT * FROM iotmq_internal.cursor_state WHERE cursor_id IN (SELECT cursor_id FROM iotmq_internal.cursor
	JOIN iotmq_internal.zone USING (zone_id) WHERE zone = 'z') ORDER BY cursor_id}), $before, 'maintenance changes nothing of its groups');
is(at('a', q{SELECT count(*) FROM iotmq.fetch('t', 'z', 1)}), '20', 'and drops nothing of it');

# The move: the lease that is held is acked at b, by its id.
at('b', q{SELECT iotmq.promote_zone('t', 'z')});
is(at('b', "SELECT iotmq.ack($held{z})"), '4', 'a lease held over the move');
is(at('b', q{SELECT string_agg(msg_offset || '/' || attempt, ',' ORDER BY msg_offset) FROM iotmq.waiting_message WHERE zone = 'z'}), '5/2,6/2',
	'what waited waits, with its next attempt');
is(at('b', q{SELECT iotmq.retry_now('t', 'g', '{5,6}', 'z')}), '2', 'and can be had');
is(at('b', q{SELECT consumer_group, next_offset FROM iotmq.consumer_lag WHERE zone = 'z' ORDER BY 1}), "g|13\no|4", 'groups go on where they were');
is(at('b', q{SELECT string_agg(msg_offset::text, ',') FROM iotmq.consume('t', 'o', 2, zone => 'z')}), '4,5', 'and read');
is(at('b', q{SELECT iotmq.redrive('t', 'g')}), '1', 'the dead letter is there');
like(error_of('a', "SELECT iotmq.ack($held{z})"), qr/55000: .*is fenced/, 'the old owner gives nothing of it');
at('a', q{SELECT iotmq.drop_zone('t', 'z')});

# A disaster: what was in flight at a is due again at b.
at('b', q{SELECT iotmq.promote_zone('t', 'x', force => true)});
is(at('b', q{SELECT string_agg(msg_offset || '/' || attempt, ',' ORDER BY msg_offset)
	FROM iotmq.waiting_message WHERE zone = 'x' AND consumer_group = 'g' AND reason = 'lease expired'}), '9/2,10/2,11/2,12/2',
	'leases of a server that is lost are retries');
is(at('b', q{SELECT count(*) FROM iotmq.in_flight WHERE zone = 'x'}), '0', 'and leases no more');

# A source that is frozen, beside one that is not.
$node{b}->safe_psql('postgres', 'CREATE DATABASE other');
$node{b}->safe_psql('other', q{CREATE EXTENSION iotmq; SELECT iotmq.create_topic('u'); SELECT iotmq.publish('u', 'd', to_jsonb(i)) FROM generate_series(1, 10) AS i});
at('a', q{SELECT iotmq.create_topic('v'); SELECT iotmq.grant_mirror('v', 'puller')});
at('b', sprintf q{CREATE SERVER other FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '%s', port '%s', dbname 'other');
	CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (user '%s');
	SELECT iotmq.mirror_zone('v', 'default', 'a');
	SELECT iotmq.mirror_zone('u', 'default', 'other')}, $node{b}->host, $node{b}->port, at('b', 'SELECT current_user'));
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node{b}->connstr('postgres'), '-c', q{SET iotmq.source_timeout = '1 s'}, '-c', q{CALL iotmq.run_mirrors('4 s')} ],
	'<', \undef, '>', \my $out, '2>', \my $err, IPC::Run::timeout(120));
$node{b}->poll_query_until('postgres', q{SELECT count(*) = 2 FROM iotmq.mirror WHERE last_pull IS NOT NULL});
my $postmaster = (split /\n/, slurp_file($node{a}->data_dir . '/postmaster.pid'))[0];
my @processes = ($postmaster, split /\n/, at('a', 'SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()'));
kill 'STOP', @processes;
ok($session->finish, 'a run ends although a source is frozen');
like(at('b', q{SELECT error FROM iotmq.mirror WHERE topic = 'v'}), qr/^the source does not answer|timeout/, 'it is known to be the cause');
$node{b}->safe_psql('other', q{SELECT iotmq.publish('u', 'd', '"more"')});
at('b', q{SET iotmq.source_timeout = '1 s'; CALL iotmq.run_mirrors('1 s')});
is(at('b', q{SELECT lag_messages, error IS NULL, pulled_messages FROM iotmq.mirror WHERE topic = 'u'}), '0|t|11', 'another mirror goes on');
is(at('b', q{SELECT value FROM iotmq.metrics WHERE name = 'iotmq_mirror_failed' ORDER BY labels ->> 'topic'}), "0\n1", 'metrics say which');
kill 'CONT', @processes;
at('b', q{CALL iotmq.run_mirrors('0')});
is(at('b', q{SELECT count(*) FROM iotmq.mirror WHERE error IS NOT NULL}), '0', 'when it is back, it goes on');

# Administrators, each with a user mapping of his own, which dblink wants to have a password in.
at('b', <<'SQL');
CREATE ROLE admin_with; CREATE ROLE admin_without; CREATE ROLE nobody;
SELECT iotmq.grant_admin('admin_with'), iotmq.grant_admin('admin_without');
GRANT USAGE ON FOREIGN SERVER a TO admin_with;
CREATE USER MAPPING FOR admin_with SERVER a OPTIONS (user 'puller', password 'secret');
CREATE USER MAPPING FOR admin_without SERVER a OPTIONS (user 'puller', password 'secret');
SQL
at('a', q{SELECT iotmq.publish('v', 'd', '1')});
like(error_of('b', q{SET ROLE nobody; SELECT iotmq.pull('v', 'default')}), qr/42501/, 'who is no administrator pulls nothing');
like(error_of('b', q{SET ROLE admin_without; SELECT iotmq.pull('v', 'default')}), qr/42501: permission denied for foreign server a/,
	'nor who may not use the server');
is(at('b', q{SET ROLE admin_with; SELECT iotmq.pull('v', 'default')}), '1', 'who may, does');
at('a', q{SELECT iotmq.publish('v', 'd', '2')});
at('b', q{SET ROLE admin_with; CALL iotmq.run_mirrors('0')});
is(at('b', q{SELECT topic, lag_messages, error IS NULL FROM iotmq.mirror ORDER BY topic}), "u|0|f\nv|0|t", 'also in a run, where the others fail');
at('b', q{CALL iotmq.run_mirrors('0'); ALTER ROLE admin_with SET search_path = evil; CREATE SCHEMA evil;
	CREATE FUNCTION evil.dblink_connect(text, text) RETURNS text LANGUAGE sql AS 'SELECT 1/0; SELECT $1'});
foreach my $source ("host=$host dbname=postgres", "postgres://$host/postgres", 'dbname=postgres')
{
	like(error_of('b', "SELECT iotmq.mirror_zone('w', 'default', '$source')"), qr/22023: source must be the name of a foreign server/, "refused: $source");
	at('b', qq{CREATE SERVER "$source" FOREIGN DATA WRAPPER dblink_fdw});
	like(error_of('b', "SELECT iotmq.mirror_zone('w', 'default', '$source')"), qr/22023/, 'also as the name of one');
}
like(error_of('b', q{SELECT iotmq.mirror_zone('w', 'default', 'unknown')}), qr/42704: server "unknown" does not exist/, 'an unknown server');
like(error_of('b', q{SET ROLE admin_with; SELECT iotmq.link_connect('dblink_connect_u(text, text)', 'c', 'dbname=postgres', 1)}), qr/42501/,
	'the steps of a pull lend no right');
at('a', q{SELECT iotmq.revoke_mirror('v', 'puller')});
like(error_of('b', q{SELECT iotmq.pull('v', 'default')}), qr/42501: permission denied to mirror topic "v"/, 'the right is the source\'s to take back');

$_->stop foreach values %node;
done_testing();
