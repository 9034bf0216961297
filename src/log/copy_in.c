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
 * A key is the publisher's to choose. The constraint notes the rows that have one; at the end
 * of the statement, when they are all written, it is seen that their keys were free.
 *
 * stable.c rests on that: whoever fills an offset drew it after p1 and p2. So does
 * sealing: who writes into a segment began before it was closed, and is waited for.
 *
 * Locks: the zone's publish lock, to the end of the transaction, or of the subtransaction
 * if that is rolled back: the next statement takes it again. Those of key.c.
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
	List	   *rows;			/* KeyedRow: written, but their keys are not looked for yet */
	int64		imported;		/* the row that the statement writes has this offset; 0: none has one */
} Publishing;

#define ROWS_AT_ONCE 10000		/* as many rows wait for the end of the statement */

typedef struct KeyedRow
{
	Key			key;
	SubTransactionId subid;		/* that wrote it */
	bool		is_done;		/* its key was free */
} KeyedRow;

static HTAB *zones = NULL;

/* The next statement that writes to that zone is import.c's, of a message with that offset. */
static int32 expected_zone = 0;
static int64 expected_offset;

static void note_row(Publishing *publishing, FunctionCallInfo fcinfo);
static void check_rows(Publishing *publishing, bool at_end);
static void forget_row(KeyedRow *row);
static void report_taken(const Key *key);
static bool is_current(const Publishing *publishing);
static Publishing *publishing_to(int32 zone_id);

/*
 * Announces a statement of import.c, which writes one message with the offset and the time of
 * its source. What that statement sets off may not do the same, nor any later one: zone_id 0,
 * where it has failed, perhaps before it came here.
 */
void
iotmq_copy_in_expect(int32 zone_id, int64 msg_offset)
{
	expected_zone = zone_id;
	expected_offset = msg_offset;
}

/*
 * before_publish(zone_id) RETURNS trigger, before a statement that writes to a
 * zone's table: does what stable.c expects of a publisher before it draws an
 * offset, and sees that there is a segment. Errors: 55000 there is none, or the zone is gone.
 */
PG_FUNCTION_INFO_V1(iotmq_copy_in_begin);
Datum
iotmq_copy_in_begin(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	int32		zone_id;
	Topic	   *topic;
	Zone	   *zone;
	const Segment *segment;
	Publishing *publishing;

	if (!CALLED_AS_TRIGGER(fcinfo) || trigger->tg_trigger->tgnargs != 1)
		elog(ERROR, "before_publish was not called as a trigger of a zone");
	zone_id = pg_strtoint32(trigger->tg_trigger->tgargs[0]);
	if (!iotmq_catalog_zone_by_id(zone_id, &topic, &zone) ||
		zone->relid != RelationGetRelid(trigger->tg_relation))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not the table of a zone any more",
						RelationGetRelationName(trigger->tg_relation)),
				 errhint("SELECT iotmq.zone_table(topic, zone) returns the table of a zone.")));

	publishing = publishing_to(zone_id);
	publishing->imported = zone_id == expected_zone ? expected_offset : 0;
	expected_zone = 0;
	iotmq_stable_enter(zone_id);
	if (!is_current(publishing))
		publishing->rows = NIL;
	publishing->xid = GetTopTransactionId();
	if (!iotmq_catalog_zone_by_id(zone_id, &topic, &zone))
		elog(ERROR, "zone %d does not exist", zone_id);
	if (publishing->imported == 0)
		iotmq_state_require_open(zone);
	publishing->sequence = zone->sequence;
	iotmq_name_remember(topic, zone);
	iotmq_message_require(trigger->tg_relation);	/* what can't be read need not be written */
	if (publishing->imported != 0)
	{
		iotmq_bound_prepare(trigger->tg_relation);
		return PointerGetDatum(NULL);
	}
	iotmq_epoch_begin(topic, zone);
	iotmq_stable_memory(zone)->watched = false; /* what the statement draws is not seen here */
	publishing->last_offset = iotmq_sequence_last(publishing->sequence);
	publishing->last_time = DT_NOBEGIN;
	segment = iotmq_segment_at(zone, iotmq_segment_publish_time(zone));
	if (segment == NULL || !iotmq_segment_is_ours(segment->relid, zone))
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
 * after_publish(zone_id) RETURNS trigger, after such a statement: 23505 if the key of a row was
 * not free.
 */
PG_FUNCTION_INFO_V1(iotmq_copy_in_end);
Datum
iotmq_copy_in_end(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Publishing *publishing;

	if (!CALLED_AS_TRIGGER(fcinfo) || trigger->tg_trigger->tgnargs != 1)
		elog(ERROR, "after_publish was not called as a trigger of a zone");
	publishing = publishing_to(pg_strtoint32(trigger->tg_trigger->tgargs[0]));
	if (is_current(publishing) && publishing->rows != NIL)
		check_rows(publishing, true);
	return PointerGetDatum(NULL);
}

/*
 * copy_in_elsewhere(topic text) RETURNS text, the default of the columns of a topic's own
 * table that a publisher does not name: 55000. A restore names them all.
 */
