/*
 * inspect.c - what views and administration ask of a zone.
 *
 * Answers come from a few index probes, whatever the number of messages; only
 * iotmq_offset_at and iotmq_count_ready read along the log.
 */
#include "iotmq.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define SETTLE_US 500
#define OFFSET_AT_LOOKS 2000	/* one second */

static int64 first_unwritten(const Zone *zone, int64 from, int64 last);
static int64 count_wanted(int32 cursor_id, int64 from, int64 to);

/*
 * zone_offsets(zone_id int, OUT stable_offset bigint, OUT end_offset bigint): the
 * first offset not yet decided and the next one to be assigned. NULL: no such zone.
 */
PG_FUNCTION_INFO_V1(iotmq_zone_offsets);
Datum
iotmq_zone_offsets(PG_FUNCTION_ARGS)
{
	Topic	   *topic;
	Zone	   *zone;
	OverviewZone offsets;
	TupleDesc	desc;
	Datum		values[2];
	bool		isnull[2] = {false, false};

	if (!iotmq_zone_by_id(PG_GETARG_INT32(0), &topic, &zone))
		PG_RETURN_NULL();
	iotmq_position_teach(topic, zone);
	iotmq_overview_zone(&offsets, zone);
	iotmq_overview_settle(&offsets, 1);
	if (offsets.last < 0)
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(offsets.stable_offset);
	values[1] = Int64GetDatum(offsets.last + 1);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull)));
}

/*
 * offset_at(zone_id int, at timestamptz) RETURNS bigint: the smallest offset such
 * that no message published at or after that time lies below it. Messages whose
 * transaction is open count; for offsets that are drawn but not yet written it
 * waits up to a second, and then begins below them.
 */
PG_FUNCTION_INFO_V1(iotmq_offset_at);
Datum
iotmq_offset_at(PG_FUNCTION_ARGS)
{
	Zone	   *zone = iotmq_zone_arg(fcinfo, 0);
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(1);
	int64		last = iotmq_sequence_last(zone->sequence);
	int64		unwritten;

	if (TIMESTAMP_IS_NOBEGIN(at))
		PG_RETURN_INT64(zone->earliest_offset);
	if (TIMESTAMP_IS_NOEND(at))
		PG_RETURN_INT64(last + 1);
	unwritten = Max(iotmq_stable_refresh(iotmq_stable_state(zone->sequence)), zone->earliest_offset);
	for (int look = 0; look < OFFSET_AT_LOOKS && unwritten <= last; look++)
	{
		if (look > 0)
		{
			CHECK_FOR_INTERRUPTS();
			pg_usleep(SETTLE_US);
		}
		unwritten = first_unwritten(zone, unwritten, last);
	}
	PG_RETURN_INT64(Min(iotmq_scan_since(zone, at), Min(unwritten, last + 1)));
}

/*
 * lowest_offset(zone_id int) RETURNS bigint: the lowest offset of a message in the
 * log, committed or not; 2^63 - 1: there is none.
 */
PG_FUNCTION_INFO_V1(iotmq_lowest_offset);
Datum
iotmq_lowest_offset(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(iotmq_scan_since(iotmq_zone_arg(fcinfo, 0), DT_NOBEGIN));
}

/* The first offset from that one on that is drawn, but neither written nor given up. */
static int64
first_unwritten(const Zone *zone, int64 from, int64 last)
{
	ZoneScan   *scan = iotmq_scan_begin(zone, from, last);
	int64		result;

	scan->proves = false;
	scan->passes_open = true;
	while (iotmq_scan_next(scan) != NULL)
		;
	result = scan->position;
	iotmq_scan_end(scan);
	return result;
}

/*
 * count_ready(cursor_id int) RETURNS bigint: how many messages the group has not
 * been delivered yet in a zone, filters applied, up to the first undecided offset.
 */
PG_FUNCTION_INFO_V1(iotmq_count_ready);
Datum
iotmq_count_ready(PG_FUNCTION_ARGS)
{
	Cursor		cursor;
	Position	position;

	if (!iotmq_cursor_by_id(PG_GETARG_INT32(0), &cursor) ||
		!iotmq_position_peek(cursor.cursor_id, &position))
		PG_RETURN_INT64(0);
	PG_RETURN_INT64(count_wanted(PG_GETARG_INT32(0), position.next_offset, PG_INT64_MAX));
}

/*
 * count_between(cursor_id int, from_offset bigint, to_offset bigint) RETURNS
 * bigint: the messages of that range, its end exclusive, filters applied.
 */
PG_FUNCTION_INFO_V1(iotmq_count_between);
Datum
iotmq_count_between(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(count_wanted(PG_GETARG_INT32(0), PG_GETARG_INT64(1), PG_GETARG_INT64(2)));
}

/* Counts what the group wants from an offset on, up to to or the first undecided one. */
static int64
count_wanted(int32 cursor_id, int64 from, int64 to)
{
	Cursor		cursor;
	int64		n;
	bool		stale;

	do
	{
		ZoneScan   *scan;
		TupleTableSlot *slot;
		OverviewZone offsets;

		n = 0;
		if (!iotmq_cursor_by_id(cursor_id, &cursor))
			break;
		iotmq_overview_zone(&offsets, cursor.zone);
		iotmq_overview_settle(&offsets, 1);
		if (!iotmq_cursor_by_id(cursor_id, &cursor))
			break;
		scan = iotmq_scan_begin(cursor.zone, from, Min(offsets.last, to - 1));
		while ((slot = iotmq_scan_next(scan)) != NULL)
			if (iotmq_filter_accepts(cursor.group, slot))
				n++;
		stale = scan->stale;
		iotmq_scan_end(scan);
	} while (stale);
	return n;
}
