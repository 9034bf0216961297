/*
 * iotmq webhook: a group's messages as HTTP POSTs.
 *
 * Several leases are worked on at a time, and of these up to --concurrency requests.  In an
 * orderly group a device has one request at a time: the next message waits for its answer,
 * and if that is a failure the server has taken the next ones back.
 */

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"
#include "request.h"
#include "verb.h"

enum
{
	ZONE = 'z',
	CONCURRENCY = 'c',
	ARRAYS = 'a',
	HEADER = 'H',
	TIMEOUT = 't',
	UNTIL_EMPTY = 'E',
	SECRET = 1,
	NAME,
	CA,
	CERT,
	KEY
};

static Target target = {.timeout = 30};
static const char *zone;
static const char *name;
static const char *secret_file;
static int	concurrency = 16;
static int	most = 1;			/* messages of a request */
static bool until_empty;

static const struct argp_option options[] = {
	{"zone", ZONE, "ZONE", 0, "From this zone alone", 0},
	{"concurrency", CONCURRENCY, "NUMBER", 0, "Requests at a time; 16 if not said", 0},
	{"arrays", ARRAYS, "NUMBER", 0, "Send arrays of up to so many messages", 0},
	{"header", HEADER, "LINE", 0, "Send this header, too; may be given again", 0},
	{"timeout", TIMEOUT, "SECONDS", 0, "Until a request has failed; 30 if not said", 0},
	{"secret-file", SECRET, "FILE", 0, "Sign requests with what is in this file", 0},
	{"ca-file", CA, "FILE", 0, "Certificates that sign the server's; the system's if not said", 0},
	{"cert", CERT, "FILE", 0, "A certificate of our own, for a server that wants one", 0},
	{"key", KEY, "FILE", 0, "Its key; in the same file if not said", 0},
	{"until-empty", UNTIL_EMPTY, NULL, 0, "End when the group has no lag", 0},
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
		case CONCURRENCY:
			return read_count(value, 1, &concurrency) && concurrency <= 10000;
		case ARRAYS:
			target.arrays = true;
			return read_count(value, 1, &most) && most <= 10000;
		case HEADER:
			target.headers = curl_slist_append(target.headers, value);
			return strchr(value, ':') != NULL;
		case TIMEOUT:
			return read_seconds(value, &target.timeout);
		case SECRET:
			secret_file = value;
			return true;
		case CA:
			target.ca_file = value;
			return true;
		case CERT:
			target.cert_file = value;
			return true;
		case KEY:
			target.key_file = value;
			return true;
		case UNTIL_EMPTY:
			until_empty = true;
			return true;
		default:
			name = value;
			return true;
	}
}

/* What is known of a batch beyond what its messages say */
typedef struct Work
{
	IotmqBatch *batch;
	bool	   *sent;			/* of each message; what is sent again was settled before */
	int			waiting;		/* messages not sent and not settled */
	int			requests;		/* that are not answered */
	bool		marked;			/* there is something to settle */
	struct Work *next;
} Work;

typedef struct Webhook
{
	IotmqConsumer *consumer;
	CURLM	   *multi;
	Work	   *works;
	int			active;			/* requests */
	IotmqLink  *link;			/* for a look at the lag */
	const Call *call;
	bool		reached;		/* the database has answered once */
	bool		empty;			/* the last answer brought nothing */
	int			status;
} Webhook;

static bool
read_secret(void)
{
	FILE	   *file = fopen(secret_file, "r");
	char	   *secret = NULL;
	size_t		size = 0;
	ssize_t		length = file ? getline(&secret, &size, file) : -1;

	if (file)
		fclose(file);
	if (length > 0)
		secret[strcspn(secret, "\n")] = 0;
	if (length <= 0 || !*secret)
	{
		complain("there is no secret in \"%s\"", secret_file);
		return false;
	}
	target.secret = secret;
	return true;
}

/* A wrong name would make a failed attempt of each message. */
static bool
files_are_there(void)
{
	const char *const names[] = {target.ca_file, target.cert_file, target.key_file};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i] && access(names[i], R_OK) != 0)
		{
			complain("%s: %s", names[i], strerror(errno));
			return false;
		}
	return true;
}

/*
 * Whether another lease has a request out of that device.  That lease is over then: a seek ended
 * it, or a crash has forgotten it.
 */
static bool
is_out(const Webhook *webhook, const Work *work, const char *device)
{
	for (const Work *other = webhook->works; other; other = other->next)
		for (int i = 0; other != work && other->requests > 0 && i < other->batch->count; i++)
			if (other->sent[i] && other->batch->messages[i].fate == IOTMQ_OPEN &&
				strcmp(other->batch->messages[i].device_id, device) == 0)
				return true;
	return false;
}

