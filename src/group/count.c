/*
 * count.c - how many messages a group wants, by reading along the log.
 */
#include "group/group.h"

#include "core/stop.h"

static int64 count_wanted(int32 cursor_id, int64 from, int64 to, const CursorState *state);

/*
 * count_lag(topic text, consumer_group text) RETURNS bigint: a SQL function that runs as the
 * extension's owner, once the caller's right is checked. Errors: 22004 an argument NULL;
 * 42704 unknown topic or group; 42501 not allowed.
 */
PG_FUNCTION_INFO_V1(iotmq_count_lag);
Datum
iotmq_count_lag(PG_FUNCTION_ARGS)
{
	Topic	   *topic = iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic"));
	ConsumerGroup *group = iotmq_catalog_group(topic, iotmq_call_name(fcinfo, 1, "consumer_group"));

	if (!iotmq_access_may_monitor())
		iotmq_access_require_consume(topic, group);
	return iotmq_owner_call(fcinfo, "count_lag_as_owner");
}

/*
 * count_ready(cursor_id int) RETURNS bigint: how many messages the group has not
 * been delivered yet in a zone, filters applied, up to the first undecided offset, and
 * what was redriven to it and has no place yet.
 */
PG_FUNCTION_INFO_V1(iotmq_count_ready);
Datum
iotmq_count_ready(PG_FUNCTION_ARGS)
{
	Cursor		cursor;
	CursorState state;
	int64		first;

	STOP("count_begun");
	if (!iotmq_catalog_cursor_by_id(PG_GETARG_INT32(0), &cursor) ||
		!iotmq_cursor_peek(cursor.cursor_id, &state))
		PG_RETURN_INT64(0);
	PG_RETURN_INT64(count_wanted(PG_GETARG_INT32(0), state.next_offset, PG_INT64_MAX, &state) +
					iotmq_place_count(state.cursor_id, state.next_redriven,
									  Max(state.next_offset, cursor.zone->earliest_offset),
									  NULL, &first));
}

/*
 * count_between(cursor_id int, from_offset bigint, to_offset bigint) RETURNS
 * bigint: the messages of that range, its end exclusive, filters applied.
 */
PG_FUNCTION_INFO_V1(iotmq_count_between);
Datum
iotmq_count_between(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(count_wanted(PG_GETARG_INT32(0), PG_GETARG_INT64(1), PG_GETARG_INT64(2), NULL));
}

/*
 * Counts what the group wants from an offset on, up to to or the first undecided one. With
 * the state of the cursor also what was redriven and comes from there.
 */
static int64
count_wanted(int32 cursor_id, int64 from, int64 to, const CursorState *state)
{
	Cursor		cursor;
	int64		n;
	bool		stale;

	do
	{
		ZoneScan   *scan;
		TupleTableSlot *slot;
		ZoneEnd		end;

		n = 0;
		if (!iotmq_catalog_cursor_by_id(cursor_id, &cursor))
			break;
		end.memory = iotmq_stable_memory(cursor.zone);
		(void) iotmq_stable_await(&end, 1); /* what is open then ends the scan */
		if (!iotmq_catalog_cursor_by_id(cursor_id, &cursor))
			break;
		scan = iotmq_scan_begin(cursor.zone, from, Min(end.last, to - 1));
		while ((slot = iotmq_scan_next(scan)) != NULL)
			if (iotmq_filter_accepts(cursor.group, slot) ||
				(state != NULL && iotmq_place_is_pending(state, scan->position - 1)))
				n++;
		stale = scan->stale;
		iotmq_scan_end(scan);
	} while (stale);
	return n;
}
