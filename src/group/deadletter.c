/*
 * deadletter.c - messages given up: a row of iotmq.dead_message each, with a
 * copy of the content, since the log drops the original some day.
 *
 * A redriven message keeps its row, marked, until it is settled; if it is given
 * up again, the row is a dead letter again. Rows of a cursor change only under the
 * lock on its position or on the lease that has the message.
 */
#include "iotmq.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "commands/sequence.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

enum
{
	Anum_id = 1, Anum_cursor_id, Anum_attempts, Anum_dead_at, Anum_redriven, Anum_reason,
	Anum_message,				/* then the columns of a topic table */
	Natts_dead = Anum_message + Natts_message - 1
};

static bool is_in_log(const Cursor *cursor, int64 msg_offset);
static bool find(int32 cursor_id, int64 msg_offset, bool redriven, Datum *values, bool *isnull,
				 ItemPointer tid);
static void set_fate(const Cursor *cursor, const Failure *failure, Datum *values, bool *isnull);

/*
 * Makes the message a dead letter of the group; false if its content is gone. The
 * caller stores the position.
 */
bool
iotmq_dead_letter_add(const Cursor *cursor, const Failure *failure, Position *position)
{
	Relation	rel = table_open(iotmq_catalog_relid(CATALOG_DEAD_MESSAGE), RowExclusiveLock);
	ZoneScan   *scan = iotmq_scan_begin(cursor->zone, failure->msg_offset, failure->msg_offset);
	Datum		values[Natts_dead];
	bool		isnull[Natts_dead] = {false};
	ItemPointerData tid;
	TupleTableSlot *slot;
	bool		redriven = find(cursor->cursor_id, failure->msg_offset, true, values, isnull, &tid);
	bool		found = true;

	/* after a seek back there may be one of it already */
	if (redriven ||
		find(cursor->cursor_id, failure->msg_offset, false, values, isnull, &tid))
	{
		position->dead_letters += redriven ? 1 : 0;
		set_fate(cursor, failure, values, isnull);
		CatalogTupleUpdate(rel, &tid, heap_form_tuple(RelationGetDescr(rel), values, isnull));
	}
	else if ((slot = iotmq_scan_one(scan, failure->msg_offset)) != NULL)
	{
		Oid			sequence = get_relname_relid("dead_message_id_seq", iotmq_schema());

		position->dead_letters++;
		values[Anum_id - 1] = Int64GetDatum(nextval_internal(sequence, false));
		set_fate(cursor, failure, values, isnull);
		slot_getsomeattrs(slot, Natts_message);
		memcpy(&values[Anum_message - 1], slot->tts_values, sizeof(Datum) * Natts_message);
		memcpy(&isnull[Anum_message - 1], slot->tts_isnull, sizeof(bool) * Natts_message);
		CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, isnull));
	}
	else
		found = false;
	CommandCounterIncrement();
	iotmq_scan_end(scan);
	table_close(rel, NoLock);
	return found;
}

/* The content of a redriven message, as a row of a topic table; NULL: not there. */
TupleTableSlot *
iotmq_dead_letter_fetch(int32 cursor_id, int64 msg_offset)
{
	Datum		values[Natts_dead];
	bool		isnull[Natts_dead];
	ItemPointerData tid;
	Relation	rel;
	TupleDesc	desc;
	TupleTableSlot *slot;

	if (!find(cursor_id, msg_offset, true, values, isnull, &tid))
		return NULL;
	rel = table_open(iotmq_catalog_relid(CATALOG_DEAD_MESSAGE), AccessShareLock);
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
iotmq_dead_letter_is_redriven(int32 cursor_id, int64 msg_offset)
{
	Datum		values[Natts_dead];
	bool		isnull[Natts_dead];
	ItemPointerData tid;

	return find(cursor_id, msg_offset, true, values, isnull, &tid);
}

/* A redriven message is done: its copy goes. Nothing to do for any other. */
void
iotmq_dead_letter_settle(int32 cursor_id, int64 msg_offset)
{
	Datum		values[Natts_dead];
	bool		isnull[Natts_dead];
	ItemPointerData tid;
	Relation	rel;

	if (!find(cursor_id, msg_offset, true, values, isnull, &tid))
		return;
	rel = table_open(iotmq_catalog_relid(CATALOG_DEAD_MESSAGE), RowExclusiveLock);
	CatalogTupleDelete(rel, &tid);
	CommandCounterIncrement();
	table_close(rel, NoLock);
}

/*
 * wait_again(cursor_id int, msg_offset bigint) RETURNS void: a message whose dead
 * letter was just marked as redriven waits for its first attempt. If the group
 * went back behind it, it comes from the log by itself and needs no letter.
 */
PG_FUNCTION_INFO_V1(iotmq_wait_again);
Datum
iotmq_wait_again(PG_FUNCTION_ARGS)
{
	int64		msg_offset = PG_GETARG_INT64(1);
	Failure		waiting = {.msg_offset = msg_offset, .not_before = GetCurrentTimestamp(), .redriven = true};
	Datum		values[Natts_dead];
	bool		isnull[Natts_dead];
	ItemPointerData tid;
	Cursor		cursor;
	Position	position;

	if (!iotmq_cursor_by_id(PG_GETARG_INT32(0), &cursor) ||
		!find(cursor.cursor_id, msg_offset, true, values, isnull, &tid) ||
		iotmq_position_lock(cursor.cursor_id, true, &position, &tid) != ROW_OK)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("dead letter of offset " INT64_FORMAT " does not exist", msg_offset)));
	position.dead_letters--;
	if (msg_offset >= position.next_offset && is_in_log(&cursor, msg_offset))
		iotmq_dead_letter_settle(cursor.cursor_id, msg_offset);
	else
	{
		if (cursor.group->orderly)
			waiting.device = DatumGetTextPP(values[Anum_message + Anum_device_id - 2]);
		iotmq_wait(&cursor, &waiting, 1, &position);
	}
	iotmq_position_store(&position, &tid);
	PG_RETURN_VOID();
}

static bool
is_in_log(const Cursor *cursor, int64 msg_offset)
{
	ZoneScan   *scan = iotmq_scan_begin(cursor->zone, msg_offset, msg_offset);
	bool		found = iotmq_scan_one(scan, msg_offset) != NULL;

	iotmq_scan_end(scan);
	return found;
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

		heap_deform_tuple(tuple, RelationGetDescr(scan.rel), values, isnull);
		found = DatumGetBool(values[Anum_redriven - 1]) == redriven;
		*tid = scan.slot->tts_tid;
	}
	iotmq_row_scan_end(&scan);
	return found;
}

/* Fills in how a message ended. */
static void
set_fate(const Cursor *cursor, const Failure *failure, Datum *values, bool *isnull)
{
	values[Anum_cursor_id - 1] = Int32GetDatum(cursor->cursor_id);
	values[Anum_attempts - 1] = Int32GetDatum(failure->attempt);
	values[Anum_dead_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_redriven - 1] = BoolGetDatum(false);
	values[Anum_reason - 1] = PointerGetDatum(failure->reason);
	isnull[Anum_reason - 1] = failure->reason == NULL;
}
