/*
 * redeliver.c - messages that wait for another attempt.
 *
 * A failed message is a row of iotmq.redelivery until it is due; then it comes
 * first in the next lease of its zone. All changes to a cursor's rows happen
 * under the lock on its position, which also knows the earliest time that
 * anything is due (next_due): so the good path never looks here, and a look
 * begins behind all rows that were done before.
 *
 * A lease that expired counts as one failed attempt of each message still open.
 * Since one of them may be what killed the consumer, they come back in smaller
 * leases, in the end each alone, before their retries are used up: after an
 * expiry of n messages with r attempts left, in leases of at most n^((r-1)/r).
 */
#include "iotmq.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define TAKE_OVER_MESSAGES 20000	/* that one claim takes over at most, about */
#define SHRINK 8				/* a lease that expired comes back in at most 1/8 of its size */

enum
{
	Anum_redelivery_cursor_id = 1, Anum_redelivery_due_at, Anum_redelivery_offset,
	Anum_redelivery_attempt, Anum_redelivery_batch_limit, Anum_redelivery_device_id,
	Anum_redelivery_reason, Natts_redelivery = Anum_redelivery_reason
};

typedef struct Due
{
	int64		msg_offset;
	int32		attempt;
	int32		batch_limit;	/* 0: any */
} Due;

static void take_over(const Cursor *cursor, const Lease *lease, Position *position, TimestampTz now);
static int	smaller(int n, int attempts_left);
static void insert(const Cursor *cursor, int64 msg_offset, int attempt, int batch_limit,
				   TimestampTz due_at, text *reason);
static int	compare_due(const void *a, const void *b);

/*
 * The message's attempt failed: it comes again at due_at, or is a dead letter if
 * that was its last retry. The caller holds the position and stores it.
 */
void
iotmq_redeliver_fail(const Cursor *cursor, int64 msg_offset, int attempt, int batch_limit,
					 TimestampTz due_at, text *reason, Position *position)
{
	if (attempt > cursor->group->max_retries)
	{
		iotmq_redeliver_bury(cursor, msg_offset, attempt, reason, position);
		return;
	}
	insert(cursor, msg_offset, attempt + 1, batch_limit, due_at, reason);
	position->next_due = Min(position->next_due, due_at);
}

/* Makes the message a dead letter; if the log has dropped it, it is lost unread. */
void
iotmq_redeliver_bury(const Cursor *cursor, int64 msg_offset, int attempts, text *reason,
					 Position *position)
{
	ZoneScan   *scan = iotmq_scan_begin(cursor->zone, msg_offset, msg_offset);
	TupleTableSlot *slot = iotmq_scan_one(scan, msg_offset);

	if (slot != NULL)
		iotmq_dead_letter_insert(cursor, slot, attempts, reason);
	else
		position->expired_unread++;
	iotmq_scan_end(scan);
}

/* Takes over the cursor's expired leases. The caller holds the position and stores it. */
void
iotmq_redeliver_expired(const Cursor *cursor, Position *position, TimestampTz now)
{
	int64		from = position->oldest_lease;
	int64		oldest = 0;
	TimestampTz next_expiry = DT_NOEND;
	int			taken = 0;
	int64		lease_id;
	TimestampTz deadline;

	while (iotmq_lease_next(cursor->cursor_id, from, &lease_id, &deadline))
	{
		CHECK_FOR_INTERRUPTS();
		from = lease_id + 1;
		if (deadline <= now && taken < TAKE_OVER_MESSAGES)
		{
			Lease		lease;
			ItemPointerData tid;
			RowResult	result = iotmq_lease_lock(lease_id, false, &lease, &tid);

			if (result == ROW_GONE)
				continue;
			if (result == ROW_OK)
				deadline = lease.deadline;	/* extended meanwhile? */
			if (result == ROW_OK && deadline <= now)
			{
				take_over(cursor, &lease, position, now);
				iotmq_lease_delete(&tid);
				taken += lease.messages;
				continue;
			}
		}
		if (oldest == 0)
			oldest = lease_id;
		next_expiry = Min(next_expiry, deadline);
	}
	position->oldest_lease = oldest != 0 ? oldest : position->last_lease + 1;
	position->next_expiry = next_expiry;
}

/*
 * Takes up to max_messages that are due out of redelivery, into a lease that has
 * no id yet. The caller holds the position and stores it.
 */
