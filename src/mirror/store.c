/*
 * store.c - the mirror's part: messages out of text, see mirror.h for its format.
 *
 * What comes from a source is data. It is checked as a publisher's is, and more: the text's
 * encoding, its form, that offsets ascend from the mirror's position on, and that times are
 * such as a clock has. What is wrong is an error, and nothing is stored.
 *
 * Locks: those of log/import.c.
 */
#include "mirror/mirror.h"

#include "catalog/pg_type_d.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define LAST_POSITION (PG_INT64_MAX / 2)	/* beyond it no epoch could begin */
#define AHEAD_YEARS 10			/* how far ahead of ours the source's clock may be */

typedef struct Reader			/* of a batch */
{
	char	   *at;				/* what is not read yet */
	char	   *end;
	int64		begins_at;		/* what lay below it, the source has dropped */
	int64		position;		/* no message has a lower offset */
	int64		next_offset;	/* and none this or a higher one */
	TimestampTz oldest;			/* what was published before is past its retention */
	TimestampTz newest;			/* and this is no time of a clock */
	MemoryContext scratch;		/* for one field */
} Reader;

static Reader begin(FunctionCallInfo fcinfo, const Topic *topic);
static int	first_line(const text *batch);
static void read_header(Reader *reader);
static Batch *read_batch(Reader *reader, int32 zone_id);
static bool read_message(Reader *reader, Message *message);
static char *read_field(Reader *reader, char terminator, int *size);
static int64 read_number(const char *field, const char *what);
static Datum read_text(const char *field, int size);
static Datum read_json(Reader *reader, char *field);
static Datum read_hex(const char *field, int size);
pg_noreturn static void report_malformed(void);
static void name_message(const Batch *batch, MemoryContext context);

/*
 * store_messages(zone_id int, from_offset bigint, batch text, OUT stored bigint, OUT
 * begins_at bigint, OUT next_offset bigint, OUT last_offset bigint, OUT published_at
 * timestamptz): stores the messages of a batch, none of which lies below from_offset.
 * begins_at: the first offset that the source still had; next_offset: where to go on, below that of the batch if not all
 * were stored; last_offset, published_at: of the last one, NULL: there is none. What is past the topic's
 * retention is left out.
 * Errors: 22P02, 22021, 22023, 54000 the batch is not well-formed, or a message is not what it
 * has to be; 55000 the zone is no mirror.
 */
PG_FUNCTION_INFO_V1(iotmq_store_messages);
Datum
iotmq_store_messages(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	int32		zone_id = PG_GETARG_INT32(0);
	Topic	   *topic = iotmq_call_zone(fcinfo, 0)->topic;
	Reader		reader = begin(fcinfo, topic);
	Batch	   *batch;
	volatile int stored = 0;
	Datum		values[5] = {0};
	bool		isnull[5] = {false};

	read_header(&reader);
	batch = read_batch(&reader, zone_id);
	PG_TRY();
	{
		if (batch->n > 0)
			stored = iotmq_import_messages(zone_id, batch);
	}
	PG_CATCH();
	{
		name_message(batch, context);
	}
	PG_END_TRY();
	values[0] = Int64GetDatum(stored);
	values[1] = Int64GetDatum(reader.begins_at);
	values[2] = Int64GetDatum(stored < batch->n ? batch->messages[stored].msg_offset :
							  reader.next_offset);
	isnull[3] = isnull[4] = stored == 0;
	if (stored > 0)
	{
		values[3] = Int64GetDatum(batch->messages[stored - 1].msg_offset);
		values[4] = TimestampTzGetDatum(batch->messages[stored - 1].published_at);
	}
	return iotmq_call_return_row(fcinfo, values, isnull);
}

/* store_described(batch text) RETURNS text: the first line, what mirror_source has said. */
PG_FUNCTION_INFO_V1(iotmq_store_described);
Datum
iotmq_store_described(PG_FUNCTION_ARGS)
{
	text	   *batch = PG_GETARG_TEXT_PP(0);
	int			size = first_line(batch) - 1;

	(void) pg_verifymbstr(VARDATA_ANY(batch), size, false);
	return PointerGetDatum(cstring_to_text_with_len(VARDATA_ANY(batch), size));
}

