# Locks as a weapon.  PostgreSQL takes the lock of a command before it asks who owns the table:
# so one session that holds a weak lock, and another that queues a strong one behind it, stop
# all who want that table.  Roles of every kind try this with every relation of our schemas
# but iotmq itself, whose views and types everybody with a grant may name; others go on: with
# any other topic and group, and with the same topic, if the role has no right to it.
#
# What there is comes from pg_class, and what can be queued is found by trying.
# Promise: default-deny

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "autovacuum = off\nmax_locks_per_transaction = 256\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic(topic, '{a,b}') FROM unnest('{mine,other}'::text[]) AS topic;
SELECT iotmq.create_group(topic, consumer_group, start_from => '-infinity')
FROM unnest('{mine,other}'::text[]) AS topic, unnest('{one,two}'::text[]) AS consumer_group;
SELECT count(iotmq.publish(topic, 'd', '1', zone))
FROM unnest('{mine,other}'::text[]) AS topic, unnest('{a,b}'::text[]) AS zone, generate_series(1, 5);
CREATE ROLE nobody; CREATE ROLE consumer; CREATE ROLE publisher; CREATE ROLE reader; CREATE ROLE monitor;
SELECT iotmq.grant_consume('mine', 'one', 'consumer');
SELECT iotmq.grant_publish('mine', 'publisher', '{a}');
SELECT iotmq.grant_read('mine', 'reader');
SELECT iotmq.grant_monitor('monitor');
CREATE SCHEMA scratch; GRANT ALL ON SCHEMA scratch TO PUBLIC;

-- All that can be named or numbered.
CREATE VIEW scratch.target AS
SELECT c.oid, c.relkind, format('%I.%I', n.nspname, c.relname) AS name
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname LIKE 'iotmq%' AND n.nspname <> 'iotmq'
ORDER BY c.oid;

-- What takes a strong lock, or some lock before it looks at rights.
CREATE TABLE scratch.strong (n int GENERATED ALWAYS AS IDENTITY, command text);
INSERT INTO scratch.strong (command) VALUES
	('CREATE RULE x AS ON INSERT TO %1$s DO NOTHING'),
	('CREATE TRIGGER x BEFORE INSERT ON %1$s FOR EACH STATEMENT EXECUTE FUNCTION suppress_redundant_updates_trigger()'),
	('CREATE POLICY x ON %1$s'),
	('CREATE TABLE scratch.x (n int, FOREIGN KEY (n) REFERENCES %1$s)'),
	('CREATE TABLE scratch.x () INHERITS (%1$s)'),
	('CREATE TABLE scratch.x PARTITION OF %1$s FOR VALUES IN (''x'')'),
	('CREATE TABLE scratch.x (LIKE %1$s)'),
	('CREATE INDEX ON %1$s ((1))'),
	('CREATE STATISTICS scratch.x ON (1), (2) FROM %1$s'),
	('LOCK TABLE %1$s'),
	('LOCK TABLE %1$s IN SHARE MODE NOWAIT'),
	('ALTER TABLE %1$s ADD COLUMN x int'),
	('ALTER TABLE %1$s SET SCHEMA scratch'),
	('ALTER INDEX %1$s SET TABLESPACE pg_default'),
	('ALTER SEQUENCE %1$s RESTART'),
	('ALTER VIEW %1$s ALTER COLUMN topic SET DEFAULT 1'),
	('DROP TABLE %1$s CASCADE'),
	('DROP INDEX %1$s'),
	('DROP SEQUENCE %1$s CASCADE'),
	('DROP VIEW %1$s CASCADE'),
	('TRUNCATE %1$s'),
	('REINDEX TABLE %1$s'),
	('REINDEX INDEX %1$s'),
	('CLUSTER %1$s'),
	('ANALYZE %1$s'),
	('COMMENT ON TABLE %1$s IS ''x'''),
	('COMMENT ON COLUMN %1$s.zone IS ''x'''),
	('SECURITY LABEL ON TABLE %1$s IS ''x'''),
	('GRANT SELECT ON %1$s TO PUBLIC'),
	('SELECT * FROM %1$s FOR UPDATE'),
	('UPDATE %1$s SET zone = ''x'''),
	('DELETE FROM %1$s'),
	('SELECT nextval(%2$s::regclass)'),
	('SELECT setval(%2$s::regclass, 1)'),
	('SELECT pg_relation_size(%2$s::regclass)'),
	('SELECT has_table_privilege(%2$s, ''SELECT'')');

-- holds what it can of each relation, to the end of the transaction
CREATE FUNCTION scratch.hold() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	target record;
	command text;
	held int := 0;
BEGIN
	FOR target IN SELECT * FROM scratch.target LOOP
		FOREACH command IN ARRAY '{SELECT nextval(%2$s::regclass),SELECT FROM %1$s LIMIT 0,INSERT INTO %1$s (device_id) SELECT WHERE false}'::text[] LOOP
			BEGIN
				EXECUTE format(command, target.name, target.oid);
			EXCEPTION WHEN others THEN
				held := held + 0;	-- a lock may stay
			END;
		END LOOP;
	END LOOP;
	RETURN (SELECT count(DISTINCT relation) FROM pg_locks AS l JOIN scratch.target AS t ON t.oid = l.relation WHERE l.pid = pg_backend_pid());
