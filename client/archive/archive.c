/*
 * The archive's connection and its store, and what went wrong with them.
 */

#include <stdlib.h>

#include "zone.h"

#define FIRST_PAUSE 0.1
#define LONGEST_PAUSE 10.0

/* NULL: it failed */
PGresult *
archive_query(Archive *archive, const char *sql, int count, const char *const *values, IotmqTrouble *trouble)
{
	PGresult   *result = iotmq_link_query(archive->link, sql, count, values, trouble);

	if (!result)
		archive->error = iotmq_link_error(archive->link);
	return result;
}

int64_t
archive_number(const PGresult *result, int row, int column)
{
	return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

/* Says when to try again; "trouble" is returned. */
IotmqTrouble
archive_store_result(Archive *archive, IotmqTrouble trouble)
{
	if (trouble == IOTMQ_FINE)
		archive->store_pause = archive->store_retry_at = 0;
	else
	{
		archive->error = archive->store->error;
		archive->store_pause = archive->store_pause == 0 ? FIRST_PAUSE : archive->store_pause * 2;
		if (archive->store_pause > LONGEST_PAUSE)
			archive->store_pause = LONGEST_PAUSE;
		archive->store_retry_at = iotmq_now() + archive->store_pause * (0.5 + drand48() / 2);
	}
	return trouble;
}
