/*
 * lag.c - how far every group is behind: what the views consumer_lag, group_lag,
 * alerts and metrics show.
 *
 * One pass over all cursors. Cursors, leases and what waits are read with one
 * snapshot of the moment, so that every message is counted in one place; what is
 * stable, after it. Nothing is counted by reading messages: the cost is a few
 * hundred nanoseconds a cursor and open lease, and one probe of an index for each
 * place in a zone at which groups stand that are behind.
 *
 * Locks: AccessShareLock on what is read, while it is.
 */
#include "view/view.h"

#include "access/xlog.h"
#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#define NONE PG_INT64_MAX		/* no offset, no time */

typedef struct Lag				/* of a group, in a zone or in all */
{
	bool		exists;			/* false: the group has no cursor there */
	int64		earliest_offset;
	int64		next_offset;
	int64		stable_offset;
	int64		end_offset;
	int64		ready_messages;
	int64		inflight_messages;
	int64		retry_messages;
	int64		blocked_devices;
	int64		dead_letters;
	int64		expired_unread;
	int64		delivered_total;
	int64		retried_total;
	int64		dead_total;
	int64		next_redriven;	/* see place.c (not for sums) */
	int64		oldest_offset;	/* not settled; NONE: all is (not for sums) */
	TimestampTz oldest_published_at;	/* NONE: no such message */
	bool		undated;		/* there is one, in a segment that can't be read */
	TimestampTz last_consumed_at;	/* DT_NOBEGIN: never */
} Lag;

typedef struct CursorEntry
{
	Lag		   *lag;			/* NULL: no such cursor */
	ZoneMemory *zone;			/* of its zone */
	int64		oldest_lease;	/* those below are void */
} CursorEntry;

typedef struct Lags				/* of all cursors */
{
	Overview   *overview;
	Lag		  **zones;			/* of each zone, by its groups */
	int32		ncursors;		/* the highest cursor_id + 1 */
	CursorEntry *cursors;		/* by cursor_id */
} Lags;

static void collect_cursors(Lags *lags);
static CursorEntry *cursor_entry(Lags *lags, int32 cursor_id);
static void read_cursors(Lags *lags, Snapshot snapshot);
static void read_leases(Lags *lags, Snapshot snapshot);
static void read_waiting(Lags *lags, Snapshot snapshot);
static void find_oldest(const OverviewZone *zone, Lag *lags);
static int64 ready_messages(const OverviewZone *entry, const Lag *lag);
static bool date_oldest(const OverviewZone *entry, Lag **behind, int n);
static void date_redriven(int32 cursor_id, Lag *lag);
static int	compare_oldest(const void *a, const void *b);
static void add(Lag *sum, const Lag *lag);
static void put_row(ReturnSetInfo *result, const OverviewGroup *group, text *zone, const Lag *lag);
static TimestampTz kept_until(TimestampTz published_at, const Interval *kept_for);
static Datum since(TimestampTz from, TimestampTz to);

/*
 * lag(by_zone boolean, durable boolean) RETURNS SETOF record: a row for each group
 * and zone or, without by_zone, one for each group with zone NULL: sums, but for
 * the times (oldest and latest). Columns: see sql/view.sql. durable: what the rows
 * say survives a crash.
 */
