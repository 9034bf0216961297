/*
 * row.c - rows of our own tables: the newest version found and locked, rows written.
 *
 * Rows of cursor_state and lease change at every batch. They are found here with a
 * snapshot of the moment, so that it works the same at every isolation level, and
 * without the executor. (A dirty snapshot would save taking one, but an index scan
 * with it can miss a row that is updated meanwhile: it has read the page of the
 * index before the new version's entry, and visits the old version after its end.)
 *
 * An index is read backwards: of several versions of one row the newest mostly
 * has the highest address, so it is met before the dead ones that a held-back
 * xmin keeps.
 *
 * Our tables are user tables to PostgreSQL: indexes are maintained as the executor does,
 * with predicates and expressions; columns that somebody has added are NULL.
 *
 * The place of a row (its tid), and what of it lies elsewhere (TOAST), are only good as long
 * as the table is locked: VACUUM FULL, CLUSTER and ALTER TABLE write all rows anew. Who
 * changes a row that a scan has found scans to change.
 *
 * Locks: RowExclusiveLock on the table, kept to the end of the transaction as
 * any writer does; the row lock itself, likewise. Scans that only look: AccessShareLock, to
 * their end.
 */
#include "core/core.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "core/stop.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#define LOOKS 3					/* at a row that is deleted and made again */

static RowScan begin(Catalog catalog, LOCKMODE lock, Snapshot snapshot);
static void begin_index(RowScan *scan, CatalogIndex index, ScanKey keys, int nkeys);
static void fill_slot(TupleTableSlot *slot, Relation rel, const Datum *values,
					  const bool *isnull, int n);
static void insert_index_entries(Relation rel, TupleTableSlot *slot, bool only_summarizing);
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
 * Scans a catalog in the order of an index (see RowScan), not locked: what is committed
 * by that snapshot (NULL: at this moment), and our own changes.
 */
RowScan
iotmq_row_scan(Catalog catalog, CatalogIndex index, ScanKey keys, int nkeys, Snapshot snapshot)
{
	RowScan		scan = begin(catalog, AccessShareLock, snapshot);

	begin_index(&scan, index, keys, nkeys);
	return scan;
}

/*
 * The same at this moment, of rows that are going to be changed, by their tids: these stay
 * good when the scan has ended, to the end of the transaction.
 */
RowScan
iotmq_row_scan_to_change(Catalog catalog, CatalogIndex index, ScanKey keys, int nkeys)
{
	RowScan		scan = begin(catalog, RowExclusiveLock, NULL);

	scan.to_change = true;
	begin_index(&scan, index, keys, nkeys);
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
	RowScan		scan = begin(catalog, AccessShareLock, snapshot);

	scan.table_scan = table_beginscan(scan.rel, scan.snapshot, 0, NULL);
	return scan;
}

/* Puts the next row into the scan's slot; false: no more. */
bool
iotmq_row_scan_next(RowScan *scan)
{
	CHECK_FOR_INTERRUPTS();
	if (scan->index != NULL)
		return index_getnext_slot(scan->index_scan,
								  scan->backward ? BackwardScanDirection : ForwardScanDirection,
								  scan->slot);
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
	table_close(scan->rel, scan->to_change ? NoLock : AccessShareLock);
}

/* Adds a row of n columns. */
void
iotmq_row_insert(Catalog catalog, const Datum *values, const bool *isnull, int n)
{
	RowWriter	writer = iotmq_row_writer_begin(catalog);

	iotmq_row_writer_add(&writer, values, isnull, n);
	iotmq_row_writer_end(&writer);
	CommandCounterIncrement();
}

/* Opens a catalog for many new rows. */
RowWriter
iotmq_row_writer_begin(Catalog catalog)
{
	RowWriter	writer = {
		.rel = table_open(iotmq_relation_table(catalog), RowExclusiveLock),
		.estate = CreateExecutorState(),
		.target = makeNode(ResultRelInfo)
	};

	writer.slot = table_slot_create(writer.rel, NULL);
	InitResultRelInfo(writer.target, writer.rel, 0, NULL, 0);
	ExecOpenIndices(writer.target, false);
	return writer;
}

