/*
 * catalog.c - topics, zones, segments and groups, kept in memory.
 *
 * Owns the cache that every call reads first. A topic is loaded by its name or through the
 * id of a zone or a cursor, with the names of its zones and the settings of its groups; the
 * segments of a zone and the cursors of a group when they are asked for first.
 *
 * What it keeps is thrown away when a message says that something changed: catalog_change.c
 * sends it, and it reaches every backend with its next lock, as DDL does.
 *
 * A pointer from here is good until the next call of a function of this file
 * that looks something up. How the catalogs are read: load.c.
 */
#include "core/catalog_change.h"
#include "core/load.h"

#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#define TOLD 32					/* marks remembered while a topic is being loaded */

typedef struct TopicId			/* entry of topics_by_id */
{
	int32		topic_id;
	Topic	   *topic;
} TopicId;

typedef struct ZoneId			/* entry of zones_by_id */
{
	int32		zone_id;
	Zone	   *zone;
} ZoneId;

typedef struct CursorList		/* of a group, being loaded */
{
	const Topic *topic;
	int32	   *cursors;		/* by zone */
} CursorList;

static bool valid = false;		/* false: reset at the next lookup */
static Oid	read_from = InvalidOid; /* the catalog of topics, which is another one in another extension */
static bool some_are_stale = false; /* some topics are to be forgotten at the next lookup */
static uint64 changes = 0;		/* that this backend was told of */
static uint64 resets = 0;		/* of them, that concerned everything */
static MemoryContext context = NULL;
static HTAB *topics;			/* Topic, by name */
static HTAB *topics_by_id;		/* TopicId */
static HTAB *zones_by_id;		/* ZoneId */
static HTAB *cursors_by_id;		/* Cursor, of those that were asked for by id */
static Oid	told[TOLD];			/* marks since loading began */
static int	ntold = 0;			/* above TOLD: some were not remembered */

static void invalidate(Datum arg, Oid relid);
static void note(Oid mark);
static void refresh(void);
static void forget(Topic *topic);
static void renew(Zone *zone);
static void read_again(Zone *zone);
static bool is_renewed(const Zone *zone);
static void add_cursor(int32 zone_id, int32 cursor_id, void *arg);
static ConsumerGroup *group_with_id(Topic *topic, int32 group_id);
static bool same_settings(const ConsumerGroup *a, const ConsumerGroup *b);
static bool same_value(const struct varlena *a, const struct varlena *b);
static HTAB *make_hash(const char *name, Size keysize, Size entrysize, int flags);
static Topic *load(Datum key, LoadBy by);
static Topic *enter(const Topic *loaded, uint64 changes_before);
static int	compare_names(const void *a, const void *b);

void
iotmq_catalog_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

/* The topic of that name; raises 42704 if there is none. */
Topic *
iotmq_catalog_topic(const char *name)
{
	Topic	   *topic;
	char		key[NAME_BYTES + 1] = {0};

	refresh();
	strlcpy(key, name, sizeof(key));
	topic = hash_search(topics, key, HASH_FIND, NULL);
	if (topic == NULL && strlen(name) <= NAME_BYTES)
		topic = load(CStringGetTextDatum(name), LOAD_BY_NAME);
	if (topic == NULL || strlen(name) > NAME_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("topic \"%s\" does not exist", name),
				 errhint("Create it: SELECT iotmq.create_topic(%s);",
						 quote_literal_cstr(name))));
	return topic;
}

/* The zone of that name; NULL: there is none. */
Zone *
iotmq_catalog_find_zone(const Topic *topic, const char *name)
{
	if (strlen(name) > NAME_BYTES || topic->nzones == 0)
		return NULL;
	return bsearch(name, topic->zones, topic->nzones, sizeof(Zone), compare_names);
}

/* The zone of that name; raises 42704 if there is none. */
Zone *
iotmq_catalog_zone(Topic *topic, const char *name)
{
	Zone	   *zone = iotmq_catalog_find_zone(topic, name);

	if (zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("zone \"%s\" of topic \"%s\" does not exist", name, topic->name),
				 errhint("Add it: SELECT iotmq.add_zone(%s, %s);",
						 quote_literal_cstr(topic->name), quote_literal_cstr(name))));
	renew(zone);
	return zone;
}

