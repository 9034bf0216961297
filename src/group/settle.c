/*
 * settle.c - ack, nack, reject, extend: what a consumer says of its lease.
 *
 * All four lock the lease's row; a lease that is not there ended, was taken over,
 * or was voided: 55000, and nothing changes. An expired lease that nobody took
 * over yet is there. They work at every isolation level. ack touches nothing but
 * the lease. nack, reject and a shortening extend tell the cursor that something
 * will be due.
 *
 * Locks: the use of the cursor, which a seek or a drop excludes (cursor_lock.c): it
 * begins when no lease is being settled, and until it has ended none is. Then the lease,
 * then the cursor's row where it is needed: a transaction may ack some messages of a
 * lease and nack others. A claim comes from the cursor to expired leases, and skips those
 * that are locked.
 */
#include "group/group.h"

#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

typedef enum Verdict
{
	VERDICT_ACK,
	VERDICT_NACK,
	VERDICT_REJECT
} Verdict;

typedef struct Settlement
{
	Verdict		verdict;
	int64		delay;			/* us; -1: the group's backoff */
	text	   *reason;			/* NULL: none */
} Settlement;

#define MAX_DELAY (365 * USECS_PER_DAY)

static int	settle(FunctionCallInfo fcinfo, const Settlement *settlement);
static void open_lease(FunctionCallInfo fcinfo, Cursor *cursor, Lease *lease, ItemPointer tid);
static void hold_for_lease(const Cursor *cursor, const Lease *lease, HeldCursor *held);
static void lease_is_gone(int64 lease_id);
static bool *choose(FunctionCallInfo fcinfo, const Lease *lease, int *n);
static void forget_dead_letters(const Cursor *cursor, const Lease *lease, const bool *chosen);
static void fail(HeldCursor *held, const Lease *lease, bool *chosen,
				 const Settlement *settlement);
static void choose_followers(const Lease *lease, int i, bool *chosen);
static int64 backoff(const ConsumerGroup *group, int attempt);

/*
 * ack(lease_id bigint, msg_offsets bigint[]) RETURNS int: these messages (NULL:
 * all still open) are done; how many of them were settled by this call.
 * Errors: 22004 lease_id or an offset NULL; 22023 an offset that the lease
 * doesn't hold; 55000 the lease is gone; 42501 not allowed; 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_ack);
Datum
iotmq_ack(PG_FUNCTION_ARGS)
{
	iotmq_call_require_primary("ack()");
	PG_RETURN_INT32(settle(fcinfo, &(Settlement) {VERDICT_ACK}));
}

/*
 * nack(lease_id bigint, msg_offsets bigint[], delay interval, reason text)
 * RETURNS int: these messages (NULL: all still open) failed; each comes again
 * after delay (NULL: the group's backoff for that attempt) or, after the last
 * retry, becomes a dead letter with that reason. Errors as of ack; 22023 delay
 * below 0 or
 * above 365 days. The reason is cut at 1,024 bytes, here and below.
 */
PG_FUNCTION_INFO_V1(iotmq_nack);
Datum
iotmq_nack(PG_FUNCTION_ARGS)
{
	Settlement	settlement = {VERDICT_NACK, -1, iotmq_fail_reason(fcinfo, 3)};

	iotmq_call_require_primary("nack()");
	if (!PG_ARGISNULL(2))
	{
		settlement.delay = iotmq_interval_us(PG_GETARG_INTERVAL_P(2));
		if (settlement.delay < 0 || settlement.delay > MAX_DELAY)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("delay must be between 0 and 365 days")));
	}
	PG_RETURN_INT32(settle(fcinfo, &settlement));
}

/*
 * reject(lease_id bigint, msg_offsets bigint[], reason text) RETURNS int: these
 * messages (NULL: all still open) become dead letters now. Errors as of ack.
 */
PG_FUNCTION_INFO_V1(iotmq_reject);
Datum
iotmq_reject(PG_FUNCTION_ARGS)
{
	iotmq_call_require_primary("reject()");
	PG_RETURN_INT32(settle(fcinfo, &(Settlement) {
		VERDICT_REJECT, -1, iotmq_fail_reason(fcinfo, 2)
	}));
}

/*
 * extend(lease_id bigint, invisible_for interval) RETURNS timestamptz: the new
 * deadline, that long from now. Errors as of ack; 22004 or 22023 for a bad
 * invisible_for.
 */
PG_FUNCTION_INFO_V1(iotmq_extend);
Datum
iotmq_extend(PG_FUNCTION_ARGS)
{
	Cursor		cursor;
	Lease		lease;
	ItemPointerData tid;
	HeldCursor	held;
	TimestampTz deadline;
	int64		invisible_for;

	iotmq_call_require_primary("extend()");
	iotmq_call_require(fcinfo, 1, "invisible_for");
	invisible_for = iotmq_call_invisible_for(fcinfo, 1);
	open_lease(fcinfo, &cursor, &lease, &tid);
	deadline = GetCurrentTimestamp() + invisible_for;
	if (deadline < lease.deadline)
	{
		hold_for_lease(&cursor, &lease, &held);
		iotmq_cursor_expect_expiry(&held, deadline);
		iotmq_cursor_release(&held);
	}
	lease.deadline = deadline;
	iotmq_lease_update(&lease, &tid);
	PG_RETURN_TIMESTAMPTZ(deadline);
}

