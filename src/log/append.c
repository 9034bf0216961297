/*
 * append.c - writing messages to the end of their zones.
 *
 * The one way into the log for the publishing functions: p1 to p4 of stable.c in
 * that order, as plain heap and index inserts into the segment of the present, or by
 * insert.c, if its owner has changed the table. Nothing that publishers share is written but
 * the sequence. Where messages have keys, k1 to k4 of key.c lie around p4.
 *
 * Locks, to the end of the transaction: the zone's publish lock, then RowExclusiveLock
 * on the segment; if that is to be made, those of segment.c between the two. Of several
 * zones in the order of their ids, each lock of all zones before the next. Those of a zone to
 * which nothing is written are given back, and so are all of them while a key is waited for.
 *
 * Whoever changes a topic's table locks it, then the zones' tables, then their segments. So
 * what is above a segment is locked while no segment is: where the owner has changed the
 * table, so that insert.c is going to need the zones' tables, RowExclusiveLock on all of them,
 * until the messages are written; what it takes to make a segment likewise.
 */
#include "log/log.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "commands/sequence.h"
#include "core/stop.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#define MOST_CUTS 3				/* of segments that were taken away, by one call */
#define INSERT_AT_ONCE 500		/* rows handed to the table in one piece */

typedef struct Target			/* a zone that is written to */
{
	int32		zone_id;
	Message   **messages;		/* n of them, in their order in the batch */
	int			n;
	Topic	   *topic;
	Zone	   *zone;
	TimestampTz at;				/* the present */
	Relation	segment;		/* its segment; NULL: not opened */
	bool		is_plain;		/* the segment: rows may be written to it directly */
	Oid			key_index;		/* of a plain one, see insert.c */
	Oid			locked_table;	/* the zone's table; invalid: not locked by us */
	Oid			taken_away;		/* the segment that was, after TAKEN_AWAY */
} Target;

typedef enum Opening			/* what became of opening a segment */
{
	OPENED,
	OUTDATED,					/* another one is to be opened */
	MISSING,					/* it has to be made */
	TAKEN_AWAY,					/* somebody has dropped it, or detached it from its zone */
	CHANGED						/* the owner has: the zone's table has to be locked before */
} Opening;

static Target *group_by_zone(Batch *batch, int *ntargets);
static int	compare_zones(const void *a, const void *b);
static Key *collect_keys(Batch *batch, int *nkeys);
static void open_targets(Target *targets, int n);
static void close_targets(Target *targets, int n);
static void make_present(Target *target);
static void cut_present(Target *target, int cuts);
static void lock_table(Target *target);
static void unlock_table(Target *target);
static void claim_keys(Batch *batch, Target *targets, int ntargets, Key *keys, int nkeys);
static void date_keys(const Target *targets, int ntargets, Key *keys, int nkeys);
static void leave_out_known(Batch *batch, Target *targets, int ntargets, const Key *keys,
							int nkeys);
static void write_target(Batch *batch, Target *target);
static void keep_lock(Relation segment);
static Opening open_present(Target *target);
static void require_table(const Topic *topic, const Zone *zone);
static const Segment *present(Target *target);
static void open_indexes(ResultRelInfo *rri, Oid except);
static HeapTuple form_row(Relation segment, Message *message);
static void insert(Batch *batch, Message **messages, ResultRelInfo *rri, EState *estate,
				   TupleTableSlot **slots, int n);

/*
 * Appends checked messages, and tells their offsets: in each zone they are in the order of the
 * batch. One whose key was published before is left out.
 */
void
iotmq_append_messages(Batch *batch)
{
	int			ntargets;
	int			nkeys;
	Target	   *targets = group_by_zone(batch, &ntargets);
	Key		   *keys = collect_keys(batch, &nkeys);

	open_targets(targets, ntargets);
	STOP("append_opened");
	if (nkeys > 0)
		claim_keys(batch, targets, ntargets, keys, nkeys);
	for (int i = 0; i < ntargets; i++)
	{
		/* other zones and keys were looked up since */
		if ((ntargets > 1 || nkeys > 0) &&
			!iotmq_catalog_zone_by_id(targets[i].zone_id, &targets[i].topic, &targets[i].zone))
			elog(ERROR, "zone %d was dropped under its lock", targets[i].zone_id);
		write_target(batch, &targets[i]);
	}
	iotmq_key_release(keys, nkeys);
	for (int i = 0; i < batch->n; i++)
		if (batch->messages[i].first != NULL)
			batch->messages[i].msg_offset = batch->messages[i].first->msg_offset;
	for (int i = 0; i < ntargets; i++)
	{
		Topic	   *topic;
		Zone	   *zone;

		/* what the owner's code did may have looked something up */
		if (targets[i].n > 0 && iotmq_catalog_zone_by_id(targets[i].zone_id, &topic, &zone))
			iotmq_segment_keep_ahead(topic, zone, targets[i].at);
	}
}

