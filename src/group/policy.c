/*
 * policy.c - what row level security lets a reader see.
 *
 * Owners may add policies to a topic's table. They bind whoever reads by the right to SELECT
 * from it, as they bind his SQL; not who reads as a consumer of a group, or as an administrator,
 * or to mirror the topic: a mirror without some of the messages would be a loss.
 * PostgreSQL itself applies them: what is asked for is asked of the topic's table in SQL, as
 * the caller. So code in a policy runs with the caller's rights and never between
 * iotmq_owner_become and iotmq_owner_restore. It may do anything, also look up topics:
 * pointers into the catalog are no good behind a query.
 *
 * Locks: those of a SELECT.
 */
#include "group/group.h"

#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

/* No operator is looked up in the caller's search_path. */
#define EQ " OPERATOR(pg_catalog.=) "
#define GE " OPERATOR(pg_catalog.>=) "
#define LE " OPERATOR(pg_catalog.<=) "
#define LT " OPERATOR(pg_catalog.<) "

#define DELIVERY "NULL::pg_catalog.int8, zone, msg_offset, device_id, tag, payload, body, " \
	"properties, published_at, 0, message_key"

static bool may_select(const Topic *topic);
static char *messages_of(Oid topic_table);
static void add_messages(const char *command, int nargs, Oid *types, Datum *values,
						 DeliverySet *set);

/*
 * Do policies choose what the current user may read? Raises 42501 if they do and his session
 * has row_security off.
 */
bool
iotmq_policy_applies(const Topic *topic)
{
	return may_select(topic) && !iotmq_access_is_mirror(topic) &&
		check_enable_rls(topic->relid, InvalidOid, false) == RLS_ENABLED;
}

/* Are there policies, and the current user may read single zones, to which nothing applies them? */
bool
iotmq_policy_shuts_out(const Topic *topic)
{
	return !may_select(topic) && !iotmq_access_is_admin() && !iotmq_access_is_mirror(topic) &&
		check_enable_rls(topic->relid, InvalidOid, true) == RLS_ENABLED;
}

/* Raises 42501 if they shut the current user out. */
void
iotmq_policy_require(const Topic *topic)
{
	if (iotmq_policy_shuts_out(topic))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to read topic \"%s\"", topic->name),
				 errdetail("Its table has row level security, which wants the right to read all of the topic."),
				 errhint("An administrator can run: SELECT iotmq.grant_read(%s, %s);",
						 quote_literal_cstr(topic->name),
						 quote_literal_cstr(quote_identifier(GetUserNameFromId(GetUserId(), false))))));
}

/*
 * The offsets of the messages in a window that the current user sees, the lowest first, at
 * most that many of them; n tells how many. What was committed before the call counts, at
 * any isolation level: else fetch would pass over what is younger than the transaction.
 */
int64 *
iotmq_policy_offsets(Oid topic_table, const char *zone_name, const PolicyWindow *window,
					 int64 most, int *n)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			types[] = {TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID};
	Datum		values[] = {
		CStringGetTextDatum(zone_name), Int64GetDatum(window->first), Int64GetDatum(window->last),
		TimestampTzGetDatum(window->from_time), TimestampTzGetDatum(window->to_time),
		Int64GetDatum(most)
	};
	SPIPlanPtr	plan;
	int64	   *offsets;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	plan = SPI_prepare(psprintf("SELECT msg_offset FROM %s WHERE zone" EQ "$1"
								" AND msg_offset" GE "$2 AND msg_offset" LE "$3"
								" AND published_at" GE "$4 AND published_at" LE "$5"
								" ORDER BY msg_offset LIMIT $6", messages_of(topic_table)),
					   lengthof(types), types);
	if (plan == NULL)
		elog(ERROR, "could not prepare to read: %s", SPI_result_code_string(SPI_result));
	if (SPI_execute_snapshot(plan, values, NULL, GetLatestSnapshot(), InvalidSnapshot,
							 false, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read: %s", SPI_result_code_string(SPI_result));
	*n = SPI_processed;
	offsets = MemoryContextAlloc(context, sizeof(int64) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		bool		isnull;

		offsets[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
												 1, &isnull));
	}
	SPI_finish();
	return offsets;
}

