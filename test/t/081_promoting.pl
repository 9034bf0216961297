# Who owns a zone: moves, disasters, and the way back.
#
# In a move the source is fenced, the target promoted, and the source told: at each step one
# of them owns the zone, whatever fails, and the same command goes on. After a disaster the
# target is promoted without the source; that one, when it comes back, follows it, and drops
# what only it had. No offset is given out twice, on no server.
#
# Promise: no-loss, offsets-are-the-servers

use strict;
use warnings;

use IPC::Run qw(start timeout);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my %node = map { $_ => PostgreSQL::Test::Cluster->new($_) } qw(a b);
foreach my $node (values %node)
{
	$node->init(allows_streaming => 1);
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION iotmq; CREATE EXTENSION dblink;');
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

sub content
{
	my ($name, $zone) = @_;
	return at($name, "SELECT count(*), md5(string_agg(m::text, ',' ORDER BY msg_offset)) FROM iotmq_topic.t AS m WHERE zone = '$zone'");
}

# Each of them knows the other.
my $user = at('a', 'SELECT current_user');
foreach my $pair ([ 'a', 'b' ], [ 'b', 'a' ])
{
	my ($here, $there) = @$pair;
	my ($host, $port) = ($node{$there}->host, $node{$there}->port);
	at($here, <<SQL);
CREATE SERVER $there FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '$host', port '$port', dbname 'postgres', connect_timeout '2');
CREATE USER MAPPING FOR CURRENT_USER SERVER $there OPTIONS (user '$user');
SQL
}
at('a', q{SELECT iotmq.create_topic('t', '{z,x,y}')});
at('a', q{SELECT iotmq.publish('t', 'd', to_jsonb(i), zone => z) FROM generate_series(1, 10) AS i, unnest('{z,x,y}'::text[]) AS z});
at('b', q{SELECT iotmq.mirror_zone('t', z, 'a') FROM unnest('{z,x,y}'::text[]) AS z});

# A move. Nobody takes over what is open; who is fenced waits for open publishers.
at('b', q{SELECT iotmq.pull('t', 'z', 5)});
at('a', q{BEGIN; SELECT iotmq.publish('t', 'd', '"prepared"', zone => 'z'); PREPARE TRANSACTION 'p'});
like(error_of('a', q{SET lock_timeout = '100ms'; SELECT iotmq.fence_zone('t', 'z', 'server b')}), qr/55P03/, 'a fence waits for open publishers');
at('a', q{COMMIT PREPARED 'p'});
at('a', q{SELECT iotmq.fence_zone('t', 'z', 'server b')});
like(error_of('a', q{SELECT iotmq.publish('t', 'd', '1', zone => 'z')}), qr/55000: zone "z" of topic "t" is fenced.*It has moved to server b\./s,
	'nobody publishes behind a fence');
like(error_of('a', q{SELECT iotmq.hand_over('t', 'z', 5)}), qr/55000: .*ends at offset 12, not at 5/, 'it is not handed over to whoever has not all of it');
at('a', q{SELECT iotmq.open_zone('t', 'z')});
is(at('a', q{SELECT iotmq.publish('t', 'd', '"open"', zone => 'z')}), '12', 'a fence is taken back, and nothing is lost');
at('a', q{SELECT iotmq.fence_zone('t', 'z', 'server b')});

# The target falls after the source was told, and before its own commit: the source gives nothing
# out any more, and the same command goes on.
at('b', q{BEGIN; SELECT iotmq.promote_zone('t', 'z'); ROLLBACK});
is(at('b', q{SELECT count(*), max(next_offset) FROM iotmq.mirror WHERE zone = 'z'}), '1|6', 'nothing has changed here');
like(error_of('b', q{SELECT iotmq.publish('t', 'd', '1', zone => 'z')}), qr/55000: .*is a mirror/, 'it owns nothing yet');
like(error_of('a', q{SELECT iotmq.open_zone('t', 'z')}), qr/55000: .*was handed over.*It has moved to server b/s, 'and the source nothing any more');
at('b', q{SELECT iotmq.promote_zone('t', 'z')});
is(content('b', 'z'), content('a', 'z'), 'the new owner has all of it');
is(at('b', q{SELECT iotmq.publish('t', 'd', '"b"', zone => 'z')}), '4294967296', 'and goes on in a new epoch');
is(at('b', q{SELECT epoch, first_offset, last_before FROM iotmq.zone_epoch WHERE zone = 'z'}), '1|4294967296|12', 'of which readers know');
is(at('b', q{SELECT count(*) FROM iotmq.fetch('t', 'z', 1, 100)}), '13', 'who read on');
at('a', q{SELECT iotmq.drop_zone('t', 'z')});

