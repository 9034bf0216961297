/*
 * topic_lock.c - who changes what claims go by is seen to do so until all are told.
 *
 * A transaction's changes are visible from the moment that it leaves the ProcArray, a
 * little before its invalidation messages are sent. In between, a claim could go by the
 * mode, tags and filter that it remembers, on a cursor that was moved, or given to
 * another group, together with the change. So whoever changes these holds a lock of
 * mode RowExclusive, which ends only after the messages are sent; a claim that holds its
 * cursor asks for the same lock of mode Share, without waiting, and lets it go at once.
 * If it was granted, what the claim sees of the change it was told of, too, and finds it
 * by comparing iotmq_catalog_changes() after AcceptInvalidationMessages(). Neither
 * changes nor claims exclude each other.
 *
 * Locks: object locks that no SQL command takes. On the row of the topic, for what
 * concerns all of its groups, and on the row of the group.
 */
#include "core/core.h"

#include "miscadmin.h"
#include "storage/lock.h"

#define SUBID 1					/* PostgreSQL's own locks of rows of no catalog have 0 */

static void show(Catalog catalog, int32 id);
static bool is_free(Catalog catalog, int32 id);

/* Is nobody in the middle of a change of that topic or group? */
bool
iotmq_topic_lock_is_free(const Topic *topic, const ConsumerGroup *group)
{
	return is_free(CATALOG_TOPIC, topic->topic_id) && is_free(CATALOG_GROUP, group->group_id);
}

/*
 * topic_lock_change(topic_id int) RETURNS void: this transaction changes what all groups
 * of the topic go by. NULL: nothing.
 */
PG_FUNCTION_INFO_V1(iotmq_topic_lock_change);
Datum
iotmq_topic_lock_change(PG_FUNCTION_ARGS)
{
	show(CATALOG_TOPIC, PG_GETARG_INT32(0));
	PG_RETURN_VOID();
}

/* topic_lock_change_group(group_id int) RETURNS void: likewise, what one group goes by. */
PG_FUNCTION_INFO_V1(iotmq_topic_lock_change_group);
Datum
iotmq_topic_lock_change_group(PG_FUNCTION_ARGS)
{
	show(CATALOG_GROUP, PG_GETARG_INT32(0));
	PG_RETURN_VOID();
}

static void
show(Catalog catalog, int32 id)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, iotmq_relation_table(catalog), id, SUBID);
	(void) LockAcquire(&tag, RowExclusiveLock, false, false);
}

static bool
is_free(Catalog catalog, int32 id)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, iotmq_relation_table(catalog), id, SUBID);
	if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	(void) LockRelease(&tag, ShareLock, false);
	return true;
}
