/*
 * redelivery.c - messages that wait for another attempt: rows of iotmq_internal.redelivery.
 *
 * All changes to a cursor's rows happen while it is held: its state
 * counts them (redeliveries) and knows the earliest time that anything is due
 * (next_due): so the good path never looks here, and a look begins behind all
 * rows that were done before. Who is going to change rows finds them by a scan that holds
 * them: the others know no row's place.
 *
 * In an orderly group only the first message of a device, its head, has a due_at;
 * those behind it have infinity and don't cost a look. iotmq_redelivery_lift_head
 * restores that after a change.
 */
#include "group/group.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation_d.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

enum
{
	Anum_redelivery_cursor_id = 1, Anum_redelivery_attempt, Anum_redelivery_due_at,
	Anum_redelivery_not_before, Anum_redelivery_offset, Anum_redelivery_redriven,
	Anum_redelivery_batch_limit, Anum_redelivery_device, Anum_redelivery_reason,
	Anum_redelivery_deferred, Natts_redelivery = Anum_redelivery_deferred
};

static void set_due_keys(ScanKey keys, int32 cursor_id, TimestampTz from);
static void set_device_keys(ScanKey keys, int32 cursor_id, text *device, int64 from);
static void set_keys_without_device(ScanKey keys, int32 cursor_id);
static void form_row(const Redelivery *redelivery, Datum *values, bool *isnull);
static void set_due(HeldCursor *held, const Redelivery *redelivery, TimestampTz due_at);

/* The cursor's rows that are due at or after from, earliest first; snapshot as of row.c. */
RowScan
iotmq_redelivery_scan_due(int32 cursor_id, TimestampTz from, Snapshot snapshot)
{
	ScanKeyData keys[2];

	set_due_keys(keys, cursor_id, from);
	return iotmq_row_scan(CATALOG_REDELIVERY, INDEX_REDELIVERY_DUE, keys, 2, snapshot);
}

/* Makes next_due of a state, which is not held, what it would be if what waits were looked at. */
void
iotmq_redelivery_see(CursorState *state)
{
	RowScan		scan = iotmq_redelivery_scan_due(state->cursor_id, state->next_due, NULL);
	Redelivery	first;

	state->next_due = iotmq_redelivery_next(&scan, &first) ? first.due_at : DT_NOEND;
	iotmq_row_scan_end(&scan);
}

/* The same rows of this moment, to change them. */
RowScan
iotmq_redelivery_hold_due(const HeldCursor *held, TimestampTz from)
{
	ScanKeyData keys[2];

	set_due_keys(keys, held->state.cursor_id, from);
	return iotmq_row_scan_to_change(CATALOG_REDELIVERY, INDEX_REDELIVERY_DUE, keys, 2);
}

/* The device's rows with an offset >= from, in order, to change them. */
RowScan
iotmq_redelivery_hold_device(const HeldCursor *held, text *device, int64 from)
{
	ScanKeyData keys[3];

	set_device_keys(keys, held->state.cursor_id, device, from);
	return iotmq_row_scan_to_change(CATALOG_REDELIVERY, INDEX_REDELIVERY_DEVICE, keys, 3);
}

