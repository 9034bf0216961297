/*
 * iotmq_stop.c - holds a backend in the middle of things, for tests.
 *
 * Two sessions take part:
 *   controlling: SELECT iotmq_stop.hold('commit');
 *   other:       SELECT iotmq_stop.arm('commit');
 *   other:       INSERT INTO ...;	-- doesn't come back
 *   controlling: SELECT iotmq_stop.await('commit');	-- now it stands there
 *   ...	-- look at the world from here, or from a third session
 *   controlling: SELECT iotmq_stop.release('commit');	-- and the INSERT ends
 *
 * In an isolation spec "await" is not needed: the other session waits for a lock of
 * the controlling one, which the tester sees, shows as "<waiting ...>", and goes on.
 *
 * Points:
 *   pre_commit         the end begins; the transaction can still fail
 *   commit             committed, and no longer in the ProcArray: its rows are
 *                      visible. Its invalidation messages are not sent and its locks
 *                      are not released yet.
 *   abort              likewise, of a rollback
 *   pre_prepare        as pre_commit, of PREPARE TRANSACTION
 *   prepare            prepared, and no longer in the ProcArray entry of the backend
 *   commit_prepared    as commit, of COMMIT PREPARED: its entry has left the
 *                      ProcArray, the messages in it are not sent
 *   rollback_prepared  as abort, of ROLLBACK PREPARED
 *   any other          a STOP("name") in iotmq (src/core/stop.h), or in a test's own
 *                      SQL: SELECT iotmq_stop.here('name')
 *
 * Why "commit" is that moment: PostgreSQL's CommitTransaction calls, in this order,
 * RecordTransactionCommit, ProcArrayEndTransaction, the callbacks for
 * XACT_EVENT_COMMIT, ResourceOwnerRelease before locks, AtEOXact_Inval (which sends
 * the messages), ResourceOwnerRelease of locks. Read in 15.18; AbortTransaction has
 * the same order. PrepareTransaction calls them after ProcArrayClearTransaction.
 *
 * FinishPreparedTransaction calls no callback and no hook. But between leaving the
 * ProcArray and sending the messages it allocates memory, in DropRelationFiles,
 * even when there are no files to drop. So the command is run in a memory context
 * of ours, whose first allocation after the transaction has ended is the stop.
 *
 * An armed point stops once. What ends the transaction that armed it doesn't count,
 * unless it was armed in a transaction block: SELECT arm('commit') on its own
 * commits, too. Nothing is held when no other session holds the point.
 *
 * Locks: an advisory lock for each point, ExclusiveLock by the controlling session,
 * ShareLock for a moment by those that stop. Theirs is a lock of the session, so
 * that it wants no resource owner: at "commit" there is none for locks any more. An
 * error there would be a PANIC, and interrupts are held: so neither deadlock_timeout
 * nor lock_timeout counts. When a controlling session waits for one that is
 * stopped, its own check finds the deadlock and it gets the error. It may not stay
 * idle for longer than a minute (iotmq_stop.hold); its end lets all go.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/memnodes.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "core/stop.h"

PG_MODULE_MAGIC;

#define LOCK_CLASS 20815		/* first key of the advisory locks, by no meaning */
#define POINT_BYTES 64
#define POINTS 16

typedef struct Armed
{
	char		point[POINT_BYTES];
	int			passes;			/* before it stops */
	LOCKTAG		tag;
} Armed;

typedef struct Finishing		/* COMMIT PREPARED or ROLLBACK PREPARED */
{
	const char *point;
	TransactionId xid;
	const MemoryContextMethods *real;
	MemoryContextMethods watched;	/* real, but for alloc */
} Finishing;

static Armed armed[POINTS];
static int	narmed = 0;
static bool arming = false;		/* the end of this transaction doesn't count */
static Finishing finishing;
static ProcessUtility_hook_type next_utility = NULL;

void		_PG_init(void);

static void reach(const char *point);
static Armed *find_armed(const char *point);
static void wait_for_release(const LOCKTAG *tag);
static void at_transaction_end(XactEvent event, void *arg);
static void utility(PlannedStmt *statement, const char *query, bool read_only,
					ProcessUtilityContext context, ParamListInfo params,
					QueryEnvironment *environment, DestReceiver *dest,
					QueryCompletion *completion);
static const char *finishing_point(PlannedStmt *statement);
static TransactionId prepared_xid(const char *gid);
static void stop_finishing(MemoryContext context);
static int32 lock_key(const char *point);

void
_PG_init(void)
{
	*find_rendezvous_variable(STOP_VARIABLE) = (void *) reach;
	RegisterXactCallback(at_transaction_end, NULL);
	next_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
}

