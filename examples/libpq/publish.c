/*
 * Publishes measurements, a line each: device, number of the measurement, degrees.
 *
 * A batch is one pipeline, so one round trip and one transaction, and is published until
 * there is an answer.  The number is the message's key, so that one whose answer was lost
 * is not stored twice.
 *
 *		cc -I "$(pg_config --includedir)" publish.c -o publish -lpq
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <libpq-fe.h>

#define BATCH 100

typedef struct Measurement
{
	char		device[256];
	char		number[32];
	char		payload[64];
} Measurement;

/* False if it can't be published now; what the server refuses ends the program. */
static bool
publish(PGconn *conn, Measurement *measurements, int n)
{
	bool		answered = false,
				refused = false;

	if (PQstatus(conn) != CONNECTION_OK)
		PQreset(conn);
	if (!PQenterPipelineMode(conn))
		return false;
	for (int i = 0; i < n; i++)
	{
		const char *values[] = {measurements[i].device, measurements[i].payload, measurements[i].number};

		PQsendQueryParams(conn, "SELECT iotmq.publish('telemetry', $1, $2, message_key => $3)",
						  3, NULL, values, NULL, NULL, 0);
	}
	PQpipelineSync(conn);
	for (int nulls = 0; nulls < 2 && !answered;)	/* a NULL ends each statement's results */
	{
		PGresult   *result = PQgetResult(conn);

		nulls = result ? 0 : nulls + 1;
		if (result && PQresultStatus(result) == PGRES_FATAL_ERROR)
		{
			fputs(PQresultErrorMessage(result), stderr);
			refused = true;
		}
		answered = result && PQresultStatus(result) == PGRES_PIPELINE_SYNC;
		PQclear(result);
	}
	if (answered && refused)
		exit(1);
	return PQexitPipelineMode(conn) && answered;
}

int
main(void)
{
	PGconn	   *conn = PQconnectdb("");
	Measurement measurements[BATCH];
	char		celsius[32];
	int			n;

	do
	{
		for (n = 0; n < BATCH && scanf("%255s %31s %31s", measurements[n].device, measurements[n].number, celsius) == 3; n++)
			snprintf(measurements[n].payload, sizeof(measurements[n].payload), "{\"celsius\": %s}", celsius);
		while (n > 0 && !publish(conn, measurements, n))
			sleep(1);
	} while (n == BATCH);
	PQfinish(conn);
	return 0;
}
