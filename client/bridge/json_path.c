/*
 * A value within a JSON text, by a path in the words of SQL/JSON: $, then for each level
 * .name or [number].
 *
 * The text is looked through as it is, and no more of it is checked than the way to the value
 * needs: whether it is JSON is for the server to say.  Of members with the same name the last
 * one counts, as it does for jsonb.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json_path.h"
#include "memory.h"

/* A place in a text */
typedef struct Cursor
{
	const char *at;
	const char *end;
} Cursor;

static const char name_letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

/* How many of the first bytes are in "letters". */
static size_t
span(const Cursor *cursor, const char *letters)
{
	const char *at = cursor->at;

	while (at < cursor->end && *at && strchr(letters, *at))
		at++;
	return (size_t) (at - cursor->at);
}

static bool
next_is(const Cursor *cursor, char byte)
{
	return cursor->at < cursor->end && *cursor->at == byte;
}

/* Passes over the byte, if it is the next one. */
static bool
take(Cursor *cursor, char byte)
{
	if (!next_is(cursor, byte))
		return false;
	cursor->at++;
	return true;
}

/* The next level of a path: its name, or its number in "index" with a name that is NULL. */
static bool
take_step(Cursor *path, Slice *name, size_t *index)
{
	bool		named = take(path, '.');

	if (!named && !take(path, '['))
		return false;
	name->text = path->at;
	name->length = span(path, named ? name_letters : "0123456789");
	path->at += name->length;
	if (name->length == 0 || named)
		return name->length > 0;
	*index = strtoul(name->text, NULL, 10);
	*name = (Slice)
	{
		NULL, 0
	};
	return take(path, ']');
}

/* Whether this is a path: $, then .name or [number] for at least one level. */
bool
path_is_one(Slice path)
{
	Cursor		cursor = {path.text, path.text + path.length};
	Slice		name;
	size_t		index;
	bool		good = take(&cursor, '$') && cursor.at < cursor.end;

	while (good && cursor.at < cursor.end)
		good = take_step(&cursor, &name, &index);
	return good;
}

static void
skip_blanks(Cursor *json)
{
	json->at += span(json, " \t\r\n");
}

/* Passes over a string; false: it has no end. */
static bool
skip_string(Cursor *json)
{
	if (!take(json, '"'))
		return false;
	while (json->at < json->end)
	{
		char		byte = *json->at++;

		if (byte == '"')
			return true;
		if (byte == '\\' && json->at < json->end)
			json->at++;
	}
	return false;
}

/* Passes over a value, however deep; false: it has no end. */
static bool
skip_value(Cursor *json)
{
	size_t		depth = 0;

	do
	{
		skip_blanks(json);
		if (json->at == json->end)
			return false;
		if (next_is(json, '"'))
		{
			if (!skip_string(json))
				return false;
		}
		else if (strchr("{[", *json->at))
		{
			json->at++;
			depth++;
		}
		else if (strchr("}]", *json->at))
		{
			if (depth == 0)
				return false;
			json->at++;
			depth--;
		}
		else if (strchr(",:", *json->at))
		{
			if (depth == 0)
				return false;
			json->at++;
		}
		else
			while (json->at < json->end && !strchr(" \t\r\n\"{}[],:", *json->at))
				json->at++;
	}
	while (depth > 0);
	return true;
}

/* The four hexadecimal digits of \uXXXX; -1: there are none. */
static long
take_hex(Cursor *json)
{
	char		digits[5] = "";
	size_t		length = span(json, "0123456789abcdefABCDEF");

	if (length < 4)
		return -1;
	memcpy(digits, json->at, 4);
	json->at += 4;
	return strtol(digits, NULL, 16);
}