/* Whether a message of the batch has to wait for an earlier one. */
static bool
must_wait(const Webhook *webhook, const Work *work, int number)
{
	const IotmqBatch *batch = work->batch;

	if (!batch->orderly)
		return false;
	if (is_out(webhook, work, batch->messages[number].device_id))
		return true;
	if (target.arrays)
		return work->requests > 0 || work->marked;
	for (int i = 0; i < number; i++)
		if (work->sent[i] && !batch->messages[i].settled &&
			strcmp(batch->messages[i].device_id, batch->messages[number].device_id) == 0)
			return true;
	return false;
}

static void
post(Webhook *webhook, Work *work, const int *numbers, int count)
{
	Request    *request = request_make(&target, work->batch, numbers, count);

	for (int i = 0; i < count; i++)
		work->sent[numbers[i]] = true;
	work->waiting -= count;
	work->requests++;
	webhook->active++;
	curl_multi_add_handle(webhook->multi, request->easy);
}

/* Sends what may be sent of one batch: nothing that others may have, since it can't be extended. */
static void
send_of(Webhook *webhook, Work *work)
{
	int		   *numbers = iotmq_allocate(sizeof(int) * (size_t) most);
	bool		over = work->batch->lost || iotmq_now() >= work->batch->deadline;
	int			count = 0;

	for (int i = 0; i < work->batch->count && webhook->active < concurrency && !over; i++)
	{
		if (work->sent[i] || work->batch->messages[i].settled || must_wait(webhook, work, i))
			continue;
		numbers[count++] = i;
		if (count < most)
			continue;
		post(webhook, work, numbers, count);
		count = 0;
	}
	if (count > 0)
		post(webhook, work, numbers, count);
	free(numbers);
}

static void
send_all(Webhook *webhook)
{
	for (Work *work = webhook->works; work && webhook->active < concurrency; work = work->next)
		if (work->waiting > 0)
			send_of(webhook, work);
}

static Work *
work_of(const Webhook *webhook, const IotmqBatch *batch)
{
	Work	   *work = webhook->works;

	while (work->batch != batch)
		work = work->next;
	return work;
}

static void
take_answers(Webhook *webhook)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(webhook->multi, &left)) != NULL)
	{
		Request    *request;
		Work	   *work;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &request);
		request_settle(request, message->data.result);
		work = work_of(webhook, request->batch);
		work->requests--;
		work->marked = true;
		webhook->active--;
		curl_multi_remove_handle(webhook->multi, request->easy);
		request_free(request);
	}
}

/* After a settlement: what was taken back doesn't wait any more. */
static void
count_waiting(Work *work)
{
	work->waiting = 0;
	for (int i = 0; i < work->batch->count; i++)
		work->waiting += !work->sent[i] && !work->batch->messages[i].settled;
}

/* Settles what is answered, and lets go of batches that are done. */
static void
settle_all(Webhook *webhook)
{
	Work	  **at = &webhook->works;

	while (*at)
	{
		Work	   *work = *at;
		IotmqTrouble trouble = work->marked ? iotmq_consumer_settle(webhook->consumer, work->batch) : IOTMQ_FINE;

		if (trouble == IOTMQ_REFUSED)
		{
			complain("%s", iotmq_consumer_error(webhook->consumer));
			webhook->status = FAILED;
			work->batch->lost = true;
		}
		else if (trouble == IOTMQ_LOST)
			complain_of_lease(work->batch);
		if (trouble != IOTMQ_AGAIN && work->marked)
		{
			work->marked = false;
			count_waiting(work);
		}
		if (work->requests > 0 || (work->batch->open > 0 && !work->batch->lost))
		{
			at = &work->next;
			continue;
		}
		*at = work->next;
		iotmq_consumer_release(webhook->consumer, work->batch);
		free(work->sent);
		free(work);
	}
}

static void
take_batch(Webhook *webhook, IotmqBatch *batch)
{
	Work	   *work = iotmq_allocate(sizeof(Work));
	Work	  **at = &webhook->works;

	work->batch = batch;
	work->sent = iotmq_allocate(sizeof(bool) * (size_t) batch->count);
	work->waiting = batch->count;
	while (*at)
		at = &(*at)->next;
	*at = work;
}

/* Whether there is too little to send. */
static bool
wants_more(const Webhook *webhook)
{
	int			waiting = 0;

	if (stop_wanted() || webhook->status != DONE)
		return false;
	for (const Work *work = webhook->works; work; work = work->next)
		waiting += work->batch->lost ? 0 : work->waiting;
	return waiting < concurrency;
}

