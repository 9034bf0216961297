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
#include "miscadmin.h"
#include "utils/snapmgr.h"

#define LOOKS 3					/* at a row that is deleted and made again */

static RowScan begin(Catalog catalog, Snapshot snapshot);
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
	RowScan		scan = begin(catalog, snapshot);

	scan.index = index_open(iotmq_catalog_index(index), AccessShareLock);
	scan.index_scan = INDEX_BEGINSCAN(scan.rel, scan.index, scan.snapshot, nkeys);
	index_rescan(scan.index_scan, keys, nkeys, NULL, 0);
	return scan;
}

/* Begins the scan by an index again, with other values of as many keys. */
void
iotmq_row_rescan(RowScan *scan, ScanKey keys, int nkeys)
{
	index_rescan(scan->index_scan, keys, nkeys, NULL, 0);
}

/* Scans all of a catalog, likewise, in no order. */
RowScan
iotmq_row_scan_all(Catalog catalog, Snapshot snapshot)
{
	RowScan		scan = begin(catalog, snapshot);

	scan.table_scan = table_beginscan(scan.rel, scan.snapshot, 0, NULL);
	return scan;
}

/* Puts the next row into the scan's slot; false: no more. */
bool
iotmq_row_scan_next(RowScan *scan)
{
	CHECK_FOR_INTERRUPTS();
	if (scan->index != NULL)
		return index_getnext_slot(scan->index_scan, ForwardScanDirection, scan->slot);
	return table_scan_getnextslot(scan->table_scan, ForwardScanDirection, scan->slot);
}

void
iotmq_row_scan_end(RowScan *scan)
{
	if (scan->index != NULL)
	{
		index_endscan(scan->index_scan);
		index_close(scan->index, AccessShareLock);
	}
	else
		table_endscan(scan->table_scan);
	UnregisterSnapshot(scan->snapshot);
	ExecDropSingleTupleTableSlot(scan->slot);
	table_close(scan->rel, AccessShareLock);
}

static RowScan
begin(Catalog catalog, Snapshot snapshot)
{
	RowScan		scan = {.rel = table_open(iotmq_catalog_relid(catalog), AccessShareLock)};

	scan.slot = table_slot_create(scan.rel, NULL);
	scan.snapshot = RegisterSnapshot(snapshot != NULL ? snapshot : GetLatestSnapshot());
	return scan;
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
