/*
 * log.h - messages, from publish to drop. Knows nothing of groups.
 *
 *   publish        publish and publish_batch
 *   copy_in        what COPY and INSERT into a zone's table go through
 *   append         writing messages to the end of a zone
 *   insert         the same, where the owner of the table has changed it
 *   import         the same, of what was published on another server
 *   name           topic and zone in PostgreSQL's own errors
 *   bound          what PostgreSQL checks of a row because of its zone
 *   message        what a message may be
 *   json           how long and how deep its JSON may be
 *   key            no message twice: keys that are taken for a while
 *   segment        the segment for a moment, made and sealed
 *   segment_scan   the rows of one segment, by offset
 *   scan           the messages of a zone, in offset order, across its segments
 *   newest         the newest messages of some zones
 *   offset         the offset of a time, the lowest, the first that is not written
 *   stable         up to where every offset of a zone is decided
 *   zone_lock      locks on a zone that no SQL command takes
 *   epoch          no offset is given out twice, whatever a recovery lost
 *   sequence       the offsets drawn so far
 *   end            where a zone ends for its readers
 *   state          open, fenced or a mirror
 */
#ifndef IOTMQ_LOG_H
#define IOTMQ_LOG_H

#include "core/core.h"

#include "storage/lock.h"

/* Offsets of one epoch: see epoch.c. */
#define EPOCH_BITS 32
#define EPOCH_OF(msg_offset) ((int32) ((msg_offset) >> EPOCH_BITS))
#define EPOCH_START(epoch) ((int64) (epoch) << EPOCH_BITS)

/* ---- what is known of a zone ---- */

/*
 * Up to where offsets are decided, and a sample (H, F) that may move that on: see
 * stable.c. In a cursor's row, and in the memory of a backend.
 */
typedef struct Stable
{
	int64		offset;			/* all below is decided; 0: nothing known */
	int64		sample_offset;	/* H of a sample that is not decided yet; 0: none */
	FullTransactionId sample_xid;	/* F of that sample */
} Stable;

#define PUBLISHED_AT_KEPT 64	/* places in a zone whose time a backend remembers */

typedef struct PublishedAt
{
	int64		from;			/* offset; 0: unused */
	TimestampTz at;				/* of the first message from there on */
} PublishedAt;

/* What this backend remembers of a zone, as long as it lives. */
typedef struct ZoneMemory
{
	int32		zone_id;		/* hash key */
	Oid			sequence;		/* another one: the zone was made anew */
	int32		generation;		/* another one: what was decided is not any more */
	bool		is_mirror;		/* as the zone is in memory: see end.c */
	Stable		stable;
	bool		watched;		/* highest is right */
	int64		highest;		/* offset that is known to have been given out */
	Oid			last_segment;	/* where a row was found last: look there first */
	PublishedAt *published_at;	/* PUBLISHED_AT_KEPT of them; NULL: none yet */
} ZoneMemory;

/* The offsets of a zone, at a moment. */
typedef struct ZoneEnd
{
	ZoneMemory *memory;
	int64		last;			/* the last offset assigned; -1: the zone was dropped */
} ZoneEnd;

/* ---- zone_lock.c ---- */

typedef enum ZoneLock			/* the objsubid of its tag */
{
	ZONE_LOCK_PUBLISH = 1,
	ZONE_LOCK_CHANGE = 2,
	ZONE_LOCK_EPOCH = 3,
	ZONE_LOCK_PULL = 4,
	ZONE_LOCK_KEYS = 16			/* and KEY_BUCKETS - 1 more */
} ZoneLock;

extern void iotmq_zone_lock_take(int32 zone_id, ZoneLock which, LOCKMODE mode);
extern bool iotmq_zone_lock_try(int32 zone_id, ZoneLock which, LOCKMODE mode);
extern void iotmq_zone_lock_give(int32 zone_id, ZoneLock which, LOCKMODE mode);
extern bool iotmq_zone_lock_is_free(int32 zone_id, ZoneLock which);
extern bool iotmq_zone_lock_is_ours(int32 zone_id, ZoneLock which, LOCKMODE mode);
extern VirtualTransactionId *iotmq_zone_lock_holders(int32 zone_id, ZoneLock which, int *n);

/* ---- sequence.c ---- */

extern int64 iotmq_sequence_last(Oid sequence);
extern void iotmq_sequence_mend(Oid sequence);

