// SPDX-License-Identifier: GPL-2.0
/* umig: helper of /dev/postcopy and migration tool. The subcommand table and global options. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "lib/log.h"
#include "lib/umig.h"

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

#define NR_SUBCOMMANDS (sizeof(subcommands) / sizeof(subcommands[0]))

static const struct subcommand *find_subcommand(const char *name)
{
	size_t i;

	for (i = 0; i < NR_SUBCOMMANDS; i++) {
		if (!strcmp(subcommands[i]->name, name))
			return subcommands[i];
	}
	return NULL;
}

/* Says what is wrong with the command line. Return: UMIG_USAGE. */
int umig_usage(const struct subcommand *sub, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_error("%s: %s; see 'umig help %s'", sub->name, text, sub->name);
	return UMIG_USAGE;
}

int umig_parse_u64(const char *text, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-')
		return -EINVAL;
	return 0;
}

/* Bytes with an optional suffix K, M, G or T (powers of 1024). */
int umig_parse_size(const char *text, uint64_t *bytes)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	unsigned int shift = 0;
	char *end;

	errno = 0;
	*bytes = strtoull(text, &end, 0);
	if (errno || end == text || *text == '-')
		return -EINVAL;
	if (*end) {
		suffix = strchr(suffixes, *end >= 'a' ? *end - 32 : *end);
		if (!suffix || end[1])
			return -EINVAL;
		shift = 10 * (unsigned int)(suffix - suffixes + 1);
	}
	if (*bytes > (UINT64_MAX >> shift))
		return -ERANGE;
	*bytes <<= shift;
	return 0;
}

/*
 * SIGINT, SIGTERM and SIGHUP become readable on the fd returned; call it before any thread is
 * started. SIGPIPE is ignored: a lost connection is an error code here.
 */
int umig_signal_fd(void)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static void print_help(FILE *out)
{
	size_t i;

	fputs("usage: umig [--quiet] SUBCOMMAND [OPTIONS]\n"
	      "       umig help [SUBCOMMAND]\n"
	      "       umig --version\n\n"
	      "Helper of /dev/postcopy: brings the memory of a guest that runs already.\n\n", out);
	for (i = 0; i < NR_SUBCOMMANDS; i++)
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
