/*
 * iotmq: what there is to do with topics and consumer groups, from a shell.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "verb.h"

static const Verb *const verbs[] = {
	&verb_publish, &verb_consume, &verb_bridge, &verb_webhook, &verb_archive, &verb_tail, &verb_lag, &verb_groups,
	&verb_trace, &verb_dead_letters, &verb_redrive, &verb_seek
};

#define COUNT (sizeof(verbs) / sizeof(verbs[0]))

static void
help(FILE *stream)
{
	fputs("Usage: iotmq VERB [OPTION...] [ARGUMENT...]\n"
		  "Publishes to topics of iotmq, reads them, and looks after consumer groups.\n\n", stream);
	for (size_t i = 0; i < COUNT; i++)
		fprintf(stream, "  %-14s%s\n", verbs[i]->name, verbs[i]->summary);
	fputs("\n\"iotmq VERB --help\" explains a verb.  The database is that of PGHOST, PGDATABASE and so on,\n"
		  "or of -d, -h, -p and -U, as with psql.\n", stream);
}

int
main(int argc, char **argv)
{
	argp_err_exit_status = USAGE;
	if (argc < 2)
	{
		help(stderr);
		return USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
	{
		help(stdout);
		return DONE;
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
	{
		puts("iotmq " IOTMQ_VERSION);
		return DONE;
	}
	for (size_t i = 0; i < COUNT; i++)
		if (strcmp(argv[1], verbs[i]->name) == 0)
			return verb_call(verbs[i], argc - 1, argv + 1);
	complain("there is no verb \"%s\": see iotmq --help", argv[1]);
	return USAGE;
}
