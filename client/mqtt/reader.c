/*
 * Packets out of a stream of bytes, however it is cut into pieces.
 *
 * A PUBLISH whose payload is too long is not kept as a whole: its topic and the beginning
 * of the payload are, and the rest is thrown away as it comes.
 */

#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "packet.h"

#define ROOM 65536				/* for one read */
#define KEPT 4096				/* bytes of a payload that is too long */
#define LONGEST_OTHER 4096		/* bytes of a packet that is no PUBLISH */
#define LONGEST_LENGTH 4		/* bytes of a remaining length, section 2.2.3 */

/* longest: of a payload that is kept as a whole */
void
mqtt_reader_begin(MqttReader *reader, size_t longest)
{
	*reader = (MqttReader)
	{
		.longest = longest
	};
}

void
mqtt_reader_end(MqttReader *reader)
{
	free(reader->bytes);
	mqtt_reader_begin(reader, reader->longest);
}

/*
 * Where the next bytes are to be put, and how many of them at most: there is always room.
 * What mqtt_reader_next has returned is over.
 */
unsigned char *
mqtt_reader_room(MqttReader *reader, size_t *room)
{
	if (reader->begin > 0)
	{
		memmove(reader->bytes, reader->bytes + reader->begin, reader->end - reader->begin);
		reader->end -= reader->begin;
		reader->begin = 0;
	}
	if (reader->size - reader->end < ROOM)
	{
		unsigned char *larger = iotmq_allocate(reader->size * 2 + ROOM);

		if (reader->end > 0)
			memcpy(larger, reader->bytes, reader->end);
		free(reader->bytes);
		reader->bytes = larger;
		reader->size = reader->size * 2 + ROOM;
	}
	*room = ROOM;
	return reader->bytes + reader->end;
}

void
mqtt_reader_filled(MqttReader *reader, size_t length)
{
	reader->end += length;
}

static MqttAnswer
bad(MqttReader *reader, const char *error)
{
	reader->error = error;
	return MQTT_BAD;
}

/*
 * The length of a well-formed character at "text", of which "length" bytes are there; 0: none.
 * NUL is none here, nor is a surrogate: [MQTT-1.5.3-1], [MQTT-1.5.3-2].
 */
static size_t
character(const unsigned char *text, size_t length)
{
	static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned	code = text[0];
	size_t		size = code < 0x80 ? 1 : code >= 0xC2 && code < 0xE0 ? 2 : (code & 0xF0) == 0xE0 ? 3 :
		code >= 0xF0 && code < 0xF5 ? 4 : 0;

	if (size == 0 || size > length || code == 0)
		return 0;
	if (size > 1)
		code &= 0x7Fu >> size;
	for (size_t i = 1; i < size; i++)
	{
		if ((text[i] & 0xC0) != 0x80)
			return 0;
		code = code << 6 | (text[i] & 0x3F);
	}
	return code < least[size] || (code >= 0xD800 && code < 0xE000) || code > 0x10FFFF ? 0 : size;
}

/* Whether it is UTF-8 without NUL, which MQTT and PostgreSQL want alike. */
bool
mqtt_is_utf8(const unsigned char *text, size_t length)
{
	while (length > 0)
	{
		size_t		size = character(text, length);

		if (size == 0)
			return false;
		text += size;
		length -= size;
	}
	return true;
}

/* Section 3.2 */
static MqttAnswer
read_connack(MqttReader *reader, const unsigned char *bytes, size_t length, MqttPacket *packet)
{
	if (length != 2 || (bytes[0] & ~1) != 0 || bytes[1] > 5)
		return bad(reader, "a malformed CONNACK");
	if (bytes[0] == 1 && bytes[1] != 0)
		return bad(reader, "a CONNACK that refuses and has a session");	/* [MQTT-3.2.2-4] */
	packet->session_present = bytes[0] == 1;
	packet->codes = bytes + 1;
	packet->code_count = 1;
	return MQTT_PACKET;
}

/* Section 3.9 */
static MqttAnswer
read_suback(MqttReader *reader, const unsigned char *bytes, size_t length, MqttPacket *packet)
{
	if (length < 3)
		return bad(reader, "a malformed SUBACK");
	packet->id = (unsigned) bytes[0] << 8 | bytes[1];
	packet->codes = bytes + 2;
	packet->code_count = length - 2;
	for (size_t i = 0; i < packet->code_count; i++)
		if (packet->codes[i] > 2 && packet->codes[i] != 0x80)
			return bad(reader, "a SUBACK with an unknown code");	/* [MQTT-3.9.3-2] */
	return MQTT_PACKET;
}

/*
 * Section 3.3.  here: bytes of the packet that are kept, behind its fixed header; length:
 * those it was sent with
 */
static MqttAnswer
read_publish(MqttReader *reader, const unsigned char *bytes, size_t here, size_t length, MqttPacket *packet)
{
	size_t		head = 2 + packet->topic_length + (packet->qos > 0 ? 2 : 0);

	packet->topic = (const char *) bytes + 2;
	if (packet->topic_length == 0)
		return bad(reader, "a PUBLISH without a topic");	/* [MQTT-4.7.3-1] */
	if (!mqtt_is_utf8(bytes + 2, packet->topic_length))
		return bad(reader, "a topic that is not UTF-8");	/* [MQTT-3.3.2-1] */
	if (memchr(packet->topic, '+', packet->topic_length) || memchr(packet->topic, '#', packet->topic_length))
		return bad(reader, "a PUBLISH to a topic with wildcards");	/* [MQTT-3.3.2-2] */
	if (packet->qos > 0)
		packet->id = (unsigned) bytes[head - 2] << 8 | bytes[head - 1];
	if (packet->qos > 0 && packet->id == 0)
		return bad(reader, "a PUBLISH without a packet identifier");	/* [MQTT-2.3.1-1] */
	packet->payload = bytes + head;
	packet->payload_length = here - head;
	packet->whole_length = length - head;
	return MQTT_PACKET;
}

