/*
 * Stores the readings of a topic, each exactly once: in one transaction with its
 * acknowledgement.  What a batch leads to is one pipeline, so one round trip.
 *
 * SIGTERM ends it after the batch at hand.
 *
 *		cc -I "$(pg_config --includedir)" consume.c -o consume -lpq
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define LEASE 60				/* seconds */
#define BATCH 100
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

static volatile sig_atomic_t stopping = false;

static void
stop(int signo)
{
	(void) signo;
	stopping = true;
}

/* Puts the reason into error, which is "" if the message is done. */
static void
work(PGresult *messages, int row, char *error, size_t size)
{
	const char *celsius = PQgetvalue(messages, row, 4);

	error[0] = '\0';
	if (!PQgetisnull(messages, row, 6))		/* a bytea, as \x and hexadecimal digits */
		snprintf(error, size, "not a reading: %s", PQgetvalue(messages, row, 6));
	else if (strtod(celsius, NULL) > 1000)
		snprintf(error, size, "not plausible: %s", celsius);
	else
		sleep((unsigned) strtod(PQgetvalue(messages, row, 5), NULL));	/* stands for what takes long */
}

/*
 * Sends what the batch leads to.  Returns the index of the message whose statement was
 * refused, or -1 if all is committed, the lease is over, or the connection is.
 */
static int
store(PGconn *conn, PGresult *messages, char errors[][256])
{
	const char *lease_id = PQgetvalue(messages, 0, 0);
	int			n = PQntuples(messages);
	char		acks[BATCH * 21 + 3] = "{";
	int			statement = 0,
				refused = -1;

	if (!PQenterPipelineMode(conn))
		return -1;
	for (int i = 0; i < n; i++)
	{
		const char *offset = PQgetvalue(messages, i, 2);

		if (errors[i][0] == '\0')
		{
			const char *values[] = {PQgetvalue(messages, i, 1), offset, PQgetvalue(messages, i, 3), PQgetvalue(messages, i, 4)};

			PQsendQueryParams(conn, "INSERT INTO reading (zone, msg_offset, device_id, celsius) VALUES ($1, $2, $3, $4)",
							  4, NULL, values, NULL, NULL, 0);
			if (acks[1] != '\0')
				strcat(acks, ",");
			strcat(acks, offset);
		}
		else
		{
			const char *values[] = {lease_id, offset, errors[i]};

			PQsendQueryParams(conn, "SELECT iotmq.nack($1, ARRAY[$2::bigint], reason => $3)",
							  3, NULL, values, NULL, NULL, 0);
		}
	}
	strcat(acks, "}");
	if (acks[1] != '}')
	{
		const char *values[] = {lease_id, acks};

		PQsendQueryParams(conn, "SELECT iotmq.ack($1, $2)", 2, NULL, values, NULL, NULL, 0);
	}
	PQpipelineSync(conn);		/* commits, or rolls back */

	for (int nulls = 0; nulls < 2;)		/* a NULL ends each statement's results */
	{
		PGresult   *result = PQgetResult(conn);
		ExecStatusType status = PQresultStatus(result);

		if (result == NULL)
		{
			nulls++;
			statement++;
			continue;
		}
		nulls = 0;
		if (status == PGRES_FATAL_ERROR)
		{
			const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

			if (statement < n && state && (strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0))
			{
				refused = statement;
				snprintf(errors[refused], sizeof(errors[refused]), "%s", errors[refused][0] != '\0' ? "its reason is not UTF-8" :
						 PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
			}
			else if (state && strcmp(state, "55000") == 0)
				fputs("others have these messages, or they come again\n", stderr);
			else
				fputs(PQresultErrorMessage(result), stderr);
		}
		PQclear(result);
		if (status == PGRES_PIPELINE_SYNC)
			break;
	}
	PQexitPipelineMode(conn);
	return refused;
}

static void
handle(PGconn *conn, PGresult *messages)
{
	static char errors[BATCH][256];
	time_t		extended = time(NULL);

	for (int i = 0; i < PQntuples(messages); i++)
	{
		work(messages, i, errors[i], sizeof(errors[i]));
		if (time(NULL) > extended + LEASE / 3)
		{
			const char *lease_id = PQgetvalue(messages, 0, 0);
			PGresult   *result = PQexecParams(conn, "SELECT iotmq.extend($1, '" TEXT(LEASE) " s')",
											  1, NULL, &lease_id, NULL, NULL, 0);
			bool		lost = PQresultStatus(result) != PGRES_TUPLES_OK;

			PQclear(result);
			if (lost)
				return;			/* others have these messages, or they come again */
			extended = time(NULL);
		}
	}
	while (store(conn, messages, errors) >= 0)
		;						/* now without the one that was refused */
}

int
main(void)
{
	PGconn	   *conn = PQconnectdb("");

	signal(SIGTERM, stop);
	while (!stopping)
	{
		PGresult   *messages = PQexec(conn,
									  "SELECT lease_id, zone, msg_offset, device_id, payload->>'celsius', payload->>'pause', body"
									  " FROM iotmq.consume('telemetry', 'analytics', " TEXT(BATCH) ","
									  " invisible_for => '" TEXT(LEASE) " s', wait => '5 s')");

		bool		failed = PQresultStatus(messages) != PGRES_TUPLES_OK;

		if (failed)
			fputs(PQerrorMessage(conn), stderr);
		else if (PQntuples(messages) > 0)
			handle(conn, messages);
		PQclear(messages);
		if (failed || PQstatus(conn) != CONNECTION_OK)
		{
			sleep(1);
			PQreset(conn);			/* also from a server that is a standby now */
		}
	}
	PQfinish(conn);
	return 0;
}
