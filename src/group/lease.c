/*
 * lease.c - batches in flight: one row of iotmq_internal.lease each.
 *
 * A lease id is positive and has, from the top, 20 bits of the cursor's id (6 of the node
 * and 14 of a number on that node, see sql/group/cursor.sql), then 43 bits of a time in
 * steps of 100 us since 2026, or of the cursor's last one + 1, if that is higher. So it
 * leads to group and zone without a search, grows per cursor, and doesn't come again after
 * a rollback or a crash that forgot the last ones.
 *
 * It never leaves the cursor's range, however the clock runs: a time in the last eighth of
 * it (from May 2050 on) doesn't count, so that a clock that was wrong for once leaves ids
 * for 10^12 leases more.
 *
 * Whoever settles, extends or takes over a lease locks its row to the end of
 * the transaction; a deleted row means: ended, taken over or voided.
 *
 * What a lease was made with (runs, devices) is written once. An update passes it on as it
 * is stored: so where it is large, and lies in the TOAST table, a new version of the row
 * points to it. What changes stands together in the row, since of a new version in the same
 * page WAL has what lies between the first and the last byte that differ.
 */
#include "group/group.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type_d.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

enum
{
	Anum_lease_id = 1, Anum_first_offset, Anum_last_offset, Anum_leased_at, Anum_deadline,
	Anum_messages, Anum_redriven, Anum_settled, Anum_batch_limit, Anum_consumer, Anum_runs,
	Anum_devices, Natts_lease = Anum_devices
};

/* 2026-01-01 00:00 UTC, in PostgreSQL's microseconds since 2000. */
#define CURSOR_BITS 20
#define TIME_BITS 43
#define LEASE_EPOCH (INT64CONST(9497) * USECS_PER_DAY)
#define LEASE_STEP 100			/* us */
#define LEASE_TIMES (INT64CONST(7) << (TIME_BITS - 3))	/* steps that count */

static int64 first_id(int32 cursor_id);
static int64 last_id(int32 cursor_id);
pg_noreturn static void none_left(int32 cursor_id);
static void delete_lease(ItemPointer tid);
static void form_row(const Lease *lease, Datum *values, bool *isnull);
static void read_row(TupleTableSlot *slot, Lease *lease);
static struct varlena *list_of_devices(const Lease *lease);
static struct varlena *stored(Datum value);

/* The cursor that a lease is of. */
int32
iotmq_lease_cursor(int64 lease_id)
{
	return (int32) (lease_id >> TIME_BITS);
}

/* The id of the cursor's next lease; raises 54000 when all have been given out. */
int64
iotmq_lease_next_id(const CursorState *state, TimestampTz now)
{
	int64		first = first_id(state->cursor_id);
	int64		next = Max(state->last_lease + 1, first);
	int64		step = now > LEASE_EPOCH ? (now - LEASE_EPOCH) / LEASE_STEP : 0;

	if (step < LEASE_TIMES)
		next = Max(next, first + step);
	if (next > last_id(state->cursor_id))
		none_left(state->cursor_id);
	return next;
}

static void
none_left(int32 cursor_id)
{
	Cursor		cursor;

	if (!iotmq_catalog_cursor_by_id(cursor_id, &cursor))
		elog(ERROR, "cursor %d vanished under its lock", cursor_id);
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("consumer group \"%s\" of topic \"%s\" has given out all its lease ids in zone \"%s\"",
					cursor.group->name, cursor.topic->name, cursor.zone->name),
			 errhint("Make another group that begins where this one stands (see iotmq.consumer_lag), and drop this one.")));
}

/* Stores a new lease, made of its offsets, attempts and devices. */
void
iotmq_lease_insert(Lease *lease)
{
	Datum		values[Natts_lease];
	bool		isnull[Natts_lease];

	lease->runs = iotmq_runs_pack(lease->offsets, lease->attempts, lease->n);
	if (lease->devices != NULL)
		lease->device_list = list_of_devices(lease);
	form_row(lease, values, isnull);
	iotmq_row_insert(CATALOG_LEASE, values, isnull, Natts_lease);
}

