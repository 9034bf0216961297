/*
 * Messages of MQTT into topics.
 *
 * A message is done when it is committed: as the payload or body of its rule's topic, or, if
 * that can't be, as the body of a message in the topic of poison.  If poison has no topic
 * it is told and done, but if any other one would be refused likewise, nothing can go on.  They are taken out in the order in which they came, so that
 * acknowledgements have this order: [MQTT-4.6.0-2].
 *
 * A topic may have several producers, whose commits can go to the disk together.  What is of
 * one device goes by one of them, and so keeps its order.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "route.h"
#include "verb.h"

#define LONGEST_DEVICE 255		/* bytes, as the server has it */
#define LONGEST_PROPERTY 4096	/* of a message of poison */
#define LONGEST_POISON (LONGEST_CONTENT - 65536)	/* its properties count, too */

/* The first of the topic */
static int
find_outlet(Route *route, const char *topic, const IotmqProducerOptions *options)
{
	IotmqProducerOptions own = *options;
	int			first = route->outlet_count;

	for (int i = 0; i < route->outlet_count; i++)
		if (strcmp(route->outlets[i].topic, topic) == 0)
			return i;
	own.topic = topic;
	for (int i = 0; i < route->connections; i++)
		route->outlets[route->outlet_count++] = (Outlet)
	{
		topic, iotmq_producer_open(&own)
	};
	return first;
}

/* connections: to each topic.  options: of all producers; their topics are those of the rules. */
void
route_open(Route *route, const Rules *rules, int connections, const IotmqProducerOptions *options)
{
	*route = (Route)
	{
		.rules = rules,.outlets = iotmq_allocate(sizeof(Outlet) * MOST_OUTLETS),.connections = connections,.poison_outlet = -1
	};
	route->end = &route->first;
	for (int i = 0; i < rules->count; i++)
		route->outlet_of[i] = find_outlet(route, rules->rules[i].topic, options);
	if (rules->poison)
		route->poison_outlet = find_outlet(route, rules->poison, options);
}

void
route_close(Route *route)
{
	for (int i = 0; i < route->outlet_count; i++)
		iotmq_producer_close(route->outlets[i].producer);
	free(route->outlets);
	while (route->first)
	{
		Passage    *passage = route->first;

		route->first = passage->next;
		passage_free(passage);
	}
}

void
passage_free(Passage *passage)
{
	free(passage->topic);
	free(passage->content);
	free(passage);
}

/* A member of an object; the value is cut at a character's beginning if it is too long. */
static void
put_member(FILE *stream, const char *name, const char *value, size_t most)
{
	size_t		length = strlen(value);
	char	   *cut;

	if (length > most)
		for (length = most; ((unsigned char) value[length] & 0xC0) == 0x80;)
			length--;
	cut = strndup(value, length);
	if (!cut)
		abort();
	json_text(stream, name);
	fputs(": ", stream);
	json_text(stream, cut);
	free(cut);
}

/* What is known of a message that could not be published; to be freed by the caller. */
static char *
describe(const Passage *passage, const char *sqlstate, const char *reason)
{
	char	   *text;
	size_t		size;
	FILE	   *stream = open_memstream(&text, &size);

	if (!stream)
		abort();
	putc('{', stream);
	put_member(stream, "reason", reason, LONGEST_PROPERTY);
	fputs(", ", stream);
	if (sqlstate)
	{
		put_member(stream, "sqlstate", sqlstate, LONGEST_PROPERTY);
		fputs(", ", stream);
	}
	if (passage->rule)
	{
		put_member(stream, "filter", passage->rule->filter.text, LONGEST_PROPERTY);
		fputs(", ", stream);
	}
	put_member(stream, "mqtt_topic", passage->topic, LONGEST_PROPERTY);
	fprintf(stream, ", \"mqtt_qos\": %d, \"mqtt_retained\": %s, \"length\": %zu}", passage->id > 0,
			passage->retained ? "true" : "false", passage->whole_length);
	if (fclose(stream) != 0)
		abort();
	return text;
}

static void answered(void *argument, const char *offset, const char *sqlstate, const char *error);

/*
 * Whether the server refuses the topic, and not the message: it isn't there, or there is no right
 * on it.  What is said so of a zone may be the message's fault, if that has chosen it.
 */
