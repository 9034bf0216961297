/*
 * One zone on its way into the archive: read by fetch, written object by object, and the
 * group's position committed behind each.
 *
 * That every message is in one object, however often the program is killed, comes from the
 * names of the objects, which say what they have.  Whoever begins looks which ones are there
 * from the position on; messages that one of them has are passed over.  So it does no harm
 * that an object would now end elsewhere, since more messages are there or a limit was
 * changed.
 *
 * Where a write can take effect after its program is dead, a look does not suffice.  There a
 * plan, the first and the last offset of the next object, is written before it.  Whoever begins at
 * the plan's first offset makes the object that the plan says, and thus writes the same bytes again.
 *
 * One session at a time works on a zone: it holds an advisory lock, and when it lost its
 * connection it begins anew.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gzip.h"
#include "memory.h"
#include "zone.h"

#define ROWS 1000				/* of a fetch at most */
#define CHUNK (16 * 1024 * 1024)	/* bytes of a fetch, of which one message may go beyond */
#define PLAN "_plan"			/* what begins so is hidden from most readers of such folders */
#define FIRST_PAUSE 0.1
#define LONGEST_PAUSE 10.0

Zone *
zone_make(const Archive *archive, const char *name)
{
	Zone	   *zone = iotmq_allocate(sizeof(Zone));

	zone->name = iotmq_copy(name);
	if (asprintf(&zone->folder, "%s/%s", archive->call->arguments[0], name) < 0)
		abort();
	return zone;
}

/* Lets go of the object that is being made. */
static void
drop_object(Zone *zone)
{
	if (zone->stream)
		fclose(zone->stream);
	free(zone->text);
	free(zone->bytes);
	zone->stream = NULL;
	zone->text = zone->bytes = NULL;
	zone->count = 0;
	zone->closed = zone->planned = false;
}

/* It begins anew, by what the group and the archive say then. */
void
zone_forget(Zone *zone)
{
	drop_object(zone);
	zone->ready = false;
}

void
zone_free(Zone *zone)
{
	drop_object(zone);
	free(zone->there.items);
	free(zone->lost.items);
	free(zone->folder);
	free(zone->name);
	free(zone);
}

/* position: where the group is now.  It may have been moved, by a seek or by retention. */
void
zone_check(Zone *zone, int64_t position)
{
	if (zone->ready && zone->count == 0 && zone->position != position)
		zone_forget(zone);
}

static PGresult *
query(Archive *archive, const char *sql, int count, const char *const *values, IotmqTrouble *trouble)
{
	PGresult   *result = iotmq_link_query(archive->link, sql, count, values, trouble);

	if (!result)
		archive->error = iotmq_link_error(archive->link);
	return result;
}

