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
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

static Oid	owner(void);

/* Raises 42501 unless the current user may publish to the zone. */
void
iotmq_require_publish(const Topic *topic, const Zone *zone)
{
	if (!iotmq_is_admin())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to publish to zone \"%s\" of topic \"%s\"",
						zone->name, topic->name)));
}

/* Raises 42501 unless the current user may consume as the group. */
void
iotmq_require_consume(const Topic *topic, const ConsumerGroup *group)
{
	if (!iotmq_is_admin())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for consumer group \"%s\" of topic \"%s\"",
						group->name, topic->name)));
}

/* Raises 42501 unless the current user may read the zone's messages. */
void
iotmq_require_read(const Topic *topic, const Zone *zone)
{
	if (!iotmq_is_admin())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to read topic \"%s\"", topic->name)));
}

/* Has the current user the rights of the extension's owner? */
bool
iotmq_is_admin(void)
{
	return superuser() || has_privs_of_role(GetUserId(), owner());
}

OwnerContext
iotmq_become_owner(void)
{
	OwnerContext saved;

	GetUserIdAndSecContext(&saved.user, &saved.security);
	SetUserIdAndSecContext(owner(), saved.security | SECURITY_LOCAL_USERID_CHANGE);
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

static Oid
owner(void)
{
	HeapTuple	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(iotmq_schema()));
	Oid			result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "schema iotmq vanished");
	result = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return result;
}
