/*
 * iotmq consume: a group's messages, printed or given to a command, and acknowledged.
 */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "verb.h"

enum
{
	ZONE = 'z',
	COUNT = 'n',
	MAX = 'm',
	EXEC = 'e',
	UNTIL_EMPTY = 'E',
	NAME = 1,
	INVISIBLE
};

static const char *zone;
static const char *name;
static const char *command;
static int	count;				/* 0: no end */
static int	max_messages;
static double invisible_for;
static bool until_empty;

static const struct argp_option options[] = {
	{"zone", ZONE, "ZONE", 0, "From this zone alone", 0},
	{"count", COUNT, "NUMBER", 0, "End after so many messages", 0},
	{"until-empty", UNTIL_EMPTY, NULL, 0, "End when the group has no lag", 0},
	{"max", MAX, "NUMBER", 0, "Messages of a lease at most; 32 if not said", 0},
	{"exec", EXEC, "COMMAND", 0, "Run this in a shell for each message, instead of printing it", 0},
	{"invisible-for", INVISIBLE, "SECONDS", 0, "How long a lease lasts before it is extended", 0},
	{"consumer", NAME, "NAME", 0, "This consumer's name in the views", 0},
	{NULL}
};

static bool
option(int key, const char *value)
{
	switch (key)
	{
		case ZONE:
			zone = value;
			return true;
		case COUNT:
			return read_count(value, 1, &count);
		case UNTIL_EMPTY:
			until_empty = true;
			return true;
		case MAX:
			return read_count(value, 1, &max_messages) && max_messages <= 10000;
		case EXEC:
			command = value;
			return true;
		case INVISIBLE:
			return read_seconds(value, &invisible_for);
		default:
			name = value;
			return true;
	}
}

/* Settles what is marked; again and again while the connection is away. */
static IotmqTrouble
settle(IotmqConsumer *consumer, IotmqBatch *batch)
{
	IotmqTrouble trouble;

	while ((trouble = iotmq_consumer_settle(consumer, batch)) == IOTMQ_AGAIN)
	{
		complain_once(iotmq_consumer_error(consumer));
		stop_poll(NULL, 0, iotmq_now() + 0.2);
	}
	if (trouble == IOTMQ_LOST)
		complain_of_lease(batch);
	else if (trouble == IOTMQ_REFUSED)
		complain("%s", iotmq_consumer_error(consumer));
	return trouble;
}

/* Printed as a whole before it is acknowledged as a whole. */
static int
print_batch(const Call *call, IotmqConsumer *consumer, IotmqBatch *batch)
{
	for (int i = 0; i < batch->count; i++)
	{
		message_print(call, batch->lease_id, batch->zone, &batch->messages[i]);
		iotmq_message_settle(&batch->messages[i], IOTMQ_ACK, -1, NULL);
	}
	/* What could not be written before the last of it counts as well. */
	if (fflush(stdout) != 0 || ferror(stdout))
	{
		complain("can't write what was consumed: it is not acknowledged");
		return FAILED;
	}
	return settle(consumer, batch) == IOTMQ_REFUSED ? FAILED : DONE;
}

/* One after another, each settled when its command has ended. */
static int
execute_batch(const Call *call, IotmqConsumer *consumer, IotmqBatch *batch)
{
	for (int i = 0; i < batch->count && !batch->lost; i++)
	{
		IotmqMessage *message = &batch->messages[i];
		char	   *reason = NULL;
		IotmqFate	fate;

		if (message->settled)
			continue;			/* taken back: an earlier one of its device has failed */
		if (!command_start(command, call->arguments[0], batch, message))
			return FAILED;
		while (!command_ended(&fate, &reason))
		{
			struct pollfd fd = {command_fd(), POLLIN, 0};

			iotmq_consumer_beat(consumer);
			stop_poll(&fd, 1, iotmq_consumer_next_step(consumer, false));
		}
		iotmq_message_settle(message, fate, -1, reason);
		free(reason);
		if (settle(consumer, batch) == IOTMQ_REFUSED)
			return FAILED;
	}
	return DONE;
}

