/*
 * segment_scan.c - the rows of one segment, by offset.
 *
 * Rows are read whatever became of them and judged by the newest state: so the
 * caller's isolation level does not matter, and no snapshot is taken.
 *
 * An index is read by whole pages, each some hundred entries of which every one is looked at.
 * Who says how many messages will be read is spared the rest: the index is read up to there,
 * and where that was not enough, a longer window further.
 *
 * Locks: AccessShareLock on the segment and its index, from the first use to
 * iotmq_segment_scan_close.
 */
#include "log/segment_scan.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

#define WINDOW_GROWTH 4
#define MOST_WINDOW 10000		/* after that all is read */

static bool open_index(SegmentScan *s);
static Oid	key_index(Relation heap);
static void read_window(SegmentScan *s, int64 from);
static void rescan(SegmentScan *s, int64 from, int64 to);

/*
 * A scan of the segment, which may have been dropped, that stands nowhere yet. After a restore
 * the oid of one that was dropped by hand may be that of anything.
 */
SegmentScan *
iotmq_segment_scan_open(Oid relid)
{
	SegmentScan *s = palloc0(sizeof(SegmentScan));

	s->heap = try_relation_open(relid, AccessShareLock);
	if (s->heap != NULL && s->heap->rd_rel->relkind != RELKIND_RELATION)
	{
		relation_close(s->heap, AccessShareLock);
		s->heap = NULL;
	}
	s->offset = NO_ROW;
	s->next_window = NO_ROW;
	return s;
}

void
iotmq_segment_scan_close(SegmentScan *s)
{
	if (s->index != NULL)
	{
		ExecDropSingleTupleTableSlot(s->slot);
		index_endscan(s->scan);
		index_close(s->index, AccessShareLock);
	}
	if (s->heap != NULL)
		table_close(s->heap, AccessShareLock);
	pfree(s);
}

/* Goes to the first row from that offset on. */
void
iotmq_segment_scan_seek(SegmentScan *s, int64 from)
{
	s->offset = NO_ROW;
	if (!open_index(s))
		return;
	read_window(s, from);
	iotmq_segment_scan_step(s);
}

/* Goes to the next row. */
void
iotmq_segment_scan_step(SegmentScan *s)
{
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	s->offset = NO_ROW;
	while (s->index != NULL && s->offset == NO_ROW)
	{
		if (index_getnext_slot(s->scan, ForwardScanDirection, s->slot))
			s->offset = DatumGetInt64(slot_getattr(s->slot, Anum_msg_offset, &isnull));
		else if (s->next_window == NO_ROW)
			break;
		else
			read_window(s, s->next_window);
	}
}

/* Is there a committed row with that offset? The scan stands there then, and can't go on. */
bool
iotmq_segment_scan_find(SegmentScan *s, int64 msg_offset)
{
	s->offset = NO_ROW;
	if (msg_offset == NO_ROW || !open_index(s))
		return false;
	rescan(s, msg_offset, msg_offset);
	do
		iotmq_segment_scan_step(s);
	while (s->offset == msg_offset && iotmq_segment_scan_fate(s) != FATE_COMMITTED);
	return s->offset == msg_offset;
}

/* Is there a committed row? The scan stands at the last one then, and can only go back. */
bool
iotmq_segment_scan_find_last(SegmentScan *s)
{
	s->offset = NO_ROW;
	if (!open_index(s))
		return false;
	rescan(s, PG_INT64_MIN, PG_INT64_MAX);
	return iotmq_segment_scan_step_back(s);
}

