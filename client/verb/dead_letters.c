/*
 * iotmq dead-letters: what a group gave up.
 */

#include <stdio.h>

#include "verb.h"

static int	limit = 100;

static const struct argp_option options[] = {
	{"limit", 'n', "NUMBER", 0, "At most so many, the newest ones; 100 if not said", 0},
	{NULL}
};

static bool
option(int key, const char *value)
{
	(void) key;
	return read_count(value, 1, &limit);
}

static int
run(const Call *call)
{
	char		number[16];
	const char *values[] = {call->arguments[0], call->arguments[1], number};

	snprintf(number, sizeof(number), "%d", limit);
	return query_show(call, call->json
					  ? "SELECT id::text, zone, msg_offset::text, device_id, tag, payload,"
					  " pg_catalog.encode(body, 'base64') AS body, properties, message_key, published_at, attempts, reason, dead_at"
					  " FROM iotmq.dead_letter WHERE topic = $1 AND consumer_group = $2"
					  " ORDER BY dead_at DESC, id DESC LIMIT $3::int"
					  : "SELECT id, zone, msg_offset, device_id, attempts, pg_catalog.date_trunc('second', dead_at) AS dead_at,"
					  " pg_catalog.left(coalesce(payload::text, body::text), 60) AS content, pg_catalog.left(reason, 120) AS reason"
					  " FROM iotmq.dead_letter WHERE topic = $1 AND consumer_group = $2"
					  " ORDER BY dead_letter.dead_at DESC, id DESC LIMIT $3::int",
					  3, values);
}

const Verb	verb_dead_letters = {
	.name = "dead-letters",
	.arguments = "TOPIC GROUP",
	.least = 2,
	.most = 2,
	.summary = "Shows the messages that a group gave up.",
	.doc = "The first column is what \"iotmq redrive\" takes.  --json has the whole content.",
	.options = options,
	.option = option,
	.run = run
};
