/*
 * The object that is being made of a zone's messages: lines of JSON, compressed when it is
 * closed, and written under a name that says which offsets it has.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "gzip.h"
#include "zone.h"

/* The row of a fetch becomes a line; the first one begins the object. */
void
object_add(Zone *zone, const PGresult *result, int row, int64_t offset)
{
	const char *values[9];

	if (zone->count == 0)
	{
		zone->range.first = offset;
		zone->since = iotmq_now();
		zone->planned = zone->plan.last > 0 && zone->plan.first == offset;
		zone->stream = open_memstream(&zone->text, &zone->length);
		if (!zone->stream)
			abort();
	}
	for (int column = 0; column < 9; column++)
		values[column] = PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
	json_message(zone->stream, NULL, zone->name, &(IotmqMessage)
				 {
					 .offset = values[1],.device_id = values[2],.tag = values[3],.payload = values[4],
						 .body = values[5],.properties = values[6],.message_key = values[7],.published_at = values[8]
				 });
	putc('\n', zone->stream);
	if (fflush(zone->stream) != 0)
		abort();
	zone->range.last = zone->planned ? zone->plan.last : offset;
	zone->count++;
}

/* The object gets no more messages. */
void
object_close(Zone *zone)
{
	if (fclose(zone->stream) != 0)
		abort();
	zone->stream = NULL;
	zone->bytes = gzip(zone->text, zone->length, &zone->size);
	free(zone->text);
	zone->text = NULL;
	zone->closed = true;
}

static void
report(const Archive *archive, const Zone *zone, const char *name)
{
	if (archive->call->json)
	{
		printf("{\"object\": \"%s/%s\", \"zone\": \"%s\", \"first_offset\": \"%" PRId64 "\", \"last_offset\": \"%" PRId64
			   "\", \"messages\": %d, \"bytes\": %zu}\n",
			   zone->folder, name, zone->name, zone->range.first, zone->range.last, zone->count, zone->size);
	}
	else
		printf("%s/%s  %d messages\n", zone->folder, name, zone->count);
	fflush(stdout);
}

/*
 * Puts it into the store, if nobody else does: asked for last, since what comes before may take
 * long enough to lose the session, and another one to begin.
 */
static IotmqTrouble
put(Archive *archive, Zone *zone, const char *name, bool *ours)
{
	Store	   *store = archive->store;
	IotmqTrouble trouble = store->lock ? archive_store_result(archive, store->lock(store, zone->folder)) : IOTMQ_FINE;

	*ours = false;
	if (trouble != IOTMQ_FINE)
		return trouble;
	trouble = zone_is_ours(archive, zone, ours);
	if (*ours)
		trouble = archive_store_result(archive, store->put(store, zone->folder, name, zone->bytes, zone->size));
	if (store->unlock)
		store->unlock(store);
	return trouble;
}

/* Writes the object and moves the group behind it. */
IotmqTrouble
object_write(Archive *archive, Zone *zone)
{
	Store	   *store = archive->store;
	char		name[OBJECT_NAME_SIZE];
	IotmqTrouble trouble = IOTMQ_FINE;
	bool		ours = false;
	bool		moved;

	if (iotmq_now() < archive->store_retry_at)
		return IOTMQ_FINE;
	object_name(name, zone->range);
	if (store->late && !zone->planned)
	{
		char		plan[64];
		int			length = snprintf(plan, sizeof(plan), "%" PRId64 "-%" PRId64 "\n", zone->range.first, zone->range.last);

		trouble = archive_store_result(archive, store->put(store, zone->folder, PLAN, plan, (size_t) length));
		zone->planned = trouble == IOTMQ_FINE;
	}
	if (trouble == IOTMQ_FINE)
		trouble = put(archive, zone, name, &ours);
	if (trouble != IOTMQ_FINE || !ours)
		return trouble;

	trouble = zone_commit(archive, zone, zone_behind(zone, zone->range.last), &moved);
	if (trouble == IOTMQ_FINE && moved)
	{
		report(archive, zone, name);
		object_drop(zone);
	}
	return trouble;
}

/* Lets go of the object that is being made. */
void
object_drop(Zone *zone)
{
	if (zone->stream)
		fclose(zone->stream);
	free(zone->text);
	free(zone->bytes);
	zone->stream = NULL;
	zone->text = zone->bytes = NULL;
	zone->count = 0;
	zone->closed = zone->planned = false;
}
