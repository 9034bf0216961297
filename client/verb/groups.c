/*
 * iotmq groups: consumer groups and their settings.
 */

#include "verb.h"

static int
run(const Call *call)
{
	const char *values[] = {call->count > 0 ? call->arguments[0] : NULL};

	return query_show(call,
					  "SELECT topic, consumer_group, mode, tags, filter, invisible_for, max_retries, paused"
					  " FROM iotmq.group_settings WHERE $1::text IS NULL OR topic = $1 ORDER BY 1, 2",
					  1, values);
}

const Verb	verb_groups = {
	.name = "groups",
	.arguments = "[TOPIC]",
	.most = 1,
	.summary = "Lists consumer groups and their settings.",
	.doc = "",
	.run = run
};
