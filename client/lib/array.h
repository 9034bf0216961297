/* Arrays of PostgreSQL, as text. */

#ifndef IOTMQ_ARRAY_H
#define IOTMQ_ARRAY_H

#include <stdio.h>
#include <stddef.h>

typedef struct Array
{
	FILE	   *stream;
	char	   *text;			/* what iotmq_array_end returns */
	size_t		length;
	int			count;			/* elements so far */
} Array;

void		iotmq_array_begin(Array *array);
void		iotmq_array_add(Array *array, const char *element);
void		iotmq_array_add_bytes(Array *array, const unsigned char *bytes, size_t length);
char	   *iotmq_array_end(Array *array);

#endif							/* IOTMQ_ARRAY_H */