static void
take(Webhook *webhook)
{
	IotmqBatch *batch = NULL;
	IotmqTrouble trouble;
	bool		asked = iotmq_consumer_asking(webhook->consumer);

	if (!asked && !wants_more(webhook))
		return;
	if (!asked)
		trouble = iotmq_consumer_ask(webhook->consumer);
	else
		trouble = iotmq_consumer_take(webhook->consumer, &batch);

	if (trouble == IOTMQ_REFUSED || (trouble == IOTMQ_AGAIN && !webhook->reached && *iotmq_consumer_error(webhook->consumer)))
	{
		complain("%s", iotmq_consumer_error(webhook->consumer));
		webhook->status = trouble == IOTMQ_REFUSED ? FAILED : UNREACHABLE;
	}
	if (!asked || trouble != IOTMQ_FINE || iotmq_consumer_asking(webhook->consumer))
		return;
	webhook->reached = true;
	webhook->empty = batch == NULL;
	if (batch)
		take_batch(webhook, batch);
}

/* Whether there is nothing more to be done. */
static bool
is_done(Webhook *webhook)
{
	bool		idle = !webhook->works && !iotmq_consumer_asking(webhook->consumer);

	if (!idle)
		return false;
	if (stop_wanted() || webhook->status != DONE)
		return true;
	if (!until_empty || !webhook->empty)
		return false;
	webhook->empty = false;
	return group_is_empty(webhook->call, webhook->link, zone);
}

static void
wait_for_work(const Webhook *webhook)
{
	double		left = iotmq_consumer_next_step(webhook->consumer, wants_more(webhook)) - iotmq_now();
	struct curl_waitfd fds[2];
	unsigned	count = 0;

	if (!stop_wanted())
		fds[count++] = (struct curl_waitfd)
	{
		.fd = stop_fd(),.events = CURL_WAIT_POLLIN
	};
	if (iotmq_consumer_asking(webhook->consumer))
		fds[count++] = (struct curl_waitfd)
	{
		.fd = iotmq_consumer_socket(webhook->consumer),.events = CURL_WAIT_POLLIN
	};
	for (const Work *work = webhook->works; work; work = work->next)
		if (work->marked)
			left = fmin(left, 0.2); /* it could not be settled */
	curl_multi_poll(webhook->multi, fds, count, (int) ceil(fmin(fmax(left, 0), 60) * 1000), NULL);
}

static void
loop(Webhook *webhook)
{
	bool		cancelled = false;
	int			running;

	for (;;)
	{
		if ((stop_wanted() || webhook->status != DONE) && !cancelled)
		{
			iotmq_consumer_cancel(webhook->consumer);
			cancelled = true;
		}
		take(webhook);
		send_all(webhook);
		curl_multi_perform(webhook->multi, &running);
		take_answers(webhook);
		iotmq_consumer_beat(webhook->consumer);
		settle_all(webhook);
		/* An answer or a settlement may have made room for what waits. */
		send_all(webhook);
		/* Here, as what was the last to be done has no socket that would wake it. */
		if (is_done(webhook))
			return;
		wait_for_work(webhook);
	}
}

static int
run(const Call *call)
{
	Webhook		webhook = {.call = call};

	if ((secret_file && !read_secret()) || !files_are_there())
		return USAGE;
	if (strncmp(call->arguments[2], "http://", 7) != 0 && strncmp(call->arguments[2], "https://", 8) != 0)
	{
		complain("this is no address of HTTP: %s", call->arguments[2]);
		return USAGE;
	}
	target.topic = call->arguments[0];
	target.url = call->arguments[2];
	curl_global_init(CURL_GLOBAL_DEFAULT);
	webhook.multi = curl_multi_init();
	webhook.link = query_open(call);
	webhook.consumer = iotmq_consumer_open(&(IotmqConsumerOptions)
		{
			.keywords = call->keywords,
				.values = call->values,
				.topic = call->arguments[0],
				.consumer_group = call->arguments[1],
				.zone = zone,
				.consumer = name,
				.max_messages = most > concurrency ? most : concurrency,
				.wait = until_empty ? 1 : 0
		});
	stop_on_signals();
	loop(&webhook);
	iotmq_consumer_close(webhook.consumer);
	iotmq_link_close(webhook.link);
	curl_multi_cleanup(webhook.multi);
	curl_slist_free_all(target.headers);
	curl_global_cleanup();
	return webhook.status;
}

const Verb	verb_webhook = {
	.name = "webhook",
	.arguments = "TOPIC GROUP URL",
	.least = 3,
	.most = 3,
	.summary = "Posts a group's messages to a web server.",
	.doc = "The payload is posted as it is; Iotmq-Device, Iotmq-Tag, Iotmq-Key and so on are headers, percent-encoded.  An answer "
	"of 2xx acknowledges the message, other 4xx than 408, 425 and 429 reject it into the dead letters, and anything "
	"else is a failed attempt; Retry-After says when it is to come again.  Idempotency-Key is the same when "
	"a message comes again.  With --secret-file requests are signed as \"Standard Webhooks\" says.  In an orderly "
	"group a device has one request at a time.",
	.options = options,
	.option = option,
	.run = run
};
