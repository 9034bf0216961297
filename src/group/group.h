/*
 * group.h - what groups make of the log, from consume to dead letter.
 *
 *   consume       consume: one lease of one of the zones
 *   claim         one lease of one zone
 *   look          new messages that a group wants, looked for without a lock
 *   hint          what was learnt of cursors without moving them
 *   idle          groups that had nothing, while nobody commits
 *   settle        ack, nack, reject, settle, extend
 *   redrive       dead letters that are delivered again, or deleted
 *   place         where a redriven message waits for its delivery
 *   waiting       retry_now and give_up
 *   pull          fetch and commit_offset: reading without leases
 *   policy        what row level security lets a reader see
 *   preview       what tags and a filter would make of the last messages
 *   count         how many messages a group wants, by reading
 *   forget        what a group has of a segment that goes
 *   expire        leases whose time is over
 *   redeliver     what is due again
 *   defer         messages that wait for an earlier one of their device
 *   budget        how much is done before it is kept
 *   fail          a message's attempt failed
 *   deadletter    messages given up
 *   lease_build   a lease in the making
 *   redelivery    messages that wait for another attempt
 *   device        sets of devices, of an orderly group
 *   lease         batches in flight
 *   runs          which messages a lease has, in few bytes
 *   cursor        where a group stands in a zone
 *   cursor_lock   who uses a cursor, and who moves it
 *   filter        what a group wants
 *   delivery      rows of type delivery
 */
#ifndef IOTMQ_GROUP_H
#define IOTMQ_GROUP_H

#include "log/log.h"

/* ---- what a group has: a cursor in each zone, leases, messages that wait ---- */

/* Where a cursor stands: the columns of iotmq_internal.cursor_state, in order. */
typedef struct CursorState
{
	int32		cursor_id;
	int64		next_offset;	/* the next one to deliver */
	Stable		stable;
	int64		last_lease;		/* the id given out last; 0: none yet */
	int64		oldest_lease;	/* leases below it are void or ended */
	TimestampTz next_expiry;	/* no lease expires earlier */
	TimestampTz next_due;		/* nothing that waits is due earlier */
	TimestampTz last_consumed_at;	/* DT_NOBEGIN: never */
	int64		expired_unread; /* dropped before they were settled */
	int64		redeliveries;	/* messages that wait */
	int64		delivered_total;
	int64		retried_total;
	int64		dead_total;
	int64		dead_letters;	/* dead now; those redriven are not */
	int64		next_redriven;	/* no redriven message below it is without a place */
} CursorState;

/* A cursor whose row this transaction has locked. */
typedef struct HeldCursor
{
	const Cursor *cursor;
	CursorState state;			/* to be changed; iotmq_cursor_release stores it */
	CursorState before;			/* as it was when it was locked */
	ItemPointerData tid;
	bool		writes_waiting; /* waiting is open */
	RowWriter	waiting;		/* of redelivery.c, until iotmq_cursor_flush or _release */
} HeldCursor;

/* A batch in flight: a row of iotmq_internal.lease. */
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
	text	  **devices;		/* NULL: not orderly, or not read: iotmq_lease_read_devices */
	/* as they are stored, far away perhaps: an update leaves them there */
	struct varlena *runs;		/* offsets and attempts; NULL: needs none, see runs.c */
	struct varlena *device_list;	/* text[]; NULL: not orderly */
} Lease;

/* A message that waits for another attempt: a row of iotmq_internal.redelivery. */
typedef struct Redelivery
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
	bool		deferred;		/* never delivered yet */
	ItemPointerData tid;
} Redelivery;

typedef enum Place				/* of a waiting message among those of its device */
{
	PLACE_UNKNOWN,
	PLACE_HEAD,
	PLACE_BEHIND
} Place;

/* A message given up: a row of iotmq_internal.dead_message, without the content. */
typedef struct DeadLetter
{
	int64		id;
	int32		cursor_id;
	int64		msg_offset;
	TimestampTz dead_at;
	bool		redriven;		/* on its way again */
	text	   *device;
} DeadLetter;

