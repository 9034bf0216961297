/*
 * segment.c - the segment for a moment.
 *
 * Segments are made ahead of time: by create_topic and maintenance, by a
 * publisher or consumer that notices that the last one has begun, and on demand
 * by a publisher that finds none. Width and place come from here, the tables
 * themselves from iotmq.segment_create (sql/segment.sql).
 *
 * A statement that writes to the zone's table itself (COPY, INSERT) can't make
 * a segment: PostgreSQL attaches no partition to a table that the same session
 * is writing to. It finds those made ahead.
 *
 * Locks: whoever makes segments takes ShareUpdateExclusiveLock on the zone's
 * table, which ATTACH PARTITION wants anyway, to the end of the transaction. It
 * excludes other makers only, not publishers and readers. Then the zone's change lock:
 * readers pass no gap until they have been told. ATTACH PARTITION asks for ACCESS SHARE on the
 * topic's table, too; who makes segments ahead in passing takes both without waiting.
 */
#include "log/segment_scan.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define AHEAD 2					/* segments after the present one that are there, if it can be helped */
#define NEWEST_AMONG 1000		/* rows with the highest offsets that are looked at for the newest */

static void make_one(const Topic *topic, const Zone *zone, TimestampTz at);

/* The segment that covers the moment; NULL: there is none. */
const Segment *
iotmq_segment_at(const Zone *zone, TimestampTz at)
{
	int			low = 0;
	int			high = zone->nsegments;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (zone->segments[middle].to_time <= at)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < zone->nsegments && zone->segments[low].from_time <= at)
		return &zone->segments[low];
	return NULL;
}

/* The server's clock, but not below what sealing has closed. */
TimestampTz
iotmq_segment_publish_time(const Zone *zone)
{
	return Max(GetCurrentTimestamp(), zone->floor_time);
}

/*
 * Makes the segments that are missing from the moment at up to (not including)
 * until. Returns how many it made.
 */
int
iotmq_segment_make(int32 zone_id, TimestampTz at, TimestampTz until)
{
	Topic	   *topic;
	Zone	   *zone;
	int			made = 0;

	if (!iotmq_catalog_zone_by_id(zone_id, &topic, &zone))
		return 0;
	LockRelationOid(zone->relid, ShareUpdateExclusiveLock);
	while (at < until)
	{
		const Segment *segment;

		CHECK_FOR_INTERRUPTS();
		if (!iotmq_catalog_zone_by_id(zone_id, &topic, &zone))
			return made;		/* dropped while we waited for the lock */
		segment = iotmq_segment_at(zone, at);
		if (segment != NULL)
		{
			at = segment->to_time;
			continue;
		}
		iotmq_zone_lock_take(zone_id, ZONE_LOCK_CHANGE, RowExclusiveLock);
		make_one(topic, zone, at);
		made++;
	}
	return made;
}

/*
 * Called by those who can make segments, at a moment of theirs: makes the next
 * ones when there are fewer than two after the present one, unless somebody else is at it
 * or this session is using the zone's table. Not in a transaction block: it would keep
 * the lock, and the segment to itself, for as long as its user likes. Lookups in the
 * catalog become stale.
 */
void
iotmq_segment_keep_ahead(const Topic *topic, const Zone *zone, TimestampTz at)
{
	int32		zone_id = zone->zone_id;
	Oid			zone_relid = zone->relid;
	Oid			topic_relid = topic->relid;
	int64		ahead = AHEAD * topic->segment_interval;
	Relation	rel;
	bool		in_use;

	if (IsTransactionBlock() ||
		iotmq_segment_at(zone, at + ahead) != NULL)
		return;
	if (!ConditionalLockRelationOid(zone_relid, ShareUpdateExclusiveLock))
		return;
	/* attaching a segment asks for it: somebody who reads may have queued a strong lock there */
	if (!ConditionalLockRelationOid(topic_relid, AccessShareLock))
	{
		UnlockRelationOid(zone_relid, ShareUpdateExclusiveLock);
		return;
	}
	rel = RelationIdGetRelation(zone_relid);
	in_use = !RelationIsValid(rel) || rel->rd_refcnt > 1;
	if (RelationIsValid(rel))
		RelationClose(rel);
	if (in_use)
	{
		UnlockRelationOid(topic_relid, AccessShareLock);
		UnlockRelationOid(zone_relid, ShareUpdateExclusiveLock);
	}
	else
		iotmq_segment_make(zone_id, at, at + ahead + 1);
}

