/*
 * Bytes to a broker and back, over TCP or TLS, without waiting; only the look-up of the
 * broker's name waits.  With TLS the broker's certificate must be of the name in the rules.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "memory.h"
#include "transport.h"

struct Transport
{
	struct addrinfo *addresses;
	struct addrinfo *next;		/* the one to be tried next */
	int			socket;			/* -1: none */
	bool		connected;		/* TCP is */
	bool		ready;			/* and TLS, if wanted */
	bool		writes;			/* the socket is to be waited for to be written to */
	char	   *host;
	SSL_CTX    *context;		/* NULL: without TLS */
	SSL		   *ssl;
	char		error[256];
};

static void
fail(Transport *transport, const char *error)
{
	snprintf(transport->error, sizeof(transport->error), "%s", error);
}

/* What OpenSSL says; a certificate that is refused has a reason of its own. */
static void
fail_tls(Transport *transport, const char *otherwise)
{
	unsigned long code = ERR_get_error();
	long		verified = transport->ssl ? SSL_get_verify_result(transport->ssl) : X509_V_OK;

	if (verified != X509_V_OK)
		snprintf(transport->error, sizeof(transport->error), "the broker's certificate: %s",
				 X509_verify_cert_error_string(verified));
	else if (code != 0)
		ERR_error_string_n(code, transport->error, sizeof(transport->error));
	else
		fail(transport, otherwise);
	ERR_clear_error();
}

/* The certificate that says who we are, and its key */
static bool
use_certificate(Transport *transport, const TlsSettings *tls)
{
	const char *key_file = tls->key_file ? tls->key_file : tls->cert_file;

	if (!tls->cert_file)
		return true;
	if (SSL_CTX_use_certificate_chain_file(transport->context, tls->cert_file) == 1 &&
		SSL_CTX_use_PrivateKey_file(transport->context, key_file, SSL_FILETYPE_PEM) == 1 &&
		SSL_CTX_check_private_key(transport->context) == 1)
		return true;
	ERR_clear_error();
	snprintf(transport->error, sizeof(transport->error), "there is no certificate in \"%.100s\" with its key in \"%.100s\"",
			 tls->cert_file, key_file);
	return false;
}

static bool
prepare_tls(Transport *transport, const TlsSettings *tls)
{
	transport->context = SSL_CTX_new(TLS_client_method());
	if (!transport->context)
	{
		fail_tls(transport, "no TLS");
		return false;
	}
	SSL_CTX_set_min_proto_version(transport->context, TLS1_2_VERSION);
	SSL_CTX_set_mode(transport->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_verify(transport->context, SSL_VERIFY_PEER, NULL);
	if ((tls->ca_file ? SSL_CTX_load_verify_locations(transport->context, tls->ca_file, NULL) :
		 SSL_CTX_set_default_verify_paths(transport->context)) == 1)
		return use_certificate(transport, tls);
	ERR_clear_error();
	snprintf(transport->error, sizeof(transport->error), "there are no certificates in \"%s\"",
			 tls->ca_file ? tls->ca_file : "the system's store");
	return false;
}

/* Never NULL: what went wrong is told by transport_connect. */
Transport *
transport_open(const char *host, const char *port, const TlsSettings *tls)
{
	Transport  *transport = iotmq_allocate(sizeof(Transport));
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,.ai_flags = AI_NUMERICSERV};
	int			trouble;

	transport->socket = -1;
	transport->host = iotmq_copy(host);
	if (tls->on && !prepare_tls(transport, tls))
		return transport;
	trouble = getaddrinfo(host, port, &hints, &transport->addresses);
	if (trouble != 0)
		snprintf(transport->error, sizeof(transport->error), "%s: %s", host, gai_strerror(trouble));
	transport->next = transport->addresses;
	return transport;
}

void
transport_close(Transport *transport)
{
	if (!transport)
		return;
	SSL_free(transport->ssl);
	SSL_CTX_free(transport->context);
	if (transport->socket >= 0)
		close(transport->socket);
	if (transport->addresses)
		freeaddrinfo(transport->addresses);
	free(transport->host);
	free(transport);
}

/* What an operation of TLS that didn't succeed means */
static int
after_tls(Transport *transport, int result)
{
	switch (SSL_get_error(transport->ssl, result))
	{
		case SSL_ERROR_WANT_READ:
			return TRANSPORT_LATER;
		case SSL_ERROR_WANT_WRITE:
			transport->writes = true;
			return TRANSPORT_LATER;
		case SSL_ERROR_SYSCALL:
			fail_tls(transport, errno ? strerror(errno) : "the broker closed the connection");
			return TRANSPORT_OVER;
		default:
			fail_tls(transport, "the broker closed the connection");
			return TRANSPORT_OVER;
	}
}

