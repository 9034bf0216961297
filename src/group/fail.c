/*
 * fail.c - a message's attempt failed: it waits for another, or is given up.
 *
 * The caller holds the lock on the cursor's position and stores it afterwards.
 *
 * A lease that expired counts as one failed attempt of each message still open.
 * Since one of them may be what killed the consumer, they come back in smaller
 * leases, in the end each alone, before their retries are used up: after an
 * expiry of n messages with r attempts left, in leases of at most n^((r-1)/r).
 */
#include "iotmq.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define TAKE_OVER_MESSAGES 20000	/* that one claim takes over at most, about */
#define AMPLE_RETRIES 4			/* enough to find a message that kills its consumer a bit later */
#define SHRINK 8				/* a lease that expired comes back in at most 1/8 of its size */

static void take_over(const Cursor *cursor, const Lease *lease, Position *position, TimestampTz now);
static int	next_limit(const ConsumerGroup *group, const Lease *lease, int attempt);
static int	smaller(int n, int attempts_left);

/* The message waits for its next delivery, which will have that number. */
void
iotmq_wait(const Cursor *cursor, const Failure *failure, int next_attempt, Position *position)
{
	Waiting		waiting = {
		.cursor_id = cursor->cursor_id, .attempt = next_attempt,
		.due_at = failure->device == NULL || failure->place == PLACE_HEAD ?
		failure->not_before : DT_NOEND,
		.not_before = failure->not_before, .msg_offset = failure->msg_offset,
		.redriven = failure->redriven, .batch_limit = failure->batch_limit,
		.device = failure->device, .reason = failure->reason
	};

	iotmq_waiting_add(&waiting, position);
	if (failure->device != NULL && failure->place == PLACE_UNKNOWN)
		iotmq_waiting_settle_head(cursor->cursor_id, failure->device, 0, position);
}

/*
 * The message comes again, or is given up if this was its last attempt (false).
 * Its last attempt it gets alone: no other message can spoil it.
 */
bool
iotmq_fail(const Cursor *cursor, const Failure *failure, Position *position)
{
	Failure		waiting = *failure;

	if (failure->attempt > cursor->group->max_retries)
	{
		iotmq_bury(cursor, failure, position);
		return false;
	}
	if (failure->attempt == cursor->group->max_retries)
		waiting.batch_limit = 1;
	iotmq_wait(cursor, &waiting, failure->attempt + 1, position);
	position->retried_total++;
	return true;
}

/* The message becomes a dead letter; if the log has dropped it, it is lost unread. */
void
iotmq_bury(const Cursor *cursor, const Failure *failure, Position *position)
{
	if (iotmq_dead_letter_add(cursor, failure, position))
		position->dead_total++;
	else
		position->expired_unread++;
}

/* Takes over the cursor's leases that are expired at that time; returns how many. */
int
iotmq_take_over_expired(const Cursor *cursor, Position *position, TimestampTz at)
{
	RowScan		scan = iotmq_lease_scan(cursor->cursor_id, position->oldest_lease);
	int64		oldest = 0;
	TimestampTz next_expiry = DT_NOEND;
	int			messages = 0;
	int			taken = 0;
	Lease		lease;

	while (iotmq_lease_scan_next(&scan, &lease))
	{
		if (lease.deadline <= at && messages < TAKE_OVER_MESSAGES)
		{
			ItemPointerData tid;
			RowResult	result = iotmq_lease_lock(lease.lease_id, false, &lease, &tid);

			if (result == ROW_GONE)
				continue;
			/* extended meanwhile? */
			if (result == ROW_OK && lease.deadline <= at)
			{
				take_over(cursor, &lease, position, Min(at, GetCurrentTimestamp()));
				iotmq_lease_delete(&tid);
				messages += lease.messages;
				taken++;
				continue;
			}
		}
		if (oldest == 0)
			oldest = lease.lease_id;
		next_expiry = Min(next_expiry, lease.deadline);
	}
	iotmq_row_scan_end(&scan);
	position->oldest_lease = oldest != 0 ? oldest : position->last_lease + 1;
	position->next_expiry = next_expiry;
	return taken;
}

/*
 * take_over(cursor_id int, at timestamptz) RETURNS int: takes over the cursor's
 * leases that are expired at that time; how many. NULL: somebody else has the
 * cursor.
 */
PG_FUNCTION_INFO_V1(iotmq_take_over);
Datum
iotmq_take_over(PG_FUNCTION_ARGS)
{
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(1);
	Cursor		cursor;
	Position	position;
	ItemPointerData tid;
	int			taken = 0;

	if (!iotmq_cursor_by_id(PG_GETARG_INT32(0), &cursor) ||
		!iotmq_position_peek(cursor.cursor_id, &position) || position.next_expiry > at)
		PG_RETURN_INT32(0);
	switch (iotmq_position_lock(cursor.cursor_id, false, &position, &tid))
	{
		case ROW_LOCKED:
			PG_RETURN_NULL();
		case ROW_GONE:
			break;
		case ROW_OK:
			taken = iotmq_take_over_expired(&cursor, &position, at);
			iotmq_position_store(&position, &tid);
			break;
	}
	PG_RETURN_INT32(taken);
}

static void
take_over(const Cursor *cursor, const Lease *lease, Position *position, TimestampTz now)
{
	text	   *reason = cstring_to_text("lease expired");
	DeviceSet  *waiting = iotmq_devices_none();

	for (int i = 0; i < lease->n; i++)
	{
		int64		msg_offset = iotmq_lease_offset(lease, i);
		int			attempt = lease->attempts != NULL ? lease->attempts[i] : 1;
		Failure		failure = {
			.msg_offset = msg_offset, .attempt = attempt,
			.batch_limit = next_limit(cursor->group, lease, attempt),
			.not_before = now,
			.redriven = lease->redriven &&
			iotmq_dead_letter_is_redriven(cursor->cursor_id, msg_offset),
			.device = lease->devices != NULL ? lease->devices[i] : NULL, .reason = reason
		};

		CHECK_FOR_INTERRUPTS();
		if (iotmq_lease_is_settled(lease, i))
			continue;
		if (failure.device != NULL && iotmq_devices_have(waiting, failure.device))
			failure.place = PLACE_BEHIND;
		if (iotmq_fail(cursor, &failure, position))
			iotmq_devices_add(waiting, failure.device);
	}
}

/*
 * How large the next lease of a message may be whose lease expired. An orderly
 * group gets a batch once more as it was, if there are retries enough.
 */
static int
next_limit(const ConsumerGroup *group, const Lease *lease, int attempt)
{
	if (group->orderly && attempt == 1 && group->max_retries >= AMPLE_RETRIES)
		return lease->batch_limit;
	return smaller(lease->messages, group->max_retries - attempt + 1);
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