/* An attempt that failed. */
typedef struct Failure
{
	int64		msg_offset;
	int			attempt;		/* that failed */
	int			batch_limit;	/* for its next lease; 0: any */
	TimestampTz not_before;		/* of its retry */
	bool		redriven;
	bool		deferred;		/* it was no attempt: the message was put aside */
	text	   *device;			/* NULL: not orderly */
	Place		place;
	text	   *reason;
} Failure;

/* ---- cursor.c ---- */

extern bool iotmq_cursor_peek(int32 cursor_id, CursorState *state);
extern RowResult iotmq_cursor_hold(const Cursor *cursor, bool wait, HeldCursor *held);
extern void iotmq_cursor_flush(HeldCursor *held);
extern void iotmq_cursor_release(HeldCursor *held);
extern void iotmq_cursor_expect_expiry(HeldCursor *held, TimestampTz at);
extern void iotmq_cursor_expect_due(HeldCursor *held, TimestampTz at);
extern void iotmq_cursor_next_due_is(HeldCursor *held, TimestampTz at);
extern void iotmq_cursor_oldest_lease_is(HeldCursor *held, int64 lease_id);
extern void iotmq_cursor_next_expiry_is(HeldCursor *held, TimestampTz at);
extern RowScan iotmq_cursor_scan(Snapshot snapshot);
extern bool iotmq_cursor_scan_next(RowScan *scan, CursorState *state);
extern void iotmq_cursor_teach(const Topic *topic, const Zone *zone);

/* ---- cursor_lock.c ---- */

extern bool iotmq_cursor_lock_use(int32 cursor_id, bool wait);
extern void iotmq_cursor_lock_alone(int32 cursor_id);

/* ---- runs.c ---- */

extern bytea *iotmq_runs_pack(const int64 *offsets, const int32 *attempts, int n);
extern int	iotmq_runs_unpack(const bytea *runs, int64 first, int64 last, int64 **offsets,
							  int32 **attempts);

/* ---- lease.c ---- */

extern int32 iotmq_lease_cursor(int64 lease_id);
extern int64 iotmq_lease_next_id(const CursorState *state, TimestampTz now);
extern void iotmq_lease_insert(Lease *lease);
extern RowResult iotmq_lease_lock(int64 lease_id, bool wait, Lease *lease, ItemPointer tid);
extern void iotmq_lease_update(const Lease *lease, ItemPointer tid);
extern RowScan iotmq_lease_scan(const CursorState *state);
extern RowScan iotmq_lease_scan_all(Snapshot snapshot);
extern bool iotmq_lease_scan_next(RowScan *scan, Lease *lease);
extern void iotmq_lease_see(CursorState *state, TimestampTz now);
extern void iotmq_lease_read_devices(Lease *lease);
extern int64 iotmq_lease_offset(const Lease *lease, int i);
extern int	iotmq_lease_attempt(const Lease *lease, int i);
extern int	iotmq_lease_find(const Lease *lease, int64 msg_offset);
extern bool iotmq_lease_is_settled(const Lease *lease, int i);
extern void iotmq_lease_settle(Lease *lease, int i);
extern void iotmq_lease_store(const Lease *lease, ItemPointer tid);
extern void iotmq_lease_disown(HeldCursor *held, Lease *lease, ItemPointer tid);

/* ---- redelivery.c ---- */

extern RowScan iotmq_redelivery_scan_due(int32 cursor_id, TimestampTz from, Snapshot snapshot);
extern void iotmq_redelivery_see(CursorState *state);
extern RowScan iotmq_redelivery_hold_due(const HeldCursor *held, TimestampTz from);
extern RowScan iotmq_redelivery_hold_device(const HeldCursor *held, text *device, int64 from);
extern bool iotmq_redelivery_next(RowScan *scan, Redelivery *redelivery);
extern bool iotmq_redelivery_has_device(int32 cursor_id, text *device);
extern RowScan iotmq_redelivery_scan_lowest(Snapshot snapshot);
extern int64 iotmq_redelivery_lowest(RowScan *scan, int32 cursor_id);
extern bool iotmq_redelivery_find(const HeldCursor *held, text *device, int64 msg_offset,
								  Redelivery *redelivery);
