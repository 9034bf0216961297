/*
 * send.c - the source's part of a mirror: messages as text.
 *
 * As fetch reads them, in the order of offsets up to what is decided, but whatever policies
 * hide from readers: a mirror that leaves something out is none. The format: mirror.h.
 */
#include "mirror/mirror.h"

#include "catalog/pg_type_d.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#define HEADER_BYTES 41			/* the first line: two numbers of at most 19 digits */
#define PROOF_ROWS 100000		/* to read in order to show that from_offset is decided */

static void add_message(StringInfo batch, TupleTableSlot *slot);
static void add_text(StringInfo batch, Datum value, bool isnull);
static void add_json(StringInfo batch, Datum value, bool isnull);
static void add_hex(StringInfo batch, Datum value, bool isnull);
static void add_field(StringInfo batch, const char *data, int size);

/*
 * mirror_messages(topic text, zone text, from_offset bigint, max_messages int) RETURNS text:
 * the messages from that offset on, or from the earliest, if that is higher; see mirror.h,
 * but without the first line. Who
 * asks behind the end, or for what was lost, gets what comes after it: mirror_source tells him.
 * Errors: 22004 an argument NULL; 22023 bad max_messages; 42704
 * unknown topic or zone; 42501 not allowed; 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_send_messages);
Datum
iotmq_send_messages(PG_FUNCTION_ARGS)
{
	Topic	   *topic = iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic"));
	Zone	   *zone = iotmq_catalog_zone(topic, iotmq_call_name(fcinfo, 1, "zone"));
	int64		from;
	int			max_messages = iotmq_call_max_messages(fcinfo, 3);
	int			budget = max_messages + PROOF_ROWS;
	ZoneMemory *memory;
	ZoneScan   *scan;
	TupleTableSlot *slot;
	StringInfoData batch;
	int64		last;
	int			n = 0;
	char		header[HEADER_BYTES + 1];

	iotmq_call_require_primary("mirror_messages()");
	iotmq_access_require_mirror(topic);
	iotmq_call_require(fcinfo, 2, "from_offset");
	from = Max(PG_GETARG_INT64(2), zone->earliest_offset);
	memory = iotmq_stable_memory(zone);
	last = iotmq_stable_last(zone);
	(void) iotmq_stable_refresh(memory);
	scan = iotmq_scan_begin(zone, Min(from, Max(memory->stable.offset, zone->earliest_offset)), last);
	scan->window = max_messages;
	initStringInfo(&batch);
	appendStringInfoSpaces(&batch, HEADER_BYTES);
	while (n < max_messages && batch.len < MIRROR_BYTES && budget-- > 0 &&
		   (slot = iotmq_scan_next(scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (scan->position <= from)
			continue;
		add_message(&batch, slot);
		n++;
	}
	snprintf(header, sizeof(header), "%19lld\t%19lld \n", (long long) from,
			 (long long) Max(scan->position, from));
	memcpy(batch.data, header, HEADER_BYTES);
	iotmq_scan_end(scan);
	return PointerGetDatum(cstring_to_text_with_len(batch.data, batch.len));
}

/*
 * mirror_source(topic text, zone text) RETURNS jsonb: what a mirror has to know of the zone
 * besides messages. Errors: 22004, 42704, 42501, 25006.
 */
PG_FUNCTION_INFO_V1(iotmq_send_source);
Datum
iotmq_send_source(PG_FUNCTION_ARGS)
{
	iotmq_call_require_primary("mirror_source()");
	iotmq_access_require_mirror(iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic")));
	return iotmq_owner_call(fcinfo, "mirror_describe");
}

/*
 * hand_over(topic text, zone text, end_offset bigint, taker text, fence text) RETURNS void: the
 * zone, which is fenced and ends there, is that server's from the commit on. Errors: as above;
 * 55000 it is not fenced, or anew, ends elsewhere, or was handed over to another server.
 */
PG_FUNCTION_INFO_V1(iotmq_send_over);
Datum
iotmq_send_over(PG_FUNCTION_ARGS)
{
	iotmq_call_require_primary("hand_over()");
	iotmq_access_require_mirror(iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic")));
	return iotmq_owner_call(fcinfo, "move_hand_over");
}

static void
add_message(StringInfo batch, TupleTableSlot *slot)
{
	char		number[32];

	slot_getsomeattrs(slot, Natts_message);
	pg_lltoa(DatumGetInt64(slot->tts_values[Anum_msg_offset - 1]), number);
	appendStringInfoString(batch, number);
	appendStringInfoChar(batch, '\t');
	pg_lltoa(DatumGetTimestampTz(slot->tts_values[Anum_published_at - 1]), number);
	appendStringInfoString(batch, number);
	for (int i = Anum_device_id - 1; i < Natts_message; i++)
	{
		Datum		value = slot->tts_values[i];
		bool		isnull = slot->tts_isnull[i];

		appendStringInfoChar(batch, '\t');
		if (i == Anum_payload - 1 || i == Anum_properties - 1)
			add_json(batch, value, isnull);
		else if (i == Anum_body - 1)
			add_hex(batch, value, isnull);
		else
			add_text(batch, value, isnull);
	}
	appendStringInfoChar(batch, '\n');
}

static void
add_text(StringInfo batch, Datum value, bool isnull)
{
	text	   *field;

	if (isnull)
	{
		appendStringInfoString(batch, "\\N");
		return;
	}
	field = DatumGetTextPP(value);
	add_field(batch, VARDATA_ANY(field), VARSIZE_ANY_EXHDR(field));
	if (PointerGetDatum(field) != value)
		pfree(field);
}

static void
add_json(StringInfo batch, Datum value, bool isnull)
{
	StringInfoData json;
	Jsonb	   *field;

	if (isnull)
	{
		appendStringInfoString(batch, "\\N");
		return;
	}
	field = DatumGetJsonbP(value);
	initStringInfo(&json);
	(void) JsonbToCString(&json, &field->root, VARSIZE(field));
	add_field(batch, json.data, json.len);
	pfree(json.data);
	if (PointerGetDatum(field) != value)
		pfree(field);
}

static void
add_hex(StringInfo batch, Datum value, bool isnull)
{
	bytea	   *field;
	int			size;

	if (isnull)
	{
		appendStringInfoString(batch, "\\N");
		return;
	}
	field = DatumGetByteaPP(value);
	size = VARSIZE_ANY_EXHDR(field);
	enlargeStringInfo(batch, size * 2);
	batch->len += hex_encode(VARDATA_ANY(field), size, batch->data + batch->len);
	batch->data[batch->len] = '\0';
	if (PointerGetDatum(field) != value)
		pfree(field);
}

/* Adds a field; what would end it is escaped. */
static void
add_field(StringInfo batch, const char *data, int size)
{
	const char *end = data + size;

	while (data < end)
	{
		const char *special = data;

		while (special < end && *special != '\\' && *special != '\t' && *special != '\n')
			special++;
		appendBinaryStringInfo(batch, data, special - data);
		if (special == end)
			return;
		appendStringInfoChar(batch, '\\');
		appendStringInfoChar(batch, *special == '\t' ? 't' : *special == '\n' ? 'n' : '\\');
		data = special + 1;
	}
}
