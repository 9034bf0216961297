# The recipes of README.md and docs/: each is run, as the page has it, beside publishers that
# commit and roll back and consumers that are killed; then what it made is compared with the
# log.  See test/examples/recipes.py.
#
# Promise: no-loss, exactly-once-effects, seek-is-transactional, start-is-exact, lost-lease-changes-nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'max_connections = 100');
$node->start;

my $folder = PostgreSQL::Test::Utils::tempdir_short;
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
delete $ENV{PGDATABASE};
my ($output, $errors) = run_command([ '/usr/bin/python3', '-B', 'test/examples/recipes.py', '--folder', $folder ]);
note($output, $errors);

my @results = $output =~ /^((?:not )?ok \d+ - .*)$/mg;
cmp_ok(scalar(@results), '>', 7, 'recipes were tried');
foreach (@results)
{
	my ($result, $name) = /^(.*?) \d+ - (.*)$/;
	is($result, 'ok', $name);
}

$node->stop;
done_testing();
