/*
 * claim.c - one lease out of one zone, for one group.
 *
 * First what is due again (redeliver.c), then new messages up to what is
 * decided. Looks before it locks: the cursor's row is locked only when there is
 * something to deliver (or, at the last look, something worth remembering), so
 * a consumer that found nothing, or goes on waiting, holds nothing.
 *
 * In an orderly group a message whose device is in flight, or has something
 * waiting, is put aside behind it into redelivery; other devices are not held up.
 *
 * Locks: the cursor's row, skipped when another has it; then the rows of expired
 * leases, skipped likewise.
 */
#include "group/group.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#define SCAN_LIMIT 1000000		/* messages one look filters before it saves where it is */
#define SKIP_WORTH 10000		/* unwanted messages that are not to be read again, at any price */
#define QUIET_US 20000			/* between looks at a zone where all waits for something in flight */
#define DEFER_LIMIT 100000		/* messages one call puts behind others of their device */

typedef struct Lookahead		/* new messages, looked for without a lock */
{
	int64		next_offset;	/* of the cursor then */
	ZoneScan   *scan;			/* NULL: nobody looked, or there is nothing */
	TupleTableSlot *slot;		/* the first wanted one; NULL: none for now */
	bool		stale;			/* the look ended before the end of the zone */
} Lookahead;

static void look_ahead(const Cursor *cursor, const ClaimRequest *request,
					   const CursorState *state, ClaimHint *hint, Lookahead *ahead);
static ClaimResult claim(const Cursor *cursor, const ClaimRequest *request, Lookahead *ahead,
						 DeliverySet *set);
static ClaimResult claim_and_let_go(const Cursor *cursor, const ClaimRequest *request,
									Lookahead *ahead, DeliverySet *set);
static TupleTableSlot *next_wanted(ZoneScan *scan, const Cursor *cursor,
								   const CursorState *state, int *budget);
static void remember(const Cursor *cursor, int64 from, int64 to);
static ClaimResult fill(HeldCursor *held, const ClaimRequest *request, Lookahead *ahead,
						DeliverySet *set);
static void add_due(LeaseBuild *build, DeviceSet *in_flight);
static int	add_new(LeaseBuild *build, Lookahead *ahead, DeviceSet *in_flight);
static bool defer(HeldCursor *held, DeviceSet *in_flight, TupleTableSlot *slot,
				  int64 msg_offset, TimestampTz now);

/* Tries to deliver one lease of the cursor's zone into set. */
ClaimResult
iotmq_claim_lease(const Cursor *cursor, const ClaimRequest *request, ClaimHint *hint,
				  DeliverySet *set)
{
	TimestampTz now = GetCurrentTimestamp();
	Lookahead	ahead = {0};
	ClaimResult result;
	CursorState state;

	if (request->waits && now < hint->quiet_until &&
		iotmq_sequence_last(cursor->zone->sequence) == hint->quiet_last)
		return CLAIM_EMPTY;
	if (!iotmq_cursor_peek(cursor->cursor_id, &state))
		return CLAIM_EMPTY;
	if (state.next_expiry > now && !iotmq_place_is_due(cursor, &state) &&
		!iotmq_redeliver_ready(cursor, &state, now))
	{
		look_ahead(cursor, request, &state, hint, &ahead);
		if (ahead.slot == NULL)
			return ahead.stale ? CLAIM_STALE : CLAIM_EMPTY;
	}

	result = request->waits ? claim_and_let_go(cursor, request, &ahead, set) :
		claim(cursor, request, &ahead, set);
	if (ahead.scan != NULL)
		iotmq_scan_end(ahead.scan);
	if (result == CLAIM_EMPTY)
	{
		/* all that is there waits for something in flight */
		hint->quiet_last = iotmq_sequence_last(cursor->zone->sequence);
		hint->quiet_until = now + QUIET_US;
	}
	return result;
}

