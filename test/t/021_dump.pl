# pg_dump and restore into other clusters.
#
# The database is dumped while a publisher is open and everything else is under way:
# leases, retries, dead letters, a sample that waits for the publisher's end (in a
# position and for sealing), rights, a schedule.  It is restored where the next
# transaction id is lower, so that those samples are from the future, and where it is
# higher.  There it goes on, with nothing lost, and nothing twice but what was in
# flight.  Neither pg_dump nor the restore may have anything to say.
#
# Promise: dump-restore

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $cron;    # is pg_cron there?

# A cluster with the database and the roles, and that many transactions behind it.
sub new_cluster
{
	my ($name, $transactions) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$cron //= -e $node->config_data('--sharedir') . '/extension/pg_cron.control';
	$node->append_conf('postgresql.conf', 'max_prepared_transactions = 5');
	$node->append_conf('postgresql.conf', <<'CONF') if $cron;
shared_preload_libraries = 'pg_cron'
cron.database_name = 'iot'
cron.use_background_workers = on
CONF
	$node->start;
	$node->safe_psql('postgres', <<SQL);
CREATE ROLE device; CREATE ROLE service; CREATE ROLE analyst; CREATE ROLE stranger;
SET synchronous_commit = off;
DO \$\$
BEGIN
	FOR i IN 1..$transactions LOOP
		PERFORM pg_current_xact_id();
		COMMIT;
	END LOOP;
END \$\$;
CREATE DATABASE iot;
SQL
	return $node;
}

my $source = new_cluster('source', 5000);

