/*
 * claim.c - one lease out of one zone, for one group.
 *
 * First what is due again (redeliver.c), then new messages up to what is
 * decided. Looks before it locks: the cursor's row is locked only when there is
 * something to deliver (or, at the last look, something worth remembering), so
 * a consumer that found nothing, or goes on waiting, holds nothing.
 *
 * In an orderly group a message whose device is in flight, or has something
 * waiting, goes behind it into redelivery; other devices are not held up.
 *
 * Locks: the cursor's row, skipped when another has it; then the rows of expired
 * leases, skipped likewise.
 */
#include "iotmq.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#define SCAN_LIMIT 1000000		/* messages one look filters before it saves its position */
#define SKIP_WORTH 10000		/* unwanted messages that are not to be read again, at any price */
#define QUIET_US 20000			/* between looks at a zone where all waits for something in flight */
#define PARK_LIMIT 100000		/* messages one call puts behind others of their device */

typedef struct Finding			/* new messages, looked for without a lock */
{
	int64		next_offset;	/* of the cursor then */
	ZoneScan   *scan;
	TupleTableSlot *slot;		/* the first wanted one */
} Finding;

static ClaimResult look_ahead(const Cursor *cursor, const ClaimRequest *request,
							  const Position *position, ClaimLook *look, Finding *finding);
static ClaimResult claim(const Cursor *cursor, const ClaimRequest *request, Finding *finding,
					   DeliverySet *set);
static ClaimResult claim_and_let_go(const Cursor *cursor, const ClaimRequest *request,
								  Finding *finding, DeliverySet *set);
static TupleTableSlot *next_wanted(ZoneScan *scan, const ConsumerGroup *group, int *budget);
static void remember(const Cursor *cursor, int64 from, int64 to);
static ClaimResult fill(const Cursor *cursor, const ClaimRequest *request, Finding *finding,
						Position *position, DeliverySet *set);
static int	take_new(const Cursor *cursor, Finding *finding, Position *position,
					 DeviceSet *in_flight, Batch *batch);
static bool park(const Cursor *cursor, DeviceSet *in_flight, TupleTableSlot *slot,
				 int64 msg_offset, TimestampTz now, Position *position);

/* Tries to deliver one lease of the cursor's zone into set. */
ClaimResult
iotmq_claim(const Cursor *cursor, const ClaimRequest *request, ClaimLook *look, DeliverySet *set)
{
	TimestampTz now = GetCurrentTimestamp();
	Finding		finding = {0};
	ClaimResult result = CLAIM_EMPTY;
	Position	position;

	if (request->waits && now < look->quiet_until &&
		iotmq_sequence_last(cursor->zone->sequence) == look->quiet_last)
		return CLAIM_EMPTY;
	if (!iotmq_position_peek(cursor->cursor_id, &position))
		return CLAIM_EMPTY;
	if (position.next_expiry > now && !iotmq_redeliver_ready(cursor, &position, now))
	{
		result = look_ahead(cursor, request, &position, look, &finding);
		if (finding.slot == NULL)
			return result;
	}

	result = request->waits ? claim_and_let_go(cursor, request, &finding, set) :
		claim(cursor, request, &finding, set);
	if (finding.scan != NULL)
		iotmq_scan_end(finding.scan);
	if (result == CLAIM_EMPTY)
	{
		/* all that is there waits for something in flight */
		look->quiet_last = iotmq_sequence_last(cursor->zone->sequence);
		look->quiet_until = now + QUIET_US;
	}
	return result;
}

/* Locks the cursor and delivers what there is. */
static ClaimResult
claim(const Cursor *cursor, const ClaimRequest *request, Finding *finding, DeliverySet *set)
{
	ClaimResult result;
	Position	position;
	Position	before;
	ItemPointerData tid;

	switch (iotmq_position_lock(cursor->cursor_id, false, &position, &tid))
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
		return CLAIM_AGAIN;
	before = position;
	result = fill(cursor, request, finding, &position, set);
	if (memcmp(&before, &position, sizeof(Position)) != 0)
		iotmq_position_store(&position, &tid);
	/* a dead letter is one at the moment of the take-over: the call must end */
	if (result == CLAIM_EMPTY && (position.dead_total != before.dead_total ||
								  position.expired_unread != before.expired_unread))
		return CLAIM_CHANGED;
	return result;
}

/*
 * As claim, in a subtransaction that is rolled back when nothing came of it: a call
 * that goes on waiting must not keep the cursor locked.
 */
