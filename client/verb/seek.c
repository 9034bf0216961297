/*
 * iotmq seek: moves a group.
 */

#include <string.h>

#include "verb.h"

enum
{
	DRY = 'n',
	ZONE = 'z',
	TO_OFFSET = 'o'
};

static bool dry_run;
static const char *zone;
static const char *to_offset;

static const struct argp_option options[] = {
	{"dry-run", DRY, NULL, 0, "Only say what would come again or be skipped", 0},
	{"zone", ZONE, "ZONE", 0, "In this zone alone", 0},
	{"offset", TO_OFFSET, "OFFSET", 0, "To this offset of the zone, instead of a TIME", 0},
	{NULL}
};

static bool
option(int key, const char *value)
{
	switch (key)
	{
		case DRY:
			dry_run = true;
			break;
		case ZONE:
			zone = value;
			break;
		default:
			to_offset = value;
			break;
	}
	return true;
}

/* Words for the two ends; anything else is a time as PostgreSQL reads it. */
static const char *
time_of(const char *word)
{
	return strcmp(word, "earliest") == 0 ? "-infinity" : strcmp(word, "latest") == 0 ? "infinity" : word;
}

#define RESULT "SELECT zone, old_offset::text, new_offset::text, messages FROM "

static int
run(const Call *call)
{
	const char *dry = dry_run ? "t" : "f";

	if ((call->count == 3) == (to_offset != NULL) || (to_offset && !zone))
	{
		complain("seek wants either a TIME, or --zone with --offset");
		return USAGE;
	}
	if (to_offset)
		return query_show(call, RESULT "iotmq.seek_offset($1, $2, $3, $4::bigint, $5::boolean)", 5,
						  (const char *const[])
						  {
							  call->arguments[0], call->arguments[1], zone, to_offset, dry
						  });
	return query_show(call, RESULT "iotmq.seek($1, $2, $3::timestamptz, $4, $5::boolean) ORDER BY 1", 5,
					  (const char *const[])
					  {
						  call->arguments[0], call->arguments[1], time_of(call->arguments[2]), zone, dry
					  });
}

const Verb	verb_seek = {
	.name = "seek",
	.arguments = "TOPIC GROUP [TIME]",
	.least = 2,
	.most = 3,
	.summary = "Moves a group to a time or an offset.",
	.doc = "TIME is \"earliest\", \"latest\", or what PostgreSQL takes for a time, such as \"2026-01-31 08:00+01\", "
	"\"yesterday\" or \"today 06:00\".  What comes again is positive, what is skipped negative.  Leases and retries of the "
	"group end in the zones that are moved.",
	.options = options,
	.option = option,
	.run = run
};
