/*
 * look.c - new messages that a group wants, looked for without a lock.
 *
 * A look reads along the log from where the cursor stands, or from where a hint says. It
 * ends at the first message that is wanted, or in an orderly group, if asked to, at the
 * first whose device is not blocked. Where nothing is found for long, it has a budget.
 * What it finds may be out of date when the cursor is held: claim.c looks again.
 */
#include "group/group.h"

#define REACH_MESSAGES 20000	/* of blocked devices, that may lie before one to deliver */

static void look_past_blocked(const Cursor *cursor, const ClaimRequest *request,
							  const CursorState *state, Budget *budget, Lookahead *ahead);
static bool is_wanted(const Cursor *cursor, const CursorState *state, TupleTableSlot *slot,
					  int64 msg_offset);

/*
 * Looks for new messages. What it learns on the way is noted in the hint; ahead, which is
 * empty, says what it found.
 */
void
iotmq_look_ahead(const Cursor *cursor, ClaimRequest *request, const CursorState *state,
				 Hint *hint, Lookahead *ahead)
{
	int64		last = iotmq_stable_last(cursor->zone);
	const Stable *stable = &iotmq_stable_memory(cursor->zone)->stable;
	int64		from = iotmq_hint_begin(hint, state);
	Budget		budget = iotmq_budget(PG_INT32_MAX, request->slice);
	ZoneScan   *scan;

	ahead->otherwise = last < 0 ? CLAIM_STALE : CLAIM_EMPTY;	/* dropped meanwhile? */
	if (from > last)
	{
		ahead->at_end = last >= 0;
		if (ahead->at_end && from > state->next_offset)
			hint->is_news = request->has_news = true;
		return;
	}
	iotmq_stable_merge(&iotmq_stable_memory(cursor->zone)->stable, &state->stable);
	ahead->next_offset = state->next_offset;
	ahead->scan = scan = iotmq_scan_begin(cursor->zone, from, last);
	scan->window = request->max_messages;
	ahead->slot = iotmq_look_next(scan, cursor, state, &budget);
	ahead->is_worth_it = ahead->slot != NULL;
	/* the scan's position is one past the row that it returned last */
	iotmq_hint_learn(hint, state->next_offset, scan->position - (ahead->slot != NULL ? 1 : 0));
	if (hint->to > state->next_offset ||
		(stable->sample_offset != 0 && stable->sample_offset != state->stable.sample_offset))
		hint->is_news = request->has_news = true;
	if (ahead->slot != NULL && request->looks_past && cursor->group->orderly)
		look_past_blocked(cursor, request, state, &budget, ahead);
	request->passed += budget.spent;
	if (ahead->slot != NULL && ahead->blocked == 0)
		return;

	if (scan->stale)
		ahead->otherwise = CLAIM_STALE;
	else if (budget.is_used_up)
		ahead->otherwise = CLAIM_MORE;
	iotmq_scan_end(scan);
	ahead->scan = NULL;
	ahead->slot = NULL;
}

/* The next message that the group wants; NULL: none for now, or the budget is used up. */
TupleTableSlot *
iotmq_look_next(ZoneScan *scan, const Cursor *cursor, const CursorState *state, Budget *budget)
{
	TupleTableSlot *slot;

	while (!budget->is_used_up && (slot = iotmq_scan_next(scan)) != NULL)
	{
		if (is_wanted(cursor, state, slot, scan->position - 1))
			return slot;
		iotmq_budget_spend(budget);
	}
	return NULL;
}

/*
 * Goes on to a message whose device is not blocked. If there is none in reach, it is worth
 * to hold the cursor for those that would be put aside, if there are enough of them.
 */
static void
look_past_blocked(const Cursor *cursor, const ClaimRequest *request, const CursorState *state,
				  Budget *budget, Lookahead *ahead)
{
	int64		oldest_lease;
	Blocking	blocking = iotmq_defer_blocking(state, &oldest_lease);

	while (ahead->slot != NULL && ahead->blocked < REACH_MESSAGES &&
		   iotmq_defer_must(&blocking, ahead->slot))
	{
		ahead->blocked++;
		ahead->slot = iotmq_look_next(ahead->scan, cursor, state, budget);
	}
	ahead->is_known = ahead->slot != NULL && ahead->blocked < REACH_MESSAGES;
	ahead->is_worth_it = ahead->is_known || ahead->blocked >= request->worth ||
		(ahead->blocked > 0 && budget->is_used_up);
}

/* Is the message in slot for the group? The one place that decides, of new messages. */
static bool
is_wanted(const Cursor *cursor, const CursorState *state, TupleTableSlot *slot, int64 msg_offset)
{
	return iotmq_filter_accepts(cursor->group, slot) || iotmq_place_is_pending(state, msg_offset);
}
