/*
 * groups.c - what groups have of a zone, for a mirror of it on another server.
 *
 * The right is checked here; all else is SQL that runs as the extension's owner.
 */
#include "core/core.h"

static Datum call_for_mirror(FunctionCallInfo fcinfo, const char *name);

/*
 * mirror_groups(topic text, zone text, known jsonb) RETURNS jsonb: see sql/mirror/groups.sql.
 * Errors: 22004 topic or zone NULL; 42704 unknown topic or zone; 42501 not allowed.
 */
PG_FUNCTION_INFO_V1(iotmq_mirror_groups);
Datum
iotmq_mirror_groups(PG_FUNCTION_ARGS)
{
	return call_for_mirror(fcinfo, "groups_now");
}

/*
 * mirror_letters(topic text, zone text, consumer_group text, msg_offsets bigint[]) RETURNS
 * jsonb: likewise. Errors as mirror_groups; 42704 unknown group.
 */
PG_FUNCTION_INFO_V1(iotmq_mirror_letters);
Datum
iotmq_mirror_letters(PG_FUNCTION_ARGS)
{
	return call_for_mirror(fcinfo, "groups_letters_content");
}

static Datum
call_for_mirror(FunctionCallInfo fcinfo, const char *name)
{
	iotmq_access_require_mirror(iotmq_catalog_topic(iotmq_call_name(fcinfo, 0, "topic")));
	return iotmq_owner_call(fcinfo, name);
}
