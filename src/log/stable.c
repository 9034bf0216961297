/*
 * stable.c - the stable offset: up to where every offset of a zone is decided.
 *
 * Offsets are drawn from the zone's sequence before commit, so a reader that
 * moves past a missing offset may lose a message that commits later. An offset
 * is decided when it can't be filled any more: its row is committed or rolled
 * back, or no transaction that may have drawn it is open. scan.c judges the rows
 * that are there; this file answers for the gaps. test/model/stable.pml models both:
 * change it together with them.
 *
 * What publishers do, in this order (append.c; for COPY and INSERT the trigger and
 * the constraint in copy_in.c see to it):
 *   p1  get a transaction id (published in their PGPROC),
 *   p2  take the zone's publish lock (zone_lock.c), held to the end of the transaction,
 *       or of the subtransaction, if that is rolled back,
 *   p3  find the segment; if there is none, take the zone's change lock and make it,
 *   p4  draw offsets, insert rows,
 *   p5  end: leave the ProcArray, then tell others of new segments (invalidation
 *       messages), then release the locks.
 * What we do:
 *   r1  read H, the sequence's last value,
 *   r2  list the holders of the publish lock with their transaction ids,
 *   r3  request the change lock in Share mode: refused, we learn nothing now,
 *   r4  read F, the next transaction id to be assigned.
 *
 * Claim: once no holder has a transaction id below F, no offset <= H can be
 * filled any more, and who reads the catalog then knows every segment with such an
 * offset.
 * Proof: let a transaction T own an offset <= H. It drew it before r1 (p4 and r1
 * exclude each other by the sequence's buffer lock), so p1 and p2 were before r1
 * too. If T is not in the list of r2, it has left the ProcArray or released its lock: it
 * has ended, or its subtransaction that drew was rolled back. If it is, its id was
 * assigned before r1, so it is below F, which r4 read later; and as long as T is open, it
 * holds the lock and keeps that id. So a list without such an id (that of r2, or any
 * later one) shows that T has ended. That it has left the ProcArray does not mean that
 * it has told of its segment: but until it has, it holds the change lock, which it took
 * before it drew, and r3 comes after the list. Messages that were sent by then are
 * received by whoever accepts them before he passes the gap. QED
 *
 * A holder without a transaction id drew nothing <= H by p1, so it never holds
 * a zone back (a publisher that begins just now).
 *
 * A mirror's zone is filled by one pull at a time, above a position that is committed with its
 * rows and read in place of H (end.c): nothing below it can be filled any more, so r2 and r4
 * are not needed there; r3 is, for segments.
 *
 * Prepared transactions keep their locks and their id; GetLockConflicts lists them, by
 * their old virtual id until a restart and then by their id. At COMMIT PREPARED they, too,
 * leave the ProcArray first, then tell, then release. Our own lock is in no list:
 * our own transaction id counts as a holder's. (H, F) of another cluster, carried along
 * by dump and restore, can't mislead: an F above the next transaction id is void, one
 * below it can only be decided by a list without lower ids, and the rows it was taken
 * over are committed here.
 *
 * Locks: publishers: RowExclusiveLock on the sequence, then the publish lock. Readers:
 * AccessShareLock on the sequence; the lock manager's partition lock and
 * the sequence's buffer lock for a moment; the zone's change lock, not waiting.
 */
#include "log/log.h"

#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "core/stop.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/hsearch.h"
#include "utils/xid8.h"

#define LOOK_AGAIN_US 500
#define AWAIT_LOOKS 5			/* at publishers that don't end */

static HTAB *memories = NULL;	/* ZoneMemory by zone_id */

static void enter(int32 zone_id, LOCKMODE mode);
static int64 refresh_mirror(ZoneMemory *memory, int64 last);
static bool may_help(const Stable *stable, int64 offset);
static FullTransactionId oldest_holder(int32 zone_id);
static TransactionId holder_xid(VirtualTransactionId vxid);
static FullTransactionId widen(TransactionId xid, FullTransactionId next);