/* Holds the cursor and delivers what there is. */
static ClaimResult
claim(const Cursor *cursor, const ClaimRequest *request, Lookahead *ahead, DeliverySet *set)
{
	ClaimResult result;
	HeldCursor	held;

	switch (iotmq_cursor_hold(cursor, false, &held))
	{
		case ROW_LOCKED:
			return CLAIM_BUSY;
		case ROW_GONE:
			return CLAIM_EMPTY;
		case ROW_OK:
			break;
	}
	/* what was looked up may have changed until we got the lock: the group's mode */
	AcceptInvalidationMessages();
	if (iotmq_catalog_changes() != cursor->zone->changes)
		return CLAIM_STALE;
	result = fill(&held, request, ahead, set);
	iotmq_cursor_release(&held);
	/* a dead letter is one at the moment that its lease expires: the call must end */
	if (result == CLAIM_EMPTY && (held.state.dead_total != held.before.dead_total ||
								  held.state.expired_unread != held.before.expired_unread ||
								  held.state.next_redriven != held.before.next_redriven))
		return CLAIM_CHANGED;
	return result;
}

/*
 * As claim, in a subtransaction that is rolled back when nothing came of it: a call
 * that goes on waiting must not keep the cursor locked.
 */
static ClaimResult
claim_and_let_go(const Cursor *cursor, const ClaimRequest *request, Lookahead *ahead,
				 DeliverySet *set)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile ClaimResult result = CLAIM_EMPTY;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;	/* of the scan that is open already, too */
	PG_TRY();
	{
		result = claim(cursor, request, ahead, set);
	}
	PG_CATCH();
	{
		/* whoever catches the error rolls back his subtransaction, not ours */
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		ReThrowError(error);
	}
	PG_END_TRY();
	if (result == CLAIM_DELIVERED || result == CLAIM_CHANGED)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return result;
}

/* Looks for new messages. */
static void
look_ahead(const Cursor *cursor, const ClaimRequest *request, const CursorState *state,
		   ClaimHint *hint, Lookahead *ahead)
{
	int64		last = iotmq_sequence_last(cursor->zone->sequence);
	int64		from = state->next_offset;
	int			budget = SCAN_LIMIT;

	ahead->stale = last < 0;	/* dropped meanwhile */
	if (from > last)
		return;
	iotmq_stable_merge(&iotmq_stable_memory(cursor->zone)->stable, &state->stable);
	if (hint->from <= from && from < hint->to)
		from = hint->to;
	ahead->next_offset = state->next_offset;
	ahead->scan = iotmq_scan_begin(cursor->zone, from, last);
	ahead->slot = next_wanted(ahead->scan, cursor, state, &budget);
	if (ahead->slot != NULL)
		return;

	hint->from = state->next_offset;
	hint->to = ahead->scan->position;
	ahead->stale = ahead->scan->stale || budget < 0;
	iotmq_scan_end(ahead->scan);
	ahead->scan = NULL;
	if (request->last_look)
		remember(cursor, hint->from, hint->to);
}

/*
 * The next message that the group wants, or that was redriven to it; NULL: none, or the
 * budget is used up.
 */
static TupleTableSlot *
next_wanted(ZoneScan *scan, const Cursor *cursor, const CursorState *state, int *budget)
{
	TupleTableSlot *slot = NULL;

	while ((*budget)-- > 0 && (slot = iotmq_scan_next(scan)) != NULL)
		if (iotmq_filter_accepts(cursor->group, slot) ||
			iotmq_place_is_pending(state, scan->position - 1))
			return slot;
	return NULL;
}

/*
 * Nothing to deliver, and this call won't look again: saves for the next one
 * that the messages from..to are not wanted, and the sample that may help
 * until then. Writes nothing when nothing new was learnt, nor in a transaction
 * block, which might keep the cursor locked for long, unless it is about much.
 */
static void
remember(const Cursor *cursor, int64 from, int64 to)
{
	const Stable *stable = &iotmq_stable_memory(cursor->zone)->stable;
	CursorState state;
	HeldCursor	held;

	if (!iotmq_cursor_peek(cursor->cursor_id, &state) || state.next_offset != from)
		return;
	if (to == from &&
		(stable->sample_offset == 0 || stable->sample_offset == state.stable.sample_offset))
		return;
	if (IsTransactionBlock() && to - from < SKIP_WORTH)
		return;
	if (iotmq_cursor_hold(cursor, false, &held) != ROW_OK || held.state.next_offset != from)
		return;
	held.state.next_offset = to;
	iotmq_stable_merge(&held.state.stable, stable);
	iotmq_cursor_release(&held);
}

