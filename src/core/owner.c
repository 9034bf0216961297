/*
 * owner.c - doing something as the extension's owner.
 *
 * Functions in C run as their caller, whose right access.c has checked, and read and write
 * our tables directly, without table privileges. Only what goes through SQL runs as the
 * owner, between iotmq_owner_become and iotmq_owner_restore. An error restores the user by
 * itself, with the (sub)transaction that it ends.
 */
#include "core/core.h"

#include "access/htup_details.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

static Datum call(FunctionCallInfo fcinfo, const char *name, const Oid *types, int nmore,
				  const NullableDatum *more);

/* The extension's owner. */
Oid
iotmq_owner_oid(void)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID,
										ObjectIdGetDatum(iotmq_relation_schema()));
	Oid			result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "schema iotmq vanished");
	result = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return result;
}

OwnerContext
iotmq_owner_become(void)
{
	OwnerContext saved;

	GetUserIdAndSecContext(&saved.user, &saved.security);
	SetUserIdAndSecContext(iotmq_owner_oid(), saved.security | SECURITY_LOCAL_USERID_CHANGE);
	return saved;
}

void
iotmq_owner_restore(OwnerContext saved)
{
	SetUserIdAndSecContext(saved.user, saved.security);
}

/* Runs a SELECT that calls one of our own functions. */
void
iotmq_owner_run(const char *command, int nargs, Oid *types, Datum *values)
{
	bool		isnull;

	(void) iotmq_owner_value(command, nargs, types, values, &isnull);
}

/* The same for its result, of its first row if it has several. */
Datum
iotmq_owner_value(const char *command, int nargs, Oid *types, Datum *values, bool *isnull)
{
	OwnerContext saved = iotmq_owner_become();
	Form_pg_attribute column;
	Datum		value;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(command, nargs, types, values, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not run %s", command);
	column = TupleDescAttr(SPI_tuptable->tupdesc, 0);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
	if (!*isnull)
		value = SPI_datumTransfer(value, column->attbyval, column->attlen);
	SPI_finish();
	iotmq_owner_restore(saved);
	return value;
}

/* Calls our function of that name, which has the arguments of this call. */
Datum
iotmq_owner_call(FunctionCallInfo fcinfo, const char *name)
{
	return call(fcinfo, name, NULL, 0, NULL);
}

/* The same of one that has another argument of that type behind them. */
Datum
iotmq_owner_call_with(FunctionCallInfo fcinfo, const char *name, Oid type, NullableDatum more)
{
	return call(fcinfo, name, &type, 1, &more);
}

static Datum
call(FunctionCallInfo fcinfo, const char *name, const Oid *types, int nmore, const NullableDatum *more)
{
	int			nargs = fcinfo->nargs + nmore;
	FunctionCallInfo inner = palloc(SizeForFunctionCallInfo(nargs));
	Oid			all_types[FUNC_MAX_ARGS];
	FmgrInfo	flinfo;
	HeapTuple	tuple;
	Form_pg_proc outer;
	OwnerContext saved;
	Datum		result;

	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "function %u vanished", fcinfo->flinfo->fn_oid);
	outer = (Form_pg_proc) GETSTRUCT(tuple);
	memcpy(all_types, outer->proargtypes.values, sizeof(Oid) * fcinfo->nargs);
	ReleaseSysCache(tuple);
	memcpy(inner, fcinfo, SizeForFunctionCallInfo(fcinfo->nargs));
	inner->nargs = nargs;
	for (int i = 0; i < nmore; i++)
	{
		all_types[fcinfo->nargs + i] = types[i];
		inner->args[fcinfo->nargs + i] = more[i];
	}
	fmgr_info(GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
							  PointerGetDatum(buildoidvector(all_types, nargs)),
							  ObjectIdGetDatum(iotmq_relation_schema())), &flinfo);
	inner->flinfo = &flinfo;
	inner->context = NULL;
	inner->isnull = false;
	saved = iotmq_owner_become();
	result = FunctionCallInvoke(inner);
	iotmq_owner_restore(saved);
	fcinfo->isnull = inner->isnull;
	return result;
}
