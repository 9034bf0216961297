/*
 * key.c - no message twice: the key of a message is taken for a while.
 *
 * Of the messages of one device in one zone, no two with the same message_key are published
 * less than the topic's dedup_window apart. That is no unique index: the window is shorter
 * than a segment, or reaches into several. Instead, whoever writes a message with a key
 *   k1  takes the locks of the buckets that its keys fall into, in order (zone_lock.c),
 *   k2  looks for messages with these keys, whatever became of them, in all segments that
 *       the window touches, its own of the present and those to come among them,
 *   k3  finds that one is there: there is nothing to write; or that one is open: gives the
 *       locks back, waits for its transaction, and begins again,
 *   k4  or writes, and only then gives the locks back.
 * Of two, the second finds at k2 what the first one wrote at k4, committed or not. What it
 * finds committed, or its own, stays; so nobody needs the lock to the end of a transaction.
 *
 * COPY and INSERT can't have a lock from their look to their row: they write first, and do
 * k1 to k3 at the end of the statement (copy_in.c). Of two, one of which is such, the one
 * that has the bucket later finds the row of the other.
 *
 * A publish that writes by such a statement, as the owner has changed the table, has claimed its
 * keys before: what is open of others came later. They wait for its bucket, so the check at the
 * end of its statement doesn't wait for them.
 *
 * A segment that an open transaction has made, with a message in it, is not known to others.
 * Its maker holds the zone's change lock until it has told (stable.c): so k2 is certain only
 * where nobody has that lock after k1. Else it is waited for, as for a message.
 *
 * Rows are judged as segment_scan.c does it, by their newest state: the isolation level of
 * the caller does not matter.
 *
 * Locks: the buckets, for a moment; meanwhile AccessShareLock on the segments and their
 * indexes, and the zone's change lock, not waiting: ALTER TABLE may have older segments and
 * wait for the one that the caller writes to. So it is waited for with no lock held.
 */
#include "log/segment_scan.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation_d.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define MOST_REFUSALS 10		/* of segments, to one publish; then it waits with its locks */
#define INDEX_SUFFIX "_message_key"	/* segment_add_key_index() in segment.sql */

/* The key of the message that a publish is writing by a statement; NULL: there is none. */
static const Key *being_written = NULL;

static int	bucket_of(const Key *key);
static int	end_of_zone(const Key *keys, int n, int from);
static bool is_repeated(const Key *keys, int i);
static Oid	look(Key *keys, int n, bool waits);
static Relation open_segment(Oid relid, bool waits, bool *refused);
static void look_in_segment(Relation segment, Key *keys, int n, int64 window);
static void look_by_index(Relation segment, Oid index, Key *keys, int n, int64 window);
static void look_at_all(Relation segment, Key *keys, int n, int64 window);
static void note_row(Key *key, TupleTableSlot *row, int64 window);
static Oid	index_to_read(Relation segment);
static int	compare(const void *a, const void *b);
static int	compare_texts(const text *a, const text *b);

/* The key of a message of that device; place, published_at and own_offset are 0. */
void
iotmq_key_init(Key *key, int32 zone_id, Datum device_id, Datum message_key)
{
	*key = (Key) {
		.zone_id = zone_id,
		.device_id = DatumGetTextPP(device_id),
		.message_key = DatumGetTextPP(message_key)
	};
	key->hash = hash_combine(hash_bytes((unsigned char *) VARDATA_ANY(key->device_id),
										VARSIZE_ANY_EXHDR(key->device_id)),
							 hash_bytes((unsigned char *) VARDATA_ANY(key->message_key),
										VARSIZE_ANY_EXHDR(key->message_key)));
}

/* Puts keys into the order in which they are claimed; equal ones are together, by place. */
void
iotmq_key_sort(Key *keys, int n)
{
	qsort(keys, n, sizeof(Key), compare);
}

