/*
 * waiting.c - messages that wait for another attempt: rows of iotmq.redelivery.
 *
 * All changes to a cursor's rows happen under the lock on its position, which
 * counts them (waiting) and knows the earliest time that anything is due
 * (next_due): so the good path never looks here, and a look begins behind all
 * rows that were done before.
 *
 * In an orderly group only the first message of a device, its head, has a due_at;
 * those behind it have infinity and don't cost a look. iotmq_waiting_settle_head
 * restores that after a change.
 */
#include "iotmq.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_collation_d.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

enum
{
	Anum_waiting_cursor_id = 1, Anum_waiting_attempt, Anum_waiting_due_at,
	Anum_waiting_not_before, Anum_waiting_offset, Anum_waiting_redriven,
	Anum_waiting_batch_limit, Anum_waiting_device, Anum_waiting_reason,
	Natts_waiting = Anum_waiting_reason
};

static void set_keys_without_device(ScanKey keys, int32 cursor_id);
static HeapTuple form_tuple(Relation rel, const Waiting *waiting);

/* The cursor's rows that are due at or after from, earliest first; snapshot as of row.c. */
RowScan
iotmq_waiting_scan_due(int32 cursor_id, TimestampTz from, Snapshot snapshot)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	return iotmq_row_scan(CATALOG_REDELIVERY, INDEX_REDELIVERY_DUE, keys, 2, snapshot);
}

/* The device's rows with an offset >= from, in order. */
RowScan
iotmq_waiting_scan_device(int32 cursor_id, text *device, int64 from)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, PointerGetDatum(device));
	ScanKeyInit(&keys[2], 3, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	return iotmq_row_scan(CATALOG_REDELIVERY, INDEX_REDELIVERY_DEVICE, keys, 3, NULL);
}

/* The next row; its texts are good until the scan ends. False: no more. */
bool
iotmq_waiting_next(RowScan *scan, Waiting *waiting)
{
	Datum	   *values;
	bool	   *isnull;

	if (!iotmq_row_scan_next(scan))
		return false;
	slot_getallattrs(scan->slot);
	values = scan->slot->tts_values;
	isnull = scan->slot->tts_isnull;
	waiting->cursor_id = DatumGetInt32(values[Anum_waiting_cursor_id - 1]);
	waiting->attempt = DatumGetInt32(values[Anum_waiting_attempt - 1]);
	waiting->due_at = DatumGetTimestampTz(values[Anum_waiting_due_at - 1]);
	waiting->not_before = DatumGetTimestampTz(values[Anum_waiting_not_before - 1]);
	waiting->msg_offset = DatumGetInt64(values[Anum_waiting_offset - 1]);
	waiting->redriven = DatumGetBool(values[Anum_waiting_redriven - 1]);
	waiting->batch_limit = isnull[Anum_waiting_batch_limit - 1] ? 0 :
		DatumGetInt32(values[Anum_waiting_batch_limit - 1]);
	waiting->device = isnull[Anum_waiting_device - 1] ? NULL :
		DatumGetTextPCopy(values[Anum_waiting_device - 1]);
	waiting->reason = isnull[Anum_waiting_reason - 1] ? NULL : DatumGetTextPCopy(values[Anum_waiting_reason - 1]);
	waiting->tid = scan->slot->tts_tid;
	return true;
}

bool
iotmq_waiting_has_device(int32 cursor_id, text *device)
{
	RowScan		scan = iotmq_waiting_scan_device(cursor_id, device, 0);
	Waiting		waiting;
	bool		found = iotmq_waiting_next(&scan, &waiting);

	iotmq_row_scan_end(&scan);
	return found;
}

/* A scan for iotmq_waiting_lowest. */
RowScan
iotmq_waiting_scan_lowest(Snapshot snapshot)
{
	ScanKeyData keys[2];

	set_keys_without_device(keys, 0);
	return iotmq_row_scan(CATALOG_REDELIVERY, INDEX_REDELIVERY_DEVICE, keys, 2, snapshot);
}

/* The lowest offset that waits in a group that is not orderly; PG_INT64_MAX: none. */
int64
iotmq_waiting_lowest(RowScan *scan, int32 cursor_id)
{
	ScanKeyData keys[2];
	Waiting		waiting;

	set_keys_without_device(keys, cursor_id);
	iotmq_row_rescan(scan, keys, 2);
	return iotmq_waiting_next(scan, &waiting) ? waiting.msg_offset : PG_INT64_MAX;
}

