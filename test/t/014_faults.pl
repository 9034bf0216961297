# Five rounds of faults under load: a backend and the postmaster killed, a promotion of an
# asynchronous standby, commits that a crash forgets, clients that stand still.  The checker
# says what was lost, repeated without a reason, or came in a wrong order.  "make faults" has
# more kinds, and draws new seeds.
#
# Promise: no-loss, no-two-leases, exactly-once-effects, order-per-device, durable-commit, offsets-are-the-servers

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{FAULT_ROUNDS} || 5;
my $folder = PostgreSQL::Test::Utils::tempdir_short . '/f';
delete @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE)};
command_ok(
	[
		'/usr/bin/python3', '-B', 'test/faults/faults.py', '--folder', $folder,
		'--rounds', $rounds, '--seed', $ENV{FAULT_SEED} || 0
	],
	"$rounds rounds lose nothing");

done_testing();
