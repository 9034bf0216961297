/*
 * claim.c - one lease out of one zone, for one group.
 *
 * What is due again (redeliver.c), then new messages up to what is decided. Where the
 * former could leave no room for the latter, which goes first is drawn at each claim, so
 * that both get on. Looks before it locks: the cursor's row is locked only when there is
 * something to deliver, so a consumer that found nothing, or goes on waiting, holds
 * nothing. What a look has learnt stays in this backend's memory (hint.c) until
 * iotmq_claim_keep writes it down.
 *
 * In an orderly group a message whose device is blocked is put aside (defer.c); other
 * devices are not held up.
 *
 * Whatever comes to nothing has a budget: a look may take so long, and a claim that
 * holds its cursor may pass so many messages; then what it did is kept, by the
 * transaction's end. A statement that is cancelled loses no more than that.
 *
 * What a claim knows of its group is younger than what it does: once it holds the
 * cursor, it looks whether somebody changes the group (group_lock.c), or has changed it
 * since the catalog was read, and whether the zone is still open. The same of the zone's
 * segments: what waits may lie in one that was made since then, and would be taken for lost.
 *
 * Locks: the cursor's row, skipped when another has it; group_lock.c's, until the claim is
 * made; then the rows of expired leases, skipped likewise.
 */
#include "group/group.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "utils/inval.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#define HOLD_MESSAGES 5000		/* passed with the cursor held, without a delivery */
#define HOLD_US 10000
#define PASS_US 200000			/* one step of maintenance */
#define QUIET_US 20000			/* between looks at a zone where all waits for something in flight */
#define QUIET_DUE_US 100000		/* likewise, where a claim found what is due to be locked or gone */

typedef struct Claim
{
	ClaimRequest *request;
	Lookahead  *ahead;
	HeldCursor *held;
	Hint	   *hint;
	Budget		budget;			/* what may come to nothing */
	Blocking	blocking;		/* of an orderly group */
	int			deferred;		/* messages put aside */
	LeaseBuild	build;
} Claim;

static void see_bounds(CursorState *state, Hint *hint, TimestampTz now);
static ClaimResult claim(const Cursor *cursor, ClaimRequest *request, bool new_first,
						 Lookahead *ahead, DeliverySet *set);
static ClaimResult claim_and_let_go(const Cursor *cursor, ClaimRequest *request, bool new_first,
									Lookahead *ahead, DeliverySet *set);
static ClaimResult hold(const Cursor *cursor, HeldCursor *held);
static void let_go(HeldCursor *held, int32 group_id);
static void fill(Claim *c, bool new_first);
static void see_blocking(Claim *c);
static void add_due(Claim *c);
static void add_new(Claim *c);
static ClaimResult finish(Claim *c);
static void be_quiet(const Cursor *cursor, Hint *hint, TimestampTz until);

