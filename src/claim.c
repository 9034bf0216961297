/*
 * claim.c - one lease out of one zone, for one group.
 *
 * First what is due again (redeliver.c), then new messages up to what is
 * decided. Looks before it locks: the cursor's row is locked only when there is
 * something to deliver (or, at the last look, something worth remembering), so
 * a consumer that found nothing holds nothing.
 *
 * Locks: the cursor's row, skipped when another has it; then the rows of expired
 * leases, skipped likewise.
 */
#include "iotmq.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#define SCAN_LIMIT 1000000		/* messages one look filters before it saves its position */

static TupleTableSlot *next_wanted(ZoneScan *scan, const ConsumerGroup *group, int *budget);
static void remember(const Cursor *cursor, int64 from, int64 to);
static ClaimResult claim_due(const Cursor *cursor, const ClaimRequest *request,
							 DeliverySet *set, TimestampTz now);
static ClaimResult claim_new(const Cursor *cursor, const ClaimRequest *request, ZoneScan *scan,
							 TupleTableSlot *slot, Position *position, ItemPointer tid,
							 DeliverySet *set);
static void grant(const Cursor *cursor, const ClaimRequest *request, Lease *lease,
				  TimestampTz now, Position *position);

/* Tries to deliver one lease of the cursor's zone into set. */
ClaimResult
iotmq_claim(const Cursor *cursor, const ClaimRequest *request, ClaimLook *look, DeliverySet *set)
{
	StableState *stable = iotmq_stable_state(cursor->zone->sequence);
	TimestampTz now = GetCurrentTimestamp();
	int			budget = SCAN_LIMIT;
	Position	position;
	ItemPointerData tid;
	int64		from;
	int64		last;
	ZoneScan   *scan;
	TupleTableSlot *slot;
	ClaimResult result;

	if (!iotmq_position_peek(cursor->cursor_id, &position))
		return CLAIM_EMPTY;
	if (position.next_expiry <= now || position.next_due <= now)
	{
		result = claim_due(cursor, request, set, now);
		if (result != CLAIM_EMPTY)
			return result;
		if (!iotmq_position_peek(cursor->cursor_id, &position))
			return CLAIM_EMPTY;
	}

	last = iotmq_sequence_last(cursor->zone->sequence);
	if (last < 0)
		return CLAIM_BUSY;		/* dropped meanwhile */
	if (position.next_offset > last)
		return CLAIM_EMPTY;
	iotmq_stable_merge(stable, position.stable_offset, position.sample_offset, position.sample_xid);
	from = position.next_offset;
	if (look->from <= from && from < look->to)
		from = look->to;
	scan = iotmq_scan_begin(cursor->zone, from, last);
	slot = next_wanted(scan, cursor->group, &budget);
	if (slot == NULL)
	{
		bool		stale = scan->stale;

		look->from = position.next_offset;
		look->to = scan->position;
		iotmq_scan_end(scan);
		if (stale)
			return CLAIM_BUSY;
		if (request->last_look)
			remember(cursor, look->from, look->to);
		return CLAIM_EMPTY;
	}

	from = position.next_offset;
	result = CLAIM_EMPTY;
	switch (iotmq_position_lock(cursor->cursor_id, false, &position, &tid))
	{
		case ROW_LOCKED:
			result = CLAIM_BUSY;
			break;
		case ROW_GONE:
			break;
		case ROW_OK:
			if (position.next_offset != from)
			{
				/* somebody was faster: begin where he stopped */
				iotmq_scan_end(scan);
				scan = iotmq_scan_begin(cursor->zone, position.next_offset, last);
				slot = next_wanted(scan, cursor->group, &budget);
			}
			if (slot != NULL)
				result = claim_new(cursor, request, scan, slot, &position, &tid, set);
			else if (scan->stale)
				result = CLAIM_BUSY;
			break;
	}
	iotmq_scan_end(scan);
	return result;
}

/* The next message that the group wants; NULL: none, or the budget is used up. */
static TupleTableSlot *
next_wanted(ZoneScan *scan, const ConsumerGroup *group, int *budget)
{
	TupleTableSlot *slot = NULL;

	while ((*budget)-- > 0 && (slot = iotmq_scan_next(scan)) != NULL)
		if (iotmq_filter_accepts(group, slot))
			return slot;
	return NULL;
}

/*
 * Nothing to deliver, and this call won't look again: saves for the next one
 * that the messages from..to are not wanted, and the sample that may settle
 * until then. Writes nothing when nothing new was learnt.
 */
