/*
 * iotmq archive: a group's log, as compressed lines of JSON in files or in object storage.
 */

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "zone.h"

#define PAUSE 0.5
#define PATIENCE 10.0			/* with another session on the same zone, before --until-empty gives up */

enum
{
	ZONE = 'z',
	MESSAGES = 'n',
	BYTES = 'b',
	SECONDS = 's',
	UNTIL_EMPTY = 'E',
	ENDPOINT = 1
};

static const char *only_zone;
static const char *endpoint;
static int	messages = 10000;
static int	bytes = 16 * 1024 * 1024;
static double seconds = 300;
static bool until_empty;

static const struct argp_option options[] = {
	{"zone", ZONE, "ZONE", 0, "This zone alone", 0},
	{"messages", MESSAGES, "NUMBER", 0, "Messages of an object at most; 10000 if not said", 0},
	{"bytes", BYTES, "NUMBER", 0, "End an object that has so many bytes before it is compressed; 16777216 if not said", 0},
	{"seconds", SECONDS, "SECONDS", 0, "End an object so long after its first message was read; 300 if not said", 0},
	{"until-empty", UNTIL_EMPTY, NULL, 0, "End when all that is there is archived", 0},
	{"endpoint", ENDPOINT, "URL", 0, "The server of s3://; AWS_ENDPOINT_URL or Amazon's if not said", 0},
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
		case MESSAGES:
			return read_count(value, 1, &messages);
		case BYTES:
			return read_count(value, 1, &bytes);
		case SECONDS:
			return read_seconds(value, &seconds);
		case UNTIL_EMPTY:
			until_empty = true;
			return true;
		default:
			endpoint = value;
			return true;
	}
}

static Zone *zones;

/* Adds the zones that are new, in order of their names, and notices where the group was moved. */
static IotmqTrouble
find_zones(Archive *archive)
{
	const char *values[] = {archive->call->arguments[0], archive->call->arguments[1], only_zone};
	IotmqTrouble trouble;
	PGresult   *result = iotmq_link_query(archive->link, "SELECT z, iotmq.committed_offset($1, $2, z) FROM iotmq.zones($1) AS z"
										  " WHERE $3::text IS NULL OR z = $3 ORDER BY 1", 3, values, &trouble);

	if (!result)
		archive->error = iotmq_link_error(archive->link);
	for (int row = 0; result && row < PQntuples(result); row++)
	{
		const char *name = PQgetvalue(result, row, 0);
		Zone	  **at = &zones;

		while (*at && strcmp((*at)->name, name) != 0)
			at = &(*at)->next_zone;
		if (!*at)
			*at = zone_make(archive, name);
		zone_check(*at, strtoll(PQgetvalue(result, row, 1), NULL, 10));
	}
	PQclear(result);
	return trouble;
}

/* A step of each zone; none is worked on after trouble. */
static IotmqTrouble
step_all(Archive *archive, bool reads, bool now)
{
	IotmqTrouble trouble = reads ? find_zones(archive) : IOTMQ_FINE;

	for (Zone *zone = zones; zone && trouble == IOTMQ_FINE; zone = zone->next_zone)
		trouble = zone_step(archive, zone, reads, now);
	return trouble;
}

static bool
is_busy(void)
{
	for (const Zone *zone = zones; zone; zone = zone->next_zone)
		if (zone->ready && zone->full)
			return true;
	return false;
}

static bool
is_empty(void)
{
	for (const Zone *zone = zones; zone; zone = zone->next_zone)
		if (!zone->ready || zone->full || zone->count > 0)
			return false;
	return true;
}

static bool
waits_for_another(void)
{
	for (const Zone *zone = zones; zone; zone = zone->next_zone)
		if (zone->left_to_another)
			return true;
	return false;
}

/*
 * Trouble that passes is told once.  A session that is lost may have lost its locks to another
 * one: all zones begin anew.
 */
static void
tell_trouble(const Archive *archive, char **told)
{
	if (!*told || strcmp(*told, archive->error) != 0)
	{
		complain("%s: trying again", archive->error);
		free(*told);
		*told = iotmq_copy(archive->error);
	}
	if (!iotmq_link_current(archive->link))
		for (Zone *zone = zones; zone; zone = zone->next_zone)
			zone_forget(zone);
}

/* What has been read is written before the end. */
static int
end_all(Archive *archive)
{
	archive->store_retry_at = 0;
	if (step_all(archive, false, true) == IOTMQ_FINE)
		return DONE;
	complain("%s", archive->error);
	return iotmq_link_current(archive->link) ? FAILED : UNREACHABLE;
}

static int
follow(Archive *archive)
{
	bool		reached = false;
	double		begin = iotmq_now();
	char	   *told = NULL;
	int			status = DONE;

	while (!stop_wanted() && status == DONE)
	{
		IotmqTrouble trouble = step_all(archive, true, until_empty);
		bool		away = !iotmq_link_current(archive->link);

		if (trouble == IOTMQ_REFUSED || trouble == IOTMQ_LOST || (away && !reached))
		{
			complain("%s", archive->error);
			status = away ? UNREACHABLE : FAILED;
		}
		else if (trouble == IOTMQ_AGAIN)
			tell_trouble(archive, &told);
		else if (only_zone && !zones)
		{
			complain("there is no zone \"%s\" in which the group can be read", only_zone);
			status = FAILED;
		}
		else if (until_empty && is_empty())
			break;
		else if (until_empty && waits_for_another() && iotmq_now() > begin + PATIENCE)
			status = FAILED;
		reached = true;
		if (status == DONE && (trouble != IOTMQ_FINE || !is_busy() || archive->store_retry_at > 0))
			stop_poll(NULL, 0, fmax(iotmq_now() + PAUSE, iotmq_link_retry_at(archive->link)));
	}
	free(told);
	return status == DONE ? end_all(archive) : status;
}

static int
run(const Call *call)
{
	const char *destination = call->arguments[2];
	bool		is_s3 = strncmp(destination, "s3://", 5) == 0;
	Archive		archive = {
		.call = call,.most_messages = messages,.most_bytes = (size_t) bytes,.longest = seconds
	};
	int			status;

	if (!is_s3 && strstr(destination, "://"))
	{
		complain("this is neither a folder nor s3://: %s", destination);
		return USAGE;
	}
	archive.store = is_s3 ? s3_open(destination, endpoint) : files_open(destination);
	if (!archive.store)
		return USAGE;
	archive.link = query_open(call);
	stop_on_signals();
	status = follow(&archive);
	iotmq_link_close(archive.link);
	archive.store->close(archive.store);
	while (zones)
	{
		Zone	   *zone = zones;

		zones = zone->next_zone;
		zone_free(zone);
	}
	return status;
}

const Verb	verb_archive = {
	.name = "archive",
	.arguments = "TOPIC GROUP DESTINATION",
	.least = 3,
	.most = 3,
	.summary = "Writes a group's messages to files or to object storage.",
	.doc = "DESTINATION is a folder, or s3://BUCKET/PREFIX with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION set.  An object "
	"is TOPIC/ZONE/FIRST-LAST.ndjson.gz, by its first and last offset, and has a line for each message as \"iotmq "
	"consume --json\" prints it.  The group goes on behind an object once it is written, and nothing else is to "
	"consume as that group.  Each message is in one object, also when this is killed and started again.  "
	"After SIGTERM what has been read is written.",
	.options = options,
	.option = option,
	.run = run
};