/* The zones of a batch, by their ids. */
static Target *
group_by_zone(Batch *batch, int *ntargets)
{
	Message   **messages = palloc(sizeof(Message *) * batch->n);
	Target	   *targets = NULL;

	for (int i = 0; i < batch->n; i++)
		messages[i] = &batch->messages[i];
	qsort(messages, batch->n, sizeof(Message *), compare_zones);
	*ntargets = 0;
	for (int i = 0; i < batch->n; i++)
	{
		if (i == 0 || messages[i]->zone_id != messages[i - 1]->zone_id)
		{
			targets = targets == NULL ? palloc(sizeof(Target)) :
				repalloc(targets, sizeof(Target) * (*ntargets + 1));
			targets[(*ntargets)++] = (Target) {
				.zone_id = messages[i]->zone_id,
				.messages = &messages[i]
			};
		}
		targets[*ntargets - 1].n++;
	}
	return targets;
}

/* For qsort: by zone, then by place in the batch. */
static int
compare_zones(const void *a, const void *b)
{
	const Message *x = *(Message *const *) a;
	const Message *y = *(Message *const *) b;

	if (x->zone_id != y->zone_id)
		return x->zone_id < y->zone_id ? -1 : 1;
	return x < y ? -1 : x > y ? 1 : 0;
}

/* The keys of a batch, sorted; place is that of the message. */
static Key *
collect_keys(Batch *batch, int *nkeys)
{
	Key		   *keys = NULL;

	*nkeys = 0;
	for (int i = 0; i < batch->n; i++)
	{
		Message    *message = &batch->messages[i];

		if (message->isnull[Anum_message_key - 1])
			continue;
		if (keys == NULL)
			keys = palloc(sizeof(Key) * (batch->n - i));
		iotmq_key_init(&keys[*nkeys], message->zone_id, message->values[Anum_device_id - 1],
					   message->values[Anum_message_key - 1]);
		keys[(*nkeys)++].place = i;
	}
	if (*nkeys > 1)
		iotmq_key_sort(keys, *nkeys);
	return keys;
}

/* Opens the segments of the present for writing; makes those that are missing. */
static void
open_targets(Target *targets, int n)
{
	int			cuts = 0;
	int			opened = 0;

	for (int i = 0; i < n; i++)
		iotmq_stable_enter(targets[i].zone_id);
	while (opened < n)
	{
		Opening		opening = open_present(&targets[opened]);

		CHECK_FOR_INTERRUPTS();
		if (opening == OPENED)
			opened++;
		if (opening == OPENED || opening == OUTDATED)
			continue;
		close_targets(targets, n);
		if (opening == MISSING)
			make_present(&targets[opened]);
		else if (opening == TAKEN_AWAY)
			cut_present(&targets[opened], cuts++);
		else
			for (int i = 0; i < n; i++)
				lock_table(&targets[i]);
		opened = 0;
	}
}

/* Closes what is open, as if nothing had been; the zones are still ours to publish to. */
static void
close_targets(Target *targets, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (targets[i].segment != NULL)
			relation_close(targets[i].segment, RowExclusiveLock);
		targets[i].segment = NULL;
		unlock_table(&targets[i]);
	}
}

static void
make_present(Target *target)
{
	require_table(target->topic, target->zone);
	iotmq_segment_make_present(target->topic, target->zone, target->at);
}

/* Another segment may be made after that; cuts: how many were before in this call. */
static void
cut_present(Target *target, int cuts)
{
	require_table(target->topic, target->zone);
	if (cuts == MOST_CUTS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the present segment of zone \"%s\" of topic \"%s\" was dropped or detached",
						target->zone->name, target->topic->name),
				 errhint("Let it go: CALL iotmq.run_maintenance();")));
	iotmq_segment_cut(target->zone_id, target->taken_away, target->at);
}

static void
lock_table(Target *target)
{
	Topic	   *topic;
	Zone	   *zone;

	if (!iotmq_catalog_zone_by_id(target->zone_id, &topic, &zone))
		return;					/* who opens its segment says so */
	target->locked_table = zone->relid;
	LockRelationOid(target->locked_table, RowExclusiveLock);
}

static void
unlock_table(Target *target)
{
	if (OidIsValid(target->locked_table))
		UnlockRelationOid(target->locked_table, RowExclusiveLock);
	target->locked_table = InvalidOid;
}

