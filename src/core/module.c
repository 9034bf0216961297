/*
 * module.c - loading the module.
 */
#include "core/core.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	iotmq_relation_init();
	iotmq_catalog_init();
	iotmq_commit_init();
}