bool
iotmq_key_same(const Key *a, const Key *b)
{
	return a->zone_id == b->zone_id && a->hash == b->hash &&
		compare_texts(a->device_id, b->device_id) == 0 &&
		compare_texts(a->message_key, b->message_key) == 0;
}

/*
 * k1 and k2 for sorted keys. True: taken_by of each is certain, and nobody else writes a
 * message with one of them, until iotmq_key_release. False: there is something to wait for
 * first, and no lock is held. wait is the one of the call before; all 0 at first.
 */
bool
iotmq_key_claim(Key *keys, int n, KeyWait *wait)
{
	for (int i = 0; i < n; i++)
		if (i == 0 || keys[i].zone_id != keys[i - 1].zone_id ||
			bucket_of(&keys[i]) != bucket_of(&keys[i - 1]))
			iotmq_zone_lock_take(keys[i].zone_id, ZONE_LOCK_KEYS + bucket_of(&keys[i]), ExclusiveLock);

	*wait = (KeyWait) {.refusals = wait->refusals};
	for (int from = 0, end; from < n && wait->zone_id == 0; from = end)
	{
		end = end_of_zone(keys, n, from);
		if (!iotmq_zone_lock_is_free(keys[from].zone_id, ZONE_LOCK_CHANGE))
		{
			wait->zone_id = keys[from].zone_id;
			break;
		}
		wait->segment = look(&keys[from], end - from, wait->refusals >= MOST_REFUSALS);
		if (OidIsValid(wait->segment))
		{
			wait->zone_id = keys[from].zone_id;
			wait->refusals++;
			break;
		}
		for (int i = from; i < end && wait->zone_id == 0; i++)
			if (keys[i].taken_by == 0 && TransactionIdIsValid(keys[i].writer) &&
				!keys[i].is_claimed &&
				(keys[i].own_offset == 0 || keys[i].is_written))
			{
				wait->writer = keys[i].writer;
				wait->zone_id = keys[i].zone_id;
			}
	}
	if (wait->zone_id != 0)
		iotmq_key_release(keys, n);
	return wait->zone_id == 0;
}

/* Gives the locks of sorted keys back. */
void
iotmq_key_release(const Key *keys, int n)
{
	for (int i = 0; i < n; i++)
		if (i == 0 || keys[i].zone_id != keys[i - 1].zone_id ||
			bucket_of(&keys[i]) != bucket_of(&keys[i - 1]))
			iotmq_zone_lock_give(keys[i].zone_id, ZONE_LOCK_KEYS + bucket_of(&keys[i]), ExclusiveLock);
}

/* Waits until what a claim met has ended. */
void
iotmq_key_wait(const KeyWait *wait)
{
	if (TransactionIdIsValid(wait->writer))
		XactLockTableWait(wait->writer, NULL, NULL, XLTW_None);
	else if (OidIsValid(wait->segment))
	{
		LockRelationOid(wait->segment, AccessShareLock);
		UnlockRelationOid(wait->segment, AccessShareLock);
	}
	else
	{
		iotmq_zone_lock_take(wait->zone_id, ZONE_LOCK_CHANGE, ShareLock);
		iotmq_zone_lock_give(wait->zone_id, ZONE_LOCK_CHANGE, ShareLock);
	}
}

/*
 * A publish, which keeps the key's lock, is going to write its message by a statement. NULL: it
 * has no key, or there is no statement any more. Returns what was so before.
 */
const Key *
iotmq_key_writes(const Key *key)
{
	const Key  *before = being_written;

	being_written = key;
	return before;
}

/* Is it the key of the message that a publish is writing? */
bool
iotmq_key_is_claimed(const Key *key)
{
	return being_written != NULL && iotmq_key_same(being_written, key);
}

/* Is it the index on keys that iotmq has made for the segment? */
bool
iotmq_key_is_index(Relation segment, Relation index)
{
	const char *name = RelationGetRelationName(segment);
	size_t		length = strlen(name);

	return strncmp(RelationGetRelationName(index), name, length) == 0 &&
		strcmp(RelationGetRelationName(index) + length, INDEX_SUFFIX) == 0 &&
		index->rd_index->indnatts == 2 &&
		index->rd_index->indkey.values[0] == Anum_device_id &&
		index->rd_index->indkey.values[1] == Anum_message_key;
}

