# Indexes of the extension's tables that are built anew under open sessions, extra indexes on
# its tables, and extra columns: nobody fails, and nothing is missed.
# Promise: no-loss

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION iotmq;
	SELECT iotmq.create_topic('t');
	SELECT iotmq.create_group('t', 'g', start_from => '-infinity', backoff => '{0 s}', max_retries => 1);
	SELECT iotmq.create_group('t', 'o', 'orderly', start_from => '-infinity');
});

# What a session does at each step; it knows the tables before they change.
my $round = q{
	SELECT iotmq.publish('t', 'd', to_jsonb(i)) FROM generate_series(1, 6) AS i;
	SELECT iotmq.reject(max(lease_id), ARRAY[min(msg_offset)]) FROM iotmq.consume('t', 'g', 3);
	SELECT iotmq.nack(lease_id) FROM iotmq.in_flight WHERE consumer_group = 'g' LIMIT 1;
	SELECT iotmq.ack(max(lease_id)) FROM iotmq.consume('t', 'g', 10);
	SELECT iotmq.nack(max(lease_id)) FROM iotmq.consume('t', 'o', 2);
	SELECT iotmq.redrive('t', 'g');
	SELECT iotmq.seek('t', 'o', '-infinity');
	SELECT count(*) FROM iotmq.metrics WHERE value IS NULL;
};
my @tables = split /\n/, $node->safe_psql('postgres', q{
	SELECT c.relname FROM pg_class AS c
	WHERE c.relnamespace = 'iotmq_internal'::regnamespace AND c.relkind = 'r' ORDER BY 1});
cmp_ok(scalar @tables, '>', 8, 'tables are found');

my $session = $node->background_psql('postgres', on_error_stop => 0);
my $say = sub {
	my ($name) = @_;
	my ($out) = $session->query("$round\\echo done\n");
	my $err = $session->{stderr};
	$session->{stderr} = '';
	unlike($err, qr/ERROR|FATAL|server closed/, $name);
	like($out, qr/done/, "$name: the session lives");
};

$say->('at first');
foreach my $table (@tables)
{
	$node->safe_psql('postgres', "REINDEX TABLE CONCURRENTLY iotmq_internal.$table");
	$say->("REINDEX TABLE CONCURRENTLY $table");
}
$node->safe_psql('postgres', 'VACUUM FULL');
$say->('VACUUM FULL');
$node->safe_psql('postgres', q{
	CREATE INDEX ON iotmq_internal.dead_message (length(reason));
	CREATE INDEX ON iotmq_internal.dead_message (device_id) WHERE redriven;
	CREATE INDEX ON iotmq_internal.lease ((messages + 1)) WHERE redriven;
	CREATE INDEX ON iotmq_internal.redelivery (attempt) WHERE attempt > 1;
	CREATE INDEX ON iotmq_internal.cursor_state ((next_offset / 10));
});
$say->('more indexes');
foreach my $table (@tables)
{
	$node->safe_psql('postgres', "ALTER TABLE iotmq_internal.$table ADD COLUMN note text DEFAULT 'by hand'");
	$say->("a column more in $table");
}
$session->quit;

# All that is in the tables is in the indexes, and the other way round.
$node->safe_psql('postgres', q{
	CREATE EXTENSION amcheck;
	SELECT bt_index_check(i.indexrelid, true)
	FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid JOIN pg_class AS x ON x.oid = i.indexrelid
	WHERE c.relnamespace = 'iotmq_internal'::regnamespace AND x.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
});
pass('indexes agree with their tables');

# And all messages are still there for a group that begins.
is($node->safe_psql('postgres', q{
		SELECT iotmq.create_group('t', 'new', start_from => '-infinity');
		SELECT (SELECT count(*) FROM iotmq.consume('t', 'new', 10000)) = (SELECT count(*) FROM iotmq_topic.t)}),
	"\nt", 'no message was missed');
$node->stop;
done_testing();
