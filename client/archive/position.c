/*
 * A group's position in a zone.
 */

#include <inttypes.h>
#include <stdio.h>

#include "zone.h"

/* The offset to go on at behind another one: none that never came to be. */
int64_t
zone_behind(const Zone *zone, int64_t offset)
{
	int64_t		next = offset + 1;

	for (int i = 0; i < zone->lost.count; i++)
		if (next > zone->lost.items[i].first && next <= zone->lost.items[i].last)
			next = zone->lost.items[i].last + 1;
	return next;
}

/*
 * Whether the session is still there, whose lock keeps others out, and the group where it was;
 * if it isn't the zone begins anew.
 */
IotmqTrouble
zone_is_ours(Archive *archive, Zone *zone, bool *ours)
{
	const char *values[] = {archive->call->arguments[0], archive->call->arguments[1], zone->name};
	IotmqTrouble trouble;
	PGresult   *result = archive_query(archive, "SELECT iotmq.committed_offset($1, $2, $3)", 3, values, &trouble);

	*ours = result && archive_number(result, 0, 0) == zone->position;
	if (result && !*ours)
		zone_forget(zone);
	PQclear(result);
	return trouble;
}

/*
 * Moves the group; if it isn't where it was any more the zone begins anew.  A retry of nothing
 * holds the position while it is looked at, so that no seek that commits meanwhile is undone.
 */
IotmqTrouble
zone_commit(Archive *archive, Zone *zone, int64_t next, bool *moved)
{
	char		numbers[2][24];
	const char *values[] = {
		archive->call->arguments[0], archive->call->arguments[1], zone->name, numbers[0], numbers[1]
	};
	IotmqTrouble trouble;
	PGresult   *result;

	snprintf(numbers[0], sizeof(numbers[0]), "%" PRId64, next);
	snprintf(numbers[1], sizeof(numbers[1]), "%" PRId64, zone->position);
	result = archive_query(archive, "SELECT iotmq.commit_offset($1, $2, $3, $4::bigint)"
						   " FROM (SELECT iotmq.committed_offset($1, $2, $3) AS position"
						   " FROM (SELECT iotmq.retry_now($1, $2, '{}', $3) OFFSET 0) AS held OFFSET 0) AS x"
						   " WHERE position = $5::bigint", 5, values, &trouble);
	*moved = result && PQntuples(result) == 1;
	PQclear(result);
	if (!result)
		return trouble;
	if (*moved)
		zone->position = zone->next = next;
	else
		zone_forget(zone);
	return IOTMQ_FINE;
}
