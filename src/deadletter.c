/*
 * deadletter.c - messages given up: a row of iotmq.dead_message each, with a
 * copy of the content, since the log drops the original some day.
 */
#include "iotmq.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "commands/sequence.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

enum
{
	Anum_dead_id = 1, Anum_dead_cursor_id, Anum_dead_attempts, Anum_dead_dead_at,
	Anum_dead_redriven, Anum_dead_reason, Anum_dead_message,	/* then the message's columns */
	Natts_dead = Anum_dead_message + Natts_message - 1
};

/* Adds the message in slot (a row of a topic table) to the group's dead letters. */
void
iotmq_dead_letter_insert(const Cursor *cursor, TupleTableSlot *slot, int attempts, text *reason)
{
	Relation	rel = table_open(iotmq_catalog_relid(CATALOG_DEAD_MESSAGE), RowExclusiveLock);
	Oid			sequence = get_relname_relid("dead_message_id_seq", iotmq_schema());
	Datum		values[Natts_dead];
	bool		isnull[Natts_dead] = {false};
	HeapTuple	tuple;

	values[Anum_dead_id - 1] = Int64GetDatum(nextval_internal(sequence, false));
	values[Anum_dead_cursor_id - 1] = Int32GetDatum(cursor->cursor_id);
	values[Anum_dead_attempts - 1] = Int32GetDatum(attempts);
	values[Anum_dead_dead_at - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[Anum_dead_redriven - 1] = BoolGetDatum(false);
	values[Anum_dead_reason - 1] = PointerGetDatum(reason);
	isnull[Anum_dead_reason - 1] = reason == NULL;
	slot_getsomeattrs(slot, Natts_message);
	memcpy(&values[Anum_dead_message - 1], slot->tts_values, sizeof(Datum) * Natts_message);
	memcpy(&isnull[Anum_dead_message - 1], slot->tts_isnull, sizeof(bool) * Natts_message);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, isnull);
	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, NoLock);
}
