/*
 * load.c - reading the catalogs into memory, for catalog.c.
 *
 * Rows are read with a catalog snapshot, so what other transactions committed is
 * seen under REPEATABLE READ too: a cache outlives the transaction that filled it
 * and must not keep its old view.
 *
 * Locks: AccessShareLock on the catalogs while they are read.
 */
#include "core/load.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_collation_d.h"
#include "catalog/pg_type_d.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Columns of the catalogs in sql/schema.sql. */
enum
{
	Anum_topic_id = 1, Anum_topic_name, Anum_topic_table, Anum_topic_retention,
	Anum_topic_segment_interval, Anum_topic_policy, Anum_topic_max_retention,
	Anum_topic_device_index, Anum_topic_created_at, Anum_topic_kept_for, Anum_topic_dedup_window
};
enum
{
	Anum_zone_id = 1, Anum_zone_topic_id, Anum_zone_name, Anum_zone_table,
	Anum_zone_sequence, Anum_zone_earliest, Anum_zone_floor_time, Anum_zone_floor_xid,
	Anum_zone_seal_xid, Anum_zone_state, Anum_zone_elsewhere, Anum_zone_handed_over,
	Anum_zone_generation
};
enum
{
	Anum_mirror_zone_id = 1, Anum_mirror_source_zone, Anum_mirror_next_offset
};
enum
{
	Anum_segment_zone_id = 1, Anum_segment_from, Anum_segment_to, Anum_segment_table,
	Anum_segment_sealed, Anum_segment_first, Anum_segment_last, Anum_segment_bytes
};
enum
{
	Anum_group_id = 1, Anum_group_topic_id, Anum_group_name, Anum_group_mode,
	Anum_group_tags, Anum_group_filter, Anum_group_invisible_for,
	Anum_group_max_retries, Anum_group_backoff, Anum_group_max_delay, Anum_group_max_lag,
	Anum_group_durable_acks, Anum_group_paused
};
enum
{
	Anum_cursor_id = 1, Anum_cursor_group_id, Anum_cursor_zone_id
};
enum
{
	Anum_grant_of = 1, Anum_grant_role	/* of consume_grant and mirror_grant */
};
enum
{
	Anum_gap_zone_id = 1, Anum_gap_epoch, Anum_gap_first, Anum_gap_last_before
};
enum
{
	Anum_state_cursor_id = 1, Anum_state_next_offset
};

static MemoryContext context;	/* of the topic being loaded */

static void load_zones(Topic *topic);
static ZoneState state_named(const char *name);
static void read_zone(Zone *zone, const Datum *values);
static void load_segments(Zone *zone);
static void load_gaps(Zone *zone);
static void load_groups(Topic *topic);
static Oid *load_grantees(Catalog catalog, CatalogIndex index, int32 id, int *n);
static void load_group(ConsumerGroup *group, const Datum *values, const bool *isnull);

/* A scan of one catalog by its first key column, or of all of it. */
typedef struct CatalogScan
{
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;
	Datum	   *values;			/* of the row read last; somebody may have added columns */
	bool	   *isnull;
} CatalogScan;

static void
scan_begin(CatalogScan *s, Catalog catalog)
{
	s->rel = table_open(iotmq_relation_table(catalog), AccessShareLock);
	s->values = palloc(sizeof(Datum) * RelationGetDescr(s->rel)->natts);
	s->isnull = palloc(sizeof(bool) * RelationGetDescr(s->rel)->natts);
}

static void
scan_by(CatalogScan *s, Catalog catalog, CatalogIndex index, AttrNumber column,
		RegProcedure eq, Datum value)
{
	scan_begin(s, catalog);
	ScanKeyInit(&s->key, column, BTEqualStrategyNumber, eq, value);
	if (eq == F_TEXTEQ)
		s->key.sk_collation = C_COLLATION_OID;
	s->scan = systable_beginscan(s->rel, iotmq_relation_index(index), true, NULL, 1, &s->key);
}

static void
scan_all(CatalogScan *s, Catalog catalog)
{
	scan_begin(s, catalog);
	s->scan = systable_beginscan(s->rel, InvalidOid, false, NULL, 0, NULL);
}

/* Reads the next row; false: no more. */
static bool
scan_next(CatalogScan *s)
{
	HeapTuple	tuple = systable_getnext(s->scan);

	if (HeapTupleIsValid(tuple))
		heap_deform_tuple(tuple, RelationGetDescr(s->rel), s->values, s->isnull);
	return HeapTupleIsValid(tuple);
}

static void
scan_end(CatalogScan *s)
{
	systable_endscan(s->scan);
	table_close(s->rel, AccessShareLock);
	pfree(s->values);
	pfree(s->isnull);
}

