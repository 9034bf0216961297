/*
 * view.h - what operators see of zones and groups.
 *
 *   lag        how far every group is behind
 *   stats      what every zone holds
 *   settings   what topics and groups were told
 *   overview   all zones and groups, and where the zones end
 */
#ifndef IOTMQ_VIEW_H
#define IOTMQ_VIEW_H

#include "group/group.h"

/* ---- overview.c ---- */

typedef struct OverviewGroup
{
	text	   *topic;
	text	   *name;
	text	   *mode;
	bool		orderly;
	Interval	kept_for;
} OverviewGroup;

typedef struct OverviewZone
{
	int32		zone_id;
	text	   *topic;
	text	   *name;
	int64		earliest_offset;
	ZoneEnd		end;
	int64		stable_offset;	/* once awaited */
	int			first_group;	/* of its topic, in groups */
	int			ngroups;
	int32	   *cursors;		/* of these groups; 0: none */
} OverviewZone;

typedef struct Overview
{
	int			nzones;
	OverviewZone *zones;
	int			ngroups;
	OverviewGroup *groups;		/* those of a topic stand together */
} Overview;

#define OVERVIEW_COLUMNS 24		/* that a row of a view has at most */

typedef struct OverviewRow		/* of a view, in the making */
{
	int			n;
	Datum		values[OVERVIEW_COLUMNS];
	bool		isnull[OVERVIEW_COLUMNS];
} OverviewRow;

extern void iotmq_overview_column(OverviewRow *row, Datum value, bool known);
extern Overview *iotmq_overview_all(void);
extern void iotmq_overview_ends(OverviewZone *zones, int n);
extern void iotmq_overview_await(OverviewZone *zones, int n);

#endif
