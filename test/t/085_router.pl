# The router: three nodes behind one door, with the functions and views of a node.
#
# Promise: one-door

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../router";
use PostgreSQL::Test::Utils;
use Router;
use Test::More;

if (my $why = Router::missing()) { plan skip_all => $why }

my $router = Router->new(3);

# ---- the same functions and views as a node ----

my $signatures = q{
	SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ') ' || pg_get_function_result(p.oid)
	FROM pg_proc AS p
	WHERE p.pronamespace = 'iotmq'::regnamespace AND p.prokind = 'f'
		AND obj_description(p.oid, 'pg_proc') NOT LIKE 'internal:%'
	UNION ALL
	SELECT format('%s.%s %s: %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum))
	FROM pg_class AS c
	JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
	WHERE c.relnamespace = 'iotmq'::regnamespace AND c.relkind IN ('v', 'c')
	ORDER BY 1};
my %at_node = map { $_ => 1 } split /\n/, $router->node(0)->safe_psql('postgres', $signatures);
my %here = map { $_ => 1 } split /\n/, $router->sql($signatures);
# What is a node's own business.
my $not_here = qr/^(schedule_maintenance|unschedule_maintenance|set_node|this_node|mirror_zone|pull|promote_zone|demote_zone|fence_zone|open_zone|hand_over|mirror_\w+)\(/;
my $only_here = qr/^(add_node|place_zone|node_of|move_zone|cancel_move)\(|^(node|placement)\.|\.node integer: the node that says so$/;
is(join("\n", grep { !$here{$_} && !/$not_here/ } sort keys %at_node), '', 'all that a node has is here');
is(join("\n", grep { !$at_node{$_} && !/$only_here/ } sort keys %here), '', 'and nothing else');
is($router->sql(q{
	SELECT p.oid::regprocedure::text
	FROM pg_proc AS p
	WHERE p.pronamespace IN ('iotmq'::regnamespace, 'iotmq_node'::regnamespace, 'iotmq_internal'::regnamespace)
		AND obj_description(p.oid, 'pg_proc') IS NULL
	UNION ALL
	SELECT format('%s.%s', c.oid::regclass, a.attname)
	FROM pg_class AS c
	JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
	WHERE c.relnamespace IN ('iotmq'::regnamespace, 'iotmq_node'::regnamespace, 'iotmq_internal'::regnamespace)
		AND c.relkind IN ('v', 'c', 'r') AND col_description(c.oid, a.attnum) IS NULL
}), '', 'each has a comment');
# What PL/Proxy's functions name has its schema, but for what is run at the node.
is($router->sql(q{
	SELECT p.oid::regprocedure
	FROM pg_proc AS p
	JOIN pg_language AS l ON l.oid = p.prolang
	WHERE p.pronamespace IN ('iotmq'::regnamespace, 'iotmq_node'::regnamespace) AND l.lanname IN ('sql', 'plpgsql')
		AND 'search_path=pg_catalog, pg_temp' <> ALL (coalesce(p.proconfig, '{}'))
}), '', 'nobody chooses by a search_path what they call');

# ---- nodes ----

is($router->say(q{SELECT iotmq.add_node(NULL, 'n0')}), 'ERROR:  22004: node must not be NULL', 'a node has a number');
is($router->say(q{SELECT iotmq.add_node(64, 'n0')}), 'ERROR:  22023: node must be between 0 and 63, not 64', 'of 6 bits');
like($router->say(q{SELECT iotmq.add_node(3, 'nowhere')}),
	qr/^ERROR:  42704: server "nowhere" does not exist\nHINT:  Make it: CREATE SERVER nowhere FOREIGN DATA WRAPPER plproxy/, 'and a server');
is($router->say(q{SELECT iotmq.add_node(3, 'n0')}), 'ERROR:  42710: server "n0" is node 0 already', 'of its own');
is($router->say(q{SELECT iotmq.add_node(0, 'n0')}), '', 'the same again changes nothing');
my $address = sprintf 'host=%s port=%s dbname=postgres', $router->node(1)->host, $router->node(1)->port;
$router->sql(qq{
	CREATE SERVER again FOREIGN DATA WRAPPER plproxy OPTIONS (p0 '$address');
	CREATE SERVER as_root FOREIGN DATA WRAPPER plproxy OPTIONS (p0 '$address user=postgres');
	CREATE SERVER empty FOREIGN DATA WRAPPER plproxy OPTIONS (p0 '@{[ $address =~ s/dbname=postgres/dbname=template1/r ]}');
	CREATE SERVER two FOREIGN DATA WRAPPER plproxy OPTIONS (p0 '$address', p1 '$address')});
like($router->say(q{SELECT iotmq.add_node(3, 'again')}),
	qr/^ERROR:  55000: server "again" is node 1 by its own account\nHINT:  Add it by that number/, 'a node knows its number');
like($router->say(q{SELECT iotmq.add_node(3, 'as_root')}),
	qr/^ERROR:  22023: the address of server "as_root" must not say who logs in\nHINT:  Each role logs in as itself/, 'an address names no role');
is($router->say(q{SELECT iotmq.add_node(3, 'empty')}),
	"ERROR:  55000: server \"empty\" does not have iotmq\nHINT:  Run there: CREATE EXTENSION iotmq;", 'a node has iotmq');
like($router->say(q{SELECT iotmq.add_node(3, 'two')}), qr/^ERROR:  22023: server "two" is not one of PL\/Proxy with one partition/, 'a node is one');
is($router->sql('SELECT node, server, zones FROM iotmq.node ORDER BY node'), "0|n0|0\n1|n1|0\n2|n2|0", 'what failed left nothing');
is($router->node(2)->safe_psql('postgres', 'SELECT iotmq.this_node()'), 2, 'add_node numbers the node');

# ---- topics and zones ----

is($router->say(q{SELECT iotmq.place_zone('t', 'us', 7)}),
	"ERROR:  42704: node 7 does not exist\nHINT:  Add it: SELECT iotmq.add_node(7, 'server');", 'a zone is at a node that is known');
$router->sql(q{SELECT iotmq.place_zone('t', 'us', 2)});
is($router->say(q{SELECT iotmq.create_topic('t', ARRAY['eu', 'us', 'asia'], dedup_window => '1 h')}), '', 'a topic');
is($router->sql('SELECT zone, node, server, made FROM iotmq.placement ORDER BY zone'), "asia|1|n1|t\neu|0|n0|t\nus|2|n2|t",
	'place_zone decides, then the number of zones');
is($router->sql('SELECT zones, node FROM iotmq.topic_settings ORDER BY node'), "{eu}|0\n{asia}|1\n{us}|2", 'each zone is at one node');
is($router->sql(q{SELECT node, server, address LIKE 'host=%' FROM iotmq.node_of('t', 'asia')}), '1|n1|t', 'node_of');
is($router->say(q{SELECT * FROM iotmq.node_of('t', 'mars')}),
	"ERROR:  42704: zone \"mars\" of topic \"t\" is at no node\nHINT:  Add it: SELECT iotmq.add_zone('t', 'mars');", 'of an unknown zone');
like($router->say(q{SELECT iotmq.create_topic('t', ARRAY['eu', 'us', 'asia'], dedup_window => '1 h')}),
	qr/^ERROR:  42710: topic "t" already exists\n/, 'all of a topic is there');
like($router->say(q{SELECT iotmq.create_topic('t', ARRAY['eu', 'us', 'asia'], retention => '1 h')}),
	qr/^ERROR:  42710: topic "t" already exists\nDETAIL:  Node 0 has it with another retention\.\n/, 'another retention');
is($router->say(q{SELECT iotmq.create_topic('t t')}) =~ s/\n.*//sr, 'ERROR:  42602: invalid topic name "t t"', 'a bad name');
is($router->say(q{SELECT iotmq.create_topic('x', '{a,a}')}), 'ERROR:  42710: zone "a" is named twice', 'a name twice');
like($router->say(q{SELECT iotmq.create_topic('x', retention => '-1 h')}), qr/^ERROR:  22023: .*REMOTE ERROR/, 'a bad setting is the node\'s');
is($router->sql(q{SELECT count(*) FROM iotmq.placement WHERE topic = 'x'}), 0, 'and leaves no place');
like($router->say(q{SELECT iotmq.add_zone('t', 'eu')}), qr/^ERROR:  42710: .*zone "eu" of topic "t" already exists/, 'add_zone');
$router->sql(q{SELECT iotmq.alter_topic('t', retention => '48 hours')});
is($router->sql(q{SELECT DISTINCT retention FROM iotmq.topic_settings}), '48:00:00', 'alter_topic is at all nodes');
like($router->say(q{SELECT iotmq.place_zone('t', 'eu', 1)}),
	qr/^ERROR:  55006: zone "eu" of topic "t" is at node 0\nHINT:  Move it: SELECT iotmq.move_zone\('t', 'eu', 1\);/, 'place_zone moves nothing');

# ---- publishing ----

$router->sql(q{SELECT iotmq.create_group('t', 'g', tags => 'b || a', max_retries => 3)});
is($router->sql(q{SELECT iotmq.publish('t', 'd', '1', 'eu', tag => 'a'), iotmq.publish('t', 'd', '2', 'us', tag => 'a', message_key => 'k'),
		iotmq.publish('t', 'd', '3', 'us', tag => 'a', message_key => 'k')}), '1|1|1', 'publish');
is($router->sql(q{SELECT iotmq.publish_batch('t', '{e,f}', ARRAY['1', '2']::jsonb[], 'eu', '{b,b}')}), '{2,3}', 'publish_batch to a zone');
is($router->sql(q{SELECT iotmq.publish_batch('t', '{e,f}', ARRAY['1', '2']::jsonb[], zones => '{us,us}', tags => '{b,b}')}), '{2,3}', 'to zones of one node');
is($router->sql(q{SELECT iotmq.publish_batch('t', '{e,f,g}', NULL, bodies => '{x,y,z}', zones => '{us,eu,us}', tags => '{b,b,c}')}), '{4,4,5}',
	'to zones of several nodes, in input order');
is($router->say(q{SELECT iotmq.publish('t', 'd', '1')}),
	"ERROR:  22004: zone must not be NULL: topic \"t\" has 3 zones\nHINT:  Name one of its zones: zone => 'asia'.", 'no zone, and several');
is($router->say(q{SELECT iotmq.publish('none', 'd', '1')}),
	"ERROR:  42704: iotmq_node.publish(9): [postgres] REMOTE ERROR: topic \"none\" does not exist\n"
	  . "HINT:  Remote hint: Create it: SELECT iotmq.create_topic('none');", 'errors of the node: SQLSTATE and hint');
is($router->say(q{SELECT iotmq.publish_batch('t', '{a,b,c}', ARRAY['1', NULL, '3']::jsonb[], zones => '{us,us,eu}')}),
	"ERROR:  22004: iotmq_node.publish_batch(10): [postgres] REMOTE ERROR: payload and body must not both be NULL\n"
	  . "DETAIL:  Remote detail: Element 2 of the batch. 1 of the 3 elements are published, at other nodes.\n"
	  . "HINT:  Remote hint: Give a payload (jsonb), a body (bytea), or both.", 'the element of an error, and what is published');
foreach my $bad (
	[ q{'{a,b}', ARRAY['1']::jsonb[], zones => '{us,eu}'}, '22023' ], [ q{'{a}', ARRAY['1']::jsonb[], zone => 'us', zones => '{us}'}, '22023' ],
	[ q{'{a,b}', ARRAY['1', '2']::jsonb[], zones => '{us,mars}'}, '42704' ], [ q{'{a,b}', ARRAY['1', '2']::jsonb[], zones => '{us,NULL}'}, '22004' ],
	[ q{NULL, ARRAY['1', '2']::jsonb[], zones => '{us,eu}'}, '22004' ])
{
	like($router->say("SELECT iotmq.publish_batch('t', $bad->[0])"), qr/^ERROR:  $bad->[1]:/, "publish_batch($bad->[0])");
}
is($router->say(q{SELECT iotmq.publish_batch('t', array_agg('d' || i), array_agg(to_jsonb(i)), zones => array_agg(CASE WHEN i % 2 = 0 THEN 'us' ELSE 'z' || i END))
		FROM generate_series(1, 200) AS i}) =~ s/:.*//sr, 'ERROR', 'more than 64 zones');

# ---- reading without leases ----

is($router->sql(q{SELECT zone, msg_offset, payload, message_key FROM iotmq.message_by_key('t', 'd', 'k')}), 'us|1|2|k', 'message_by_key');
is($router->sql(q{SELECT zone, msg_offset FROM iotmq.message_by_key('t', 'd', 'k', 'eu')}), '', 'message_by_key of a zone');
is($router->sql(q{SELECT zone, payload FROM iotmq.messages_of_device('t', 'd')}), "us|2\neu|1", 'messages_of_device: newest first');
is($router->sql(q{SELECT zone, payload FROM iotmq.messages_of_device('t', 'd', max_messages => 1)}), 'us|2', 'and no more');
is($router->sql(q{SELECT zone, payload FROM iotmq.messages_of_device('t', 'd', zone => 'eu')}), 'eu|1', 'or of a zone');
is($router->sql(q{SELECT zone, msg_offset, device_id FROM iotmq.fetch('t', 'us', 2, 2)}), "us|2|e\nus|3|f", 'fetch');
like($router->say(q{SELECT * FROM iotmq.fetch('t', NULL, 2)}), qr/^ERROR:  22004:/, 'fetch wants a zone');
is($router->sql(q{SELECT zones FROM iotmq.zones('t') AS zones}), "asia\neu\nus", 'zones');
$router->sql(q{SELECT iotmq.commit_offset('t', 'g', 'us', 3)});
is($router->sql(q{SELECT iotmq.committed_offset('t', 'g', 'us')}), 3, 'commit_offset');
is($router->sql(q{SELECT * FROM iotmq.seek('t', 'g', '-infinity') ORDER BY zone}), "asia|1|1|0\neu|1|1|0\nus|3|1|2", 'seek: all zones');
is($router->sql(q{SELECT * FROM iotmq.seek('t', 'g', '-infinity', 'us')}), 'us|1|1|0', 'or one');
is($router->sql(q{SELECT * FROM iotmq.seek_offset('t', 'g', 'us', 2, dry_run => true)}), 'us|1|2|-1', 'seek_offset');
is($router->sql(q{SELECT wanted, messages FROM iotmq.preview_group('t', 'g')}), "t|8\nf|2", 'preview_group');
is($router->sql(q{SELECT iotmq.count_lag('t', 'g')}), 8, 'count_lag');
is($router->sql(q{SELECT consumer_group, state FROM iotmq.message_status('t', 'us', 1)}), 'g|ready', 'message_status');
foreach my $call (q{iotmq.topic_table('t')}, q{iotmq.zone_table('t', 'us')}, q{iotmq.consume('t', 'g', ack_lease => 1)})
{
	like($router->say("SELECT $call"), qr/^ERROR:  0A000: \w+ is not possible through a router\n(?:DETAIL:.*\n)?HINT:  /, $call);
}

# ---- consuming ----

my %leases;
my $turns = $router->sql(q{
	CREATE TABLE got (lease_id bigint, zone text, msg_offset bigint, attempt int);
	DO $$
	BEGIN
		FOR i IN 1..20 LOOP
			INSERT INTO got SELECT lease_id, zone, msg_offset, attempt FROM iotmq.consume('t', 'g', 2, wait => '10 ms');
		END LOOP;
	END $$;
	SELECT zone, string_agg(DISTINCT msg_offset::text, ',' ORDER BY msg_offset::text), min(lease_id >> 57), max(lease_id >> 57) FROM got GROUP BY zone ORDER BY zone});
is($turns, "eu|1,2,3,4|0|0\nus|1,2,3,4|2|2", 'consume asks all nodes in turn; a lease id names its node');
is($router->sql('SELECT count(*), sum(messages), count(DISTINCT node) FROM iotmq.in_flight'), '4|8|2', 'in_flight');
my @us = split /\n/, $router->sql(q{SELECT DISTINCT lease_id FROM got WHERE zone = 'us' ORDER BY lease_id});
my @eu = split /\n/, $router->sql(q{SELECT DISTINCT lease_id FROM got WHERE zone = 'eu' ORDER BY lease_id});
is($router->sql("SELECT iotmq.extend($us[0], '1 h') > now() + '50 min'"), 't', 'extend');
is($router->sql("SELECT iotmq.ack($us[0])"), 2, 'ack');
is($router->sql("SELECT iotmq.nack($us[1], ARRAY[3], '0', 'no'), iotmq.reject($us[1], reason => 'bad')"), '1|1', 'nack, reject');
is($router->sql("SELECT iotmq.settle($eu[0], ARRAY[1], rejects => ARRAY[2], reasons => ARRAY['poison'])"), 2, 'settle');
is($router->sql("SELECT iotmq.nack($eu[1], delay => '1 h')"), 2, 'nack with a delay');
is($router->say("SELECT iotmq.ack($us[0])"),
	"ERROR:  55000: iotmq_node.ack(3): [postgres] REMOTE ERROR: lease $us[0] does not exist\n"
	  . "DETAIL:  Remote detail: It ended, expired and was taken over, was voided by a seek, or never was.\n"
	  . "HINT:  Remote hint: Roll back what was done for its messages; those not settled come again with consume().", 'a lease that ended: SQLSTATE, detail and hint');
like($router->say('SELECT iotmq.ack(NULL)'), qr/^ERROR:  22004:/, 'no lease');
like($router->say("SELECT iotmq.ack(((7::bigint << 57) + 1))"), qr/^ERROR:  55000:/, 'a lease of a node that is not there');
is($router->sql(q{SELECT zone, msg_offset, attempt, due_at > now() FROM iotmq.waiting_message ORDER BY 1, 2}), "eu|3|2|t\neu|4|2|t\nus|3|2|f", 'waiting_message');
is($router->sql(q{SELECT iotmq.retry_now('t', 'g', ARRAY[3], 'eu'), iotmq.give_up('t', 'g', ARRAY[4], 'eu', 'enough')}), '1|1', 'retry_now, give_up');
is($router->sql(q{SELECT zone, msg_offset, reason, node, id >> 56 FROM iotmq.dead_letter ORDER BY id}),
	"eu|2|poison|0|0\neu|4|enough|0|0\nus|4|bad|2|2", 'dead letters have ids of their own');
is($router->sql(q{SELECT iotmq.redrive('t', 'g', ARRAY(SELECT id FROM iotmq.dead_letter WHERE zone = 'us'), dry_run => true),
		iotmq.redrive('t', 'g', max_messages => 2, dry_run => true), iotmq.redrive('t', 'g', dry_run => true)}), '1|2|3', 'redrive');
is($router->sql(q{SELECT iotmq.redrive('t', 'g', ARRAY(SELECT id FROM iotmq.dead_letter WHERE zone = 'us'))}), 1, 'by an id of one node');
is($router->sql(q{SELECT iotmq.purge_dead_letters('t', 'g', ARRAY(SELECT id FROM iotmq.dead_letter WHERE reason = 'enough'))}), 1, 'purge_dead_letters');
is($router->sql(q{SELECT zone, reason FROM iotmq.dead_letter WHERE node = 0}), 'eu|poison', 'likewise');
is($router->sql(q{SELECT count(*), count(DISTINCT zone) FROM iotmq.consume('t', 'g', zone => 'eu', consumer => 'me')}), '1|1', 'consume of a zone');
is($router->sql(q{SELECT zone, consumer FROM iotmq.in_flight WHERE consumer IS NOT NULL}), 'eu|me', 'by name');
foreach my $bad ([ q{max_messages => 0}, '22023' ], [ q{wait => '6 min'}, '22023' ], [ q{wait => '-1 s'}, '22023' ], [ q{zone => 'mars'}, '42704' ])
{
	like($router->say("SELECT * FROM iotmq.consume('t', 'g', $bad->[0])"), qr/^ERROR:  $bad->[1]:/, "consume($bad->[0])");
}
like($router->say("SELECT * FROM iotmq.consume('t', 'none', wait => '1 min')"), qr/^ERROR:  42704:/, 'consume as an unknown group');

# A lease is also looked for where its number came from: a cursor that was moved and is gone
# leaves its number there. The time limit of either call ends with it.
$router->sql(q{SELECT iotmq.publish('t', 'd', '1', 'us', 'a')});
my $again = $router->sql(q{SELECT DISTINCT lease_id FROM iotmq.consume('t', 'g', 100, zone => 'us')});
$router->sql("INSERT INTO iotmq_internal.moved_cursor VALUES ($again >> 43, 1)");
like($router->say("SET iotmq_router.node_timeout = '3 s'; BEGIN; SELECT iotmq.extend($again, '1 h') > now(); SELECT pg_sleep(3.1); SELECT iotmq.ack($again) > 0; COMMIT; SELECT 1"),
	qr/^t\n\nt\n1$/, 'a lease that is at its home');
$router->sql('DELETE FROM iotmq_internal.moved_cursor');

# A wait hides nothing of another node, whichever is asked first.
$router->sql(q{SELECT iotmq.seek('t', 'g', 'infinity')});
foreach my $zone (qw(eu us asia))
{
	my $waiter = IPC::Run::start([ 'psql', '-XAtq', '-d', $router->{router}->connstr('postgres'), '-c',
			q{SELECT zone FROM iotmq.consume('t', 'g', wait => '2 min')} ], '>', \my $out, IPC::Run::timeout(180));
	$router->{router}->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%2 min%' AND pid <> pg_backend_pid() AND state = 'active'});
	$router->sql("SELECT iotmq.publish('t', 'd', '1', '$zone', 'a')");
	$waiter->finish;
	is($out, "$zone\n", "a wait sees $zone");
}

# ---- groups ----

is($router->sql(q{SELECT node, tags, max_retries, paused FROM iotmq.group_settings ORDER BY node}), "0|a || b|3|f\n1|a || b|3|f\n2|a || b|3|f", 'a group is at all nodes');
like($router->say(q{SELECT iotmq.create_group('t', 'g', tags => 'b || a', max_retries => 3)}), qr/^ERROR:  42710:.*consumer group "g" of topic "t" already exists/, 'it is there');
$router->sql(q{SELECT iotmq.alter_group('t', 'g', max_retries => 5), iotmq.pause_group('t', 'g')});
is($router->sql(q{SELECT DISTINCT max_retries, paused FROM iotmq.group_settings}), '5|t', 'alter_group, pause_group');
$router->sql(q{SELECT iotmq.resume_group('t', 'g')});
is($router->sql(q{SELECT DISTINCT paused FROM iotmq.group_settings}), 'f', 'resume_group');
is($router->sql(q{SELECT consumer_group, sum(lag_messages) FROM iotmq.group_lag GROUP BY 1}), 'g|3', 'group_lag of all nodes');
is($router->sql(q{SELECT zone, node FROM iotmq.consumer_lag ORDER BY zone}), "asia|1\neu|0\nus|2", 'consumer_lag');
foreach my $view (split /\n/, $router->sql(q{SELECT relname FROM pg_class WHERE relnamespace = 'iotmq'::regnamespace AND relkind = 'v' ORDER BY 1}))
{
	like($router->say("SELECT count(*) >= 0 FROM iotmq.$view"), qr/^t$/, "view $view");
}
is($router->sql(q{SELECT string_agg(DISTINCT node::text, ',') FROM iotmq.metrics}), '0,1,2', 'metrics of all nodes');

# ---- rights: the node decides, by who calls ----

foreach my $cluster (@{ $router->{nodes} }, $router->{router})
{
	$cluster->safe_psql('postgres', 'CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE boss LOGIN');
}
my @as_ann = (extra_params => [ '-U', 'ann' ]);
my @as_bob = (extra_params => [ '-U', 'bob' ]);
my @as_boss = (extra_params => [ '-U', 'boss' ]);
like($router->say(q{SELECT iotmq.publish('t', 'd', '1', 'us')}, @as_ann), qr/^ERROR:  42501: .*REMOTE ERROR/, 'no right');
$router->sql(q{SELECT iotmq.grant_publish('t', 'ann', '{us}'), iotmq.grant_consume('t', 'g', 'bob')});
is($router->say(q{SELECT iotmq.publish('t', 'd', '1', 'us', 'a') > 0}, @as_ann), 't', 'the right to publish to a zone');
like($router->say(q{SELECT iotmq.publish('t', 'd', '1', 'eu')}, @as_ann), qr/^ERROR:  42501:/, 'is that');
like($router->say(q{SELECT iotmq.publish('t', 'd', '1', 'us')}, @as_bob), qr/^ERROR:  42501:/, 'a consumer does not publish');
like($router->say(q{SELECT * FROM iotmq.consume('t', 'g')}, @as_ann), qr/^ERROR:  42501:/, 'a publisher does not consume');
my $lease = $router->say(q{SELECT DISTINCT lease_id FROM iotmq.consume('t', 'g', zone => 'us')}, @as_bob);
like($lease, qr/^\d+$/, 'a consumer does');
like($router->say("SELECT iotmq.ack($lease)", @as_ann), qr/^ERROR:  (?:42501|55000):/, 'knowing a lease gives nothing');
is($router->say("SELECT iotmq.ack($lease)", @as_bob), 1, 'the consumer acks');
is($router->say(q{SELECT DISTINCT topic, consumer_group FROM iotmq.consumer_lag}, @as_bob), 't|g', 'and sees how far he is');
like($router->say(q{SELECT * FROM iotmq.consumer_lag}, @as_ann), qr/^ERROR:  42501:/, 'others don\'t: an error, no warning');
is($router->say(q{SELECT DISTINCT zones FROM iotmq.topic_settings WHERE zones <> '{}'}, @as_ann), '{us}', 'settings of what one has a right on');
like($router->say(q{SELECT iotmq.grant_publish('t', 'ann', '{mars}')}), qr/^ERROR:  42704:/, 'a right on an unknown zone');
is($router->say(q{SET ROLE ann; SELECT iotmq.publish('t', 'd', '1', 'us', 'a') > 0; SET ROLE bob; SELECT iotmq.publish('t', 'd', '1', 'us')}) =~ s/: \w+\.publish.*//sr,
	"t\nERROR:  42501", 'the role of the moment counts, within one session');
# Whoever may use a server may make a mapping for himself. It makes him nobody else.
like($router->say(q{CREATE USER MAPPING FOR ann SERVER n2 OPTIONS (user 'postgres'); SELECT iotmq.drop_zone('t', 'us', true); SELECT iotmq.publish('t', 'd', '1', 'us')}, @as_ann),
	qr/^ERROR:  42501: permission denied for function drop_zone\nERROR:  42501: role "ann" must not be "postgres" at node 2\nHINT:  Take the option/, 'a mapping to another role is refused');
like($router->say(q{SELECT iotmq_node.drop_zone(2, 't', 'us', true)}, @as_ann), qr/^ERROR:  42501: role "ann" must not be/, 'by every way');
$router->sql(q{DROP USER MAPPING FOR ann SERVER n2; CREATE USER MAPPING FOR ann SERVER n2 OPTIONS (user 'ann', password 'x')});
is($router->say(q{SELECT iotmq.publish('t', 'd', '1', 'us', 'a') > 0}, @as_ann), 't', 'one with a password is not');
like($router->say(q{SELECT iotmq_node.drop_zone(2, 't', 'us', true)}, @as_ann), qr/^ERROR:  42501: iotmq_node.drop_zone\(4\): .*REMOTE ERROR/, 'the node decides on what is called there');
foreach my $call (q{iotmq_node.place_set('t', 'us', 0, true)}, q{iotmq_node.place_begin()}, q{iotmq.place_zone('t', 'us', 0)}, q{iotmq.add_node(0, 'n0')}, q{iotmq.create_topic('x')})
{
	like($router->say("SELECT $call", @as_ann), qr/^ERROR:  42501: permission denied for function/, "$call is an administrator's");
}
foreach my $table (qw(node placement moved_cursor))
{
	like($router->say("TABLE iotmq_internal.$table", @as_ann), qr/^ERROR:  42501: permission denied for schema/, "$table is the router's own");
}
$router->sql(q{SELECT iotmq.revoke_publish('t', 'ann'), iotmq.revoke_consume('t', 'g', 'bob'), iotmq.grant_read('t', 'ann', '{eu}'), iotmq.grant_monitor('bob'), iotmq.grant_admin('boss')});
like($router->say(q{SELECT iotmq.publish('t', 'd', '1', 'us')}, @as_ann), qr/^ERROR:  42501:/, 'revoke_publish');
is($router->say(q{SELECT count(*) > 0 FROM iotmq.fetch('t', 'eu', 1)}, @as_ann), 't', 'grant_read');
is($router->say(q{SELECT count(*) FROM iotmq.consumer_lag}, @as_bob), 3, 'grant_monitor');
like($router->say(q{SELECT count(*) FROM iotmq.dead_letter}, @as_bob), qr/^ERROR:  42501:/, 'which shows no content');
is($router->say(q{SELECT iotmq.create_topic('boss', '{a,b}'), iotmq.add_zone('boss', 'c'), iotmq.place_zone('boss', 'd', 1), iotmq.drop_topic('boss')}, @as_boss), '|||', 'grant_admin');
$router->sql(q{SELECT iotmq.revoke_admin('boss'), iotmq.revoke_monitor('bob'), iotmq.revoke_read('t', 'ann')});
like($router->say(q{SELECT iotmq.create_topic('boss')}, @as_boss), qr/^ERROR:  42501:/, 'revoke_admin');
is($router->sql(q{SELECT count(*) FROM iotmq.privileges}), 0, 'nothing is left');

# ---- a node is down ----

$router->sql(q{SELECT iotmq.seek('t', 'g', '-infinity')});
$router->node(1)->stop('immediate');
like($router->say(q{SELECT zone FROM iotmq.consumer_lag ORDER BY zone}),
	qr/^eu\nus\nWARNING:  08006: node 1 \(server "n1"\) does not answer\nDETAIL:  PL\/Proxy function iotmq_node\.view_consumer_lag.*$/s, 'a view lacks its rows');
like($router->say(q{SELECT iotmq.publish('t', 'd', '1', 'asia')}),
	qr/^ERROR:  08006: node 1 \(server "n1"\) does not answer\nDETAIL:  .*\nHINT:  Is it up\? See its address/s, 'a call says which node it is');
is($router->sql(q{SELECT iotmq.publish('t', 'd', '1', 'us') > 0}), 't', 'other nodes go on');
my $delivered = $router->say(join '', map { "SELECT DISTINCT zone FROM iotmq.consume('t', 'g', wait => '10 ms');\n" } 1 .. 4);
is(join(',', grep { $_ eq 'us' || $_ eq 'eu' } sort split /\n/, $delivered), 'eu,us', 'consume passes over it');
like($router->say(q{SELECT iotmq.create_topic('half', '{a,b,c}')}), qr/^ERROR:  08006: node 1 /, 'half a topic');
like($router->say(q{SELECT iotmq.create_group('t', 'half')}), qr/^ERROR:  08006: node 1 /, 'half a group');
like($router->say(q{SELECT iotmq.alter_topic('t', retention => '24 hours')}), qr/^ERROR:  08006: node 1 /, 'half a change');
like($router->say(q{SELECT iotmq.grant_monitor('bob')}), qr/^ERROR:  08006: node 1 /, 'half a right');
$router->node(1)->start;
# As if it had gone down later: the first node has it.
$router->node(0)->safe_psql('postgres', q{SELECT iotmq.create_topic('half', '{b}')});
is($router->say(q{SELECT iotmq.create_topic('half', '{a,b,c}'), iotmq.create_group('t', 'half'), iotmq.alter_topic('t', retention => '24 hours'), iotmq.grant_monitor('bob')}), '|||', 'again completes it');
is($router->sql(q{SELECT count(DISTINCT node), string_agg(zones::text, ' ' ORDER BY node) FROM iotmq.topic_settings WHERE topic = 'half'}), '3|{b} {a} {c}', 'what was there stays where it is');
is($router->sql(q{SELECT string_agg(node::text, ',' ORDER BY node) FROM iotmq.group_settings WHERE consumer_group = 'half'}), '0,1,2', 'the group');
is($router->sql(q{SELECT DISTINCT retention FROM iotmq.topic_settings WHERE topic = 't'}), '24:00:00', 'the change');
is($router->sql(q{SELECT count(*) FROM iotmq.privileges WHERE action = 'monitor'}), 3, 'the right');
$router->node(2)->safe_psql('postgres', q{SELECT iotmq.drop_topic('half'), iotmq.drop_group('t', 'half')});
is($router->say(q{SELECT iotmq.drop_topic('half'), iotmq.drop_group('t', 'half')}), '|', 'a drop passes over where it is gone already');
like($router->say(q{SELECT iotmq.drop_topic('half')}), qr/^ERROR:  42704:/, 'but not over all');
like($router->say(q{SELECT iotmq.drop_group('t', 'half')}), qr/^ERROR:  42704:/, 'likewise of a group');
# Between the node and the router's commit.
$router->node(2)->safe_psql('postgres', q{SELECT iotmq.add_zone('t', 'moon')});
$router->sql(q{SELECT iotmq.add_zone('t', 'moon')});
is($router->sql(q{SELECT node FROM iotmq.node_of('t', 'moon')}), 2, 'a zone that a node has already gets its place');
$router->node(2)->safe_psql('postgres', q{SELECT iotmq.drop_zone('t', 'moon')});
$router->sql(q{SELECT iotmq.drop_zone('t', 'moon')});
like($router->say(q{SELECT iotmq.drop_zone('t', 'moon')}), qr/^ERROR:  42704:/, 'drop_zone is repeatable, once');
# Made anew, it goes on above the old one's offsets, where these are known.
$router->sql(q{SELECT iotmq.add_zone('t', 'moon'), iotmq.publish('t', 'd', '1', 'moon'), iotmq.drop_zone('t', 'moon', true), iotmq.add_zone('t', 'moon')});
is($router->sql(q{SELECT iotmq.publish('t', 'd', '1', 'moon'), node FROM iotmq.node_of('t', 'moon')}), '2|2', 'a zone that is made anew');

# ---- a node that stands still ----

# Its kernel still takes connections and what is sent; nobody reads it. statement_timeout alone
# would wait for the answer to a cancel, for ever.
my $stop = $router->signal_command(2, 'STOP');
my $continue = $router->signal_command(2, 'CONT');
my $frozen = $router->say(qq{SELECT iotmq.publish('t', 'd', '1', 'us') > 0;
\\! $stop
SET iotmq_router.node_timeout = '200 ms';
SELECT iotmq.publish('t', 'd', '1', 'us') > 0;
SET iotmq_router.node_timeout = '3 s';
SELECT count(*) FROM iotmq.consumer_lag;
SELECT iotmq.publish('t', 'd', '1', 'eu') > 0;
SELECT count(*) >= 0 FROM iotmq.consume('t', 'g', wait => '100 ms');
\\! $continue
RESET iotmq_router.node_timeout;
SELECT iotmq.publish('t', 'd', '1', 'us') > 0;
});
my ($results, $messages) = $frozen =~ /^([^A-Z]*)(.*)$/s;
is($results, "t\n2\nt\nt\nt\n", 'calls of other nodes, and later of this one');
like($messages, qr/^ERROR:  08006: node 2 \(server "n2"\) does not answer\n.*WARNING:  08006: node 2 /s, 'a call of it ends');
# With a session that has yet to connect.
$frozen = $router->say(qq{SET iotmq_router.node_timeout = '200 ms';
\\! $stop
SELECT iotmq.publish('t', 'd', '1', 'us') > 0;
\\! $continue
});
like($frozen, qr/^ERROR:  08006: node 2 /, 'also one that has no connection yet');
# The limit ends with the call.
is($router->say(q{SET iotmq_router.node_timeout = '3 s'; BEGIN; SELECT iotmq.publish('t', 'd', '1', 'us') > 0; SELECT pg_sleep(3.1); COMMIT; SELECT 1}), "t\n\n1", 'and no other statement');

# ---- dump and restore ----

my $dump = $router->{router}->backup_dir . '/router.sql';
$router->{router}->command_ok([ 'pg_dump', '-d', $router->{router}->connstr('postgres'), '-f', $dump ], 'a dump of the router');
$router->{router}->safe_psql('postgres', 'CREATE DATABASE restored');
$router->{router}->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $router->{router}->connstr('restored'), '-f', $dump ], 'is restored');
is($router->{router}->safe_psql('restored', q{SELECT zone, node FROM iotmq.placement WHERE topic = 't' ORDER BY zone; SELECT iotmq.publish('t', 'd', '1', 'us') > 0}),
	"asia|1\neu|0\nmoon|2\nus|2\nt", 'with all that it knew');

done_testing();