/* The zone of that name or, for NULL, the topic's only one (else 22004). */
Zone *
iotmq_catalog_zone_or_only(Topic *topic, text *name)
{
	if (name != NULL)
		return iotmq_catalog_zone(topic, text_to_cstring(name));
	if (topic->nzones != 1)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("zone must not be NULL: topic \"%s\" has %d zones",
						topic->name, topic->nzones),
				 topic->nzones == 0 ?
				 errhint("Add one: SELECT iotmq.add_zone(%s, 'default');",
						 quote_literal_cstr(topic->name)) :
				 errhint("Name one of its zones: zone => %s.",
						 quote_literal_cstr(topic->zones[0].name))));
	return iotmq_catalog_zone_at(topic, 0);
}

/* The zone at that place of topic->zones, up to date. */
Zone *
iotmq_catalog_zone_at(Topic *topic, int z)
{
	renew(&topic->zones[z]);
	return &topic->zones[z];
}

/* Sees that the segments and gaps of a zone are in memory. No lookup: pointers stay good. */
void
iotmq_catalog_segments(const Zone *zone)
{
	if (!zone->has_segments)
		read_again(unconstify(Zone *, zone));
}

/* The group of that name; raises 42704 if there is none. */
ConsumerGroup *
iotmq_catalog_group(Topic *topic, const char *name)
{
	ConsumerGroup	   *group = NULL;

	if (strlen(name) <= NAME_BYTES && topic->ngroups > 0)
		group = bsearch(name, topic->groups, topic->ngroups, sizeof(ConsumerGroup), compare_names);
	if (group == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("consumer group \"%s\" of topic \"%s\" does not exist",
						name, topic->name),
				 errhint("Create it: SELECT iotmq.create_group(%s, %s);",
						 quote_literal_cstr(topic->name), quote_literal_cstr(name))));
	return group;
}

/* The group's cursor in a zone of its topic; 0: none. No lookup: pointers stay good. */
int32
iotmq_catalog_cursor(const ConsumerGroup *group, const Zone *zone)
{
	if (group->cursors == NULL)
	{
		ConsumerGroup *mine = unconstify(ConsumerGroup *, group);
		int32	   *cursors = MemoryContextAllocZero(group->topic->context,
													 sizeof(int32) * group->topic->nzones);

		iotmq_load_cursors(group->group_id, add_cursor, &(CursorList) {group->topic, cursors});
		mine->cursors = cursors;
	}
	return group->cursors[zone - group->topic->zones];
}

/* The ids of all topics, in an array of n. */
int32 *
iotmq_catalog_topic_ids(int *n)
{
	refresh();
	return iotmq_load_topic_ids(n);
}

/* The topic with that id; NULL: there is none. */
Topic *
iotmq_catalog_topic_by_id(int32 topic_id)
{
	TopicId    *entry;

	refresh();
	entry = hash_search(topics_by_id, &topic_id, HASH_FIND, NULL);
	return entry != NULL ? entry->topic : load(Int32GetDatum(topic_id), LOAD_BY_ID);
}

/* The zone with that id; false if there is none. */
bool
iotmq_catalog_zone_by_id(int32 zone_id, Topic **topic, Zone **zone)
{
	ZoneId	   *entry;

	refresh();
	entry = hash_search(zones_by_id, &zone_id, HASH_FIND, NULL);
	if (entry == NULL)
	{
		int32		topic_id = iotmq_load_parent(CATALOG_ZONE, zone_id);

		if (topic_id == 0)
			return false;
		load(Int32GetDatum(topic_id), LOAD_BY_ID);
		entry = hash_search(zones_by_id, &zone_id, HASH_FIND, NULL);
	}
	if (entry == NULL)
		return false;
	*topic = entry->zone->topic;
	*zone = entry->zone;
	renew(*zone);
	return true;
}

/* What the cursor with that id belongs to; false if there is none. */
bool
iotmq_catalog_cursor_by_id(int32 cursor_id, Cursor *cursor)
{
	Cursor	   *entry;

	refresh();
	entry = hash_search(cursors_by_id, &cursor_id, HASH_FIND, NULL);
	if (entry == NULL)
	{
		Cursor		found = {.cursor_id = cursor_id};
		int32		group_id;
		int32		zone_id;

		if (!iotmq_load_cursor(cursor_id, &group_id, &zone_id) ||
			!iotmq_catalog_zone_by_id(zone_id, &found.topic, &found.zone))
			return false;
		found.group = group_with_id(found.topic, group_id);
		if (found.group == NULL)
			return false;
		entry = hash_search(cursors_by_id, &cursor_id, HASH_ENTER, NULL);
		*entry = found;
	}
	renew(entry->zone);
	*cursor = *entry;
	return true;
}

