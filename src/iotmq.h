/*
 * iotmq.h - the one header: what the modules know of each other.
 *
 * Calls go downwards only:
 *   publish, copy_in, consume, settle, fetch, SQL entry points
 *     lag, stats, inspect
 *   append, claim, redeliver, fail, overview  one step of theirs
 *   message, filter, delivery, batch, device, one kind of thing,
 *     scan, lease, position, waiting,           checked, read or written
 *     deadletter
 *   segment, segment_scan, stable, access,    what everything stands on
 *     catalog, commit
 *   row                                       hot rows, found and locked
 */
#ifndef IOTMQ_H
#define IOTMQ_H

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
#define DEVICE_BYTES 255			/* device ids and tags */
#define MESSAGE_BYTES (4 * 1024 * 1024) /* all of one message */
#define BATCH_MESSAGES 10000		/* one publish_batch, one lease */

/* Columns of a topic table. */
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
	Natts_message = Anum_properties
};

/* ---- catalog.c: topics, zones, segments, groups, kept in memory ---- */

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

#define PUBLISHED_AT_KEPT 64	/* places in a zone whose time a backend remembers */

typedef struct PublishedAt
{
	int64		from;			/* offset; 0: unused */
	TimestampTz at;				/* of the first message from there on */
} PublishedAt;

typedef struct StableState
{
	Oid			sequence;		/* hash key */
	int64		stable_offset;	/* all below is decided; 0: nothing known */
	int64		sample_offset;	/* H of a sample not yet settled; 0: none */
	FullTransactionId sample_xid;	/* F of that sample */
	Oid			last_segment;	/* where a row was found last: look there first */
	PublishedAt *published_at;	/* PUBLISHED_AT_KEPT of them; NULL: none yet */
} StableState;

typedef struct Zone
{
	int32		zone_id;
	char		name[NAME_BYTES + 1];
	Oid			relid;			/* partitioned by time */
	Oid			sequence;
	int64		earliest_offset;
	TimestampTz floor_time;		/* no message is published below it any more */
	uint64		changes;		/* iotmq_catalog_changes() when it was loaded */
	int			nsegments;
	Segment    *segments;		/* by from_time */
} Zone;

typedef struct ConsumerGroup
{
	int32		group_id;
	char		name[NAME_BYTES + 1];
	bool		orderly;
	int			ntags;			/* 0: all */
	struct varlena **tags;		/* text */
	struct varlena *filter;		/* jsonpath; NULL: none */
	int64		invisible_for;	/* us */
	int			max_retries;
	int			nbackoff;
	int64	   *backoff;		/* us; the last repeats */
	int32	   *cursors;		/* of each zone of the topic; 0: none */
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
	int			nzones;
	Zone	   *zones;			/* by name */
	int			ngroups;
	ConsumerGroup	   *groups;			/* by name */
} Topic;

/* One cursor: what a lease id leads to. */
typedef struct Cursor
{
	int32		cursor_id;		/* hash key */
	Topic	   *topic;
	ConsumerGroup	   *group;
	Zone	   *zone;
} Cursor;

typedef enum Catalog
{
	CATALOG_TOPIC,
	CATALOG_ZONE,
	CATALOG_SEGMENT,
	CATALOG_GROUP,
	CATALOG_CURSOR,
	CATALOG_CONSUME_GRANT,
	CATALOG_CACHED = CATALOG_CONSUME_GRANT,	/* up to here: changes invalidate */
	CATALOG_POSITION,
	CATALOG_LEASE,
	CATALOG_REDELIVERY,
	CATALOG_DEAD_MESSAGE,
	CATALOGS
} Catalog;

typedef enum CatalogIndex
{
	INDEX_POSITION,
	INDEX_LEASE,
	INDEX_REDELIVERY_DUE,
	INDEX_REDELIVERY_DEVICE,
	INDEX_DEAD_MESSAGE,
	CATALOG_INDEXES
} CatalogIndex;

