/*
 * state.c - what a zone is: open, fenced or a mirror.
 *
 * Messages are published to open zones only, and consumed there. Who publishes, or changes
 * what a group has, asks once it holds the lock that keeps the state from changing: the zone's
 * publish lock, or the use of the cursor. Those who change the state exclude both, and tell
 * of it before they give them back.
 */
#include "log/log.h"

#include "catalog/pg_type_d.h"
#include "utils/builtins.h"

static char *elsewhere(int32 zone_id);

/* Is it open? The caller holds such a lock; pointers to the catalog stay good. */
bool
iotmq_state_is_open(const Zone *zone)
{
	return iotmq_catalog_zone_state(zone) == ZONE_OPEN;
}

/* Raises 55000 unless it is open; the hint names where it is. The caller holds such a lock. */
void
iotmq_state_require_open(const Zone *zone)
{
	ZoneState	state = iotmq_catalog_zone_state(zone);
	char	   *topic_name;
	char	   *zone_name;
	char	   *place;

	if (state == ZONE_OPEN)
		return;
	topic_name = pstrdup(zone->topic->name);
	zone_name = pstrdup(zone->name);
	place = elsewhere(zone->zone_id);	/* looks something up */
	if (state == ZONE_MIRROR)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("zone \"%s\" of topic \"%s\" is a mirror", zone_name, topic_name),
				 errdetail("Messages are published to its source, and consumed there."),
				 errhint("Its source is the foreign server \"%s\".", place)));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("zone \"%s\" of topic \"%s\" is fenced", zone_name, topic_name),
			 errdetail("It is being moved to another server, or was."),
			 place != NULL ? errhint("It has moved to %s.", place) :
			 errhint("An administrator can open it again: SELECT iotmq.open_zone(%s, %s);",
					 quote_literal_cstr(topic_name), quote_literal_cstr(zone_name))));
}

/* The same for functions in SQL: state_require_open(zone_id int) RETURNS void. */
PG_FUNCTION_INFO_V1(iotmq_state_require_open_in_sql);
Datum
iotmq_state_require_open_in_sql(PG_FUNCTION_ARGS)
{
	iotmq_state_require_open(iotmq_call_zone(fcinfo, 0));
	PG_RETURN_VOID();
}

/* Where the zone is; NULL: nobody has said. */
static char *
elsewhere(int32 zone_id)
{
	bool		isnull;
	Datum		place = iotmq_owner_value("SELECT iotmq.state_elsewhere($1)", 1, (Oid[]) {INT4OID},
										  (Datum[]) {Int32GetDatum(zone_id)}, &isnull);

	return isnull ? NULL : TextDatumGetCString(place);
}