/* Makes a lease of what is due again and of new messages. */
static ClaimResult
fill(HeldCursor *held, const ClaimRequest *request, Lookahead *ahead, DeliverySet *set)
{
	TimestampTz now = GetCurrentTimestamp();
	DeviceSet  *in_flight = NULL;
	int			deferred = 0;
	LeaseBuild	build;
	const Lease *lease = &build.lease;

	if (held->state.next_expiry <= now)
		iotmq_expire_leases(held, now);
	if (held->cursor->group->orderly)
	{
		int64		oldest_lease;

		in_flight = iotmq_device_in_flight(&held->state, &oldest_lease);
		iotmq_cursor_oldest_lease_is(held, oldest_lease);
	}
	iotmq_place_redriven(held, NULL);
	iotmq_lease_build_begin(&build, held, request->max_messages, now, set);
	add_due(&build, in_flight);
	if (lease->batch_limit == 0 && lease->n < build.limit &&
		(lease->n == 0 || lease->offsets[lease->n - 1] < held->state.next_offset))
		deferred = add_new(&build, ahead, in_flight);
	/* what the cursor has passed just now */
	iotmq_place_redriven(held, lease->n > 0 ? &build.lease : NULL);
	if (lease->n > 0)
	{
		iotmq_lease_build_grant(&build, request->invisible_for, request->consumer);
		return CLAIM_DELIVERED;
	}
	if (ahead->scan != NULL && ahead->scan->stale)
		return CLAIM_STALE;
	return deferred >= DEFER_LIMIT ? CLAIM_CHANGED : CLAIM_EMPTY;
}

/* Adds what is due again. What the log has dropped of it is gone, and the next one's turn. */
static void
add_due(LeaseBuild *build, DeviceSet *in_flight)
{
	const CursorState *state = &build->held->state;
	int64		before;

	do
	{
		before = state->redeliveries;
		if (state->next_due <= build->lease.leased_at)
			iotmq_redeliver_due(build, in_flight);
	} while (build->lease.n == 0 && state->redeliveries < before);
}

/* Adds new messages and moves the cursor; returns how many it put aside. */
static int
add_new(LeaseBuild *build, Lookahead *ahead, DeviceSet *in_flight)
{
	HeldCursor *held = build->held;
	const Cursor *cursor = held->cursor;
	int			budget = SCAN_LIMIT;
	int			deferred = 0;

	if (ahead->scan == NULL || ahead->next_offset != held->state.next_offset)
	{
		/* nobody looked yet, or somebody was faster */
		int64		last = iotmq_sequence_last(cursor->zone->sequence);

		if (ahead->scan != NULL)
			iotmq_scan_end(ahead->scan);
		ahead->scan = iotmq_scan_begin(cursor->zone, held->state.next_offset, last);
		ahead->slot = next_wanted(ahead->scan, cursor, &held->state, &budget);
	}
	while (ahead->slot != NULL)
	{
		/* the scan's position is one past the row that it returned last */
		int64		msg_offset = ahead->scan->position - 1;

		if (in_flight != NULL &&
			defer(held, in_flight, ahead->slot, msg_offset, build->lease.leased_at))
			deferred++;
		else
			iotmq_lease_build_add(build, ahead->slot, msg_offset, 1);
		if (build->lease.n >= build->limit || deferred >= DEFER_LIMIT)
			break;
		ahead->slot = next_wanted(ahead->scan, cursor, &held->state, &budget);
	}
	held->state.next_offset = ahead->scan->position;
	iotmq_stable_merge(&held->state.stable, &ahead->scan->memory->stable);
	return deferred;
}

/*
 * Puts the message behind earlier ones of its device that wait or are in flight;
 * false: there are none.
 */
static bool
defer(HeldCursor *held, DeviceSet *in_flight, TupleTableSlot *slot, int64 msg_offset,
	  TimestampTz now)
{
	bool		isnull;
	text	   *device = DatumGetTextPP(slot_getattr(slot, Anum_device_id, &isnull));
	bool		behind = held->state.redeliveries > 0 &&
		iotmq_redelivery_has_device(held->state.cursor_id, device);
	Failure		waiting = {
		.msg_offset = msg_offset, .not_before = now, .device = device,
		.place = behind ? PLACE_BEHIND : PLACE_HEAD
	};

	if (!behind && !iotmq_device_has(in_flight, device))
		return false;
	iotmq_fail_wait(held, &waiting, 1);
	return true;
}
