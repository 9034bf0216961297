/*
 * iotmq bridge: what an MQTT broker has into topics.
 *
 * A message is acknowledged to the broker after its transaction has committed, so that the
 * broker keeps what is not in the database.  While a producer has too much, or no
 * connection, nothing is read from the broker.
 */

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "route.h"
#include "subscriber.h"
#include "verb.h"

#define MOST_BYTES (16 << 20)	/* that the producers of a topic hold */

enum
{
	CONFIRM = 'c',
	BATCH = 1,
	LINGER,
	IN_FLIGHT,
	CONNECTIONS
};

static bool async;
static int	batch = 1000;
static double linger;
static int	in_flight = 64;
static int	connections;		/* 0: not said */

static const struct argp_option options[] = {
	{"confirm", CONFIRM, "HOW", 0, "sync: each message in its transaction; async: batches; sync if not said", 0},
	{"batch", BATCH, "NUMBER", 0, "Of async: messages of a transaction at most; 1000 if not said", 0},
	{"linger", LINGER, "SECONDS", 0, "Of async: wait so long for a batch to be full; not at all if not said", 0},
	{"in-flight", IN_FLIGHT, "NUMBER", 0, "Of sync: transactions of a connection sent and not answered at most; 64 if not said",
	0},
	{"connections", CONNECTIONS, "NUMBER", 0, "To each topic, at most 16; 8 if not said, of async 4", 0},
	{NULL}
};

static bool
option(int key, const char *value)
{
	switch (key)
	{
		case CONFIRM:
			async = strcmp(value, "async") == 0;
			return async || strcmp(value, "sync") == 0;
		case BATCH:
			return read_count(value, 1, &batch) && batch <= 10000;
		case LINGER:
			return read_seconds(value, &linger) && linger <= 60;
		case IN_FLIGHT:
			return read_count(value, 1, &in_flight) && in_flight <= 10000;
		default:
			return read_count(value, 1, &connections) && connections <= MOST_CONNECTIONS;
	}
}

typedef struct Bridge
{
	Rules		rules;
	Route		route;
	Subscriber *subscriber;
	bool		was_up;			/* once */
	bool		up;				/* when it was looked at last */
	unsigned	told;			/* the connection whose loss was told */
	bool		down;			/* so was the database, and it was told */
	bool		failing;		/* so does it refuse what has to wait, such as in a zone that moves */
	int			status;
} Bridge;

/* What has changed, for the log */
static void
tell(Bridge *bridge)
{
	unsigned	connection = subscriber_connection(bridge->subscriber);
	bool		up = subscriber_is_up(bridge->subscriber);
	bool		away = subscriber_is_away(bridge->subscriber);
	const char *down = route_down(&bridge->route);
	const char *failing = route_failing(&bridge->route);

	if (up && !bridge->up)
	{
		printf("subscribed to %d filters of %s:%s\n", bridge->rules.count, bridge->rules.host, bridge->rules.port);
		fflush(stdout);
		if (subscriber_weak_filter(bridge->subscriber))
			complain("the broker gives no more than QoS 0 to %s: it keeps no messages of it for us",
					 subscriber_weak_filter(bridge->subscriber));
	}
	else if (away && bridge->told != connection)
	{
		complain("%s", subscriber_error(bridge->subscriber));
		bridge->told = connection;
		if (!bridge->was_up)
			bridge->status = subscriber_is_refused(bridge->subscriber) ? FAILED : UNREACHABLE;
	}
	bridge->up = up;
	bridge->was_up = bridge->was_up || up;

	if (down && !bridge->down)
		complain("%s", down);
	bridge->down = down != NULL;
	if (failing && !bridge->failing)
		complain("%s: trying again", failing);
	bridge->failing = failing != NULL;
}

/* Takes what was read of the broker. */
static void
take(Bridge *bridge)
{
	MqttPacket	message;

	while (subscriber_next(bridge->subscriber, &message))
		route_add(&bridge->route, &message, subscriber_connection(bridge->subscriber));
}

static void
publish(Bridge *bridge, bool flush)
{
	for (int i = 0; i < bridge->route.outlet_count; i++)
		iotmq_producer_step(bridge->route.outlets[i].producer, flush);
}

static void
acknowledge(Bridge *bridge)
{
	Passage    *passage;

	while ((passage = route_take_done(&bridge->route)) != NULL)
	{
		if (passage->id > 0)
			subscriber_acknowledge(bridge->subscriber, passage->connection, passage->id);
		passage_free(passage);
	}
}

static void
wait_for_work(const Bridge *bridge, bool reads)
{
	struct pollfd fds[MOST_OUTLETS + 1];
	double		until = subscriber_next_step(bridge->subscriber, reads);
	bool		writes;
	int			count = 0;
	int			fd = subscriber_socket(bridge->subscriber, &writes);

	/* Before it is up it reads in any case; where nothing is awaited, an error doesn't count. */
	reads = reads || !subscriber_is_up(bridge->subscriber);
	fds[count++] = (struct pollfd)
	{
		.fd = reads || writes ? fd : -1,.events = (short) ((reads ? POLLIN : 0) | (writes ? POLLOUT : 0))
	};
	for (int i = 0; i < bridge->route.outlet_count; i++)
	{
		const IotmqProducer *producer = bridge->route.outlets[i].producer;

		fd = iotmq_producer_socket(producer, &writes);
		until = fmin(until, iotmq_producer_next_step(producer));
		fds[count++] = (struct pollfd)
		{
			.fd = fd,.events = (short) (POLLIN | (writes ? POLLOUT : 0))
		};
	}
	stop_poll(fds, count, until);
}

