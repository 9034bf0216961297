/*
 * idle.c - a group that had nothing to deliver, in a server in which nobody has committed since.
 *
 * A look at a group asks each zone for its last offset and each cursor where it stands, which
 * takes a while where there are a thousand. If all of them said that there is nothing, up to
 * their ends, only two things can bring something: that a transaction with an id ends (it may
 * have published, failed messages, moved the group, changed the catalog), which PostgreSQL
 * counts for its snapshots, or time (a lease expires, a message is due). As long as neither has
 * happened, the next look would find the same, and is spared.
 *
 * The count is read before the look: what ends meanwhile is found by it or counts afterwards.
 * It grows before others see what the transaction did, at COMMIT, ROLLBACK, PREPARE, COMMIT
 * PREPARED and ROLLBACK TO. A change of the catalog is told after it is counted, so a look in
 * between has been made with the old one: a call that waits counts what it was told, too. What
 * a transaction lets go only after it was counted (locks on cursors, groups and zones) makes
 * nobody idle who was refused it. Who has an id himself may have changed something, since the
 * call before this one, that nobody has counted yet: his first look is made.
 *
 * In case that something was not thought of, a look is made again after a while.
 *
 * What is remembered from call to call is this backend's, of one group as it is in the
 * catalog: zones that come and groups under a number that was dropped are others.
 */
#include "group/group.h"

#include "access/transam.h"
#include "access/xact.h"
#include "utils/hsearch.h"

#define FEW_ZONES 8				/* are looked at in no time, and by every call */
#define LOOK_ANYWAY_US (30 * USECS_PER_SEC)

typedef struct Idle
{
	int32		group_id;		/* hash key */
	uint64		changes;		/* of the group in the catalog */
	IdleLook	look;
} Idle;

static HTAB *idles = NULL;		/* Idle by group */

static uint64 transactions_ended(void);

/* A look begins now. */
IdleLook
iotmq_idle_begin(TimestampTz now)
{
	return (IdleLook) {
		.ended = transactions_ended(),
		.changes = iotmq_catalog_changes(),
		.until = now + LOOK_ANYWAY_US
	};
}

/* Would a look that found nothing find the same now? */
bool
iotmq_idle_lasts(const IdleLook *look, TimestampTz now)
{
	return now < look->until && transactions_ended() == look->ended &&
		iotmq_catalog_changes() == look->changes;
}

/* A look at all zones has begun: is there surely nothing? */
bool
iotmq_idle_is(const ConsumerGroup *group, TimestampTz now, IdleLook *look)
{
	Idle	   *idle;

	if (idles == NULL || group->topic->nzones <= FEW_ZONES || TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return false;
	idle = hash_search(idles, &group->group_id, HASH_FIND, NULL);
	if (idle == NULL || idle->changes != group->changes || idle->look.ended != look->ended ||
		now >= idle->look.until)
		return false;
	look->until = idle->look.until;
	return true;
}

/* After it: every zone was read to its end, and look says how long that lasts. */
void
iotmq_idle_remember(const ConsumerGroup *group, const IdleLook *look)
{
	Idle	   *idle;

	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	if (idles == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(int32), .entrysize = sizeof(Idle)};

		idles = hash_create("iotmq idle groups", 32, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	idle = hash_search(idles, &group->group_id, HASH_ENTER, NULL);
	idle->changes = group->changes;
	idle->look = *look;
}

/* One zone of a look is at its end, by the state of its cursor. */
void
iotmq_idle_zone(IdleLook *look, const CursorState *state)
{
	look->until = Min(look->until, Min(state->next_expiry, state->next_due));
}

/* One zone is not. */
void
iotmq_idle_not(IdleLook *look)
{
	look->until = DT_NOBEGIN;
}

/* How many transactions with an id have ended since the server started. */
static uint64
transactions_ended(void)
{
	pg_memory_barrier();
	return *(volatile uint64 *) &TRANSACTIONS_ENDED;
}
