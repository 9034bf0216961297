/*
 * pull.c - pull reading, without leases: fetch and commit_offset, messages_of_device.
 */
#include "group/group.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#define LOOKS 5					/* at open publishers, before fetch reports that there is nothing */
#define PROOF_ROWS 100000		/* to read in order to show that from_offset is stable */

static void require_state(FunctionCallInfo fcinfo, int32 cursor_id, CursorState *state);
static void report_dropped(FunctionCallInfo fcinfo);
static void go_back(HeldCursor *held, int64 next_offset);
static void require_given_out(const Topic *topic, const Zone *zone, int64 from_offset);
static bool read_once(Topic *topic, Zone *zone, int64 from_offset, int max_messages,
					  DeliverySet *set);
static bool read_visible(const char *topic_name, const char *zone_name, int64 *from_offset,
						 int max_messages, DeliverySet *set);
static int	look_ahead(Topic *topic, Zone *zone, int64 *from_offset, PolicyWindow *window,
					   bool *waiting);
static ZoneScan *begin_scan(Topic *topic, Zone *zone, int64 from);
static bool is_read_by_caller(Topic **topic, FunctionCallInfo fcinfo);
static NullableDatum readable_zones(const Topic *topic);

/*
 * fetch(topic text, zone text, from_offset bigint, max_messages int) RETURNS
 * SETOF delivery: the messages from that offset on (from the earliest, if that
 * is higher) up to the stable offset, with lease_id NULL and attempt 0. Who may
 * consume but not read the zone begins at the position of the group at earliest; who may read
 * it gets what the policies of the topic's table let him see, and looks on behind what not.
 * Errors: 22004 an argument NULL; 22023 bad max_messages; 42704 unknown topic or
 * zone; 42501 not allowed; 25006 on a standby, which can't know what is stable.
 */
PG_FUNCTION_INFO_V1(iotmq_fetch);
Datum
iotmq_fetch(PG_FUNCTION_ARGS)
{
	char	   *topic_name = iotmq_call_name(fcinfo, 0, "topic");
	char	   *zone_name = iotmq_call_name(fcinfo, 1, "zone");
	Topic	   *topic = iotmq_catalog_topic(topic_name);
	int64		lowest;
	int64		from_offset;
	int			max_messages;
	bool		by_policy;
	DeliverySet set;

	iotmq_call_require_primary("fetch()");
	iotmq_call_require(fcinfo, 2, "from_offset");
	lowest = iotmq_pull_lowest(topic, iotmq_catalog_zone(topic, zone_name));
	if (lowest == PG_INT64_MAX)
	{
		iotmq_access_require_read(topic, iotmq_catalog_zone(topic, zone_name));
		iotmq_policy_require(topic);
	}
	by_policy = iotmq_policy_applies(topic);
	require_given_out(topic, iotmq_catalog_zone(topic, zone_name), PG_GETARG_INT64(2));
	max_messages = iotmq_call_max_messages(fcinfo, 3);
	from_offset = Max(PG_GETARG_INT64(2), lowest);
	set = iotmq_delivery_begin(fcinfo);

	/* nothing yet, but a publisher is about to end: it mostly takes a moment */
	for (int looks = 0; iotmq_stable_look_again(&looks, LOOKS);)
	{
		bool		done;

		topic = iotmq_catalog_topic(topic_name);
		if (by_policy)
			done = read_visible(topic_name, zone_name, &from_offset, max_messages, &set);
		else
			done = read_once(topic, iotmq_catalog_zone(topic, zone_name), from_offset,
							 max_messages, &set);
		if (done)
			break;
	}
	return (Datum) 0;
}

/* Where the current user may begin to read; PG_INT64_MAX: nowhere. */
int64
iotmq_pull_lowest(const Topic *topic, const Zone *zone)
{
	int64		lowest = PG_INT64_MAX;

	if (iotmq_access_may_read(topic, zone) && !iotmq_policy_shuts_out(topic))
		return 0;
	for (int g = 0; g < topic->ngroups; g++)
	{
		CursorState state;

		if (iotmq_access_may_consume(&topic->groups[g]) &&
			iotmq_cursor_peek(iotmq_catalog_cursor(&topic->groups[g], zone), &state))
			lowest = Min(lowest, state.next_offset);
	}
	return lowest;
}

/*
 * Raises 22023 if the reader that goes on there has read what never came to be, since a
 * recovery lost it, or somebody else's offsets; 42704 if the zone was dropped meanwhile.
 */
