# "make bench" in its smallest form, with the peers that are installed: every curve is drawn,
# with a line of each system that runs here, and figures are printed.  What they say is not
# looked at: this machine is busy.
#
# Promise: figures-agree

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
$ENV{RESULTS} = $folder;
$ENV{TMPDIR} = $folder;
delete $ENV{PGDATABASE};

sub bench
{
	(local $ENV{ONLY}, local $ENV{SCALE}) = @_;
	return run_command([ '/usr/bin/python3', '-B', 'bench/main.py' ]);
}

my ($output, $errors) = bench('publish_batch fan_out', 0.01);
note($output, $errors);
like($output, qr/^\| $_.* \| [\d,]+\S* +\| [\d,]+\S* +\| \d+\.\d\d +\|/m, "a figure of $_")
  foreach 'publish_batch of 1,000', '3 groups x 300,000', 'WAL bytes per delivered message';

my @curves = qw(batch_size groups devices delays snapshot unread);
($output, $errors) = bench("@curves", 0.01);
note($output, $errors);
unlike($errors, qr/Traceback|not measured/, 'no curve fails');

my %absent = map { $_ => 1 } $errors =~ /^(.*): left out, /mg;
my @everywhere = grep { !$absent{$_} }
  'iotmq', 'bare table', 'SKIP LOCKED', 'PgQ', 'PGMQ', 'PgQue', 'Redis Streams', 'RabbitMQ quorum', 'NATS JetStream';
ok(!$absent{$_}, "$_ runs everywhere") foreach 'iotmq', 'bare table', 'SKIP LOCKED';
foreach my $curve (@curves)
{
	my $page = slurp_file("$folder/$curve.md");
	my $plot = slurp_file("$folder/$curve.svg");
	like($plot, qr/^<svg .*<\/svg>\s*$/s, "$curve: a plot");
	unlike($plot, qr/no data/, "$curve: of all that is to be shown");
	like($page, qr/^\| iotmq \| [\d.]/m, "$curve: iotmq's figures");
	next unless $curve eq 'batch_size' || $curve eq 'groups';
	foreach my $system (@everywhere)
	{
		like($page, qr/^\| \Q$system\E \| [\d.,]+ \| [\d.,]+ \|$/m, "$curve: figures of $system");
	}
}

# nothing stays: neither a server nor a file of one
is(join(' ', glob "$folder/*/log"), '', 'the folders of the brokers are gone');

$node->stop;
done_testing();
