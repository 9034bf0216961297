# ALTER EXTENSION iotmq UPDATE: what comes of an older version is what a fresh install of
# today's makes, down to comments and rights, and what the older one held goes on.
#
# Frozen install scripts of released versions are test/upgrade/iotmq--*.sql; there are none
# yet.  So a version is made up of today's, with a column and a function and a view less,
# a function of another body and one that is no more, another comment and a right too many.
# The upgrade script is what a real one would be.
#
# Promise: upgrade

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

my $dir = $node->config_data('--sharedir') . '/extension';
plan skip_all => "the folder of install scripts can't be written to" unless -w $dir;
my $version = $node->safe_psql('postgres', q{SELECT default_version FROM pg_available_extensions WHERE name = 'iotmq'});
my $install = slurp_file("$dir/iotmq--$version.sql");
my @made;
END { unlink @made }

sub write_script
{
	my ($name, $text) = @_;
	unlink "$dir/iotmq--$name.sql";    # may be a link to the machine's own
	append_to_file("$dir/iotmq--$name.sql", $text);
	push @made, "$dir/iotmq--$name.sql";
}

# Replaces what must be there once.
sub replace
{
	my ($text, $what, $by) = @_;
	my $n = () = $$text =~ /$what/g;
	is($n, 1, "the install script has one $what");
	$$text =~ s/$what/$by/;
}

sub inventory
{
	my ($database) = @_;
	return $node->safe_psql($database, slurp_file('test/upgrade/inventory.sql'));
}

sub is_like_fresh
{
	my ($database, $name) = @_;
	my @fresh  = split /\n/, inventory('fresh');
	my @updated = split /\n/, inventory($database);
	my (%fresh, %updated);
	@fresh{@fresh}     = ();
	@updated{@updated} = ();
	cmp_ok(scalar @fresh, '>', 1000, 'there is something to compare');
	is(join("\n", grep { !exists $updated{$_} } @fresh), '', "$name: nothing of a fresh install is missing");
	is(join("\n", grep { !exists $fresh{$_} } @updated), '', "$name: nothing is left of the older version");
}

# The statement of today's script that begins so, up to its semicolon at the end of a line.
sub statement
{
	my ($beginning) = @_;
	my @found = $install =~ /^(\Q$beginning\E.*?;)$/msg;
	is(scalar @found, 1, "the install script has one $beginning");
	return "$found[0]\n";
}

# A function's: SQL and PL/pgSQL end by their dollars, C by its quoted name.
sub function
{
	my ($name) = @_;
	my @found = $install =~ /^(CREATE FUNCTION iotmq\.$name\(.*?(?:^\$\$|AS 'MODULE_PATHNAME'[^;]*);)$/msg;
	is(scalar @found, 1, "the install script has one function $name");
	return "$found[0]\n";
}

my $run = ($install =~ /CREATE TABLE (\w+\.maintenance_run)/)[0];
my $older = $install;
replace(\$older, qr/,\s*skipped text\[\] NOT NULL(?=\s*\);)/,       '');
replace(\$older, qr/,\s*(?:\w+\.)?skipped(?=\s*FROM \Q$run\E)/,     '');
replace(\$older, qr/^COMMENT ON COLUMN iotmq\.maintenance_run\.skipped.*?;$/m, '');
my $comment = statement("COMMENT ON TABLE $run");
my $body    = function('topic_table') =~ s/^CREATE/CREATE OR REPLACE/r;
write_script('0.0.1', $older . <<SQL);
DROP FUNCTION iotmq.give_up;
DROP VIEW iotmq.zone_epoch;
CREATE FUNCTION iotmq.formerly() RETURNS int LANGUAGE sql RETURN 1;
CREATE OR REPLACE FUNCTION iotmq.topic_table(topic text) RETURNS regclass LANGUAGE sql RETURN NULL;
COMMENT ON TABLE $run IS 'what it was';
GRANT EXECUTE ON PROCEDURE iotmq.run_maintenance TO PUBLIC;
SQL

my $columns = join '', $install =~ /^(COMMENT ON COLUMN iotmq\.zone_epoch\..*?;\n)/mg;
write_script("0.0.1--$version", join "\n",
	"ALTER TABLE $run ADD COLUMN skipped text[] NOT NULL DEFAULT '{}';",
	"ALTER TABLE $run ALTER COLUMN skipped DROP DEFAULT;",
	statement('CREATE VIEW iotmq.maintenance_run') =~ s/^CREATE/CREATE OR REPLACE/r,
	statement('COMMENT ON COLUMN iotmq.maintenance_run.skipped'),
	function('give_up'), statement('COMMENT ON FUNCTION iotmq.give_up'),
	statement('CREATE VIEW iotmq.zone_epoch'), statement('COMMENT ON VIEW iotmq.zone_epoch'), $columns,
	'DROP FUNCTION iotmq.formerly();',
	$body, $comment,
	'REVOKE EXECUTE ON PROCEDURE iotmq.run_maintenance FROM PUBLIC;');

$node->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(fresh updated);
$node->safe_psql('fresh', 'CREATE EXTENSION iotmq');

# The older SQL works with today's library.
$node->safe_psql('updated', <<'SQL');
CREATE EXTENSION iotmq VERSION '0.0.1';
SELECT iotmq.create_topic('t', '{a,b}');
SELECT iotmq.create_group('t', 'g', 'orderly');
SELECT count(iotmq.publish('t', 'd' || n % 3, to_jsonb(n), 'a')) FROM generate_series(1, 10) AS n;
CREATE TABLE held AS SELECT * FROM iotmq.consume('t', 'g', 4);
SELECT iotmq.ack((SELECT max(lease_id) FROM held), (SELECT array_agg(msg_offset) FROM held WHERE msg_offset < 3));
SQL
cmp_ok(inventory('updated'), 'ne', inventory('fresh'), 'the older version is another one');

$node->safe_psql('updated', 'ALTER EXTENSION iotmq UPDATE');
is_like_fresh('updated', 'the made-up version');
is($node->safe_psql('updated', q{SELECT extversion FROM pg_extension WHERE extname = 'iotmq'}), $version, 'the version');

# What there was goes on.
is($node->safe_psql('updated', q{SELECT iotmq.ack((SELECT max(lease_id) FROM held))}), 2, 'a lease is acknowledged');
is($node->safe_psql('updated', q{SELECT string_agg(payload::text, ' ' ORDER BY msg_offset) FROM iotmq.consume('t', 'g', 100)}),
	'5 6 7 8 9 10', 'the rest is delivered');
is($node->safe_psql('updated', q{SELECT iotmq.publish('t', 'd', '1', 'a')}), 11, 'offsets go on');
$node->safe_psql('updated', 'CALL iotmq.run_maintenance()');

# Every released version.
foreach my $file (glob 'test/upgrade/iotmq--*.sql')
{
	my ($released) = $file =~ /iotmq--(.*)\.sql/;
	write_script($released, slurp_file($file));
	$node->safe_psql('postgres', 'CREATE DATABASE released');
	$node->safe_psql('released', "CREATE EXTENSION iotmq VERSION '$released'; ALTER EXTENSION iotmq UPDATE");
	is_like_fresh('released', $released);
	$node->safe_psql('postgres', 'DROP DATABASE released');
}

$node->stop;
done_testing();
