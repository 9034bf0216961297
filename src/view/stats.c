/*
 * stats.c - what every zone holds: what the views topic_stats and metrics show.
 *
 * Offsets come from the zone's row and its sequence, times from one probe of an
 * index each, sizes of sealed segments from the catalog. What a segment that can't be read
 * would tell is NULL.
 */
#include "view/view.h"

#include <sys/stat.h>

#include "access/relation.h"
#include "access/xact.h"
#include "common/relpath.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

static void put_row(ReturnSetInfo *result, const OverviewZone *entry, const Zone *zone);
static int64 bytes_of_zone(const Zone *zone, TimestampTz now);
static int64 bytes_of_relation(Oid relid);
static int64 bytes_of_files(Relation rel);

/*
 * stats(durable boolean) RETURNS SETOF record: a row for each zone. Columns: see
 * sql/view.sql. durable: what the rows say survives a crash.
 */
PG_FUNCTION_INFO_V1(iotmq_stats);
Datum
iotmq_stats(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Overview   *overview = iotmq_overview_all();

	InitMaterializedSRF(fcinfo, 0);
	iotmq_overview_ends(overview->zones, overview->nzones);
	for (int z = 0; z < overview->nzones; z++)
	{
		Topic	   *topic;
		Zone	   *zone;

		CHECK_FOR_INTERRUPTS();
		if (overview->zones[z].end.last >= 0 &&
			iotmq_catalog_zone_by_id(overview->zones[z].zone_id, &topic, &zone))
			put_row(result, &overview->zones[z], zone);
	}
	if (PG_GETARG_BOOL(0))
		iotmq_commit_flush();
	return (Datum) 0;
}

static void
put_row(ReturnSetInfo *result, const OverviewZone *entry, const Zone *zone)
{
	ZoneScan   *scan = iotmq_scan_begin(zone, zone->earliest_offset, entry->end.last);
	int64		end_offset = entry->end.last + 1;
	bool		has_oldest;
	TimestampTz oldest = 0;
	TimestampTz newest;
	OverviewRow row = {0};

	scan->lenient = true;
	has_oldest = iotmq_scan_published_at(scan, zone->earliest_offset, &oldest);
	if (entry->end.last < zone->earliest_offset ||
		!iotmq_scan_published_at(scan, entry->end.last, &newest))
		newest = iotmq_scan_newest(zone);
	iotmq_scan_end(scan);

	iotmq_overview_column(&row, PointerGetDatum(entry->topic), true);
	iotmq_overview_column(&row, PointerGetDatum(entry->name), true);
	iotmq_overview_column(&row, Int64GetDatum(zone->nsegments), true);
	iotmq_overview_column(&row, Int64GetDatum(zone->earliest_offset), true);
	iotmq_overview_column(&row, Int64GetDatum(end_offset), true);
	iotmq_overview_column(&row, Int64GetDatum(
		Max(end_offset - zone->earliest_offset -
			iotmq_epoch_missing(zone, zone->earliest_offset, end_offset), 0)), true);
	iotmq_overview_column(&row, Int64GetDatum(bytes_of_zone(zone, GetCurrentStatementStartTimestamp())), true);
	iotmq_overview_column(&row, TimestampTzGetDatum(oldest), has_oldest);
	iotmq_overview_column(&row, TimestampTzGetDatum(newest), !TIMESTAMP_IS_NOBEGIN(newest));
	iotmq_overview_column(&row, Int64GetDatum(end_offset - 1 -
											  iotmq_epoch_missing(zone, 1, end_offset)), true);
	tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.isnull);
}

/* Segments made ahead of time are empty. */
static int64
bytes_of_zone(const Zone *zone, TimestampTz now)
{
	int64		bytes = 0;

	for (int i = 0; i < zone->nsegments; i++)
	{
		const Segment *segment = &zone->segments[i];

		if (segment->sealed)
			bytes += segment->bytes;
		else if (segment->from_time <= now)
			bytes += bytes_of_relation(segment->relid);
	}
	return bytes;
}

/*
 * With indexes and TOAST table, without the small maps beside them, and without the
 * first page of an index on nothing; 0: it was dropped.
 */
static int64
bytes_of_relation(Oid relid)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	int64		bytes;
	ListCell   *lc;

	if (rel == NULL)
		return 0;
	bytes = bytes_of_files(rel);
	if (rel->rd_rel->relhasindex && bytes > 0)
		foreach(lc, RelationGetIndexList(rel))
			bytes += bytes_of_relation(lfirst_oid(lc));
	if (OidIsValid(rel->rd_rel->reltoastrelid))
		bytes += bytes_of_relation(rel->rd_rel->reltoastrelid);
	relation_close(rel, AccessShareLock);
	return bytes;
}

/*
 * The main fork's files. They are not opened, as RelationGetNumberOfBlocks would do: a
 * backend keeps about 1,000 files open, and five for each zone may be more.
 */
static int64
bytes_of_files(Relation rel)
{
	char	   *path = RELATION_PATH(rel);
	char	   *file = path;
	int64		bytes = 0;
	struct stat info;

	for (int n = 1; stat(file, &info) == 0; n++)
	{
		bytes += info.st_size;
		if (info.st_size < (int64) RELSEG_SIZE * BLCKSZ)
			break;
		file = psprintf("%s.%d", path, n);
	}
	return bytes;
}
