/*
 * overview.c - everything there is, for views: all zones and groups of all topics, as far
 * as the current user may see them, and the stable offsets of many zones at once.
 *
 * Monitors see all of it, others the groups that they may consume as, and the topics of
 * these. What is not in here is not read at all: so neither rows nor figures of a plan
 * tell of it.
 *
 * What is in memory (catalog.c) is copied, since looking up the next topic may
 * reset it. A zone that is dropped meanwhile stays in the list without offsets.
 */
#include "view/view.h"

#include "access/xlog.h"
#include "utils/builtins.h"

#define PROBE_ROWS 1000			/* of a zone, to look along for the first undecided offset */

static void fill_zone(OverviewZone *entry, const Zone *zone);
static void add_topic(Overview *overview, Topic *topic, bool sees_all);
static int	visible_groups(const Topic *topic, bool sees_all, int *groups);
static void probe(OverviewZone *zone);

/* Adds the next column to a row of a view; not known: NULL. */
void
iotmq_overview_column(OverviewRow *row, Datum value, bool known)
{
	Assert(row->n < OVERVIEW_COLUMNS);
	row->values[row->n] = value;
	row->isnull[row->n++] = !known;
}

/* All zones and groups that the current user may see, in memory of the caller's. */
Overview *
iotmq_overview_all(void)
{
	Overview   *overview = palloc0(sizeof(Overview));
	int			n;
	int32	   *topic_ids = iotmq_catalog_topic_ids(&n);
	bool		sees_all = iotmq_access_may_monitor();

	for (int i = 0; i < n; i++)
	{
		Topic	   *topic = iotmq_catalog_topic_by_id(topic_ids[i]);

		if (topic != NULL)
			add_topic(overview, topic, sees_all);
	}
	pfree(topic_ids);
	return overview;
}

/* Reads the last offsets, of this moment. */
void
iotmq_overview_ends(OverviewZone *zones, int n)
{
	bool		is_committed;

	for (int z = 0; z < n; z++)
		zones[z].end.last = iotmq_end_read(zones[z].end.memory, &is_committed);
}

/*
 * Reads the last offsets and finds the first one not yet decided of each zone,
 * waiting a moment, for all of them together, for publishers to end. Whoever compares
 * them with cursors reads those before. On a standby only what consumers learnt on
 * the primary is known.
 */
void
iotmq_overview_await(OverviewZone *zones, int n)
{
	ZoneEnd    *ends = palloc(sizeof(ZoneEnd) * Max(n, 1));

	for (int z = 0; z < n; z++)
		ends[z] = zones[z].end;
	(void) iotmq_stable_await(ends, n); /* what is open then is looked at row by row */
	for (int z = 0; z < n; z++)
	{
		OverviewZone *zone = &zones[z];

		zone->end = ends[z];
		zone->stable_offset = Max(zone->end.memory->stable.offset, zone->earliest_offset);
		if (zone->stable_offset <= zone->end.last && !RecoveryInProgress())
			probe(zone);
		zone->stable_offset = Min(zone->stable_offset, zone->end.last + 1);
	}
	pfree(ends);
}

/*
 * zone_offsets(zone_id int, OUT stable_offset bigint, OUT end_offset bigint): the
 * first offset not yet decided and the next one to be assigned. NULL: no such zone.
 */
PG_FUNCTION_INFO_V1(iotmq_overview_zone_offsets);
Datum
iotmq_overview_zone_offsets(PG_FUNCTION_ARGS)
{
	Topic	   *topic;
	Zone	   *zone;
	OverviewZone offsets;
	Datum		values[2];
	bool		isnull[2] = {false, false};

	if (!iotmq_catalog_zone_by_id(PG_GETARG_INT32(0), &topic, &zone))
		PG_RETURN_NULL();
	iotmq_cursor_teach(topic, zone);
	fill_zone(&offsets, zone);
	iotmq_overview_await(&offsets, 1);
	if (offsets.end.last < 0)
		PG_RETURN_NULL();
	values[0] = Int64GetDatum(offsets.stable_offset);
	values[1] = Int64GetDatum(offsets.end.last + 1);
	return iotmq_call_return_row(fcinfo, values, isnull);
}

/* Fills in what the catalog knows of the zone. */
static void
fill_zone(OverviewZone *entry, const Zone *zone)
{
	entry->zone_id = zone->zone_id;
	entry->earliest_offset = zone->earliest_offset;
	entry->end.memory = iotmq_stable_memory(zone);
}

static void
add_topic(Overview *overview, Topic *topic, bool sees_all)
{
	text	   *name = cstring_to_text(topic->name);
	text	   *orderly = cstring_to_text("orderly");
	text	   *concurrent = cstring_to_text("concurrent");
	int			first_group = overview->ngroups;
	int		   *groups = palloc(sizeof(int) * Max(topic->ngroups, 1));
	int			ngroups = visible_groups(topic, sees_all, groups);

	if (!sees_all && ngroups == 0)
		return;
	if (ngroups > 0)
	{
		overview->ngroups += ngroups;
		overview->groups = overview->groups == NULL ?
			palloc(sizeof(OverviewGroup) * overview->ngroups) :
			repalloc(overview->groups, sizeof(OverviewGroup) * overview->ngroups);
	}
	for (int g = 0; g < ngroups; g++)
	{
		OverviewGroup *group = &overview->groups[first_group + g];

		group->topic = name;
		group->name = cstring_to_text(topic->groups[groups[g]].name);
		group->orderly = topic->groups[groups[g]].orderly;
		group->mode = group->orderly ? orderly : concurrent;
		group->kept_for = topic->kept_for;
	}

	if (topic->nzones > 0)
		overview->zones = overview->zones == NULL ?
			palloc(sizeof(OverviewZone) * topic->nzones) :
			repalloc(overview->zones, sizeof(OverviewZone) * (overview->nzones + topic->nzones));
	for (int z = 0; z < topic->nzones; z++)
	{
		OverviewZone *zone = &overview->zones[overview->nzones++];

		fill_zone(zone, iotmq_catalog_zone_at(topic, z));
		zone->topic = name;
		zone->name = cstring_to_text(topic->zones[z].name);
		zone->first_group = first_group;
		zone->ngroups = ngroups;
		zone->cursors = palloc(sizeof(int32) * ngroups);
		for (int g = 0; g < ngroups; g++)
			zone->cursors[g] = iotmq_catalog_cursor(&topic->groups[groups[g]], &topic->zones[z]);
	}
}

/* Which of the topic's groups the current user may see; how many. */
static int
visible_groups(const Topic *topic, bool sees_all, int *groups)
{
	int			n = 0;

	for (int g = 0; g < topic->ngroups; g++)
		if (sees_all || iotmq_access_may_consume(&topic->groups[g]))
			groups[n++] = g;
	return n;
}

/* Looks along the rows behind what is known to be stable. */
static void
probe(OverviewZone *entry)
{
	Topic	   *topic;
	Zone	   *zone;
	ZoneScan   *scan;

	if (!iotmq_catalog_zone_by_id(entry->zone_id, &topic, &zone))
		return;
	scan = iotmq_scan_begin(zone, entry->stable_offset, entry->end.last);
	scan->lenient = true;
	for (int i = 0; i < PROBE_ROWS && iotmq_scan_next(scan) != NULL; i++)
		;
	entry->stable_offset = scan->position;
	iotmq_scan_end(scan);
}
