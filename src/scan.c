/*
 * scan.c - the messages of a zone, in offset order, across its segments.
 *
 * Offsets and time agree only roughly: two publishers that meet a segment's
 * edge may put a higher offset into the older segment. So a scan merges the
 * segments by offset. It opens one of them and stays there as long as the
 * offsets are dense (an offset is unique in its zone, so what is found there
 * can't be elsewhere); only at a gap does it look into every other segment that
 * may hold the missing offset: the unsealed ones, and of the sealed ones those
 * whose first and last offset say so. Clocks decide where to look first, never
 * whether something is found.
 *
 * A row is returned when its transaction is committed. At a row whose
 * transaction is open, or our own, the scan ends. A row that was rolled back, to
 * a savepoint perhaps, is passed over. Past a gap the scan goes only where the
 * missing offsets were decided (see stable.c) before the segments were read; if
 * more of them became decided since, the segments are read again. And only if
 * the segments in memory are all there are: a publisher announces a new segment
 * before it releases the lock by which stable.c sees it open.
 *
 * Rows are read whatever became of them and judged here, by the newest state: so
 * the caller's isolation level does not matter, and no snapshot is taken.
 *
 * Locks: AccessShareLock on a segment and its index, from its first use to
 * iotmq_scan_end: nothing here makes retention wait for a transaction's end.
 */
#include "iotmq.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define NO_ROW PG_INT64_MAX

typedef enum Fate				/* what became of a row */
{
	FATE_COMMITTED,
	FATE_OPEN,					/* its transaction is, or is ours */
	FATE_NOTHING				/* rolled back, or deleted by hand */
} Fate;

static bool resolve_gap(ZoneScan *scan, const SegmentScan *next);
static SegmentScan *lowest(ZoneScan *scan);
static int	guess(ZoneScan *scan);
static bool may_hold(const Segment *segment, int64 msg_offset);
static SegmentScan *enter_segment(ZoneScan *scan, int i);
static SegmentScan *open_segment(ZoneScan *scan, int i);
static bool open_index(SegmentScan *s);
static void seek_segment(SegmentScan *s, int64 from);
static void rescan(SegmentScan *s, StrategyNumber strategy, RegProcedure relation, int64 msg_offset);
static void step_segment(SegmentScan *s);
static bool seek_committed(SegmentScan *s, int64 msg_offset);
static TupleTableSlot *next_from(ZoneScan *scan, int64 from);
static Fate fate_of(SegmentScan *s);

/*
 * Begins at the offset from. The caller has read last, the last offset assigned,
 * before; nothing above it is returned. The zone must stay unchanged in memory
 * until the scan ends (no lookup in the catalog).
 */
ZoneScan *
iotmq_scan_begin(const Zone *zone, int64 from, int64 last)
{
	ZoneScan   *scan = palloc0(sizeof(ZoneScan));

	scan->zone = zone;
	scan->stable = iotmq_stable_state(zone->sequence);
	scan->position = from;
	scan->last = last;
	scan->limit = scan->stable->stable_offset;
	scan->proves = from <= Max(scan->limit, zone->earliest_offset);
	scan->segments = palloc0(sizeof(SegmentScan *) * zone->nsegments);
	return scan;
}

/* The next committed message, good until the next call; NULL: none for now. */
TupleTableSlot *
iotmq_scan_next(ZoneScan *scan)
{
	SegmentScan *s = scan->current;

	if (s != NULL && s->offset < scan->position)
		step_segment(s);
	while (scan->position <= scan->last)
	{
		if (s == NULL)
		{
			int			i = guess(scan);

			s = i < 0 ? NULL : enter_segment(scan, i);
		}
		if (s == NULL || s->offset != scan->position)
			s = lowest(scan);
		if (s == NULL || s->offset != scan->position)
		{
			if (!resolve_gap(scan, s))
				return NULL;
			s = scan->current;
			continue;
		}
		scan->current = s;
		switch (fate_of(s))
		{
			case FATE_COMMITTED:
				scan->position++;
				return s->slot;
			case FATE_OPEN:
				if (!scan->passes_open)
					return NULL;
				scan->position++;
				return s->slot;
			case FATE_NOTHING:
				step_segment(s);
				if (s->offset != scan->position)
					scan->position++;	/* else: another version of the row */
				break;
		}
	}
	return NULL;
}

