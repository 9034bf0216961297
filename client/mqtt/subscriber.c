/*
 * A subscriber of an MQTT broker, whose session outlives its connections.
 *
 * It subscribes when it connects for the first time and whenever the broker has no session
 * of it; else the subscriptions are there, and to renew them would bring all retained
 * messages again.  After a connection that was lost the next try is after a pause, which
 * doubles up to ten seconds and is drawn between half of that and all of it.
 *
 * While its caller doesn't want messages nothing is read from the socket, and a broker that
 * is silent is not held for dead then; what is to be sent is sent, the pings, too.
 */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "iotmq.h"
#include "memory.h"
#include "subscriber.h"

#define FIRST_PAUSE 0.1
#define LONGEST_PAUSE 10.0
#define PATIENCE 20.0			/* seconds for all that comes before the first message */
#define SUBSCRIBE_ID 1

typedef enum State
{
	AWAY,						/* no connection */
	CONNECTING,
	GREETING,					/* CONNECT was sent */
	SUBSCRIBING,				/* SUBSCRIBE was sent */
	UP,
	LEAVING,					/* DISCONNECT is to be sent, or was */
	LEFT
} State;

struct Subscriber
{
	SubscriberOptions options;
	State		state;
	Transport  *transport;		/* NULL: AWAY and LEFT */
	MqttReader	reader;
	MqttWriter	writer;
	unsigned	connection;		/* its number */
	bool		subscribed;		/* this program has, in the session that the broker keeps */
	bool		refused;		/* the last connection was, by what the broker answered */
	const char *weak;			/* a filter that the broker subscribed with QoS 0; NULL: none */
	bool		may_have_more;	/* the last read took all it could */
	double		since;			/* CONNECTING began, or LEAVING */
	double		sent_at;
	double		pinged_at;		/* the first one that nothing came after; 0: none */
	double		pause;
	double		retry_at;
	char		error[512];
};

Subscriber *
subscriber_open(const SubscriberOptions *options)
{
	Subscriber *subscriber = iotmq_allocate(sizeof(Subscriber));

	subscriber->options = *options;
	mqtt_reader_begin(&subscriber->reader, options->longest);
	return subscriber;
}

void
subscriber_close(Subscriber *subscriber)
{
	transport_close(subscriber->transport);
	mqtt_reader_end(&subscriber->reader);
	mqtt_writer_clear(&subscriber->writer);
	free(subscriber);
}

static void
lose(Subscriber *subscriber, const char *why)
{
	snprintf(subscriber->error, sizeof(subscriber->error), "%s:%s: %s", subscriber->options.host,
			 subscriber->options.port, why);
	transport_close(subscriber->transport);
	subscriber->transport = NULL;
	mqtt_reader_end(&subscriber->reader);
	mqtt_writer_clear(&subscriber->writer);
	subscriber->state = subscriber->state == LEAVING ? LEFT : AWAY;
	subscriber->may_have_more = false;
	subscriber->pause = fmin(subscriber->pause == 0 ? FIRST_PAUSE : subscriber->pause * 2, LONGEST_PAUSE);
	subscriber->retry_at = iotmq_now() + subscriber->pause * (0.5 + drand48() / 2);
}

static void
refuse(Subscriber *subscriber, const char *why)
{
	lose(subscriber, why);
	subscriber->refused = true;
}

static void
begin(Subscriber *subscriber)
{
	const SubscriberOptions *options = &subscriber->options;

	subscriber->since = iotmq_now();
	subscriber->refused = false;
	subscriber->connection++;
	subscriber->transport = transport_open(options->host, options->port, &options->tls);
	subscriber->state = CONNECTING;
}

static void
greet(Subscriber *subscriber)
{
	mqtt_write_connect(&subscriber->writer, &subscriber->options.connect);
	subscriber->state = GREETING;
	subscriber->sent_at = iotmq_now();
	subscriber->pinged_at = 0;
}

static void
come_up(Subscriber *subscriber)
{
	subscriber->subscribed = true;
	subscriber->state = UP;
	subscriber->pause = 0;
}

