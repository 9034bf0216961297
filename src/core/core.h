/*
 * core.h - what everything stands on: the catalogs in memory, who calls and what he may,
 * rows of our own tables.
 *
 *   module       loading the library
 *   catalog      topics, zones, segments, groups and cursors, by name or id
 *   relation     the tables and indexes of the schema iotmq
 *   call         what all entry points share of their arguments
 *   access       what the current user may do
 *   access_lock  who changes rights
 *   consume_grant  a role that may be missing
 *   owner        doing something as the extension's owner
 *   row          rows of our tables, found and locked
 *   group_lock   who changes a group, shown until all are told
 *   client       is anybody there to get the result
 *   commit       which transactions need not wait for the disk
 *   interval     lengths of time
 *   pg_compat.h  what differs between versions of PostgreSQL
 */
#ifndef IOTMQ_CORE_H
#define IOTMQ_CORE_H

#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/transam.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "core/pg_compat.h"

#define NAME_BYTES 48				/* topics, zones, groups */
#define DEVICE_BYTES 255			/* device ids, tags and message keys */
#define MESSAGE_BYTES (4 * 1024 * 1024) /* all of one message */
#define BATCH_MESSAGES 10000		/* one publish_batch, one lease */

/* ---- what the catalogs say; pointers are good until the next lookup ---- */

/* Columns of a topic's table. */
enum
{
	Anum_zone = 1,
	Anum_msg_offset,
	Anum_published_at,
	Anum_device_id,
	Anum_tag,
	Anum_payload,
	Anum_body,
	Anum_properties,
	Anum_message_key,			/* rows without one end before it */
	Natts_message = Anum_message_key
};

typedef struct Segment
{
	Oid			relid;
	TimestampTz from_time;
	TimestampTz to_time;		/* exclusive */
	bool		sealed;			/* first and last are final */
	int64		first_offset;	/* sealed only */
	int64		last_offset;	/* below first_offset: sealed and empty */
	int64		bytes;			/* on disk with indexes; sealed only */
} Segment;

typedef struct Gap				/* offsets that never came to be: see epoch.c */
{
	int64		last_before;	/* of the rows below it the highest offset */
	int64		first_offset;	/* of the epoch behind it */
} Gap;

typedef enum ZoneState
{
	ZONE_OPEN,
	ZONE_FENCED,				/* about to move to another server, or moved */
	ZONE_MIRROR					/* follows another server's */
} ZoneState;

typedef struct Zone
{
	int32		zone_id;
	char		name[NAME_BYTES + 1];
	struct Topic *topic;
	Oid			relid;			/* partitioned by time */
	Oid			sequence;
	int64		earliest_offset;
	TimestampTz floor_time;		/* no message is published below it any more */
	ZoneState	state;
	int32		generation;		/* another one: nothing is known to be decided */
	uint64		changes;		/* of the catalogs, that were known when it was loaded */
	uint64		told;			/* the last of them that was about it; see also its topic */
	bool		has_segments;	/* what follows is there: see iotmq_catalog_segments */
	int			nsegments;
	Segment    *segments;		/* by from_time */
	int			ngaps;			/* that are noted */
	Gap		   *gaps;			/* in order */
} Zone;

typedef struct ConsumerGroup
{
	int32		group_id;
	char		name[NAME_BYTES + 1];
	struct Topic *topic;
	uint64		changes;		/* of the catalogs, that were known when it was loaded */
	bool		orderly;
	int			ntags;			/* 0: all */
	struct varlena **tags;		/* text */
	struct varlena *filter;		/* jsonpath; NULL: none */
	int64		invisible_for;	/* us */
	int			max_retries;
	int			nbackoff;
	int64	   *backoff;		/* us; the last repeats */
	bool		durable_acks;	/* a transaction that only acks waits for the disk, too */
	bool		paused;			/* nothing is delivered */
	int32	   *cursors;		/* of each zone of the topic: see iotmq_catalog_cursor */
	int			ngrantees;
	Oid		   *grantees;		/* roles that may consume */
} ConsumerGroup;

typedef struct Topic
{
	char		name[NAME_BYTES + 1];	/* hash key */
	int32		topic_id;
	Oid			relid;
	int64		segment_interval;	/* us */
	Interval	kept_for;		/* how long retention keeps a message that nobody reads */
	int64		dedup_window;	/* us; 0: messages have no keys */
	uint64		told;			/* the last change of the catalogs that was about it */
	bool		is_stale;		/* such a one came since it was loaded */
	MemoryContext context;		/* of all that follows */
	int			nzones;
	Zone	   *zones;			/* by name */
	int			ngroups;
	ConsumerGroup *groups;		/* by name */
	int			nmirrors;
	Oid		   *mirrors;		/* roles that may pull it */
} Topic;

