/*
 * catalog.c - topics, zones, segments and groups, kept in memory.
 *
 * Owns the cache that every call reads first. A topic is loaded whole, by its
 * name or through the id of a zone or a cursor. All of it is thrown away when a
 * trigger on one of the catalogs (iotmq_catalog_changed) says that something
 * changed; that reaches every backend with its next lock, as DDL does.
 *
 * A pointer from here is good until the next call of a function of this file
 * that looks something up. Rows are read with a catalog snapshot, so what other
 * transactions committed is seen under REPEATABLE READ too: a cache outlives
 * the transaction that filled it and must not keep its old view.
 *
 * Locks: AccessShareLock on the catalogs while they are read.
 */
#include "iotmq.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation_d.h"
#include "catalog/pg_type_d.h"
#include "commands/trigger.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Columns of the catalogs in sql/schema.sql. */
enum
{
	Anum_topic_id = 1, Anum_topic_name, Anum_topic_table, Anum_topic_retention,
	Anum_topic_segment_interval, Natts_topic = 9
};
enum
{
	Anum_zone_id = 1, Anum_zone_topic_id, Anum_zone_name, Anum_zone_table,
	Anum_zone_sequence, Anum_zone_earliest, Anum_zone_floor_time, Natts_zone = 9
};
enum
{
	Anum_segment_zone_id = 1, Anum_segment_from, Anum_segment_to, Anum_segment_table,
	Anum_segment_sealed, Anum_segment_first, Anum_segment_last,
	Natts_segment = Anum_segment_last
};
enum
{
	Anum_group_id = 1, Anum_group_topic_id, Anum_group_name, Anum_group_mode,
	Anum_group_tags, Anum_group_filter, Anum_group_invisible_for,
	Anum_group_max_retries, Anum_group_backoff, Natts_group = 12
};
enum
{
	Anum_cursor_id = 1, Anum_cursor_group_id, Anum_cursor_zone_id,
	Natts_cursor = Anum_cursor_zone_id
};

enum
{
	Anum_grant_group_id = 1, Anum_grant_role
};

static const char *const catalog_names[CATALOGS] = {
	"topic", "zone", "segment", "consumer_group", "cursor", "consume_grant",
	"position", "lease", "redelivery", "dead_message"
};

static const char *const index_names[CATALOG_INDEXES] = {
	"position_cursor_id", "lease_pkey", "redelivery_due", "redelivery_device",
	"dead_message_origin"
};

typedef struct ZoneId			/* entry of zones_by_id */
{
	int32		zone_id;
	Topic	   *topic;
	Zone	   *zone;
} ZoneId;

static bool valid = false;		/* false: reset at the next lookup */
static uint64 changes = 0;		/* that this backend was told of */
static MemoryContext context = NULL;
static HTAB *topics;			/* Topic, by name */
static HTAB *zones_by_id;		/* ZoneId */
static HTAB *cursors_by_id;		/* Cursor */
static Oid	schema_oid;
static Oid	relids[CATALOGS];
static Oid	indexes[CATALOG_INDEXES];
static Oid	admin_function;

static void invalidate(Datum arg, Oid relid);
static void refresh(void);
static Topic *topic_by_id(int32 topic_id);
static HTAB *make_hash(const char *name, Size keysize, Size entrysize, int flags);
static Topic *load_topic(Datum key, AttrNumber column, RegProcedure eq, const char *index);
static void load_zones(Topic *topic, uint64 changes_before);
static void load_segments(Zone *zone);
static void load_groups(Topic *topic);
static void load_group(ConsumerGroup *group, HeapTuple tuple, TupleDesc desc);
static void load_grantees(ConsumerGroup *group);
static void load_cursors(Topic *topic);
static int	compare_names(const void *a, const void *b);

/* A scan of one catalog by its first key columns. */
typedef struct CatalogScan
{
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
} CatalogScan;

static void
scan_begin(CatalogScan *s, Catalog catalog, const char *index, AttrNumber column,
		   RegProcedure eq, Datum value)
{
	ScanKeyInit(&s->key, column, BTEqualStrategyNumber, eq, value);
	if (eq == F_TEXTEQ)
		s->key.sk_collation = C_COLLATION_OID;
	s->rel = table_open(relids[catalog], AccessShareLock);
	s->scan = systable_beginscan(s->rel, get_relname_relid(index, schema_oid), true,
								 NULL, 1, &s->key);
}

