/*
 * stable.c - the stable offset: up to where every offset of a zone is decided.
 *
 * Offsets are drawn from the zone's sequence before commit, so a reader that
 * moves past a missing offset may lose a message that commits later. An offset
 * is decided when it can't be filled any more: its row is committed or rolled
 * back, or no transaction that may have drawn it is open. scan.c judges the rows
 * that are there; this file answers for the gaps.
 *
 * What publishers do, in this order (append.c; for COPY and INSERT the trigger and
 * the constraint in copy_in.c see to it):
 *   p1  get a transaction id (published in their PGPROC),
 *   p2  lock the sequence (RowExclusiveLock, held to the end of transaction),
 *   p3  draw offsets, insert rows,
 *   p4  end: leave the ProcArray, then release the lock.
 * What we do:
 *   r1  read H, the sequence's last value,
 *   r2  list the holders of that lock with their transaction ids,
 *   r3  read F, the next transaction id to be assigned.
 *
 * Claim: once no holder has a transaction id below F, no offset <= H can be
 * filled any more.
 * Proof: let a transaction T own an offset <= H. It drew it before r1 (p3 and r1
 * exclude each other by the sequence's buffer lock), so p1 and p2 were before r1
 * too. If T is not in the list of r2, it had released its lock: it has ended. If
 * it is, its id was assigned before r1, so it is below F, which r3 read later;
 * and as long as T is open, it holds the lock and keeps that id. So a list without
 * such an id (that of r2, or any later one) shows that T has ended. QED
 *
 * A holder without a transaction id drew nothing <= H by p1, so it never holds
 * a zone back (somebody who only looks at the sequence, or a publisher that
 * begins just now).
 *
 * Prepared transactions hold their locks and keep the id; GetLockConflicts
 * lists them, by their old virtual id until a restart and then by their id.
 * In the middle of PREPARE there is a moment when a transaction is in no list:
 * it left the ProcArray entry of its backend but its locks still point there.
 * For this scan.c stops at any row whose inserter is still in progress,
 * whatever this file said. Subtransactions don't matter: locks and p1 are those
 * of the top transaction. A transaction's own lock is not listed; scan.c stops
 * at its rows, too. (H, F) of another cluster, carried along by dump and
 * restore, can't mislead: an F above the next transaction id is void, one below
 * it can only be settled by a list without lower ids, and the rows it was taken
 * over are committed here.
 *
 * Locks: AccessShareLock on the sequence; the lock manager's partition lock and
 * the sequence's buffer lock for a moment.
 */
#include "iotmq.h"

#include "access/relation.h"
#include "access/twophase.h"
#include "commands/sequence.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/xid8.h"

#include "core/stop.h"

static HTAB *states = NULL;		/* StableState by sequence, of this backend */

static FullTransactionId oldest_holder(Oid sequence);
static TransactionId holder_xid(VirtualTransactionId vxid);
static FullTransactionId widen(TransactionId xid, FullTransactionId next);

/* H: the last offset assigned, 0 if none was; -1: the zone was dropped. */
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
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	data = (Form_pg_sequence_data) GETSTRUCT(&tuple);
	last = data->is_called ? data->last_value : data->last_value - 1;
	UnlockReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
	return last;
}

/* What this backend knows of a zone; kept as long as the backend lives. */
StableState *
iotmq_stable_state(Oid sequence)
{
	StableState *state;
	bool		found;

	if (states == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(StableState)};

		states = hash_create("iotmq stable offsets", 32, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	state = hash_search(states, &sequence, HASH_ENTER, &found);
	if (!found)
	{
		state->stable_offset = 0;
		state->sample_offset = 0;
		state->sample_xid = InvalidFullTransactionId;
		state->last_segment = InvalidOid;
		state->published_at = NULL;
	}
	return state;
}

/* Adds what another backend wrote into a cursor. */
void
iotmq_stable_merge(StableState *state, int64 stable_offset, int64 sample_offset,
				   FullTransactionId sample_xid)
{
	state->stable_offset = Max(state->stable_offset, stable_offset);
	if (state->sample_offset < state->stable_offset)
		state->sample_offset = 0;
	if (state->sample_offset == 0 && sample_offset >= state->stable_offset &&
		!FullTransactionIdFollows(sample_xid, ReadNextFullTransactionId()))
	{
		state->sample_offset = sample_offset;
		state->sample_xid = sample_xid;
	}
}

/*
 * Learns what can be learnt now and returns the stable offset: the first one
 * that may not be decided. Whoever wants to rely on rows below it has to read
 * them after this call.
 */
int64
iotmq_stable_refresh(StableState *state)
{
	int64		last = iotmq_sequence_last(state->sequence);	/* r1 */
	FullTransactionId oldest;

	if (last < state->stable_offset)
		return state->stable_offset;

	STOP("stable_last_read");
	oldest = oldest_holder(state->sequence);	/* r2 */
	STOP("stable_listed");
	if (!FullTransactionIdIsValid(oldest))
	{
		state->stable_offset = last + 1;
		state->sample_offset = 0;
		return state->stable_offset;
	}
	if (state->sample_offset != 0 &&
		FullTransactionIdFollowsOrEquals(oldest, state->sample_xid))
	{
		state->stable_offset = state->sample_offset + 1;
		state->sample_offset = 0;
	}
	if (state->sample_offset == 0 && last >= state->stable_offset)
	{
		state->sample_offset = last;
		state->sample_xid = ReadNextFullTransactionId();	/* r3 */
	}
	return state->stable_offset;
}

/* Did this transaction publish to the zone? (Its own lock is in no list.) */
bool
iotmq_stable_is_publisher(Oid sequence)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, sequence);
	return LOCK_HELD_BY_ME(&tag, RowExclusiveLock);
}

