/*
 * commit.c - a transaction that did nothing but claim and settle needs no WAL flush.
 *
 * A claim that a crash forgets is simply made again, and what was acknowledged comes again,
 * so such a transaction commits asynchronously. As soon as anything else of it reached the
 * WAL, the user's synchronous_commit counts.
 */
#include "core/core.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "utils/guc.h"

static bool is_light = false;	/* this transaction, so far */
static XLogRecPtr last_light;	/* the last WAL record of what need not be waited for */

static void at_transaction_end(XactEvent event, void *arg);

void
iotmq_commit_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}

/*
 * Before a claim, or a settlement. A transaction without an id has changed nothing, even if
 * it wrote to the WAL: with wal_log_hints or checksums a mere read does.
 */
void
iotmq_commit_light_begin(void)
{
	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		is_light = true;
	else if (XactLastRecEnd != last_light)
		is_light = false;
}

/* After it, if a crash may forget what it wrote; where it is left out, the commit waits. */
void
iotmq_commit_light_end(void)
{
	last_light = XactLastRecEnd;
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
			if (is_light && XactLastRecEnd == last_light &&
				synchronous_commit > SYNCHRONOUS_COMMIT_OFF)
				(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
										 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			is_light = false;
			last_light = InvalidXLogRecPtr;
			break;
		default:
			break;
	}
}
