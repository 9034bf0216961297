/*
 * name.c - topic and zone in PostgreSQL's own errors.
 *
 * What the owner of a topic's table has added to it, such as a constraint, fails with
 * PostgreSQL's message, which names a table that no user knows: that of the zone, _zone_43,
 * or of a segment, _zone_43_p20260101_000000. In such messages topic/zone stands instead. In
 * those of the publishing functions from where they are raised, so that who catches them
 * sees it, too; in those of COPY and INSERT when they are reported, since nothing of ours is
 * on their way. The fields for programs (schema, table, constraint) stay as they are.
 *
 * Only zones that this session has published to have a name here: while an error is on its
 * way nothing can be looked up.
 */
#include "log/log.h"

#include <ctype.h>

#include "lib/stringinfo.h"
#include "utils/hsearch.h"

#define PREFIX "_zone_"
#define DIGITS "0123456789"

typedef struct ZoneName
{
	int32		zone_id;		/* hash key */
	char		topic[NAME_BYTES + 1];
	char		zone[NAME_BYTES + 1];
} ZoneName;

static HTAB *names = NULL;		/* ZoneName by zone */
static emit_log_hook_type next_hook = NULL;

static void when_reported(ErrorData *error);
static const ZoneName *parse(const char **at);

/* The session publishes to that zone. */
void
iotmq_name_remember(const Topic *topic, const Zone *zone)
{
	ZoneName   *name;

	if (names == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(int32), .entrysize = sizeof(ZoneName)};

		names = hash_create("iotmq names of zones", 32, &ctl, HASH_ELEM | HASH_BLOBS);
		next_hook = emit_log_hook;
		emit_log_hook = when_reported;
	}
	name = hash_search(names, &zone->zone_id, HASH_ENTER, NULL);
	strlcpy(name->topic, topic->name, sizeof(name->topic));
	strlcpy(name->zone, zone->name, sizeof(name->zone));
}

/* Puts topic/zone for the names of tables in an error's message. */
void
iotmq_name_translate(ErrorData *error)
{
	StringInfoData plain;
	const char *done = error->message;
	const char *at = done;

	if (names == NULL || at == NULL || strstr(at, PREFIX) == NULL)
		return;
	initStringInfo(&plain);
	while ((at = strstr(at, PREFIX)) != NULL)
	{
		const char *begin = at;
		const ZoneName *name = parse(&at);

		/* iotmq_zone_43 is a schema */
		if (name == NULL || (begin > error->message && isalnum((unsigned char) begin[-1])))
			continue;
		appendBinaryStringInfo(&plain, done, begin - done);
		appendStringInfo(&plain, "%s/%s", name->topic, name->zone);
		done = at;
	}
	appendStringInfoString(&plain, done);
	error->message = plain.data;
}

static void
when_reported(ErrorData *error)
{
	if (error->elevel >= ERROR)
		iotmq_name_translate(error);
	if (next_hook != NULL)
		next_hook(error);
}

/* The zone whose table's or segment's name begins there; moves behind it. NULL: it is none. */
static const ZoneName *
parse(const char **at)
{
	const char *digits = *at + strlen(PREFIX);
	size_t		n = strspn(digits, DIGITS);
	int32		zone_id = (int32) strtol(digits, NULL, 10);

	*at = digits + n;
	if (n == 0)
		return NULL;
	n = strncmp(*at, "_p", 2) == 0 ? strspn(*at + 2, DIGITS) : 0;
	if (n > 0 && (*at)[2 + n] == '_')
		*at += 2 + n + 1 + strspn(*at + 2 + n + 1, DIGITS);
	return hash_search(names, &zone_id, HASH_FIND, NULL);
}