/* Does the current user see that one message? */
bool
iotmq_policy_shows(Oid topic_table, const char *zone_name, int64 msg_offset, TimestampTz published_at)
{
	PolicyWindow window = {msg_offset, msg_offset, published_at, published_at};
	int			n;

	pfree(iotmq_policy_offsets(topic_table, zone_name, &window, 1, &n));
	return n > 0;
}

/*
 * Adds what messages_of_device returns. Each zone is asked by itself, in the order of its
 * index on the device.
 */
void
iotmq_policy_add_of_device(const Topic *topic, const char *zone_name, Datum device_id,
						   Datum since, Datum until, int max_messages, DeliverySet *set)
{
	StringInfoData zones;
	Oid			types[] = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID};
	Datum		values[] = {device_id, since, until, Int32GetDatum(max_messages)};
	char	   *messages = messages_of(topic->relid);

	initStringInfo(&zones);
	for (int z = 0; z < topic->nzones; z++)
		if (zone_name == NULL || strcmp(zone_name, topic->zones[z].name) == 0)
			appendStringInfo(&zones,
							 "%s(SELECT * FROM %s WHERE zone" EQ "%s AND device_id" EQ "$1"
							 " AND published_at" GE "$2 AND published_at" LT "$3"
							 " ORDER BY msg_offset DESC LIMIT $4)",
							 zones.len > 0 ? " UNION ALL " : "", messages,
							 quote_literal_cstr(topic->zones[z].name));
	if (zones.len > 0)
		add_messages(psprintf("SELECT " DELIVERY " FROM (%s) AS message"
							  " ORDER BY published_at DESC, msg_offset DESC LIMIT $4", zones.data),
					 lengthof(types), types, values, set);
}

/* Adds what message_by_key returns. */
void
iotmq_policy_add_by_key(const Topic *topic, const char *zone_name, Datum device_id,
						Datum message_key, DeliverySet *set)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[] = {device_id, message_key};

	add_messages(psprintf("SELECT " DELIVERY " FROM %s WHERE device_id" EQ "$1 AND message_key" EQ "$2"
						  "%s%s ORDER BY published_at DESC, msg_offset DESC",
						  messages_of(topic->relid), zone_name == NULL ? "" : " AND zone" EQ,
						  zone_name == NULL ? "" : quote_literal_cstr(zone_name)),
				 lengthof(types), types, values, set);
}

/* May the current user read the topic's table in SQL? */
static bool
may_select(const Topic *topic)
{
	bool		is_missing = false;

	return pg_class_aclcheck_ext(topic->relid, GetUserId(), ACL_SELECT, &is_missing) == ACLCHECK_OK &&
		!is_missing;
}

/* What to read messages from, with our names of their columns, whatever users call them. */
static char *
messages_of(Oid topic_table)
{
	static const char *const ours[Natts_message] = {
		"zone", "msg_offset", "published_at", "device_id", "tag", "payload", "body", "properties",
		"message_key"
	};
	const char *theirs[Natts_message];
	StringInfoData from;

	iotmq_message_columns(topic_table, theirs);
	initStringInfo(&from);
	for (int i = 0; i < Natts_message; i++)
		appendStringInfo(&from, "%s%s AS %s", i == 0 ? "(SELECT " : ", ", theirs[i], ours[i]);
	appendStringInfo(&from, " FROM %s) AS messages",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(topic_table)),
												get_rel_name(topic_table)));
	return from.data;
}

/* Adds the rows of a query of messages, which sees what the calling query sees. */
static void
add_messages(const char *command, int nargs, Oid *types, Datum *values, DeliverySet *set)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(command, nargs, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read: %s", SPI_result_code_string(SPI_result));
	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(set->store, SPI_tuptable->vals[i]);
	set->rows += SPI_processed;
	SPI_finish();
}
