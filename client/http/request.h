/* One HTTP POST of one message, or of several as an array. */

#ifndef REQUEST_H
#define REQUEST_H

#include <curl/curl.h>

#include "iotmq.h"

typedef struct Target
{
	const char *url;
	const char *topic;
	double		timeout;		/* seconds */
	bool		arrays;			/* envelopes in an array, however many there are */
	const char *secret;			/* of signatures; NULL: none */
	struct curl_slist *headers; /* that the user wants */
	const char *ca_file;		/* of the server's certificate; NULL: the system's */
	const char *cert_file;		/* of the client; NULL: none */
	const char *key_file;		/* NULL: in cert_file */
} Target;

/* What is being sent */
typedef struct Request
{
	IotmqBatch *batch;
	int			count;
	int		   *messages;		/* their numbers in the batch */
	CURL	   *easy;
	struct curl_slist *headers;
	char	   *content;
	size_t		length;
	char		error[CURL_ERROR_SIZE];
	char		answer[201];	/* the beginning of it */
	size_t		answered;		/* bytes of it */
} Request;

Request    *request_make(const Target *target, IotmqBatch *batch, const int *messages, int count);
void		request_settle(Request *request, CURLcode code);
void		request_free(Request *request);

#endif							/* REQUEST_H */
