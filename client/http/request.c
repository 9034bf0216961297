/*
 * One HTTP POST of one message, or of several as an array, and what its answer means.
 *
 * A payload is sent as it is, as application/json, a body as application/octet-stream; what
 * else there is of a message is in headers.  An array has objects as "iotmq consume --json"
 * prints them.
 *
 * Every request has an Idempotency-Key, which is the same when the message comes again:
 * topic, zone and offset (of the first message, and how many there are, for an array; and a hash,
 * if there are others between them, so that no two arrays have the same one).  With
 * a secret it is signed as in the specification "Standard Webhooks": webhook-signature is
 * "v1," and the base64 of the HMAC-SHA256 of webhook-id, webhook-timestamp and the content,
 * joined by dots.
 */

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "memory.h"
#include "request.h"
#include "verb.h"

static void
add_header(Request *request, const char *format,...)
{
	char	   *line = NULL;
	va_list		arguments;
	struct curl_slist *headers;

	va_start(arguments, format);
	if (vasprintf(&line, format, arguments) < 0)
		abort();
	va_end(arguments);
	headers = curl_slist_append(request->headers, line);
	if (!headers)
		abort();
	request->headers = headers;
	free(line);
}

/* A text of users in a header: percent-encoded, so that no text can be a header of its own. */
static void
add_text(Request *request, const char *name, const char *text)
{
	char	   *encoded;

	if (!text)
		return;
	encoded = curl_easy_escape(request->easy, text, 0);
	if (!encoded)
		abort();
	add_header(request, "%s: %s", name, encoded);
	curl_free(encoded);
}

static void
make_array(Request *request)
{
	FILE	   *stream = open_memstream(&request->content, &request->length);

	if (!stream)
		abort();
	for (int i = 0; i < request->count; i++)
	{
		putc(i > 0 ? ',' : '[', stream);
		json_message(stream, request->batch->lease_id, request->batch->zone,
					 &request->batch->messages[request->messages[i]]);
	}
	putc(']', stream);
	if (fclose(stream) != 0)
		abort();
	add_header(request, "Content-Type: application/json");
}

static void
make_single(Request *request, const IotmqMessage *message)
{
	if (message->payload)
	{
		request->content = iotmq_copy(message->payload);
		request->length = strlen(message->payload);
		add_header(request, "Content-Type: application/json");
	}
	else
	{
		unsigned char *bytes = PQunescapeBytea((const unsigned char *) message->body, &request->length);

		if (!bytes)
			abort();
		request->content = memcpy(iotmq_allocate(request->length), bytes, request->length);
		PQfreemem(bytes);
		add_header(request, "Content-Type: application/octet-stream");
	}
	add_text(request, "Iotmq-Device", message->device_id);
	add_text(request, "Iotmq-Tag", message->tag);
	add_text(request, "Iotmq-Key", message->message_key);
	add_text(request, "Iotmq-Properties", message->properties);
	add_text(request, "Iotmq-Published-At", message->published_at);
	add_header(request, "Iotmq-Attempt: %d", message->attempt);
}

static void
sign(Request *request, const char *secret, const char *id)
{
	char	   *signed_text;
	size_t		length;
	FILE	   *stream = open_memstream(&signed_text, &length);
	long		now = (long) time(NULL);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned	digest_length;
	char		base64[2 * EVP_MAX_MD_SIZE];

	if (!stream)
		abort();
	fprintf(stream, "%s.%ld.", id, now);
	fwrite(request->content, 1, request->length, stream);
	if (fclose(stream) != 0 ||
		!HMAC(EVP_sha256(), secret, (int) strlen(secret), (unsigned char *) signed_text, length, digest,
			  &digest_length))
		abort();
	EVP_EncodeBlock((unsigned char *) base64, digest, (int) digest_length);
	add_header(request, "webhook-id: %s", id);
	add_header(request, "webhook-timestamp: %ld", now);
	add_header(request, "webhook-signature: v1,%s", base64);
	free(signed_text);
}

/* Keeps the beginning of the answer, for a reason. */
static size_t
take_answer(char *bytes, size_t size, size_t count, void *argument)
{
	Request    *request = argument;
	size_t		length = size * count;
	size_t		room = sizeof(request->answer) - 1 - request->answered;

	if (room > length)
		room = length;
	memcpy(request->answer + request->answered, bytes, room);
	request->answered += room;
	return length;
}

static void
make_array_id(const Request *request, const char *topic, char *id, size_t size)
{
	const IotmqMessage *messages = request->batch->messages;
	const char *first = messages[request->messages[0]].offset;
	const char *last = messages[request->messages[request->count - 1]].offset;
	int			length = snprintf(id, size, "%s/%s/%s+%d", topic, request->batch->zone, first, request->count);
	uint64_t	hash = UINT64_C(14695981039346656037);	/* FNV-1a, of the offsets with their NULs */

	if (length >= (int) size || strtoll(last, NULL, 10) - strtoll(first, NULL, 10) == request->count - 1)
		return;
	for (int i = 0; i < request->count; i++)
	{
		const char *offset = messages[request->messages[i]].offset;

		for (size_t j = 0; j <= strlen(offset); j++)
			hash = (hash ^ (unsigned char) offset[j]) * UINT64_C(1099511628211);
	}
	snprintf(id + length, size - (size_t) length, "-%016" PRIx64, hash);
}