/*
 * Is what is in memory of the zone still all there is? Whoever asks has accepted
 * invalidation messages. A change of something else does not count.
 */
bool
iotmq_catalog_zone_is_current(const Zone *zone)
{
	uint64		now = changes;
	MemoryContext scratch;
	Zone		again;
	bool		same;

	if (is_renewed(zone))
		return true;
	scratch = AllocSetContextCreate(CurrentMemoryContext, "iotmq zone", ALLOCSET_SMALL_SIZES);
	same = iotmq_load_zone(&again, zone->zone_id, scratch) &&
		again.relid == zone->relid && again.sequence == zone->sequence &&
		again.earliest_offset == zone->earliest_offset &&
		again.floor_time == zone->floor_time && again.state == zone->state &&
		again.generation == zone->generation && again.nsegments == zone->nsegments &&
		again.ngaps == zone->ngaps &&
		memcmp(again.segments, zone->segments, sizeof(Segment) * zone->nsegments) == 0;
	MemoryContextDelete(scratch);
	if (same)
		unconstify(Zone *, zone)->changes = now;
	return same;
}

/* The same of a group, with its settings. */
bool
iotmq_catalog_group_is_current(const ConsumerGroup *group)
{
	uint64		now = changes;
	MemoryContext scratch;
	ConsumerGroup again;
	bool		same;

	if (valid && group->topic->told <= group->changes)
		return true;
	scratch = AllocSetContextCreate(CurrentMemoryContext, "iotmq group", ALLOCSET_SMALL_SIZES);
	same = iotmq_load_group(&again, group->group_id, scratch) && same_settings(&again, group);
	MemoryContextDelete(scratch);
	if (same)
		unconstify(ConsumerGroup *, group)->changes = now;
	return same;
}

/*
 * The state of the zone now. Whoever asks holds a lock that a change of the state waits for,
 * and accepts invalidation messages here. No lookup: pointers stay good.
 */
ZoneState
iotmq_catalog_zone_state(const Zone *zone)
{
	MemoryContext scratch;
	Zone		again;
	ZoneState	state;

	AcceptInvalidationMessages();
	if (is_renewed(zone))
		return zone->state;
	scratch = AllocSetContextCreate(CurrentMemoryContext, "iotmq zone", ALLOCSET_SMALL_SIZES);
	state = iotmq_load_zone(&again, zone->zone_id, scratch) ? again.state : zone->state;
	MemoryContextDelete(scratch);
	return state;
}

/* How far the zone has come as a mirror, as it is committed now; false: it is none. */
bool
iotmq_catalog_mirror_next(int32 zone_id, int64 *next_offset)
{
	return iotmq_load_mirror_next(zone_id, next_offset);
}

/* How many changes of the catalogs this backend was told of, with those that have just arrived. */
uint64
iotmq_catalog_changes(void)
{
	AcceptInvalidationMessages();
	return changes;
}

/* The highest next_offset of the zone's cursors; 0: there is none. */
int64
iotmq_catalog_highest_cursor(int32 zone_id)
{
	return iotmq_load_highest_cursor(zone_id);
}

/* The offset sequences of all zones, in an array of n. */
Oid *
iotmq_catalog_sequences(int *n)
{
	return iotmq_load_sequences(n);
}

/* A relation changed, or all did (invalid), or it is a mark. Nothing may be freed here. */
static void
invalidate(Datum arg, Oid relid)
{
	if (relid != InvalidOid && relid < MARK_ALL)
		return;
	changes++;
	if (relid == InvalidOid || relid == MARK_ALL)
	{
		valid = false;
		resets++;
		return;
	}
	if (ntold < TOLD)
		told[ntold] = relid;
	ntold = Min(ntold + 1, TOLD + 1);
	if (valid)
		note(relid);
}