static void
scan_end(CatalogScan *s)
{
	systable_endscan(s->scan);
	table_close(s->rel, AccessShareLock);
}

void
iotmq_catalog_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

/* The topic of that name; raises 42704 if there is none. */
Topic *
iotmq_topic(const char *name)
{
	Topic	   *topic;
	char		key[NAME_BYTES + 1] = {0};

	refresh();
	strlcpy(key, name, sizeof(key));
	topic = hash_search(topics, key, HASH_FIND, NULL);
	if (topic == NULL && strlen(name) <= NAME_BYTES)
		topic = load_topic(CStringGetTextDatum(name), Anum_topic_name, F_TEXTEQ,
						   "topic_topic_key");
	if (topic == NULL || strlen(name) > NAME_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("topic \"%s\" does not exist", name),
				 errhint("Create it: SELECT iotmq.create_topic(%s);",
						 quote_literal_cstr(name))));
	return topic;
}

/* The zone of that name; raises 42704 if there is none. */
Zone *
iotmq_zone(Topic *topic, const char *name)
{
	Zone	   *zone = NULL;

	if (strlen(name) <= NAME_BYTES)
		zone = bsearch(name, topic->zones, topic->nzones, sizeof(Zone), compare_names);
	if (zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("zone \"%s\" of topic \"%s\" does not exist", name, topic->name),
				 errhint("Add it: SELECT iotmq.add_zone(%s, %s);",
						 quote_literal_cstr(topic->name), quote_literal_cstr(name))));
	return zone;
}

/* The zone of that name or, for NULL, the topic's only one (else 22004). */
Zone *
iotmq_zone_or_only(Topic *topic, text *name)
{
	if (name != NULL)
		return iotmq_zone(topic, text_to_cstring(name));
	if (topic->nzones != 1)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("zone must not be NULL: topic \"%s\" has %d zones",
						topic->name, topic->nzones),
				 topic->nzones == 0 ?
				 errhint("Add one: SELECT iotmq.add_zone(%s, 'default');",
						 quote_literal_cstr(topic->name)) :
				 errhint("Name one of its zones: zone => %s.",
						 quote_literal_cstr(topic->zones[0].name))));
	return &topic->zones[0];
}

/* The group of that name; raises 42704 if there is none. */
ConsumerGroup *
iotmq_group(Topic *topic, const char *name)
{
	ConsumerGroup	   *group = NULL;

	if (strlen(name) <= NAME_BYTES)
		group = bsearch(name, topic->groups, topic->ngroups, sizeof(ConsumerGroup), compare_names);
	if (group == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("consumer group \"%s\" of topic \"%s\" does not exist",
						name, topic->name),
				 errhint("Create it: SELECT iotmq.create_group(%s, %s);",
						 quote_literal_cstr(topic->name), quote_literal_cstr(name))));
	return group;
}

/* The zone with that id; false if there is none. */
bool
iotmq_zone_by_id(int32 zone_id, Topic **topic, Zone **zone)
{
	ZoneId	   *entry;

	refresh();
	entry = hash_search(zones_by_id, &zone_id, HASH_FIND, NULL);
	if (entry == NULL)
	{
		CatalogScan s;
		HeapTuple	tuple;
		bool		isnull;
		Datum		topic_id = 0;

		scan_begin(&s, CATALOG_ZONE, "zone_pkey", Anum_zone_id, F_INT4EQ,
				   Int32GetDatum(zone_id));
		tuple = systable_getnext(s.scan);
		if (HeapTupleIsValid(tuple))
			topic_id = heap_getattr(tuple, Anum_zone_topic_id, RelationGetDescr(s.rel), &isnull);
		scan_end(&s);
		if (!HeapTupleIsValid(tuple))
			return false;
		load_topic(topic_id, Anum_topic_id, F_INT4EQ, "topic_pkey");
		entry = hash_search(zones_by_id, &zone_id, HASH_FIND, NULL);
	}
	if (entry == NULL)
		return false;
	*topic = entry->topic;
	*zone = entry->zone;
	return true;
}

