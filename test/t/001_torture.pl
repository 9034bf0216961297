# Everything at the same time: publishers with pauses inside their
# transactions, rollbacks, savepoints rolled back, batches, COPY and two-phase
# commit, against two groups of three consumers and a pull reader.  Segments are
# a second long and made just in time.
#
# Each message carries an id.  "sent" is written in the publisher's own
# transaction and so holds just what was committed, "received" in the
# transaction of the ack.  In the end each reader must have received what was
# sent, once.
#
# TORTURE_SECONDS sets how long the publishers run.
#
# Promise: no-loss, no-uncommitted-delivery

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{TORTURE_SECONDS} || 20;
my @zones   = ('z1', 'z2', 'z3');
my $timeout = IPC::Run::timer($seconds + 180);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "max_prepared_transactions = 10\n");
$node->start;

$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t', ARRAY['z1', 'z2', 'z3'], segment_interval => '1 s');
SELECT iotmq.create_group('t', g, start_from => '-infinity')
FROM unnest(ARRAY['g1', 'g2', 'pull']) AS g;

CREATE TABLE sent (id text PRIMARY KEY);
CREATE TABLE received (reader text, id text, zone text, msg_offset bigint, attempt int);
CREATE TABLE run (stop timestamptz, finished boolean);

-- Mostly short, now and then up to the given number of seconds.
CREATE FUNCTION pause(longest float8) RETURNS void LANGUAGE sql VOLATILE AS
	'SELECT pg_sleep(longest * random() ^ 4)';

-- Publishes n messages as ids "prefix.1" ... and notes them, in any order.
CREATE PROCEDURE send(prefix text, n int) LANGUAGE plpgsql AS $$
DECLARE
	zone text := 'z' || 1 + floor(random() * 3)::int;
	ids text[] := (SELECT array_agg(prefix || '.' || i ORDER BY i) FROM generate_series(1, n) i);
	note_first boolean := random() < 0.5;
BEGIN
	IF note_first THEN
		INSERT INTO sent SELECT unnest(ids);
		PERFORM pause(0.02);
	END IF;
	IF n = 1 THEN
		PERFORM iotmq.publish('t', prefix, jsonb_build_object('id', ids[1]), zone);
	ELSE
		PERFORM iotmq.publish_batch('t', array_fill(prefix, ARRAY[n]),
			(SELECT array_agg(jsonb_build_object('id', id) ORDER BY i) FROM unnest(ids) WITH ORDINALITY AS u (id, i)),
			zone);
	END IF;
	PERFORM pause(0.02);
	IF NOT note_first THEN
		INSERT INTO sent SELECT unnest(ids);
	END IF;
END $$;

-- Publishes in random ways until it is time to stop.
CREATE PROCEDURE publisher(who text) LANGUAGE plpgsql AS $$
DECLARE
	prefix text;
	n bigint := 0;
BEGIN
	WHILE clock_timestamp() < (SELECT stop FROM run) LOOP
		FOR step IN 1 .. 1 + floor(random() * 3) LOOP
			n := n + 1;
			prefix := who || '-' || n;
			IF random() < 0.6 THEN
				CALL send(prefix, CASE WHEN random() < 0.7 THEN 1 ELSE 2 + floor(random() * 50)::int END);
			ELSE
				-- in a subtransaction, every second one rolled back
				BEGIN
					CALL send(prefix, 1 + floor(random() * 3)::int);
					IF random() < 0.5 THEN
						RAISE EXCEPTION 'undone' USING ERRCODE = 'TX001';
					END IF;
				EXCEPTION WHEN SQLSTATE 'TX001' THEN
					NULL;
				END;
			END IF;
			PERFORM pause(0.02);
		END LOOP;
		IF random() < 0.3 THEN
			ROLLBACK;
		ELSE
			COMMIT;
		END IF;
		PERFORM pause(0.01);
	END LOOP;
END $$;

-- Notes some messages of a lease as received and settles them, in one
-- transaction.  Returns false if the lease was lost.
CREATE FUNCTION settle(reader text, batch iotmq.delivery[]) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO received SELECT reader, payload ->> 'id', zone, msg_offset, attempt FROM unnest(batch);
	ASSERT iotmq.ack(batch[1].lease_id, (SELECT array_agg(msg_offset) FROM unnest(batch))) = cardinality(batch),
		'ack did not count what it settled';
	RETURN true;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
	RETURN false;
END $$;

-- Consumes and settles until everything is published and nothing comes any
-- more.
CREATE PROCEDURE consumer(consumer_group text) LANGUAGE plpgsql AS $$
DECLARE
	batch iotmq.delivery[];
	half int;
	abandon boolean;
	last_seen timestamptz := clock_timestamp();
