/*
 * Packets of a subscriber.
 */

#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "packet.h"

static void
put(MqttWriter *writer, const void *bytes, size_t length)
{
	if (writer->size - writer->end < length)
	{
		size_t		size = (writer->end - writer->begin + length) * 2 + 1024;
		unsigned char *larger = iotmq_allocate(size);

		if (writer->end > writer->begin)
			memcpy(larger, writer->bytes + writer->begin, writer->end - writer->begin);
		free(writer->bytes);
		*writer = (MqttWriter)
		{
			.bytes = larger,.end = writer->end - writer->begin,.size = size
		};
	}
	memcpy(writer->bytes + writer->end, bytes, length);
	writer->end += length;
}

static void
put_byte(MqttWriter *writer, unsigned byte)
{
	unsigned char one = (unsigned char) byte;

	put(writer, &one, 1);
}

static void
put_number(MqttWriter *writer, unsigned number)
{
	put_byte(writer, number >> 8);
	put_byte(writer, number & 0xFF);
}

/* Section 1.5.3; at most 65,535 bytes, which the rules have checked */
static void
put_text(MqttWriter *writer, const char *text)
{
	put_number(writer, (unsigned) strlen(text));
	put(writer, text, strlen(text));
}

/* The first byte and the remaining length: section 2.2 */
static void
put_header(MqttWriter *writer, unsigned first, size_t length)
{
	put_byte(writer, first);
	do
	{
		put_byte(writer, (unsigned) (length & 0x7F) | (length > 0x7F ? 0x80 : 0));
		length >>= 7;
	} while (length > 0);
}

static size_t
size_of(const char *text)
{
	return text ? 2 + strlen(text) : 0;
}

/* Section 3.1; without "clean session", so that the broker keeps what comes while we are away */
void
mqtt_write_connect(MqttWriter *writer, const MqttConnect *connect)
{
	put_header(writer, 0x10, 10 + size_of(connect->client_id) + size_of(connect->user) + size_of(connect->password));
	put_text(writer, "MQTT");
	put_byte(writer, 4);
	put_byte(writer, (connect->user ? 0x80 : 0) | (connect->password ? 0x40 : 0));
	put_number(writer, (unsigned) connect->keep_alive);
	put_text(writer, connect->client_id);
	if (connect->user)
		put_text(writer, connect->user);
	if (connect->password)
		put_text(writer, connect->password);
}

/* Section 3.8; of QoS 1 */
void
mqtt_write_subscribe(MqttWriter *writer, unsigned id, const char *const *filters, int count)
{
	size_t		length = 2;

	for (int i = 0; i < count; i++)
		length += size_of(filters[i]) + 1;
	put_header(writer, 0x82, length);
	put_number(writer, id);
	for (int i = 0; i < count; i++)
	{
		put_text(writer, filters[i]);
		put_byte(writer, 1);
	}
}

/* Section 3.4 */
void
mqtt_write_puback(MqttWriter *writer, unsigned id)
{
	put_header(writer, 0x40, 2);
	put_number(writer, id);
}

/* Section 3.12 */
void
mqtt_write_pingreq(MqttWriter *writer)
{
	put_header(writer, 0xC0, 0);
}

/* Section 3.14 */
void
mqtt_write_disconnect(MqttWriter *writer)
{
	put_header(writer, 0xE0, 0);
}

void
mqtt_writer_sent(MqttWriter *writer, size_t length)
{
	writer->begin += length;
	if (writer->begin == writer->end)
		writer->begin = writer->end = 0;
}

void
mqtt_writer_clear(MqttWriter *writer)
{
	free(writer->bytes);
	*writer = (MqttWriter)
	{
		.bytes = NULL
	};
}