/* Adds a row of n columns; this transaction sees it after the next CommandCounterIncrement. */
void
iotmq_row_writer_add(RowWriter *writer, const Datum *values, const bool *isnull, int n)
{
	fill_slot(writer->slot, writer->rel, values, isnull, n);
	table_tuple_insert(writer->rel, writer->slot, GetCurrentCommandId(true), 0, NULL);
	(void) INSERT_INDEX_TUPLES(writer->target, writer->slot, writer->estate, false, false);
	ResetPerTupleExprContext(writer->estate);
}

void
iotmq_row_writer_end(RowWriter *writer)
{
	ExecCloseIndices(writer->target);
	ExecDropSingleTupleTableSlot(writer->slot);
	FreeExecutorState(writer->estate);
	table_close(writer->rel, NoLock);
}

/*
 * Writes a new version of a row, which the caller has locked, or which nobody else can change;
 * its tid is of iotmq_row_lock or a scan to change.
 */
void
iotmq_row_update(Catalog catalog, ItemPointer tid, const Datum *values, const bool *isnull, int n)
{
	Relation	rel;
	TupleTableSlot *slot;
	UpdateIndexes indexes;
	LockTupleMode mode;
	TM_FailureData failure;

	STOP("row_change");
	rel = table_open(iotmq_relation_table(catalog), RowExclusiveLock);
	slot = table_slot_create(rel, NULL);
	fill_slot(slot, rel, values, isnull, n);
	if (table_tuple_update(rel, tid, slot, GetCurrentCommandId(true), InvalidSnapshot,
						   InvalidSnapshot, true, &failure, &mode, &indexes) != TM_Ok)
		elog(ERROR, "row of %s changed under its lock", RelationGetRelationName(rel));
	if (MUST_UPDATE_INDEXES(indexes))
		insert_index_entries(rel, slot, ONLY_SUMMARIZING(indexes));
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

/* Deletes a row, likewise. */
void
iotmq_row_delete(Catalog catalog, ItemPointer tid)
{
	Relation	rel;
	TM_FailureData failure;

	STOP("row_change");
	rel = table_open(iotmq_relation_table(catalog), RowExclusiveLock);
	if (table_tuple_delete(rel, tid, GetCurrentCommandId(true), InvalidSnapshot,
						   InvalidSnapshot, true, &failure, false) != TM_Ok)
		elog(ERROR, "row of %s changed under its lock", RelationGetRelationName(rel));
	table_close(rel, NoLock);
	CommandCounterIncrement();
}

static RowScan
begin(Catalog catalog, LOCKMODE lock, Snapshot snapshot)
{
	RowScan		scan = {.rel = table_open(iotmq_relation_table(catalog), lock)};

	scan.slot = table_slot_create(scan.rel, NULL);
	scan.snapshot = RegisterSnapshot(snapshot != NULL ? snapshot : GetLatestSnapshot());
	return scan;
}

static void
begin_index(RowScan *scan, CatalogIndex index, ScanKey keys, int nkeys)
{
	scan->index = index_open(iotmq_relation_index(index), AccessShareLock);
	scan->index_scan = INDEX_BEGINSCAN(scan->rel, scan->index, scan->snapshot, nkeys);
	index_rescan(scan->index_scan, keys, nkeys, NULL, 0);
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

/* Puts these columns into a slot of the table, and NULL into any behind them. */
static void
fill_slot(TupleTableSlot *slot, Relation rel, const Datum *values, const bool *isnull, int n)
{
	int			natts = slot->tts_tupleDescriptor->natts;

	if (natts < n)
		elog(ERROR, "table %s has lost columns", RelationGetRelationName(rel));
	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, sizeof(Datum) * n);
	memcpy(slot->tts_isnull, isnull, sizeof(bool) * n);
	memset(slot->tts_isnull + n, true, sizeof(bool) * (natts - n));
	ExecStoreVirtualTuple(slot);
}

/* Of a new version of a row. */
static void
insert_index_entries(Relation rel, TupleTableSlot *slot, bool only_summarizing)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *rri = makeNode(ResultRelInfo);

	InitResultRelInfo(rri, rel, 0, NULL, 0);
	ExecOpenIndices(rri, false);
	(void) INSERT_INDEX_TUPLES(rri, slot, estate, true, only_summarizing);
	ExecCloseIndices(rri);
	FreeExecutorState(estate);
}
