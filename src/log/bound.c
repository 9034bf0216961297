/*
 * bound.c - what every row of a zone's table must fulfil, as a partition of its topic's.
 *
 * An INSERT or COPY that routes rows to segments checks it. PostgreSQL makes it out of the
 * topic's table when it is asked for it first and after each new segment, under a lock on that
 * table: so whoever may read the topic, and queues a strong lock there, would stop them. What
 * it takes of the topic's table, the partition key, can't be changed; so it is made here
 * without the lock, and put where PostgreSQL looks for it.
 *
 * Locks: none; the caller has one on the zone's table.
 */
#include "log/log.h"

#include "access/htup_details.h"
#include "catalog/partition.h"
#include "partitioning/partbounds.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

static List *make_constraint(Relation zone, Relation topic);

/* Has the partition constraint of a zone's table ready. Where that is not simple, leaves it. */
void
iotmq_bound_prepare(Relation zone)
{
	Oid			parent;
	Relation	topic;
	List	   *constraint = NIL;
	MemoryContext old;

	if (zone->rd_partcheckvalid || !zone->rd_rel->relispartition)
		return;
	parent = get_partition_parent(RelationGetRelid(zone), true);
	topic = OidIsValid(parent) ? RelationIdGetRelation(parent) : NULL;
	if (topic == NULL)
		return;
	if (!topic->rd_rel->relispartition)
		constraint = make_constraint(zone, topic);
	RelationClose(topic);
	if (constraint == NIL || zone->rd_partcheckvalid)
		return;
	zone->rd_partcheckcxt = AllocSetContextCreate(CacheMemoryContext, "partition constraint",
												  ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(zone->rd_partcheckcxt);
	zone->rd_partcheck = copyObject(constraint);
	MemoryContextSwitchTo(old);
	zone->rd_partcheckvalid = true;
}

static List *
make_constraint(Relation zone, Relation topic)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(RelationGetRelid(zone)));
	List	   *constraint = NIL;
	Datum		bound;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", RelationGetRelid(zone));
	bound = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relpartbound, &isnull);
	if (!isnull)
		constraint = get_qual_from_partbound(topic, castNode(PartitionBoundSpec,
															 stringToNode(TextDatumGetCString(bound))));
	ReleaseSysCache(tuple);
	return map_partition_varattnos(constraint, 1, zone, topic);
}
