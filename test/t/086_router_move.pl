# Zones that move between the nodes of a router: under load, and with a crash between each two
# steps.
#
# Promise: one-door, no-loss, offsets-are-the-servers

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../router";
use IPC::Run;
use PostgreSQL::Test::Utils;
use Router;
use Test::More;

if (my $why = Router::missing()) { plan skip_all => $why }

my $router = Router->new(3);
my $connection = sprintf 'host=%s port=%s dbname=postgres user=%s', $router->{router}->host, $router->{router}->port, $router->sql('SELECT current_user');

# A slow machine must not cut calls short that wait for a move.
$router->sql(q{ALTER DATABASE postgres SET iotmq_router.node_timeout = '3 min'});
$router->sql(q{SELECT iotmq.create_topic('t', '{}'), iotmq.place_zone('t', 'busy', 0), iotmq.add_zone('t', 'busy'),
	iotmq.create_group('t', 'g'), iotmq.create_group('t', 'idle', start_from => '-infinity')});

# Starts publishers and consumers of a zone; call the result to end them, and get what they say.
sub load
{
	my ($zone) = @_;
	my ($in, $out) = ('', '');
	my $run = IPC::Run::start([ 'python3', 'test/router/load.py', $connection, 't', 'g', $zone ], '<', \$in, '>', \$out, IPC::Run::timeout(600));
	$run->pump until $out =~ /ready\n/;
	return sub {
		$in = "end\n";
		$run->finish;
		return $out =~ s/ready\n//r;
	};
}

# ---- under load ----

my $end = load('busy');
$router->sql(q{SELECT iotmq.pause_group('t', 'idle'), iotmq.resume_group('t', 'idle')});
my $held = $router->sql(q{SELECT DISTINCT lease_id FROM iotmq.consume('t', 'idle', 5, zone => 'busy', invisible_for => '1 h')});
my ($waits) = split /\n/, $router->sql(q{SELECT lease_id FROM iotmq.consume('t', 'idle', 2, zone => 'busy')});
$router->sql("SELECT iotmq.settle($waits, nacks => ARRAY(SELECT msg_offset FROM iotmq.fetch('t', 'busy', 6, 1)), rest => 'reject', delay => '1 h', reasons => '{later}')");
is($router->sql(q{SELECT count(*) FROM iotmq.waiting_message WHERE consumer_group = 'idle'}) . ' ' . $router->sql(q{SELECT count(*) FROM iotmq.dead_letter WHERE consumer_group = 'idle'}),
	'1 1', 'one waits, one is dead');
foreach my $node (1, 2, 0, 2)
{
	$router->sql("SELECT iotmq.move_zone('t', 'busy', $node)");
	is($router->sql(q{SELECT node FROM iotmq.node_of('t', 'busy')}), $node, "moved to node $node");
	is($router->sql(q{SELECT node FROM iotmq.topic_settings WHERE 'busy' = ANY (zones)}), $node, 'and nowhere else');
}
is($end->(), "published some, lost 0, twice 0\n", 'no loss, no double, no error');
is($router->sql(qq{SELECT node, messages FROM iotmq.in_flight WHERE lease_id = $held}), '2|5', 'a lease came along');
is($router->sql("SELECT iotmq.ack($held)"), 5, 'and is acked by its id');
is($router->sql(q{SELECT attempt, reason, node FROM iotmq.waiting_message WHERE consumer_group = 'idle'}), '2|later|2', 'what waits came along');
is($router->sql(q{SELECT attempts, node, id >> 56 FROM iotmq.dead_letter WHERE consumer_group = 'idle'}), '1|2|2', 'and what is dead');
is($router->sql(q{SELECT iotmq.count_lag('t', 'g')}), 0, 'nothing is left');
is($router->sql(q{SELECT count(*) FROM iotmq.fetch('t', 'busy', 1, 10000)}),
	$router->sql(q{SELECT least(10000, sum(messages_estimate)) FROM iotmq.topic_stats WHERE zone = 'busy'}), 'the history is whole');
is($router->say(q{SELECT iotmq.move_zone('t', 'busy', 2)}), '', 'it is there already');

