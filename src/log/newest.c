/*
 * newest.c - the newest messages of some zones, newest first.
 *
 * What is in a later segment was published later. So each zone is read from its last segment
 * back, and of the zones always the one whose next message is the newest. Within a segment
 * messages come by their offsets: of publishers that ran side by side the times may be in
 * another order there. The cost goes with the messages that are asked for.
 *
 * Locks: AccessShareLock on the segments that a zone is read from, until it has ended or the
 * scan ends.
 */
#include "log/segment_scan.h"

#include "miscadmin.h"

struct ZoneTail					/* what is still to come of a zone */
{
	int64		from;
	int64		to;				/* exclusive */
	int			nsegments;		/* that were not read yet */
	Segment    *segments;		/* by time */
	SegmentScan *current;		/* stands at the zone's next message; NULL: nowhere */
	TimestampTz published_at;	/* of that message */
	bool		ended;
};

static void step(ZoneTail *tail);
static bool next_segment(ZoneTail *tail);
static bool has_message(const ZoneTail *tail);

/* Of so many zones at most. */
NewestScan *
iotmq_newest_begin(int nzones)
{
	NewestScan *scan = palloc0(sizeof(NewestScan));

	scan->tails = palloc0(sizeof(ZoneTail) * Max(nzones, 1));
	return scan;
}

/* Adds the messages of a zone in from..to (exclusive), all of which are decided. */
void
iotmq_newest_add(NewestScan *scan, const Zone *zone, int64 from, int64 to)
{
	ZoneTail   *tail = &scan->tails[scan->ntails++];

	tail->from = Max(from, zone->earliest_offset);
	tail->to = to;
	iotmq_catalog_segments(zone);
	tail->nsegments = zone->nsegments;
	tail->segments = palloc(sizeof(Segment) * Max(zone->nsegments, 1));
	memcpy(tail->segments, zone->segments, sizeof(Segment) * zone->nsegments);
	step(tail);
}

/* The next committed message, good until the next call; NULL: no more. */
TupleTableSlot *
iotmq_newest_next(NewestScan *scan)
{
	ZoneTail   *newest = NULL;

	if (scan->last != NULL)
		step(scan->last);
	for (int i = 0; i < scan->ntails; i++)
		if (!scan->tails[i].ended &&
			(newest == NULL || scan->tails[i].published_at > newest->published_at))
			newest = &scan->tails[i];
	scan->last = newest;
	return newest == NULL ? NULL : newest->current->slot;
}

void
iotmq_newest_end(NewestScan *scan)
{
	for (int i = 0; i < scan->ntails; i++)
		if (scan->tails[i].current != NULL)
			iotmq_segment_scan_close(scan->tails[i].current);
	pfree(scan->tails);
	pfree(scan);
}

/* Goes to the message before, in this segment or an earlier one. */
static void
step(ZoneTail *tail)
{
	bool		isnull;

	if (tail->current != NULL)
		(void) iotmq_segment_scan_step_back(tail->current);
	while (!has_message(tail))
	{
		if (tail->current != NULL)
			iotmq_segment_scan_close(tail->current);
		tail->current = NULL;
		if (!next_segment(tail))
		{
			tail->ended = true;
			return;
		}
	}
	tail->published_at =
		DatumGetTimestampTz(slot_getattr(tail->current->slot, Anum_published_at, &isnull));
}

/* Goes to the last message of the segment before; false: there is no such segment. */
static bool
next_segment(ZoneTail *tail)
{
	while (tail->nsegments > 0)
	{
		const Segment *segment = &tail->segments[--tail->nsegments];

		CHECK_FOR_INTERRUPTS();
		if (segment->sealed &&
			(segment->last_offset < Max(tail->from, segment->first_offset) ||
			 segment->first_offset >= tail->to))
			continue;
		tail->current = iotmq_segment_scan_open(segment->relid);
		if (iotmq_segment_scan_find_below(tail->current, tail->to) &&
			iotmq_segment_scan_fate(tail->current) != FATE_COMMITTED)
			(void) iotmq_segment_scan_step_back(tail->current);
		return true;
	}
	return false;
}

static bool
has_message(const ZoneTail *tail)
{
	return tail->current != NULL && tail->current->offset != NO_ROW &&
		tail->current->offset >= tail->from;
}