BEGIN
	LOOP
		abandon := random() < 0.03;
		SELECT array_agg(d) INTO batch
		FROM iotmq.consume('t', consumer_group, 1 + floor(200 * random() ^ 3)::int,
			CASE WHEN abandon THEN interval '100 ms' END, wait => '100 ms') AS d;
		IF random() < 0.05 THEN
			ROLLBACK;
			CONTINUE;
		END IF;
		COMMIT;

		IF batch IS NULL THEN
			EXIT WHEN (SELECT finished FROM run) AND clock_timestamp() > last_seen + interval '3 s';
			CONTINUE;
		END IF;
		last_seen := clock_timestamp();
		ASSERT (SELECT count(DISTINCT (zone, lease_id)) FROM unnest(batch)) = 1,
			'more than one zone or lease in a call';
		ASSERT (SELECT array_agg(msg_offset) = array_agg(DISTINCT msg_offset) FROM unnest(batch)),
			'offsets not in order';

		-- some come too late to settle, and may or may not have been taken over
		IF abandon THEN
			PERFORM pg_sleep(0.05 + random() * 0.1);
		END IF;
		-- some settle in two steps, some fail at first
		half := CASE WHEN random() < 0.2 THEN cardinality(batch) / 2 ELSE 0 END;
		IF half > 0 THEN
			PERFORM settle(consumer_group, batch[:half]);
			COMMIT;
		END IF;
		PERFORM settle(consumer_group, batch[half + 1:]);
		IF random() < 0.05 THEN
			ROLLBACK;
			PERFORM settle(consumer_group, batch[half + 1:]);
		END IF;
		COMMIT;
	END LOOP;
END $$;

-- Reads all zones in turn by fetch and commit_offset.
CREATE PROCEDURE puller() LANGUAGE plpgsql AS $$
DECLARE
	next_offsets bigint[] := ARRAY[0, 0, 0];
	batch iotmq.delivery[];
	last_seen timestamptz := clock_timestamp();
BEGIN
	LOOP
		FOR z IN 1 .. 3 LOOP
			SELECT array_agg(d) INTO batch FROM iotmq.fetch('t', 'z' || z, next_offsets[z], 100) AS d;
			CONTINUE WHEN batch IS NULL;
			last_seen := clock_timestamp();
			INSERT INTO received SELECT 'pull', payload ->> 'id', zone, msg_offset, 1 FROM unnest(batch);
			next_offsets[z] := batch[cardinality(batch)].msg_offset + 1;
			PERFORM iotmq.commit_offset('t', 'pull', 'z' || z, next_offsets[z]);
			COMMIT;
		END LOOP;
		EXIT WHEN (SELECT finished FROM run) AND clock_timestamp() > last_seen + interval '1 s';
		COMMIT;
		PERFORM pg_sleep(0.005);
	END LOOP;
END $$;
SQL

# The script of a publisher that does what a procedure cannot: COPY and
# two-phase commit.  It is longer than needed and quits when it is time.
sub copy_script
{
	my ($who) = @_;
	my %table = map {
		$_ => $node->safe_psql('postgres', "SELECT iotmq.zone_table('t', '$_')")
	} @zones;
	my $script = '';

	foreach my $n (1 .. 100 * $seconds)
	{
		my $table  = $table{ $zones[ rand @zones ] };
		my $prefix = "$who-$n";
		# a few more than COPY buffers, now and then
		my $rows = rand() < 0.02 ? 1200 : 1 + int(rand(10));
		my @lines = map { qq($prefix\t{"id": "$prefix.$_"}) } (1 .. $rows);
		my $pause = 'SELECT FROM pause(0.1);';
		my $end = rand() < 0.3 ? 'ROLLBACK' : 'COMMIT';

		$script .=
		  "SELECT clock_timestamp() > stop AS done FROM run \\gset\n"
		  . "\\if :done\n\\q\n\\endif\n"
		  . "BEGIN;\n";
		$script .= "$pause\n" if rand() < 0.5;
		if ($rows == 2)
		{
			# held open by its client
			my $file = $node->basedir . "/$prefix";
			append_to_file("$file.$_", "$lines[$_ - 1]\n") for (1, 2);
			my $nap = sprintf('%.3f', 0.1 * rand()**2);
			$script .=
			  "\\copy $table (device_id, payload) FROM PROGRAM 'cat $file.1; sleep $nap; cat $file.2'\n";
		}
		else
		{
			$script .= join("\n",
				"COPY $table (device_id, payload) FROM STDIN;",
				@lines, '\\.', '');
		}
		$script .= "$pause\n" if rand() < 0.5;
		$script .= "INSERT INTO sent SELECT '$prefix.' || i FROM generate_series(1, $rows) i;\n";
		if (rand() < 0.3)
		{
			$script .=
			  "PREPARE TRANSACTION '$prefix';\n$pause\n$end PREPARED '$prefix';\n";
		}
		else
		{
			$script .= "$end;\n";
		}
	}
	return $script;
}

