/*
 * expire.c - leases whose time is over: their messages wait for the next attempt.
 *
 * A lease that expired counts as one failed attempt of each message still open.
 * Since one of them may be what killed the consumer, they come back in smaller
 * leases, in the end each alone, before their retries are used up: after an
 * expiry of n messages with r attempts left, in leases of at most n^((r-1)/r). A large
 * lease is taken over in parts, from its first message on. Its holder has lost all of it with
 * the first part, or what he did for that would be done twice: what is left goes on under an id
 * that nobody was given, and is taken over next.
 *
 * Locks: the caller holds the cursor; rows of leases, skipped where another has them.
 */
#include "group/group.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define STEP_MESSAGES 20000		/* that one step of maintenance takes over at most */
#define AMPLE_RETRIES 4			/* enough to find a message that kills its consumer a bit later */
#define SHRINK 8				/* a lease that expired comes back in at most 1/8 of its size */

static void expire(HeldCursor *held, Lease *lease, TimestampTz at, Budget *budget);
static int	next_limit(const ConsumerGroup *group, const Lease *lease, int open, int attempt);
static int	smaller(int n, int attempts_left);

/*
 * Ends the cursor's leases whose deadline is at that time or before, or the first of them
 * that the budget allows; returns how many.
 */
int
iotmq_expire_leases(HeldCursor *held, TimestampTz at, Budget *budget)
{
	RowScan		scan = iotmq_lease_scan(&held->state);
	int64		oldest = 0;
	int64		oldest_rest = 0;
	TimestampTz next_expiry = DT_NOEND;
	int			expired = 0;
	Lease		lease;

	while (iotmq_lease_scan_next(&scan, &lease))
	{
		if (lease.deadline <= at && !budget->is_used_up)
		{
			ItemPointerData tid;
			RowResult	result = iotmq_lease_lock(lease.lease_id, false, &lease, &tid);

			if (result == ROW_GONE)
				continue;
			/* extended meanwhile? */
			if (result == ROW_OK && lease.deadline <= at)
			{
				expire(held, &lease, Min(at, GetCurrentTimestamp()), budget);
				if (lease.messages == 0)
				{
					iotmq_lease_store(&lease, &tid);
					expired++;
					continue;
				}
				iotmq_lease_disown(held, &lease, &tid);
				if (oldest_rest == 0)
					oldest_rest = lease.lease_id;
				next_expiry = Min(next_expiry, lease.deadline);
				continue;
			}
		}
		if (oldest == 0)
			oldest = lease.lease_id;
		next_expiry = Min(next_expiry, lease.deadline);
	}
	iotmq_row_scan_end(&scan);
	/* rests have the highest ids */
	iotmq_cursor_oldest_lease_is(held, oldest != 0 ? oldest : oldest_rest);
	iotmq_cursor_next_expiry_is(held, next_expiry);
	return expired;
}

/*
 * expire_leases(cursor_id int, at timestamptz) RETURNS int: ends the cursor's leases that
 * are expired at that time; how many. NULL: somebody else has the cursor.
 */
PG_FUNCTION_INFO_V1(iotmq_expire_leases_of);
Datum
iotmq_expire_leases_of(PG_FUNCTION_ARGS)
{
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(1);
	Cursor		cursor;
	CursorState state;
	HeldCursor	held;
	Budget		budget = iotmq_budget(STEP_MESSAGES, 0);
	int			expired = 0;

	if (!iotmq_catalog_cursor_by_id(PG_GETARG_INT32(0), &cursor) ||
		!iotmq_cursor_peek(cursor.cursor_id, &state) || state.next_expiry > at)
		PG_RETURN_INT32(0);
	switch (iotmq_cursor_hold(&cursor, false, &held))
	{
		case ROW_LOCKED:
			PG_RETURN_NULL();
		case ROW_GONE:
			break;
		case ROW_OK:
			/* a lease may have messages of a segment that was made since then */
			if (!iotmq_catalog_cursor_by_id(cursor.cursor_id, &cursor) ||
				!iotmq_state_is_open(cursor.zone))
				break;			/* its leases are another server's, or go along with it */
			expired = iotmq_expire_leases(&held, at, &budget);
			iotmq_cursor_release(&held);
			break;
	}
	PG_RETURN_INT32(expired);
}

/* Takes over what is still open of the lease, or as much as the budget allows. */
static void
expire(HeldCursor *held, Lease *lease, TimestampTz at, Budget *budget)
{
	text	   *reason = cstring_to_text("lease expired");
	DeviceSet  *waiting = iotmq_device_set();
	int			open = lease->messages;

	iotmq_lease_read_devices(lease);
	for (int i = 0; i < lease->n && !budget->is_used_up; i++)
	{
		Failure		failure;

		CHECK_FOR_INTERRUPTS();
		if (iotmq_lease_is_settled(lease, i))
			continue;
		failure = iotmq_fail_of(held, lease, i, at);
		failure.batch_limit = next_limit(held->cursor->group, lease, open, failure.attempt);
		failure.reason = reason;
		if (failure.device != NULL && iotmq_device_has(waiting, failure.device))
			failure.place = PLACE_BEHIND;
		if (iotmq_fail_attempt(held, &failure))
			iotmq_device_add(waiting, failure.device);
		iotmq_lease_settle(lease, i);
		iotmq_budget_spend(budget);
	}
}

/*
 * How large the next lease of a message may be whose lease expired with so many open. An
 * orderly group gets a batch once more as it was, if there are retries enough.
 */
static int
next_limit(const ConsumerGroup *group, const Lease *lease, int open, int attempt)
{
	if (group->orderly && attempt == 1 && group->max_retries >= AMPLE_RETRIES)
		return lease->batch_limit;
	return smaller(open, group->max_retries - attempt + 1);
}

/* The size of leases for messages of one that expired with n of them open. */
static int
smaller(int n, int attempts_left)
{
	int			limit;

	if (attempts_left <= 1 || n <= 1)
		return 1;
	limit = (int) pow(n, (attempts_left - 1.0) / attempts_left);
	return Max(1, Min(limit, n / SHRINK));
}
