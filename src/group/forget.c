/*
 * forget.c - what a group has of a segment that goes: leases and waiting messages end, and
 * what was not settled is counted as expired unread. What was redriven stays: its content
 * is kept with its dead letter. If it was to come from the log, it waits in redelivery now.
 *
 * Locks: the cursor and the rows of leases. The caller has locked those that have
 * something there: see sql/admin/retention.sql.
 */
#include "group/group.h"

#include "catalog/pg_type_d.h"
#include "core/stop.h"
#include "log/segment_scan.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/timestamp.h"

static void forget(int32 cursor_id, Oid segment_relid);
static void place_redriven(HeldCursor *held, SegmentScan *segment);
static int64 count_unread(const HeldCursor *held, SegmentScan *segment);
static int64 end_in_leases(HeldCursor *held, SegmentScan *segment);
static int	settle_gone(const HeldCursor *held, Lease *lease, SegmentScan *segment);
static int64 end_waiting(HeldCursor *held, SegmentScan *segment);

/* forget_segment(cursor_ids int[], segment regclass) RETURNS void: see above. */
PG_FUNCTION_INFO_V1(iotmq_forget_segment);
Datum
iotmq_forget_segment(PG_FUNCTION_ARGS)
{
	Datum	   *ids;
	int			n;

	STOP("forget_begun");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT4OID, sizeof(int32), true, TYPALIGN_INT, &ids,
					  NULL, &n);
	for (int i = 0; i < n; i++)
		forget(DatumGetInt32(ids[i]), PG_GETARG_OID(1));
	PG_RETURN_VOID();
}

static void
forget(int32 cursor_id, Oid segment_relid)
{
	Cursor		cursor;
	HeldCursor	held;
	SegmentScan *segment;

	if (!iotmq_catalog_cursor_by_id(cursor_id, &cursor))
		return;
	if (iotmq_cursor_hold(&cursor, false, &held) != ROW_OK)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("could not lock cursor %d", cursor_id)));
	segment = iotmq_segment_scan_open(segment_relid);
	held.state.expired_unread += count_unread(&held, segment) +
		end_in_leases(&held, segment) + end_waiting(&held, segment);
	place_redriven(&held, segment);
	iotmq_segment_scan_close(segment);
	iotmq_cursor_release(&held);
}

/* What was redriven and was to come from there. All is read before any is changed, as below. */
static void
place_redriven(HeldCursor *held, SegmentScan *segment)
{
	int64		from = Max(held->state.next_redriven, held->state.next_offset);
	RowScan		scan = iotmq_deadletter_scan_redriven(held->state.cursor_id, from, NULL);
	int64		stays = PG_INT64_MAX;
	DeadLetter	letter;
	List	   *letters = NIL;
	ListCell   *lc;

	while (iotmq_deadletter_next(&scan, &letter))
		if (iotmq_segment_scan_find(segment, letter.msg_offset))
			letters = lappend(letters, memcpy(palloc(sizeof(DeadLetter)), &letter,
											  sizeof(DeadLetter)));
		else
			stays = Min(stays, letter.msg_offset);
	iotmq_row_scan_end(&scan);
	foreach(lc, letters)
		iotmq_place_unread(held, lfirst(lc));
	if (from == held->state.next_redriven)
		held->state.next_redriven = stays;
}

/* What the group wants there and has not been delivered yet, and was not redriven to it. */
static int64
count_unread(const HeldCursor *held, SegmentScan *segment)
{
	int64		n = 0;

	for (iotmq_segment_scan_seek(segment, held->state.next_offset); segment->offset != NO_ROW;
		 iotmq_segment_scan_step(segment))
		if (iotmq_segment_scan_fate(segment) == FATE_COMMITTED &&
			iotmq_filter_accepts(held->cursor->group, segment->slot) &&
			!iotmq_place_is_pending(&held->state, segment->offset))
			n++;
	return n;
}

static int64
end_in_leases(HeldCursor *held, SegmentScan *segment)
{
	RowScan		scan = iotmq_lease_scan(&held->state);
	Lease		lease;
	int64		ended = 0;

	while (iotmq_lease_scan_next(&scan, &lease))
	{
		ItemPointerData tid;
		int			n = settle_gone(held, &lease, segment);

		if (n == 0)
			continue;
		switch (iotmq_lease_lock(lease.lease_id, false, &lease, &tid))
		{
			case ROW_LOCKED:
				ereport(ERROR,
						(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						 errmsg("could not lock lease " INT64_FORMAT, lease.lease_id)));
			case ROW_GONE:
				continue;
			case ROW_OK:
				ended += settle_gone(held, &lease, segment);
				iotmq_lease_store(&lease, &tid);
		}
	}
	iotmq_row_scan_end(&scan);
	return ended;
}

/* Settles the open messages of a lease that lie in the segment; returns how many. */
static int
settle_gone(const HeldCursor *held, Lease *lease, SegmentScan *segment)
{
	int			open = lease->messages;

	for (int i = 0; i < lease->n; i++)
	{
		int64		msg_offset = iotmq_lease_offset(lease, i);

		if (!iotmq_lease_is_settled(lease, i) &&
			iotmq_segment_scan_find(segment, msg_offset) &&
			!iotmq_deadletter_is_redriven(held->state.cursor_id, msg_offset))
			iotmq_lease_settle(lease, i);
	}
	return open - lease->messages;
}

/* All rows are read before any is changed: a scan does not see what becomes of them. */
static int64
end_waiting(HeldCursor *held, SegmentScan *segment)
{
	RowScan		scan = iotmq_redelivery_hold_due(held, DT_NOBEGIN);
	Redelivery	redelivery;
	List	   *ended = NIL;
	ListCell   *lc;

	while (iotmq_redelivery_next(&scan, &redelivery))
		if (!redelivery.redriven && iotmq_segment_scan_find(segment, redelivery.msg_offset) &&
			!iotmq_place_is_pending(&held->state, redelivery.msg_offset))
			ended = lappend(ended, memcpy(palloc(sizeof(Redelivery)), &redelivery,
										  sizeof(Redelivery)));
	iotmq_row_scan_end(&scan);

	foreach(lc, ended)
		iotmq_redelivery_remove(held, lfirst(lc));
	/* the next one of a device is its first now */
	foreach(lc, ended)
		if (((Redelivery *) lfirst(lc))->device != NULL)
			iotmq_redelivery_lift_head(held, ((Redelivery *) lfirst(lc))->device, 0);
	return list_length(ended);
}
