# A hot standby, and its promotion.
#
# Whatever writes is refused on a standby, the views are not.  After the
# promotion it goes on where the primary was: nothing is lost, no offset and no
# lease id is given out twice, and what was prepared there is still undecided.
#
# Promise: durable-commit, offsets-are-the-servers

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', "max_prepared_transactions = 10\n");
$primary->start;
$primary->backup('backup');

my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t');
SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
SELECT iotmq.publish('t', 'd', to_jsonb('m' || i)) FROM generate_series(1, 10) i;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SQL
my $lease = $primary->safe_psql('postgres',
	q(SELECT DISTINCT lease_id FROM iotmq.consume('t', 'g', 2)));
$primary->safe_psql('postgres', <<'SQL');
BEGIN;
SELECT iotmq.publish('t', 'd', '"prepared"');
PREPARE TRANSACTION 'prepared';
SELECT iotmq.publish('t', 'd', '"last"');
SQL
$primary->wait_for_catchup($standby);

# On the standby

my @refused = (
	q(SELECT iotmq.publish('t', 'd', '1')),
	q(SELECT iotmq.publish_batch('t', ARRAY['d'], ARRAY['1'::jsonb])),
	q(SELECT * FROM iotmq.consume('t', 'g')),
	q(SELECT * FROM iotmq.consume('t', 'g', wait => '60 s')),
	qq(SELECT iotmq.ack($lease)),
	qq(SELECT iotmq.extend($lease, '1 min')),
	q(SELECT iotmq.commit_offset('t', 'g', 'default', 1)),
	q(SELECT * FROM iotmq.fetch('t', 'default', 0)),
	q(SELECT iotmq.create_topic('t2')),
	q(SELECT iotmq.create_group('t', 'g2')),
	q(SELECT iotmq.drop_group('t', 'g')),
	q(SELECT iotmq.drop_topic('t', force => true)));
foreach my $command (@refused)
{
	(my $quoted = $command) =~ s/'/''/g;
	like($standby->safe_psql('postgres', "SELECT try('$quoted')"),
		qr/^25006 /, "refused: $command");
}
foreach my $view ('consumer_lag', 'group_lag', 'topic_stats', 'in_flight', 'waiting_message', 'dead_letter',
	'held_back', 'cursor_holder', 'alerts')
{
	my ($code) = $standby->psql('postgres', "TABLE iotmq.$view");
	is($code, 0, "$view can be read");
}
is( $standby->safe_psql('postgres',
		q(SELECT inflight_messages FROM iotmq.consumer_lag)),
	2, 'consumer_lag shows the lease');
is( $standby->safe_psql('postgres', q(SELECT messages FROM iotmq.in_flight)),
	2, 'so does in_flight');
is( $standby->safe_psql('postgres',
		q(SELECT state, count(*) FROM iotmq.message_status('t', 'default', 1) GROUP BY state)),
	'in flight|1', 'and message_status');
is($standby->safe_psql('postgres', q(SELECT count(*) FROM iotmq_topic.t)),
	11, 'SQL over the history works');

# Promoted

$primary->stop('immediate');
$standby->promote;

like($standby->safe_psql('postgres', q(SELECT payload FROM iotmq.consume('t', 'g', 2))),
	qr/^("m3"\n"m4"|)$/, 'what was prepared still holds back');
unlike($standby->safe_psql('postgres', q(SELECT payload FROM iotmq.consume('t', 'g'))),
	qr/last/, 'and nothing passes it');
$standby->safe_psql('postgres', q(SELECT iotmq.publish('t', 'd', '"promoted"')));
$standby->safe_psql('postgres', q(COMMIT PREPARED 'prepared'));
my $rest = $standby->safe_psql('postgres', q(SELECT payload FROM iotmq.consume('t', 'g')));
like($rest, qr/"prepared"\n"last"\n"promoted"$/, 'all come in order once it is decided');
is( $standby->safe_psql('postgres',
		q(SELECT inflight_messages, ready_messages FROM iotmq.consumer_lag)),
	'13|0',
	'and each message is in just one lease');
is( $standby->safe_psql('postgres',
		q(SELECT count(*) - count(DISTINCT msg_offset) FROM iotmq_topic.t)),
	0, 'no offset is used twice');
is( $standby->safe_psql('postgres',
		q(SELECT count(*) - count(DISTINCT lease_id) FROM iotmq.in_flight)),
	0, 'nor a lease id');
is($standby->safe_psql('postgres', "SELECT iotmq.ack($lease)"),
	2, 'a lease of the old primary can be settled on the new one');

$standby->stop;
done_testing();