/* The message with that offset, which is known to be decided; NULL: no such. */
TupleTableSlot *
iotmq_scan_one(ZoneScan *scan, int64 msg_offset)
{
	SegmentScan *s = scan->current;

	scan->proves = false;
	scan->position = msg_offset;
	if (s == NULL)
	{
		int			i = guess(scan);

		s = i < 0 ? NULL : open_segment(scan, i);
	}
	if (s != NULL && seek_committed(s, msg_offset))
	{
		scan->current = s;
		return s->slot;
	}
	for (int i = 0; i < scan->zone->nsegments; i++)
	{
		if (!may_hold(&scan->zone->segments[i], msg_offset))
			continue;
		s = open_segment(scan, i);
		if (seek_committed(s, msg_offset))
		{
			scan->current = s;
			return s->slot;
		}
	}
	return NULL;
}

/*
 * When the first committed message from that offset on was published; false: there
 * is none for now. On a standby, which can't tell what is decided, only the message
 * with that offset counts. Once known it stays so until retention drops the message,
 * and then nobody asks for that offset again: so it is remembered.
 */
bool
iotmq_scan_published_at(ZoneScan *scan, int64 from, TimestampTz *at)
{
	PublishedAt *known;
	TupleTableSlot *slot;
	bool		isnull;

	if (scan->stable->published_at == NULL)
		scan->stable->published_at =
			MemoryContextAllocZero(CacheMemoryContext, sizeof(PublishedAt) * PUBLISHED_AT_KEPT);
	known = &scan->stable->published_at[(uint64) from % PUBLISHED_AT_KEPT];
	if (known->from != from || from == 0)
	{
		slot = iotmq_scan_one(scan, from);
		if (slot == NULL && !RecoveryInProgress())
			slot = next_from(scan, from);
		if (slot == NULL)
			return false;
		known->from = from;
		known->at = DatumGetTimestampTz(slot_getattr(slot, Anum_published_at, &isnull));
	}
	*at = known->at;
	return true;
}

void
iotmq_scan_end(ZoneScan *scan)
{
	if (scan->proves)
		scan->stable->stable_offset = Max(scan->stable->stable_offset, scan->position);
	if (scan->current != NULL && scan->current->heap != NULL)
		scan->stable->last_segment = RelationGetRelid(scan->current->heap);
	for (int i = 0; i < scan->zone->nsegments; i++)
	{
		SegmentScan *s = scan->segments[i];

		if (s == NULL || s->heap == NULL)
			continue;
		if (s->index != NULL)
		{
			ExecDropSingleTupleTableSlot(s->slot);
			index_endscan(s->scan);
			index_close(s->index, AccessShareLock);
		}
		table_close(s->heap, AccessShareLock);
	}
	pfree(scan->segments);
	pfree(scan);
}

/*
 * The lowest offset of a message published at or after the time, committed or
 * not; PG_INT64_MAX: there is none. Reads along the one segment that the time
 * lies in.
 */
int64
iotmq_scan_since(const Zone *zone, TimestampTz at)
{
	ZoneScan   *scan = iotmq_scan_begin(zone, PG_INT64_MIN, PG_INT64_MAX);
	int64		lowest = NO_ROW;

	scan->proves = false;
	for (int i = 0; i < zone->nsegments; i++)
	{
		SegmentScan *s;
		bool		isnull;

		if (zone->segments[i].to_time <= at)
			continue;
		if (zone->segments[i].sealed && zone->segments[i].from_time >= at)
		{
			if (zone->segments[i].first_offset <= zone->segments[i].last_offset)
				lowest = Min(lowest, zone->segments[i].first_offset);
			continue;
		}
		s = enter_segment(scan, i);
		while (s->offset < lowest &&
			   (DatumGetTimestampTz(slot_getattr(s->slot, Anum_published_at, &isnull)) < at ||
				fate_of(s) == FATE_NOTHING))
			step_segment(s);
		lowest = Min(lowest, s->offset);
	}
	iotmq_scan_end(scan);
	return lowest;
}

