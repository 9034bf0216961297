/*
 * access.c - who may do what.
 *
 * Every SQL entry point asks here first, for the current user (so SET ROLE and
 * SECURITY DEFINER callers count as what they became).
 */
#include "core/core.h"

#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

static bool is_any(int n, const Oid *roles);
static bool may_publish(const Zone *zone);
static bool may_insert(Oid relid);
static bool may_select(Oid relid);

/* Raises 42501 unless the current user may publish to the zone. */
void
iotmq_access_require_publish(const Topic *topic, const Zone *zone)
{
	if (!may_publish(zone))
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
iotmq_access_require_consume(const Topic *topic, const ConsumerGroup *group)
{
	if (!iotmq_access_may_consume(group))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for consumer group \"%s\" of topic \"%s\"",
						group->name, topic->name),
				 errhint("An administrator can run: SELECT iotmq.grant_consume(%s, %s, %s);",
						 quote_literal_cstr(topic->name), quote_literal_cstr(group->name),
						 quote_literal_cstr(quote_identifier(GetUserNameFromId(GetUserId(), false))))));
}

/* Raises 42501 unless the current user may read the zone or, for NULL, any of the topic. */
void
iotmq_access_require_read(const Topic *topic, const Zone *zone)
{
	char	   *role;

	if (iotmq_access_may_read(topic, zone))
		return;
	for (int z = 0; zone == NULL && z < topic->nzones; z++)
		if (iotmq_access_may_read(topic, &topic->zones[z]))
			return;
	role = quote_literal_cstr(quote_identifier(GetUserNameFromId(GetUserId(), false)));
	if (zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to read topic \"%s\"", topic->name),
				 errhint("An administrator can run: SELECT iotmq.grant_read(%s, %s);",
						 quote_literal_cstr(topic->name), role)));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to read zone \"%s\" of topic \"%s\"", zone->name, topic->name),
			 errhint("An administrator can run: SELECT iotmq.grant_read(%s, %s, %s);",
					 quote_literal_cstr(topic->name), role,
					 quote_literal_cstr(psprintf("{\"%s\"}", zone->name)))));
}

/* Raises 42501 unless the current user may pull the topic: its messages, and what its groups have. */
void
iotmq_access_require_mirror(const Topic *topic)
{
	if (!iotmq_access_is_mirror(topic) && !iotmq_access_is_admin())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to mirror topic \"%s\"", topic->name),
				 errhint("An administrator can run: SELECT iotmq.grant_mirror(%s, %s);",
						 quote_literal_cstr(topic->name),
						 quote_literal_cstr(quote_identifier(GetUserNameFromId(GetUserId(), false))))));
}

/* May the current user read the zone or, for NULL, all of the topic, with zones to come? */
bool
iotmq_access_may_read(const Topic *topic, const Zone *zone)
{
	return iotmq_access_is_admin() || iotmq_access_is_mirror(topic) ||
		may_select(topic->relid) || (zone != NULL && may_select(zone->relid));
}

bool
iotmq_access_may_consume(const ConsumerGroup *group)
{
	return is_any(group->ngrantees, group->grantees) || iotmq_access_is_admin();
}

/* Was the current user granted to pull the topic? Not by being an administrator. */
bool
iotmq_access_is_mirror(const Topic *topic)
{
	return is_any(topic->nmirrors, topic->mirrors);
}

/*
 * Has the current user any right on the zone: to publish, to read, to consume as some group?
 * NULL: on all zones of the topic, whatever they are.
 */
bool
iotmq_access_may_use(const Topic *topic, const Zone *zone)
{
	if (iotmq_access_may_read(topic, zone) || may_insert(topic->relid))
		return true;
	for (int g = 0; g < topic->ngroups; g++)
		if (iotmq_access_may_consume(&topic->groups[g]))
			return true;
	return zone != NULL && may_insert(zone->relid);
}

/* Has the current user what one of these roles has? */
static bool
is_any(int n, const Oid *roles)
{
	for (int i = 0; i < n; i++)
		if (has_privs_of_role(GetUserId(), roles[i]))
			return true;
	return false;
}

static bool
may_publish(const Zone *zone)
{
	return iotmq_access_is_admin() || may_insert(zone->relid);
}

/* May the current user publish to that table of a topic or zone? Not if it is gone. */
static bool
may_insert(Oid relid)
{
	bool		is_missing = false;

	return pg_attribute_aclcheck_ext(relid, Anum_payload, GetUserId(), ACL_INSERT,
									 &is_missing) == ACLCHECK_OK && !is_missing;
}

/* May the current user read that table of a topic or zone in SQL? Not if it is gone. */
static bool
may_select(Oid relid)
{
	bool		is_missing = false;

	return pg_class_aclcheck_ext(relid, GetUserId(), ACL_SELECT, &is_missing) == ACLCHECK_OK &&
		!is_missing;
}

/* May the current user see figures of all topics and groups? */
bool
iotmq_access_may_monitor(void)
{
	return superuser() || MAY_EXECUTE(iotmq_relation_monitor_function(), GetUserId());
}

/* May the current user see what the group has, without the content of messages? */
bool
iotmq_access_may_see(const ConsumerGroup *group)
{
	return iotmq_access_may_monitor() || iotmq_access_may_consume(group);
}

/* Is the current user a superuser, the extension's owner, or an administrator of it? */
bool
iotmq_access_is_admin(void)
{
	return superuser() || MAY_EXECUTE(iotmq_relation_admin_function(), GetUserId());
}

/* access_may_administer() RETURNS boolean: is the current user an administrator? */
PG_FUNCTION_INFO_V1(iotmq_access_may_administer);
Datum
iotmq_access_may_administer(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(iotmq_access_is_admin());
}