# And back, to a server that had it before: its offsets are those of the zone, not of what was
# there under this name.
at('a', q{SELECT iotmq.mirror_zone('t', 'z', 'b')});
at('b', q{SELECT iotmq.fence_zone('t', 'z')});
at('a', q{SELECT iotmq.promote_zone('t', 'z')});
is(at('a', q{SELECT iotmq.publish('t', 'd', '"a"', zone => 'z')}), '8589934592', 'a zone that comes back');
is(at('a', q{SELECT count(*) FROM iotmq.fetch('t', 'z', 1, 100)}), '14', 'with all of it');

# A move in one step: whoever promotes fences the source himself, if his role there may, and
# what fails opens it again.
at('a', <<'SQL');
SELECT iotmq.create_topic('one', '{q,r}');
SELECT iotmq.create_group('one', 'g', start_from => '-infinity');
SELECT iotmq.publish('one', 'd', to_jsonb(i), zone => z) FROM generate_series(1, 10) AS i, unnest('{q,r}'::text[]) AS z;
SQL
my $lease = at('a', q{SELECT DISTINCT lease_id FROM iotmq.consume('one', 'g', 3, zone => 'q')});
at('b', q{SELECT iotmq.mirror_zone('one', z, 'a') FROM unnest('{q,r}'::text[]) AS z});
at('a', q{BEGIN; SELECT iotmq.publish('one', 'd', '"prepared"', zone => 'q'); PREPARE TRANSACTION 'q'});
like(error_of('b', q{SET iotmq.source_timeout = '1 s'; SELECT iotmq.promote_zone('one', 'q')}), qr/55P03/, 'open publishers keep it from being fenced');
is(at('a', q{SELECT iotmq.publish('one', 'd', '"goes on"', zone => 'q')}), '12', 'and go on');
at('a', q{COMMIT PREPARED 'q'});
at('b', q{ALTER TABLE iotmq_internal.zone ADD CONSTRAINT fails CHECK (zone <> 'q' OR state <> 'open') NOT VALID});
like(error_of('b', q{SELECT iotmq.promote_zone('one', 'q')}), qr/23514/, 'what fails behind the fence');
is(at('a', q{SELECT iotmq.publish('one', 'd', '"open"', zone => 'q')}), '13', 'opens it again');
at('b', q{ALTER TABLE iotmq_internal.zone DROP CONSTRAINT fails});
at('b', q{SELECT iotmq.promote_zone('one', 'q')});
my $here = $node{b}->port;
like(error_of('a', q{SELECT iotmq.publish('one', 'd', '1', zone => 'q')}), qr/55000: .*is fenced.*It has moved to database "postgres" of .*$here/s, 'the source tells where it is');
is(at('b', qq{SELECT iotmq.ack($lease)}), '3', 'leases keep their ids');
is(at('b', q{SELECT count(*) FROM iotmq.consume('one', 'g', 100, zone => 'q')}), '10', 'and the rest goes on here');

