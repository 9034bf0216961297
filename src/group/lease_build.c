/*
 * lease_build.c - a lease in the making: messages are added in offset order and go
 * to the caller at once; then it is granted.
 */
#include "group/group.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Begins a lease of at most limit messages. */
void
iotmq_lease_build_begin(LeaseBuild *build, HeldCursor *held, int limit, TimestampTz now,
						DeliverySet *set)
{
	memset(build, 0, sizeof(LeaseBuild));
	build->held = held;
	build->set = set;
	build->limit = limit;
	build->room = Min(limit, 256);
	build->lease.lease_id = iotmq_lease_next_id(&held->state, now);
	build->lease.leased_at = now;
	build->lease.offsets = palloc(sizeof(int64) * build->room);
	build->lease.attempts = palloc(sizeof(int32) * build->room);
	if (held->cursor->group->orderly)
		build->lease.devices = palloc(sizeof(text *) * build->room);
}

/* Adds the message in slot (a row of a topic table). */
void
iotmq_lease_build_add(LeaseBuild *build, TupleTableSlot *slot, int64 msg_offset, int attempt)
{
	Lease	   *lease = &build->lease;
	bool		isnull;

	if (lease->n == build->room)
	{
		build->room = Min(build->limit, build->room * 4);
		lease->offsets = repalloc(lease->offsets, sizeof(int64) * build->room);
		lease->attempts = repalloc(lease->attempts, sizeof(int32) * build->room);
		if (lease->devices != NULL)
			lease->devices = repalloc(lease->devices, sizeof(text *) * build->room);
	}
	Assert(lease->n < build->room);
	lease->offsets[lease->n] = msg_offset;
	lease->attempts[lease->n] = attempt;
	if (lease->devices != NULL)
		lease->devices[lease->n] = DatumGetTextPCopy(slot_getattr(slot, Anum_device_id, &isnull));
	lease->n++;
	iotmq_delivery_add(build->set, lease->lease_id, slot, attempt);
}

/* Writes the lease, which has a message at least; invisible_for 0: the group's. */
void
iotmq_lease_build_grant(LeaseBuild *build, int64 invisible_for, text *consumer)
{
	Lease	   *lease = &build->lease;
	HeldCursor *held = build->held;

	Assert(lease->n > 0);
	lease->first_offset = lease->offsets[0];
	lease->last_offset = lease->offsets[lease->n - 1];
	lease->messages = lease->n;
	lease->consumer = consumer;
	lease->deadline = lease->leased_at +
		(invisible_for != 0 ? invisible_for : held->cursor->group->invisible_for);
	iotmq_lease_insert(lease);

	held->state.last_lease = lease->lease_id;
	if (held->state.oldest_lease == 0)
		iotmq_cursor_oldest_lease_is(held, lease->lease_id);
	iotmq_cursor_expect_expiry(held, lease->deadline);
	held->state.last_consumed_at = lease->leased_at;
	held->state.delivered_total += lease->n;
}