extern void iotmq_catalog_init(void);
extern Topic *iotmq_topic(const char *name);
extern Zone *iotmq_zone(Topic *topic, const char *name);
extern Zone *iotmq_zone_or_only(Topic *topic, text *name);
extern ConsumerGroup *iotmq_group(Topic *topic, const char *name);
extern ConsumerGroup *iotmq_group_by_id(int32 group_id);
extern int32 *iotmq_topic_ids(int *n);
extern Topic *iotmq_topic_by_id(int32 topic_id);
extern bool iotmq_zone_by_id(int32 zone_id, Topic **topic, Zone **zone);
extern bool iotmq_cursor_by_id(int32 cursor_id, Cursor *cursor);
extern Oid	iotmq_catalog_relid(Catalog catalog);
extern Oid	iotmq_catalog_index(CatalogIndex index);
extern Oid	iotmq_schema(void);
extern Oid	iotmq_admin_function(void);
extern uint64 iotmq_catalog_changes(void);
extern Zone *iotmq_zone_arg(FunctionCallInfo fcinfo, int argno);
extern char *iotmq_name_arg(FunctionCallInfo fcinfo, int argno, const char *argname);
extern void iotmq_require_arg(FunctionCallInfo fcinfo, int argno, const char *argname);
extern int64 iotmq_interval_us(Interval *interval);

/* ---- load.c: reading the catalogs, for catalog.c ---- */

typedef enum LoadBy
{
	LOAD_BY_NAME,				/* text */
	LOAD_BY_ID					/* int4 */
} LoadBy;

extern bool iotmq_load_topic(Topic *topic, Datum key, LoadBy by, uint64 changes,
							 MemoryContext in);
extern int32 iotmq_load_parent(Catalog catalog, int32 id);
extern int32 *iotmq_load_topic_ids(int *n);

/* ---- access.c: who may do what ---- */

typedef struct OwnerContext
{
	Oid			user;
	int			security;
} OwnerContext;

extern void iotmq_require_publish(const Topic *topic, const Zone *zone);
extern void iotmq_require_consume(const Topic *topic, const ConsumerGroup *group);
extern void iotmq_require_read(const Topic *topic);
extern bool iotmq_may_read(const Topic *topic);
extern bool iotmq_may_consume_as(const ConsumerGroup *group);
extern bool iotmq_is_admin(void);
extern Oid	iotmq_owner(void);
extern OwnerContext iotmq_become_owner(void);
extern void iotmq_restore_user(OwnerContext saved);
extern void iotmq_require_primary(const char *what);

/* ---- stable.c: up to where every offset is decided ---- */

extern int64 iotmq_sequence_last(Oid sequence);
extern StableState *iotmq_stable_state(Oid sequence);
extern void iotmq_stable_merge(StableState *state, int64 stable_offset,
							   int64 sample_offset, FullTransactionId sample_xid);
extern int64 iotmq_stable_refresh(StableState *state);
extern bool iotmq_stable_is_publisher(Oid sequence);

/* ---- segment.c: the segment for a moment ---- */

extern const Segment *iotmq_segment_at(const Zone *zone, TimestampTz at);
extern TimestampTz iotmq_publish_time(const Zone *zone);
extern int	iotmq_segment_make(int32 zone_id, TimestampTz at, TimestampTz until);
extern void iotmq_segment_keep_ahead(const Topic *topic, const Zone *zone, TimestampTz at);
extern void iotmq_segment_seal(const Zone *zone, TimestampTz at);

/* ---- row.c: hot rows ---- */

typedef enum RowResult
{
	ROW_OK,
	ROW_LOCKED,					/* by another transaction (no wait) */
	ROW_GONE
} RowResult;

extern RowResult iotmq_row_lock(Relation rel, Oid index, ScanKey keys, int nkeys,
								bool wait, TupleTableSlot *slot);
extern bool iotmq_row_peek(Relation rel, Oid index, ScanKey keys, int nkeys,
						   TupleTableSlot *slot);

typedef struct RowScan			/* of a catalog */
{
	Relation	rel;
	Relation	index;			/* NULL: all of it, in no order */
	TupleTableSlot *slot;		/* the row read last */
	Snapshot	snapshot;
	IndexScanDesc index_scan;
	TableScanDesc table_scan;
} RowScan;

extern RowScan iotmq_row_scan(Catalog catalog, CatalogIndex index, ScanKey keys, int nkeys,
							  Snapshot snapshot);
