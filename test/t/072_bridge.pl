# iotmq bridge: its parser of MQTT packets, by samples and mutations of them, under sanitizers

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir;

system_or_bail('gcc', qw(-g -O1 -std=gnu11 -D_GNU_SOURCE), '-fsanitize=address,undefined',
	qw(-fno-sanitize-recover=all -Iclient/lib -Iclient/mqtt -Iclient/bridge), '-o', "$folder/parse",
	qw(test/client/parse.c client/mqtt/reader.c client/bridge/filter.c client/lib/memory.c));
my ($parsed, $parse_errors) = run_command([ "$folder/parse", 'test/client/packets' ]);
like($parsed, qr/\A\d+ samples and 20000 mutations, with messages in them\z/, 'packets') or diag($parse_errors);

done_testing();
