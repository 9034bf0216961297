/*
 * settle.c - ack, nack, reject, settle, extend: what a consumer says of its lease.
 *
 * All lock the lease's row; a lease that is not there ended, was taken over, or was
 * voided: 55000, and nothing changes. An expired lease that nobody took over yet is
 * there. They work at every isolation level. An ack touches nothing but the lease. A nack,
 * a reject and a shortening extend tell the cursor that something will be due.
 *
 * ack, nack and reject are settle with one list, or with none and a rest.
 *
 * In an orderly group a nack takes the later messages of its device back with it, as they
 * are: those that are open and that the same call does not name. Who names one knows what
 * he did with it; the rest of a lease is what nobody has looked at, such as what a consumer
 * passes over after the failure of a device. So rest 'ack' and 'reject' are not for what goes
 * back; nor is it for the consumer, who can't know that it was the last attempt, to go on
 * behind a message that becomes a dead letter: what it has passed over comes at once. A nack
 * of the whole lease, as rest 'nack', is a failed attempt of each message.
 *
 * Locks: the use of the cursor, which a seek or a drop excludes (cursor_lock.c): it
 * begins when no lease is being settled, and until it has ended none is. Then the lease,
 * then the cursor's row where it is needed, then rows of dead letters: a transaction may
 * ack some messages of a lease and nack others. A claim comes from the cursor to expired
 * leases, and skips those that are locked.
 */
#include "group/group.h"

#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MAX_DELAY (365 * USECS_PER_DAY)
#define ALL INT64CONST(-1)		/* the one element of msg_offsets that are left out */

typedef enum Verdict
{
	VERDICT_NONE,				/* stays open */
	VERDICT_ACK,
	VERDICT_NACK,
	VERDICT_REJECT,
	VERDICTS
} Verdict;

typedef struct Named			/* messages of one verdict */
{
	int			n;
	int64	   *offsets;
} Named;

typedef struct Settlement		/* what a call asks for */
{
	const char *call;			/* it, for a lease, as a hint shows it; NULL: it can't be in a query */
	Named		named[VERDICTS];
	bool		names_once;		/* a message that is named twice is an error */
	Verdict		rest;			/* of those not named */
	int64		delay;			/* us, before what is nacked comes again; -1: the group's backoff */
	int			nreasons;		/* 0: none; 1: of all; else of each nack, then of each reject */
	text	  **reasons;		/* NULL: none */
} Settlement;

typedef struct Settling			/* a lease that is being settled */
{
	const Settlement *settlement;
	const Cursor *cursor;
	Lease	   *lease;
	uint8	   *verdicts;		/* on each message, as named */
	text	  **reasons;		/* likewise; NULL: not one by one */
	int			from;			/* the first message that this call may settle */
	int			to;				/* behind the last one */
	bool		is_held;		/* the cursor, for what follows */
	HeldCursor	held;
	DeviceSet  *waiting;		/* devices with a message that comes again */
	DeviceSet  *given_up;		/* devices with one that was nacked and is a dead letter */
	TimestampTz now;
} Settling;

/* The lease that this backend ended last, and in which transaction; an invalid one: none yet. */
static int64 ended_lease;
static FullTransactionId ended_in;

static int	settle_alike(FunctionCallInfo fcinfo, Verdict verdict, Settlement *settlement);
static Named read_offsets(FunctionCallInfo fcinfo, int argno, const char *argname);
static int64 read_delay(FunctionCallInfo fcinfo, int argno);
static Verdict read_rest(FunctionCallInfo fcinfo, int argno);
static void read_reasons(FunctionCallInfo fcinfo, int argno, Settlement *settlement);
static int	settle(int64 lease_id, const Settlement *settlement);
static bool rejects(const Settlement *settlement);
static void find_cursor(int64 lease_id, const char *call, Cursor *cursor);
static void lock_lease(const Cursor *cursor, int64 lease_id, const char *call, Lease *lease,
					   ItemPointer tid);
static void hold_for_lease(const Cursor *cursor, const Lease *lease, HeldCursor *held);
pg_noreturn static void lease_is_gone(int64 lease_id, const char *call);
static int	settle_messages(Settling *s);
static bool is_plain_ack(const Settling *s);
static void name_messages(Settling *s);
static Verdict verdict_on(const Settling *s, int i);
static bool needs_cursor(const Settling *s);
static bool goes_back(Settling *s, int i);
static void settle_message(Settling *s, int i, Verdict verdict);
static int64 backoff(const ConsumerGroup *group, int attempt);

