/*
 * One statement and its result, as a table or as lines of JSON.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verb.h"

IotmqLink *
query_open(const Call *call)
{
	return iotmq_link_open(call->keywords, call->values);
}

/* Complains; the program's status. */
int
query_failed(IotmqLink *link)
{
	complain("%s", iotmq_link_error(link));
	return iotmq_link_refused(link) ? FAILED : UNREACHABLE;
}

/*
 * NULL if it failed, which was complained about; "status" is the program's then.
 */
PGresult *
query_run(IotmqLink *link, const char *sql, int count, const char *const *values, int *status)
{
	IotmqTrouble trouble;
	PGresult   *result = iotmq_link_query(link, sql, count, values, &trouble);

	if (!result)
		*status = query_failed(link);
	return result;
}

/*
 * Whether a group has nothing more to do, in one zone or (NULL) in all; false if that can't
 * be seen now.  The first two arguments of the call name it.
 */
bool
group_is_empty(const Call *call, IotmqLink *link, const char *zone)
{
	const char *values[] = {call->arguments[0], call->arguments[1], zone};
	IotmqTrouble trouble;
	PGresult   *result = iotmq_link_query(link,
										  "SELECT NOT EXISTS (SELECT FROM iotmq.consumer_lag WHERE topic = $1 AND consumer_group = $2"
										  " AND ($3::text IS NULL OR zone = $3) AND lag_messages > 0)",
										  3, values, &trouble);
	bool		empty = result && PQgetvalue(result, 0, 0)[0] == 't';

	PQclear(result);
	return empty;
}

/* Whether all values of a column are numbers, which are printed to the right. */
static bool
has_numbers(const PGresult *result, int column)
{
	for (int row = 0; row < PQntuples(result); row++)
	{
		const char *value = PQgetvalue(result, row, column);

		if (value[strspn(value, "0123456789.-")])
			return false;
	}
	return true;
}

/* How many columns of a terminal a text takes; a control character is a blank there. */
static int
width_of(const char *text)
{
	static int	utf8 = -1;
	int			width = 0;

	if (utf8 < 0)
		utf8 = pg_char_to_encoding("UTF8");
	for (; *text; text += PQmblenBounded(text, utf8))
	{
		int			columns = PQdsplen(text, utf8);

		width += columns >= 0 ? columns : 1;
	}
	return width;
}

static void
print_cell(const char *value, int width, bool right, bool last)
{
	int			blanks = width - width_of(value);

	if (right)
		printf("%*s", blanks, "");
	text_print(stdout, value, "");
	if (!right && !last)
		printf("%*s", blanks, "");
}

/*
 * Columns with a title each, two blanks between them.
 */
void
table_print(const PGresult *result)
{
	int			columns = PQnfields(result);
	int		   *widths = calloc((size_t) columns, sizeof(int));

	if (!widths)
		abort();
	for (int column = 0; column < columns; column++)
	{
		widths[column] = width_of(PQfname(result, column));
		for (int row = 0; row < PQntuples(result); row++)
		{
			int			width = width_of(PQgetvalue(result, row, column));

			if (width > widths[column])
				widths[column] = width;
		}
	}
	for (int row = -1; row < PQntuples(result); row++)
	{
		for (int column = 0; column < columns; column++)
		{
			print_cell(row < 0 ? PQfname(result, column) : PQgetvalue(result, row, column), widths[column],
					   has_numbers(result, column), column == columns - 1);
			fputs(column < columns - 1 ? "  " : "\n", stdout);
		}
	}
	free(widths);
}

/*
 * Runs what query_print prints.  Columns that are lease ids or offsets are to be text in it, so
 * that JSON has them as strings.  NULL if it failed.
 */
PGresult *
query_rows(const Call *call, IotmqLink *link, const char *sql, int count, const char *const *values, IotmqTrouble *trouble)
{
	char	   *whole = NULL;
	PGresult   *result;

	if (call->json && asprintf(&whole, "SELECT pg_catalog.row_to_json(x) FROM (%s) AS x", sql) < 0)
		abort();
	result = iotmq_link_query(link, whole ? whole : sql, count, values, trouble);
	free(whole);
	return result;
}

void
query_print(const Call *call, const PGresult *result)
{
	if (!call->json)
		table_print(result);
	else
		for (int row = 0; row < PQntuples(result); row++)
			puts(PQgetvalue(result, row, 0));
}

/* Runs it and prints what it returns; the program's status. */
int
query_show(const Call *call, const char *sql, int count, const char *const *values)
{
	IotmqLink  *link = query_open(call);
	IotmqTrouble trouble;
	PGresult   *result = query_rows(call, link, sql, count, values, &trouble);
	int			status = result ? DONE : query_failed(link);

	if (result)
		query_print(call, result);
	PQclear(result);
	iotmq_link_close(link);
	return status;
}
