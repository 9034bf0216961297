/*
 * Text compressed as gzip does, the same text always to the same bytes: without a time, a
 * name or a system in the header, and in one call, as the bytes may depend on the pieces.
 */

#include <stdlib.h>

#include <zlib.h>

#include "gzip.h"
#include "memory.h"

#define WINDOW_OF_GZIP (15 + 16)
#define MEMORY 8
#define ANY_SYSTEM 255

/* At most 4 GiB.  The caller frees it. */
char *
gzip(const char *text, size_t length, size_t *size)
{
	z_stream	stream = {.next_in = (Bytef *) text,.avail_in = (uInt) length};
	gz_header	header = {.os = ANY_SYSTEM};
	char	   *bytes;

	if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_OF_GZIP, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK ||
		deflateSetHeader(&stream, &header) != Z_OK)
		abort();
	*size = deflateBound(&stream, length);
	bytes = iotmq_allocate(*size);
	stream.next_out = (Bytef *) bytes;
	stream.avail_out = (uInt) *size;
	if (deflate(&stream, Z_FINISH) != Z_STREAM_END)
		abort();
	*size = stream.total_out;
	deflateEnd(&stream);
	return bytes;
}