/* One group in one zone: what a lease id leads to. */
typedef struct Cursor
{
	int32		cursor_id;		/* hash key */
	Topic	   *topic;
	ConsumerGroup *group;
	Zone	   *zone;
} Cursor;

/* ---- catalog.c ---- */

extern void iotmq_catalog_init(void);
extern Topic *iotmq_catalog_topic(const char *name);
extern Zone *iotmq_catalog_find_zone(const Topic *topic, const char *name);
extern Zone *iotmq_catalog_zone(Topic *topic, const char *name);
extern Zone *iotmq_catalog_zone_or_only(Topic *topic, text *name);
extern Zone *iotmq_catalog_zone_at(Topic *topic, int z);
extern void iotmq_catalog_segments(const Zone *zone);
extern ConsumerGroup *iotmq_catalog_group(Topic *topic, const char *name);
extern int32 iotmq_catalog_cursor(const ConsumerGroup *group, const Zone *zone);
extern int32 *iotmq_catalog_topic_ids(int *n);
extern Topic *iotmq_catalog_topic_by_id(int32 topic_id);
extern bool iotmq_catalog_zone_by_id(int32 zone_id, Topic **topic, Zone **zone);
extern bool iotmq_catalog_cursor_by_id(int32 cursor_id, Cursor *cursor);
extern bool iotmq_catalog_zone_is_current(const Zone *zone);
extern ZoneState iotmq_catalog_zone_state(const Zone *zone);
extern bool iotmq_catalog_mirror_next(int32 zone_id, int64 *next_offset);
extern bool iotmq_catalog_group_is_current(const ConsumerGroup *group);
extern uint64 iotmq_catalog_changes(void);
extern int64 iotmq_catalog_highest_cursor(int32 zone_id);
extern Oid *iotmq_catalog_sequences(int *n);

/* ---- relation.c ---- */

typedef enum Catalog
{
	CATALOG_TOPIC,
	CATALOG_ZONE,
	CATALOG_MIRROR,
	CATALOG_SEGMENT,
	CATALOG_GROUP,
	CATALOG_CURSOR,
	CATALOG_CONSUME_GRANT,
	CATALOG_MIRROR_GRANT,
	CATALOG_ZONE_GAP,
	CATALOG_CURSOR_STATE,
	CATALOG_LEASE,
	CATALOG_REDELIVERY,
	CATALOG_DEAD_MESSAGE,
	CATALOGS
} Catalog;

typedef enum CatalogIndex
{
	INDEX_TOPIC,
	INDEX_TOPIC_NAME,
	INDEX_ZONE,
	INDEX_ZONE_TOPIC,
	INDEX_MIRROR,
	INDEX_SEGMENT,
	INDEX_GROUP,
	INDEX_GROUP_TOPIC,
	INDEX_CURSOR,
	INDEX_CURSOR_ZONE,
	INDEX_CURSOR_GROUP,
	INDEX_CONSUME_GRANT,
	INDEX_MIRROR_GRANT,
	INDEX_ZONE_GAP,
	INDEX_CURSOR_STATE,
	INDEX_LEASE,
	INDEX_REDELIVERY_DUE,
	INDEX_REDELIVERY_DEVICE,
	INDEX_DEAD_MESSAGE,
	INDEX_DEAD_MESSAGE_ID,
	INDEX_DEAD_MESSAGE_AGE,
	INDEX_DEAD_MESSAGE_REDRIVEN,
	CATALOG_INDEXES
} CatalogIndex;

extern void iotmq_relation_init(void);
extern Oid	iotmq_relation_table(Catalog catalog);
extern Oid	iotmq_relation_index(CatalogIndex index);
extern Oid	iotmq_relation_dead_message_ids(void);
extern Oid	iotmq_relation_epoch(void);
extern Oid	iotmq_relation_last_epoch(void);
extern Oid	iotmq_relation_schema(void);
extern Oid	iotmq_relation_admin_function(void);
extern Oid	iotmq_relation_monitor_function(void);

/* ---- call.c ---- */

extern char *iotmq_call_name(FunctionCallInfo fcinfo, int argno, const char *argname);
extern void iotmq_call_require(FunctionCallInfo fcinfo, int argno, const char *argname);
extern Zone *iotmq_call_zone(FunctionCallInfo fcinfo, int argno);
extern int64 iotmq_call_invisible_for(FunctionCallInfo fcinfo, int argno);
extern int	iotmq_call_max_messages(FunctionCallInfo fcinfo, int argno);
extern void iotmq_call_require_primary(const char *what);
extern Datum iotmq_call_return_row(FunctionCallInfo fcinfo, Datum *values, bool *isnull);

