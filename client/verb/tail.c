/*
 * iotmq tail: follows a topic, without a group.
 *
 * Reads each zone by fetch, which waits for nothing: an idle topic is asked twice a second.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verb.h"

#define PAUSE 0.5
#define ROWS 1000

enum
{
	ZONE = 'z',
	LAST = 'n',
	SINCE = 's',
	NO_FOLLOW = 1
};

static const char *only_zone;
static const char *since;
static int	last = 10;
static bool follow = true;

static const struct argp_option options[] = {
	{"zone", ZONE, "ZONE", 0, "This zone alone", 0},
	{"lines", LAST, "NUMBER", 0, "Begin with the last so many messages of each zone; 10 if not said", 0},
	{"since", SINCE, "TIME", 0, "Begin with what was published at that time", 0},
	{"no-follow", NO_FOLLOW, NULL, 0, "End when all that is there is printed", 0},
	{NULL}
};

static bool
option(int key, const char *value)
{
	switch (key)
	{
		case ZONE:
			only_zone = value;
			return true;
		case LAST:
			return read_count(value, 0, &last);
		case SINCE:
			since = value;
			return true;
		default:
			follow = false;
			return true;
	}
}

typedef struct Zone
{
	char	   *name;
	char	   *position;		/* the next offset to fetch; NULL: not found yet */
	bool		there;			/* when zones were looked for last */
	struct Zone *next;
} Zone;

static Zone *zones;

static char *
copy(const char *text)
{
	char	   *result = strdup(text);

	if (!result)
		abort();
	return result;
}

static void
free_zone(Zone *zone)
{
	free(zone->name);
	free(zone->position);
	free(zone);
}