/* What this backend remembers of a zone; kept as long as the backend lives. */
ZoneMemory *
iotmq_stable_memory(const Zone *zone)
{
	ZoneMemory *memory;
	bool		found;

	if (memories == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(int32), .entrysize = sizeof(ZoneMemory)};

		memories = hash_create("iotmq zones", 32, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	memory = hash_search(memories, &zone->zone_id, HASH_ENTER, &found);
	if (!found || memory->sequence != zone->sequence || memory->generation != zone->generation)
		*memory = (ZoneMemory) {
			.zone_id = zone->zone_id, .sequence = zone->sequence, .generation = zone->generation
		};
	memory->is_mirror = zone->state == ZONE_MIRROR;
	return memory;
}

/* The last offset that readers of the zone may ask for; -1: the zone was dropped. */
int64
iotmq_stable_last(const Zone *zone)
{
	bool		is_committed;

	return iotmq_end_read(iotmq_stable_memory(zone), &is_committed);
}

/* Adds what another one knows: a backend of a cursor's row, or a row of a backend. */
void
iotmq_stable_merge(Stable *known, const Stable *other)
{
	known->offset = Max(known->offset, other->offset);
	if (!may_help(known, known->offset))
	{
		bool		better = may_help(other, known->offset);

		known->sample_offset = better ? other->sample_offset : 0;
		known->sample_xid = better ? other->sample_xid : InvalidFullTransactionId;
	}
}

/*
 * p1 and p2 of a publisher. What it looked up of the zone before counts for nothing now;
 * the zone may be gone.
 */
void
iotmq_stable_enter(int32 zone_id)
{
	(void) GetTopTransactionId();	/* p1 */
	enter(zone_id, RowExclusiveLock);	/* p2 */
}

/* Takes one iotmq_stable_enter back, for a publisher that has drawn nothing since. */
void
iotmq_stable_leave(int32 zone_id)
{
	iotmq_zone_lock_give(zone_id, ZONE_LOCK_PUBLISH, RowExclusiveLock);
}

/*
 * Learns what can be learnt now and returns the stable offset: the first one
 * that may not be decided. Whoever wants to rely on rows below it has to read
 * them after this call.
 */
int64
iotmq_stable_refresh(ZoneMemory *memory)
{
	Stable	   *stable = &memory->stable;
	bool		is_committed;
	int64		last = iotmq_end_read(memory, &is_committed);	/* r1 */
	FullTransactionId oldest;

	if (last < stable->offset)
		return stable->offset;
	if (is_committed)
		return refresh_mirror(memory, last);

	STOP("stable_last_read");
	oldest = oldest_holder(memory->zone_id);	/* r2 */
	STOP("stable_listed");
	if (!iotmq_zone_lock_is_free(memory->zone_id, ZONE_LOCK_CHANGE))	/* r3 */
		return stable->offset;
	/* before the epoch nothing is drawn any more, and all of prepared transactions is written */
	stable->offset = Max(stable->offset, EPOCH_START(EPOCH_OF(last)));
	if (!FullTransactionIdIsValid(oldest))
	{
		stable->offset = last + 1;
		stable->sample_offset = 0;
		return stable->offset;
	}
	if (stable->sample_offset < stable->offset)
		stable->sample_offset = 0;
	if (stable->sample_offset != 0 &&
		FullTransactionIdFollowsOrEquals(oldest, stable->sample_xid))
	{
		stable->offset = stable->sample_offset + 1;
		stable->sample_offset = 0;
	}
	if (stable->sample_offset == 0 && last >= stable->offset)
	{
		stable->sample_offset = last;
		stable->sample_xid = ReadNextFullTransactionId();	/* r4 */
	}
	return stable->offset;
}

/*
 * The same of a mirror: all up to its end is decided, and whoever gets the change lock knows
 * the segments of it. What this transaction has pulled may be rolled back.
 */
static int64
refresh_mirror(ZoneMemory *memory, int64 last)
{
	Stable	   *stable = &memory->stable;

	if (!iotmq_zone_lock_is_ours(memory->zone_id, ZONE_LOCK_PUBLISH, RowExclusiveLock) &&
		iotmq_zone_lock_is_free(memory->zone_id, ZONE_LOCK_CHANGE))
		*stable = (Stable) {.offset = last + 1};
	return stable->offset;
}

/*
 * The head of a loop that waits for publishers to end: true for the first time at once,
 * later after a moment, in all that many times. looks is 0 at the beginning.
 */
bool
iotmq_stable_look_again(int *looks, int most)
{
	if (*looks == most)
		return false;
	if ((*looks)++ > 0)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(LOOK_AGAIN_US);
	}
	return true;
}

/*
 * Reads the last offsets of some zones, and waits a moment, for all of them together,
 * until every offset up to these is decided; false: not all are. On a standby nothing can
 * be learnt. A publisher itself can't wait for its own transaction.
 */
bool
iotmq_stable_await(ZoneEnd *zones, int n)
{
	bool		open = true;
	bool		is_committed;

	for (int z = 0; z < n; z++)
		zones[z].last = iotmq_end_read(zones[z].memory, &is_committed);
	if (RecoveryInProgress())
		return false;
	for (int looks = 0; open && iotmq_stable_look_again(&looks, AWAIT_LOOKS);)
	{
		open = false;
		for (int z = 0; z < n; z++)
			if (zones[z].memory->stable.offset <= zones[z].last &&
				!iotmq_zone_lock_is_ours(zones[z].memory->zone_id, ZONE_LOCK_PUBLISH,
										 RowExclusiveLock) &&
				iotmq_stable_refresh(zones[z].memory) <= zones[z].last)
				open = true;
	}
	return !open;
}

