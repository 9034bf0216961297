/*
 * A consumer of a group: it takes leases on one connection, where it may wait for
 * messages, and settles and extends them on another.
 *
 * A lease is extended when half of its time is over, by iotmq_consumer_beat, which the
 * caller's loop calls.  In an orderly group a nack takes the later messages of its device back
 * with it: these count as settled, too.  Who settles a lease that is over (55000: it expired, a seek ended it,
 * or the group is gone) learns it, and the messages come again.  What was to be settled when
 * the connection broke may or may not have been: it is settled again, which then counts
 * nothing, or tells that the lease is over if that was the last of it.
 */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "iotmq.h"
#include "memory.h"

#define DEFAULT_MESSAGES 32
#define DEFAULT_WAIT 20.0
#define PAUSE 0.2				/* after a call that failed on a connection that is good */

struct IotmqConsumer
{
	IotmqLink  *taker;
	IotmqLink  *settler;
	IotmqLink  *failed;			/* the one of these whose error is told */
	char	   *topic;
	char	   *consumer_group;
	char	   *zone;			/* NULL: all */
	char	   *consumer;		/* NULL: none */
	int			max_messages;
	double		invisible_for;	/* 0: not known yet */
	double		wait;
	bool		asking;			/* consume was sent, and is not answered */
	double		resume_at;		/* not asked before */
	IotmqBatch *batches;
};

static char *
copy_or_null(const char *text)
{
	return text ? iotmq_copy(text) : NULL;
}

IotmqConsumer *
iotmq_consumer_open(const IotmqConsumerOptions *options)
{
	IotmqConsumer *consumer = iotmq_allocate(sizeof(IotmqConsumer));

	*consumer = (IotmqConsumer)
	{
		.taker = iotmq_link_open(options->keywords, options->values),
			.settler = iotmq_link_open(options->keywords, options->values),
			.topic = iotmq_copy(options->topic),
			.consumer_group = iotmq_copy(options->consumer_group),
			.zone = copy_or_null(options->zone),
			.consumer = copy_or_null(options->consumer),
			.max_messages = options->max_messages ? options->max_messages : DEFAULT_MESSAGES,
			.invisible_for = options->invisible_for,
			.wait = options->wait > 0 ? options->wait : DEFAULT_WAIT
	};
	consumer->failed = consumer->taker;
	return consumer;
}

/* Releases its batches, too.  Leases that are open stay so until they expire. */
void
iotmq_consumer_close(IotmqConsumer *consumer)
{
	while (consumer->batches)
		iotmq_consumer_release(consumer, consumer->batches);
	iotmq_link_close(consumer->taker);
	iotmq_link_close(consumer->settler);
	free(consumer->topic);
	free(consumer->consumer_group);
	free(consumer->zone);
	free(consumer->consumer);
	free(consumer);
}

const char *
iotmq_consumer_error(const IotmqConsumer *consumer)
{
	return iotmq_link_error(consumer->failed);
}

/*
 * Reads how long the group's leases last; all leases of this consumer are made for that time.
 */
static IotmqTrouble
read_invisible_for(IotmqConsumer *consumer)
{
	const char *values[] = {consumer->topic, consumer->consumer_group};
	IotmqTrouble trouble;
	PGresult   *result;

	consumer->failed = consumer->settler;
	result = iotmq_link_query(consumer->settler,
							  "SELECT extract(epoch FROM invisible_for) FROM iotmq.group_settings"
							  " WHERE topic = $1 AND consumer_group = $2", 2, values, &trouble);
	if (!result)
		return trouble;
	/* No row: consume says what is wrong.  The time only has to be some. */
	consumer->invisible_for = PQntuples(result) > 0 ? strtod(PQgetvalue(result, 0, 0), NULL) : 60;
	PQclear(result);
	return IOTMQ_FINE;
}

/*
 * Begins to wait for a batch, if it doesn't already.
 */