/* ---- access.c ---- */

extern void iotmq_access_require_publish(const Topic *topic, const Zone *zone);
extern void iotmq_access_require_consume(const Topic *topic, const ConsumerGroup *group);
extern void iotmq_access_require_read(const Topic *topic, const Zone *zone);
extern void iotmq_access_require_mirror(const Topic *topic);
extern bool iotmq_access_may_read(const Topic *topic, const Zone *zone);
extern bool iotmq_access_may_consume(const ConsumerGroup *group);
extern bool iotmq_access_is_mirror(const Topic *topic);
extern bool iotmq_access_may_use(const Topic *topic, const Zone *zone);
extern bool iotmq_access_may_monitor(void);
extern bool iotmq_access_is_admin(void);
extern bool iotmq_access_may_see(const ConsumerGroup *group);

/* ---- owner.c ---- */

typedef struct OwnerContext
{
	Oid			user;
	int			security;
} OwnerContext;

extern Oid	iotmq_owner_oid(void);
extern OwnerContext iotmq_owner_become(void);
extern void iotmq_owner_restore(OwnerContext saved);
extern void iotmq_owner_run(const char *command, int nargs, Oid *types, Datum *values);
extern Datum iotmq_owner_value(const char *command, int nargs, Oid *types, Datum *values, bool *isnull);
extern Datum iotmq_owner_call(FunctionCallInfo fcinfo, const char *name);
extern Datum iotmq_owner_call_with(FunctionCallInfo fcinfo, const char *name, Oid type,
								   NullableDatum more);

/* ---- row.c ---- */

typedef enum RowResult
{
	ROW_OK,
	ROW_LOCKED,					/* by another transaction (no wait) */
	ROW_GONE
} RowResult;

typedef struct RowScan			/* of a catalog */
{
	Relation	rel;
	Relation	index;			/* NULL: all of it, in no order */
	bool		backward;		/* from the end of the index on; set before the first row */
	bool		to_change;		/* its rows keep their places when it has ended */
	TupleTableSlot *slot;		/* the row read last */
	Snapshot	snapshot;
	IndexScanDesc index_scan;
	TableScanDesc table_scan;
} RowScan;

typedef struct RowWriter		/* of many new rows of a catalog */
{
	Relation	rel;
	struct EState *estate;
	struct ResultRelInfo *target;
	TupleTableSlot *slot;
} RowWriter;

extern RowResult iotmq_row_lock(Relation rel, Oid index, ScanKey keys, int nkeys,
								bool wait, TupleTableSlot *slot);
extern bool iotmq_row_peek(Relation rel, Oid index, ScanKey keys, int nkeys,
						   TupleTableSlot *slot);
extern RowScan iotmq_row_scan(Catalog catalog, CatalogIndex index, ScanKey keys, int nkeys,
							  Snapshot snapshot);
extern RowScan iotmq_row_scan_to_change(Catalog catalog, CatalogIndex index, ScanKey keys,
										int nkeys);
extern void iotmq_row_rescan(RowScan *scan, ScanKey keys, int nkeys);
extern RowScan iotmq_row_scan_all(Catalog catalog, Snapshot snapshot);
extern bool iotmq_row_scan_next(RowScan *scan);
extern void iotmq_row_scan_end(RowScan *scan);
extern void iotmq_row_insert(Catalog catalog, const Datum *values, const bool *isnull, int n);
extern RowWriter iotmq_row_writer_begin(Catalog catalog);
extern void iotmq_row_writer_add(RowWriter *writer, const Datum *values, const bool *isnull, int n);
extern void iotmq_row_writer_end(RowWriter *writer);
extern void iotmq_row_update(Catalog catalog, ItemPointer tid, const Datum *values,
							 const bool *isnull, int n);
extern void iotmq_row_delete(Catalog catalog, ItemPointer tid);

/* ---- group_lock.c ---- */

extern bool iotmq_group_lock_enter(int32 group_id);
extern void iotmq_group_lock_leave(int32 group_id);

/* ---- client.c ---- */

extern void iotmq_client_require(void);

/* ---- commit.c ---- */

extern void iotmq_commit_init(void);
extern void iotmq_commit_light_begin(void);
extern void iotmq_commit_light_end(void);
extern void iotmq_commit_flush(void);

/* ---- interval.c ---- */

extern int64 iotmq_interval_us(Interval *interval);

#endif
