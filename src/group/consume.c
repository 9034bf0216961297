/*
 * consume.c - consume: one lease from one of the zones.
 *
 * Goes over the zones in an order drawn anew each time, so that each of those that have
 * something is as likely to be the first of them, until a claim delivers. Where every
 * zone that has messages is busy with another consumer of the group, it tries again for
 * a moment before it reports that there is nothing.
 *
 * With wait it looks again and again: every millisecond at first, then the more rarely the
 * longer it has waited. So a message comes late by a share of the silence before it; a call
 * that has to wait for long costs next to nothing; and of many consumers that wait together
 * those look often which get something. Where there was nothing and nobody has committed
 * since, the look is spared (idle.c).
 *
 * Where messages that nobody wants lie between, the looks share a budget; then what they
 * have learnt is kept: by the commit of this call, which returns without a row, or in a
 * transaction block by this backend. A call that waits goes on by itself, and returns
 * for that at most once a second; and every few seconds also for little, so that a group
 * that waits for what it wants does not look as if it were behind.
 *
 * With ack_lease it acknowledges a lease first, as ack() does: in the caller's transaction,
 * while a look and a claim may be in a subtransaction that comes to nothing. Such a call
 * does not wait, since what it has acknowledged would not be committed meanwhile.
 */
#include "group/group.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "core/stop.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define POLL_US 1000			/* between two looks, */
#define MAX_POLL_US (20 * 1000)	/* up to that */
#define POLL_SHARE 20			/* of the time that a call has waited */
#define CLIENT_US (200 * 1000)	/* between two looks whether the client is there, while nothing happens */
#define BUSY_US (50 * 1000)		/* how long to try when all are busy */
#define MAX_WAIT_US (5 * USECS_PER_MINUTE)
#define CONSUMER_BYTES 255
#define LOOK_US (200 * 1000)	/* how long to look past what is not wanted */
#define MIN_SLICE_US 1000		/* of that, for one zone at a time */
#define MAX_SLICE_US (10 * 1000)
#define KEEP_US USECS_PER_SEC	/* a waiting call ends after that to keep what it learnt, */
#define KEEP_PASSED 10000		/* if it has passed so many unwanted messages */
#define KEEP_DEFERRED 200		/* or would put so many aside */
#define KEEP_ANY_US (5 * USECS_PER_SEC)	/* after that, however few it has passed */
#define BLOCK_DEFERRED 5000		/* worth to hold the cursor till the end of a transaction block */

typedef struct ConsumeCall
{
	char	   *topic;
	char	   *group;
	char	   *zone;			/* NULL: any */
	int64		wait;			/* us */
	bool		acks;			/* a lease first: */
	int64		ack_lease;
	TimestampTz start;
	TimestampTz look_until;		/* of a look that is the last one */
	bool		in_block;		/* what it writes may stay uncommitted for long */
	ClaimRequest request;
} ConsumeCall;

static ConsumeCall read_args(FunctionCallInfo fcinfo);
static int64 look_us(void);
static void ack_lease(const ConsumeCall *call);
static void prepare_look(ConsumeCall *call, TimestampTz now);
static bool is_over(const ConsumeCall *call, ClaimResult result, TimestampTz now);
static ClaimResult claim_any(ConsumeCall *call, DeliverySet *set);
static ClaimResult claim_zone(ConsumeCall *call, ConsumerGroup *group, Zone *zone, DeliverySet *set);
static void keep(ConsumeCall *call);
static int *shuffled(int n);
static void sleep_until_next_look(const ConsumeCall *call, ClaimResult result);
static TimestampTz keep_at(const ConsumeCall *call);
static void nap(int64 us);

