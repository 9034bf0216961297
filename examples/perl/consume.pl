#!/usr/bin/perl
#
# Stores the readings of a topic, each exactly once: in one transaction with its
# acknowledgement.  SIGTERM ends it after the batch at hand.

use strict;
use warnings;
use DBI;
use DBD::Pg qw(:pg_types);
use JSON::PP;

my $lease = 60;		# seconds
my $stopping;
$SIG{TERM} = sub { $stopping = 1 };

# The reading in a message.  What dies here is the reason of its failure.
sub work
{
	my ($payload, $body) = @_;

	die "not a reading: $body\n" if defined $body;
	my $message = decode_json($payload);
	sleep($message->{pause} // 0);		# stands for what takes long
	die "not plausible: $message->{celsius}\n" if $message->{celsius} > 1000;
	return $message->{celsius};
}

# So that what dies of an error of the database has its SQLSTATE.
sub fail
{
	my ($message, $handle) = @_;

	die { message => $message, state => $handle->state };
}

sub consume
{
	my ($dbh) = @_;

	until ($stopping)
	{
		my $messages = $dbh->selectall_arrayref(<<'SQL', undef, "$lease s");
SELECT lease_id, zone, msg_offset, device_id, payload, body
FROM iotmq.consume('telemetry', 'analytics', 100, invisible_for => ?, wait => '5 s')
SQL
		next if !@$messages || eval { handle($dbh, @$messages); 1 };
		die $@ if $@->{state} ne '55000';		# the lease is over
		warn "others have these messages, or they come again\n";
	}
}

sub handle
{
	my ($dbh, @messages) = @_;
	my $lease_id = $messages[0][0];
	my $extended = time;
	my (@done, @failed);

	foreach (@messages)
	{
		my (undef, $zone, $msg_offset, $device_id, $payload, $body) = @$_;
		my $celsius = eval { work($payload, $body) };
		if (defined $celsius) { push @done, [ $zone, $msg_offset, $device_id, $celsius ] }
		else                  { push @failed, [ $msg_offset, $@ ] }
		next if time < $extended + $lease / 3;
		$dbh->do('SELECT iotmq.extend(?, ?)', undef, $lease_id, "$lease s");
		$extended = time;
	}
	store($dbh, $lease_id, \@done, \@failed);
}

sub store
{
	my ($dbh, $lease_id, $done, $failed) = @_;

	eval
	{
		$dbh->begin_work;
		$dbh->do(<<'SQL', undef, map { my $n = $_; [ map { $_->[$n] } @$done ] } 0 .. 3);
INSERT INTO reading (zone, msg_offset, device_id, celsius)
SELECT * FROM unnest(?::text[], ?::bigint[], ?::text[], ?::numeric[])
SQL
		$dbh->do('SELECT iotmq.settle(?, ?, nacks => ?, reasons => ?)', undef, $lease_id,
			[ map { $_->[1] } @$done ], [ map { $_->[0] } @$failed ],
			[ map { $_->[1] =~ tr/\0//dr } @$failed ]);		# PostgreSQL's text has no NUL
		$dbh->commit;
		1;
	} and return;

	my $error = $@;
	$dbh->rollback;
	die $error if $error->{state} !~ /^2[23]/;
	if (@$done + @$failed == 1)
	{
		store($dbh, $lease_id, [], [ [ $done->[0][1], $error->{message} ] ]);
		return;
	}
	store($dbh, $lease_id, [$_], []) foreach @$done;		# which of them is it?
	store($dbh, $lease_id, [], [$_]) foreach @$failed;
}

until ($stopping)
{
	eval
	{
		my $dbh = DBI->connect('dbi:Pg:', undef, undef, { AutoCommit => 1, PrintError => 0, HandleError => \&fail });
		consume($dbh);
		$dbh->disconnect;
		1;
	} and next;
	warn $@->{message}, "\n";
	sleep 1;		# then with a new connection
}