extern void iotmq_redelivery_add(HeldCursor *held, const Redelivery *redelivery);
extern void iotmq_redelivery_change(HeldCursor *held, const Redelivery *redelivery);
extern void iotmq_redelivery_remove(HeldCursor *held, const Redelivery *redelivery);
extern void iotmq_redelivery_lift_head(HeldCursor *held, text *device, int64 from);

/* ---- device.c ---- */

typedef struct DeviceSet DeviceSet;

extern bool iotmq_device_equal(const text *a, const text *b);
extern DeviceSet *iotmq_device_set(void);
extern void iotmq_device_add(DeviceSet *set, text *device);
extern bool iotmq_device_has(DeviceSet *set, text *device);
extern DeviceSet *iotmq_device_in_flight(const CursorState *state, int64 *oldest_lease);

/* ---- budget.c ---- */

typedef struct Budget
{
	int			messages;
	TimestampTz until;			/* DT_NOEND: no limit */
	int			spent;			/* messages */
	bool		is_used_up;
} Budget;

extern Budget iotmq_budget(int messages, int64 us);
extern void iotmq_budget_spend(Budget *budget);

/* ---- defer.c ---- */

typedef struct Blocking			/* what blocks devices of a cursor */
{
	int32		cursor_id;
	DeviceSet  *in_flight;		/* devices in open leases */
	DeviceSet  *waiting;		/* known to have something waiting */
	DeviceSet  *free;			/* known to have nothing waiting; NULL: all but waiting have not */
} Blocking;

extern Blocking iotmq_defer_blocking(const CursorState *state, int64 *oldest_lease);
extern bool iotmq_defer_must(Blocking *blocking, TupleTableSlot *slot);
extern bool iotmq_defer(HeldCursor *held, Blocking *blocking, TupleTableSlot *slot,
						int64 msg_offset, TimestampTz now);

/* ---- hint.c ---- */

typedef struct Hint				/* what was learnt of a cursor */
{
	int32		cursor_id;		/* hash key */
	uint64		changes;		/* of the catalog that it was made of */
	int32		generation;		/* likewise, of the zone */
	int64		from;			/* nothing wanted from here */
	int64		to;				/* to here, exclusive */
	bool		is_news;		/* something that the cursor's row does not say yet */
	int64		quiet_last;		/* not worth a lock before a later offset is assigned */
	TimestampTz quiet_until;	/* or this time has come */
	int64		lease_bound;	/* the row's oldest_lease, when */
	int64		oldest_lease;	/* all leases below this had ended */
} Hint;

extern Hint *iotmq_hint(const Cursor *cursor);
extern int64 iotmq_hint_begin(const Hint *hint, const CursorState *state);
extern void iotmq_hint_learn(Hint *hint, int64 from, int64 to);
extern void iotmq_hint_see_leases(Hint *hint, CursorState *state, TimestampTz now);

/* ---- idle.c ---- */

typedef struct IdleLook			/* at one zone of a group, or all */
{
	uint64		ended;			/* transactions, before it */
	uint64		changes;		/* of the catalogs, likewise */
	TimestampTz until;			/* to be made again; DT_NOBEGIN: a zone is not at its end */
} IdleLook;

extern IdleLook iotmq_idle_begin(TimestampTz now);
extern bool iotmq_idle_lasts(const IdleLook *look, TimestampTz now);
extern bool iotmq_idle_is(const ConsumerGroup *group, TimestampTz now, IdleLook *look);
extern void iotmq_idle_remember(const ConsumerGroup *group, const IdleLook *look);
extern void iotmq_idle_zone(IdleLook *look, const CursorState *state);
extern void iotmq_idle_not(IdleLook *look);