/* Waits for a batch, or an answer without one. */
static IotmqTrouble
next_batch(IotmqConsumer *consumer, IotmqBatch **batch)
{
	IotmqTrouble trouble = iotmq_consumer_ask(consumer);
	bool		cancelled = false;

	*batch = NULL;
	while (trouble == IOTMQ_FINE && iotmq_consumer_asking(consumer))
	{
		struct pollfd fd = {iotmq_consumer_socket(consumer), POLLIN, 0};

		stop_poll(&fd, 1, INFINITY);
		/* It may have got a batch nonetheless, which is worked on. */
		if (stop_wanted() && !cancelled)
		{
			iotmq_consumer_cancel(consumer);
			cancelled = true;
		}
		trouble = iotmq_consumer_take(consumer, batch);
		if (*batch)
			break;
	}
	return trouble;
}

static int
consume(const Call *call, IotmqConsumer *consumer, IotmqLink *link)
{
	bool		reached = false;	/* the server has answered once */
	int			left = count;
	int			most = max_messages > 0 ? max_messages : 32;

	while (!stop_wanted())
	{
		IotmqBatch *batch;
		IotmqTrouble trouble;
		int			status;

		if (count > 0)
			iotmq_consumer_limit(consumer, left < most ? left : most);
		trouble = next_batch(consumer, &batch);
		if (trouble == IOTMQ_REFUSED || (trouble == IOTMQ_AGAIN && !reached && !stop_wanted()))
		{
			complain("%s", iotmq_consumer_error(consumer));
			return trouble == IOTMQ_REFUSED ? FAILED : UNREACHABLE;
		}
		if (trouble == IOTMQ_AGAIN)
		{
			if (!stop_wanted())
				complain_once(iotmq_consumer_error(consumer));
			stop_poll(NULL, 0, iotmq_consumer_next_step(consumer, true));
		}
		reached = reached || trouble == IOTMQ_FINE;
		if (!batch)
		{
			if (until_empty && trouble == IOTMQ_FINE && group_is_empty(call, link, zone))
				break;
			continue;
		}

		status = command ? execute_batch(call, consumer, batch) : print_batch(call, consumer, batch);
		left -= batch->count;
		iotmq_consumer_release(consumer, batch);
		if (status != DONE)
			return status;
		if (count > 0 && left <= 0)
			break;
	}
	return DONE;
}

static int
run(const Call *call)
{
	IotmqConsumer *consumer = iotmq_consumer_open(&(IotmqConsumerOptions)
		{
			.keywords = call->keywords,
				.values = call->values,
				.topic = call->arguments[0],
				.consumer_group = call->arguments[1],
				.zone = zone,
				.consumer = name,
				.max_messages = max_messages,
				.invisible_for = invisible_for,
				.wait = until_empty ? 1 : 0
		});
	IotmqLink  *link = query_open(call);
	int			status;

	stop_on_signals();
	status = consume(call, consumer, link);
	iotmq_link_close(link);
	iotmq_consumer_close(consumer);
	return status;
}

const Verb	verb_consume = {
	.name = "consume",
	.arguments = "TOPIC GROUP",
	.least = 2,
	.most = 2,
	.summary = "Consumes as a group: prints messages or runs a command for each, and acknowledges them.",
	.doc = "What is printed is acknowledged after that, batch by batch.  With --exec the message's payload or body is the command's "
	"standard input, and IOTMQ_TOPIC, IOTMQ_ZONE, IOTMQ_OFFSET, IOTMQ_DEVICE, IOTMQ_TAG, IOTMQ_KEY and IOTMQ_ATTEMPT are "
	"set.  Exit status 0 acknowledges it, 65 (EX_DATAERR) rejects it into the dead letters, and any other "
	"is a failed attempt; the first line on standard error is the reason.  Leases are extended while a "
	"command runs.  After SIGTERM the batch is finished; a second one ends at once.",
	.options = options,
	.option = option,
	.run = run
};
