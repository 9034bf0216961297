/*
 * Messages as JSON.  Lease ids and offsets are strings: they may be larger than 2^53.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verb.h"

/* A string with its quotes; NULL is null.  See RFC 8259, section 7. */
void
json_text(FILE *stream, const char *text)
{
	if (!text)
	{
		fputs("null", stream);
		return;
	}
	putc('"', stream);
	for (; *text; text++)
	{
		if (*text == '"' || *text == '\\')
			fprintf(stream, "\\%c", *text);
		else if ((unsigned char) *text < ' ')
			fprintf(stream, "\\u%04x", *text);
		else
			putc(*text, stream);
	}
	putc('"', stream);
}

static void
member(FILE *stream, const char *name, const char *text)
{
	fprintf(stream, "%s\"%s\": ", strcmp(name, "zone") == 0 ? "" : ", ", name);
	json_text(stream, text);
}

static void
put_base64(FILE *stream, const unsigned char *bytes, size_t length)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < length; i += 3)
	{
		unsigned	word = (unsigned) bytes[i] << 16 | (i + 1 < length ? bytes[i + 1] << 8 : 0)
		| (i + 2 < length ? bytes[i + 2] : 0);

		putc(digits[word >> 18], stream);
		putc(digits[word >> 12 & 63], stream);
		putc(i + 1 < length ? digits[word >> 6 & 63] : '=', stream);
		putc(i + 2 < length ? digits[word & 63] : '=', stream);
	}
}

/* body: bytea in hex; as base64 */
static void
body_member(FILE *stream, const char *body)
{
	size_t		length;
	unsigned char *bytes = PQunescapeBytea((const unsigned char *) body, &length);

	if (!bytes)
		abort();
	fputs(", \"body\": \"", stream);
	put_base64(stream, bytes, length);
	putc('"', stream);
	PQfreemem(bytes);
}

/*
 * An object without a line's end.  lease_id: NULL leaves lease and attempt out; so are the
 * fields that a message doesn't have.
 */
void
json_message(FILE *stream, const char *lease_id, const char *zone, const IotmqMessage *message)
{
	putc('{', stream);
	member(stream, "zone", zone);
	member(stream, "msg_offset", message->offset);
	member(stream, "published_at", message->published_at);
	member(stream, "device_id", message->device_id);
	if (message->tag)
		member(stream, "tag", message->tag);
	if (message->payload)
		fprintf(stream, ", \"payload\": %s", message->payload);
	if (message->body)
		body_member(stream, message->body);
	if (message->properties)
		fprintf(stream, ", \"properties\": %s", message->properties);
	if (message->message_key)
		member(stream, "message_key", message->message_key);
	if (lease_id)
	{
		member(stream, "lease_id", lease_id);
		fprintf(stream, ", \"attempt\": %d", message->attempt);
	}
	putc('}', stream);
}
