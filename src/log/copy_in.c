/*
 * copy_in.c - what COPY and INSERT into a zone's table go through: a trigger before
 * the statement, the default of published_at, and a constraint on each row.
 *
 * Offset and time of a message are the server's to choose. Privileges on columns see
 * to that as long as the zone's table is named; a view over it brings defaults of its
 * own, for columns that the statement doesn't name. So the constraint looks at each
 * row: its offset is the one that this session drew last, since the statement began,
 * and for no row before; its time is the one that the default gave out last, since
 * then, too. Only the owner and superusers may write others, as a restore does.
 *
 * stable.c rests on that: whoever fills an offset drew it after p1 and p2. So does
 * sealing: who writes into a segment began before it was closed, and is waited for.
 *
 * Locks: the zone's publish lock, to the end of the transaction, or of the subtransaction
 * if that is rolled back: the next statement takes it again.
 */
#include "log/log.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

typedef struct Publishing		/* to a zone, by statements of this session */
{
	int32		zone_id;		/* hash key */
	TransactionId xid;			/* of the last transaction that did */
	Oid			sequence;
	int64		last_offset;	/* no row of this transaction may have this or a lower one */
	TimestampTz last_time;		/* that the default gave out */
} Publishing;

static HTAB *zones = NULL;

static bool is_current(const Publishing *publishing);
static Publishing *publishing_to(int32 zone_id);

/*
 * before_publish(zone_id) RETURNS trigger, before a statement that writes to a
 * zone's table: does what stable.c expects of a publisher before it draws an
 * offset, and sees that there is a segment. Errors: 55000 there is none.
 */
PG_FUNCTION_INFO_V1(iotmq_copy_in_begin);
Datum
iotmq_copy_in_begin(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	int32		zone_id;
	Topic	   *topic;
	Zone	   *zone;
	Publishing *publishing;

	if (!CALLED_AS_TRIGGER(fcinfo) || trigger->tg_trigger->tgnargs != 1)
		elog(ERROR, "before_publish was not called as a trigger of a zone");
	zone_id = pg_strtoint32(trigger->tg_trigger->tgargs[0]);
	if (!iotmq_catalog_zone_by_id(zone_id, &topic, &zone) ||
		zone->relid != RelationGetRelid(trigger->tg_relation))
		elog(ERROR, "%s is not the table of zone %d",
			 RelationGetRelationName(trigger->tg_relation), zone_id);

	publishing = publishing_to(zone_id);
	iotmq_stable_enter(zone_id);
	publishing->xid = GetTopTransactionId();
	if (!iotmq_catalog_zone_by_id(zone_id, &topic, &zone))
		elog(ERROR, "zone %d does not exist", zone_id);
	publishing->sequence = zone->sequence;
	iotmq_name_remember(topic, zone);
	iotmq_epoch_begin(topic, zone);
	iotmq_stable_memory(zone)->watched = false; /* what the statement draws is not seen here */
	publishing->last_offset = iotmq_sequence_last(publishing->sequence);
	publishing->last_time = DT_NOBEGIN;
	if (iotmq_segment_at(zone, iotmq_segment_publish_time(zone)) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("zone \"%s\" of topic \"%s\" has no segment for the present",
						zone->name, topic->name),
				 errdetail("A statement that writes to the zone's table can't make one."),
				 errhint("Make one, and schedule maintenance: CALL iotmq.run_maintenance();")));
	iotmq_bound_prepare(trigger->tg_relation);
	return PointerGetDatum(NULL);
}

/*
 * publish_time(zone_id int) RETURNS timestamptz: the default of published_at
 * where rows are written by COPY or INSERT. Declared STABLE, although the clock
 * moves from row to row: COPY gives up its multi-insert for volatile defaults.
 */
PG_FUNCTION_INFO_V1(iotmq_copy_in_time);
Datum
iotmq_copy_in_time(PG_FUNCTION_ARGS)
{
	TimestampTz now = iotmq_segment_publish_time(iotmq_call_zone(fcinfo, 0));
	Publishing *publishing = publishing_to(PG_GETARG_INT32(0));

	if (is_current(publishing))
		publishing->last_time = now;
	PG_RETURN_TIMESTAMPTZ(now);
}

/*
 * check_place(zone_id int, msg_offset bigint, published_at timestamptz) RETURNS
 * boolean, the constraint of a zone's table: true, or 42501 if offset and time were
 * chosen by the publisher.
 */
PG_FUNCTION_INFO_V1(iotmq_copy_in_place);
Datum
iotmq_copy_in_place(PG_FUNCTION_ARGS)
{
	Publishing *publishing = publishing_to(PG_GETARG_INT32(0));
	int64		msg_offset = PG_GETARG_INT64(1);

	if (has_privs_of_role(GetUserId(), iotmq_owner_oid()))
		PG_RETURN_BOOL(true);
	if (is_current(publishing) &&
		publishing->last_time == PG_GETARG_TIMESTAMPTZ(2) &&
		publishing->last_offset < msg_offset &&
		DatumGetInt64(DirectFunctionCall1(currval_oid,
										  ObjectIdGetDatum(publishing->sequence))) == msg_offset)
	{
		publishing->last_offset = msg_offset;
		PG_RETURN_BOOL(true);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to choose the offset or the time of a message"),
			 errhint("Write to the columns device_id, tag, payload, body and properties of the zone's table itself, with expressions that don't publish to it.")));
}

/* Is it this transaction that publishes? */
static bool
is_current(const Publishing *publishing)
{
	return TransactionIdIsValid(publishing->xid) &&
		publishing->xid == GetTopTransactionIdIfAny();
}

static Publishing *
publishing_to(int32 zone_id)
{
	Publishing *publishing;
	bool		found;

	if (zones == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(int32), .entrysize = sizeof(Publishing)};

		zones = hash_create("iotmq zones published to", 32, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	publishing = hash_search(zones, &zone_id, HASH_ENTER, &found);
	if (!found)
	{
		publishing->xid = InvalidTransactionId;
		publishing->last_time = DT_NOBEGIN;
	}
	return publishing;
}
