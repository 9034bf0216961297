/*
 * The parser of MQTT packets, the topic filters and the paths into payloads against bytes that
 * nobody meant to send.
 *
 * What is read must not depend on how the bytes were cut into pieces, and nothing may be
 * read beyond them, which sanitizers see.
 *
 *   parse FILE    each line is some bytes in hex, "=", and what is to be read of them; then
 *                 20,000 mutations of these lines, always the same ones
 *
 * With -DFUZZER it is a target of libFuzzer instead.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filter.h"
#include "json_path.h"
#include "packet.h"

#define LONGEST 64				/* bytes of a payload that is kept as a whole */
#define MUTATIONS 20000

static const char *const filters[] = {"plant/{zone}/{device}/+", "{a}/#", "+/b", "a//b", "$x/{y}", "+/+/{c}"};

#define FILTERS (sizeof(filters) / sizeof(filters[0]))

static const char *const paths[] = {"$.id", "$.a.id", "$[1]", "$.a[2].id", "$.a[0][0]"};

#define PATHS (sizeof(paths) / sizeof(paths[0]))

/* Touches every byte that a packet points to. */
static unsigned
sum(const void *bytes, size_t length)
{
	unsigned	result = 0;

	for (size_t i = 0; i < length; i++)
		result = result * 31 + ((const unsigned char *) bytes)[i];
	return result;
}

static void
describe(FILE *stream, const MqttPacket *packet)
{
	switch (packet->type)
	{
		case MQTT_PUBLISH:
			fprintf(stream, " publish(%.*s q%d%s%s i%u %zu/%zu %08x)", (int) packet->topic_length, packet->topic, packet->qos,
					packet->duplicate ? " dup" : "", packet->retained ? " retained" : "", packet->id, packet->payload_length,
					packet->whole_length, sum(packet->payload, packet->payload_length));
			break;
		case MQTT_CONNACK:
			fprintf(stream, " connack(%d %d)", packet->session_present, packet->codes[0]);
			break;
		case MQTT_SUBACK:
			fprintf(stream, " suback(i%u %zu %08x)", packet->id, packet->code_count, sum(packet->codes, packet->code_count));
			break;
		default:
			fputs(" pingresp", stream);
	}
}

/* The numbers of the filters that match, with their captures, which are all within the topic */
static void
match(FILE *stream, const MqttPacket *packet)
{
	for (size_t i = 0; i < FILTERS; i++)
	{
		Filter		filter;
		Slice		captures[MOST_CAPTURES];

		if (filter_read(&filter, filters[i]) != NULL)
			abort();
		if (filter_matches(&filter, (Slice)
				{
					packet->topic, packet->topic_length
				}, captures))
		{
			fprintf(stream, " %zu", i);
			for (int j = 0; j < filter.count; j++)
			{
				if (captures[j].text < packet->topic ||
					captures[j].text + captures[j].length > packet->topic + packet->topic_length)
					abort();
				fprintf(stream, "<%.*s>", (int) captures[j].length, captures[j].text);
			}
		}
		filter_free(&filter);
	}
}

/* What the paths lead to; the payload is copied, so that sanitizers see a byte too many. */
static void
look_up(FILE *stream, const MqttPacket *packet)
{
	char	   *copy = malloc(packet->payload_length);

	if (!copy && packet->payload_length > 0)
		abort();
	if (packet->payload_length > 0)
		memcpy(copy, packet->payload, packet->payload_length);
	for (size_t i = 0; i < PATHS; i++)
	{
		Slice		path = {paths[i], strlen(paths[i])};
		Slice		json = {copy, packet->payload_length};
		char	   *value = path_is_one(path) ? path_find(path, json) : NULL;

		if (value)
			fprintf(stream, " %s=%s", paths[i], value);
		free(value);
	}
	free(copy);
}