static bool
is_of_topic(const Rule *rule, const char *sqlstate)
{
	static const char *const errors[] = {"42704", "42501", "3F000", "42883", "42P01"};
	bool		chosen = rule->zone && strchr(rule->zone, '{');

	for (size_t i = chosen ? 2 : 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (strcmp(sqlstate, errors[i]) == 0)
			return true;
	return false;
}

static void
poison(Passage *passage, const char *sqlstate, const char *reason)
{
	Route	   *route = passage->route;
	char	   *properties;
	IotmqRecord record = {.device_id = "mqtt",.body = passage->content};

	if (route->poison_outlet < 0 && sqlstate && is_of_topic(passage->rule, sqlstate))
	{
		complain("%s: a message is refused: %s (%s)", passage->rule->topic, reason, sqlstate);
		route->stuck = true;
		return;
	}
	route->poisoned++;
	passage->poisonous = true;
	if (route->poison_outlet < 0)
	{
		complain("a message of %s is left out: %s", passage->topic, reason);
		passage->done = true;
		return;
	}
	properties = describe(passage, sqlstate, reason);
	record.body_length = passage->length < LONGEST_POISON ? passage->length : LONGEST_POISON;
	record.properties = properties;
	iotmq_producer_add(route->outlets[route->poison_outlet].producer, &record, answered, passage);
	free(properties);
}

/* A rule wants a value that the payload doesn't have. */
static void
poison_without(Passage *passage, Slice path)
{
	char	   *reason;

	if (asprintf(&reason, "the payload has no %.*s", (int) path.length, path.text) < 0)
		abort();
	poison(passage, NULL, reason);
	free(reason);
}

/* To be freed by the caller; NULL: the rule has none. */
static char *
fill_properties(const Rule *rule, const Slice *captures, Source *source)
{
	char	   *text;
	size_t		size;
	FILE	   *stream;

	if (!rule->properties)
		return NULL;
	stream = open_memstream(&text, &size);
	if (!stream)
		abort();
	for (const Property *property = rule->properties; property; property = property->next)
	{
		char	   *value = template_fill(property->value, &rule->filter, captures, source);

		fputs(property == rule->properties ? "{" : ", ", stream);
		json_text(stream, property->name);
		fputs(": ", stream);
		json_text(stream, value);
		free(value);
	}
	putc('}', stream);
	if (fclose(stream) != 0)
		abort();
	return text;
}

/* Always the same one for a device */
static const Outlet *
outlet_for(const Route *route, const Rule *rule, const char *device)
{
	unsigned	hash = 2166136261u;	/* FNV-1a */

	for (; *device; device++)
		hash = (hash ^ (unsigned char) *device) * 16777619u;
	return &route->outlets[route->outlet_of[rule - route->rules->rules] + (int) (hash % (unsigned) route->connections)];
}

static void
publish(Passage *passage, const Slice *captures)
{
	const Route *route = passage->route;
	const Rule *rule = passage->rule;
	Source		source = {
		.topic = {passage->topic, strlen(passage->topic)},.content = passage->content,.length = passage->length,.is_json = passage->as_json
	};
	char	   *device = template_fill(rule->device, &rule->filter, captures, &source);
	char	   *zone = template_fill(rule->zone, &rule->filter, captures, &source);
	char	   *tag = template_fill(rule->tag, &rule->filter, captures, &source);
	char	   *key = template_fill(rule->key, &rule->filter, captures, &source);
	char	   *properties = fill_properties(rule, captures, &source);
	IotmqRecord record = {
		.zone = zone,.device_id = device,.tag = tag,.message_key = key,.properties = properties
	};

	if (passage->as_json)
		record.payload = (const char *) passage->content;
	else
	{
		record.body = passage->content;
		record.body_length = passage->length;
	}
	/* The server would say so, too, but with all that is in the same transaction. */
	if (source.missing.text)
		poison_without(passage, source.missing);
	else if (!*device)
		poison(passage, NULL, "no device");
	else if (strlen(device) > LONGEST_DEVICE)
		poison(passage, NULL, "the device id has more than 255 bytes");
	else
		iotmq_producer_add(outlet_for(route, rule, device)->producer, &record, answered, passage);
	free(device);
	free(zone);
	free(tag);
	free(key);
	free(properties);
}

/*
 * Errors that text has which is no JSON for PostgreSQL, or none that a jsonb can hold: its
 * syntax, \u0000, a number or a string beyond all bounds, and too many levels.
 */
static bool
is_json_error(const char *sqlstate)
{
	static const char *const errors[] = {"22P02", "22P05", "22003", "54001"};

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (strcmp(sqlstate, errors[i]) == 0)
			return true;
	return false;
}

/* What the server has made of a message */
static void
answered(void *argument, const char *offset, const char *sqlstate, const char *error)
{
	Passage    *passage = argument;
	Slice		captures[MOST_CAPTURES];

	if (offset)
	{
		passage->route->published += !passage->poisonous;
		passage->done = true;
	}
	else if (passage->poisonous)
	{
		complain("%s: poison is refused: %s (%s)", passage->route->rules->poison, error, sqlstate);
		passage->route->stuck = true;
	}
	else if (passage->as_json && passage->rule->content == CONTENT_AUTO && is_json_error(sqlstate))
	{
		passage->as_json = false;
		rules_find(passage->route->rules, (Slice)
			{
				passage->topic, strlen(passage->topic)
			}, captures);
		publish(passage, captures);
	}
	else
		poison(passage, sqlstate, error);
}

/* Whether it is worth a try: most of what is no JSON doesn't begin or isn't written like it. */
static bool
may_be_json(const Passage *passage)
{
	size_t		blanks = strspn((const char *) passage->content, " \t\r\n");

	return passage->content[blanks] && strchr("{[\"-0123456789tfn", passage->content[blanks]) &&
		mqtt_is_utf8(passage->content, passage->length);
}

void
route_add(Route *route, const MqttPacket *message, unsigned connection)
{
	Passage    *passage = iotmq_allocate(sizeof(Passage));
	Slice		captures[MOST_CAPTURES];

	*passage = (Passage)
	{
		.route = route,
			.topic = memcpy(iotmq_allocate(message->topic_length + 1), message->topic, message->topic_length),
			.content = memcpy(iotmq_allocate(message->payload_length + 1), message->payload, message->payload_length),
			.length = message->payload_length,
			.whole_length = message->whole_length,
			.connection = connection,
			.id = message->id,
			.retained = message->retained
	};
	*route->end = passage;
	route->end = &passage->next;

	passage->rule = rules_find(route->rules, (Slice)
		{
			passage->topic, message->topic_length
		}, captures);
	if (!passage->rule)
	{
		poison(passage, NULL, "no rule matches");
		return;
	}
	passage->as_json = passage->rule->content != CONTENT_BODY && may_be_json(passage);
	if (passage->whole_length > passage->length)
		poison(passage, NULL, "the message is over 4 MiB");
	else if (passage->rule->content == CONTENT_JSON && !passage->as_json)
		poison(passage, NULL, "this is no JSON");
	else
		publish(passage, captures);
}

/* The first message, if it is done; to be freed by the caller.  NULL: not yet. */
Passage *
route_take_done(Route *route)
{
	Passage    *passage = route->first;

	if (!passage || !passage->done)
		return NULL;
	route->first = passage->next;
	if (!route->first)
		route->end = &route->first;
	return passage;
}

/* Why a producer that has something to publish has no connection; NULL: all have one. */
const char *
route_down(const Route *route)
{
	bool		writes;

	for (int i = 0; i < route->outlet_count; i++)
		if (iotmq_producer_pending(route->outlets[i].producer) > 0 &&
			iotmq_producer_socket(route->outlets[i].producer, &writes) < 0)
			return iotmq_producer_error(route->outlets[i].producer);
	return NULL;
}

/* Why what was sent has to be sent again and again, on a connection that is good; NULL: nothing has. */
const char *
route_failing(const Route *route)
{
	for (int i = 0; i < route->outlet_count; i++)
		if (iotmq_producer_is_failing(route->outlets[i].producer))
			return iotmq_producer_error(route->outlets[i].producer);
	return NULL;
}

/* Whether nothing more should be added. */
bool
route_is_blocked(const Route *route)
{
	for (int i = 0; i < route->outlet_count; i++)
		if (iotmq_producer_full(route->outlets[i].producer))
			return true;
	return route_down(route) != NULL;
}
