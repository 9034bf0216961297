# The plots: what tools/plot.py makes of figures of every kind, also of none, of one, of
# gaps and of huge ones.
#
# Promise: figures-agree

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

command_ok([ '/usr/bin/python3', '-B', 'test/plot/test_plot.py' ], 'plots are what they should be');

done_testing();
