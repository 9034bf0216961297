# Databases whose owner has taken from PUBLIC what PostgreSQL gives it by default: EXECUTE on
# functions, USAGE on types. Each grant gives what it says there, too, and nothing more.
#
# The tests of access print the same as in a database without such default privileges.
#
# Promise: default-deny

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\n");
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE scenario_user; CREATE DATABASE open; CREATE DATABASE closed');
$node->safe_psql('closed', <<'SQL');
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;
SQL
$node->safe_psql($_, 'CREATE EXTENSION iotmq') foreach ('open', 'closed');
# the tests' own functions
$node->safe_psql('closed', 'ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC');

# What a test prints, with its errors.
sub play
{
	my ($db, $test) = @_;
	my ($stdout, $stderr) = run_command([ 'psql', '-Xaq', '-d', $node->connstr($db), '-f', $test ]);
	return "$stdout\n$stderr";
}

foreach my $test ('sql/default_deny', 'sql/access_rights', 'sql/access_matrix', 'sql/access_attacks',
	'sql/owned_table', 'scenario/all')
{
	my $file = "test/$test.sql";
	my $expected = play('open', $file);
	unlike($expected, qr/connection to server|No such file/, "$test runs");
	is(play('closed', $file), $expected, "$test prints the same");
}

# A caller may name the types in what he makes.
$node->safe_psql('closed', <<'SQL');
CREATE ROLE maker;
GRANT CREATE ON SCHEMA public TO maker;
SELECT iotmq.create_topic('t');
SELECT iotmq.grant_read('t', 'maker');
SET ROLE maker;
CREATE TABLE kept OF iotmq.delivery;
CREATE FUNCTION latest() RETURNS SETOF iotmq.delivery LANGUAGE sql AS 'SELECT * FROM iotmq.messages_of_device(''t'', ''d'')';
CREATE FUNCTION moved() RETURNS SETOF iotmq.seek_result LANGUAGE sql AS 'SELECT * FROM iotmq.seek(''t'', ''g'', now())';
SQL
is($node->safe_psql('closed', 'SET ROLE maker; SELECT count(*) FROM latest()'), '0', 'types are for everybody');

$node->stop;
done_testing();