extern void iotmq_row_rescan(RowScan *scan, ScanKey keys, int nkeys);
extern RowScan iotmq_row_scan_all(Catalog catalog, Snapshot snapshot);
extern bool iotmq_row_scan_next(RowScan *scan);
extern void iotmq_row_scan_end(RowScan *scan);

/* ---- position.c: where a cursor stands ---- */

typedef struct Position			/* the columns of iotmq.position, in order */
{
	int32		cursor_id;
	int64		next_offset;
	int64		stable_offset;
	int64		sample_offset;
	FullTransactionId sample_xid;
	int64		last_lease;
	int64		oldest_lease;
	TimestampTz next_expiry;
	TimestampTz next_due;
	TimestampTz last_consumed_at;
	int64		expired_unread;
	int64		waiting;		/* rows in redelivery */
	int64		delivered_total;
	int64		retried_total;
	int64		dead_total;
	int64		dead_letters;	/* dead now; those redriven are not */
} Position;

extern bool iotmq_position_peek(int32 cursor_id, Position *position);
extern RowResult iotmq_position_lock(int32 cursor_id, bool wait, Position *position,
									 ItemPointer tid);
extern void iotmq_position_store(const Position *position, ItemPointer tid);
extern RowScan iotmq_position_scan(Snapshot snapshot);
extern bool iotmq_position_scan_next(RowScan *scan, Position *position);
extern void iotmq_position_teach(const Topic *topic, const Zone *zone);
extern void iotmq_position_note_stable(Position *position, const StableState *stable);

/* ---- segment_scan.c: the rows of one segment, by offset ---- */

#define NO_ROW PG_INT64_MAX

typedef struct SegmentScan
{
	Relation	heap;			/* NULL: dropped */
	Relation	index;			/* NULL: not opened, or no row yet */
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* the row it stands at, whatever became of it */
	int64		offset;			/* of that row; NO_ROW: it stands at none */
} SegmentScan;

typedef enum RowFate
{
	FATE_COMMITTED,
	FATE_OPEN,					/* its transaction is, or is ours */
	FATE_NOTHING				/* rolled back, or deleted by hand */
} RowFate;

extern SegmentScan *iotmq_segment_scan_open(Oid relid);
extern void iotmq_segment_scan_close(SegmentScan *s);
extern void iotmq_segment_scan_seek(SegmentScan *s, int64 from);
extern void iotmq_segment_scan_step(SegmentScan *s);
extern bool iotmq_segment_scan_find(SegmentScan *s, int64 msg_offset);
extern bool iotmq_segment_scan_find_last(SegmentScan *s);
extern RowFate iotmq_segment_scan_fate(SegmentScan *s);

/* ---- scan.c: the messages of a zone in offset order ---- */

typedef struct ZoneScan
{
	const Zone *zone;
	StableState *stable;
	int64		position;		/* all below was returned or is known to be nothing */
	int64		last;			/* the last offset assigned when the scan began */
	int64		limit;			/* decided when the segments were positioned */
	bool		proves;			/* all below its beginning was decided: so is all it passes */
	bool		passes_open;	/* returns rows of open transactions, too */
	bool		stale;			/* ended since the zone in memory is out of date */
	SegmentScan **segments;		/* as in zone; NULL: not opened */
	SegmentScan *current;		/* the one read last */
} ZoneScan;

extern ZoneScan *iotmq_scan_begin(const Zone *zone, int64 from, int64 last);
extern TupleTableSlot *iotmq_scan_next(ZoneScan *scan);
extern TupleTableSlot *iotmq_scan_one(ZoneScan *scan, int64 msg_offset);
extern bool iotmq_scan_published_at(ZoneScan *scan, int64 from, TimestampTz *at);
extern void iotmq_scan_end(ZoneScan *scan);
extern int64 iotmq_scan_since(const Zone *zone, TimestampTz at);
extern TimestampTz iotmq_scan_newest(const Zone *zone);

/* ---- filter.c: what a group wants ---- */

extern bool iotmq_filter_accepts(const ConsumerGroup *group, TupleTableSlot *slot);

/* ---- message.c: what a message may be ---- */

extern void iotmq_message_check(const Datum *values, const bool *isnull);

/* ---- append.c: writing to the log ---- */

extern void iotmq_append(int32 zone_id, Datum **values, bool **isnull, int n, int64 *offsets);

/* ---- delivery.c: rows of type delivery ---- */

