/*
 * Texts for people, and a message as a line of them, or of JSON.
 */

#include <stdio.h>
#include <string.h>

#include "verb.h"

/*
 * What would move a terminal's cursor or set its colours is a blank, but for what is in
 * "allowed": devices choose their ids and tags.  Beside ASCII's these are U+0080 to U+009F.
 */
void
text_print(FILE *stream, const char *text, const char *allowed)
{
	for (const unsigned char *byte = (const unsigned char *) text; *byte; byte++)
	{
		bool		wide = byte[0] == 0xC2 && byte[1] >= 0x80 && byte[1] < 0xA0;
		bool		control = wide || ((*byte < ' ' || *byte == 0x7f) && !strchr(allowed, *byte));

		putc(control ? ' ' : *byte, stream);
		byte += wide;
	}
}

static void
print(const char *before, const char *text, const char *after)
{
	fputs(before, stdout);
	text_print(stdout, text, "");
	fputs(after, stdout);
}

void
message_print(const Call *call, const char *lease_id, const char *zone, const IotmqMessage *message)
{
	if (call->json)
	{
		json_message(stdout, lease_id, zone, message);
		putchar('\n');
		return;
	}
	printf("%s  %s/%s", message->published_at, zone, message->offset);
	print("  ", message->device_id, "");
	if (message->tag)
		print("  [", message->tag, "]");
	if (message->attempt > 1)
		printf("  (attempt %d)", message->attempt);
	print("  ", message->payload ? message->payload : message->body, "\n");
}
