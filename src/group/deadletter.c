/*
 * deadletter.c - messages given up: a row of iotmq.dead_message each, with a
 * copy of the content, since the log drops the original some day.
 *
 * A redriven message keeps its row, marked, until it is settled; if it is given
 * up again, the row is a dead letter again. Rows of a cursor change only while it
 * is held, or under the lock on the lease that has the message.
 */
#include "group/group.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

enum
{
	Anum_id = 1, Anum_cursor_id, Anum_attempts, Anum_dead_at, Anum_redriven, Anum_reason,
	Anum_message,				/* then the columns of a topic table */
	Natts_dead = Anum_message + Natts_message - 1
};

static bool find(int32 cursor_id, int64 msg_offset, bool redriven, Datum *values, bool *isnull,
				 ItemPointer tid);
static void set_fate(int32 cursor_id, const Failure *failure, Datum *values, bool *isnull);

/* Makes the message a dead letter of the group; false if its content is gone. */
bool
iotmq_deadletter_add(HeldCursor *held, const Failure *failure)
{
	int32		cursor_id = held->state.cursor_id;
	ZoneScan   *scan = iotmq_scan_begin(held->cursor->zone, failure->msg_offset,
										failure->msg_offset);
	Datum		values[Natts_dead];
	bool		isnull[Natts_dead] = {false};
	ItemPointerData tid;
	TupleTableSlot *slot;
	bool		redriven = find(cursor_id, failure->msg_offset, true, values, isnull, &tid);
	bool		found = true;

	/* after a seek back there may be one of it already */
	if (redriven || find(cursor_id, failure->msg_offset, false, values, isnull, &tid))
	{
		held->state.dead_letters += redriven ? 1 : 0;
		set_fate(cursor_id, failure, values, isnull);
		iotmq_row_update(CATALOG_DEAD_MESSAGE, &tid, values, isnull, Natts_dead);
	}
	else if ((slot = iotmq_scan_one(scan, failure->msg_offset)) != NULL)
	{
		held->state.dead_letters++;
		values[Anum_id - 1] =
			Int64GetDatum(nextval_internal(iotmq_relation_dead_message_ids(), false));
		set_fate(cursor_id, failure, values, isnull);
		slot_getsomeattrs(slot, Natts_message);
		memcpy(&values[Anum_message - 1], slot->tts_values, sizeof(Datum) * Natts_message);
		memcpy(&isnull[Anum_message - 1], slot->tts_isnull, sizeof(bool) * Natts_message);
		iotmq_row_insert(CATALOG_DEAD_MESSAGE, values, isnull, Natts_dead);
	}
	else
		found = false;
	iotmq_scan_end(scan);
	return found;
}

/* The content of a redriven message, as a row of a topic table; NULL: not there. */
TupleTableSlot *
iotmq_deadletter_content(int32 cursor_id, int64 msg_offset)
{
	Datum		values[Natts_dead];
	bool		isnull[Natts_dead];
	ItemPointerData tid;
	Relation	rel;
	TupleDesc	desc;
	TupleTableSlot *slot;

	if (!find(cursor_id, msg_offset, true, values, isnull, &tid))
		return NULL;
	rel = table_open(iotmq_relation_table(CATALOG_DEAD_MESSAGE), AccessShareLock);
	desc = CreateTemplateTupleDesc(Natts_message);
	for (int i = 1; i <= Natts_message; i++)
		TupleDescCopyEntry(desc, i, RelationGetDescr(rel), Anum_message + i - 1);
	table_close(rel, AccessShareLock);
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	memcpy(slot->tts_values, &values[Anum_message - 1], sizeof(Datum) * Natts_message);
	memcpy(slot->tts_isnull, &isnull[Anum_message - 1], sizeof(bool) * Natts_message);
	return ExecStoreVirtualTuple(slot);
}

bool
iotmq_deadletter_is_redriven(int32 cursor_id, int64 msg_offset)
{
	Datum		values[Natts_dead];
	bool		isnull[Natts_dead];
	ItemPointerData tid;

	return find(cursor_id, msg_offset, true, values, isnull, &tid);
}

/* A redriven message is done: its copy goes. Nothing to do for any other. */
void
iotmq_deadletter_done(int32 cursor_id, int64 msg_offset)
{
	Datum		values[Natts_dead];
	bool		isnull[Natts_dead];
	ItemPointerData tid;

	if (find(cursor_id, msg_offset, true, values, isnull, &tid))
		iotmq_row_delete(CATALOG_DEAD_MESSAGE, &tid);
}

/* The message's row, redriven or not, copied; false: there is none. */
static bool
find(int32 cursor_id, int64 msg_offset, bool redriven, Datum *values, bool *isnull,
	 ItemPointer tid)
{
	ScanKeyData keys[2];
	RowScan		scan;
	bool		found = false;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(msg_offset));
	scan = iotmq_row_scan(CATALOG_DEAD_MESSAGE, INDEX_DEAD_MESSAGE, keys, 2, NULL);
	while (!found && iotmq_row_scan_next(&scan))
	{
		HeapTuple	tuple = ExecCopySlotHeapTuple(scan.slot);

		for (int i = 0; i < Natts_dead; i++)
			values[i] = heap_getattr(tuple, i + 1, RelationGetDescr(scan.rel), &isnull[i]);
		found = DatumGetBool(values[Anum_redriven - 1]) == redriven;
		*tid = scan.slot->tts_tid;
	}
	iotmq_row_scan_end(&scan);
	return found;
}

/* Fills in how a message ended. */
static void
set_fate(int32 cursor_id, const Failure *failure, Datum *values, bool *isnull)
{
	values[Anum_cursor_id - 1] = Int32GetDatum(cursor_id);
	values[Anum_attempts - 1] = Int32GetDatum(failure->attempt);
	values[Anum_dead_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_redriven - 1] = BoolGetDatum(false);
	values[Anum_reason - 1] = PointerGetDatum(failure->reason);
	isnull[Anum_reason - 1] = failure->reason == NULL;
}
