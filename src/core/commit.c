/*
 * commit.c - a transaction that did nothing but claim needs no WAL flush.
 *
 * A claim that a crash forgets is simply made again, so such a transaction
 * commits asynchronously. As soon as anything else of it reached the WAL, the
 * user's synchronous_commit counts.
 */
#include "core/core.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "utils/guc.h"

static bool only_claims = false;	/* this transaction, so far */
static XLogRecPtr last_claim;	/* its last WAL record */

static void at_transaction_end(XactEvent event, void *arg);

void
iotmq_commit_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}

/* Before a claim. */
void
iotmq_commit_before_claim(void)
{
	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()) && XactLastRecEnd == 0)
		only_claims = true;
	else if (XactLastRecEnd != last_claim)
		only_claims = false;
}

/* After a claim that wrote something. */
void
iotmq_commit_after_claim(void)
{
	last_claim = XactLastRecEnd;
}

/*
 * Sees that what is committed so far, asynchronously perhaps, survives a crash. The
 * record marks a place in the WAL and says nothing.
 */
void
iotmq_commit_flush(void)
{
	if (RecoveryInProgress())
		return;
	XLogBeginInsert();
	XLogRegisterData("", 1);	/* a record without data is none */
	XLogSetRecordFlags(XLOG_MARK_UNIMPORTANT);
	XLogFlush(XLogInsert(RM_XLOG_ID, XLOG_NOOP));
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (only_claims && XactLastRecEnd == last_claim &&
				synchronous_commit > SYNCHRONOUS_COMMIT_OFF)
				(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
										 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			only_claims = false;
			last_claim = InvalidXLogRecPtr;
			break;
		default:
			break;
	}
}
