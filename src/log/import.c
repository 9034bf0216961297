/*
 * import.c - writing messages that were published on another server.
 *
 * They keep their offsets and times, and go to the segments of these times, which are made
 * where they are missing. Nothing is drawn: the sequence of a mirror means nothing. What a
 * publisher's message has to be was checked before; here it is seen that a message comes no
 * earlier than what the mirror has sealed.
 *
 * Who owns the table may have changed it: then rows go the way of insert.c.
 *
 * Locks, to the end of the transaction: the zone's publish lock, AccessShareLock on the topic's
 * table and RowExclusiveLock on the zone's, which is in the order of ALTER TABLE and CREATE
 * INDEX, then RowExclusiveLock on segments, and what it takes to make more of them. One import
 * at a time: the caller sees to that.
 */
#include "log/log.h"

#include "access/relation.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/timestamp.h"

#define MOST_MADE 100			/* segments, by one call */
#define MOST_TRIES 4			/* for a segment that is taken away while it is opened */

static Zone *mirror(int32 zone_id);
static void lock_tables(const Zone *zone);
static void require_unsealed(const Zone *zone, const Segment *segment, const Message *message);
static int	run_length(const Segment *segment, const Message *messages, int n);
static Relation open_segment(int32 zone_id, TimestampTz at, Zone **zone);
static void write_run(Batch *batch, const Zone *zone, Relation segment, Message **messages, int n);

/*
 * Writes the checked messages of a batch, which come in the order of their offsets, to a zone
 * that is a mirror. Returns how many of them it wrote: the others would need too many
 * segments in one transaction. Errors: 55000 the zone is no mirror; 22023 a message is too
 * old; what the owner's code raises.
 */
int
iotmq_import_messages(int32 zone_id, Batch *batch)
{
	Message   **messages = palloc(sizeof(Message *) * Max(batch->n, 1));
	int			made = 0;
	int			done = 0;

	for (int i = 0; i < batch->n; i++)
		messages[i] = &batch->messages[i];
	iotmq_stable_enter(zone_id);
	lock_tables(mirror(zone_id));
	while (done < batch->n)
	{
		TimestampTz at = batch->messages[done].published_at;
		Zone	   *zone = mirror(zone_id);
		const Segment *segment = iotmq_segment_at(zone, at);
		Relation	rel;
		int			n;

		CHECK_FOR_INTERRUPTS();
		batch->at_hand = done + 1;
		require_unsealed(zone, segment, messages[done]);
		if (segment == NULL)
		{
			if (made++ == MOST_MADE)
				break;
			(void) iotmq_segment_make(zone_id, at, at + 1);
			continue;
		}
		rel = open_segment(zone_id, at, &zone);
		n = run_length(iotmq_segment_at(zone, at), messages[done], batch->n - done);
		write_run(batch, zone, rel, &messages[done], n);
		relation_close(rel, NoLock);
		done += n;
	}
	batch->at_hand = 0;
	pfree(messages);
	return done;
}

/* The zone, which has to be a mirror. */
static Zone *
mirror(int32 zone_id)
{
	Topic	   *topic;
	Zone	   *zone;

	if (!iotmq_catalog_zone_by_id(zone_id, &topic, &zone))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the zone was dropped meanwhile")));
	if (zone->state != ZONE_MIRROR)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("zone \"%s\" of topic \"%s\" is no mirror", zone->name, topic->name)));
	return zone;
}

static void
lock_tables(const Zone *zone)
{
	Oid			zone_table = zone->relid;

	LockRelationOid(zone->topic->relid, AccessShareLock);
	LockRelationOid(zone_table, RowExclusiveLock);
}

/* What is sealed is complete, as the source has said. */
static void
require_unsealed(const Zone *zone, const Segment *segment, const Message *message)
{
	if (message->published_at >= zone->floor_time && (segment == NULL || !segment->sealed))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("message " INT64_FORMAT " of zone \"%s\" of topic \"%s\" was published before what is complete",
					message->msg_offset, zone->name, zone->topic->name),
			 errdetail("It was published at %s. The source has said that nothing more comes from then.",
					   timestamptz_to_str(message->published_at)),
			 errhint("If the source is not what it was, mirror the zone anew: drop it, then SELECT iotmq.mirror_zone(...);")));
}

/* How many of the messages, from the first one on, are the segment's. */
static int
run_length(const Segment *segment, const Message *messages, int n)
{
	int			length = 1;

	while (length < n && messages[length].published_at >= segment->from_time &&
		   messages[length].published_at < segment->to_time)
		length++;
	return length;
}

/* Opens the segment of that time for writing, which is there; tells the zone as it is then. */
static Relation
open_segment(int32 zone_id, TimestampTz at, Zone **zone)
{
	for (int i = 0; i < MOST_TRIES; i++)
	{
		const Segment *segment;
		Oid			relid;
		Relation	rel;

		*zone = mirror(zone_id);
		segment = iotmq_segment_at(*zone, at);
		if (segment == NULL)
		{
			(void) iotmq_segment_make(zone_id, at, at + 1);
			continue;
		}
		relid = segment->relid;
		rel = try_relation_open(relid, RowExclusiveLock);
		/* retention may have dropped it, or sealing closed it, before we had the lock */
		*zone = mirror(zone_id);
		segment = iotmq_segment_at(*zone, at);
		if (rel != NULL && segment != NULL && segment->relid == relid && !segment->sealed &&
			iotmq_segment_is_ours(relid, *zone))
			return rel;
		if (rel != NULL)
			relation_close(rel, RowExclusiveLock);
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("a segment of zone \"%s\" of topic \"%s\" was dropped or detached",
					(*zone)->name, (*zone)->topic->name),
			 errhint("Let it go: CALL iotmq.run_maintenance();")));
}

static void
write_run(Batch *batch, const Zone *zone, Relation segment, Message **messages, int n)
{
	Oid			key_index;

	if (iotmq_insert_is_plain(segment, &key_index))
	{
		iotmq_append_rows(batch, zone, segment, messages, n, key_index, NULL);
		return;
	}
	iotmq_name_remember(zone->topic, zone);
	iotmq_insert_imported(zone->relid, batch, messages, n);
}
