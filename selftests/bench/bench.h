/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the benchmarks share: a clock, the rows they print, userfaultfd as the rival.
 *
 * A benchmark measures ours and the rival in one process of one boot and prints a
 * row for each pair as one line of JSON; table.py makes the table. Setting up is
 * never in the time. What goes wrong ends the program: a number that was not
 * measured is not printed.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../postcopy/postcopy_test.h"

/**
 * struct row - one line of the table
 * @id: number in the table, "1", "2", "4a" ...
 * @name: what is compared
 * @unit: ours and rival are the cost of one of these, e.g. "fault"
 * @target: of ours / rival
 * @more_is_better: for rates: the target is the least ratio, not the greatest
 * @ours, @rival, @floor: by the clock; floor 0: there is none
 * @spread: of ours / rival over the rounds, half of (max - min), 0: one round
 * @target_max: not 0: the ratio shall lie between target and target_max
 */
struct row {
	const char *id;
	const char *name;
	const char *unit;
	double target;
	double target_max;
	bool more_is_better;
	double ours;
	double rival;
	double floor;
	double spread;
};

void row_print(const struct row *row);

#define ROUNDS_MAX	33

/* Sorts them. */
double median(double *values, size_t nr);
/*
 * Runs both in turns, nr times after one of ours to warm up, and prints the row: the
 * medians, and the spread of the rounds' ratios.
 */
void row_rounds(struct row *row, size_t nr, double (*ours)(void), double (*rival)(void));

/* Prints what failed and errno, and exits. */
#define must(condition)							\
	do {								\
		if (!(condition))					\
			bench_die(__FILE__, __LINE__, #condition);	\
	} while (0)
__attribute__((noreturn)) void bench_die(const char *file, int line, const char *what);

/* Nanoseconds; instructions in a VM that counts them (vm.sh --icount). */
uint64_t clock_now(void);
/* The short run that CI makes: fewer of everything. */
extern bool bench_short;
extern const char *bench_clock;
/* For the profile: a plugin of the emulator looks for these. */
void profile_start(void);
void profile_stop(void);

/* Memory whose pages are all there, not huge, page-aligned */
char *memory_populated(size_t length);
/* Anonymous memory without pages, at a multiple of 2 MiB, not huge */
char *memory_missing(size_t length);

/* A region with a helper */
struct region bench_region(size_t nr_pages);
/* Same, MAP_SHARED; *helper_memory is a mapping of the helper fd if not NULL. */
struct region bench_region_shared(size_t nr_pages, char **helper_memory);
void bench_fill(struct region *r, size_t offset, size_t length, const void *data);
void bench_present(struct region *r, size_t offset, size_t length);
void bench_zero(struct region *r, size_t offset, size_t length);

/* userfaultfd */
int uffd_open(int flags, uint64_t features);
void uffd_register(int uffd, char *start, size_t length, uint64_t mode);
void uffd_copy(int uffd, char *to, const void *from, size_t length);
void uffd_zeropage(int uffd, char *to, size_t length);
void uffd_continue(int uffd, char *to, size_t length);

/* The benchmarks */
void bench_demand(void);
void bench_bulk(void);
void bench_shared(void);
void bench_converted(void);
void bench_scale(void);
void bench_threads(void);
void bench_pull(void);

#endif
