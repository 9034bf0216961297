/*
 * The command line of a verb, by glibc's argp: options of the connection, which all verbs
 * have, those of the verb, and its arguments.
 */

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verb.h"

enum
{
	JSON = 1000
};

static const struct argp_option connection_options[] = {
	{"dbname", 'd', "DBNAME", 0, "The database, or a connection string", 1},
	{"host", 'h', "HOST", 0, "The server, or the folder of its socket", 1},
	{"port", 'p', "PORT", 0, "The server's port", 1},
	{"username", 'U', "NAME", 0, "The role to connect as", 1},
	{"json", JSON, NULL, 0, "Print a line of JSON for each row or message", 1},
	{NULL}
};

typedef struct Parsing
{
	const Verb *verb;
	Call	   *call;
	int			keywords;		/* how many there are */
} Parsing;

static void
add_keyword(Parsing *parsing, const char *keyword, const char *value)
{
	Call	   *call = parsing->call;

	for (int i = 0; i < parsing->keywords; i++)
		if (strcmp(call->keywords[i], keyword) == 0)
		{
			call->values[i] = value;
			return;
		}
	call->keywords[parsing->keywords] = keyword;
	call->values[parsing->keywords++] = value;
}

static error_t
parse_connection(int key, char *value, struct argp_state *state)
{
	Parsing    *parsing = state->input;

	switch (key)
	{
		case 'd':
			add_keyword(parsing, "dbname", value);
			return 0;
		case 'h':
			add_keyword(parsing, "host", value);
			return 0;
		case 'p':
			add_keyword(parsing, "port", value);
			return 0;
		case 'U':
			add_keyword(parsing, "user", value);
			return 0;
		case JSON:
			parsing->call->json = true;
			return 0;
		default:
			return ARGP_ERR_UNKNOWN;
	}
}

static error_t
parse_verb(int key, char *value, struct argp_state *state)
{
	Parsing    *parsing = state->input;
	const Verb *verb = parsing->verb;

	switch (key)
	{
		case ARGP_KEY_INIT:
			state->child_inputs[0] = parsing;
			return 0;
		case ARGP_KEY_ARG:
			return ARGP_ERR_UNKNOWN;	/* ARGP_KEY_ARGS has all of them */
		case ARGP_KEY_ARGS:
			parsing->call->arguments = state->argv + state->next;
			parsing->call->count = state->argc - state->next;
			return 0;
		case ARGP_KEY_END:
			if (parsing->call->count < verb->least || (verb->most >= 0 && parsing->call->count > verb->most))
				argp_usage(state);
			return 0;
		default:
			break;
	}
	for (const struct argp_option *option = verb->options; option && option->key; option++)
		if (option->key == key)
		{
			if (!verb->option(key, value))
				argp_error(state, "bad value for --%s: %s", option->name, value);
			return 0;
		}
	return ARGP_ERR_UNKNOWN;
}

int
verb_call(const Verb *verb, int argc, char **argv)
{
	static char *none[] = {NULL};
	char		name[64];
	char		doc[4096];
	const struct argp connection = {.options = connection_options,.parser = parse_connection};
	const struct argp_child children[] = {{&connection, 0, "Connection and output:", 1}, {0}};
	const struct argp argp = {
		.options = verb->options,.parser = parse_verb,.args_doc = verb->arguments,.doc = doc,.children = children
	};
	Call		call = {.arguments = none};
	Parsing		parsing = {.verb = verb,.call = &call};

	snprintf(name, sizeof(name), "iotmq %s", verb->name);
	snprintf(doc, sizeof(doc), "%s\v%s", verb->summary, verb->doc);
	argv[0] = name;
	/* A server whose machine is gone is not waited for: the system's default is two hours. */
	add_keyword(&parsing, "keepalives_idle", "30");
	add_keyword(&parsing, "keepalives_interval", "10");
	add_keyword(&parsing, "keepalives_count", "3");
	add_keyword(&parsing, "tcp_user_timeout", "60000");
	add_keyword(&parsing, "dbname", NULL);
	add_keyword(&parsing, "fallback_application_name", name);
	add_keyword(&parsing, "client_encoding", "UTF8");
	argp_parse(&argp, argc, argv, 0, NULL, &parsing);
	return verb->run(&call);
}

/* A whole number of at least "least" */
bool
read_count(const char *text, int least, int *count)
{
	char	   *end;
	long		number;

	errno = 0;
	number = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end || number < least || number > 1000000000)
		return false;
	*count = (int) number;
	return true;
}

/* Seconds above 0; fractions are allowed */
bool
read_seconds(const char *text, double *seconds)
{
	char	   *end;
	double		number;

	errno = 0;
	number = strtod(text, &end);
	if (errno != 0 || end == text || *end || !isfinite(number) || number <= 0)
		return false;
	*seconds = number;
	return true;
}

/* A line on standard error; libpq's errors may be several. */
void
complain(const char *format,...)
{
	va_list		arguments;
	char	   *text;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		abort();
	va_end(arguments);
	fputs("iotmq: ", stderr);
	text_print(stderr, text, "\n\t");
	fputc('\n', stderr);
	free(text);
}

/* Of what is tried again and again, unless it was the last thing told */
void
complain_once(const char *text)
{
	static char *told;

	if (told && strcmp(told, text) == 0)
		return;
	free(told);
	told = strdup(text);
	complain("%s", told ? told : "out of memory");
}

/* A lease that is over before all of it was settled, as far as we know */
void
complain_of_lease(const IotmqBatch *batch)
{
	if (batch->unsure)
		complain("lease %s is over: its messages were settled as the connection was lost, or come again", batch->lease_id);
	else
		complain("lease %s is over: its messages come again", batch->lease_id);
}
