/*
 * end.c - where a zone ends for its readers.
 *
 * An open zone, or one that is fenced, ends where its sequence stands: offsets are drawn from
 * it before their messages are committed, and stable.c tells which are decided. A mirror's
 * offsets are drawn at its source. It ends at a position that is committed together with the
 * messages below it (iotmq_internal.mirror_state); its sequence means nothing until it is promoted.
 * So nobody takes for a hole what a pull that is rolled back will bring later.
 *
 * Whoever believes a zone to be a mirror that has been promoted meanwhile finds no position
 * any more, and all that was pulled is committed by then: the sequence counts.
 *
 * Locks: AccessShareLock on what is read.
 */
#include "log/log.h"

/*
 * The last offset that readers of the zone may ask for; -1: the zone was dropped. is_committed:
 * nothing up to it comes later, but for what this transaction has pulled itself.
 */
int64
iotmq_end_read(const ZoneMemory *memory, bool *is_committed)
{
	int64		next_offset;

	*is_committed = memory->is_mirror && iotmq_catalog_mirror_next(memory->zone_id, &next_offset);
	return *is_committed ? next_offset - 1 : iotmq_sequence_last(memory->sequence);
}