# A role that may only mirror can't fence: then there are two owners, and a warning.
at('a', q{CREATE ROLE puller LOGIN; SELECT iotmq.grant_mirror('one', 'puller')});
at('b', q{ALTER USER MAPPING FOR CURRENT_USER SERVER a OPTIONS (SET user 'puller')});
$lease = at('a', q{SELECT DISTINCT lease_id FROM iotmq.consume('one', 'g', 3, zone => 'r')});
like(error_of('b', q{SELECT iotmq.promote_zone('one', 'r')}), qr/WARNING:\s.*the source of zone "r" of topic "one" is open still.*iotmq\.fence_zone\('one', 'r'\)/s, 'who may not fence is warned');
is(at('b', q{SELECT count(DISTINCT m.msg_offset) FROM generate_series(1, 20) AS i, LATERAL iotmq.consume('one', 'g', 100 + i, zone => 'r') AS m}), '10',
	'what was in flight there is due here');
is(at('b', q{SELECT iotmq.publish('one', 'd', '"b"', zone => 'r')}) >> 32, 1000, 'offsets leave room for the other owner');
at('b', qq{ALTER USER MAPPING FOR CURRENT_USER SERVER a OPTIONS (SET user '$user')});
at($_, q{SELECT iotmq.drop_topic('one', force => true)}) foreach 'a', 'b';
at('a', 'DROP ROLE puller');

# A disaster: a falls, with messages that b has not pulled.
at('b', q{SELECT iotmq.pull('t', z) FROM unnest('{x,y}'::text[]) AS z});
at('a', q{SELECT iotmq.publish('t', 'd', '"tail"', zone => 'x') FROM generate_series(1, 3)});
$node{a}->stop('immediate');
my $started = time;
like(error_of('b', q{SELECT iotmq.promote_zone('t', 'x')}), qr/08001/, 'without its source, a zone is promoted only by force');
at('b', q{SELECT iotmq.promote_zone('t', 'x', force => true)});
my $begins = at('b', q{SELECT first_offset FROM iotmq.zone_epoch WHERE zone = 'x' AND epoch >= 1000});
is(at('b', qq{SELECT count(*) FROM iotmq.fetch('t', 'x', $begins, 10)}), '0', 'readers know where it goes on before there is a message');
my $first = at('b', q{SELECT iotmq.publish('t', 'd', '"b"', zone => 'x')});
is($first, $begins, 'which is there');
is($first >> 32, 1000, 'it leaves epochs to an owner that does not know');

