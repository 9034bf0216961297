/*
 * depend.c - what goes when a topic's table goes.
 *
 * The zones of a topic are in a schema of the topic's own, iotmq_zone_<topic_id>, so that one
 * who may name them may name those of no other topic. No command makes a schema depend on a
 * table, and no dump knows that it does: so a trigger on the catalog of topics notes it,
 * whether create_topic or a restore brings the row.
 */
#include "core/core.h"

#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/*
 * depend_schema() RETURNS trigger, after a row of iotmq_internal.topic was inserted: the
 * schema of its zones is dropped together with its table, also by DROP EXTENSION.
 */
PG_FUNCTION_INFO_V1(iotmq_depend_schema);
Datum
iotmq_depend_schema(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	ObjectAddress schema = {.classId = NamespaceRelationId};
	ObjectAddress table = {.classId = RelationRelationId};
	TupleDesc	desc;
	bool		isnull;
	int32		topic_id;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != iotmq_relation_table(CATALOG_TOPIC))
		elog(ERROR, "depend_schema was not called as a trigger of the topics");
	desc = RelationGetDescr(trigger->tg_relation);
	topic_id = DatumGetInt32(SPI_getbinval(trigger->tg_trigtuple, desc,
										   SPI_fnumber(desc, "topic_id"), &isnull));
	table.objectId = DatumGetObjectId(SPI_getbinval(trigger->tg_trigtuple, desc,
													SPI_fnumber(desc, "table_name"), &isnull));
	schema.objectId = get_namespace_oid(psprintf("iotmq_zone_%d", topic_id), true);
	/* a restore of a part may have brought neither */
	if (OidIsValid(schema.objectId) && get_rel_relkind(table.objectId) != '\0')
		recordDependencyOn(&schema, &table, DEPENDENCY_AUTO);
	return PointerGetDatum(NULL);
}
