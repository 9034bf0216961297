/* Bytes to a broker and back, over TCP or TLS, without waiting. */

#ifndef TRANSPORT_H
#define TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct Transport Transport;

typedef struct TlsSettings
{
	bool		on;
	const char *ca_file;		/* NULL: the system's certificates */
	const char *cert_file;		/* of the client, with its chain; NULL: none */
	const char *key_file;		/* NULL: in cert_file */
} TlsSettings;

enum
{
	TRANSPORT_LATER = -1,		/* nothing can be done until the socket is ready */
	TRANSPORT_OVER = -2			/* the connection is lost, or was never made */
};

Transport  *transport_open(const char *host, const char *port, const TlsSettings *tls);
void		transport_close(Transport *transport);
int			transport_connect(Transport *transport);
ssize_t		transport_read(Transport *transport, void *bytes, size_t size);
ssize_t		transport_write(Transport *transport, const void *bytes, size_t length);
bool		transport_has_more(const Transport *transport);
int			transport_socket(const Transport *transport);
bool		transport_writes(const Transport *transport);
const char *transport_error(const Transport *transport);

#endif							/* TRANSPORT_H */
