/*
 * hint.c - what this backend has learnt of cursors without moving them.
 *
 * A look that finds nothing to deliver may have read many messages that the group does
 * not want. Between two looks that lasts here, as a hint: from that offset to that one
 * there is nothing wanted. A hint is of one cursor, and dies with the catalog that it
 * was made of: another filter, another group under the same number, offsets of the zone that
 * are filled anew. It is a matter of offsets alone and so outlives a transaction that ends in
 * a rollback, but helps only where the cursor stands between its two ends: after a seek it
 * may not.
 *
 * Whoever moves a cursor by a hint has to hold the cursor, and to look then whether the
 * catalog is still the same (see claim.c): a look may have been made with a filter that
 * was changed, and not announced yet.
 *
 * Likewise a look that finds no lease to be taken over, though the row's bound says that there
 * may be one, leaves here which leases have ended: they need not be met again. What it finds
 * may not be written down: whoever waits, or is in a transaction block, must not hold the
 * cursor for that.
 *
 * It is kept as long as the backend lives. Behind a pooler it serves whoever comes next.
 */
#include "group/group.h"

#include "access/xact.h"
#include "utils/hsearch.h"

static HTAB *hints = NULL;		/* Hint by cursor */

/* The cursor's hint, an empty one if there is none. */
Hint *
iotmq_hint(const Cursor *cursor)
{
	Hint	   *hint;
	bool		found;

	if (hints == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(int32), .entrysize = sizeof(Hint)};

		hints = hash_create("iotmq hints", 32, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	hint = hash_search(hints, &cursor->cursor_id, HASH_ENTER, &found);
	if (!found || hint->changes != cursor->group->changes ||
		hint->generation != cursor->zone->generation)
		*hint = (Hint) {
			.cursor_id = cursor->cursor_id, .changes = cursor->group->changes,
			.generation = cursor->zone->generation
		};
	return hint;
}

/*
 * Where to look for a cursor that stands there: nothing wanted lies between. What was
 * redriven meanwhile is wanted again.
 */
int64
iotmq_hint_begin(const Hint *hint, const CursorState *state)
{
	if (hint->from > state->next_offset || state->next_offset >= hint->to)
		return state->next_offset;
	return Max(state->next_offset, Min(hint->to, state->next_redriven));
}

/* Nothing wanted lies between these offsets, the end exclusive. */
void
iotmq_hint_learn(Hint *hint, int64 from, int64 to)
{
	if (from >= to)
		return;
	if (hint->from <= from && from <= hint->to)
		hint->to = Max(hint->to, to);
	else
	{
		hint->from = from;
		hint->to = to;
	}
}

/*
 * Makes the state's bounds of leases what they are now, as iotmq_lease_see does. What a
 * transaction sees that has written may be rolled back, and is not learnt.
 */
void
iotmq_hint_see_leases(Hint *hint, CursorState *state, TimestampTz now)
{
	int64		bound = state->oldest_lease;

	if (hint->lease_bound == bound)
		state->oldest_lease = Max(bound, hint->oldest_lease);
	iotmq_lease_see(state, now);
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	hint->lease_bound = bound;
	hint->oldest_lease = state->oldest_lease;
}