PG_FUNCTION_INFO_V1(iotmq_lag);
Datum
iotmq_lag(PG_FUNCTION_ARGS)
{
	bool		by_zone = PG_GETARG_BOOL(0);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Overview   *overview = iotmq_overview_all();
	Lags		lags = {.overview = overview};
	Snapshot	snapshot;
	Lag		   *sums;

	InitMaterializedSRF(fcinfo, 0);
	collect_cursors(&lags);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	read_cursors(&lags, snapshot);
	read_leases(&lags, snapshot);
	read_waiting(&lags, snapshot);
	UnregisterSnapshot(snapshot);
	iotmq_overview_await(overview->zones, overview->nzones);
	for (int z = 0; z < overview->nzones; z++)
		find_oldest(&overview->zones[z], lags.zones[z]);
	if (PG_GETARG_BOOL(1))
		iotmq_commit_flush();

	sums = palloc0(sizeof(Lag) * overview->ngroups);
	for (int g = 0; g < overview->ngroups; g++)
	{
		sums[g].oldest_published_at = NONE;
		sums[g].last_consumed_at = DT_NOBEGIN;
	}
	for (int z = 0; z < overview->nzones; z++)
	{
		const OverviewZone *zone = &overview->zones[z];

		for (int g = 0; g < zone->ngroups && zone->end.last >= 0; g++)
		{
			const Lag  *lag = &lags.zones[z][g];

			if (lag->exists && by_zone)
				put_row(result, &overview->groups[zone->first_group + g], zone->name, lag);
			else if (lag->exists)
				add(&sums[zone->first_group + g], lag);
		}
	}
	for (int g = 0; g < overview->ngroups && !by_zone; g++)
		put_row(result, &overview->groups[g], NULL, &sums[g]);
	return (Datum) 0;
}

/* Makes room for all cursors, and lets each be found by its id. */
static void
collect_cursors(Lags *lags)
{
	const Overview *overview = lags->overview;

	for (int z = 0; z < overview->nzones; z++)
		for (int g = 0; g < overview->zones[z].ngroups; g++)
			lags->ncursors = Max(lags->ncursors, overview->zones[z].cursors[g] + 1);
	lags->cursors = palloc0(sizeof(CursorEntry) * Max(lags->ncursors, 1));
	lags->zones = palloc(sizeof(Lag *) * Max(overview->nzones, 1));
	for (int z = 0; z < overview->nzones; z++)
	{
		const OverviewZone *zone = &overview->zones[z];

		lags->zones[z] = palloc0(sizeof(Lag) * zone->ngroups);
		for (int g = 0; g < zone->ngroups; g++)
			if (zone->cursors[g] != 0)
			{
				lags->cursors[zone->cursors[g]].lag = &lags->zones[z][g];
				lags->cursors[zone->cursors[g]].zone = zone->end.memory;
			}
	}
}

static CursorEntry *
cursor_entry(Lags *lags, int32 cursor_id)
{
	if (cursor_id >= lags->ncursors || lags->cursors[cursor_id].lag == NULL)
		return NULL;			/* made or dropped meanwhile */
	return &lags->cursors[cursor_id];
}

static void
read_cursors(Lags *lags, Snapshot snapshot)
{
	RowScan		scan = iotmq_cursor_scan(snapshot);
	CursorState state;

	while (iotmq_cursor_scan_next(&scan, &state))
	{
		CursorEntry *cursor = cursor_entry(lags, state.cursor_id);
		Lag		   *lag;

		if (cursor == NULL)
			continue;
		iotmq_stable_merge(&cursor->zone->stable, &state.stable);
		cursor->oldest_lease = state.oldest_lease;
		lag = cursor->lag;
		lag->exists = true;
		lag->next_offset = state.next_offset;
		lag->retry_messages = state.redeliveries;
		lag->dead_letters = state.dead_letters;
		lag->expired_unread = state.expired_unread;
		lag->delivered_total = state.delivered_total;
		lag->retried_total = state.retried_total;
		lag->dead_total = state.dead_total;
		lag->next_redriven = state.next_redriven;
		lag->oldest_offset = NONE;
		lag->last_consumed_at = state.last_consumed_at;
	}
	iotmq_row_scan_end(&scan);
}

static void
read_leases(Lags *lags, Snapshot snapshot)
{
	RowScan		scan = iotmq_lease_scan_all(snapshot);
	Lease		lease;

	while (iotmq_lease_scan_next(&scan, &lease))
	{
		CursorEntry *cursor = cursor_entry(lags, iotmq_lease_cursor(lease.lease_id));
		int			first = 0;

		if (cursor == NULL || !cursor->lag->exists || lease.lease_id < cursor->oldest_lease)
			continue;
		while (first < lease.n - 1 && iotmq_lease_is_settled(&lease, first))
			first++;
		cursor->lag->inflight_messages += lease.messages;
		cursor->lag->oldest_offset = Min(cursor->lag->oldest_offset,
										 iotmq_lease_offset(&lease, first));
	}
	iotmq_row_scan_end(&scan);
}

