/*
 * epoch.c - an offset is given out once, for ever.
 *
 * What a crash, a promotion or a restore loses of the log may have been read before. So
 * offsets are not given out again: every recovery begins a new epoch, and each zone goes on
 * at epoch << 32 before its next offset is drawn. The epoch is kept in an unlogged sequence,
 * which every recovery resets; who finds it unset makes it one more than the highest that is
 * known: of any zone, and in a sequence that is on disk before anything is published, since
 * all that was published in an epoch may be lost. A standby may have got nothing of an epoch
 * at all, but its promotion has begun a timeline: an epoch is never below these.
 *
 * The gap is known: from the row with the highest offset below it (last_before) to
 * first_offset no offset ever came to be. It is there from when the zone's sequence is moved,
 * whatever becomes of the first message. Whoever drops what shows gaps, or moves the zone's
 * earliest offset, notes them in iotmq_internal.zone_gap before, and maintenance soon; those
 * not noted yet are found in the log. Gaps never overlap: of what was lost of an epoch whose
 * gap is noted, the rest is in the gap behind it.
 *
 * A sequence is also watched: somebody may have set it back, restored it without the rows
 * that it numbered, or have given it a cache. Or he has set it far forward, or a source of
 * another server has: all zones would follow it to the end of all epochs at the next recovery.
 * So one that is too far ahead is not followed, and nothing is published to it.
 *
 * Locks: the zone's epoch lock, for a moment; that of zone 0 for the epoch itself.
 */
#include "log/log.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#define MAX_EPOCH (PG_INT32_MAX - 1)
#define MOST_AHEAD (1 << 20)	/* epochs that a zone may be ahead of recoveries, by promotions */

static int32 current_epoch(void);
static int32 begin_epoch(void);
static int32 highest_epoch(int32 last);
static bool is_too_far(int64 msg_offset, int32 epoch);
static void report_too_far(const Topic *topic, const Zone *zone, int64 last);
static int64 noted_offset(const Zone *zone);
static void check_sequence(const Topic *topic, const Zone *zone);
static int64 highest_known(const Zone *zone);
static void move_sequence(Oid sequence, int64 last);
static bool find_began_at(const Zone *zone, int64 first_offset, TimestampTz *began_at);
static Gap *gaps_until(const Zone *zone, int64 next, bool lenient, int *n);
static Gap *find_gaps(const Zone *zone, int64 next, bool lenient, int *n);

/*
 * Called by a publisher that holds the zone's publish lock, before it draws: sees that the
 * sequence is where the next offset may be drawn. Errors: 55000 it can't be trusted.
 */
void
iotmq_epoch_begin(const Topic *topic, const Zone *zone)
{
	ZoneMemory *memory = iotmq_stable_memory(zone);
	int64		floor = EPOCH_START(current_epoch()) - 1;
	int64		last;

	check_sequence(topic, zone);
	if (!memory->watched)
		memory->highest = highest_known(zone);
	memory->watched = true;
	floor = Max(floor, memory->highest);
	last = iotmq_sequence_last(zone->sequence);
	if (is_too_far(Max(last, memory->highest), current_epoch()))
		report_too_far(topic, zone, last);
	if (last < floor)
	{
		iotmq_zone_lock_take(zone->zone_id, ZONE_LOCK_EPOCH, ExclusiveLock);
		last = iotmq_sequence_last(zone->sequence);
		if (last < memory->highest)
			ereport(WARNING,
					(errmsg("the offsets of zone \"%s\" of topic \"%s\" had gone back to " INT64_FORMAT,
							zone->name, topic->name, last),
					 errdetail("Offsets up to " INT64_FORMAT " were given out before. It goes on behind them.",
							   memory->highest)));
		if (last < floor)
			move_sequence(zone->sequence, floor);
		iotmq_zone_lock_give(zone->zone_id, ZONE_LOCK_EPOCH, ExclusiveLock);
		last = Max(last, floor);
	}
	memory->highest = last;
}