IotmqTrouble
iotmq_consumer_ask(IotmqConsumer *consumer)
{
	static const char sql[] =
	"SELECT lease_id, zone, msg_offset, device_id, tag, payload, body, properties, message_key, published_at, attempt,"
	" (SELECT mode = 'orderly' FROM iotmq.group_settings WHERE topic = $1 AND consumer_group = $2)"
	" FROM iotmq.consume($1, $2, max_messages => $3::int, invisible_for => pg_catalog.make_interval(secs => $4::float8),"
	" zone => $5, wait => pg_catalog.make_interval(secs => $6::float8), consumer => $7)";
	char		max_messages[16];
	char		invisible_for[32];
	char		wait[32];
	const char *values[] = {
		consumer->topic, consumer->consumer_group, max_messages, invisible_for, consumer->zone, wait,
		consumer->consumer
	};
	PGconn	   *connection;

	if (consumer->asking)
		return IOTMQ_FINE;
	if (iotmq_now() < consumer->resume_at)
		return IOTMQ_AGAIN;
	if (consumer->invisible_for <= 0)
	{
		IotmqTrouble trouble = read_invisible_for(consumer);

		if (trouble != IOTMQ_FINE)
			return trouble;
	}

	consumer->failed = consumer->taker;
	connection = iotmq_link_connection(consumer->taker);
	if (!connection)
		return IOTMQ_AGAIN;
	snprintf(max_messages, sizeof(max_messages), "%d", consumer->max_messages);
	snprintf(invisible_for, sizeof(invisible_for), "%.6f", consumer->invisible_for);
	snprintf(wait, sizeof(wait), "%.3f", consumer->wait);
	if (!PQsendQueryParams(connection, sql, 7, NULL, values, NULL, NULL, 0))
	{
		iotmq_link_lose(consumer->taker, PQerrorMessage(connection));
		return IOTMQ_AGAIN;
	}
	consumer->asking = true;
	return IOTMQ_FINE;
}

static const char *
text_at(const PGresult *result, int row, int column)
{
	return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

/* Takes the result over. */
static IotmqBatch *
make_batch(IotmqConsumer *consumer, PGresult *result)
{
	IotmqBatch *batch = iotmq_allocate(sizeof(IotmqBatch));

	batch->count = batch->open = PQntuples(result);
	batch->messages = iotmq_allocate(sizeof(IotmqMessage) * (size_t) batch->count);
	batch->lease_id = PQgetvalue(result, 0, 0);
	batch->zone = PQgetvalue(result, 0, 1);
	batch->orderly = PQgetvalue(result, 0, 11)[0] == 't';
	for (int i = 0; i < batch->count; i++)
		batch->messages[i] = (IotmqMessage)
	{
		.offset = PQgetvalue(result, i, 2),
			.device_id = PQgetvalue(result, i, 3),
			.tag = text_at(result, i, 4),
			.payload = text_at(result, i, 5),
			.body = text_at(result, i, 6),
			.properties = text_at(result, i, 7),
			.message_key = text_at(result, i, 8),
			.published_at = PQgetvalue(result, i, 9),
			.attempt = atoi(PQgetvalue(result, i, 10)),
			.delay = -1
	};
	batch->result = result;
	batch->extend_at = iotmq_now() + consumer->invisible_for / 2;
	batch->deadline = iotmq_now() + consumer->invisible_for;
	batch->next = consumer->batches;
	consumer->batches = batch;
	return batch;
}

/*
 * Looks whether the answer is there; to be called when the socket can be read.  "batch"
 * is NULL while it isn't, and if it brings nothing; the caller releases what it gets.
 */
IotmqTrouble
iotmq_consumer_take(IotmqConsumer *consumer, IotmqBatch **batch)
{
	PGconn	   *connection = iotmq_link_connection(consumer->taker);
	IotmqTrouble trouble;
	PGresult   *result;
	PGresult   *rest;

	*batch = NULL;
	if (!consumer->asking)
		return IOTMQ_FINE;
	consumer->failed = consumer->taker;
	if (connection && PQconsumeInput(connection) && PQisBusy(connection))
		return IOTMQ_FINE;

	consumer->asking = false;
	if (!connection)
		return IOTMQ_AGAIN;
	result = PQgetResult(connection);
	while ((rest = PQgetResult(connection)) != NULL)
		PQclear(rest);
	trouble = iotmq_trouble(connection, result);
	if (trouble == IOTMQ_FINE && PQntuples(result) > 0)
	{
		*batch = make_batch(consumer, result);
		return IOTMQ_FINE;
	}
	if (trouble != IOTMQ_FINE)
	{
		consumer->resume_at = iotmq_now() + PAUSE;
		iotmq_link_fail(consumer->taker, result);
	}
	PQclear(result);
	/* 55000 is no lease here. */
	return trouble == IOTMQ_LOST ? IOTMQ_REFUSED : trouble;
}

/* How many messages the leases to come may have. */
void
iotmq_consumer_limit(IotmqConsumer *consumer, int max_messages)
{
	consumer->max_messages = max_messages;
}

/* The socket to be read from while asking; -1: none */
int
iotmq_consumer_socket(const IotmqConsumer *consumer)
{
	return consumer->asking ? PQsocket(iotmq_link_current(consumer->taker)) : -1;
}

bool
iotmq_consumer_asking(const IotmqConsumer *consumer)
{
	return consumer->asking;
}

/*
 * Ends the waiting call soon.  It may still bring a batch.
 */
void
iotmq_consumer_cancel(IotmqConsumer *consumer)
{
	PGcancel   *cancel;
	char		error[256];

	if (!consumer->asking)
		return;
	cancel = PQgetCancel(iotmq_link_current(consumer->taker));
	if (cancel)
		PQcancel(cancel, error, sizeof(error));
	PQfreeCancel(cancel);
}

/*
 * When there is something to do without the socket; INFINITY: never.  wants: whether the
 * caller would ask if it could.
 */
double
iotmq_consumer_next_step(const IotmqConsumer *consumer, bool wants)
{
	double		next = INFINITY;

	if (wants && !consumer->asking)
		next = fmax(fmax(consumer->resume_at, iotmq_link_retry_at(consumer->taker)),
					consumer->invisible_for > 0 ? 0 : iotmq_link_retry_at(consumer->settler));
	for (const IotmqBatch *batch = consumer->batches; batch; batch = batch->next)
		if (batch->open > 0 && !batch->lost)
			next = fmin(next, batch->extend_at);
	return next;
}

/*
 * Extends the leases whose time is half over.
 */
void
iotmq_consumer_beat(IotmqConsumer *consumer)
{
	for (IotmqBatch *batch = consumer->batches; batch; batch = batch->next)
	{
		char		seconds[32];
		const char *values[] = {batch->lease_id, seconds};
		double		now = iotmq_now();
		IotmqTrouble trouble;
		PGresult   *result;

		if (batch->open == 0 || batch->lost || now < batch->extend_at)
			continue;
		snprintf(seconds, sizeof(seconds), "%.6f", consumer->invisible_for);
		result = iotmq_link_query(consumer->settler, "SELECT iotmq.extend($1::bigint, pg_catalog.make_interval(secs => $2::float8))",
								  2, values, &trouble);
		PQclear(result);
		if (trouble == IOTMQ_FINE)
		{
			batch->extend_at = now + consumer->invisible_for / 2;
			batch->deadline = now + consumer->invisible_for;
		}
		else if (trouble == IOTMQ_AGAIN)
			batch->extend_at = now + fmin(1, consumer->invisible_for / 10);
		else
			batch->lost = true;
	}
}

/*
 * Says what is to become of a message.  reason: NULL is none; the server keeps its first
 * 1,024 bytes.  delay: of a nack, in seconds; below 0: the group's backoff.
 */
void
iotmq_message_settle(IotmqMessage *message, IotmqFate fate, double delay, const char *reason)
{
	free(message->reason);
	message->reason = reason ? iotmq_copy(reason) : NULL;
	message->fate = fate;
	message->delay = fate == IOTMQ_NACK ? delay : -1;
}

/* Bytes of the UTF-8 character that begins there; 0 if none does: RFC 3629, section 4 */
static int
character_length(const unsigned char *text)
{
	int			length = text[0] < 0x80 ? 1 : text[0] < 0xC2 ? 0 : text[0] < 0xE0 ? 2 : text[0] < 0xF0 ? 3 :
		text[0] < 0xF5 ? 4 : 0;

	for (int i = 1; i < length; i++)
		if ((text[i] & 0xC0) != 0x80)
			return 0;
	if ((text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] > 0x9F) ||
		(text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] > 0x8F))
		return 0;
	return length;
}

