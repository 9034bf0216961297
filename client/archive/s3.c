/*
 * Objects in a bucket of S3, or of a server that speaks as it does.
 *
 * A request is PUT or GET of an object, or a list of them (ListObjectsV2), by the bucket's
 * path, signed by libcurl (AWS Signature Version 4) together with the hash of what is sent.
 * Paths and queries are encoded here as the signature wants them: all but letters, digits
 * and "-._~" as %XX, and parameters in the order of their names.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>
#include <openssl/evp.h>

#include "memory.h"
#include "store.h"
#include "verb.h"

#define CONNECT_SECONDS 10L
#define SILENT_SECONDS 60L		/* without a byte in either direction, until a request has failed */
#define MOST_ANSWER (16 * 1024 * 1024)

typedef struct S3
{
	Store		store;
	CURL	   *easy;
	char	   *bucket;			/* the address of it */
	char	   *prefix;			/* "" or ends with a slash */
	char	   *signature;		/* what curl is told of it */
	char	   *keys;			/* key id and secret, with a colon */
	char	   *token;			/* of temporary keys; NULL: none */
} S3;

/* An answer */
typedef struct Answer
{
	long		status;
	char	   *text;
	size_t		length;
	FILE	   *stream;
	size_t		taken;
} Answer;

static char *
encode(S3 *s3, const char *text, size_t length)
{
	char	   *encoded = curl_easy_escape(s3->easy, text, (int) length);
	char	   *result;

	if (!encoded)
		abort();
	result = iotmq_copy(length > 0 ? encoded : "");
	curl_free(encoded);
	return result;
}

/* Slashes stay. */
static char *
encode_path(S3 *s3, const char *path)
{
	char	   *result;
	size_t		size;
	FILE	   *stream = open_memstream(&result, &size);

	if (!stream)
		abort();
	for (;;)
	{
		size_t		length = strcspn(path, "/");
		char	   *part = encode(s3, path, length);

		fputs(part, stream);
		free(part);
		path += length;
		if (!*path)
			break;
		putc(*path++, stream);
	}
	if (fclose(stream) != 0)
		abort();
	return result;
}

static size_t
take_answer(char *bytes, size_t size, size_t count, void *argument)
{
	Answer	   *answer = argument;

	answer->taken += size * count;
	if (answer->taken > MOST_ANSWER)
		return 0;
	return fwrite(bytes, 1, size * count, answer->stream);
}

/* A signal is read here, too, so that a second one ends the program during a request. */
static int
look_at_signals(void *argument, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	(void) argument, (void) a, (void) b, (void) c, (void) d;
	(void) stop_wanted();
	return 0;
}

static struct curl_slist *
append(struct curl_slist *list, const char *format, const char *value)
{
	char	   *line;
	struct curl_slist *longer;

	if (asprintf(&line, format, value) < 0)
		abort();
	longer = curl_slist_append(list, line);
	if (!longer)
		abort();
	free(line);
	return longer;
}

static struct curl_slist *
make_headers(const S3 *s3, const char *bytes, size_t length)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned	digest_length;
	char		hash[2 * EVP_MAX_MD_SIZE + 1];
	struct curl_slist *headers = NULL;

	if (!EVP_Digest(bytes, length, digest, &digest_length, EVP_sha256(), NULL))
		abort();
	for (unsigned i = 0; i < digest_length; i++)
		snprintf(hash + 2 * i, 3, "%02x", digest[i]);
	headers = append(headers, "x-amz-content-sha256: %s", hash);
	if (s3->token)
		headers = append(headers, "x-amz-security-token: %s", s3->token);
	return headers;
}

