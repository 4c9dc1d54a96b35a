/* SPDX-License-Identifier: GPL-2.0 */
/* What every part of umig shares: exit codes, the subcommand table's type, small helpers. */
#ifndef UMIG_H
#define UMIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define UMIG_VERSION	"0.1"
#define UMIG_PAGE_SIZE	4096ULL

/* Exit codes; umig.1 documents them for the user. */
enum umig_exit {
	UMIG_OK		= 0,
	UMIG_FAILED	= 1,	/* failed; nothing more precise fits */
	UMIG_USAGE	= 2,	/* the command line is wrong */
	UMIG_REFUSED	= 3,	/* what was asked for cannot work; nothing was touched */
	UMIG_INCOMPLETE	= 4,	/* stopped before the end; the same command picks up */
	UMIG_GONE	= 5,	/* the VMM's region is gone */
	UMIG_SOURCE_RUNS = 6,	/* migration failed, the source guest runs (again) */
	UMIG_UNKNOWN	= 7,	/* failed at the commit point: look at both sides */
	UMIG_MISMATCH	= 8,	/* page counts or digest differ; nothing was converted */
};

/**
 * struct subcommand - one word after "umig"
 * @name: the word
 * @purpose: one line for "umig help"
 * @help: all of "umig help NAME"
 * @run: gets argv with argv[0] = name, returns an enum umig_exit
 */
struct subcommand {
	const char *name;
	const char *purpose;
	const char *help;
	int (*run)(int argc, char **argv);
};

extern const struct subcommand list_subcommand;
extern const struct subcommand pull_subcommand;
extern const struct subcommand serve_subcommand;
extern const struct subcommand send_subcommand;
extern const struct subcommand recv_subcommand;
extern const struct subcommand snapshot_subcommand;
extern const struct subcommand restore_subcommand;
extern const struct subcommand report_subcommand;
extern const struct subcommand status_subcommand;
extern const struct subcommand set_subcommand;

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

int umig_usage(const struct subcommand *sub, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int umig_parse_size(const char *text, uint64_t *bytes);
int umig_parse_u64(const char *text, uint64_t *value);
int umig_signal_fd(void);

#endif
