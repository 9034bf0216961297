# The demo, small and short: each part of the pipeline is killed in turn, every group has got
# every message once, and the plot shows it.
#
# Promise: no-loss, exactly-once-effects, figures-agree

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "max_connections = 40\nrestart_after_crash = on\n");
$node->start;

my $folder = PostgreSQL::Test::Utils::tempdir();
my $plot = "$folder/plot & <run>.svg";
delete @ENV{qw(DATA KEEP RETENTION SEGMENT ZONES BATCH WINDOW REGIONS)};
local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
local @ENV{qw(ARCHIVE FOLDER CLIENT PLOT PYTHONDONTWRITEBYTECODE)} = ("$folder/archive", "$folder/demo", 'client', $plot, 1);
local @ENV{qw(SECONDS_TO_RUN RATE DEVICES PUBLISHERS FAULTS)} = (7, 100, 40, 2, 1);

my ($output, $errors) = run_command([ '/usr/bin/python3', 'demo/main.py' ]);
is($errors, '', 'nothing goes wrong');
like($output, qr/^ok: every group got every message once$/m, 'every group got every message once');
unlike($output, qr/giving up/, '... without waiting for more');
my @killed = map { split /, / } $output =~ /^ +killed: (.*)$/mg;
is("@killed", 'broker bridge webhook archive database web-server analytics-1', '... though each part was killed');
like($output, qr/^plot +\Q$plot\E: /m, 'the plot is made, and where it is is told');

# The plot: its lines, that is to say their titles, by panel.
my ($drawn, $wrong) = run_command([ '/usr/bin/python3', '-c', <<'PYTHON', $plot ]);
import sys
from xml.etree import ElementTree
svg = "{http://www.w3.org/2000/svg}"
for panel in ElementTree.parse(sys.argv[1]).iter(svg + "g"):
    title, *texts = (node.text for node in panel.iter(svg + "text"))
    lines = {path.find(svg + "title").text for path in panel.iter(svg + "path") if path.find(svg + "title") is not None}
    print(title, "|", *sorted(lines))
print(*(node.text.split("; ")[1] for node in ElementTree.parse(sys.argv[1]).iter(svg + "text") if "; killed" in node.text))
PYTHON
is($wrong, '', 'it is XML');
is($drawn, <<'TEXT' =~ s/\n\z//r, 'it has the lines of all groups, and says what was killed');
Published and delivered | analytics archive published threshold
Lag: messages not settled | analytics archive threshold
From the device to receipt, 99 of 100 messages | analytics archive threshold
Delay: age of the oldest message not settled | analytics archive threshold
killed: 1 broker, 2 bridge, 3 webhook, 4 archive, 5 database, 6 web-server, analytics-1
TEXT

$node->stop;
done_testing();