/*
 * What has begun is finished, if the database is there and takes it: what is not acknowledged is
 * the broker's, who sends it again.
 */
static bool
is_finished(const Bridge *bridge)
{
	return !bridge->route.first || route_down(&bridge->route) || route_failing(&bridge->route);
}

static void
loop(Bridge *bridge)
{
	bool		stopping = false;

	while (bridge->status == DONE && !subscriber_has_left(bridge->subscriber))
	{
		bool		reads;

		stopping = stopping || stop_wanted();
		reads = !stopping && !route_is_blocked(&bridge->route);
		subscriber_step(bridge->subscriber, reads);
		if (!stopping)
			take(bridge);
		publish(bridge, stopping);
		acknowledge(bridge);
		tell(bridge);
		if (bridge->route.stuck)
			bridge->status = FAILED;
		if (stopping && is_finished(bridge))
			subscriber_leave(bridge->subscriber);
		if (bridge->status == DONE && !subscriber_has_left(bridge->subscriber))
			wait_for_work(bridge, reads && !route_is_blocked(&bridge->route));
	}
}

/* If the topic is not as the rules want it, that is told, and "status" is the program's. */
static void
check_topic(IotmqLink *link, const char *topic, bool has_key, bool is_poison, int *status)
{
	PGresult   *result = query_run(link, "SELECT pg_catalog.cardinality(zones) = 1, dedup_window IS NOT NULL"
								   " FROM iotmq.topic_settings WHERE topic = $1", 1, &topic, status);
	const char *error = NULL;

	if (!result)
		return;
	if (PQntuples(result) == 0)
		error = "there is no such topic, or no right on it";
	else if (has_key && *PQgetvalue(result, 0, 1) == 'f')
		error = "a key needs a dedup_window";
	else if (is_poison && *PQgetvalue(result, 0, 0) == 'f')
		error = "a topic of poison has one zone";
	PQclear(result);
	if (error)
	{
		complain("topic \"%s\": %s", topic, error);
		*status = FAILED;
	}
}

/*
 * What is wrong with the database or the rules is told at once, and not by each message.
 */
static int
check_database(const Call *call, const Rules *rules)
{
	int			status = DONE;
	IotmqLink  *link = query_open(call);

	for (int i = 0; i < rules->count && status == DONE; i++)
		check_topic(link, rules->rules[i].topic, rules->rules[i].key, false, &status);
	if (rules->poison && status == DONE)
		check_topic(link, rules->poison, false, true, &status);
	iotmq_link_close(link);
	return status;
}

static int
run(const Call *call)
{
	Bridge	   *bridge = iotmq_allocate(sizeof(Bridge));
	const char **filters = iotmq_allocate(sizeof(char *) * MOST_RULES);
	int			status;

	if (!rules_read(&bridge->rules, call->arguments[0], complain))
		return USAGE;
	status = check_database(call, &bridge->rules);
	if (status != DONE)
		return status;
	for (int i = 0; i < bridge->rules.count; i++)
		filters[i] = bridge->rules.rules[i].subscription;
	if (connections == 0)
		connections = async ? 4 : 8;
	stop_on_signals();
	signal(SIGPIPE, SIG_IGN);	/* OpenSSL writes to a socket that the broker has closed. */
	route_open(&bridge->route, &bridge->rules, connections, &(IotmqProducerOptions)
		{
			.keywords = call->keywords,
				.values = call->values,
				.batch = async ? batch : 1,
				.linger = async ? linger : 0,
				.in_flight = async ? 1 : in_flight,
				.most = MOST_BYTES / (size_t) connections,
				.patient = true
		});
	bridge->subscriber = subscriber_open(&(SubscriberOptions)
		{
			.host = bridge->rules.host,
				.port = bridge->rules.port,
				.tls = {
				bridge->rules.tls, bridge->rules.ca_file, bridge->rules.cert_file, bridge->rules.key_file
			},
				.connect = {
				.client_id = bridge->rules.client_id,
					.user = bridge->rules.user,
					.password = bridge->rules.password,
					.keep_alive = bridge->rules.keep_alive
			},
				.filters = filters,
				.filter_count = bridge->rules.count,
				.longest = LONGEST_CONTENT
		});
	loop(bridge);
	printf("%ld published, %ld poison\n", bridge->route.published, bridge->route.poisoned);
	status = bridge->status;
	subscriber_close(bridge->subscriber);
	route_close(&bridge->route);
	return fflush(stdout) != 0 ? FAILED : status;
}

const Verb	verb_bridge = {
	.name = "bridge",
	.arguments = "RULES",
	.least = 1,
	.most = 1,
	.summary = "Publishes what an MQTT broker has.",
	.doc = "RULES is a file that names the broker and says for each topic filter, such as plant/{zone}/{device}/+, what its "
	"messages become: see iotmq(1).  A message is acknowledged to the broker after its transaction has committed.  While "
	"the database is away nothing is read, and the broker keeps what comes.  What can't be published goes to the "
	"topic that the rules name for poison.  SIGTERM ends it when what it has begun is committed and acknowledged.",
	.options = options,
	.option = option,
	.run = run
};
