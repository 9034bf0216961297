/*
 * A connection that comes back.
 *
 * It is made when somebody wants it.  When it is lost, or can't be made, the next try is
 * after a pause, which doubles from a tenth of a second up to ten seconds and is drawn
 * between half of that and all of it, so that many clients don't come at once.
 *
 * One that leads to a server which takes no writes (25006) is left, too: after a failover the
 * primary is elsewhere, and only a new connection finds it.
 */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "iotmq.h"
#include "memory.h"

#define FIRST_PAUSE 0.1
#define LONGEST_PAUSE 10.0
#define STANDBY_PAUSE 1.0		/* a standby takes connections at once, and may be promoted soon */

struct IotmqLink
{
	char	  **keywords;		/* both end with NULL */
	char	  **values;
	PGconn	   *connection;		/* NULL: none */
	double		pause;			/* before the next try; 0: the last one was good */
	double		retry_at;
	char	   *error;			/* of the last failure; NULL: none yet */
	bool		refused;		/* which was the answer of a server */
};

double
iotmq_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static char **
copy_texts(const char *const *texts, int count)
{
	char	  **copy = iotmq_allocate(sizeof(char *) * (size_t) (count + 1));

	for (int i = 0; i < count; i++)
		copy[i] = texts[i] ? iotmq_copy(texts[i]) : NULL;
	copy[count] = NULL;
	return copy;
}

static void
free_texts(char **texts, char **ends)
{
	for (size_t i = 0; ends[i]; i++)
		free(texts[i]);
}

IotmqLink *
iotmq_link_open(const char *const *keywords, const char *const *values)
{
	IotmqLink  *link = iotmq_allocate(sizeof(IotmqLink));
	int			count = 0;

	while (keywords[count])
		count++;
	*link = (IotmqLink)
	{
		.keywords = copy_texts(keywords, count), .values = copy_texts(values, count)
	};
	return link;
}

void
iotmq_link_close(IotmqLink *link)
{
	PQfinish(link->connection);
	free_texts(link->values, link->keywords);
	free(link->values);
	free_texts(link->keywords, link->keywords);
	free(link->keywords);
	free(link->error);
	free(link);
}

/*
 * The connection, made anew if there is none.  NULL while there is to be a pause, or if it
 * can't be made: iotmq_link_error says why.
 */
PGconn *
iotmq_link_connection(IotmqLink *link)
{
	if (link->connection && PQstatus(link->connection) == CONNECTION_OK)
		return link->connection;
	if (link->connection)
		iotmq_link_lose(link, PQerrorMessage(link->connection));
	if (iotmq_now() < link->retry_at)
		return NULL;

	link->connection = PQconnectdbParams((const char *const *) link->keywords,
										 (const char *const *) link->values, 1);
	if (PQstatus(link->connection) != CONNECTION_OK)
	{
		iotmq_link_lose(link, PQerrorMessage(link->connection));
		return NULL;
	}
	link->pause = 0;
	return link->connection;
}

/* The connection as it is; NULL: none */
PGconn *
iotmq_link_current(const IotmqLink *link)
{
	return link->connection;
}

static void
keep_error(IotmqLink *link, const char *text)
{
	char	   *error = iotmq_copy(text);
	size_t		length = strlen(error);

	while (length > 0 && error[length - 1] == '\n')
		error[--length] = 0;
	free(link->error);
	link->error = error;
}

static bool
is_standby(const PGresult *result)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return sqlstate && strcmp(sqlstate, "25006") == 0;
}

/*
 * Keeps the error of a result, or of the connection if that is lost: then it is closed, as is
 * one to a standby.
 */
void
iotmq_link_fail(IotmqLink *link, const PGresult *result)
{
	if (PQstatus(link->connection) != CONNECTION_OK)
		iotmq_link_lose(link, PQerrorMessage(link->connection));
	else if (is_standby(result))
	{
		iotmq_link_lose(link, PQresultErrorMessage(result));
		link->retry_at = fmax(link->retry_at, iotmq_now() + STANDBY_PAUSE * (0.5 + drand48() / 2));
		link->refused = true;
	}
	else
	{
		keep_error(link, PQresultErrorMessage(result));
		link->refused = true;
	}
}

/*
 * Closes the connection because of what "why" says.
 */
void
iotmq_link_lose(IotmqLink *link, const char *why)
{
	keep_error(link, why);
	link->refused = false;
	PQfinish(link->connection);
	link->connection = NULL;
	link->pause = link->pause == 0 ? FIRST_PAUSE : link->pause * 2;
	if (link->pause > LONGEST_PAUSE)
		link->pause = LONGEST_PAUSE;
	link->retry_at = iotmq_now() + link->pause * (0.5 + drand48() / 2);
}

/* When it is worth a try; 0 while there is a connection, or none was lost. */
double
iotmq_link_retry_at(const IotmqLink *link)
{
	return link->connection ? 0 : link->retry_at;
}

/* Why the last connection, or query, failed; never NULL. */
const char *
iotmq_link_error(const IotmqLink *link)
{
	return link->error ? link->error : "";
}

/* Whether that was what a server has answered, and not the loss of a connection. */
bool
iotmq_link_refused(const IotmqLink *link)
{
	return link->refused;
}

/*
 * Runs one statement.  Returns NULL if it fails, and "trouble" says how; a connection
 * that is lost by it is closed.
 */
PGresult *
iotmq_link_query(IotmqLink *link, const char *sql, int count, const char *const *values, IotmqTrouble *trouble)
{
	PGconn	   *connection = iotmq_link_connection(link);
	PGresult   *result;

	*trouble = IOTMQ_AGAIN;
	if (!connection)
		return NULL;
	result = PQexecParams(connection, sql, count, NULL, values, NULL, NULL, 0);
	*trouble = iotmq_trouble(connection, result);
	if (*trouble == IOTMQ_FINE)
		return result;

	iotmq_link_fail(link, result);
	PQclear(result);
	return NULL;
}

/* Classes of SQLSTATEs, and some of their members, that pass by themselves */
static const char *const passing[] = {
	"08",						/* connection */
	"40",						/* serialization, deadlock */
	"53",						/* too many connections, disk or memory full */
	"55P03",					/* lock_timeout */
	"57",						/* cancel, shutdown, crash of the server */
	"58",						/* an error of input or output */
	"25006",					/* a standby: a promotion is going on */
	"XX001",					/* damaged data, or a damaged index: whatever was asked for */
	"XX002",
	NULL
};

/*
 * What a result means; NULL for one is a lost connection.
 */
IotmqTrouble
iotmq_trouble(const PGconn *connection, const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	const char *sqlstate;

	if (result && (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK))
		return IOTMQ_FINE;
	sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	if (!sqlstate || PQstatus(connection) != CONNECTION_OK)
		return IOTMQ_AGAIN;
	for (int i = 0; passing[i]; i++)
		if (strncmp(sqlstate, passing[i], strlen(passing[i])) == 0)
			return IOTMQ_AGAIN;
	return strcmp(sqlstate, "55000") == 0 ? IOTMQ_LOST : IOTMQ_REFUSED;
}