/* Locks the lease to the end of the transaction and reads it. */
RowResult
iotmq_lease_lock(int64 lease_id, bool wait, Lease *lease, ItemPointer tid)
{
	Relation	rel = table_open(iotmq_relation_table(CATALOG_LEASE), RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData key;
	RowResult	result;

	ScanKeyInit(&key, Anum_lease_id, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(lease_id));
	result = iotmq_row_lock(rel, iotmq_relation_index(INDEX_LEASE), &key, 1, wait, slot);
	if (result == ROW_OK)
	{
		read_row(slot, lease);
		*tid = slot->tts_tid;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	return result;
}

void
iotmq_lease_update(const Lease *lease, ItemPointer tid)
{
	Datum		values[Natts_lease];
	bool		isnull[Natts_lease];

	form_row(lease, values, isnull);
	iotmq_row_update(CATALOG_LEASE, tid, values, isnull, Natts_lease);
}

static void
delete_lease(ItemPointer tid)
{
	iotmq_row_delete(CATALOG_LEASE, tid);
}

/* Stores what is left of a lease after some of it was settled: nothing, perhaps. */
void
iotmq_lease_store(const Lease *lease, ItemPointer tid)
{
	if (lease->messages == 0)
		delete_lease(tid);
	else
		iotmq_lease_update(lease, tid);
}

/*
 * What is left of a lease, whose row is locked, goes on under another id: who has the old one
 * has lost it. A row of its own, so that who waits for the old one finds none.
 */
void
iotmq_lease_disown(HeldCursor *held, Lease *lease, ItemPointer tid)
{
	Datum		values[Natts_lease];
	bool		isnull[Natts_lease];

	lease->lease_id = iotmq_lease_next_id(&held->state, GetCurrentTimestamp());
	held->state.last_lease = lease->lease_id;
	form_row(lease, values, isnull);
	iotmq_row_insert(CATALOG_LEASE, values, isnull, Natts_lease);
	delete_lease(tid);
}

/* The cursor's open leases, in order, as committed or ours, not locked. */
RowScan
iotmq_lease_scan(const CursorState *state)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(Max(state->oldest_lease, first_id(state->cursor_id))));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_INT8LT,
				Int64GetDatum(first_id(state->cursor_id + 1)));
	return iotmq_row_scan(CATALOG_LEASE, INDEX_LEASE, keys, 2, NULL);
}

/* The leases of all cursors, void ones too. */
RowScan
iotmq_lease_scan_all(Snapshot snapshot)
{
	return iotmq_row_scan_all(CATALOG_LEASE, snapshot);
}

/*
 * The next lease. What is read of it stays; its devices can be read until the scan goes on.
 * False: no more.
 */
bool
iotmq_lease_scan_next(RowScan *scan, Lease *lease)
{
	if (!iotmq_row_scan_next(scan))
		return false;
	read_row(scan->slot, lease);
	return true;
}

/*
 * Makes the bounds of a state, which is not held, what they would be if its leases were looked
 * at: oldest_lease, and next_expiry. Ends at a lease that has expired by then.
 */
void
iotmq_lease_see(CursorState *state, TimestampTz now)
{
	RowScan		scan = iotmq_lease_scan(state);
	int64		oldest = 0;

	state->next_expiry = DT_NOEND;
	while (state->next_expiry > now && iotmq_row_scan_next(&scan))
	{
		const Datum *values = scan.slot->tts_values;

		slot_getsomeattrs(scan.slot, Anum_deadline);
		if (oldest == 0)
			oldest = DatumGetInt64(values[Anum_lease_id - 1]);
		state->next_expiry = Min(state->next_expiry, DatumGetTimestampTz(values[Anum_deadline - 1]));
	}
	iotmq_row_scan_end(&scan);
	state->oldest_lease = oldest != 0 ? oldest : state->last_lease + 1;
}

/* Reads the devices of a lease that is locked, or was met by a scan just now. */
void
iotmq_lease_read_devices(Lease *lease)
{
	Datum	   *elements;
	int			n;

	if (lease->devices != NULL || lease->device_list == NULL)
		return;
	deconstruct_array(DatumGetArrayTypePCopy(PointerGetDatum(lease->device_list)), TEXTOID, -1,
					  false, TYPALIGN_INT, &elements, NULL, &n);
	if (n != lease->n)
		elog(ERROR, "lease " INT64_FORMAT " has %d messages and %d devices",
			 lease->lease_id, lease->n, n);
	lease->devices = palloc(sizeof(text *) * n);
	for (int i = 0; i < n; i++)
		lease->devices[i] = DatumGetTextP(elements[i]);
}

