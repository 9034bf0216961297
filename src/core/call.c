/*
 * call.c - what all entry points share of their arguments.
 */
#include "core/core.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MAX_INVISIBLE_US (30 * USECS_PER_DAY)

/* A text argument that names something; raises 22004 if it is NULL. */
char *
iotmq_call_name(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	iotmq_call_require(fcinfo, argno, argname);
	return text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

void
iotmq_call_require(FunctionCallInfo fcinfo, int argno, const char *argname)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be NULL", argname)));
}

/* The zone whose id an argument is; raises 42704 if there is none. */
Zone *
iotmq_call_zone(FunctionCallInfo fcinfo, int argno)
{
	Topic	   *topic;
	Zone	   *zone;

	if (!iotmq_catalog_zone_by_id(PG_GETARG_INT32(argno), &topic, &zone))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("zone %d does not exist", PG_GETARG_INT32(argno))));
	return zone;
}

/* How long a lease is to last, in us; 22023 unless it is more than 0 and at most 30 days. */
int64
iotmq_call_invisible_for(FunctionCallInfo fcinfo, int argno)
{
	int64		us = iotmq_interval_us(PG_GETARG_INTERVAL_P(argno));

	if (us <= 0 || us > MAX_INVISIBLE_US)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invisible_for must be more than 0 and at most 30 days")));
	return us;
}

/* How many messages a call may return; 22004 or 22023 unless it is 1 to 10,000. */
int
iotmq_call_max_messages(FunctionCallInfo fcinfo, int argno)
{
	int			max_messages;

	iotmq_call_require(fcinfo, argno, "max_messages");
	max_messages = PG_GETARG_INT32(argno);
	if (max_messages < 1 || max_messages > BATCH_MESSAGES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_messages must be between 1 and %d, not %d",
						BATCH_MESSAGES, max_messages)));
	return max_messages;
}

/* Raises 25006 on a hot standby and in a read-only transaction. */
void
iotmq_call_require_primary(const char *what)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s on a hot standby", what),
				 errhint("Connect to the primary server.")));
	PreventCommandIfReadOnly(what);
}

/* The row of these columns, as the function's OUT parameters have them. */
Datum
iotmq_call_return_row(FunctionCallInfo fcinfo, Datum *values, bool *isnull)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull));
}

/* check_transaction(procedure_name text) RETURNS void: raises 25001 in a transaction block. */
PG_FUNCTION_INFO_V1(iotmq_call_check_transaction);
Datum
iotmq_call_check_transaction(PG_FUNCTION_ARGS)
{
	if (IsTransactionBlock())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block",
						text_to_cstring(PG_GETARG_TEXT_PP(0)))));
	PG_RETURN_VOID();
}
