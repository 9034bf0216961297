/*
 * iotmq redrive: gives dead letters to their group again.
 */

#include <stdio.h>
#include <stdlib.h>

#include "array.h"
#include "verb.h"

enum
{
	DRY = 'n'
};

static bool dry_run;

static const struct argp_option options[] = {
	{"dry-run", DRY, NULL, 0, "Only say how many there are", 0},
	{NULL}
};

static bool
option(int key, const char *value)
{
	(void) key;
	(void) value;
	dry_run = true;
	return true;
}

static int
run(const Call *call)
{
	Array		array;
	char	   *ids;
	int			status;

	iotmq_array_begin(&array);
	for (int i = 2; i < call->count; i++)
		iotmq_array_add(&array, call->arguments[i]);
	ids = iotmq_array_end(&array);
	status = query_show(call, "SELECT iotmq.redrive($1, $2, $3::bigint[], dry_run => $4::boolean) AS redriven", 4,
						(const char *const[])
						{
							call->arguments[0], call->arguments[1], array.count > 0 ? ids : NULL, dry_run ? "t" : "f"
						});
	free(ids);
	return status;
}

const Verb	verb_redrive = {
	.name = "redrive",
	.arguments = "TOPIC GROUP [ID...]",
	.least = 2,
	.most = -1,
	.summary = "Gives dead letters to their group again, all or those named.",
	.doc = "Their attempts start again.  The ids are the first column of \"iotmq dead-letters\".",
	.options = options,
	.option = option,
	.run = run
};
