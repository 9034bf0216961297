# Every function that names a topic, zone or group meets the drop of it at every step: see
# test/races/drops.py.
#
# Promise: changes-are-orderly

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION iotmq; CREATE ROLE grantee');
local $ENV{PGDATABASE} = 'postgres';
$node->command_ok([ '/usr/bin/python3', '-B', 'test/races/drops.py' ],
	'who comes too late is told so, and nothing is left');

$node->stop;
done_testing();
