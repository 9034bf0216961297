/*
 * redrive.c - what becomes of dead letters: they are delivered again, or deleted.
 *
 * Of both there may be many, and meanwhile the group goes on: the dead letters are marked
 * or deleted one by one, and only then the cursors are held, to tell them. How a redriven
 * message is delivered then: place.c.
 *
 * Locks: the use of the group's cursors (cursor_lock.c): nobody moves it meanwhile. Each
 * cursor for a moment, to wait for those who give messages up just now; then rows of dead
 * letters, in the order of their ids, so that each goes one way; then the
 * cursors, all at once, to the end of the transaction. The same at every isolation level.
 */
#include "group/group.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "core/stop.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#define TRIES 100

typedef struct Moved			/* dead letters of one cursor, by one call */
{
	int32		cursor_id;
	int64		messages;
	int64		lowest;			/* offset */
	bool		is_elsewhere;	/* its zone is not open: what it has is not ours to change */
} Moved;

typedef struct Letters			/* of a group, that a call is about */
{
	char	   *topic;
	char	   *group;
	int			ncursors;
	Moved	   *moved;			/* of each cursor, in order */
	int			n;
	int64	   *ids;			/* in order */
} Letters;

static Letters begin(FunctionCallInfo fcinfo);
static void await_holders(const Letters *letters);
static void await_holder(const Moved *moved);
static void find_elsewhere(const Letters *letters);
static void require_here(const Moved *moved);
static void hold_cursors(const Letters *letters);
static int	hold(const Moved *moved, int n, bool wait, bool keeps);
static void choose(FunctionCallInfo fcinfo, Letters *letters);
static void add_id(Letters *letters, int *room, int64 id);
static Moved *moved_of(Letters *letters, int32 cursor_id);
static void note(Letters *letters, const DeadLetter *letter);
static int64 settle_cursors(const Letters *letters, bool redriven);
static int	compare_moved(const void *a, const void *b);
static int	compare_ids(const void *a, const void *b);

/*
 * redrive(topic text, consumer_group text, ids bigint[], max_messages bigint, dry_run
 * boolean) RETURNS bigint: dead letters of the group are delivered to it again, the oldest
 * first, from attempt 1 on; how many (dry_run: would be). ids NULL: all; ids that are no
 * dead letters of the group don't count. max_messages NULL: no limit.
 * Errors: 22004 topic, consumer_group or dry_run NULL; 22023 max_messages below 0; 42704
 * unknown topic or group; 55000 one that ids name is of a zone that is not open; 42501 not
 * allowed; 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_redrive);
Datum
iotmq_redrive(PG_FUNCTION_ARGS)
{
	int64		most = PG_ARGISNULL(3) ? PG_INT64_MAX : PG_GETARG_INT64(3);
	int64		moved = 0;
	MemoryContext context;
	MemoryContext caller;
	Letters		letters;

	iotmq_call_require_primary("redrive()");
	letters = begin(fcinfo);
	iotmq_call_require(fcinfo, 4, "dry_run");
	if (most < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_messages must not be negative")));
	if (!PG_GETARG_BOOL(4))
		await_holders(&letters);
	find_elsewhere(&letters);
	choose(fcinfo, &letters);
	if (PG_GETARG_BOOL(4))
		PG_RETURN_INT64(Min(letters.n, most));

	context = AllocSetContextCreate(CurrentMemoryContext, "iotmq letter", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < letters.n && moved < most; i++)
	{
		DeadLetter	letter;

		CHECK_FOR_INTERRUPTS();
		caller = MemoryContextSwitchTo(context);
		if (iotmq_deadletter_find(letters.ids[i], &letter) &&
			iotmq_deadletter_redrive(letters.ids[i]))
		{
			note(&letters, &letter);
			moved++;
		}
		MemoryContextSwitchTo(caller);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
	PG_RETURN_INT64(moved - settle_cursors(&letters, true));
}

/*
 * purge_dead_letters(topic text, consumer_group text, ids bigint[], older_than interval)
 * RETURNS bigint: deletes dead letters of the group for good; how many. ids as of redrive;
 * older_than NULL: of any age. Errors as of redrive; 22023 older_than below 0.
 */