/* Raises 22023 unless messages of the topic may have keys. */
void
iotmq_key_require_window(const Topic *topic)
{
	if (topic->dedup_window == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("topic \"%s\" has no dedup_window, so its messages have no keys", topic->name),
				 errhint("Give it one: SELECT iotmq.alter_topic(%s, dedup_window => '1 hour');",
						 quote_literal_cstr(topic->name))));
}

static int
bucket_of(const Key *key)
{
	return key->hash % KEY_BUCKETS;
}

/* Where the keys of another zone begin. */
static int
end_of_zone(const Key *keys, int n, int from)
{
	int			end = from + 1;

	while (end < n && keys[end].zone_id == keys[from].zone_id)
		end++;
	return end;
}

/* Has the one before it the same key, and no row of its own? Then it is looked for once. */
static bool
is_repeated(const Key *keys, int i)
{
	return i > 0 && keys[i].own_offset == 0 && iotmq_key_same(&keys[i - 1], &keys[i]);
}

/*
 * k2, for keys of one zone. Returns the segment that somebody is changing, if there is one: then
 * nothing is known. With waits it is waited for.
 */
static Oid
look(Key *keys, int n, bool waits)
{
	Topic	   *topic;
	Zone	   *zone;
	TimestampTz earliest = keys[0].published_at;
	TimestampTz latest = keys[0].published_at;

	if (!iotmq_catalog_zone_by_id(keys[0].zone_id, &topic, &zone))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("zone was dropped while publishing to it")));
	for (int i = 0; i < n; i++)
	{
		keys[i].is_written = false;
		keys[i].taken_by = 0;
		keys[i].writer = InvalidTransactionId;
		earliest = Min(earliest, keys[i].published_at);
		latest = Max(latest, keys[i].published_at);
	}
	iotmq_catalog_segments(zone);
	for (int i = 0; i < zone->nsegments; i++)
	{
		const Segment *segment = &zone->segments[i];
		Relation	rel;
		bool		refused;

		if (segment->to_time <= earliest - topic->dedup_window ||
			segment->from_time >= latest + topic->dedup_window ||
			(segment->sealed && segment->last_offset < segment->first_offset))
			continue;
		rel = open_segment(segment->relid, waits, &refused);
		if (refused)
			return segment->relid;
		if (rel == NULL)
			continue;			/* retention has dropped it */
		look_in_segment(rel, keys, n, topic->dedup_window);
		relation_close(rel, AccessShareLock);
	}
	for (int i = 1; i < n; i++)
		if (is_repeated(keys, i))
		{
			keys[i].taken_by = keys[i - 1].taken_by;
			keys[i].writer = keys[i - 1].writer;
		}
	return InvalidOid;
}

/* Opens a segment to read it; NULL: it was dropped, or is refused. */
static Relation
open_segment(Oid relid, bool waits, bool *refused)
{
	Relation	rel;

	*refused = !waits && !ConditionalLockRelationOid(relid, AccessShareLock);
	if (*refused)
		return NULL;
	rel = try_relation_open(relid, AccessShareLock);
	if (!waits)
		UnlockRelationOid(relid, AccessShareLock);
	return rel;
}

static void
look_in_segment(Relation segment, Key *keys, int n, int64 window)
{
	Oid			index;

	if (RelationGetNumberOfBlocks(segment) == 0 || !iotmq_message_fits(RelationGetDescr(segment)))
		return;
	index = index_to_read(segment);
	if (OidIsValid(index))
		look_by_index(segment, index, keys, n, window);
	else
		look_at_all(segment, keys, n, window);
}

