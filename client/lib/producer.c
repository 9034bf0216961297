/*
 * A producer: messages go in, and each one's offset or error comes out after its commit.
 *
 * They are sent in transactions of up to "batch" messages, of which "in_flight" may be sent
 * and not answered, by libpq's pipeline mode.  A transaction that the server refuses is
 * sent again in halves until the messages that are at fault are alone; only these are refused.
 *
 * The messages of a device are stored in the order in which they came, whatever is sent again:
 * while one is on its way no other one of its device is sent, nor is anything behind that.  A
 * record as JSON hides its device, and waits for all that is on its way.
 *
 * A result comes before the transaction commits: that is at the end of a pipeline's part, so
 * a callback is called when this end, PGRES_PIPELINE_SYNC, is there.
 *
 * When the connection is lost, what was not answered is sent again: nothing is lost, and
 * what the server had committed is there twice, unless the messages have keys.
 */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "iotmq.h"
#include "memory.h"

#define DEFAULT_BYTES (64 << 20)
#define PAUSE 0.2				/* after a transaction that failed for a reason that passes */

typedef struct Item
{
	IotmqRecord record;			/* its texts belong to the item */
	char	   *json;			/* a record as JSON, instead; NULL: none */
	size_t		bytes;
	double		queued_at;
	int			most;			/* how many may be in its transaction */
	IotmqPublished published;
	void	   *argument;
	struct Item *next;
} Item;

typedef struct Queue
{
	Item	   *first;
	Item	  **end;			/* where the next one's address goes */
	int			count;
} Queue;

/* A transaction that was sent */
typedef struct Flight
{
	Queue		items;
	PGresult   *result;			/* its answer; NULL: not there yet */
	struct Flight *next;
} Flight;

struct IotmqProducer
{
	IotmqLink  *link;
	char	   *topic;
	int			batch;
	double		linger;
	int			in_flight;
	size_t		most;
	PGconn	   *piped;			/* the connection that is in pipeline mode; NULL: none is */
	bool		writes;			/* libpq has something that the socket did not take yet */
	double		resume_at;		/* nothing is sent before */
	bool		patient;
	bool		failing;		/* what was answered last is to be tried again */
	size_t		bytes;			/* of all items */
	size_t		pending;		/* their number */
	Queue		queue;			/* to be sent */
	Flight	   *flights;		/* sent, the first one is answered first */
	int			flying;
};

static void
queue_clear(Queue *queue)
{
	*queue = (Queue)
	{
		.end = &queue->first
	};
}

static void
queue_append(Queue *queue, Item *item)
{
	item->next = NULL;
	*queue->end = item;
	queue->end = &item->next;
	queue->count++;
}

static Item *
queue_take(Queue *queue)
{
	Item	   *item = queue->first;

	queue->first = item->next;
	if (!queue->first)
		queue->end = &queue->first;
	queue->count--;
	return item;
}

/* Puts all of "front" before what "queue" has. */
static void
queue_prepend(Queue *queue, Queue *front)
{
	if (!front->first)
		return;
	*front->end = queue->first;
	if (!queue->first)
		queue->end = front->end;
	queue->first = front->first;
	queue->count += front->count;
	queue_clear(front);
}

IotmqProducer *
iotmq_producer_open(const IotmqProducerOptions *options)
{
	IotmqProducer *producer = iotmq_allocate(sizeof(IotmqProducer));

	*producer = (IotmqProducer)
	{
		.link = iotmq_link_open(options->keywords, options->values),
			.topic = iotmq_copy(options->topic),
			.batch = options->batch > 0 ? options->batch : 1,
			.linger = options->linger,
			.in_flight = options->in_flight > 0 ? options->in_flight : 1,
			.most = options->most > 0 ? options->most : DEFAULT_BYTES,
			.patient = options->patient
	};
	queue_clear(&producer->queue);
	return producer;
}

static void
free_item(IotmqProducer *producer, Item *item)
{
	producer->bytes -= item->bytes;
	producer->pending--;
	free((char *) item->record.zone);
	free((char *) item->record.device_id);
	free((char *) item->record.tag);
	free((char *) item->record.payload);
	free((unsigned char *) item->record.body);
	free((char *) item->record.properties);
	free((char *) item->record.message_key);
	free(item->json);
	free(item);
}

