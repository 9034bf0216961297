/*
 * publish.c - publish and publish_batch.
 */
#include "log/log.h"

#include "catalog/pg_collation_d.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#define BATCH_ZONES 64			/* different ones in one batch */

/* Arguments of publish and publish_batch, alike in both. */
enum
{
	ARG_TOPIC,
	ARG_DEVICE_ID,
	ARG_PAYLOAD,
	ARG_ZONE,
	ARG_TAG,
	ARG_PROPERTIES,
	ARG_BODY,
	ARG_MESSAGE_KEY,			/* of publish */
	ARG_ZONES = ARG_MESSAGE_KEY,	/* of publish_batch */
	ARG_MESSAGE_KEYS
};

typedef struct Elements			/* of an array */
{
	Datum	   *values;			/* NULL: no array was given */
	bool	   *isnull;
} Elements;

static Zone *find_zone(Topic *topic, text *name, bool may_be_tag);
static bool is_like_tag(const Topic *topic, text *name);
static void read_batch(FunctionCallInfo fcinfo, Batch *batch, Elements *zones);
static Elements read_array(FunctionCallInfo fcinfo, int argno, const char *argname, int n);
static void resolve_zones(Topic *topic, text *zone, bool may_be_tag, const Elements *zones, Batch *batch);
static Datum offsets_of(const Batch *batch);
pg_noreturn static void name_element(const Batch *batch, MemoryContext context);

/*
 * publish(topic text, device_id text, payload jsonb, zone text, tag text,
 * properties jsonb, body bytea, message_key text) RETURNS bigint: the offset; that of the
 * first message, if one with this key is there; NULL: a trigger of the table's owner has left
 * the message out.
 * Errors: 22004 topic or device_id NULL, neither payload nor body, or zone NULL
 * where there are several; 22023 bad device_id, tag or message_key, or a key in a topic
 * without dedup_window; 54000 over 4 MiB; 42704 unknown topic or zone; 42501 not allowed;
 * 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_publish);
Datum
iotmq_publish(PG_FUNCTION_ARGS)
{
	/* the argument that a column comes from, from device_id on */
	static const int args[] = {
		ARG_DEVICE_ID, ARG_TAG, ARG_PAYLOAD, ARG_BODY, ARG_PROPERTIES, ARG_MESSAGE_KEY
	};
	Message		message = {0};
	Batch		batch = {&message, 1, 0};
	Topic	   *topic;
	Zone	   *zone;

	iotmq_call_require_primary("publish()");
	topic = iotmq_catalog_topic(iotmq_call_name(fcinfo, ARG_TOPIC, "topic"));
	zone = find_zone(topic, PG_ARGISNULL(ARG_ZONE) ? NULL : PG_GETARG_TEXT_PP(ARG_ZONE),
					 PG_ARGISNULL(ARG_TAG));
	iotmq_access_require_publish(topic, zone);
	message.zone_id = zone->zone_id;
	for (int i = 0; i < (int) lengthof(args); i++)
	{
		message.values[Anum_device_id - 1 + i] = PG_GETARG_DATUM(args[i]);
		message.isnull[Anum_device_id - 1 + i] = PG_ARGISNULL(args[i]);
	}
	if (!PG_ARGISNULL(ARG_MESSAGE_KEY))
		iotmq_key_require_window(topic);
	iotmq_message_check(message.values, message.isnull);
	iotmq_append_messages(&batch);
	if (message.msg_offset == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(message.msg_offset);
}

/*
 * publish_batch(topic text, device_ids text[], payloads jsonb[], zone text,
 * tags text[], properties jsonb[], bodies bytea[], zones text[], message_keys text[])
 * RETURNS bigint[]: the offsets in input order. An optional array that is NULL: NULL for each
 * message. Errors as of publish, with the element in DETAIL; 22023 arrays of different length
 * or more than one dimension, or both zone and zones; 54000 more than 10,000 messages or 64
 * zones.
 */
