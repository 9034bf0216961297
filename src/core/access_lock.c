/*
 * access_lock.c - who changes rights.
 *
 * What topics have of their own is changed under the lock of the topic's row. What they
 * share - USAGE of the schemas, SELECT on views - only one transaction at a time may change,
 * since GRANT and REVOKE fail where they meet at an object. And what goes along with a
 * role's rights must not be taken back while it is given another one.
 *
 *   shared   Exclusive: changes what topics share. Taken last, and only where there is
 *            something to change, so that no topic's administration waits for another's.
 *   role     RowExclusive: gives that role a right. Exclusive: takes one, since of two who
 *            take its last rights the second has to see that nothing is left; or, not
 *            waiting, takes back what went along with another role's last right.
 *
 * Locks: object locks that no SQL command takes, to the end of the transaction; after the
 * row of the topic, shared after role.
 */
#include "core/core.h"

#include "miscadmin.h"
#include "storage/lock.h"

#define SHARED 1				/* kinds of locks, as the tag's objsubid */
#define ROLE 2

static bool take(Oid id, uint16 kind, LOCKMODE mode, bool wait);

/* access_lock_shared(wait boolean) RETURNS boolean: false, only without wait: somebody has it. */
PG_FUNCTION_INFO_V1(iotmq_access_lock_shared);
Datum
iotmq_access_lock_shared(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(take(InvalidOid, SHARED, ExclusiveLock, PG_GETARG_BOOL(0)));
}

/*
 * access_lock_role(role oid, alone boolean, wait boolean) RETURNS boolean: alone: nobody else
 * changes the role's rights; false, only without wait: somebody does.
 */
PG_FUNCTION_INFO_V1(iotmq_access_lock_role);
Datum
iotmq_access_lock_role(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(take(PG_GETARG_OID(0), ROLE, PG_GETARG_BOOL(1) ? ExclusiveLock : RowExclusiveLock,
						PG_GETARG_BOOL(2)));
}

static bool
take(Oid id, uint16 kind, LOCKMODE mode, bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, iotmq_relation_table(CATALOG_CONSUME_GRANT), id, kind);
	return LockAcquire(&tag, mode, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}