/* What was not answered is forgotten, without a call of its callback. */
void
iotmq_producer_close(IotmqProducer *producer)
{
	Flight	   *flight;

	while ((flight = producer->flights) != NULL)
	{
		producer->flights = flight->next;
		queue_prepend(&producer->queue, &flight->items);
		PQclear(flight->result);
		free(flight);
	}
	while (producer->queue.first)
		free_item(producer, queue_take(&producer->queue));
	iotmq_link_close(producer->link);
	free(producer->topic);
	free(producer);
}

/* Whether it has as much as it should: whoever reads messages from somewhere stops. */
bool
iotmq_producer_full(const IotmqProducer *producer)
{
	return producer->bytes >= producer->most;
}

/* How many messages wait for their answer, or to be sent. */
size_t
iotmq_producer_pending(const IotmqProducer *producer)
{
	return producer->pending;
}

const char *
iotmq_producer_error(const IotmqProducer *producer)
{
	return iotmq_link_error(producer->link);
}

/* Whether it tries again what a server has not taken for a reason that passes: see its error. */
bool
iotmq_producer_is_failing(const IotmqProducer *producer)
{
	return producer->failing;
}

static char *
copy_counted(const char *text, size_t *bytes)
{
	if (!text)
		return NULL;
	*bytes += strlen(text) + 1;
	return iotmq_copy(text);
}

static void
add(IotmqProducer *producer, Item *item, IotmqPublished published, void *argument)
{
	item->bytes += sizeof(Item);
	item->queued_at = iotmq_now();
	item->most = producer->batch;
	item->published = published;
	item->argument = argument;
	producer->bytes += item->bytes;
	producer->pending++;
	queue_append(&producer->queue, item);
}

/* Copies the record. */
void
iotmq_producer_add(IotmqProducer *producer, const IotmqRecord *record, IotmqPublished published, void *argument)
{
	Item	   *item = iotmq_allocate(sizeof(Item));
	IotmqRecord *own = &item->record;

	own->zone = copy_counted(record->zone, &item->bytes);
	own->device_id = copy_counted(record->device_id, &item->bytes);
	own->tag = copy_counted(record->tag, &item->bytes);
	own->payload = copy_counted(record->payload, &item->bytes);
	own->properties = copy_counted(record->properties, &item->bytes);
	own->message_key = copy_counted(record->message_key, &item->bytes);
	if (record->body)
	{
		own->body = memcpy(iotmq_allocate(record->body_length), record->body, record->body_length);
		own->body_length = record->body_length;
		item->bytes += record->body_length;
	}
	add(producer, item, published, argument);
}

/*
 * record: an object with the members zone, device_id, tag, payload, body (base64),
 * properties and message_key.
 */
void
iotmq_producer_add_json(IotmqProducer *producer, const char *record, IotmqPublished published, void *argument)
{
	Item	   *item = iotmq_allocate(sizeof(Item));

	item->json = copy_counted(record, &item->bytes);
	add(producer, item, published, argument);
}

/* An array of one field of all; NULL if none has it and "needed" is not set. */
static char *
field_array(const Queue *items, size_t field, bool needed)
{
	Array		array;
	char	   *text;
	bool		any = needed;

	iotmq_array_begin(&array);
	for (const Item *item = items->first; item; item = item->next)
	{
		const char *value = *(const char *const *) ((const char *) &item->record + field);

		any = any || value;
		iotmq_array_add(&array, value);
	}
	text = iotmq_array_end(&array);
	if (any)
		return text;
	free(text);
	return NULL;
}

static char *
body_array(const Queue *items)
{
	Array		array;
	char	   *text;
	bool		any = false;

	iotmq_array_begin(&array);
	for (const Item *item = items->first; item; item = item->next)
	{
		any = any || item->record.body;
		iotmq_array_add_bytes(&array, item->record.body, item->record.body_length);
	}
	text = iotmq_array_end(&array);
	if (any)
		return text;
	free(text);
	return NULL;
}

static int
send_records(const IotmqProducer *producer, const Queue *items)
{
	char	   *fields[] = {
		field_array(items, offsetof(IotmqRecord, device_id), true),
		field_array(items, offsetof(IotmqRecord, payload), true),
		field_array(items, offsetof(IotmqRecord, zone), false),
		field_array(items, offsetof(IotmqRecord, tag), false),
		field_array(items, offsetof(IotmqRecord, properties), false),
		body_array(items),
		field_array(items, offsetof(IotmqRecord, message_key), false)
	};
	const char *values[] = {
		producer->topic, fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[6]
	};
	int			sent = PQsendQueryParams(producer->piped,
										 "SELECT pg_catalog.unnest(iotmq.publish_batch($1, $2::text[], $3::jsonb[],"
										 " zones => $4::text[], tags => $5::text[], properties => $6::jsonb[],"
										 " bodies => $7::bytea[], message_keys => $8::text[]))",
										 8, NULL, values, NULL, NULL, 0);

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		free(fields[i]);
	return sent;
}