PG_FUNCTION_INFO_V1(iotmq_publish_batch);
Datum
iotmq_publish_batch(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	Topic	   *topic;
	text	   *zone = PG_ARGISNULL(ARG_ZONE) ? NULL : PG_GETARG_TEXT_PP(ARG_ZONE);
	Batch	   *batch = palloc0(sizeof(Batch));
	Elements	zones;

	iotmq_call_require_primary("publish_batch()");
	topic = iotmq_catalog_topic(iotmq_call_name(fcinfo, ARG_TOPIC, "topic"));
	if (zone != NULL && !PG_ARGISNULL(ARG_ZONES))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("zone and zones must not both be given"),
				 errhint("Give zone for all messages, or zones with one for each.")));
	/* also for a batch of none */
	if (PG_ARGISNULL(ARG_ZONES))
		iotmq_access_require_publish(topic, find_zone(topic, zone, PG_ARGISNULL(ARG_TAG)));
	read_batch(fcinfo, batch, &zones);
	if (batch->n == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(INT8OID));

	PG_TRY();
	{
		resolve_zones(topic, zone, PG_ARGISNULL(ARG_TAG), &zones, batch);
		for (int i = 0; i < batch->n; i++)
		{
			batch->at_hand = i + 1;
			if (!batch->messages[i].isnull[Anum_message_key - 1])
				iotmq_key_require_window(topic);
			iotmq_message_check(batch->messages[i].values, batch->messages[i].isnull);
		}
		batch->at_hand = 0;
		iotmq_append_messages(batch);
	}
	PG_CATCH();
	{
		name_element(batch, context);
	}
	PG_END_TRY();
	return offsets_of(batch);
}

/* The zone to publish to; may_be_tag: no tag was given. */
static Zone *
find_zone(Topic *topic, text *name, bool may_be_tag)
{
	if (name != NULL && iotmq_catalog_find_zone(topic, text_to_cstring(name)) == NULL &&
		may_be_tag && is_like_tag(topic, name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("zone \"%s\" of topic \"%s\" does not exist",
						text_to_cstring(name), topic->name),
				 errhint("The fourth argument is the zone. Did you mean tag => %s?",
						 quote_literal_cstr(text_to_cstring(name)))));
	return iotmq_catalog_zone_or_only(topic, name);
}

/*
 * Who gives a tag and does not name the argument has given a zone: is it likely that this was
 * meant? A group wants that tag, or the topic is one in which no zone need be given.
 */
static bool
is_like_tag(const Topic *topic, text *name)
{
	for (int g = 0; g < topic->ngroups; g++)
		for (int i = 0; i < topic->groups[g].ntags; i++)
			if (DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, PointerGetDatum(name),
													 PointerGetDatum(topic->groups[g].tags[i]))))
				return true;
	return topic->nzones <= 1 && VARSIZE_ANY_EXHDR(name) > 0;
}

