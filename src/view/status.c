/*
 * status.c - what became of one message in each group.
 *
 * What the log says of it is found here; what groups have of it, by one statement in SQL
 * (sql/view/status.sql), so that it is found in one place of each group: in a lease, where
 * it waits, or among the dead letters.
 */
#include "view/view.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#define STATUS_COLUMNS 7
#define STATUS_ARGS 6

typedef enum Fate				/* of an offset, in the log */
{
	FATE_THERE,
	FATE_NO_MESSAGE,			/* rolled back, or dropped */
	FATE_UNDECIDED,				/* for now */
	FATE_STALE					/* the zone in memory is out of date */
} Fate;

typedef struct Sought
{
	char	   *topic_name;
	char	   *zone_name;
	int64		msg_offset;
	int32		zone_id;
	Fate		fate;
	text	   *device;			/* NULL: the log does not have the message */
	int			n;				/* groups that the current user may see */
	Datum	   *group_ids;
	Datum	   *wanted;			/* whether each of them wants it today */
} Sought;

static void find(Sought *sought);
static void require_given_out(const Topic *topic, const Zone *zone, int64 msg_offset, int64 last);
static Fate find_in_log(const Zone *zone, int64 msg_offset, int64 last, ZoneScan *scan,
						TupleTableSlot **slot);
static void judge(Sought *sought, const Topic *topic, TupleTableSlot *slot);
static void put_rows(ReturnSetInfo *result, const Sought *sought);

/*
 * message_status(topic text, zone text, msg_offset bigint) RETURNS TABLE: a row for each
 * group of the topic that the current user may see; none for an offset that no message has.
 * Errors: 22004 an argument NULL; 42704 unknown topic or zone; 42501 no group may be seen;
 * 22023 the offset was not given out yet, or lies between two epochs.
 */
PG_FUNCTION_INFO_V1(iotmq_message_status);
Datum
iotmq_message_status(PG_FUNCTION_ARGS)
{
	Sought		sought = {
		.topic_name = iotmq_call_name(fcinfo, 0, "topic"),
		.zone_name = iotmq_call_name(fcinfo, 1, "zone")
	};

	iotmq_call_require(fcinfo, 2, "msg_offset");
	sought.msg_offset = PG_GETARG_INT64(2);
	InitMaterializedSRF(fcinfo, 0);
	do
		find(&sought);
	while (sought.fate == FATE_STALE);
	put_rows((ReturnSetInfo *) fcinfo->resultinfo, &sought);
	return (Datum) 0;
}

/* What the log says, and for whom. */
static void
find(Sought *sought)
{
	Topic	   *topic = iotmq_catalog_topic(sought->topic_name);
	Zone	   *zone = iotmq_catalog_zone(topic, sought->zone_name);
	TupleTableSlot *slot = NULL;
	ZoneScan   *scan;
	ZoneEnd		end;

	end.memory = iotmq_stable_memory(zone);
	end.last = iotmq_stable_last(zone);
	if (end.memory->stable.offset <= sought->msg_offset)
	{
		iotmq_cursor_teach(topic, zone);
		(void) iotmq_stable_await(&end, 1); /* what is open then is looked at */
		topic = iotmq_catalog_topic(sought->topic_name);
		zone = iotmq_catalog_zone(topic, sought->zone_name);
	}
	sought->zone_id = zone->zone_id;
	if (end.last < 0)
	{
		sought->fate = FATE_STALE;	/* it was dropped just now */
		return;
	}
	judge(sought, topic, NULL);
	require_given_out(topic, zone, sought->msg_offset, end.last);
	scan = iotmq_scan_begin(zone, sought->msg_offset, sought->msg_offset);
	sought->fate = find_in_log(zone, sought->msg_offset, end.last, scan, &slot);
	if (slot != NULL)
	{
		bool		isnull;

		sought->device = DatumGetTextPCopy(slot_getattr(slot, Anum_device_id, &isnull));
		judge(sought, topic, slot);
	}
	iotmq_scan_end(scan);
}