static void
put_utf8(FILE *stream, long code)
{
	if (code < 0x80)
		putc((int) code, stream);
	else if (code < 0x800)
		fprintf(stream, "%c%c", (int) (0xC0 | code >> 6), (int) (0x80 | (code & 0x3F)));
	else if (code < 0x10000)
		fprintf(stream, "%c%c%c", (int) (0xE0 | code >> 12), (int) (0x80 | (code >> 6 & 0x3F)),
				(int) (0x80 | (code & 0x3F)));
	else
		fprintf(stream, "%c%c%c%c", (int) (0xF0 | code >> 18), (int) (0x80 | (code >> 12 & 0x3F)),
				(int) (0x80 | (code >> 6 & 0x3F)), (int) (0x80 | (code & 0x3F)));
}

/* What stands behind a backslash.  Half a pair of surrogates and \u0000 are no text. */
static bool
put_escaped(FILE *stream, Cursor *json)
{
	static const char letters[] = "\"\\/bfnrt";
	const char *letter;
	long		code;

	if (!take(json, 'u'))
	{
		letter = json->at < json->end && *json->at ? strchr(letters, *json->at) : NULL;
		if (!letter)
			return false;
		putc("\"\\/\b\f\n\r\t"[letter - letters], stream);
		json->at++;
		return true;
	}
	code = take_hex(json);
	if (code >= 0xD800 && code < 0xDC00)
	{
		long		low = take(json, '\\') && take(json, 'u') ? take_hex(json) : -1;

		code = low >= 0xDC00 && low < 0xE000 ? 0x10000 + ((code - 0xD800) << 10) + low - 0xDC00 : -1;
	}
	if (code <= 0 || (code >= 0xDC00 && code < 0xE000))
		return false;
	put_utf8(stream, code);
	return true;
}

/* The text of a string, which is passed over; NULL: it is none.  To be freed by the caller. */
static char *
take_string(Cursor *json)
{
	char	   *text;
	size_t		size;
	FILE	   *stream = open_memstream(&text, &size);
	bool		good = take(json, '"');

	if (!stream)
		abort();
	while (good && json->at < json->end && *json->at != '"')
	{
		char		byte = *json->at++;

		if (byte == '\\')
			good = put_escaped(stream, json);
		else
		{
			putc(byte, stream);
			good = byte != 0;
		}
	}
	good = good && take(json, '"');
	if (fclose(stream) != 0)
		abort();
	if (good)
		return text;
	free(text);
	return NULL;
}

/* Goes to the value of the last member of that name. */
static bool
find_member(Cursor *json, Slice name)
{
	const char *found = NULL;

	if (!take(json, '{'))
		return false;
	do
	{
		const char *begin;
		char	   *own;

		skip_blanks(json);
		begin = json->at;
		own = take_string(json);
		if (!own)
		{
			/* A name that is no text is no name of a path; an object may have no member at all. */
			json->at = begin;
			if (!skip_string(json))
				break;
		}
		skip_blanks(json);
		if (take(json, ':') && own && strlen(own) == name.length && memcmp(own, name.text, name.length) == 0)
			found = json->at;
		free(own);
		if (!skip_value(json))
			break;
		skip_blanks(json);
	}
	while (take(json, ','));
	json->at = found;
	return found != NULL;
}

static bool
find_element(Cursor *json, size_t index)
{
	if (!take(json, '['))
		return false;
	for (; index > 0; index--)
	{
		if (!skip_value(json))
			return false;
		skip_blanks(json);
		if (!take(json, ','))
			return false;
	}
	return true;
}

/*
 * The value at a path that is one: what a string says, or a number, true or
 * false as it stands.  NULL: there is none, or it is null, an object or an array.  To be freed
 * by the caller.
 */
char *
path_find(Slice path, Slice json)
{
	Cursor		way = {path.text + 1, path.text + path.length};
	Cursor		at = {json.text, json.text + json.length};
	Slice		name;
	size_t		index = 0;
	Cursor		end;

	while (way.at < way.end && take_step(&way, &name, &index))
	{
		skip_blanks(&at);
		if (!(name.text ? find_member(&at, name) : find_element(&at, index)))
			return NULL;
	}
	skip_blanks(&at);
	if (next_is(&at, '"'))
		return take_string(&at);
	end = at;
	if (span(&at, "-0123456789tf") == 0 || !skip_value(&end))
		return NULL;
	return strndup(at.at, (size_t) (end.at - at.at));
}
