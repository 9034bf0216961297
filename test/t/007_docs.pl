# The documentation: its SQL, as it is printed, and whether the reference is complete.
#
# README.md and each page of docs/ has a fresh database of its own. There every block
# of the page that begins with ```sql runs, in order, in one psql session. Where a
# ```text block follows it at once, that is its output; a block without one must not
# raise an error. Blocks in other languages don't run. Roles are the server's, not a
# database's: no two pages may make the same.
#
# What differs from run to run compares equal: lease ids, times, and with them
# the width of columns.
#
# The reference has every function with its arguments, every view and type with its
# columns, unless the comment says that it is internal.
#
# Promise: documented

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my @pages = ('README.md', map { m,(docs/[^/]+)$, } sort glob "$root/docs/*.md");
cmp_ok(scalar(@pages), '>', 10, 'there are pages');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

my $examples = 0;
foreach my $page (@pages)
{
	my @blocks = blocks_of(slurp_file("$root/$page"));
	next if !@blocks;

	$examples += grep { defined $_->{output} } @blocks;
	check_page($page, @blocks);
}
cmp_ok($examples, '>=', 40, 'the pages have examples with output');

check_reference(slurp_file("$root/docs/reference.md"));

$node->stop;
done_testing();

# Each block of SQL: the line it is on, its text, its output.
sub blocks_of
{
	my ($text) = @_;
	my @blocks;

	while ($text =~ /^```sql\n(.*?)^```\n(?:\n*```text\n(.*?)^```\n)?/msg)
	{
		my ($sql, $output) = ($1, $2);
		my $line = 1 + (substr($text, 0, $-[0]) =~ tr/\n//);
		push @blocks, { line => $line, sql => $sql, output => $output };
	}
	return @blocks;
}

# Errors are where they belong among the results, as psql writes each at once.
# The lines of our own functions that an error passed through are left out.
sub check_page
{
	my ($page, @blocks) = @_;
	my $script = join '', map { "\\echo === $_->{line}\n$_->{sql}" } @blocks;
	my $output = '';

	$node->safe_psql('postgres', qq(CREATE DATABASE "$page"));
	IPC::Run::run [ 'psql', '-X', '-v', 'SHOW_CONTEXT=never', '-d', $node->connstr($page) ],
	  '<', \$script, '>', \$output, '2>&1';
	my (undef, %output) = split /^=== (\d+)\n/m, $output;

	foreach my $block (@blocks)
	{
		my $got = $output{ $block->{line} } // 'nothing';
		my $name = "$page, line $block->{line}";

		if (defined $block->{output})
		{
			is(mask($got), mask($block->{output}), $name);
		}
		else
		{
			unlike($got, qr/^(?:ERROR|FATAL|nothing|invalid|\\)/m, $name);
		}
	}
}

sub check_reference
{
	my ($text) = @_;
	my ($reference) = $text =~ /^# Reference\n(.*?)^## Errors\n/ms;

	# Each signature in it, without types and defaults: "name(argument, argument)".
	my %listed;
	while ($reference =~ /^(?:CALL )?(\w+)(\((?:[^()]|(?2))*\))/mg)
	{
		my ($name, $arguments) = ($1, substr($2, 1, -1));
		$arguments =~ s/\([^()]*\)//g;
		my @names = map { /(\w+)/ } split /,/, $arguments;
		$listed{"$name(" . join(', ', @names) . ')'} = 1;
	}

	$node->safe_psql('postgres', 'CREATE EXTENSION iotmq');
	my @functions = split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT format('%s(%s)', proname, array_to_string(proargnames[1:pronargs], ', '))
FROM pg_proc
WHERE pronamespace = 'iotmq'::regnamespace
	AND coalesce(obj_description(oid, 'pg_proc'), '') NOT LIKE 'internal:%'
ORDER BY 1
SQL
	cmp_ok(scalar(@functions), '>', 20, 'there are public functions');
	ok($listed{$_}, "the reference has $_") foreach @functions;

	# What has columns is described from its name on to the next thing.
	my @texts = split /^(?=\*\*|TYPE |\w+\()/m, $reference;
	my @relations = split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT c.relname, string_agg(a.attname, ' ' ORDER BY a.attnum)
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'iotmq'::regnamespace
	AND (c.relkind IN ('v', 'c') OR c.relname = 'maintenance_run')
GROUP BY c.relname
ORDER BY c.relname
SQL
	cmp_ok(scalar(@relations), '>', 10, 'there are views');
	foreach (@relations)
	{
		my ($name, $columns) = split /\|/;
		my ($description) = grep { /\A.*(?:TYPE $name |\*\*$name\*\*)/ } @texts;
		my @missing = grep { ($description // '') !~ /\b$_\b/ } split / /, $columns;
		is("@missing", '', "the reference has all columns of $name");
	}
}

sub mask
{
	my ($text) = @_;

	$text =~ s/\b\d{13,}\b/LEASE/g;
	$text =~ s/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?[+-]\d\d/TIME/g;
	$text =~ s/-{3,}/---/g;
	$text =~ s/ +/ /g;
	$text =~ s/^ | $|\n+\z//mg;
	return $text;
}
