# The programs of examples/, those that the drivers page shows: each against messages that
# fail, a seek, killed connections, work that takes long, SIGTERM.  Every message is stored
# once or is a dead letter with its reason: see test/examples/examples.py.
#
# EXAMPLES="driver ..." takes these drivers, and "all" those that need a Java or Go compiler
# or npm, too.
#
# Promise: no-loss, exactly-once-effects, bad-message-alone, once-by-key, lost-lease-changes-nothing

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $few = 'psql psycopg2 psycopg3 psycopg3_async perl ruby libpq';
my @drivers = split ' ', ($ENV{EXAMPLES} || $few) =~ s/^all$/$few jdbc go node/r;

# JDBC knows no sockets in files.
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
listen_addresses = '127.0.0.1'
max_connections = 100
track_functions = all
CONF
$node->start;

my $folder = PostgreSQL::Test::Utils::tempdir_short;
$ENV{PGHOST} = '127.0.0.1';
$ENV{PGPORT} = $node->port;
$ENV{PGUSER} = $node->safe_psql('postgres', 'SELECT current_user');
delete $ENV{PGDATABASE};
my ($output, $errors) = run_command([ '/usr/bin/python3', '-B', 'test/examples/examples.py', '--folder', $folder, @drivers ]);
note($output, $errors);

foreach my $driver (@drivers)
{
  SKIP:
	{
		skip("$driver: $1", 1) if $output =~ /^ok \d+ - $driver # SKIP (.*)$/m;
		like($output, qr/^ok \d+ - $driver$/m, $driver);
	}
}

$node->stop;
done_testing();
