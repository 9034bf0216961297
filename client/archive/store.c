/*
 * Names of objects, and what all stores share.
 *
 * A name is the first and the last offset, with as many digits as the largest one has, so
 * that the order of names is that of offsets.
 */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"

#define DIGITS 19
#define ENDING ".ndjson.gz"

/* name: of OBJECT_NAME_SIZE */
void
object_name(char *name, Range range)
{
	snprintf(name, OBJECT_NAME_SIZE, "%0*" PRId64 "-%0*" PRId64 ENDING, DIGITS, range.first, DIGITS, range.last);
}

/* False if the name is no object's. */
bool
object_range(const char *name, size_t length, Range *range)
{
	char		text[OBJECT_NAME_SIZE];
	char		again[OBJECT_NAME_SIZE];

	if (length >= sizeof(text))
		return false;
	memcpy(text, name, length);
	text[length] = 0;
	if (sscanf(text, "%19" SCNd64 "-%19" SCNd64, &range->first, &range->last) != 2)
		return false;
	object_name(again, *range);
	return strcmp(text, again) == 0;
}

void
ranges_add(Ranges *ranges, Range range)
{
	if (ranges->count == ranges->room)
	{
		ranges->room = ranges->room > 0 ? 2 * ranges->room : 16;
		ranges->items = realloc(ranges->items, sizeof(Range) * (size_t) ranges->room);
		if (!ranges->items)
			abort();
	}
	ranges->items[ranges->count++] = range;
}

void
store_fail(Store *store, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(store->error, sizeof(store->error), format, arguments);
	va_end(arguments);
}