/* Lets the topic or zone that a mark stands for be read again at its next lookup. */
static void
note(Oid mark)
{
	int32		id = mark & MARK_IDS;

	if (mark >= MARK_ZONE)
	{
		ZoneId	   *entry = hash_search(zones_by_id, &id, HASH_FIND, NULL);

		if (entry != NULL)
			entry->zone->told = changes;
	}
	else
	{
		TopicId    *entry = hash_search(topics_by_id, &id, HASH_FIND, NULL);

		if (entry != NULL)
		{
			entry->topic->told = changes;
			entry->topic->is_stale = some_are_stale = true;
		}
	}
}

/* Starts an empty cache if all changed since the last lookup, forgets topics that did. */
static void
refresh(void)
{
	HASH_SEQ_STATUS all;
	TopicId    *entry;
	Oid			table;

	AcceptInvalidationMessages();
	table = iotmq_relation_table(CATALOG_TOPIC);
	if (!valid || table != read_from)
	{
		if (context == NULL)
			context = AllocSetContextCreate(CacheMemoryContext, "iotmq catalog",
											ALLOCSET_DEFAULT_SIZES);
		MemoryContextReset(context);	/* and with it all topics' */
		topics = make_hash("iotmq topics", NAME_BYTES + 1, sizeof(Topic), HASH_STRINGS);
		topics_by_id = make_hash("iotmq topics by id", sizeof(int32), sizeof(TopicId), HASH_BLOBS);
		zones_by_id = make_hash("iotmq zones", sizeof(int32), sizeof(ZoneId), HASH_BLOBS);
		cursors_by_id = make_hash("iotmq cursors", sizeof(int32), sizeof(Cursor), HASH_BLOBS);
		some_are_stale = false;
		read_from = table;
		valid = true;
	}
	if (!some_are_stale)
		return;
	hash_seq_init(&all, topics_by_id);
	while ((entry = hash_seq_search(&all)) != NULL)
		if (entry->topic->is_stale)
			forget(entry->topic);
	some_are_stale = false;
}

/* Frees a topic and all that leads to it. */
static void
forget(Topic *topic)
{
	HASH_SEQ_STATUS all;
	Cursor	   *cursor;
	TopicId    *by_id = hash_search(topics_by_id, &topic->topic_id, HASH_FIND, NULL);

	hash_seq_init(&all, cursors_by_id);
	while ((cursor = hash_seq_search(&all)) != NULL)
		if (cursor->topic == topic)
			hash_search(cursors_by_id, &cursor->cursor_id, HASH_REMOVE, NULL);
	for (int z = 0; z < topic->nzones; z++)
	{
		ZoneId	   *zone = hash_search(zones_by_id, &topic->zones[z].zone_id, HASH_FIND, NULL);

		if (zone != NULL && zone->zone == &topic->zones[z])
			hash_search(zones_by_id, &zone->zone_id, HASH_REMOVE, NULL);
	}
	if (by_id != NULL && by_id->topic == topic)
		hash_search(topics_by_id, &topic->topic_id, HASH_REMOVE, NULL);
	MemoryContextDelete(topic->context);
	hash_search(topics, topic->name, HASH_REMOVE, NULL);
}

/* Reads a zone again if something about it changed since. */
static void
renew(Zone *zone)
{
	if (zone->told > zone->changes)
		read_again(zone);
}

/*
 * Reads a zone with its segments and gaps. If it is another one now, or gone, its topic is
 * going to be read again: we are told in a moment, and until then it is not up to date.
 */
static void
read_again(Zone *zone)
{
	uint64		now = changes;
	Zone		again = {0};
	bool		found = iotmq_load_zone(&again, zone->zone_id, zone->topic->context);

	if (zone->nsegments > 0)
		pfree(zone->segments);
	if (zone->ngaps > 0)
		pfree(zone->gaps);
	zone->nsegments = again.nsegments;
	zone->segments = again.segments;
	zone->ngaps = again.ngaps;
	zone->gaps = again.gaps;
	zone->has_segments = true;
	if (found && again.relid == zone->relid && again.sequence == zone->sequence)
	{
		zone->earliest_offset = again.earliest_offset;
		zone->floor_time = again.floor_time;
		zone->state = again.state;
		zone->generation = again.generation;
		zone->changes = now;
	}
	else
		zone->told = PG_UINT64_MAX;
}

/* Was nothing said of the zone since it was read, with its segments? */
static bool
is_renewed(const Zone *zone)
{
	return valid && zone->told <= zone->changes && zone->topic->told <= zone->changes;
}

