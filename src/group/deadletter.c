/*
 * deadletter.c - messages given up: a row of iotmq_internal.dead_message each, with a
 * copy of the content, since the log drops the original some day.
 *
 * A redriven message keeps its row, marked, until it is settled; if it is given
 * up again, the row is a dead letter again.
 *
 * Who changes a row: one that is not marked, whoever has its row lock (redrive, purge, and
 * who gives the message up once more); one that is marked, whoever holds the cursor, or
 * has the lock on the lease that has the message. Redrive and purge lock rows, then the
 * cursor, and never keep a row that turns out to be marked; who holds the cursor already
 * must not wait for a row that is not marked. So a
 * message that is given up again while its dead letter is being redriven or purged becomes
 * a second one, and there may be several of a message, marked or not.
 */
#include "group/group.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

enum
{
	Anum_id = 1, Anum_cursor_id, Anum_attempts, Anum_dead_at, Anum_redriven, Anum_reason,
	Anum_message,				/* then the columns of a topic table */
	Natts_dead = Anum_message + Natts_message - 1
};

typedef struct DeadRow			/* a row, copied */
{
	ItemPointerData tid;
	Datum		values[Natts_dead];
	bool		isnull[Natts_dead];
} DeadRow;

static void put_letters(ReturnSetInfo *result, int32 cursor_id, const char *topic, const char *group);
static bool bury_again(HeldCursor *held, const Failure *failure);
static void set_fate(DeadRow *row, int32 cursor_id, const Failure *failure);
static RowScan scan_message(CatalogIndex index, int32 cursor_id, int64 msg_offset);
static bool find_redriven(int32 cursor_id, int64 msg_offset, DeadRow *row);
static RowResult lock_row(int64 id, bool wait, DeadRow *row);
static RowResult lock_dead(int64 id, bool wait, DeadRow *row);
static void update_row(DeadRow *row);
static void copy_row(TupleTableSlot *slot, TupleDesc desc, DeadRow *row);
static void read_letter(TupleTableSlot *slot, DeadLetter *letter);

/* Makes the message a dead letter of the group; false if its content is gone. */
bool
iotmq_deadletter_add(HeldCursor *held, const Failure *failure)
{
	ZoneScan   *scan;
	TupleTableSlot *slot;
	DeadRow		row;

	if (bury_again(held, failure))
		return true;
	scan = iotmq_scan_begin(held->cursor->zone, failure->msg_offset, failure->msg_offset);
	slot = iotmq_scan_one(scan, failure->msg_offset);
	if (slot != NULL)
	{
		held->state.dead_letters++;
		memset(row.isnull, false, sizeof(row.isnull));
		row.values[Anum_id - 1] =
			Int64GetDatum(nextval_internal(iotmq_relation_dead_message_ids(), false));
		set_fate(&row, held->state.cursor_id, failure);
		slot_getsomeattrs(slot, Natts_message);
		memcpy(&row.values[Anum_message - 1], slot->tts_values, sizeof(Datum) * Natts_message);
		memcpy(&row.isnull[Anum_message - 1], slot->tts_isnull, sizeof(bool) * Natts_message);
		iotmq_row_insert(CATALOG_DEAD_MESSAGE, row.values, row.isnull, Natts_dead);
	}
	iotmq_scan_end(scan);
	return slot != NULL;
}

/* The content of a redriven message, as a row of a topic table; NULL: not there. */
TupleTableSlot *
iotmq_deadletter_content(int32 cursor_id, int64 msg_offset)
{
	DeadRow		row;
	Relation	rel;
	TupleDesc	desc;
	TupleTableSlot *slot;

	if (!find_redriven(cursor_id, msg_offset, &row))
		return NULL;
	rel = table_open(iotmq_relation_table(CATALOG_DEAD_MESSAGE), AccessShareLock);
	desc = CreateTemplateTupleDesc(Natts_message);
	for (int i = 1; i <= Natts_message; i++)
		TupleDescCopyEntry(desc, i, RelationGetDescr(rel), Anum_message + i - 1);
	table_close(rel, AccessShareLock);
	slot = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	memcpy(slot->tts_values, &row.values[Anum_message - 1], sizeof(Datum) * Natts_message);
	memcpy(slot->tts_isnull, &row.isnull[Anum_message - 1], sizeof(bool) * Natts_message);
	return ExecStoreVirtualTuple(slot);
}

