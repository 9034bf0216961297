# A publication FOR ALL TABLES, as change data capture makes them, and FOR TABLES IN SCHEMA.
#
# PostgreSQL refuses UPDATE and DELETE of a published table that has no replica identity.
# With one, all that iotmq does goes on, and a slot decodes it.  What a row of a cursor's
# state logs is bounded: it is on the way of every batch.
#
# Promise: retention-by-itself

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
wal_level = logical
max_wal_senders = 4
max_replication_slots = 4
autovacuum = off
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE scenario_user');

# What the scenario prints, with its errors, in a new extension.
sub play
{
	my ($setup) = @_;

	$node->safe_psql('postgres', 'DROP EXTENSION IF EXISTS iotmq CASCADE');
	$node->safe_psql('postgres', 'CREATE EXTENSION iotmq');
	$node->safe_psql('postgres', $setup);
	$node->safe_psql('postgres', <<'SQL');
SELECT pg_create_logical_replication_slot('text', 'test_decoding'), pg_create_logical_replication_slot('binary', 'pgoutput')
SQL
	my ($stdout, $stderr) = run_command(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', 'test/scenario/all.sql' ]);
	return "$stdout\n$stderr";
}

my $expected = play('SELECT');
$node->safe_psql('postgres', 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
like($expected, qr/0\|0\|0\|0\|0\|0\|0\|0\|0\n$/, 'the scenario runs to its end without a publication');

# Each table of ours that is written to has an identity, whatever is added to them.
my $without_identity = <<'SQL';
SELECT c.oid::regclass
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname ~ '^iotmq' AND c.relkind = 'r' AND c.relpersistence = 'p'
	AND NOT CASE c.relreplident
		WHEN 'f' THEN true
		WHEN 'd' THEN EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)
		WHEN 'i' THEN EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisreplident)
		ELSE false
	END
ORDER BY 1
SQL
$node->safe_psql('postgres', q(SELECT iotmq.create_topic('identity')));
is($node->safe_psql('postgres', $without_identity), '', 'each table has a replica identity');
$node->safe_psql('postgres', q(SELECT iotmq.drop_topic('identity')));

my @publications = (
	'FOR ALL TABLES',
	q(FOR TABLES IN SCHEMA iotmq_internal, iotmq_segment, iotmq_topic),
	q(FOR ALL TABLES WITH (publish_via_partition_root = true)));
foreach my $publication (@publications)
{
	is(play("CREATE PUBLICATION changes $publication"), $expected, "$publication: the same");
	cmp_ok($node->safe_psql('postgres', <<'SQL'), '>', 100, "$publication: all is decoded");
SELECT count(*) FROM pg_logical_slot_get_changes('text', NULL, NULL) WHERE data ~ '^table iotmq'
SQL
	cmp_ok($node->safe_psql('postgres', <<'SQL'), '>', 100, "$publication: and sent");
SELECT count(*)
FROM pg_logical_slot_get_binary_changes('binary', NULL, NULL, 'proto_version', '1', 'publication_names', 'changes')
WHERE get_byte(data, 0) IN (ascii('I'), ascii('U'), ascii('D'), ascii('T'))
SQL
	$node->safe_psql('postgres', <<'SQL');
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots;
DROP PUBLICATION changes;
SQL
}

# What consume logs of its cursor: the old row as well, and that is small.
$node->safe_psql('postgres', <<'SQL');
SELECT iotmq.create_topic('small');
SELECT iotmq.create_group('small', 'g', start_from => '-infinity');
SELECT iotmq.publish_batch('small', array_fill('d'::text, '{100}'), array_fill('1'::jsonb, '{100}'));
SELECT pg_create_logical_replication_slot('text', 'test_decoding');
SELECT iotmq.ack(lease_id) FROM iotmq.consume('small', 'g', 1);
-- an ack is not waited for: this is, and decoding stops at what is on the disk
SELECT iotmq.publish('small', 'd', '1');
SQL
my @rows = split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT data FROM pg_logical_slot_get_changes('text', NULL, NULL) WHERE data ~ '^table iotmq.*cursor_state: UPDATE'
SQL
is(scalar(@rows), 1, 'a batch updates one row of cursor_state');
like($rows[0], qr/old-key: .*cursor_id.* new-tuple: /, 'and logs which it was');

$node->stop;
done_testing();
