/*
 * runs.c - which messages a lease has, in few bytes.
 *
 * A run is a stretch of offsets without a hole, all with the same attempt; it is stored as
 * three numbers: how many offsets lie between it and the run before it (0 for the first,
 * which begins at the lease's first offset), how many messages it has, and their attempt.
 * Each number has seven bits a byte, least significant first; the top bit says that more
 * follow. So a lease of new messages with a retry or two has some bytes of them, and one
 * whose group wants every second message three bytes a message. A lease that is one run of
 * first attempts has none.
 *
 * What is read here may have been written by hand: it is checked.
 */
#include "group/group.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/tuplestore.h"

#define NUMBER_BYTES 10			/* of the largest number */

typedef struct RunReader
{
	const uint8 *next;
	const uint8 *end;
	uint64		position;		/* behind the last run */
	uint64		last;			/* the lease's last offset */
	int			messages;		/* so far */
	int			runs;			/* likewise */
	/* the run read last */
	int64		first;
	int			length;
	int			attempt;
} RunReader;

static int	run_length(const int64 *offsets, const int32 *attempts, int n);
static uint8 *write_number(uint8 *to, uint64 number);
static RunReader begin(const bytea *runs, int64 first, int64 last);
static bool next_run(RunReader *reader);
static uint64 read_number(RunReader *reader);
pg_noreturn static void malformed(void);

/* The runs of n messages in order; NULL: they need none, see above. */
bytea *
iotmq_runs_pack(const int64 *offsets, const int32 *attempts, int n)
{
	int64		position = offsets[0];
	int			nruns = 0;
	int			length;
	bytea	   *runs;
	uint8	   *to;

	for (int i = 0; i < n; i += run_length(offsets + i, attempts + i, n - i))
		nruns++;
	if (nruns == 1 && attempts[0] == 1)
		return NULL;
	runs = palloc(VARHDRSZ + (Size) nruns * 3 * NUMBER_BYTES);
	to = (uint8 *) VARDATA(runs);
	for (int i = 0; i < n; i += length)
	{
		length = run_length(offsets + i, attempts + i, n - i);
		to = write_number(to, offsets[i] - position);
		to = write_number(to, length);
		to = write_number(to, attempts[i]);
		position = offsets[i] + length;
	}
	SET_VARSIZE(runs, to - (uint8 *) runs);
	return runs;
}

/*
 * How many messages there are in the runs (NULL: there are none) of a lease from first to
 * last. offsets stays NULL where there is no hole, attempts where all are 1.
 */
int
iotmq_runs_unpack(const bytea *runs, int64 first, int64 last, int64 **offsets, int32 **attempts)
{
	RunReader	reader = begin(runs, first, last);
	bool		attempts_differ = false;
	int			i = 0;

	*offsets = NULL;
	*attempts = NULL;
	if (runs == NULL)
	{
		if (first < 1 || last < first || last - first >= BATCH_MESSAGES)
			malformed();
		return last - first + 1;
	}
	while (next_run(&reader))
		attempts_differ |= reader.attempt != 1;
	if (reader.runs > 1)
		*offsets = palloc(sizeof(int64) * reader.messages);
	if (attempts_differ)
		*attempts = palloc(sizeof(int32) * reader.messages);
	for (reader = begin(runs, first, last); next_run(&reader);)
		for (int k = 0; k < reader.length; k++, i++)
		{
			if (*offsets != NULL)
				(*offsets)[i] = reader.first + k;
			if (*attempts != NULL)
				(*attempts)[i] = reader.attempt;
		}
	return i;
}

/*
 * runs_messages(first_offset bigint, last_offset bigint, runs bytea) RETURNS TABLE (nth int,
 * msg_offset bigint, attempt int): the messages that a row of lease stands for; nth is from 0.
 */
PG_FUNCTION_INFO_V1(iotmq_runs_messages);
Datum
iotmq_runs_messages(PG_FUNCTION_ARGS)
{
	int64		first = PG_GETARG_INT64(0);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int64	   *offsets;
	int32	   *attempts;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	n = iotmq_runs_unpack(PG_ARGISNULL(2) ? NULL : PG_GETARG_BYTEA_P(2), first, PG_GETARG_INT64(1),
						  &offsets, &attempts);
	for (int i = 0; i < n; i++)
	{
		Datum		values[] = {
			Int32GetDatum(i),
			Int64GetDatum(offsets != NULL ? offsets[i] : first + i),
			Int32GetDatum(attempts != NULL ? attempts[i] : 1)
		};
		bool		isnull[lengthof(values)] = {false};

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/* How many of n messages, from the first on, are one run. */
static int
run_length(const int64 *offsets, const int32 *attempts, int n)
{
	int			length = 1;

	while (length < n && offsets[length] == offsets[0] + length && attempts[length] == attempts[0])
		length++;
	return length;
}

static uint8 *
write_number(uint8 *to, uint64 number)
{
	for (; number >= 0x80; number >>= 7)
		*to++ = 0x80 | (number & 0x7f);
	*to++ = number;
	return to;
}

static RunReader
begin(const bytea *runs, int64 first, int64 last)
{
	RunReader	reader = {.position = first, .last = last};

	if (runs != NULL)
	{
		reader.next = (const uint8 *) VARDATA(runs);
		reader.end = reader.next + VARSIZE(runs) - VARHDRSZ;
	}
	return reader;
}

/* Reads the next run; false: no more. */
static bool
next_run(RunReader *reader)
{
	uint64		room;
	uint64		gap;
	uint64		length;
	uint64		attempt;

	if (reader->next >= reader->end)
	{
		if (reader->messages == 0)
			malformed();
		return false;
	}
	gap = read_number(reader);
	length = read_number(reader);
	attempt = read_number(reader);
	/* offsets that are left; none behind the last run */
	room = reader->position <= reader->last ? reader->last - reader->position + 1 : 0;
	if (length < 1 || length > (uint64) (BATCH_MESSAGES - reader->messages) ||
		gap > room || length > room - gap || attempt < 1 || attempt > PG_INT32_MAX)
		malformed();
	reader->first = reader->position + gap;
	reader->length = length;
	reader->attempt = attempt;
	reader->position = reader->first + length;
	reader->messages += length;
	reader->runs++;
	return true;
}

static uint64
read_number(RunReader *reader)
{
	uint64		number = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		uint8		byte;

		if (reader->next >= reader->end)
			break;
		byte = *reader->next++;
		number |= (uint64) (byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
			return number;
	}
	malformed();
}

static void
malformed(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("a lease has malformed runs")));
}
