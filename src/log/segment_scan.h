/*
 * segment_scan.h - the rows of one segment, for those who ask for a segment.
 */
#ifndef IOTMQ_SEGMENT_SCAN_H
#define IOTMQ_SEGMENT_SCAN_H

#include "log/log.h"

#define NO_ROW PG_INT64_MAX

typedef struct SegmentScan
{
	Relation	heap;			/* NULL: dropped */
	Relation	index;			/* NULL: not opened, or no row yet */
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* the row it stands at, whatever became of it */
	int64		offset;			/* of that row; NO_ROW: it stands at none */
	bool		lenient;		/* has no row, if it can't be read */
	bool		unreadable;		/* that is so */
	int64		window;			/* so many offsets are read at a time; 0: all */
	int64		next_window;	/* where the next of them begin; NO_ROW: nowhere */
} SegmentScan;

typedef enum RowFate
{
	FATE_COMMITTED,
	FATE_OPEN,					/* its transaction is, or is ours */
	FATE_NOTHING				/* rolled back, or deleted by hand */
} RowFate;

extern SegmentScan *iotmq_segment_scan_open(Oid relid);
extern void iotmq_segment_scan_close(SegmentScan *s);
extern void iotmq_segment_scan_seek(SegmentScan *s, int64 from);
extern void iotmq_segment_scan_step(SegmentScan *s);
extern bool iotmq_segment_scan_find(SegmentScan *s, int64 msg_offset);
extern bool iotmq_segment_scan_find_last(SegmentScan *s);
extern bool iotmq_segment_scan_find_below(SegmentScan *s, int64 msg_offset);
extern bool iotmq_segment_scan_step_back(SegmentScan *s);
extern RowFate iotmq_segment_scan_fate(SegmentScan *s);
extern RowFate iotmq_segment_scan_fate_of(TupleTableSlot *row, TransactionId *writer);

#endif
