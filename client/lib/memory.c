/*
 * Memory that is there or ends the program: nothing here could go on without it.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* Zeroed; never NULL. */
void *
iotmq_allocate(size_t size)
{
	void	   *memory = calloc(1, size > 0 ? size : 1);

	if (!memory)
	{
		fputs("iotmq: out of memory\n", stderr);
		abort();
	}
	return memory;
}

char *
iotmq_copy(const char *text)
{
	size_t		size = strlen(text) + 1;

	return memcpy(iotmq_allocate(size), text, size);
}
