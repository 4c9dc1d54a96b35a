/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The rooms of umig, from the top floor to the ground. A room includes only rooms below it.
 *
 *   main.c      the table of subcommands
 *   cmd/        one file for each subcommand: options, help, exit code
 *   migrate/    sessions with two sides: sender and receiver; the QEMU whose guest leaves
 *               (outgoing) and the QEMU that a guest enters (incoming); snapshots
 *   watch/      what people and programs see of a running umig
 *   transfer/   regions are filled from one source: demand, background, fills
 *   serve/      the page server: RAM of a file or a process as an NBD export
 *   qemu/       QMP, what umig asks of a QEMU, device state
 *   wire/       the control protocol, sockets, addresses, TLS
 *   device/     /dev/postcopy
 *   lib/        the ground floor: what knows no other room
 *
 * Each room has a header of its own name that lists its nouns. Those of this room:
 *
 *   lib.h       exit codes, the clock;  page_size: of this host
 *   options     a command line, read by a table
 *   log         messages for people, JSON lines for programs
 *   json_file   a JSON file, written as a whole
 *   digest      of a RAM image
 *   sparse      where a file has data and where holes
 *   mappings    /proc/PID/maps
 *   latency     a histogram of durations
 *   backoff     the pauses between attempts
 *   sandbox     what a helper gives up before it talks to a server
 */
#ifndef UMIG_LIB_H
#define UMIG_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define UMIG_VERSION	"0.1"

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

/* Exit codes; umig.1 documents them for the user. */
enum umig_exit {
	UMIG_OK		= 0,
	UMIG_FAILED	= 1,	/* failed, and no other code fits */
	UMIG_USAGE	= 2,	/* the command line is wrong */
	UMIG_REFUSED	= 3,	/* the request cannot work; nothing was touched */
	UMIG_INCOMPLETE	= 4,	/* stopped before the end; the same command picks up */
	UMIG_GONE	= 5,	/* the VMM's region is gone */
	UMIG_SOURCE_RUNS = 6,	/* migration failed, the source guest runs (again) */
	UMIG_UNKNOWN	= 7,	/* failed at the commit point: look at both sides */
	UMIG_MISMATCH	= 8,	/* page counts or digest differ; nothing was converted */
};

#define NS_PER_MS	1000000ULL
#define NS_PER_S	1000000000ULL

/* Nanoseconds of the monotonic clock. */
static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Milliseconds since @ns, for messages. */
static inline double ms_since(uint64_t ns)
{
	return (double)(now_ns() - ns) / 1e6;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* For poll(): until @then, rounded up, between 0 and @max_ms. */
static inline int poll_ms(uint64_t then, uint64_t now, int max_ms)
{
	return then <= now ? 0 : (int)min_u64((then - now) / NS_PER_MS + 1, (uint64_t)max_ms);
}

/* Bytes: of this host, and so of every region on it. Set before main() (page_size.c). */
extern uint64_t umig_page_size;
#define UMIG_PAGE_SIZE	umig_page_size

int signal_fd_open(void);
bool fd_is_readable(int fd);

#endif