/* Counts blocked devices and what was redriven just now, and finds the lowest offset that waits. */
static void
read_waiting(Lags *lags, Snapshot snapshot)
{
	RowScan		lowest = iotmq_redelivery_scan_lowest(snapshot);

	for (int z = 0; z < lags->overview->nzones; z++)
	{
		const OverviewZone *zone = &lags->overview->zones[z];

		for (int g = 0; g < zone->ngroups; g++)
		{
			Lag		   *lag = &lags->zones[z][g];
			int64		waits = lag->retry_messages;
			int64		first;
			RowScan		scan;
			Redelivery	waiting;

			if (!lag->exists)
				continue;
			lag->retry_messages += iotmq_place_count(zone->cursors[g], lag->next_redriven,
													 Max(lag->next_offset, zone->earliest_offset),
													 snapshot, &first);
			lag->oldest_offset = Min(lag->oldest_offset, first);
			if (waits == 0)
				continue;
			if (!lags->overview->groups[zone->first_group + g].orderly)
			{
				lag->oldest_offset = Min(lag->oldest_offset,
										 iotmq_redelivery_lowest(&lowest, zone->cursors[g]));
				continue;
			}
			/* the first message of each device is its lowest */
			scan = iotmq_redelivery_scan_due(zone->cursors[g], DT_NOBEGIN, snapshot);
			while (iotmq_redelivery_next(&scan, &waiting) && !TIMESTAMP_IS_NOEND(waiting.due_at))
			{
				lag->blocked_devices++;
				lag->oldest_offset = Min(lag->oldest_offset, waiting.msg_offset);
			}
			iotmq_row_scan_end(&scan);
		}
	}
	iotmq_row_scan_end(&lowest);
}

/* Adds what the zone's offsets tell of its groups, and the age of what they have not settled. */
static void
find_oldest(const OverviewZone *zone, Lag *lags)
{
	Lag		  **behind = palloc(sizeof(Lag *) * Max(zone->ngroups, 1));
	int			n = 0;

	for (int g = 0; g < zone->ngroups; g++)
	{
		Lag		   *lag = &lags[g];

		lag->earliest_offset = zone->earliest_offset;
		/* whoever was busy when the log was cut goes on at what is left of it */
		lag->next_offset = Max(lag->next_offset, lag->earliest_offset);
		lag->end_offset = zone->end.last + 1;
		lag->stable_offset = Max(zone->stable_offset, lag->next_offset);
		lag->ready_messages = ready_messages(zone, lag);
		lag->oldest_published_at = NONE;
		if (lag->ready_messages > 0)
			lag->oldest_offset = Min(lag->oldest_offset, lag->next_offset);
		if (!lag->exists || lag->oldest_offset == NONE)
			continue;
		if (lag->oldest_offset >= lag->earliest_offset)
			behind[n++] = lag;
		else
			date_redriven(zone->cursors[g], lag);
	}
	qsort(behind, n, sizeof(Lag *), compare_oldest);
	while (n > 0 && !date_oldest(zone, behind, n))
		;
	pfree(behind);
}

/* Decided and not delivered, without offsets that never came to be. */
static int64
ready_messages(const OverviewZone *entry, const Lag *lag)
{
	int64		from = lag->next_offset;
	int64		n = Max(lag->stable_offset - from, 0);
	Topic	   *topic;
	Zone	   *zone;

	if (n > 0 && iotmq_epoch_differs(from, lag->stable_offset) &&
		iotmq_catalog_zone_by_id(entry->zone_id, &topic, &zone))
		n -= iotmq_epoch_missing(zone, from, lag->stable_offset);
	return n;
}

/*
 * Finds when the oldest messages were published; false: the zone in memory was out
 * of date. behind is in order, which spares the scan from going back.
 */
