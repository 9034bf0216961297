/*
 * redeliver.c - what is due again goes into the next lease.
 *
 * In an orderly group a device's messages come in order: its head when that is
 * due and nothing of the device is in flight, with those behind it that may come,
 * too.
 */
#include "group/group.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

typedef struct Taken			/* rows that go into the lease */
{
	Redelivery *rows;
	int			n;
	int			room;
	int			limit;			/* the lease may have so many messages */
	bool		limited;		/* by a batch_limit */
} Taken;

static bool take(Taken *taken, const Redelivery *redelivery);
static void take_followers(Taken *taken, const HeldCursor *held, const Redelivery *head,
						   TimestampTz now);
static int	compare_offsets(const void *a, const void *b);
static void deliver(const Taken *taken, LeaseBuild *build, Budget *budget);

/* Would iotmq_redeliver_due find anything? Asked without a lock, of a state just read. */
bool
iotmq_redeliver_ready(const Cursor *cursor, const CursorState *state, TimestampTz now)
{
	int64		oldest_lease;
	DeviceSet  *in_flight;
	RowScan		scan;
	Redelivery	redelivery;
	bool		ready = false;

	if (state->next_due > now)
		return false;
	if (!cursor->group->orderly)
		return true;
	in_flight = iotmq_device_in_flight(state, &oldest_lease);
	scan = iotmq_redelivery_scan_due(cursor->cursor_id, state->next_due, NULL);
	while (!ready && iotmq_redelivery_next(&scan, &redelivery) && redelivery.due_at <= now)
		ready = !iotmq_device_has(in_flight, redelivery.device);
	iotmq_row_scan_end(&scan);
	return ready;
}

/*
 * Could what is due, if something is, leave no room for new messages in a lease of that
 * size? Asked without a lock, of a state just read.
 */
bool
iotmq_redeliver_may_fill(const CursorState *state, int max_messages, TimestampTz now)
{
	RowScan		scan;
	Redelivery	redelivery;
	bool		limited = false;

	/* those of an expired lease come in smaller ones */
	if (state->next_expiry <= now || state->redeliveries >= max_messages)
		return true;
	scan = iotmq_redelivery_scan_due(state->cursor_id, state->next_due, NULL);
	while (!limited && iotmq_redelivery_next(&scan, &redelivery) && redelivery.due_at <= now)
		limited = redelivery.batch_limit != 0;
	iotmq_row_scan_end(&scan);
	return limited;
}

/*
 * Moves messages that are due into the lease, which is empty. in_flight is NULL unless
 * the group is orderly. What comes to nothing is of the budget.
 */
void
iotmq_redeliver_due(LeaseBuild *build, DeviceSet *in_flight, Budget *budget)
{
	HeldCursor *held = build->held;
	TimestampTz now = build->lease.leased_at;
	TimestampTz next_due = DT_NOEND;
	Taken		taken = {.limit = build->limit};
	RowScan		scan = iotmq_redelivery_hold_due(held, held->state.next_due);
	Redelivery	redelivery;

	while (iotmq_redelivery_next(&scan, &redelivery))
	{
		if (redelivery.due_at <= now && in_flight != NULL &&
			iotmq_device_has(in_flight, redelivery.device))
		{
			next_due = Min(next_due, redelivery.due_at);
			continue;
		}
		if (redelivery.due_at > now || !take(&taken, &redelivery))
		{
			next_due = Min(next_due, redelivery.due_at);
			break;
		}
		if (in_flight != NULL)
			take_followers(&taken, held, &redelivery, now);
	}
	iotmq_row_scan_end(&scan);
	iotmq_cursor_next_due_is(held, next_due);

	for (int i = 0; i < taken.n; i++)
	{
		Redelivery *row = &taken.rows[i];

		CHECK_FOR_INTERRUPTS();
		iotmq_redelivery_remove(held, row);
		/* the rows of a device were taken in order, from its head on */
		if (in_flight != NULL &&
			(i + 1 == taken.n || !iotmq_device_equal(row->device, taken.rows[i + 1].device)))
			iotmq_redelivery_lift_head(held, row->device, row->msg_offset + 1);
	}
	if (taken.n > 0)
		qsort(taken.rows, taken.n, sizeof(Redelivery), compare_offsets);
	deliver(&taken, build, budget);
}

/* Takes a row, unless the lease would become larger than it or another one may come in. */
static bool
take(Taken *taken, const Redelivery *redelivery)
{
	if (taken->n >= taken->limit ||
		(redelivery->batch_limit != 0 && taken->n >= redelivery->batch_limit))
		return false;
	if (taken->n == taken->room)
	{
		taken->room = Max(64, taken->room * 2);
		taken->rows = taken->rows == NULL ? palloc(sizeof(Redelivery) * taken->room) :
			repalloc(taken->rows, sizeof(Redelivery) * taken->room);
	}
	taken->rows[taken->n++] = *redelivery;
	if (redelivery->batch_limit != 0)
	{
		taken->limit = Min(taken->limit, redelivery->batch_limit);
		taken->limited = true;
	}
	return true;
}

/* Takes what waits behind a device's head, up to the first that has a delay of its own. */
static void
take_followers(Taken *taken, const HeldCursor *held, const Redelivery *head, TimestampTz now)
{
	RowScan		scan = iotmq_redelivery_hold_device(held, head->device, head->msg_offset + 1);
	Redelivery	redelivery;

	while (iotmq_redelivery_next(&scan, &redelivery) && redelivery.not_before <= now &&
		   take(taken, &redelivery))
		;
	iotmq_row_scan_end(&scan);
}

static int
compare_offsets(const void *a, const void *b)
{
	int64		x = ((const Redelivery *) a)->msg_offset;
	int64		y = ((const Redelivery *) b)->msg_offset;

	return x < y ? -1 : x > y;
}

/*
 * Adds the messages to the lease. What the log has dropped is lost unread; what was put
 * aside, and never delivered, has to be wanted still. One that was redriven and has not been
 * given that place yet gets it by the lease: its end is the end of the dead letter.
 */
static void
deliver(const Taken *taken, LeaseBuild *build, Budget *budget)
{
	HeldCursor *held = build->held;
	ZoneScan   *scan = iotmq_scan_begin(held->cursor->zone, 0, 0);

	for (int i = 0; i < taken->n; i++)
	{
		const Redelivery *row = &taken->rows[i];
		TupleTableSlot *slot = iotmq_scan_one(scan, row->msg_offset);
		bool		redriven = row->redriven || iotmq_place_is_pending(&held->state, row->msg_offset);

		if (slot == NULL && redriven)
			slot = iotmq_deadletter_content(held->state.cursor_id, row->msg_offset);
		if (slot == NULL ||
			(row->deferred && !redriven && !iotmq_filter_accepts(held->cursor->group, slot)))
		{
			if (slot == NULL)
				held->state.expired_unread++;
			iotmq_budget_spend(budget);
			continue;
		}
		iotmq_lease_build_add(build, slot, row->msg_offset, row->attempt);
		build->lease.redriven |= redriven;
	}
	iotmq_scan_end(scan);
	if (build->lease.n > 0 && taken->limited)
	{
		build->limit = taken->limit;
		build->lease.batch_limit = taken->limit;
	}
}
