#!/usr/bin/perl
#
# Publishes measurements, a line each: device, number of the measurement, degrees.
#
# A batch is published until there is an answer. The number is the message's key, so that
# one whose answer was lost is not stored twice.

use strict;
use warnings;
use DBI;

my $dbh;

sub publish
{
	my @lines = map { [ split ] } @_;

	$dbh //= DBI->connect('dbi:Pg:', undef, undef, { AutoCommit => 1, RaiseError => 1, PrintError => 0 });
	$dbh->do(q{SELECT iotmq.publish_batch('telemetry', ?, ?::jsonb[], message_keys => ?)}, undef,
		[ map { $_->[0] } @lines ], [ map { qq({"celsius": $_->[2]}) } @lines ], [ map { $_->[1] } @lines ]);
}

until (eof STDIN)
{
	my @lines = grep { defined } map { scalar <STDIN> } 1 .. 100;

	until (eval { publish(@lines); 1 })
	{
		die $@ if $dbh && $dbh->ping;		# not the connection
		warn $@;
		undef $dbh;
		sleep 1;
	}
}
