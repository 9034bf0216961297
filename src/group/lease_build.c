/*
 * batch.c - a lease in the making: messages are added in offset order and go
 * to the caller at once; then it is granted.
 */
#include "iotmq.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Begins a lease of at most limit messages; the caller holds the position. */
void
iotmq_batch_begin(Batch *batch, const Cursor *cursor, const Position *position, int limit,
				  TimestampTz now, DeliverySet *set)
{
	memset(batch, 0, sizeof(Batch));
	batch->set = set;
	batch->limit = limit;
	batch->room = Min(limit, 256);
	batch->lease.lease_id = iotmq_lease_next_id(cursor->cursor_id, position->last_lease, now);
	batch->lease.leased_at = now;
	batch->lease.offsets = palloc(sizeof(int64) * batch->room);
	batch->lease.attempts = palloc(sizeof(int32) * batch->room);
	if (cursor->group->orderly)
		batch->lease.devices = palloc(sizeof(text *) * batch->room);
}

/* Adds the message in slot (a row of a topic table). */
void
iotmq_batch_add(Batch *batch, TupleTableSlot *slot, int64 msg_offset, int attempt)
{
	Lease	   *lease = &batch->lease;
	bool		isnull;

	if (lease->n == batch->room)
	{
		batch->room = Min(batch->limit, batch->room * 4);
		lease->offsets = repalloc(lease->offsets, sizeof(int64) * batch->room);
		lease->attempts = repalloc(lease->attempts, sizeof(int32) * batch->room);
		if (lease->devices != NULL)
			lease->devices = repalloc(lease->devices, sizeof(text *) * batch->room);
	}
	Assert(lease->n < batch->room);
	lease->offsets[lease->n] = msg_offset;
	lease->attempts[lease->n] = attempt;
	if (lease->devices != NULL)
		lease->devices[lease->n] = DatumGetTextPCopy(slot_getattr(slot, Anum_device_id, &isnull));
	if (attempt != 1)
		batch->attempts_differ = true;
	lease->n++;
	iotmq_delivery_add(batch->set, lease->lease_id, slot, attempt);
}

/* Writes the lease, which has a message at least, and notes it in the position. */
void
iotmq_batch_grant(Batch *batch, const Cursor *cursor, int64 invisible_for, text *consumer,
				  Position *position)
{
	Lease	   *lease = &batch->lease;

	Assert(lease->n > 0);
	lease->first_offset = lease->offsets[0];
	lease->last_offset = lease->offsets[lease->n - 1];
	if (lease->last_offset - lease->first_offset + 1 == lease->n)
		lease->offsets = NULL;
	if (!batch->attempts_differ)
		lease->attempts = NULL;
	lease->messages = lease->n;
	lease->consumer = consumer;
	lease->deadline = lease->leased_at +
		(invisible_for != 0 ? invisible_for : cursor->group->invisible_for);
	iotmq_lease_insert(lease);

	position->last_lease = lease->lease_id;
	if (position->oldest_lease == 0)
		position->oldest_lease = lease->lease_id;
	position->next_expiry = Min(position->next_expiry, lease->deadline);
	position->last_consumed_at = lease->leased_at;
	position->delivered_total += lease->n;
}
