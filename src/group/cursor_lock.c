/*
 * cursor_lock.c - who uses a cursor, and who takes it away from under its users.
 *
 * An object lock on the cursor that no SQL command takes, held to the end of the transaction
 * (of the subtransaction, if that is rolled back; prepared transactions keep it).
 * RowExclusive: whoever claims or settles as its group, and retention, while it judges and
 * drops a segment of the zone. Exclusive: whoever moves or drops it, ends its leases or
 * changes the group's mode.
 *
 * So a move sees all that was settled before it, nothing that was lent before it is settled
 * after it, and retention drops nothing that a group is being moved back to. Users don't
 * meet each other here.
 *
 * Order: it comes before the rows of leases and of the cursor. A transaction may settle
 * leases of several zones, in any order, and publish in between; whoever excludes it from
 * several locks therefore never waits for one while it holds another. Retention does not
 * wait.
 */
#include "group/group.h"

#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/resowner.h"

#define TRIES 100				/* for the other locks, about a millisecond each */

typedef struct Exclusion		/* a lock that is taken Exclusive */
{
	int32		id;
	bool		publishers;		/* of the zone with that id; else users of the cursor */
	bool		held;
} Exclusion;

static bool acquire(int32 cursor_id, LOCKMODE mode, bool wait);
static void release(int32 cursor_id, LOCKMODE mode);
static void set_tag(LOCKTAG *tag, int32 cursor_id);
static void exclude(Exclusion *exclusions, int n);
static bool take(Exclusion *exclusion, bool wait);
static bool try_for_a_while(Exclusion *exclusion);
static void give_all(Exclusion *exclusions, int n);
static Exclusion *read_exclusions(FunctionCallInfo fcinfo, int *n);

/* The caller is going to use the cursor; false: somebody excludes that (only without wait). */
bool
iotmq_cursor_lock_use(int32 cursor_id, bool wait)
{
	return acquire(cursor_id, RowExclusiveLock, wait);
}

/* cursor_lock_use(cursor_id int, wait boolean) RETURNS boolean: as above, for those in SQL. */
PG_FUNCTION_INFO_V1(iotmq_cursor_lock_use_in_sql);
Datum
iotmq_cursor_lock_use_in_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(iotmq_cursor_lock_use(PG_GETARG_INT32(0), PG_GETARG_BOOL(1)));
}

/*
 * cursor_lock_exclude(cursor_ids int[], zone_ids int[]) RETURNS void: waits for the users of
 * these cursors and the publishers of these zones; there are no others until the end of the
 * transaction. Nobody else is kept waiting for longer than a moment by the locks that are
 * had while one is missing.
 */
PG_FUNCTION_INFO_V1(iotmq_cursor_lock_exclude);
Datum
iotmq_cursor_lock_exclude(PG_FUNCTION_ARGS)
{
	int			n;
	Exclusion  *exclusions = read_exclusions(fcinfo, &n);

	/* whatever else needs this has written before */
	iotmq_call_require_primary("seek()");
	exclude(exclusions, n);
	PG_RETURN_VOID();
}

/* Waits for the cursor's users; there are no others until the end of the transaction. */
void
iotmq_cursor_lock_alone(int32 cursor_id)
{
	Exclusion	users = {.id = cursor_id};

	exclude(&users, 1);
}

/*
 * The lock is the subtransaction's, whatever runs in it: one that is rolled back, since a claim
 * came to nothing, leaves none; and a cursor that fails takes no lock along of what it did
 * before the savepoint.
 */
static bool
acquire(int32 cursor_id, LOCKMODE mode, bool wait)
{
	ResourceOwner owner = CurrentResourceOwner;
	LockAcquireResult result;
	LOCKTAG		tag;

	set_tag(&tag, cursor_id);
	CurrentResourceOwner = CurTransactionResourceOwner;
	result = LockAcquire(&tag, mode, false, !wait);
	CurrentResourceOwner = owner;
	return result != LOCKACQUIRE_NOT_AVAIL;
}

static void
release(int32 cursor_id, LOCKMODE mode)
{
	ResourceOwner owner = CurrentResourceOwner;
	LOCKTAG		tag;

	set_tag(&tag, cursor_id);
	CurrentResourceOwner = CurTransactionResourceOwner;
	LockRelease(&tag, mode, false);
	CurrentResourceOwner = owner;
}

static void
set_tag(LOCKTAG *tag, int32 cursor_id)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, iotmq_relation_table(CATALOG_CURSOR), cursor_id, 1);
}

/* Takes them all; whenever one is missing, waits for that one and has no other meanwhile. */
static void
exclude(Exclusion *exclusions, int n)
{
	int			missing = 0;

	while (missing < n)
	{
		(void) take(&exclusions[missing], true);
		for (missing = 0; missing < n; missing++)
			if (!exclusions[missing].held && !try_for_a_while(&exclusions[missing]))
			{
				give_all(exclusions, n);
				break;
			}
	}
}

/* Takes one; false: somebody has it (only without wait). */
static bool
take(Exclusion *exclusion, bool wait)
{
	exclusion->held = exclusion->publishers ? iotmq_stable_exclude(exclusion->id, wait) :
		acquire(exclusion->id, ExclusiveLock, wait);
	return exclusion->held;
}

/* Users mostly end in a moment: asks until the lock is free, for some 100 ms. */
static bool
try_for_a_while(Exclusion *exclusion)
{
	for (int i = 0; i < TRIES; i++)
	{
		if (take(exclusion, false))
			return true;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return false;
}

static void
give_all(Exclusion *exclusions, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (!exclusions[i].held)
			continue;
		if (exclusions[i].publishers)
			iotmq_stable_admit(exclusions[i].id);
		else
			release(exclusions[i].id, ExclusiveLock);
		exclusions[i].held = false;
	}
}

/* Arguments 0, cursors, and 1, zones. */
static Exclusion *
read_exclusions(FunctionCallInfo fcinfo, int *n)
{
	Exclusion  *exclusions = NULL;

	*n = 0;
	for (int argno = 0; argno < 2; argno++)
	{
		Datum	   *ids;
		int			count;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(argno), INT4OID, sizeof(int32), true, TYPALIGN_INT,
						  &ids, NULL, &count);
		if (count == 0)
			continue;
		exclusions = exclusions == NULL ? palloc(sizeof(Exclusion) * count) :
			repalloc(exclusions, sizeof(Exclusion) * (*n + count));
		for (int i = 0; i < count; i++)
			exclusions[(*n)++] = (Exclusion) {.id = DatumGetInt32(ids[i]), .publishers = argno == 1};
	}
	return exclusions;
}
