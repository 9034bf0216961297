# Hundreds of open leases that are settled bit by bit, while another consumer of
# the orderly group looks through them for devices in flight.
#
# Each lease has a number of devices, and all of them are acknowledged but the last,
# which stays in flight.  A message of such a device must not be delivered, whatever
# becomes of the lease's row at that moment.  A forgotten session with an old
# snapshot keeps the dead versions of the rows, and makes updates move them to
# other pages, where a careless scan meets neither the old version nor the new.
#
# Promise: order-per-device, bystanders-hold-nothing-back

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $leases  = 400;
my $devices = 25;				# of each lease
my $timeout = IPC::Run::timer(180);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

$node->safe_psql('postgres', <<"SQL");
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t');
SELECT iotmq.create_group('t', 'g', 'orderly', '-infinity', invisible_for => '1 hour');
SELECT iotmq.publish_batch('t', array_agg(format('d%s.%s', lease, i) ORDER BY lease, i),
	array_fill('1'::jsonb, ARRAY[$leases * $devices]))
FROM generate_series(1, $leases) AS lease, generate_series(1, $devices) AS i;
CREATE TABLE held (id int GENERATED ALWAYS AS IDENTITY, lease_id bigint, offsets bigint[], last_device text);
CREATE TABLE busy (ackers int);
INSERT INTO busy VALUES (2);
SQL
$node->safe_psql('postgres', <<"SQL");
DO \$\$
BEGIN
	LOOP
		INSERT INTO held (lease_id, offsets, last_device)
		SELECT lease_id, (array_agg(msg_offset))[:$devices - 1], (array_agg(device_id))[$devices]
		FROM iotmq.consume('t', 'g', $devices)
		GROUP BY lease_id;
		EXIT WHEN NOT FOUND;
	END LOOP;
END \$\$;
SQL
$node->safe_psql('postgres', <<'SQL');

CREATE PROCEDURE acker(part int) LANGUAGE plpgsql AS $$
DECLARE
	h record;
BEGIN
	FOR i IN 1 .. (SELECT min(cardinality(offsets)) FROM held) LOOP
		FOR h IN SELECT lease_id, offsets FROM held WHERE id % 2 = part ORDER BY random() LOOP
			PERFORM iotmq.ack(h.lease_id, ARRAY[h.offsets[i]]);
			COMMIT;
		END LOOP;
	END LOOP;
	UPDATE busy SET ackers = ackers - 1;
END $$;

CREATE TABLE delivered (device_id text);
CREATE PROCEDURE consumer() LANGUAGE plpgsql AS $$
DECLARE
	batch iotmq.delivery[];
BEGIN
	WHILE (SELECT ackers > 0 FROM busy) LOOP
		-- one that is in flight, and one that is free
		PERFORM iotmq.publish('t', last_device, '2') FROM held ORDER BY random() LIMIT 1;
		PERFORM iotmq.publish('t', 'free', '2');
		COMMIT;
		SELECT array_agg(d) INTO batch FROM iotmq.consume('t', 'g', 10) AS d;
		INSERT INTO delivered SELECT device_id FROM unnest(batch);
		PERFORM iotmq.ack(batch[1].lease_id);
		COMMIT;
	END LOOP;
END $$;
SQL

my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$old->query_safe('SELECT count(*) FROM held');

$timeout->start;
my (%output, %run);

sub start_call
{
	my ($call) = @_;
	$output{$call} = '';
	$run{$call} = IPC::Run::start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d',
			$node->connstr('postgres'), '-c', "CALL $call"
		],
		'<', \undef, '>', \$output{$call}, '2>&1', $timeout);
	return;
}

start_call('consumer()');
$node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM delivered')
  or die 'the consumer does not start';
start_call($_) foreach ('acker(0)', 'acker(1)');
foreach my $call (sort keys %run)
{
	$run{$call}->finish;
	is($output{$call}, '', "$call ended without a complaint");
}
$old->quit;

my $claims = $node->safe_psql('postgres', q(SELECT count(*) FROM delivered WHERE device_id = 'free'));
note "$claims claims";
cmp_ok($claims, '>', 2, 'there were claims meanwhile');
is($node->safe_psql('postgres', q(SELECT count(*) FROM delivered WHERE device_id <> 'free')),
	0, 'no device was delivered that was in flight');
is($node->safe_psql('postgres', 'SELECT count(*), sum(messages) FROM iotmq.in_flight'),
	"$leases|$leases", 'the leases have what is left of them');

# None of them was forgotten.
$node->safe_psql('postgres', <<'SQL');
SELECT iotmq.extend(lease_id, '1 ms') FROM held;
SELECT pg_sleep(0.01);
SQL
is( $node->safe_psql('postgres', <<'SQL'),
DO $$
DECLARE
	batch iotmq.delivery[];
BEGIN
	LOOP
		SELECT array_agg(d) INTO batch FROM iotmq.consume('t', 'g', 1000) AS d;
		EXIT WHEN batch IS NULL;
		INSERT INTO delivered SELECT 'again' FROM unnest(batch) WHERE attempt = 2;
		PERFORM iotmq.ack(batch[1].lease_id);
	END LOOP;
END $$;
SELECT count(*) FROM delivered WHERE device_id = 'again';
SQL
	$leases,
	'what is left comes again when it has expired');
is($node->safe_psql('postgres', 'SELECT lag_messages, inflight_messages FROM iotmq.consumer_lag'),
	'0|0', 'and then there is nothing left');

$node->stop;
done_testing();
