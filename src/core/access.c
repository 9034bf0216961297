/*
 * access.c - who may do what.
 *
 * Every SQL entry point asks here first, for the current user (so SET ROLE and
 * SECURITY DEFINER callers count as what they became). C code then reads and
 * writes the tables directly, without table privileges; only what goes through
 * SPI runs as the extension's owner, between iotmq_become_owner and
 * iotmq_restore_user. An error restores the user by itself, with the
 * (sub)transaction that it ends.
 */
#include "iotmq.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

static void require_consume_args(FunctionCallInfo fcinfo);
static Datum call_as_owner(FunctionCallInfo fcinfo, const char *name);

/* Raises 42501 unless the current user may publish to the zone. */
void
iotmq_require_publish(const Topic *topic, const Zone *zone)
{
	if (!iotmq_is_admin() &&
		pg_attribute_aclcheck(zone->relid, Anum_payload, GetUserId(), ACL_INSERT) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to publish to zone \"%s\" of topic \"%s\"",
						zone->name, topic->name),
				 errhint("An administrator can run: SELECT iotmq.grant_publish(%s, %s, %s);",
						 quote_literal_cstr(topic->name),
						 quote_literal_cstr(quote_identifier(GetUserNameFromId(GetUserId(), false))),
						 quote_literal_cstr(psprintf("{\"%s\"}", zone->name)))));
}

/* Raises 42501 unless the current user may consume as the group. */
void
iotmq_require_consume(const Topic *topic, const ConsumerGroup *group)
{
	if (!iotmq_may_consume_as(group))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for consumer group \"%s\" of topic \"%s\"",
						group->name, topic->name),
				 errhint("An administrator can run: SELECT iotmq.grant_consume(%s, %s, %s);",
						 quote_literal_cstr(topic->name), quote_literal_cstr(group->name),
						 quote_literal_cstr(quote_identifier(GetUserNameFromId(GetUserId(), false))))));
}

/* Raises 42501 unless the current user may read all of the topic. */
void
iotmq_require_read(const Topic *topic)
{
	if (!iotmq_may_read(topic))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to read topic \"%s\"", topic->name),
				 errhint("An administrator can run: SELECT iotmq.grant_read(%s, %s);",
						 quote_literal_cstr(topic->name),
						 quote_literal_cstr(quote_identifier(GetUserNameFromId(GetUserId(), false))))));
}

bool
iotmq_may_read(const Topic *topic)
{
	return iotmq_is_admin() ||
		pg_class_aclcheck(topic->relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

bool
iotmq_may_consume_as(const ConsumerGroup *group)
{
	for (int i = 0; i < group->ngrantees; i++)
		if (has_privs_of_role(GetUserId(), group->grantees[i]))
			return true;
	return iotmq_is_admin();
}

/* Is the current user a superuser, the extension's owner, or an administrator of it? */
bool
iotmq_is_admin(void)
{
	return superuser() || MAY_EXECUTE(iotmq_admin_function(), GetUserId());
}

/* may_consume(group_id int) RETURNS boolean: may the current user consume as that group? */
PG_FUNCTION_INFO_V1(iotmq_may_consume);
Datum
iotmq_may_consume(PG_FUNCTION_ARGS)
{
	ConsumerGroup *group = iotmq_group_by_id(PG_GETARG_INT32(0));

	PG_RETURN_BOOL(group != NULL && iotmq_may_consume_as(group));
}

/*
 * redrive, purge_dead_letters, messages_of_device: SQL functions that run as the
 * extension's owner, once the caller's right is checked. Arguments, results and
 * errors are theirs; 42501 not allowed.
 */
PG_FUNCTION_INFO_V1(iotmq_redrive);
Datum
iotmq_redrive(PG_FUNCTION_ARGS)
{
	iotmq_require_primary("redrive()");
	require_consume_args(fcinfo);
	return call_as_owner(fcinfo, "redrive_as_owner");
}

PG_FUNCTION_INFO_V1(iotmq_purge_dead_letters);
Datum
iotmq_purge_dead_letters(PG_FUNCTION_ARGS)
{
	iotmq_require_primary("purge_dead_letters()");
	require_consume_args(fcinfo);
	return call_as_owner(fcinfo, "purge_as_owner");
}

PG_FUNCTION_INFO_V1(iotmq_messages_of_device);
Datum
iotmq_messages_of_device(PG_FUNCTION_ARGS)
{
	iotmq_require_read(iotmq_topic(iotmq_name_arg(fcinfo, 0, "topic")));
	return call_as_owner(fcinfo, "device_as_owner");
}

static void
require_consume_args(FunctionCallInfo fcinfo)
{
	Topic	   *topic = iotmq_topic(iotmq_name_arg(fcinfo, 0, "topic"));

	iotmq_require_consume(topic, iotmq_group(topic, iotmq_name_arg(fcinfo, 1, "consumer_group")));
}

/* Calls our function of that name with the same arguments, as the extension's owner. */
static Datum
call_as_owner(FunctionCallInfo fcinfo, const char *name)
{
	FunctionCallInfo inner = palloc(SizeForFunctionCallInfo(fcinfo->nargs));
	FmgrInfo	flinfo;
	OwnerContext saved;
	Datum		result;

	fmgr_info(LookupFuncName(list_make2(makeString("iotmq"), makeString(pstrdup(name))),
							 -1, NULL, false), &flinfo);
	memcpy(inner, fcinfo, SizeForFunctionCallInfo(fcinfo->nargs));
	inner->flinfo = &flinfo;
	inner->context = NULL;
	inner->isnull = false;
	saved = iotmq_become_owner();
	result = FunctionCallInvoke(inner);
	iotmq_restore_user(saved);
	fcinfo->isnull = inner->isnull;
	return result;
}

/* The extension's owner. */
Oid
iotmq_owner(void)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(iotmq_schema()));
	Oid			result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "schema iotmq vanished");
	result = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return result;
}

OwnerContext
iotmq_become_owner(void)
{
	OwnerContext saved;

	GetUserIdAndSecContext(&saved.user, &saved.security);
	SetUserIdAndSecContext(iotmq_owner(), saved.security | SECURITY_LOCAL_USERID_CHANGE);
	return saved;
}

void
iotmq_restore_user(OwnerContext saved)
{
	SetUserIdAndSecContext(saved.user, saved.security);
}

/* Raises 25006 on a hot standby and in a read-only transaction. */
void
iotmq_require_primary(const char *what)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s on a hot standby", what),
				 errhint("Connect to the primary server.")));
	PreventCommandIfReadOnly(what);
}

/* check_transaction(procedure_name text) RETURNS void: raises 25001 in a transaction block. */
PG_FUNCTION_INFO_V1(iotmq_check_transaction);
Datum
iotmq_check_transaction(PG_FUNCTION_ARGS)
{
	if (IsTransactionBlock())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block",
						text_to_cstring(PG_GETARG_TEXT_PP(0)))));
	PG_RETURN_VOID();
}
