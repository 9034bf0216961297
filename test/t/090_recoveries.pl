# What one recovery after another leaves of the gaps in a zone's offsets, and of the epoch.
# Promise: no-loss
#
# A gap is there from when the first publisher of an epoch has moved the zone's sequence,
# whatever becomes of his message, and stays known whatever is dropped, or lost, afterwards.
# An epoch is begun once, even if nothing of what was published in it has come to the disk.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $e = 4294967296;    # the first offset of epoch 1

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
max_prepared_transactions = 5
restart_after_crash = on
autovacuum = off
shared_buffers = 16MB
bgwriter_lru_maxpages = 0
});
$node->start;

# Each part has a database of its own, whose epochs begin with 0.
my $db;

sub begin
{
	my ($name, $options) = @_;
	$db = $name;
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, "CREATE EXTENSION iotmq;
		SELECT iotmq.create_topic('t'" . ($options // '') . ");
		SELECT iotmq.create_group('t', 'g', start_from => '-infinity')");
	return;
}

sub publish
{
	my ($n, $on) = @_;
	return ($on // $node)->safe_psql($db, "SELECT iotmq.publish('t', 'd', to_jsonb(i)) FROM generate_series(1, $n) AS i");
}

sub roll_back
{
	return $node->safe_psql($db, "BEGIN; SELECT iotmq.publish('t', 'd', '0'); ROLLBACK");
}

sub crash
{
	$node->stop('immediate');
	$node->start;
	return;
}

# (epoch, last_before, first_offset, has begun) of each gap
sub gaps
{
	return $node->safe_psql($db,
		'SELECT epoch, last_before, first_offset, began_at IS NOT NULL FROM iotmq.zone_epoch ORDER BY epoch');
}

# Where a reader that comes with that offset is sent on to; undef: nowhere
sub sent_on
{
	my ($offset) = @_;
	my ($status, $out, $err) = $node->psql($db,
		"\\set VERBOSITY verbose\nSELECT count(*) FROM iotmq.fetch('t', 'default', $offset)");
	return $err =~ /22023.*Go on at offset (\d+)\./s ? $1 : undef;
}

sub lag
{
	return $node->safe_psql($db, q{SELECT lag_messages, iotmq.count_lag('t', 'g') FROM iotmq.group_lag});
}

sub maintain
{
	my ($at) = @_;
	$node->safe_psql($db, 'CALL iotmq.run_maintenance(' . ($at // '') . ')');
	return;
}

# Both gaps of two recoveries stay, the first of whose epochs began with a message that was
# rolled back; and one that is noted before anything is published has its time later.
begin('twice');
publish(3);
crash();
is(roll_back(), $e, 'the first message of an epoch is rolled back');
is(gaps(), "1|3|$e|f", 'its gap is there already');
is(sent_on(5), $e, 'and readers are told');
maintain();
is(gaps(), "1|3|$e|f", 'noted, it has no beginning yet');
publish(2);
is(gaps(), "1|3|$e|t", 'it has begun');
crash();
is(publish(1), 2 * $e, 'a second recovery');
my $both = "1|3|$e|t\n2|" . ($e + 2) . '|' . 2 * $e . '|t';
is(gaps(), $both, 'both gaps are there');
is(lag(), '7|6', 'and are no lag, as what was rolled back is');
maintain();
is(gaps(), $both, 'noted');
maintain(q{now() + interval '10 days'});
maintain(q{now() + interval '10 days'});
is($node->safe_psql($db, 'SELECT count(*) FROM iotmq_topic.t'), '0', 'all is dropped');
is(gaps(), $both, 'and the gaps are still there');
is(sent_on(5), $e, 'a reader of the first epoch is told');
is(sent_on($e + 4), 2 * $e, 'one of the second, too');
is(sent_on($e + 3), undef, 'one that has read nothing that was lost goes on');
is(sent_on(3), undef, 'so does one behind the earliest offset');

# The same without maintenance between the two recoveries and retention.
begin('late');
publish(3);
crash();
roll_back();
publish(2);
crash();
roll_back();
publish(1);
maintain(q{now() + interval '10 days'});
is($node->safe_psql($db, 'SELECT count(*) FROM iotmq_topic.t'), '0', 'retention drops all at once');
is(gaps(), "1|3|$e|t\n2|" . ($e + 2) . '|' . 2 * $e . '|t', 'and notes what it is about to hide');

# What is left begins with an offset of a later epoch: the earliest offset moves over the gap.
begin('emptied');
publish(3);
$node->safe_psql($db, 'DELETE FROM iotmq_topic.t');
crash();
roll_back();
is(publish(1), $e + 1, 'a zone without its first epoch');
maintain();
is($node->safe_psql($db, 'SELECT earliest_offset FROM iotmq.topic_stats'), $e + 1, 'its earliest offset moves on');
is(gaps(), "1|0|$e|t", 'and the gap is noted before');
is(sent_on(4), $e, 'a reader is told');

# A segment that somebody drops shows a gap no more than one that retention drops.
begin('by_hand');
publish(3);
crash();
roll_back();
$node->safe_psql($db, 'DROP TABLE ' . $node->safe_psql($db, 'SELECT DISTINCT tableoid::regclass FROM iotmq_topic.t'));
maintain();
is(publish(1), $e + 1, 'the present segment is dropped by hand');
maintain();
like(gaps(), qr/^1\|\d\|$e\|t$/, 'and the gap is there');
is(sent_on(5), $e, 'a reader is told');

# The epoch begins with a publish that writes nothing.
begin('keyed', q{, dedup_window => '1 hour'});
my $keyed = q{SELECT iotmq.publish('t', 'd', '1', message_key => 'k')};
$node->safe_psql($db, $keyed);
crash();
is($node->safe_psql($db, $keyed), '1', 'a message that is there is not published again');
is(gaps(), "1|1|$e|f", 'but the sequence has moved: there is a gap');
is($node->safe_psql($db, 'SELECT end_offset FROM iotmq.topic_stats'), $e, 'up to the end');
is(lag(), '1|1', 'which is no lag');
is(sent_on(3), $e, 'and a reader is told');
maintain();
crash();
is(publish(1), 2 * $e, 'an epoch in which nothing was written is used');
is(gaps(), "1|1|$e|f\n2|" . ($e - 1) . '|' . 2 * $e . '|t', 'gaps do not overlap');
is(lag(), '2|2', 'and are counted once');
is($node->safe_psql($db, 'SELECT messages_estimate FROM iotmq.topic_stats'), '2', 'by all');
is(sent_on(3), $e, 'a reader of before is told');
is(sent_on($e), undef, 'and goes on where he is sent');

# A prepared transaction of the epoch before may still commit: the gap begins behind it.
begin('prepared');
$node->safe_psql($db, q{BEGIN; SELECT iotmq.publish('t', 'd', '1'); PREPARE TRANSACTION 'p'});
crash();
publish(1);
maintain();
is(gaps(), "1|1|$e|t", 'what is prepared is there');
$node->safe_psql($db, q{COMMIT PREPARED 'p'});
is($node->safe_psql($db, q{SELECT count(*) FROM iotmq.fetch('t', 'default', 1)}), '2', 'and is read');

# While a segment can't be read nobody can tell where the gap begins.
begin('unreadable');
publish(3);
crash();
publish(1);
$node->safe_psql($db, 'ALTER TABLE iotmq_topic.t ALTER COLUMN tag TYPE varchar');
my ($status, $out, $err) = $node->psql($db, "\\set VERBOSITY sqlstate\nSELECT * FROM iotmq.fetch('t', 'default', 3)");
like($err, qr/55000/, 'a reader of a segment that can not be read is not sent on');
maintain();
is($node->safe_psql($db, 'SELECT count(*) FROM iotmq_internal.zone_gap'), '0', 'and no gap is noted');
$node->safe_psql($db, 'ALTER TABLE iotmq_topic.t ALTER COLUMN tag TYPE text');
maintain();
is($node->safe_psql($db, 'SELECT last_before FROM iotmq_internal.zone_gap'), '3', 'until it can be read');

# A crash that forgets all that was published in an epoch: the WAL writer, which would have
# written it, stands still before it, and is then killed.
begin('forgotten');
publish(3);
crash();
my $wal_writer = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'};
my $pid = $node->safe_psql('postgres', $wal_writer);
kill 'STOP', $pid;
is($node->safe_psql($db, q{SET synchronous_commit = off; SELECT iotmq.publish('t', 'd', '"forgotten"')}), $e,
	'a message is published');
is($node->safe_psql($db, qq{SELECT payload FROM iotmq.fetch('t', 'default', $e)}), '"forgotten"', 'and read');
kill 'KILL', $pid;
$node->poll_query_until('postgres', "SELECT ($wal_writer) <> $pid");
is($node->safe_psql($db, q{SELECT count(*) FROM iotmq.fetch('t', 'default', 1)}), '3', 'and forgotten');
is(publish(1), 2 * $e, 'its offset is not given out again');
is(gaps(), '2|3|' . 2 * $e . '|t', 'it lies in the gap');
is(sent_on($e + 1), 2 * $e, 'and who has read it is told');

# A standby that has got nothing of an epoch, and is promoted after it.
begin('promoted');
publish(3);
$node->backup('first');
my ($first, $second) = map { PostgreSQL::Test::Cluster->new($_) } ('first', 'second');
promote($first, $node);
$first->backup('second');
is(publish(1, $first), $e, 'a promotion');
promote($second, $first);
is(publish(1, $second), 2 * $e, 'one of a standby that does not know of its epoch begins another one');

$_->stop for $second, $first, $node;
done_testing();

sub promote
{
	my ($standby, $primary) = @_;
	$standby->init_from_backup($primary, $standby->name);
	$standby->set_standby_mode;
	$standby->start;
	$standby->promote;
	$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
	return;
}
