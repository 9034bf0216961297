/*
 * Templates of a rule: text in which {name} is a level of the MQTT topic, {topic} all of
 * it, {sha256} a hash of the topic and the content, which is the same when a message comes
 * again, and {$.name} a value within a payload of JSON.
 */

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json_path.h"
#include "memory.h"
#include "rules.h"

#define WRONG (-1)
#define TOPIC (-2)
#define SHA256 (-3)
#define PATH (-4)

/* The name at "text", behind its brace: the number of a capture, or one of the above */
static int
find_name(const char *text, size_t length, const Filter *filter)
{
	Slice		path = {text, length};

	for (int i = 0; i < filter->count; i++)
		if (strlen(filter->names[i]) == length && strncmp(filter->names[i], text, length) == 0)
			return i;
	if (length == 5 && strncmp(text, "topic", 5) == 0)
		return TOPIC;
	if (length == 6 && strncmp(text, "sha256", 6) == 0)
		return SHA256;
	if (path_is_one(path))
		return PATH;
	return WRONG;
}

/* Returns what is wrong with it; NULL: nothing. */
const char *
template_check(const char *template, const Filter *filter)
{
	while ((template = strpbrk(template, "{}")) != NULL)
	{
		size_t		length = strcspn(template, "}");

		if (template[0] == '}' || !template[length])
			return "a brace without its other one";
		if (find_name(template + 1, length - 1, filter) == WRONG)
			return "neither a name that the filter has nor a path";
		template += length + 1;
	}
	return NULL;
}

static void
put_hash(FILE *stream, const Source *source)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned	length = 0;
	EVP_MD_CTX *context = EVP_MD_CTX_new();

	/* A topic has no NUL. */
	if (!context || !EVP_DigestInit_ex(context, EVP_sha256(), NULL) ||
		!EVP_DigestUpdate(context, source->topic.text, source->topic.length) ||
		!EVP_DigestUpdate(context, "", 1) || !EVP_DigestUpdate(context, source->content, source->length) ||
		!EVP_DigestFinal_ex(context, hash, &length))
	{
		fputs("iotmq: no SHA-256\n", stderr);
		abort();
	}
	EVP_MD_CTX_free(context);
	for (unsigned i = 0; i < length; i++)
		fprintf(stream, "%02x", hash[i]);
}

/* If the payload doesn't have it, that is noted. */
static void
put_path(FILE *stream, Slice path, Source *source)
{
	Slice		json = {(const char *) source->content, source->length};
	char	   *value = source->is_json ? path_find(path, json) : NULL;

	if (value)
		fputs(value, stream);
	else if (!source->missing.text)
		source->missing = path;
	free(value);
}

/* template: one that template_check has seen; NULL gives NULL.  To be freed by the caller. */
char *
template_fill(const char *template, const Filter *filter, const Slice *captures, Source *source)
{
	char	   *text;
	size_t		size;
	FILE	   *stream;

	if (!template)
		return NULL;
	stream = open_memstream(&text, &size);
	if (!stream)
		abort();
	while (*template)
	{
		size_t		plain = strcspn(template, "{");

		fwrite(template, 1, plain, stream);
		template += plain;
		if (*template)
		{
			size_t		length = strcspn(template, "}");
			int			number = find_name(template + 1, length - 1, filter);

			if (number >= 0)
				fwrite(captures[number].text, 1, captures[number].length, stream);
			else if (number == TOPIC)
				fwrite(source->topic.text, 1, source->topic.length, stream);
			else if (number == SHA256)
				put_hash(stream, source);
			else
			{
				Slice		path = {template + 1, length - 1};

				put_path(stream, path, source);
			}
			template += length + 1;
		}
	}
	if (fclose(stream) != 0)
		abort();
	return text;
}
