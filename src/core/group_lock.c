/*
 * group_lock.c - who changes what claims go by is seen to do so until all are told.
 *
 * A transaction's changes are visible from the moment that it leaves the ProcArray, a
 * little before its invalidation messages are sent. In between, a claim could go by the
 * mode, tags and filter that it remembers, on a cursor that was moved together with the
 * change. So whoever changes a group holds a lock of mode RowExclusive, which ends only
 * after the messages are sent; a claim that holds its cursor asks for the same lock of mode
 * Share, without waiting. If it was granted, what the claim sees of the change it was told
 * of, too, and finds it by iotmq_catalog_group_is_current() after
 * AcceptInvalidationMessages().
 *
 * The claim keeps the lock until it is made, not to its transaction's end. So whoever is to
 * change the group waits for claims in the middle, some milliseconds, and none that began
 * before a change is made after it: what a paused group has lent was lent before the pause.
 * Neither changes nor claims exclude their like.
 *
 * Locks: object locks that no SQL command takes, on the row of the group.
 */
#include "core/core.h"

#include "miscadmin.h"
#include "storage/lock.h"

#define SUBID 1					/* PostgreSQL's own locks of rows of no catalog have 0 */

static void set_tag(LOCKTAG *tag, int32 group_id);

/* Keeps the group as it is while a claim is made; false: somebody is changing it. */
bool
iotmq_group_lock_enter(int32 group_id)
{
	LOCKTAG		tag;

	set_tag(&tag, group_id);
	return LockAcquire(&tag, ShareLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
iotmq_group_lock_leave(int32 group_id)
{
	LOCKTAG		tag;

	set_tag(&tag, group_id);
	(void) LockRelease(&tag, ShareLock, false);	/* it is ours */
}

/* group_lock_change(group_id int) RETURNS void: this transaction changes what a group goes by. */
PG_FUNCTION_INFO_V1(iotmq_group_lock_change);
Datum
iotmq_group_lock_change(PG_FUNCTION_ARGS)
{
	LOCKTAG		tag;

	set_tag(&tag, PG_GETARG_INT32(0));
	(void) LockAcquire(&tag, RowExclusiveLock, false, false);	/* an error, if not */
	PG_RETURN_VOID();
}

static void
set_tag(LOCKTAG *tag, int32 group_id)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, iotmq_relation_table(CATALOG_GROUP), group_id, SUBID);
}