static void
remember(const Cursor *cursor, int64 from, int64 to)
{
	StableState *stable = iotmq_stable_state(cursor->zone->sequence);
	Position	position;
	ItemPointerData tid;

	if (!iotmq_position_peek(cursor->cursor_id, &position) || position.next_offset != from)
		return;
	if (to == from &&
		(stable->sample_offset == 0 || position.sample_offset > position.stable_offset))
		return;
	if (iotmq_position_lock(cursor->cursor_id, false, &position, &tid) != ROW_OK ||
		position.next_offset != from)
		return;
	position.next_offset = to;
	iotmq_position_note_stable(&position, stable);
	iotmq_position_store(&position, &tid);
}

/* Delivers what is due again, after taking over what expired. */
static ClaimResult
claim_due(const Cursor *cursor, const ClaimRequest *request, DeliverySet *set, TimestampTz now)
{
	Position	position;
	Position	before;
	ItemPointerData tid;
	Lease		lease = {0};

	switch (iotmq_position_lock(cursor->cursor_id, false, &position, &tid))
	{
		case ROW_LOCKED:
			return CLAIM_BUSY;
		case ROW_GONE:
			return CLAIM_EMPTY;
		case ROW_OK:
			break;
	}
	before = position;
	if (position.next_expiry <= now)
		iotmq_redeliver_expired(cursor, &position, now);
	if (position.next_due <= now)
		iotmq_redeliver_due(cursor, &position, now, request->max_messages, &lease);
	if (lease.n > 0)
	{
		grant(cursor, request, &lease, now, &position);
		iotmq_redeliver_fetch(cursor, &lease, &position, set);
	}
	if (lease.messages > 0)
		iotmq_lease_insert(&lease);
	if (memcmp(&before, &position, sizeof(Position)) != 0)
		iotmq_position_store(&position, &tid);
	return lease.messages > 0 ? CLAIM_DELIVERED : CLAIM_EMPTY;
}

/* Delivers new messages, from the one in slot on; the cursor is locked at tid. */
static ClaimResult
claim_new(const Cursor *cursor, const ClaimRequest *request, ZoneScan *scan,
		  TupleTableSlot *slot, Position *position, ItemPointer tid, DeliverySet *set)
{
	TimestampTz now = GetCurrentTimestamp();
	int			budget = SCAN_LIMIT;
	int			room = Min(request->max_messages, 256);
	int64	   *offsets = palloc(sizeof(int64) * room);
	Lease		lease = {0};

	lease.lease_id = iotmq_lease_next_id(cursor->cursor_id, position->last_lease, now);
	do
	{
		if (lease.n == room)
		{
			room = Min(request->max_messages, room * 4);
			offsets = repalloc(offsets, sizeof(int64) * room);
		}
		/* the scan's position is one past the row that it returned last */
		offsets[lease.n++] = scan->position - 1;
		iotmq_delivery_add(set, lease.lease_id, slot, 1);
	} while (lease.n < request->max_messages &&
			 (slot = next_wanted(scan, cursor->group, &budget)) != NULL);

	lease.first_offset = offsets[0];
	lease.last_offset = offsets[lease.n - 1];
	if (lease.last_offset - lease.first_offset + 1 != lease.n)
		lease.offsets = offsets;
	grant(cursor, request, &lease, now, position);
	iotmq_lease_insert(&lease);

	position->next_offset = scan->position;
	iotmq_position_note_stable(position, scan->stable);
	iotmq_position_store(position, tid);
	return CLAIM_DELIVERED;
}

/* Fills in what every lease has and notes it in the position. */
static void
grant(const Cursor *cursor, const ClaimRequest *request, Lease *lease, TimestampTz now,
	  Position *position)
{
	int64		invisible_for = request->invisible_for != 0 ?
		request->invisible_for : cursor->group->invisible_for;

	if (lease->lease_id == 0)
		lease->lease_id = iotmq_lease_next_id(cursor->cursor_id, position->last_lease, now);
	lease->leased_at = now;
	lease->deadline = now + invisible_for;
	lease->messages = lease->n;
	lease->consumer = request->consumer;
	position->last_lease = lease->lease_id;
	if (position->oldest_lease == 0)
		position->oldest_lease = lease->lease_id;
	position->next_expiry = Min(position->next_expiry, lease->deadline);
	position->last_consumed_at = now;
}