/* The offset of message i. */
int64
iotmq_lease_offset(const Lease *lease, int i)
{
	return lease->offsets != NULL ? lease->offsets[i] : lease->first_offset + i;
}

/* Which delivery of message i it is. */
int
iotmq_lease_attempt(const Lease *lease, int i)
{
	return lease->attempts != NULL ? lease->attempts[i] : 1;
}

/* Which message has that offset; -1: none. */
int
iotmq_lease_find(const Lease *lease, int64 msg_offset)
{
	int			low = 0;
	int			high = lease->n - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;
		int64		other = iotmq_lease_offset(lease, middle);

		if (other == msg_offset)
			return middle;
		if (other < msg_offset)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return -1;
}

bool
iotmq_lease_is_settled(const Lease *lease, int i)
{
	return lease->settled != NULL && (lease->settled[i / 8] & (1 << (i % 8))) != 0;
}

/* Marks message i, which is open. */
void
iotmq_lease_settle(Lease *lease, int i)
{
	if (lease->settled == NULL)
		lease->settled = palloc0((lease->n + 7) / 8);
	lease->settled[i / 8] |= 1 << (i % 8);
	lease->messages--;
}

/* lease_cursor(lease_id bigint) RETURNS int: the cursor that a lease is of. */
PG_FUNCTION_INFO_V1(iotmq_lease_cursor_of);
Datum
iotmq_lease_cursor_of(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(iotmq_lease_cursor(PG_GETARG_INT64(0)));
}

/*
 * lease_left(cursor_id int, last_lease bigint) RETURNS bigint: how many ids the cursor has
 * left when that is the last one that was given out; 0: none was.
 */
PG_FUNCTION_INFO_V1(iotmq_lease_left);
Datum
iotmq_lease_left(PG_FUNCTION_ARGS)
{
	int32		cursor_id = PG_GETARG_INT32(0);

	PG_RETURN_INT64(last_id(cursor_id) - Max(PG_GETARG_INT64(1), first_id(cursor_id) - 1));
}

/*
 * lease_void(cursor_id int) RETURNS void: ends the cursor's leases. The caller has excluded
 * its users (cursor_lock.c).
 */
PG_FUNCTION_INFO_V1(iotmq_lease_void);
Datum
iotmq_lease_void(PG_FUNCTION_ARGS)
{
	CursorState state;
	RowScan		scan;
	Lease		lease;

	if (!iotmq_cursor_peek(PG_GETARG_INT32(0), &state))
		PG_RETURN_VOID();
	scan = iotmq_lease_scan(&state);
	while (iotmq_lease_scan_next(&scan, &lease))
	{
		ItemPointerData tid;

		if (iotmq_lease_lock(lease.lease_id, true, &lease, &tid) == ROW_OK)
			delete_lease(&tid);
	}
	iotmq_row_scan_end(&scan);
	PG_RETURN_VOID();
}

/*
 * lease_first(cursor_id int) RETURNS bigint: no lease of the cursor has a lower id, and none
 * of the one before has a higher.
 */
PG_FUNCTION_INFO_V1(iotmq_lease_first);
Datum
iotmq_lease_first(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(first_id(PG_GETARG_INT32(0)));
}

/* The lowest id that a lease of the cursor can have. */
static int64
first_id(int32 cursor_id)
{
	if (cursor_id >= 1 << CURSOR_BITS)
		return PG_INT64_MAX;	/* the end of the last cursor's range */
	return (int64) cursor_id << TIME_BITS;
}

/* The highest; one below the end, which the last cursor's range does not quite have. */
static int64
last_id(int32 cursor_id)
{
	return first_id(cursor_id) + (INT64CONST(1) << TIME_BITS) - 2;
}