/* The next row; its texts are good until the scan ends. False: no more. */
bool
iotmq_redelivery_next(RowScan *scan, Redelivery *redelivery)
{
	Datum	   *values;
	bool	   *isnull;

	if (!iotmq_row_scan_next(scan))
		return false;
	slot_getallattrs(scan->slot);
	values = scan->slot->tts_values;
	isnull = scan->slot->tts_isnull;
	redelivery->cursor_id = DatumGetInt32(values[Anum_redelivery_cursor_id - 1]);
	redelivery->attempt = DatumGetInt32(values[Anum_redelivery_attempt - 1]);
	redelivery->due_at = DatumGetTimestampTz(values[Anum_redelivery_due_at - 1]);
	redelivery->not_before = DatumGetTimestampTz(values[Anum_redelivery_not_before - 1]);
	redelivery->msg_offset = DatumGetInt64(values[Anum_redelivery_offset - 1]);
	redelivery->redriven = DatumGetBool(values[Anum_redelivery_redriven - 1]);
	redelivery->batch_limit = isnull[Anum_redelivery_batch_limit - 1] ? 0 :
		DatumGetInt32(values[Anum_redelivery_batch_limit - 1]);
	redelivery->device = isnull[Anum_redelivery_device - 1] ? NULL :
		DatumGetTextPCopy(values[Anum_redelivery_device - 1]);
	redelivery->reason = isnull[Anum_redelivery_reason - 1] ? NULL : DatumGetTextPCopy(values[Anum_redelivery_reason - 1]);
	redelivery->deferred = DatumGetBool(values[Anum_redelivery_deferred - 1]);
	if (scan->to_change)
		redelivery->tid = scan->slot->tts_tid;
	else
		ItemPointerSetInvalid(&redelivery->tid);
	return true;
}

/*
 * Has the device a row? They go in the order of offsets: so from the end on the first one
 * met mostly is there, and what is gone, which a held-back xmin keeps, is not.
 */
bool
iotmq_redelivery_has_device(int32 cursor_id, text *device)
{
	ScanKeyData keys[3];
	RowScan		scan;
	Redelivery	redelivery;
	bool		found;

	set_device_keys(keys, cursor_id, device, 0);
	scan = iotmq_row_scan(CATALOG_REDELIVERY, INDEX_REDELIVERY_DEVICE, keys, 3, NULL);
	scan.backward = true;
	found = iotmq_redelivery_next(&scan, &redelivery);
	iotmq_row_scan_end(&scan);
	return found;
}

/* The row of that message, to change it, of its device in an orderly group; false: it does not wait. */
bool
iotmq_redelivery_find(const HeldCursor *held, text *device, int64 msg_offset,
					  Redelivery *redelivery)
{
	ScanKeyData keys[3];
	RowScan		scan;
	bool		found;

	if (device != NULL)
		scan = iotmq_redelivery_hold_device(held, device, msg_offset);
	else
	{
		set_keys_without_device(keys, held->state.cursor_id);
		ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(msg_offset));
		scan = iotmq_row_scan_to_change(CATALOG_REDELIVERY, INDEX_REDELIVERY_DEVICE, keys, 3);
	}
	found = iotmq_redelivery_next(&scan, redelivery) && redelivery->msg_offset == msg_offset;
	iotmq_row_scan_end(&scan);
	return found;
}

/* A scan for iotmq_redelivery_lowest. */
RowScan
iotmq_redelivery_scan_lowest(Snapshot snapshot)
{
	ScanKeyData keys[2];

	set_keys_without_device(keys, 0);
	return iotmq_row_scan(CATALOG_REDELIVERY, INDEX_REDELIVERY_DEVICE, keys, 2, snapshot);
}

/* The lowest offset that waits in a group that is not orderly; PG_INT64_MAX: none. */
int64
iotmq_redelivery_lowest(RowScan *scan, int32 cursor_id)
{
	ScanKeyData keys[2];
	Redelivery	redelivery;

	set_keys_without_device(keys, cursor_id);
	iotmq_row_rescan(scan, keys, 2);
	return iotmq_redelivery_next(scan, &redelivery) ? redelivery.msg_offset : PG_INT64_MAX;
}

/* Adds a row, which is seen after iotmq_cursor_flush. */
void
iotmq_redelivery_add(HeldCursor *held, const Redelivery *redelivery)
{
	Datum		values[Natts_redelivery];
	bool		isnull[Natts_redelivery];

	if (!held->writes_waiting)
		held->waiting = iotmq_row_writer_begin(CATALOG_REDELIVERY);
	held->writes_waiting = true;
	form_row(redelivery, values, isnull);
	iotmq_row_writer_add(&held->waiting, values, isnull, Natts_redelivery);
	held->state.redeliveries++;
	iotmq_cursor_expect_due(held, redelivery->due_at);
}