static void
require_given_out(const Topic *topic, const Zone *zone, int64 from_offset)
{
	int64		last = iotmq_stable_last(zone);
	Gap			gap;

	if (last < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("zone \"%s\" of topic \"%s\" was dropped", zone->name, topic->name),
				 errhint("If it was by hand, drop what is left: SELECT iotmq.drop_zone(%s, %s, force => true);",
						 quote_literal_cstr(topic->name), quote_literal_cstr(zone->name))));
	if (from_offset > last + 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("from_offset " INT64_FORMAT " is beyond the end offset " INT64_FORMAT " of zone \"%s\" of topic \"%s\"",
						from_offset, last + 1, zone->name, topic->name),
				 errhint("Go on at offset " INT64_FORMAT ".", last + 1)));
	if (iotmq_epoch_is_lost(zone, from_offset, last, &gap))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("from_offset " INT64_FORMAT " lies where zone \"%s\" of topic \"%s\" lost messages in a recovery",
						from_offset, zone->name, topic->name),
				 errdetail("Offsets from " INT64_FORMAT " on never came to be; see iotmq.zone_epoch.",
						   gap.last_before + 1),
				 errhint("Go on at offset " INT64_FORMAT ".", gap.first_offset)));
}

/* One look; false if another one may bring more. */
static bool
read_once(Topic *topic, Zone *zone, int64 from_offset, int max_messages, DeliverySet *set)
{
	int64		from = Max(from_offset, zone->earliest_offset);
	int			budget = max_messages + PROOF_ROWS;
	ZoneScan   *scan = begin_scan(topic, zone, from);
	TupleTableSlot *slot;
	bool		waiting;

	scan->window = max_messages;
	while (set->rows < max_messages && budget-- > 0 && (slot = iotmq_scan_next(scan)) != NULL)
		if (scan->position > from)
			iotmq_delivery_add(set, 0, slot, 0);
	waiting = scan->position <= scan->last || scan->last < 0;
	iotmq_scan_end(scan);
	return set->rows > 0 || !waiting;
}

/*
 * The same where policies choose; from_offset moves on past what was looked at. It does not
 * give up before the first message that the reader sees, as nothing would tell him to go on
 * behind the others.
 */
static bool
read_visible(const char *topic_name, const char *zone_name, int64 *from_offset, int max_messages,
			 DeliverySet *set)
{
	int64		budget = max_messages + PROOF_ROWS;
	bool		waiting;

	while (set->rows < max_messages && (budget > 0 || set->rows == 0))
	{
		Topic	   *topic = iotmq_catalog_topic(topic_name);
		PolicyWindow window;
		int			looked_at = look_ahead(topic, iotmq_catalog_zone(topic, zone_name),
										   from_offset, &window, &waiting);
		int64	   *offsets;
		int			n;
		ZoneScan   *scan;
		TupleTableSlot *slot;

		if (looked_at == 0)
			return set->rows > 0 || !waiting;
		budget -= looked_at;
		offsets = iotmq_policy_offsets(topic->relid, zone_name, &window,
									   max_messages - set->rows, &n);
		/* a policy may have looked something up */
		topic = iotmq_catalog_topic(topic_name);
		scan = iotmq_scan_begin(iotmq_catalog_zone(topic, zone_name), window.first, window.last);
		for (int i = 0; i < n; i++)
			if ((slot = iotmq_scan_one(scan, offsets[i])) != NULL)
				iotmq_delivery_add(set, 0, slot, 0);
		iotmq_scan_end(scan);
		pfree(offsets);
	}
	return true;
}

/*
 * Looks at the next messages, and tells where they lie, how many they are, and whether more
 * may come behind them; from_offset moves on past them.
 */
static int
look_ahead(Topic *topic, Zone *zone, int64 *from_offset, PolicyWindow *window, bool *waiting)
{
	int64		from = Max(*from_offset, zone->earliest_offset);
	int			budget = BATCH_MESSAGES + PROOF_ROWS;
	ZoneScan   *scan = begin_scan(topic, zone, from);
	TupleTableSlot *slot;
	int			n = 0;

	while (n < BATCH_MESSAGES && budget-- > 0 && (slot = iotmq_scan_next(scan)) != NULL)
	{
		bool		isnull;
		TimestampTz at;

		if (scan->position <= from)
			continue;
		at = DatumGetTimestampTz(slot_getattr(slot, Anum_published_at, &isnull));
		window->last = scan->position - 1;
		if (n++ == 0)
		{
			window->first = window->last;
			window->from_time = window->to_time = at;
		}
		window->from_time = Min(window->from_time, at);
		window->to_time = Max(window->to_time, at);
	}
	*waiting = scan->position <= scan->last || scan->last < 0;
	*from_offset = Max(from, scan->position);
	iotmq_scan_end(scan);
	return n;
}

