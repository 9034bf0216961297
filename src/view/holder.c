/*
 * holder.c - which open transaction has a cursor's row locked, for the view cursor_holder.
 *
 * The newest committed version of the row says so in its xmax, whether the transaction has
 * locked it or already written another one. A claim in a transaction block does that in a
 * subtransaction, and who locked the row before it has a multixact. Nobody waits for anybody
 * here. As only transactions that are in a list of locks are asked for, it does not matter
 * that the answer is of a moment later.
 *
 * Locks: none but those to read.
 */
#include "view/view.h"

#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/stratnum.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"

static TransactionId holder_of(HeapTupleHeader row);
static TransactionId if_open(TransactionId xid);

/*
 * holder_xid(cursor_id int) RETURNS xid: the open transaction that has the cursor's row,
 * which may be our own; NULL: none, or no such cursor.
 */
PG_FUNCTION_INFO_V1(iotmq_holder_xid);
Datum
iotmq_holder_xid(PG_FUNCTION_ARGS)
{
	Relation	rel = table_open(iotmq_relation_table(CATALOG_CURSOR_STATE), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TransactionId holder = InvalidTransactionId;
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ, PG_GETARG_DATUM(0));
	if (iotmq_row_peek(rel, iotmq_relation_index(INDEX_CURSOR_STATE), &key, 1, slot))
	{
		bool		shouldfree;
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &shouldfree);

		holder = holder_of(tuple->t_data);
		if (shouldfree)
			heap_freetuple(tuple);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	if (!TransactionIdIsValid(holder))
		PG_RETURN_NULL();
	PG_RETURN_TRANSACTIONID(holder);
}

static TransactionId
holder_of(HeapTupleHeader row)
{
	TransactionId holder = InvalidTransactionId;
	MultiXactMember *members;
	int			n;

	if (TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(row)))
		return GetTopTransactionIdIfAny();
	if (row->t_infomask & HEAP_XMAX_INVALID)
		return InvalidTransactionId;
	if (!(row->t_infomask & HEAP_XMAX_IS_MULTI))
		return if_open(HeapTupleHeaderGetRawXmax(row));
	n = GetMultiXactIdMembers(HeapTupleHeaderGetRawXmax(row), &members, false,
							  HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask));
	for (int i = 0; i < n && !TransactionIdIsValid(holder); i++)
		holder = if_open(members[i].xid);
	return holder;
}

/* The transaction that it is, or is a part of; invalid: it has ended. */
static TransactionId
if_open(TransactionId xid)
{
	if (TransactionIdIsCurrentTransactionId(xid))
		return GetTopTransactionIdIfAny();
	return TransactionIdIsInProgress(xid) ? SubTransGetTopmostTransaction(xid) :
		InvalidTransactionId;
}