/* Writes a row that was changed, but for its offset and device. */
void
iotmq_redelivery_change(HeldCursor *held, const Redelivery *redelivery)
{
	ItemPointerData tid = redelivery->tid;
	Datum		values[Natts_redelivery];
	bool		isnull[Natts_redelivery];

	form_row(redelivery, values, isnull);
	iotmq_row_update(CATALOG_REDELIVERY, &tid, values, isnull, Natts_redelivery);
	iotmq_cursor_expect_due(held, redelivery->due_at);
}

/* Removes a row. */
void
iotmq_redelivery_remove(HeldCursor *held, const Redelivery *redelivery)
{
	ItemPointerData tid = redelivery->tid;

	iotmq_row_delete(CATALOG_REDELIVERY, &tid);
	held->state.redeliveries--;
}

/*
 * Sees that the device's first row, and no other, is due some time; no row has an
 * offset below from.
 */
void
iotmq_redelivery_lift_head(HeldCursor *held, text *device, int64 from)
{
	RowScan		scan;
	Redelivery	rows[2];
	int			n = 0;

	iotmq_cursor_flush(held);
	scan = iotmq_redelivery_hold_device(held, device, from);
	while (n < 2 && iotmq_redelivery_next(&scan, &rows[n]))
		n++;
	iotmq_row_scan_end(&scan);
	if (n > 0 && TIMESTAMP_IS_NOEND(rows[0].due_at))
		set_due(held, &rows[0], rows[0].not_before);
	if (n > 1 && !TIMESTAMP_IS_NOEND(rows[1].due_at))
		set_due(held, &rows[1], DT_NOEND);
}

static void
set_due(HeldCursor *held, const Redelivery *redelivery, TimestampTz due_at)
{
	Redelivery	changed = *redelivery;

	changed.due_at = due_at;
	iotmq_redelivery_change(held, &changed);
}

static void
set_due_keys(ScanKey keys, int32 cursor_id, TimestampTz from)
{
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
}

static void
set_device_keys(ScanKey keys, int32 cursor_id, text *device, int64 from)
{
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, PointerGetDatum(device));
	ScanKeyInit(&keys[2], 3, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
}

/* Of rows of a group that is not orderly, in the order of offsets. */
static void
set_keys_without_device(ScanKey keys, int32 cursor_id)
{
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
	ScanKeyEntryInitialize(&keys[1], SK_ISNULL | SK_SEARCHNULL, 2, InvalidStrategy, InvalidOid,
						   InvalidOid, InvalidOid, (Datum) 0);
}

static void
form_row(const Redelivery *redelivery, Datum *values, bool *isnull)
{
	memset(isnull, false, sizeof(bool) * Natts_redelivery);
	values[Anum_redelivery_cursor_id - 1] = Int32GetDatum(redelivery->cursor_id);
	values[Anum_redelivery_attempt - 1] = Int32GetDatum(redelivery->attempt);
	values[Anum_redelivery_due_at - 1] = TimestampTzGetDatum(redelivery->due_at);
	values[Anum_redelivery_not_before - 1] = TimestampTzGetDatum(redelivery->not_before);
	values[Anum_redelivery_offset - 1] = Int64GetDatum(redelivery->msg_offset);
	values[Anum_redelivery_redriven - 1] = BoolGetDatum(redelivery->redriven);
	values[Anum_redelivery_batch_limit - 1] = Int32GetDatum(redelivery->batch_limit);
	isnull[Anum_redelivery_batch_limit - 1] = redelivery->batch_limit == 0;
	values[Anum_redelivery_device - 1] = PointerGetDatum(redelivery->device);
	isnull[Anum_redelivery_device - 1] = redelivery->device == NULL;
	values[Anum_redelivery_reason - 1] = PointerGetDatum(redelivery->reason);
	isnull[Anum_redelivery_reason - 1] = redelivery->reason == NULL;
	values[Anum_redelivery_deferred - 1] = BoolGetDatum(redelivery->deferred);
}
