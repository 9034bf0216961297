/*
 * One zone on its way into the archive: read by fetch, written object by object, and the
 * group's position committed behind each.
 *
 * That every message is in one object, however often the program is killed, comes from the
 * names of the objects, which say what they have.  Whoever begins looks which ones are there
 * from the position on (start.c); messages that one of them has are passed over.  So it does
 * no harm that an object would now end elsewhere, since more messages are there or a limit was
 * changed.
 *
 * Where a write can take effect after its program is dead, a look does not suffice.  There a
 * plan, the first and the last offset of the next object, is written before it.  Whoever begins at
 * the plan's first offset makes the object that the plan says, and thus writes the same bytes again.
 *
 * One session at a time works on a zone: it holds an advisory lock, and when it lost its
 * connection it begins anew.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "zone.h"

#define ROWS 1000				/* of a fetch at most */
#define CHUNK (16 * 1024 * 1024)	/* bytes of a fetch, of which one message may go beyond */

Zone *
zone_make(const Archive *archive, const char *name)
{
	Zone	   *zone = iotmq_allocate(sizeof(Zone));

	zone->name = iotmq_copy(name);
	if (asprintf(&zone->folder, "%s/%s", archive->call->arguments[0], name) < 0)
		abort();
	return zone;
}

/* It begins anew, by what the group and the archive say then. */
void
zone_forget(Zone *zone)
{
	object_drop(zone);
	zone->ready = false;
}

void
zone_free(Zone *zone)
{
	object_drop(zone);
	free(zone->there.items);
	free(zone->lost.items);
	free(zone->folder);
	free(zone->name);
	free(zone);
}

/* position: where the group is now.  It may have been moved, by a seek or by retention. */
void
zone_check(Zone *zone, int64_t position)
{
	if (zone->ready && zone->count == 0 && zone->position != position)
		zone_forget(zone);
}

/* The object of the archive that has an offset, of which the next is larger; NULL: there is none. */
static const Range *
find_object(Zone *zone, int64_t offset)
{
	while (zone->passed < zone->there.count && zone->there.items[zone->passed].last < offset)
		zone->passed++;
	if (zone->passed < zone->there.count && zone->there.items[zone->passed].first <= offset)
		return &zone->there.items[zone->passed];
	return NULL;
}

/* Whether the object is to end before that message. */
static bool
ends_before(Zone *zone, int64_t offset)
{
	return zone->count > 0 && (zone->planned ? offset > zone->plan.last : find_object(zone, offset) != NULL);
}

static bool
is_full(const Archive *archive, const Zone *zone)
{
	if (zone->planned)
		return zone->next > zone->plan.last;
	return zone->count >= archive->most_messages || zone->length >= archive->most_bytes;
}

/* Takes rows as long as they are of the same object. */
static IotmqTrouble
take_rows(Archive *archive, Zone *zone, const PGresult *result)
{
	for (int row = 0; row < PQntuples(result); row++)
	{
		int64_t		offset = archive_number(result, row, 1);
		const Range *object = zone->count == 0 ? find_object(zone, offset) : NULL;
		bool		moved;

		if (object)
		{
			complain("%s: %" PRId64 "-%" PRId64 " is there", zone->folder, object->first, object->last);
			zone->full = true;
			return zone_commit(archive, zone, zone_behind(zone, object->last), &moved);
		}
		if (ends_before(zone, offset))
		{
			zone->full = true;
			object_close(zone);
			return IOTMQ_FINE;
		}
		object_add(zone, result, row, offset);
		zone->next = zone_behind(zone, offset);
		if (is_full(archive, zone))
		{
			zone->full = true;
			object_close(zone);
			return IOTMQ_FINE;
		}
	}
	return IOTMQ_FINE;
}

/*
 * After a fetch was refused: if the zone was recovered, the hint says where to go on.  So it is for
 * roles that may not see the epochs, and behind a proxy whose connections outlive a server.
 */