/* Spreads the arrays over the messages of a batch. */
static void
read_batch(FunctionCallInfo fcinfo, Batch *batch, Elements *zones)
{
	static const struct
	{
		int			argno;
		const char *argname;
		AttrNumber	attnum;
	}			columns[] = {
		{ARG_DEVICE_ID, "device_ids", Anum_device_id},
		{ARG_PAYLOAD, "payloads", Anum_payload},
		{ARG_TAG, "tags", Anum_tag},
		{ARG_PROPERTIES, "properties", Anum_properties},
		{ARG_BODY, "bodies", Anum_body},
		{ARG_MESSAGE_KEYS, "message_keys", Anum_message_key}
	};
	ArrayType  *device_ids;

	iotmq_call_require(fcinfo, ARG_DEVICE_ID, "device_ids");
	device_ids = PG_GETARG_ARRAYTYPE_P(ARG_DEVICE_ID);
	batch->n = ArrayGetNItems(ARR_NDIM(device_ids), ARR_DIMS(device_ids));
	if (batch->n > BATCH_MESSAGES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("batch of %d messages exceeds the limit of %d", batch->n, BATCH_MESSAGES),
				 errhint("Publish it in parts, or COPY into iotmq.zone_table(topic, zone).")));
	batch->messages = palloc0(sizeof(Message) * Max(batch->n, 1));
	for (int c = 0; c < (int) lengthof(columns); c++)
	{
		Elements	column = read_array(fcinfo, columns[c].argno, columns[c].argname, batch->n);

		for (int i = 0; i < batch->n; i++)
		{
			Message    *message = &batch->messages[i];

			message->isnull[columns[c].attnum - 1] = column.values == NULL || column.isnull[i];
			if (column.values != NULL)
				message->values[columns[c].attnum - 1] = column.values[i];
		}
	}
	*zones = read_array(fcinfo, ARG_ZONES, "zones", batch->n);
}

/* The elements of an array argument, n of them (else 22023). */
static Elements
read_array(FunctionCallInfo fcinfo, int argno, const char *argname, int n)
{
	ArrayType  *array;
	Elements	elements = {0};
	int			count;
	int16		typlen;
	bool		typbyval;
	char		typalign;

	if (PG_ARGISNULL(argno))
		return elements;
	array = PG_GETARG_ARRAYTYPE_P(argno);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must have one dimension", argname)));
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &typbyval, &typalign);
	deconstruct_array(array, ARR_ELEMTYPE(array), typlen, typbyval, typalign,
					  &elements.values, &elements.isnull, &count);
	if (count != n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has %d elements, but device_ids has %d", argname, count, n),
				 errhint("All arrays of a batch must have the same length.")));
	return elements;
}

/* Tells each message its zone, if the current user may publish there. */
static void
resolve_zones(Topic *topic, text *zone, bool may_be_tag, const Elements *zones, Batch *batch)
{
	int32		zone_ids[BATCH_ZONES];
	int			n = 0;

	for (int i = 0; i < batch->n; i++)
	{
		text	   *name = zone;
		Zone	   *found;
		int			z = 0;

		if (zones->values != NULL)
		{
			name = zones->isnull[i] ? NULL : DatumGetTextPP(zones->values[i]);
			may_be_tag = false;
			batch->at_hand = i + 1;
		}
		found = find_zone(topic, name, may_be_tag);
		while (z < n && zone_ids[z] != found->zone_id)
			z++;
		if (z == BATCH_ZONES)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("batch has messages of more than %d zones", BATCH_ZONES),
					 errhint("Publish it in parts.")));
		if (z == n)
		{
			iotmq_access_require_publish(topic, found);
			zone_ids[n++] = found->zone_id;
		}
		batch->messages[i].zone_id = found->zone_id;
	}
}

static Datum
offsets_of(const Batch *batch)
{
	Datum	   *offsets = palloc(sizeof(Datum) * batch->n);
	bool	   *isnull = palloc(sizeof(bool) * batch->n);

	for (int i = 0; i < batch->n; i++)
	{
		offsets[i] = Int64GetDatum(batch->messages[i].msg_offset);
		isnull[i] = batch->messages[i].msg_offset == 0;
	}
	return PointerGetDatum(construct_md_array(offsets, isnull, 1, (int[]) {batch->n}, (int[]) {1},
											  INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
											  TYPALIGN_DOUBLE));
}

/* Throws the error that was caught, with the element of the batch that it is about. */
static void
name_element(const Batch *batch, MemoryContext context)
{
	ErrorData  *error;

	if (batch->at_hand == 0)
		PG_RE_THROW();
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	error->detail = error->detail == NULL ? psprintf("Element %d of the batch.", batch->at_hand) :
		psprintf("Element %d of the batch: %s", batch->at_hand, error->detail);
	ReThrowError(error);
}