bool
iotmq_deadletter_is_redriven(int32 cursor_id, int64 msg_offset)
{
	RowScan		scan = scan_message(INDEX_DEAD_MESSAGE_REDRIVEN, cursor_id, msg_offset);
	bool		found = iotmq_row_scan_next(&scan);

	iotmq_row_scan_end(&scan);
	return found;
}

/* A redriven message is done: its copy goes. Nothing to do for any other. */
void
iotmq_deadletter_done(int32 cursor_id, int64 msg_offset)
{
	RowScan		scan = scan_message(INDEX_DEAD_MESSAGE_REDRIVEN, cursor_id, msg_offset);
	DeadLetter	letter;

	while (iotmq_deadletter_next(&scan, &letter))
	{
		DeadRow		row;

		/* a seek may have made it a dead letter again */
		if (lock_row(letter.id, true, &row) == ROW_OK &&
			DatumGetBool(row.values[Anum_redriven - 1]))
			iotmq_row_delete(CATALOG_DEAD_MESSAGE, &row.tid);
	}
	iotmq_row_scan_end(&scan);
}

/* The cursor's redriven messages from that offset on, in order; snapshot as of row.c. */
RowScan
iotmq_deadletter_scan_redriven(int32 cursor_id, int64 from, Snapshot snapshot)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	return iotmq_row_scan(CATALOG_DEAD_MESSAGE, INDEX_DEAD_MESSAGE_REDRIVEN, keys, 2, snapshot);
}

/* The cursor's dead letters, those redriven not among them. */
RowScan
iotmq_deadletter_scan(int32 cursor_id)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
	return iotmq_row_scan(CATALOG_DEAD_MESSAGE, INDEX_DEAD_MESSAGE_AGE, &key, 1, NULL);
}

/* The next one; false: no more. */
bool
iotmq_deadletter_next(RowScan *scan, DeadLetter *letter)
{
	if (!iotmq_row_scan_next(scan))
		return false;
	read_letter(scan->slot, letter);
	return true;
}

/* The letter with that id, redriven or not; false: there is none. */
bool
iotmq_deadletter_find(int64 id, DeadLetter *letter)
{
	ScanKeyData key;
	RowScan		scan;
	bool		found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = iotmq_row_scan(CATALOG_DEAD_MESSAGE, INDEX_DEAD_MESSAGE_ID, &key, 1, NULL);
	found = iotmq_deadletter_next(&scan, letter);
	iotmq_row_scan_end(&scan);
	return found;
}

/* Marks a dead letter as redriven; false: it is none any more. */
bool
iotmq_deadletter_redrive(int64 id)
{
	DeadRow		row;

	if (lock_dead(id, true, &row) != ROW_OK)
		return false;
	row.values[Anum_redriven - 1] = BoolGetDatum(true);
	update_row(&row);
	return true;
}

/* Deletes a dead letter that is older; false: it is none any more. */
bool
iotmq_deadletter_purge(int64 id, TimestampTz older_than)
{
	DeadRow		row;

	if (lock_dead(id, true, &row) != ROW_OK ||
		DatumGetTimestampTz(row.values[Anum_dead_at - 1]) >= older_than)
		return false;
	iotmq_row_delete(CATALOG_DEAD_MESSAGE, &row.tid);
	return true;
}

/* A redriven message is a dead letter again, as it was; without wait unless somebody has it. */
void
iotmq_deadletter_return(HeldCursor *held, int64 id, bool wait)
{
	DeadRow		row;

	if (lock_row(id, wait, &row) != ROW_OK || !DatumGetBool(row.values[Anum_redriven - 1]))
		return;
	row.values[Anum_redriven - 1] = BoolGetDatum(false);
	update_row(&row);
	held->state.dead_letters++;
}

/*
 * deadletter_own() RETURNS SETOF record: the dead letters of the groups that the current user
 * may consume as, by the snapshot of the query; none for an administrator, who reads the
 * table. Columns: see sql/group/deadletter.sql.
 */