static void
form_row(const Lease *lease, Datum *values, bool *isnull)
{
	memset(isnull, false, sizeof(bool) * Natts_lease);
	values[Anum_lease_id - 1] = Int64GetDatum(lease->lease_id);
	values[Anum_first_offset - 1] = Int64GetDatum(lease->first_offset);
	values[Anum_last_offset - 1] = Int64GetDatum(lease->last_offset);
	values[Anum_leased_at - 1] = TimestampTzGetDatum(lease->leased_at);
	values[Anum_deadline - 1] = TimestampTzGetDatum(lease->deadline);
	values[Anum_messages - 1] = Int32GetDatum(lease->messages);
	values[Anum_redriven - 1] = BoolGetDatum(lease->redriven);
	isnull[Anum_settled - 1] = lease->settled == NULL;
	if (lease->settled != NULL)
	{
		int			size = (lease->n + 7) / 8;
		bytea	   *settled = palloc(VARHDRSZ + size);

		SET_VARSIZE(settled, VARHDRSZ + size);
		memcpy(VARDATA(settled), lease->settled, size);
		values[Anum_settled - 1] = PointerGetDatum(settled);
	}
	isnull[Anum_batch_limit - 1] = lease->batch_limit == 0;
	values[Anum_batch_limit - 1] = Int32GetDatum(lease->batch_limit);
	isnull[Anum_consumer - 1] = lease->consumer == NULL;
	values[Anum_consumer - 1] = PointerGetDatum(lease->consumer);
	isnull[Anum_runs - 1] = lease->runs == NULL;
	values[Anum_runs - 1] = PointerGetDatum(lease->runs);
	isnull[Anum_devices - 1] = lease->device_list == NULL;
	values[Anum_devices - 1] = PointerGetDatum(lease->device_list);
}

static void
read_row(TupleTableSlot *slot, Lease *lease)
{
	Datum	   *values;
	bool	   *isnull;

	slot_getallattrs(slot);
	values = slot->tts_values;
	isnull = slot->tts_isnull;
	memset(lease, 0, sizeof(Lease));
	lease->lease_id = DatumGetInt64(values[Anum_lease_id - 1]);
	lease->first_offset = DatumGetInt64(values[Anum_first_offset - 1]);
	lease->last_offset = DatumGetInt64(values[Anum_last_offset - 1]);
	lease->leased_at = DatumGetTimestampTz(values[Anum_leased_at - 1]);
	lease->deadline = DatumGetTimestampTz(values[Anum_deadline - 1]);
	lease->messages = DatumGetInt32(values[Anum_messages - 1]);
	lease->redriven = DatumGetBool(values[Anum_redriven - 1]);
	if (!isnull[Anum_batch_limit - 1])
		lease->batch_limit = DatumGetInt32(values[Anum_batch_limit - 1]);
	if (!isnull[Anum_consumer - 1])
		lease->consumer = DatumGetTextPCopy(values[Anum_consumer - 1]);
	if (!isnull[Anum_runs - 1])
		lease->runs = stored(values[Anum_runs - 1]);
	if (!isnull[Anum_devices - 1])
		lease->device_list = stored(values[Anum_devices - 1]);

	lease->n = iotmq_runs_unpack(lease->runs == NULL ? NULL : DatumGetByteaP(PointerGetDatum(lease->runs)),
								 lease->first_offset, lease->last_offset,
								 &lease->offsets, &lease->attempts);
	if (!isnull[Anum_settled - 1])
	{
		bytea	   *settled = DatumGetByteaPCopy(values[Anum_settled - 1]);

		if ((int) VARSIZE(settled) - VARHDRSZ < (lease->n + 7) / 8)
			elog(ERROR, "lease " INT64_FORMAT " has too few bits", lease->lease_id);
		lease->settled = (bits8 *) VARDATA(settled);
	}
}

static struct varlena *
list_of_devices(const Lease *lease)
{
	Datum	   *elements = palloc(sizeof(Datum) * lease->n);

	for (int i = 0; i < lease->n; i++)
		elements[i] = PointerGetDatum(lease->devices[i]);
	return (struct varlena *) construct_array(elements, lease->n, TEXTOID, -1, false, TYPALIGN_INT);
}

/* A copy of a value as it is in its row: where it lies elsewhere, of the pointer to it. */
static struct varlena *
stored(Datum value)
{
	return (struct varlena *) DatumGetPointer(datumCopy(value, false, -1));
}