/* Adds a row. The caller stores the position. */
void
iotmq_waiting_add(Waiting *waiting, Position *position)
{
	Relation	rel = table_open(iotmq_catalog_relid(CATALOG_REDELIVERY), RowExclusiveLock);
	HeapTuple	tuple = form_tuple(rel, waiting);

	CatalogTupleInsert(rel, tuple);
	CommandCounterIncrement();
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	position->waiting++;
	position->next_due = Min(position->next_due, waiting->due_at);
}

/* Removes a row. The caller stores the position. */
void
iotmq_waiting_remove(const Waiting *waiting, Position *position)
{
	Relation	rel = table_open(iotmq_catalog_relid(CATALOG_REDELIVERY), RowExclusiveLock);
	ItemPointerData tid = waiting->tid;

	CatalogTupleDelete(rel, &tid);
	CommandCounterIncrement();
	table_close(rel, NoLock);
	position->waiting--;
}

/* Changes a row's due_at. The caller stores the position. */
void
iotmq_waiting_set_due(const Waiting *waiting, TimestampTz due_at, Position *position)
{
	Relation	rel = table_open(iotmq_catalog_relid(CATALOG_REDELIVERY), RowExclusiveLock);
	Waiting		changed = *waiting;
	HeapTuple	tuple;

	changed.due_at = due_at;
	tuple = form_tuple(rel, &changed);
	CatalogTupleUpdate(rel, &changed.tid, tuple);
	CommandCounterIncrement();
	heap_freetuple(tuple);
	table_close(rel, NoLock);
	position->next_due = Min(position->next_due, due_at);
}

/*
 * Sees that the device's first row, and no other, is due some time; no row has an
 * offset below from.
 */
void
iotmq_waiting_settle_head(int32 cursor_id, text *device, int64 from, Position *position)
{
	RowScan		scan = iotmq_waiting_scan_device(cursor_id, device, from);
	Waiting		rows[2];
	int			n = 0;

	while (n < 2 && iotmq_waiting_next(&scan, &rows[n]))
		n++;
	iotmq_row_scan_end(&scan);
	if (n > 0 && TIMESTAMP_IS_NOEND(rows[0].due_at))
		iotmq_waiting_set_due(&rows[0], rows[0].not_before, position);
	if (n > 1 && !TIMESTAMP_IS_NOEND(rows[1].due_at))
		iotmq_waiting_set_due(&rows[1], DT_NOEND, position);
}

/* Of rows of a group that is not orderly, in the order of offsets. */
static void
set_keys_without_device(ScanKey keys, int32 cursor_id)
{
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
	ScanKeyEntryInitialize(&keys[1], SK_ISNULL | SK_SEARCHNULL, 2, InvalidStrategy, InvalidOid,
						   InvalidOid, InvalidOid, (Datum) 0);
}

static HeapTuple
form_tuple(Relation rel, const Waiting *waiting)
{
	Datum		values[Natts_waiting] = {0};
	bool		isnull[Natts_waiting] = {false};

	values[Anum_waiting_cursor_id - 1] = Int32GetDatum(waiting->cursor_id);
	values[Anum_waiting_attempt - 1] = Int32GetDatum(waiting->attempt);
	values[Anum_waiting_due_at - 1] = TimestampTzGetDatum(waiting->due_at);
	values[Anum_waiting_not_before - 1] = TimestampTzGetDatum(waiting->not_before);
	values[Anum_waiting_offset - 1] = Int64GetDatum(waiting->msg_offset);
	values[Anum_waiting_redriven - 1] = BoolGetDatum(waiting->redriven);
	values[Anum_waiting_batch_limit - 1] = Int32GetDatum(waiting->batch_limit);
	isnull[Anum_waiting_batch_limit - 1] = waiting->batch_limit == 0;
	values[Anum_waiting_device - 1] = PointerGetDatum(waiting->device);
	isnull[Anum_waiting_device - 1] = waiting->device == NULL;
	values[Anum_waiting_reason - 1] = PointerGetDatum(waiting->reason);
	isnull[Anum_waiting_reason - 1] = waiting->reason == NULL;
	return heap_form_tuple(RelationGetDescr(rel), values, isnull);
}