/* The text of an element, with the entities of XML replaced; NULL: there is none. */
static char *
element(const char *xml, const char *begin, const char *end)
{
	static const char *const entities[][2] = {
		{"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&apos;", "'"}, {"&amp;", "&"}
	};
	const char *from = strstr(xml, begin);
	const char *to = from ? strstr(from, end) : NULL;
	char	   *text;
	size_t		length = 0;

	if (!to)
		return NULL;
	from += strlen(begin);
	text = iotmq_allocate((size_t) (to - from) + 1);
	while (from < to)
	{
		size_t		i = 0;

		while (i < 5 && strncmp(from, entities[i][0], strlen(entities[i][0])) != 0)
			i++;
		text[length++] = i < 5 ? entities[i][1][0] : *from;
		from += i < 5 ? strlen(entities[i][0]) : 1;
	}
	return text;
}

/* 408, 425, 429, 5xx, and what S3 calls RequestTimeout with a status of 400 */
static bool
may_pass(const Answer *answer)
{
	return answer->status >= 500 || answer->status == 408 || answer->status == 425 || answer->status == 429 ||
		(answer->status == 400 && strstr(answer->text, "<Code>RequestTimeout</Code>"));
}

/* What can't be mended by trying again */
static bool
is_refusal(CURLcode code)
{
	return code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WRITE_ERROR ||
		code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE || code == CURLE_NOT_BUILT_IN;
}

static IotmqTrouble
judge(S3 *s3, const char *method, const char *url, CURLcode code, const char *error, const Answer *answer)
{
	char	   *message;
	int			shown = (int) strcspn(url, "?");

	if (code != CURLE_OK)
	{
		store_fail(&s3->store, "%s %.*s: %s", method, shown, url, *error ? error : curl_easy_strerror(code));
		return is_refusal(code) ? IOTMQ_REFUSED : IOTMQ_AGAIN;
	}
	if (answer->status >= 200 && answer->status < 300)
		return IOTMQ_FINE;
	message = element(answer->text, "<Message>", "</Message>");
	store_fail(&s3->store, "%s %.*s: HTTP %ld: %.200s", method, shown, url, answer->status,
			   message ? message : answer->text);
	free(message);
	return may_pass(answer) ? IOTMQ_AGAIN : IOTMQ_REFUSED;
}

/*
 * One request.  The answer's text is the caller's to free.
 */