/*
 * ack(lease_id bigint, msg_offsets bigint[]) RETURNS int: these messages ('{-1}', the
 * default: all still open) are done; how many of them were settled by this call.
 * Errors: 22004 lease_id, msg_offsets or an offset NULL; 22023 an offset that the lease
 * doesn't hold; 55000 the lease is gone; 42501 not allowed; 25006 on a standby.
 */
PG_FUNCTION_INFO_V1(iotmq_ack);
Datum
iotmq_ack(PG_FUNCTION_ARGS)
{
	Settlement	settlement = {.call = "iotmq.ack(lease_id)"};

	iotmq_call_require_primary("ack()");
	PG_RETURN_INT32(settle_alike(fcinfo, VERDICT_ACK, &settlement));
}

/*
 * nack(lease_id bigint, msg_offsets bigint[], delay interval, reason text)
 * RETURNS int: these messages (as of ack) failed; each comes again after delay (NULL: the
 * group's backoff for that attempt) or, after the last retry, becomes a dead letter with
 * that reason. Errors as of ack; 22023 delay below 0 or above 365 days. The reason is cut
 * at 1,024 bytes, here and below.
 */
PG_FUNCTION_INFO_V1(iotmq_nack);
Datum
iotmq_nack(PG_FUNCTION_ARGS)
{
	text	   *reason = iotmq_fail_reason(fcinfo, 3);
	Settlement	settlement = {.call = "iotmq.nack(lease_id)", .nreasons = 1, .reasons = &reason};

	iotmq_call_require_primary("nack()");
	settlement.delay = read_delay(fcinfo, 2);
	PG_RETURN_INT32(settle_alike(fcinfo, VERDICT_NACK, &settlement));
}

/*
 * reject(lease_id bigint, msg_offsets bigint[], reason text) RETURNS int: these
 * messages (as of ack) become dead letters now. Errors as of ack.
 */
PG_FUNCTION_INFO_V1(iotmq_reject);
Datum
iotmq_reject(PG_FUNCTION_ARGS)
{
	text	   *reason = iotmq_fail_reason(fcinfo, 2);
	Settlement	settlement = {.call = "iotmq.reject(lease_id)", .nreasons = 1, .reasons = &reason};

	iotmq_call_require_primary("reject()");
	PG_RETURN_INT32(settle_alike(fcinfo, VERDICT_REJECT, &settlement));
}

/*
 * settle(lease_id bigint, acks bigint[], nacks bigint[], rejects bigint[], rest text,
 * delay interval, reasons text[]) RETURNS int: these are done, failed, and dead letters.
 * rest: what becomes of those not named, NULL: they stay open. reasons NULL: none; one: of
 * all; else of each nack, then of each reject, as they are named. Errors as of nack; 22004
 * a list NULL; 22023 an offset named twice, an unknown rest, another number of reasons.
 */
PG_FUNCTION_INFO_V1(iotmq_settle);
Datum
iotmq_settle(PG_FUNCTION_ARGS)
{
	Settlement	settlement = {
		.call = "iotmq.settle(lease_id, rest => 'ack')", .names_once = true
	};

	iotmq_call_require_primary("settle()");
	iotmq_call_require(fcinfo, 0, "lease_id");
	settlement.named[VERDICT_ACK] = read_offsets(fcinfo, 1, "acks");
	settlement.named[VERDICT_NACK] = read_offsets(fcinfo, 2, "nacks");
	settlement.named[VERDICT_REJECT] = read_offsets(fcinfo, 3, "rejects");
	settlement.rest = read_rest(fcinfo, 4);
	settlement.delay = read_delay(fcinfo, 5);
	read_reasons(fcinfo, 6, &settlement);
	PG_RETURN_INT32(settle(PG_GETARG_INT64(0), &settlement));
}

/*
 * extend(lease_id bigint, invisible_for interval) RETURNS timestamptz: the new
 * deadline, that long from now. Errors as of ack; 22004 or 22023 for a bad
 * invisible_for.
 */
