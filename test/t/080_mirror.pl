# A mirror has what its source has, exactly once, whatever happens to either of them.
#
# Two servers: b follows a. What is pulled has the same offsets, times, keys and bytes; a pull
# that is rolled back, killed or done twice leaves neither a hole nor a double; publishers at a
# are under way meanwhile, and roll back some of it. What a mirror must not do: show readers an
# end above what is committed; seal a segment that it has yet to fill; let a publisher in.
#
# Promise: no-loss, offsets-are-the-servers

use strict;
use warnings;

use IPC::Run qw(start timeout);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($a, $b) = map { PostgreSQL::Test::Cluster->new($_) } qw(a b);
foreach my $node ($a, $b)
{
	$node->init;
	$node->append_conf('postgresql.conf', "restart_after_crash = on\nlog_min_messages = warning\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION iotmq; CREATE EXTENSION dblink;');
}

sub at_a { return $a->safe_psql('postgres', @_) }
sub at_b { return $b->safe_psql('postgres', @_) }

# The error of a command, as "SQLSTATE message", with its hint.
sub error_of
{
	my ($node, $command) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$command");
	return $err;
}

# All that one of them has of a zone, up to where b has come.
sub content
{
	my ($node, $zone) = @_;
	my $end = at_b("SELECT next_offset FROM iotmq.mirror WHERE zone = '$zone'");
	return $node->safe_psql('postgres',
		"SELECT count(*), md5(string_agg(m::text, ',' ORDER BY msg_offset)) FROM iotmq_topic.t AS m
		WHERE zone = '$zone' AND msg_offset < $end");
}

sub is_exact
{
	my ($zone, $name) = @_;
	at_b('CALL iotmq.run_mirrors(\'0\')') foreach 1 .. 40;
	is(content($b, $zone), content($a, $zone), $name);
	is(at_b("SELECT lag_messages, error IS NULL FROM iotmq.mirror WHERE zone = '$zone'"), '0|t', "$name: to the end");
	return;
}

my $port = $a->port;
my $host = $a->host;
at_a(<<'SQL');
SELECT iotmq.create_topic('t', zones => '{z,x}', retention => '3 days', segment_interval => '1 hour', dedup_window => '2 hours');
SELECT iotmq.publish('t', 'd' || i % 7, jsonb_build_object('i', i, 's', E'tab\t, newline\n, \\ and \\N'), zone => 'z',
	tag => CASE WHEN i % 3 = 0 THEN 'x' END, body => CASE WHEN i % 2 = 0 THEN '\x000a095c'::bytea END,
	properties => CASE WHEN i % 5 = 0 THEN '{"a": [1, null]}'::jsonb END, message_key => CASE WHEN i % 4 = 0 THEN 'k' || i END)
FROM generate_series(1, 1000) AS i;
SELECT iotmq.publish('t', E'\\N\t\n', NULL, zone => 'z', body => '');
-- publishes in transactions of all sizes, and rolls back a third of them
CREATE PROCEDURE load(zone text, transactions int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. transactions LOOP
		PERFORM iotmq.publish_batch('t', array_fill('d' || i, ARRAY[n]), array_fill(to_jsonb(i), ARRAY[n]), zone => load.zone)
		FROM (SELECT 1 + (random() * 300)::int AS n) AS r;
		IF random() < 0.3 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
	END LOOP;
END $$;
SQL
at_b(<<SQL);
CREATE SERVER a FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '$host', port '$port', dbname 'postgres', connect_timeout '2');
CREATE USER MAPPING FOR CURRENT_USER SERVER a OPTIONS (user '@{[ at_a('SELECT current_user') ]}');
SELECT iotmq.mirror_zone('t', 'z', 'a');
SELECT iotmq.mirror_zone('t', 'x', 'a');
SQL
my $settings = "SELECT retention, segment_interval, retention_policy, max_retention, device_index, dedup_window FROM iotmq.topic_settings";
is(at_b($settings), at_a($settings), 'the topic is made with the settings of the source');

# Nothing of a pull is there before its commit, nor after its rollback: neither for readers
# of this session nor for others. Then it comes all the same.
is($b->safe_psql('postgres', <<'SQL'), "400\n0\n300\n0\n0\n700\n301\n1001", 'a pull that is rolled back');
BEGIN;
SELECT iotmq.pull('t', 'z', 400);
SELECT count(*) FROM iotmq.fetch('t', 'z', 1, 10000);
SAVEPOINT s;
SELECT iotmq.pull('t', 'z', 300);
SELECT count(*) FROM iotmq.fetch('t', 'z', 1, 10000);
ROLLBACK TO s;
ROLLBACK;
SELECT count(*) FROM iotmq.fetch('t', 'z', 1, 10000);
SELECT iotmq.pull('t', 'z', 700);
SELECT iotmq.pull('t', 'z');
SELECT count(*) FROM iotmq.fetch('t', 'z', 1, 10000);
SQL
is(content($b, 'z'), content($a, 'z'), 'all of a message is the same');
is(at_b(q{SELECT max(msg_offset) FROM iotmq.message_by_key('t', 'd4', 'k144')}), '144', 'its key, too');

# Nobody publishes there, not even the owner of all, by any way.
my $table = at_b(q{SELECT iotmq.zone_table('t', 'z')});
foreach my $command (
	q{SELECT iotmq.publish('t', 'd', '1', zone => 'z')},
	q{SELECT iotmq.publish('t', 'd4', '1', zone => 'z', message_key => 'k144')},
	q{SELECT iotmq.publish_batch('t', '{d,d}', '{1,2}', zones => '{z,x}')},
	qq{INSERT INTO $table (device_id, payload) VALUES ('d', '1')},
	qq{INSERT INTO $table (zone, msg_offset, published_at, device_id, payload) VALUES ('z', 5000, now(), 'd', '1')},
	qq{COPY $table (device_id, payload) FROM stdin;\nd\t1\n\\.\n},
	qq{SET session_replication_role = replica; INSERT INTO $table (device_id, payload) VALUES ('d', '1')})
{
	like(error_of($b, $command), qr/55000: zone "z" of topic "t" is a mirror.*Its source is the foreign server "a"/s, "refused: $command");
}

# Publishers at a, and two who pull all the time at b: each message once.
sub load_and_pull
{
	my ($zone, $transactions, $meanwhile) = @_;
	my @publishers = map { start([ 'psql', '-XAtq', '-d', $a->connstr('postgres'), '-c', "CALL load('$zone', $transactions)" ],
			'<', \undef, '>', \my $out, '2>', \my $err, timeout(180)) } 1 .. 2;
	my @pullers = map { start([ 'psql', '-XAtq', '-d', $b->connstr('postgres'), '-c', "CALL iotmq.run_mirrors('$_')" ],
			'<', \undef, '>', \my $out, '2>', \my $err, timeout(180)) } '3 s', '2 s';
	$meanwhile->() if $meanwhile;
	$_->finish foreach @publishers, @pullers;
	return;
}
load_and_pull('z', 100);
is_exact('z', 'two that pull, under load');

# Segments. b's are over, by the clock, before they are filled; maintenance at b must not take
# them for complete. Once they are at a, and all of it is here, they are sealed here, too.
at_a(<<'SQL');
SELECT iotmq.create_topic('s', segment_interval => '2 s', retention => '1 hour');
SELECT iotmq.publish('s', 'd', to_jsonb(i)) FROM generate_series(1, 20) AS i;
SQL
at_b(q{SELECT iotmq.mirror_zone('s', 'default', 'a')});
is(at_b(q{SELECT iotmq.pull('s', 'default', 10)}), '10', 'half of a segment');
$a->poll_query_until('postgres', q{SELECT max(published_at) < now() - interval '3 s' FROM iotmq_topic.s});
at_b('CALL iotmq.run_maintenance()') foreach 1 .. 3;
my $sealed = q{SELECT count(*), min(first_offset), max(last_offset) FROM iotmq_internal.segment AS s
	JOIN iotmq_internal.zone AS z USING (zone_id) JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE t.topic = 's' AND s.sealed AND s.first_offset IS NOT NULL};
is(at_b($sealed), '0||', 'maintenance seals nothing that is to be filled');
is(at_b(q{SELECT iotmq.pull('s', 'default')}), '10', 'the other half');
is(at_b(q{SELECT count(*) FROM iotmq.fetch('s', 'default', 1, 100)}), '20', 'is there for readers');
at_a('CALL iotmq.run_maintenance()') foreach 1 .. 3;
at_b(q{SELECT iotmq.pull('s', 'default') FROM generate_series(1, 2)});
at_b('CALL iotmq.run_maintenance()');
like(at_b($sealed), qr/^[1-9]\d*\|1\|20$/, 'what is sealed at the source, and all here, is sealed here');

# The source's retention was faster: that is counted, and it goes on behind it.
at_a(<<'SQL');
SELECT iotmq.create_topic('r', segment_interval => '2 s', retention => '1 hour');
SELECT iotmq.publish('r', 'd', to_jsonb(i)) FROM generate_series(1, 30) AS i;
SQL
at_b(q{SELECT iotmq.mirror_zone('r', 'default', 'a')});
at_b(q{SELECT iotmq.pull('r', 'default', 10)});
$a->poll_query_until('postgres', q{SELECT max(published_at) < now() - interval '3 s' FROM iotmq_topic.r});
at_a(q{CALL iotmq.run_maintenance(now() + interval '2 hours')}) foreach 1 .. 3;
at_a(q{SELECT iotmq.publish('r', 'd', '"new"')});
is(at_b(q{SELECT iotmq.pull('r', 'default')}), '1', 'what the source still has');
is(at_b(q{SELECT missed_messages, next_offset FROM iotmq.mirror WHERE topic = 'r'}), '20|32', 'what it has not is counted');

# Of a table that its owner has changed, the changes are obeyed.
at_b(<<'SQL');
ALTER TABLE iotmq_topic.t ADD COLUMN i int GENERATED ALWAYS AS ((payload ->> 'i')::int) STORED;
CREATE TABLE seen (msg_offset bigint);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.seen VALUES (new.msg_offset);
	IF new.device_id = 'hidden' THEN
		RETURN NULL;
	END IF;
	RETURN new;
END $$;
SQL
at_b("CREATE TRIGGER see BEFORE INSERT ON $table FOR EACH ROW EXECUTE FUNCTION see()");
at_a(q{SELECT iotmq.publish('t', d, '{"i": 42}', zone => 'z') FROM unnest('{shown,hidden,shown}'::text[]) AS d});
is(at_b(q{SELECT iotmq.pull('t', 'z')}), '3', 'a table with a trigger and a column');
is(at_b(q{SELECT count(*) FROM seen}), '3', 'the trigger has seen the messages');
is(at_b(qq{SELECT count(*), max(i) FROM $table WHERE msg_offset >= (SELECT min(msg_offset) FROM seen)}), '2|42', 'and left one out');
# What it leaves out at the end of a batch does not hide what the mirror has.
my $last = q{SELECT m.last_offset FROM iotmq_internal.mirror_state AS m JOIN iotmq_internal.zone USING (zone_id) WHERE zone = 'z'};
my $before = at_b($last);
at_a(q{SELECT iotmq.publish('t', 'hidden', '1', zone => 'z')});
is(at_b(q{SELECT iotmq.pull('t', 'z')}), '1', 'one that the trigger leaves out');
is(at_b($last), $before, 'a mirror knows its last message');
at_b("DROP TRIGGER see ON $table; ALTER TABLE iotmq_topic.t DROP COLUMN i");

# Whatever a source says is checked.
at_b(<<'SQL');
CREATE FUNCTION store(batch text, described text DEFAULT '{"format": 1, "state": "open", "earliest": 1, "stable": 100, "end": 100, "sealed_last": 0, "gaps": []}')
	RETURNS void LANGUAGE sql AS $$ SELECT iotmq.mirror_store('r', 'default', NULL, described || E'\n' || batch) $$;
SQL
my $now = at_b(q{SELECT ((extract(epoch FROM now()) - extract(epoch FROM timestamptz '2000-01-01 00:00+00')) * 1000000)::bigint});
my $head = "32\\t40\\n";
my $message = "32\\t$now\\td\\t\\\\N\\t{}\\t\\\\N\\t\\\\N\\t\\\\N\\n";
sub changed
{
	my ($from, $to) = @_;
	(my $other = $message) =~ s/\Q$from/$to/ or die $from;
	return $head . $other;
}
foreach my $case (
	# the first line
	[ '', '22P02' ], [ 'x\n', '22P02' ], [ '32\n', '22P02' ], [ '\\\\N\\t32\n', '22P02' ], [ "x\\t33\\n", '22P02' ],
	[ "32\\t31\\n", '22023' ], [ "31\\t32\\n", '22023' ], [ "32\\t9223372036854775807\\n", '22023' ], [ "32\\t99999999999999999999\\n", '22P02' ],
	# the lines of messages
	[ "${head}32\\t$now\\td\\n", '22P02' ], [ "$head${message}33", '22P02' ], [ $head . $message . $message, '22023' ],
	[ changed("32\\t", "31\\t"), '22023' ], [ changed("32\\t", "40\\t"), '22023' ], [ changed("32\\t", "\\\\N\\t"), '22P02' ],
	# times
	[ changed($now, '9223372036854775807'), '22023' ], [ changed($now, "99${now}"), '22023' ], [ changed($now, '\\\\N'), '22P02' ],
	# what a publisher's message must be
	[ changed('{}', '{'), '22P02' ], [ changed('{}', '\\\\N'), '22004' ], [ changed('\\td\\t', '\\t\\t'), '22023' ],
	[ changed('\\td\\t', '\\td\\\\q\\t'), '22P02' ], [ changed('d\\t\\\\N', 'd\\ta,b'), '22023' ], [ changed('{}\\t\\\\N', '{}\\tzz'), '22023' ],
	[ changed('{}', '{"a": "' . 'x' x (4 << 20) . '"}'), '54000' ])
{
	like(error_of($b, "SELECT store(E'$case->[0]')"), qr/ERROR:  $case->[1]:/, "$case->[1]: " . substr($case->[0], 0, 60));
}
foreach my $case (
	[ '{}', '55000' ], [ 'x', '22P02' ], [ '{"format": 1}', '22023' ],
	map({ [ '{"format": 1, "state": "open", "earliest": 1, "stable": 100, "end": 100, "sealed_last": 0, "gaps": [' . $_ . ']}', '22023' ] }
		'{}', '1', '{"epoch": 1, "first_offset": 5, "last_before": 1}', '{"epoch": 1, "first_offset": 4294967296, "last_before": 4294967296}',
		'{"epoch": 0, "first_offset": 0, "last_before": 0}'),
	[ '{"format": 1, "state": "open", "earliest": 1, "stable": 10, "end": 20, "sealed_last": 0, "gaps": []}', '55000' ])
{
	like(error_of($b, "SELECT store(E'$head$message', '$case->[0]')"), qr/ERROR:  $case->[1]:/, "$case->[1]: $case->[0]");
}
is(error_of($b, "SELECT store(E'$head$message')"), '', 'and what is right is taken');
is(at_b(q{SELECT next_offset FROM iotmq.mirror WHERE topic = 'r'}), '40', 'all of it');

# Servers that are killed in the middle of it, and come again.
load_and_pull('x', 60, sub { $b->stop('immediate'); $b->start; });
is_exact('x', 'the mirror is killed');
load_and_pull('x', 60, sub { $a->stop('immediate'); $a->start; });
at_a("CALL load('x', 5)");
is_exact('x', 'the source is killed');
my $epochs = "SELECT zone, epoch, first_offset, last_before, began_at FROM iotmq.zone_epoch WHERE zone = 'x' ORDER BY epoch";
like(at_a($epochs), qr/^x\|1\|4294967296\|/, 'it has begun an epoch');
is(at_b($epochs), at_a($epochs), 'which has come along');

$_->stop foreach $a, $b;
done_testing();
