/*
 * zone_lock.c - locks on a zone that no SQL command takes.
 *
 * They are object locks on the zone's row of iotmq_internal.zone. A lock on a table or a sequence
 * can be taken by whoever can name it, some even before PostgreSQL looks at rights; these
 * only by our code. They are held to the end of the transaction, or of the subtransaction
 * that took them, if that is rolled back; prepared transactions keep them.
 *
 *   publish   RowExclusive: an open publisher (see stable.c). Exclusive: nobody publishes.
 *   change    RowExclusive: whoever changes what readers of the zone rely on (segments,
 *             how far they are closed), until all have been told. Share: nobody is at it.
 *   epoch     Exclusive: moves the zone's offsets on to a new epoch, for a moment.
 *   pull      Exclusive: pulls messages of another server, to the end of the transaction:
 *             of two, the second goes on where the first one has ended.
 *   keys      one for each bucket of message keys. Exclusive: looks whether a key is there,
 *             and writes the message that has it, for a moment (key.c).
 *
 * Order: pull, publish, then change, then epoch; tables and rows after these, then keys, by zone
 * and bucket: who has these waits for nothing that a transaction holds.
 */
#include "log/log.h"

#include "miscadmin.h"
#include "utils/resowner.h"

static bool acquire(int32 zone_id, ZoneLock which, LOCKMODE mode, bool wait);
static void set_tag(LOCKTAG *tag, int32 zone_id, ZoneLock which);

/* Waits for the lock. */
void
iotmq_zone_lock_take(int32 zone_id, ZoneLock which, LOCKMODE mode)
{
	(void) acquire(zone_id, which, mode, true);	/* an error, if not */
}

/* Takes the lock if it can be had at once. */
bool
iotmq_zone_lock_try(int32 zone_id, ZoneLock which, LOCKMODE mode)
{
	return acquire(zone_id, which, mode, false);
}

/* Gives back what was taken before. */
void
iotmq_zone_lock_give(int32 zone_id, ZoneLock which, LOCKMODE mode)
{
	ResourceOwner owner = CurrentResourceOwner;
	LOCKTAG		tag;

	set_tag(&tag, zone_id, which);
	CurrentResourceOwner = CurTransactionResourceOwner;
	LockRelease(&tag, mode, false);
	CurrentResourceOwner = owner;
}

/* Does no other transaction hold the lock in a mode that conflicts with Share? */
bool
iotmq_zone_lock_is_free(int32 zone_id, ZoneLock which)
{
	if (!iotmq_zone_lock_try(zone_id, which, ShareLock))
		return false;
	iotmq_zone_lock_give(zone_id, which, ShareLock);
	return true;
}

/* Does this transaction hold the lock in that mode? */
bool
iotmq_zone_lock_is_ours(int32 zone_id, ZoneLock which, LOCKMODE mode)
{
	LOCKTAG		tag;

	set_tag(&tag, zone_id, which);
	return LOCK_HELD_BY_ME(&tag, mode);
}

/* The other transactions that hold the lock RowExclusive, n of them, allocated. */
VirtualTransactionId *
iotmq_zone_lock_holders(int32 zone_id, ZoneLock which, int *n)
{
	LOCKTAG		tag;

	set_tag(&tag, zone_id, which);
	return GetLockConflicts(&tag, ShareLock, n);
}

/* zone_lock_change(zone_id int) RETURNS void: takes the change lock, as somebody who changes. */
PG_FUNCTION_INFO_V1(iotmq_zone_lock_change);
Datum
iotmq_zone_lock_change(PG_FUNCTION_ARGS)
{
	iotmq_zone_lock_take(PG_GETARG_INT32(0), ZONE_LOCK_CHANGE, RowExclusiveLock);
	PG_RETURN_VOID();
}

/*
 * zone_lock_pull(zone_id int, wait boolean) RETURNS boolean: takes the pull lock; false: somebody
 * else has it (only without wait).
 */
PG_FUNCTION_INFO_V1(iotmq_zone_lock_pull);
Datum
iotmq_zone_lock_pull(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(acquire(PG_GETARG_INT32(0), ZONE_LOCK_PULL, ExclusiveLock, PG_GETARG_BOOL(1)));
}

/*
 * The lock is the subtransaction's that draws or changes, never that of a cursor which runs
 * meanwhile: a cursor that fails in a savepoint takes its locks along, also those of what
 * it did before the savepoint.
 */
static bool
acquire(int32 zone_id, ZoneLock which, LOCKMODE mode, bool wait)
{
	ResourceOwner owner = CurrentResourceOwner;
	LockAcquireResult result;
	LOCKTAG		tag;

	set_tag(&tag, zone_id, which);
	CurrentResourceOwner = CurTransactionResourceOwner;
	result = LockAcquire(&tag, mode, false, !wait);
	CurrentResourceOwner = owner;
	return result != LOCKACQUIRE_NOT_AVAIL;
}

static void
set_tag(LOCKTAG *tag, int32 zone_id, ZoneLock which)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, iotmq_relation_table(CATALOG_ZONE), zone_id, which);
}
