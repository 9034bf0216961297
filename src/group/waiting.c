/*
 * waiting.c - what an operator decides of messages that wait: try them now, or give them
 * up. nack's counterpart, for which there is no lease any more; and the way out where
 * retries are due in days, since a clock was ahead when they failed.
 *
 * Locks: the cursor.
 */
#include "group/group.h"

#include "catalog/pg_type_d.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

typedef struct Named			/* messages that a call names */
{
	int			n;
	int64	   *offsets;		/* in order, each once */
} Named;

static Named begin(FunctionCallInfo fcinfo, Cursor *cursor, HeldCursor *held);
static Named named_offsets(FunctionCallInfo fcinfo, int argno);
static bool find(const HeldCursor *held, int64 msg_offset, Redelivery *row);
static text *device_of(const HeldCursor *held, int64 msg_offset);
static int	compare_offsets(const void *a, const void *b);

/*
 * retry_now(topic text, consumer_group text, msg_offsets bigint[], zone text) RETURNS int:
 * these messages, as far as they wait, are due now; how many. In an orderly group that is
 * only so for the first of a device; one that waits behind another doesn't count. zone
 * NULL: the topic's only one.
 * Errors: 22004 an argument or an offset NULL, or zone with several zones; 42704 unknown
 * topic, group or zone; 42501 not allowed; 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_retry_now);
Datum
iotmq_retry_now(PG_FUNCTION_ARGS)
{
	TimestampTz now = GetCurrentTimestamp();
	int			moved = 0;
	Cursor		cursor;
	HeldCursor	held;
	Named		named;

	iotmq_call_require_primary("retry_now()");
	named = begin(fcinfo, &cursor, &held);
	for (int i = 0; i < named.n; i++)
	{
		Redelivery	row;

		CHECK_FOR_INTERRUPTS();
		if (!find(&held, named.offsets[i], &row) || TIMESTAMP_IS_NOEND(row.due_at))
			continue;
		moved++;
		if (row.due_at <= now)
			continue;
		row.not_before = now;
		row.due_at = now;
		iotmq_redelivery_change(&held, &row);
	}
	iotmq_cursor_release(&held);
	PG_RETURN_INT32(moved);
}

/*
 * give_up(topic text, consumer_group text, msg_offsets bigint[], zone text, reason text)
 * RETURNS int: these messages, as far as they wait, become dead letters now; how many.
 * reason NULL: that of their last failure. In an orderly group the next one of the device
 * may come. Errors as of retry_now.
 */
PG_FUNCTION_INFO_V1(iotmq_give_up);
Datum
iotmq_give_up(PG_FUNCTION_ARGS)
{
	text	   *reason = iotmq_fail_reason(fcinfo, 4);
	Cursor		cursor;
	HeldCursor	held;
	Named		named;
	int64		dead_total;

	iotmq_call_require_primary("give_up()");
	named = begin(fcinfo, &cursor, &held);
	dead_total = held.state.dead_total;
	for (int i = 0; i < named.n; i++)
	{
		Redelivery	row;

		CHECK_FOR_INTERRUPTS();
		if (!find(&held, named.offsets[i], &row))
			continue;
		iotmq_redelivery_remove(&held, &row);
		iotmq_fail_bury(&held, &(Failure) {
			.msg_offset = row.msg_offset, .attempt = row.attempt - 1,
			.reason = reason != NULL ? reason : row.reason
		});
		if (row.device != NULL)
			iotmq_redelivery_lift_head(&held, row.device, 0);
	}
	iotmq_cursor_release(&held);
	PG_RETURN_INT32(held.state.dead_total - dead_total);
}

/* Holds the cursor that arguments 0, 1 and 3 name, with all that is redriven in its place. */
static Named
begin(FunctionCallInfo fcinfo, Cursor *cursor, HeldCursor *held)
{
	Topic	   *topic = iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic"));
	ConsumerGroup *group = iotmq_catalog_group(topic, iotmq_call_name(fcinfo, 1, "consumer_group"));
	Zone	   *zone;
	Named		named;

	iotmq_access_require_consume(topic, group);
	zone = iotmq_catalog_zone_or_only(topic, PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3));
	named = named_offsets(fcinfo, 2);
	*cursor = (Cursor) {iotmq_catalog_cursor(group, zone), topic, group, zone};
	/* while it waited, segments were made and modes changed */
	if (iotmq_cursor_hold(cursor, true, held) != ROW_OK ||
		!iotmq_catalog_cursor_by_id(cursor->cursor_id, cursor))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("consumer group \"%s\" of topic \"%s\" was dropped",
						iotmq_call_name(fcinfo, 1, "consumer_group"),
						iotmq_call_name(fcinfo, 0, "topic"))));
	iotmq_state_require_open(cursor->zone);
	while (iotmq_place_is_due(cursor, &held->state))
		iotmq_place_redriven(held, NULL);
	return named;
}

static Named
named_offsets(FunctionCallInfo fcinfo, int argno)
{
	Named		named = {0};
	Datum	   *elements;
	bool	   *nulls;

	iotmq_call_require(fcinfo, argno, "msg_offsets");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(argno), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, &nulls, &named.n);
	named.offsets = palloc(sizeof(int64) * Max(named.n, 1));
	for (int i = 0; i < named.n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("msg_offsets must not contain NULL")));
		named.offsets[i] = DatumGetInt64(elements[i]);
	}
	if (named.n > 1)
	{
		qsort(named.offsets, named.n, sizeof(int64), compare_offsets);
		named.n = qunique(named.offsets, named.n, sizeof(int64), compare_offsets);
	}
	return named;
}

/* The row of a message that waits; false: it doesn't. */
static bool
find(const HeldCursor *held, int64 msg_offset, Redelivery *row)
{
	text	   *device = NULL;

	if (held->state.redeliveries == 0)
		return false;
	if (held->cursor->group->orderly && (device = device_of(held, msg_offset)) == NULL)
		return false;
	return iotmq_redelivery_find(held, device, msg_offset, row);
}

/* The message's device, from the log or from its dead letter; NULL: there is no such message. */
static text *
device_of(const HeldCursor *held, int64 msg_offset)
{
	ZoneScan   *scan = iotmq_scan_begin(held->cursor->zone, msg_offset, msg_offset);
	TupleTableSlot *slot = iotmq_scan_one(scan, msg_offset);
	text	   *device = NULL;
	bool		isnull;

	if (slot == NULL)
		slot = iotmq_deadletter_content(held->state.cursor_id, msg_offset);
	if (slot != NULL)
		device = DatumGetTextPCopy(slot_getattr(slot, Anum_device_id, &isnull));
	iotmq_scan_end(scan);
	return device;
}

static int
compare_offsets(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}