/* Section 3.2.2.3 */
static void
take_connack(Subscriber *subscriber, const MqttPacket *packet)
{
	static const char *const refusals[] = {
		"", "it doesn't speak MQTT 3.1.1", "it refuses the client id", "it is not available",
		"it refuses the user or the password", "it refuses the client"
	};

	if (packet->codes[0] != 0)
	{
		refuse(subscriber, refusals[packet->codes[0]]);
		return;
	}
	if (packet->session_present && subscriber->subscribed)
	{
		come_up(subscriber);
		return;
	}
	mqtt_write_subscribe(&subscriber->writer, SUBSCRIBE_ID, subscriber->options.filters,
						 subscriber->options.filter_count);
	subscriber->state = SUBSCRIBING;
}

static void
take_suback(Subscriber *subscriber, const MqttPacket *packet)
{
	char		why[256];

	if (packet->id != SUBSCRIBE_ID || packet->code_count != (size_t) subscriber->options.filter_count)
	{
		lose(subscriber, "a SUBACK for something else");
		return;
	}
	subscriber->weak = NULL;
	for (int i = 0; i < subscriber->options.filter_count; i++)
	{
		if (packet->codes[i] == 0)
			subscriber->weak = subscriber->options.filters[i];
		if (packet->codes[i] == 0x80)
		{
			snprintf(why, sizeof(why), "it refuses a subscription to %.180s", subscriber->options.filters[i]);
			refuse(subscriber, why);
			return;
		}
	}
	come_up(subscriber);
}

/*
 * Takes what is no message.  Messages may come before the answer to the subscription, and
 * before all others of a session that was there: sections 3.8.4 and 4.4.
 */
static void
take_other(Subscriber *subscriber, const MqttPacket *packet)
{
	if (packet->type == MQTT_CONNACK && subscriber->state == GREETING)
		take_connack(subscriber, packet);
	else if (packet->type == MQTT_SUBACK && subscriber->state == SUBSCRIBING)
		take_suback(subscriber, packet);
	else if (packet->type != MQTT_PINGRESP || subscriber->state == GREETING)
		lose(subscriber, "a packet at a wrong time");
}

/*
 * The next message of what was read.  false: there is none.
 */
bool
subscriber_next(Subscriber *subscriber, MqttPacket *message)
{
	while (subscriber->transport && subscriber->state != LEAVING)
	{
		MqttAnswer	answer = mqtt_reader_next(&subscriber->reader, message);

		if (answer == MQTT_MORE)
			return false;
		if (answer == MQTT_BAD)
			lose(subscriber, subscriber->reader.error);
		else if (message->type != MQTT_PUBLISH)
			take_other(subscriber, message);
		else if (subscriber->state == GREETING)
			lose(subscriber, "a message before its CONNACK");	/* [MQTT-3.2.0-1] */
		else
			return true;
	}
	return false;
}

static void
receive(Subscriber *subscriber)
{
	size_t		room;
	unsigned char *bytes = mqtt_reader_room(&subscriber->reader, &room);
	ssize_t		length = transport_read(subscriber->transport, bytes, room);

	subscriber->may_have_more = false;
	if (length == TRANSPORT_OVER)
		lose(subscriber, transport_error(subscriber->transport));
	if (length < 0)
		return;
	mqtt_reader_filled(&subscriber->reader, (size_t) length);
	subscriber->may_have_more = (size_t) length == room || transport_has_more(subscriber->transport);
	subscriber->pinged_at = 0;
}

static void
transmit(Subscriber *subscriber)
{
	MqttWriter *writer = &subscriber->writer;

	while (writer->end > writer->begin)
	{
		ssize_t		length = transport_write(subscriber->transport, writer->bytes + writer->begin,
											 writer->end - writer->begin);

		if (length == TRANSPORT_OVER)
			lose(subscriber, transport_error(subscriber->transport));
		if (length < 0)
			return;
		mqtt_writer_sent(writer, (size_t) length);
		subscriber->sent_at = iotmq_now();
	}
}

/*
 * Until the broker closes the connection: if we did while something of its was not read, what
 * we have sent might not get there.
 */
static void
wait_for_end(Subscriber *subscriber)
{
	unsigned char nowhere[4096];
	ssize_t		length;

	do
		length = transport_read(subscriber->transport, nowhere, sizeof(nowhere));
	while (length > 0);
	if (length == TRANSPORT_OVER)
		lose(subscriber, "it was left");
}

/* Section 3.1.2.10: before the time is over, as the broker counts from what it has got. */
static double
ping_at(const Subscriber *subscriber)
{
	return subscriber->sent_at + subscriber->options.connect.keep_alive * 0.75;
}