PG_FUNCTION_INFO_V1(iotmq_deadletter_own);
Datum
iotmq_deadletter_own(PG_FUNCTION_ARGS)
{
	int			n;
	int32	   *topic_ids = iotmq_catalog_topic_ids(&n);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n && !iotmq_access_is_admin(); i++)
	{
		Topic	   *topic = iotmq_catalog_topic_by_id(topic_ids[i]);

		for (int g = 0; topic != NULL && g < topic->ngroups; g++)
			for (int z = 0; z < topic->nzones && iotmq_access_may_consume(&topic->groups[g]); z++)
				put_letters((ReturnSetInfo *) fcinfo->resultinfo, iotmq_catalog_cursor(&topic->groups[g], &topic->zones[z]),
							topic->name, topic->groups[g].name);
	}
	return (Datum) 0;
}

static void
put_letters(ReturnSetInfo *result, int32 cursor_id, const char *topic, const char *group)
{
	static const int columns[] = {
		Anum_id, 0, 0, Anum_message + Anum_zone - 1, Anum_message + Anum_msg_offset - 1,
		Anum_message + Anum_device_id - 1, Anum_message + Anum_tag - 1,
		Anum_message + Anum_payload - 1, Anum_message + Anum_body - 1,
		Anum_message + Anum_properties - 1, Anum_message + Anum_published_at - 1,
		Anum_attempts, Anum_reason, Anum_dead_at, Anum_message + Anum_message_key - 1
	};
	ScanKeyData key;
	RowScan		scan;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
	scan = iotmq_row_scan(CATALOG_DEAD_MESSAGE, INDEX_DEAD_MESSAGE_AGE, &key, 1, GetActiveSnapshot());
	while (iotmq_row_scan_next(&scan))
	{
		Datum		values[lengthof(columns)];
		bool		isnull[lengthof(columns)];

		slot_getallattrs(scan.slot);
		for (int i = 0; i < (int) lengthof(columns); i++)
			if (columns[i] != 0)
			{
				values[i] = scan.slot->tts_values[columns[i] - 1];
				isnull[i] = scan.slot->tts_isnull[columns[i] - 1];
			}
		values[1] = CStringGetTextDatum(topic);
		values[2] = CStringGetTextDatum(group);
		isnull[1] = isnull[2] = false;
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	iotmq_row_scan_end(&scan);
}

/* The message has been given up before: that is one dead letter. False: there is none. */
static bool
bury_again(HeldCursor *held, const Failure *failure)
{
	int32		cursor_id = held->state.cursor_id;
	RowScan		scan = scan_message(INDEX_DEAD_MESSAGE, cursor_id, failure->msg_offset);
	DeadLetter	letter;
	bool		buried = false;

	while (iotmq_deadletter_next(&scan, &letter))
	{
		DeadRow		row;
		DeadRow		before;

		/* see above: nobody else has one that is marked */
		if ((letter.redriven ? lock_row(letter.id, true, &row) :
			 lock_dead(letter.id, false, &row)) != ROW_OK)
			continue;
		if (buried)
		{
			iotmq_row_delete(CATALOG_DEAD_MESSAGE, &row.tid);
			held->state.dead_letters -= letter.redriven ? 0 : 1;
			continue;
		}
		before = row;
		set_fate(&row, cursor_id, failure);
		if (failure->attempt == 0)
		{
			/* nothing became of it since it was redriven */
			row.values[Anum_attempts - 1] = before.values[Anum_attempts - 1];
			if (failure->reason == NULL)
			{
				row.values[Anum_reason - 1] = before.values[Anum_reason - 1];
				row.isnull[Anum_reason - 1] = before.isnull[Anum_reason - 1];
			}
		}
		update_row(&row);
		held->state.dead_letters += letter.redriven ? 1 : 0;
		buried = true;
	}
	iotmq_row_scan_end(&scan);
	return buried;
}

/* Fills in how a message ended. */
static void
set_fate(DeadRow *row, int32 cursor_id, const Failure *failure)
{
	row->values[Anum_redriven - 1] = BoolGetDatum(false);
	row->values[Anum_dead_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	row->values[Anum_cursor_id - 1] = Int32GetDatum(cursor_id);
	row->values[Anum_attempts - 1] = Int32GetDatum(failure->attempt);
	row->values[Anum_reason - 1] = PointerGetDatum(failure->reason);
	row->isnull[Anum_reason - 1] = failure->reason == NULL;
}

/* The message's rows, all of them or those redriven. */
static RowScan
scan_message(CatalogIndex index, int32 cursor_id, int64 msg_offset)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(msg_offset));
	return iotmq_row_scan(CATALOG_DEAD_MESSAGE, index, keys, 2, NULL);
}

