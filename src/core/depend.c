/*
 * depend.c - what goes when a topic's table goes.
 *
 * The zones of a topic are in a schema of the topic's own, iotmq_zone_<topic_id>, so that one
 * who may name them may name those of no other topic. No command makes a schema depend on a
 * table, and no dump knows that it does: so a trigger on the catalog of topics notes it,
 * whether create_topic or a restore brings the row. pg_upgrade brings files instead of rows:
 * there maintenance notes it again.
 *
 * Locks, where maintenance does: AccessShareLock on the table, not waiting, and on the schema.
 */
#include "core/core.h"

#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

static void note(int32 topic_id, Oid table_id);

/*
 * depend_schema() RETURNS trigger, after a row of iotmq_internal.topic was inserted: the
 * schema of its zones is dropped together with its table, also by DROP EXTENSION.
 */
PG_FUNCTION_INFO_V1(iotmq_depend_schema);
Datum
iotmq_depend_schema(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != iotmq_relation_table(CATALOG_TOPIC))
		elog(ERROR, "depend_schema was not called as a trigger of the topics");
	desc = RelationGetDescr(trigger->tg_relation);
	note(DatumGetInt32(SPI_getbinval(trigger->tg_trigtuple, desc,
									 SPI_fnumber(desc, "topic_id"), &isnull)),
		 DatumGetObjectId(SPI_getbinval(trigger->tg_trigtuple, desc,
										SPI_fnumber(desc, "table_name"), &isnull)));
	return PointerGetDatum(NULL);
}

/*
 * depend_note(topic_id int, table_name regclass) RETURNS void: the same for a topic that is
 * there, whose row the caller has locked. What is being dropped is left alone.
 */
PG_FUNCTION_INFO_V1(iotmq_depend_note);
Datum
iotmq_depend_note(PG_FUNCTION_ARGS)
{
	Oid			table_id = PG_GETARG_OID(1);

	if (ConditionalLockRelationOid(table_id, AccessShareLock))
		note(PG_GETARG_INT32(0), table_id);
	PG_RETURN_VOID();
}

/* A restore of a part may have brought neither. */
static void
note(int32 topic_id, Oid table_id)
{
	char	   *name = psprintf("iotmq_zone_%d", topic_id);
	ObjectAddress schema = {.classId = NamespaceRelationId};
	ObjectAddress table = {.classId = RelationRelationId,.objectId = table_id};

	schema.objectId = get_namespace_oid(name, true);
	if (!OidIsValid(schema.objectId) || get_rel_relkind(table_id) == '\0')
		return;
	LockDatabaseObject(NamespaceRelationId, schema.objectId, 0, AccessShareLock);
	if (get_namespace_oid(name, true) == schema.objectId)
		recordDependencyOn(&schema, &table, DEPENDENCY_AUTO);
}
