/*
 * A topic filter of MQTT whose levels may have names: section 4.7 of MQTT 3.1.1, and
 * {name} is a + whose level can be used in a rule.
 */

#include <stdlib.h>
#include <string.h>

#include "filter.h"
#include "memory.h"

static bool
is(Slice slice, const char *text)
{
	return slice.length == strlen(text) && memcmp(slice.text, text, slice.length) == 0;
}

/* The level at the beginning of "rest", which loses it; last: nothing is behind it. */
static Slice
next_level(Slice *rest, bool *last)
{
	const char *slash = memchr(rest->text, '/', rest->length);
	Slice		level = {rest->text, slash ? (size_t) (slash - rest->text) : rest->length};

	*last = !slash;
	rest->text += level.length + (slash ? 1 : 0);
	rest->length -= level.length + (slash ? 1 : 0);
	return level;
}

/* Returns what is wrong; NULL: nothing. */
static const char *
add_capture(Filter *filter, Slice level, int number)
{
	char	   *name;

	if (level.length < 3 || level.text[level.length - 1] != '}')
		return "a name in braces is to be all of a level";
	name = iotmq_allocate(level.length - 1);
	memcpy(name, level.text + 1, level.length - 2);
	if (filter->count == MOST_CAPTURES || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-")])
	{
		free(name);
		return filter->count == MOST_CAPTURES ? "there are more than 16 names" :
			"a name has letters from a to z, digits, _ and - alone";
	}
	filter->names[filter->count] = name;
	filter->levels[filter->count++] = number;
	for (int i = 0; i < filter->count - 1; i++)
		if (strcmp(filter->names[i], name) == 0)
			return "a name is there twice";
	return strcmp(name, "topic") == 0 || strcmp(name, "sha256") == 0 ? "{topic} and {sha256} have their meaning" : NULL;
}

/*
 * Returns what is wrong with it; NULL: nothing.
 */
const char *
filter_read(Filter *filter, const char *text)
{
	Slice		rest = {text, strlen(text)};
	char	   *end;
	bool		last = false;
	const char *error = NULL;

	*filter = (Filter)
	{
		.text = end = iotmq_allocate(rest.length + 1)
	};
	if (rest.length == 0 || rest.length > 1024)
		return "a filter has 1 to 1024 bytes";
	for (int number = 0; !last && !error; number++)
	{
		Slice		level = next_level(&rest, &last);

		if (number > 0)
			*end++ = '/';
		if (level.length > 0 && level.text[0] == '{')
		{
			error = add_capture(filter, level, number);
			level = (Slice)
			{
				"+", 1
			};
		}
		else if ((memchr(level.text, '#', level.length) && !(is(level, "#") && last)) ||
				 (memchr(level.text, '+', level.length) && !is(level, "+")) ||
				 memchr(level.text, '{', level.length) || memchr(level.text, '}', level.length))
			error = "+, # and names are whole levels, and # is the last one";
		memcpy(end, level.text, level.length);
		end += level.length;
	}
	return error;
}

void
filter_free(Filter *filter)
{
	for (int i = 0; i < filter->count; i++)
		free(filter->names[i]);
	free(filter->text);
}

/*
 * captures: room for MOST_CAPTURES, those of the filter's names are set if it matches.
 */
bool
filter_matches(const Filter *filter, Slice topic, Slice *captures)
{
	Slice		rest = {filter->text, strlen(filter->text)};
	bool		last = false;
	bool		topic_last = false;
	int			capture = 0;

	/* [MQTT-4.7.2-1] */
	if (topic.length > 0 && topic.text[0] == '$' && rest.text[0] != '$')
		return false;
	for (int number = 0; !last; number++)
	{
		Slice		level = next_level(&rest, &last);
		Slice		found;

		/* Section 4.7.1.2: # stands for its parent, too. */
		if (is(level, "#"))
			return true;
		if (topic_last)
			return false;
		found = next_level(&topic, &topic_last);
		if (capture < filter->count && filter->levels[capture] == number)
			captures[capture++] = found;
		else if (!is(level, "+") && (level.length != found.length || memcmp(level.text, found.text, found.length) != 0))
			return false;
	}
	return topic_last;
}