/*
 * consume(topic text, consumer_group text, max_messages int, invisible_for
 * interval, zone text, wait interval, consumer text, ack_lease bigint) RETURNS SETOF
 * delivery: one lease of 1 to max_messages messages of one zone in offset order, or no
 * row. invisible_for NULL: the group's; zone NULL: any; wait NULL: don't; consumer
 * NULL: unnamed; ack_lease: what is still open of that lease is done, NULL: of none.
 * Errors: 22004 topic, consumer_group or max_messages NULL; 22023 bad value, or
 * ack_lease is of another group; 55000 it is gone; 42704 unknown topic, group or zone;
 * 42501 not allowed; 25001 above READ COMMITTED; 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_consume);
Datum
iotmq_consume(PG_FUNCTION_ARGS)
{
	ConsumeCall call;
	DeliverySet set;
	ClaimResult result;
	MemoryContext look_context;
	MemoryContext caller_context;

	iotmq_call_require_primary("consume()");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("consume() cannot run in a transaction of isolation level %s",
						XactIsoLevel == XACT_SERIALIZABLE ? "SERIALIZABLE" : "REPEATABLE READ"),
				 errhint("Consume in a READ COMMITTED transaction of its own, then do the work and ack() in yours.")));
	call = read_args(fcinfo);
	set = iotmq_delivery_begin(fcinfo);
	if (call.acks)
		ack_lease(&call);
	look_context = AllocSetContextCreate(CurrentMemoryContext, "iotmq look", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		prepare_look(&call, now);
		iotmq_commit_light_begin();
		caller_context = MemoryContextSwitchTo(look_context);
		result = claim_any(&call, &set);
		if (is_over(&call, result, now))
		{
			if (result != CLAIM_DELIVERED && call.request.has_news && !call.in_block)
				keep(&call);
			MemoryContextSwitchTo(caller_context);
			iotmq_commit_light_end();
			break;
		}
		MemoryContextSwitchTo(caller_context);
		MemoryContextReset(look_context);
		iotmq_commit_light_end();

		if (result == CLAIM_STALE || result == CLAIM_MORE)
			CHECK_FOR_INTERRUPTS();
		else
			sleep_until_next_look(&call, result);
		if (call.wait > 0)
			iotmq_client_require();
		call.request.has_polled = call.wait > 0;
	}
	MemoryContextDelete(look_context);
	return (Datum) 0;
}

static ConsumeCall
read_args(FunctionCallInfo fcinfo)
{
	ConsumeCall call = {.start = GetCurrentTimestamp(), .in_block = IsTransactionBlock()};

	call.topic = iotmq_call_name(fcinfo, 0, "topic");
	call.group = iotmq_call_name(fcinfo, 1, "consumer_group");
	call.request.max_messages = iotmq_call_max_messages(fcinfo, 2);
	if (!PG_ARGISNULL(3))
		call.request.invisible_for = iotmq_call_invisible_for(fcinfo, 3);
	if (!PG_ARGISNULL(4))
		call.zone = text_to_cstring(PG_GETARG_TEXT_PP(4));
	if (!PG_ARGISNULL(5))
	{
		call.wait = iotmq_interval_us(PG_GETARG_INTERVAL_P(5));
		if (call.wait < 0 || call.wait > MAX_WAIT_US)
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
	if (!PG_ARGISNULL(7))
	{
		call.acks = true;
		call.ack_lease = PG_GETARG_INT64(7);
		call.wait = 0;
	}
	call.request.look_us = look_us();
	call.look_until = call.start + call.wait + call.request.look_us;
	return call;
}

/* How long to look past what is not wanted: well within a statement_timeout. */
static int64
look_us(void)
{
	return StatementTimeout > 0 ? Min(LOOK_US, (int64) StatementTimeout * 1000 / 4) : LOOK_US;
}

static void
ack_lease(const ConsumeCall *call)
{
	Topic	   *topic = iotmq_catalog_topic(call->topic);
	ConsumerGroup *group = iotmq_catalog_group(topic, call->group);

	iotmq_access_require_consume(topic, group);
	iotmq_settle_ack(call->ack_lease, group->group_id);
}

/* What the next look may do. */
static void
prepare_look(ConsumeCall *call, TimestampTz now)
{
	ClaimRequest *request = &call->request;

	request->waits = now < call->start + call->wait;
	request->lets_go = request->waits || call->in_block;
	request->looks_past = request->lets_go;
	if (call->in_block)
		request->worth = BLOCK_DEFERRED;
	else if (!request->waits)
		request->worth = 1;
	else
		request->worth = now < call->start + KEEP_US ? BLOCK_DEFERRED : KEEP_DEFERRED;
}

/* Does the call end with that result of a look? */
static bool
is_over(const ConsumeCall *call, ClaimResult result, TimestampTz now)
{
	if (result == CLAIM_DELIVERED || result == CLAIM_CHANGED)
		return true;
	if (call->request.waits)
		return now >= keep_at(call);
	switch (result)
	{
		case CLAIM_EMPTY:
			return true;
		case CLAIM_MORE:
			return GetCurrentTimestamp() >= call->look_until;
		default:
			return now >= call->start + call->wait + BUSY_US;
	}
}

