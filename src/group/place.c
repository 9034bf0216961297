/*
 * place.c - where a redriven message waits for its delivery.
 *
 * Whoever holds the cursor gives each redriven message one place, so that no lease holds
 * it twice and no two leases have it:
 *
 *   the log       the cursor has not come to it, after a seek back: it comes at its turn,
 *                 whatever tags and filter say today
 *   a lease       it is in flight already, after a seek back: the lease is told that it
 *                 has a redriven message, and its end is the end of the dead letter
 *   redelivery    else; what waits there already becomes the redriven one
 *
 * A redrive of many does not do that for all: it marks their dead letters, which needs no
 * cursor, gives the first ones a place and leaves the others, which are due, to the next
 * claims, a portion each. next_redriven, a bound as those of cursor.c, is the lowest
 * offset that may be without a place; those at or above next_offset have theirs in the
 * log. As the cursor passes them they get another: so it does not matter why one was
 * passed, if by a delivery, or since the log has lost it.
 *
 * Locks: the caller holds the cursor; rows of leases, not waiting: who has one is settling
 * it now, and may wait for the cursor. His message stays a dead letter.
 */
#include "group/group.h"

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#define PORTION 500				/* messages that one call gives a place; some 10 ms */

typedef struct OpenLease
{
	Lease		lease;
	bool		is_ours;		/* its row is locked */
} OpenLease;

typedef struct Placing
{
	HeldCursor *held;
	TimestampTz now;
	List	   *leases;			/* OpenLease, those with offsets of these messages */
	int64		added;			/* the offset put into redelivery last; 0: none */
} Placing;

static void place_portion(HeldCursor *held, Lease *lease);
static int64 log_begins(const Cursor *cursor, const CursorState *state);
static List *take_portion(HeldCursor *held);
static List *leases_between(const CursorState *state, int64 first, int64 last);
static void place(Placing *placing, const DeadLetter *letter);
static bool place_in_lease(Placing *placing, OpenLease *open, const DeadLetter *letter);
static void place_in_redelivery(Placing *placing, const DeadLetter *letter);

/* Is there a redriven message that has no place? Asked without a lock, too. */
bool
iotmq_place_is_due(const Cursor *cursor, const CursorState *state)
{
	return state->next_redriven < log_begins(cursor, state);
}

/* Is the message, which waits for nothing but its turn, redriven? */
bool
iotmq_place_is_pending(const CursorState *state, int64 msg_offset)
{
	return msg_offset >= state->next_redriven &&
		iotmq_deadletter_is_redriven(state->cursor_id, msg_offset);
}

/*
 * Gives a portion of redriven messages their places. lease is one in the making, whose
 * messages the cursor has passed just now; NULL: there is none. What lies in the lease has its
 * place there at once: later somebody may be settling that lease, who can't be told.
 */
void
iotmq_place_redriven(HeldCursor *held, Lease *lease)
{
	if (!iotmq_place_is_due(held->cursor, &held->state))
		return;
	do
		place_portion(held, lease);
	while (lease != NULL && iotmq_place_is_due(held->cursor, &held->state) &&
		   held->state.next_redriven <= iotmq_lease_offset(lease, lease->n - 1));
}

static void
place_portion(HeldCursor *held, Lease *lease)
{
	Placing		placing = {.held = held, .now = GetCurrentTimestamp()};
	List	   *letters = take_portion(held);
	ListCell   *lc;

	if (letters != NIL)
		placing.leases = leases_between(&held->state,
										((DeadLetter *) linitial(letters))->msg_offset,
										((DeadLetter *) llast(letters))->msg_offset);
	foreach(lc, letters)
	{
		DeadLetter *letter = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (lease == NULL || iotmq_lease_find(lease, letter->msg_offset) < 0)
			place(&placing, letter);
		else
			lease->redriven = true;
	}
	/* whoever looks for what is due, looks for these, too */
	iotmq_cursor_flush(held);
}

/* Gives another place to a message that the log is going to lose; the cursor has not passed it. */
void
iotmq_place_unread(HeldCursor *held, const DeadLetter *letter)
{
	Placing		placing = {.held = held, .now = GetCurrentTimestamp()};

	place_in_redelivery(&placing, letter);
}

/*
 * How many redriven messages wait without a place: those from next_redriven on and below
 * to, where the cursor stands. first: the lowest of them.
 */
int64
iotmq_place_count(int32 cursor_id, int64 next_redriven, int64 to, Snapshot snapshot,
				  int64 *first)
{
	RowScan		scan;
	DeadLetter	letter;
	int64		n = 0;

	*first = PG_INT64_MAX;
	if (next_redriven >= to)
		return 0;
	scan = iotmq_deadletter_scan_redriven(cursor_id, next_redriven, snapshot);
	while (iotmq_deadletter_next(&scan, &letter) && letter.msg_offset < to)
	{
		*first = Min(*first, letter.msg_offset);
		n++;
	}
	iotmq_row_scan_end(&scan);
	return n;
}