/* Do they lie in different epochs? Between two of one epoch nothing is missing. */
bool
iotmq_epoch_differs(int64 a, int64 b)
{
	return EPOCH_OF(a) != EPOCH_OF(b);
}

/* How many offsets from from to to, exclusive, never came to be; for views. */
int64
iotmq_epoch_missing(const Zone *zone, int64 from, int64 to)
{
	int			n;
	Gap		   *gaps;
	int64		missing = 0;

	if (!iotmq_epoch_differs(from, to))
		return 0;
	gaps = gaps_until(zone, to, true, &n);
	for (int i = 0; i < n; i++)
	{
		missing += Max(0, Min(to, gaps[i].first_offset) - Max(from, gaps[i].last_before + 1));
		from = Max(from, gaps[i].first_offset); /* one noted meanwhile may be among those found, too */
	}
	return missing;
}

/*
 * The gap that an offset lies in, behind the first offset that is missing; false: in none.
 * Who reads on there has read what never came to be. last: the last offset given out.
 * Errors: 55000 a segment that the gap may begin in can't be read.
 */
bool
iotmq_epoch_is_lost(const Zone *zone, int64 msg_offset, int64 last, Gap *gap)
{
	int			n;
	Gap		   *gaps;

	if (!iotmq_epoch_differs(msg_offset, last + 1))
		return false;
	gaps = gaps_until(zone, last + 1, false, &n);
	for (int i = 0; i < n; i++)
		if (gaps[i].last_before + 1 < msg_offset && msg_offset < gaps[i].first_offset)
		{
			*gap = gaps[i];
			return true;
		}
	return false;
}

/* All gaps of the zone below that offset, in order: those noted and those found in the log. */
static Gap *
gaps_until(const Zone *zone, int64 next, bool lenient, int *n)
{
	Gap		   *found = find_gaps(zone, next, lenient, n);
	Gap		   *gaps = palloc(sizeof(Gap) * (zone->ngaps + *n));

	memcpy(gaps, zone->gaps, sizeof(Gap) * zone->ngaps);
	memcpy(gaps + zone->ngaps, found, sizeof(Gap) * *n);
	*n += zone->ngaps;
	return gaps;
}

/*
 * epoch_gaps(zone_id int, lenient boolean) RETURNS SETOF record: gaps that are not noted yet;
 * none of a zone that was dropped. lenient: segments that can't be read don't count, for
 * views; else they are an error, 55000. Columns: see sql/log/epoch.sql.
 */
