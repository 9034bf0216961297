/*
 * catalog.c - topics, zones, segments and groups, kept in memory.
 *
 * Owns the cache that every call reads first. A topic is loaded whole, by its
 * name or through the id of a zone or a cursor. All of it is thrown away when a
 * trigger on one of the catalogs (iotmq_catalog_changed) says that something
 * changed; that reaches every backend with its next lock, as DDL does.
 *
 * A pointer from here is good until the next call of a function of this file
 * that looks something up. How the catalogs are read: load.c.
 */
#include "core/load.h"

#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

typedef struct TopicId			/* entry of topics_by_id */
{
	int32		topic_id;
	Topic	   *topic;
} TopicId;

typedef struct ZoneId			/* entry of zones_by_id */
{
	int32		zone_id;
	Topic	   *topic;
	Zone	   *zone;
} ZoneId;

static bool valid = false;		/* false: reset at the next lookup */
static uint64 changes = 0;		/* that this backend was told of */
static MemoryContext context = NULL;
static HTAB *topics;			/* Topic, by name */
static HTAB *topics_by_id;		/* TopicId */
static HTAB *zones_by_id;		/* ZoneId */
static HTAB *cursors_by_id;		/* Cursor */

static void invalidate(Datum arg, Oid relid);
static void refresh(void);
static bool same_settings(const ConsumerGroup *a, const ConsumerGroup *b);
static bool same_value(const struct varlena *a, const struct varlena *b);
static HTAB *make_hash(const char *name, Size keysize, Size entrysize, int flags);
static Topic *load(Datum key, LoadBy by);
static void enter_ids(Topic *topic);
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
	return &topic->zones[0];
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
	*topic = entry->topic;
	*zone = entry->zone;
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
		Topic	   *topic;
		Zone	   *zone;
		int32		zone_id = iotmq_load_parent(CATALOG_CURSOR, cursor_id);

		if (zone_id == 0 || !iotmq_catalog_zone_by_id(zone_id, &topic, &zone))
			return false;
		entry = hash_search(cursors_by_id, &cursor_id, HASH_FIND, NULL);
	}
	if (entry == NULL)
		return false;
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

	if (zone->changes == now)
		return true;
	scratch = AllocSetContextCreate(CurrentMemoryContext, "iotmq zone", ALLOCSET_SMALL_SIZES);
	same = iotmq_load_zone(&again, zone->zone_id, scratch) &&
		again.relid == zone->relid && again.sequence == zone->sequence &&
		again.floor_time == zone->floor_time && again.nsegments == zone->nsegments &&
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

	if (group->changes == now)
		return true;
	scratch = AllocSetContextCreate(CurrentMemoryContext, "iotmq group", ALLOCSET_SMALL_SIZES);
	same = iotmq_load_group(&again, group->group_id, scratch) && same_settings(&again, group);
	MemoryContextDelete(scratch);
	if (same)
		unconstify(ConsumerGroup *, group)->changes = now;
	return same;
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

/*
 * catalog_changed() RETURNS trigger, after any statement on a cached catalog:
 * makes every backend read it again, this one from its next command on, the
 * others from this transaction's commit on.
 */
PG_FUNCTION_INFO_V1(iotmq_catalog_changed);
Datum
iotmq_catalog_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "catalog_changed was not called as a trigger");
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}

static void
invalidate(Datum arg, Oid relid)
{
	if (iotmq_relation_is_cached(relid))
	{
		valid = false;
		changes++;
	}
}

/* Starts an empty cache if something changed since the last lookup. */
static void
refresh(void)
{
	AcceptInvalidationMessages();
	if (valid)
		return;

	if (context == NULL)
		context = AllocSetContextCreate(CacheMemoryContext, "iotmq catalog",
										ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(context);
	topics = make_hash("iotmq topics", NAME_BYTES + 1, sizeof(Topic), HASH_STRINGS);
	topics_by_id = make_hash("iotmq topics by id", sizeof(int32), sizeof(TopicId), HASH_BLOBS);
	zones_by_id = make_hash("iotmq zones", sizeof(int32), sizeof(ZoneId), HASH_BLOBS);
	cursors_by_id = make_hash("iotmq cursors", sizeof(int32), sizeof(Cursor), HASH_BLOBS);
	valid = true;
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
 * Loads a topic with all that belongs to it; NULL if there is none. After an
 * error on the way, or a change that arrived meanwhile, the cache is reset at
 * the next lookup.
 */
static Topic *
load(Datum key, LoadBy by)
{
	Topic		topic = {0};
	Topic	   *entry = NULL;
	uint64		changes_before = changes;

	valid = false;
	if (iotmq_load_topic(&topic, key, by, changes_before, context))
	{
		entry = hash_search(topics, topic.name, HASH_ENTER, NULL);
		*entry = topic;
		enter_ids(entry);
	}
	valid = changes == changes_before;
	return entry;
}

/* Lets the topic be found by its id and those of its zones and cursors. */
static void
enter_ids(Topic *topic)
{
	TopicId    *by_id = hash_search(topics_by_id, &topic->topic_id, HASH_ENTER, NULL);

	by_id->topic = topic;
	for (int z = 0; z < topic->nzones; z++)
	{
		ZoneId	   *zone = hash_search(zones_by_id, &topic->zones[z].zone_id, HASH_ENTER, NULL);

		zone->topic = topic;
		zone->zone = &topic->zones[z];
		for (int g = 0; g < topic->ngroups; g++)
		{
			Cursor	   *cursor;

			if (topic->groups[g].cursors[z] == 0)
				continue;
			cursor = hash_search(cursors_by_id, &topic->groups[g].cursors[z], HASH_ENTER, NULL);
			cursor->topic = topic;
			cursor->group = &topic->groups[g];
			cursor->zone = &topic->zones[z];
		}
	}
}

/* For bsearch: name is the key; Zone and ConsumerGroup both keep theirs after an int32. */
static int
compare_names(const void *key, const void *entry)
{
	StaticAssertStmt(offsetof(Zone, name) == offsetof(ConsumerGroup, name), "names must be alike");
	return strcmp(key, ((const Zone *) entry)->name);
}
