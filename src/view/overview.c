/*
 * overview.c - everything there is, for views: all zones and groups of all topics,
 * and the stable offsets of many zones at once.
 *
 * What is in memory (catalog.c) is copied, since looking up the next topic may
 * reset it. A zone that is dropped meanwhile stays in the list without offsets.
 */
#include "iotmq.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#define SETTLE_LOOKS 5			/* at publishers that don't end */
#define SETTLE_US 500
#define PROBE_ROWS 1000			/* of a zone, to look along for the first undecided offset */

static void add_topic(Overview *overview, Topic *topic);
static void probe(OverviewZone *zone);

/* All zones and groups, in memory of the caller's. */
Overview *
iotmq_overview(void)
{
	Overview   *overview = palloc0(sizeof(Overview));
	int			n;
	int32	   *topic_ids = iotmq_topic_ids(&n);

	for (int i = 0; i < n; i++)
	{
		Topic	   *topic = iotmq_topic_by_id(topic_ids[i]);

		if (topic != NULL)
			add_topic(overview, topic);
	}
	pfree(topic_ids);
	return overview;
}

/* Fills in what the catalog knows of the zone. */
void
iotmq_overview_zone(OverviewZone *entry, const Zone *zone)
{
	entry->zone_id = zone->zone_id;
	entry->earliest_offset = zone->earliest_offset;
	entry->stable = iotmq_stable_state(zone->sequence);
}

/* Reads the last offsets, of this moment. */
void
iotmq_overview_ends(OverviewZone *zones, int n)
{
	for (int z = 0; z < n; z++)
		zones[z].last = iotmq_sequence_last(zones[z].stable->sequence);
}

/*
 * Reads the last offsets and finds the first one not yet decided of each zone,
 * waiting a moment, for all of them together, for publishers to end. Whoever compares
 * them with positions reads those before. On a standby only what consumers learnt on
 * the primary is known.
 */
void
iotmq_overview_settle(OverviewZone *zones, int n)
{
	bool		open = !RecoveryInProgress();

	iotmq_overview_ends(zones, n);
	for (int look = 0; look < SETTLE_LOOKS && open; look++)
	{
		if (look > 0)
		{
			CHECK_FOR_INTERRUPTS();
			pg_usleep(SETTLE_US);
		}
		open = false;
		for (int z = 0; z < n; z++)
			/* a publisher itself must come upon its own open rows */
			if (zones[z].stable->stable_offset <= zones[z].last &&
				!iotmq_stable_is_publisher(zones[z].stable->sequence) &&
				iotmq_stable_refresh(zones[z].stable) <= zones[z].last)
				open = true;
	}
	for (int z = 0; z < n; z++)
	{
		OverviewZone *zone = &zones[z];

		zone->stable_offset = Max(zone->stable->stable_offset, zone->earliest_offset);
		if (zone->stable_offset <= zone->last && !RecoveryInProgress())
			probe(zone);
		zone->stable_offset = Min(zone->stable_offset, zone->last + 1);
	}
}

static void
add_topic(Overview *overview, Topic *topic)
{
	text	   *name = cstring_to_text(topic->name);
	text	   *orderly = cstring_to_text("orderly");
	text	   *concurrent = cstring_to_text("concurrent");
	int			first_group = overview->ngroups;

	if (topic->ngroups > 0)
	{
		overview->ngroups += topic->ngroups;
		overview->groups = overview->groups == NULL ?
			palloc(sizeof(OverviewGroup) * overview->ngroups) :
			repalloc(overview->groups, sizeof(OverviewGroup) * overview->ngroups);
	}
	for (int g = 0; g < topic->ngroups; g++)
	{
		OverviewGroup *group = &overview->groups[first_group + g];

		group->topic = name;
		group->name = cstring_to_text(topic->groups[g].name);
		group->orderly = topic->groups[g].orderly;
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

		iotmq_overview_zone(zone, &topic->zones[z]);
		zone->topic = name;
		zone->name = cstring_to_text(topic->zones[z].name);
		zone->first_group = first_group;
		zone->ngroups = topic->ngroups;
		zone->cursors = palloc(sizeof(int32) * topic->ngroups);
		for (int g = 0; g < topic->ngroups; g++)
			zone->cursors[g] = topic->groups[g].cursors[z];
	}
}

/* Looks along the rows behind what is known to be stable. */
static void
probe(OverviewZone *entry)
{
	Topic	   *topic;
	Zone	   *zone;
	ZoneScan   *scan;

	if (!iotmq_zone_by_id(entry->zone_id, &topic, &zone))
		return;
	scan = iotmq_scan_begin(zone, entry->stable_offset, entry->last);
	for (int i = 0; i < PROBE_ROWS && iotmq_scan_next(scan) != NULL; i++)
		;
	entry->stable_offset = scan->position;
	iotmq_scan_end(scan);
}
