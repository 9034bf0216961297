/*
 * fetch.c - pull reading: fetch and commit_offset, without leases.
 */
#include "iotmq.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define SETTLE_LOOKS 5			/* at a sample, before fetch reports that there is nothing */
#define SETTLE_US 500

static Zone *zone_arg(FunctionCallInfo fcinfo, int argno, Topic *topic);

/*
 * fetch(topic text, zone text, from_offset bigint, max_messages int) RETURNS
 * SETOF delivery: the messages from that offset on (from the earliest, if that
 * is higher) up to the stable offset, with lease_id NULL and attempt 0.
 * Errors: 22004 an argument NULL; 22023 bad max_messages; 42704 unknown topic or
 * zone; 42501 not allowed; 25006 on a standby, which can't know what is stable.
 */
PG_FUNCTION_INFO_V1(iotmq_fetch);
Datum
iotmq_fetch(PG_FUNCTION_ARGS)
{
	Topic	   *topic = iotmq_topic(iotmq_name_arg(fcinfo, 0, "topic"));
	Zone	   *zone = zone_arg(fcinfo, 1, topic);
	int64		from;
	int			max_messages;
	DeliverySet set;

	iotmq_require_primary("fetch()");
	iotmq_require_arg(fcinfo, 2, "from_offset");
	iotmq_require_arg(fcinfo, 3, "max_messages");
	iotmq_require_read(topic, zone);
	max_messages = PG_GETARG_INT32(3);
	if (max_messages < 1 || max_messages > BATCH_MESSAGES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_messages must be between 1 and %d, not %d",
						BATCH_MESSAGES, max_messages)));
	from = Max(PG_GETARG_INT64(2), zone->earliest_offset);
	set = iotmq_delivery_begin(fcinfo);

	/* nothing yet, but a publisher is about to end: it mostly takes a moment */
	for (int look = 0; look < SETTLE_LOOKS && set.rows == 0; look++)
	{
		ZoneScan   *scan;
		TupleTableSlot *slot;
		bool		waiting;

		if (look > 0)
		{
			CHECK_FOR_INTERRUPTS();
			pg_usleep(SETTLE_US);
		}
		scan = iotmq_scan_begin(zone, from, iotmq_sequence_last(zone->sequence));
		while (set.rows < max_messages && (slot = iotmq_scan_next(scan)) != NULL)
			iotmq_delivery_add(&set, 0, slot, 0);
		waiting = scan->position <= scan->last;
		iotmq_scan_end(scan);
		if (!waiting)
			break;
	}
	return (Datum) 0;
}

/*
 * commit_offset(topic text, consumer_group text, zone text, next_offset bigint)
 * RETURNS void: the group goes on there. Errors: 22004 an argument NULL; 22023
 * outside of earliest..end; 42704 unknown topic, group or zone; 42501 not
 * allowed; 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_commit_offset);
Datum
iotmq_commit_offset(PG_FUNCTION_ARGS)
{
	Topic	   *topic = iotmq_topic(iotmq_name_arg(fcinfo, 0, "topic"));
	ConsumerGroup *group = iotmq_group(topic, iotmq_name_arg(fcinfo, 1, "consumer_group"));
	Zone	   *zone = zone_arg(fcinfo, 2, topic);
	int64		next_offset;
	int64		end_offset;
	Position	position;
	ItemPointerData tid;

	iotmq_require_primary("commit_offset()");
	iotmq_require_arg(fcinfo, 3, "next_offset");
	iotmq_require_consume(topic, group);
	next_offset = PG_GETARG_INT64(3);
	end_offset = iotmq_sequence_last(zone->sequence) + 1;
	if (next_offset < zone->earliest_offset || next_offset > end_offset)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("next_offset " INT64_FORMAT " is not between the earliest offset " INT64_FORMAT " and the end offset " INT64_FORMAT,
						next_offset, zone->earliest_offset, end_offset)));
	if (iotmq_position_lock(group->cursors[zone - topic->zones], true, &position, &tid) != ROW_OK)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("consumer group \"%s\" of topic \"%s\" was dropped",
						group->name, topic->name)));
	position.next_offset = next_offset;
	position.last_consumed_at = GetCurrentTimestamp();
	iotmq_position_store(&position, &tid);
	PG_RETURN_VOID();
}

static Zone *
zone_arg(FunctionCallInfo fcinfo, int argno, Topic *topic)
{
	return iotmq_zone(topic, iotmq_name_arg(fcinfo, argno, "zone"));
}