/* arm(point text, passes int) RETURNS void */
PG_FUNCTION_INFO_V1(iotmq_stop_arm);
Datum
iotmq_stop_arm(PG_FUNCTION_ARGS)
{
	char	   *point = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Armed	   *entry = find_armed(point);

	if (strlen(point) >= POINT_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of a stop has at most %d bytes", POINT_BYTES - 1)));
	if (entry == NULL && narmed == POINTS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more than %d stops are armed", POINTS)));
	if (entry == NULL)
		entry = &armed[narmed++];
	strcpy(entry->point, point);
	entry->passes = PG_GETARG_INT32(1);
	SET_LOCKTAG_ADVISORY(entry->tag, MyDatabaseId, LOCK_CLASS, (uint32) lock_key(point), 2);
	arming = !IsTransactionBlock();
	PG_RETURN_VOID();
}

/* disarm() RETURNS void */
PG_FUNCTION_INFO_V1(iotmq_stop_disarm);
Datum
iotmq_stop_disarm(PG_FUNCTION_ARGS)
{
	narmed = 0;
	PG_RETURN_VOID();
}

/* here(point text) RETURNS void */
PG_FUNCTION_INFO_V1(iotmq_stop_here);
Datum
iotmq_stop_here(PG_FUNCTION_ARGS)
{
	reach(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

/* lock_class() RETURNS int */
PG_FUNCTION_INFO_V1(iotmq_stop_lock_class);
Datum
iotmq_stop_lock_class(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(LOCK_CLASS);
}

/* lock_key(point text) RETURNS int */
PG_FUNCTION_INFO_V1(iotmq_stop_lock_key);
Datum
iotmq_stop_lock_key(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(lock_key(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

/* The backend is at the point: waits there if it is armed and held. */
static void
reach(const char *point)
{
	Armed	   *entry = find_armed(point);
	LOCKTAG		tag;

	if (entry == NULL || entry->passes-- > 0)
		return;
	tag = entry->tag;
	*entry = armed[--narmed];
	wait_for_release(&tag);
}

static Armed *
find_armed(const char *point)
{
	for (int i = 0; i < narmed; i++)
		if (strcmp(armed[i].point, point) == 0)
			return &armed[i];
	return NULL;
}

static void
wait_for_release(const LOCKTAG *tag)
{
	int			deadlock_timeout = DeadlockTimeout;
	int			lock_timeout = LockTimeout;

	DeadlockTimeout = INT_MAX;
	LockTimeout = 0;
	PG_TRY();
	{
		(void) LockAcquire(tag, ShareLock, true, false);
	}
	PG_FINALLY();
	{
		DeadlockTimeout = deadlock_timeout;
		LockTimeout = lock_timeout;
	}
	PG_END_TRY();
	LockRelease(tag, ShareLock, true);
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	const char *point;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			point = "pre_commit";
			break;
		case XACT_EVENT_COMMIT:
			point = "commit";
			break;
		case XACT_EVENT_ABORT:
			point = "abort";
			break;
		case XACT_EVENT_PRE_PREPARE:
			point = "pre_prepare";
			break;
		case XACT_EVENT_PREPARE:
			point = "prepare";
			break;
		default:
			return;				/* of parallel workers */
	}
	if (!arming)
		reach(point);
	else if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE)
		arming = false;
}

#if PG_VERSION_NUM >= 170000
static void *
watched_alloc(MemoryContext context, Size size, int flags)
{
	stop_finishing(context);
	return finishing.real->alloc(context, size, flags);
}
#else
static void *
watched_alloc(MemoryContext context, Size size)
{
	stop_finishing(context);
	return finishing.real->alloc(context, size);
}
#endif

/* ProcessUtility_hook: watches the end of a prepared transaction if that is armed. */
static void
utility(PlannedStmt *statement, const char *query, bool read_only,
		ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	ProcessUtility_hook_type next = next_utility ? next_utility : standard_ProcessUtility;
	const char *point = finishing_point(statement);
	MemoryContext ours;
	MemoryContext callers;

	if (point == NULL || find_armed(point) == NULL)
	{
		next(statement, query, read_only, context, params, environment, dest, completion);
		return;
	}
	finishing.point = point;
	finishing.xid = prepared_xid(((TransactionStmt *) statement->utilityStmt)->gid);
	/* an error leaves it to the abort, which deletes it with its parent */
	ours = AllocSetContextCreate(CurrentMemoryContext, "iotmq_stop", ALLOCSET_DEFAULT_SIZES);
	finishing.real = ours->methods;
	finishing.watched = *ours->methods;
	finishing.watched.alloc = watched_alloc;
	ours->methods = &finishing.watched;
	callers = MemoryContextSwitchTo(ours);
	next(statement, query, read_only, context, params, environment, dest, completion);
	MemoryContextSwitchTo(callers);
	MemoryContextDelete(ours);
}

/* NULL: the statement ends no prepared transaction. */
static const char *
finishing_point(PlannedStmt *statement)
{
	if (!IsA(statement->utilityStmt, TransactionStmt))
		return NULL;
	switch (((TransactionStmt *) statement->utilityStmt)->kind)
	{
		case TRANS_STMT_COMMIT_PREPARED:
			return "commit_prepared";
		case TRANS_STMT_ROLLBACK_PREPARED:
			return "rollback_prepared";
		default:
			return NULL;
	}
}

/* Invalid: there is no such transaction. */
static TransactionId
prepared_xid(const char *gid)
{
	TransactionId xid = InvalidTransactionId;
	bool		isnull;

	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT transaction FROM pg_catalog.pg_prepared_xacts WHERE gid = $1",
							  1, (Oid[]) {TEXTOID}, (Datum[]) {CStringGetTextDatum(gid)},
							  NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read pg_prepared_xacts");
	if (SPI_processed == 1)
		xid = DatumGetTransactionId(SPI_getbinval(SPI_tuptable->vals[0],
												  SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	PopActiveSnapshot();
	return xid;
}

/*
 * Stops at the first allocation after the prepared transaction has left the
 * ProcArray, in the part of FinishPreparedTransaction where interrupts are held.
 */
static void
stop_finishing(MemoryContext context)
{
	if (CritSectionCount > 0 || InterruptHoldoffCount == 0 ||
		!TransactionIdIsNormal(finishing.xid) || TransactionIdIsInProgress(finishing.xid))
		return;
	context->methods = finishing.real;
	reach(finishing.point);
}

static int32
lock_key(const char *point)
{
	return (int32) hash_bytes((const unsigned char *) point, strlen(point));
}