static IotmqTrouble
look_for_recovery(const Archive *archive, Zone *zone)
{
	static const char hint[] = "Go on at offset ";
	const char *found = strstr(archive->error, hint);

	if (!found)
		return IOTMQ_REFUSED;
	if (zone->count > 0)
	{
		zone_forget(zone);		/* what was read may be lost */
		return IOTMQ_FINE;
	}
	zone->next = strtoll(found + strlen(hint), NULL, 10);
	complain("zone \"%s\" goes on at offset %" PRId64 " after a recovery of the database", zone->name, zone->next);
	zone->full = true;
	return IOTMQ_FINE;
}

/* One fetch: of messages whose texts are the same in every session. */
static IotmqTrouble
fetch(Archive *archive, Zone *zone)
{
	char		next[24];
	char		rows[24];
	char		bytes[24];
	const char *values[] = {archive->call->arguments[0], zone->name, next, rows, bytes};
	size_t		room = zone->planned ? CHUNK : archive->most_bytes - zone->length;
	int			most = zone->planned ? ROWS : archive->most_messages - zone->count;
	IotmqTrouble trouble;
	PGresult   *result;

	most = most < ROWS ? most : ROWS;
	snprintf(next, sizeof(next), "%" PRId64, zone->next);
	snprintf(rows, sizeof(rows), "%d", most);
	snprintf(bytes, sizeof(bytes), "%zu", room < CHUNK ? room : (size_t) CHUNK);
	result = archive_query(archive,
						   "SELECT zone, msg_offset, device_id, tag, payload, body, properties, message_key,"
						   " pg_catalog.replace(pg_catalog.to_jsonb(published_at AT TIME ZONE 'UTC') #>> '{}'::text[], 'T', ' ') || '+00'::text, fetched"
						   " FROM (SELECT *, pg_catalog.sum(size) OVER (ORDER BY msg_offset) - size AS before,"
						   " pg_catalog.count(*) OVER () AS fetched"
						   " FROM (SELECT *, coalesce(pg_catalog.octet_length(payload::text), 0) + coalesce(pg_catalog.octet_length(body), 0)"
						   " + coalesce(pg_catalog.octet_length(properties::text), 0) AS size"
						   " FROM iotmq.fetch($1, $2, $3::bigint, $4::int)) AS f) AS g"
						   " WHERE before < $5::bigint ORDER BY msg_offset", 5, values, &trouble);
	if (!result)
		return trouble == IOTMQ_REFUSED ? look_for_recovery(archive, zone) : trouble;
	zone->full = PQntuples(result) > 0 &&
		(archive_number(result, 0, 9) == most || archive_number(result, 0, 9) > PQntuples(result));
	/* The last message of a plan may have been erased. */
	if (PQntuples(result) == 0 && zone->planned)
		object_close(zone);
	trouble = take_rows(archive, zone, result);
	PQclear(result);
	return trouble;
}

/*
 * One step: an object that is closed is written, else what there is is read, as much as one
 * fetch brings, if "reads" is set.  "now": what has been read is an object, however little.
 */
IotmqTrouble
zone_step(Archive *archive, Zone *zone, bool reads, bool now)
{
	IotmqTrouble trouble = IOTMQ_FINE;

	if (!zone->ready && reads && iotmq_now() >= archive->store_retry_at)
		trouble = zone_begin(archive, zone);
	if (trouble != IOTMQ_FINE || !zone->ready)
		return trouble;
	if (reads && !zone->closed)
		trouble = fetch(archive, zone);
	if (trouble != IOTMQ_FINE || !zone->ready)
		return trouble;
	if (zone->count > 0 && !zone->closed)
	{
		if (zone->planned && !reads)
			zone_forget(zone);	/* the next run makes it as a whole */
		else if (!zone->planned && !(reads && zone->full) && (now || iotmq_now() >= zone->since + archive->longest))
			object_close(zone);
	}
	return zone->closed ? object_write(archive, zone) : IOTMQ_FINE;
}
