# An orderly group puts messages aside, round after round, while somebody holds an old
# snapshot: what was put aside and is done long ago must not be walked over again.
#
# Counted are the buffers that the call touches which puts messages aside, in the first
# rounds and in the last ones: with each round's rows walked over they grew with the
# rounds, by a factor of seven.
#
# Promise: bystanders-hold-nothing-back

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = 300;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t');
SELECT iotmq.create_group('t', 'g', mode => 'orderly', start_from => '-infinity');
-- what a statement touched
CREATE FUNCTION buffers(statement text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ' || statement INTO plan;
	RETURN (plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::bigint + (plan -> 0 -> 'Plan' ->> 'Shared Read Blocks')::bigint;
END $$;
CREATE TABLE cost (n int, buffers bigint, delivered bigint);
CREATE PROCEDURE put_aside(first int, last int) LANGUAGE plpgsql AS $$
DECLARE
	lease bigint;
	cost bigint;
	again bigint[];
BEGIN
	FOR n IN first .. last LOOP
		PERFORM iotmq.publish_batch('t', array_fill('hot'::text, '{21}'), array_fill('1'::jsonb, '{21}'));
		COMMIT;
		SELECT lease_id INTO lease FROM iotmq.consume('t', 'g', 1);
		COMMIT;
		cost := buffers($q$SELECT * FROM iotmq.consume('t', 'g', 100)$q$);
		COMMIT;
		PERFORM iotmq.ack(lease);
		COMMIT;
		SELECT array_agg(lease_id) INTO again FROM iotmq.consume('t', 'g', 100);
		COMMIT;
		PERFORM iotmq.ack(again[1]);
		INSERT INTO cost VALUES (n, cost, cardinality(again));
		COMMIT;
	END LOOP;
END $$;
SQL

my $snapshot = $node->background_psql('postgres');
$snapshot->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$snapshot->query_safe('SELECT count(*) FROM iotmq_internal.topic');
$node->safe_psql('postgres', "CALL put_aside(1, $rounds)");
$snapshot->query_safe('COMMIT');
$snapshot->quit;

is($node->safe_psql('postgres', 'SELECT min(delivered), max(delivered) FROM cost'),
	'20|20', 'each round delivered what it had put aside');
my $figures = $node->safe_psql('postgres', <<"SQL");
SELECT round(avg(buffers) FILTER (WHERE n BETWEEN 11 AND 30)),
	round(avg(buffers) FILTER (WHERE n > $rounds - 20))
FROM cost
SQL
note "buffers touched in rounds 11 to 30, and in the last 20: $figures";
my ($early, $late) = split /\|/, $figures;
cmp_ok($late, '<', 4 * $early, 'putting aside hardly becomes dearer');

$node->stop;
done_testing();
