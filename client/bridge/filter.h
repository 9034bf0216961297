/* A topic filter of MQTT whose levels may have names, such as plant/{zone}/+/# */

#ifndef FILTER_H
#define FILTER_H

#include <stdbool.h>
#include <stddef.h>

#define MOST_CAPTURES 16

typedef struct Filter
{
	char	   *text;			/* as MQTT knows it: plant/+/+/# */
	char	   *names[MOST_CAPTURES];	/* in the order of their levels */
	int			levels[MOST_CAPTURES];	/* the first level is 0 */
	int			count;
} Filter;

/* A piece of a topic, which it points into */
typedef struct Slice
{
	const char *text;
	size_t		length;
} Slice;

const char *filter_read(Filter *filter, const char *text);
void		filter_free(Filter *filter);
bool		filter_matches(const Filter *filter, Slice topic, Slice *captures);

#endif							/* FILTER_H */