/* What the cursor with that id belongs to; false if there is none. */
bool
iotmq_cursor_by_id(int32 cursor_id, Cursor *cursor)
{
	Cursor	   *entry;

	refresh();
	entry = hash_search(cursors_by_id, &cursor_id, HASH_FIND, NULL);
	if (entry == NULL)
	{
		CatalogScan s;
		HeapTuple	tuple;
		bool		isnull;
		int32		zone_id = 0;
		Topic	   *topic;
		Zone	   *zone;

		scan_begin(&s, CATALOG_CURSOR, "cursor_pkey", Anum_cursor_id, F_INT4EQ,
				   Int32GetDatum(cursor_id));
		tuple = systable_getnext(s.scan);
		if (HeapTupleIsValid(tuple))
			zone_id = DatumGetInt32(heap_getattr(tuple, Anum_cursor_zone_id,
												 RelationGetDescr(s.rel), &isnull));
		scan_end(&s);
		if (zone_id == 0 || !iotmq_zone_by_id(zone_id, &topic, &zone))
			return false;
		entry = hash_search(cursors_by_id, &cursor_id, HASH_FIND, NULL);
	}
	if (entry == NULL)
		return false;
	*cursor = *entry;
	return true;
}

/* The group with that id; NULL: there is none. */
ConsumerGroup *
iotmq_group_by_id(int32 group_id)
{
	CatalogScan s;
	HeapTuple	tuple;
	bool		isnull;
	int32		topic_id = 0;
	Topic	   *topic;

	refresh();
	scan_begin(&s, CATALOG_GROUP, "consumer_group_pkey", Anum_group_id, F_INT4EQ,
			   Int32GetDatum(group_id));
	tuple = systable_getnext(s.scan);
	if (HeapTupleIsValid(tuple))
		topic_id = DatumGetInt32(heap_getattr(tuple, Anum_group_topic_id,
											  RelationGetDescr(s.rel), &isnull));
	scan_end(&s);
	topic = topic_id == 0 ? NULL : topic_by_id(topic_id);
	for (int i = 0; topic != NULL && i < topic->ngroups; i++)
		if (topic->groups[i].group_id == group_id)
			return &topic->groups[i];
	return NULL;
}

Oid
iotmq_catalog_relid(Catalog catalog)
{
	Assert(context != NULL);
	return relids[catalog];
}

Oid
iotmq_catalog_index(CatalogIndex index)
{
	Assert(context != NULL);
	return indexes[index];
}

/* How many changes this backend was told of: has anything moved since? */
uint64
iotmq_catalog_changes(void)
{
	return changes;
}

/* The schema iotmq; its owner is the extension's. */
Oid
iotmq_schema(void)
{
	return get_namespace_oid("iotmq", false);
}

/* The function that only administrators may execute. */
Oid
iotmq_admin_function(void)
{
	if (context == NULL)
		refresh();
	return admin_function;
}

/* A text argument that names something; raises 22004 if it is NULL. */
char *
iotmq_name_arg(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	iotmq_require_arg(fcinfo, argno, argname);
	return text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

void
iotmq_require_arg(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", argname)));
}

/* Microseconds, with 24 hours a day and 30 days a month; 22023 beyond 10,000 years. */
int64
iotmq_interval_us(Interval *interval)
{
	double		us = (double) interval->time +
		(interval->day + interval->month * (double) DAYS_PER_MONTH) * USECS_PER_DAY;

	if (fabs(us) > 3652500.0 * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("interval out of range")));
	return interval->time +
		(interval->day + interval->month * (int64) DAYS_PER_MONTH) * USECS_PER_DAY;
}

/*
 * catalog_changed() RETURNS trigger, after any statement on a cached catalog:
 * makes every backend read it again, this one from its next command on, the
 * others from this transaction's commit on.
 */
PG_FUNCTION_INFO_V1(iotmq_catalog_changed);
Datum
iotmq_catalog_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "catalog_changed was not called as a trigger");
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}

static void
invalidate(Datum arg, Oid relid)
{
	bool		ours = relid == InvalidOid;

	for (int i = 0; i <= CATALOG_CACHED && !ours; i++)
		ours = relid == relids[i];
	if (ours)
	{
		valid = false;
		changes++;
	}
}