static IotmqTrouble
request(S3 *s3, const char *method, const char *url, const char *bytes, size_t length, Answer *answer)
{
	struct curl_slist *headers = make_headers(s3, bytes, length);
	char		error[CURL_ERROR_SIZE] = "";
	CURLcode	code;
	IotmqTrouble trouble;

	*answer = (Answer)
	{
		.status = 0
	};
	answer->stream = open_memstream(&answer->text, &answer->length);
	if (!answer->stream)
		abort();
	if (strcmp(method, "PUT") == 0)
		headers = append(headers, "%s", "Content-Type: application/octet-stream");
	curl_easy_reset(s3->easy);	/* the connection stays */
	curl_easy_setopt(s3->easy, CURLOPT_URL, url);
	curl_easy_setopt(s3->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(s3->easy, CURLOPT_AWS_SIGV4, s3->signature);
	curl_easy_setopt(s3->easy, CURLOPT_USERPWD, s3->keys);
	curl_easy_setopt(s3->easy, CURLOPT_HTTPHEADER, headers);
	if (strcmp(method, "PUT") == 0)
	{
		curl_easy_setopt(s3->easy, CURLOPT_CUSTOMREQUEST, "PUT");
		curl_easy_setopt(s3->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) length);
		curl_easy_setopt(s3->easy, CURLOPT_POSTFIELDS, bytes);
	}
	curl_easy_setopt(s3->easy, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
	curl_easy_setopt(s3->easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(s3->easy, CURLOPT_LOW_SPEED_TIME, SILENT_SECONDS);
	curl_easy_setopt(s3->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(s3->easy, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(s3->easy, CURLOPT_XFERINFOFUNCTION, look_at_signals);
	curl_easy_setopt(s3->easy, CURLOPT_USERAGENT, "iotmq/" IOTMQ_VERSION);
	curl_easy_setopt(s3->easy, CURLOPT_ERRORBUFFER, error);
	curl_easy_setopt(s3->easy, CURLOPT_WRITEFUNCTION, take_answer);
	curl_easy_setopt(s3->easy, CURLOPT_WRITEDATA, answer);
	code = curl_easy_perform(s3->easy);
	curl_easy_getinfo(s3->easy, CURLINFO_RESPONSE_CODE, &answer->status);
	curl_slist_free_all(headers);
	if (fclose(answer->stream) != 0)
		abort();
	trouble = judge(s3, method, url, code, error, answer);
	return trouble;
}

static char *
object_url(S3 *s3, const char *folder, const char *name)
{
	char	   *key;
	char	   *path;
	char	   *url;

	if (asprintf(&key, "%s%s/%s", s3->prefix, folder, name) < 0)
		abort();
	path = encode_path(s3, key);
	if (asprintf(&url, "%s/%s", s3->bucket, path) < 0)
		abort();
	free(path);
	free(key);
	return url;
}

static IotmqTrouble
s3_put(Store *store, const char *folder, const char *name, const char *bytes, size_t length)
{
	S3		   *s3 = (S3 *) store;
	char	   *url = object_url(s3, folder, name);
	Answer		answer;
	IotmqTrouble trouble = request(s3, "PUT", url, bytes, length, &answer);

	free(answer.text);
	free(url);
	return trouble;
}

static IotmqTrouble
s3_get(Store *store, const char *folder, const char *name, char **text)
{
	S3		   *s3 = (S3 *) store;
	char	   *url = object_url(s3, folder, name);
	Answer		answer;
	IotmqTrouble trouble = request(s3, "GET", url, "", 0, &answer);

	*text = NULL;
	if (answer.status == 404 && strstr(answer.text, "<Code>NoSuchKey</Code>"))
		trouble = IOTMQ_FINE;
	else if (trouble == IOTMQ_FINE)
		*text = iotmq_copy(answer.text);
	free(answer.text);
	free(url);
	return trouble;
}

/* A key's last part; "last" is set to it.  Returns whether there was one. */
static bool
add_key(const char **at, Ranges *ranges, char *last)
{
	const char *begin = strstr(*at, "<Key>");
	const char *end = begin ? strstr(begin, "</Key>") : NULL;
	const char *name;
	Range		range;

	if (!end)
		return false;
	name = end;
	while (name > begin + 5 && name[-1] != '/')
		name--;
	if (object_range(name, (size_t) (end - name), &range))
	{
		ranges_add(ranges, range);
		object_name(last, range);
	}
	*at = end;
	return true;
}

/*
 * Finds what begins at "from" or above: names are in order, so that a page can begin there.
 */
static IotmqTrouble
s3_list(Store *store, const char *folder, int64_t from, Ranges *ranges)
{
	S3		   *s3 = (S3 *) store;
	char		last[OBJECT_NAME_SIZE];
	bool		more = true;
	IotmqTrouble trouble = IOTMQ_FINE;

	/* What sorts after this, without the ending, is that offset's name and those behind. */
	object_name(last, (Range)
				{
					from, 0
				});
	*strchr(last, '-') = 0;
	while (trouble == IOTMQ_FINE && more)
	{
		char	   *texts[2];
		char	   *encoded[2];
		char	   *url;
		Answer		answer;
		const char *at;
		char		begin[OBJECT_NAME_SIZE];
		int			before = ranges->count;

		snprintf(begin, sizeof(begin), "%s", last);
		if (asprintf(&texts[0], "%s%s/", s3->prefix, folder) < 0 ||
			asprintf(&texts[1], "%s%s/%s", s3->prefix, folder, last) < 0)
			abort();
		encoded[0] = encode(s3, texts[0], strlen(texts[0]));
		encoded[1] = encode(s3, texts[1], strlen(texts[1]));
		if (asprintf(&url, "%s?list-type=2&prefix=%s&start-after=%s", s3->bucket, encoded[0], encoded[1]) < 0)
			abort();
		trouble = request(s3, "GET", url, "", 0, &answer);
		at = answer.text;
		while (trouble == IOTMQ_FINE && add_key(&at, ranges, last))
			;
		/* A page without an object is the last one: the plan sorts behind them. */
		more = ranges->count > before && strstr(answer.text, "<IsTruncated>true</IsTruncated>");
		if (more && strcmp(last, begin) <= 0)
		{
			store_fail(&s3->store, "GET %s: the list doesn't go on behind %s", s3->bucket, begin);
			trouble = IOTMQ_REFUSED;
		}
		for (int i = 0; i < 2; i++)
		{
			free(texts[i]);
			free(encoded[i]);
		}
		free(answer.text);
		free(url);
	}
	return trouble;
}

static void
s3_close(Store *store)
{
	S3		   *s3 = (S3 *) store;

	curl_easy_cleanup(s3->easy);
	curl_global_cleanup();
	free(s3->bucket);
	free(s3->prefix);
	free(s3->signature);
	free(s3->keys);
	free(s3->token);
	free(s3);
}

static const char *
environment(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value && *value ? value : otherwise;
}

static char *
make_prefix(const char *path)
{
	size_t		length;
	char	   *prefix;

	path += strspn(path, "/");
	length = strlen(path);
	while (length > 0 && path[length - 1] == '/')
		length--;
	if (asprintf(&prefix, "%.*s%s", (int) length, path, length > 0 ? "/" : "") < 0)
		abort();
	return prefix;
}

static char *
make_bucket(const char *endpoint, const char *region, const char *name, int length)
{
	char	   *url;
	int			size;

	if (endpoint)
	{
		size = (int) strlen(endpoint);
		while (size > 0 && endpoint[size - 1] == '/')
			size--;
		size = asprintf(&url, "%.*s/%.*s", size, endpoint, length, name);
	}
	else
		size = asprintf(&url, "https://s3.%s.amazonaws.com/%.*s", region, length, name);
	if (size < 0)
		abort();
	return url;
}

/* NULL after complaining. */
Store *
s3_open(const char *destination, const char *endpoint)
{
	const char *bucket = destination + strlen("s3://");
	int			length = (int) strcspn(bucket, "/");
	const char *id = environment("AWS_ACCESS_KEY_ID", NULL);
	const char *secret = environment("AWS_SECRET_ACCESS_KEY", NULL);
	const char *region = environment("AWS_REGION", environment("AWS_DEFAULT_REGION", "us-east-1"));
	S3		   *s3;

	if (!endpoint)
		endpoint = environment("AWS_ENDPOINT_URL", NULL);
	if (length == 0 || (endpoint && strncmp(endpoint, "http://", 7) != 0 && strncmp(endpoint, "https://", 8) != 0))
	{
		complain("%s", length == 0 ? "s3:// is to be followed by a bucket" : "the endpoint is to begin with http:// or https://");
		return NULL;
	}
	if (!id || !secret)
	{
		complain("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set");
		return NULL;
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	s3 = iotmq_allocate(sizeof(S3));
	s3->easy = curl_easy_init();
	if (!s3->easy || asprintf(&s3->keys, "%s:%s", id, secret) < 0 ||
		asprintf(&s3->signature, "aws:amz:%s:s3", region) < 0)
		abort();
	s3->bucket = make_bucket(endpoint, region, bucket, length);
	s3->prefix = make_prefix(bucket + length);
	if (environment("AWS_SESSION_TOKEN", NULL))
		s3->token = iotmq_copy(getenv("AWS_SESSION_TOKEN"));
	s3->store = (Store)
	{
		.list = s3_list,.put = s3_put,.get = s3_get,.close = s3_close,.late = true
	};
	return &s3->store;
}