/* Begins to read at from or, as far as whether it is below the stable offset shows on the way, before. */
static ZoneScan *
begin_scan(Topic *topic, Zone *zone, int64 from)
{
	ZoneMemory *memory = iotmq_stable_memory(zone);
	int64		last = iotmq_stable_last(zone);

	if (memory->stable.offset < from)
		iotmq_cursor_teach(topic, zone);
	if (memory->stable.offset < from)
		(void) iotmq_stable_refresh(memory);
	return iotmq_scan_begin(zone, Min(from, Max(memory->stable.offset, zone->earliest_offset)),
							last);
}

/*
 * commit_offset(topic text, consumer_group text, zone text, next_offset bigint)
 * RETURNS void: the group goes on there; back only for who may read the zone, and as a
 * seek does it: leases and what waits are void. What was redriven and is passed over is a
 * dead letter again.
 * Errors: 22004 an argument NULL; 22023 outside of earliest..end; 42704 unknown
 * topic, group or zone; 42501 not allowed; 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_commit_offset);
Datum
iotmq_commit_offset(PG_FUNCTION_ARGS)
{
	Topic	   *topic = iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic"));
	ConsumerGroup *group = iotmq_catalog_group(topic, iotmq_call_name(fcinfo, 1, "consumer_group"));
	Zone	   *zone = iotmq_catalog_zone(topic, iotmq_call_name(fcinfo, 2, "zone"));
	int64		next_offset;
	Cursor		cursor = {iotmq_catalog_cursor(group, zone), topic, group, zone};
	int32		zone_id = zone->zone_id;
	CursorState state;
	HeldCursor	held;
	int64		end_offset;

	iotmq_call_require_primary("commit_offset()");
	iotmq_call_require(fcinfo, 3, "next_offset");
	iotmq_access_require_consume(topic, group);
	next_offset = PG_GETARG_INT64(3);
	/* as a seek: nobody moves or uses the cursor meanwhile */
	iotmq_cursor_lock_alone(cursor.cursor_id);
	require_state(fcinfo, cursor.cursor_id, &state);
	if (next_offset < state.next_offset)
	{
		/* how far retention has come counts now */
		AcceptInvalidationMessages();
		if (!iotmq_catalog_cursor_by_id(cursor.cursor_id, &cursor))
			report_dropped(fcinfo);
		topic = cursor.topic;
		group = cursor.group;
		zone = cursor.zone;
	}
	end_offset = iotmq_stable_last(zone) + 1;
	if (next_offset < zone->earliest_offset || next_offset > end_offset)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("next_offset " INT64_FORMAT " is not between the earliest offset " INT64_FORMAT " and the end offset " INT64_FORMAT,
						next_offset, zone->earliest_offset, end_offset)));
	if (iotmq_cursor_hold(&cursor, true, &held) != ROW_OK)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("consumer group \"%s\" of topic \"%s\" was dropped",
						group->name, topic->name)));
	iotmq_state_require_open(zone);
	if (next_offset < held.state.next_offset && !iotmq_access_may_read(topic, zone))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to go back from offset " INT64_FORMAT " to " INT64_FORMAT,
						held.state.next_offset, next_offset),
				 errhint("An administrator can run: SELECT iotmq.seek_offset(%s, %s, %s, " INT64_FORMAT ");",
						 quote_literal_cstr(topic->name), quote_literal_cstr(group->name),
						 quote_literal_cstr(zone->name), next_offset)));
	if (next_offset < held.state.next_offset)
		go_back(&held, next_offset);
	else
		iotmq_place_give_back(&held, held.state.next_offset, next_offset);
	held.state.next_offset = next_offset;
	held.state.last_consumed_at = GetCurrentTimestamp();
	iotmq_cursor_release(&held);
	if (iotmq_catalog_zone_by_id(zone_id, &topic, &zone))
		iotmq_segment_keep_ahead(topic, zone, held.state.last_consumed_at);
	PG_RETURN_VOID();
}

/* Moves the cursor back, and holds it as it is then. */
static void
go_back(HeldCursor *held, int64 next_offset)
{
	iotmq_owner_run("SELECT iotmq.cursor_move($1, $2)", 2, (Oid[]) {INT4OID, INT8OID},
					(Datum[]) {
						Int32GetDatum(held->state.cursor_id), Int64GetDatum(next_offset)
					});
	if (iotmq_cursor_hold(held->cursor, true, held) != ROW_OK)
		elog(ERROR, "cursor %d vanished under its lock", held->state.cursor_id);
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
	Topic	   *topic = iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic"));
	ConsumerGroup *group = iotmq_catalog_group(topic, iotmq_call_name(fcinfo, 1, "consumer_group"));
	Zone	   *zone = iotmq_catalog_zone(topic, iotmq_call_name(fcinfo, 2, "zone"));
	CursorState state;

	iotmq_access_require_consume(topic, group);
	require_state(fcinfo, iotmq_catalog_cursor(group, zone), &state);
	PG_RETURN_INT64(state.next_offset);
}

