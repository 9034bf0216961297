/*
 * client.c - is anybody there to get the result?
 */
#include "core/core.h"

#include "miscadmin.h"
#include "storage/latch.h"

/* Of libpq/libpq.h, which asks for GSSAPI's headers: extensions are built without these. */
extern bool pq_check_connection(void);

/*
 * Ends the session if its client is gone. Not in a background worker, nor where the
 * kernel can't tell.
 */
void
iotmq_client_require(void)
{
	if (MyProcPort == NULL || !WaitEventSetCanReportClosed() || pq_check_connection())
		return;
	ClientConnectionLost = true;
	InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
}
