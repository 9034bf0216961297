# What groups have of a zone, taken over from another database: a mirror that pulls while the
# group goes on, a disaster, a move and the way back.
#
# Here both have the same messages from the beginning; how they are pulled is another test.
#
# Promise: mirrors-carry-groups

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

my %node_number = (source => 1, target => 2, disaster => 1);
my $publish = q{SELECT count(iotmq.publish('t', 'd' || n % 5, jsonb_build_object('n', n), tag => (ARRAY['a', 'b'])[1 + n % 2]))};
foreach my $db (sort keys %node_number)
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, <<SQL);
CREATE EXTENSION iotmq;
CREATE EXTENSION dblink;
SELECT iotmq.set_node($node_number{$db});
SELECT iotmq.create_topic('first');
SELECT iotmq.create_group('first', 'g');
SELECT iotmq.create_topic('t');
$publish FROM generate_series(1, 40) AS n;
SQL
}
$node->safe_psql('source', 'CREATE ROLE puller LOGIN');

# One value or more of a database.
sub ask
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

# What an apply in a database needs: a connection to another one, as who may do nothing but mirror.
sub connection
{
	my ($from, $role) = @_;
	return sprintf q{SELECT dblink_connect('c', '%s user=%s');}, $node->connstr($from) =~ s/'/''/gr, $role // 'puller';
}

