# Publishers that made their segment on demand, held between leaving the ProcArray
# and telling others of it, where a reader of another kind looks for new messages:
# one that waits, maintenance, and one after a restart.  The spec commit_window
# shows what single reads see; here only the end counts: nobody passes the message.
# Promise: no-loss

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'max_prepared_transactions = 5');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION iotmq; CREATE EXTENSION iotmq_stop');

my ($publisher, $control, $reader);

sub connect_all
{
	$_ = $node->background_psql('postgres') foreach $publisher, $control, $reader;
	return;
}

sub disconnect_all
{
	$_->quit foreach $publisher, $control, $reader;
	return;
}

# A topic without segments, as when nobody ran maintenance for long; the reader has
# looked at it.
sub begin_case
{
	$node->safe_psql('postgres', <<'SQL');
DO $$
DECLARE
	leaf regclass;
BEGIN
	PERFORM iotmq.create_topic('t');
	PERFORM iotmq.create_group('t', 'g', start_from => '-infinity');
	FOR leaf IN SELECT relid FROM pg_partition_tree(iotmq.topic_table('t')) WHERE isleaf LOOP
		EXECUTE 'DROP TABLE ' || leaf;
	END LOOP;
	DELETE FROM iotmq_internal.segment;
END $$;
SQL
	is(consume($reader), '', 'there is nothing yet');
	return;
}

sub end_case
{
	$node->safe_psql('postgres', q(SELECT iotmq.drop_topic('t', force => true); DELETE FROM iotmq_internal.past_zone));
	return;
}

sub consume
{
	my ($session) = @_;
	return $session->query_safe(q(SELECT payload, attempt FROM iotmq.consume('t', 'g')));
}

# Sends commands whose end finish() waits for.
sub send_off
{
	my ($session, $commands) = @_;
	$session->query_until(qr/sent/, "\\echo sent\n$commands;\n");
	return;
}

sub finish
{
	my ($session) = @_;
	return $session->query_safe('SELECT');
}

# Lets the publisher end its transaction as far as the point.
sub into_window
{
	my ($point, $command) = @_;
	$control->query_safe("SELECT iotmq_stop.hold('$point')");
	$publisher->query_safe("SELECT iotmq_stop.arm('$point')");
	send_off($publisher, $command);
	$control->query_safe("SELECT iotmq_stop.await('$point')");
	return;
}

sub out_of_window
{
	my ($point) = @_;
	$control->query_safe("SELECT iotmq_stop.release('$point')");
	finish($publisher);
	return;
}

# The message was not passed, and comes.
sub is_delivered
{
	my ($what) = @_;
	is( $node->safe_psql('postgres', 'SELECT next_offset, lag_messages FROM iotmq.consumer_lag'),
		'1|1', "$what: the group stands before the message");
	is(consume($reader), '"one"|1', "$what: it is delivered");
	return;
}

my $publish = q(SELECT iotmq.publish('t', 'd', '"one"'));
my $wait = q(SELECT payload FROM iotmq.consume('t', 'g', wait => '60 s'));
my $prepare = "BEGIN; $publish; PREPARE TRANSACTION 'window'";

connect_all();

begin_case();
send_off($reader, $wait);
$node->poll_query_until('postgres',
	q(SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%wait => %' AND pid <> pg_backend_pid())
) or die 'the consumer does not wait';
into_window('commit', $publish);
usleep(300_000);
out_of_window('commit');
like(finish($reader), qr/^"one"$/m, 'a consumer that waits before the window gets the message');
end_case();

begin_case();
into_window('commit', $publish);
send_off($reader, $wait);
usleep(300_000);
out_of_window('commit');
like(finish($reader), qr/^"one"$/m, 'a consumer that waits from within the window gets the message');
end_case();

begin_case();
into_window('commit', $publish);
is($reader->query_safe(q(SELECT payload FROM iotmq.consume('t', 'g', wait => '300 ms'))),
	'', 'a wait that ends in the window');
out_of_window('commit');
is_delivered('after a wait');
end_case();

begin_case();
$publisher->query_safe($prepare);
into_window('commit_prepared', "COMMIT PREPARED 'window'");
$reader->query_safe("SET client_min_messages = 'error'");
$reader->query_safe('CALL iotmq.run_maintenance()');
out_of_window('commit_prepared');
is_delivered('after maintenance');
end_case();

begin_case();
$publisher->query_safe($prepare);
disconnect_all();
$node->restart;
connect_all();
is(consume($reader), '', 'nothing is there while prepared, after a restart');
into_window('commit_prepared', "COMMIT PREPARED 'window'");
is(consume($reader), '', 'nor in the window');
out_of_window('commit_prepared');
is_delivered('prepared before a restart');
end_case();

disconnect_all();
$node->stop;
done_testing();