/* How long it is, with its end. */
static int
first_line(const text *batch)
{
	const char *data = VARDATA_ANY(batch);
	const char *end = memchr(data, '\n', VARSIZE_ANY_EXHDR(batch));

	if (end == NULL)
		report_malformed();
	return end - data + 1;
}

/* store_next(batch text) RETURNS bigint: where the next batch begins, if all of this one is stored. */
PG_FUNCTION_INFO_V1(iotmq_store_next);
Datum
iotmq_store_next(PG_FUNCTION_ARGS)
{
	text	   *batch = PG_GETARG_TEXT_PP(0);
	const char *line = VARDATA_ANY(batch) + first_line(batch);
	int			size = VARSIZE_ANY_EXHDR(batch) - first_line(batch);
	const char *end = memchr(line, '\n', size);
	Reader		reader = {0};

	if (end == NULL)
		report_malformed();
	reader.at = pnstrdup(line, end - line + 1);
	reader.end = reader.at + (end - line) + 1;
	read_header(&reader);
	PG_RETURN_INT64(reader.next_offset);
}

static Reader
begin(FunctionCallInfo fcinfo, const Topic *topic)
{
	text	   *batch = PG_GETARG_TEXT_PP(2);
	int			skipped = first_line(batch);
	int			size = VARSIZE_ANY_EXHDR(batch) - skipped;
	TimestampTz now = GetCurrentTimestamp();
	Interval	ahead = {.month = AHEAD_YEARS * MONTHS_PER_YEAR};
	Reader		reader = {.position = PG_GETARG_INT64(1)};

	if (size > MIRROR_BYTES_MOST)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("batch of %d bytes exceeds the limit of %d", size, MIRROR_BYTES_MOST)));
	(void) pg_verifymbstr(VARDATA_ANY(batch) + skipped, size, false);
	reader.at = palloc(size + 1);
	memcpy(reader.at, VARDATA_ANY(batch) + skipped, size);
	reader.end = reader.at + size;
	*reader.end = '\0';
	reader.scratch = AllocSetContextCreate(CurrentMemoryContext, "iotmq field", ALLOCSET_DEFAULT_SIZES);
	reader.oldest = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
															TimestampTzGetDatum(now),
															IntervalPGetDatum(&topic->kept_for)));
	reader.newest = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
															TimestampTzGetDatum(now),
															IntervalPGetDatum(&ahead)));
	return reader;
}

/* The first line: where it begins, and where to go on. */
static void
read_header(Reader *reader)
{
	int			size;
	char	   *begins_at = read_field(reader, '\t', &size);
	char	   *next_offset = read_field(reader, '\n', &size);

	if (begins_at == NULL || next_offset == NULL)
		report_malformed();
	reader->begins_at = read_number(begins_at, "offset");
	reader->next_offset = read_number(next_offset, "offset");
	if (reader->begins_at < reader->position || reader->next_offset < reader->begins_at ||
		reader->next_offset > LAST_POSITION)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a batch from " INT64_FORMAT " to " INT64_FORMAT " does not begin at " INT64_FORMAT,
						reader->begins_at, reader->next_offset, reader->position)));
	reader->position = reader->begins_at;
}

/* The messages to store. */
static Batch *
read_batch(Reader *reader, int32 zone_id)
{
	Batch	   *batch = palloc0(sizeof(Batch));
	int			room = 1024;

	batch->messages = palloc(sizeof(Message) * room);
	while (reader->at < reader->end)
	{
		Message    *message;

		CHECK_FOR_INTERRUPTS();
		if (batch->n == BATCH_MESSAGES)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("batch has more than %d messages", BATCH_MESSAGES)));
		if (batch->n == room)
			batch->messages = repalloc(batch->messages, sizeof(Message) * (room *= 2));
		message = &batch->messages[batch->n];
		memset(message, 0, sizeof(Message));
		message->zone_id = zone_id;
		if (read_message(reader, message))
			batch->n++;
	}
	return batch;
}