/* When the committed message with the highest offset was published; DT_NOBEGIN: none. */
TimestampTz
iotmq_scan_newest(const Zone *zone)
{
	ZoneScan   *scan = iotmq_scan_begin(zone, PG_INT64_MIN, PG_INT64_MAX);
	int64		newest_offset = PG_INT64_MIN;
	TimestampTz newest = DT_NOBEGIN;

	for (int i = zone->nsegments - 1; i >= 0; i--)
	{
		const Segment *segment = &zone->segments[i];
		SegmentScan *s;
		bool		isnull;

		if (segment->sealed && segment->last_offset <= newest_offset)
			continue;
		s = open_segment(scan, i);
		if (!open_index(s))
			continue;
		rescan(s, BTGreaterEqualStrategyNumber, F_INT8GE, PG_INT64_MIN);
		while (index_getnext_slot(s->scan, BackwardScanDirection, s->slot))
			if (fate_of(s) == FATE_COMMITTED)
			{
				int64		msg_offset = DatumGetInt64(slot_getattr(s->slot, Anum_msg_offset, &isnull));

				if (msg_offset > newest_offset)
				{
					newest_offset = msg_offset;
					newest = DatumGetTimestampTz(slot_getattr(s->slot, Anum_published_at, &isnull));
				}
				break;
			}
	}
	iotmq_scan_end(scan);
	return newest;
}

/*
 * No row at the scan's position; the next one is in next (NULL: there is none).
 * Moves the position over what is decided to be nothing and says whether to go
 * on looking there.
 */
static bool
resolve_gap(ZoneScan *scan, const SegmentScan *next)
{
	int64		end = next == NULL ? scan->last + 1 : next->offset;
	int64		stable = scan->limit;

	if (scan->position >= scan->limit)
		stable = iotmq_stable_refresh(scan->stable);
	if (stable <= scan->position)
		return false;

	AcceptInvalidationMessages();
	scan->stale = iotmq_catalog_changes() != scan->zone->changes;
	if (scan->stale)
		return false;
	if (stable > scan->limit)
	{
		scan->limit = stable;
		for (int i = 0; i < scan->zone->nsegments; i++)
			if (scan->segments[i] != NULL)
				seek_segment(scan->segments[i], scan->position);
		return true;
	}
	scan->position = Min(end, scan->limit);
	return true;
}

/* The segment whose next row has the lowest offset; NULL: none has any. */
static SegmentScan *
lowest(ZoneScan *scan)
{
	const Zone *zone = scan->zone;
	int64		best_offset = NO_ROW;
	int			best = -1;

	for (int i = 0; i < zone->nsegments; i++)
	{
		const Segment *segment = &zone->segments[i];
		int64		msg_offset;

		if (segment->sealed && segment->last_offset < scan->position)
			continue;
		if (segment->sealed && segment->first_offset > scan->position &&
			scan->segments[i] == NULL)
			msg_offset = segment->first_offset;
		else
		{
			SegmentScan *s = enter_segment(scan, i);

			while (s->offset < scan->position)
				step_segment(s);
			msg_offset = s->offset;
		}
		if (msg_offset < best_offset)
		{
			best_offset = msg_offset;
			best = i;
		}
	}
	return best < 0 ? NULL : enter_segment(scan, best);
}

/* The segment to look into first; -1: no idea. */
static int
guess(ZoneScan *scan)
{
	const Zone *zone = scan->zone;
	TimestampTz now = GetCurrentTimestamp();
	int			best = -1;

	for (int i = 0; i < zone->nsegments; i++)
	{
		const Segment *segment = &zone->segments[i];

		if (!may_hold(segment, scan->position))
			continue;
		if (segment->sealed || segment->relid == scan->stable->last_segment)
			return i;
		if (segment->from_time <= now && now < segment->to_time)
			best = i;
	}
	return best;
}