/*
 * What is no text of the server's becomes '?': a reason may be the answer of a machine.
 */
static void
clean(char *reason, bool utf8)
{
	unsigned char *byte = (unsigned char *) reason;

	while (*byte)
	{
		int			length = character_length(byte);

		if (length == 0 || (length > 1 && !utf8))
			*byte = '?';
		byte += length > 0 && *byte != '?' ? length : 1;
	}
}

/* Those that are not settled yet, with one fate; those with a delay are named alone. */
static bool
belongs(const IotmqMessage *message, IotmqFate fate)
{
	return !message->settled && message->fate == fate && message->delay < 0;
}

static char *
offsets_of(const IotmqBatch *batch, IotmqFate fate)
{
	Array		offsets;

	iotmq_array_begin(&offsets);
	for (int i = 0; i < batch->count; i++)
		if (belongs(&batch->messages[i], fate))
			iotmq_array_add(&offsets, batch->messages[i].offset);
	return iotmq_array_end(&offsets);
}

/* One for each nack, then for each reject; NULL if there are none. */
static char *
reasons_of(const IotmqBatch *batch)
{
	Array		reasons;
	char	   *text;

	iotmq_array_begin(&reasons);
	for (int fate = IOTMQ_NACK; fate <= IOTMQ_REJECT; fate++)
		for (int i = 0; i < batch->count; i++)
			if (belongs(&batch->messages[i], (IotmqFate) fate))
				iotmq_array_add(&reasons, batch->messages[i].reason);
	text = iotmq_array_end(&reasons);
	if (reasons.count > 0)
		return text;
	free(text);
	return NULL;
}