PG_FUNCTION_INFO_V1(iotmq_extend);
Datum
iotmq_extend(PG_FUNCTION_ARGS)
{
	const char *call = "iotmq.extend(lease_id, '1 min')";
	Cursor		cursor;
	Lease		lease;
	ItemPointerData tid;
	HeldCursor	held;
	TimestampTz deadline;
	int64		invisible_for;

	iotmq_call_require_primary("extend()");
	iotmq_call_require(fcinfo, 0, "lease_id");
	iotmq_call_require(fcinfo, 1, "invisible_for");
	invisible_for = iotmq_call_invisible_for(fcinfo, 1);
	iotmq_commit_light_begin();
	find_cursor(PG_GETARG_INT64(0), call, &cursor);
	lock_lease(&cursor, PG_GETARG_INT64(0), call, &lease, &tid);
	deadline = GetCurrentTimestamp() + invisible_for;
	if (deadline < lease.deadline)
	{
		hold_for_lease(&cursor, &lease, &held);
		iotmq_cursor_expect_expiry(&held, deadline);
		iotmq_cursor_release(&held);
	}
	lease.deadline = deadline;
	iotmq_lease_update(&lease, &tid);
	if (!cursor.group->durable_acks)
		iotmq_commit_light_end();
	PG_RETURN_TIMESTAMPTZ(deadline);
}

/*
 * Acknowledges all that is still open of a lease, which has to be of that group. Errors as
 * of ack; 22023 it is of another one.
 */
void
iotmq_settle_ack(int64 lease_id, int32 group_id)
{
	Settlement	settlement = {.rest = VERDICT_ACK};
	Cursor		cursor;

	find_cursor(lease_id, NULL, &cursor);
	if (cursor.group->group_id != group_id)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lease " INT64_FORMAT " is of another consumer group", lease_id),
				 errdetail("It is of consumer group \"%s\" of topic \"%s\".",
						   cursor.group->name, cursor.topic->name)));
	(void) settle(lease_id, &settlement);
}

/* Settles the messages that argument 1 names, or all, with one verdict. */
static int
settle_alike(FunctionCallInfo fcinfo, Verdict verdict, Settlement *settlement)
{
	Named	   *named = &settlement->named[verdict];

	iotmq_call_require(fcinfo, 0, "lease_id");
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("msg_offsets must not be NULL"),
				 errhint("Leave it out for all that is still open in the lease; '{}' is none of it.")));
	*named = read_offsets(fcinfo, 1, "msg_offsets");
	if (named->n == 1 && named->offsets[0] == ALL)
	{
		named->n = 0;
		settlement->rest = verdict;
	}
	return settle(PG_GETARG_INT64(0), settlement);
}

static Named
read_offsets(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	Named		named;
	Datum	   *elements;
	bool	   *nulls;

	iotmq_call_require(fcinfo, argno, argname);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(argno), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, &nulls, &named.n);
	named.offsets = palloc(sizeof(int64) * Max(named.n, 1));
	for (int i = 0; i < named.n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not contain NULL", argname)));
		named.offsets[i] = DatumGetInt64(elements[i]);
	}
	return named;
}

/* A delay in us; -1: none is given. */
static int64
read_delay(FunctionCallInfo fcinfo, int argno)
{
	int64		delay;

	if (PG_ARGISNULL(argno))
		return -1;
	delay = iotmq_interval_us(PG_GETARG_INTERVAL_P(argno));
	if (delay < 0 || delay > MAX_DELAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("delay must be between 0 and 365 days")));
	return delay;
}

static Verdict
read_rest(FunctionCallInfo fcinfo, int argno)
{
	static const char *const words[VERDICTS] = {
		[VERDICT_ACK] = "ack", [VERDICT_NACK] = "nack", [VERDICT_REJECT] = "reject"
	};
	char	   *rest;

	if (PG_ARGISNULL(argno))
		return VERDICT_NONE;
	rest = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	for (int verdict = VERDICT_ACK; verdict < VERDICTS; verdict++)
		if (strcmp(rest, words[verdict]) == 0)
			return verdict;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("rest must be 'ack', 'nack' or 'reject', not \"%s\"", rest),
			 errhint("Leave it out, and what is not named stays open.")));
}

static void
read_reasons(FunctionCallInfo fcinfo, int argno, Settlement *settlement)
{
	int			failed = settlement->named[VERDICT_NACK].n + settlement->named[VERDICT_REJECT].n;
	Datum	   *elements;
	bool	   *nulls;

	if (PG_ARGISNULL(argno))
		return;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(argno), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &settlement->nreasons);
	if (settlement->nreasons != 1 && settlement->nreasons != failed)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reasons must have one element for all, or one for each nack and then each reject"),
				 errdetail("It has %d elements for %d nacks and %d rejects.", settlement->nreasons,
						   settlement->named[VERDICT_NACK].n, settlement->named[VERDICT_REJECT].n)));
	settlement->reasons = palloc0(sizeof(text *) * Max(settlement->nreasons, 1));
	for (int i = 0; i < settlement->nreasons; i++)
		if (!nulls[i])
			settlement->reasons[i] = iotmq_fail_cut_reason(elements[i]);
}

