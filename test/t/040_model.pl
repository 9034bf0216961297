# The models of the protocols: their small configurations hold, and each mutation that
# their heads name is refuted.  How it is done: test/model/run.
#
# Promise: no-loss, no-two-leases, order-per-device, dead-letter-not-lost

use strict;
use warnings;

use FindBin;
use Test::More;

plan skip_all => 'spin is not installed'
	if system('command -v spin >/dev/null 2>&1') != 0;

open(my $models, '-|', "$FindBin::RealBin/../model/run small") or die "run: $!";
my $configurations = 0;
while (my $line = <$models>)
{
	chomp $line;
	if ($line =~ /^(ok|FAILED) +(.*)/)
	{
		$configurations++;
		is($1, 'ok', $2);
	}
	else
	{
		diag($line);
	}
}
close($models);
is($?, 0, 'all of them were run');
cmp_ok($configurations, '>', 40, 'and they are many');

done_testing();