/* ---- filter.c ---- */

extern bool iotmq_filter_accepts(const ConsumerGroup *group, TupleTableSlot *slot);

/* ---- delivery.c ---- */

typedef struct DeliverySet
{
	struct Tuplestorestate *store;
	TupleDesc	desc;
	int64		rows;
} DeliverySet;

extern DeliverySet iotmq_delivery_begin(FunctionCallInfo fcinfo);
extern void iotmq_delivery_add(DeliverySet *set, int64 lease_id, TupleTableSlot *slot,
							   int attempt);

/* ---- policy.c ---- */

typedef struct PolicyWindow		/* of messages in one zone */
{
	int64		first;
	int64		last;			/* inclusive */
	TimestampTz from_time;		/* the messages were published from then */
	TimestampTz to_time;		/* to then, inclusive */
} PolicyWindow;

extern bool iotmq_policy_applies(const Topic *topic);
extern bool iotmq_policy_shuts_out(const Topic *topic);
extern void iotmq_policy_require(const Topic *topic);
extern int64 *iotmq_policy_offsets(Oid topic_table, const char *zone_name,
								   const PolicyWindow *window, int64 most, int *n);
extern bool iotmq_policy_shows(Oid topic_table, const char *zone_name, int64 msg_offset,
							   TimestampTz published_at);
extern void iotmq_policy_add_of_device(const Topic *topic, const char *zone_name, Datum device_id,
									   Datum since, Datum until, int max_messages,
									   DeliverySet *set);
extern void iotmq_policy_add_by_key(const Topic *topic, const char *zone_name, Datum device_id,
									Datum message_key, DeliverySet *set);

/* ---- lease_build.c ---- */

typedef struct LeaseBuild
{
	HeldCursor *held;
	DeliverySet *set;
	Lease		lease;
	int			room;			/* for so many messages the arrays have room */
	int			limit;			/* the lease may have so many */
} LeaseBuild;

extern void iotmq_lease_build_begin(LeaseBuild *build, HeldCursor *held, int limit,
									TimestampTz now, DeliverySet *set);
extern void iotmq_lease_build_add(LeaseBuild *build, TupleTableSlot *slot, int64 msg_offset,
								  int attempt);
extern void iotmq_lease_build_grant(LeaseBuild *build, int64 invisible_for, text *consumer);

/* ---- fail.c ---- */

extern text *iotmq_fail_reason(FunctionCallInfo fcinfo, int argno);
extern text *iotmq_fail_cut_reason(Datum value);
extern Failure iotmq_fail_of(const HeldCursor *held, const Lease *lease, int i,
							 TimestampTz not_before);
extern void iotmq_fail_wait(HeldCursor *held, const Failure *failure, int next_attempt);
extern bool iotmq_fail_attempt(HeldCursor *held, const Failure *failure);
extern void iotmq_fail_bury(HeldCursor *held, const Failure *failure);

/* ---- settle.c ---- */

extern void iotmq_settle_ack(int64 lease_id, int32 group_id);

/* ---- expire.c ---- */

extern int	iotmq_expire_leases(HeldCursor *held, TimestampTz at, Budget *budget);

/* ---- redeliver.c ---- */

extern bool iotmq_redeliver_ready(const Cursor *cursor, const CursorState *state,
								  TimestampTz now);
extern bool iotmq_redeliver_may_fill(const CursorState *state, int max_messages,
									 TimestampTz now);
extern void iotmq_redeliver_due(LeaseBuild *build, DeviceSet *in_flight, Budget *budget);

/* ---- deadletter.c ---- */

