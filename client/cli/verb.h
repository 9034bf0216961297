/*
 * A verb of the program iotmq, and what all verbs share.
 */

#ifndef VERB_H
#define VERB_H

#include <argp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>

#include "iotmq.h"

/* Exit statuses; argp's own for a wrong call is that of USAGE. */
enum
{
	DONE = 0,
	FAILED = 1,					/* the server refused it, or what was asked for is not so */
	USAGE = 2,
	UNREACHABLE = 3				/* no connection */
};

#define MOST_KEYWORDS 12

/* What a verb was called with */
typedef struct Call
{
	const char *keywords[MOST_KEYWORDS];	/* of the connection, see iotmq_link_open */
	const char *values[MOST_KEYWORDS];
	bool		json;
	char	  **arguments;		/* those that are no options; NULL beyond the last one */
	int			count;
} Call;

typedef struct Verb
{
	const char *name;
	const char *arguments;		/* as the help shows them */
	int			least;			/* how many of them there must be */
	int			most;			/* below 0: any number */
	const char *summary;		/* one line, for the list of verbs */
	const char *doc;			/* what the help says after the options */
	const struct argp_option *options;
	bool		(*option) (int key, const char *value); /* false: a bad value */
	int			(*run) (const Call *call);
} Verb;

extern const Verb verb_archive,
			verb_bridge,
			verb_consume,
			verb_dead_letters,
			verb_groups,
			verb_lag,
			verb_publish,
			verb_redrive,
			verb_seek,
			verb_tail,
			verb_trace,
			verb_webhook;

/* options.c */
int			verb_call(const Verb *verb, int argc, char **argv);
bool		read_count(const char *text, int least, int *count);
bool		read_seconds(const char *text, double *seconds);
void		complain(const char *format,...) __attribute__((format(printf, 1, 2)));
void		complain_once(const char *text);
void		complain_of_lease(const IotmqBatch *batch);

/* stop.c */
void		stop_on_signals(void);
bool		stop_wanted(void);
int			stop_fd(void);
void		stop_poll(struct pollfd *fds, int count, double until);
void		stop_not_in_child(void);

/* query.c */
IotmqLink  *query_open(const Call *call);
int			query_failed(IotmqLink *link);
PGresult   *query_run(IotmqLink *link, const char *sql, int count, const char *const *values, int *status);
int			query_show(const Call *call, const char *sql, int count, const char *const *values);
PGresult   *query_rows(const Call *call, IotmqLink *link, const char *sql, int count, const char *const *values,
					   IotmqTrouble *trouble);
void		query_print(const Call *call, const PGresult *result);
bool		group_is_empty(const Call *call, IotmqLink *link, const char *zone);
void		table_print(const PGresult *result);

/* show.c */
void		text_print(FILE *stream, const char *text, const char *allowed);
void		message_print(const Call *call, const char *lease_id, const char *zone, const IotmqMessage *message);

/* json.c */
void		json_text(FILE *stream, const char *text);
void		json_message(FILE *stream, const char *lease_id, const char *zone, const IotmqMessage *message);

#endif							/* VERB_H */
