/*
 * iotmq publish: one message from the command line, or one from each line of the input.
 *
 * Input is read only while the producer has room, and standard input is polled along with
 * its socket, so that what trickles in is published without waiting for more.
 */

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "verb.h"

enum
{
	ZONE = 'z',
	TAG = 't',
	KEY = 'k',
	PROPERTIES = 1,
	BODY,
	BATCH
};

static IotmqRecord record;		/* what the options say of each message */
#define LONGEST_LINE (64 << 20) /* bytes; the server takes no message of that size */

static bool body;
static int	batch = 1000;

static const struct argp_option options[] = {
	{"zone", ZONE, "ZONE", 0, "The zone, if the topic has several", 0},
	{"tag", TAG, "TAG", 0, "A tag", 0},
	{"key", KEY, "KEY", 0, "A message key: sent again, it is not stored again", 0},
	{"properties", PROPERTIES, "JSON", 0, "Properties, an object", 0},
	{"body", BODY, NULL, 0, "PAYLOAD or the lines are bytes, not JSON", 0},
	{"batch", BATCH, "NUMBER", 0, "Lines in a transaction at most; 1000 if not said", 0},
	{NULL}
};

static bool
option(int key, const char *value)
{
	switch (key)
	{
		case ZONE:
			record.zone = value;
			break;
		case TAG:
			record.tag = value;
			break;
		case KEY:
			record.message_key = value;
			break;
		case PROPERTIES:
			record.properties = value;
			break;
		case BODY:
			body = true;
			break;
		default:
			return read_count(value, 1, &batch) && batch <= 10000;
	}
	return true;
}

/* What has become of the messages */
typedef struct Tally
{
	const Call *call;
	long		published;
	long		refused;
} Tally;

static void
published(void *argument, const char *offset, const char *sqlstate, const char *error)
{
	Tally	   *tally = argument;

	if (offset)
	{
		tally->published++;
		if (tally->call->json)
			printf("{\"msg_offset\": \"%s\"}\n", offset);
		else if (tally->call->count > 2)
			puts(offset);
		return;
	}
	tally->refused++;
	complain("%s (%s)", error, sqlstate);
}

/* Without a device on the command line, a line is a record itself. */
static void
add(IotmqProducer *producer, Tally *tally, const char *text, size_t length)
{
	IotmqRecord one = record;

	if (!body && strlen(text) != length)
	{
		published(tally, NULL, "22P02", "there is a NUL character in the line");
		return;
	}
	if (tally->call->count < 2)
	{
		iotmq_producer_add_json(producer, text, published, tally);
		return;
	}
	one.device_id = tally->call->arguments[1];
	if (body)
	{
		one.body = (const unsigned char *) text;
		one.body_length = length;
	}
	else
		one.payload = text;
	iotmq_producer_add(producer, &one, published, tally);
}

/* What was read and is no whole line yet */
typedef struct Input
{
	char	   *text;
	size_t		length;
	size_t		size;
	size_t		searched;		/* so much of it has no newline */
	bool		skips;			/* the rest of a line that was refused */
	bool		ended;
} Input;

/* Adds the lines that are whole; at the end of the input also one without its newline. */
static void
add_lines(Input *input, IotmqProducer *producer, Tally *tally)
{
	size_t		begin = 0;
	char	   *newline;

	while ((newline = memchr(input->text + input->searched, '\n', input->length - input->searched)) != NULL)
	{
		size_t		end = (size_t) (newline - input->text);

		*newline = 0;
		if (end > begin && !input->skips)
			add(producer, tally, input->text + begin, end - begin);
		input->skips = false;
		input->searched = begin = end + 1;
	}
	if (input->skips)
		begin = input->length;
	if (input->length - begin > LONGEST_LINE)
	{
		published(tally, NULL, "54000", "a line is too long");
		input->skips = true;
		begin = input->length;
	}
	if (input->ended && input->length > begin)
	{
		input->text[input->length] = 0;
		add(producer, tally, input->text + begin, input->length - begin);
		begin = input->length;
	}
	memmove(input->text, input->text + begin, input->length - begin);
	input->length -= begin;
	input->searched = input->length;
}

/* false: the input can't be read */
static bool
read_some(Input *input)
{
	ssize_t		length;

	if (input->size - input->length < 65537)
	{
		input->size = input->size * 2 + 131072;
		input->text = realloc(input->text, input->size);
		if (!input->text)
			abort();
	}
	length = read(STDIN_FILENO, input->text + input->length, 65536);
	if (length < 0)
		return errno == EINTR || errno == EAGAIN;
	input->length += (size_t) length;
	input->ended = length == 0;
	return true;
}

/* Waits until there is something to do. */
static void
wait_for_work(const IotmqProducer *producer, bool reads, bool *can_read)
{
	bool		writes;
	int			socket = iotmq_producer_socket(producer, &writes);
	struct pollfd fds[] = {
		{reads ? STDIN_FILENO : -1, POLLIN, 0},
		{socket, (short) (POLLIN | (writes ? POLLOUT : 0)), 0}
	};

	stop_poll(fds, 2, iotmq_producer_next_step(producer));
	*can_read = fds[0].revents != 0;
}

static int
run(const Call *call)
{
	Tally		tally = {.call = call};
	Input		input = {0};
	IotmqProducer *producer = iotmq_producer_open(&(IotmqProducerOptions)
		{
			.keywords = call->keywords,
				.values = call->values,
				.topic = call->arguments[0],
				.batch = batch
		});
	bool		ended = call->count > 2;
	bool		reached = false;	/* there was a connection once */
	int			status = DONE;

	stop_on_signals();
	if (ended)
		add(producer, &tally, call->arguments[2], strlen(call->arguments[2]));
	while (status == DONE && !(ended && iotmq_producer_pending(producer) == 0))
	{
		bool		can_read;
		bool		writes;

		iotmq_producer_step(producer, ended);
		reached = reached || iotmq_producer_socket(producer, &writes) >= 0;
		if (*iotmq_producer_error(producer))
			complain_once(iotmq_producer_error(producer));
		if (*iotmq_producer_error(producer) && tally.published + tally.refused == 0 && !reached)
		{
			status = UNREACHABLE;
			break;
		}
		if (ended && iotmq_producer_pending(producer) == 0)
			break;
		wait_for_work(producer, !ended && !iotmq_producer_full(producer), &can_read);
		if (can_read)
		{
			if (!read_some(&input))
			{
				complain("can't read the input: %s", strerror(errno));
				status = FAILED;
			}
			add_lines(&input, producer, &tally);
		}
		/* What was read is published; a second signal ends the program. */
		ended = ended || input.ended || stop_wanted();
	}
	if (status == DONE && tally.refused > 0)
		status = FAILED;
	if (call->count < 3 && !call->json && status != UNREACHABLE)
		printf("%ld published, %ld refused\n", tally.published, tally.refused);
	iotmq_producer_close(producer);
	free(input.text);
	return fflush(stdout) != 0 ? FAILED : status;
}

const Verb	verb_publish = {
	.name = "publish",
	.arguments = "TOPIC [DEVICE [PAYLOAD]]",
	.least = 1,
	.most = 3,
	.summary = "Publishes a message, or one from each line of the input.",
	.doc = "With PAYLOAD: prints the message's offset.  With DEVICE alone: each line of the input is a payload.  Without: "
	"each line is an object with the members device_id, payload or body (base64), and maybe zone, tag, properties and "
	"message_key.  A line that is refused doesn't stop the others.  If the connection is lost, what was not "
	"answered is sent again: only messages with a key are then sure to be there once.",
	.options = options,
	.option = option,
	.run = run
};
