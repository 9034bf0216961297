/*
 * sequence.c - the offsets of a zone that were drawn so far.
 *
 * An unlogged sequence of a promoted standby may have a page of zeros: what its creation
 * wrote into the init fork was in the standby's buffers only, when the promotion copied the
 * file (seen on 15). PostgreSQL then raises an error at nextval and setval for ever.
 *
 * Locks: AccessShareLock on the sequence, its buffer's lock for a moment.
 */
#include "log/log.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"

#define MAGIC 0x1717			/* at the end of a sequence's page, as in PostgreSQL's sequence.c */

/*
 * H: the last offset assigned, 0 if none was, or an unlogged sequence has no page; -1: the zone
 * was dropped. XX001: another one has none.
 */
int64
iotmq_sequence_last(Oid sequence)
{
	Relation	rel = try_relation_open(sequence, AccessShareLock);
	Buffer		buffer;
	Page		page;
	HeapTupleData tuple;
	Form_pg_sequence_data data;
	int64		last;

	if (rel == NULL)
		return -1;
	if (rel->rd_rel->relkind != RELKIND_SEQUENCE)
		elog(ERROR, "%s is not a sequence", RelationGetRelationName(rel));
	buffer = ReadBuffer(rel, 0);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	if (PageIsNew(page))
	{
		if (rel->rd_rel->relpersistence != RELPERSISTENCE_UNLOGGED)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("sequence %s is empty", RelationGetRelationName(rel))));
		UnlockReleaseBuffer(buffer);
		relation_close(rel, AccessShareLock);
		return 0;
	}
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	data = (Form_pg_sequence_data) GETSTRUCT(&tuple);
	last = data->is_called ? data->last_value : data->last_value - 1;
	UnlockReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
	return last;
}

/*
 * Gives an unlogged sequence its page, if it has none: as if nothing had been drawn from it
 * yet. The caller sees to it that nobody else does.
 */
void
iotmq_sequence_mend(Oid sequence)
{
	Relation	rel = relation_open(sequence, RowExclusiveLock);
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel),
										(Datum[]) {Int64GetDatum(1), Int64GetDatum(0), BoolGetDatum(false)},
										(bool[]) {false, false, false});
	Buffer		buffer = ReadBuffer(rel, 0);
	Page		page = BufferGetPage(buffer);

	HeapTupleHeaderSetXmin(tuple->t_data, FrozenTransactionId);
	HeapTupleHeaderSetXminFrozen(tuple->t_data);
	HeapTupleHeaderSetCmin(tuple->t_data, FirstCommandId);
	HeapTupleHeaderSetXmax(tuple->t_data, InvalidTransactionId);
	tuple->t_data->t_infomask |= HEAP_XMAX_INVALID;
	ItemPointerSet(&tuple->t_data->t_ctid, 0, FirstOffsetNumber);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (PageIsNew(page))
	{
		PageInit(page, BufferGetPageSize(buffer), sizeof(uint32));
		*(uint32 *) PageGetSpecialPointer(page) = MAGIC;
		if (PageAddItem(page, (Item) tuple->t_data, tuple->t_len, InvalidOffsetNumber, false, false) !=
			FirstOffsetNumber)
			elog(PANIC, "could not write the page of sequence %u", sequence);
		MarkBufferDirty(buffer);
	}
	UnlockReleaseBuffer(buffer);
	relation_close(rel, RowExclusiveLock);
}