# Starts psql with a script.
sub start_client
{
	my ($name, $script) = @_;
	my $file   = $node->basedir . "/$name.sql";
	my %client = (name => $name, output => '');

	append_to_file($file, $script);
	$client{run} = IPC::Run::start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d',
			$node->connstr('postgres'), '-f', $file
		],
		'<', \undef, '>', \$client{output}, '2>&1', $timeout);
	return \%client;
}

# Waits for clients to end, which they must without complaint.
sub finish_clients
{
	foreach my $client (@_)
	{
		$client->{run}->finish;
		is($client->{output}, '', "$client->{name} ended without a complaint");
	}
	return;
}

my %copies = map { $_ => copy_script($_) } map { "copy$_" } (1 .. 4);

# create_topic made segments for a minute; these are to be made on the way
$node->safe_psql('postgres', <<'SQL');
DO $$
DECLARE
	late record;
BEGIN
	FOR late IN DELETE FROM iotmq.segment WHERE from_time > clock_timestamp() + interval '2 s' RETURNING table_name LOOP
		EXECUTE 'DROP TABLE ' || late.table_name;
	END LOOP;
END $$;
SQL

$node->safe_psql('postgres',
	"INSERT INTO run VALUES (clock_timestamp() + interval '$seconds s', false)");
$timeout->start;

my @readers =
  map { start_client("consumer$_", 'CALL consumer(\'g' . (1 + $_ % 2) . '\');') } (1 .. 6);
push @readers, start_client('puller', 'CALL puller();');
my @publishers =
  map { start_client("publisher$_", "CALL publisher('publisher$_');") } (1 .. 4);
push @publishers, map { start_client($_, $copies{$_}) } sort keys %copies;

# The views hold together meanwhile: nobody is ahead of what is decided.
my ($looks, $ahead) = (0, 0);
while ($node->safe_psql('postgres', 'SELECT clock_timestamp() < stop FROM run') eq 't')
{
	$ahead += $node->safe_psql('postgres', <<'SQL');
SELECT count(*) FROM iotmq.consumer_lag
WHERE (earliest_offset <= next_offset AND next_offset <= stable_offset AND stable_offset <= end_offset) IS NOT TRUE
SQL
	$looks++;
	sleep 1;
}
cmp_ok($looks, '>', 0, 'looked at consumer_lag');
is($ahead, 0, 'no group was ever ahead of the stable offset');

finish_clients(@publishers);
$node->safe_psql('postgres', 'UPDATE run SET finished = true');
finish_clients(@readers);

my $sent = $node->safe_psql('postgres', 'SELECT count(*) FROM sent');
note "$sent messages sent in $seconds seconds";
cmp_ok($sent, '>', 100 * $seconds, 'enough was published to mean something');

foreach my $reader ('g1', 'g2', 'pull')
{
	is( $node->safe_psql('postgres',
			"SELECT count(*) FROM sent WHERE NOT EXISTS (SELECT FROM received r WHERE r.reader = '$reader' AND r.id = sent.id)"),
		0,
		"$reader lost nothing");
	is( $node->safe_psql('postgres',
			"SELECT count(*) - count(DISTINCT id) FROM received WHERE reader = '$reader'"),
		0,
		"$reader received nothing twice");
	is( $node->safe_psql('postgres',
			"SELECT count(*) FROM received WHERE reader = '$reader' AND id NOT IN (SELECT id FROM sent)"),
		0,
		"$reader received nothing that was not committed");
}
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM received WHERE attempt > 1'),
	'>', 0, 'there were take-overs among it');
is($node->safe_psql('postgres', 'SELECT count(*) FROM iotmq_topic.t'),
	$sent, 'the log holds what was sent');
is( $node->safe_psql('postgres',
		q(SELECT count(*) FROM iotmq.consumer_lag WHERE consumer_group <> 'pull' AND lag_messages <> 0)),
	0, 'no lag is left');
is($node->safe_psql('postgres', 'SELECT count(*) FROM iotmq.in_flight'),
	0, 'no lease is left');
is($node->safe_psql('postgres',
		'SELECT count(*) FROM iotmq.consumer_lag WHERE stable_offset IS DISTINCT FROM end_offset'),
	0, 'all is decided');
is($node->safe_psql('postgres', 'SELECT count(*) FROM iotmq.held_back'),
	0, 'nobody holds anything back');

$node->stop;
done_testing();