/* exclude_publishers(sequence regclass) RETURNS void: none is open, none can begin. */
PG_FUNCTION_INFO_V1(iotmq_exclude_publishers);
Datum
iotmq_exclude_publishers(PG_FUNCTION_ARGS)
{
	LockRelationOid(PG_GETARG_OID(0), ExclusiveLock);
	PG_RETURN_VOID();
}

/*
 * stable_sample(sequence regclass, OUT sample_offset bigint, OUT sample_xid xid8):
 * a sample (H, F), for what outlives a call: sealing.
 */
PG_FUNCTION_INFO_V1(iotmq_stable_sample);
Datum
iotmq_stable_sample(PG_FUNCTION_ARGS)
{
	Oid			sequence = PG_GETARG_OID(0);
	int64		last = iotmq_sequence_last(sequence);
	FullTransactionId next;
	TupleDesc	desc;
	Datum		values[2];
	bool		isnull[2] = {false, false};

	(void) oldest_holder(sequence);
	next = ReadNextFullTransactionId();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum(last);
	values[1] = FullTransactionIdGetDatum(next);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull)));
}

/*
 * stable_settled(sequence regclass, sample_xid xid8) RETURNS boolean: has every
 * publisher ended that a sample with this xid had to wait for? NULL: the sample is
 * void, of another cluster. Whoever asks must look after prepared transactions
 * himself: the list of holders has its gap there.
 */
PG_FUNCTION_INFO_V1(iotmq_stable_settled);
Datum
iotmq_stable_settled(PG_FUNCTION_ARGS)
{
	FullTransactionId sample_xid = PG_GETARG_FULLTRANSACTIONID(1);
	FullTransactionId oldest = oldest_holder(PG_GETARG_OID(0));

	if (FullTransactionIdFollows(sample_xid, ReadNextFullTransactionId()))
		PG_RETURN_NULL();
	PG_RETURN_BOOL(!FullTransactionIdIsValid(oldest) ||
				   FullTransactionIdFollowsOrEquals(oldest, sample_xid));
}

/* The lowest transaction id among the holders; invalid if there is none. */
static FullTransactionId
oldest_holder(Oid sequence)
{
	FullTransactionId next = ReadNextFullTransactionId();
	FullTransactionId oldest = InvalidFullTransactionId;
	LOCKTAG		tag;
	VirtualTransactionId *holders;
	int			n;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, sequence);
	holders = GetLockConflicts(&tag, ShareLock, &n);
	for (int i = 0; i < n; i++)
	{
		TransactionId xid = holder_xid(holders[i]);

		if (TransactionIdIsValid(xid))
		{
			FullTransactionId full = widen(xid, next);

			if (!FullTransactionIdIsValid(oldest) || FullTransactionIdPrecedes(full, oldest))
				oldest = full;
		}
	}
	pfree(holders);
	return oldest;
}

/*
 * The transaction id of a holder; invalid: it has none or has just ended. The
 * lxid is read on both sides of the xid: an xid of the backend's next
 * transaction could only be too high, but would be another's.
 */
static TransactionId
holder_xid(VirtualTransactionId vxid)
{
	TransactionId xid = InvalidTransactionId;
	PGPROC	   *proc;
	bool		more;

	if (VirtualTransactionIdIsRecoveredPreparedXact(vxid))
		return vxid.localTransactionId;

	proc = VXID_PROC(vxid);
	if (proc != NULL && PROC_LXID(proc) == vxid.localTransactionId)
	{
		xid = *(volatile TransactionId *) &proc->xid;
		pg_read_barrier();
		if (PROC_LXID(proc) == vxid.localTransactionId && TransactionIdIsValid(xid))
			return xid;
	}
	/* ended, without an id, or prepared meanwhile */
	return TwoPhaseGetXidByVirtualXID(vxid, &more);
}

/* A running transaction's id lies less than 2^31 away from the next one. */
static FullTransactionId
widen(TransactionId xid, FullTransactionId next)
{
	int32		distance = (int32) (xid - XidFromFullTransactionId(next));

	return FullTransactionIdFromU64(U64FromFullTransactionId(next) + distance);
}