/* The flags and the length of the topic, which say how much is to be kept. */
static MqttAnswer
begin_publish(MqttReader *reader, const unsigned char *bytes, size_t here, size_t length, MqttPacket *packet)
{
	int			flags = packet->qos;

	packet->duplicate = flags & 8;
	packet->retained = flags & 1;
	packet->qos = flags >> 1 & 3;
	if (packet->qos == 3)
		return bad(reader, "a PUBLISH of QoS 3");	/* [MQTT-3.3.1-4] */
	if (packet->qos == 2)
		return bad(reader, "a PUBLISH of QoS 2, which nobody asked for");	/* [MQTT-3.8.4-6] */
	if (packet->qos == 0 && packet->duplicate)
		return bad(reader, "a duplicate of QoS 0"); /* [MQTT-3.3.1-2] */
	if (length < 2)
		return bad(reader, "a PUBLISH that is too short");
	if (here < 2)
		return MQTT_MORE;
	packet->topic_length = (size_t) bytes[0] << 8 | bytes[1];
	if (2 + packet->topic_length + (packet->qos > 0 ? 2 : 0) > length)
		return bad(reader, "a PUBLISH that is too short");
	return MQTT_PACKET;
}

/*
 * Throws away what has come of the packet beyond the first "kept" bytes.  Returns whether it
 * has ended.
 */
static bool
skip(MqttReader *reader, size_t kept, size_t whole)
{
	size_t		left = whole - kept - reader->skipped;
	size_t		come = reader->end - reader->begin - kept;
	size_t		gone = come < left ? come : left;
	unsigned char *at = reader->bytes + reader->begin + kept;

	memmove(at, at + gone, come - gone);
	reader->end -= gone;
	reader->skipped += gone;
	return gone == left;
}

/* The rest of the packet; "header" bytes of it are its fixed header. */
static MqttAnswer
read_rest(MqttReader *reader, size_t header, size_t length, MqttPacket *packet)
{
	const unsigned char *bytes = reader->bytes + reader->begin + header;
	size_t		here = reader->end - reader->begin - header;
	size_t		kept = length;
	MqttAnswer	answer = MQTT_PACKET;

	if (packet->type == MQTT_PUBLISH)
	{
		size_t		head;

		answer = begin_publish(reader, bytes, here, length, packet);
		if (answer != MQTT_PACKET)
			return answer;
		head = 2 + packet->topic_length + (packet->qos > 0 ? 2 : 0);
		if (length - head > reader->longest)
			kept = head + (reader->longest < KEPT ? reader->longest : KEPT);
	}
	else if (packet->qos != 0)
		return bad(reader, "flags that are reserved");	/* [MQTT-2.2.2-2] */
	else if (length > LONGEST_OTHER)
		return bad(reader, "a packet that is too long");
	if (here < kept || (kept < length && !skip(reader, header + kept, header + length)))
		return MQTT_MORE;

	switch (packet->type)
	{
		case MQTT_CONNACK:
			answer = read_connack(reader, bytes, length, packet);
			break;
		case MQTT_PUBLISH:
			answer = read_publish(reader, bytes, kept, length, packet);
			break;
		case MQTT_SUBACK:
			answer = read_suback(reader, bytes, length, packet);
			break;
		case MQTT_PINGRESP:
			if (length != 0)
				return bad(reader, "a malformed PINGRESP");	/* section 3.13 */
			break;
		default:
			return bad(reader, "a packet that is not for a subscriber");
	}
	if (answer == MQTT_PACKET)
	{
		reader->begin += header + kept;
		reader->skipped = 0;
	}
	return answer;
}

/*
 * The next packet, if it is there.  After MQTT_BAD there is none any more.
 */
MqttAnswer
mqtt_reader_next(MqttReader *reader, MqttPacket *packet)
{
	const unsigned char *bytes;
	size_t		here = reader->end - reader->begin;
	size_t		length = 0;

	if (reader->error)
		return MQTT_BAD;
	if (here == 0)
		return MQTT_MORE;
	bytes = reader->bytes + reader->begin;
	*packet = (MqttPacket)
	{
		.type = bytes[0] >> 4,.qos = bytes[0] & 15
	};
	/* Before its end is awaited: what is no packet of ours may have none. */
	if (packet->type != MQTT_CONNACK && packet->type != MQTT_PUBLISH && packet->type != MQTT_SUBACK &&
		packet->type != MQTT_PINGRESP)
		return bad(reader, "a packet that is not for a subscriber");
	for (size_t i = 1; i <= LONGEST_LENGTH; i++)
	{
		if (i >= here)
			return MQTT_MORE;
		length |= (size_t) (bytes[i] & 0x7F) << (7 * (i - 1));
		if (!(bytes[i] & 0x80))
			return read_rest(reader, i + 1, length, packet);
	}
	return bad(reader, "a malformed remaining length");
}