# a comes back, and believes that it owns the zone. Then it follows b.
$node{a}->start;
is(at('a', q{SELECT iotmq.publish('t', 'd', '"late"', zone => 'x')}) >> 32, 3, 'it has begun an epoch of its own');
at('a', q{CALL iotmq.run_maintenance()});
my $rollback = error_of('a', q{BEGIN; SELECT iotmq.demote_zone('t', 'x', 'b'); ROLLBACK});
like($rollback, qr/zone "x" of topic "t" has dropped 4 messages that its source doesn't have.*Their offsets were 11 to 12884901888/s, 'what only it had is named');
is(at('a', q{SELECT count(*) FROM iotmq.fetch('t', 'x', 1, 100)}), '14', 'and it is all there if that is taken back');
at('a', q{SELECT iotmq.demote_zone('t', 'x', 'b')});
is(at('a', q{SELECT iotmq.pull('t', 'x')}), '1', 'it pulls what the new owner has more');
is(content('a', 'x'), content('b', 'x'), 'and then has the same');
my $epochs = q{SELECT epoch, first_offset, last_before FROM iotmq.zone_epoch WHERE zone = 'x' ORDER BY epoch};
is(at('a', $epochs), at('b', $epochs), 'with the same epochs');
like(error_of('a', q{SELECT iotmq.publish('t', 'd', '1', zone => 'x')}), qr/55000/, 'and nobody publishes there');
is(at('a', q{SELECT count(*) FROM iotmq.fetch('t', 'x', 1, 100)}), '11', 'which a session that knew the tail reads, too');
# Failback, as a move.
at('b', q{SELECT iotmq.fence_zone('t', 'x', 'a')});
at('a', q{SELECT iotmq.promote_zone('t', 'x')});
at('b', q{SELECT iotmq.demote_zone('t', 'x', 'a')});
is(at('a', q{SELECT iotmq.publish('t', 'd', '"home"', zone => 'x')}) >> 32, 1001, 'failback');
is(at('b', q{SELECT iotmq.pull('t', 'x')}), '1', 'and the other one follows');
is(content('a', 'x'), content('b', 'x'), 'with the same');

# A source that lost what its mirror has. It is seen, not passed over in silence, and there are
# two ways out of it.
$node{a}->backup('before');
at('a', q{SELECT iotmq.publish('t', 'd', '"lost"', zone => 'y') FROM generate_series(1, 5)});
at('b', q{SELECT iotmq.pull('t', 'y')});
my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($node{a}, 'before');
$node{a}->stop;
$restored->start;
$node{restored} = $restored;
at('b', sprintf q{ALTER SERVER a OPTIONS (SET host '%s', SET port '%s')}, $restored->host, $restored->port);
at('b', q{CALL iotmq.run_mirrors('0')});
like(at('b', q{SELECT error FROM iotmq.mirror WHERE zone = 'y'}), qr/^the source has lost messages that the mirror has/, 'the view names it');
is(at('b', q{SELECT value LIKE 'the source has lost%', zone FROM iotmq.alerts WHERE alert = 'mirror'}), 't|y', 'so does an alert');
is(at('b', q{SELECT error IS NULL, lag_messages FROM iotmq.mirror WHERE zone = 'x'}), 't|0', 'another mirror goes on');
at('restored', q{SELECT iotmq.publish('t', 'd', '"anew"', zone => 'y')});
like(error_of('b', q{SELECT iotmq.pull('t', 'y')}), qr/55000: the source has lost.*promote_zone\('t', 'y', force => true\).*demote_zone\('t', 'y', 'a'\)/s,
	'also once that goes on');
like(error_of('b', q{SELECT iotmq.demote_zone('t', 'y', 'a')}), qr/has dropped 5 messages/, 'it forgets what the source has lost');
is(at('b', q{SELECT iotmq.pull('t', 'y')}), '1', 'and follows it');
is(content('restored', 'y'), content('b', 'y'), 'with the same');
is(at('b', q{SELECT count(*) FROM iotmq.alerts WHERE alert = 'mirror'}), '0', 'no alert any more');

# Another zone of the same name is no source, whatever its offsets say.
at('b', q{SELECT iotmq.create_topic('w'); SELECT iotmq.publish('w', 'd', to_jsonb(i)) FROM generate_series(1, 5) AS i});
at('restored', q{SELECT iotmq.create_topic('w'); SELECT iotmq.publish('w', 'd', to_jsonb(i)) FROM generate_series(1, 7) AS i});
like(error_of('b', q{SELECT iotmq.demote_zone('w', 'default', 'a')}), qr/55000: zone "default" of topic "w" is another one at server "a"/,
	'a zone does not follow another one');

# A dump of a mirror is a mirror, and of a fenced zone a fenced one.
at('restored', q{SELECT iotmq.fence_zone('t', 'z', 'nowhere')});
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump';
foreach my $name ('b', 'restored')
{
	$node{$name}->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.$name", '-d', $node{$name}->connstr('postgres') ], "a dump of $name");
	at('b', "CREATE DATABASE copy_of_$name");
	$node{b}->command_ok([ 'pg_restore', '-d', $node{b}->connstr("copy_of_$name"), "$dump.$name" ], 'is restored');
}
at('restored', q{SELECT iotmq.publish('t', 'd', '"after"', zone => 'y')});
is($node{b}->safe_psql('copy_of_b', q{SELECT iotmq.pull('t', 'y')}), '1', 'a restored mirror goes on');
is($node{b}->safe_psql('copy_of_b', q{SELECT count(*) FROM iotmq.fetch('t', 'y', 1, 100)}), '12', 'where it was');
my ($status, $out, $err) = $node{b}->psql('copy_of_restored', q{SELECT iotmq.publish('t', 'd', '1', zone => 'z')});
like($err, qr/is fenced/, 'a restored fence is one');

$_->stop foreach $node{b}, $restored;
done_testing();
