/*
 * catalog_change.h - what changes of the catalogs are told by, for catalog.c alone.
 */
#ifndef IOTMQ_CATALOG_CHANGE_H
#define IOTMQ_CATALOG_CHANGE_H

/* Marks: the numbers of relations that there are not. */
#define MARK_ALL ((Oid) 0x80000000)
#define MARK_TOPIC ((Oid) 0x80000000)	/* + topic_id, which is not 0 */
#define MARK_ZONE ((Oid) 0xC0000000)	/* + zone_id */
#define MARK_IDS 0x3FFFFFFF		/* ids above don't fit: everything changed */

#endif