extern bool iotmq_deadletter_add(HeldCursor *held, const Failure *failure);
extern TupleTableSlot *iotmq_deadletter_content(int32 cursor_id, int64 msg_offset);
extern bool iotmq_deadletter_is_redriven(int32 cursor_id, int64 msg_offset);
extern void iotmq_deadletter_done(int32 cursor_id, int64 msg_offset);
extern RowScan iotmq_deadletter_scan(int32 cursor_id);
extern RowScan iotmq_deadletter_scan_redriven(int32 cursor_id, int64 from, Snapshot snapshot);
extern bool iotmq_deadletter_next(RowScan *scan, DeadLetter *letter);
extern bool iotmq_deadletter_find(int64 id, DeadLetter *letter);
extern bool iotmq_deadletter_redrive(int64 id);
extern bool iotmq_deadletter_purge(int64 id, TimestampTz older_than);
extern void iotmq_deadletter_return(HeldCursor *held, int64 id, bool wait);

/* ---- place.c ---- */

extern bool iotmq_place_is_due(const Cursor *cursor, const CursorState *state);
extern bool iotmq_place_is_pending(const CursorState *state, int64 msg_offset);
extern void iotmq_place_redriven(HeldCursor *held, Lease *lease);
extern void iotmq_place_unread(HeldCursor *held, const DeadLetter *letter);
extern int64 iotmq_place_count(int32 cursor_id, int64 next_redriven, int64 to,
							   Snapshot snapshot, int64 *first);
extern void iotmq_place_give_back(HeldCursor *held, int64 from, int64 to);

/* ---- look.c ---- */

typedef struct ClaimRequest
{
	int			max_messages;
	int64		invisible_for;	/* us; 0: the group's */
	text	   *consumer;		/* NULL: unnamed */
	bool		waits;			/* the call goes on looking */
	bool		lets_go;		/* nothing may stay locked without a delivery */
	int			worth;			/* messages put aside that the call may end for */
	bool		looks_past;		/* blocked messages, before it holds the cursor */
	bool		has_polled;		/* it has waited: the client may be gone */
	int64		look_us;		/* how long the call may look past what is not wanted */
	int64		slice;			/* us, that one look may take */
	int64		passed;			/* unwanted messages that the looks of this call have passed */
	int64		deferred;		/* messages that its claims have put aside */
	bool		has_news;		/* its looks have learnt something that can be kept */
	IdleLook	idle;			/* of the present look */
} ClaimRequest;

typedef enum ClaimResult		/* of several zones the highest counts */
{
	CLAIM_EMPTY,
	CLAIM_BUSY,					/* another consumer has the cursor, or somebody changes the group */
	CLAIM_STALE,				/* something has changed meanwhile: look again at once */
	CLAIM_MORE,					/* not at the end yet: likewise */
	CLAIM_CHANGED,				/* nothing to deliver, but something to commit: the call ends */
	CLAIM_DELIVERED
} ClaimResult;

typedef struct Lookahead		/* new messages, looked for without a lock */
{
	int64		next_offset;	/* of the cursor then */
	ZoneScan   *scan;			/* NULL: nobody looked, or there is nothing to go on with */
	TupleTableSlot *slot;		/* the first wanted one; NULL: none for now */
	int			blocked;		/* wanted ones whose device is blocked */
	bool		is_known;		/* behind these there is one to deliver */
	bool		is_worth_it;	/* to hold the cursor */
	bool		at_end;			/* nothing that the group wants is drawn and not passed */
	ClaimResult otherwise;		/* what to say if it isn't */
} Lookahead;

extern void iotmq_look_ahead(const Cursor *cursor, ClaimRequest *request,
							 const CursorState *state, Hint *hint, Lookahead *ahead);
extern TupleTableSlot *iotmq_look_next(ZoneScan *scan, const Cursor *cursor,
									   const CursorState *state, Budget *budget);

/* ---- pull.c ---- */

extern int64 iotmq_pull_lowest(const Topic *topic, const Zone *zone);

/* ---- claim.c ---- */

extern ClaimResult iotmq_claim_lease(const Cursor *cursor, ClaimRequest *request,
									 DeliverySet *set);
extern bool iotmq_claim_keep(const Cursor *cursor);

#endif
