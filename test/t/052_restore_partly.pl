# Restores that lack something: a role, or the data.
#
# Where a role is missing, its grants are missing, and those of others are there: by psql all
# of them, by pg_restore those to consume and mirror (what it grants on one object it grants to all
# roles by one command).  From a dump without data a topic's table comes alone: the topic can
# be made and dropped.
#
# Promise: dump-restore

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE gone;
CREATE ROLE "gone, ""too""";
CREATE ROLE kept;
CREATE ROLE "kept, ""too""";
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t', '{a,b}');
SELECT iotmq.create_topic('u');
SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
SELECT iotmq.grant_consume('t', 'g', role::regrole), iotmq.grant_publish('t', role::regrole), iotmq.grant_read('t', role::regrole),
	iotmq.grant_mirror('u', role::regrole)
FROM unnest('{gone,"\"gone, \"\"too\"\"\"",kept,"\"kept, \"\"too\"\"\""}'::text[]) AS role;
SELECT iotmq.publish('t', 'd', '1', 'a');
SQL
my $dir = $node->basedir;
$node->command_ok([ 'pg_dump', '-f', "$dir/plain", $node->connstr('postgres') ], 'dump');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/custom", $node->connstr('postgres') ], 'dump for pg_restore');
$node->command_ok([ 'pg_dump', '-s', '-f', "$dir/schema", $node->connstr('postgres') ], 'dump without data');
$node->safe_psql('postgres', <<'SQL');
DROP OWNED BY gone, "gone, ""too""";
DROP ROLE gone, "gone, ""too""";
CREATE DATABASE plain;
CREATE DATABASE custom;
CREATE DATABASE schema;
SQL

my ($stdout, $stderr) = run_command([ 'psql', '-Xq', '-d', $node->connstr('plain'), '-f', "$dir/plain" ]);
like($stderr, qr/WARNING:  role "gone" does not exist\nDETAIL:  Its right to consume or mirror is left out\./, 'psql says what it leaves out');
unlike($stderr, qr/ERROR:  (?!role "gone)/, 'and nothing else fails');
run_command([ 'pg_restore', '-d', $node->connstr('custom'), "$dir/custom" ]);

my $consumers = 'SELECT role FROM iotmq.privileges WHERE action = \'consume\' ORDER BY role::text COLLATE "C"';
foreach my $db ('plain', 'custom')
{
	is($node->safe_psql($db, $consumers), qq{"kept, ""too"""\nkept}, "$db: who is there may consume");
	foreach my $role ('kept', '"kept, ""too"""')
	{
		is($node->safe_psql($db, "SET ROLE $role; SELECT msg_offset FROM iotmq.consume('t', 'g', invisible_for => '1 us')"),
			'1', "$db: $role does");
		is($node->safe_psql($db, "SET ROLE $role; SELECT count(*) FROM iotmq.dead_letter"), '0', "$db: $role sees its dead letters");
	}
	is($node->safe_psql($db, 'SELECT count(*) FROM iotmq_internal.consume_grant'), 2, "$db: nothing is kept of who is not there");
	is($node->safe_psql($db, q{SELECT role FROM iotmq.privileges WHERE action = 'mirror' ORDER BY role::text COLLATE "C"}),
		qq{"kept, ""too"""\nkept}, "$db: who is there may mirror");
	is($node->safe_psql($db, q{SET ROLE kept; SELECT iotmq.mirror_groups('u', 'default') -> 'groups'}), '[]', "$db: and does");
	is($node->safe_psql($db, 'SELECT count(*) FROM iotmq_internal.mirror_grant'), 2, "$db: and nothing else is kept");
}
is($node->safe_psql('plain', q(SET ROLE kept; SELECT iotmq.publish('t', 'd', '2', 'b'))), '1', 'psql restores all other rights');

# What was renamed since the dump is another role; what is made later has no right.
$node->safe_psql('plain', 'CREATE ROLE gone');
is($node->safe_psql('plain', $consumers), qq{"kept, ""too"""\nkept}, 'a role of that name made later has none');

# Without data

run_command([ 'psql', '-Xq', '-d', $node->connstr('schema'), '-f', "$dir/schema" ]);
is($node->safe_psql('schema', 'SELECT count(*) FROM iotmq_internal.topic'), 0, 'no topic');
is($node->safe_psql('schema', q(SELECT iotmq.create_topic('new'); SELECT iotmq.publish('new', 'd', '1'))), "\n1",
	'another topic can be made');
is($node->safe_psql('schema', q(SELECT iotmq.create_topic('t'); SELECT iotmq.create_group('t', 'g'); SELECT iotmq.publish('t', 'd', '"m"'))),
	"\n\n1", 'and the one of the dump, with other zones');
is($node->safe_psql('schema', q(SELECT payload FROM iotmq.consume('t', 'g'))), '"m"', 'it works');
is($node->safe_psql('schema', q(SELECT iotmq.drop_topic('u'))), '', 'the other one can be dropped');
is($node->safe_psql('schema', q(SELECT to_regclass('iotmq_topic.u') IS NULL)), 't', 'with its table');
is($node->safe_psql('schema', q(SELECT count(*) FROM pg_namespace AS n WHERE n.nspname LIKE 'iotmq\_zone\_%'
	AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = n.oid))), 0, 'and the schema of its zones');
is($node->safe_psql('schema', q(SELECT iotmq.drop_topic('t', force => true))), '', 'both can');
my ($rc, $out, $err) = $node->psql('schema', q(SELECT iotmq.drop_topic('u')));
like($err, qr/ERROR:  topic "u" does not exist/, 'and then they are gone');

# What has messages, or something that depends on it, is not dropped unasked.
run_command([ 'psql', '-Xq', '-d', $node->connstr('schema'), '-f', "$dir/schema" ]);
$node->safe_psql('schema', 'CREATE VIEW mine AS SELECT payload FROM iotmq_topic.u');
($rc, $out, $err) = $node->psql('schema', "\\set VERBOSITY sqlstate\nSELECT iotmq.create_topic('u')");
like($err, qr/ERROR:  55006/, 'a view depends on it');
($rc, $out, $err) = $node->psql('schema', "\\set VERBOSITY sqlstate\nSELECT iotmq.drop_topic('u')");
like($err, qr/ERROR:  55006/, 'likewise');
$node->safe_psql('schema', q(SET client_min_messages = warning; SELECT iotmq.drop_topic('u', force => true)));
is($node->safe_psql('schema', q(SELECT to_regclass('mine') IS NULL)), 't', 'with force');

$node->stop;
done_testing();
