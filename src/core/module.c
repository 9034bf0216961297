/*
 * iotmq.c - loading the module.
 */
#include "iotmq.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	iotmq_catalog_init();
	iotmq_commit_init();
}
