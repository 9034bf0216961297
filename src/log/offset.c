/*
 * offset.c - offsets that belong to something: to a time, to the first message.
 *
 * iotmq_offset_at reads along one segment, the one that the time lies in.
 */
#include "log/log.h"

#include "utils/timestamp.h"

#define AT_LOOKS 2000			/* at offsets that are drawn and not written: one second */

static int64 first_unwritten(const Zone *zone, int64 from, int64 last);

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
	Zone	   *zone = iotmq_call_zone(fcinfo, 0);
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(1);
	int64		last = iotmq_stable_last(zone);
	int64		unwritten;
	int64		since;

	if (TIMESTAMP_IS_NOBEGIN(at))
		PG_RETURN_INT64(zone->earliest_offset);
	if (TIMESTAMP_IS_NOEND(at))
		PG_RETURN_INT64(last + 1);
	unwritten = iotmq_stable_refresh(iotmq_stable_memory(zone));
	unwritten = Max(unwritten, zone->earliest_offset);
	for (int looks = 0; unwritten <= last && iotmq_stable_look_again(&looks, AT_LOOKS);)
		unwritten = first_unwritten(zone, unwritten, last);
	since = iotmq_scan_since(zone, at, false);
	PG_RETURN_INT64(Min(since, Min(unwritten, last + 1)));
}

/*
 * offset_is_gone(zone_id int) RETURNS boolean: has the zone given out its earliest offset, and
 * no message with it? False of a zone that was dropped.
 */
PG_FUNCTION_INFO_V1(iotmq_offset_is_gone);
Datum
iotmq_offset_is_gone(PG_FUNCTION_ARGS)
{
	Topic	   *topic;
	Zone	   *zone;
	ZoneScan   *scan;
	bool		is_there;

	if (!iotmq_catalog_zone_by_id(PG_GETARG_INT32(0), &topic, &zone))
		PG_RETURN_BOOL(false);
	/* what is decided now helps whoever looks later, while others publish */
	(void) iotmq_stable_refresh(iotmq_stable_memory(zone));
	if (iotmq_stable_last(zone) < zone->earliest_offset)
		PG_RETURN_BOOL(false);
	scan = iotmq_scan_begin(zone, zone->earliest_offset, zone->earliest_offset);
	is_there = iotmq_scan_one(scan, zone->earliest_offset) != NULL;
	iotmq_scan_end(scan);
	PG_RETURN_BOOL(!is_there);
}

/*
 * offset_lowest(zone_id int, stable bigint) RETURNS bigint: no message of the log, committed or
 * not, nor one that may still come of an offset drawn already, has a lower offset. All below
 * stable is known to be decided.
 */
PG_FUNCTION_INFO_V1(iotmq_offset_lowest);
Datum
iotmq_offset_lowest(PG_FUNCTION_ARGS)
{
	Zone	   *zone = iotmq_call_zone(fcinfo, 0);
	int64		stable = iotmq_stable_refresh(iotmq_stable_memory(zone));
	int64		since = iotmq_scan_since(zone, DT_NOBEGIN, true);

	PG_RETURN_INT64(Min(since, Max(stable, PG_GETARG_INT64(1))));
}

/*
 * offset_last(zone_id int) RETURNS bigint: the last offset given out. NULL of a zone that was
 * dropped: by now, or since the caller's snapshot.
 */
PG_FUNCTION_INFO_V1(iotmq_offset_last);
Datum
iotmq_offset_last(PG_FUNCTION_ARGS)
{
	Topic	   *topic;
	Zone	   *zone;
	int64		last;

	if (!iotmq_catalog_zone_by_id(PG_GETARG_INT32(0), &topic, &zone))
		PG_RETURN_NULL();
	last = iotmq_stable_last(zone);
	if (last < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(last);
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
