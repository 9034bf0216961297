/*
 * Arrays of PostgreSQL, as text: every element is quoted, NULL is not.
 * See "Array Input and Output Syntax" in PostgreSQL's manual.
 */

#include <stdlib.h>

#include "array.h"
#include "memory.h"

void
iotmq_array_begin(Array *array)
{
	*array = (Array)
	{
		.count = 0
	};
	array->stream = open_memstream(&array->text, &array->length);
	if (!array->stream)
	{
		fputs("iotmq: out of memory\n", stderr);
		abort();
	}
	putc_unlocked('{', array->stream);
}

static void
separate(Array *array)
{
	if (array->count++ > 0)
		putc_unlocked(',', array->stream);
}

/* element: NULL is NULL */
void
iotmq_array_add(Array *array, const char *element)
{
	separate(array);
	if (!element)
	{
		fputs("NULL", array->stream);
		return;
	}
	putc_unlocked('"', array->stream);
	for (; *element; element++)
	{
		if (*element == '"' || *element == '\\')
			putc_unlocked('\\', array->stream);
		putc_unlocked(*element, array->stream);
	}
	putc_unlocked('"', array->stream);
}

/* Of a bytea[]; bytes: NULL is NULL */
void
iotmq_array_add_bytes(Array *array, const unsigned char *bytes, size_t length)
{
	static const char digits[] = "0123456789abcdef";

	if (!bytes)
	{
		iotmq_array_add(array, NULL);
		return;
	}
	separate(array);
	fputs("\"\\\\x", array->stream);
	for (size_t i = 0; i < length; i++)
	{
		putc_unlocked(digits[bytes[i] >> 4], array->stream);
		putc_unlocked(digits[bytes[i] & 15], array->stream);
	}
	putc_unlocked('"', array->stream);
}

/* To be freed by the caller. */
char *
iotmq_array_end(Array *array)
{
	putc_unlocked('}', array->stream);
	if (fclose(array->stream) != 0)
	{
		fputs("iotmq: out of memory\n", stderr);
		abort();
	}
	return array->text;
}
