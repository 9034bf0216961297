/*
 * preview.c - what tags and a filter would make of the last messages, before a group is given
 * them.
 *
 * Reads back from the stable offset of each zone, as many messages as are asked for and no
 * more. It takes no lock that others notice and changes nothing.
 */
#include "group/group.h"

#include "catalog/pg_type_d.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/tuplestore.h"

#define PROOF_ROWS 100000		/* to read in order to show how far a zone is stable */

typedef struct Tally			/* of messages that are wanted, or that are not */
{
	int64		messages;
	Jsonb	   *example;		/* the newest of them; NULL: there is none */
} Tally;

static bool is_shown(Oid topic_table, TupleTableSlot *slot);
static void require_right(const Topic *topic, const ConsumerGroup *group);
static int	read_messages(FunctionCallInfo fcinfo);
static ConsumerGroup read_wishes(FunctionCallInfo fcinfo);
static struct varlena *copy_of(const struct varlena *value);
static NewestScan *begin_scan(const char *topic_name);
static int64 decided(const Zone *zone, int64 last);
static Jsonb *example_of(TupleTableSlot *slot);
static void push_key(JsonbParseState **state, const char *key);
static void push_text(JsonbParseState **state, const char *key, char *value);
static void push_payload(JsonbParseState **state, Jsonb *payload);

/*
 * preview_group(topic text, consumer_group text, tags text, filter jsonpath, messages int)
 * RETURNS TABLE (wanted boolean, messages bigint, example jsonb): two rows, for what these tags
 * and this filter (NULL: the group's) would take and leave of the last messages of all zones,
 * up to the stable offset, newest first. The example is the newest of its kind; NULL: there is
 * none. Who may consume as the group, but not read the topic, sees what fetch lets him read;
 * whom policies bind, what they let him see of the newest BATCH_MESSAGES messages.
 * Errors: 22004 topic, consumer_group or messages NULL; 22023 bad value; 42704 unknown topic
 * or group; 42501 not allowed; 25006 on a standby, which can't know what is stable.
 */
