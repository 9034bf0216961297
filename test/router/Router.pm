# A router and its nodes, for tests.
package Router;

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Why there can be none here; undef: there can.
sub missing
{
	my ($sharedir) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--sharedir' ]);
	return "PL/Proxy is not installed for this PostgreSQL" unless -e "$sharedir/extension/plproxy.control";
	return;
}

# ->new(3): nodes 0 to 2 with iotmq, and a router that knows them as n0 to n2. Each node has the
# others as foreign servers of dblink of these names, for moves.
sub new
{
	my ($class, $count) = @_;
	my $self = bless { nodes => [] }, $class;

	foreach my $name ((map { "n$_" } 0 .. $count - 1), 'router')
	{
		my $cluster = PostgreSQL::Test::Cluster->new($name);
		$cluster->init;
		$cluster->append_conf('postgresql.conf', "autovacuum = off\n");
		$cluster->start;
		if ($name eq 'router') { $self->{router} = $cluster }
		else                   { push @{ $self->{nodes} }, $cluster }
	}
	foreach my $node (@{ $self->{nodes} })
	{
		$node->safe_psql('postgres', 'CREATE EXTENSION iotmq; CREATE EXTENSION dblink');
		foreach my $i (0 .. $count - 1)
		{
			my $other = $self->{nodes}[$i];
			next if $other == $node;
			$node->safe_psql('postgres', sprintf q(
				CREATE SERVER n%d FOREIGN DATA WRAPPER dblink_fdw OPTIONS (host '%s', port '%s', dbname 'postgres');
				CREATE USER MAPPING FOR postgres SERVER n%1$d OPTIONS (user 'postgres')), $i, $other->host, $other->port);
		}
	}
	$self->sql('CREATE EXTENSION iotmq_router CASCADE');
	foreach my $i (0 .. $count - 1)
	{
		$self->sql(sprintf q(CREATE SERVER n%d FOREIGN DATA WRAPPER plproxy OPTIONS (p0 'host=%s port=%s dbname=postgres');
			SELECT iotmq.add_node(%1$d, 'n%1$d')), $i, $self->{nodes}[$i]->host, $self->{nodes}[$i]->port);
	}
	return $self;
}

sub node { return $_[0]{nodes}[ $_[1] ] }

# Runs SQL at the router; dies of an error.
sub sql
{
	my ($self, $sql) = @_;
	return $self->{router}->safe_psql('postgres', $sql);
}

# What SQL at the router says: its output, and its messages with SQLSTATE, without contexts and
# without PL/Proxy's own notice of a connection that had an error.
sub say
{
	my ($self, $sql, @arguments) = @_;
	my ($stdout, $stderr);

	$self->{router}->psql('postgres', "\\set VERBOSITY verbose\n\\set SHOW_CONTEXT never\n$sql",
		stdout => \$stdout, stderr => \$stderr, on_error_stop => 0, @arguments);
	$stderr =~ s/^psql:<stdin>:\d+: //mg;
	$stderr =~ s/^LOCATION:.*\n?//mg;
	$stderr =~ s/^NOTICE:.*dropping stale conn\n?//mg;
	chomp $stderr;
	return join "\n", grep { $_ ne '' } $stdout, $stderr;
}

# A shell command that stops or continues (STOP, CONT) all processes of a node.
sub signal_command
{
	my ($self, $node, $signal) = @_;
	my ($pid) = slurp_file($self->node($node)->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	return "kill -$signal $pid \$(cat /proc/$pid/task/$pid/children)";
}

1;
