/*
 * relation.c - the tables and indexes of the schema iotmq_internal, by number.
 *
 * Looked up by name when first asked for, and again after an invalidation message of any
 * of them: what REINDEX CONCURRENTLY, a rename or DROP EXTENSION makes of them is known
 * to a session at its next command.  What is not there under its name raises 42P01 when
 * it is asked for, not before: an older version's SQL doesn't have all of them.
 */
#include "core/core.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type_d.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

static const char *const table_names[CATALOGS] = {
	[CATALOG_TOPIC] = "topic",
	[CATALOG_ZONE] = "zone",
	[CATALOG_MIRROR] = "mirror_state",
	[CATALOG_SEGMENT] = "segment",
	[CATALOG_GROUP] = "consumer_group",
	[CATALOG_CURSOR] = "cursor",
	[CATALOG_CONSUME_GRANT] = "consume_grant",
	[CATALOG_MIRROR_GRANT] = "mirror_grant",
	[CATALOG_ZONE_GAP] = "zone_gap",
	[CATALOG_CURSOR_STATE] = "cursor_state",
	[CATALOG_LEASE] = "lease",
	[CATALOG_REDELIVERY] = "redelivery",
	[CATALOG_DEAD_MESSAGE] = "dead_message"
};

static const char *const index_names[CATALOG_INDEXES] = {
	[INDEX_TOPIC] = "topic_pkey",
	[INDEX_TOPIC_NAME] = "topic_topic_key",
	[INDEX_ZONE] = "zone_pkey",
	[INDEX_ZONE_TOPIC] = "zone_topic_id_zone_key",
	[INDEX_MIRROR] = "mirror_state_pkey",
	[INDEX_SEGMENT] = "segment_pkey",
	[INDEX_GROUP] = "consumer_group_pkey",
	[INDEX_GROUP_TOPIC] = "consumer_group_topic_id_consumer_group_key",
	[INDEX_CURSOR] = "cursor_pkey",
	[INDEX_CURSOR_ZONE] = "cursor_zone_id_group_id_key",
	[INDEX_CURSOR_GROUP] = "cursor_group_id",
	[INDEX_CONSUME_GRANT] = "consume_grant_pkey",
	[INDEX_MIRROR_GRANT] = "mirror_grant_pkey",
	[INDEX_ZONE_GAP] = "zone_gap_pkey",
	[INDEX_CURSOR_STATE] = "cursor_state_cursor_id",
	[INDEX_LEASE] = "lease_pkey",
	[INDEX_REDELIVERY_DUE] = "redelivery_due",
	[INDEX_REDELIVERY_DEVICE] = "redelivery_device",
	[INDEX_DEAD_MESSAGE] = "dead_message_origin",
	[INDEX_DEAD_MESSAGE_ID] = "dead_message_pkey",
	[INDEX_DEAD_MESSAGE_AGE] = "dead_message_age",
	[INDEX_DEAD_MESSAGE_REDRIVEN] = "dead_message_redriven"
};

static bool known = false;		/* false: look them up at the next question */
static uint64 forgotten = 0;	/* how often they were */
static Oid	tables[CATALOGS];
static Oid	indexes[CATALOG_INDEXES];
static Oid	dead_message_ids;	/* a sequence */
static Oid	epoch;				/* likewise */
static Oid	last_epoch;			/* likewise */
static Oid	admin_function;
static Oid	monitor_function;

static void look_up(void);
static Oid	schema_of_ours(const char *name);
static Oid	present(Oid relid, const char *name);
static void forget(Datum arg, Oid relid);

void
iotmq_relation_init(void)
{
	CacheRegisterRelcacheCallback(forget, (Datum) 0);
}

Oid
iotmq_relation_table(Catalog catalog)
{
	look_up();
	return present(tables[catalog], table_names[catalog]);
}

Oid
iotmq_relation_index(CatalogIndex index)
{
	look_up();
	return present(indexes[index], index_names[index]);
}

/* The sequence that numbers dead letters. */
Oid
iotmq_relation_dead_message_ids(void)
{
	look_up();
	return present(dead_message_ids, "dead_message_id_seq");
}

/* The unlogged sequence that holds the epoch. */
Oid
iotmq_relation_epoch(void)
{
	look_up();
	return present(epoch, "epoch");
}

/* The sequence that holds the last epoch that was begun. */
Oid
iotmq_relation_last_epoch(void)
{
	look_up();
	return present(last_epoch, "last_epoch");
}

/* The schema iotmq; its owner is the extension's. */
Oid
iotmq_relation_schema(void)
{
	return schema_of_ours("iotmq");
}

/* The function that only administrators may execute. */
Oid
iotmq_relation_admin_function(void)
{
	look_up();
	return admin_function;
}

/* The function that only monitors and administrators may execute. */
Oid
iotmq_relation_monitor_function(void)
{
	look_up();
	return monitor_function;
}

static void
look_up(void)
{
	uint64		before = forgotten;
	Oid			schema;

	if (known)
		return;
	(void) iotmq_relation_schema();
	schema = schema_of_ours("iotmq_internal");
	for (int i = 0; i < CATALOGS; i++)
		tables[i] = get_relname_relid(table_names[i], schema);
	for (int i = 0; i < CATALOG_INDEXES; i++)
		indexes[i] = get_relname_relid(index_names[i], schema);
	dead_message_ids = get_relname_relid("dead_message_id_seq", schema);
	epoch = get_relname_relid("epoch", schema);
	last_epoch = get_relname_relid("last_epoch", schema);
	admin_function = LookupFuncName(list_make2(makeString("iotmq"), makeString("grant_admin")),
									1, (Oid[]) {REGROLEOID}, false);
	monitor_function = LookupFuncName(list_make2(makeString("iotmq"), makeString("stats")),
									  1, (Oid[]) {BOOLOID}, false);
	known = forgotten == before;
}

/* Somebody may have renamed it. */
static Oid
schema_of_ours(const char *name)
{
	Oid			schema = get_namespace_oid(name, true);

	if (!OidIsValid(schema))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_SCHEMA),
				 errmsg("schema \"%s\" does not exist", name),
				 errhint("It is a part of iotmq. If it was renamed, undo that: ALTER SCHEMA ... RENAME TO %s;", name)));
	return schema;
}

/* Somebody may have renamed or dropped it, or moved it to another schema. */
static Oid
present(Oid relid, const char *name)
{
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"iotmq_internal.%s\" does not exist", name),
				 errhint("It is a part of iotmq. If it was renamed, or moved to another schema, undo that by ALTER.")));
	return relid;
}

/* The oids stay until they are looked up again: an open call may still need them. */
static void
forget(Datum arg, Oid relid)
{
	bool		ours = relid == InvalidOid || relid == dead_message_ids ||
		relid == epoch || relid == last_epoch;

	for (int i = 0; i < CATALOGS && !ours; i++)
		ours = relid == tables[i];
	for (int i = 0; i < CATALOG_INDEXES && !ours; i++)
		ours = relid == indexes[i];
	if (ours)
	{
		known = false;
		forgotten++;
	}
}
