/*
 * open.c - what groups have begun and not settled: the rows of the views in_flight and
 * waiting_message.
 *
 * Both read with the snapshot of the query, as a table would be read. The cost is that of
 * one pass over the cursors, and for each row that is returned one probe of an index.
 *
 * Locks: AccessShareLock on what is read, while it is.
 */
#include "view/view.h"

#include "access/xact.h"
#include "funcapi.h"
#include "nodes/pg_list.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

typedef struct OpenCursor		/* by cursor_id */
{
	const OverviewZone *zone;	/* NULL: there is none that the current user may see */
	const OverviewGroup *group;
	bool		exists;
	int64		oldest_lease;	/* those below are void */
	int64		next_offset;
	int64		next_redriven;	/* see place.c */
	int64		redeliveries;
} OpenCursor;

typedef struct OpenCursors
{
	int32		n;				/* the highest cursor_id + 1 */
	OpenCursor *cursors;
} OpenCursors;

static OpenCursors open_cursors(Snapshot snapshot);
static void put_lease(ReturnSetInfo *result, const OpenCursor *cursor, const Lease *lease);
static List *waiting_of(int32 cursor_id, const OpenCursor *cursor, Snapshot snapshot);
static void find_devices(int32 cursor_id, const OpenCursor *cursor, List *waiting);
static void put_waiting(ReturnSetInfo *result, const OpenCursor *cursor, const Redelivery *waiting);

/*
 * open_leases() RETURNS SETOF record: the open leases of the groups that the current user
 * may see. Columns: see sql/view/open.sql.
 */
PG_FUNCTION_INFO_V1(iotmq_open_leases);
Datum
iotmq_open_leases(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Snapshot	snapshot = GetActiveSnapshot();
	OpenCursors open = open_cursors(snapshot);
	RowScan		scan = iotmq_lease_scan_all(snapshot);
	Lease		lease;

	InitMaterializedSRF(fcinfo, 0);
	while (iotmq_lease_scan_next(&scan, &lease))
	{
		int32		cursor_id = iotmq_lease_cursor(lease.lease_id);
		const OpenCursor *cursor = cursor_id < open.n ? &open.cursors[cursor_id] : NULL;

		if (cursor != NULL && cursor->exists && lease.lease_id >= cursor->oldest_lease)
			put_lease(result, cursor, &lease);
	}
	iotmq_row_scan_end(&scan);
	return (Datum) 0;
}

/*
 * open_waiting() RETURNS SETOF record: the messages of these groups that wait for another
 * attempt, for an earlier one of their device, or for their delivery after a redrive.
 * Columns: see sql/view/open.sql.
 */
PG_FUNCTION_INFO_V1(iotmq_open_waiting);
Datum
iotmq_open_waiting(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Snapshot	snapshot = GetActiveSnapshot();
	OpenCursors open = open_cursors(snapshot);

	InitMaterializedSRF(fcinfo, 0);
	for (int32 id = 0; id < open.n; id++)
	{
		const OpenCursor *cursor = &open.cursors[id];
		List	   *waiting;
		ListCell   *lc;

		if (!cursor->exists)
			continue;
		waiting = waiting_of(id, cursor, snapshot);
		if (waiting == NIL)
			continue;
		find_devices(id, cursor, waiting);
		foreach(lc, waiting)
			put_waiting(result, cursor, lfirst(lc));
		list_free_deep(waiting);
	}
	return (Datum) 0;
}

/* The cursors of all groups that the current user may see. */
static OpenCursors
open_cursors(Snapshot snapshot)
{
	Overview   *overview = iotmq_overview_all();
	OpenCursors open = {0};
	RowScan		scan;
	CursorState state;

	for (int z = 0; z < overview->nzones; z++)
		for (int g = 0; g < overview->zones[z].ngroups; g++)
			open.n = Max(open.n, overview->zones[z].cursors[g] + 1);
	open.cursors = palloc0(sizeof(OpenCursor) * Max(open.n, 1));
	for (int z = 0; z < overview->nzones; z++)
	{
		const OverviewZone *zone = &overview->zones[z];

		for (int g = 0; g < zone->ngroups; g++)
			if (zone->cursors[g] != 0)
			{
				open.cursors[zone->cursors[g]].zone = zone;
				open.cursors[zone->cursors[g]].group = &overview->groups[zone->first_group + g];
			}
	}

	scan = iotmq_cursor_scan(snapshot);
	while (iotmq_cursor_scan_next(&scan, &state))
	{
		OpenCursor *cursor = state.cursor_id < open.n ? &open.cursors[state.cursor_id] : NULL;

		if (cursor == NULL || cursor->zone == NULL)
			continue;
		cursor->exists = true;
		cursor->oldest_lease = state.oldest_lease;
		cursor->next_offset = state.next_offset;
		cursor->next_redriven = state.next_redriven;
		cursor->redeliveries = state.redeliveries;
	}
	iotmq_row_scan_end(&scan);
	return open;
}

