/*
 * time_limit.c - an end for what waits for another server.
 *
 * For iotmq_router, which is SQL only. PL/Proxy waits for a server in a loop that looks at
 * interrupts; but where a statement is cancelled, it first asks that server to cancel, too,
 * and waits for it without looking at anything. A server whose processes stand still never
 * answers. Any other error it passes on at once. So the limit is PostgreSQL's own timer for
 * waiting locks, which raises 55P03; the backend waits for no lock meanwhile.
 *
 * Locks: none.
 */
#include "core/core.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/timeout.h"

static bool limited = false;	/* is the timer running? */

static void
end_limit(void)
{
	if (!limited)
		return;
	limited = false;
	disable_timeout(LOCK_TIMEOUT, true);
}

static void
at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE || event == XACT_EVENT_ABORT)
		end_limit();
}

static void
at_subxact_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_PRE_COMMIT_SUB || event == SUBXACT_EVENT_ABORT_SUB)
		end_limit();
}

/*
 * time_limit(milliseconds int) RETURNS void: raises 55P03 after that time, unless the
 * transaction or subtransaction has ended. Errors: 22023 not above 0.
 */
PG_FUNCTION_INFO_V1(iotmq_time_limit);
Datum
iotmq_time_limit(PG_FUNCTION_ARGS)
{
	static bool registered = false;
	int32		milliseconds = PG_GETARG_INT32(0);

	if (milliseconds <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a time limit must be above 0")));
	if (!registered)
	{
		RegisterXactCallback(at_xact_end, NULL);
		RegisterSubXactCallback(at_subxact_end, NULL);
		registered = true;
	}
	limited = true;
	enable_timeout_after(LOCK_TIMEOUT, milliseconds);
	PG_RETURN_VOID();
}