/* One look at the zones: all of them, or the one asked for. */
static ClaimResult
claim_any(ConsumeCall *call, DeliverySet *set)
{
	TimestampTz now = GetCurrentTimestamp();
	Topic	   *topic;
	ConsumerGroup *group;
	ClaimResult result = CLAIM_EMPTY;
	int			nzones;
	int		   *order;

	call->request.idle = iotmq_idle_begin(now);
	topic = iotmq_catalog_topic(call->topic);
	group = iotmq_catalog_group(topic, call->group);
	nzones = topic->nzones;
	iotmq_access_require_consume(topic, group);
	call->request.slice = Min(MAX_SLICE_US, Max(MIN_SLICE_US, call->request.look_us / Max(nzones, 1)));
	if (call->zone != NULL)
		return claim_zone(call, group, iotmq_catalog_zone(topic, call->zone), set);

	if (iotmq_idle_is(group, now, &call->request.idle))
		return CLAIM_EMPTY;
	order = shuffled(nzones);
	for (int i = 0; i < nzones && result != CLAIM_DELIVERED; i++)
	{
		ClaimResult one = claim_zone(call, group, iotmq_catalog_zone_at(topic, order[i]), set);

		result = Max(result, one);
		if (result == CLAIM_MORE && !call->request.waits &&
			GetCurrentTimestamp() >= call->look_until)
			break;
	}
	STOP("consume_looked");
	if (result == CLAIM_EMPTY && !call->request.has_news)
		iotmq_idle_remember(group, &call->request.idle);
	return result;
}

/* One look at a zone. After a delivery its topic may not be used any more. */
static ClaimResult
claim_zone(ConsumeCall *call, ConsumerGroup *group, Zone *zone, DeliverySet *set)
{
	Cursor		cursor = {iotmq_catalog_cursor(group, zone), group->topic, group, zone};
	int32		zone_id = cursor.zone->zone_id;
	ClaimResult result;
	TimestampTz now;

	if (cursor.cursor_id == 0 || group->paused || zone->state != ZONE_OPEN)
		return CLAIM_EMPTY;
	/* known before the look: whoever makes one just now has it locked for another moment */
	iotmq_catalog_segments(zone);
	result = iotmq_claim_lease(&cursor, &call->request, set);
	if (result == CLAIM_DELIVERED && iotmq_catalog_zone_by_id(zone_id, &cursor.topic, &cursor.zone))
	{
		now = GetCurrentTimestamp();
		iotmq_segment_seal(cursor.topic, cursor.zone, now);
		if (iotmq_catalog_zone_by_id(zone_id, &cursor.topic, &cursor.zone))
			iotmq_segment_keep_ahead(cursor.topic, cursor.zone, now);
	}
	return result;
}

/* Writes down what the call has learnt of the zones; where that can't be, later ones will. */
static void
keep(ConsumeCall *call)
{
	Topic	   *topic = iotmq_catalog_topic(call->topic);
	ConsumerGroup *group = iotmq_catalog_group(topic, call->group);

	for (int z = 0; z < topic->nzones; z++)
	{
		Zone	   *zone = iotmq_catalog_zone_at(topic, z);
		Cursor		cursor = {iotmq_catalog_cursor(group, zone), topic, group, zone};

		if (cursor.cursor_id != 0)
			(void) iotmq_claim_keep(&cursor);
	}
}

/* 0 to n - 1 in an order drawn at random. */
static int *
shuffled(int n)
{
	int		   *order = palloc(sizeof(int) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		int			other = pg_prng_uint64_range(&pg_global_prng_state, 0, i);

		order[i] = order[other];
		order[other] = i;
	}
	return order;
}

/* Sleeps until the next look is due, and longer while that would find what the last one did. */
static void
sleep_until_next_look(const ConsumeCall *call, ClaimResult result)
{
	const ClaimRequest *request = &call->request;
	bool		is_empty = request->waits && result == CLAIM_EMPTY;
	TimestampTz until = Min(call->start + call->wait, keep_at(call));
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz seen_at = now;	/* the client */

	if (is_empty && request->idle.until > now)
		until = Min(until, request->idle.until);
	for (;;)
	{
		int64		us = POLL_US;

		if (request->waits)
			us = Min(Max(us, (now - call->start) / POLL_SHARE), MAX_POLL_US);
		nap(until > now ? Min(us, until - now) : us);
		now = GetCurrentTimestamp();
		if (!is_empty || now >= until || !iotmq_idle_lasts(&request->idle, now))
			return;
		if (now >= seen_at + CLIENT_US)
		{
			iotmq_client_require();
			seen_at = now;
		}
	}
}

/* When a call that waits ends to keep what it learnt. */
static TimestampTz
keep_at(const ConsumeCall *call)
{
	int64		passed = call->request.passed;

	if (call->in_block || passed == 0)
		return DT_NOEND;
	return call->start + (passed >= KEEP_PASSED ? KEEP_US : KEEP_ANY_US);
}

static void
nap(int64 us)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Max(us / 1000, 1), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
