# A soak of some seconds: samples, a picture and a verdict come out of it.  What the verdict
# finds is tried on samples made by hand.  "make soak" runs one for hours.
#
# Promise: no-loss, little-memory, bystanders-hold-nothing-back

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

my @python = ('/usr/bin/python3', '-B');
my $folder = PostgreSQL::Test::Utils::tempdir_short . '/s';
delete @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE)};

command_ok([ @python, 'test/soak/test_verdict.py' ], 'the verdict finds each kind of failure');
command_ok([ @python, 'test/soak/soak.py', '--folder', $folder, '--seconds', 4 ], 'a soak');

my ($names, @samples) = split /\n/, slurp_file("$folder/results/samples.csv");
my @names = split /,/, $names;
cmp_ok(scalar(@samples), '>=', 2, 'a sample of each lap');
my %last;
@last{@names} = split /,/, $samples[-1], -1;
foreach my $name (qw(time_s log_bytes internal_bytes catalog_bytes publisher_memory consumer_memory))
{
	cmp_ok($last{$name}, '>', 0, "a figure of $name");
}

my $picture = slurp_file("$folder/results/samples.svg");
like($picture, qr/^<svg .*<\/svg>\s*$/s, 'a picture');
unlike($picture, qr/no data/, 'of all that is to be shown');
my $verdict = slurp_file("$folder/results/verdict.txt");
like($verdict, qr/^ok nothing lost, repeated or out of order: 2 laps, 0 violations/m, 'a verdict');
like($verdict, qr/^-- each internal table/m, 'too short for some of it');
like($verdict, qr/^[1-9]\d* passed, 0 failed$/m, 'and their number');

done_testing();