/* Begins to connect to the next address. */
static bool
try_next(Transport *transport)
{
	const struct addrinfo *address = transport->next;
	int			one = 1;

	if (transport->socket >= 0)
		close(transport->socket);
	transport->next = address->ai_next;
	transport->socket = socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
							   address->ai_protocol);
	if (transport->socket >= 0)
	{
		setsockopt(transport->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (connect(transport->socket, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS)
			return true;
	}
	fail(transport, strerror(errno));
	return false;
}

/* Whether TCP is connected: LATER and OVER as everywhere, else 1. */
static int
connect_tcp(Transport *transport)
{
	int			error = 0;
	socklen_t	size = sizeof(error);
	struct sockaddr_storage peer;
	socklen_t	peer_size = sizeof(peer);

	while (transport->socket < 0 || *transport->error)
	{
		if (!transport->next)
		{
			if (!*transport->error)
				fail(transport, "it has no address");
			return TRANSPORT_OVER;
		}
		*transport->error = 0;
		(void) try_next(transport);
	}
	getsockopt(transport->socket, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error != 0)
	{
		fail(transport, strerror(error));
		return connect_tcp(transport);
	}
	if (getpeername(transport->socket, (struct sockaddr *) &peer, &peer_size) == 0)
		return 1;
	transport->writes = true;
	return TRANSPORT_LATER;
}

static bool
begin_tls(Transport *transport)
{
	unsigned char address[sizeof(struct in6_addr)];
	bool		is_address = inet_pton(AF_INET, transport->host, address) == 1 ||
		inet_pton(AF_INET6, transport->host, address) == 1;

	transport->ssl = SSL_new(transport->context);
	if (transport->ssl && SSL_set_fd(transport->ssl, transport->socket) == 1 &&
		(is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(transport->ssl), transport->host) == 1 :
		 SSL_set1_host(transport->ssl, transport->host) == 1 &&
		 SSL_set_tlsext_host_name(transport->ssl, transport->host) == 1))
		return true;
	fail_tls(transport, "no TLS");
	return false;
}

/* 1: bytes can be sent */
int
transport_connect(Transport *transport)
{
	int			result;

	if (transport->ready)
		return 1;
	if (!transport->addresses)
		return TRANSPORT_OVER;
	transport->writes = false;
	if (!transport->connected)
	{
		result = connect_tcp(transport);
		if (result != 1)
			return result;
		transport->connected = true;
	}
	if (transport->context)
	{
		if (!transport->ssl && !begin_tls(transport))
			return TRANSPORT_OVER;
		errno = 0;
		ERR_clear_error();
		result = SSL_connect(transport->ssl);
		if (result != 1)
			return after_tls(transport, result);
	}
	transport->ready = true;
	return 1;
}

ssize_t
transport_read(Transport *transport, void *bytes, size_t size)
{
	ssize_t		length;

	errno = 0;
	if (transport->ssl)
	{
		ERR_clear_error();
		length = SSL_read(transport->ssl, bytes, (int) size);
		return length > 0 ? length : after_tls(transport, (int) length);
	}
	length = recv(transport->socket, bytes, size, 0);
	if (length > 0)
		return length;
	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return TRANSPORT_LATER;
	fail(transport, length == 0 ? "the broker closed the connection" : strerror(errno));
	return TRANSPORT_OVER;
}

ssize_t
transport_write(Transport *transport, const void *bytes, size_t length)
{
	ssize_t		written;

	transport->writes = false;
	errno = 0;
	if (transport->ssl)
	{
		ERR_clear_error();
		written = SSL_write(transport->ssl, bytes, (int) length);
		return written > 0 ? written : after_tls(transport, (int) written);
	}
	written = send(transport->socket, bytes, length, MSG_NOSIGNAL);
	if (written >= 0)
		return written;
	if (errno == EAGAIN || errno == EINTR)
	{
		transport->writes = true;
		return TRANSPORT_LATER;
	}
	fail(transport, strerror(errno));
	return TRANSPORT_OVER;
}

/* Whether there is something to read that the socket doesn't show. */
bool
transport_has_more(const Transport *transport)
{
	return transport->ssl && SSL_pending(transport->ssl) > 0;
}

int
transport_socket(const Transport *transport)
{
	return transport->socket;
}

bool
transport_writes(const Transport *transport)
{
	return transport->writes;
}

const char *
transport_error(const Transport *transport)
{
	return transport->error;
}