static IotmqTrouble
run(IotmqConsumer *consumer, const char *sql, int count, const char *const *values)
{
	IotmqTrouble trouble;

	consumer->failed = consumer->settler;
	PQclear(iotmq_link_query(consumer->settler, sql, count, values, &trouble));
	return trouble;
}

static IotmqTrouble
settle_together(IotmqConsumer *consumer, const IotmqBatch *batch)
{
	char	   *acks = offsets_of(batch, IOTMQ_ACK);
	char	   *nacks = offsets_of(batch, IOTMQ_NACK);
	char	   *rejects = offsets_of(batch, IOTMQ_REJECT);
	char	   *reasons = reasons_of(batch);
	const char *values[] = {batch->lease_id, acks, nacks, rejects, reasons};
	IotmqTrouble trouble;

	trouble = run(consumer, "SELECT iotmq.settle($1::bigint, $2::bigint[], $3::bigint[], $4::bigint[], reasons => $5::text[])",
				  5, values);
	free(acks);
	free(nacks);
	free(rejects);
	free(reasons);
	return trouble;
}

static IotmqTrouble
nack_later(IotmqConsumer *consumer, const IotmqBatch *batch, const IotmqMessage *message)
{
	char		seconds[32];
	const char *values[] = {batch->lease_id, message->offset, seconds, message->reason};

	snprintf(seconds, sizeof(seconds), "%.3f", message->delay);
	return run(consumer, "SELECT iotmq.nack($1::bigint, ARRAY[$2::bigint], pg_catalog.make_interval(secs => $3::float8), $4)",
			   4, values);
}

static void
mark_settled(IotmqBatch *batch, IotmqMessage *message)
{
	message->settled = true;
	batch->open--;
	if (!batch->orderly || message->fate != IOTMQ_NACK)
		return;
	for (IotmqMessage *later = message + 1; later < batch->messages + batch->count; later++)
	{
		if (later->settled || strcmp(later->device_id, message->device_id) != 0)
			continue;
		later->settled = true;
		batch->open--;
	}
}

/*
 * Settles what iotmq_message_settle was called for.  IOTMQ_AGAIN: call it again later.
 * IOTMQ_LOST: the lease is over, nothing of it is to be settled any more.
 */
IotmqTrouble
iotmq_consumer_settle(IotmqConsumer *consumer, IotmqBatch *batch)
{
	PGconn	   *connection = iotmq_link_connection(consumer->settler);
	int			together = 0;
	int			acked = 0;
	IotmqTrouble trouble = IOTMQ_FINE;

	consumer->failed = consumer->settler;
	if (batch->lost)
		return IOTMQ_LOST;
	if (!connection)
		return IOTMQ_AGAIN;
	for (int i = 0; i < batch->count; i++)
	{
		IotmqMessage *message = &batch->messages[i];
		const char *encoding = PQparameterStatus(connection, "server_encoding");

		if (message->settled || message->fate == IOTMQ_OPEN)
			continue;
		if (message->reason)
			clean(message->reason, encoding && strcmp(encoding, "UTF8") == 0);
		if (message->delay >= 0)
			continue;
		together++;
		acked += message->fate == IOTMQ_ACK;
	}

	if (together > 0)
	{
		/* The usual case wants no list; else nothing is acknowledged that is not named. */
		trouble = acked == batch->count
			? run(consumer, "SELECT iotmq.ack($1::bigint)", 1, &batch->lease_id)
			: settle_together(consumer, batch);
		for (int i = 0; trouble == IOTMQ_FINE && i < batch->count; i++)
			for (int fate = IOTMQ_ACK; fate <= IOTMQ_REJECT; fate++)
				if (belongs(&batch->messages[i], (IotmqFate) fate))
					mark_settled(batch, &batch->messages[i]);
	}
	for (int i = 0; trouble == IOTMQ_FINE && i < batch->count; i++)
	{
		IotmqMessage *message = &batch->messages[i];

		if (message->settled || message->fate != IOTMQ_NACK)
			continue;
		trouble = nack_later(consumer, batch, message);
		if (trouble == IOTMQ_FINE)
			mark_settled(batch, message);
	}
	batch->lost = trouble == IOTMQ_LOST;
	batch->unsure = batch->unsure || (trouble == IOTMQ_AGAIN && !iotmq_link_current(consumer->settler));
	return trouble;
}

void
iotmq_consumer_release(IotmqConsumer *consumer, IotmqBatch *batch)
{
	IotmqBatch **at = &consumer->batches;

	while (*at != batch)
		at = &(*at)->next;
	*at = batch->next;
	for (int i = 0; i < batch->count; i++)
		free(batch->messages[i].reason);
	free(batch->messages);
	PQclear(batch->result);
	free(batch);
}
