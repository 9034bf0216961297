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
#define PROOF_ROWS 100000		/* to read in order to show that from_offset is stable */

static int64 lowest_allowed(const Topic *topic, const Zone *zone);
static bool read_once(Topic *topic, Zone *zone, int64 from_offset, int max_messages,
					  DeliverySet *set);

/*
 * fetch(topic text, zone text, from_offset bigint, max_messages int) RETURNS
 * SETOF delivery: the messages from that offset on (from the earliest, if that
 * is higher) up to the stable offset, with lease_id NULL and attempt 0. Who may
 * consume but not read the topic begins at the position of the group at earliest.
 * Errors: 22004 an argument NULL; 22023 bad max_messages; 42704 unknown topic or
 * zone; 42501 not allowed; 25006 on a standby, which can't know what is stable.
 */
PG_FUNCTION_INFO_V1(iotmq_fetch);
Datum
iotmq_fetch(PG_FUNCTION_ARGS)
{
	char	   *topic_name = iotmq_name_arg(fcinfo, 0, "topic");
	char	   *zone_name = iotmq_name_arg(fcinfo, 1, "zone");
	Topic	   *topic = iotmq_topic(topic_name);
	int64		lowest;
	int			max_messages;
	DeliverySet set;

	iotmq_require_primary("fetch()");
	iotmq_require_arg(fcinfo, 2, "from_offset");
	iotmq_require_arg(fcinfo, 3, "max_messages");
	lowest = lowest_allowed(topic, iotmq_zone(topic, zone_name));
	max_messages = PG_GETARG_INT32(3);
	if (max_messages < 1 || max_messages > BATCH_MESSAGES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_messages must be between 1 and %d, not %d",
						BATCH_MESSAGES, max_messages)));
	set = iotmq_delivery_begin(fcinfo);

	/* nothing yet, but a publisher is about to end: it mostly takes a moment */
	for (int look = 0; look < SETTLE_LOOKS; look++)
	{
		if (look > 0)
		{
			CHECK_FOR_INTERRUPTS();
			pg_usleep(SETTLE_US);
		}
		topic = iotmq_topic(topic_name);
		if (read_once(topic, iotmq_zone(topic, zone_name), Max(PG_GETARG_INT64(2), lowest),
					  max_messages, &set))
			break;
	}
	return (Datum) 0;
}

/* Where the current user may begin to read; raises 42501 if nowhere. */
static int64
lowest_allowed(const Topic *topic, const Zone *zone)
{
	int64		lowest = PG_INT64_MAX;

	if (iotmq_may_read(topic))
		return 0;
	for (int g = 0; g < topic->ngroups; g++)
	{
		Position	position;

		if (iotmq_may_consume_as(&topic->groups[g]) &&
			iotmq_position_peek(topic->groups[g].cursors[zone - topic->zones], &position))
			lowest = Min(lowest, position.next_offset);
	}
	if (lowest == PG_INT64_MAX)
		iotmq_require_read(topic);
	return lowest;
}

/* One look; false if another one may bring more. */
static bool
read_once(Topic *topic, Zone *zone, int64 from_offset, int max_messages, DeliverySet *set)
{
	StableState *stable = iotmq_stable_state(zone->sequence);
	int64		from = Max(from_offset, zone->earliest_offset);
	int64		last = iotmq_sequence_last(zone->sequence);
	int			budget = max_messages + PROOF_ROWS;
	ZoneScan   *scan;
	TupleTableSlot *slot;
	bool		waiting;

	if (stable->stable_offset < from)
		iotmq_position_teach(topic, zone);
	if (stable->stable_offset < from)
		(void) iotmq_stable_refresh(stable);

	/* whether from is below the stable offset shows on the way there */
	scan = iotmq_scan_begin(zone, Min(from, Max(stable->stable_offset, zone->earliest_offset)), last);
	while (set->rows < max_messages && budget-- > 0 && (slot = iotmq_scan_next(scan)) != NULL)
		if (scan->position > from)
			iotmq_delivery_add(set, 0, slot, 0);
	waiting = scan->position <= last || last < 0;
	iotmq_scan_end(scan);
	return set->rows > 0 || !waiting;
}

/*
 * commit_offset(topic text, consumer_group text, zone text, next_offset bigint)
 * RETURNS void: the group goes on there; back only for who may read the topic.
 * Errors: 22004 an argument NULL; 22023 outside of earliest..end; 42704 unknown
 * topic, group or zone; 42501 not allowed; 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_commit_offset);
Datum
iotmq_commit_offset(PG_FUNCTION_ARGS)
{
	Topic	   *topic = iotmq_topic(iotmq_name_arg(fcinfo, 0, "topic"));
	ConsumerGroup *group = iotmq_group(topic, iotmq_name_arg(fcinfo, 1, "consumer_group"));
	Zone	   *zone = iotmq_zone(topic, iotmq_name_arg(fcinfo, 2, "zone"));
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
	if (next_offset < position.next_offset && !iotmq_may_read(topic))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to go back from offset " INT64_FORMAT " to " INT64_FORMAT,
						position.next_offset, next_offset),
				 errhint("An administrator can run: SELECT iotmq.seek_offset(%s, %s, %s, " INT64_FORMAT ");",
						 quote_literal_cstr(topic->name), quote_literal_cstr(group->name),
						 quote_literal_cstr(zone->name), next_offset)));
	position.next_offset = next_offset;
	position.last_consumed_at = GetCurrentTimestamp();
	iotmq_position_store(&position, &tid);
	iotmq_segment_keep_ahead(topic, zone, position.last_consumed_at);
	PG_RETURN_VOID();
}

/*
 * committed_offset(topic text, consumer_group text, zone text) RETURNS bigint: the
 * next offset that the group reads there. Errors: 22004 an argument NULL; 42704
 * unknown topic, group or zone; 42501 not allowed.
 */
PG_FUNCTION_INFO_V1(iotmq_committed_offset);
Datum
iotmq_committed_offset(PG_FUNCTION_ARGS)
{
	Topic	   *topic = iotmq_topic(iotmq_name_arg(fcinfo, 0, "topic"));
	ConsumerGroup *group = iotmq_group(topic, iotmq_name_arg(fcinfo, 1, "consumer_group"));
	Zone	   *zone = iotmq_zone(topic, iotmq_name_arg(fcinfo, 2, "zone"));
	Position	position;

	iotmq_require_consume(topic, group);
	if (!iotmq_position_peek(group->cursors[zone - topic->zones], &position))
		PG_RETURN_NULL();
	PG_RETURN_INT64(position.next_offset);
}