PG_FUNCTION_INFO_V1(iotmq_purge_dead_letters);
Datum
iotmq_purge_dead_letters(PG_FUNCTION_ARGS)
{
	TimestampTz older_than = DT_NOEND;
	int64		purged = 0;
	MemoryContext context;
	MemoryContext caller;
	Letters		letters;

	iotmq_call_require_primary("purge_dead_letters()");
	letters = begin(fcinfo);
	if (!PG_ARGISNULL(3))
	{
		if (iotmq_interval_us(PG_GETARG_INTERVAL_P(3)) < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("older_than must not be negative")));
		older_than = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
															 TimestampTzGetDatum(GetCurrentTimestamp()),
															 PG_GETARG_DATUM(3)));
	}
	await_holders(&letters);
	find_elsewhere(&letters);
	choose(fcinfo, &letters);

	context = AllocSetContextCreate(CurrentMemoryContext, "iotmq letter", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < letters.n; i++)
	{
		DeadLetter	letter;

		CHECK_FOR_INTERRUPTS();
		caller = MemoryContextSwitchTo(context);
		if (iotmq_deadletter_find(letters.ids[i], &letter) && letter.dead_at < older_than &&
			iotmq_deadletter_purge(letters.ids[i], older_than))
		{
			note(&letters, &letter);
			purged++;
		}
		MemoryContextSwitchTo(caller);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
	(void) settle_cursors(&letters, false);
	PG_RETURN_INT64(purged);
}

/* The group that arguments 0 and 1 name, if the current user may consume as it. */
static Letters
begin(FunctionCallInfo fcinfo)
{
	Letters		letters = {
		.topic = iotmq_call_name(fcinfo, 0, "topic"),
		.group = iotmq_call_name(fcinfo, 1, "consumer_group")
	};
	Topic	   *topic = iotmq_catalog_topic(letters.topic);
	ConsumerGroup *group = iotmq_catalog_group(topic, letters.group);

	iotmq_access_require_consume(topic, group);
	letters.moved = palloc0(sizeof(Moved) * Max(topic->nzones, 1));
	for (int z = 0; z < topic->nzones; z++)
	{
		int32		cursor_id = iotmq_catalog_cursor(group, &topic->zones[z]);

		if (cursor_id != 0)
			letters.moved[letters.ncursors++] = (Moved) {
				.cursor_id = cursor_id, .lowest = PG_INT64_MAX
			};
	}
	qsort(letters.moved, letters.ncursors, sizeof(Moved), compare_moved);
	return letters;
}

/*
 * Keeps the group from being moved, and waits for those who hold a cursor of it now, if that
 * has ever given something up.
 */
static void
await_holders(const Letters *letters)
{
	for (int c = 0; c < letters->ncursors; c++)
		(void) iotmq_cursor_lock_use(letters->moved[c].cursor_id, true);
	for (int c = 0; c < letters->ncursors; c++)
	{
		CursorState state;

		if (iotmq_cursor_peek(letters->moved[c].cursor_id, &state) && state.dead_total > 0)
			await_holder(&letters->moved[c]);
	}
}

/* Which of the cursors are of zones that are not open? */
static void
find_elsewhere(const Letters *letters)
{
	for (int c = 0; c < letters->ncursors; c++)
	{
		Cursor		cursor;

		letters->moved[c].is_elsewhere =
			iotmq_catalog_cursor_by_id(letters->moved[c].cursor_id, &cursor) &&
			!iotmq_state_is_open(cursor.zone);
	}
}

/* Raises 55000 if it is one of these. */
static void
require_here(const Moved *moved)
{
	Cursor		cursor;

	if (moved->is_elsewhere && iotmq_catalog_cursor_by_id(moved->cursor_id, &cursor))
		iotmq_state_require_open(cursor.zone);
}

/* Waits until nobody else holds the cursor. */
static void
await_holder(const Moved *moved)
{
	(void) hold(moved, 1, true, false);
}

/*
 * Holds all cursors that have something to be told. It waits for one while it has none of
 * the others: a transaction may settle in several zones, in any order. After so many tries
 * PostgreSQL is to decide.
 */
static void
hold_cursors(const Letters *letters)
{
	for (int i = 0; i < TRIES; i++)
	{
		int			busy = hold(letters->moved, letters->ncursors, false, true);

		if (busy < 0)
			return;
		await_holder(&letters->moved[busy]);
	}
}

/*
 * Holds n cursors in a subtransaction, those without messages left out if they are to be
 * kept. Which one somebody else has; -1: none. Unless all were had, and are to be kept, the
 * subtransaction is rolled back: that leaves no lock.
 */
