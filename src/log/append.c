/*
 * append.c - writing messages to the end of a zone.
 *
 * The one way into the log for the publishing functions: p1 to p4 of stable.c in
 * that order, as plain heap and index inserts into the segment of the present, or by
 * insert.c, if its owner has changed the table. Nothing that publishers share is written but
 * the sequence.
 *
 * Locks, to the end of the transaction: the zone's publish lock, then RowExclusiveLock
 * on the segment; if that is to be made, those of segment.c between the two.
 */
#include "log/log.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "core/stop.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#define MOST_CUTS 3				/* of segments that were taken away, by one call */
#define INSERT_AT_ONCE 500		/* rows handed to the table in one piece */

static Relation open_present(int32 zone_id, Topic **topic, Zone **zone, TimestampTz *at);
static void require_table(const Topic *topic, const Zone *zone);
static const Segment *present(int32 zone_id, Topic **topic, Zone **zone, TimestampTz *at);
static void write_rows(Relation segment, const Zone *zone, TimestampTz at, Datum **values,
					   bool **isnull, int n, int64 *offsets);
static void insert(ResultRelInfo *rri, EState *estate, TupleTableSlot **slots, int n);

/*
 * Appends n checked messages, as columns of a topic table (0-based; zone,
 * msg_offset and published_at are filled in here), and tells their offsets; 0: a trigger of
 * the table's owner has left the message out.
 */
void
iotmq_append_messages(int32 zone_id, Datum **values, bool **isnull, int n, int64 *offsets)
{
	Topic	   *topic;
	Zone	   *zone;
	TimestampTz at;
	Relation	segment = open_present(zone_id, &topic, &zone, &at);

	if (iotmq_insert_is_plain(segment))
		write_rows(segment, zone, at, values, isnull, n, offsets);
	else
	{
		iotmq_name_remember(topic, zone);
		iotmq_insert_messages(zone->relid, values, isnull, n, offsets);
	}
	table_close(segment, NoLock);
	/* what the owner's code did may have looked something up */
	if (iotmq_catalog_zone_by_id(zone_id, &topic, &zone))
		iotmq_segment_keep_ahead(topic, zone, at);
}

/* Writes rows to a segment that nobody has changed. */
static void
write_rows(Relation segment, const Zone *zone, TimestampTz at, Datum **values, bool **isnull,
		   int n, int64 *offsets)
{
	Datum		zone_name = CStringGetTextDatum(zone->name);
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	int			nslots = Min(n, INSERT_AT_ONCE);
	TupleTableSlot **slots = palloc(sizeof(TupleTableSlot *) * nslots);

	InitResultRelInfo(rri, segment, 0, NULL, 0);
	ExecOpenIndices(rri, false);
	for (int i = 0; i < nslots; i++)
		slots[i] = table_slot_create(segment, NULL);

	for (int done = 0; done < n; done += nslots)
	{
		int			now = Min(nslots, n - done);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < now; i++)
		{
			TupleTableSlot *slot = slots[i];
			Datum	   *row = values[done + i];

			ExecClearTuple(slot);
			offsets[done + i] = nextval_internal(zone->sequence, false);
			STOP("append_drawn");
			row[Anum_zone - 1] = zone_name;
			row[Anum_msg_offset - 1] = Int64GetDatum(offsets[done + i]);
			row[Anum_published_at - 1] = TimestampTzGetDatum(at);
			memcpy(slot->tts_values, row, sizeof(Datum) * Natts_message);
			memcpy(slot->tts_isnull, isnull[done + i], sizeof(bool) * Natts_message);
			ExecStoreVirtualTuple(slot);
		}
		insert(rri, estate, slots, now);
	}

	iotmq_stable_memory(zone)->highest = offsets[n - 1];

	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	ExecCloseIndices(rri);
	FreeExecutorState(estate);
}

/*
 * Opens the segment of the present for writing; makes it if it is missing, or if somebody
 * has dropped it or detached it from its zone.
 */
static Relation
open_present(int32 zone_id, Topic **topic, Zone **zone, TimestampTz *at)
{
	int			cuts = 0;

	iotmq_stable_enter(zone_id);
	for (;;)
	{
		const Segment *segment;
		Oid			relid;
		Relation	rel;

		CHECK_FOR_INTERRUPTS();
		segment = present(zone_id, topic, zone, at);
		if (segment == NULL)
		{
			require_table(*topic, *zone);
			iotmq_segment_make_present(*topic, *zone, *at);
			continue;
		}
		relid = segment->relid;
		rel = try_relation_open(relid, RowExclusiveLock);
		/* what sealing closed, or retention dropped, meanwhile can't be closed any more */
		segment = present(zone_id, topic, zone, at);
		if (segment == NULL || segment->relid != relid)
		{
			if (rel != NULL)
				relation_close(rel, NoLock);
			continue;
		}
		if (rel != NULL && iotmq_segment_is_ours(relid, *zone))
		{
			iotmq_epoch_begin(*topic, *zone);
			return rel;
		}
		if (rel != NULL)
			relation_close(rel, RowExclusiveLock);
		require_table(*topic, *zone);
		if (cuts++ == MOST_CUTS)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the present segment of zone \"%s\" of topic \"%s\" was dropped or detached",
							(*zone)->name, (*topic)->name),
					 errhint("Let it go: CALL iotmq.run_maintenance();")));
		iotmq_segment_cut(zone_id, relid, *at);
	}
}

/* Raises 42P01 if somebody has dropped the zone's table. */
static void
require_table(const Topic *topic, const Zone *zone)
{
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(zone->relid)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table of zone \"%s\" of topic \"%s\" does not exist",
						zone->name, topic->name),
				 errdetail("It was not dropped by iotmq."),
				 errhint("Drop what is left: SELECT iotmq.drop_topic(%s, force => true);",
						 quote_literal_cstr(topic->name))));
}

/* The zone's segment for this moment, which is in at; NULL: it has to be made. */
static const Segment *
present(int32 zone_id, Topic **topic, Zone **zone, TimestampTz *at)
{
	if (!iotmq_catalog_zone_by_id(zone_id, topic, zone))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("zone was dropped while publishing to it")));
	*at = iotmq_segment_publish_time(*zone);
	return iotmq_segment_at(*zone, *at);
}

static void
insert(ResultRelInfo *rri, EState *estate, TupleTableSlot **slots, int n)
{
	CommandId	cid = GetCurrentCommandId(true);
	Relation	segment = rri->ri_RelationDesc;

	if (n == 1)
		table_tuple_insert(segment, slots[0], cid, 0, NULL);
	else
		table_multi_insert(segment, slots, n, cid, 0, NULL);
	for (int i = 0; i < n; i++)
	{
		ResetPerTupleExprContext(estate);
		(void) INSERT_INDEX_TUPLES(rri, slots[i], estate, false, false);
	}
}
