/*
 * Where a zone is to go on: by the group's position, the objects that are there from it on,
 * the plan of the last one, and what a recovery of the database has lost.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "zone.h"

/* True if nobody else works on the zone. */
static IotmqTrouble
lock_zone(Archive *archive, Zone *zone, bool *locked)
{
	const char *values[] = {archive->call->arguments[0], archive->call->arguments[1], zone->name};
	IotmqTrouble trouble;
	PGresult   *result = archive_query(archive, "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended("
									   "pg_catalog.format('iotmq archive/%s/%s/%s', $1::text, $2::text, $3::text), 0))",
									   3, values, &trouble);

	*locked = result && PQgetvalue(result, 0, 0)[0] == 't';
	PQclear(result);
	if (result && !*locked && !zone->left_to_another)
		complain("zone \"%s\" is being archived by another session: waiting for its end", zone->name);
	zone->left_to_another = result && !*locked;
	return trouble;
}

/* end: the next offset that will be given out */
static IotmqTrouble
find_position(Archive *archive, Zone *zone, int64_t *end)
{
	const char *values[] = {archive->call->arguments[0], archive->call->arguments[1], zone->name};
	IotmqTrouble trouble;
	PGresult   *result = archive_query(archive, "SELECT iotmq.committed_offset($1, $2, $3), expired_unread, end_offset"
									   " FROM (SELECT) AS x LEFT JOIN iotmq.consumer_lag ON topic = $1 AND consumer_group = $2 AND zone = $3",
									   3, values, &trouble);
	int64_t		expired;

	if (!result)
		return trouble;
	zone->position = archive_number(result, 0, 0);
	expired = archive_number(result, 0, 1);
	*end = PQgetisnull(result, 0, 2) ? INT64_MAX : archive_number(result, 0, 2);
	if (expired > zone->expired)
		complain("zone \"%s\": retention has dropped %" PRId64 " messages before the group had read them",
				 zone->name, expired - zone->expired);
	zone->expired = expired;
	PQclear(result);
	return IOTMQ_FINE;
}

/* Not every role that may consume may see it. */
static IotmqTrouble
find_lost(Archive *archive, Zone *zone)
{
	const char *values[] = {archive->call->arguments[0], zone->name};
	IotmqTrouble trouble;
	PGresult   *result = archive_query(archive, "SELECT pg_catalog.has_table_privilege('iotmq.zone_epoch', 'SELECT')", 0, NULL, &trouble);
	bool		visible = result && PQgetvalue(result, 0, 0)[0] == 't';

	zone->lost.count = 0;
	PQclear(result);
	if (!visible)
		return trouble;
	result = archive_query(archive, "SELECT last_before + 1, first_offset - 1 FROM iotmq.zone_epoch"
									" WHERE topic = $1 AND zone = $2 ORDER BY epoch", 2, values, &trouble);
	for (int row = 0; result && row < PQntuples(result); row++)
		ranges_add(&zone->lost, (Range)
				   {
					   archive_number(result, row, 0), archive_number(result, row, 1)
				   });
	PQclear(result);
	return trouble;
}

static IotmqTrouble
find_plan(Archive *archive, Zone *zone, int64_t end)
{
	Store	   *store = archive->store;
	char	   *text = NULL;
	IotmqTrouble trouble;

	zone->plan = (Range)
	{
		0
	};
	if (!store->late)
		return IOTMQ_FINE;
	trouble = archive_store_result(archive, store->get(store, zone->folder, PLAN, &text));
	if (text && (sscanf(text, "%" SCNd64 "-%" SCNd64, &zone->plan.first, &zone->plan.last) != 2 || zone->plan.last >= end))
		zone->plan.last = 0;
	free(text);
	return trouble;
}

static int
compare_ranges(const void *a, const void *b)
{
	int64_t		x = ((const Range *) a)->first;
	int64_t		y = ((const Range *) b)->first;

	return (x > y) - (x < y);
}

static void
tell_lost(const Zone *zone, Range object, int64_t from)
{
	complain("zone \"%s\" has lost messages in a recovery of the database: in the archive's %" PRId64 "-%" PRId64
			 ", those from offset %" PRId64 " on never came to be",
			 zone->name, object.first, object.last, object.first > from ? object.first : from);
}

/*
 * Tells what the archive has that a recovery has lost.  Before something is published in the
 * new epoch this shows by the end alone, and the group can't go beyond it.
 */
static void
look_at_lost(Zone *zone, Range *object, int64_t end)
{
	for (int i = 0; i < zone->lost.count; i++)
		if (object->first <= zone->lost.items[i].last && object->last >= zone->lost.items[i].first)
			tell_lost(zone, *object, zone->lost.items[i].first);
	if (object->last >= end)
	{
		tell_lost(zone, *object, end);
		object->last = end - 1;
	}
}

static IotmqTrouble
find_objects(Archive *archive, Zone *zone, int64_t end)
{
	Store	   *store = archive->store;
	int64_t		from = zone->position;
	IotmqTrouble trouble;

	/* Retention may have moved the group into the object that the plan is of. */
	if (zone->plan.last >= from && zone->plan.first < from)
		from = zone->plan.first;
	zone->there.count = zone->passed = 0;
	trouble = archive_store_result(archive, store->list(store, zone->folder, from, &zone->there));
	if (zone->there.count > 0)
		qsort(zone->there.items, (size_t) zone->there.count, sizeof(Range), compare_ranges);
	for (int i = 0; trouble == IOTMQ_FINE && i < zone->there.count; i++)
		look_at_lost(zone, &zone->there.items[i], end);
	return trouble;
}

/* Learns where the zone is to go on. */
IotmqTrouble
zone_begin(Archive *archive, Zone *zone)
{
	bool		locked;
	int64_t		end = INT64_MAX;
	IotmqTrouble trouble = lock_zone(archive, zone, &locked);

	if (trouble != IOTMQ_FINE || !locked)
		return trouble;
	trouble = find_position(archive, zone, &end);
	if (trouble == IOTMQ_FINE)
		trouble = find_lost(archive, zone);
	if (trouble == IOTMQ_FINE)
		trouble = find_plan(archive, zone, end);
	if (trouble == IOTMQ_FINE)
		trouble = find_objects(archive, zone, end);
	if (trouble != IOTMQ_FINE)
		return trouble;
	zone->next = zone_behind(zone, zone->position - 1);
	if (zone->next != zone->position)
		complain("zone \"%s\" goes on at offset %" PRId64 " after a recovery of the database", zone->name, zone->next);
	zone->ready = true;
	zone->full = true;			/* until a fetch says otherwise */
	return IOTMQ_FINE;
}