static int
hold(const Moved *moved, int n, bool wait, bool keeps)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile int busy = -1;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		for (int i = 0; i < n && busy < 0; i++)
		{
			HeldCursor	held;

			if ((!keeps || moved[i].messages > 0) &&
				iotmq_cursor_hold(&(Cursor) {.cursor_id = moved[i].cursor_id}, wait, &held) == ROW_LOCKED)
				busy = i;
		}
	}
	PG_CATCH();
	{
		/* whoever catches the error rolls back his subtransaction, not ours */
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		ReThrowError(error);
	}
	PG_END_TRY();
	if (keeps && busy < 0)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return busy;
}

/* The dead letters that argument 2 names; NULL: all of the group in zones that are open. */
static void
choose(FunctionCallInfo fcinfo, Letters *letters)
{
	DeadLetter	letter;
	int			room = 0;

	if (PG_ARGISNULL(2))
		for (int c = 0; c < letters->ncursors; c++)
		{
			RowScan		scan;

			if (letters->moved[c].is_elsewhere)
				continue;
			scan = iotmq_deadletter_scan(letters->moved[c].cursor_id);
			while (iotmq_deadletter_next(&scan, &letter))
			{
				pfree(letter.device);
				add_id(letters, &room, letter.id);
			}
			iotmq_row_scan_end(&scan);
		}
	else
	{
		Datum	   *elements;
		bool	   *nulls;
		int			n;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
						  TYPALIGN_DOUBLE, &elements, &nulls, &n);
		for (int i = 0; i < n; i++)
			if (!nulls[i] && iotmq_deadletter_find(DatumGetInt64(elements[i]), &letter) &&
				!letter.redriven && moved_of(letters, letter.cursor_id) != NULL)
			{
				require_here(moved_of(letters, letter.cursor_id));
				add_id(letters, &room, letter.id);
			}
	}
	if (letters->n > 1)
	{
		qsort(letters->ids, letters->n, sizeof(int64), compare_ids);
		letters->n = qunique(letters->ids, letters->n, sizeof(int64), compare_ids);
	}
}

static void
add_id(Letters *letters, int *room, int64 id)
{
	if (letters->n == *room)
	{
		*room = Max(1024, *room * 2);
		letters->ids = letters->n == 0 ? palloc(sizeof(int64) * *room) :
			repalloc_huge(letters->ids, sizeof(int64) * *room);
	}
	letters->ids[letters->n++] = id;
}

/* NULL: the cursor is not of the group. */
static Moved *
moved_of(Letters *letters, int32 cursor_id)
{
	Moved		key = {.cursor_id = cursor_id};

	return bsearch(&key, letters->moved, letters->ncursors, sizeof(Moved), compare_moved);
}

static void
note(Letters *letters, const DeadLetter *letter)
{
	Moved	   *moved = moved_of(letters, letter->cursor_id);

	moved->messages++;
	moved->lowest = Min(moved->lowest, letter->msg_offset);
}

/*
 * Tells the cursors what they have less of, and what is on its way; returns how many of
 * the redriven could not go, since somebody is settling them.
 */
static int64
settle_cursors(const Letters *letters, bool redriven)
{
	int64		stayed = 0;

	STOP("redrive_marked");
	hold_cursors(letters);
	for (int c = 0; c < letters->ncursors; c++)
	{
		const Moved *moved = &letters->moved[c];
		Cursor		cursor;
		HeldCursor	held;

		if (moved->messages == 0)
			continue;
		if (!iotmq_catalog_cursor_by_id(moved->cursor_id, &cursor) ||
			iotmq_cursor_hold(&cursor, true, &held) != ROW_OK)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("consumer group \"%s\" of topic \"%s\" was dropped",
							letters->group, letters->topic)));
		held.state.dead_letters -= moved->messages;
		if (redriven)
		{
			int64		left = held.state.dead_letters;

			held.state.next_redriven = Min(held.state.next_redriven, moved->lowest);
			iotmq_place_redriven(&held, NULL);
			stayed += held.state.dead_letters - left;
		}
		iotmq_cursor_release(&held);
	}
	return stayed;
}

static int
compare_moved(const void *a, const void *b)
{
	int32		x = ((const Moved *) a)->cursor_id;
	int32		y = ((const Moved *) b)->cursor_id;

	return x < y ? -1 : x > y;
}

static int
compare_ids(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}