PG_FUNCTION_INFO_V1(iotmq_epoch_gaps_found);
Datum
iotmq_epoch_gaps_found(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Topic	   *topic;
	Zone	   *zone;
	int			n;
	Gap		   *gaps;

	InitMaterializedSRF(fcinfo, 0);
	if (!iotmq_catalog_zone_by_id(PG_GETARG_INT32(0), &topic, &zone))
		return (Datum) 0;
	gaps = find_gaps(zone, iotmq_stable_last(zone) + 1, PG_GETARG_BOOL(1), &n);
	for (int i = 0; i < n; i++)
	{
		Datum		values[4];
		bool		isnull[4] = {false};
		TimestampTz began_at = 0;

		isnull[3] = !find_began_at(zone, gaps[i].first_offset, &began_at);
		values[0] = Int32GetDatum(EPOCH_OF(gaps[i].first_offset));
		values[1] = Int64GetDatum(gaps[i].first_offset);
		values[2] = Int64GetDatum(gaps[i].last_before);
		values[3] = TimestampTzGetDatum(began_at);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/*
 * epoch_began_at(zone_id int, first_offset bigint) RETURNS timestamptz: when the first message
 * of an epoch was published; NULL: there is none yet, or the zone was dropped.
 */
PG_FUNCTION_INFO_V1(iotmq_epoch_began_at);
Datum
iotmq_epoch_began_at(PG_FUNCTION_ARGS)
{
	Topic	   *topic;
	Zone	   *zone;
	TimestampTz began_at;

	if (!iotmq_catalog_zone_by_id(PG_GETARG_INT32(0), &topic, &zone) ||
		!find_began_at(zone, PG_GETARG_INT64(1), &began_at))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(began_at);
}

/* Of the first committed message of the epoch that begins there; false: none is known. */
static bool
find_began_at(const Zone *zone, int64 first_offset, TimestampTz *began_at)
{
	int64		next_epoch = EPOCH_START(EPOCH_OF(first_offset) + 1);
	int64		last = iotmq_stable_last(zone);
	ZoneScan   *scan = iotmq_scan_begin(zone, first_offset, Min(last, next_epoch - 1));
	bool		found;

	scan->lenient = true;
	found = iotmq_scan_published_at(scan, first_offset, began_at);
	iotmq_scan_end(scan);
	return found;
}

/* epoch_is_open(zone_id int) RETURNS boolean: may it have gaps that are not noted? */
PG_FUNCTION_INFO_V1(iotmq_epoch_is_open);
Datum
iotmq_epoch_is_open(PG_FUNCTION_ARGS)
{
	Topic	   *topic;
	Zone	   *zone;

	PG_RETURN_BOOL(iotmq_catalog_zone_by_id(PG_GETARG_INT32(0), &topic, &zone) &&
				   iotmq_epoch_differs(noted_offset(zone), iotmq_stable_last(zone) + 1));
}

/* The epoch that offsets are given out in now. It changes with a recovery only. */
static int32
current_epoch(void)
{
	static Oid	known_of = InvalidOid;
	static int32 known;
	Oid			sequence = iotmq_relation_epoch();
	int64		value;

	if (known_of == sequence)
		return known;
	value = iotmq_sequence_last(sequence);
	if (value == 0)
	{
		iotmq_zone_lock_take(0, ZONE_LOCK_EPOCH, ExclusiveLock);
		value = iotmq_sequence_last(sequence);
		if (value == 0)
		{
			int32		epoch = begin_epoch();

			iotmq_sequence_mend(sequence);
			value = epoch + 1;
			move_sequence(sequence, value);
		}
		iotmq_zone_lock_give(0, ZONE_LOCK_EPOCH, ExclusiveLock);
	}
	known = value - 1;
	known_of = sequence;
	return known;
}

/*
 * The next epoch. On disk before anybody hears of it: not all commits wait for that, and a
 * message may be read before they have.
 */
static int32
begin_epoch(void)
{
	Oid			sequence = iotmq_relation_last_epoch();
	int32		last = iotmq_sequence_last(sequence);
	int32		highest = highest_epoch(last);
	int32		timeline = GetWALInsertionTimeLine();
	int32		epoch;

	if (Max(last, highest) >= MAX_EPOCH)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("there is no epoch left behind epoch %d", Max(last, highest))));
	epoch = Max(Max(last, highest) + 1, timeline - 1);
	move_sequence(sequence, epoch);
	iotmq_commit_flush();
	return epoch;
}

/*
 * Of all zones of the database that are not too far ahead of the last epoch. One whose sequence
 * was moved may have given out the first.
 */
static int32
highest_epoch(int32 last)
{
	int			n;
	Oid		   *sequences = iotmq_catalog_sequences(&n);
	int32		highest = 0;

	for (int i = 0; i < n; i++)
	{
		int64		last_offset = iotmq_sequence_last(sequences[i]);

		if (!is_too_far(last_offset, last))
			highest = Max(highest, EPOCH_OF(last_offset + 1));
	}
	return highest;
}

/* Is an offset, of a zone, too far ahead of an epoch? */
static bool
is_too_far(int64 msg_offset, int32 epoch)
{
	return EPOCH_OF(msg_offset) - (int64) epoch >= MOST_AHEAD;
}

