# pg_upgrade, by copies and by links: what there was is there, and goes on.
#
# Without more, both servers are of the version that the tests run on, which pg_upgrade
# takes as well: it makes all objects anew and moves the files below them.  OLD_SERVER names
# the folder of another version, such as /usr/lib/postgresql/17, with iotmq in it, to come
# from: see tools/test-upgrade.
#
# The old server has everything under way: leases, retries, dead letters, a second epoch, a
# sample that waits for its publisher, rights, and what an owner adds to the table.  The new
# one goes on with it: nothing is lost, nothing comes twice, no offset and no number again.
#
# Promise: dump-restore

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my @install = $ENV{OLD_SERVER} ? (install_path => $ENV{OLD_SERVER}) : ();
my $old = PostgreSQL::Test::Cluster->new('old', @install);
my $first = 4294967296;    # of epoch 1
my $cron;                  # is pg_cron there?

# All servers are made in the same way, whatever their versions have as defaults.
sub init
{
	my ($node) = @_;
	my ($usage) = run_command([ $node->installed_command('initdb'), '--help' ]);
	$node->init(extra => [ $usage =~ /--no-data-checksums/ ? '--no-data-checksums' : () ]);
	$node->append_conf('postgresql.conf', <<'CONF') if $cron;
shared_preload_libraries = 'pg_cron'
cron.database_name = 'iot'
cron.use_background_workers = on
CONF
}

my ($share, $bin) = split /\n/, (run_command([ 'pg_config', '--sharedir', '--bindir' ]))[0];
$cron = !grep { !-e "$_/extension/pg_cron.control" } $share, $old->config_data('--sharedir');
init($old);
$old->start;