/* Raises 22023 for an offset that no message can have. */
static void
require_given_out(const Topic *topic, const Zone *zone, int64 msg_offset, int64 last)
{
	Gap			gap;

	if (msg_offset < 1 || msg_offset > last)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("offset " INT64_FORMAT " of zone \"%s\" of topic \"%s\" has not been given out",
						msg_offset, zone->name, topic->name),
				 errdetail("Offsets go from 1 to " INT64_FORMAT ".", last)));
	if (iotmq_epoch_is_lost(zone, msg_offset, last, &gap) ||
		iotmq_epoch_is_lost(zone, msg_offset + 1, last, &gap))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("offset " INT64_FORMAT " lies where zone \"%s\" of topic \"%s\" lost messages in a recovery",
						msg_offset, zone->name, topic->name),
				 errdetail("Offsets from " INT64_FORMAT " to " INT64_FORMAT " never came to be; see iotmq.zone_epoch.",
						   gap.last_before + 1, gap.first_offset - 1)));
}

/* On a standby, which can't tell what is decided, only what cursors know counts. */
static Fate
find_in_log(const Zone *zone, int64 msg_offset, int64 last, ZoneScan *scan, TupleTableSlot **slot)
{
	int64		stable = Max(scan->memory->stable.offset, zone->earliest_offset);

	if (RecoveryInProgress())
		*slot = iotmq_scan_one(scan, msg_offset);
	else
		*slot = iotmq_scan_next(scan);
	if (*slot != NULL)
		return FATE_THERE;
	if (scan->stale)
		return FATE_STALE;
	if (RecoveryInProgress() ? msg_offset < stable : scan->position > msg_offset)
		return FATE_NO_MESSAGE;
	return FATE_UNDECIDED;
}

/*
 * Notes the groups that the current user may see, and whether they want the message.
 * Raises 42501 if there is none, and he is no monitor.
 */
static void
judge(Sought *sought, const Topic *topic, TupleTableSlot *slot)
{
	sought->n = 0;
	sought->group_ids = palloc(sizeof(Datum) * Max(topic->ngroups, 1));
	sought->wanted = palloc(sizeof(Datum) * Max(topic->ngroups, 1));
	for (int g = 0; g < topic->ngroups; g++)
	{
		const ConsumerGroup *group = &topic->groups[g];

		if (!iotmq_access_may_see(group))
			continue;
		sought->group_ids[sought->n] = Int32GetDatum(group->group_id);
		sought->wanted[sought->n] = BoolGetDatum(slot != NULL && iotmq_filter_accepts(group, slot));
		sought->n++;
	}
	if (sought->n == 0 && !iotmq_access_may_monitor())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for the consumer groups of topic \"%s\"", topic->name),
				 errhint("An administrator can run: SELECT iotmq.grant_monitor(%s);",
						 quote_literal_cstr(quote_identifier(GetUserNameFromId(GetUserId(), false))))));
}

static void
put_rows(ReturnSetInfo *result, const Sought *sought)
{
	Datum		args[STATUS_ARGS] = {
		Int32GetDatum(sought->zone_id), Int64GetDatum(sought->msg_offset),
		CStringGetTextDatum(sought->fate == FATE_THERE ? "there" :
							sought->fate == FATE_UNDECIDED ? "undecided" : "nothing"),
		PointerGetDatum(sought->device),
		PointerGetDatum(construct_array(sought->group_ids, sought->n, INT4OID, sizeof(int32),
										true, TYPALIGN_INT)),
		PointerGetDatum(construct_array(sought->wanted, sought->n, BOOLOID, sizeof(bool),
										true, TYPALIGN_CHAR))
	};
	char		nulls[STATUS_ARGS + 1] = "      ";
	OwnerContext saved = iotmq_owner_become();

	nulls[3] = sought->device == NULL ? 'n' : ' ';
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args("SELECT s.consumer_group, s.state, s.attempt, s.lease_id, s.consumer, "
							  "s.until, s.reason "
							  "FROM iotmq.status_of($1, $2, $3, $4, $5, $6) AS s",
							  STATUS_ARGS,
							  (Oid[]) {INT4OID, INT8OID, TEXTOID, TEXTOID, INT4ARRAYOID, BOOLARRAYOID},
							  args, nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for a message");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		values[STATUS_COLUMNS];
		bool		isnull[STATUS_COLUMNS];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, isnull);
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	SPI_finish();
	iotmq_owner_restore(saved);
}
