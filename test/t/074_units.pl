# The units for systemd, as they are installed: systemd finds nothing wrong with them, what they
# may do is little, and what they start is a call that the program takes.
#
# Promise: documented

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'systemd-analyze is not here' if system('systemd-analyze --version >/dev/null 2>&1') != 0;

my $folder = PostgreSQL::Test::Utils::tempdir;
system_or_bail('make', '-s', '-C', 'client', 'install', "prefix=$folder");
my $units = "$folder/lib/systemd/system";
local $ENV{SYSTEMD_UNIT_PATH} = "$units:";

# What can't be connected to is a call that was right: see "Exit status" of iotmq(1).
my $unreachable = 3;
my %environment = map { $_ => {} } qw(bridge webhook archive);
foreach my $verb (sort keys %environment)
{
	foreach (split /\n/, slurp_file("$folder/share/doc/iotmq-client/examples/$verb.env"))
	{
		$environment{$verb}{$1} = $2 if /^(\w+)=(.*)$/;
	}
	rename "$units/iotmq-$verb\@.service", "$units/iotmq-$verb\@plant.service" or die;

	my ($output, $errors) = run_command([ 'systemd-analyze', 'verify', '--man=no', "iotmq-$verb\@plant.service" ]);
	is("$output$errors", '', "$verb: nothing is wrong with it");

	($output) = run_command([ 'systemd-analyze', 'security', '--offline=true', '--no-pager', "iotmq-$verb\@plant.service" ]);
	my ($exposure) = $output =~ /exposure level for \S+ ([\d.]+)/;
	cmp_ok($exposure // 10, '<', 2, '... and what it may do is little') or diag($output);

	# As systemd would call it: $OPTIONS is words, ${URL} is one.
	my ($call) = slurp_file("$units/iotmq-$verb\@plant.service") =~ /^ExecStart=(.*)$/m;
	$call =~ s/\$\{(\w+)\}/'$environment{$verb}{$1}'/g;
	$call =~ s/\$(\w+)/$environment{$verb}{$1}/g;
	$call =~ s{/etc/iotmq/bridge-%i.rules}{$folder/share/doc/iotmq-client/examples/bridge.rules};
	$call =~ s{/var/lib/iotmq}{$folder};
	local $ENV{PGHOST} = '/nowhere';
	is(system("$call >/dev/null 2>&1") >> 8, $unreachable, '... and it is a call that is right') or diag($call);
}

done_testing();
