/*
 * settings.c - the settings of topics and groups, and the zones of a topic, as far as the
 * current user has a right on them.
 *
 * Which topics and groups those are is decided here; the rows are then read as the
 * extension's owner, with the snapshot of the query. Done by a filter in a view, the figures
 * of a plan would tell how many others there are.
 *
 * Locks: AccessShareLock on what is read.
 */
#include "view/view.h"

#include "catalog/pg_type_d.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

static bool list_zones(const Topic *topic, bool all, StringInfo list);
static void put_rows(FunctionCallInfo fcinfo, const char *query, int nargs, Oid *types, Datum *values);
static Datum array_of(Datum *elements, int n, Oid type);

/*
 * settings_of_topics() RETURNS SETOF record: the topics on which the current user has a right,
 * with the zones of which that is true; for monitors all. Columns: see sql/view/settings.sql.
 */
PG_FUNCTION_INFO_V1(iotmq_settings_of_topics);
Datum
iotmq_settings_of_topics(PG_FUNCTION_ARGS)
{
	bool		all = iotmq_access_may_monitor();
	int			ntopics;
	int32	   *topic_ids = iotmq_catalog_topic_ids(&ntopics);
	Datum	   *ids = palloc(sizeof(Datum) * Max(ntopics, 1));
	Datum	   *zones = palloc(sizeof(Datum) * Max(ntopics, 1));
	int			n = 0;

	for (int i = 0; i < ntopics; i++)
	{
		const Topic *topic = iotmq_catalog_topic_by_id(topic_ids[i]);
		StringInfoData list;

		if (topic == NULL)
			continue;			/* dropped meanwhile */
		initStringInfo(&list);
		if (!list_zones(topic, all, &list))
			continue;
		ids[n] = Int32GetDatum(topic_ids[i]);
		zones[n++] = CStringGetTextDatum(list.data);
	}
	put_rows(fcinfo, "SELECT r.* FROM iotmq.settings_topic_rows($1, $2) AS r", 2,
			 (Oid[]) {INT4ARRAYOID, TEXTARRAYOID},
			 (Datum[]) {array_of(ids, n, INT4OID), array_of(zones, n, TEXTOID)});
	return (Datum) 0;
}

/*
 * settings_of_groups() RETURNS SETOF record: the groups that the current user may consume as;
 * for monitors all. Columns: see sql/view/settings.sql.
 */
PG_FUNCTION_INFO_V1(iotmq_settings_of_groups);
Datum
iotmq_settings_of_groups(PG_FUNCTION_ARGS)
{
	int			ntopics;
	int32	   *topic_ids = iotmq_catalog_topic_ids(&ntopics);
	int			room = 64;
	Datum	   *ids = palloc(sizeof(Datum) * room);
	int			n = 0;

	for (int i = 0; i < ntopics; i++)
	{
		const Topic *topic = iotmq_catalog_topic_by_id(topic_ids[i]);

		for (int g = 0; topic != NULL && g < topic->ngroups; g++)
		{
			if (!iotmq_access_may_see(&topic->groups[g]))
				continue;
			if (n == room)
				ids = repalloc(ids, sizeof(Datum) * (room *= 2));
			ids[n++] = Int32GetDatum(topic->groups[g].group_id);
		}
	}
	put_rows(fcinfo, "SELECT r.* FROM iotmq.settings_group_rows($1) AS r", 1,
			 (Oid[]) {INT4ARRAYOID}, (Datum[]) {array_of(ids, n, INT4OID)});
	return (Datum) 0;
}

/*
 * zones(topic text) RETURNS SETOF text: the zones on which the current user has a right, by
 * name. Reads no view: whoever may name one can hold up its readers.
 * Errors: 22004 topic NULL; 42704 unknown topic.
 */
PG_FUNCTION_INFO_V1(iotmq_settings_zones);
Datum
iotmq_settings_zones(PG_FUNCTION_ARGS)
{
	const Topic *topic = iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic"));
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int z = 0; z < topic->nzones; z++)
		if (iotmq_access_may_use(topic, &topic->zones[z]))
			tuplestore_putvalues(result->setResult, result->setDesc,
								 (Datum[]) {CStringGetTextDatum(topic->zones[z].name)},
								 (bool[]) {false});
	return (Datum) 0;
}

/*
 * Writes an array of the topic's zones on which the current user has a right, or all. False:
 * it has none on the topic either.
 */
static bool
list_zones(const Topic *topic, bool all, StringInfo list)
{
	bool		any = all || iotmq_access_may_use(topic, NULL);

	for (int z = 0; z < topic->nzones; z++)
		if (all || iotmq_access_may_use(topic, &topic->zones[z]))
		{
			/* names have no character that means something in an array */
			appendStringInfo(list, "%c\"%s\"", list->len == 0 ? '{' : ',', topic->zones[z].name);
			any = true;
		}
	appendStringInfoString(list, list->len == 0 ? "{}" : "}");
	return any;
}

/* The rows of a query on our tables are those of the function. */
static void
put_rows(FunctionCallInfo fcinfo, const char *query, int nargs, Oid *types, Datum *values)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	OwnerContext saved;

	InitMaterializedSRF(fcinfo, 0);
	saved = iotmq_owner_become();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(query, nargs, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run %s", query);
	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	SPI_finish();
	iotmq_owner_restore(saved);
}

static Datum
array_of(Datum *elements, int n, Oid type)
{
	return PointerGetDatum(type == INT4OID ?
						   construct_array(elements, n, type, sizeof(int32), true, TYPALIGN_INT) :
						   construct_array(elements, n, type, -1, false, TYPALIGN_INT));
}