/* Tries to deliver one lease of the cursor's zone into set. */
ClaimResult
iotmq_claim_lease(const Cursor *cursor, ClaimRequest *request, DeliverySet *set)
{
	TimestampTz now = GetCurrentTimestamp();
	Hint	   *hint = iotmq_hint(cursor);
	Lookahead	ahead = {0};
	IdleLook	idle = request->idle;
	ClaimResult result;
	CursorState state;
	bool		is_due;
	bool		new_first;

	iotmq_idle_not(&request->idle);
	/* a clock that was set back doesn't count */
	if (request->waits && now < hint->quiet_until && now >= hint->quiet_until - QUIET_DUE_US &&
		iotmq_stable_last(cursor->zone) == hint->quiet_last)
		return CLAIM_EMPTY;
	if (!iotmq_cursor_peek(cursor->cursor_id, &state))
		return CLAIM_EMPTY;
	if (request->lets_go)
		see_bounds(&state, hint, now);
	is_due = state.next_expiry <= now || iotmq_place_is_due(cursor, &state) ||
		iotmq_redeliver_ready(cursor, &state, now);
	new_first = !is_due ||
		(iotmq_redeliver_may_fill(&state, request->max_messages, now) &&
		 pg_prng_bool(&pg_global_prng_state));
	if (new_first)
		iotmq_look_ahead(cursor, request, &state, hint, &ahead);
	if (!is_due && !ahead.is_worth_it)
	{
		if (ahead.at_end)
		{
			iotmq_idle_zone(&idle, &state);
			request->idle = idle;
		}
		if (ahead.blocked > 0)
			be_quiet(cursor, hint, now + QUIET_US);
		return ahead.otherwise;
	}

	if (request->has_polled)
		iotmq_client_require();
	result = request->lets_go ? claim_and_let_go(cursor, request, new_first, &ahead, set) :
		claim(cursor, request, new_first, &ahead, set);
	if (ahead.scan != NULL)
		iotmq_scan_end(ahead.scan);
	if (result == CLAIM_EMPTY)
		be_quiet(cursor, hint, now + (is_due ? QUIET_DUE_US : QUIET_US));
	else if (result == CLAIM_DELIVERED)
		hint->is_news = false;
	else if (result == CLAIM_CHANGED && request->deferred > 0 && !request->looks_past)
	{
		ClaimResult behind;

		/* many had to be put aside: is there one to deliver behind them? */
		request->looks_past = true;
		behind = iotmq_claim_lease(cursor, request, set);
		result = Max(result, behind);
	}
	return result;
}

/*
 * Writes down what looks have learnt of the cursor: that it has passed messages which are
 * not wanted, and the sample that may help the next look. Without news nothing is
 * written. False: somebody else has the cursor, or changes the group.
 */
bool
iotmq_claim_keep(const Cursor *cursor)
{
	const Stable *stable = &iotmq_stable_memory(cursor->zone)->stable;
	Hint	   *hint = iotmq_hint(cursor);
	int32		group_id = cursor->group->group_id;
	CursorState state;
	HeldCursor	held;

	if (!hint->is_news)
		return true;
	hint->is_news = false;
	if (!iotmq_cursor_peek(cursor->cursor_id, &state) ||
		(iotmq_hint_begin(hint, &state) == state.next_offset &&
		 (stable->sample_offset == 0 || stable->sample_offset == state.stable.sample_offset)))
		return true;
	if (hold(cursor, &held) != CLAIM_DELIVERED)
		return false;
	held.state.next_offset = iotmq_hint_begin(hint, &held.state);
	iotmq_stable_merge(&held.state.stable, stable);
	let_go(&held, group_id);
	return true;
}

/*
 * claim_pass(cursor_id int) RETURNS bigint: moves the cursor over messages that the group
 * does not want, within one budget; over how many offsets. 0: there is none, or the next
 * one is wanted, or the group is paused. NULL: somebody else has the cursor.
 */
PG_FUNCTION_INFO_V1(iotmq_claim_pass);
Datum
iotmq_claim_pass(PG_FUNCTION_ARGS)
{
	ClaimRequest request = {.slice = PASS_US};
	Lookahead	ahead = {0};
	CursorState before;
	CursorState after;
	Cursor		cursor;

	if (!iotmq_catalog_cursor_by_id(PG_GETARG_INT32(0), &cursor) || cursor.group->paused ||
		cursor.zone->state != ZONE_OPEN ||
		!iotmq_cursor_peek(cursor.cursor_id, &before))
		PG_RETURN_INT64(0);
	iotmq_look_ahead(&cursor, &request, &before, iotmq_hint(&cursor), &ahead);
	if (ahead.scan != NULL)
		iotmq_scan_end(ahead.scan);
	if (!iotmq_claim_keep(&cursor))
		PG_RETURN_NULL();
	if (!iotmq_cursor_peek(cursor.cursor_id, &after))
		PG_RETURN_INT64(0);
	PG_RETURN_INT64(Max(after.next_offset - before.next_offset, 0));
}

/*
 * What is over may be a bound only, and nothing due: a claim would find that out, but where it
 * can't write it down it would take two transaction ids for it, at every look.
 */
