/*
 * redrive.c - what becomes of dead letters: they are delivered again, or deleted.
 */
#include "group/group.h"

#include "utils/timestamp.h"

static void require_consume(FunctionCallInfo fcinfo);
static bool is_in_log(const Cursor *cursor, int64 msg_offset);

/*
 * redrive, purge_dead_letters: SQL functions that run as the extension's owner, once the
 * caller's right is checked. Arguments, results and errors are theirs; 42501 not allowed;
 * 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_redrive);
Datum
iotmq_redrive(PG_FUNCTION_ARGS)
{
	iotmq_call_require_primary("redrive()");
	require_consume(fcinfo);
	return iotmq_owner_call(fcinfo, "redrive_as_owner");
}

PG_FUNCTION_INFO_V1(iotmq_purge_dead_letters);
Datum
iotmq_purge_dead_letters(PG_FUNCTION_ARGS)
{
	iotmq_call_require_primary("purge_dead_letters()");
	require_consume(fcinfo);
	return iotmq_owner_call(fcinfo, "redrive_purge_as_owner");
}

/*
 * redrive_wait(cursor_id int, msg_offset bigint) RETURNS void: a message whose dead
 * letter was just marked as redriven waits for its first attempt. If the group
 * went back behind it, it comes from the log by itself and needs no letter.
 */
PG_FUNCTION_INFO_V1(iotmq_redrive_wait);
Datum
iotmq_redrive_wait(PG_FUNCTION_ARGS)
{
	Failure		waiting = {
		.msg_offset = PG_GETARG_INT64(1), .not_before = GetCurrentTimestamp(), .redriven = true
	};
	Cursor		cursor;
	HeldCursor	held;
	TupleTableSlot *content;
	bool		isnull;

	if (!iotmq_catalog_cursor_by_id(PG_GETARG_INT32(0), &cursor) ||
		(content = iotmq_deadletter_content(cursor.cursor_id, waiting.msg_offset)) == NULL ||
		iotmq_cursor_hold(&cursor, true, &held) != ROW_OK)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("dead letter of offset " INT64_FORMAT " does not exist",
						waiting.msg_offset)));
	held.state.dead_letters--;
	if (waiting.msg_offset >= held.state.next_offset && is_in_log(&cursor, waiting.msg_offset))
		iotmq_deadletter_done(cursor.cursor_id, waiting.msg_offset);
	else
	{
		if (cursor.group->orderly)
			waiting.device = DatumGetTextPP(slot_getattr(content, Anum_device_id, &isnull));
		iotmq_fail_wait(&held, &waiting, 1);
	}
	iotmq_cursor_release(&held);
	PG_RETURN_VOID();
}

static void
require_consume(FunctionCallInfo fcinfo)
{
	Topic	   *topic = iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic"));

	iotmq_access_require_consume(topic, iotmq_catalog_group(topic, iotmq_call_name(fcinfo, 1, "consumer_group")));
}

static bool
is_in_log(const Cursor *cursor, int64 msg_offset)
{
	ZoneScan   *scan = iotmq_scan_begin(cursor->zone, msg_offset, msg_offset);
	bool		found = iotmq_scan_one(scan, msg_offset) != NULL;

	iotmq_scan_end(scan);
	return found;
}