static void
put_lease(ReturnSetInfo *result, const OpenCursor *cursor, const Lease *lease)
{
	OverviewRow row = {0};
	int			attempt = 1;

	for (int i = 0; i < lease->n; i++)
	{
		int			one = iotmq_lease_attempt(lease, i);

		attempt = Max(attempt, one);
	}
	iotmq_overview_column(&row, Int64GetDatum(lease->lease_id), true);
	iotmq_overview_column(&row, PointerGetDatum(cursor->group->topic), true);
	iotmq_overview_column(&row, PointerGetDatum(cursor->group->name), true);
	iotmq_overview_column(&row, PointerGetDatum(cursor->zone->name), true);
	iotmq_overview_column(&row, PointerGetDatum(lease->consumer), lease->consumer != NULL);
	iotmq_overview_column(&row, TimestampTzGetDatum(lease->leased_at), true);
	iotmq_overview_column(&row, TimestampTzGetDatum(lease->deadline), true);
	iotmq_overview_column(&row, Int32GetDatum(lease->messages), true);
	iotmq_overview_column(&row, Int32GetDatum(attempt), true);
	tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.isnull);
}

/* What waits at a cursor, and what was redriven and has no place yet: Redelivery, copied. */
static List *
waiting_of(int32 cursor_id, const OpenCursor *cursor, Snapshot snapshot)
{
	int64		log_begins = Max(cursor->next_offset, cursor->zone->earliest_offset);
	List	   *waiting = NIL;
	Redelivery	row = {0};
	DeadLetter	letter;
	RowScan		scan;
	int64		last = 0;		/* several dead letters of one message are one that waits */

	if (cursor->redeliveries > 0)
	{
		scan = iotmq_redelivery_scan_due(cursor_id, DT_NOBEGIN, snapshot);
		while (iotmq_redelivery_next(&scan, &row))
			waiting = lappend(waiting, memcpy(palloc(sizeof(row)), &row, sizeof(row)));
		iotmq_row_scan_end(&scan);
	}
	if (cursor->next_redriven >= log_begins)
		return waiting;
	scan = iotmq_deadletter_scan_redriven(cursor_id, cursor->next_redriven, snapshot);
	while (iotmq_deadletter_next(&scan, &letter) && letter.msg_offset < log_begins)
	{
		if (letter.msg_offset == last)
			continue;
		last = letter.msg_offset;
		row = (Redelivery) {
			.cursor_id = cursor_id, .attempt = 1, .due_at = GetCurrentStatementStartTimestamp(),
			.msg_offset = letter.msg_offset, .redriven = true, .device = letter.device
		};
		waiting = lappend(waiting, memcpy(palloc(sizeof(row)), &row, sizeof(row)));
	}
	iotmq_row_scan_end(&scan);
	return waiting;
}

/* Finds the devices that are not noted, as in groups that are not orderly. */
static void
find_devices(int32 cursor_id, const OpenCursor *cursor, List *waiting)
{
	Topic	   *topic;
	Zone	   *zone;
	ZoneScan   *scan;
	ListCell   *lc;

	if (!iotmq_catalog_zone_by_id(cursor->zone->zone_id, &topic, &zone))
		return;
	scan = iotmq_scan_begin(zone, zone->earliest_offset, PG_INT64_MAX);
	scan->lenient = true;
	foreach(lc, waiting)
	{
		Redelivery *row = lfirst(lc);
		TupleTableSlot *slot = NULL;
		bool		isnull;

		if (row->device != NULL)
			continue;
		if (row->redriven)
			slot = iotmq_deadletter_content(cursor_id, row->msg_offset);
		if (slot == NULL)
			slot = iotmq_scan_one(scan, row->msg_offset);
		if (slot != NULL)
			row->device = DatumGetTextPCopy(slot_getattr(slot, Anum_device_id, &isnull));
	}
	iotmq_scan_end(scan);
}

static void
put_waiting(ReturnSetInfo *result, const OpenCursor *cursor, const Redelivery *waiting)
{
	OverviewRow row = {0};

	iotmq_overview_column(&row, PointerGetDatum(cursor->group->topic), true);
	iotmq_overview_column(&row, PointerGetDatum(cursor->group->name), true);
	iotmq_overview_column(&row, PointerGetDatum(cursor->zone->name), true);
	iotmq_overview_column(&row, Int64GetDatum(waiting->msg_offset), true);
	iotmq_overview_column(&row, PointerGetDatum(waiting->device), waiting->device != NULL);
	iotmq_overview_column(&row, Int32GetDatum(waiting->attempt), true);
	iotmq_overview_column(&row, TimestampTzGetDatum(waiting->due_at),
						  !TIMESTAMP_IS_NOEND(waiting->due_at));
	iotmq_overview_column(&row, PointerGetDatum(waiting->reason), waiting->reason != NULL);
	iotmq_overview_column(&row, BoolGetDatum(waiting->redriven), true);
	tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.isnull);
}