/* The cursor passes over from..to without a delivery: what is redriven there is dead again. */
void
iotmq_place_give_back(HeldCursor *held, int64 from, int64 to)
{
	RowScan		scan;
	DeadLetter	letter;

	if (held->state.next_redriven >= to)
		return;
	scan = iotmq_deadletter_scan_redriven(held->state.cursor_id,
										  Max(from, held->state.next_redriven), NULL);
	while (iotmq_deadletter_next(&scan, &letter) && letter.msg_offset < to)
		iotmq_deadletter_return(held, letter.id, true);
	iotmq_row_scan_end(&scan);
}

/* What lies below comes from the log no more. */
static int64
log_begins(const Cursor *cursor, const CursorState *state)
{
	return Max(state->next_offset, cursor->zone->earliest_offset);
}

/* The next messages that need a place, in order; moves next_redriven behind them. */
static List *
take_portion(HeldCursor *held)
{
	int64		end = log_begins(held->cursor, &held->state);
	RowScan		scan = iotmq_deadletter_scan_redriven(held->state.cursor_id,
													  held->state.next_redriven, NULL);
	List	   *letters = NIL;
	DeadLetter	letter;

	held->state.next_redriven = PG_INT64_MAX;
	while (iotmq_deadletter_next(&scan, &letter))
	{
		/* several of one message go together */
		if (letter.msg_offset >= end ||
			(list_length(letters) >= PORTION &&
			 ((DeadLetter *) llast(letters))->msg_offset < letter.msg_offset))
		{
			held->state.next_redriven = letter.msg_offset;
			break;
		}
		letters = lappend(letters, memcpy(palloc(sizeof(DeadLetter)), &letter,
										  sizeof(DeadLetter)));
	}
	iotmq_row_scan_end(&scan);
	return letters;
}

/* The cursor's open leases that may have messages of that range, copied. */
static List *
leases_between(const CursorState *state, int64 first, int64 last)
{
	RowScan		scan = iotmq_lease_scan(state);
	List	   *leases = NIL;
	Lease		lease;

	while (iotmq_lease_scan_next(&scan, &lease))
		if (lease.first_offset <= last && lease.last_offset >= first)
		{
			OpenLease  *open = palloc0(sizeof(OpenLease));

			open->lease = lease;
			leases = lappend(leases, open);
		}
	iotmq_row_scan_end(&scan);
	return leases;
}

static void
place(Placing *placing, const DeadLetter *letter)
{
	ListCell   *lc;

	foreach(lc, placing->leases)
		if (place_in_lease(placing, lfirst(lc), letter))
			return;
	/* an ack that has just been committed may have been the end of it, but no later one */
	if (iotmq_deadletter_is_redriven(placing->held->state.cursor_id, letter->msg_offset))
		place_in_redelivery(placing, letter);
}

/* False: the lease does not have the message. */
static bool
place_in_lease(Placing *placing, OpenLease *open, const DeadLetter *letter)
{
	Lease	   *lease = &open->lease;
	int			i = iotmq_lease_find(lease, letter->msg_offset);
	ItemPointerData tid;

	if (i < 0 || iotmq_lease_is_settled(lease, i))
		return false;
	if (open->is_ours)
		return true;
	switch (iotmq_lease_lock(lease->lease_id, false, lease, &tid))
	{
		case ROW_GONE:
			lease->n = 0;		/* nothing is found in it any more */
			return false;
		case ROW_LOCKED:
			iotmq_deadletter_return(placing->held, letter->id, false);
			return true;
		case ROW_OK:
			break;
	}
	open->is_ours = true;
	if (!lease->redriven)
	{
		lease->redriven = true;
		iotmq_lease_update(lease, &tid);
	}
	return !iotmq_lease_is_settled(lease, i);
}

static void
place_in_redelivery(Placing *placing, const DeadLetter *letter)
{
	HeldCursor *held = placing->held;
	Failure		waiting = {
		.msg_offset = letter->msg_offset, .not_before = placing->now, .redriven = true,
		.device = held->cursor->group->orderly ? letter->device : NULL
	};
	Redelivery	row;

	if (placing->added == letter->msg_offset)
		return;
	placing->added = letter->msg_offset;
	if (held->state.redeliveries == 0 ||
		!iotmq_redelivery_find(held, waiting.device, letter->msg_offset, &row))
	{
		iotmq_fail_wait(held, &waiting, 1);
		return;
	}
	if (row.redriven)
		return;
	row.redriven = true;
	row.deferred = false;
	row.attempt = 1;
	row.batch_limit = 0;
	row.not_before = placing->now;
	if (!TIMESTAMP_IS_NOEND(row.due_at))
		row.due_at = placing->now;
	iotmq_redelivery_change(held, &row);
}