# A consumer that waits at the node that had the topic's only zone goes along.
$router->sql(q{SELECT iotmq.create_topic('w'), iotmq.create_group('w', 'g')});
my ($from) = split /\|/, $router->sql(q{SELECT node FROM iotmq.node_of('w', NULL)});
foreach my $named ('', q{, zone => 'default'})
{
	my $waiter = IPC::Run::start([ 'psql', '-XAtq', '-d', $connection, '-c', "SELECT payload FROM iotmq.consume('w', 'g', wait => '4 min'$named)" ],
		'>', \my $out, '2>', \my $err, IPC::Run::timeout(400));
	$router->{router}->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%4 min%' AND pid <> pg_backend_pid() AND state = 'active'});
	$from = ($from + 1) % 3;
	$router->sql("SELECT iotmq.move_zone('w', 'default', $from), iotmq.publish('w', 'd', '\"moved\"')");
	$waiter->finish;
	is($out, "\"moved\"\n", "a consumer that waits$named");
}

# ---- an administrator, who is nobody's superuser ----

foreach my $cluster (@{ $router->{nodes} }, $router->{router})
{
	$cluster->safe_psql('postgres', 'CREATE ROLE boss LOGIN');
}
$router->sql(q{SELECT iotmq.grant_admin('boss')});
foreach my $pair ([ 0, 2 ], [ 2, 0 ])
{
	my ($node, $source) = @$pair;
	$router->node($node)->safe_psql('postgres', "GRANT USAGE ON FOREIGN SERVER n$source TO boss");
}
like($router->say(q{SELECT iotmq.move_zone('t', 'busy', 0)}, extra_params => [ '-U', 'boss' ]),
	qr/^ERROR:  42704: .*REMOTE ERROR: user mapping not found for "boss"/, 'the target asks the source by a mapping of the administrator');
is($router->sql(q{SELECT node FROM iotmq.topic_settings WHERE 'busy' = ANY (zones)}), '2', 'else nothing has begun');

# ---- rights on one zone, and a router that has taken a mirror for the zone ----

foreach my $cluster (@{ $router->{nodes} }, $router->{router})
{
	$cluster->safe_psql('postgres', 'CREATE ROLE device LOGIN; CREATE ROLE reader LOGIN');
}
$router->node(0)->safe_psql('postgres', 'CREATE ROLE local');
$router->sql(q{SELECT iotmq.place_zone('t', 'own', 0), iotmq.add_zone('t', 'own'), iotmq.grant_publish('t', 'device', '{own}'), iotmq.grant_read('t', 'reader', '{own}')});
$router->node(0)->safe_psql('postgres', q{SELECT iotmq.grant_publish('t', 'local', '{own}')});
my $published = q{SELECT iotmq.publish('t', 'd', '1', 'own') > 0};
is($router->say($published, extra_params => [ '-U', 'device' ]), 't', 'a role with a right on one zone');
like($router->say(q{SELECT iotmq.move_zone('t', 'own', 1)}), qr/WARNING:\s.*role local has no right on zone "own" of topic "t" at node 1/, 'a role that the target lacks is named');
is($router->say($published, extra_params => [ '-U', 'device' ]), 't', 'the right goes along with the zone');
is($router->say(q{SELECT count(*) FROM iotmq.fetch('t', 'own', 1)}, extra_params => [ '-U', 'reader' ]), '2', 'so does that to read');
$router->node(0)->safe_psql('postgres', q{SELECT iotmq.mirror_zone('t', 'own', 'n1')});
$router->sql(q{SELECT iotmq_node.place_set('t', 'own', 0, true)});
like($router->say($published), qr/^ERROR:  55000: .*is a mirror/, 'a mirror is not published to');
is($router->say(q{SELECT iotmq.move_zone('t', 'own', 1)}), '', 'a router that has taken it for the zone is told where that is');
is($router->say($published), 't', 'and finds it');
is($router->node(0)->safe_psql('postgres', q{SELECT source FROM iotmq.mirror WHERE zone = 'own'}), 'n1', 'the mirror is still one');

