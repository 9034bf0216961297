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
static const char *separator = "";	/* of two looks, where no terminal is cleared */

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
" retry_messages AS retry, dead_letters, pg_catalog.date_trunc('second', lag_time) AS lag_time"
" FROM iotmq.group_lag" WHERE " ORDER BY 1, 2";

static const char zones_sql[] =
"SELECT topic, consumer_group, zone, next_offset::text, stable_offset::text, lag_messages AS lag,"
" ready_messages AS ready, inflight_messages AS in_flight, retry_messages AS retry, dead_letters,"
" pg_catalog.date_trunc('second', lag_time) AS lag_time"
" FROM iotmq.consumer_lag" WHERE " ORDER BY 1, 2, 3";

static const char there_is_sql[] = "SELECT pg_catalog.count(*) FROM iotmq.group_settings" WHERE;

/* A group that was named must be there: an empty table would look as if all were well. */
static int
check(const Call *call, IotmqLink *link, const char *const *values)
{
	int			status = DONE;
	PGresult   *result = query_run(link, there_is_sql, 2, values, &status);

	if (result && call->count > 0 && atoi(PQgetvalue(result, 0, 0)) == 0)
	{
		complain("no consumer group of that name can be seen");
		status = FAILED;
	}
	PQclear(result);
	return status;
}

/* One look; whoever watches goes on when the server is there again. */
static int
look(const Call *call, IotmqLink *link, const char *const *values)
{
	IotmqTrouble trouble;
	PGresult   *result = query_rows(call, link, by_zone ? zones_sql : groups_sql, 2, values, &trouble);

	if (!result && (every == 0 || trouble != IOTMQ_AGAIN))
		return query_failed(link);
	if (!result)
	{
		complain_once(iotmq_link_error(link));
		return DONE;
	}
	if (every > 0 && !call->json)
		fputs(isatty(STDOUT_FILENO) ? "\033[H\033[J" : separator, stdout);
	separator = "\n";
	query_print(call, result);
	PQclear(result);
	return fflush(stdout) == 0 ? DONE : FAILED;
}

static int
run(const Call *call)
{
	const char *values[] = {call->count > 0 ? call->arguments[0] : NULL, call->count > 1 ? call->arguments[1] : NULL};
	IotmqLink  *link = query_open(call);
	int			status = check(call, link, values);

	if (every > 0)
		stop_on_signals();
	while (status == DONE && !stop_wanted())
	{
		status = look(call, link, values);
		if (every == 0)
			break;
		stop_poll(NULL, 0, iotmq_now() + every);
	}
	iotmq_link_close(link);
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
