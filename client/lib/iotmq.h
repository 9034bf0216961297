/*
 * libiotmq: the loops around iotmq's SQL functions that every client needs.
 *
 * A consumer takes leases while others are worked on, keeps these from expiring,
 * settles what it is told to and comes back after its connection is lost.  A producer
 * publishes without waiting, one message or a batch in each transaction, and tells
 * of each message what became of it.
 *
 * Nothing here starts a thread or handles a signal.  A caller with a loop of its own polls
 * the sockets and calls the step functions; all functions are to be called from one thread.
 * Connecting is the only thing that blocks, for as long as libpq's connect_timeout allows.
 *
 * Lease ids and offsets are text, as they came: a lease id may be larger than 2^53.
 * Times are seconds, those that are points in time are of CLOCK_MONOTONIC.
 */

#ifndef IOTMQ_H
#define IOTMQ_H

#include <stdbool.h>
#include <stddef.h>

#include <libpq-fe.h>

double		iotmq_now(void);

/*
 * A connection that is made when it is wanted, and made again when it was lost.
 */
typedef struct IotmqLink IotmqLink;

/* What an error means to whoever got it */
typedef enum IotmqTrouble
{
	IOTMQ_FINE,
	IOTMQ_AGAIN,				/* passes by itself: the connection, a deadlock, a shutdown */
	IOTMQ_LOST,					/* the lease is over: 55000 */
	IOTMQ_REFUSED				/* will fail again: no right, no such topic, bad value */
} IotmqTrouble;

/* keywords and values: as for PQconnectdbParams, with expand_dbname; copied. */
IotmqLink  *iotmq_link_open(const char *const *keywords, const char *const *values);
void		iotmq_link_close(IotmqLink *link);
PGconn	   *iotmq_link_connection(IotmqLink *link);
PGconn	   *iotmq_link_current(const IotmqLink *link);
void		iotmq_link_lose(IotmqLink *link, const char *why);
void		iotmq_link_fail(IotmqLink *link, const PGresult *result);
double		iotmq_link_retry_at(const IotmqLink *link);
const char *iotmq_link_error(const IotmqLink *link);
bool		iotmq_link_refused(const IotmqLink *link);
PGresult   *iotmq_link_query(IotmqLink *link, const char *sql, int count, const char *const *values,
							 IotmqTrouble *trouble);
IotmqTrouble iotmq_trouble(const PGconn *connection, const PGresult *result);

/*
 * What a consumer is given.
 */
typedef enum IotmqFate
{
	IOTMQ_OPEN,
	IOTMQ_ACK,
	IOTMQ_NACK,
	IOTMQ_REJECT
} IotmqFate;

typedef struct IotmqMessage
{
	const char *offset;
	const char *device_id;
	const char *tag;			/* NULL: none, as with the next four */
	const char *payload;		/* JSON */
	const char *body;			/* bytea in hex, for PQunescapeBytea */
	const char *properties;		/* JSON */
	const char *message_key;
	const char *published_at;
	int			attempt;		/* from 1 */
	IotmqFate	fate;			/* what is to become of it, or did if settled is true */
	bool		settled;		/* or taken back, which leaves its fate open */
	double		delay;			/* of a nack, in seconds; below 0: the group's backoff */
	char	   *reason;			/* of a nack or reject; NULL: none */
} IotmqMessage;

typedef struct IotmqBatch
{
	const char *lease_id;
	const char *zone;
	int			count;
	IotmqMessage *messages;
	bool		orderly;		/* of an orderly group: a nack takes back what follows of its device */
	bool		lost;			/* the lease is over: what is not settled comes again, here or elsewhere */
	bool		unsure;			/* the connection was lost before a settlement was answered */
	int			open;			/* how many are not settled */
	double		extend_at;		/* when the lease is to be extended */
	double		deadline;		/* of the lease, as far as is known: then others may have its messages */
	PGresult   *result;			/* holds the texts */
	struct IotmqBatch *next;
} IotmqBatch;

