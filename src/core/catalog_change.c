/*
 * catalog_change.c - tells every backend what changed in the catalogs.
 *
 * A trigger on each of them says what a row is about. The message is PostgreSQL's own, of a
 * relation that changed, with a number that stands for a topic, a zone, or everything
 * (marks): so others' topics, and the other zones of a topic, stay in memory. Numbers in
 * that range are real relations only in databases that have used up two thousand million
 * oids; then something is read again for nothing.
 */
#include "core/catalog_change.h"
#include "core/load.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/datum.h"
#include "utils/inval.h"

static void tell_of_row(TriggerData *trigger, HeapTuple row);
static int32 id_in(TriggerData *trigger, HeapTuple row, const char *column);
static bool is_same_zone(TriggerData *trigger);
static void tell_of_topic(int32 topic_id);
static void tell_of_zone(int32 zone_id);
static void tell(Oid mark);

/*
 * catalog_change_tell() RETURNS trigger, after each row of a cached catalog that is written, or
 * after a TRUNCATE: makes every backend read again what the row is about, this one from its
 * next command on, the others from this transaction's commit on.
 */
PG_FUNCTION_INFO_V1(iotmq_catalog_change_tell);
Datum
iotmq_catalog_change_tell(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "catalog_change_tell was not called as a trigger");
	if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		tell(MARK_ALL);
	else
	{
		tell_of_row(trigger, trigger->tg_trigtuple);
		if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
			tell_of_row(trigger, trigger->tg_newtuple);
	}
	return PointerGetDatum(NULL);
}

/* The old or the new version of a row. What it belongs to may be gone: then it is everything. */
static void
tell_of_row(TriggerData *trigger, HeapTuple row)
{
	Oid			relid = RelationGetRelid(trigger->tg_relation);

	if (relid == iotmq_relation_table(CATALOG_TOPIC))
		tell_of_topic(id_in(trigger, row, "topic_id"));
	else if (relid == iotmq_relation_table(CATALOG_GROUP) ||
			 relid == iotmq_relation_table(CATALOG_MIRROR_GRANT))
		tell_of_topic(id_in(trigger, row, "topic_id"));
	else if (relid == iotmq_relation_table(CATALOG_ZONE) && is_same_zone(trigger))
		tell_of_zone(id_in(trigger, row, "zone_id"));
	else if (relid == iotmq_relation_table(CATALOG_ZONE))
		tell_of_topic(id_in(trigger, row, "topic_id"));
	else if (relid == iotmq_relation_table(CATALOG_SEGMENT) ||
			 relid == iotmq_relation_table(CATALOG_ZONE_GAP))
		tell_of_zone(id_in(trigger, row, "zone_id"));
	else if (relid == iotmq_relation_table(CATALOG_CURSOR) ||
			 relid == iotmq_relation_table(CATALOG_CONSUME_GRANT))
		tell_of_topic(iotmq_load_parent(CATALOG_GROUP, id_in(trigger, row, "group_id")));
	else
		tell(MARK_ALL);
}

/* The id in that column of the row. */
static int32
id_in(TriggerData *trigger, HeapTuple row, const char *column)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	bool		isnull;
	Datum		value = SPI_getbinval(row, desc, SPI_fnumber(desc, column), &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

/* Is it an update that leaves it what it is: the zone of that name, topic and tables? */
static bool
is_same_zone(TriggerData *trigger)
{
	static const char *const columns[] = {"zone_id", "topic_id", "zone", "table_name", "offset_sequence"};
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);

	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		return false;
	for (int i = 0; i < (int) lengthof(columns); i++)
	{
		int			column = SPI_fnumber(desc, columns[i]);
		bool		isnull;
		Datum		before = SPI_getbinval(trigger->tg_trigtuple, desc, column, &isnull);
		Datum		after = SPI_getbinval(trigger->tg_newtuple, desc, column, &isnull);

		if (column <= 0 ||		/* somebody has taken it away */
			!datumIsEqual(before, after, TupleDescAttr(desc, column - 1)->attbyval,
						  TupleDescAttr(desc, column - 1)->attlen))
			return false;
	}
	return true;
}

static void
tell_of_topic(int32 topic_id)
{
	tell(topic_id > 0 && topic_id <= MARK_IDS ? MARK_TOPIC + topic_id : MARK_ALL);
}

static void
tell_of_zone(int32 zone_id)
{
	tell(zone_id > 0 && zone_id <= MARK_IDS ? MARK_ZONE + zone_id : MARK_ALL);
}

/* Sends the message that a relation of that number changed. */
static void
tell(Oid mark)
{
	HeapTuple	tuple = palloc0(HEAPTUPLESIZE + MAXALIGN(SizeofHeapTupleHeader) + CLASS_TUPLE_SIZE);

	tuple->t_data = (HeapTupleHeader) ((char *) tuple + HEAPTUPLESIZE);
	tuple->t_data->t_hoff = MAXALIGN(SizeofHeapTupleHeader);
	((Form_pg_class) GETSTRUCT(tuple))->oid = mark;
	CacheInvalidateRelcacheByTuple(tuple);
	pfree(tuple);
}