/*
 * Reads the topic of that name or id into memory of that context, with its zones, without
 * their segments, and its groups, without their cursors. False: there is none.
 */
bool
iotmq_load_topic(Topic *topic, Datum key, LoadBy by, MemoryContext in)
{
	CatalogScan s;

	context = in;
	if (by == LOAD_BY_NAME)
		scan_by(&s, CATALOG_TOPIC, INDEX_TOPIC_NAME, Anum_topic_name, F_TEXTEQ, key);
	else
		scan_by(&s, CATALOG_TOPIC, INDEX_TOPIC, Anum_topic_id, F_INT4EQ, key);
	if (scan_next(&s))
	{
		Datum	   *values = s.values;

		topic->topic_id = DatumGetInt32(values[Anum_topic_id - 1]);
		strlcpy(topic->name, TextDatumGetCString(values[Anum_topic_name - 1]), sizeof(topic->name));
		topic->relid = DatumGetObjectId(values[Anum_topic_table - 1]);
		topic->segment_interval =
			iotmq_interval_us(DatumGetIntervalP(values[Anum_topic_segment_interval - 1]));
		topic->kept_for = *DatumGetIntervalP(values[Anum_topic_kept_for - 1]);
		topic->dedup_window = s.isnull[Anum_topic_dedup_window - 1] ? 0 :
			iotmq_interval_us(DatumGetIntervalP(values[Anum_topic_dedup_window - 1]));
	}
	scan_end(&s);
	if (topic->topic_id == 0)
		return false;
	load_zones(topic);
	load_groups(topic);
	topic->mirrors = load_grantees(CATALOG_MIRROR_GRANT, INDEX_MIRROR_GRANT, topic->topic_id,
								   &topic->nmirrors);
	return true;
}

/* What the zone or the group belongs to, a topic; 0: no such. */
int32
iotmq_load_parent(Catalog catalog, int32 id)
{
	static const struct
	{
		CatalogIndex index;
		AttrNumber	parent;
	}			places[] = {
		[CATALOG_ZONE] = {INDEX_ZONE, Anum_zone_topic_id},
		[CATALOG_GROUP] = {INDEX_GROUP, Anum_group_topic_id}
	};
	CatalogScan s;
	int32		parent = 0;

	/* each has its id in its first column */
	scan_by(&s, catalog, places[catalog].index, 1, F_INT4EQ, Int32GetDatum(id));
	if (scan_next(&s))
		parent = DatumGetInt32(s.values[places[catalog].parent - 1]);
	scan_end(&s);
	return parent;
}

/* What the cursor belongs to; false: no such. */
bool
iotmq_load_cursor(int32 cursor_id, int32 *group_id, int32 *zone_id)
{
	CatalogScan s;
	bool		found;

	scan_by(&s, CATALOG_CURSOR, INDEX_CURSOR, Anum_cursor_id, F_INT4EQ, Int32GetDatum(cursor_id));
	found = scan_next(&s);
	if (found)
	{
		*group_id = DatumGetInt32(s.values[Anum_cursor_group_id - 1]);
		*zone_id = DatumGetInt32(s.values[Anum_cursor_zone_id - 1]);
	}
	scan_end(&s);
	return found;
}

/* Hands all cursors of a group over. */
void
iotmq_load_cursors(int32 group_id, void (*add) (int32 zone_id, int32 cursor_id, void *arg), void *arg)
{
	CatalogScan s;

	scan_by(&s, CATALOG_CURSOR, INDEX_CURSOR_GROUP, Anum_cursor_group_id, F_INT4EQ,
			Int32GetDatum(group_id));
	while (scan_next(&s))
		add(DatumGetInt32(s.values[Anum_cursor_zone_id - 1]),
			DatumGetInt32(s.values[Anum_cursor_id - 1]), arg);
	scan_end(&s);
}

/* The ids of all topics, in an array of n. */
int32 *
iotmq_load_topic_ids(int *n)
{
	CatalogScan s;
	int			room = 64;
	int32	   *ids = palloc(sizeof(int32) * room);

	*n = 0;
	scan_all(&s, CATALOG_TOPIC);
	while (scan_next(&s))
	{
		if (*n == room)
			ids = repalloc(ids, sizeof(int32) * (room *= 2));
		ids[(*n)++] = DatumGetInt32(s.values[Anum_topic_id - 1]);
	}
	scan_end(&s);
	return ids;
}

