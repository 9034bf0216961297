/*
 * row.c - hot rows: the newest version of a row, found and locked.
 *
 * Rows of position and lease change at every batch. They are read here with
 * snapshots that see the newest committed state (and our own changes), so that
 * they work the same at every isolation level, and without the executor.
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
#include "storage/lmgr.h"
#include "utils/snapmgr.h"

#define LOOKS 3					/* at a row that moves while we look for it */

static bool find(Relation rel, Oid index, ScanKey keys, int nkeys,
				 Snapshot snapshot, TupleTableSlot *slot);

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
		SnapshotData dirty;
		TM_FailureData failure;
		ItemPointerData tid;

		InitDirtySnapshot(dirty);
		if (!find(rel, index, keys, nkeys, &dirty, slot))
			continue;
		tid = slot->tts_tid;
		ExecClearTuple(slot);
		switch (table_tuple_lock(rel, &tid, &dirty, slot, GetCurrentCommandId(true),
								 LockTupleExclusive,
								 wait ? LockWaitBlock : LockWaitSkip,
								 TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure))
		{
			case TM_Ok:
				return ROW_OK;
			case TM_WouldBlock:
				return ROW_LOCKED;
			case TM_Invisible:	/* inserted by a transaction that is still open */
				if (!wait)
					return ROW_LOCKED;
				if (TransactionIdIsValid(dirty.xmin))
					XactLockTableWait(dirty.xmin, rel, &tid, XLTW_Lock);
				break;
			case TM_SelfModified:
			case TM_Deleted:
			case TM_Updated:
				break;			/* look again: gone, or moved just now */
			default:
				elog(ERROR, "unexpected result of locking a row of %s",
					 RelationGetRelationName(rel));
		}
	}
	return ROW_GONE;
}

/* Puts the newest committed version into slot without locking it; false if none was seen. */
bool
iotmq_row_peek(Relation rel, Oid index, ScanKey keys, int nkeys, TupleTableSlot *slot)
{
	for (int look = 0; look < LOOKS; look++)
		if (find(rel, index, keys, nkeys, SnapshotSelf, slot))
			return true;
	return false;
}

/*
 * Scans a catalog forward in the order of an index, not locked. A row that another
 * transaction is changing is met in one version or both: none is overlooked.
 */
RowScan
iotmq_row_scan(Catalog catalog, CatalogIndex index, ScanKey keys, int nkeys)
{
	static SnapshotData dirty;	/* a scan only leaves notes in it, which nobody reads */
	RowScan		scan;

	InitDirtySnapshot(dirty);
	scan.rel = table_open(iotmq_catalog_relid(catalog), AccessShareLock);
	scan.index = index_open(iotmq_catalog_index(index), AccessShareLock);
	scan.slot = table_slot_create(scan.rel, NULL);
	scan.scan = INDEX_BEGINSCAN(scan.rel, scan.index, &dirty, nkeys);
	index_rescan(scan.scan, keys, nkeys, NULL, 0);
	return scan;
}

void
iotmq_row_scan_end(RowScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, AccessShareLock);
	table_close(scan->rel, AccessShareLock);
}

static bool
find(Relation rel, Oid index, ScanKey keys, int nkeys, Snapshot snapshot, TupleTableSlot *slot)
{
	Relation	idx = index_open(index, AccessShareLock);
	IndexScanDesc scan = INDEX_BEGINSCAN(rel, idx, snapshot, nkeys);
	bool		found;

	index_rescan(scan, keys, nkeys, NULL, 0);
	found = index_getnext_slot(scan, BackwardScanDirection, slot);
	if (found)
		ExecMaterializeSlot(slot);
	index_endscan(scan);
	index_close(idx, NoLock);
	return found;
}