/*
 * messages: their numbers in the batch.
 */
Request *
request_make(const Target *target, IotmqBatch *batch, const int *messages, int count)
{
	Request    *request = iotmq_allocate(sizeof(Request));
	const IotmqMessage *first = &batch->messages[messages[0]];
	char		id[256];

	request->batch = batch;
	request->count = count;
	request->messages = memcpy(iotmq_allocate(sizeof(int) * (size_t) count), messages, sizeof(int) * (size_t) count);
	request->easy = curl_easy_init();
	if (!request->easy)
		abort();

	if (target->arrays)
	{
		make_array(request);
		make_array_id(request, target->topic, id, sizeof(id));
	}
	else
	{
		make_single(request, first);
		snprintf(id, sizeof(id), "%s/%s/%s", target->topic, batch->zone, first->offset);
	}
	add_header(request, "Iotmq-Topic: %s", target->topic);
	add_header(request, "Iotmq-Zone: %s", batch->zone);
	add_header(request, "Iotmq-Offset: %s", first->offset);
	add_header(request, "Idempotency-Key: %s", id);
	add_header(request, "Expect:"); /* no question before a large content */
	if (target->secret)
		sign(request, target->secret, id);
	for (const struct curl_slist *header = target->headers; header; header = header->next)
		add_header(request, "%s", header->data);

	curl_easy_setopt(request->easy, CURLOPT_URL, target->url);
	curl_easy_setopt(request->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(request->easy, CURLOPT_POST, 1L);
	curl_easy_setopt(request->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->length);
	curl_easy_setopt(request->easy, CURLOPT_POSTFIELDS, request->content);
	curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->headers);
	curl_easy_setopt(request->easy, CURLOPT_TIMEOUT_MS, (long) ceil(target->timeout * 1000));
	curl_easy_setopt(request->easy, CURLOPT_NOSIGNAL, 1L);
	if (target->ca_file)
		curl_easy_setopt(request->easy, CURLOPT_CAINFO, target->ca_file);
	if (target->cert_file)
		curl_easy_setopt(request->easy, CURLOPT_SSLCERT, target->cert_file);
	if (target->key_file)
		curl_easy_setopt(request->easy, CURLOPT_SSLKEY, target->key_file);
	curl_easy_setopt(request->easy, CURLOPT_USERAGENT, "iotmq/" IOTMQ_VERSION);
	curl_easy_setopt(request->easy, CURLOPT_ERRORBUFFER, request->error);
	curl_easy_setopt(request->easy, CURLOPT_WRITEFUNCTION, take_answer);
	curl_easy_setopt(request->easy, CURLOPT_WRITEDATA, request);
	curl_easy_setopt(request->easy, CURLOPT_PRIVATE, request);
	return request;
}

/*
 * Those that may be answered otherwise when they come again: RFC 9110, section 15, and
 * RFC 6585.  A redirect is none of them but is not followed: who runs the server mends it.
 */
static bool
may_pass(long status)
{
	return status < 400 || status == 408 || status == 425 || status == 429 || status >= 500;
}

/*
 * Says what is to become of the request's messages.
 */
void
request_settle(Request *request, CURLcode code)
{
	long		status = 0;
	curl_off_t	retry_after = 0;
	double		delay = -1;
	IotmqFate	fate = IOTMQ_NACK;
	char		reason[512] = "";

	curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(request->easy, CURLINFO_RETRY_AFTER, &retry_after);
	if (code != CURLE_OK)
		snprintf(reason, sizeof(reason), "%s", *request->error ? request->error : curl_easy_strerror(code));
	else if (status >= 200 && status < 300)
		fate = IOTMQ_ACK;
	else
	{
		snprintf(reason, sizeof(reason), "HTTP %ld%s%s", status, *request->answer ? ": " : "", request->answer);
		if (!may_pass(status))
			fate = IOTMQ_REJECT;
		else if (retry_after > 0)
			delay = (double) (retry_after < 86400 ? retry_after : 86400);
	}
	for (int i = 0; i < request->count; i++)
	{
		IotmqMessage *message = &request->batch->messages[request->messages[i]];

		if (!message->settled)
			iotmq_message_settle(message, fate, delay, fate == IOTMQ_ACK ? NULL : reason);
	}
}

void
request_free(Request *request)
{
	curl_easy_cleanup(request->easy);
	curl_slist_free_all(request->headers);
	free(request->content);
	free(request->messages);
	free(request);
}
