# Settings that somebody else's database, role or connection may have: all works the same
# under each, from CREATE EXTENSION on.
#
# What a setting asks for is not undone: read-only transactions write nothing, and under
# REPEATABLE READ and SERIALIZABLE consume says which level it wants.
#
# Promise: settings-dont-matter

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;
my $place = $node->basedir . '/place';
mkdir $place or die "$place: $!";
$node->safe_psql('postgres', 'CREATE ROLE scenario_user');
$node->safe_psql('postgres', "CREATE TABLESPACE place LOCATION '$place'");

# Objects that settings name, and some that a search_path could lead to instead of
# PostgreSQL's own.
$node->safe_psql('template1', <<'SQL');
CREATE ACCESS METHOD heap_again TYPE TABLE HANDLER heap_tableam_handler;
CREATE SCHEMA shadow;
CREATE FUNCTION shadow.format(text, VARIADIC "any") RETURNS text LANGUAGE internal AS 'text_format_nv';
CREATE FUNCTION shadow.quote_literal(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION shadow.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''1970-01-01''::timestamptz';
CREATE TABLE shadow.pg_class (oid oid);
CREATE TABLE shadow.pg_roles (oid oid);
SQL

# What the scenario prints, with its errors, in a new database and a session with these
# settings. With create it is this session, too, that makes the extension.
sub play
{
	my ($settings, $create) = @_;

	$node->safe_psql('template1', 'DROP DATABASE IF EXISTS played');
	$node->safe_psql('template1', 'CREATE DATABASE played TEMPLATE template1');
	$node->safe_psql('played', 'CREATE EXTENSION iotmq') unless $create;
	local $ENV{PGOPTIONS} = join ' ', map { "-c $_" } @$settings;
	my ($stdout, $stderr) = run_command(
		[
			'psql', '-XAtq', '-d', $node->connstr('played'),
			($create ? ('-c', 'CREATE EXTENSION iotmq') : ()),
			'-f', 'test/scenario/all.sql'
		]);
	return "$stdout\n$stderr";
}

my $expected = play([], 1);
like($expected, qr/\n0\|0\|0\|0\|0\|0\|0\|0\|0\n$/, 'the scenario runs to its end');

my @settings = (
	['standard_conforming_strings=off', 'escape_string_warning=on'],
	['standard_conforming_strings=off', 'backslash_quote=off', 'escape_string_warning=off'],
	['bytea_output=escape', 'extra_float_digits=-15', 'xmloption=document'],
	['DateStyle=German', 'IntervalStyle=sql_standard', 'TimeZone=America/St_Johns'],
	['DateStyle=SQL,DMY', 'IntervalStyle=postgres_verbose', 'TimeZone=Australia/Lord_Howe'],
	['DateStyle=Postgres,MDY', 'IntervalStyle=iso_8601', 'TimeZone=Asia/Kathmandu'],
	['search_path=shadow,pg_catalog'],
	['search_path='],
	['row_security=off', 'check_function_bodies=off'],
	['default_table_access_method=heap_again'],
	['default_tablespace=place', 'temp_tablespaces=place', 'default_toast_compression=pglz'],
	['transform_null_equals=on', 'array_nulls=off'],
	['quote_all_identifiers=on'],
	['default_transaction_deferrable=on', 'synchronous_commit=off'],
	['plan_cache_mode=force_generic_plan'],
	['plpgsql.variable_conflict=use_variable'],
	['plpgsql.variable_conflict=use_column'],
	['enable_indexscan=off', 'enable_indexonlyscan=off', 'enable_bitmapscan=off'],
	['enable_sort=off', 'enable_hashjoin=off', 'enable_partition_pruning=off'],
	['lock_timeout=1h', 'statement_timeout=1h', 'idle_in_transaction_session_timeout=1h'],
	['session_replication_role=replica'],
	['client_encoding=LATIN1']);
is(play($_, 1), $expected, "@$_") foreach (@settings);
is(play($_, 0), $expected, "@$_, after CREATE EXTENSION") foreach (@settings[0 .. 1], $settings[6], $settings[11]);

# What a session does by itself under a setting, and what it ends with: SQLSTATE, or nothing.
sub state_of
{
	my ($setting, $sql) = @_;

	local $ENV{PGOPTIONS} = "-c $setting";
	my ($rc, $stdout, $stderr) = $node->psql('played', "\\set VERBOSITY sqlstate\n$sql");
	return $stderr =~ /ERROR:  (\w+)/ ? $1 : '';
}

my @writing = (
	q(SELECT iotmq.create_topic('t')), q(SELECT iotmq.add_zone('t', 'z')), q(SELECT iotmq.create_group('t', 'g')),
	q(SELECT iotmq.alter_topic('t', '1 h')), q(SELECT iotmq.alter_group('t', 'g', max_retries => 1)),
	q(SELECT iotmq.publish('t', 'd', '1', 'z')), q(SELECT iotmq.grant_consume('t', 'g', 'scenario_user')),
	q(SELECT iotmq.seek('t', 'g', '-infinity')), q(SELECT iotmq.redrive('t', 'g')),
	q(SELECT iotmq.revoke_consume('t', 'g', 'scenario_user')), q(CALL iotmq.run_maintenance()),
	q(SELECT iotmq.drop_zone('t', 'default')), q(SELECT iotmq.drop_group('t', 'g')), q(SELECT iotmq.drop_topic('t')));
foreach my $level ('repeatable\ read', 'serializable')
{
	is(state_of("default_transaction_isolation=$level", $_), '', "$level: $_") foreach (@writing);
}
$node->safe_psql('played', q(SELECT iotmq.create_topic('t'), iotmq.create_group('t', 'g')));
is(state_of('default_transaction_isolation=serializable', q(SELECT iotmq.consume('t', 'g'))), '25001', 'consume wants READ COMMITTED');
is(state_of('default_transaction_read_only=on', $_ =~ s/'z'/'default'/r), '25006', "read-only: $_") foreach (@writing);
is(state_of('default_transaction_read_only=on', $_), '25006', "read-only: $_")
	foreach (q(SELECT iotmq.consume('t', 'g')), q(SELECT iotmq.fetch('t', 'default', 1)));
is(state_of('default_transaction_read_only=on', $_), '', "read-only: $_")
	foreach (q(SELECT iotmq.messages_of_device('t', 'd')),
	q(SELECT count(*) FROM iotmq.consumer_lag), q(SELECT iotmq.count_lag('t', 'g')));

$node->stop;
done_testing();