/* Settles messages of a lease, if the current user may; returns how many of them were open. */
static int
settle(int64 lease_id, const Settlement *settlement)
{
	Cursor		cursor;
	Lease		lease;
	ItemPointerData tid;
	Settling	settling = {.settlement = settlement, .cursor = &cursor, .lease = &lease};
	int			open;
	int			n;

	iotmq_commit_light_begin();
	find_cursor(lease_id, settlement->call, &cursor);
	lock_lease(&cursor, lease_id, settlement->call, &lease, &tid);
	open = lease.messages;
	n = settle_messages(&settling);
	if (lease.messages < open)
		iotmq_lease_store(&lease, &tid);
	if (lease.messages == 0)
	{
		ended_lease = lease_id;
		ended_in = GetTopFullTransactionId();
	}
	if (!cursor.group->durable_acks && !rejects(settlement))
		iotmq_commit_light_end();
	return n;
}

/* Does an administrator have to see the dead letters of it, whatever happens? */
static bool
rejects(const Settlement *settlement)
{
	return settlement->named[VERDICT_REJECT].n > 0 || settlement->rest == VERDICT_REJECT;
}

/* The cursor of a lease that the current user may settle. */
static void
find_cursor(int64 lease_id, const char *call, Cursor *cursor)
{
	if (lease_id <= 0 || !iotmq_catalog_cursor_by_id(iotmq_lease_cursor(lease_id), cursor))
		lease_is_gone(lease_id, call);
	if (!iotmq_access_may_consume(cursor->group))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for lease " INT64_FORMAT, lease_id),
				 errdetail("It is of a consumer group that role \"%s\" may not consume as.",
						   GetUserNameFromId(GetUserId(), false))));
}

static void
lock_lease(const Cursor *cursor, int64 lease_id, const char *call, Lease *lease, ItemPointer tid)
{
	(void) iotmq_cursor_lock_use(cursor->cursor_id, true);
	iotmq_state_require_open(cursor->zone);
	if (iotmq_lease_lock(lease_id, true, lease, tid) != ROW_OK)
		lease_is_gone(lease_id, call);
}

/* Holds the cursor of a lease that is locked already. */
static void
hold_for_lease(const Cursor *cursor, const Lease *lease, HeldCursor *held)
{
	if (iotmq_cursor_hold(cursor, true, held) != ROW_OK)
		lease_is_gone(lease->lease_id, NULL);
}

static void
lease_is_gone(int64 lease_id, const char *call)
{
	if (call != NULL && lease_id == ended_lease && FullTransactionIdIsValid(ended_in) &&
		FullTransactionIdEquals(ended_in, GetTopFullTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lease " INT64_FORMAT " does not exist", lease_id),
				 errdetail("This transaction has settled the last of its messages already."),
				 errhint("A query calls a function for each row. Once for each lease: SELECT %s FROM (SELECT DISTINCT lease_id FROM iotmq.consume(...)) AS batch;",
						 call)));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("lease " INT64_FORMAT " does not exist", lease_id),
			 errdetail("It ended, expired and was taken over, was voided by a seek, or never was."),
			 errhint("Roll back what was done for its messages; those not settled come again with consume().")));
}

/* Settles what is asked for; returns how many, without those that go back with another one. */
static int
settle_messages(Settling *s)
{
	Lease	   *lease = s->lease;
	int			n = 0;

	if (is_plain_ack(s))
	{
		n = lease->messages;
		lease->messages = 0;
		return n;
	}
	name_messages(s);
	if (needs_cursor(s))
	{
		hold_for_lease(s->cursor, lease, &s->held);
		s->is_held = true;
		s->waiting = iotmq_device_set();
		s->given_up = iotmq_device_set();
		s->now = GetCurrentTimestamp();
		iotmq_lease_read_devices(lease);
		s->to = lease->n;		/* what goes back */
	}
	for (int i = s->from; i < s->to; i++)
	{
		Verdict		verdict = verdict_on(s, i);

		CHECK_FOR_INTERRUPTS();
		if (iotmq_lease_is_settled(lease, i))
			continue;
		if (!goes_back(s, i))
		{
			if (verdict == VERDICT_NONE)
				continue;
			settle_message(s, i, verdict);
			n++;
		}
		iotmq_lease_settle(lease, i);
	}
	if (s->is_held)
		iotmq_cursor_release(&s->held);
	return n;
}