static bool
may_hold(const Segment *segment, int64 msg_offset)
{
	return !segment->sealed ||
		(segment->first_offset <= msg_offset && msg_offset <= segment->last_offset);
}

/* Opens segment i, once, at the scan's position. */
static SegmentScan *
enter_segment(ZoneScan *scan, int i)
{
	SegmentScan *s = scan->segments[i];

	if (s != NULL)
		return s;
	s = open_segment(scan, i);
	seek_segment(s, scan->position);
	return s;
}

/* Opens segment i, once; whoever reads it in order has to seek first. */
static SegmentScan *
open_segment(ZoneScan *scan, int i)
{
	SegmentScan *s = scan->segments[i];

	if (s != NULL)
		return s;
	s = palloc0(sizeof(SegmentScan));
	scan->segments[i] = s;
	s->heap = try_relation_open(scan->zone->segments[i].relid, AccessShareLock);
	s->offset = NO_ROW;
	return s;
}

/* Opens the index of a segment that has rows; false if it has none, or was dropped. */
static bool
open_index(SegmentScan *s)
{
	Oid			index;

	if (s->index != NULL)
		return true;
	if (s->heap == NULL || RelationGetNumberOfBlocks(s->heap) == 0)
		return false;
	index = PRIMARY_KEY_INDEX(s->heap);
	if (!OidIsValid(index))
		elog(ERROR, "segment %s has no primary key", RelationGetRelationName(s->heap));
	s->index = index_open(index, AccessShareLock);
	s->slot = table_slot_create(s->heap, NULL);
	s->scan = INDEX_BEGINSCAN(s->heap, s->index, SnapshotAny, 1);
	return true;
}

/* Reads the segment again, from that offset on. */
static void
seek_segment(SegmentScan *s, int64 from)
{
	s->offset = NO_ROW;
	if (!open_index(s))
		return;
	rescan(s, BTGreaterEqualStrategyNumber, F_INT8GE, from);
	step_segment(s);
}

/* Begins to read the index anew: offsets that relate to that one in such a way. */
static void
rescan(SegmentScan *s, StrategyNumber strategy, RegProcedure relation, int64 msg_offset)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, strategy, relation, Int64GetDatum(msg_offset));
	index_rescan(s->scan, &key, 1, NULL, 0);
}

static void
step_segment(SegmentScan *s)
{
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	if (s->index != NULL && index_getnext_slot(s->scan, ForwardScanDirection, s->slot))
		s->offset = DatumGetInt64(slot_getattr(s->slot, Anum_msg_offset, &isnull));
	else
		s->offset = NO_ROW;
}

/* Is there a committed row with that offset? It is the next one then. */
static bool
seek_committed(SegmentScan *s, int64 msg_offset)
{
	s->offset = NO_ROW;
	if (!open_index(s))
		return false;
	/* with ">=" a whole page of the index would be read */
	rescan(s, BTEqualStrategyNumber, F_INT8EQ, msg_offset);
	do
		step_segment(s);
	while (s->offset == msg_offset && fate_of(s) != FATE_COMMITTED);
	return s->offset == msg_offset;
}

/* The first committed message from that offset on, wherever the scan stood. */
static TupleTableSlot *
next_from(ZoneScan *scan, int64 from)
{
	for (int i = 0; i < scan->zone->nsegments; i++)
		if (scan->segments[i] != NULL)
			seek_segment(scan->segments[i], from);
	scan->position = from;
	scan->current = NULL;
	return iotmq_scan_next(scan);
}

/* What became of the next row. */
static Fate
fate_of(SegmentScan *s)
{
	BufferHeapTupleTableSlot *slot = (BufferHeapTupleTableSlot *) s->slot;
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
	if (TransactionIdIsValid(dirty.xmin) ||
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
		return FATE_OPEN;
	return FATE_COMMITTED;
}