static void
look_by_index(Relation segment, Oid index, Key *keys, int n, int64 window)
{
	Relation	rel = index_open(index, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(segment, NULL);
	IndexScanDesc scan = INDEX_BEGINSCAN(segment, rel, SnapshotAny, 2);
	ScanKeyData by[2];

	for (int i = 0; i < n; i++)
	{
		if (is_repeated(keys, i))
			continue;
		CHECK_FOR_INTERRUPTS();
		ScanKeyInit(&by[0], 1, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(keys[i].device_id));
		ScanKeyInit(&by[1], 2, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(keys[i].message_key));
		by[0].sk_collation = by[1].sk_collation = C_COLLATION_OID;
		index_rescan(scan, by, 2, NULL, 0);
		while (index_getnext_slot(scan, ForwardScanDirection, slot))
			note_row(&keys[i], slot, window);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(rel, AccessShareLock);
}

/* Without the index: somebody has dropped it, or it is being made anew. */
static void
look_at_all(Relation segment, Key *keys, int n, int64 window)
{
	TupleTableSlot *slot = table_slot_create(segment, NULL);
	TableScanDesc scan = table_beginscan(segment, SnapshotAny, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Key			there;
		bool		isnull;
		Datum		message_key = slot_getattr(slot, Anum_message_key, &isnull);

		CHECK_FOR_INTERRUPTS();
		if (isnull)
			continue;
		iotmq_key_init(&there, keys[0].zone_id, slot_getattr(slot, Anum_device_id, &isnull),
					   message_key);
		for (int i = 0; i < n; i++)
			if (!is_repeated(keys, i) && iotmq_key_same(&keys[i], &there))
				note_row(&keys[i], slot, window);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

/* What a row with that key says about it. */
static void
note_row(Key *key, TupleTableSlot *row, int64 window)
{
	bool		isnull;
	int64		msg_offset = DatumGetInt64(slot_getattr(row, Anum_msg_offset, &isnull));
	TimestampTz at = DatumGetTimestampTz(slot_getattr(row, Anum_published_at, &isnull));
	TransactionId writer = InvalidTransactionId;
	RowFate		fate;

	if (at <= key->published_at - window || at >= key->published_at + window)
		return;
	fate = iotmq_segment_scan_fate_of(row, &writer);
	if (fate == FATE_NOTHING)
		return;
	if (fate == FATE_OPEN && !TransactionIdIsCurrentTransactionId(writer))
		key->writer = writer;
	else if (msg_offset == key->own_offset)
		key->is_written = true;
	else if (key->taken_by == 0 || msg_offset < key->taken_by)
		key->taken_by = msg_offset;
}

/* The segment's index on keys, if it has all of them. */
static Oid
index_to_read(Relation segment)
{
	List	   *indexes = RelationGetIndexList(segment);
	ListCell   *lc;
	Oid			result = InvalidOid;

	foreach(lc, indexes)
	{
		Relation	index = RelationIdGetRelation(lfirst_oid(lc));

		if (!RelationIsValid(index))
			continue;
		if (iotmq_key_is_index(segment, index) && index->rd_index->indisvalid)
			result = RelationGetRelid(index);
		RelationClose(index);
	}
	list_free(indexes);
	return result;
}

/* For qsort. */
static int
compare(const void *a, const void *b)
{
	const Key  *x = a;
	const Key  *y = b;
	int			order;

	if (x->zone_id != y->zone_id)
		return x->zone_id < y->zone_id ? -1 : 1;
	if (bucket_of(x) != bucket_of(y))
		return bucket_of(x) - bucket_of(y);
	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	order = compare_texts(x->device_id, y->device_id);
	if (order == 0)
		order = compare_texts(x->message_key, y->message_key);
	return order != 0 ? order : x->place - y->place;
}

static int
compare_texts(const text *a, const text *b)
{
	int			size = VARSIZE_ANY_EXHDR(a);
	int			order = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(size, (int) VARSIZE_ANY_EXHDR(b)));

	return order != 0 ? order : size - (int) VARSIZE_ANY_EXHDR(b);
}
