/* Memory that is there, or the program ends. */

#ifndef IOTMQ_MEMORY_H
#define IOTMQ_MEMORY_H

#include <stddef.h>

void	   *iotmq_allocate(size_t size);
char	   *iotmq_copy(const char *text);

#endif							/* IOTMQ_MEMORY_H */