typedef struct DeliverySet
{
	struct Tuplestorestate *store;
	TupleDesc	desc;
	int64		rows;
} DeliverySet;

extern DeliverySet iotmq_delivery_begin(FunctionCallInfo fcinfo);
extern void iotmq_delivery_add(DeliverySet *set, int64 lease_id, TupleTableSlot *slot, int attempt);

/* ---- lease.c: batches in flight ---- */

typedef struct Lease
{
	int64		lease_id;
	int64		first_offset;
	int64		last_offset;
	TimestampTz leased_at;
	TimestampTz deadline;
	int32		messages;		/* still open */
	bool		redriven;		/* some were dead letters */
	text	   *consumer;		/* NULL: unnamed */
	int			n;				/* messages it was made with */
	int64	   *offsets;		/* NULL: first_offset to last_offset */
	int32	   *attempts;		/* NULL: all 1 */
	bits8	   *settled;		/* NULL: none */
	int32		batch_limit;	/* 0: any */
	text	  **devices;		/* NULL: not orderly */
} Lease;

#define LEASE_TIME_BITS 43
#define LEASE_CURSOR(lease_id) ((int32) ((lease_id) >> LEASE_TIME_BITS))

extern int64 iotmq_lease_next_id(int32 cursor_id, int64 last_lease, TimestampTz now);
extern void iotmq_lease_insert(const Lease *lease);
extern RowResult iotmq_lease_lock(int64 lease_id, bool wait, Lease *lease, ItemPointer tid);
extern void iotmq_lease_update(const Lease *lease, ItemPointer tid);
extern void iotmq_lease_delete(ItemPointer tid);

extern RowScan iotmq_lease_scan(int32 cursor_id, int64 from);
extern RowScan iotmq_lease_scan_all(Snapshot snapshot);
extern bool iotmq_lease_scan_next(RowScan *scan, Lease *lease);
extern int64 iotmq_lease_offset(const Lease *lease, int i);
extern int	iotmq_lease_find(const Lease *lease, int64 msg_offset);
extern bool iotmq_lease_is_settled(const Lease *lease, int i);
extern void iotmq_lease_settle(Lease *lease, int i);

/* ---- batch.c: a lease in the making ---- */

typedef struct Batch
{
	DeliverySet *set;
	Lease		lease;
	int			room;			/* for so many messages the arrays have room */
	int			limit;			/* the lease may have so many */
	bool		attempts_differ;	/* some attempt is not 1 */
} Batch;

extern void iotmq_batch_begin(Batch *batch, const Cursor *cursor, const Position *position,
							  int limit, TimestampTz now, DeliverySet *set);
extern void iotmq_batch_add(Batch *batch, TupleTableSlot *slot, int64 msg_offset, int attempt);
extern void iotmq_batch_grant(Batch *batch, const Cursor *cursor, int64 invisible_for,
							  text *consumer, Position *position);

/* ---- waiting.c: rows of iotmq.redelivery ---- */

typedef struct Waiting
{
	int32		cursor_id;
	int32		attempt;		/* of its next delivery */
	TimestampTz due_at;			/* DT_NOEND: behind another one of its device */
	TimestampTz not_before;
	int64		msg_offset;
	bool		redriven;		/* was a dead letter */
	int32		batch_limit;	/* 0: any */
	text	   *device;			/* NULL: not orderly */
	text	   *reason;			/* of its failure; NULL: none given */
	ItemPointerData tid;
} Waiting;

extern RowScan iotmq_waiting_scan_due(int32 cursor_id, TimestampTz from, Snapshot snapshot);
extern RowScan iotmq_waiting_scan_device(int32 cursor_id, text *device, int64 from);
extern bool iotmq_waiting_next(RowScan *scan, Waiting *waiting);
extern bool iotmq_waiting_has_device(int32 cursor_id, text *device);
extern RowScan iotmq_waiting_scan_lowest(Snapshot snapshot);
extern int64 iotmq_waiting_lowest(RowScan *scan, int32 cursor_id);
extern void iotmq_waiting_add(Waiting *waiting, Position *position);
extern void iotmq_waiting_remove(const Waiting *waiting, Position *position);
extern void iotmq_waiting_set_due(const Waiting *waiting, TimestampTz due_at, Position *position);
extern void iotmq_waiting_settle_head(int32 cursor_id, text *device, int64 from, Position *position);

