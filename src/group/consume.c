/*
 * consume.c - consume: one lease from one of the zones.
 *
 * Goes over the zones, beginning with a random one so that none starves, until
 * a claim delivers. Where every zone that has messages is busy with another
 * consumer of the group, it tries again for a moment before it reports that
 * there is nothing. With wait it polls, about every millisecond.
 */
#include "group/group.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define POLL_MS 1
#define BUSY_US (50 * 1000)		/* how long to try when all are busy */
#define MAX_WAIT_US (5 * USECS_PER_MINUTE)
#define CONSUMER_BYTES 255

typedef struct ConsumeCall
{
	char	   *topic;
	char	   *group;
	char	   *zone;			/* NULL: any */
	ClaimRequest request;
	int			nhints;
	ClaimHint  *hints;			/* of each zone of the topic */
} ConsumeCall;

static ConsumeCall read_args(FunctionCallInfo fcinfo, int64 *wait);
static ClaimResult claim_any(ConsumeCall *call, DeliverySet *set);
static ClaimResult claim_zone(ConsumeCall *call, Topic *topic, ConsumerGroup *group, int z,
							  DeliverySet *set);
static void sleep_until_next_look(void);

/*
 * consume(topic text, consumer_group text, max_messages int, invisible_for
 * interval, zone text, wait interval, consumer text) RETURNS SETOF delivery: one
 * lease of 1 to max_messages messages of one zone in offset order, or no row.
 * invisible_for NULL: the group's; zone NULL: any; wait NULL: don't; consumer
 * NULL: unnamed.
 * Errors: 22004 topic, consumer_group or max_messages NULL; 22023 bad value;
 * 42704 unknown topic, group or zone; 42501 not allowed; 25001 above READ
 * COMMITTED; 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_consume);
Datum
iotmq_consume(PG_FUNCTION_ARGS)
{
	int64		wait;
	ConsumeCall call;
	DeliverySet set;
	TimestampTz start = GetCurrentTimestamp();
	MemoryContext look_context;
	MemoryContext caller_context;

	iotmq_call_require_primary("consume()");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("consume() cannot run in a transaction of isolation level %s",
						XactIsoLevel == XACT_SERIALIZABLE ? "SERIALIZABLE" : "REPEATABLE READ"),
				 errhint("Consume in a READ COMMITTED transaction of its own, then do the work and ack() in yours.")));
	call = read_args(fcinfo, &wait);
	set = iotmq_delivery_begin(fcinfo);
	look_context = AllocSetContextCreate(CurrentMemoryContext, "iotmq look", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		ClaimResult result;

		call.request.last_look = now >= start + wait;
		call.request.waits = !call.request.last_look;
		iotmq_commit_before_claim();
		caller_context = MemoryContextSwitchTo(look_context);
		result = claim_any(&call, &set);
		MemoryContextSwitchTo(caller_context);
		MemoryContextReset(look_context);
		iotmq_commit_after_claim();

		if (result == CLAIM_DELIVERED || result == CLAIM_CHANGED ||
			(call.request.last_look &&
			 (result == CLAIM_EMPTY || now >= start + wait + BUSY_US)))
			break;
		if (result == CLAIM_STALE)
			CHECK_FOR_INTERRUPTS();
		else
			sleep_until_next_look();
	}
	MemoryContextDelete(look_context);
	return (Datum) 0;
}

static ConsumeCall
read_args(FunctionCallInfo fcinfo, int64 *wait)
{
	ConsumeCall call = {0};

	call.topic = iotmq_call_name(fcinfo, 0, "topic");
	call.group = iotmq_call_name(fcinfo, 1, "consumer_group");
	call.request.max_messages = iotmq_call_max_messages(fcinfo, 2);
	if (!PG_ARGISNULL(3))
		call.request.invisible_for = iotmq_call_invisible_for(fcinfo, 3);
	if (!PG_ARGISNULL(4))
		call.zone = text_to_cstring(PG_GETARG_TEXT_PP(4));
	*wait = 0;
	if (!PG_ARGISNULL(5))
	{
		*wait = iotmq_interval_us(PG_GETARG_INTERVAL_P(5));
		if (*wait < 0 || *wait > MAX_WAIT_US)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("wait must be between 0 and 5 minutes")));
	}
	if (!PG_ARGISNULL(6))
	{
		call.request.consumer = PG_GETARG_TEXT_P_COPY(6);
		if (VARSIZE_ANY_EXHDR(call.request.consumer) > CONSUMER_BYTES)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("consumer must be at most %d bytes long", CONSUMER_BYTES)));
	}
	return call;
}

/* One look at the zones: all of them, or the one asked for. */
static ClaimResult
claim_any(ConsumeCall *call, DeliverySet *set)
{
	Topic	   *topic = iotmq_catalog_topic(call->topic);
	ConsumerGroup *group = iotmq_catalog_group(topic, call->group);
	ClaimResult result = CLAIM_EMPTY;
	uint32		first;
	int			nzones = topic->nzones;

	iotmq_access_require_consume(topic, group);
	if (call->nhints != nzones)
	{
		call->nhints = nzones;
		call->hints = MemoryContextAllocZero(MemoryContextGetParent(CurrentMemoryContext),
											 sizeof(ClaimHint) * Max(nzones, 1));
	}
	if (call->zone != NULL)
		return claim_zone(call, topic, group, iotmq_catalog_zone(topic, call->zone) - topic->zones, set);

	first = nzones > 1 ? pg_prng_uint32(&pg_global_prng_state) % nzones : 0;
	for (int i = 0; i < nzones; i++)
	{
		ClaimResult one = claim_zone(call, topic, group, (first + i) % nzones, set);

		if (one == CLAIM_DELIVERED)
			return one;
		if (one != CLAIM_EMPTY && result != CLAIM_CHANGED)
			result = one;
	}
	return result;
}

/* One look at zone z. After a delivery the topic may not be used any more. */
static ClaimResult
claim_zone(ConsumeCall *call, Topic *topic, ConsumerGroup *group, int z, DeliverySet *set)
{
	Cursor		cursor = {group->cursors[z], topic, group, &topic->zones[z]};
	int32		zone_id = cursor.zone->zone_id;
	ClaimResult result;
	TimestampTz now;

	if (cursor.cursor_id == 0)
		return CLAIM_EMPTY;
	result = iotmq_claim_lease(&cursor, &call->request, &call->hints[z], set);
	if (result == CLAIM_DELIVERED && iotmq_catalog_zone_by_id(zone_id, &cursor.topic, &cursor.zone))
	{
		now = GetCurrentTimestamp();
		iotmq_segment_seal(cursor.zone, now);
		if (iotmq_catalog_zone_by_id(zone_id, &cursor.topic, &cursor.zone))
			iotmq_segment_keep_ahead(cursor.topic, cursor.zone, now);
	}
	return result;
}

static void
sleep_until_next_look(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 POLL_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