# A pull; returns psql's output, an SQLSTATE if it fails.
sub pull
{
	my ($db, $from, %option) = @_;
	my $end = $option{end} // 1000;
	my $move = $option{move} ? 'true' : 'false';
	my ($status, $stdout, $stderr) = $node->psql($db, connection($from, $option{role}) . <<SQL, extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
SELECT iotmq.apply_source_groups(z.zone_id, iotmq.read_source_groups('c', 't', 'default', z.zone_id), $end, $move)
FROM iotmq_internal.zone AS z JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = 't';
SQL
	return $status == 0 ? 'OK' : $stderr =~ s/.*ERROR:\s+(\w+).*/$1/sr;
}

# A database gets the messages that the source has above its own.
sub follow
{
	my ($db) = @_;
	ask($db, connection('source') . <<'SQL');
SELECT count(iotmq.publish('t', m.device_id, m.payload, tag => m.tag, body => m.body, properties => m.properties))
FROM (
	SELECT f.*
	FROM iotmq_internal.zone AS z
	JOIN iotmq_internal.topic AS t USING (topic_id)
	CROSS JOIN LATERAL iotmq.overview_zone_offsets(z.zone_id) AS o
	CROSS JOIN LATERAL dblink('c', format('SELECT msg_offset, device_id, tag, payload, body, properties FROM iotmq.fetch(%L, %L, %s, 1000)', 't', 'default', o.end_offset))
		AS f (msg_offset bigint, device_id text, tag text, payload jsonb, body bytea, properties jsonb)
	WHERE t.topic = 't'
	ORDER BY f.msg_offset
) AS m;
SQL
	return;
}

# All that the groups have, without what differs between servers.
sub has
{
	my ($db) = @_;
	return ask($db, <<'SQL');
WITH cursors AS (
	SELECT c.cursor_id, g.consumer_group
	FROM iotmq_internal.cursor AS c
	JOIN iotmq_internal.consumer_group AS g USING (group_id)
	JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE t.topic = 't'
)
SELECT string_agg(h.row, E'\n' ORDER BY h.row COLLATE "C")
FROM (
	SELECT format('%s position %s %s %s %s %s %s', consumer_group, next_offset, redeliveries, dead_letters, delivered_total, retried_total, dead_total) AS row
	FROM cursors JOIN iotmq_internal.cursor_state USING (cursor_id)
	UNION ALL
	SELECT format('%s waiting %s', consumer_group, to_jsonb(r) - 'cursor_id')
	FROM cursors JOIN iotmq_internal.redelivery AS r USING (cursor_id)
	UNION ALL
	SELECT format('%s dead %s', consumer_group, to_jsonb(d) - '{cursor_id,id,published_at}'::text[])
	FROM cursors JOIN iotmq_internal.dead_message AS d USING (cursor_id)
	UNION ALL
	SELECT format('%s lease %s', consumer_group, to_jsonb(l) || jsonb_build_object('lease_id', l.lease_id & (1::bigint << 43) - 1))
	FROM cursors JOIN iotmq_internal.lease AS l ON iotmq.lease_cursor(l.lease_id) = cursor_id
	UNION ALL
	SELECT format('%s settings %s', g.consumer_group, to_jsonb(g) - '{group_id,topic_id,created_at}'::text[])
	FROM iotmq_internal.consumer_group AS g JOIN iotmq_internal.topic AS t USING (topic_id)
	WHERE t.topic = 't'
) AS h
SQL
}

# What plain gets by many calls: which is first is chance.
sub consumed
{
	my ($db, $column, $which) = @_;
	return ask($db, "SELECT m.$column FROM generate_series(1, 50) AS g CROSS JOIN LATERAL iotmq.consume('t', 'plain', 100 + g) AS m WHERE $which ORDER BY m.msg_offset");
}

sub is_as
{
	my ($db, $from, $name) = @_;
	is(has($db), has($from), $name);
	return;
}

# Each kind: plain has 1 and 2 acked, 3 and 4 in flight, 5 waiting, 6 to 9 dead, of them 8 and 9
# on their way again; orderly has 1 waiting, 6 behind it, and 2 to 4 in flight.
ask('source', <<'SQL');
SELECT iotmq.create_group('t', 'plain', start_from => '-infinity', backoff => '{1 h}', max_retries => 5);
SELECT iotmq.create_group('t', 'orderly', mode => 'orderly', start_from => '-infinity', backoff => '{1 h}');
SELECT iotmq.create_group('t', 'filtered', start_from => '-infinity', tags => 'a', filter => '$.n > 5');
SELECT iotmq.create_group('t', 'paused', start_from => '-infinity', max_lag => 3, durable_acks => true);
SELECT iotmq.pause_group('t', 'paused');
CREATE TABLE lease (name text, lease_id bigint);
INSERT INTO lease SELECT DISTINCT 'partly', lease_id FROM iotmq.consume('t', 'plain', 4, invisible_for => '1 h');
SELECT iotmq.ack(lease_id, '{1,2}') FROM lease WHERE name = 'partly';
INSERT INTO lease SELECT DISTINCT 'rest', lease_id FROM iotmq.consume('t', 'plain', 5);
SELECT iotmq.settle(lease_id, nacks => '{5}', rejects => '{6,7,8,9}', reasons => '{why}') FROM lease WHERE name = 'rest';
SELECT iotmq.redrive('t', 'plain', array_agg(id)) FROM iotmq.dead_letter WHERE msg_offset IN (8, 9);
INSERT INTO lease SELECT DISTINCT 'orderly', lease_id FROM iotmq.consume('t', 'orderly', 4, invisible_for => '1 h');
SELECT iotmq.nack(lease_id, '{1}') FROM lease WHERE name = 'orderly';
SELECT count(*) FROM iotmq.consume('t', 'orderly', 2, invisible_for => '1 h');
SELECT count(*) FROM iotmq.consume('t', 'filtered', 2, invisible_for => '1 h');
SQL
my %lease = map { split /\|/ } split /\n/, ask('source', 'SELECT name, lease_id FROM lease');

is(pull('target', 'source'), '42501', 'nobody may mirror without the right to');
ask('source', q{SELECT iotmq.grant_mirror('t', 'puller')});
is(pull('target', 'source'), 'OK', 'with it he may');
is_as('target', 'source', 'all is there');
is(pull('target', 'source'), 'OK', 'again');
is_as('target', 'source', 'and nothing twice');

# Content that the log here has dropped, or never had, comes from the source: large ones in
# several answers.
ask($_, q{DELETE FROM iotmq_topic.t WHERE msg_offset IN (6, 8, 10)}) foreach ('target', 'disaster');
is(pull('disaster', 'source'), 'OK', 'what the log has not');
is_as('disaster', 'source', 'comes from the source');
ask('source', <<'SQL');
SELECT iotmq.create_group('t', 'large', backoff => '{0}');
SELECT count(iotmq.publish('t', 'd', NULL, body => decode(repeat(to_hex(n * 17), 3 << 20), 'hex'), properties => '{"null": null}')) FROM generate_series(1, 7) AS n;
SELECT iotmq.publish('t', 'd', 'null', message_key => NULL);
SELECT iotmq.reject(l.lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('t', 'large', 20)) AS l;
SQL
is(pull('target', 'source'), 'OK', 'large dead letters');
is_as('target', 'source', 'all of them');
ask('source', q{SELECT iotmq.drop_group('t', 'large', force => true)});
is(pull('target', 'source', role => 'puller'), 'OK', 'a group that is dropped');
is_as('target', 'source', 'is dropped');

# While the group goes on, what is pulled is always one state: nothing is in two places.
my ($in, $out, $err) = ('', '', '');
my $consumer = IPC::Run::start([ $node->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', '-', '-d', $node->connstr('source') ],
	'<', \<<'SQL', '>', \$out, '2>', \$err, IPC::Run::timeout(180));
SELECT iotmq.create_group('t', 'busy', start_from => '-infinity', backoff => '{0}');
SELECT iotmq.create_group('t', 'busy.orderly', mode => 'orderly', start_from => '-infinity', backoff => '{0}');
DO $$
DECLARE
	lease bigint;
	offsets bigint[];
BEGIN
	FOR i IN 1..300 LOOP
		SELECT min(lease_id), array_agg(msg_offset) INTO lease, offsets FROM iotmq.consume('t', CASE i % 2 WHEN 0 THEN 'busy' ELSE 'busy.orderly' END, 3);
		COMMIT;
		IF lease IS NOT NULL AND i % 3 > 0 THEN
			PERFORM iotmq.settle(lease, nacks => offsets[1:1], rest => CASE WHEN i % 5 > 0 THEN 'ack' ELSE 'reject' END);
		END IF;
		COMMIT;
		PERFORM iotmq.redrive('t', 'busy', max_messages => 2), iotmq.redrive('t', 'busy.orderly', max_messages => 2);
		COMMIT;
		PERFORM iotmq.publish('t', 'd' || i % 5, to_jsonb(i));
		COMMIT;
	END LOOP;
END
$$;
SQL
my %answer;
$answer{ pull('target', 'source', end => 10 + 30 * $_) }++ foreach 1 .. 8;
$consumer->finish;
is($err, '', 'the consumer ended');
is_deeply(\%answer, { OK => 8 }, 'each pull is one state');
follow($_) foreach ('target', 'disaster');
is(pull('target', 'source'), 'OK', 'at the end');
is_as('target', 'source', 'it is all there');
is(pull('disaster', 'source'), 'OK', 'in another one');
is_as('disaster', 'source', 'too');
ask($_, q{SELECT iotmq.drop_group('t', g, force => true) FROM unnest('{busy,busy.orderly}'::text[]) AS g}) foreach ('source', 'target', 'disaster');

# Whatever the dump of a mirror is restored to knows what it knew.
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_dump', '-Fc', '-f', $node->basedir . '/dump', $node->connstr('target') ], 'a dump of the mirror');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('restored'), $node->basedir . '/dump' ], 'is restored');
is(ask('restored', q{SELECT count(*) FILTER (WHERE s.hashes IS NOT NULL), count(*) FROM iotmq_internal.source_group AS s}),
	ask('target', q{SELECT count(*) FILTER (WHERE s.hashes IS NOT NULL), count(*) FROM iotmq_internal.source_group AS s}), 'what it knew');
is(pull('restored', 'source'), 'OK', 'and it goes on');
is_as('restored', 'source', 'with all');

# A disaster: the source is asked no more. Its node's number may be the same.
my $zone = q{FROM iotmq_internal.zone AS z JOIN iotmq_internal.topic AS t USING (topic_id) WHERE t.topic = 't'};
ask('disaster', "SELECT iotmq.apply_source_expire(z.zone_id), iotmq.apply_source_forget(z.zone_id) $zone");
is(ask('disaster', 'SELECT count(*) FROM iotmq.in_flight'), '0', 'nothing is in flight');
is(ask('disaster', q{SELECT string_agg(msg_offset || '/' || attempt, ' ' ORDER BY msg_offset) FROM iotmq.waiting_message WHERE consumer_group = 'plain'}),
	'3/2 4/2 5/2 8/1 9/1', 'what was waits for its next attempt');
is(consumed('disaster', 'msg_offset', 'msg_offset < 10'), "3\n4\n8\n9", 'and is delivered at once');
is(ask('disaster', q{SELECT string_agg(msg_offset || CASE WHEN due_at IS NULL THEN ' behind' ELSE '' END, ', ' ORDER BY msg_offset) FROM iotmq.waiting_message WHERE consumer_group = 'orderly' AND device_id = 'd1'}),
	'1, 6 behind', 'a blocked device is blocked by its first');
is(ask('disaster', q{SELECT iotmq.redrive('t', 'plain', array_agg(id)) FROM iotmq.dead_letter WHERE msg_offset = 6}), '1', 'a dead letter without original');
is(consumed('disaster', 'payload', 'msg_offset = 6'), '{"n": 6}', 'is delivered again');
my ($status, undef, $stderr) = $node->psql('disaster', "SELECT iotmq.ack($lease{partly})", extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
like($stderr, qr/55000/, 'a lease of the source is lost');

# A move: leases keep their ids.
is(pull('target', 'source', move => 1), 'OK', 'a move');
is_as('target', 'source', 'with all');
ask('target', "SELECT iotmq.apply_source_forget(z.zone_id) $zone");
ask('source', "SELECT iotmq.cursor_give_away(z.zone_id) $zone");
is(ask('target', 'SELECT count(DISTINCT lease_id >> 57), min(lease_id >> 57) FROM iotmq.in_flight'), '1|1', 'ids of the source\'s node');
is(ask('target', "SELECT iotmq.ack($lease{partly}, '{3}'), iotmq.extend($lease{partly}, '2 h') > now()"), '1|t', 'a part is acked by the old id');
is(ask('target', q{SELECT count(*) FROM iotmq.consume('t', 'orderly', 20) WHERE device_id IN ('d1', 'd2', 'd3', 'd4')}), '0', 'devices in flight are so');
is(ask('target', "SELECT iotmq.ack($lease{orderly}, '{2}')"), '1', 'until they are acked');
is(ask('target', q{SELECT min(msg_offset) FROM iotmq.consume('t', 'orderly', 20) WHERE device_id = 'd2'}), '7', 'then they go on');
is(ask('target', q{SELECT iotmq.create_group('t', 'new'); SELECT cursor_id >> 14 FROM iotmq_internal.cursor JOIN iotmq_internal.consumer_group USING (group_id) WHERE consumer_group = 'new'}),
	"\n2", 'a new group has a cursor of this node');

# And back: the cursors that were away come home, with what they have now.
is(ask('source', 'SELECT count(*) FROM iotmq_internal.away_cursor'), '4', 'cursors are away');
ask('target', q{SELECT iotmq.grant_mirror('t', 'puller')});
is(pull('source', 'target', move => 1), 'OK', 'the way back');
is_as('source', 'target', 'with all');
is(ask('source', 'SELECT count(*) FROM iotmq_internal.away_cursor'), '0', 'no cursor is away');
is(ask('source', "SELECT iotmq.ack($lease{partly})"), '1', 'the rest is acked where it was lent');
is(ask('source', 'SELECT count(*) FROM iotmq_internal.cursor WHERE cursor_id >> 14 = 2'), '1', 'the group that was made meanwhile keeps its cursor');

$node->stop;
done_testing();
