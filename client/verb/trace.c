/*
 * iotmq trace: what became of one message.
 */

#include "verb.h"

static int
run(const Call *call)
{
	const char *values[] = {call->arguments[0], call->arguments[1], call->arguments[2]};

	return query_show(call,
					  "SELECT consumer_group, state, attempt, lease_id::text, consumer, until, reason"
					  " FROM iotmq.message_status($1, $2, $3::bigint) ORDER BY 1",
					  3, values);
}

const Verb	verb_trace = {
	.name = "trace",
	.arguments = "TOPIC ZONE OFFSET",
	.least = 3,
	.most = 3,
	.summary = "Shows what became of one message in each group.",
	.doc = "The states are those of iotmq.message_status: undecided, ready, in flight, waiting, done, unwanted,"
	" dead letter, dropped.",
	.run = run
};
