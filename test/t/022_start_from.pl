# Groups that begin, and seek, in the middle of heavy publishing.
#
# Each starts at a time of some milliseconds ago, when publishers are open that have
# drawn offsets, written rows or rolled them back.  When all has ended it can be said
# what each should have got: it starts at the lowest offset published at or after its
# time, so nothing of that is missing, and nothing else comes before it.
#
# Promise: start-is-exact

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
SELECT iotmq.create_topic('t', '{a,b}', segment_interval => '1 s', retention => '1 hour');
SELECT iotmq.create_group('t', 'moved');
-- where a group was put, for which time, and behind which offset the zone ended before
CREATE TABLE start (what text, at timestamptz, zone text, first_offset bigint, last_offset bigint);
-- messages of transactions that were rolled back
CREATE TABLE undone (zone text, msg_offset bigint, published_at timestamptz);

CREATE PROCEDURE publish_for(duration interval) LANGUAGE plpgsql AS $$
DECLARE
	finish timestamptz := clock_timestamp() + duration;
	zone_of_it text;
	offsets bigint[];
	batch bigint[];
	theirs undone[];
BEGIN
	WHILE clock_timestamp() < finish LOOP
		zone_of_it := CASE WHEN random() < 0.5 THEN 'a' ELSE 'b' END;
		SELECT array_agg(iotmq.publish('t', 'd', to_jsonb(n), zone_of_it)) INTO offsets
		FROM generate_series(1, 1 + (random() * 4)::int) AS n;
		batch := iotmq.publish_batch('t', array_fill('d'::text, '{50}'), array_fill('1'::jsonb, '{50}'), 'a');
		PERFORM pg_sleep(random() * 0.003);
		IF random() < 0.3 THEN
			SELECT array_agg(ROW(zone, msg_offset, published_at)::undone) INTO theirs
			FROM iotmq_topic.t
			WHERE zone = zone_of_it AND msg_offset = ANY (offsets) OR zone = 'a' AND msg_offset = ANY (batch);
			ROLLBACK;
			INSERT INTO undone SELECT * FROM unnest(theirs);
			COMMIT;
		ELSE
			COMMIT;
		END IF;
	END LOOP;
END $$;

CREATE PROCEDURE copy_for(duration interval) LANGUAGE plpgsql AS $$
DECLARE
	finish timestamptz := clock_timestamp() + duration;
BEGIN
	WHILE clock_timestamp() < finish LOOP
		EXECUTE format('COPY %s (device_id, payload) FROM PROGRAM %L', iotmq.zone_table('t', 'b'), 'seq -f "c	%.0f" 1 500');
		COMMIT;
	END LOOP;
END $$;

-- the last offset of each zone that somebody has drawn
CREATE FUNCTION zone_ends() RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_object_agg(zone, pg_sequence_last_value(offset_sequence))
	FROM iotmq_internal.zone
$$;

CREATE PROCEDURE start_for(duration interval) LANGUAGE plpgsql AS $$
DECLARE
	finish timestamptz := clock_timestamp() + duration;
	since timestamptz;
	ends jsonb;
BEGIN
	WHILE clock_timestamp() < finish LOOP
		since := clock_timestamp() - random() * interval '20 ms';
		ends := zone_ends();
		PERFORM iotmq.create_group('t', 'new', start_from => since);
		INSERT INTO start
		SELECT 'create_group', since, zone, next_offset, (ends ->> zone)::bigint
		FROM iotmq_internal.zone JOIN iotmq_internal.cursor USING (zone_id) JOIN iotmq_internal.cursor_state USING (cursor_id)
			JOIN iotmq_internal.consumer_group USING (group_id)
		WHERE consumer_group = 'new';
		PERFORM iotmq.drop_group('t', 'new');
		COMMIT;
		since := clock_timestamp() - random() * interval '20 ms';
		ends := zone_ends();
		INSERT INTO start
		SELECT 'seek', since, zone, new_offset, (ends ->> zone)::bigint FROM iotmq.seek('t', 'moved', since);
		COMMIT;
	END LOOP;
END $$;
SQL

my @clients = map {
	my %client = (err => '');
	$client{run} = IPC::Run::start(
		[ $node->installed_command('psql'), '-Xq', '-d', $node->connstr('postgres'), '-c', $_ ],
		'2>', \$client{err}, IPC::Run::timeout(120));
	\%client;
} (("CALL publish_for('5 s')") x 4, "CALL copy_for('5 s')", ("CALL start_for('4.5 s')") x 1);
foreach my $client (@clients)
{
	$client->{run}->finish;
	is($client->{err}, '', 'a client without an error');
}

note $node->safe_psql('postgres', q{SELECT what, zone, count(*) FROM start GROUP BY 1, 2 UNION ALL
	SELECT 'messages', zone, count(*) FROM iotmq_topic.t GROUP BY 2});
ok($node->safe_psql('postgres', 'SELECT count(*) FROM start') > 10, 'starts enough');
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE judged AS
SELECT s.*,
	(SELECT min(m.msg_offset) FROM iotmq_topic.t AS m WHERE m.zone = s.zone AND m.published_at >= s.at) AS lowest
FROM start AS s;
SQL
is($node->safe_psql('postgres', 'SELECT what, count(*) FROM judged WHERE first_offset > lowest GROUP BY what ORDER BY what'),
	'', 'nothing of that time is missing');
# It begins at the first message of that time: committed, or open then and rolled back since.
# Where none was there yet, it begins at the end, wherever the next message's time is.
is($node->safe_psql('postgres', <<'SQL'), '', 'and it begins at no message before it');
SELECT what, count(*)
FROM judged AS j
WHERE j.first_offset < j.lowest AND j.first_offset <= j.last_offset
	AND NOT EXISTS (SELECT FROM undone AS u
		WHERE u.zone = j.zone AND u.msg_offset = j.first_offset AND u.published_at >= j.at)
GROUP BY what
ORDER BY what
SQL

$node->stop;
done_testing();