/* One of the cursors of a group whose list is made. */
static void
add_cursor(int32 zone_id, int32 cursor_id, void *arg)
{
	CursorList *list = arg;
	ZoneId	   *entry = hash_search(zones_by_id, &zone_id, HASH_FIND, NULL);

	if (entry != NULL && entry->zone->topic == list->topic)
		list->cursors[entry->zone - list->topic->zones] = cursor_id;
}

static ConsumerGroup *
group_with_id(Topic *topic, int32 group_id)
{
	for (int g = 0; g < topic->ngroups; g++)
		if (topic->groups[g].group_id == group_id)
			return &topic->groups[g];
	return NULL;
}

static bool
same_settings(const ConsumerGroup *a, const ConsumerGroup *b)
{
	if (a->orderly != b->orderly || a->paused != b->paused ||
		a->durable_acks != b->durable_acks || a->invisible_for != b->invisible_for ||
		a->max_retries != b->max_retries || a->ntags != b->ntags || a->nbackoff != b->nbackoff ||
		!same_value(a->filter, b->filter))
		return false;
	for (int i = 0; i < a->ntags; i++)
		if (!same_value(a->tags[i], b->tags[i]))
			return false;
	return memcmp(a->backoff, b->backoff, sizeof(int64) * a->nbackoff) == 0;
}

static bool
same_value(const struct varlena *a, const struct varlena *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return VARSIZE_ANY(a) == VARSIZE_ANY(b) && memcmp(a, b, VARSIZE_ANY(a)) == 0;
}

static HTAB *
make_hash(const char *name, Size keysize, Size entrysize, int flags)
{
	HASHCTL		ctl = {.keysize = keysize, .entrysize = entrysize, .hcxt = context};

	return hash_create(name, 32, &ctl, HASH_ELEM | HASH_CONTEXT | flags);
}

/*
 * Loads a topic; NULL if there is none. What is told meanwhile is noted afterwards, of other
 * topics, too. The cache is reset at the next lookup after an error on the way, where more was
 * told than is remembered, and if it was to be reset already.
 */
static Topic *
load(Datum key, LoadBy by)
{
	Topic		topic = {.context = AllocSetContextCreate(context, "iotmq topic", ALLOCSET_SMALL_SIZES)};
	Topic	   *entry = NULL;
	uint64		changes_before = changes;
	uint64		resets_before = resets;
	bool		was_valid = valid;

	valid = false;
	ntold = 0;
	if (iotmq_load_topic(&topic, key, by, topic.context))
		entry = enter(&topic, changes_before);
	else
		MemoryContextDelete(topic.context);
	for (int i = 0; i < Min(ntold, TOLD); i++)
		note(told[i]);
	valid = was_valid && resets == resets_before && ntold <= TOLD;
	return entry;
}

/* Lets the topic be found by its name, its id and those of its zones. */
static Topic *
enter(const Topic *loaded, uint64 changes_before)
{
	bool		found;
	TopicId    *by_id = hash_search(topics_by_id, &loaded->topic_id, HASH_FIND, NULL);
	Topic	   *topic;

	/* others' names and ids may have become this one's, before we are told */
	if (by_id != NULL)
		forget(by_id->topic);
	topic = hash_search(topics, loaded->name, HASH_FIND, NULL);
	if (topic != NULL)
		forget(topic);

	topic = hash_search(topics, loaded->name, HASH_ENTER, &found);
	*topic = *loaded;
	by_id = hash_search(topics_by_id, &topic->topic_id, HASH_ENTER, NULL);
	by_id->topic = topic;
	for (int z = 0; z < topic->nzones; z++)
	{
		Zone	   *zone = &topic->zones[z];
		ZoneId	   *entry = hash_search(zones_by_id, &zone->zone_id, HASH_ENTER, NULL);

		entry->zone = zone;
		zone->topic = topic;
		zone->changes = changes_before;
	}
	for (int g = 0; g < topic->ngroups; g++)
	{
		topic->groups[g].topic = topic;
		topic->groups[g].changes = changes_before;
	}
	return topic;
}

/* For bsearch: name is the key; Zone and ConsumerGroup both keep theirs after an int32. */
static int
compare_names(const void *key, const void *entry)
{
	StaticAssertStmt(offsetof(Zone, name) == offsetof(ConsumerGroup, name), "names must be alike");
	return strcmp(key, ((const Zone *) entry)->name);
}