/* ---- end.c ---- */

extern int64 iotmq_end_read(const ZoneMemory *memory, bool *is_committed);

/* ---- state.c ---- */

extern bool iotmq_state_is_open(const Zone *zone);
extern void iotmq_state_require_open(const Zone *zone);

/* ---- stable.c ---- */

extern void iotmq_stable_enter(int32 zone_id);
extern void iotmq_stable_leave(int32 zone_id);
extern ZoneMemory *iotmq_stable_memory(const Zone *zone);
extern int64 iotmq_stable_last(const Zone *zone);
extern void iotmq_stable_merge(Stable *known, const Stable *other);
extern int64 iotmq_stable_refresh(ZoneMemory *memory);
extern bool iotmq_stable_look_again(int *looks, int most);
extern bool iotmq_stable_await(ZoneEnd *zones, int n);
extern bool iotmq_stable_exclude(int32 zone_id, bool wait);
extern void iotmq_stable_admit(int32 zone_id);

/* ---- epoch.c ---- */

extern void iotmq_epoch_begin(const Topic *topic, const Zone *zone);
extern bool iotmq_epoch_differs(int64 a, int64 b);
extern int64 iotmq_epoch_missing(const Zone *zone, int64 from, int64 to);
extern bool iotmq_epoch_is_lost(const Zone *zone, int64 msg_offset, int64 last, Gap *gap);

/* ---- segment.c ---- */

extern const Segment *iotmq_segment_at(const Zone *zone, TimestampTz at);
extern TimestampTz iotmq_segment_publish_time(const Zone *zone);
extern bool iotmq_segment_is_ours(Oid relid, const Zone *zone);
extern void iotmq_segment_cut(int32 zone_id, Oid relid, TimestampTz at);
extern int	iotmq_segment_make(int32 zone_id, TimestampTz at, TimestampTz until);
extern void iotmq_segment_make_present(const Topic *topic, const Zone *zone, TimestampTz at);
extern void iotmq_segment_keep_ahead(const Topic *topic, const Zone *zone, TimestampTz at);
extern void iotmq_segment_seal(const Topic *topic, const Zone *zone, TimestampTz at);

/* ---- scan.c ---- */

struct SegmentScan;

typedef struct ZoneScan
{
	const Zone *zone;
	ZoneMemory *memory;
	int64		position;		/* all below was returned or is known to be nothing */
	int64		last;			/* the last offset assigned when the scan began */
	int64		limit;			/* decided when the segments were positioned */
	bool		proves;			/* all below its beginning was decided: so is all it passes */
	bool		passes_open;	/* returns rows of open transactions, too */
	bool		lenient;		/* passes over segments that can't be read, for views */
	bool		stale;			/* ended since the zone in memory is out of date */
	int64		window;			/* about so many messages will be read; 0: nobody knows */
	struct SegmentScan **segments;	/* as in zone; NULL: not opened */
	int			nopen;			/* how many are */
	bool		partial;		/* one that was open could not be read */
	struct SegmentScan *current;	/* the one read last */
} ZoneScan;

extern ZoneScan *iotmq_scan_begin(const Zone *zone, int64 from, int64 last);
extern TupleTableSlot *iotmq_scan_next(ZoneScan *scan);
extern TupleTableSlot *iotmq_scan_one(ZoneScan *scan, int64 msg_offset);
extern bool iotmq_scan_published_at(ZoneScan *scan, int64 from, TimestampTz *at);
extern bool iotmq_scan_is_partial(const ZoneScan *scan);
extern void iotmq_scan_end(ZoneScan *scan);
extern int64 iotmq_scan_since(const Zone *zone, TimestampTz at, bool lenient);
extern TimestampTz iotmq_scan_newest(const Zone *zone);
extern int64 iotmq_scan_last_below(const Zone *zone, int64 msg_offset, bool lenient);

/* ---- name.c ---- */

extern void iotmq_name_remember(const Topic *topic, const Zone *zone);
extern void iotmq_name_translate(ErrorData *error);

/* ---- newest.c ---- */

typedef struct ZoneTail ZoneTail;

typedef struct NewestScan
{
	int			ntails;
	ZoneTail   *tails;			/* of the zones */
	ZoneTail   *last;			/* whose message was returned last; NULL: none yet */
} NewestScan;

