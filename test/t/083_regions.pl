# The demo with two regions, small and short: one falls under load, the other goes on, and the
# first one comes back as its mirror. What was lost and what came twice had to be.
#
# Promise: no-loss, mirrors-carry-groups, figures-agree

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($a, $b) = map { PostgreSQL::Test::Cluster->new($_) } qw(a b);
foreach my $node ($a, $b)
{
	$node->init;
	$node->append_conf('postgresql.conf', "max_connections = 40\n");
	$node->start;
}

my $folder = PostgreSQL::Test::Utils::tempdir();
delete @ENV{qw(DATA KEEP RETENTION SEGMENT BATCH WINDOW FAULTS CUT)};
local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($a->host, $a->port, 'postgres');
local @ENV{qw(OTHER_PGHOST OTHER_PGPORT)} = ($b->host, $b->port);
local @ENV{qw(ARCHIVE FOLDER CLIENT PLOT PYTHONDONTWRITEBYTECODE)} = ("$folder/archive", "$folder/demo", 'client', "$folder/run.svg", 1);
local @ENV{qw(REGIONS SECONDS_TO_RUN RATE DEVICES PUBLISHERS ZONES)} = (2, 6, 200, 40, 2, 2);

my ($output, $errors) = run_command([ '/usr/bin/python3', 'demo/main.py' ]);
is($errors, '', 'nothing goes wrong');
like($output, qr/^ok: nothing is lost but /m, 'the count is right');
unlike($output, qr/giving up/, '... without waiting for more');
my @steps = $output =~ /^ +(cut|killed: region a|region b: 3 zones promoted|region a is back)/mg;
is("@steps", 'cut killed: region a region b: 3 zones promoted region a is back', 'all of it has happened');

# What was lost is shown, and there is some: otherwise this would show nothing.
my ($tail, $again, $lost) = $output =~ /^tail +(\d+) messages were at a only; (\d+) of them the broker sent again, (\d+) are lost/m;
cmp_ok($tail, '>', 0, 'a had something that b had not');
is($again + $lost, $tail, 'of which each came again or is lost');
my ($zones) = $output =~ /^tail .*\n((?: +.*\n)*)/m;
my $dropped = 0;
while ($zones =~ /has dropped (\d+) messages.*\n +DETAIL: +Their offsets were (\d+) to (\d+)\./g)
{
	$dropped += $1;
	cmp_ok($3 - $2 + 1, '>=', $1, 'with its offsets');
}
is($dropped, $tail, 'a says how much it has dropped');
my ($twice, $explained) = $output =~ /^ +analytics +[\d,]+ +[\d,]+ +\d+ +\d+ +(\d+) +(\d+) +0$/m;
cmp_ok($twice, '>', 0, 'analytics did something at a that b did not know of');
is($explained, $twice, 'and nothing else twice');

# The count sees what is wrong: what came twice although b knew that it was settled, or twice at
# b; what no device has sent; what is lost, and was in no tail.
is($b->safe_psql('postgres', <<'SQL'), '1', 'things go wrong');
INSERT INTO demo.settled
SELECT 'analytics', id
FROM demo.delivered CROSS JOIN LATERAL unnest(ids) AS id
WHERE consumer_group = 'analytics'
GROUP BY id
HAVING count(*) > 1
LIMIT 1;
INSERT INTO demo.delivered
SELECT 'archive', 2, ARRAY[min(id), 1], '{0,0}'
FROM demo.delivered CROSS JOIN LATERAL unnest(ids) AS id
WHERE consumer_group = 'archive' AND at > (SELECT noted_at FROM demo.promotion);
UPDATE demo.delivered AS d
SET ids = array_remove(d.ids, m.id)
FROM (
	SELECT max(id) AS id
	FROM demo.delivered CROSS JOIN LATERAL unnest(ids) AS id
	WHERE consumer_group = 'archive' AND at > (SELECT noted_at FROM demo.promotion)
) AS m
WHERE d.consumer_group = 'archive' AND m.id = ANY (d.ids)
RETURNING 1;
SQL
{
	local @ENV{qw(PGHOST PGPORT)} = ($b->host, $b->port);
	($output, $errors) = run_command([ '/usr/bin/python3', '-c', <<'PYTHON' ]);
import sys
sys.path.append("demo")
from aftermath import check_groups
from common import connect
print(*check_groups(connect("check").cursor()), sep="\n")
PYTHON
}
is($errors, '', 'they are counted');
like($output, qr/^\Q$_\E$/m, $_)
	foreach ('analytics: 1 twice without a reason', 'analytics: 1 again at b that were settled at a',
	"archive: 1 lost that were not in a's tail", 'archive: 1 twice without a reason', 'archive: 1 unknown');

$_->stop foreach $a, $b;
done_testing();