static void
see_bounds(CursorState *state, Hint *hint, TimestampTz now)
{
	if (state->next_expiry <= now)
		iotmq_hint_see_leases(hint, state, now);
	if (state->next_due <= now)
		iotmq_redelivery_see(state);
}

/* Holds the cursor and delivers what there is. */
static ClaimResult
claim(const Cursor *cursor, ClaimRequest *request, bool new_first, Lookahead *ahead,
	  DeliverySet *set)
{
	HeldCursor	held;
	int32		group_id = cursor->group->group_id;
	Claim		c = {.request = request, .ahead = ahead, .held = &held};
	ClaimResult result = hold(cursor, &held);

	if (result != CLAIM_DELIVERED)
		return result;
	c.hint = iotmq_hint(cursor);
	c.budget = ahead->is_known ? iotmq_budget(ahead->blocked + HOLD_MESSAGES, request->look_us) :
		iotmq_budget(HOLD_MESSAGES, HOLD_US);
	iotmq_lease_build_begin(&c.build, &held, request->max_messages, GetCurrentTimestamp(), set);
	fill(&c, new_first);
	result = finish(&c);
	request->deferred += c.deferred;
	let_go(&held, group_id);
	return result;
}

/*
 * As claim, in a subtransaction that is rolled back when nothing came of it: the cursor
 * must not stay locked while a call goes on waiting, or a transaction block is open.
 */