/* What is read of the bytes, which come in pieces; to be freed by the caller. */
static char *
read_all(const unsigned char *bytes, size_t length, size_t piece)
{
	MqttReader	reader;
	MqttAnswer	answer = MQTT_MORE;
	char	   *text;
	size_t		size;
	FILE	   *stream = open_memstream(&text, &size);

	mqtt_reader_begin(&reader, LONGEST);
	for (size_t i = 0; i < length && answer != MQTT_BAD; i += piece)
	{
		size_t		room;
		unsigned char *at = mqtt_reader_room(&reader, &room);
		size_t		some = length - i < piece ? length - i : piece;
		MqttPacket	packet;

		if (some > room)
			abort();
		memcpy(at, bytes + i, some);
		mqtt_reader_filled(&reader, some);
		while ((answer = mqtt_reader_next(&reader, &packet)) == MQTT_PACKET)
		{
			describe(stream, &packet);
			if (packet.type == MQTT_PUBLISH)
			{
				match(stream, &packet);
				look_up(stream, &packet);
			}
		}
	}
	if (answer == MQTT_BAD)
		fprintf(stream, " bad(%s)", reader.error);
	mqtt_reader_end(&reader);
	fclose(stream);
	return text;
}

static char *
read_in_pieces(const unsigned char *bytes, size_t length)
{
	char	   *whole = read_all(bytes, length, 65536);

	for (size_t piece = 1; piece <= 7; piece += 2)
	{
		char	   *text = read_all(bytes, length, piece);

		if (strcmp(text, whole) != 0)
		{
			fprintf(stderr, "whole:%s\nin pieces of %zu:%s\n", whole, piece, text);
			abort();
		}
		free(text);
	}
	return whole;
}

#ifdef FUZZER

int
LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t length)
{
	free(read_in_pieces(bytes, length));
	return 0;
}

#else

typedef struct Sample
{
	unsigned char bytes[1024];
	size_t		length;
} Sample;

/* The digits at the beginning of the line; "70*3" is 70 70 70. */
static const char *
read_hex(const char *line, Sample *sample)
{
	unsigned	byte;
	int			used;

	sample->length = 0;
	while (sscanf(line, " %2x%n", &byte, &used) == 1)
	{
		size_t		times = 1;

		line += used;
		if (*line == '*')
			times = strtoul(line + 1, (char **) &line, 10);
		while (times-- > 0 && sample->length < sizeof(sample->bytes))
			sample->bytes[sample->length++] = (unsigned char) byte;
	}
	return line;
}

/* Some bytes are others, gone, or there twice. */
static void
mutate(Sample *sample)
{
	for (long changes = random() % 4; changes >= 0 && sample->length > 1; changes--)
	{
		size_t		at = (size_t) random() % sample->length;
		size_t		rest = sample->length - at;

		switch (random() % 4)
		{
			case 0:
				sample->bytes[at] = (unsigned char) random();
				break;
			case 1:
				sample->bytes[at] ^= (unsigned char) (1 << random() % 8);
				break;
			case 2:
				memmove(sample->bytes + at, sample->bytes + at + 1, rest - 1);
				sample->length--;
				break;
			default:
				if (sample->length + rest > sizeof(sample->bytes))
					break;
				memmove(sample->bytes + at + rest, sample->bytes + at, rest);
				sample->length += rest;
		}
	}
}

int
main(int argc, char **argv)
{
	static Sample samples[100];
	size_t		count = 0;
	size_t		read = 0;
	int			failed = 0;
	char	   *line = NULL;
	size_t		size = 0;
	FILE	   *file = argc == 2 ? fopen(argv[1], "r") : NULL;

	if (!file)
		return 2;
	while (getline(&line, &size, file) >= 0)
	{
		const char *expected;
		char	   *got;

		line[strcspn(line, "\n")] = 0;
		if (!*line || *line == '#')
			continue;
		if (count == sizeof(samples) / sizeof(samples[0]))
			return 2;
		expected = read_hex(line, &samples[count]);
		got = read_in_pieces(samples[count].bytes, samples[count].length);
		if (strncmp(expected, " =", 2) != 0 || strcmp(got, expected + 2) != 0)
		{
			printf("%s\n\tis read as%s\n", line, got);
			failed = 1;
		}
		free(got);
		count++;
	}
	free(line);
	fclose(file);

	srandom(1);
	for (int i = 0; i < MUTATIONS; i++)
	{
		Sample		sample = samples[(size_t) random() % count];
		char	   *got;

		mutate(&sample);
		got = read_in_pieces(sample.bytes, sample.length);
		read += strstr(got, "publish") != NULL;
		free(got);
	}
	printf("%zu samples and %d mutations, %s messages in them\n", count, MUTATIONS, read > 1000 ? "with" : "without");
	return failed;
}

#endif
