/*
 * position.c - where a cursor stands: one row of iotmq.position.
 *
 * The struct Position mirrors the row (all columns NOT NULL and of fixed
 * length). Whoever claims, voids or commits a position holds its row lock until
 * the end of the transaction; so per group and zone one transaction at a time
 * moves the cursor, and the others of the group take another zone.
 */
#include "iotmq.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

static void set_key(ScanKey key, int32 cursor_id);
static void read_slot(TupleTableSlot *slot, Position *position);

/* The newest committed state, not locked; false if the cursor is gone. */
bool
iotmq_position_peek(int32 cursor_id, Position *position)
{
	Relation	rel = table_open(iotmq_catalog_relid(CATALOG_POSITION), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData key;
	bool		found;

	set_key(&key, cursor_id);
	found = iotmq_row_peek(rel, iotmq_catalog_index(INDEX_POSITION), &key, 1, slot);
	if (found)
		read_slot(slot, position);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return found;
}

/* Locks the row to the end of the transaction. */
RowResult
iotmq_position_lock(int32 cursor_id, bool wait, Position *position, ItemPointer tid)
{
	Relation	rel = table_open(iotmq_catalog_relid(CATALOG_POSITION), RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData key;
	RowResult	result;

	set_key(&key, cursor_id);
	result = iotmq_row_lock(rel, iotmq_catalog_index(INDEX_POSITION), &key, 1, wait, slot);
	if (result == ROW_OK)
	{
		read_slot(slot, position);
		*tid = slot->tts_tid;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return result;
}

/* Writes a new version of the row that iotmq_position_lock locked at tid. */
void
iotmq_position_store(const Position *position, ItemPointer tid)
{
	Relation	rel = table_open(iotmq_catalog_relid(CATALOG_POSITION), RowExclusiveLock);
	Datum		values[] = {
		Int32GetDatum(position->cursor_id),
		Int64GetDatum(position->next_offset),
		Int64GetDatum(position->stable_offset),
		Int64GetDatum(position->sample_offset),
		FullTransactionIdGetDatum(position->sample_xid),
		Int64GetDatum(position->last_lease),
		Int64GetDatum(position->oldest_lease),
		TimestampTzGetDatum(position->next_expiry),
		TimestampTzGetDatum(position->next_due),
		TimestampTzGetDatum(position->last_consumed_at),
		Int64GetDatum(position->expired_unread),
		Int64GetDatum(position->waiting),
		Int64GetDatum(position->delivered_total),
		Int64GetDatum(position->retried_total),
		Int64GetDatum(position->dead_total),
		Int64GetDatum(position->dead_letters)
	};
	bool		isnull[lengthof(values)] = {false};
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel), values, isnull);

	CatalogTupleUpdate(rel, tid, tuple);
	CommandCounterIncrement();
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}

/* The positions of all cursors. */
RowScan
iotmq_position_scan(Snapshot snapshot)
{
	return iotmq_row_scan_all(CATALOG_POSITION, snapshot);
}

/* The next one; false: no more. */
bool
iotmq_position_scan_next(RowScan *scan, Position *position)
{
	if (!iotmq_row_scan_next(scan))
		return false;
	read_slot(scan->slot, position);
	return true;
}

/* Adds what the zone's cursors know of it to what this backend knows. */
void
iotmq_position_teach(const Topic *topic, const Zone *zone)
{
	for (int g = 0; g < topic->ngroups; g++)
	{
		Position	position;

		if (iotmq_position_peek(topic->groups[g].cursors[zone - topic->zones], &position))
			iotmq_stable_merge(iotmq_stable_state(zone->sequence), position.stable_offset,
							   position.sample_offset, position.sample_xid);
	}
}

/* Copies what this backend knows of the zone, for the next call on another one. */
void
iotmq_position_note_stable(Position *position, const StableState *stable)
{
	position->stable_offset = Max(position->stable_offset, stable->stable_offset);
	if (stable->sample_offset >= position->stable_offset)
	{
		position->sample_offset = stable->sample_offset;
		position->sample_xid = stable->sample_xid;
	}
	else
	{
		position->sample_offset = 0;
		position->sample_xid = InvalidFullTransactionId;
	}
}

static void
set_key(ScanKey key, int32 cursor_id)
{
	ScanKeyInit(key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
}

static void
read_slot(TupleTableSlot *slot, Position *position)
{
	bool		shouldfree;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &shouldfree);

	Assert(!HeapTupleHasNulls(tuple));
	memcpy(position, GETSTRUCT(tuple), sizeof(Position));
	if (shouldfree)
		heap_freetuple(tuple);
}