void
iotmq_redeliver_due(const Cursor *cursor, Position *position, TimestampTz now,
					int max_messages, Lease *lease)
{
	Relation	rel = table_open(iotmq_catalog_relid(CATALOG_REDELIVERY), RowExclusiveLock);
	Relation	index = index_open(iotmq_catalog_index(INDEX_REDELIVERY), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = INDEX_BEGINSCAN(rel, index, SnapshotSelf, 2);
	ScanKeyData keys[2];
	Due		   *due = palloc(sizeof(Due) * max_messages);
	int			n = 0;
	int			limit = max_messages;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(cursor->cursor_id));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(position->next_due));
	index_rescan(scan, keys, 2, NULL, 0);
	position->next_due = DT_NOEND;
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		TimestampTz due_at = DatumGetTimestampTz(slot_getattr(slot, Anum_redelivery_due_at, &isnull));
		int			batch_limit = DatumGetInt32(slot_getattr(slot, Anum_redelivery_batch_limit, &isnull));

		if (isnull)
			batch_limit = 0;
		if (due_at > now || n >= limit || (batch_limit != 0 && n >= batch_limit))
		{
			position->next_due = due_at;
			break;
		}
		if (batch_limit != 0)
			limit = Min(limit, batch_limit);
		due[n].msg_offset = DatumGetInt64(slot_getattr(slot, Anum_redelivery_offset, &isnull));
		due[n].attempt = DatumGetInt32(slot_getattr(slot, Anum_redelivery_attempt, &isnull));
		due[n].batch_limit = batch_limit;
		n++;
		CatalogTupleDelete(rel, &slot->tts_tid);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, NoLock);
	if (n == 0)
		return;

	CommandCounterIncrement();
	qsort(due, n, sizeof(Due), compare_due);
	lease->n = n;
	lease->offsets = palloc(sizeof(int64) * n);
	lease->attempts = palloc(sizeof(int32) * n);
	for (int i = 0; i < n; i++)
	{
		lease->offsets[i] = due[i].msg_offset;
		lease->attempts[i] = due[i].attempt;
		if (due[i].batch_limit != 0)
			lease->batch_limit = limit;
	}
	lease->first_offset = lease->offsets[0];
	lease->last_offset = lease->offsets[n - 1];
}

/* Delivers the lease's messages; those that the log has dropped are settled as lost. */
void
iotmq_redeliver_fetch(const Cursor *cursor, Lease *lease, Position *position, DeliverySet *set)
{
	ZoneScan   *scan = iotmq_scan_begin(cursor->zone, lease->first_offset, lease->last_offset);

	for (int i = 0; i < lease->n; i++)
	{
		TupleTableSlot *slot = iotmq_scan_one(scan, lease->offsets[i]);

		if (slot != NULL)
			iotmq_delivery_add(set, lease->lease_id, slot, lease->attempts[i]);
		else
		{
			iotmq_lease_settle(lease, i);
			position->expired_unread++;
		}
	}
	iotmq_scan_end(scan);
}

static void
take_over(const Cursor *cursor, const Lease *lease, Position *position, TimestampTz now)
{
	text	   *reason = cstring_to_text("lease expired");

	for (int i = 0; i < lease->n; i++)
	{
		int			attempt = lease->attempts != NULL ? lease->attempts[i] : 1;

		if (!iotmq_lease_is_settled(lease, i))
			iotmq_redeliver_fail(cursor, iotmq_lease_offset(lease, i), attempt,
								 smaller(lease->messages, cursor->group->max_retries - attempt + 1),
								 now, reason, position);
	}
}

/* The size of leases for messages of one that expired with n of them open. */
static int
smaller(int n, int attempts_left)
{
	int			limit;

	if (attempts_left <= 1 || n <= 1)
		return 1;
	limit = (int) pow(n, (attempts_left - 1.0) / attempts_left);
	return Max(1, Min(limit, n / SHRINK));
}

static void
insert(const Cursor *cursor, int64 msg_offset, int attempt, int batch_limit, TimestampTz due_at,
	   text *reason)
{
	Relation	rel = table_open(iotmq_catalog_relid(CATALOG_REDELIVERY), RowExclusiveLock);
	Datum		values[Natts_redelivery] = {0};
	bool		isnull[Natts_redelivery] = {false};
	HeapTuple	tuple;

	values[Anum_redelivery_cursor_id - 1] = Int32GetDatum(cursor->cursor_id);
	values[Anum_redelivery_due_at - 1] = TimestampTzGetDatum(due_at);
	values[Anum_redelivery_offset - 1] = Int64GetDatum(msg_offset);
	values[Anum_redelivery_attempt - 1] = Int32GetDatum(attempt);
	values[Anum_redelivery_batch_limit - 1] = Int32GetDatum(batch_limit);
	isnull[Anum_redelivery_batch_limit - 1] = batch_limit == 0;
	isnull[Anum_redelivery_device_id - 1] = true;
	values[Anum_redelivery_reason - 1] = PointerGetDatum(reason);
	isnull[Anum_redelivery_reason - 1] = reason == NULL;
	tuple = heap_form_tuple(RelationGetDescr(rel), values, isnull);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}

static int
compare_due(const void *a, const void *b)
{
	int64		x = ((const Due *) a)->msg_offset;
	int64		y = ((const Due *) b)->msg_offset;

	return x < y ? -1 : x > y;
}
