/*
 * message.c - what a message may be.
 *
 * The same rules for every way of publishing: publish and publish_batch call
 * iotmq_message_check, rows that come by COPY or INSERT meet it as the CHECK
 * constraint of the zone's table.
 */
#include "log/log.h"

#include "access/detoast.h"
#include "access/relation.h"
#include "catalog/pg_type_d.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"

/* 18 has columns that are not NULL from now on, with rows in which they are. */
#ifdef ATTNULLABLE_VALID
#define IS_NEVER_NULL(desc, i) (TupleDescCompactAttr(desc, i)->attnullability == ATTNULLABLE_VALID)
#else
#define IS_NEVER_NULL(desc, i) (TupleDescAttr(desc, i)->attnotnull)
#endif

#define MESSAGE_DIGITS (16 * 1024 * 1024)	/* of all of its numbers */

static void check_bytes(const char *name, Datum value);
static void check_tag(text *tag);
static int64 size_of(const Datum *values, const bool *isnull);
static void check_json(const Datum *values, const bool *isnull);

/* Checks one message, as the columns of a topic table (0-based). */
void
iotmq_message_check(const Datum *values, const bool *isnull)
{
	int64		size;

	if (isnull[Anum_device_id - 1])
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("device_id must not be NULL")));
	check_bytes("device_id", values[Anum_device_id - 1]);
	if (!isnull[Anum_tag - 1])
		check_tag(DatumGetTextPP(values[Anum_tag - 1]));
	if (!isnull[Anum_message_key - 1])
		check_bytes("message_key", values[Anum_message_key - 1]);
	if (isnull[Anum_payload - 1] && isnull[Anum_body - 1])
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("payload and body must not both be NULL"),
				 errhint("Give a payload (jsonb), a body (bytea), or both.")));
	size = size_of(values, isnull);
	if (size > MESSAGE_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("message of " INT64_FORMAT " bytes exceeds the limit of %d bytes",
						size, MESSAGE_BYTES),
				 errhint("Store the large part elsewhere and publish a reference to it.")));
	check_json(values, isnull);
}

/*
 * Are the first columns of a table those of a message? Somebody may have dropped one, changed
 * its type, or let it be NULL: readers go by a message's zone, offset, time and device.
 */
bool
iotmq_message_fits(TupleDesc desc)
{
	static const Oid types[Natts_message] = {
		TEXTOID, INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, JSONBOID, BYTEAOID, JSONBOID, TEXTOID
	};

	if (desc->natts < Natts_message)
		return false;
	for (int i = 0; i < Natts_message; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (column->attisdropped || column->atttypid != types[i] || column->attgenerated ||
			(i < Anum_device_id && !IS_NEVER_NULL(desc, i)))
			return false;
	}
	return true;
}

/* Raises 55000 unless they are. */
void
iotmq_message_require(Relation rel)
{
	if (!iotmq_message_fits(RelationGetDescr(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no columns for messages any more",
						RelationGetRelationName(rel)),
				 errdetail("Somebody has dropped one of the topic's columns, changed its type, or let it be NULL."),
				 errhint("Columns may be added and renamed; those of a message must else stay as they are.")));
}

/*
 * What the columns of a message are called in that table, quoted, by their number - 1: users
 * may rename them. Errors: 42704 the table is gone; 55000 as above.
 */
void
iotmq_message_columns(Oid relid, const char *names[])
{
	Relation	rel = try_relation_open(relid, AccessShareLock);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("topic, or a zone of it, was dropped"),
				 errhint("If its table was dropped by hand, drop what is left by drop_topic(..., force => true).")));
	iotmq_message_require(rel);
	for (int i = 0; i < Natts_message; i++)
		names[i] = quote_identifier(pstrdup(NameStr(TupleDescAttr(RelationGetDescr(rel), i)->attname)));
	relation_close(rel, AccessShareLock);
}

/* message_columns(messages regclass) RETURNS text[]: the same, for functions in SQL. */
PG_FUNCTION_INFO_V1(iotmq_message_columns_of);
Datum
iotmq_message_columns_of(PG_FUNCTION_ARGS)
{
	const char *names[Natts_message];
	Datum		values[Natts_message];

	iotmq_message_columns(PG_GETARG_OID(0), names);
	for (int i = 0; i < Natts_message; i++)
		values[i] = CStringGetTextDatum(names[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(values, Natts_message, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * message_is_valid(device_id text, tag text, payload jsonb, body bytea, properties
 * jsonb, message_key text) RETURNS boolean: true, or the error that publish would raise.
 */
PG_FUNCTION_INFO_V1(iotmq_message_is_valid);
Datum
iotmq_message_is_valid(PG_FUNCTION_ARGS)
{
	Datum		values[Natts_message] = {0};
	bool		isnull[Natts_message] = {false};

	for (int i = 0; i < Natts_message - Anum_device_id + 1; i++)
	{
		values[Anum_device_id - 1 + i] = PG_GETARG_DATUM(i);
		isnull[Anum_device_id - 1 + i] = PG_ARGISNULL(i);
	}
	iotmq_message_check(values, isnull);
	PG_RETURN_BOOL(true);
}

static void
check_bytes(const char *name, Datum value)
{
	int64		size = VARSIZE_ANY_EXHDR(DatumGetTextPP(value));

	if (size < 1 || size > DEVICE_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be 1 to %d bytes long, not " INT64_FORMAT,
						name, DEVICE_BYTES, size)));
}

/* A tag must be writable in a group's list of tags: 'a || b'. */
static void
check_tag(text *tag)
{
	const char *data = VARDATA_ANY(tag);
	int			size = VARSIZE_ANY_EXHDR(tag);
	bool		bad = size < 1 || size > DEVICE_BYTES ||
		data[0] == ' ' || data[size - 1] == ' ' || (size == 1 && data[0] == '*');

	for (int i = 0; i + 1 < size && !bad; i++)
		bad = data[i] == '|' && data[i + 1] == '|';
	bad = bad || memchr(data, ',', size) != NULL;
	if (bad)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid tag \"%s\"", text_to_cstring(tag)),
				 errdetail("A tag has 1 to %d bytes, does not begin or end with a space, is not \"*\", and has no \"||\" and no comma in it.",
						   DEVICE_BYTES),
				 errhint("A message has one tag; a group names those it wants: 'alarm || warn'.")));
}

/* All of it, uncompressed. */
static int64
size_of(const Datum *values, const bool *isnull)
{
	int64		size = 0;

	for (int i = Anum_device_id - 1; i < Natts_message; i++)
		if (!isnull[i])
			size += toast_raw_datum_size(values[i]) - VARHDRSZ;
	return size;
}

/* As json.c says. */
static void
check_json(const Datum *values, const bool *isnull)
{
	int64		digits = (isnull[Anum_payload - 1] ? 0 : iotmq_json_digits(values[Anum_payload - 1])) +
		(isnull[Anum_properties - 1] ? 0 : iotmq_json_digits(values[Anum_properties - 1]));

	if (digits > MESSAGE_DIGITS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("numbers of a message have " INT64_FORMAT " digits, more than the limit of %d",
						digits, MESSAGE_DIGITS),
				 errdetail("A number like 1e100000 is sent to consumers with all of its digits.")));
}