/* The offset sequences of all zones, in an array of n. */
Oid *
iotmq_load_sequences(int *n)
{
	CatalogScan s;
	int			room = 64;
	Oid		   *sequences = palloc(sizeof(Oid) * room);

	*n = 0;
	scan_all(&s, CATALOG_ZONE);
	while (scan_next(&s))
	{
		if (*n == room)
			sequences = repalloc(sequences, sizeof(Oid) * (room *= 2));
		sequences[(*n)++] = DatumGetObjectId(s.values[Anum_zone_sequence - 1]);
	}
	scan_end(&s);
	return sequences;
}

/* The highest next_offset of the zone's cursors; 0: there is none. */
int64
iotmq_load_highest_cursor(int32 zone_id)
{
	CatalogScan cursors;
	int64		highest = 0;

	scan_by(&cursors, CATALOG_CURSOR, INDEX_CURSOR_ZONE, Anum_cursor_zone_id, F_INT4EQ,
			Int32GetDatum(zone_id));
	while (scan_next(&cursors))
	{
		CatalogScan state;

		scan_by(&state, CATALOG_CURSOR_STATE, INDEX_CURSOR_STATE, Anum_state_cursor_id, F_INT4EQ,
				cursors.values[Anum_cursor_id - 1]);
		if (scan_next(&state))
			highest = Max(highest, DatumGetInt64(state.values[Anum_state_next_offset - 1]));
		scan_end(&state);
	}
	scan_end(&cursors);
	return highest;
}

/* The position of the zone if it is a mirror, as it is committed now; false: it is none. */
bool
iotmq_load_mirror_next(int32 zone_id, int64 *next_offset)
{
	CatalogScan s;
	bool		found;

	scan_by(&s, CATALOG_MIRROR, INDEX_MIRROR, Anum_mirror_zone_id, F_INT4EQ, Int32GetDatum(zone_id));
	found = scan_next(&s);
	if (found)
		*next_offset = DatumGetInt64(s.values[Anum_mirror_next_offset - 1]);
	scan_end(&s);
	return found;
}

static void
load_zones(Topic *topic)
{
	CatalogScan s;
	int			room = 0;

	scan_by(&s, CATALOG_ZONE, INDEX_ZONE_TOPIC, Anum_zone_topic_id, F_INT4EQ,
			Int32GetDatum(topic->topic_id));
	while (scan_next(&s))
	{
		if (topic->nzones == room)
		{
			room = room == 0 ? 4 : room * 2;
			topic->zones = room == 4 ?
				MemoryContextAlloc(context, room * sizeof(Zone)) :
				repalloc(topic->zones, room * sizeof(Zone));
		}
		read_zone(&topic->zones[topic->nzones++], s.values);
	}
	scan_end(&s);
}

/* Reads one zone with its segments; false: there is none with that id. */
bool
iotmq_load_zone(Zone *zone, int32 zone_id, MemoryContext in)
{
	CatalogScan s;
	bool		found;

	context = in;
	scan_by(&s, CATALOG_ZONE, INDEX_ZONE, Anum_zone_id, F_INT4EQ, Int32GetDatum(zone_id));
	found = scan_next(&s);
	if (found)
		read_zone(zone, s.values);
	scan_end(&s);
	if (found)
	{
		load_segments(zone);
		load_gaps(zone);
	}
	return found;
}

static void
read_zone(Zone *zone, const Datum *values)
{
	memset(zone, 0, sizeof(Zone));
	zone->zone_id = DatumGetInt32(values[Anum_zone_id - 1]);
	strlcpy(zone->name, TextDatumGetCString(values[Anum_zone_name - 1]), sizeof(zone->name));
	zone->relid = DatumGetObjectId(values[Anum_zone_table - 1]);
	zone->sequence = DatumGetObjectId(values[Anum_zone_sequence - 1]);
	zone->earliest_offset = DatumGetInt64(values[Anum_zone_earliest - 1]);
	zone->floor_time = DatumGetTimestampTz(values[Anum_zone_floor_time - 1]);
	zone->state = state_named(TextDatumGetCString(values[Anum_zone_state - 1]));
	zone->generation = DatumGetInt32(values[Anum_zone_generation - 1]);
}

static ZoneState
state_named(const char *name)
{
	return strcmp(name, "open") == 0 ? ZONE_OPEN : strcmp(name, "mirror") == 0 ? ZONE_MIRROR :
		ZONE_FENCED;
}