PG_FUNCTION_INFO_V1(iotmq_preview_group);
Datum
iotmq_preview_group(PG_FUNCTION_ARGS)
{
	char	   *topic_name = iotmq_call_name(fcinfo, 0, "topic");
	Topic	   *topic = iotmq_catalog_topic(topic_name);
	ConsumerGroup *group = iotmq_catalog_group(topic, iotmq_call_name(fcinfo, 1, "consumer_group"));
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int			messages = read_messages(fcinfo);
	Tally		tallies[2] = {0};	/* wanted, not wanted */
	ConsumerGroup wishes;
	NewestScan *scan;
	TupleTableSlot *slot;
	Oid			policy_table;	/* invalid: the caller sees every message */
	int			budget = BATCH_MESSAGES;

	iotmq_call_require_primary("preview_group()");
	require_right(topic, group);
	policy_table = iotmq_policy_applies(topic) ? topic->relid : InvalidOid;
	InitMaterializedSRF(fcinfo, 0);
	wishes = read_wishes(fcinfo);
	scan = begin_scan(topic_name);
	while (messages > 0 && budget-- > 0 && (slot = iotmq_newest_next(scan)) != NULL)
	{
		Tally	   *tally;

		if (OidIsValid(policy_table) && !is_shown(policy_table, slot))
			continue;
		messages--;
		tally = &tallies[iotmq_filter_accepts(&wishes, slot) ? 0 : 1];
		if (tally->messages++ == 0)
			tally->example = example_of(slot);
	}
	iotmq_newest_end(scan);

	for (int i = 0; i < 2; i++)
	{
		Datum		values[3] = {
			BoolGetDatum(i == 0), Int64GetDatum(tallies[i].messages),
			PointerGetDatum(tallies[i].example)
		};
		bool		isnull[3] = {false, false, tallies[i].example == NULL};

		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/* Do the policies of the topic's table let the current user see the message in slot? */
static bool
is_shown(Oid topic_table, TupleTableSlot *slot)
{
	CHECK_FOR_INTERRUPTS();
	slot_getsomeattrs(slot, Anum_published_at);
	return iotmq_policy_shows(topic_table, TextDatumGetCString(slot->tts_values[Anum_zone - 1]),
							  DatumGetInt64(slot->tts_values[Anum_msg_offset - 1]),
							  DatumGetTimestampTz(slot->tts_values[Anum_published_at - 1]));
}

/* Raises 42501 unless the current user is the group's, or may read some zone of the topic. */
static void
require_right(const Topic *topic, const ConsumerGroup *group)
{
	if (iotmq_access_may_consume(group))
		return;
	iotmq_access_require_read(topic, NULL);
	iotmq_policy_require(topic);
}

static int
read_messages(FunctionCallInfo fcinfo)
{
	int			messages;

	iotmq_call_require(fcinfo, 4, "messages");
	messages = PG_GETARG_INT32(4);
	if (messages < 1 || messages > BATCH_MESSAGES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("messages must be between 1 and %d, not %d", BATCH_MESSAGES, messages)));
	return messages;
}

/* A group of nothing but tags and filter: those given, else those of the group. */
static ConsumerGroup
read_wishes(FunctionCallInfo fcinfo)
{
	ConsumerGroup wishes = {0};
	const ConsumerGroup *group;
	bool		all_tags = false;

	if (!PG_ARGISNULL(2))
	{
		Datum		tags = iotmq_owner_value("SELECT iotmq.filter_parse_tags($1)", 1, (Oid[]) {TEXTOID},
											 (Datum[]) {PG_GETARG_DATUM(2)}, &all_tags);

		if (!all_tags)
			deconstruct_array(DatumGetArrayTypeP(tags), TEXTOID, -1, false, TYPALIGN_INT,
							  (Datum **) &wishes.tags, NULL, &wishes.ntags);
	}
	if (!PG_ARGISNULL(3))
	{
		iotmq_owner_run("SELECT iotmq.filter_check($1)", 1, (Oid[]) {JSONPATHOID},
						(Datum[]) {PG_GETARG_DATUM(3)});
		wishes.filter = PG_DETOAST_DATUM(PG_GETARG_DATUM(3));
	}

	/* what is in the catalog is good until the next lookup */
	group = iotmq_catalog_group(iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic")),
								iotmq_call_name(fcinfo, 1, "consumer_group"));
	if (PG_ARGISNULL(2))
	{
		wishes.ntags = group->ntags;
		wishes.tags = palloc(sizeof(struct varlena *) * Max(group->ntags, 1));
		for (int i = 0; i < group->ntags; i++)
			wishes.tags[i] = copy_of(group->tags[i]);
	}
	if (PG_ARGISNULL(3) && group->filter != NULL)
		wishes.filter = copy_of(group->filter);
	return wishes;
}

static struct varlena *
copy_of(const struct varlena *value)
{
	struct varlena *copy = palloc(VARSIZE_ANY(value));

	memcpy(copy, value, VARSIZE_ANY(value));
	return copy;
}

/* What the current user may read of the topic. */
static NewestScan *
begin_scan(const char *topic_name)
{
	Topic	   *topic = iotmq_catalog_topic(topic_name);
	int			nzones = topic->nzones;
	int32	   *zone_ids = palloc(sizeof(int32) * Max(nzones, 1));
	ZoneEnd    *ends = palloc(sizeof(ZoneEnd) * Max(nzones, 1));
	NewestScan *scan = iotmq_newest_begin(nzones);

	for (int z = 0; z < nzones; z++)
	{
		zone_ids[z] = topic->zones[z].zone_id;
		ends[z].memory = iotmq_stable_memory(&topic->zones[z]);
		iotmq_cursor_teach(topic, &topic->zones[z]);
	}
	(void) iotmq_stable_await(ends, nzones);	/* what is open then ends what is decided */
	for (int z = 0; z < nzones; z++)
	{
		Zone	   *zone;
		int64		lowest;

		if (ends[z].last < 0 || !iotmq_catalog_zone_by_id(zone_ids[z], &topic, &zone))
			continue;			/* dropped meanwhile */
		lowest = iotmq_pull_lowest(topic, zone);
		if (lowest < PG_INT64_MAX)
			iotmq_newest_add(scan, zone, lowest, decided(zone, ends[z].last));
	}
	return scan;
}

/* The first offset of the zone that is not decided yet, as far as its rows show. */
static int64
decided(const Zone *zone, int64 last)
{
	int64		stable = iotmq_stable_memory(zone)->stable.offset;
	ZoneScan   *scan = iotmq_scan_begin(zone, Max(stable, zone->earliest_offset), last);
	int64		position;

	for (int i = 0; i < PROOF_ROWS && iotmq_scan_next(scan) != NULL; i++)
		;
	position = scan->position;
	iotmq_scan_end(scan);
	return position;
}

/* The message in slot, as far as one looks at it. */
static Jsonb *
example_of(TupleTableSlot *slot)
{
	JsonbParseState *state = NULL;
	char		published_at[MAXDATELEN + 1];
	bool		isnull;
	Datum		tag = slot_getattr(slot, Anum_tag, &isnull);

	slot_getallattrs(slot);
	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_text(&state, "zone", TextDatumGetCString(slot->tts_values[Anum_zone - 1]));
	push_key(&state, "msg_offset");
	(void) pushJsonbValue(&state, WJB_VALUE, &(JsonbValue) {
		.type = jbvNumeric,
		.val.numeric = int64_to_numeric(DatumGetInt64(slot->tts_values[Anum_msg_offset - 1]))
	});
	push_text(&state, "device_id", TextDatumGetCString(slot->tts_values[Anum_device_id - 1]));
	push_text(&state, "tag", isnull ? NULL : TextDatumGetCString(tag));
	push_key(&state, "payload");
	push_payload(&state, slot->tts_isnull[Anum_payload - 1] ? NULL :
				 DatumGetJsonbP(slot->tts_values[Anum_payload - 1]));
	(void) JsonEncodeDateTime(published_at, slot->tts_values[Anum_published_at - 1],
							  TIMESTAMPTZOID, NULL);
	push_text(&state, "published_at", published_at);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
push_key(JsonbParseState **state, const char *key)
{
	(void) pushJsonbValue(state, WJB_KEY, &(JsonbValue) {
		.type = jbvString,
		.val.string = {.len = strlen(key), .val = pstrdup(key)}
	});
}

/* A key with a text; NULL: null. */
static void
push_text(JsonbParseState **state, const char *key, char *value)
{
	JsonbValue	text = {.type = jbvNull};

	if (value != NULL)
		text = (JsonbValue) {
			.type = jbvString, .val.string = {.len = strlen(value), .val = value}
		};
	push_key(state, key);
	(void) pushJsonbValue(state, WJB_VALUE, &text);
}

/* NULL: null. */
static void
push_payload(JsonbParseState **state, Jsonb *payload)
{
	JsonbValue	value = {.type = jbvNull};

	if (payload != NULL && !JsonbExtractScalar(&payload->root, &value))
		value = (JsonbValue) {
			.type = jbvBinary,
			.val.binary = {.len = VARSIZE(payload) - VARHDRSZ, .data = &payload->root}
		};
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}
