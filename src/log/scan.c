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
 * the segments in memory are all there are: what stable.c found to be decided was
 * announced by then, and the scan accepts messages at each gap that it passes.
 *
 * A scan is read in order (iotmq_scan_next) or offset by offset, not both.
 *
 * Locks: AccessShareLock on a segment and its index, from its first use to
 * iotmq_scan_end: nothing here makes retention wait for a transaction's end. Of several
 * segments the first one is waited for; ALTER TABLE may have another one and wait for that:
 * so who has to wait for another one closes all that are open before.
 */
#include "log/segment_scan.h"

#include "access/xlog.h"
#include "core/stop.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static bool resolve_gap(ZoneScan *scan, const SegmentScan *next);
static SegmentScan *lowest(ZoneScan *scan);
static int	lowest_by_catalog(ZoneScan *scan, int64 *best_offset);
static int	guess(ZoneScan *scan);
static bool may_hold(const Segment *segment, int64 msg_offset);
static SegmentScan *enter_segment(ZoneScan *scan, int i);
static SegmentScan *open_segment(ZoneScan *scan, int i);
static void lock_segment(ZoneScan *scan, Oid relid);
static void close_segments(ZoneScan *scan);
static TupleTableSlot *next_from(ZoneScan *scan, int64 from);

/*
 * Begins at the offset from, or where the zone begins: what retention has dropped is no gap
 * to be decided. The caller has read last, the last offset assigned, before; nothing above
 * it is returned. The zone must stay unchanged in memory
 * until the scan ends (no lookup in the catalog).
 */
ZoneScan *
iotmq_scan_begin(const Zone *zone, int64 from, int64 last)
{
	ZoneScan   *scan = palloc0(sizeof(ZoneScan));

	iotmq_catalog_segments(zone);
	scan->zone = zone;
	scan->memory = iotmq_stable_memory(zone);
	scan->position = from < 0 ? from : Max(from, zone->earliest_offset);
	scan->last = last;
	scan->limit = scan->memory->stable.offset;
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
		iotmq_segment_scan_step(s);
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
		switch (iotmq_segment_scan_fate(s))
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
				iotmq_segment_scan_step(s);
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
	if (s != NULL && iotmq_segment_scan_find(s, msg_offset))
	{
		scan->current = s;
		return s->slot;
	}
	for (int i = 0; i < scan->zone->nsegments; i++)
	{
		if (!may_hold(&scan->zone->segments[i], msg_offset))
			continue;
		s = open_segment(scan, i);
		if (iotmq_segment_scan_find(s, msg_offset))
		{
			scan->current = s;
			return s->slot;
		}
	}
	return NULL;
}

/*
 * When the first committed message from that offset on was published; false: there
 * is none for now, or a lenient scan can't tell. On a standby, which can't tell what is
 * decided, only the message with that offset counts. Once known it stays so until retention drops the message,
 * and then nobody asks for that offset again: so it is remembered.
 */
bool
iotmq_scan_published_at(ZoneScan *scan, int64 from, TimestampTz *at)
{
	PublishedAt *known;
	TupleTableSlot *slot;
	bool		isnull;

	if (scan->memory->published_at == NULL)
		scan->memory->published_at =
			MemoryContextAllocZero(CacheMemoryContext, sizeof(PublishedAt) * PUBLISHED_AT_KEPT);
	known = &scan->memory->published_at[(uint64) from % PUBLISHED_AT_KEPT];
	if (known->from != from || from == 0)
	{
		slot = iotmq_scan_one(scan, from);
		if (slot == NULL && !RecoveryInProgress())
		{
			slot = next_from(scan, from);
			if (iotmq_scan_is_partial(scan))
				return false;
		}
		if (slot == NULL)
			return false;
		known->from = from;
		known->at = DatumGetTimestampTz(slot_getattr(slot, Anum_published_at, &isnull));
	}
	*at = known->at;
	return true;
}

/* Has a lenient scan met a segment that can't be read? */
bool
iotmq_scan_is_partial(const ZoneScan *scan)
{
	for (int i = 0; i < scan->zone->nsegments; i++)
		if (scan->segments[i] != NULL && scan->segments[i]->unreadable)
			return true;
	return scan->partial;
}

void
iotmq_scan_end(ZoneScan *scan)
{
	if (scan->proves)
		scan->memory->stable.offset = Max(scan->memory->stable.offset, scan->position);
	if (scan->current != NULL && scan->current->heap != NULL)
		scan->memory->last_segment = RelationGetRelid(scan->current->heap);
	close_segments(scan);
	pfree(scan->segments);
	pfree(scan);
}

/*
 * The lowest offset of a message published at or after the time, committed or
 * not; PG_INT64_MAX: there is none. Reads along the one segment that the time
 * lies in. lenient: one that can't be read may have any offset.
 */
int64
iotmq_scan_since(const Zone *zone, TimestampTz at, bool lenient)
{
	ZoneScan   *scan = iotmq_scan_begin(zone, PG_INT64_MIN, PG_INT64_MAX);
	int64		lowest = NO_ROW;

	scan->proves = false;
	scan->lenient = lenient;
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
				iotmq_segment_scan_fate(s) == FATE_NOTHING))
			iotmq_segment_scan_step(s);
		lowest = Min(lowest, s->unreadable ? zone->earliest_offset : s->offset);
	}
	iotmq_scan_end(scan);
	return lowest;
}

/*
 * When the committed message with the highest offset was published; DT_NOBEGIN: there is none,
 * or a segment can't be read.
 */