/* Goes to the committed row before; false: there is none. */
bool
iotmq_segment_scan_step_back(SegmentScan *s)
{
	bool		isnull;

	s->offset = NO_ROW;
	while (index_getnext_slot(s->scan, BackwardScanDirection, s->slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (iotmq_segment_scan_fate(s) == FATE_COMMITTED)
		{
			s->offset = DatumGetInt64(slot_getattr(s->slot, Anum_msg_offset, &isnull));
			return true;
		}
	}
	return false;
}

/* Is there a row with a lower offset, committed or open? The scan stands at the last then. */
bool
iotmq_segment_scan_find_below(SegmentScan *s, int64 msg_offset)
{
	bool		isnull;

	s->offset = NO_ROW;
	if (!open_index(s))
		return false;
	rescan(s, PG_INT64_MIN, msg_offset - 1);
	while (index_getnext_slot(s->scan, BackwardScanDirection, s->slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (iotmq_segment_scan_fate(s) != FATE_NOTHING)
		{
			s->offset = DatumGetInt64(slot_getattr(s->slot, Anum_msg_offset, &isnull));
			return true;
		}
	}
	return false;
}

/* What became of the row that the scan stands at. */
RowFate
iotmq_segment_scan_fate(SegmentScan *s)
{
	TransactionId writer;

	return iotmq_segment_scan_fate_of(s->slot, &writer);
}

/* What became of a row of a segment, and who wrote it, if that is open: the subtransaction. */
RowFate
iotmq_segment_scan_fate_of(TupleTableSlot *row, TransactionId *writer)
{
	BufferHeapTupleTableSlot *slot = (BufferHeapTupleTableSlot *) row;
	HeapTuple	tuple = slot->base.tuple;
	uint16		settled = HEAP_XMIN_COMMITTED | HEAP_XMAX_INVALID;
	SnapshotData dirty;
	bool		visible;

	if ((tuple->t_data->t_infomask & settled) == settled)
		return FATE_COMMITTED;	/* as somebody noted who looked before */

	InitDirtySnapshot(dirty);
	LockBuffer(slot->buffer, BUFFER_LOCK_SHARE);
	visible = HeapTupleSatisfiesVisibility(tuple, &dirty, slot->buffer);
	LockBuffer(slot->buffer, BUFFER_LOCK_UNLOCK);
	if (!visible)
		return FATE_NOTHING;
	*writer = HeapTupleHeaderGetXmin(tuple->t_data);
	if (TransactionIdIsValid(dirty.xmin) || TransactionIdIsCurrentTransactionId(*writer))
		return FATE_OPEN;
	return FATE_COMMITTED;
}

/*
 * Opens the index of a segment that has rows; false if it has none, or was dropped. Errors:
 * 55000 somebody has changed it so that it can't be read.
 */
static bool
open_index(SegmentScan *s)
{
	Oid			index;

	if (s->index != NULL)
		return true;
	if (s->heap == NULL || RelationGetNumberOfBlocks(s->heap) == 0)
		return false;
	index = key_index(s->heap);
	if (s->lenient && (!OidIsValid(index) || !iotmq_message_fits(RelationGetDescr(s->heap))))
	{
		s->unreadable = true;
		return false;
	}
	iotmq_message_require(s->heap);
	if (!OidIsValid(index))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no primary key on offsets any more",
						RelationGetRelationName(s->heap)),
				 errdetail("Somebody has dropped it; messages are found by it."),
				 errhint("Make it again: ALTER TABLE %s ADD PRIMARY KEY (msg_offset);",
						 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(s->heap)),
													RelationGetRelationName(s->heap)))));
	s->index = index_open(index, AccessShareLock);
	s->slot = table_slot_create(s->heap, NULL);
	s->scan = INDEX_BEGINSCAN(s->heap, s->index, SnapshotAny, 2);
	return true;
}

/* The segment's primary key, by offset; invalid: somebody has dropped it, or made another one. */
static Oid
key_index(Relation heap)
{
	Oid			relid = PRIMARY_KEY_INDEX(heap);
	Relation	index;
	bool		fits;

	if (!OidIsValid(relid))
		return InvalidOid;
	index = index_open(relid, AccessShareLock);
	fits = index->rd_index->indkey.values[0] == Anum_msg_offset;
	index_close(index, AccessShareLock);
	return fits ? relid : InvalidOid;
}

/* Begins to read the index anew, as far as it probably matters; what follows is more. */
static void
read_window(SegmentScan *s, int64 from)
{
	int64		to = NO_ROW;

	if (s->window > 0 && from < NO_ROW - s->window)
	{
		to = from + s->window - 1;
		s->window = s->window < MOST_WINDOW ? s->window * WINDOW_GROWTH : 0;
	}
	rescan(s, from, to);
	s->next_window = to == NO_ROW ? NO_ROW : to + 1;
}

/* Begins to read the index anew: these offsets, both inclusive, and no more. */
static void
rescan(SegmentScan *s, int64 from, int64 to)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(to));
	index_rescan(s->scan, keys, 2, NULL, 0);
	s->next_window = NO_ROW;
}