/* What is stored of the cursor of the group and zone that arguments 0 to 2 name; else 42704. */
static void
require_state(FunctionCallInfo fcinfo, int32 cursor_id, CursorState *state)
{
	if (!iotmq_cursor_peek(cursor_id, state))
		report_dropped(fcinfo);
}

static void
report_dropped(FunctionCallInfo fcinfo)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("consumer group \"%s\" of topic \"%s\" was dropped",
					iotmq_call_name(fcinfo, 1, "consumer_group"),
					iotmq_call_name(fcinfo, 0, "topic")),
			 errdetail("Or zone \"%s\" was.", iotmq_call_name(fcinfo, 2, "zone"))));
}

/*
 * messages_of_device: a SQL function that runs as the extension's owner, once the caller's
 * right is checked, over the zones that he may read; or, where is_read_by_caller says so, a query as
 * the caller. Arguments, result and errors are its; 42501 not allowed.
 */
PG_FUNCTION_INFO_V1(iotmq_messages_of_device);
Datum
iotmq_messages_of_device(PG_FUNCTION_ARGS)
{
	Topic	   *topic = iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic"));
	char	   *zone = PG_ARGISNULL(5) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(5));

	iotmq_access_require_read(topic, zone == NULL ? NULL : iotmq_catalog_zone(topic, zone));
	iotmq_policy_require(topic);
	if (is_read_by_caller(&topic, fcinfo))
	{
		DeliverySet set;
		int			max_messages;

		iotmq_call_require(fcinfo, 1, "device_id");
		iotmq_call_require(fcinfo, 2, "since");
		iotmq_call_require(fcinfo, 3, "until");
		max_messages = iotmq_call_max_messages(fcinfo, 4);
		set = iotmq_delivery_begin(fcinfo);
		iotmq_policy_add_of_device(topic, zone, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2),
								   PG_GETARG_DATUM(3), max_messages, &set);
		return (Datum) 0;
	}
	return iotmq_owner_call_with(fcinfo, "pull_device_as_owner", TEXTARRAYOID,
								 readable_zones(topic));
}

/* message_by_key: likewise. */
PG_FUNCTION_INFO_V1(iotmq_message_by_key);
Datum
iotmq_message_by_key(PG_FUNCTION_ARGS)
{
	Topic	   *topic = iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic"));
	char	   *zone = PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3));

	iotmq_access_require_read(topic, zone == NULL ? NULL : iotmq_catalog_zone(topic, zone));
	iotmq_policy_require(topic);
	if (is_read_by_caller(&topic, fcinfo))
	{
		DeliverySet set;

		iotmq_call_require(fcinfo, 1, "device_id");
		iotmq_call_require(fcinfo, 2, "message_key");
		set = iotmq_delivery_begin(fcinfo);
		iotmq_policy_add_by_key(topic, zone, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), &set);
		return (Datum) 0;
	}
	return iotmq_owner_call_with(fcinfo, "pull_key_as_owner", TEXTARRAYOID,
								 readable_zones(topic));
}

/*
 * Is the topic that argument 0 names to be read in SQL as the current user? So it is where
 * policies choose, and where another role than iotmq's owner has code in its tables. Looks the
 * topic up again.
 */
static bool
is_read_by_caller(Topic **topic, FunctionCallInfo fcinfo)
{
	bool		by_caller = iotmq_policy_applies(*topic) || !iotmq_table_owner_allows(*topic);

	*topic = iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic"));
	return by_caller;
}

/* The names of the zones that the current user may read; NULL: all. */
static NullableDatum
readable_zones(const Topic *topic)
{
	Datum	   *names;
	int			n = 0;

	if (iotmq_access_may_read(topic, NULL))
		return (NullableDatum) {.isnull = true};
	names = palloc(sizeof(Datum) * topic->nzones);
	for (int z = 0; z < topic->nzones; z++)
		if (iotmq_access_may_read(topic, &topic->zones[z]))
			names[n++] = CStringGetTextDatum(topic->zones[z].name);
	return (NullableDatum) {
		.value = PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT))
	};
}
