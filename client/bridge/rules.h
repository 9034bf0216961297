/* The rules of iotmq bridge: which broker, and what becomes of its messages. */

#ifndef RULES_H
#define RULES_H

#include "filter.h"
#include "iotmq.h"

#define MOST_RULES 64

typedef enum Content
{
	CONTENT_AUTO,				/* JSON if it is that */
	CONTENT_JSON,
	CONTENT_BODY
} Content;

/* A property with its template */
typedef struct Property
{
	char	   *name;
	char	   *value;
	struct Property *next;
} Property;

typedef struct Rule
{
	int			line;
	Filter		filter;
	char	   *share;			/* of a shared subscription; NULL: none */
	char	   *subscription;	/* what the broker is asked for */
	char	   *topic;			/* of iotmq */
	char	   *zone;			/* templates; NULL: none */
	char	   *device;
	char	   *tag;
	char	   *key;
	Property   *properties;
	Content		content;
} Rule;

typedef struct Rules
{
	char	   *host;
	char	   *port;
	bool		tls;
	char	   *ca_file;		/* NULL: the system's certificates */
	char	   *cert_file;		/* NULL: none */
	char	   *key_file;		/* NULL: in cert_file */
	char	   *user;			/* NULL: none */
	char	   *password;		/* NULL: none */
	char	   *client_id;
	int			keep_alive;
	char	   *poison;			/* a topic; NULL: none */
	Rule	   *rules;
	int			count;
} Rules;

/* A message as MQTT has it */
typedef struct Source
{
	Slice		topic;
	const unsigned char *content;
	size_t		length;
	bool		is_json;		/* the content is, as far as it is known */
	Slice		missing;		/* the first path that it doesn't have; text NULL: none */
} Source;

bool		rules_read(Rules *rules, const char *name, void (*complain) (const char *format,...));
const Rule *rules_find(const Rules *rules, Slice topic, Slice *captures);

/* template.c */
const char *template_check(const char *template, const Filter *filter);
char	   *template_fill(const char *template, const Filter *filter, const Slice *captures, Source *source);

#endif							/* RULES_H */
