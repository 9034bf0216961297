/*
 * json.c - how long and how deep the JSON of a message may be.
 *
 * jsonb keeps 1e131071 in a few bytes, and writes it out with 131,072 digits. So a message of
 * some kilobytes may be more than PostgreSQL sends in one piece: then no consumer can get it,
 * nor what comes with it, as often as they try, and no mirror can pull what lies behind it.
 * And it may be nested as deep as the stack was that it was parsed on: a mirror has less of
 * that left than a publisher. Both have a limit, far above what a device sends.
 *
 * Every large message comes by here: so it is read in its place, and not by JsonbIterator.
 * The form of both, on disk, is PostgreSQL's for good: jsonb.h, and numeric.c of its header.
 */
#include "log/log.h"

#include "access/detoast.h"
#include "miscadmin.h"
#include "utils/jsonb.h"

#define SMALL_BYTES 1024		/* what is smaller is neither too long nor too deep */
#define MOST_LEVELS 5000

#define DIGITS_AT_ONCE 4		/* of a numeric's unit */
#define FORM_MASK 0xC000
#define FORM_SHORT 0x8000
#define SHORT_SCALE(header) (((header) & 0x1F80) >> 7)
#define SHORT_WEIGHT(header) (((header) & 0x0040 ? ~0x003F : 0) | ((header) & 0x003F))
#define LONG_SCALE(header) ((header) & 0x3FFF)

static int64 digits_in(const JsonbContainer *container, int level);
static int	digits_of(const char *numeric);

/* How many digits its numbers have, written out. Errors: 54000 it is nested too deep. */
int64
iotmq_json_digits(Datum json)
{
	Jsonb	   *jsonb;
	int64		digits;

	if (toast_raw_datum_size(json) < SMALL_BYTES)
		return 0;
	jsonb = DatumGetJsonbP(json);
	digits = digits_in(&jsonb->root, 1);
	if (PointerGetDatum(jsonb) != json)
		pfree(jsonb);
	return digits;
}

static int64
digits_in(const JsonbContainer *container, int level)
{
	int			n = JsonContainerSize(container) * (JsonContainerIsObject(container) ? 2 : 1);
	const char *data = (const char *) &container->children[n];
	uint32		at = 0;
	int64		digits = 0;

	check_stack_depth();
	if (level > MOST_LEVELS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("JSON of a message is nested more than %d levels deep", MOST_LEVELS)));
	for (int i = 0; i < n; i++)
	{
		JEntry		entry = container->children[i];

		if (JBE_ISNUMERIC(entry))
			digits += digits_of(data + INTALIGN(at));
		else if (JBE_ISCONTAINER(entry))
			digits += digits_in((const JsonbContainer *) (data + INTALIGN(at)), level + 1);
		JBE_ADVANCE_OFFSET(at, entry);
	}
	return digits;
}

/* Before the point and behind it. */
static int
digits_of(const char *numeric)
{
	const char *data = VARDATA_ANY(numeric);
	uint16		header;
	int16		weight;
	int			scale;

	memcpy(&header, data, sizeof(header));
	if ((header & FORM_MASK) == FORM_SHORT)
	{
		weight = SHORT_WEIGHT(header);
		scale = SHORT_SCALE(header);
	}
	else
	{
		memcpy(&weight, data + sizeof(header), sizeof(weight));
		scale = LONG_SCALE(header);
	}
	return (weight < 0 ? 1 : (weight + 1) * DIGITS_AT_ONCE) + scale;
}