# Zone a: offsets 1 to 4 of three hours ago, 5 to 16, then 17 and 18 of the open publisher, 19.
$source->safe_psql('iot', ($cron ? 'CREATE EXTENSION pg_cron;' : '') . <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.set_node(5);
SELECT iotmq.create_topic('dropped');
SELECT count(iotmq.publish('dropped', 'd', to_jsonb(n))) FROM generate_series(1, 7) AS n;
SELECT iotmq.create_topic('m', '{a,b}', retention => '1 day', segment_interval => '1 hour');
SELECT iotmq.drop_topic('dropped');
SELECT iotmq.create_group('m', 'plain', start_from => '-infinity', invisible_for => '1 day', backoff => '{1 h}', max_retries => 1);
SELECT iotmq.create_group('m', 'orderly', 'orderly', start_from => '-infinity', invisible_for => '1 day', backoff => '{1 h}');
SELECT iotmq.create_group('m', 'alarms', start_from => '-infinity', tags => 'alarm', filter => '$.n > 2');
SELECT iotmq.create_group('m', 'idle', start_from => '-infinity');
SELECT iotmq.create_topic('s');
SELECT iotmq.create_group('s', 'paused', durable_acks => true);
SELECT iotmq.pause_group('s', 'paused');
SELECT iotmq.publish('s', 'd', '1');
SELECT iotmq.grant_publish('m', 'device', '{b}');
SELECT iotmq.grant_consume('m', 'idle', 'service');
SELECT iotmq.grant_read('m', 'device', '{b}'), iotmq.grant_read('m', 'analyst'), iotmq.grant_mirror('m', 'service');
SELECT iotmq.segment_make_until(zone_id, now() - interval '3 hours', now() - interval '3 hours' + interval '1 us')
FROM iotmq_internal.zone WHERE zone = 'a';
DO $$
BEGIN
	EXECUTE format('INSERT INTO %s (device_id, payload, tag, published_at)
		SELECT ''d'' || n %% 3, jsonb_build_object(''n'', n), CASE n %% 2 WHEN 0 THEN ''alarm'' END, now() - interval ''3 hours''
		FROM generate_series(1, 4) AS n', iotmq.zone_table('m', 'a'));
END $$;
SELECT count(iotmq.publish('m', 'd' || n % 3, jsonb_build_object('n', n), 'a', CASE n % 2 WHEN 0 THEN 'alarm' END))
FROM generate_series(5, 16) AS n;
SELECT iotmq.publish('m', 'e', '{"n": "b"}', 'b', body => '\x00ff', properties => '{"k": "v"}');
CREATE TABLE lease (name text, lease_id bigint);
-- plain: 1, 2 acked; 3, 4 in flight; 5 waits; 6 dead; 7 redriven and waiting; 8 redriven and in flight
INSERT INTO lease SELECT DISTINCT 'plain', lease_id FROM iotmq.consume('m', 'plain', 4, zone => 'a');
SELECT iotmq.ack(lease_id, '{1,2}') FROM lease;
INSERT INTO lease SELECT DISTINCT 'rest', lease_id FROM iotmq.consume('m', 'plain', 4, zone => 'a');
SELECT iotmq.nack(lease_id, '{5}', reason => 'later') FROM lease WHERE name = 'rest';
SELECT iotmq.reject(lease_id, '{6,7,8}', reason => 'never') FROM lease WHERE name = 'rest';
SELECT iotmq.redrive('m', 'plain', array_agg(id)) FROM iotmq.dead_letter WHERE msg_offset = 8;
-- it or a new one: which goes first is not promised
DO $$
BEGIN
	LOOP
		BEGIN
			INSERT INTO lease SELECT 'redriven', lease_id FROM iotmq.consume('m', 'plain', 1, zone => 'a') WHERE msg_offset = 8;
			EXIT WHEN FOUND;
			RAISE EXCEPTION 'new' USING ERRCODE = 'TX001';
		EXCEPTION WHEN SQLSTATE 'TX001' THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT iotmq.redrive('m', 'plain', array_agg(id)) FROM iotmq.dead_letter WHERE msg_offset = 7;
-- orderly: 1 waits, 4 and more of d1 behind it; 2, 3 in flight
INSERT INTO lease SELECT DISTINCT 'orderly', lease_id FROM iotmq.consume('m', 'orderly', 3, zone => 'a');
SELECT iotmq.nack(lease_id, '{1}') FROM lease WHERE name = 'orderly';
SELECT * FROM iotmq.consume('m', 'orderly', zone => 'a');
SQL
$source->safe_psql('iot', q{SELECT iotmq.schedule_maintenance('0 0 1 1 *')}) if $cron;

# The open publisher, what was published past it, and the samples that wait for it. It
# has drawn an offset for which there is no row, as COPY does for a while.
my ($in, $out, $err) = ('', '', '');
my $publisher = IPC::Run::start(
	[ $source->installed_command('psql'), '-XAtq', '-f', '-', '-d', $source->connstr('iot') ],
	'<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout(180));
$in .= "BEGIN; SELECT pg_current_xact_id() IS NULL; SELECT nextval(offset_sequence) FROM iotmq_internal.zone WHERE zone = 'a';\n";
$in .= "SELECT iotmq.publish('m', 'd0', '{\"n\": \"open\"}', 'a');\n";
$publisher->pump until $out =~ /17\n18/;
$source->safe_psql('iot', q{SELECT iotmq.publish('m', 'd2', '{"n": 19}', 'a', 'alarm')});
$source->safe_psql('iot', q{SELECT iotmq.ack(lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('m', 'alarms', zone => 'a')) AS l});
$source->safe_psql('iot', q{SELECT * FROM iotmq.consume('m', 'alarms', zone => 'a')});
$source->safe_psql('iot', 'CALL iotmq.run_maintenance()') foreach (1, 2);
is($source->safe_psql('iot', <<'SQL'), 't|t', 'samples that wait for the publisher');
SELECT (SELECT bool_or(sample_offset > 0) FROM iotmq_internal.cursor_state), (SELECT bool_or(seal_xid IS NOT NULL) FROM iotmq_internal.zone)
SQL

# Where everybody stands, what is in flight, and the dead letters.
my $state = <<'SQL';
SELECT topic, consumer_group, zone, mode, earliest_offset, next_offset, end_offset, inflight_messages, retry_messages,
	blocked_devices, dead_letters, expired_unread
FROM iotmq.consumer_lag ORDER BY topic, consumer_group, zone;
SELECT f.* FROM iotmq.in_flight AS f ORDER BY lease_id;
SELECT d.* FROM iotmq.dead_letter AS d ORDER BY id;
SELECT zone, segments > 2, oldest_published_at FROM iotmq.topic_stats ORDER BY topic, zone;
SELECT md5(string_agg(m::text, ',' ORDER BY zone, msg_offset)) FROM iotmq_topic.m;
SELECT r.* FROM iotmq_internal.redelivery AS r ORDER BY cursor_id, msg_offset;
SELECT s.* FROM iotmq.topic_settings AS s ORDER BY topic;
SELECT s.* FROM iotmq.group_settings AS s ORDER BY topic, consumer_group;
SQL
my $before = $source->safe_psql('iot', $state);

# Runs a program of the server; nothing may come on its standard error.
sub silent
{
	my ($what, $node, $program, @args) = @_;
	my ($stdout, $stderr);
	my $ok = IPC::Run::run([ $node->installed_command($program), @args ], '>', \$stdout, '2>', \$stderr);
	ok($ok, "$what: done");
	is($stderr, '', "$what: without a word");
	return $ok;
}

my $dir = PostgreSQL::Test::Utils::tempdir;
silent('pg_dump', $source, 'pg_dump', '-f', "$dir/plain", $source->connstr('iot'));
silent('pg_dump -Fc', $source, 'pg_dump', '-Fc', '-f', "$dir/custom", $source->connstr('iot'));

# The one that was open is of no cluster but the source.
$in .= "COMMIT;\n\\q\n";
$publisher->finish;
is($err, '', 'the publisher ended');
$source->stop;

# What a group gets until there is no more, each as offset, attempt.
my $drain = <<'SQL';
CREATE FUNCTION drain(consumer_group text, zone text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text := '';
	batch iotmq.delivery[];
BEGIN
	LOOP
		batch := (SELECT array_agg(d) FROM iotmq.consume('m', drain.consumer_group, 4, zone => drain.zone) AS d);
		EXIT WHEN batch IS NULL;
		result := result || (SELECT string_agg(msg_offset || '/' || attempt, ' ' ORDER BY n) || ' '
			FROM unnest(batch) WITH ORDINALITY AS m(lease_id, zone, msg_offset, device_id, tag, payload, body, properties, published_at, attempt, n));
		PERFORM iotmq.ack(batch[1].lease_id);
	END LOOP;
	RETURN rtrim(result);
END $$;
SQL

foreach my $target ([ 'lower', 0, 'plain' ], [ 'higher', 20000, 'custom' ], [ 'lower_parallel', 0, 'custom', '-j2' ])
{
	my ($name, $transactions, $format, @options) = @$target;
	my $node = new_cluster($name, $transactions);
	my $sql = sub { return $node->safe_psql('iot', shift) };
	my $code = sub {
		my ($rc, $stdout, $stderr) = $node->psql('iot', "\\set VERBOSITY sqlstate\n" . shift);
		return $stderr =~ /ERROR:  (\w+)/ ? $1 : 'none';
	};

	if ($format eq 'plain')
	{
		silent("$name: psql", $node, 'psql', '-Xq', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain", '-d', $node->connstr('iot')) or next;
	}
	else
	{
		silent("$name: pg_restore", $node, 'pg_restore', '-e', @options, '-d', $node->connstr('iot'), "$dir/custom") or next;
	}
	is($sql->('SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint > max(sample_xid::text::bigint) FROM iotmq_internal.cursor_state'),
		$transactions > 0 ? 't' : 'f', "$name: its next transaction id is so");
	is($sql->($state), $before, "$name: everything is there");

	# Nobody is open here: all that is committed is decided, also beyond the sample.
	is($sql->(q{SELECT DISTINCT stable_offset FROM iotmq.consumer_lag WHERE zone = 'a'}), '20', "$name: the stable offset");
	is($sql->('SELECT count(*) FROM iotmq.held_back'), '0', "$name: nobody holds it back");

	# What was in flight still counts.
	is($sql->(q{SELECT iotmq.ack(lease_id, '{3}') FROM lease WHERE name = 'plain'}), '1', "$name: an old lease");
	is($sql->(q{SELECT iotmq.extend(lease_id, '1 h') > now() FROM lease WHERE name = 'orderly'}), 't', "$name: can be extended");
	is($sql->(q{SELECT iotmq.ack(lease_id, '{2}') FROM lease WHERE name = 'orderly'}), '1', "$name: in an orderly group");

	# The rest: once, and what is new.
	is($sql->(q{SELECT iotmq.publish('m', 'd1', '{"n": 20}', 'a'), iotmq.publish('m', 'd1', '{"n": "c"}', 'b')}), '20|2', "$name: new offsets");
	$sql->($drain);
	is($sql->(q{SELECT drain('alarms', 'a')}), '19/1', "$name: a group with a sample goes on");
	is($sql->(q{SELECT drain('idle', 'a')}), join(' ', map { "$_/1" } 1 .. 16, 19, 20), "$name: one from its beginning");
	is($sql->(q{SELECT drain('plain', 'a')}), join(' ', map { "$_/1" } 7, 9 .. 16, 19, 20), "$name: one that was under way");
	is($sql->(q{SELECT drain('orderly', 'a')}), join(' ', map { "$_/1" } 5, 8, 11, 14, 19), "$name: devices whose turn it is");
	is($sql->(q{SELECT iotmq.ack(lease_id) FROM lease WHERE name = 'plain'}), '1', "$name: the old lease to its end");
	is($sql->(q{SELECT iotmq.ack(lease_id) FROM lease WHERE name = 'orderly'}), '1', "$name: the orderly one as well");
	is($sql->(q{SELECT drain('orderly', 'a')}), join(' ', map { "$_/1" } 6, 9, 12, 15), "$name: and what waited behind it");
	is($code->(q{SELECT iotmq.ack(lease_id) FROM lease WHERE name = 'plain'}), '55000', "$name: then it has ended");
	$sql->(q{UPDATE iotmq_internal.redelivery SET due_at = '-infinity', not_before = '-infinity' WHERE due_at < 'infinity'});
	$sql->(q{UPDATE iotmq_internal.cursor_state SET next_due = '-infinity' WHERE redeliveries > 0});
	is($sql->(q{SELECT drain('orderly', 'a')}), '1/2 ' . join(' ', map { "$_/1" } 4, 7, 10, 13, 16, 20), "$name: a blocked device");
	is($sql->(q{SELECT drain('plain', 'a')}), '5/2', "$name: a retry");
	is($sql->(q{SELECT iotmq.reject(lease_id) FROM lease WHERE name = 'redriven'}), '1', "$name: a redriven message in flight");
	is($sql->(q{SELECT iotmq.redrive('m', 'plain')}), '2', "$name: dead letters");
	is($sql->(q{SELECT drain('plain', 'a')}), '6/1 8/1', "$name: come again");
	is($sql->(q{SELECT iotmq.reject(lease_id) FROM iotmq.consume('m', 'plain', 1, zone => 'b')}), '1', "$name: a new dead letter");
	is($sql->(q{SELECT msg_offset, payload, body, properties FROM iotmq.dead_letter}), '1|{"n": "b"}|\x00ff|{"k": "v"}', "$name: with its content");
	is($sql->(q{SELECT sum(lag_messages) FROM iotmq.consumer_lag WHERE zone = 'a'}), '0', "$name: nothing is left");

	# A paused group
	is($sql->(q{SELECT paused, durable_acks FROM iotmq.group_settings WHERE topic = 's'}), 't|t', "$name: a paused group");
	is($sql->(q{SELECT msg_offset FROM iotmq.consume('s', 'paused')}), '', "$name: gets nothing");
	is($sql->(q{SELECT iotmq.resume_group('s', 'paused'); SELECT msg_offset FROM iotmq.consume('s', 'paused')}), "\n1", "$name: until it goes on");

	# Rights
	is($sql->(q{SET ROLE device; SELECT iotmq.publish('m', 'e', '1', 'b')}), '3', "$name: who may publish");
	is($code->(q{SET ROLE device; SELECT iotmq.publish('m', 'e', '1', 'a')}), '42501', "$name: and where not");
	is($sql->(q{SET ROLE service; SELECT msg_offset FROM iotmq.consume('m', 'idle')}), "1\n2\n3", "$name: who may consume");
	is($code->(q{SET ROLE service; SELECT msg_offset FROM iotmq.consume('m', 'plain')}), '42501', "$name: and what not");
	is($sql->(q{SET ROLE service; SELECT iotmq.mirror_groups('m', 'b') #>> '{groups,0,consumer_group}'}), 'alarms', "$name: who may mirror");
	is($sql->(q{SET ROLE device; SELECT iotmq.zones('m'); SELECT count(*) > 0 FROM iotmq.fetch('m', 'b', 1)}), "b\nt", "$name: who may read a zone");
	is($code->(q{SET ROLE device; SELECT iotmq.fetch('m', 'a', 1)}), '42501', "$name: and not another");
	is($code->(q{SET ROLE stranger; SELECT iotmq.publish('m', 'e', '1', 'b')}), '42501', "$name: and who nothing");

	# Administration: nothing is given a name or a number that is taken, or that was.
	is($sql->('SELECT n.node FROM iotmq_internal.node AS n'), '5', "$name: the node");
	is($sql->('SELECT min(lease_id >> 57), max(lease_id >> 57) FROM iotmq.in_flight'), '5|5', "$name: which is in the lease ids");
	is($sql->(q{SELECT iotmq.create_topic('dropped'); SELECT iotmq.publish('dropped', 'd', '1')}), "\n8", "$name: a topic made anew goes on above its old offsets");
	$sql->(q{SELECT iotmq.drop_topic('dropped')});
	$sql->(<<'SQL');
SELECT iotmq.create_topic('n', '{a,b}');
SELECT iotmq.add_zone('m', 'c');
SELECT iotmq.create_group('m', 'new', start_from => '-infinity');
SELECT iotmq.create_group('n', 'g');
SELECT iotmq.publish('n', 'd', '1', 'a'), iotmq.publish('m', 'd', '1', 'c');
SELECT iotmq.ack(lease_id) FROM iotmq.consume('n', 'g');
DO $$ BEGIN EXECUTE format('COPY %s (device_id, payload) FROM PROGRAM ''printf "d\\t1\\n"''', iotmq.zone_table('m', 'a')); END $$;
SQL
	is($sql->(q{SELECT drain('new', 'a')}), join(' ', map { "$_/1" } 1 .. 16, 19 .. 21), "$name: a new group, after a COPY");
	is($sql->(q{SELECT drain('new', 'c')}), '1/1', "$name: a new zone");
	is($sql->(q{SET ROLE analyst; SELECT count(*) FROM iotmq.fetch('m', 'c', 1)}), '1', "$name: which belongs to all that a role may read");

	# Maintenance: the sample that sealing waited with does not matter here, and retention drops.
	$sql->('CALL iotmq.run_maintenance()') foreach (1, 2);
	is($sql->('SELECT count(*) FILTER (WHERE sealed) > 0, count(*) FILTER (WHERE NOT sealed) FROM iotmq_internal.segment WHERE to_time < now()'),
		't|0', "$name: past segments are sealed");
	$sql->(q{CALL iotmq.run_maintenance(now() + interval '21 hours' + interval '1 min')});
	is($sql->(q{SELECT min(msg_offset) FROM iotmq_topic.m WHERE zone = 'a'}), '5', "$name: a segment dropped");
	is($sql->('SELECT sum(expired_unread) FROM iotmq.consumer_lag'), '0', "$name: which nobody needed");
	is($sql->(q{SELECT iotmq.seek('m', 'plain', '-infinity', 'a')}), '(a,21,5,14)', "$name: seek");
	is($sql->(q{SELECT drain('plain', 'a')}), join(' ', map { "$_/1" } 5 .. 16, 19 .. 21), "$name: and read again");

	SKIP:
	{
		skip 'pg_cron is not installed', 3 unless $cron;
		is($sql->('SELECT jobname, schedule FROM cron.job'), 'iotmq maintenance of iot|0 0 1 1 *', "$name: the schedule");
		$sql->(q{SELECT iotmq.schedule_maintenance('0 0 1 2 *')});
		is($sql->('SELECT jobname, schedule FROM cron.job'), 'iotmq maintenance of iot|0 0 1 2 *', "$name: changed");
		is($sql->('SELECT iotmq.unschedule_maintenance()'), 't', "$name: removed");
	}

	# The extension goes as where it was made.
	is($code->('DROP EXTENSION iotmq'), '2BP01', "$name: not dropped by mistake");
	$sql->('DROP EXTENSION iotmq CASCADE');
	is($sql->(q{SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'iotmq%'}), '0', "$name: but with all it has");
	is($sql->(q{SELECT count(*) FROM pg_class WHERE relname LIKE '\_zone\_%'}), '0', "$name: and nothing stays");
	$sql->(q{CREATE EXTENSION iotmq; SELECT iotmq.create_topic('m')});
	$node->stop;
}

done_testing();