static ClaimResult
claim_and_let_go(const Cursor *cursor, ClaimRequest *request, bool new_first, Lookahead *ahead,
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
		result = claim(cursor, request, new_first, ahead, set);
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

/*
 * Holds the cursor (CLAIM_DELIVERED) if all that is known of its group and zone is as new as the
 * cursor itself. Otherwise the lock may stay, but nothing may be done with it.
 */
static ClaimResult
hold(const Cursor *cursor, HeldCursor *held)
{
	switch (iotmq_cursor_hold(cursor, false, held))
	{
		case ROW_LOCKED:
			return CLAIM_BUSY;
		case ROW_GONE:
			return CLAIM_EMPTY;
		case ROW_OK:
			break;
	}
	if (!iotmq_group_lock_enter(cursor->group->group_id))
		return CLAIM_BUSY;
	AcceptInvalidationMessages();
	if (iotmq_catalog_group_is_current(cursor->group) &&
		iotmq_catalog_zone_is_current(cursor->zone) && iotmq_state_is_open(cursor->zone))
		return CLAIM_DELIVERED;
	iotmq_group_lock_leave(cursor->group->group_id);
	return CLAIM_STALE;
}

/* Stores the cursor, and lets the group be changed again. */
static void
let_go(HeldCursor *held, int32 group_id)
{
	iotmq_cursor_release(held);
	iotmq_group_lock_leave(group_id);
}

/*
 * Adds what is due again and new messages. A lease is in the order of offsets, and what
 * is due was new earlier: so what is due can come before new messages, but not after.
 */
static void
fill(Claim *c, bool new_first)
{
	HeldCursor *held = c->held;
	LeaseBuild *build = &c->build;
	const Lease *lease = &build->lease;

	if (new_first && c->ahead->is_worth_it)
	{
		see_blocking(c);
		add_new(c);
	}
	if (lease->n > 0)
		return;
	if (held->state.next_expiry <= lease->leased_at)
	{
		iotmq_expire_leases(held, lease->leased_at, &c->budget);
		iotmq_cursor_flush(held);
		/* what is left of one may have got the id that this one was to have */
		build->lease.lease_id = iotmq_lease_next_id(&held->state, lease->leased_at);
	}
	iotmq_place_redriven(held, NULL);
	see_blocking(c);
	add_due(c);
	if (!new_first && !c->budget.is_used_up && lease->batch_limit == 0 && lease->n < build->limit &&
		(lease->n == 0 || lease->offsets[lease->n - 1] < held->state.next_offset))
		add_new(c);
}

/* Looks which devices are blocked now, in an orderly group. */
static void
see_blocking(Claim *c)
{
	int64		oldest_lease;

	if (!c->held->cursor->group->orderly)
		return;
	c->blocking = iotmq_defer_blocking(&c->held->state, &oldest_lease);
	iotmq_cursor_oldest_lease_is(c->held, oldest_lease);
}

/* Adds what is due again. What comes to nothing of it is gone, and the next one's turn. */
static void
add_due(Claim *c)
{
	const CursorState *state = &c->held->state;
	int64		before;

	do
	{
		before = state->redeliveries;
		if (state->next_due <= c->build.lease.leased_at)
			iotmq_redeliver_due(&c->build, c->blocking.in_flight, &c->budget);
	} while (c->build.lease.n == 0 && state->redeliveries < before && !c->budget.is_used_up);
}

/* Adds new messages and moves the cursor. */
static void
add_new(Claim *c)
{
	HeldCursor *held = c->held;
	Lookahead  *ahead = c->ahead;
	const Cursor *cursor = held->cursor;
	bool		orderly = cursor->group->orderly;

	if (ahead->scan == NULL || ahead->next_offset != held->state.next_offset)
	{
		/* nobody looked yet, or somebody was faster, or some have to be put aside first */
		int64		last = iotmq_stable_last(cursor->zone);

		if (ahead->scan != NULL)
			iotmq_scan_end(ahead->scan);
		ahead->scan = iotmq_scan_begin(cursor->zone,
									   iotmq_hint_begin(c->hint, &held->state), last);
		ahead->scan->window = c->build.limit;
		ahead->slot = iotmq_look_next(ahead->scan, cursor, &held->state, &c->budget);
	}
	while (ahead->slot != NULL)
	{
		int64		msg_offset = ahead->scan->position - 1;

		if (orderly && iotmq_defer(held, &c->blocking, ahead->slot, msg_offset,
								   c->build.lease.leased_at))
		{
			c->deferred++;
			iotmq_budget_spend(&c->budget);
		}
		else
			iotmq_lease_build_add(&c->build, ahead->slot, msg_offset, 1);
		if (c->build.lease.n >= c->build.limit)
			break;
		ahead->slot = iotmq_look_next(ahead->scan, cursor, &held->state, &c->budget);
	}
	iotmq_cursor_flush(held);
	held->state.next_offset = ahead->scan->position;
	iotmq_stable_merge(&held->state.stable, &ahead->scan->memory->stable);
	/* what the cursor has passed just now */
	iotmq_place_redriven(held, c->build.lease.n > 0 ? &c->build.lease : NULL);
}

/* Writes the lease, or says what became of the claim without one. */
static ClaimResult
finish(Claim *c)
{
	const CursorState *before = &c->held->before;
	const CursorState *after = &c->held->state;

	if (c->build.lease.n > 0)
	{
		iotmq_lease_build_grant(&c->build, c->request->invisible_for, c->request->consumer);
		return CLAIM_DELIVERED;
	}
	/* what became of messages that waited is not to be done twice: they are dead, or gone */
	if (c->deferred >= c->request->worth || after->redeliveries < before->redeliveries ||
		after->dead_total != before->dead_total ||
		after->expired_unread != before->expired_unread ||
		after->next_redriven != before->next_redriven)
		return CLAIM_CHANGED;
	if (c->budget.is_used_up)
	{
		bool		only_passed = c->deferred == 0 && after->retried_total == before->retried_total;

		if (only_passed)
			iotmq_hint_learn(c->hint, before->next_offset, after->next_offset);
		return only_passed && c->request->lets_go ? CLAIM_MORE : CLAIM_CHANGED;
	}
	if (c->ahead->scan != NULL && c->ahead->scan->stale)
		return CLAIM_STALE;
	return CLAIM_EMPTY;
}

/* All that is there waits for something in flight: looks again in a moment. */
static void
be_quiet(const Cursor *cursor, Hint *hint, TimestampTz until)
{
	hint->quiet_last = iotmq_stable_last(cursor->zone);
	hint->quiet_until = until;
}