/* ---- device.c: sets of devices of an orderly group ---- */

typedef struct DeviceSet DeviceSet;

extern DeviceSet *iotmq_devices_none(void);
extern DeviceSet *iotmq_devices_in_flight(Position *position);
extern void iotmq_devices_add(DeviceSet *set, text *device);
extern bool iotmq_devices_have(DeviceSet *set, text *device);

/* ---- fail.c: a message's attempt failed ---- */

typedef enum Place				/* of a waiting message among those of its device */
{
	PLACE_UNKNOWN,
	PLACE_HEAD,
	PLACE_BEHIND
} Place;

typedef struct Failure
{
	int64		msg_offset;
	int			attempt;		/* that failed */
	int			batch_limit;	/* for its next lease; 0: any */
	TimestampTz not_before;		/* of its retry */
	bool		redriven;
	text	   *device;			/* NULL: not orderly */
	Place		place;
	text	   *reason;
} Failure;

extern void iotmq_wait(const Cursor *cursor, const Failure *failure, int next_attempt,
					   Position *position);
extern bool iotmq_fail(const Cursor *cursor, const Failure *failure, Position *position);
extern void iotmq_bury(const Cursor *cursor, const Failure *failure, Position *position);
extern int	iotmq_take_over_expired(const Cursor *cursor, Position *position, TimestampTz at);

/* ---- redeliver.c: what is due again ---- */

extern bool iotmq_redeliver_ready(const Cursor *cursor, const Position *position, TimestampTz now);
extern void iotmq_redeliver(const Cursor *cursor, Position *position, TimestampTz now,
							DeviceSet *in_flight, Batch *batch);

/* ---- deadletter.c: messages given up ---- */

extern bool iotmq_dead_letter_add(const Cursor *cursor, const Failure *failure, Position *position);
extern TupleTableSlot *iotmq_dead_letter_fetch(int32 cursor_id, int64 msg_offset);
extern bool iotmq_dead_letter_is_redriven(int32 cursor_id, int64 msg_offset);
extern void iotmq_dead_letter_settle(int32 cursor_id, int64 msg_offset);

/* ---- claim.c: one lease out of one zone ---- */

typedef struct ClaimRequest
{
	int			max_messages;
	int64		invisible_for;	/* us; 0: the group's */
	text	   *consumer;		/* NULL: unnamed */
	bool		last_look;		/* this call won't look again: save what was learnt */
	bool		waits;			/* it may look for long: hold nothing meanwhile */
} ClaimRequest;

typedef struct ClaimLook		/* what the looks of one call have found in a zone */
{
	int64		from;			/* nothing wanted from here */
	int64		to;				/* to here, exclusive */
	int64		quiet_last;		/* not worth a lock before a later offset is assigned */
	TimestampTz quiet_until;	/* or this time has come */
} ClaimLook;

typedef enum ClaimResult
{
	CLAIM_DELIVERED,
	CLAIM_EMPTY,
	CLAIM_CHANGED,				/* nothing to deliver, but something to commit: the call ends */
	CLAIM_BUSY,					/* another consumer has the cursor */
	CLAIM_AGAIN					/* not at the end yet: look again at once */
} ClaimResult;

extern ClaimResult iotmq_claim(const Cursor *cursor, const ClaimRequest *request,
							   ClaimLook *look, DeliverySet *set);

/* ---- overview.c: everything there is, for views ---- */

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
	int64		last;			/* the last offset assigned; -1: the zone was dropped */
	StableState *stable;
	int64		stable_offset;	/* once settled */
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

extern Overview *iotmq_overview(void);
extern void iotmq_overview_zone(OverviewZone *entry, const Zone *zone);
extern void iotmq_overview_ends(OverviewZone *zones, int n);
extern void iotmq_overview_settle(OverviewZone *zones, int n);

/* ---- consume.c: what others share of its arguments ---- */

extern int64 iotmq_invisible_for(Interval *interval);

/* ---- commit.c: claims need not wait for the disk ---- */

extern void iotmq_commit_init(void);
extern void iotmq_commit_before_claim(void);
extern void iotmq_commit_after_claim(void);
extern void iotmq_commit_flush(void);

#endif