/* Settles the messages that argument 1 names; returns how many of them were open. */
static int
settle(FunctionCallInfo fcinfo, const Settlement *settlement)
{
	Cursor		cursor;
	HeldCursor	held;
	Lease		lease;
	ItemPointerData tid;
	int			n;
	bool	   *chosen;

	open_lease(fcinfo, &cursor, &lease, &tid);
	chosen = choose(fcinfo, &lease, &n);
	if (n == 0)
		return 0;
	if (settlement->verdict == VERDICT_ACK)
		forget_dead_letters(&cursor, &lease, chosen);
	else
	{
		hold_for_lease(&cursor, &lease, &held);
		iotmq_lease_read_devices(&lease);
		fail(&held, &lease, chosen, settlement);
		iotmq_cursor_release(&held);
	}
	for (int i = 0; i < lease.n; i++)
		if (chosen[i])
			iotmq_lease_settle(&lease, i);
	iotmq_lease_store(&lease, &tid);
	return n;
}

/* Locks the lease that argument 0 names, if the current user may settle it. */
static void
open_lease(FunctionCallInfo fcinfo, Cursor *cursor, Lease *lease, ItemPointer tid)
{
	int64		lease_id;

	iotmq_call_require(fcinfo, 0, "lease_id");
	lease_id = PG_GETARG_INT64(0);
	if (lease_id <= 0 || !iotmq_catalog_cursor_by_id(iotmq_lease_cursor(lease_id), cursor))
		lease_is_gone(lease_id);
	if (!iotmq_access_may_consume(cursor->group))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for lease " INT64_FORMAT, lease_id),
				 errdetail("It is of a consumer group that role \"%s\" may not consume as.",
						   GetUserNameFromId(GetUserId(), false))));
	(void) iotmq_cursor_lock_use(cursor->cursor_id, true);
	if (iotmq_lease_lock(lease_id, true, lease, tid) != ROW_OK)
		lease_is_gone(lease_id);
}

/* Holds the cursor of a lease that is locked already. */
static void
hold_for_lease(const Cursor *cursor, const Lease *lease, HeldCursor *held)
{
	if (iotmq_cursor_hold(cursor, true, held) != ROW_OK)
		lease_is_gone(lease->lease_id);
}

static void
lease_is_gone(int64 lease_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("lease " INT64_FORMAT " does not exist", lease_id),
			 errdetail("It ended, expired and was taken over, was voided by a seek, or never was."),
			 errhint("Roll back what was done for its messages; those not settled come again with consume().")));
}

/* Which messages of the lease argument 1 means and are open; n: how many. */
static bool *
choose(FunctionCallInfo fcinfo, const Lease *lease, int *n)
{
	bool	   *chosen = palloc0(sizeof(bool) * lease->n);
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	*n = 0;
	if (PG_ARGISNULL(1))
	{
		for (int i = 0; i < lease->n; i++)
			chosen[i] = !iotmq_lease_is_settled(lease, i);
		*n = lease->messages;
		return chosen;
	}

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, &nulls, &count);
	for (int e = 0; e < count; e++)
	{
		int			i;

		if (nulls[e])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("msg_offsets must not contain NULL")));
		i = iotmq_lease_find(lease, DatumGetInt64(elements[e]));
		if (i < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("lease " INT64_FORMAT " does not hold offset " INT64_FORMAT,
							lease->lease_id, DatumGetInt64(elements[e]))));
		if (!chosen[i] && !iotmq_lease_is_settled(lease, i))
		{
			chosen[i] = true;
			(*n)++;
		}
	}
	return chosen;
}

/* What was redriven and is done now needs no copy of its content any more. */
static void
forget_dead_letters(const Cursor *cursor, const Lease *lease, const bool *chosen)
{
	for (int i = 0; i < lease->n && lease->redriven; i++)
		if (chosen[i])
			iotmq_deadletter_done(cursor->cursor_id, iotmq_lease_offset(lease, i));
}

/*
 * Puts the chosen messages where they wait for their retry, or among the dead
 * letters. In an orderly group a message that is to come again takes the later
 * ones of its device back with it, as they are; those are chosen then, too.
 */
static void
fail(HeldCursor *held, const Lease *lease, bool *chosen, const Settlement *settlement)
{
	const ConsumerGroup *group = held->cursor->group;
	TimestampTz now = GetCurrentTimestamp();
	bool	   *named = memcpy(palloc(lease->n), chosen, lease->n);
	DeviceSet  *waiting = iotmq_device_set();

	for (int i = 0; i < lease->n; i++)
	{
		Failure		failure;

		if (!chosen[i])
			continue;
		failure = iotmq_fail_of(held, lease, i, now);
		if (failure.device != NULL && iotmq_device_has(waiting, failure.device))
			failure.place = PLACE_BEHIND;
		if (!named[i])
		{
			iotmq_fail_wait(held, &failure, failure.attempt);
			continue;
		}
		failure.reason = settlement->reason;
		if (settlement->verdict == VERDICT_REJECT)
			iotmq_fail_bury(held, &failure);
		else
		{
			failure.not_before = now + (settlement->delay >= 0 ? settlement->delay :
										backoff(group, failure.attempt));
			if (iotmq_fail_attempt(held, &failure))
			{
				choose_followers(lease, i, chosen);
				iotmq_device_add(waiting, failure.device);
			}
		}
	}
}

/* Chooses the open messages behind message i that are of its device. */
static void
choose_followers(const Lease *lease, int i, bool *chosen)
{
	for (int j = i + 1; j < lease->n && lease->devices != NULL; j++)
		if (!iotmq_lease_is_settled(lease, j) &&
			iotmq_device_equal(lease->devices[i], lease->devices[j]))
			chosen[j] = true;
}

/* How long to wait after that attempt failed, in us. */
static int64
backoff(const ConsumerGroup *group, int attempt)
{
	return group->backoff[Min(attempt, group->nbackoff) - 1];
}
