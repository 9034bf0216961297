/*
 * link.c - connections to other servers by dblink: waiting, but not for ever.
 *
 * A server that is frozen, or behind a network that swallows packets, answers nothing, and
 * takes no cancel. So a connection has a time to be made in, and a question a time to be
 * answered in; whatever comes later is not waited for.
 *
 * dblink's functions run as the caller: its user mappings are used, no others. They are given
 * by those in SQL, and any administrator can give others: so it is seen that it is them, and
 * that the caller may execute them.
 *
 * Locks: none.
 */
#include "mirror/mirror.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define CONNECT_VARIABLE "PGCONNECT_TIMEOUT"	/* libpq's default of connect_timeout */
#define FIRST_NAP_US 50
#define LONGEST_NAP_US 1000

static char connected[NAMEDATALEN];	/* the server that was connected to last, */
static FullTransactionId connected_in;	/* in that transaction; invalid: in none */

static char *remembered(const char *value);
static void require_function(Oid function, const char *name, int nargs);
static void nap(int64 us);

/*
 * link_connect(connect regprocedure, name text, server text, seconds int) RETURNS void:
 * calls dblink_connect(name, server), with that connect_timeout unless the server or the user
 * mapping has one. Errors: dblink's.
 */
PG_FUNCTION_INFO_V1(iotmq_link_connect);
Datum
iotmq_link_connect(PG_FUNCTION_ARGS)
{
	char	   *volatile before = remembered(getenv(CONNECT_VARIABLE));
	char	   *seconds = psprintf("%d", PG_GETARG_INT32(3));

	require_function(PG_GETARG_OID(0), "dblink_connect", 2);
	connected_in = InvalidFullTransactionId;
	setenv(CONNECT_VARIABLE, seconds, 1);
	PG_TRY();
	{
		(void) OidFunctionCall2(PG_GETARG_OID(0), PG_GETARG_DATUM(1), PG_GETARG_DATUM(2));
	}
	PG_FINALLY();
	{
		if (before != NULL)
			setenv(CONNECT_VARIABLE, before, 1);
		else
			unsetenv(CONNECT_VARIABLE);
	}
	PG_END_TRY();
	strlcpy(connected, text_to_cstring(PG_GETARG_TEXT_PP(2)), NAMEDATALEN);
	connected_in = GetTopFullTransactionId();
	PG_RETURN_VOID();
}

/*
 * link_require(source text) RETURNS void: raises 42501 unless this transaction has connected to
 * that foreign server before. Who makes a mirror of it may use it, then: run_mirrors may be
 * called by somebody who may use more.
 */
PG_FUNCTION_INFO_V1(iotmq_link_require);
Datum
iotmq_link_require(PG_FUNCTION_ARGS)
{
	char	   *source = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (!FullTransactionIdIsValid(connected_in) ||
		!FullTransactionIdEquals(connected_in, GetTopFullTransactionIdIfAny()) ||
		strcmp(connected, source) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for foreign server %s", source),
				 errdetail("This transaction has not connected to it.")));
	PG_RETURN_VOID();
}

/*
 * link_wait(is_busy regprocedure, name text, until timestamptz) RETURNS boolean: waits until
 * dblink_is_busy(name) is 0; false: not by then.
 */
PG_FUNCTION_INFO_V1(iotmq_link_wait);
Datum
iotmq_link_wait(PG_FUNCTION_ARGS)
{
	TimestampTz until = PG_GETARG_TIMESTAMPTZ(2);
	int64		us = FIRST_NAP_US;

	require_function(PG_GETARG_OID(0), "dblink_is_busy", 1);
	while (DatumGetInt32(OidFunctionCall1(PG_GETARG_OID(0), PG_GETARG_DATUM(1))) != 0)
	{
		if (GetCurrentTimestamp() >= until)
			PG_RETURN_BOOL(false);
		nap(us);
		us = Min(us * 2, LONGEST_NAP_US);
	}
	PG_RETURN_BOOL(true);
}

static char *
remembered(const char *value)
{
	return value == NULL ? NULL : pstrdup(value);
}

/* Raises 42501 unless it is dblink's function of that name, and the caller's to execute. */
static void
require_function(Oid function, const char *name, int nargs)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			extension = get_extension_oid("dblink", true);
	bool		is_it = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);

		is_it = strcmp(NameStr(proc->proname), name) == 0 && proc->pronargs == nargs &&
			OidIsValid(extension) && getExtensionOfObject(ProcedureRelationId, function) == extension;
		ReleaseSysCache(tuple);
	}
	if (!is_it || !MAY_EXECUTE(function, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function %s", name)));
}

static void
nap(int64 us)
{
	CHECK_FOR_INTERRUPTS();
	if (us < LONGEST_NAP_US)
	{
		pg_usleep(us);
		return;
	}
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, us / 1000,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
