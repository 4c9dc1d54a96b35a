// SPDX-License-Identifier: GPL-2.0
/* umig, helper of /dev/postcopy and migration tool: the table of subcommands, global options. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "lib/lib.h"
#include "lib/log.h"

static const struct subcommand *const subcommands[] = {
	&list_subcommand,
	&pull_subcommand,
	&serve_subcommand,
	&send_subcommand,
	&recv_subcommand,
	&snapshot_subcommand,
	&restore_subcommand,
	&report_subcommand,
	&status_subcommand,
	&set_subcommand,
};

static const struct subcommand *find_subcommand(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(subcommands); i++) {
		if (!strcmp(subcommands[i]->name, name))
			return subcommands[i];
	}
	return NULL;
}

static void print_help(FILE *out)
{
	size_t i;

	fputs("usage: umig [--quiet] SUBCOMMAND [OPTIONS]\n"
	      "       umig help [SUBCOMMAND]\n"
	      "       umig --version\n\n"
	      "Helper of /dev/postcopy: brings the memory of a guest that runs already.\n\n", out);
	for (i = 0; i < ARRAY_SIZE(subcommands); i++)
		fprintf(out, "  %-8s %s\n", subcommands[i]->name, subcommands[i]->purpose);
}

int main(int argc, char **argv)
{
	const struct subcommand *sub;
	int first = 1;

	if (first < argc && !strcmp(argv[first], "--quiet")) {
		log_set_quiet(true);
		first++;
	}
	if (first >= argc) {
		print_help(stderr);
		return UMIG_USAGE;
	}
	if (!strcmp(argv[first], "--version")) {
		printf("umig %s\n", UMIG_VERSION);
		return UMIG_OK;
	}
	if (!strcmp(argv[first], "help") || !strcmp(argv[first], "--help")) {
		if (first + 1 >= argc) {
			print_help(stdout);
			return UMIG_OK;
		}
		sub = find_subcommand(argv[first + 1]);
		if (!sub) {
			log_error("help: there is no subcommand '%s'; see 'umig help'",
				  argv[first + 1]);
			return UMIG_USAGE;
		}
		fputs(sub->help, stdout);
		return UMIG_OK;
	}
	sub = find_subcommand(argv[first]);
	if (!sub) {
		log_error("there is no subcommand '%s'; see 'umig help'", argv[first]);
		return UMIG_USAGE;
	}
	return sub->run(argc - first, argv + first);
}
