# Keys of messages over a crash, with a prepared publisher, and over dump and restore.
#
# Promise: once-by-key, dump-restore

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'max_prepared_transactions = 5');
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t', dedup_window => '1 day');
SELECT iotmq.create_topic('off', dedup_window => '1 day');
SELECT iotmq.create_topic('never');
SQL

# The offset of a message with that key, published now.
sub publish
{
	my ($topic, $key, $database) = @_;
	return $node->safe_psql($database // 'postgres', "SELECT iotmq.publish('$topic', 'd', '1', message_key => '$key')");
}

is(publish('t', 'k'), '1', 'a key');
is(publish('off', 'k'), '1', 'another topic');
$node->safe_psql('postgres', q{SELECT iotmq.alter_topic('off', reset => '{dedup_window}')});
$node->safe_psql('postgres', q{BEGIN; SELECT iotmq.publish('t', 'd', '1', message_key => 'prepared'); PREPARE TRANSACTION 'p'});

# A crash: what was committed is found, what is prepared is waited for.
$node->stop('immediate');
$node->start;
is(publish('t', 'k'), '1', 'a key from before a crash');
my ($status, undef, $error) = $node->psql('postgres',
	q{SET lock_timeout = '100ms'; SELECT iotmq.publish('t', 'd', '2', message_key => 'prepared')});
isnt($status, 0, 'a prepared publisher is waited for');
like($error, qr/lock timeout/, 'as for a lock');
($status, undef, $error) = $node->psql('postgres',
	q{SET statement_timeout = '100ms'; SELECT iotmq.publish_batch('t', '{d,d}', '{1,2}', message_keys => '{new,prepared}')});
like($error, qr/statement timeout/, 'or until it is cancelled');
$node->safe_psql('postgres', q{COMMIT PREPARED 'p'});
is($node->safe_psql('postgres', q{SELECT msg_offset = iotmq.publish('t', 'd', '2', message_key => 'prepared') FROM iotmq.message_by_key('t', 'd', 'prepared')}),
	't', 'and then found');
is($node->safe_psql('postgres', q{SELECT count(*) FROM iotmq.message_by_key('t', 'd', 'new')}), '0', 'the batch that was cancelled is not there');

# Dump and restore, also of a topic that has keys but no window any more.
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
$node->command_ok([ 'pg_dump', '--file', $dump, '--dbname', $node->connstr('postgres') ], 'a dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'is restored');
is(publish('t', 'k', 'restored'), '1', 'a key from the dump');
is($node->safe_psql('restored', q{SELECT msg_offset FROM iotmq.message_by_key('off', 'd', 'k')}), '1', 'one of a topic without a window');
is($node->safe_psql('restored', q{SELECT iotmq.alter_topic('off', dedup_window => '1 day'); SELECT iotmq.publish('off', 'd', '2', message_key => 'k')}),
	"\n1", 'which counts again with one');
my $indexes = q{SELECT count(*) FROM pg_index AS i JOIN pg_class AS k ON k.oid = i.indexrelid WHERE k.relname LIKE '%\_message\_key'};
is($node->safe_psql('restored', $indexes), $node->safe_psql('postgres', $indexes), 'with all indexes');
is($node->safe_psql('restored', q{SELECT i.indisvalid FROM pg_index AS i JOIN pg_class AS k ON k.oid = i.indexrelid
	WHERE i.indrelid = (SELECT tableoid FROM iotmq_topic.t LIMIT 1) AND k.relname LIKE '%\_message\_key'}), 't', 'that of the present among them');

# Nobody writes to a topic's own table but who says all of it, as a restore does.
($status, undef, $error) = $node->psql('postgres', q{COPY iotmq_topic.t (device_id, payload) FROM PROGRAM 'printf "d\t1\n"'});
like($error, qr/SELECT iotmq.zone_table\('t', zone\)/, 'COPY into the table of a topic');
my $root = PostgreSQL::Test::Utils::tempdir() . '/root.sql';
$node->command_ok([ 'pg_dump', '--load-via-partition-root', '--file', $root, '--dbname', $node->connstr('postgres') ], 'a dump by way of the topic');
$node->safe_psql('postgres', 'CREATE DATABASE by_root');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $root, '-d', $node->connstr('by_root') ], 'is restored');
is(publish('t', 'k', 'by_root'), '1', 'with its keys');

$node->stop;
done_testing();
