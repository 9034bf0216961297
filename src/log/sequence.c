/*
 * sequence.c - the offsets of a zone that were drawn so far.
 *
 * Locks: AccessShareLock on the sequence, its buffer's lock for a moment.
 */
#include "log/log.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"

/* H: the last offset assigned, 0 if none was; -1: the zone was dropped. XX001: its file is empty. */
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
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("sequence %s is empty", RelationGetRelationName(rel))));
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	data = (Form_pg_sequence_data) GETSTRUCT(&tuple);
	last = data->is_called ? data->last_value : data->last_value - 1;
	UnlockReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
	return last;
}