/* Reads the next one; false: it is past its retention. */
static bool
read_message(Reader *reader, Message *message)
{
	char	   *fields[MIRROR_FIELDS];
	int			sizes[MIRROR_FIELDS];

	for (int i = 0; i < MIRROR_FIELDS; i++)
		fields[i] = read_field(reader, i == MIRROR_FIELDS - 1 ? '\n' : '\t', &sizes[i]);
	if (fields[0] == NULL || fields[1] == NULL)
		report_malformed();
	message->msg_offset = read_number(fields[0], "msg_offset");
	message->published_at = read_number(fields[1], "published_at");
	if (message->msg_offset < reader->position || message->msg_offset >= reader->next_offset)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("message with offset " INT64_FORMAT " is not between " INT64_FORMAT " and " INT64_FORMAT,
						message->msg_offset, reader->position, reader->next_offset)));
	reader->position = message->msg_offset + 1;
	if (!IS_VALID_TIMESTAMP(message->published_at) || message->published_at > reader->newest)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("message with offset " INT64_FORMAT " has no time at which it can have been published",
						message->msg_offset)));
	for (int i = Anum_device_id - 1; i < Natts_message; i++)
	{
		char	   *field = fields[i - 1];	/* no zone */

		message->isnull[i] = field == NULL;
		if (field == NULL)
			continue;
		if (i == Anum_payload - 1 || i == Anum_properties - 1)
			message->values[i] = read_json(reader, field);
		else if (i == Anum_body - 1)
			message->values[i] = read_hex(field, sizes[i - 1]);
		else
			message->values[i] = read_text(field, sizes[i - 1]);
	}
	iotmq_message_check(message->values, message->isnull);
	return message->published_at > reader->oldest;
}

/* The next field, unescaped in its place, with a zero byte behind it; NULL: it is NULL. */
static char *
read_field(Reader *reader, char terminator, int *size)
{
	char	   *field = reader->at;
	char	   *to = field;
	char	   *from = field;

	while (from < reader->end && *from != '\t' && *from != '\n')
	{
		if (*from == '\\')
		{
			from++;
			if (*from == 'N' && from == field + 1 && from[1] == terminator)
			{
				reader->at = from + 2;
				return NULL;
			}
			if (*from != '\\' && *from != 't' && *from != 'n')
				report_malformed();
			*to++ = *from == 't' ? '\t' : *from == 'n' ? '\n' : '\\';
			from++;
		}
		else
			*to++ = *from++;
	}
	if (from >= reader->end || *from != terminator)
		report_malformed();
	reader->at = from + 1;
	*to = '\0';
	*size = to - field;
	return field;
}

static int64
read_number(const char *field, const char *what)
{
	char	   *end;
	int64		number;

	errno = 0;
	number = strtoll(field, &end, 10);
	while (*end == ' ')
		end++;
	if (errno != 0 || end == field || *end != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid %s \"%s\"", what, field)));
	return number;
}

static Datum
read_text(const char *field, int size)
{
	return PointerGetDatum(cstring_to_text_with_len(field, size));
}

/* What parsing takes is given back field by field: it is much more than the result. */
static Datum
read_json(Reader *reader, char *field)
{
	MemoryContext old = MemoryContextSwitchTo(reader->scratch);
	Datum		parsed = DirectFunctionCall1(jsonb_in, CStringGetDatum(field));

	MemoryContextSwitchTo(old);
	parsed = datumCopy(parsed, false, -1);
	MemoryContextReset(reader->scratch);
	return parsed;
}

static Datum
read_hex(const char *field, int size)
{
	bytea	   *body = palloc(VARHDRSZ + size / 2 + 1);

	SET_VARSIZE(body, VARHDRSZ + hex_decode(field, size, VARDATA(body)));
	return PointerGetDatum(body);
}

static void
report_malformed(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			 errmsg("the batch of messages is not well-formed")));
}

/* Throws the error that was caught, with the message that it is about. */
static void
name_message(const Batch *batch, MemoryContext context)
{
	ErrorData  *error;

	if (batch->at_hand == 0)
		PG_RE_THROW();
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	if (error->context == NULL)
		error->context = psprintf("message with offset " INT64_FORMAT,
								  batch->messages[batch->at_hand - 1].msg_offset);
	ReThrowError(error);
}