/*
 * The message's row that is redriven, with all that lies outside of it, which may be elsewhere
 * soon; false: there is none.
 */
static bool
find_redriven(int32 cursor_id, int64 msg_offset, DeadRow *row)
{
	RowScan		scan = scan_message(INDEX_DEAD_MESSAGE_REDRIVEN, cursor_id, msg_offset);
	bool		found = iotmq_row_scan_next(&scan);

	if (found)
	{
		TupleDesc	desc = RelationGetDescr(scan.rel);

		copy_row(scan.slot, desc, row);
		for (int i = 0; i < Natts_dead; i++)
			if (TupleDescAttr(desc, i)->attlen == -1 && !row->isnull[i] &&
				VARATT_IS_EXTERNAL(DatumGetPointer(row->values[i])))
				row->values[i] = PointerGetDatum(detoast_external_attr((struct varlena *)
																	   DatumGetPointer(row->values[i])));
	}
	iotmq_row_scan_end(&scan);
	return found;
}

/* Locks a row to the end of the transaction and reads it. */
static RowResult
lock_row(int64 id, bool wait, DeadRow *row)
{
	Relation	rel = table_open(iotmq_relation_table(CATALOG_DEAD_MESSAGE), RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData key;
	RowResult	result;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	result = iotmq_row_lock(rel, iotmq_relation_index(INDEX_DEAD_MESSAGE_ID), &key, 1, wait, slot);
	if (result == ROW_OK)
		copy_row(slot, RelationGetDescr(rel), row);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return result;
}

/*
 * Locks a row that is not marked, and reads it; ROW_GONE: it is marked now. What is locked
 * is the version that was seen: while another one is made, there is no lock.
 */
static RowResult
lock_dead(int64 id, bool wait, DeadRow *row)
{
	Relation	rel = table_open(iotmq_relation_table(CATALOG_DEAD_MESSAGE), RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData key;
	RowResult	result;
	TM_Result	locked;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	do
	{
		TM_FailureData failure;
		ItemPointerData tid;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		result = ROW_GONE;
		if (!iotmq_row_peek(rel, iotmq_relation_index(INDEX_DEAD_MESSAGE_ID), &key, 1, slot) ||
			DatumGetBool(slot_getattr(slot, Anum_redriven, &isnull)))
			break;
		tid = slot->tts_tid;
		ExecClearTuple(slot);
		locked = table_tuple_lock(rel, &tid, SnapshotAny, slot, GetCurrentCommandId(true),
								  LockTupleExclusive, wait ? LockWaitBlock : LockWaitSkip, 0,
								  &failure);
		result = locked == TM_Ok ? ROW_OK : ROW_LOCKED;
	} while (locked != TM_Ok && locked != TM_WouldBlock);
	if (result == ROW_OK)
		copy_row(slot, RelationGetDescr(rel), row);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return result;
}

static void
update_row(DeadRow *row)
{
	iotmq_row_update(CATALOG_DEAD_MESSAGE, &row->tid, row->values, row->isnull, Natts_dead);
}

static void
copy_row(TupleTableSlot *slot, TupleDesc desc, DeadRow *row)
{
	HeapTuple	tuple = ExecCopySlotHeapTuple(slot);

	for (int i = 0; i < Natts_dead; i++)
		row->values[i] = heap_getattr(tuple, i + 1, desc, &row->isnull[i]);
	row->tid = slot->tts_tid;
}

static void
read_letter(TupleTableSlot *slot, DeadLetter *letter)
{
	int			device = Anum_message + Anum_device_id - 1;

	slot_getsomeattrs(slot, device);
	letter->id = DatumGetInt64(slot->tts_values[Anum_id - 1]);
	letter->cursor_id = DatumGetInt32(slot->tts_values[Anum_cursor_id - 1]);
	letter->dead_at = DatumGetTimestampTz(slot->tts_values[Anum_dead_at - 1]);
	letter->redriven = DatumGetBool(slot->tts_values[Anum_redriven - 1]);
	letter->msg_offset = DatumGetInt64(slot->tts_values[Anum_message + Anum_msg_offset - 2]);
	letter->device = DatumGetTextPCopy(slot->tts_values[device - 1]);
}
