/*
 * defer.c - messages of an orderly group that have to wait for an earlier one of their
 * device: they are put aside, deferred, into redelivery behind it.
 *
 * A device is blocked while it is in an open lease or has something waiting. What is
 * found out about it holds as long as the cursor is held; before that it may be out of
 * date, and only tells whether it is worth to hold the cursor.
 */
#include "group/group.h"

#include "utils/builtins.h"

static bool is_waiting(Blocking *blocking, text *device);

/* What blocks devices of the cursor; also notes the oldest lease in *oldest_lease (0: none). */
Blocking
iotmq_defer_blocking(const CursorState *state, int64 *oldest_lease)
{
	return (Blocking) {
		.cursor_id = state->cursor_id,
		.in_flight = iotmq_device_in_flight(state, oldest_lease),
		.waiting = iotmq_device_set(),
		.free = state->redeliveries > 0 ? iotmq_device_set() : NULL
	};
}

/* Would the message in slot have to wait? */
bool
iotmq_defer_must(Blocking *blocking, TupleTableSlot *slot)
{
	bool		isnull;
	text	   *device = DatumGetTextPP(slot_getattr(slot, Anum_device_id, &isnull));

	return iotmq_device_has(blocking->in_flight, device) || is_waiting(blocking, device);
}

/* Puts the message in slot behind earlier ones of its device; false: there are none. */
bool
iotmq_defer(HeldCursor *held, Blocking *blocking, TupleTableSlot *slot, int64 msg_offset,
			TimestampTz now)
{
	bool		isnull;
	text	   *device = DatumGetTextPP(slot_getattr(slot, Anum_device_id, &isnull));
	bool		behind = is_waiting(blocking, device);
	Failure		waiting = {
		.msg_offset = msg_offset, .not_before = now, .device = device, .deferred = true,
		.place = behind ? PLACE_BEHIND : PLACE_HEAD
	};

	if (!behind && !iotmq_device_has(blocking->in_flight, device))
		return false;
	iotmq_fail_wait(held, &waiting, 1);
	if (!behind)
		iotmq_device_add(blocking->waiting, DatumGetTextPCopy(PointerGetDatum(device)));
	return true;
}

/* Has the device something waiting? Looked up once. */
static bool
is_waiting(Blocking *blocking, text *device)
{
	bool		waiting;

	if (iotmq_device_has(blocking->waiting, device))
		return true;
	if (blocking->free == NULL || iotmq_device_has(blocking->free, device))
		return false;
	waiting = iotmq_redelivery_has_device(blocking->cursor_id, device);
	iotmq_device_add(waiting ? blocking->waiting : blocking->free,
					 DatumGetTextPCopy(PointerGetDatum(device)));
	return waiting;
}
