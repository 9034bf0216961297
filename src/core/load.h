/*
 * load.h - reading the catalogs, for catalog.c alone.
 */
#ifndef IOTMQ_LOAD_H
#define IOTMQ_LOAD_H

#include "core/core.h"

typedef enum LoadBy
{
	LOAD_BY_NAME,				/* text */
	LOAD_BY_ID					/* int4 */
} LoadBy;

extern bool iotmq_load_topic(Topic *topic, Datum key, LoadBy by, uint64 changes,
							 MemoryContext in);
extern bool iotmq_load_zone(Zone *zone, int32 zone_id, MemoryContext in);
extern bool iotmq_load_group(ConsumerGroup *group, int32 group_id, MemoryContext in);
extern int32 iotmq_load_parent(Catalog catalog, int32 id);
extern int32 *iotmq_load_topic_ids(int *n);
extern int64 iotmq_load_highest_cursor(int32 zone_id);
extern Oid *iotmq_load_sequences(int *n);

#endif
