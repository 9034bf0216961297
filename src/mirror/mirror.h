/*
 * mirror.h - zones that follow those of other servers.
 *
 *   send     the source's part: messages as text, and what else a mirror asks for
 *   store    the mirror's part: messages out of such text
 *   link     waiting for an answer of dblink's, but not for ever
 *
 * What goes over is a line with what mirror_source says, in JSON. Then one with two offsets:
 * the first one that the source still had, and the one below which all messages are in the
 * batch, or nowhere. Then a line for each message, of these fields with a tab between them:
 * msg_offset, published_at (microseconds since 2000), device_id, tag, payload, body (hex),
 * properties, message_key. NULL is \N; a tab, a newline and a backslash within a field are
 * written as \t, \n and \\. As text it is in whatever encoding the two servers agree on.
 */
#ifndef IOTMQ_MIRROR_H
#define IOTMQ_MIRROR_H

#include "log/log.h"

#define MIRROR_FIELDS 8
#define MIRROR_BYTES (16 * 1024 * 1024) /* of one batch, from which on no message is added */
#define MIRROR_BYTES_MOST (64 * 1024 * 1024) /* of one batch, with its last message */

#endif