static int
send_json(const IotmqProducer *producer, const Queue *items)
{
	Array		records;
	char	   *text;
	int			sent;

	iotmq_array_begin(&records);
	for (const Item *item = items->first; item; item = item->next)
		iotmq_array_add(&records, item->json);
	text = iotmq_array_end(&records);
	sent = PQsendQueryParams(producer->piped,
							 "SELECT pg_catalog.unnest(iotmq.publish_batch($1, pg_catalog.array_agg(r->>'device_id'::text ORDER BY n),"
							 " pg_catalog.array_agg(r->'payload'::text ORDER BY n),"
							 " zones => CASE WHEN pg_catalog.bool_or(r ? 'zone'::text)"
							 "   THEN pg_catalog.array_agg(r->>'zone'::text ORDER BY n) END,"
							 " tags => pg_catalog.array_agg(r->>'tag'::text ORDER BY n),"
							 " properties => pg_catalog.array_agg(r->'properties'::text ORDER BY n),"
							 " bodies => pg_catalog.array_agg(pg_catalog.decode(r->>'body'::text, 'base64') ORDER BY n),"
							 " message_keys => CASE WHEN pg_catalog.bool_or(r ? 'message_key'::text)"
							 "   THEN pg_catalog.array_agg(r->>'message_key'::text ORDER BY n) END))"
							 " FROM pg_catalog.unnest($2::jsonb[]) WITH ORDINALITY AS x(r, n)",
							 2, NULL, (const char *const[])
							 {
								 producer->topic, text
							 }, NULL, NULL, 0);
	free(text);
	return sent;
}

/* What was not answered is the first to be sent again. */
static void
take_back_flights(IotmqProducer *producer)
{
	Queue		back;
	Flight	   *flight;

	queue_clear(&back);
	while ((flight = producer->flights) != NULL)
	{
		producer->flights = flight->next;
		while (flight->items.first)
			queue_append(&back, queue_take(&flight->items));
		PQclear(flight->result);
		free(flight);
	}
	producer->flying = 0;
	queue_prepend(&producer->queue, &back);
}

/* The connection is closed. */
static void
lost(IotmqProducer *producer)
{
	producer->piped = NULL;
	producer->writes = producer->failing = false;
	take_back_flights(producer);
}

static void
lose(IotmqProducer *producer)
{
	iotmq_link_lose(producer->link, PQerrorMessage(producer->piped));
	lost(producer);
}

/* Whether an item has to wait for one that is on its way, or may have to. */
static bool
must_wait(const IotmqProducer *producer, const Item *item)
{
	if (producer->flights && item->json)
		return true;
	for (const Flight *flight = producer->flights; flight; flight = flight->next)
		for (const Item *sent = flight->items.first; sent; sent = sent->next)
			if (sent->json || strcmp(sent->record.device_id, item->record.device_id) == 0)
				return true;
	return false;
}

/* Whether something can be sent, but for its time. */
static bool
can_send(const IotmqProducer *producer)
{
	const Item *first = producer->queue.first;

	return first && producer->flying < producer->in_flight && !must_wait(producer, first);
}

/* Whether the next transaction is to be sent now. */
static bool
is_due(const IotmqProducer *producer, bool flush)
{
	const Item *first = producer->queue.first;
	double		now = iotmq_now();

	if (!can_send(producer) || now < producer->resume_at)
		return false;
	return flush || producer->queue.count >= producer->batch || first->most < producer->batch
		|| now >= first->queued_at + producer->linger;
}

/* Returns whether the connection is still good. */
static bool
send_next(IotmqProducer *producer)
{
	Flight	   *flight = iotmq_allocate(sizeof(Flight));
	Flight	  **last = &producer->flights;
	bool		json = producer->queue.first->json;
	int			most = producer->queue.first->most;

	queue_clear(&flight->items);
	while (producer->queue.first && flight->items.count < most && !producer->queue.first->json == !json &&
		   !must_wait(producer, producer->queue.first))
	{
		Item	   *item = queue_take(&producer->queue);

		queue_append(&flight->items, item);
		most = item->most < most ? item->most : most;
	}
	while (*last)
		last = &(*last)->next;
	*last = flight;
	producer->flying++;
	return (json ? send_json(producer, &flight->items) : send_records(producer, &flight->items))
		&& PQpipelineSync(producer->piped);
}