/* Claims the keys, and strikes out the messages that there is nothing to write of. */
static void
claim_keys(Batch *batch, Target *targets, int ntargets, Key *keys, int nkeys)
{
	KeyWait		wait = {0};

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		date_keys(targets, ntargets, keys, nkeys);
		if (iotmq_key_claim(keys, nkeys, &wait))
			break;
		close_targets(targets, ntargets);
		for (int i = 0; i < ntargets; i++)
			iotmq_stable_leave(targets[i].zone_id);
		iotmq_key_wait(&wait);
		open_targets(targets, ntargets);
	}
	STOP("keys_claimed");
	leave_out_known(batch, targets, ntargets, keys, nkeys);
}

/* Tells each key when its message is published. */
static void
date_keys(const Target *targets, int ntargets, Key *keys, int nkeys)
{
	for (int k = 0, t = 0; k < nkeys; k++)
	{
		while (t < ntargets && targets[t].zone_id != keys[k].zone_id)
			t++;
		keys[k].published_at = targets[t].at;
	}
}

/* Of messages whose key is there, or comes earlier in the batch, nothing is written. */
static void
leave_out_known(Batch *batch, Target *targets, int ntargets, const Key *keys, int nkeys)
{
	Message    *first = NULL;

	for (int i = 0; i < nkeys; i++)
	{
		Message    *message = &batch->messages[keys[i].place];

		message->is_there = keys[i].taken_by != 0;
		message->msg_offset = keys[i].taken_by;
		if (i > 0 && !message->is_there && iotmq_key_same(&keys[i - 1], &keys[i]))
			message->first = first;
		else
			first = message;
	}
	for (int i = 0; i < ntargets; i++)
	{
		int			left = 0;

		for (int m = 0; m < targets[i].n; m++)
			if (!targets[i].messages[m]->is_there && targets[i].messages[m]->first == NULL)
				targets[i].messages[left++] = targets[i].messages[m];
		targets[i].n = left;
	}
}

/* Writes what is left of a zone's messages, and closes its segment. */
static void
write_target(Batch *batch, Target *target)
{
	if (target->n == 0)
	{
		close_targets(target, 1);
		iotmq_stable_leave(target->zone_id);
		return;
	}
	keep_lock(target->segment);
	if (target->is_plain)
		iotmq_append_rows(batch, target->zone, target->segment, target->messages, target->n,
						  target->key_index, &target->at);
	else
	{
		iotmq_name_remember(target->topic, target->zone);
		iotmq_insert_messages(target->zone->relid, batch, target->messages, target->n);
	}
	batch->at_hand = 0;
	relation_close(target->segment, NoLock);
	unlock_table(target);
}

/*
 * Lets the lock on a segment last as long as what is written to it: it is a cursor's of SQL,
 * perhaps, and would go when that fails in a savepoint (zone_lock.c). Whoever rewrites the
 * table would leave out what is not committed.
 */
static void
keep_lock(Relation segment)
{
	ResourceOwner owner = CurrentResourceOwner;

	CurrentResourceOwner = CurTransactionResourceOwner;
	LockRelationOid(RelationGetRelid(segment), RowExclusiveLock);
	CurrentResourceOwner = owner;
}

/* Opens the segment of the present for writing, unless something has to be done before. */
static Opening
open_present(Target *target)
{
	const Segment *segment = present(target);
	Oid			relid;
	Relation	rel;

	if (segment == NULL)
		return MISSING;
	relid = segment->relid;
	rel = try_relation_open(relid, RowExclusiveLock);
	/* what sealing closed, or retention dropped, meanwhile can't be closed any more */
	segment = present(target);
	if (segment == NULL || segment->relid != relid)
	{
		if (rel != NULL)
			relation_close(rel, RowExclusiveLock);
		return OUTDATED;
	}
	target->segment = rel;
	if (rel == NULL || !iotmq_segment_is_ours(relid, target->zone))
	{
		target->taken_away = relid;
		return TAKEN_AWAY;
	}
	target->is_plain = iotmq_insert_is_plain(rel, &target->key_index);
	if (!target->is_plain && !OidIsValid(target->locked_table))
		return CHANGED;
	iotmq_epoch_begin(target->topic, target->zone);
	return OPENED;
}

/* Raises 42704 if somebody has dropped the zone's table. */
static void
require_table(const Topic *topic, const Zone *zone)
{
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(zone->relid)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the table of zone \"%s\" of topic \"%s\" does not exist",
						zone->name, topic->name),
				 errdetail("It was not dropped by iotmq."),
				 errhint("Drop what is left: SELECT iotmq.drop_zone(%s, %s, force => true);",
						 quote_literal_cstr(topic->name), quote_literal_cstr(zone->name))));
}

/* The zone's segment for this moment, which is in at; NULL: it has to be made. */
static const Segment *
present(Target *target)
{
	if (!iotmq_catalog_zone_by_id(target->zone_id, &target->topic, &target->zone))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("zone was dropped while publishing to it")));
	iotmq_state_require_open(target->zone);
	target->at = iotmq_segment_publish_time(target->zone);
	return iotmq_segment_at(target->zone, target->at);
}

