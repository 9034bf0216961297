# No offset is given out twice, whatever a recovery lost of the log.
# Promise: no-loss
#
# A reader that keeps its own position has read messages that a crash or a promotion then
# lost. The zone goes on in a fresh range of offsets; the gap counts as nothing; fetch and
# the view zone_epoch tell the reader where to go on.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $first = 4294967296;    # of epoch 1

sub publish
{
	my ($node, $n) = @_;
	return $node->safe_psql('postgres',
		"SELECT iotmq.publish('t', 'd', to_jsonb(i)) FROM generate_series(1, $n) AS i");
}

sub lag
{
	my ($node) = @_;
	return $node->safe_psql('postgres',
		q{SELECT lag_messages, ready_messages, iotmq.count_lag('t', 'g') FROM iotmq.consumer_lag});
}

# A crash that loses what was committed asynchronously: the log's tail is made to be lost by
# a base backup that lags behind, which is a restore to an earlier point in time.
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\n");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION iotmq;
	SELECT iotmq.create_topic('t');
	SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
});
is(publish($node, 3), "1\n2\n3", 'a zone begins at 1');

$node->backup('backup');
is(publish($node, 3), "4\n5\n6", 'what the backup does not have');

# A clean restart is no recovery.
$node->restart;
is(publish($node, 1), '7', 'a clean restart goes on where it was');
is($node->safe_psql('postgres', 'SELECT count(*) FROM iotmq.zone_epoch'), '0', 'and begins no epoch');

# Promotion of what has only the first three.
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 0);
$standby->set_standby_mode;
$standby->start;
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');

my ($status, $out, $err) = $standby->psql('postgres', q{SELECT count(*) FROM iotmq.fetch('t', 'default', 4)});
is($out, '0', 'a reader at the end, before anything is published');
is(publish($standby, 2), "$first\n" . ($first + 1), 'a promoted server begins a new epoch');
is(lag($standby), '5|5|5', 'the gap is no lag');
is($standby->safe_psql('postgres',
		'SELECT epoch, first_offset, last_before, began_at IS NOT NULL FROM iotmq.zone_epoch'),
	"1|$first|3|t", 'zone_epoch says what never came to be');
is($standby->safe_psql('postgres', q{SELECT messages_estimate FROM iotmq.topic_stats}), '5',
	'topic_stats leaves the gap out');
is($standby->safe_psql('postgres',
		q{SELECT value FROM iotmq.metrics WHERE name = 'iotmq_messages_in_total'}),
	'5', 'so do the metrics');

# The reader had read 4 to 7 on the old server.
($status, $out, $err) = $standby->psql('postgres', q{
	\set VERBOSITY verbose
	SELECT count(*) FROM iotmq.fetch('t', 'default', 8);
});
like($err, qr/22023/, 'fetch refuses to go on in the gap');
like($err, qr/Go on at offset $first\./, 'and says where to go on');
foreach my $offset (4, 8, $first - 1)
{
	($status, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY sqlstate\nSELECT * FROM iotmq.message_status('t', 'default', $offset)");
	like($err, qr/22023/, "message_status says that $offset never came to be");
}
foreach my $offset (3, $first)
{
	is($standby->safe_psql('postgres', "SELECT state FROM iotmq.message_status('t', 'default', $offset)"),
		'ready', "and what became of $offset");
}
is($standby->safe_psql('postgres', q{SELECT count(*) FROM iotmq.fetch('t', 'default', 4)}), '2',
	'who has read nothing that was lost goes on');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM iotmq.fetch('t', 'default', 1)}), '5',
	'and reads over the gap');
($status, $out, $err) = $standby->psql('postgres', qq{
	\\set VERBOSITY verbose
	SELECT count(*) FROM iotmq.fetch('t', 'default', $first + 3);
});
like($err, qr/22023/, 'beyond the end is an error, too');

# A prepared transaction of the epoch before is not lost, and not passed.
$standby->safe_psql('postgres', q{
	BEGIN;
	SELECT iotmq.publish('t', 'd', '"prepared"');
	PREPARE TRANSACTION 'p';
});
$standby->stop('immediate');
$standby->start;
is(publish($standby, 1), 2 * $first, 'a crash begins another one');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM iotmq.consume('t', 'g')}), '5',
	'consume stops at the prepared transaction');
$standby->safe_psql('postgres', q{COMMIT PREPARED 'p'});
is($standby->safe_psql('postgres', q{SELECT payload FROM iotmq.consume('t', 'g') ORDER BY msg_offset}),
	"\"prepared\"\n1", 'and delivers it when it is committed');
is(lag($standby), '7|0|7', 'all is in flight');

# What shows a gap may be dropped; the gap stays known.
$standby->safe_psql('postgres', q{CALL iotmq.run_maintenance()});
$standby->safe_psql('postgres', q{CALL iotmq.run_maintenance(now() + interval '10 days')});
is($standby->safe_psql('postgres', 'SELECT epoch, last_before FROM iotmq.zone_epoch ORDER BY epoch'),
	"1|3\n2|" . ($first + 2), 'gaps are noted before retention drops what shows them');
($status, $out, $err) = $standby->psql('postgres', q{SELECT count(*) FROM iotmq.fetch('t', 'default', 8)});
like($err, qr/Go on at offset $first\./, 'a reader is told then, too');
is(publish($standby, 1), 2 * $first + 1, 'and offsets go on');

# Several crashes with nothing published between them are one gap.
$standby->stop('immediate');
$standby->start;
$standby->stop('immediate');
$standby->start;
is(publish($standby, 1), 3 * $first, 'an epoch in which nothing was published is used');

# COPY and INSERT begin an epoch, too.
$standby->stop('immediate');
$standby->start;
my $table = $standby->safe_psql('postgres', q{SELECT iotmq.zone_table('t', 'default')});
is($standby->safe_psql('postgres',
		"INSERT INTO $table (device_id, payload) VALUES ('d', '1') RETURNING msg_offset"),
	4 * $first, 'INSERT begins an epoch');

$standby->stop;
$node->stop;
done_testing();
