/*
 * iotmq lag: how far behind consumer groups are.
 */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "verb.h"

enum
{
	WATCH = 'w',
	ZONES = 'z'
};

static double every;			/* seconds; 0: once */
static bool by_zone;

static const struct argp_option options[] = {
	{"watch", WATCH, "SECONDS", OPTION_ARG_OPTIONAL, "Print it again and again, every 2 seconds or as said", 0},
	{"zones", ZONES, NULL, 0, "A line for each zone", 0},
	{NULL}
};

static bool
option(int key, const char *value)
{
	if (key == ZONES)
		by_zone = true;
	else if (!value)
		every = 2;
	else
		return read_seconds(value, &every);
	return true;
}

#define WHERE " WHERE ($1::text IS NULL OR topic = $1) AND ($2::text IS NULL OR consumer_group = $2)"

static const char groups_sql[] =
"SELECT topic, consumer_group, lag_messages AS lag, ready_messages AS ready, inflight_messages AS in_flight,"
" retry_messages AS retry, dead_letters, date_trunc('second', lag_time) AS lag_time"
" FROM iotmq.group_lag" WHERE " ORDER BY 1, 2";

static const char zones_sql[] =
"SELECT topic, consumer_group, zone, next_offset::text, stable_offset::text, lag_messages AS lag,"
" ready_messages AS ready, inflight_messages AS in_flight, retry_messages AS retry, dead_letters,"
" date_trunc('second', lag_time) AS lag_time"
" FROM iotmq.consumer_lag" WHERE " ORDER BY 1, 2, 3";

static const char there_is_sql[] = "SELECT count(*) FROM iotmq.group_settings" WHERE;

/* A group that was named must be there: an empty table would look as if all were well. */
static int
check(const Call *call, const char *const *values)
{
	IotmqLink  *link = query_open(call);
	int			status = DONE;
	PGresult   *result = query_run(link, there_is_sql, 2, values, &status);

	if (result && call->count > 0 && atoi(PQgetvalue(result, 0, 0)) == 0)
	{
		complain("no consumer group of that name can be seen");
		status = FAILED;
	}
	PQclear(result);
	iotmq_link_close(link);
	return status;
}

static int
run(const Call *call)
{
	const char *values[] = {call->count > 0 ? call->arguments[0] : NULL, call->count > 1 ? call->arguments[1] : NULL};
	int			status = check(call, values);

	if (every > 0)
		stop_on_signals();
	while (status == DONE)
	{
		if (every > 0 && !call->json && isatty(STDOUT_FILENO))
			fputs("\033[H\033[J", stdout);
		status = query_show(call, by_zone ? zones_sql : groups_sql, 2, values);
		if (fflush(stdout) != 0)
			status = FAILED;
		if (every == 0)
			break;
		stop_poll(NULL, 0, iotmq_now() + every);
		if (stop_wanted())
			break;
		if (!call->json && !isatty(STDOUT_FILENO))
			putchar('\n');
	}
	return status;
}

const Verb	verb_lag = {
	.name = "lag",
	.arguments = "[TOPIC [GROUP]]",
	.most = 2,
	.summary = "Shows how far behind consumer groups are.",
	.doc = "lag is ready + in_flight + retry; lag_time is the age of the oldest message that is not settled."
	"  Exits with 1 if a group that is named can't be seen.",
	.options = options,
	.option = option,
	.run = run
};