typedef struct IotmqConsumer IotmqConsumer;

typedef struct IotmqConsumerOptions
{
	const char *const *keywords;	/* of the connections, see iotmq_link_open */
	const char *const *values;
	const char *topic;
	const char *consumer_group;
	const char *zone;			/* NULL: all */
	const char *consumer;		/* its name in the views; NULL: none */
	int			max_messages;	/* of a lease; 0: 32 */
	double		invisible_for;	/* of a lease; 0: the group's */
	double		wait;			/* of a call; 0: 20 s */
} IotmqConsumerOptions;

IotmqConsumer *iotmq_consumer_open(const IotmqConsumerOptions *options);
void		iotmq_consumer_close(IotmqConsumer *consumer);
IotmqTrouble iotmq_consumer_ask(IotmqConsumer *consumer);
IotmqTrouble iotmq_consumer_take(IotmqConsumer *consumer, IotmqBatch **batch);
int			iotmq_consumer_socket(const IotmqConsumer *consumer);
double		iotmq_consumer_next_step(const IotmqConsumer *consumer, bool wants);
void		iotmq_consumer_limit(IotmqConsumer *consumer, int max_messages);
void		iotmq_consumer_cancel(IotmqConsumer *consumer);
bool		iotmq_consumer_asking(const IotmqConsumer *consumer);
void		iotmq_consumer_beat(IotmqConsumer *consumer);
IotmqTrouble iotmq_consumer_settle(IotmqConsumer *consumer, IotmqBatch *batch);
void		iotmq_consumer_release(IotmqConsumer *consumer, IotmqBatch *batch);
const char *iotmq_consumer_error(const IotmqConsumer *consumer);

void		iotmq_message_settle(IotmqMessage *message, IotmqFate fate, double delay, const char *reason);

/*
 * What a producer is given.
 */
typedef struct IotmqRecord
{
	const char *zone;			/* NULL: the topic's only one */
	const char *device_id;
	const char *tag;
	const char *payload;		/* JSON; this or body */
	const unsigned char *body;
	size_t		body_length;
	const char *properties;		/* JSON */
	const char *message_key;
} IotmqRecord;

/* offset: where the message is.  NULL: it was refused, for what sqlstate and error say. */
typedef void (*IotmqPublished) (void *argument, const char *offset, const char *sqlstate, const char *error);

typedef struct IotmqProducer IotmqProducer;

typedef struct IotmqProducerOptions
{
	const char *const *keywords;
	const char *const *values;
	const char *topic;
	int			batch;			/* messages of a transaction at most; 0: 1 */
	double		linger;			/* how long a batch waits to be full; 0: not */
	int			in_flight;		/* transactions sent and not answered at most; 0: 1 */
	size_t		most;			/* bytes that may be queued or sent; 0: 64 MiB */
	bool		patient;		/* waits where nothing can be published now (55000), such as in a zone that moves */
} IotmqProducerOptions;

IotmqProducer *iotmq_producer_open(const IotmqProducerOptions *options);
void		iotmq_producer_close(IotmqProducer *producer);
bool		iotmq_producer_full(const IotmqProducer *producer);
void		iotmq_producer_add(IotmqProducer *producer, const IotmqRecord *record, IotmqPublished published,
							   void *argument);
void		iotmq_producer_add_json(IotmqProducer *producer, const char *record, IotmqPublished published,
									void *argument);
void		iotmq_producer_step(IotmqProducer *producer, bool flush);
int			iotmq_producer_socket(const IotmqProducer *producer, bool *writes);
double		iotmq_producer_next_step(const IotmqProducer *producer);
size_t		iotmq_producer_pending(const IotmqProducer *producer);
const char *iotmq_producer_error(const IotmqProducer *producer);
bool		iotmq_producer_is_failing(const IotmqProducer *producer);

#endif							/* IOTMQ_H */
