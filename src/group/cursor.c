/*
 * cursor.c - where a group stands in a zone: one row of iotmq_internal.cursor_state.
 *
 * The struct CursorState mirrors the row (all columns NOT NULL and of fixed length).
 * Whoever claims, voids or commits holds the row's lock to the end of the transaction:
 * so one transaction at a time moves a cursor, and the others of the group take another
 * zone. A held cursor is changed in memory, by the functions of the modules that own a
 * fact, and stored once, when it is released.
 *
 * next_expiry, next_due and oldest_lease are bounds that spare a look at leases and waiting
 * messages: they may be too early or too low, never too late or too high.
 */
#include "group/group.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

static void set_key(ScanKey key, int32 cursor_id);
static void read_slot(TupleTableSlot *slot, CursorState *state);

/* The newest committed state, not locked; false if the cursor is gone. */
bool
iotmq_cursor_peek(int32 cursor_id, CursorState *state)
{
	Relation	rel = table_open(iotmq_relation_table(CATALOG_CURSOR_STATE), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData key;
	bool		found;

	set_key(&key, cursor_id);
	found = iotmq_row_peek(rel, iotmq_relation_index(INDEX_CURSOR_STATE), &key, 1, slot);
	if (found)
		read_slot(slot, state);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return found;
}

/* Locks the cursor to the end of the transaction, as one of its users: see cursor_lock.c. */
RowResult
iotmq_cursor_hold(const Cursor *cursor, bool wait, HeldCursor *held)
{
	Relation	rel;
	TupleTableSlot *slot;
	ScanKeyData key;
	RowResult	result;

	if (!iotmq_cursor_lock_use(cursor->cursor_id, wait))
		return ROW_LOCKED;
	rel = table_open(iotmq_relation_table(CATALOG_CURSOR_STATE), RowExclusiveLock);
	slot = table_slot_create(rel, NULL);
	set_key(&key, cursor->cursor_id);
	result = iotmq_row_lock(rel, iotmq_relation_index(INDEX_CURSOR_STATE), &key, 1, wait, slot);
	if (result == ROW_OK)
	{
		held->cursor = cursor;
		read_slot(slot, &held->state);
		held->before = held->state;
		held->tid = slot->tts_tid;
		held->writes_waiting = false;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return result;
}

/* What redelivery.c has added is seen from here on. */
void
iotmq_cursor_flush(HeldCursor *held)
{
	if (!held->writes_waiting)
		return;
	iotmq_row_writer_end(&held->waiting);
	held->writes_waiting = false;
	CommandCounterIncrement();
}

/* Stores what was changed. The lock stays; the cursor must not be changed any more. */
void
iotmq_cursor_release(HeldCursor *held)
{
	const CursorState *state = &held->state;
	Datum		values[] = {
		Int32GetDatum(state->cursor_id),
		Int64GetDatum(state->next_offset),
		Int64GetDatum(state->stable.offset),
		Int64GetDatum(state->stable.sample_offset),
		FullTransactionIdGetDatum(state->stable.sample_xid),
		Int64GetDatum(state->last_lease),
		Int64GetDatum(state->oldest_lease),
		TimestampTzGetDatum(state->next_expiry),
		TimestampTzGetDatum(state->next_due),
		TimestampTzGetDatum(state->last_consumed_at),
		Int64GetDatum(state->expired_unread),
		Int64GetDatum(state->redeliveries),
		Int64GetDatum(state->delivered_total),
		Int64GetDatum(state->retried_total),
		Int64GetDatum(state->dead_total),
		Int64GetDatum(state->dead_letters),
		Int64GetDatum(state->next_redriven)
	};
	bool		isnull[lengthof(values)] = {false};

	iotmq_cursor_flush(held);
	if (memcmp(state, &held->before, sizeof(CursorState)) != 0)
		iotmq_row_update(CATALOG_CURSOR_STATE, &held->tid, values, isnull, lengthof(values));
}

/* A lease expires then. */
void
iotmq_cursor_expect_expiry(HeldCursor *held, TimestampTz at)
{
	held->state.next_expiry = Min(held->state.next_expiry, at);
}

/* All leases were looked at: none expires earlier. */
void
iotmq_cursor_next_expiry_is(HeldCursor *held, TimestampTz at)
{
	held->state.next_expiry = at;
}

/* Something that waits is due then. */
void
iotmq_cursor_expect_due(HeldCursor *held, TimestampTz at)
{
	held->state.next_due = Min(held->state.next_due, at);
}

/* All that waits was looked at: nothing is due earlier. */
void
iotmq_cursor_next_due_is(HeldCursor *held, TimestampTz at)
{
	held->state.next_due = at;
}

/* All leases were looked at: that one is the oldest; 0: there is none. */
void
iotmq_cursor_oldest_lease_is(HeldCursor *held, int64 lease_id)
{
	held->state.oldest_lease = lease_id != 0 ? lease_id : held->state.last_lease + 1;
}

/* The states of all cursors. */
RowScan
iotmq_cursor_scan(Snapshot snapshot)
{
	return iotmq_row_scan_all(CATALOG_CURSOR_STATE, snapshot);
}

/* The next one; false: no more. */
bool
iotmq_cursor_scan_next(RowScan *scan, CursorState *state)
{
	if (!iotmq_row_scan_next(scan))
		return false;
	read_slot(scan->slot, state);
	return true;
}

/* Adds what the zone's cursors know of it to what this backend remembers. */
void
iotmq_cursor_teach(const Topic *topic, const Zone *zone)
{
	for (int g = 0; g < topic->ngroups; g++)
	{
		CursorState state;

		if (iotmq_cursor_peek(iotmq_catalog_cursor(&topic->groups[g], zone), &state))
			iotmq_stable_merge(&iotmq_stable_memory(zone)->stable, &state.stable);
	}
}

static void
set_key(ScanKey key, int32 cursor_id)
{
	ScanKeyInit(key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor_id));
}

static void
read_slot(TupleTableSlot *slot, CursorState *state)
{
	bool		shouldfree;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &shouldfree);

	memcpy(state, GETSTRUCT(tuple), sizeof(CursorState));
	if (shouldfree)
		heap_freetuple(tuple);
}