/* In halves, before all that is queued. */
static void
split(IotmqProducer *producer, Queue *items)
{
	int			most = (items->count + 1) / 2;

	for (Item *item = items->first; item; item = item->next)
		item->most = most;
	queue_prepend(&producer->queue, items);
}

static void
answer_all(IotmqProducer *producer, Queue *items, const PGresult *result)
{
	int			row = 0;

	while (items->first)
	{
		Item	   *item = queue_take(items);

		if (item->published && PQresultStatus(result) == PGRES_TUPLES_OK)
			item->published(item->argument, PQgetvalue(result, row++, 0), NULL, NULL);
		else if (item->published)
			item->published(item->argument, NULL, PQresultErrorField(result, PG_DIAG_SQLSTATE),
							PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
		free_item(producer, item);
	}
}

static bool
is_cancelled(const PGresult *result)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return sqlstate && strcmp(sqlstate, "57014") == 0;
}

/* The transaction is to be sent again, and so is what is on its way if the connection is left. */
static void
try_again(IotmqProducer *producer, Flight *flight)
{
	/* a statement_timeout may be too short for so many */
	if (is_cancelled(flight->result))
		split(producer, &flight->items);
	iotmq_link_fail(producer->link, flight->result);
	if (!iotmq_link_current(producer->link))
		lost(producer);
	queue_prepend(&producer->queue, &flight->items);
	producer->resume_at = iotmq_now() + PAUSE;
}

/* The transaction has ended: by its commit, if there was no error. */
static void
end_flight(IotmqProducer *producer, Flight *flight)
{
	IotmqTrouble trouble = iotmq_trouble(producer->piped, flight->result);

	if (trouble == IOTMQ_LOST && producer->patient)
		trouble = IOTMQ_AGAIN;
	producer->flights = flight->next;
	producer->flying--;
	producer->failing = trouble == IOTMQ_AGAIN;
	if (trouble == IOTMQ_AGAIN)
		try_again(producer, flight);
	else if (trouble != IOTMQ_FINE && flight->items.count > 1)
		split(producer, &flight->items);
	else
		answer_all(producer, &flight->items, flight->result);
	PQclear(flight->result);
	free(flight);
}

static void
receive(IotmqProducer *producer)
{
	while (producer->flights && !PQisBusy(producer->piped))
	{
		Flight	   *flight = producer->flights;
		PGresult   *result = PQgetResult(producer->piped);

		if (!result)
			continue;			/* the end of one statement's results */
		if (PQstatus(producer->piped) != CONNECTION_OK)
		{
			lose(producer);
			PQclear(result);
		}
		else if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
		{
			PQclear(result);
			end_flight(producer, flight);
		}
		else
		{
			/* A commit that fails, by a deferred constraint, is a second result: the error counts. */
			PQclear(flight->result);
			flight->result = result;
		}
	}
}

/*
 * Sends what is to be sent and takes what has come; never waits, but for a connection.
 * flush: without waiting for full batches.
 */
void
iotmq_producer_step(IotmqProducer *producer, bool flush)
{
	PGconn	   *connection = producer->piped;

	if (!connection)
	{
		if (producer->pending == 0 || !(connection = iotmq_link_connection(producer->link)))
			return;
		producer->piped = connection;
		if (PQsetnonblocking(connection, 1) != 0 || !PQenterPipelineMode(connection))
		{
			lose(producer);
			return;
		}
	}
	if (!PQconsumeInput(connection))
	{
		lose(producer);
		return;
	}
	receive(producer);
	while (producer->piped && is_due(producer, flush))
		if (!send_next(producer))
			lose(producer);
	if (producer->piped)
	{
		int			left = PQflush(producer->piped);

		producer->writes = left == 1;
		if (left < 0)
			lose(producer);
	}
}

/* The socket to be read from; -1: none.  writes: whether it is to be written to, too */
int
iotmq_producer_socket(const IotmqProducer *producer, bool *writes)
{
	*writes = producer->writes;
	return producer->piped ? PQsocket(producer->piped) : -1;
}

/* When there is something to do without the socket; INFINITY: never */
double
iotmq_producer_next_step(const IotmqProducer *producer)
{
	const Item *first = producer->queue.first;

	if (!producer->piped)
		return producer->pending > 0 ? iotmq_link_retry_at(producer->link) : INFINITY;
	if (!can_send(producer))
		return INFINITY;
	return fmax(producer->resume_at, first->queued_at + producer->linger);
}