PG_FUNCTION_INFO_V1(iotmq_copy_in_elsewhere);
Datum
iotmq_copy_in_elsewhere(PG_FUNCTION_ARGS)
{
	char	   *topic = text_to_cstring(PG_GETARG_TEXT_PP(0));

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("messages can't be written to the table of topic \"%s\" itself", topic),
			 errdetail("Offsets are given out by the zones."),
			 errhint("Write to the table of a zone, which this names: SELECT iotmq.zone_table(%s, zone);",
					 quote_literal_cstr(topic))));
}

/*
 * check_place(zone_id int, msg_offset bigint, published_at timestamptz, device_id text,
 * message_key text) RETURNS boolean, the constraint of a zone's table: true, or 42501 if
 * offset and time were chosen by the publisher; 22023 a key in a topic without dedup_window.
 */
PG_FUNCTION_INFO_V1(iotmq_copy_in_place);
Datum
iotmq_copy_in_place(PG_FUNCTION_ARGS)
{
	Publishing *publishing = publishing_to(PG_GETARG_INT32(0));
	int64		msg_offset;

	for (int i = 1; i <= 3; i++)
		if (PG_ARGISNULL(i))
			PG_RETURN_NULL();	/* that is for another constraint to say */
	msg_offset = PG_GETARG_INT64(1);
	if (publishing->imported == msg_offset && is_current(publishing))
		PG_RETURN_BOOL(true);
	/* what a restore writes was judged elsewhere */
	if (!PG_ARGISNULL(4) && is_current(publishing))
		note_row(publishing, fcinfo);
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
			 errhint("Write to the columns device_id, tag, payload, body, properties and message_key of the zone's table itself, with expressions that don't publish to it.")));
}

/* Notes a row with a key that is about to be written. */
static void
note_row(Publishing *publishing, FunctionCallInfo fcinfo)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	KeyedRow   *row = palloc(sizeof(KeyedRow));
	Topic	   *topic;
	Zone	   *zone;

	if (!iotmq_catalog_zone_by_id(publishing->zone_id, &topic, &zone))
		elog(ERROR, "zone %d does not exist", publishing->zone_id);
	iotmq_key_require_window(topic);
	if (list_length(publishing->rows) >= ROWS_AT_ONCE)
		check_rows(publishing, false);
	iotmq_key_init(&row->key, publishing->zone_id, PointerGetDatum(PG_GETARG_TEXT_P_COPY(3)),
				   PointerGetDatum(PG_GETARG_TEXT_P_COPY(4)));
	row->key.is_claimed = iotmq_key_is_claimed(&row->key);
	row->key.own_offset = PG_GETARG_INT64(1);
	row->key.published_at = PG_GETARG_TIMESTAMPTZ(2);
	row->subid = GetCurrentSubTransactionId();
	row->is_done = false;
	publishing->rows = lappend(publishing->rows, row);
	MemoryContextSwitchTo(old);
}

/*
 * Raises 23505 if a row that this subtransaction has noted has a key that is taken, waiting
 * for those who may have it. Rows that are not there came to nothing or, before the end of the
 * statement, are kept by COPY for later.
 */
static void
check_rows(Publishing *publishing, bool at_end)
{
	List	   *later = NIL;
	MemoryContext old;
	Key		   *keys = palloc(sizeof(Key) * list_length(publishing->rows));
	ListCell   *lc;
	KeyWait		wait = {0};
	int			n = 0;

	foreach(lc, publishing->rows)
	{
		KeyedRow   *row = lfirst(lc);

		if (row->subid != GetCurrentSubTransactionId())
			continue;
		keys[n] = row->key;
		keys[n++].place = foreach_current_index(lc);
	}
	iotmq_key_sort(keys, n);
	while (!iotmq_key_claim(keys, n, &wait))
		iotmq_key_wait(&wait);
	iotmq_key_release(keys, n);
	for (int i = 0; i < n; i++)
	{
		KeyedRow   *row = list_nth(publishing->rows, keys[i].place);

		if (keys[i].is_written && keys[i].taken_by != 0)
			report_taken(&keys[i]);
		row->is_done = keys[i].is_written || at_end;
	}
	old = MemoryContextSwitchTo(TopTransactionContext);
	foreach(lc, publishing->rows)
	{
		KeyedRow   *row = lfirst(lc);

		/* one of a statement around this one has its turn at the end of that */
		if (!row->is_done && SubTransactionIsActive(row->subid))
			later = lappend(later, row);
		else
			forget_row(row);
	}
	MemoryContextSwitchTo(old);
	list_free(publishing->rows);
	pfree(keys);
	publishing->rows = later;
}

static void
forget_row(KeyedRow *row)
{
	pfree(row->key.device_id);
	pfree(row->key.message_key);
	pfree(row);
}

/* The error that the key of a row is another message's. */
static void
report_taken(const Key *key)
{
	Topic	   *topic;
	Zone	   *zone;

	if (!iotmq_catalog_zone_by_id(key->zone_id, &topic, &zone))
		elog(ERROR, "zone %d does not exist", key->zone_id);
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("zone \"%s\" of topic \"%s\" has a message with this key already",
					zone->name, topic->name),
			 errdetail("Device \"%s\" published message_key \"%s\" with offset " INT64_FORMAT ".",
					   text_to_cstring(key->device_id), text_to_cstring(key->message_key),
					   key->taken_by),
			 errhint("iotmq.publish and iotmq.publish_batch leave such a message out, and return the first one's offset.")));
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
		publishing->imported = 0;
		publishing->last_time = DT_NOBEGIN;
	}
	return publishing;
}