/* Is all that is open done, and nothing to be done for it? So it mostly is. */
static bool
is_plain_ack(const Settling *s)
{
	const Settlement *settlement = s->settlement;

	return settlement->rest == VERDICT_ACK && !s->lease->redriven &&
		settlement->named[VERDICT_ACK].n == 0 && settlement->named[VERDICT_NACK].n == 0 &&
		settlement->named[VERDICT_REJECT].n == 0;
}

/* Finds the messages that are named; raises 22023 for one that the lease does not hold. */
static void
name_messages(Settling *s)
{
	const Settlement *settlement = s->settlement;
	text	  **reason = settlement->reasons;

	s->verdicts = palloc0(s->lease->n);
	s->from = settlement->rest == VERDICT_NONE ? s->lease->n : 0;
	s->to = settlement->rest == VERDICT_NONE ? 0 : s->lease->n;
	if (settlement->nreasons > 1)
		s->reasons = palloc0(sizeof(text *) * s->lease->n);
	for (int verdict = VERDICT_ACK; verdict < VERDICTS; verdict++)
	{
		const Named *named = &settlement->named[verdict];

		for (int e = 0; e < named->n; e++)
		{
			int			i = iotmq_lease_find(s->lease, named->offsets[e]);

			if (i < 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("lease " INT64_FORMAT " does not hold offset " INT64_FORMAT,
								s->lease->lease_id, named->offsets[e])));
			if (settlement->names_once && s->verdicts[i] != VERDICT_NONE)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("offset " INT64_FORMAT " is named twice", named->offsets[e])));
			s->verdicts[i] = verdict;
			s->from = Min(s->from, i);
			s->to = Max(s->to, i + 1);
			if (s->reasons != NULL && verdict != VERDICT_ACK)
				s->reasons[i] = *reason++;
		}
	}
}

static Verdict
verdict_on(const Settling *s, int i)
{
	return s->verdicts[i] != VERDICT_NONE ? s->verdicts[i] : s->settlement->rest;
}

/* Does some message fail? */
static bool
needs_cursor(const Settling *s)
{
	for (int i = s->from; i < s->to; i++)
		if (verdict_on(s, i) > VERDICT_ACK && !iotmq_lease_is_settled(s->lease, i))
			return true;
	return false;
}

/* Puts message i back, as it is, if it comes after one of its device that was nacked. */
static bool
goes_back(Settling *s, int i)
{
	text	   *device;
	Failure		back;

	if (!s->is_held || s->verdicts[i] != VERDICT_NONE || s->settlement->rest == VERDICT_NACK ||
		s->lease->devices == NULL)
		return false;
	device = s->lease->devices[i];
	if (!iotmq_device_has(s->waiting, device) && !iotmq_device_has(s->given_up, device))
		return false;
	back = iotmq_fail_of(&s->held, s->lease, i, s->now);
	if (iotmq_device_has(s->waiting, device))
		back.place = PLACE_BEHIND;
	iotmq_device_add(s->waiting, device);
	iotmq_fail_wait(&s->held, &back, back.attempt);
	return true;
}

/* Message i is done, waits for its retry, or becomes a dead letter. */
static void
settle_message(Settling *s, int i, Verdict verdict)
{
	const Settlement *settlement = s->settlement;
	Failure		failure;

	if (verdict == VERDICT_ACK)
	{
		/* what was redriven and is done now needs no copy of its content any more */
		if (s->lease->redriven)
			iotmq_deadletter_done(s->cursor->cursor_id, iotmq_lease_offset(s->lease, i));
		return;
	}
	failure = iotmq_fail_of(&s->held, s->lease, i, s->now);
	failure.reason = s->reasons != NULL ? s->reasons[i] :
		settlement->nreasons == 1 ? settlement->reasons[0] : NULL;
	if (verdict == VERDICT_REJECT)
	{
		iotmq_fail_bury(&s->held, &failure);
		return;
	}
	if (failure.device != NULL && iotmq_device_has(s->waiting, failure.device))
		failure.place = PLACE_BEHIND;
	failure.not_before += settlement->delay >= 0 ? settlement->delay :
		backoff(s->cursor->group, failure.attempt);
	iotmq_device_add(iotmq_fail_attempt(&s->held, &failure) ? s->waiting : s->given_up,
					 failure.device);
}

/* How long to wait after that attempt failed, in us. */
static int64
backoff(const ConsumerGroup *group, int attempt)
{
	return group->backoff[Min(attempt, group->nbackoff) - 1];
}
