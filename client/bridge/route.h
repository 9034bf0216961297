/* Messages of MQTT into topics: each is published, as it is or as poison, before it is done. */

#ifndef ROUTE_H
#define ROUTE_H

#include "packet.h"
#include "rules.h"

#define MOST_CONNECTIONS 16		/* to one topic */
#define MOST_OUTLETS ((MOST_RULES + 1) * MOST_CONNECTIONS)

#define LONGEST_CONTENT (4 << 20)	/* of a message of iotmq */

/* A message that came */
typedef struct Passage
{
	struct Route *route;
	const Rule *rule;			/* NULL: none matches */
	char	   *topic;			/* of MQTT */
	unsigned char *content;		/* with a NUL behind it */
	size_t		length;			/* of the content that is here */
	size_t		whole_length;
	unsigned	connection;		/* by which it came */
	unsigned	id;				/* 0: of QoS 0 */
	bool		retained;
	bool		as_json;		/* it was published as the payload, not as the body */
	bool		poisonous;		/* it was published as poison */
	bool		done;
	struct Passage *next;
} Passage;

/* A producer of one topic; others of the same topic are next to it. */
typedef struct Outlet
{
	const char *topic;
	IotmqProducer *producer;
} Outlet;

typedef struct Route
{
	const Rules *rules;
	Outlet	   *outlets;
	int			outlet_count;
	int			connections;	/* outlets of each topic */
	int			outlet_of[MOST_RULES];	/* of each rule, the first one */
	int			poison_outlet;	/* -1: none */
	Passage    *first;			/* in the order in which they came */
	Passage   **end;
	long		published;
	long		poisoned;
	bool		stuck;			/* poison was refused, or a topic without poison: nothing can go on */
} Route;

void		route_open(Route *route, const Rules *rules, int connections, const IotmqProducerOptions *options);
void		route_close(Route *route);
void		route_add(Route *route, const MqttPacket *message, unsigned connection);
Passage    *route_take_done(Route *route);
bool		route_is_blocked(const Route *route);
const char *route_down(const Route *route);
const char *route_failing(const Route *route);
void		passage_free(Passage *passage);

#endif							/* ROUTE_H */
