/*
 * row.c - hot rows: the newest version of a row, found and locked.
 *
 * Rows of position and lease change at every batch. They are found here with a
 * snapshot of the moment, so that it works the same at every isolation level, and
 * without the executor. (A dirty snapshot would save taking one, but an index scan
 * with it can miss a row that is updated meanwhile: it has read the page of the
 * index before the new version's entry, and visits the old version after its end.)
 *
 * An index is read backwards: of several versions of one row the newest mostly
 * has the highest address, so it is met before the dead ones that a held-back
 * xmin keeps.
 *
 * Locks: RowExclusiveLock on the table, kept to the end of the transaction as
 * any writer does; the row lock itself, likewise.
 */
#include "iotmq.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "utils/snapmgr.h"

#define LOOKS 3					/* at a row that is deleted and made again */

static bool find(Relation rel, Oid index, ScanKey keys, int nkeys, TupleTableSlot *slot);

/*
 * Locks the row that the keys name and puts its newest version into slot.
 * ROW_GONE: no such row, or deleted meanwhile. ROW_LOCKED: someone has it
 * (only without wait).
 */
RowResult
iotmq_row_lock(Relation rel, Oid index, ScanKey keys, int nkeys, bool wait,
			   TupleTableSlot *slot)
{
	for (int look = 0; look < LOOKS; look++)
	{
		TM_FailureData failure;
		ItemPointerData tid;

		if (!find(rel, index, keys, nkeys, slot))
			return ROW_GONE;
		tid = slot->tts_tid;
		ExecClearTuple(slot);
		switch (table_tuple_lock(rel, &tid, SnapshotAny, slot, GetCurrentCommandId(true),
								 LockTupleExclusive,
								 wait ? LockWaitBlock : LockWaitSkip,
								 TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure))
		{
			case TM_Ok:
				return ROW_OK;
			case TM_WouldBlock:
				return ROW_LOCKED;
			case TM_SelfModified:
			case TM_Deleted:
			case TM_Updated:
			case TM_Invisible:
				break;			/* look again */
			default:
				elog(ERROR, "unexpected result of locking a row of %s",
					 RelationGetRelationName(rel));
		}
	}
	return ROW_GONE;
}

/* Puts the newest committed version into slot without locking it; false: no such row. */
bool
iotmq_row_peek(Relation rel, Oid index, ScanKey keys, int nkeys, TupleTableSlot *slot)
{
	return find(rel, index, keys, nkeys, slot);
}

/*
 * Scans a catalog forward in the order of an index, not locked: what is committed
 * by that snapshot (NULL: at this moment), and our own changes.
 */
RowScan
iotmq_row_scan(Catalog catalog, CatalogIndex index, ScanKey keys, int nkeys, Snapshot snapshot)
{
	RowScan		scan;

	scan.rel = table_open(iotmq_catalog_relid(catalog), AccessShareLock);
	scan.index = index_open(iotmq_catalog_index(index), AccessShareLock);
	scan.slot = table_slot_create(scan.rel, NULL);
	scan.snapshot = RegisterSnapshot(snapshot != NULL ? snapshot : GetLatestSnapshot());
	scan.scan = INDEX_BEGINSCAN(scan.rel, scan.index, scan.snapshot, nkeys);
	index_rescan(scan.scan, keys, nkeys, NULL, 0);
	return scan;
}

void
iotmq_row_scan_end(RowScan *scan)
{
	index_endscan(scan->scan);
	UnregisterSnapshot(scan->snapshot);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, AccessShareLock);
	table_close(scan->rel, AccessShareLock);
}

static bool
find(Relation rel, Oid index, ScanKey keys, int nkeys, TupleTableSlot *slot)
{
	Relation	idx = index_open(index, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = INDEX_BEGINSCAN(rel, idx, snapshot, nkeys);
	bool		found;

	index_rescan(scan, keys, nkeys, NULL, 0);
	found = index_getnext_slot(scan, BackwardScanDirection, slot);
	if (found)
		ExecMaterializeSlot(slot);
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	index_close(idx, AccessShareLock);
	return found;
}