# Offsets 1 to 16 of zone a; of three hours ago 1 to 4.
$old->safe_psql('postgres', <<'SQL');
CREATE ROLE device; CREATE ROLE service; CREATE ROLE analyst; CREATE ROLE auditor; CREATE ROLE stranger;
CREATE DATABASE iot;
SQL
$old->safe_psql('iot', 'CREATE EXTENSION pg_cron') if $cron;
$old->safe_psql('iot', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.set_node(5);
SELECT iotmq.create_topic('dropped');
SELECT count(iotmq.publish('dropped', 'd', to_jsonb(n))) FROM generate_series(1, 7) AS n;
SELECT iotmq.drop_topic('dropped');
SELECT iotmq.create_topic('m', '{a,b,gone}', retention => '1 day', segment_interval => '1 hour', dedup_window => '12 hours');
SELECT iotmq.drop_zone('m', 'gone');
-- the owner's
ALTER TABLE iotmq_topic.m ADD COLUMN scratch int, ADD COLUMN received_by text DEFAULT 'gateway', ADD COLUMN checked boolean;
ALTER TABLE iotmq_topic.m DROP COLUMN scratch;
ALTER TABLE iotmq_topic.m ADD CONSTRAINT known_device CHECK (device_id <> 'unknown');
CREATE INDEX ON iotmq_topic.m ((payload ->> 'n'));
CREATE FUNCTION public.check_message() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.checked := true; RETURN NEW; END';
CREATE TRIGGER check_message BEFORE INSERT ON iotmq_topic.m FOR EACH ROW EXECUTE FUNCTION public.check_message();
CREATE VIEW public.hot AS SELECT device_id, payload FROM iotmq_topic.m WHERE payload @? '$.n';
ALTER TABLE iotmq_topic.m ENABLE ROW LEVEL SECURITY;
CREATE POLICY analyst ON iotmq_topic.m TO analyst USING (tag = 'alarm');
CREATE POLICY all_else ON iotmq_topic.m TO device, service, auditor USING (true) WITH CHECK (true);

SELECT iotmq.create_group('m', 'plain', start_from => '-infinity', backoff => '{1 h}', max_retries => 1);
SELECT iotmq.create_group('m', 'orderly', 'orderly', start_from => '-infinity', backoff => '{1 h}');
SELECT iotmq.create_group('m', 'alarms', start_from => '-infinity', tags => 'alarm', filter => '$.n > 2');
SELECT iotmq.create_group('m', 'idle', start_from => '-infinity');
SELECT iotmq.create_topic('s');
SELECT iotmq.create_group('s', 'paused', durable_acks => true);
SELECT iotmq.pause_group('s', 'paused');
SELECT iotmq.publish('s', 'd', '1');
SELECT iotmq.grant_publish('m', 'device', '{b}'), iotmq.grant_consume('m', 'idle', 'service'),
	iotmq.grant_read('m', 'device', '{b}'), iotmq.grant_read('m', 'analyst'), iotmq.grant_monitor('auditor');

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
SELECT iotmq.publish('m', 'e', '{"n": "b"}', 'b', body => '\x00ff', properties => '{"k": "v"}', message_key => 'once');
CREATE TABLE lease (name text, lease_id bigint);
-- plain: 1, 2 acked; 3, 4 in flight; 5 waits; 6, 7, 8 dead, 8 on its way again
INSERT INTO lease SELECT DISTINCT 'plain', lease_id FROM iotmq.consume('m', 'plain', 4, zone => 'a', invisible_for => '1 day');
SELECT iotmq.ack(lease_id, '{1,2}') FROM lease;
INSERT INTO lease SELECT DISTINCT 'rest', lease_id FROM iotmq.consume('m', 'plain', 4, zone => 'a');
SELECT iotmq.nack(lease_id, '{5}', reason => 'later') FROM lease WHERE name = 'rest';
SELECT iotmq.reject(lease_id, '{6,7,8}', reason => 'never') FROM lease WHERE name = 'rest';
SELECT iotmq.redrive('m', 'plain', array_agg(id)) FROM iotmq.dead_letter WHERE msg_offset = 8;
-- orderly: 1 waits, and the rest of d1 behind it; 2, 3 in flight
INSERT INTO lease SELECT DISTINCT 'orderly', lease_id FROM iotmq.consume('m', 'orderly', 3, zone => 'a', invisible_for => '1 day');
SELECT iotmq.nack(lease_id, '{1}') FROM lease WHERE name = 'orderly';
SELECT iotmq.ack(lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('m', 'orderly', zone => 'a')) AS l;
SQL
$old->safe_psql('iot', q{SELECT iotmq.schedule_maintenance('0 0 1 1 *')}) if $cron;

# The second epoch, which an unlogged sequence keeps.  Two messages of it, one of a publisher
# that ends after others have met it: so samples wait for what is over.
$old->stop('immediate');
$old->start;
my ($in, $out, $err) = ('', '', '');
my $publisher = IPC::Run::start(
	[ $old->installed_command('psql'), '-XAtq', '-f', '-', '-d', $old->connstr('iot') ],
	'<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout(180));
$in .= "BEGIN; SELECT iotmq.publish('m', 'd0', '{\"n\": 17}', 'a');\n";
$publisher->pump until $out =~ /\n/;
is($old->safe_psql('iot', q{SELECT iotmq.publish('m', 'd2', '{"n": 18}', 'a', 'alarm')}), $first + 1, 'a second epoch');
$old->safe_psql('iot', q{SELECT iotmq.ack(lease_id) FROM (SELECT DISTINCT lease_id FROM iotmq.consume('m', 'alarms', zone => 'a')) AS l});
$old->safe_psql('iot', q{SELECT * FROM iotmq.consume('m', 'alarms', zone => 'a')});
$old->safe_psql('iot', 'CALL iotmq.run_maintenance()') foreach (1, 2);
$in .= "COMMIT;\n\\q\n";
$publisher->finish;
is($err, '', 'the publisher ended');
is($old->safe_psql('iot', 'SELECT bool_or(sample_offset > 0) FROM iotmq_internal.cursor_state'), 't', 'a sample waits');

# Where everybody stands, what is in flight, what there is.
my $state = <<'SQL';
SELECT topic, consumer_group, zone, mode, earliest_offset, next_offset, stable_offset, end_offset, lag_messages, ready_messages,
	inflight_messages, retry_messages, blocked_devices, dead_letters, expired_unread
FROM iotmq.consumer_lag ORDER BY topic, consumer_group, zone;
SELECT f.* FROM iotmq.in_flight AS f ORDER BY lease_id;
SELECT d.* FROM iotmq.dead_letter AS d ORDER BY id;
SELECT t.topic, t.zone, t.segments, t.oldest_published_at FROM iotmq.topic_stats AS t ORDER BY topic, zone;
SELECT m.* FROM iotmq_topic.m ORDER BY zone, msg_offset;
SELECT z.* FROM iotmq.zone_epoch AS z ORDER BY 1, 2, 3;
SELECT s.* FROM iotmq.topic_settings AS s ORDER BY topic;
SELECT s.* FROM iotmq.group_settings AS s ORDER BY topic, consumer_group;
SELECT p.* FROM iotmq.privileges AS p ORDER BY p::text;
SELECT h.device_id, h.payload FROM public.hot AS h ORDER BY payload::text;
SELECT s.from_time, s.to_time, s.table_name, s.sealed, s.first_offset, s.last_offset, s.bytes FROM iotmq_internal.segment AS s ORDER BY zone_id, from_time;
SELECT r.* FROM iotmq_internal.redelivery AS r ORDER BY cursor_id, msg_offset;
SELECT c.* FROM iotmq_internal.cursor_state AS c ORDER BY cursor_id;
SELECT t.relid, g.tgname, g.tgenabled, obj_description(t.relid)
FROM pg_partition_tree('iotmq_topic.m') AS t LEFT JOIN pg_trigger AS g ON g.tgrelid = t.relid ORDER BY t.relid::text COLLATE "C", g.tgname;
SELECT t.relid, pg_get_expr(d.adbin, d.adrelid)
FROM pg_partition_tree('iotmq_topic.m') AS t JOIN pg_attrdef AS d ON d.adrelid = t.relid ORDER BY t.relid::text COLLATE "C", d.adnum;
SELECT t.relid, pg_get_constraintdef(k.oid)
FROM pg_partition_tree('iotmq_topic.m') AS t JOIN pg_constraint AS k ON k.conrelid = t.relid AND k.contype = 'c'
ORDER BY t.relid::text COLLATE "C", k.conname;
SELECT t.relid, pg_get_indexdef(i.indexrelid)
FROM pg_partition_tree('iotmq_topic.m') AS t JOIN pg_index AS i ON i.indrelid = t.relid
ORDER BY t.relid::text COLLATE "C", i.indexrelid::regclass::text COLLATE "C";
SQL
my $before = $old->safe_psql('iot', $state);
my $inventory = slurp_file('test/upgrade/inventory.sql');

# 15.20 and 17.12 note a version at each column, which a server from before them, like 18.6,
# refuses with the first table of a pg_upgrade, whosever it is.  For such a one they are taken off.
if (run_log([ 'grep', '-q', 'pg_attver', $old->config_data('--bindir') . '/postgres' ])
	&& !run_log([ 'grep', '-q', 'pg_attver', "$bin/postgres" ]))
{
	note('column versions are taken off');
	$old->safe_psql($_, <<'SQL') foreach qw(iot postgres template1);
SET allow_system_table_mods = on;
UPDATE pg_attribute SET attoptions = nullif(ARRAY(SELECT o FROM unnest(attoptions) AS o WHERE o NOT LIKE 'pg_attver=%'), '{}')
WHERE attoptions IS NOT NULL;
SQL
}
$old->stop;

# What a group gets until there is no more, as offset/attempt, of the second epoch as e + n.
my $drain = <<SQL;
CREATE FUNCTION drain(consumer_group text, zone text) RETURNS SETOF text LANGUAGE plpgsql AS \$\$
DECLARE
	batch iotmq.delivery[];
BEGIN
	LOOP
		batch := (SELECT array_agg(d) FROM iotmq.consume('m', drain.consumer_group, 4, zone => drain.zone) AS d);
		EXIT WHEN batch IS NULL;
		RETURN QUERY SELECT CASE WHEN b.msg_offset < $first THEN b.msg_offset::text ELSE 'e' || b.msg_offset - $first END || '/' || b.attempt
			FROM unnest(batch) AS b;
		PERFORM iotmq.ack(batch[1].lease_id);
	END LOOP;
END \$\$;
SQL

sub times_one { return join(' ', map { "$_/1" } @_) }

my $options;
foreach my $mode ('copy', 'link', 'swap')
{
	my $new = PostgreSQL::Test::Cluster->new($mode);
	($options) = run_command([ $new->installed_command('pg_upgrade'), '--help' ]) unless defined $options;
	next if $mode eq 'swap' && $options !~ /--swap/;
	init($new);

	# Once the new server runs, links and swaps have spoilt the old data.
	my $data = PostgreSQL::Test::Utils::tempdir;
	system_or_bail('cp', '-a', $old->data_dir, "$data/old");
	# It takes the sockets in a folder whose name must be short.
	my $work = PostgreSQL::Test::Utils::tempdir_short;
	my $ok = IPC::Run::run(
		[ 'sh', '-c', 'cd "$0" && exec "$@"', $work, $new->installed_command('pg_upgrade'), '--no-sync',
			$mode eq 'copy' ? () : "--$mode",
			'--old-bindir' => $old->config_data('--bindir'), '--new-bindir' => $new->config_data('--bindir'),
			'--old-datadir' => "$data/old", '--new-datadir' => $new->data_dir,
			'--old-port' => $old->port, '--new-port' => $new->port, '--socketdir' => $work ],
		'>', \$out, '2>&1');
	ok($ok, "$mode: pg_upgrade") or do { diag($out); next };
	$new->start;
	my $sql = sub { return $new->safe_psql('iot', shift) };
	my $drained = sub { return join(' ', split /\n/, $sql->("SELECT drain('$_[0]', '$_[1]')")) };
	my $code = sub {
		my ($rc, $stdout, $stderr) = $new->psql('iot', "\\set VERBOSITY sqlstate\n" . shift);
		return $stderr =~ /ERROR:  (\w+)/ ? $1 : 'none';
	};

	is($sql->($state), $before, "$mode: everything is there");
	is($sql->('SELECT j.command FROM cron.job AS j'), 'CALL iotmq.run_maintenance()', "$mode: the schedule") if $cron;

	# All but rights is as a fresh install has it; a column without a name has one after a dump.
	$new->safe_psql('postgres', 'CREATE DATABASE fresh');
	$new->safe_psql('fresh', 'CREATE EXTENSION iotmq');
	my %fresh = map { s/(?<=::text) AS text\b//r => 1 } split /\n/, $new->safe_psql('fresh', $inventory);
	my %upgraded = map { s/(?<=::text) AS text\b//r => 1 }
		grep { !/ right: (?:device|service|analyst|auditor)=/ } split /\n/, $sql->($inventory);
	cmp_ok(scalar keys %fresh, '>', 1000, "$mode: there is something to compare");
	is(join("\n", grep { !$upgraded{$_} } sort keys %fresh), '', "$mode: nothing of a fresh install is missing");
	is(join("\n", grep { !$fresh{$_} } sort keys %upgraded), '', "$mode: nothing is there that a fresh one has not");

	# Offsets and keys
	is($sql->(q{SELECT iotmq.publish('m', 'd2', '{"n": 19}', 'a', 'alarm')}), $first + 2, "$mode: offsets go on");
	is($sql->(q{SELECT iotmq.publish('m', 'e', '{"n": "b"}', 'b', message_key => 'once')}), '1', "$mode: a key is known");
	is($sql->(q{SELECT iotmq.publish('m', 'e', '{"n": "c"}', 'b', message_key => 'new')}), $first, "$mode: a zone without a message of the epoch");
	is($sql->(q{SELECT DISTINCT received_by, checked FROM iotmq_topic.m}), 'gateway|t', "$mode: the owner's columns and trigger");
	is($code->(q{SELECT iotmq.publish('m', 'unknown', '1', 'a')}), '23514', "$mode: the owner's constraint");
	is($sql->('SELECT count(*) FROM iotmq.held_back'), '0', "$mode: nobody holds a zone back");

	# What was in flight still counts, and the rest comes once.
	is($sql->(q{SELECT iotmq.ack(lease_id, '{3}') FROM lease WHERE name = 'plain'}), '1', "$mode: an old lease");
	is($sql->(q{SELECT iotmq.extend(lease_id, '1 h') > now() FROM lease WHERE name = 'orderly'}), 't', "$mode: can be extended");
	is($sql->(q{SELECT iotmq.ack(lease_id, '{2}') FROM lease WHERE name = 'orderly'}), '1', "$mode: in an orderly group");
	$sql->($drain);
	is($drained->('alarms', 'a'), times_one('e1', 'e2'), "$mode: a group with a sample goes on");
	is($drained->('idle', 'a'), times_one(1 .. 16, 'e0', 'e1', 'e2'), "$mode: one from its beginning");
	is(join(' ', sort split / /, $drained->('plain', 'a')), join(' ', sort split / /, times_one(8 .. 16, 'e0', 'e1', 'e2')),
		"$mode: one that was under way");
	is($drained->('orderly', 'a'), times_one(5, 8, 11, 14, 'e1', 'e2'), "$mode: devices whose turn it is");
	is($sql->(q{SELECT iotmq.ack(lease_id) FROM lease WHERE name = 'plain'}), '1', "$mode: the old lease to its end");
	is($sql->(q{SELECT iotmq.ack(lease_id) FROM lease WHERE name = 'orderly'}), '1', "$mode: the orderly one as well");
	is($drained->('orderly', 'a'), times_one(6, 9, 12, 15, 'e0'), "$mode: and what waited behind it");
	is($code->(q{SELECT iotmq.ack(lease_id) FROM lease WHERE name = 'plain'}), '55000', "$mode: then it has ended");
	is($sql->(q{SELECT iotmq.retry_now('m', g, ARRAY[o], 'a') FROM (VALUES ('orderly', 1), ('plain', 5)) AS r (g, o)}), "1\n1", "$mode: retries");
	is($drained->('orderly', 'a'), '1/2 ' . times_one(4, 7, 10, 13, 16), "$mode: a blocked device");
	is($drained->('plain', 'a'), '5/2', "$mode: a retry");
	is($sql->(q{SELECT iotmq.redrive('m', 'plain')}), '2', "$mode: dead letters");
	is($drained->('plain', 'a'), times_one(6, 7), "$mode: come again");
	is($sql->(q{SELECT sum(lag_messages) FROM iotmq.consumer_lag WHERE zone = 'a'}), '0', "$mode: nothing is left");
	is($sql->(q{SELECT paused, durable_acks FROM iotmq.group_settings WHERE topic = 's'}), 't|t', "$mode: a paused group");

	# Rights
	is($sql->(q{SET ROLE device; SELECT iotmq.publish('m', 'e', '1', 'b')}), $first + 1, "$mode: who may publish");
	is($code->(q{SET ROLE device; SELECT iotmq.publish('m', 'e', '1', 'a')}), '42501', "$mode: and where not");
	is($sql->(q{SET ROLE service; SELECT count(*) FROM iotmq.consume('m', 'idle')}), '3', "$mode: who may consume");
	is($code->(q{SET ROLE service; SELECT * FROM iotmq.consume('m', 'plain')}), '42501', "$mode: and what not");
	is($sql->(q{SET ROLE analyst; SELECT count(*) FROM iotmq.fetch('m', 'a', 1, 100)}), '10', "$mode: who may read what a policy shows");
	is($sql->(q{SET ROLE auditor; SELECT count(*) > 0 FROM iotmq.group_lag}), 't', "$mode: who may look");
	is($code->(q{SET ROLE stranger; SELECT iotmq.publish('m', 'e', '1', 'b')}), '42501', "$mode: and who nothing");

	# Numbers are not given out again.
	is($sql->('SELECT min(lease_id >> 57), max(lease_id >> 57) FROM iotmq.in_flight'), '5|5', "$mode: the node is in lease ids");
	is($sql->(q{SELECT iotmq.create_topic('dropped'); SELECT iotmq.publish('dropped', 'd', '1') > 7}), "\nt", "$mode: a topic made anew goes on above its old offsets");
	$sql->(<<'SQL');
SELECT iotmq.add_zone('m', 'c');
SELECT iotmq.create_group('m', 'new', start_from => '-infinity');
SELECT iotmq.publish('m', 'd', '1', 'c');
DO $$ BEGIN EXECUTE format('COPY %s (device_id, payload) FROM PROGRAM ''printf "d\\t1\\n"''', iotmq.zone_table('m', 'a')); END $$;
SQL
	is($drained->('new', 'a'), times_one(1 .. 16, 'e0', 'e1', 'e2', 'e4'), "$mode: a new group, after a COPY");
	is($drained->('new', 'c'), 'e0/1', "$mode: a new zone");

	# Retention; and maintenance notes again what goes with a topic.
	$sql->('CALL iotmq.run_maintenance()');
	is($sql->(q{SELECT r.skipped FROM iotmq.maintenance_run AS r ORDER BY run_id DESC LIMIT 1}), '{}', "$mode: maintenance");
	$sql->(q{CALL iotmq.run_maintenance(now() + interval '22 hours')});
	is($sql->(q{SELECT min(msg_offset) FROM iotmq_topic.m WHERE zone = 'a'}), '5', "$mode: retention");

	# The next recovery begins an epoch, as everywhere.
	$new->stop('immediate');
	$new->start;
	is($sql->(q{SELECT iotmq.publish('m', 'd', '1', 'a')}), 2 * $first, "$mode: a third epoch");
	$sql->('DROP EXTENSION iotmq CASCADE');
	is($sql->(q{SELECT string_agg(nspname, ' ') FROM pg_namespace WHERE nspname LIKE 'iotmq%'}), '', "$mode: all goes with the extension");
	$new->stop;
}

done_testing();
