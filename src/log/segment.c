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
 * Locks: whoever makes segments takes AccessShareLock on the topic's table and
 * ShareUpdateExclusiveLock on the zone's, in the order of ALTER TABLE; ATTACH PARTITION wants
 * both anyway, to the end of the transaction. The second excludes other makers only, not
 * publishers and readers. Then the zone's change lock: readers pass no gap until they have
 * been told. Who makes segments ahead in passing takes the tables without waiting.
 *
 * What is made ahead of time can wait: where it can't be made, or only after a wait, publishing
 * and consuming go on without.
 */
#include "log/segment_scan.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define AHEAD 2					/* segments after the present one that are there, if it can be helped */
#define AHEAD_AGAIN_US (10 * USECS_PER_SEC) /* until a backend tries again what has failed */
#define NEWEST_AMONG 1000		/* rows with the highest offsets that are looked at for the newest */

static TimestampTz ahead_again = 0;	/* not before: something has failed */
static Oid	known_segment = InvalidOid; /* that is known to be a partition */
static Oid	known_parent;

static void forget_known(Datum arg, Oid relid);
static void lock_tables(const Topic *topic, const Zone *zone);
static bool try_for_a_moment(void (*work) (const Zone *zone, TimestampTz at, int64 ahead),
							 const Topic *topic, const Zone *zone, TimestampTz at, int64 ahead);
static void make_ahead(const Zone *zone, TimestampTz at, int64 ahead);
static void seal(const Zone *zone, TimestampTz at, int64 ahead);
static void make_one(const Topic *topic, const Zone *zone, TimestampTz at);

/* The segment that covers the moment; NULL: there is none. */
const Segment *
iotmq_segment_at(const Zone *zone, TimestampTz at)
{
	int			low = 0;
	int			high;

	iotmq_catalog_segments(zone);
	high = zone->nsegments;
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

/* Is it a partition of its zone? Remembered of one until it changes. */
bool
iotmq_segment_is_ours(Oid relid, const Zone *zone)
{
	static bool registered = false;

	if (!registered)
	{
		CacheRegisterRelcacheCallback(forget_known, (Datum) 0);
		registered = true;
	}
	if (known_segment != relid)
	{
		if (!get_rel_relispartition(relid))
			return false;
		known_parent = get_partition_parent(relid, true);
		known_segment = relid;
	}
	return known_parent == zone->relid;
}

static void
forget_known(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == known_segment)
		known_segment = InvalidOid;
}

/* The segment was dropped or detached: another one may be made from that moment on. */
void
iotmq_segment_cut(int32 zone_id, Oid relid, TimestampTz at)
{
	Topic	   *topic;
	Zone	   *zone;

	if (!iotmq_catalog_zone_by_id(zone_id, &topic, &zone))
		return;
	lock_tables(topic, zone);
	iotmq_zone_lock_take(zone_id, ZONE_LOCK_CHANGE, RowExclusiveLock);
	iotmq_owner_run("SELECT iotmq.segment_cut($1, $2, $3)", 3,
					(Oid[]) {INT4OID, REGCLASSOID, TIMESTAMPTZOID},
					(Datum[]) {
					 Int32GetDatum(zone_id), ObjectIdGetDatum(relid), TimestampTzGetDatum(at)
				 });
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
	lock_tables(topic, zone);
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

static void
lock_tables(const Topic *topic, const Zone *zone)
{
	Oid			zone_relid = zone->relid;	/* while it waits they may be read anew */

	LockRelationOid(topic->relid, AccessShareLock);
	LockRelationOid(zone_relid, ShareUpdateExclusiveLock);
}

/* Makes the segment for that moment, for a publisher who can't do without. */
void
iotmq_segment_make_present(const Topic *topic, const Zone *zone, TimestampTz at)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *topic_name = pstrdup(topic->name);
	char	   *zone_name = pstrdup(zone->name);

	PG_TRY();
	{
		(void) iotmq_segment_make(zone->zone_id, at, at + 1);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			ReThrowError(error);
		ereport(ERROR,
				(errcode(error->sqlerrcode),
				 errmsg("zone \"%s\" of topic \"%s\" has no segment for the present, and none could be made",
						zone_name, topic_name),
				 errdetail_internal("%s", error->message),
				 errhint("%s", error->hint != NULL ? error->hint :
						 "When the cause is mended, make those ahead as well: CALL iotmq.run_maintenance();")));
	}
	PG_END_TRY();
	pfree(topic_name);
	pfree(zone_name);
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
	Oid			zone_relid = zone->relid;
	Oid			topic_relid = topic->relid;
	int64		ahead = AHEAD * topic->segment_interval;
	Relation	rel;
	bool		in_use;

	if (IsTransactionBlock() ||
		iotmq_segment_at(zone, at + ahead) != NULL ||
		(at < ahead_again && at >= ahead_again - AHEAD_AGAIN_US))
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
	if (in_use || !try_for_a_moment(make_ahead, topic, zone, at, ahead))
	{
		UnlockRelationOid(topic_relid, AccessShareLock);
		UnlockRelationOid(zone_relid, ShareUpdateExclusiveLock);
	}
}

/*
 * Lets iotmq.segment_seal do its next step when several past segments are unsealed. Not in a
 * transaction block, as above: retention would wait for its end.
 */
void
iotmq_segment_seal(const Topic *topic, const Zone *zone, TimestampTz at)
{
	static TimestampTz last_try = 0;
	int			unsealed = 0;

	iotmq_catalog_segments(zone);
	for (int i = 0; i < zone->nsegments; i++)
		if (!zone->segments[i].sealed && zone->segments[i].to_time <= at)
			unsealed++;
	if (unsealed < 3 || IsTransactionBlock() ||
		(at >= last_try && at < last_try + USECS_PER_SEC))
		return;
	last_try = at;
	(void) try_for_a_moment(seal, topic, zone, at, 0);
}

/*
 * Does work that can be left to a later call, or to maintenance, which says what is wrong:
 * false, if it fails or has to wait for a lock.
 */
static bool
try_for_a_moment(void (*work) (const Zone *zone, TimestampTz at, int64 ahead),
				 const Topic *topic, const Zone *zone, TimestampTz at, int64 ahead)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *topic_name = pstrdup(topic->name);
	char	   *zone_name = pstrdup(zone->name);
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		(void) set_config_option("lock_timeout", "100ms", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
		work(zone, at, ahead);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			ReThrowError(error);
		ahead_again = at + AHEAD_AGAIN_US;
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("zone \"%s\" of topic \"%s\" goes on without what could not be made ahead of time",
						zone_name, topic_name),
				 errdetail_internal("%s", error->message)));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return done;
}

static void
make_ahead(const Zone *zone, TimestampTz at, int64 ahead)
{
	(void) iotmq_segment_make(zone->zone_id, at, at + ahead + 1);
}

static void
seal(const Zone *zone, TimestampTz at, int64 ahead)
{
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
	iotmq_catalog_segments(zone);
	for (int i = 0; i < zone->nsegments; i++)
	{
		const Segment *other = &zone->segments[i];

		if (other->to_time <= at)
			from = Max(from, other->to_time);
		else
			to = Min(to, other->from_time);
	}
	iotmq_owner_run("SELECT iotmq.segment_create($1, $2, $3, $4, $5)", 5,
					(Oid[]) {INT4OID, REGCLASSOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID},
					(Datum[]) {
					 Int32GetDatum(zone->zone_id), ObjectIdGetDatum(zone->relid),
					 TimestampTzGetDatum(from), TimestampTzGetDatum(to),
					 BoolGetDatum(topic->dedup_window != 0)
				 });
}