static int64_t
number_at(const PGresult *result, int row, int column)
{
	return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

/* Says when to try again; "trouble" is returned. */
static IotmqTrouble
store_result(Archive *archive, IotmqTrouble trouble)
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

/* The offset to go on at behind another one: none that never came to be. */
static int64_t
behind(const Zone *zone, int64_t offset)
{
	int64_t		next = offset + 1;

	for (int i = 0; i < zone->lost.count; i++)
		if (next > zone->lost.items[i].first && next <= zone->lost.items[i].last)
			next = zone->lost.items[i].last + 1;
	return next;
}

/* True if nobody else works on the zone. */
static IotmqTrouble
lock_zone(Archive *archive, Zone *zone, bool *locked)
{
	const char *values[] = {archive->call->arguments[0], archive->call->arguments[1], zone->name};
	IotmqTrouble trouble;
	PGresult   *result = query(archive, "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended("
							   "pg_catalog.format('iotmq archive/%s/%s/%s', $1::text, $2::text, $3::text), 0))",
							   3, values, &trouble);

	*locked = result && PQgetvalue(result, 0, 0)[0] == 't';
	PQclear(result);
	if (result && !*locked && !zone->left_to_another)
		complain("zone \"%s\" is being archived by another session: waiting for its end", zone->name);
	zone->left_to_another = result && !*locked;
	return trouble;
}

/* end: the next offset that will be given out */
static IotmqTrouble
find_position(Archive *archive, Zone *zone, int64_t *end)
{
	const char *values[] = {archive->call->arguments[0], archive->call->arguments[1], zone->name};
	IotmqTrouble trouble;
	PGresult   *result = query(archive, "SELECT iotmq.committed_offset($1, $2, $3), expired_unread, end_offset"
							   " FROM (SELECT) AS x LEFT JOIN iotmq.consumer_lag ON topic = $1 AND consumer_group = $2 AND zone = $3",
							   3, values, &trouble);
	int64_t		expired;

	if (!result)
		return trouble;
	zone->position = number_at(result, 0, 0);
	expired = number_at(result, 0, 1);
	*end = PQgetisnull(result, 0, 2) ? INT64_MAX : number_at(result, 0, 2);
	if (expired > zone->expired)
		complain("zone \"%s\": retention has dropped %" PRId64 " messages before the group had read them",
				 zone->name, expired - zone->expired);
	zone->expired = expired;
	PQclear(result);
	return IOTMQ_FINE;
}

/* Not every role that may consume may see it. */
static IotmqTrouble
find_lost(Archive *archive, Zone *zone)
{
	const char *values[] = {archive->call->arguments[0], zone->name};
	IotmqTrouble trouble;
	PGresult   *result = query(archive, "SELECT pg_catalog.has_table_privilege('iotmq.zone_epoch', 'SELECT')", 0, NULL, &trouble);
	bool		visible = result && PQgetvalue(result, 0, 0)[0] == 't';

	zone->lost.count = 0;
	PQclear(result);
	if (!visible)
		return trouble;
	result = query(archive, "SELECT last_before + 1, first_offset - 1 FROM iotmq.zone_epoch"
							   " WHERE topic = $1 AND zone = $2 ORDER BY epoch", 2, values, &trouble);
	for (int row = 0; result && row < PQntuples(result); row++)
		ranges_add(&zone->lost, (Range)
				   {
					   number_at(result, row, 0), number_at(result, row, 1)
				   });
	PQclear(result);
	return trouble;
}

static IotmqTrouble
find_plan(Archive *archive, Zone *zone, int64_t end)
{
	Store	   *store = archive->store;
	char	   *text = NULL;
	IotmqTrouble trouble;

	zone->plan = (Range)
	{
		0
	};
	if (!store->late)
		return IOTMQ_FINE;
	trouble = store_result(archive, store->get(store, zone->folder, PLAN, &text));
	if (text && (sscanf(text, "%" SCNd64 "-%" SCNd64, &zone->plan.first, &zone->plan.last) != 2 || zone->plan.last >= end))
		zone->plan.last = 0;
	free(text);
	return trouble;
}

static int
compare_ranges(const void *a, const void *b)
{
	int64_t		x = ((const Range *) a)->first;
	int64_t		y = ((const Range *) b)->first;

	return (x > y) - (x < y);
}

static void
tell_lost(const Zone *zone, Range object, int64_t from)
{
	complain("zone \"%s\" has lost messages in a recovery of the database: in the archive's %" PRId64 "-%" PRId64
			 ", those from offset %" PRId64 " on never came to be",
			 zone->name, object.first, object.last, object.first > from ? object.first : from);
}

/*
 * Tells what the archive has that a recovery has lost.  Before something is published in the
 * new epoch this shows by the end alone, and the group can't go beyond it.
 */
static void
look_at_lost(Zone *zone, Range *object, int64_t end)
{
	for (int i = 0; i < zone->lost.count; i++)
		if (object->first <= zone->lost.items[i].last && object->last >= zone->lost.items[i].first)
			tell_lost(zone, *object, zone->lost.items[i].first);
	if (object->last >= end)
	{
		tell_lost(zone, *object, end);
		object->last = end - 1;
	}
}

static IotmqTrouble
find_objects(Archive *archive, Zone *zone, int64_t end)
{
	Store	   *store = archive->store;
	int64_t		from = zone->position;
	IotmqTrouble trouble;

	/* Retention may have moved the group into the object that the plan is of. */
	if (zone->plan.last >= from && zone->plan.first < from)
		from = zone->plan.first;
	zone->there.count = zone->passed = 0;
	trouble = store_result(archive, store->list(store, zone->folder, from, &zone->there));
	if (zone->there.count > 0)
		qsort(zone->there.items, (size_t) zone->there.count, sizeof(Range), compare_ranges);
	for (int i = 0; trouble == IOTMQ_FINE && i < zone->there.count; i++)
		look_at_lost(zone, &zone->there.items[i], end);
	return trouble;
}

static IotmqTrouble
begin(Archive *archive, Zone *zone)
{
	bool		locked;
	int64_t		end = INT64_MAX;
	IotmqTrouble trouble = lock_zone(archive, zone, &locked);

	if (trouble != IOTMQ_FINE || !locked)
		return trouble;
	trouble = find_position(archive, zone, &end);
	if (trouble == IOTMQ_FINE)
		trouble = find_lost(archive, zone);
	if (trouble == IOTMQ_FINE)
		trouble = find_plan(archive, zone, end);
	if (trouble == IOTMQ_FINE)
		trouble = find_objects(archive, zone, end);
	if (trouble != IOTMQ_FINE)
		return trouble;
	zone->next = behind(zone, zone->position - 1);
	if (zone->next != zone->position)
		complain("zone \"%s\" goes on at offset %" PRId64 " after a recovery of the database", zone->name, zone->next);
	zone->ready = true;
	zone->full = true;			/* until a fetch says otherwise */
	return IOTMQ_FINE;
}

/* Moves the group; if it isn't where it was any more the zone begins anew. */
static IotmqTrouble
commit(Archive *archive, Zone *zone, int64_t next, bool *moved)
{
	char		numbers[2][24];
	const char *values[] = {
		archive->call->arguments[0], archive->call->arguments[1], zone->name, numbers[0], numbers[1]
	};
	IotmqTrouble trouble;
	PGresult   *result;

	snprintf(numbers[0], sizeof(numbers[0]), "%" PRId64, next);
	snprintf(numbers[1], sizeof(numbers[1]), "%" PRId64, zone->position);
	result = query(archive, "SELECT iotmq.commit_offset($1, $2, $3, $4::bigint)"
				   " FROM (SELECT iotmq.committed_offset($1, $2, $3) AS position OFFSET 0) AS x"
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

static void
report(const Archive *archive, const Zone *zone, const char *name)
{
	if (archive->call->json)
	{
		printf("{\"object\": \"%s/%s\", \"zone\": \"%s\", \"first_offset\": \"%" PRId64 "\", \"last_offset\": \"%" PRId64
			   "\", \"messages\": %d, \"bytes\": %zu}\n",
			   zone->folder, name, zone->name, zone->range.first, zone->range.last, zone->count, zone->size);
	}
	else
		printf("%s/%s  %d messages\n", zone->folder, name, zone->count);
	fflush(stdout);
}

/* Writes the object and moves the group behind it. */
static IotmqTrouble
write_object(Archive *archive, Zone *zone)
{
	Store	   *store = archive->store;
	char		name[OBJECT_NAME_SIZE];
	IotmqTrouble trouble = IOTMQ_FINE;
	bool		moved;

	if (iotmq_now() < archive->store_retry_at)
		return IOTMQ_FINE;
	object_name(name, zone->range);
	if (store->late && !zone->planned)
	{
		char		plan[64];
		int			length = snprintf(plan, sizeof(plan), "%" PRId64 "-%" PRId64 "\n", zone->range.first, zone->range.last);

		trouble = store_result(archive, store->put(store, zone->folder, PLAN, plan, (size_t) length));
		zone->planned = trouble == IOTMQ_FINE;
	}
	if (trouble == IOTMQ_FINE)
		trouble = store_result(archive, store->put(store, zone->folder, name, zone->bytes, zone->size));
	if (trouble != IOTMQ_FINE)
		return trouble;

	trouble = commit(archive, zone, behind(zone, zone->range.last), &moved);
	if (trouble == IOTMQ_FINE && moved)
	{
		report(archive, zone, name);
		drop_object(zone);
	}
	return trouble;
}

/* The object gets no more messages. */
static void
close_object(Zone *zone)
{
	if (fclose(zone->stream) != 0)
		abort();
	zone->stream = NULL;
	zone->bytes = gzip(zone->text, zone->length, &zone->size);
	free(zone->text);
	zone->text = NULL;
	zone->closed = true;
}

static void
add_message(Zone *zone, const PGresult *result, int row, int64_t offset)
{
	const char *values[9];

	if (zone->count == 0)
	{
		zone->range.first = offset;
		zone->since = iotmq_now();
		zone->planned = zone->plan.last > 0 && zone->plan.first == offset;
		zone->stream = open_memstream(&zone->text, &zone->length);
		if (!zone->stream)
			abort();
	}
	for (int column = 0; column < 9; column++)
		values[column] = PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
	json_message(zone->stream, NULL, zone->name, &(IotmqMessage)
				 {
					 .offset = values[1],.device_id = values[2],.tag = values[3],.payload = values[4],
						 .body = values[5],.properties = values[6],.message_key = values[7],.published_at = values[8]
				 });
	putc('\n', zone->stream);
	if (fflush(zone->stream) != 0)
		abort();
	zone->range.last = zone->planned ? zone->plan.last : offset;
	zone->count++;
}

/* The object of the archive that has an offset, of which the next is larger; NULL: there is none. */
static const Range *
find_object(Zone *zone, int64_t offset)
{
	while (zone->passed < zone->there.count && zone->there.items[zone->passed].last < offset)
		zone->passed++;
	if (zone->passed < zone->there.count && zone->there.items[zone->passed].first <= offset)
		return &zone->there.items[zone->passed];
	return NULL;
}

/* Whether the object is to end before that message. */
static bool
ends_before(Zone *zone, int64_t offset)
{
	return zone->count > 0 && (zone->planned ? offset > zone->plan.last : find_object(zone, offset) != NULL);
}

static bool
is_full(const Archive *archive, const Zone *zone)
{
	if (zone->planned)
		return zone->next > zone->plan.last;
	return zone->count >= archive->most_messages || zone->length >= archive->most_bytes;
}

/* Takes rows as long as they are of the same object. */
static IotmqTrouble
take_rows(Archive *archive, Zone *zone, const PGresult *result)
{
	for (int row = 0; row < PQntuples(result); row++)
	{
		int64_t		offset = number_at(result, row, 1);
		const Range *object = zone->count == 0 ? find_object(zone, offset) : NULL;
		bool		moved;

		if (object)
		{
			complain("%s: %" PRId64 "-%" PRId64 " is there", zone->folder, object->first, object->last);
			zone->full = true;
			return commit(archive, zone, behind(zone, object->last), &moved);
		}
		if (ends_before(zone, offset))
		{
			zone->full = true;
			close_object(zone);
			return IOTMQ_FINE;
		}
		add_message(zone, result, row, offset);
		zone->next = behind(zone, offset);
		if (is_full(archive, zone))
		{
			zone->full = true;
			close_object(zone);
			return IOTMQ_FINE;
		}
	}
	return IOTMQ_FINE;
}

/*
 * After a fetch was refused: if the zone was recovered, the hint says where to go on.  So it is for
 * roles that may not see the epochs, and behind a proxy whose connections outlive a server.
 */
static IotmqTrouble
look_for_recovery(const Archive *archive, Zone *zone)
{
	static const char hint[] = "Go on at offset ";
	const char *found = strstr(archive->error, hint);

	if (!found)
		return IOTMQ_REFUSED;
	if (zone->count > 0)
	{
		zone_forget(zone);		/* what was read may be lost */
		return IOTMQ_FINE;
	}
	zone->next = strtoll(found + strlen(hint), NULL, 10);
	complain("zone \"%s\" goes on at offset %" PRId64 " after a recovery of the database", zone->name, zone->next);
	zone->full = true;
	return IOTMQ_FINE;
}

/* One fetch: of messages whose texts are the same in every session. */
static IotmqTrouble
fetch(Archive *archive, Zone *zone)
{
	char		next[24];
	char		rows[24];
	char		bytes[24];
	const char *values[] = {archive->call->arguments[0], zone->name, next, rows, bytes};
	size_t		room = zone->planned ? CHUNK : archive->most_bytes - zone->length;
	int			most = zone->planned ? ROWS : archive->most_messages - zone->count;
	IotmqTrouble trouble;
	PGresult   *result;

	most = most < ROWS ? most : ROWS;
	snprintf(next, sizeof(next), "%" PRId64, zone->next);
	snprintf(rows, sizeof(rows), "%d", most);
	snprintf(bytes, sizeof(bytes), "%zu", room < CHUNK ? room : (size_t) CHUNK);
	result = query(archive,
				   "SELECT zone, msg_offset, device_id, tag, payload, body, properties, message_key,"
				   " replace(to_jsonb(published_at AT TIME ZONE 'UTC') #>> '{}', 'T', ' ') || '+00', fetched"
				   " FROM (SELECT *, sum(size) OVER (ORDER BY msg_offset) - size AS before, count(*) OVER () AS fetched"
				   " FROM (SELECT *, coalesce(octet_length(payload::text), 0) + coalesce(octet_length(body), 0)"
				   " + coalesce(octet_length(properties::text), 0) AS size"
				   " FROM iotmq.fetch($1, $2, $3::bigint, $4::int)) AS f) AS g"
				   " WHERE before < $5::bigint ORDER BY msg_offset", 5, values, &trouble);
	if (!result)
		return trouble == IOTMQ_REFUSED ? look_for_recovery(archive, zone) : trouble;
	zone->full = PQntuples(result) > 0 &&
		(number_at(result, 0, 9) == most || number_at(result, 0, 9) > PQntuples(result));
	/* The last message of a plan may have been erased. */
	if (PQntuples(result) == 0 && zone->planned)
		close_object(zone);
	trouble = take_rows(archive, zone, result);
	PQclear(result);
	return trouble;
}

/*
 * One step: an object that is closed is written, else what there is is read, as much as one
 * fetch brings, if "reads" is set.  "now": what has been read is an object, however little.
 */
IotmqTrouble
zone_step(Archive *archive, Zone *zone, bool reads, bool now)
{
	IotmqTrouble trouble = IOTMQ_FINE;

	if (!zone->ready && reads && iotmq_now() >= archive->store_retry_at)
		trouble = begin(archive, zone);
	if (trouble != IOTMQ_FINE || !zone->ready)
		return trouble;
	if (reads && !zone->closed)
		trouble = fetch(archive, zone);
	if (trouble != IOTMQ_FINE || !zone->ready)
		return trouble;
	if (zone->count > 0 && !zone->closed)
	{
		if (zone->planned && !reads)
			zone_forget(zone);	/* the next run makes it as a whole */
		else if (!zone->planned && !(reads && zone->full) && (now || iotmq_now() >= zone->since + archive->longest))
			close_object(zone);
	}
	return zone->closed ? write_object(archive, zone) : IOTMQ_FINE;
}
