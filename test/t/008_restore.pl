# Dump and restore into a new cluster.
#
# Topics, messages, positions and leases come along, and so does a sample of the
# stable offset that waited to settle.  Transaction ids start over in the new
# cluster: a sample from the old one must neither settle too early there nor
# block for the time it takes to get to its ids.
#
# Promise: dump-restore

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = PostgreSQL::Test::Cluster->new('old');
$old->init;
$old->start;

$old->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t');
SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
SELECT iotmq.publish('t', 'd', to_jsonb('m' || i)) FROM generate_series(1, 3) i;

-- who publishes this has drawn an offset, and has no row
CREATE FUNCTION no_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER no_row BEFORE INSERT ON iotmq_topic.t FOR EACH ROW WHEN (NEW.payload = '"gap"') EXECUTE FUNCTION no_row();

-- the old cluster is far ahead
DO $$
BEGIN
	FOR i IN 1 .. 5000 LOOP
		PERFORM pg_current_xact_id();
		COMMIT;
	END LOOP;
END $$;
SQL
my $lease = $old->safe_psql('postgres',
	q(SELECT DISTINCT lease_id FROM iotmq.consume('t', 'g', 2)));

# Somebody has drawn an offset and is still open, so that a consumer which comes
# to that gap leaves a sample.
my $draw = q(BEGIN; SELECT iotmq.publish('t', 'd', '"gap"'));
my $publisher = $old->background_psql('postgres');
$publisher->query_safe($draw);
$old->safe_psql('postgres', q(SELECT iotmq.publish('t', 'd', '"m4"')));
$old->safe_psql('postgres', q(SELECT FROM iotmq.consume('t', 'g', 1)));
$old->safe_psql('postgres', q(SELECT FROM iotmq.consume('t', 'g', 1)));
is($old->safe_psql('postgres', q(SELECT sample_xid > '0' FROM iotmq_internal.cursor_state)),
	't', 'a sample is pending');

my $dump = $old->basedir . '/dump.sql';
$old->command_ok([ 'pg_dump', '-f', $dump, $old->connstr('postgres') ], 'dump');
$publisher->query_safe('ROLLBACK');
$publisher->quit;
$old->stop;

my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
$new->start;
$new->command_ok(
	[
		'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d',
		$new->connstr('postgres'), '-f', $dump
	],
	'restore');

my $read = q(SELECT payload FROM iotmq.consume('t', 'g'));
is($new->safe_psql('postgres', q(SELECT sample_xid > pg_current_xact_id() FROM iotmq_internal.cursor_state)),
	't', 'the sample is from the future');
is($new->safe_psql('postgres', 'SELECT inflight_messages FROM iotmq.consumer_lag'),
	3, 'leases are there');
is($new->safe_psql('postgres', "SELECT iotmq.ack($lease)"),
	2, 'and can be settled');

# Publishers that overlap, so that the zone is never silent: nobody of the old
# cluster is open any more, but that only a sample of the new one can tell.
my ($first, $second) = map { $new->background_psql('postgres') } (1, 2);
$first->query_safe($draw);
is($new->safe_psql('postgres', $read), '', 'an open publisher holds back');
$second->query_safe(q(BEGIN; SELECT iotmq.publish('t', 'd', '"second"')));
$first->query_safe('ROLLBACK');
is($new->safe_psql('postgres', $read), '"m4"', 'until it ends, although the next one is open');
is($new->safe_psql('postgres', $read), '', 'which holds back, too');
$second->query_safe('COMMIT');
is($new->safe_psql('postgres', $read), '"second"', 'until it ends');
is( $new->safe_psql('postgres',
		'SELECT count(*) - count(DISTINCT msg_offset) FROM iotmq_topic.t'),
	0, 'no offset is used twice');
$_->quit foreach ($first, $second);

$new->stop;
done_testing();
