/*
 * A subscriber of an MQTT broker, whose session outlives its connections.
 *
 * Nothing here acknowledges a message: the caller does, when he has it safe.  A number says
 * which connection a message came by, since an acknowledgement counts on that one alone:
 * after it the broker sends again what was not acknowledged (section 4.4).
 */

#ifndef SUBSCRIBER_H
#define SUBSCRIBER_H

#include <stdbool.h>

#include "packet.h"
#include "transport.h"

typedef struct Subscriber Subscriber;

/* Its texts are the caller's and stay. */
typedef struct SubscriberOptions
{
	const char *host;
	const char *port;
	TlsSettings tls;
	MqttConnect connect;
	const char *const *filters;
	int			filter_count;
	size_t		longest;		/* payload that is taken as a whole */
} SubscriberOptions;

Subscriber *subscriber_open(const SubscriberOptions *options);
void		subscriber_close(Subscriber *subscriber);
void		subscriber_step(Subscriber *subscriber, bool reads);
bool		subscriber_next(Subscriber *subscriber, MqttPacket *message);
void		subscriber_acknowledge(Subscriber *subscriber, unsigned connection, unsigned id);
void		subscriber_leave(Subscriber *subscriber);
unsigned	subscriber_connection(const Subscriber *subscriber);
bool		subscriber_is_up(const Subscriber *subscriber);
bool		subscriber_is_away(const Subscriber *subscriber);
bool		subscriber_has_left(const Subscriber *subscriber);
bool		subscriber_is_refused(const Subscriber *subscriber);
const char *subscriber_weak_filter(const Subscriber *subscriber);
int			subscriber_socket(const Subscriber *subscriber, bool *writes);
double		subscriber_next_step(const Subscriber *subscriber, bool reads);
const char *subscriber_error(const Subscriber *subscriber);

#endif							/* SUBSCRIBER_H */