static void
note_zone(const char *name)
{
	Zone	  **at = &zones;

	while (*at && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	if (!*at)
	{
		*at = calloc(1, sizeof(Zone));
		if (!*at)
			abort();
		(*at)->name = copy(name);
	}
	(*at)->there = true;
}

static void
leave_those_that_are_gone(void)
{
	Zone	  **at = &zones;

	while (*at)
	{
		Zone	   *zone = *at;

		if (zone->there)
		{
			at = &zone->next;
			continue;
		}
		complain("zone \"%s\" is gone, or can't be read any more", zone->name);
		*at = zone->next;
		free_zone(zone);
	}
}

/* Adds the zones that are new, in order of their names, and leaves those that are gone. */
static IotmqTrouble
find_zones(const Call *call, IotmqLink *link)
{
	const char *values[] = {call->arguments[0], only_zone};
	IotmqTrouble trouble;
	PGresult   *result = iotmq_link_query(link, "SELECT z FROM iotmq.zones($1) AS z"
										  " WHERE $2::text IS NULL OR z = $2 ORDER BY 1", 2, values, &trouble);

	for (Zone *zone = zones; zone; zone = zone->next)
		zone->there = !result;
	for (int row = 0; result && row < PQntuples(result); row++)
		note_zone(PQgetvalue(result, row, 0));
	PQclear(result);
	leave_those_that_are_gone();
	return trouble;
}

/* Where a zone is to begin, by its messages in the log. */
static IotmqTrouble
find_position(const Call *call, IotmqLink *link, Zone *zone, int lines)
{
	char		number[16];
	char	   *sql = NULL;
	const char *values[] = {call->arguments[0]};
	IotmqTrouble trouble;
	PGresult   *result = iotmq_link_query(link, "SELECT iotmq.topic_table($1)", 1, values, &trouble);

	if (!result)
		return trouble;
	if (asprintf(&sql, since
				 ? "SELECT pg_catalog.min(msg_offset) FROM %s WHERE zone = $1 AND published_at >= $2::timestamptz"
				 : "SELECT coalesce(pg_catalog.min(o), 1) + ($2::int = 0)::int FROM (SELECT msg_offset AS o FROM %s WHERE zone = $1"
				 " ORDER BY msg_offset DESC LIMIT greatest($2::int, 1)) AS x",
				 PQgetvalue(result, 0, 0)) < 0)
		abort();
	PQclear(result);
	snprintf(number, sizeof(number), "%d", lines);
	result = iotmq_link_query(link, sql, 2, (const char *const[])
							  {
								  zone->name, since ? since : number
							  }, &trouble);
	free(sql);
	if (result && !PQgetisnull(result, 0, 0))
	{
		free(zone->position);
		zone->position = copy(PQgetvalue(result, 0, 0));
	}
	PQclear(result);
	return trouble;
}

static void
print_row(const Call *call, const PGresult *result, int row)
{
	const char *values[9];

	for (int column = 0; column < 9; column++)
		values[column] = PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
	message_print(call, NULL, values[0], &(IotmqMessage)
				  {
					  .offset = values[1],.device_id = values[2],.tag = values[3],.payload = values[4],
						  .body = values[5],.properties = values[6],.message_key = values[7],.published_at = values[8]
				  });
}

/* Prints what there is of a zone, as much as one call brings; "rows" is increased by it. */
static IotmqTrouble
print_zone(const Call *call, IotmqLink *link, Zone *zone, int *rows)
{
	const char *values[] = {call->arguments[0], zone->name, zone->position};
	IotmqTrouble trouble;
	PGresult   *result = iotmq_link_query(link,
										  "SELECT zone, msg_offset, device_id, tag, payload, body, properties, message_key,"
										  " published_at, msg_offset + 1 FROM iotmq.fetch($1, $2, $3::bigint, 1000)",
										  3, values, &trouble);

	for (int row = 0; result && row < PQntuples(result); row++)
		print_row(call, result, row);
	if (result && PQntuples(result) > 0)
	{
		*rows += PQntuples(result);
		free(zone->position);
		zone->position = copy(PQgetvalue(result, PQntuples(result) - 1, 9));
	}
	PQclear(result);
	return trouble;
}

static bool
is_gone(const Call *call, IotmqLink *link, const Zone *zone)
{
	const char *values[] = {call->arguments[0], zone->name};
	IotmqTrouble trouble;
	PGresult   *result = iotmq_link_query(link, "SELECT FROM iotmq.zones($1) AS z WHERE z = $2", 2, values, &trouble);
	bool		gone = result && PQntuples(result) == 0;

	PQclear(result);
	return gone;
}

/* One look at all zones. */
static IotmqTrouble
look(const Call *call, IotmqLink *link, int *rows)
{
	IotmqTrouble trouble = find_zones(call, link);

	for (Zone *zone = zones; zone && trouble == IOTMQ_FINE; zone = zone->next)
	{
		if (!zone->position)
			trouble = find_position(call, link, zone, last);
		if (!zone->position || trouble != IOTMQ_FINE)
			continue;
		trouble = print_zone(call, link, zone, rows);
		if (trouble == IOTMQ_REFUSED)
		{
			/* After a recovery the zone goes on elsewhere: what has come since is new. */
			complain("%s", iotmq_link_error(link));
			trouble = find_position(call, link, zone, 0);
			if (trouble == IOTMQ_FINE)
				trouble = print_zone(call, link, zone, rows);
		}
		/* If it went meanwhile, the next look leaves it. */
		if (trouble == IOTMQ_REFUSED && is_gone(call, link, zone))
			trouble = IOTMQ_FINE;
	}
	return trouble;
}

static int
tail(const Call *call, IotmqLink *link)
{
	bool		reached = false;

	while (!stop_wanted())
	{
		int			rows = 0;
		IotmqTrouble trouble = look(call, link, &rows);

		if (fflush(stdout) != 0)
			return FAILED;
		if (trouble == IOTMQ_REFUSED || trouble == IOTMQ_LOST || (trouble == IOTMQ_AGAIN && !reached))
		{
			complain("%s", iotmq_link_error(link));
			return trouble == IOTMQ_AGAIN ? UNREACHABLE : FAILED;
		}
		reached = true;
		if (only_zone && !zones)
		{
			complain("there is no zone \"%s\" that can be read", only_zone);
			return FAILED;
		}
		if (!follow && rows == 0 && trouble == IOTMQ_FINE)
			break;
		if (rows == 0)
			stop_poll(NULL, 0, iotmq_now() + PAUSE);
	}
	return DONE;
}

static int
run(const Call *call)
{
	IotmqLink  *link = query_open(call);
	int			status;

	stop_on_signals();
	status = tail(call, link);
	iotmq_link_close(link);
	while (zones)
	{
		Zone	   *zone = zones;

		zones = zone->next;
		free_zone(zone);
	}
	return status;
}

const Verb	verb_tail = {
	.name = "tail",
	.arguments = "TOPIC",
	.least = 1,
	.most = 1,
	.summary = "Follows a topic, without a consumer group.",
	.doc = "Needs the right to read the topic.  It moves no group and acknowledges nothing.",
	.options = options,
	.option = option,
	.run = run
};