/* Lets iotmq.segment_seal do its next step when several past segments are unsealed. */
void
iotmq_segment_seal(const Zone *zone, TimestampTz at)
{
	static TimestampTz last_try = 0;
	int			unsealed = 0;

	for (int i = 0; i < zone->nsegments; i++)
		if (!zone->segments[i].sealed && zone->segments[i].to_time <= at)
			unsealed++;
	if (unsealed < 3 || (at >= last_try && at < last_try + USECS_PER_SEC))
		return;
	last_try = at;
	iotmq_owner_run("SELECT iotmq.segment_seal($1)", 1, (Oid[]) {INT4OID},
					(Datum[]) {Int32GetDatum(zone->zone_id)});
}

/*
 * make_segments(zone_id int, at timestamptz, until timestamptz) RETURNS int:
 * makes those that are missing in that time, returns how many.
 */
PG_FUNCTION_INFO_V1(iotmq_segment_make_until);
Datum
iotmq_segment_make_until(PG_FUNCTION_ARGS)
{
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(1);
	TimestampTz until = PG_GETARG_TIMESTAMPTZ(2);

	if (TIMESTAMP_NOT_FINITE(at) || TIMESTAMP_NOT_FINITE(until))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("segments need a finite time")));
	PG_RETURN_INT32(iotmq_segment_make(PG_GETARG_INT32(0), at, until));
}

/*
 * segment_bounds(segment regclass) RETURNS record: the lowest and the highest offset of its
 * committed rows, and the time of the newest (of the thousand highest offsets: offsets and
 * times agree but for neighbours); NULLs: it has none, or was dropped.
 */
PG_FUNCTION_INFO_V1(iotmq_segment_bounds);
Datum
iotmq_segment_bounds(PG_FUNCTION_ARGS)
{
	SegmentScan *s = iotmq_segment_scan_open(PG_GETARG_OID(0));
	Datum		values[3] = {0};
	bool		isnull[3] = {true, true, true};

	if (iotmq_segment_scan_find_last(s))
	{
		TimestampTz newest = DT_NOBEGIN;
		bool		is_null;

		values[1] = Int64GetDatum(s->offset);
		for (int i = 0; i < NEWEST_AMONG; i++)
		{
			TimestampTz published_at = DatumGetTimestampTz(slot_getattr(s->slot, Anum_published_at,
																		&is_null));

			newest = Max(newest, published_at);
			if (!iotmq_segment_scan_step_back(s))
				break;
		}
		values[2] = TimestampTzGetDatum(newest);
		iotmq_segment_scan_seek(s, PG_INT64_MIN);
		while (s->offset != NO_ROW && iotmq_segment_scan_fate(s) != FATE_COMMITTED)
			iotmq_segment_scan_step(s);
		values[0] = Int64GetDatum(s->offset);
		memset(isnull, false, sizeof(isnull));
	}
	iotmq_segment_scan_close(s);
	return iotmq_call_return_row(fcinfo, values, isnull);
}

/* Makes the segment for that moment: aligned to its width, cut at its neighbours. */
static void
make_one(const Topic *topic, const Zone *zone, TimestampTz at)
{
	int64		width = topic->segment_interval;
	TimestampTz from = at - ((at % width) + width) % width;
	TimestampTz to = from + width;

	if (to < at)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("no segment can be made for %s", timestamptz_to_str(at))));
	for (int i = 0; i < zone->nsegments; i++)
	{
		const Segment *other = &zone->segments[i];

		if (other->to_time <= at)
			from = Max(from, other->to_time);
		else
			to = Min(to, other->from_time);
	}
	iotmq_owner_run("SELECT iotmq.segment_create($1, $2, $3, $4)", 4,
					(Oid[]) {INT4OID, REGCLASSOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
					(Datum[]) {
					 Int32GetDatum(zone->zone_id), ObjectIdGetDatum(zone->relid),
					 TimestampTzGetDatum(from), TimestampTzGetDatum(to)
				 });
}