static Topic *
topic_by_id(int32 topic_id)
{
	HASH_SEQ_STATUS status;
	Topic	   *topic;

	refresh();
	hash_seq_init(&status, topics);
	while ((topic = hash_seq_search(&status)) != NULL)
		if (topic->topic_id == topic_id)
		{
			hash_seq_term(&status);
			return topic;
		}
	return load_topic(Int32GetDatum(topic_id), Anum_topic_id, F_INT4EQ, "topic_pkey");
}

/* Starts an empty cache if something changed since the last lookup. */
static void
refresh(void)
{
	if (valid)
		return;

	if (context == NULL)
		context = AllocSetContextCreate(CacheMemoryContext, "iotmq catalog",
										ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(context);
	schema_oid = iotmq_schema();
	for (int i = 0; i < CATALOGS; i++)
		relids[i] = get_relname_relid(catalog_names[i], schema_oid);
	for (int i = 0; i < CATALOG_INDEXES; i++)
		indexes[i] = get_relname_relid(index_names[i], schema_oid);
	admin_function = LookupFuncName(list_make2(makeString("iotmq"), makeString("grant_admin")),
									1, (Oid[]) {REGROLEOID}, false);
	topics = make_hash("iotmq topics", NAME_BYTES + 1, sizeof(Topic), HASH_STRINGS);
	zones_by_id = make_hash("iotmq zones", sizeof(int32), sizeof(ZoneId), HASH_BLOBS);
	cursors_by_id = make_hash("iotmq cursors", sizeof(int32), sizeof(Cursor), HASH_BLOBS);
	valid = true;
}

static HTAB *
make_hash(const char *name, Size keysize, Size entrysize, int flags)
{
	HASHCTL		ctl = {.keysize = keysize, .entrysize = entrysize, .hcxt = context};

	return hash_create(name, 32, &ctl, HASH_ELEM | HASH_CONTEXT | flags);
}

/*
 * Loads a topic with all that belongs to it; NULL if there is none. After an
 * error on the way, or a change that arrived meanwhile, the cache is reset at
 * the next lookup.
 */
static Topic *
load_topic(Datum key, AttrNumber column, RegProcedure eq, const char *index)
{
	CatalogScan s;
	HeapTuple	tuple;
	Topic		topic = {0};
	Topic	   *entry;
	uint64		changes_before = changes;

	valid = false;
	scan_begin(&s, CATALOG_TOPIC, index, column, eq, key);
	tuple = systable_getnext(s.scan);
	if (HeapTupleIsValid(tuple))
	{
		Datum		values[Natts_topic];
		bool		isnull[Natts_topic];

		heap_deform_tuple(tuple, RelationGetDescr(s.rel), values, isnull);
		topic.topic_id = DatumGetInt32(values[Anum_topic_id - 1]);
		strlcpy(topic.name, TextDatumGetCString(values[Anum_topic_name - 1]), sizeof(topic.name));
		topic.relid = DatumGetObjectId(values[Anum_topic_table - 1]);
		topic.segment_interval =
			iotmq_interval_us(DatumGetIntervalP(values[Anum_topic_segment_interval - 1]));
	}
	scan_end(&s);
	if (topic.topic_id == 0)
	{
		valid = changes == changes_before;
		return NULL;
	}

	load_zones(&topic, changes_before);
	load_groups(&topic);

	entry = hash_search(topics, topic.name, HASH_ENTER, NULL);
	*entry = topic;
	for (int i = 0; i < entry->nzones; i++)
	{
		ZoneId	   *zone = hash_search(zones_by_id, &entry->zones[i].zone_id, HASH_ENTER, NULL);

		zone->topic = entry;
		zone->zone = &entry->zones[i];
	}
	load_cursors(entry);
	valid = changes == changes_before;
	return entry;
}

static void
load_zones(Topic *topic, uint64 changes_before)
{
	CatalogScan s;
	HeapTuple	tuple;
	int			room = 0;

	scan_begin(&s, CATALOG_ZONE, "zone_topic_id_zone_key", Anum_zone_topic_id, F_INT4EQ,
			   Int32GetDatum(topic->topic_id));
	while (HeapTupleIsValid(tuple = systable_getnext(s.scan)))
	{
		Datum		values[Natts_zone];
		bool		isnull[Natts_zone];
		Zone	   *zone;

		if (topic->nzones == room)
		{
			room = room == 0 ? 4 : room * 2;
			topic->zones = room == 4 ?
				MemoryContextAlloc(context, room * sizeof(Zone)) :
				repalloc(topic->zones, room * sizeof(Zone));
		}
		heap_deform_tuple(tuple, RelationGetDescr(s.rel), values, isnull);
		zone = &topic->zones[topic->nzones++];
		memset(zone, 0, sizeof(Zone));
		zone->zone_id = DatumGetInt32(values[Anum_zone_id - 1]);
		strlcpy(zone->name, TextDatumGetCString(values[Anum_zone_name - 1]), sizeof(zone->name));
		zone->relid = DatumGetObjectId(values[Anum_zone_table - 1]);
		zone->sequence = DatumGetObjectId(values[Anum_zone_sequence - 1]);
		zone->earliest_offset = DatumGetInt64(values[Anum_zone_earliest - 1]);
		zone->changes = changes_before;
		zone->floor_time = DatumGetTimestampTz(values[Anum_zone_floor_time - 1]);
	}
	scan_end(&s);
	for (int i = 0; i < topic->nzones; i++)
		load_segments(&topic->zones[i]);
}

static void
load_segments(Zone *zone)
{
	CatalogScan s;
	HeapTuple	tuple;
	int			room = 0;

	scan_begin(&s, CATALOG_SEGMENT, "segment_pkey", Anum_segment_zone_id, F_INT4EQ,
			   Int32GetDatum(zone->zone_id));
	while (HeapTupleIsValid(tuple = systable_getnext(s.scan)))
	{
		Datum		values[Natts_segment];
		bool		isnull[Natts_segment];
		Segment    *segment;

		if (zone->nsegments == room)
		{
			room = room == 0 ? 8 : room * 2;
			zone->segments = room == 8 ?
				MemoryContextAlloc(context, room * sizeof(Segment)) :
				repalloc(zone->segments, room * sizeof(Segment));
		}
		heap_deform_tuple(tuple, RelationGetDescr(s.rel), values, isnull);
		segment = &zone->segments[zone->nsegments++];
		segment->relid = DatumGetObjectId(values[Anum_segment_table - 1]);
		segment->from_time = DatumGetTimestampTz(values[Anum_segment_from - 1]);
		segment->to_time = DatumGetTimestampTz(values[Anum_segment_to - 1]);
		segment->sealed = DatumGetBool(values[Anum_segment_sealed - 1]);
		segment->first_offset = isnull[Anum_segment_first - 1] ? 0 :
			DatumGetInt64(values[Anum_segment_first - 1]);
		segment->last_offset = isnull[Anum_segment_last - 1] ? -1 :
			DatumGetInt64(values[Anum_segment_last - 1]);
	}
	scan_end(&s);
}

static void
load_groups(Topic *topic)
{
	CatalogScan s;
	HeapTuple	tuple;
	int			room = 0;

	scan_begin(&s, CATALOG_GROUP, "consumer_group_topic_id_consumer_group_key",
			   Anum_group_topic_id, F_INT4EQ, Int32GetDatum(topic->topic_id));
	while (HeapTupleIsValid(tuple = systable_getnext(s.scan)))
	{
		if (topic->ngroups == room)
		{
			room = room == 0 ? 4 : room * 2;
			topic->groups = room == 4 ?
				MemoryContextAlloc(context, room * sizeof(ConsumerGroup)) :
				repalloc(topic->groups, room * sizeof(ConsumerGroup));
		}
		load_group(&topic->groups[topic->ngroups++], tuple, RelationGetDescr(s.rel));
	}
	scan_end(&s);
	for (int i = 0; i < topic->ngroups; i++)
		load_grantees(&topic->groups[i]);
}

static void
load_grantees(ConsumerGroup *group)
{
	CatalogScan s;
	HeapTuple	tuple;

	scan_begin(&s, CATALOG_CONSUME_GRANT, "consume_grant_pkey", Anum_grant_group_id, F_INT4EQ,
			   Int32GetDatum(group->group_id));
	while (HeapTupleIsValid(tuple = systable_getnext(s.scan)))
	{
		bool		isnull;

		group->grantees = group->ngrantees == 0 ?
			MemoryContextAlloc(context, sizeof(Oid)) :
			repalloc(group->grantees, sizeof(Oid) * (group->ngrantees + 1));
		group->grantees[group->ngrantees++] =
			DatumGetObjectId(heap_getattr(tuple, Anum_grant_role, RelationGetDescr(s.rel), &isnull));
	}
	scan_end(&s);
}

static void
load_group(ConsumerGroup *group, HeapTuple tuple, TupleDesc desc)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Datum		values[Natts_group];
	bool		isnull[Natts_group];
	Datum	   *elements;
	int			n;

	heap_deform_tuple(tuple, desc, values, isnull);
	memset(group, 0, sizeof(ConsumerGroup));
	group->group_id = DatumGetInt32(values[Anum_group_id - 1]);
	strlcpy(group->name, TextDatumGetCString(values[Anum_group_name - 1]), sizeof(group->name));
	group->orderly = strcmp(TextDatumGetCString(values[Anum_group_mode - 1]), "orderly") == 0;
	if (!isnull[Anum_group_tags - 1])
	{
		deconstruct_array(DatumGetArrayTypePCopy(values[Anum_group_tags - 1]),
						  TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
		group->ntags = n;
		group->tags = palloc(sizeof(struct varlena *) * n);
		for (int i = 0; i < n; i++)
			group->tags[i] = (struct varlena *) DatumGetPointer(elements[i]);
	}
	if (!isnull[Anum_group_filter - 1])
		group->filter = PG_DETOAST_DATUM_COPY(values[Anum_group_filter - 1]);
	group->invisible_for = iotmq_interval_us(DatumGetIntervalP(values[Anum_group_invisible_for - 1]));
	group->max_retries = DatumGetInt32(values[Anum_group_max_retries - 1]);
	deconstruct_array(DatumGetArrayTypeP(values[Anum_group_backoff - 1]),
					  INTERVALOID, sizeof(Interval), false, TYPALIGN_DOUBLE, &elements, NULL, &n);
	group->nbackoff = n;
	group->backoff = palloc(sizeof(int64) * n);
	for (int i = 0; i < n; i++)
		group->backoff[i] = iotmq_interval_us(DatumGetIntervalP(elements[i]));
	MemoryContextSwitchTo(old);
}

/* Tells each group its cursors, and each cursor where it belongs. */
static void
load_cursors(Topic *topic)
{
	for (int g = 0; g < topic->ngroups; g++)
		topic->groups[g].cursors = MemoryContextAllocZero(context, sizeof(int32) * topic->nzones);

	for (int z = 0; z < topic->nzones; z++)
	{
		CatalogScan s;
		HeapTuple	tuple;

		scan_begin(&s, CATALOG_CURSOR, "cursor_zone_id_group_id_key", Anum_cursor_zone_id,
				   F_INT4EQ, Int32GetDatum(topic->zones[z].zone_id));
		/* the index begins with zone_id, so that is its first key */
		while (HeapTupleIsValid(tuple = systable_getnext(s.scan)))
		{
			Datum		values[Natts_cursor];
			bool		isnull[Natts_cursor];

			heap_deform_tuple(tuple, RelationGetDescr(s.rel), values, isnull);
			for (int g = 0; g < topic->ngroups; g++)
			{
				ConsumerGroup	   *group = &topic->groups[g];
				Cursor	   *cursor;

				if (group->group_id != DatumGetInt32(values[Anum_cursor_group_id - 1]))
					continue;
				group->cursors[z] = DatumGetInt32(values[Anum_cursor_id - 1]);
				cursor = hash_search(cursors_by_id, &group->cursors[z], HASH_ENTER, NULL);
				cursor->topic = topic;
				cursor->group = group;
				cursor->zone = &topic->zones[z];
			}
		}
		scan_end(&s);
	}
}

/* For bsearch: name is the key; Zone and ConsumerGroup both keep theirs after an int32. */
static int
compare_names(const void *key, const void *entry)
{
	StaticAssertStmt(offsetof(Zone, name) == offsetof(ConsumerGroup, name), "names must be alike");
	return strcmp(key, ((const Zone *) entry)->name);
}
