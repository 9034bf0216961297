# Retention under load: nothing is lost in the books.
#
# Segments of a second, kept for two, are dropped by two maintenance loops under
# publishers and under groups that are too slow for it, some of whose leases end with
# their messages.  Each message that was committed has been acknowledged, or is counted
# as expired unread, once; and nobody meets an error but that of a lease that ended.
#
# Promise: loss-is-counted

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t', '{a,b}', segment_interval => '1 s', retention => '2 s');
SELECT iotmq.create_group('t', 'slow', backoff => '{100 ms}');
SELECT iotmq.create_group('t', 'orderly', 'orderly', backoff => '{100 ms}', invisible_for => '500 ms');
CREATE TABLE published (n bigint);
CREATE TABLE settled (consumer_group text, n bigint, sqlstate text);

CREATE PROCEDURE publish_for(duration interval) LANGUAGE plpgsql AS $$
DECLARE
	finish timestamptz := clock_timestamp() + duration;
BEGIN
	WHILE clock_timestamp() < finish LOOP
		PERFORM iotmq.publish_batch('t', (SELECT array_agg('d' || (random() * 9)::int) FROM generate_series(1, 20)),
			array_fill('1'::jsonb, '{20}'), CASE WHEN random() < 0.5 THEN 'a' ELSE 'b' END);
		INSERT INTO published VALUES (20);
		PERFORM pg_sleep(random() * 0.01);
		IF random() < 0.2 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
	END LOOP;
END $$;

-- Settles some leases, leaves others to expire, and sometimes is late.
CREATE PROCEDURE consume_for(consumer_group text, duration interval, careless float) LANGUAGE plpgsql AS $$
DECLARE
	finish timestamptz := clock_timestamp() + duration;
	lease bigint;
	n bigint;
BEGIN
	WHILE clock_timestamp() < finish LOOP
		lease := (SELECT max(lease_id) FROM iotmq.consume('t', consumer_group, 15));
		COMMIT;
		PERFORM pg_sleep(random() * 0.04 + CASE WHEN random() < careless / 3 THEN 1.5 ELSE 0 END);
		IF lease IS NULL THEN
			CONTINUE;
		END IF;
		BEGIN
			IF random() < careless THEN
				n := 0;
				PERFORM iotmq.nack(lease);
			ELSE
				n := iotmq.ack(lease);
			END IF;
			INSERT INTO settled VALUES (consumer_group, n);
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			INSERT INTO settled VALUES (consumer_group, 0, SQLSTATE);
		END;
		COMMIT;
	END LOOP;
END $$;
SQL

sub in_background
{
	my ($script) = @_;
	my %client = (err => '');
	$client{run} = IPC::Run::start(
		[ $node->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', 'SET client_min_messages = warning', @$script ],
		'>', \$client{out}, '2>', \$client{err}, IPC::Run::timeout(180));
	return \%client;
}

my @maintenance = map { ('-c', 'CALL iotmq.run_maintenance()', '-c', 'SELECT pg_sleep(0.3)') } 1 .. 20;
my @clients = map { in_background($_) } (
	([ '-c', q{CALL publish_for('7 s')} ]) x 2,
	([ '-c', q{CALL consume_for('slow', '7 s', 0.1)} ]) x 2,
	([ '-c', q{CALL consume_for('orderly', '7 s', 0.1)} ]) x 2,
	([@maintenance]) x 2);
foreach my $client (@clients)
{
	$client->{run}->finish;
	is($client->{err}, '', 'a client without an error');
}

cmp_ok($node->safe_psql('postgres', 'SELECT sum(segments_dropped) FROM iotmq.maintenance_run'), '>', 4, 'segments were dropped');
note $node->safe_psql('postgres', q{SELECT consumer_group, zone, next_offset, inflight_messages, retry_messages, expired_unread FROM iotmq.consumer_lag ORDER BY 1, 2;
	SELECT consumer_group, sum(n), count(sqlstate) FROM settled GROUP BY 1;
	SELECT sum(segments_dropped), count(*) FILTER (WHERE skipped <> '{}'), max(finished_at - started_at) FROM iotmq.maintenance_run});

# A day later all that is left has expired as well, what is in flight and what waits included.
$node->safe_psql('postgres', q{CALL iotmq.run_maintenance(now() + interval '1 day')}) foreach (1 .. 3);
is($node->safe_psql('postgres', 'SELECT count(*) FROM iotmq_topic.t'), '0', 'the log is empty');
foreach my $group ('slow', 'orderly')
{
	is( $node->safe_psql('postgres', <<SQL),
SELECT (SELECT sum(n) FROM settled WHERE consumer_group = '$group') + l.expired_unread, l.lag_messages, l.dead_letters
FROM iotmq.group_lag AS l WHERE l.consumer_group = '$group'
SQL
		$node->safe_psql('postgres', 'SELECT sum(n) FROM published') . '|0|0', "$group: each message once in the books");
	cmp_ok($node->safe_psql('postgres', "SELECT expired_unread FROM iotmq.group_lag WHERE consumer_group = '$group'"), '>', 0, "$group: was too slow");
}

$node->stop;
done_testing();