static void
report_too_far(const Topic *topic, const Zone *zone, int64 last)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the offsets of zone \"%s\" of topic \"%s\" are too far ahead", zone->name, topic->name),
			 errdetail("The last one is " INT64_FORMAT ". What a crash loses behind it could be given out again.", last),
			 errhint("If somebody has set its sequence forward, set it back: SELECT setval(%s, ...);",
					 quote_literal_cstr(quote_qualified_identifier(get_namespace_name(get_rel_namespace(zone->sequence)),
																   get_rel_name(zone->sequence))))));
}

/* Offsets grow in the order in which they are drawn, and are drawn one by one. */
static void
check_sequence(const Topic *topic, const Zone *zone)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(zone->sequence));
	bool		trusted;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the offset sequence of zone \"%s\" of topic \"%s\" does not exist",
						zone->name, topic->name),
				 errdetail("It was not dropped by iotmq."),
				 errhint("Drop the zone: SELECT iotmq.drop_zone(%s, %s, force => true);",
						 quote_literal_cstr(topic->name), quote_literal_cstr(zone->name))));
	trusted = ((Form_pg_sequence) GETSTRUCT(tuple))->seqcache == 1 &&
		((Form_pg_sequence) GETSTRUCT(tuple))->seqincrement > 0 &&
		!((Form_pg_sequence) GETSTRUCT(tuple))->seqcycle;
	ReleaseSysCache(tuple);
	if (!trusted)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the offset sequence of zone \"%s\" of topic \"%s\" was altered",
						zone->name, topic->name),
				 errdetail("With a cache, a cycle or a negative increment messages would be lost."),
				 errhint("Run: ALTER SEQUENCE %s.%s INCREMENT BY 1 CACHE 1 NO CYCLE;",
						 get_namespace_name(get_rel_namespace(zone->sequence)),
						 get_rel_name(zone->sequence))));
}

/* The highest offset that is known to have been given out, whatever the sequence says. */
static int64
highest_known(const Zone *zone)
{
	int64		next = iotmq_catalog_highest_cursor(zone->zone_id);
	int64		highest = iotmq_scan_last_below(zone, PG_INT64_MAX, true);

	highest = Max(highest, Max(zone->earliest_offset, next) - 1);
	iotmq_catalog_segments(zone);
	for (int i = 0; i < zone->nsegments; i++)
		if (zone->segments[i].sealed)
			highest = Max(highest, zone->segments[i].last_offset);
	return highest;
}

/* The next offset will be the one behind last. Not undone by a rollback. */
static void
move_sequence(Oid sequence, int64 last)
{
	OwnerContext saved = iotmq_owner_become();

	(void) DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence), Int64GetDatum(last));
	iotmq_owner_restore(saved);
}

/* An offset of the epoch up to which all gaps are noted. */
static int64
noted_offset(const Zone *zone)
{
	iotmq_catalog_segments(zone);
	return Max(zone->earliest_offset,
			   zone->ngaps == 0 ? 0 : zone->gaps[zone->ngaps - 1].first_offset);
}

/*
 * The gaps that are not noted, in order, up to one that begins the epoch of that offset, the
 * next to be given out. lenient: see epoch_gaps.
 */
static Gap *
find_gaps(const Zone *zone, int64 next, bool lenient, int *n)
{
	int64		noted = noted_offset(zone);
	int			room = 4;
	Gap		   *gaps = palloc(sizeof(Gap) * room);

	*n = 0;
	while (EPOCH_OF(next) > EPOCH_OF(noted))
	{
		Gap			gap = {.first_offset = EPOCH_START(EPOCH_OF(next))};

		gap.last_before = iotmq_scan_last_below(zone, gap.first_offset, lenient);
		gap.last_before = Max(gap.last_before, noted - 1);
		if (*n == room)
			gaps = repalloc(gaps, sizeof(Gap) * (room *= 2));
		memmove(gaps + 1, gaps, sizeof(Gap) * (*n)++);
		gaps[0] = gap;
		next = gap.last_before;
	}
	return gaps;
}
