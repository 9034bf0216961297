/*
 * load.h - reading the catalogs, for catalog.c and catalog_change.c alone.
 */
#ifndef IOTMQ_LOAD_H
#define IOTMQ_LOAD_H

#include "core/core.h"

typedef enum LoadBy
{
	LOAD_BY_NAME,				/* text */
	LOAD_BY_ID					/* int4 */
} LoadBy;

extern bool iotmq_load_topic(Topic *topic, Datum key, LoadBy by, MemoryContext in);
extern bool iotmq_load_zone(Zone *zone, int32 zone_id, MemoryContext in);
extern bool iotmq_load_group(ConsumerGroup *group, int32 group_id, MemoryContext in);
extern bool iotmq_load_cursor(int32 cursor_id, int32 *group_id, int32 *zone_id);
extern void iotmq_load_cursors(int32 group_id, void (*add) (int32 zone_id, int32 cursor_id, void *arg),
							   void *arg);
extern int32 iotmq_load_parent(Catalog catalog, int32 id);
extern int32 *iotmq_load_topic_ids(int *n);
extern int64 iotmq_load_highest_cursor(int32 zone_id);
extern bool iotmq_load_mirror_next(int32 zone_id, int64 *next_offset);
extern Oid *iotmq_load_sequences(int *n);

#endif
