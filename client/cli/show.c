/*
 * A message as a line for people, or of JSON.
 */

#include <stdio.h>

#include "verb.h"

void
message_print(const Call *call, const char *lease_id, const char *zone, const IotmqMessage *message)
{
	if (call->json)
	{
		json_message(stdout, lease_id, zone, message);
		putchar('\n');
		return;
	}
	printf("%s  %s/%s  %s", message->published_at, zone, message->offset, message->device_id);
	if (message->tag)
		printf("  [%s]", message->tag);
	if (message->attempt > 1)
		printf("  (attempt %d)", message->attempt);
	printf("  %s\n", message->payload ? message->payload : message->body);
}
