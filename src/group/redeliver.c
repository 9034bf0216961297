/*
 * redeliver.c - what is due again comes first in the next lease.
 *
 * In an orderly group a device's messages come in order: its head when that is
 * due and nothing of the device is in flight, with those behind it that may come,
 * too.
 */
#include "iotmq.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

typedef struct Taken			/* rows that go into the lease */
{
	Waiting    *rows;
	int			n;
	int			room;
	int			limit;			/* the lease may have so many messages */
	bool		limited;		/* by a batch_limit */
} Taken;

static bool take(Taken *taken, const Waiting *waiting);
static void take_followers(Taken *taken, const Waiting *head, TimestampTz now);
static bool same_device(const Waiting *a, const Waiting *b);
static int	compare_offsets(const void *a, const void *b);
static void deliver(const Cursor *cursor, const Taken *taken, Position *position, Batch *batch);

/* Would iotmq_redeliver find anything? Asked without a lock, of a position just read. */
bool
iotmq_redeliver_ready(const Cursor *cursor, const Position *position, TimestampTz now)
{
	Position	copy = *position;
	DeviceSet  *in_flight;
	RowScan		scan;
	Waiting		waiting;
	bool		ready = false;

	if (position->next_due > now)
		return false;
	if (!cursor->group->orderly)
		return true;
	in_flight = iotmq_devices_in_flight(&copy);
	scan = iotmq_waiting_scan_due(cursor->cursor_id, position->next_due, NULL);
	while (!ready && iotmq_waiting_next(&scan, &waiting) && waiting.due_at <= now)
		ready = !iotmq_devices_have(in_flight, waiting.device);
	iotmq_row_scan_end(&scan);
	return ready;
}

/*
 * Moves messages that are due into the batch, which is empty. The caller holds
 * the position and stores it. in_flight is NULL unless the group is orderly.
 */
void
iotmq_redeliver(const Cursor *cursor, Position *position, TimestampTz now, DeviceSet *in_flight,
				Batch *batch)
{
	Taken		taken = {.limit = batch->limit};
	RowScan		scan = iotmq_waiting_scan_due(cursor->cursor_id, position->next_due, NULL);
	Waiting		waiting;

	position->next_due = DT_NOEND;
	while (iotmq_waiting_next(&scan, &waiting))
	{
		if (waiting.due_at <= now && in_flight != NULL &&
			iotmq_devices_have(in_flight, waiting.device))
		{
			position->next_due = Min(position->next_due, waiting.due_at);
			continue;
		}
		if (waiting.due_at > now || !take(&taken, &waiting))
		{
			position->next_due = Min(position->next_due, waiting.due_at);
			break;
		}
		if (in_flight != NULL)
			take_followers(&taken, &waiting, now);
	}
	iotmq_row_scan_end(&scan);

	for (int i = 0; i < taken.n; i++)
	{
		Waiting    *row = &taken.rows[i];

		CHECK_FOR_INTERRUPTS();
		iotmq_waiting_remove(row, position);
		/* the rows of a device were taken in order, from its head on */
		if (in_flight != NULL &&
			(i + 1 == taken.n || !same_device(row, &taken.rows[i + 1])))
			iotmq_waiting_settle_head(cursor->cursor_id, row->device, row->msg_offset + 1, position);
	}
	if (taken.n > 0)
		qsort(taken.rows, taken.n, sizeof(Waiting), compare_offsets);
	deliver(cursor, &taken, position, batch);
}

/* Takes a row, unless the lease would become larger than it or another one may come in. */
static bool
take(Taken *taken, const Waiting *waiting)
{
	if (taken->n >= taken->limit ||
		(waiting->batch_limit != 0 && taken->n >= waiting->batch_limit))
		return false;
	if (taken->n == taken->room)
	{
		taken->room = Max(64, taken->room * 2);
		taken->rows = taken->rows == NULL ? palloc(sizeof(Waiting) * taken->room) :
			repalloc(taken->rows, sizeof(Waiting) * taken->room);
	}
	taken->rows[taken->n++] = *waiting;
	if (waiting->batch_limit != 0)
	{
		taken->limit = Min(taken->limit, waiting->batch_limit);
		taken->limited = true;
	}
	return true;
}

/* Takes what waits behind a device's head, up to the first that has a delay of its own. */
static void
take_followers(Taken *taken, const Waiting *head, TimestampTz now)
{
	RowScan		scan = iotmq_waiting_scan_device(head->cursor_id, head->device,
												 head->msg_offset + 1);
	Waiting		waiting;

	while (iotmq_waiting_next(&scan, &waiting) && waiting.not_before <= now &&
		   take(taken, &waiting))
		;
	iotmq_row_scan_end(&scan);
}

static bool
same_device(const Waiting *a, const Waiting *b)
{
	return VARSIZE_ANY(a->device) == VARSIZE_ANY(b->device) &&
		memcmp(a->device, b->device, VARSIZE_ANY(a->device)) == 0;
}

static int
compare_offsets(const void *a, const void *b)
{
	int64		x = ((const Waiting *) a)->msg_offset;
	int64		y = ((const Waiting *) b)->msg_offset;

	return x < y ? -1 : x > y;
}

/* Adds the messages to the batch; what the log has dropped is lost unread. */
static void
deliver(const Cursor *cursor, const Taken *taken, Position *position, Batch *batch)
{
	ZoneScan   *scan = iotmq_scan_begin(cursor->zone, 0, 0);

	for (int i = 0; i < taken->n; i++)
	{
		const Waiting *row = &taken->rows[i];
		TupleTableSlot *slot = iotmq_scan_one(scan, row->msg_offset);

		if (slot == NULL && row->redriven)
			slot = iotmq_dead_letter_fetch(cursor->cursor_id, row->msg_offset);
		if (slot == NULL)
		{
			position->expired_unread++;
			continue;
		}
		iotmq_batch_add(batch, slot, row->msg_offset, row->attempt);
		batch->lease.redriven |= row->redriven;
	}
	iotmq_scan_end(scan);
	if (batch->lease.n > 0 && taken->limited)
	{
		batch->limit = taken->limit;
		batch->lease.batch_limit = taken->limit;
	}
}
