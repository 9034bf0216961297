/*
 * publish.c - publish and publish_batch.
 */
#include "log/log.h"

#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static int32 resolve_zone(FunctionCallInfo fcinfo, const char *topic_name, int zone_arg);
static void column_from_array(FunctionCallInfo fcinfo, int argno, const char *argname,
							  AttrNumber attnum, Datum **values, bool **isnull, int *n);

/*
 * publish(topic text, device_id text, payload jsonb, zone text, tag text,
 * properties jsonb, body bytea) RETURNS bigint: the offset; NULL: a trigger
 * of the table's owner has left the message out.
 * Errors: 22004 topic or device_id NULL, neither payload nor body, or zone NULL
 * where there are several; 22023 bad device_id or tag; 54000 over 4 MiB; 42704
 * unknown topic or zone; 42501 not allowed; 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_publish);
Datum
iotmq_publish(PG_FUNCTION_ARGS)
{
	/* the argument that a column comes from, from device_id on */
	static const int args[] = {1, 4, 2, 6, 5};
	Datum		row[Natts_message];
	bool		nulls[Natts_message] = {false};
	Datum	   *values = row;
	bool	   *isnull = nulls;
	int64		msg_offset;
	int32		zone_id;

	iotmq_call_require_primary("publish()");
	zone_id = resolve_zone(fcinfo, iotmq_call_name(fcinfo, 0, "topic"), 3);
	for (int i = 0; i < (int) lengthof(args); i++)
	{
		row[Anum_device_id - 1 + i] = PG_GETARG_DATUM(args[i]);
		nulls[Anum_device_id - 1 + i] = PG_ARGISNULL(args[i]);
	}
	iotmq_message_check(row, nulls);
	iotmq_append_messages(zone_id, &values, &isnull, 1, &msg_offset);
	if (msg_offset == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(msg_offset);
}

/*
 * publish_batch(topic text, device_ids text[], payloads jsonb[], zone text,
 * tags text[], properties jsonb[], bodies bytea[]) RETURNS bigint[]: the offsets
 * in input order. An optional array that is NULL: NULL for each message. Errors
 * as of publish; 22023 arrays of different length or more than one dimension;
 * 54000 more than 10,000 messages.
 */
PG_FUNCTION_INFO_V1(iotmq_publish_batch);
Datum
iotmq_publish_batch(PG_FUNCTION_ARGS)
{
	Datum	  **values = NULL;
	bool	  **isnull = NULL;
	int64	   *offsets;
	Datum	   *result;
	bool	   *nulls;
	int			n = -1;
	int32		zone_id;

	iotmq_call_require_primary("publish_batch()");
	zone_id = resolve_zone(fcinfo, iotmq_call_name(fcinfo, 0, "topic"), 3);
	iotmq_call_require(fcinfo, 1, "device_ids");
	n = ArrayGetNItems(ARR_NDIM(PG_GETARG_ARRAYTYPE_P(1)), ARR_DIMS(PG_GETARG_ARRAYTYPE_P(1)));
	if (n > BATCH_MESSAGES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("batch of %d messages exceeds the limit of %d", n, BATCH_MESSAGES),
				 errhint("Publish it in parts, or COPY into iotmq.zone_table(topic, zone).")));
	values = palloc(sizeof(Datum *) * Max(n, 1));
	isnull = palloc(sizeof(bool *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		values[i] = palloc0(sizeof(Datum) * Natts_message);
		isnull[i] = palloc0(sizeof(bool) * Natts_message);
	}
	column_from_array(fcinfo, 1, "device_ids", Anum_device_id, values, isnull, &n);
	column_from_array(fcinfo, 2, "payloads", Anum_payload, values, isnull, &n);
	column_from_array(fcinfo, 4, "tags", Anum_tag, values, isnull, &n);
	column_from_array(fcinfo, 5, "properties", Anum_properties, values, isnull, &n);
	column_from_array(fcinfo, 6, "bodies", Anum_body, values, isnull, &n);
	if (n == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(INT8OID));

	for (int i = 0; i < n; i++)
		iotmq_message_check(values[i], isnull[i]);
	offsets = palloc(sizeof(int64) * n);
	iotmq_append_messages(zone_id, values, isnull, n, offsets);

	result = palloc(sizeof(Datum) * n);
	nulls = palloc(sizeof(bool) * n);
	for (int i = 0; i < n; i++)
	{
		result[i] = Int64GetDatum(offsets[i]);
		nulls[i] = offsets[i] == 0;
	}
	PG_RETURN_ARRAYTYPE_P(construct_md_array(result, nulls, 1, &n, (int[]) {1}, INT8OID,
											 sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* The zone to publish to, if the current user may. */
static int32
resolve_zone(FunctionCallInfo fcinfo, const char *topic_name, int zone_arg)
{
	Topic	   *topic = iotmq_catalog_topic(topic_name);
	Zone	   *zone = iotmq_catalog_zone_or_only(topic, PG_ARGISNULL(zone_arg) ? NULL :
												  PG_GETARG_TEXT_PP(zone_arg));

	iotmq_access_require_publish(topic, zone);
	return zone->zone_id;
}

/* Spreads an array argument over the messages. */
static void
column_from_array(FunctionCallInfo fcinfo, int argno, const char *argname,
				  AttrNumber attnum, Datum **values, bool **isnull, int *n)
{
	ArrayType  *array;
	Datum	   *elements;
	bool	   *nulls;
	int			count;
	int16		typlen;
	bool		typbyval;
	char		typalign;

	if (PG_ARGISNULL(argno))
	{
		for (int i = 0; i < *n; i++)
			isnull[i][attnum - 1] = true;
		return;
	}
	array = PG_GETARG_ARRAYTYPE_P(argno);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must have one dimension", argname)));
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &typlen, &typbyval, &typalign);
	deconstruct_array(array, ARR_ELEMTYPE(array), typlen, typbyval, typalign,
					  &elements, &nulls, &count);
	if (count != *n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has %d elements, but device_ids has %d", argname, count, *n),
				 errhint("All arrays of a batch must have the same length.")));
	for (int i = 0; i < count; i++)
	{
		values[i][attnum - 1] = elements[i];
		isnull[i][attnum - 1] = nulls[i];
	}
}