static void
load_segments(Zone *zone)
{
	CatalogScan s;
	int			room = 0;

	scan_by(&s, CATALOG_SEGMENT, INDEX_SEGMENT, Anum_segment_zone_id, F_INT4EQ,
			Int32GetDatum(zone->zone_id));
	while (scan_next(&s))
	{
		Datum	   *values = s.values;
		bool	   *isnull = s.isnull;
		Segment    *segment;

		if (zone->nsegments == room)
		{
			room = room == 0 ? 8 : room * 2;
			zone->segments = room == 8 ?
				MemoryContextAlloc(context, room * sizeof(Segment)) :
				repalloc(zone->segments, room * sizeof(Segment));
		}
		segment = &zone->segments[zone->nsegments++];
		memset(segment, 0, sizeof(Segment));	/* two of them are compared as memory */
		segment->relid = DatumGetObjectId(values[Anum_segment_table - 1]);
		segment->from_time = DatumGetTimestampTz(values[Anum_segment_from - 1]);
		segment->to_time = DatumGetTimestampTz(values[Anum_segment_to - 1]);
		segment->sealed = DatumGetBool(values[Anum_segment_sealed - 1]);
		segment->first_offset = isnull[Anum_segment_first - 1] ? 0 :
			DatumGetInt64(values[Anum_segment_first - 1]);
		segment->last_offset = isnull[Anum_segment_last - 1] ? -1 :
			DatumGetInt64(values[Anum_segment_last - 1]);
		segment->bytes = isnull[Anum_segment_bytes - 1] ? 0 :
			DatumGetInt64(values[Anum_segment_bytes - 1]);
	}
	scan_end(&s);
}

static void
load_gaps(Zone *zone)
{
	CatalogScan s;

	scan_by(&s, CATALOG_ZONE_GAP, INDEX_ZONE_GAP, Anum_gap_zone_id, F_INT4EQ,
			Int32GetDatum(zone->zone_id));
	while (scan_next(&s))
	{
		zone->gaps = zone->ngaps == 0 ? MemoryContextAlloc(context, sizeof(Gap)) :
			repalloc(zone->gaps, sizeof(Gap) * (zone->ngaps + 1));
		zone->gaps[zone->ngaps++] = (Gap) {
			.last_before = DatumGetInt64(s.values[Anum_gap_last_before - 1]),
			.first_offset = DatumGetInt64(s.values[Anum_gap_first - 1])
		};
	}
	scan_end(&s);
}

static void
load_groups(Topic *topic)
{
	CatalogScan s;
	int			room = 0;

	scan_by(&s, CATALOG_GROUP, INDEX_GROUP_TOPIC,
			Anum_group_topic_id, F_INT4EQ, Int32GetDatum(topic->topic_id));
	while (scan_next(&s))
	{
		if (topic->ngroups == room)
		{
			room = room == 0 ? 4 : room * 2;
			topic->groups = room == 4 ?
				MemoryContextAlloc(context, room * sizeof(ConsumerGroup)) :
				repalloc(topic->groups, room * sizeof(ConsumerGroup));
		}
		load_group(&topic->groups[topic->ngroups++], s.values, s.isnull);
	}
	scan_end(&s);
	for (int i = 0; i < topic->ngroups; i++)
	{
		ConsumerGroup *group = &topic->groups[i];

		group->grantees = load_grantees(CATALOG_CONSUME_GRANT, INDEX_CONSUME_GRANT,
										group->group_id, &group->ngrantees);
	}
}

/* Reads the settings of one group; false: there is none with that id. */
bool
iotmq_load_group(ConsumerGroup *group, int32 group_id, MemoryContext in)
{
	CatalogScan s;
	bool		found;

	context = in;
	scan_by(&s, CATALOG_GROUP, INDEX_GROUP, Anum_group_id, F_INT4EQ, Int32GetDatum(group_id));
	found = scan_next(&s);
	if (found)
		load_group(group, s.values, s.isnull);
	scan_end(&s);
	return found;
}

/* The roles that have a grant of the group or topic of that id; NULL: none. */
static Oid *
load_grantees(Catalog catalog, CatalogIndex index, int32 id, int *n)
{
	CatalogScan s;
	Oid		   *grantees = NULL;

	*n = 0;
	scan_by(&s, catalog, index, Anum_grant_of, F_INT4EQ, Int32GetDatum(id));
	while (scan_next(&s))
	{
		grantees = *n == 0 ? MemoryContextAlloc(context, sizeof(Oid)) :
			repalloc(grantees, sizeof(Oid) * (*n + 1));
		grantees[(*n)++] = DatumGetObjectId(s.values[Anum_grant_role - 1]);
	}
	scan_end(&s);
	return grantees;
}

static void
load_group(ConsumerGroup *group, const Datum *values, const bool *isnull)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Datum	   *elements;
	int			n;

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
	group->durable_acks = DatumGetBool(values[Anum_group_durable_acks - 1]);
	group->paused = DatumGetBool(values[Anum_group_paused - 1]);
	MemoryContextSwitchTo(old);
}
