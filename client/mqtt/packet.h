/*
 * Packets of MQTT 3.1.1, as a subscriber reads and writes them.
 *
 * Section numbers and [MQTT-...] in the comments are those of the OASIS Standard "MQTT
 * Version 3.1.1" of 29 October 2014.
 */

#ifndef PACKET_H
#define PACKET_H

#include <stdbool.h>
#include <stddef.h>

/* What a broker sends to one who doesn't publish and asked for QoS 1 at most; section 2.2.1 */
typedef enum MqttType
{
	MQTT_CONNACK = 2,
	MQTT_PUBLISH = 3,
	MQTT_SUBACK = 9,
	MQTT_PINGRESP = 13
} MqttType;

/* Its pointers hold until the reader is asked again. */
typedef struct MqttPacket
{
	MqttType	type;
	bool		duplicate;		/* PUBLISH: these up to whole_length */
	bool		retained;
	int			qos;			/* 0 or 1 */
	const char *topic;			/* UTF-8 without NUL, and without one at its end */
	size_t		topic_length;
	unsigned	id;				/* SUBACK, too; 0: of QoS 0 */
	const unsigned char *payload;
	size_t		payload_length; /* how much of it is here */
	size_t		whole_length;	/* how long it was: more than payload_length if it was too long */
	bool		session_present;	/* CONNACK */
	const unsigned char *codes; /* return codes of CONNACK and SUBACK */
	size_t		code_count;
} MqttPacket;

/* What has come and was not taken yet */
typedef struct MqttReader
{
	unsigned char *bytes;
	size_t		begin;			/* of the next packet */
	size_t		end;
	size_t		size;
	size_t		longest;		/* payload that is kept as a whole */
	size_t		skipped;		/* bytes of the next packet that were thrown away */
	const char *error;			/* what is wrong with the next packet; NULL: nothing yet */
} MqttReader;

typedef enum MqttAnswer
{
	MQTT_MORE,					/* there is no whole packet yet */
	MQTT_PACKET,
	MQTT_BAD					/* reader->error says why: the connection is to be closed */
} MqttAnswer;

void		mqtt_reader_begin(MqttReader *reader, size_t longest);
void		mqtt_reader_end(MqttReader *reader);
unsigned char *mqtt_reader_room(MqttReader *reader, size_t *room);
void		mqtt_reader_filled(MqttReader *reader, size_t length);
MqttAnswer	mqtt_reader_next(MqttReader *reader, MqttPacket *packet);

bool		mqtt_is_utf8(const unsigned char *text, size_t length);

/* What is to be sent */
typedef struct MqttWriter
{
	unsigned char *bytes;
	size_t		begin;
	size_t		end;
	size_t		size;
} MqttWriter;

typedef struct MqttConnect
{
	const char *client_id;
	const char *user;			/* NULL: none */
	const char *password;		/* NULL: none; only with a user */
	int			keep_alive;		/* seconds */
} MqttConnect;

void		mqtt_write_connect(MqttWriter *writer, const MqttConnect *connect);
void		mqtt_write_subscribe(MqttWriter *writer, unsigned id, const char *const *filters, int count);
void		mqtt_write_puback(MqttWriter *writer, unsigned id);
void		mqtt_write_pingreq(MqttWriter *writer);
void		mqtt_write_disconnect(MqttWriter *writer);
void		mqtt_writer_sent(MqttWriter *writer, size_t length);
void		mqtt_writer_clear(MqttWriter *writer);

#endif							/* PACKET_H */
