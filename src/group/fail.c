/*
 * fail.c - a message's attempt failed: it waits for another, or is given up.
 */
#include "group/group.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define REASON_BYTES 1024

/* The argument that is a reason, cut; NULL: none given. */
text *
iotmq_fail_reason(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL : iotmq_fail_cut_reason(PG_GETARG_DATUM(argno));
}

/* A text, cut at a character. It may be large, and stored far away. */
text *
iotmq_fail_cut_reason(Datum value)
{
	text	   *reason = DatumGetTextPSlice(value, 0, REASON_BYTES + MAX_MULTIBYTE_CHAR_LEN);
	int			size = VARSIZE_ANY_EXHDR(reason);

	return cstring_to_text_with_len(VARDATA_ANY(reason),
									pg_mbcliplen(VARDATA_ANY(reason), size, REASON_BYTES));
}

/*
 * Message i of a lease, whose devices are read, as a failure; due again then, in leases as
 * limited as this one.
 */
Failure
iotmq_fail_of(const HeldCursor *held, const Lease *lease, int i, TimestampTz not_before)
{
	int64		msg_offset = iotmq_lease_offset(lease, i);

	Assert(lease->device_list == NULL || lease->devices != NULL);
	return (Failure) {
		.msg_offset = msg_offset,
		.attempt = iotmq_lease_attempt(lease, i),
		.batch_limit = lease->batch_limit,
		.not_before = not_before,
		.redriven = lease->redriven &&
			iotmq_deadletter_is_redriven(held->state.cursor_id, msg_offset),
		.device = lease->devices != NULL ? lease->devices[i] : NULL
	};
}

/* The message waits for its next delivery, which will have that number. */
void
iotmq_fail_wait(HeldCursor *held, const Failure *failure, int next_attempt)
{
	Redelivery	redelivery = {
		.cursor_id = held->state.cursor_id, .attempt = next_attempt,
		.due_at = failure->device == NULL || failure->place == PLACE_HEAD ?
		failure->not_before : DT_NOEND,
		.not_before = failure->not_before, .msg_offset = failure->msg_offset,
		.redriven = failure->redriven, .batch_limit = failure->batch_limit,
		.device = failure->device, .reason = failure->reason, .deferred = failure->deferred
	};

	iotmq_redelivery_add(held, &redelivery);
	if (failure->device != NULL && failure->place == PLACE_UNKNOWN)
		iotmq_redelivery_lift_head(held, failure->device, 0);
}

/*
 * The message comes again, or is given up if this was its last attempt (false).
 * Its last attempt it gets alone: no other message can spoil it.
 */
bool
iotmq_fail_attempt(HeldCursor *held, const Failure *failure)
{
	int			max_retries = held->cursor->group->max_retries;
	Failure		waiting = *failure;

	if (failure->attempt > max_retries)
	{
		iotmq_fail_bury(held, failure);
		return false;
	}
	if (failure->attempt == max_retries)
		waiting.batch_limit = 1;
	iotmq_fail_wait(held, &waiting, failure->attempt + 1);
	held->state.retried_total++;
	return true;
}

/* The message becomes a dead letter; if the log has dropped it, it is lost unread. */
void
iotmq_fail_bury(HeldCursor *held, const Failure *failure)
{
	if (iotmq_deadletter_add(held, failure))
		held->state.dead_total++;
	else
		held->state.expired_unread++;
}