static bool
date_oldest(const OverviewZone *entry, Lag **behind, int n)
{
	Topic	   *topic;
	Zone	   *zone;
	ZoneScan   *scan;
	bool		stale;

	if (!iotmq_catalog_zone_by_id(entry->zone_id, &topic, &zone))
		return true;
	scan = iotmq_scan_begin(zone, behind[0]->oldest_offset, entry->end.last);
	scan->lenient = true;
	for (int i = 0; i < n; i++)
		if (!iotmq_scan_published_at(scan, behind[i]->oldest_offset,
									 &behind[i]->oldest_published_at))
		{
			behind[i]->oldest_published_at = NONE;
			behind[i]->undated = iotmq_scan_is_partial(scan);
		}
	stale = scan->stale;
	iotmq_scan_end(scan);
	return !stale;
}

/* The oldest message is one that the log has dropped: it was redriven. */
static void
date_redriven(int32 cursor_id, Lag *lag)
{
	TupleTableSlot *slot = iotmq_deadletter_content(cursor_id, lag->oldest_offset);
	bool		isnull;

	if (slot != NULL)
		lag->oldest_published_at =
			DatumGetTimestampTz(slot_getattr(slot, Anum_published_at, &isnull));
}

static int
compare_oldest(const void *a, const void *b)
{
	int64		x = (*(Lag *const *) a)->oldest_offset;
	int64		y = (*(Lag *const *) b)->oldest_offset;

	return x < y ? -1 : x > y;
}

static void
add(Lag *sum, const Lag *lag)
{
	sum->earliest_offset += lag->earliest_offset;
	sum->next_offset += lag->next_offset;
	sum->stable_offset += lag->stable_offset;
	sum->end_offset += lag->end_offset;
	sum->ready_messages += lag->ready_messages;
	sum->inflight_messages += lag->inflight_messages;
	sum->retry_messages += lag->retry_messages;
	sum->blocked_devices += lag->blocked_devices;
	sum->dead_letters += lag->dead_letters;
	sum->expired_unread += lag->expired_unread;
	sum->delivered_total += lag->delivered_total;
	sum->retried_total += lag->retried_total;
	sum->dead_total += lag->dead_total;
	sum->undated = sum->undated || lag->undated;
	sum->oldest_published_at = Min(sum->oldest_published_at, lag->oldest_published_at);
	sum->last_consumed_at = Max(sum->last_consumed_at, lag->last_consumed_at);
}

static void
put_row(ReturnSetInfo *result, const OverviewGroup *group, text *zone, const Lag *lag)
{
	TimestampTz now = GetCurrentStatementStartTimestamp();
	bool		dated = lag->oldest_published_at != NONE;
	Interval	none = {0};
	OverviewRow row = {0};

	iotmq_overview_column(&row, PointerGetDatum(group->topic), true);
	iotmq_overview_column(&row, PointerGetDatum(group->name), true);
	iotmq_overview_column(&row, PointerGetDatum(zone), zone != NULL);
	iotmq_overview_column(&row, PointerGetDatum(group->mode), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->earliest_offset), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->next_offset), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->stable_offset), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->end_offset), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->ready_messages + lag->inflight_messages +
											  lag->retry_messages), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->ready_messages), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->inflight_messages), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->retry_messages), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->blocked_devices), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->dead_letters), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->expired_unread), true);
	iotmq_overview_column(&row, dated ? since(lag->oldest_published_at, now) :
						  IntervalPGetDatum(&none), dated || !lag->undated);
	iotmq_overview_column(&row, dated ? since(now, kept_until(lag->oldest_published_at,
															  &group->kept_for)) : 0, dated);
	iotmq_overview_column(&row, TimestampTzGetDatum(lag->last_consumed_at),
						  !TIMESTAMP_IS_NOBEGIN(lag->last_consumed_at));
	iotmq_overview_column(&row, Int64GetDatum(lag->delivered_total), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->retried_total), true);
	iotmq_overview_column(&row, Int64GetDatum(lag->dead_total), true);
	tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.isnull);
}

/* When retention drops what was published then. */
static TimestampTz
kept_until(TimestampTz published_at, const Interval *kept_for)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(published_at),
												   IntervalPGetDatum(kept_for)));
}

/* The time from one to the other, an interval; not below 0. */
static Datum
since(TimestampTz from, TimestampTz to)
{
	return DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(Max(from, to)),
							   TimestampTzGetDatum(from));
}
