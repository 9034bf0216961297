/* Text compressed, the same text always to the same bytes. */

#ifndef GZIP_H
#define GZIP_H

#include <stddef.h>

char	   *gzip(const char *text, size_t length, size_t *size);

#endif							/* GZIP_H */
