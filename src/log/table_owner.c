/*
 * table_owner.c - what runs as the owner of a topic's or a zone's table.
 *
 * A superuser may give these tables to another role, which may then add constraints, triggers
 * and partitions of its own. Their code must never run with the rights of iotmq's owner: an
 * INSERT runs it, but so does whatever plans a query, or attaches a partition, since PostgreSQL
 * computes there what is constant. So what is done to such a table in SQL is done as its owner,
 * as a security-restricted operation, or as the caller; as iotmq's owner only where nobody
 * else's code can be met.
 *
 * Locks: none.
 */
#include "log/log.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

static Oid	owner_of(Oid table_id);
static bool is_ours(Oid table_id);

/* Becomes the owner of a table, restricted, with a search_path that the caller has no say in. */
TableOwner
iotmq_table_owner_become(Oid table_id)
{
	Oid			owner = owner_of(table_id);
	TableOwner	before = {.nest = NewGUCNestLevel()};

	GetUserIdAndSecContext(&before.saved.user, &before.saved.security);
	SetUserIdAndSecContext(owner, before.saved.security | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	(void) set_config_option("search_path", "\"$user\", public, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return before;
}

/* Settings are what they were: else the owner's code would choose the caller's search_path. */
void
iotmq_table_owner_restore(TableOwner before)
{
	AtEOXact_GUC(false, before.nest);
	iotmq_owner_restore(before.saved);
}

/* table_owner_run(messages regclass, command text) RETURNS void: see sql/log/table_owner.sql. */
PG_FUNCTION_INFO_V1(iotmq_table_owner_run);
Datum
iotmq_table_owner_run(PG_FUNCTION_ARGS)
{
	char	   *command = text_to_cstring(PG_GETARG_TEXT_PP(1));
	TableOwner	before = iotmq_table_owner_become(PG_GETARG_OID(0));
	int			result;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	result = SPI_execute(command, false, 0);
	if (result < 0)
		elog(ERROR, "could not run %s: %s", command, SPI_result_code_string(result));
	SPI_finish();
	iotmq_table_owner_restore(before);
	PG_RETURN_VOID();
}

/*
 * May a query on the topic's table, or on one of its zones', run as iotmq's owner? What is in
 * the catalog is good until the next lookup, or this call.
 */
bool
iotmq_table_owner_allows(const Topic *topic)
{
	Datum		table_id = ObjectIdGetDatum(topic->relid);
	bool		all_ours = is_ours(topic->relid);
	bool		isnull;

	for (int z = 0; z < topic->nzones && all_ours; z++)
		all_ours = is_ours(topic->zones[z].relid);
	return all_ours ||
		DatumGetBool(iotmq_owner_value("SELECT iotmq.table_owner_is_harmless($1)", 1,
									   (Oid[]) {REGCLASSOID}, &table_id, &isnull));
}

static Oid
owner_of(Oid table_id)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table_id));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table %u does not exist", table_id)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Has the table's owner the rights of iotmq's owner anyway? One that is gone runs nothing. */
static bool
is_ours(Oid table_id)
{
	return !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table_id)) ||
		has_privs_of_role(owner_of(table_id), iotmq_owner_oid());
}