TimestampTz
iotmq_scan_newest(const Zone *zone)
{
	ZoneScan   *scan = iotmq_scan_begin(zone, PG_INT64_MIN, PG_INT64_MAX);
	int64		newest_offset = PG_INT64_MIN;
	TimestampTz newest = DT_NOBEGIN;

	scan->lenient = true;
	for (int i = zone->nsegments - 1; i >= 0; i--)
	{
		const Segment *segment = &zone->segments[i];
		SegmentScan *s;
		bool		isnull;

		if (segment->sealed && segment->last_offset <= newest_offset)
			continue;
		s = open_segment(scan, i);
		if (iotmq_segment_scan_find_last(s) && s->offset > newest_offset)
		{
			newest_offset = s->offset;
			newest = DatumGetTimestampTz(slot_getattr(s->slot, Anum_published_at, &isnull));
		}
	}
	if (iotmq_scan_is_partial(scan))
		newest = DT_NOBEGIN;
	iotmq_scan_end(scan);
	return newest;
}

/*
 * The highest offset below that one that a row has, committed or open; 0: there is none.
 * lenient: rows that can't be read don't count; else they are an error.
 */
int64
iotmq_scan_last_below(const Zone *zone, int64 msg_offset, bool lenient)
{
	ZoneScan   *scan = iotmq_scan_begin(zone, PG_INT64_MIN, PG_INT64_MAX);
	int64		highest = 0;

	scan->lenient = lenient;
	for (int i = 0; i < zone->nsegments; i++)
	{
		const Segment *segment = &zone->segments[i];

		if (segment->sealed && segment->last_offset < msg_offset)
			highest = Max(highest, segment->last_offset);
		else if (!segment->sealed || segment->first_offset < msg_offset)
		{
			SegmentScan *s = open_segment(scan, i);

			if (iotmq_segment_scan_find_below(s, msg_offset))
				highest = Max(highest, s->offset);
		}
	}
	iotmq_scan_end(scan);
	return highest;
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
		stable = iotmq_stable_refresh(scan->memory);
	if (stable <= scan->position)
		return false;

	STOP("scan_stable");
	AcceptInvalidationMessages();
	scan->stale = !iotmq_catalog_zone_is_current(scan->zone);
	if (scan->stale)
		return false;
	if (stable > scan->limit)
	{
		scan->limit = stable;
		for (int i = 0; i < scan->zone->nsegments; i++)
			if (scan->segments[i] != NULL)
				iotmq_segment_scan_seek(scan->segments[i], scan->position);
		return true;
	}
	scan->position = Min(end, scan->limit);
	return true;
}

/*
 * The segment whose next row has the lowest offset; NULL: none has any. Somebody may have
 * deleted the first rows of a sealed one: it is asked again, once it is open.
 */
static SegmentScan *
lowest(ZoneScan *scan)
{
	for (;;)
	{
		int64		expected;
		int			best = lowest_by_catalog(scan, &expected);
		SegmentScan *s;

		if (best < 0)
			return NULL;
		s = enter_segment(scan, best);
		if (s->offset == expected)
			return s;
	}
}

/* Which segment that is, and which offset, as far as segments are open or tell by their bounds. */
static int
lowest_by_catalog(ZoneScan *scan, int64 *best_offset)
{
	const Zone *zone = scan->zone;
	int			best = -1;

	*best_offset = NO_ROW;
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
				iotmq_segment_scan_step(s);
			msg_offset = s->offset;
		}
		if (msg_offset < *best_offset)
		{
			*best_offset = msg_offset;
			best = i;
		}
	}
	return best;
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
		if (segment->sealed || segment->relid == scan->memory->last_segment)
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
	iotmq_segment_scan_seek(s, scan->position);
	return s;
}

/*
 * Opens segment i, once; whoever reads it in order has to seek first. Others may be closed by
 * that.
 */
static SegmentScan *
open_segment(ZoneScan *scan, int i)
{
	Oid			relid = scan->zone->segments[i].relid;
	bool		among_others = scan->nopen > 0;

	if (scan->segments[i] != NULL)
		return scan->segments[i];
	if (among_others)
		lock_segment(scan, relid);
	scan->segments[i] = iotmq_segment_scan_open(relid);
	if (among_others)
		UnlockRelationOid(relid, AccessShareLock);
	scan->segments[i]->lenient = scan->lenient;
	scan->segments[i]->window = scan->window;
	scan->nopen++;
	STOP("scan_opened");
	return scan->segments[i];
}

/* Locks a segment while others are open, or after they were closed. */
static void
lock_segment(ZoneScan *scan, Oid relid)
{
	if (ConditionalLockRelationOid(relid, AccessShareLock))
		return;
	close_segments(scan);
	LockRelationOid(relid, AccessShareLock);
}

static void
close_segments(ZoneScan *scan)
{
	for (int i = 0; i < scan->zone->nsegments; i++)
	{
		if (scan->segments[i] == NULL)
			continue;
		scan->partial = scan->partial || scan->segments[i]->unreadable;
		iotmq_segment_scan_close(scan->segments[i]);
		scan->segments[i] = NULL;
	}
	scan->current = NULL;
	scan->nopen = 0;
}

/* The first committed message from that offset on, wherever the scan stood. */
static TupleTableSlot *
next_from(ZoneScan *scan, int64 from)
{
	for (int i = 0; i < scan->zone->nsegments; i++)
		if (scan->segments[i] != NULL)
			iotmq_segment_scan_seek(scan->segments[i], from);
	scan->position = from;
	scan->current = NULL;
	return iotmq_scan_next(scan);
}