END $$;

-- the commands that have to wait for the holder
CREATE FUNCTION scratch.try() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	target record;
	strong record;
BEGIN
	FOR target IN SELECT * FROM scratch.target LOOP
		FOR strong IN SELECT s.command FROM scratch.strong AS s ORDER BY s.n LOOP
			BEGIN
				EXECUTE format(strong.command, target.name, target.oid);
				RAISE EXCEPTION 'undone' USING ERRCODE = 'TX001';
			EXCEPTION
				WHEN lock_not_available THEN
					RETURN NEXT format(strong.command, target.name, target.oid);
				WHEN others THEN
					CONTINUE;
			END;
		END LOOP;
	END LOOP;
END $$;
GRANT SELECT ON ALL TABLES IN SCHEMA scratch TO PUBLIC;
SQL
my %zone_table = map { $_ => $node->safe_psql('postgres', "SELECT iotmq.zone_table('$_', 'a')") } ('mine', 'other');

# What the others do, with a topic and a group; whoever waits this long waits for ever.  A role
# that reads a topic may name the tables of all topics, and so stops two things more.
my $patience = 60;
sub others
{
	my ($topic, $group, $is_reader) = @_;
	my $sql = <<SQL;
SET lock_timeout = '${patience}s';
SET client_min_messages = error;
SELECT iotmq.publish('$topic', 'd', '1', 'a'), iotmq.publish('$topic', 'd', '1', 'b');
COPY $zone_table{$topic} (device_id, payload) FROM PROGRAM 'printf "d\\\\t1\\\\n"';
SELECT iotmq.ack(min(lease_id), array_agg(msg_offset)) FROM iotmq.consume('$topic', '$group', 1);
SELECT iotmq.reject(min(lease_id), array_agg(msg_offset)) FROM iotmq.consume('$topic', '$group', 1);
SELECT iotmq.redrive('$topic', '$group');
SELECT count(*) FROM iotmq.dead_letter WHERE topic = '$topic';
SELECT count(*) FROM iotmq.fetch('$topic', 'a', 1);
SELECT iotmq.commit_offset('$topic', '$group', 'b', iotmq.committed_offset('$topic', '$group', 'b'));
SQL
	$sql .= <<SQL unless $is_reader;
SELECT count(*) FROM iotmq.messages_of_device('$topic', 'd');
SELECT iotmq.segment_make_until(zone_id, max(to_time), max(to_time) + '1 us')
FROM iotmq_internal.segment JOIN iotmq_internal.zone USING (zone_id) JOIN iotmq_internal.topic USING (topic_id)
WHERE topic = '$topic' GROUP BY zone_id;
SQL
	return $sql;
}

# Does it all work for others?
sub go_on
{
	my ($what, $has_right, $is_reader) = @_;
	my @whom = ([ 'other', 'one' ], $has_right ? () : [ 'mine', 'two' ]);
	foreach my $whom (@whom)
	{
		my ($rc, $out, $err) = $node->psql('postgres', others(@$whom, $is_reader), on_error_die => 0, on_error_stop => 1);
		is("$rc $err", '0 ', "$what: topic $whom->[0], group $whom->[1]") or return 0;
	}
	return 1;
}

ok(go_on('at first', 0, 0), 'the others work');
# Each role, and whether it has a right to the topic "mine".
foreach my $kind ([ 'nobody', 0 ], [ 'monitor', 0 ], [ 'consumer', 0 ], [ 'publisher', 1 ], [ 'reader', 1 ])
{
	my ($role, $has_right) = @$kind;
	my $holder = $node->background_psql('postgres');
	$holder->query_safe("SET ROLE $role; BEGIN");
	my $held = $holder->query_safe('SELECT scratch.hold()');
	cmp_ok($held, '>', 0, "$role: holds locks");
	go_on("$role holds what it can", $has_right, 0);
	my @queued = split /\n/, $node->safe_psql('postgres', "SET ROLE $role; SET lock_timeout = '300ms'; SELECT scratch.try()");
	note("$role, to be queued: $_") foreach @queued;

	foreach my $command (@queued)
	{
		my $attacker = $node->background_psql('postgres', on_error_stop => 0);
		$attacker->query_safe("SET ROLE $role");
		my $pid = $attacker->query_safe('SELECT pg_backend_pid()');
		$attacker->query_until(qr/sent/, "\\echo sent\n$command;\n");
		$node->poll_query_until('postgres', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid")
		  or die "$command does not wait";
		go_on("$role queues $command", $has_right, $role eq 'reader');
		$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
		$attacker->{stderr} = '';
		$attacker->quit;
	}
	$holder->query_safe('ROLLBACK');
	$holder->quit;
}
$node->stop;
done_testing();