static ClaimResult
claim_and_let_go(const Cursor *cursor, const ClaimRequest *request, Finding *finding,
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
		result = claim(cursor, request, finding, set);
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

/* Looks for new messages; finding has a slot if there are any, else no open scan. */
static ClaimResult
look_ahead(const Cursor *cursor, const ClaimRequest *request, const Position *position,
		   ClaimLook *look, Finding *finding)
{
	int64		last = iotmq_sequence_last(cursor->zone->sequence);
	int64		from = position->next_offset;
	int			budget = SCAN_LIMIT;
	bool		again;

	if (last < 0)
		return CLAIM_AGAIN;		/* dropped meanwhile */
	if (from > last)
		return CLAIM_EMPTY;
	iotmq_stable_merge(iotmq_stable_state(cursor->zone->sequence), position->stable_offset,
					   position->sample_offset, position->sample_xid);
	if (look->from <= from && from < look->to)
		from = look->to;
	finding->next_offset = position->next_offset;
	finding->scan = iotmq_scan_begin(cursor->zone, from, last);
	finding->slot = next_wanted(finding->scan, cursor->group, &budget);
	if (finding->slot != NULL)
		return CLAIM_EMPTY;

	look->from = position->next_offset;
	look->to = finding->scan->position;
	again = finding->scan->stale || budget < 0;
	iotmq_scan_end(finding->scan);
	finding->scan = NULL;
	if (request->last_look)
		remember(cursor, look->from, look->to);
	return again ? CLAIM_AGAIN : CLAIM_EMPTY;
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
 * until then. Writes nothing when nothing new was learnt, nor in a transaction
 * block, which might keep the cursor locked for long, unless it is about much.
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
		(stable->sample_offset == 0 || stable->sample_offset == position.sample_offset))
		return;
	if (IsTransactionBlock() && to - from < SKIP_WORTH)
		return;
	if (iotmq_position_lock(cursor->cursor_id, false, &position, &tid) != ROW_OK ||
		position.next_offset != from)
		return;
	position.next_offset = to;
	iotmq_position_note_stable(&position, stable);
	iotmq_position_store(&position, &tid);
}

/* Makes a lease of what is due again and of new messages; the position is locked. */
static ClaimResult
fill(const Cursor *cursor, const ClaimRequest *request, Finding *finding, Position *position,
	 DeliverySet *set)
{
	TimestampTz now = GetCurrentTimestamp();
	DeviceSet  *in_flight = NULL;
	int			parked = 0;
	Batch		batch;

	if (position->next_expiry <= now)
		iotmq_take_over_expired(cursor, position, now);
	if (cursor->group->orderly)
		in_flight = iotmq_devices_in_flight(position);
	iotmq_batch_begin(&batch, cursor, position, request->max_messages, now, set);
	/* what the log has dropped is gone, and the next one's turn */
	for (int64 waiting = position->waiting + 1;
		 batch.lease.n == 0 && position->next_due <= now && position->waiting < waiting;)
	{
		waiting = position->waiting;
		iotmq_redeliver(cursor, position, now, in_flight, &batch);
	}
	if (batch.lease.batch_limit == 0 && batch.lease.n < batch.limit &&
		(batch.lease.n == 0 || batch.lease.offsets[batch.lease.n - 1] < position->next_offset))
		parked = take_new(cursor, finding, position, in_flight, &batch);
	if (batch.lease.n > 0)
	{
		iotmq_batch_grant(&batch, cursor, request->invisible_for, request->consumer, position);
		return CLAIM_DELIVERED;
	}
	if (finding->scan != NULL && finding->scan->stale)
		return CLAIM_AGAIN;
	return parked >= PARK_LIMIT ? CLAIM_CHANGED : CLAIM_EMPTY;
}

/* Adds new messages and moves the position; returns how many it parked. */
static int
take_new(const Cursor *cursor, Finding *finding, Position *position, DeviceSet *in_flight,
		 Batch *batch)
{
	int			budget = SCAN_LIMIT;
	int			parked = 0;

	if (finding->scan == NULL || finding->next_offset != position->next_offset)
	{
		/* nobody looked yet, or somebody was faster */
		int64		last = iotmq_sequence_last(cursor->zone->sequence);

		if (finding->scan != NULL)
			iotmq_scan_end(finding->scan);
		finding->scan = iotmq_scan_begin(cursor->zone, position->next_offset, last);
		finding->slot = next_wanted(finding->scan, cursor->group, &budget);
	}
	while (finding->slot != NULL)
	{
		/* the scan's position is one past the row that it returned last */
		int64		msg_offset = finding->scan->position - 1;

		if (in_flight != NULL &&
			park(cursor, in_flight, finding->slot, msg_offset, batch->lease.leased_at, position))
			parked++;
		else
			iotmq_batch_add(batch, finding->slot, msg_offset, 1);
		if (batch->lease.n >= batch->limit || parked >= PARK_LIMIT)
			break;
		finding->slot = next_wanted(finding->scan, cursor->group, &budget);
	}
	position->next_offset = finding->scan->position;
	iotmq_position_note_stable(position, finding->scan->stable);
	return parked;
}

/*
 * Puts the message behind earlier ones of its device that wait or are in flight;
 * false: there are none.
 */
static bool
park(const Cursor *cursor, DeviceSet *in_flight, TupleTableSlot *slot, int64 msg_offset,
	 TimestampTz now, Position *position)
{
	bool		isnull;
	text	   *device = DatumGetTextPP(slot_getattr(slot, Anum_device_id, &isnull));
	bool		behind = position->waiting > 0 && iotmq_waiting_has_device(cursor->cursor_id, device);
	Failure		waiting = {
		.msg_offset = msg_offset, .not_before = now, .device = device,
		.place = behind ? PLACE_BEHIND : PLACE_HEAD
	};

	if (!behind && !iotmq_devices_have(in_flight, device))
		return false;
	iotmq_wait(cursor, &waiting, 1, position);
	return true;
}
