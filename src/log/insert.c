/*
 * insert.c - publishing to a table that its owner has changed.
 *
 * Tables of topics are their owner's to extend. Where a segment is as iotmq made it, append.c
 * writes to it directly. Else messages go the way of an INSERT into the zone's table: defaults,
 * generated columns, constraints, triggers and expressions of indexes count. All that runs
 * with the rights of the table's owner (table_owner.c).
 *
 * Locks: those of an INSERT.
 */
#include "log/log.h"

#include "access/htup_details.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/relcache.h"

/* The columns that an import fills in, in the order of a topic's table; a publisher those behind the time. */
#define NCOLUMNS (Natts_message - Anum_msg_offset + 1)
static Oid column_types[NCOLUMNS] = {
	INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, JSONBOID, BYTEAOID, JSONBOID, TEXTOID
};

static void insert_translated(Oid zone_table, Batch *batch, Message **messages, int n, bool imported);
static void insert(Oid zone_table, Batch *batch, Message **messages, int n, bool imported);
static const char *command_for(Oid zone_table, bool imported);
static bool has_plain_columns(Relation segment);
static bool has_plain_constraints(Relation segment);
static bool has_plain_indexes(Relation segment, Oid *key_index);

/*
 * Is the segment as iotmq made it, so that rows may be written to it directly? Tells its
 * index on keys, which rows without a key have no entry in; invalid: it has none.
 */
bool
iotmq_insert_is_plain(Relation segment, Oid *key_index)
{
	return segment->trigdesc == NULL && has_plain_columns(segment) &&
		has_plain_constraints(segment) && has_plain_indexes(segment, key_index);
}

/*
 * Inserts n checked messages of a batch into the table of their zone, and tells their
 * offsets; 0: a trigger of the owner's has left the message out. Errors: 55000 the columns of a
 * message are not there any more; what the owner's code raises.
 */
void
iotmq_insert_messages(Oid zone_table, Batch *batch, Message **messages, int n)
{
	insert_translated(zone_table, batch, messages, n, false);
}

/* The same with the offsets and times that the messages have. */
void
iotmq_insert_imported(Oid zone_table, Batch *batch, Message **messages, int n)
{
	insert_translated(zone_table, batch, messages, n, true);
}

static void
insert_translated(Oid zone_table, Batch *batch, Message **messages, int n, bool imported)
{
	MemoryContext context = CurrentMemoryContext;
	const Key  *around = iotmq_key_writes(NULL);

	PG_TRY();
	{
		insert(zone_table, batch, messages, n, imported);
		(void) iotmq_key_writes(around);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		iotmq_copy_in_expect(0, 0);
		(void) iotmq_key_writes(around);
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		iotmq_name_translate(error);
		ReThrowError(error);
	}
	PG_END_TRY();
}

static void
insert(Oid zone_table, Batch *batch, Message **messages, int n, bool imported)
{
	const char *command = command_for(zone_table, imported);
	AttrNumber	first = imported ? Anum_msg_offset : Anum_device_id;
	int			ncolumns = Natts_message - first + 1;
	TableOwner	before = iotmq_table_owner_become(zone_table);
	SPIPlanPtr	plan;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	plan = SPI_prepare(command, ncolumns, &column_types[first - Anum_msg_offset]);
	if (plan == NULL)
		elog(ERROR, "could not prepare to insert: %s", SPI_result_code_string(SPI_result));
	for (int i = 0; i < n; i++)
	{
		Message    *message = messages[i];
		char		nulls[NCOLUMNS];
		bool		is_null;
		Key			key;

		CHECK_FOR_INTERRUPTS();
		batch->at_hand = message - batch->messages + 1;
		for (int c = 0; c < ncolumns; c++)
			nulls[c] = message->isnull[first - 1 + c] ? 'n' : ' ';
		if (imported)
		{
			message->values[Anum_msg_offset - 1] = Int64GetDatum(message->msg_offset);
			message->values[Anum_published_at - 1] = TimestampTzGetDatum(message->published_at);
			iotmq_copy_in_expect(message->zone_id, message->msg_offset);
		}
		else if (!message->isnull[Anum_message_key - 1])
			iotmq_key_init(&key, message->zone_id, message->values[Anum_device_id - 1],
						   message->values[Anum_message_key - 1]);
		(void) iotmq_key_writes(imported || message->isnull[Anum_message_key - 1] ? NULL : &key);
		if (SPI_execute_plan(plan, &message->values[first - 1], nulls, false, 0) !=
			SPI_OK_INSERT_RETURNING)
			elog(ERROR, "could not insert: %s", SPI_result_code_string(SPI_result));
		message->msg_offset = SPI_processed == 0 ? 0 :
			DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
										&is_null));
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_finish();
	iotmq_table_owner_restore(before);
}

/* Of one message; its columns by their numbers, whatever they are called. */
static const char *
command_for(Oid zone_table, bool imported)
{
	const char *columns[Natts_message];

	iotmq_message_columns(zone_table, columns);
	return psprintf("INSERT INTO %s.%s (%s%s%s%s%s, %s, %s, %s, %s, %s) VALUES ($1, $2, $3, $4, $5, $6%s) "
					"RETURNING %s",
					quote_identifier(get_namespace_name(get_rel_namespace(zone_table))),
					quote_identifier(get_rel_name(zone_table)),
					imported ? columns[Anum_msg_offset - 1] : "", imported ? ", " : "",
					imported ? columns[Anum_published_at - 1] : "", imported ? ", " : "",
					columns[Anum_device_id - 1], columns[Anum_tag - 1], columns[Anum_payload - 1],
					columns[Anum_body - 1], columns[Anum_properties - 1],
					columns[Anum_message_key - 1], imported ? ", $7, $8" : "",
					columns[Anum_msg_offset - 1]);
}

/* Our columns and no others, with our NOT NULLs. */
static bool
has_plain_columns(Relation segment)
{
	TupleDesc	desc = RelationGetDescr(segment);

	if (desc->natts != Natts_message || !iotmq_message_fits(desc))
		return false;
	for (int i = Anum_tag - 1; i < Natts_message; i++)
		if (TupleDescAttr(desc, i)->attnotnull)
			return false;
	return true;
}

/* None but those on messages and on their place, which append.c has no need to check again. */
static bool
has_plain_constraints(Relation segment)
{
	TupleConstr *constr = RelationGetDescr(segment)->constr;

	if (constr == NULL)
		return true;
	for (int i = 0; i < constr->num_check; i++)
		if (strcmp(constr->check[i].ccname, "message") != 0 &&
			strcmp(constr->check[i].ccname, "place") != 0)
			return false;
	return !constr->has_generated_stored;
}

/* None but that on keys that runs code, or that wants more than an entry. */
static bool
has_plain_indexes(Relation segment, Oid *key_index)
{
	List	   *indexes = RelationGetIndexList(segment);
	ListCell   *lc;
	bool		plain = true;

	*key_index = InvalidOid;
	foreach(lc, indexes)
	{
		Relation	index = RelationIdGetRelation(lfirst_oid(lc));

		if (!RelationIsValid(index))
			continue;
		if (!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		{
			if (iotmq_key_is_index(segment, index))
				*key_index = RelationGetRelid(index);
			else
				plain = false;
		}
		if (!heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL) ||
			index->rd_index->indisexclusion || !index->rd_index->indimmediate)
			plain = false;
		RelationClose(index);
	}
	list_free(indexes);
	return plain;
}
