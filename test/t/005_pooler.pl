# A pooler in transaction mode: each call of a client may run in another server
# process, and a process serves many clients, with DISCARD ALL between them.
#
# Promise: no-session-state

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION iotmq;
SELECT iotmq.create_topic('t', ARRAY['a', 'b']);
SELECT iotmq.create_group('t', 'g', start_from => '-infinity');
SELECT iotmq.create_group('t', 'h', start_from => '-infinity');
SQL

# the server processes of the pool, used in turn
my @pool = map { $node->background_psql('postgres') } (1 .. 3);
my $turn = 0;

sub call
{
	my ($query) = @_;
	return $pool[ $turn++ % @pool ]->query_safe($query);
}

# a client that settles, extends and reads on other connections than it
# consumed on, and one of another group in between
foreach my $round (1 .. 6)
{
	my $zone = $round % 2 ? 'a' : 'b';
	call(qq(SELECT iotmq.publish('t', 'd', '$round', zone => '$zone')));
	my ($lease, $payload) = split /\|/,
	  call(q(SELECT lease_id, payload FROM iotmq.consume('t', 'g')));
	is($payload, $round, "round $round: consumed");
	is(call(q(SELECT payload FROM iotmq.consume('t', 'h'))),
		$round, 'by the other group');
	is(call(qq(SELECT iotmq.extend($lease, '1 h') > now())), 't', 'extended');
	is(call(qq(SELECT iotmq.ack($lease))), 1, 'settled');
	call('DISCARD ALL') if $round > 2;
}

# nothing that is remembered in a process outlives the topic it was about
call(q(SELECT iotmq.drop_topic('t', force => true)));
call(q(SELECT iotmq.create_topic('t', ARRAY['b', 'a'])));
call(q(SELECT iotmq.create_group('t', 'g', start_from => '-infinity')));
foreach my $n (1 .. 3)
{
	call(qq(SELECT iotmq.publish('t', 'd', '$n', zone => 'b')));
	is(call(q(SELECT payload FROM iotmq.consume('t', 'g', zone => 'b'))),
		$n, "made again, connection $n: consumed");
	call('SELECT');
}

# nor does a claim of one process get in the way of another's
call(qq(SELECT iotmq.publish('t', 'd', '4', zone => 'a')));
is($pool[0]->query_safe(q(BEGIN; SELECT payload FROM iotmq.consume('t', 'g'))),
	4, 'consumed in a transaction');
$pool[0]->query_safe('ROLLBACK; DISCARD ALL');
is($pool[1]->query_safe(q(SELECT payload FROM iotmq.consume('t', 'g'))),
	4, 'rolled back, and consumed elsewhere');

$_->quit foreach @pool;
$node->stop;
done_testing();
