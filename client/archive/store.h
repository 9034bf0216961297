/* Where objects are kept: a folder of files, or a bucket of S3 or what speaks as it does. */

#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "iotmq.h"

/* The offsets that an object has, the first and the last one */
typedef struct Range
{
	int64_t		first;
	int64_t		last;
} Range;

typedef struct Ranges
{
	Range	   *items;
	int			count;
	int			room;
} Ranges;

#define ERROR_SIZE 512

/*
 * All functions return IOTMQ_AGAIN for what passes by itself and IOTMQ_REFUSED for what
 * does not; "error" says what it was.  folder: where in the store, without slashes around it.
 */
typedef struct Store Store;

struct Store
{
	/* Adds the objects whose last offset is "from" or above; it may find others, too. */
	IotmqTrouble (*list) (Store *store, const char *folder, int64_t from, Ranges *ranges);
	/* Keeps other programs from looking at the folder, and from putting; NULL: it can't. */
	IotmqTrouble (*lock) (Store *store, const char *folder);
	void		(*unlock) (Store *store);
	/* Whole or not at all; what has the name is replaced. */
	IotmqTrouble (*put) (Store *store, const char *folder, const char *name, const char *bytes, size_t length);
	/* A short text; NULL: there is none.  The caller frees it. */
	IotmqTrouble (*get) (Store *store, const char *folder, const char *name, char **text);
	void		(*close) (Store *store);
	bool		late;			/* what was asked for by a program that is dead may still happen */
	char		error[ERROR_SIZE];
};

#define OBJECT_NAME_SIZE 64

void		object_name(char *name, Range range);
bool		object_range(const char *name, size_t length, Range *range);
void		ranges_add(Ranges *ranges, Range range);
void		store_fail(Store *store, const char *format,...) __attribute__((format(printf, 2, 3)));

Store	   *files_open(const char *folder);

/* destination: s3://bucket/prefix; endpoint: NULL: that of the environment, or Amazon's. */
Store	   *s3_open(const char *destination, const char *endpoint);

#endif							/* STORE_H */