static void
ping(Subscriber *subscriber)
{
	mqtt_write_pingreq(&subscriber->writer);
	subscriber->sent_at = iotmq_now();
	if (subscriber->pinged_at == 0)
		subscriber->pinged_at = subscriber->sent_at;
}

static double
dead_at(const Subscriber *subscriber)
{
	if (subscriber->state != UP)
		return subscriber->since + PATIENCE;
	return subscriber->pinged_at == 0 ? INFINITY :
		subscriber->pinged_at + subscriber->options.connect.keep_alive * 0.75;
}

/*
 * Connects, sends what is to be sent, and if it "reads", takes a piece of what has come:
 * subscriber_next has the messages of it.  Never waits, but for the broker's name.
 */
void
subscriber_step(Subscriber *subscriber, bool reads)
{
	if (subscriber->state == AWAY && iotmq_now() >= subscriber->retry_at)
		begin(subscriber);
	if (subscriber->state == CONNECTING)
	{
		int			result = transport_connect(subscriber->transport);

		if (result == TRANSPORT_OVER)
			lose(subscriber, transport_error(subscriber->transport));
		else if (result == 1)
			greet(subscriber);
	}
	if (subscriber->state == UP && !reads)
		subscriber->pinged_at = 0;
	else if (subscriber->state >= GREETING && subscriber->state <= UP)
		receive(subscriber);
	if (subscriber->transport && iotmq_now() >= dead_at(subscriber))
		lose(subscriber, "no answer");
	if (subscriber->state == UP && iotmq_now() >= ping_at(subscriber))
		ping(subscriber);
	if (subscriber->transport && subscriber->state >= GREETING)
		transmit(subscriber);
	if (subscriber->transport && subscriber->state == LEAVING)
		wait_for_end(subscriber);
}

/*
 * To be called in the order in which messages came: [MQTT-4.6.0-2].  What came by another
 * connection than this one is left out, as the broker sends it again.
 */
void
subscriber_acknowledge(Subscriber *subscriber, unsigned connection, unsigned id)
{
	if (subscriber->transport && connection == subscriber->connection)
		mqtt_write_puback(&subscriber->writer, id);
}

/* After what is still to be sent, tells the broker that this was on purpose. */
void
subscriber_leave(Subscriber *subscriber)
{
	if (subscriber->state == UP)
	{
		mqtt_write_disconnect(&subscriber->writer);
		subscriber->state = LEAVING;
		subscriber->since = iotmq_now();
	}
	else if (subscriber->state != LEAVING && subscriber->state != LEFT)
	{
		lose(subscriber, "it was left");
		subscriber->state = LEFT;
	}
}

unsigned
subscriber_connection(const Subscriber *subscriber)
{
	return subscriber->connection;
}

bool
subscriber_is_up(const Subscriber *subscriber)
{
	return subscriber->state == UP;
}

/* Whether it waits to try again. */
bool
subscriber_is_away(const Subscriber *subscriber)
{
	return subscriber->state == AWAY;
}

bool
subscriber_has_left(const Subscriber *subscriber)
{
	return subscriber->state == LEFT;
}

/* Whether the broker has answered that it doesn't want us. */
bool
subscriber_is_refused(const Subscriber *subscriber)
{
	return subscriber->refused;
}

/* A filter whose messages the broker doesn't keep until they are acknowledged; NULL: there is none. */
const char *
subscriber_weak_filter(const Subscriber *subscriber)
{
	return subscriber->weak;
}

/* -1: none */
int
subscriber_socket(const Subscriber *subscriber, bool *writes)
{
	*writes = subscriber->transport && transport_writes(subscriber->transport);
	return subscriber->transport ? transport_socket(subscriber->transport) : -1;
}

/* When there is something to do without the socket */
double
subscriber_next_step(const Subscriber *subscriber, bool reads)
{
	if (subscriber->writer.end > subscriber->writer.begin && !transport_writes(subscriber->transport))
		return 0;
	switch (subscriber->state)
	{
		case AWAY:
			return subscriber->retry_at;
		case LEFT:
			return INFINITY;
		case UP:
			if (reads && subscriber->may_have_more)
				return 0;
			return fmin(ping_at(subscriber), reads ? dead_at(subscriber) : INFINITY);
		default:
			return subscriber->state < UP && subscriber->may_have_more ? 0 : dead_at(subscriber);
	}
}

/* Why the last connection was lost; "" before. */
const char *
subscriber_error(const Subscriber *subscriber)
{
	return subscriber->error;
}
