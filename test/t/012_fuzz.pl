# A short round of the fuzzer: everything that can be called, with random arguments, in
# random transactions, the same ones at each run.  FUZZ_SEED runs a round again that found
# something; "make fuzz" draws new ones.
#
# Promise: errors-change-nothing, changes-are-orderly, default-deny, figures-agree

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed   = $ENV{FUZZ_SEED}   || 1;
my $rounds = $ENV{FUZZ_ROUNDS} || 4;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "max_prepared_transactions = 20\nmax_connections = 60\n");
$node->start;

local $ENV{PGDATABASE} = 'postgres';
$node->command_ok(
	[
		'/usr/bin/python3', '-B', 'test/fuzz/fuzz.py', '--seed', $seed, '--rounds', $rounds,
		'--log', $node->logfile
	],
	"$rounds rounds from seed $seed found nothing");

$node->stop;
done_testing();