# ---- a mover that is killed while a publisher is open ----

$router->sql(q{SELECT iotmq.place_zone('t', 'open', 0), iotmq.add_zone('t', 'open')});
my $publisher = IPC::Run::start([ 'psql', '-XAtq', '-d', $router->node(0)->connstr('postgres'), '-c',
		q{BEGIN; SELECT iotmq.publish('t', 'd', '1', 'open'); SELECT pg_sleep(600)} ],
	'<', \undef, '>', \my $nothing, '2>', \my $killed, IPC::Run::timeout(400));
$router->node(0)->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
my $mover = IPC::Run::start([ 'psql', '-XAtq', '-d', $connection, '-c', q{SELECT iotmq.move_zone('t', 'open', 1)} ],
	'<', \undef, '>', \$nothing, '2>', \$killed, IPC::Run::timeout(400));
my $fences = q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%iotmq.fence_zone(%' AND query NOT LIKE '%pg_stat%'};
$router->node(0)->poll_query_until('postgres', "$fences AND wait_event_type = 'Lock'", '1') or die 'the fence does not wait';
$router->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT iotmq.move_zone(%'});
eval { $mover->finish };
ok($router->node(0)->poll_query_until('postgres', $fences, '0'), 'a fence ends with its mover');
$router->node(0)->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
eval { $publisher->finish };
is($router->say(q{SELECT iotmq.publish('t', 'd', '1', 'open') > 0}), 't', 'and the zone is open');

# ---- errors ----

like($router->say(q{SELECT iotmq.move_zone('t', 'mars', 1)}), qr/^ERROR:  42704: zone "mars" of topic "t" is at no node/, 'an unknown zone');
like($router->say(q{SELECT iotmq.move_zone('t', 'busy', 9)}), qr/^ERROR:  42704: node 9 does not exist/, 'an unknown node');
like($router->say(q{SELECT iotmq.move_zone('t', 'busy', NULL)}), qr/^ERROR:  22004: node must not be NULL/, 'no node');
$router->node(0)->safe_psql('postgres', q{SELECT iotmq.add_zone('t', 'busy')});
like($router->say(q{SELECT iotmq.move_zone('t', 'busy', 0)}), qr/^ERROR:  55000: nodes 2 and 0 both have an open zone "busy"/, 'the target has another zone of that name');
$router->node(0)->safe_psql('postgres', q{SELECT iotmq.drop_zone('t', 'busy', true)});

# ---- a crash between each two steps ----

my @steps = (
	q{SELECT iotmq_node.mirror_zone(1, 't', '%s', 'n0', NULL)},
	q{SELECT iotmq_node.pull(1, 't', '%s', 10000)},
	q{SELECT iotmq_node.fence_zone(0, 't', '%s', 'n1')},
	q{SELECT iotmq_node.promote_zone(1, 't', '%s', false)},
	q{SELECT iotmq_node.drop_zone(0, 't', '%s', true)});
my %leases;
foreach my $done (0 .. @steps)
{
	my $zone = "z$done";
	$router->sql("SELECT iotmq.place_zone('t', '$zone', 0), iotmq.add_zone('t', '$zone'),
		iotmq.publish_batch('t', array_fill('d'::text, '{20}'), array_agg(to_jsonb(i)), '$zone') FROM generate_series(1, 20) AS i");
	$leases{$zone} = $router->sql("SELECT DISTINCT lease_id FROM iotmq.consume('t', 'idle', 4, zone => '$zone', invisible_for => '1 h')");
	$router->sql($_) foreach map { sprintf $_, $zone } @steps[ 0 .. $done - 1 ];
}
foreach my $node (0, 1)
{
	$router->node($node)->stop('immediate');
	$router->node($node)->start;
}
foreach my $done (0 .. @steps)
{
	my $zone = "z$done";
	# as many owners as there should be, whatever was the last step
	like($router->say("SELECT iotmq.publish('t', 'd', '1', '$zone') > 0"), $done < 3 ? qr/^t$/ : qr/^ERROR:  (?:55000|42704):/, "after $done steps: published at the owner, or nowhere");
	$router->sql("SELECT iotmq.move_zone('t', '$zone', 1)");
	is($router->sql("SELECT node FROM iotmq.node_of('t', '$zone')"), 1, 'the same call goes on');
	is($router->sql("SELECT count(*), count(DISTINCT payload) FROM iotmq.fetch('t', '$zone', 1, 100)"), $done < 3 ? '21|20' : '20|20', 'with all messages');
	is($router->sql("SELECT iotmq.ack($leases{$zone})"), 4, 'and the lease');
	is($router->sql("SELECT count(*) FROM iotmq.consume('t', 'idle', 100, zone => '$zone')"), $done < 3 ? 17 : 16, 'no more than is left is delivered');
	is($router->sql("SELECT node FROM iotmq.topic_settings WHERE '$zone' = ANY (zones)"), 1, 'nothing of it is left at the source');
}

# ---- taken back ----

foreach my $done (0 .. 4)
{
	my $zone = "c$done";
	$router->sql("SELECT iotmq.place_zone('t', '$zone', 0), iotmq.add_zone('t', '$zone'), iotmq.publish('t', 'd', '1', '$zone')");
	$router->sql($_) foreach map { sprintf $_, $zone } @steps[ 0 .. $done - 1 ];
	if ($done < 4)
	{
		is($router->say("SELECT iotmq.cancel_move('t', '$zone')"), '', "after $done steps: taken back");
		is($router->sql("SELECT iotmq.publish('t', 'd', '1', '$zone') > 0, node FROM iotmq.topic_settings WHERE '$zone' = ANY (zones)"), 't|0', 'it is open where it was, and only there');
	}
	else
	{
		like($router->say("SELECT iotmq.cancel_move('t', '$zone')"), qr/^ERROR:  55000: zone "$zone" of topic "t" was handed over by node 0\nHINT:  Go on: /, 'not once it was handed over');
		$router->sql("SELECT iotmq.move_zone('t', '$zone', 1)");
	}
}

# ---- the source goes down for good, behind the hand-over ----

$router->sql(q{SELECT iotmq.place_zone('t', 'late', 0), iotmq.add_zone('t', 'late'), iotmq.publish('t', 'd', '1', 'late')});
$router->sql(sprintf $_, 'late') foreach @steps[ 0 .. 3 ];
$router->node(0)->stop('immediate');
like($router->say(q{SELECT iotmq.move_zone('t', 'late', 1)}), qr/^WARNING:  08006: node 0 /, 'the move is completed without it');
is($router->sql(q{SELECT iotmq.publish('t', 'd', '1', 'late') > 0}), 't', 'and the zone open');
$router->node(0)->start;
is($router->sql(q{SELECT count(*) FROM iotmq.topic_settings WHERE 'late' = ANY (zones)}), 2, 'what it has is still there');
$router->sql(q{SELECT iotmq.move_zone('t', 'late', 1)});
is($router->sql(q{SELECT node FROM iotmq.topic_settings WHERE 'late' = ANY (zones)}), 1, 'until the same call drops it');

# ---- movers that are killed under load ----

$router->sql(q{SELECT iotmq.move_zone('t', 'busy', 0)});
$end = load('busy');
foreach my $turn (1 .. 8)
{
	my $node = $turn % 2 ? 1 : 0;
	my $mover = IPC::Run::start([ 'psql', '-XAtq', '-d', $connection, '-c', "SELECT iotmq.move_zone('t', 'busy', $node)" ], '>', \my $out, '2>', \my $err);
	# at the router, or at the node where it works
	my $where = $turn <= 4 ? $router->{router} : $router->node($node);
	select undef, undef, undef, rand(1);
	$where->safe_psql('postgres', q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query ~ '(move|mirror|promote)_zone' AND pid <> pg_backend_pid()});
	eval { $mover->finish };
	$router->{router}->poll_query_until('postgres', "SELECT iotmq.move_zone('t', 'busy', $node) IS NOT NULL");
}
my $said = $end->();
like($said, qr/^published some, lost 0, twice 0/, 'no loss, no double');
note($said);

done_testing();