/*
 * Keeps publishers from a zone that is going to be dropped: none is open, none can begin.
 * Concerns whoever has the sequence, too, in a mode that lets readers pass: once it is to be
 * dropped, they queue up behind us. False: there is one (only without wait).
 */
bool
iotmq_stable_exclude(int32 zone_id, bool wait)
{
	Topic	   *topic;
	Zone	   *zone;
	Oid			sequence = InvalidOid;

	if (wait)
	{
		enter(zone_id, ExclusiveLock);
		return true;
	}
	if (iotmq_catalog_zone_by_id(zone_id, &topic, &zone))
		sequence = zone->sequence;
	if (OidIsValid(sequence) && !ConditionalLockRelationOid(sequence, ExclusiveLock))
		return false;
	if (iotmq_zone_lock_try(zone_id, ZONE_LOCK_PUBLISH, ExclusiveLock))
		return true;
	if (OidIsValid(sequence))
		UnlockRelationOid(sequence, ExclusiveLock);
	return false;
}

/* Lets them in again. */
void
iotmq_stable_admit(int32 zone_id)
{
	Topic	   *topic;
	Zone	   *zone;

	iotmq_zone_lock_give(zone_id, ZONE_LOCK_PUBLISH, ExclusiveLock);
	if (iotmq_catalog_zone_by_id(zone_id, &topic, &zone))
		UnlockRelationOid(zone->sequence, ExclusiveLock);
}

/*
 * stable_sample(zone_id int) RETURNS xid8: F of a sample, for what outlives a call: sealing.
 * NULL: nothing can be learnt now, since somebody is changing the zone. The caller has read
 * before what he wants to be known to all publishers that the sample does not wait for.
 */
PG_FUNCTION_INFO_V1(iotmq_stable_sample);
Datum
iotmq_stable_sample(PG_FUNCTION_ARGS)
{
	if (!iotmq_zone_lock_is_free(PG_GETARG_INT32(0), ZONE_LOCK_CHANGE))
		PG_RETURN_NULL();
	PG_RETURN_FULLTRANSACTIONID(ReadNextFullTransactionId());
}

/*
 * stable_is_decided(zone_id int, sample_xid xid8) RETURNS boolean: has every
 * publisher ended, and told what it changed, that a sample with this xid had to wait for?
 * NULL: the sample is void, of another cluster.
 */
PG_FUNCTION_INFO_V1(iotmq_stable_is_decided);
Datum
iotmq_stable_is_decided(PG_FUNCTION_ARGS)
{
	int32		zone_id = PG_GETARG_INT32(0);
	FullTransactionId sample_xid = PG_GETARG_FULLTRANSACTIONID(1);
	FullTransactionId oldest = oldest_holder(zone_id);

	if (FullTransactionIdFollows(sample_xid, ReadNextFullTransactionId()))
		PG_RETURN_NULL();
	PG_RETURN_BOOL((!FullTransactionIdIsValid(oldest) ||
					FullTransactionIdFollowsOrEquals(oldest, sample_xid)) &&
				   iotmq_zone_lock_is_free(zone_id, ZONE_LOCK_CHANGE));
}

/*
 * Drawing locks the sequence, too. That comes first: somebody who has drawn from it by hand
 * may publish later, while a drop waits for him.
 */
static void
enter(int32 zone_id, LOCKMODE mode)
{
	Topic	   *topic;
	Zone	   *zone;

	if (iotmq_catalog_zone_by_id(zone_id, &topic, &zone))
		LockRelationOid(zone->sequence, mode);
	iotmq_zone_lock_take(zone_id, ZONE_LOCK_PUBLISH, mode);
}

/* Has it a sample that may move that offset on? One of another cluster is void. */
static bool
may_help(const Stable *stable, int64 offset)
{
	return stable->sample_offset != 0 && stable->sample_offset >= offset &&
		!FullTransactionIdFollows(stable->sample_xid, ReadNextFullTransactionId());
}

/* The lowest transaction id among the zone's publishers; invalid if there is none. */
static FullTransactionId
oldest_holder(int32 zone_id)
{
	FullTransactionId next = ReadNextFullTransactionId();
	FullTransactionId oldest = InvalidFullTransactionId;
	VirtualTransactionId *holders;
	int			n;

	if (iotmq_zone_lock_is_ours(zone_id, ZONE_LOCK_PUBLISH, RowExclusiveLock))
		oldest = GetTopFullTransactionIdIfAny();
	holders = iotmq_zone_lock_holders(zone_id, ZONE_LOCK_PUBLISH, &n);
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
