/*
 * epoch.c - an offset is given out once, for ever.
 *
 * What a crash, a promotion or a restore loses of the log may have been read before. So
 * offsets are not given out again: every recovery begins a new epoch, and each zone goes on
 * at epoch << 32 before its next offset is drawn. The epoch is kept in an unlogged sequence,
 * which every recovery resets; who finds it unset makes it one more than the highest epoch
 * of any zone. The gap is known: from the row with the highest offset below it (last_before)
 * to first_offset no offset ever came to be. Maintenance notes gaps in iotmq_internal.zone_gap before
 * it drops what shows them; those not noted yet are found in the log.
 *
 * A sequence is also watched: somebody may have set it back, restored it without the rows
 * that it numbered, or have given it a cache.
 *
 * Locks: the zone's epoch lock, for a moment; that of zone 0 for the epoch itself.
 */
#include "log/log.h"

#include "access/htup_details.h"
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

static int32 current_epoch(void);
static int32 highest_epoch(void);
static int32 noted_epoch(const Zone *zone);
static void check_sequence(const Topic *topic, const Zone *zone);
static int64 highest_known(const Zone *zone);
static void move_sequence(Oid sequence, int64 last);
static Gap *gaps_until(const Zone *zone, int64 last, int *n);
static Gap *find_gaps(const Zone *zone, int64 last, int *n);

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

/* How many offsets from from to to, exclusive, never came to be. */
int64
iotmq_epoch_missing(const Zone *zone, int64 from, int64 to)
{
	int			n;
	Gap		   *gaps;
	int64		missing = 0;

	if (!iotmq_epoch_differs(from, to))
		return 0;
	gaps = gaps_until(zone, to, &n);
	for (int i = 0; i < n; i++)
		missing += Max(0, Min(to, gaps[i].first_offset) - Max(from, gaps[i].last_before + 1));
	return missing;
}

/*
 * The gap that an offset lies in, behind the first offset that is missing; false: in none.
 * Who reads on there has read what never came to be.
 */
bool
iotmq_epoch_is_lost(const Zone *zone, int64 msg_offset, int64 last, Gap *gap)
{
	int			n;
	Gap		   *gaps;

	if (!iotmq_epoch_differs(msg_offset, last))
		return false;
	gaps = gaps_until(zone, last, &n);
	for (int i = 0; i < n; i++)
		if (gaps[i].last_before + 1 < msg_offset && msg_offset < gaps[i].first_offset)
		{
			*gap = gaps[i];
			return true;
		}
	return false;
}

/* All gaps of the zone up to that offset, in order: those noted and those found in the log. */
static Gap *
gaps_until(const Zone *zone, int64 last, int *n)
{
	Gap		   *found = find_gaps(zone, last, n);
	Gap		   *gaps = palloc(sizeof(Gap) * (zone->ngaps + *n));

	memcpy(gaps, zone->gaps, sizeof(Gap) * zone->ngaps);
	memcpy(gaps + zone->ngaps, found, sizeof(Gap) * *n);
	*n += zone->ngaps;
	return gaps;
}

/*
 * epoch_gaps(zone_id int) RETURNS SETOF record: gaps that are not noted yet; none of a zone
 * that was dropped. Columns: see sql/log/epoch.sql.
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
	gaps = find_gaps(zone, iotmq_stable_last(zone), &n);
	for (int i = 0; i < n; i++)
	{
		Datum		values[4];
		bool		isnull[4] = {false};
		ZoneScan   *scan = iotmq_scan_begin(zone, gaps[i].first_offset, gaps[i].first_offset);
		TimestampTz began_at = 0;

		scan->lenient = true;
		isnull[3] = !iotmq_scan_published_at(scan, gaps[i].first_offset, &began_at);
		iotmq_scan_end(scan);
		values[0] = Int32GetDatum(EPOCH_OF(gaps[i].first_offset));
		values[1] = Int64GetDatum(gaps[i].first_offset);
		values[2] = Int64GetDatum(gaps[i].last_before);
		values[3] = TimestampTzGetDatum(began_at);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/* epoch_is_open(zone_id int) RETURNS boolean: may it have gaps that are not noted? */
PG_FUNCTION_INFO_V1(iotmq_epoch_is_open);
Datum
iotmq_epoch_is_open(PG_FUNCTION_ARGS)
{
	Topic	   *topic;
	Zone	   *zone;

	PG_RETURN_BOOL(iotmq_catalog_zone_by_id(PG_GETARG_INT32(0), &topic, &zone) &&
				   EPOCH_OF(iotmq_stable_last(zone)) > noted_epoch(zone));
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
			iotmq_sequence_mend(sequence);
			value = highest_epoch() + 1 + 1;
			move_sequence(sequence, value);
		}
		iotmq_zone_lock_give(0, ZONE_LOCK_EPOCH, ExclusiveLock);
	}
	known = value - 1;
	known_of = sequence;
	return known;
}

/* Of all zones of the database. */
static int32
highest_epoch(void)
{
	int			n;
	Oid		   *sequences = iotmq_catalog_sequences(&n);
	int32		highest = 0;

	for (int i = 0; i < n; i++)
	{
		int64		last = iotmq_sequence_last(sequences[i]);

		highest = Max(highest, EPOCH_OF(last));
	}
	return highest;
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
	int64		highest = iotmq_scan_last_below(zone, PG_INT64_MAX);

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

/* The epoch up to which all gaps are noted. */
static int32
noted_epoch(const Zone *zone)
{
	iotmq_catalog_segments(zone);
	return Max(EPOCH_OF(zone->earliest_offset), zone->ngaps == 0 ? 0 :
			   EPOCH_OF(zone->gaps[zone->ngaps - 1].first_offset));
}

/* The gaps up to that offset that are not noted, in order. */
static Gap *
find_gaps(const Zone *zone, int64 last, int *n)
{
	int32		noted = noted_epoch(zone);
	int32		epoch = EPOCH_OF(last);
	int			room = 4;
	Gap		   *gaps = palloc(sizeof(Gap) * room);

	*n = 0;
	while (epoch > noted)
	{
		Gap			gap = {.first_offset = EPOCH_START(epoch)};

		gap.last_before = iotmq_scan_last_below(zone, gap.first_offset);
		gap.last_before = Max(gap.last_before, zone->earliest_offset - 1);
		if (*n == room)
			gaps = repalloc(gaps, sizeof(Gap) * (room *= 2));
		memmove(gaps + 1, gaps, sizeof(Gap) * (*n)++);
		gaps[0] = gap;
		epoch = EPOCH_OF(gap.last_before);
	}
	return gaps;
}