/*
 * Writes n rows to a segment that nobody has changed: published at that moment, with offsets
 * that are drawn now; NULL: both are the messages'.
 */
void
iotmq_append_rows(Batch *batch, const Zone *zone, Relation segment, Message **messages, int n,
				  Oid key_index, const TimestampTz *at)
{
	Datum		zone_name = CStringGetTextDatum(zone->name);
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	int			nslots = Min(n, INSERT_AT_ONCE);
	TupleTableSlot **slots = palloc(sizeof(TupleTableSlot *) * nslots);
	TupleDesc	desc = RelationGetDescr(segment);
	bool		keyed = false;

	for (int i = 0; i < n && OidIsValid(key_index) && !keyed; i++)
		keyed = !messages[i]->isnull[Anum_message_key - 1];
	InitResultRelInfo(rri, segment, 0, NULL, 0);
	open_indexes(rri, keyed ? InvalidOid : key_index);
	/*
	 * Each slot with the relation's own would be noted as a user of it, in a hash table that is
	 * slow with hundreds of one. A copy has no values of missing columns: a plain table neither.
	 */
	if (nslots > 1)
		desc = CreateTupleDescCopy(desc);
	for (int i = 0; i < nslots; i++)
		slots[i] = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);

	for (int done = 0; done < n; done += nslots)
	{
		int			now = Min(nslots, n - done);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < now; i++)
		{
			Message    *message = messages[done + i];

			if (at != NULL)
			{
				message->msg_offset = nextval_internal(zone->sequence, false);
				message->published_at = *at;
			}
			STOP("append_drawn");
			message->values[Anum_zone - 1] = zone_name;
			message->values[Anum_msg_offset - 1] = Int64GetDatum(message->msg_offset);
			message->values[Anum_published_at - 1] = TimestampTzGetDatum(message->published_at);
			ExecStoreHeapTuple(form_row(segment, message), slots[i], true);
		}
		insert(batch, &messages[done], rri, estate, slots, now);
	}

	if (at != NULL)
		iotmq_stable_memory(zone)->highest = messages[n - 1]->msg_offset;

	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	ExecCloseIndices(rri);
	FreeExecutorState(estate);
}

/* Opens the segment's indexes for writing, but that one. */
static void
open_indexes(ResultRelInfo *rri, Oid except)
{
	List	   *indexes = RelationGetIndexList(rri->ri_RelationDesc);
	ListCell   *lc;
	int			n = 0;

	rri->ri_IndexRelationDescs = palloc(sizeof(Relation) * list_length(indexes));
	rri->ri_IndexRelationInfo = palloc(sizeof(IndexInfo *) * list_length(indexes));
	foreach(lc, indexes)
	{
		if (lfirst_oid(lc) == except)
			continue;
		rri->ri_IndexRelationDescs[n] = index_open(lfirst_oid(lc), RowExclusiveLock);
		rri->ri_IndexRelationInfo[n] = BuildIndexInfo(rri->ri_IndexRelationDescs[n]);
		n++;
	}
	rri->ri_NumIndices = n;
	list_free(indexes);
}

/*
 * The row of a message. Without a key it ends before that column, which reads as NULL then:
 * so it has room for its bits of NULLs where eight columns have.
 */
static HeapTuple
form_row(Relation segment, Message *message)
{
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(segment), message->values, message->isnull);
	HeapTupleHeader row = tuple->t_data;
	int			shorter;

	if (!message->isnull[Anum_message_key - 1])
		return tuple;
	StaticAssertStmt(Natts_message == Anum_message_key, "the key must be the last column");
	HeapTupleHeaderSetNatts(row, Natts_message - 1);
	shorter = row->t_hoff - MAXALIGN(SizeofHeapTupleHeader + BITMAPLEN(Natts_message - 1));
	tuple->t_len -= shorter;
	row->t_hoff -= shorter;
	memmove((char *) row + row->t_hoff, (char *) row + row->t_hoff + shorter,
			tuple->t_len - row->t_hoff);
	return tuple;
}

static void
insert(Batch *batch, Message **messages, ResultRelInfo *rri, EState *estate,
	   TupleTableSlot **slots, int n)
{
	CommandId	cid = GetCurrentCommandId(true);
	Relation	segment = rri->ri_RelationDesc;

	if (n == 1)
		table_tuple_insert(segment, slots[0], cid, 0, NULL);
	else
		table_multi_insert(segment, slots, n, cid, 0, NULL);
	for (int i = 0; i < n; i++)
	{
		batch->at_hand = messages[i] - batch->messages + 1;
		ResetPerTupleExprContext(estate);
		(void) INSERT_INDEX_TUPLES(rri, slots[i], estate, false, false);
	}
}