extern NewestScan *iotmq_newest_begin(int nzones);
extern void iotmq_newest_add(NewestScan *scan, const Zone *zone, int64 from, int64 to);
extern TupleTableSlot *iotmq_newest_next(NewestScan *scan);
extern void iotmq_newest_end(NewestScan *scan);

/* ---- copy_in.c ---- */

extern void iotmq_copy_in_expect(int32 zone_id, int64 msg_offset);

/* ---- bound.c ---- */

extern void iotmq_bound_prepare(Relation zone);

/* ---- json.c ---- */

extern int64 iotmq_json_digits(Datum json);

/* ---- message.c ---- */

typedef struct Message			/* to be published */
{
	int32		zone_id;
	Datum		values[Natts_message];	/* columns of a topic's table, 0-based; append.c */
	bool		isnull[Natts_message];	/* fills in zone, msg_offset and published_at */
	int64		msg_offset;		/* the result; 0: a trigger of the table's owner left it out */
	TimestampTz published_at;	/* likewise; both are given of what was published elsewhere */
	bool		is_there;		/* its key was published before: msg_offset is that one's */
	struct Message *first;		/* of those with its key in this batch; NULL: itself */
} Message;

typedef struct Batch
{
	Message    *messages;
	int			n;
	int			at_hand;		/* the one that is being worked at, from 1; 0: none or all */
} Batch;

extern void iotmq_message_check(const Datum *values, const bool *isnull);
extern bool iotmq_message_fits(TupleDesc desc);
extern void iotmq_message_require(Relation rel);
extern void iotmq_message_columns(Oid relid, const char *names[]);

/* ---- key.c ---- */

#define KEY_BUCKETS 32			/* of a zone: as many locks at most, which times 64 zones fit */

typedef struct Key				/* of a message, looked for in its zone */
{
	int32		zone_id;
	uint32		hash;
	text	   *device_id;
	text	   *message_key;
	int			place;			/* of several with the same key, the lowest is first */
	TimestampTz published_at;	/* it is taken for dedup_window before and after */
	int64		own_offset;		/* of the row that has it; 0: not written yet */
	bool		is_claimed;		/* that row is of the publish that has claimed the key */
	bool		is_written;		/* that row was seen */
	int64		taken_by;		/* the first message that has it, committed or ours; 0: none */
	TransactionId writer;		/* of one whose transaction is open; invalid: none */
} Key;

typedef struct KeyWait			/* what has to end before a key can be judged */
{
	TransactionId writer;		/* invalid: the making of segments, or a change of one */
	int32		zone_id;
	Oid			segment;		/* that somebody is changing; invalid: it is not that */
	int			refusals;		/* of segments, so far; 0 at the beginning */
} KeyWait;

extern void iotmq_key_init(Key *key, int32 zone_id, Datum device_id, Datum message_key);
extern void iotmq_key_sort(Key *keys, int n);
extern bool iotmq_key_same(const Key *a, const Key *b);
extern bool iotmq_key_claim(Key *keys, int n, KeyWait *wait);
extern void iotmq_key_release(const Key *keys, int n);
extern void iotmq_key_wait(const KeyWait *wait);
extern const Key *iotmq_key_writes(const Key *key);
extern bool iotmq_key_is_claimed(const Key *key);
extern bool iotmq_key_is_index(Relation segment, Relation index);
extern void iotmq_key_require_window(const Topic *topic);

/* ---- table_owner.c ---- */

typedef struct TableOwner		/* what was before somebody became the owner of a table */
{
	OwnerContext saved;
	int			nest;			/* of settings */
} TableOwner;

extern TableOwner iotmq_table_owner_become(Oid table_id);
extern void iotmq_table_owner_restore(TableOwner before);
extern bool iotmq_table_owner_allows(const Topic *topic);

/* ---- insert.c ---- */

extern bool iotmq_insert_is_plain(Relation segment, Oid *key_index);
extern void iotmq_insert_messages(Oid zone_table, Batch *batch, Message **messages, int n);
extern void iotmq_insert_imported(Oid zone_table, Batch *batch, Message **messages, int n);

/* ---- append.c ---- */

extern void iotmq_append_messages(Batch *batch);
extern void iotmq_append_rows(Batch *batch, const Zone *zone, Relation segment, Message **messages,
							  int n, Oid key_index, const TimestampTz *at);

/* ---- import.c ---- */

extern int	iotmq_import_messages(int32 zone_id, Batch *batch);

#endif
