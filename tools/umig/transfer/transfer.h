/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A transfer: the regions of one VMM are filled from one source until nothing is missing.
 *
 *   transfer     life cycle, and what the threads report
 *   region       a region: helper fd, what is missing
 *   pageset      which pages are missing, and which thread works on them
 *   source       one NBD connection;  uplink: a thread's connection, made again when it breaks
 *   demand       the thread that reads the pages for which somebody waits
 *   background   the threads that read the rest;  order: what they read next;  window: how much
 *                at once
 *   place        where the pages of a read land, in a private or a shared region
 *   fill         pages become present, and are counted
 *   forget       pages become missing again
 *   unreadable   pages that the source cannot read
 *   working_set  the pages that a guest touched first
 *
 * Threads
 *   demand       has a connection of its own. It reads requests, reads their pages, several at
 *                once, and fills them. If background is already reading a page, it waits for
 *                that, but not for long.
 *   background   one connection each. A thread asks which ranges are zero, then reads what is still
 *                missing in large pieces, from the last fault on; never so much at once that the
 *                next fault would wait behind it.
 *   the caller   shows progress, waits for the end, converts.
 * A page is filled by the thread that claims it first (pageset.h). The kernel alone knows what has
 * arrived, and a new umig asks it: kill -9 costs only what was in flight.
 */
#ifndef UMIG_TRANSFER_H
#define UMIG_TRANSFER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/digest.h"
#include "lib/latency.h"
#include "lib/lib.h"
#include "transfer/region.h"
#include "transfer/source.h"
#include "transfer/working_set.h"

#define MAX_CONNECTIONS	16

enum fill_kind { FILL_DEMAND, FILL_BACKGROUND, FILL_ZERO, NR_FILL_KINDS };

/* One demand fault that was answered, for the report. */
struct fault {
	uint64_t at_ns;
	uint64_t offset;
	uint64_t ns;
};

/* How many are kept until they are printed; a report can do without the others. */
#define MAX_FAULTS	4096

/**
 * struct transfer
 * @uri, @nr_connections, @timeout_ms: set once before the threads start
 * @whole_view: nothing was present at the start, so the digest covers every page. Set once.
 * @no_digest: nobody will compare the sum of the digest, so it is not made. Set once.
 * @json: events go to stdout as JSON too. Set once.
 * @replay: background reads these pages first; NULL: none. Set once.
 *
 * @stop_fd: eventfd that ends demand; never read
 * @background_stop_fd: eventfd that ends background
 * @release_fd: eventfd that lets demand read pages; never read
 * @done_fd: eventfd, readable when the caller should look at the transfer again
 * @awaited_fd: eventfd, readable when background has ended a read that demand may wait for
 *
 * @cursor_region, @cursor_page, @cursor_back: where background reads next (order.c)
 * @next_read_ns: no background read starts before it, because of @rate
 * @awaited: demand waits for a page that background is reading
 * @lost_by, @lost_ns: the connection that noticed first that the source is lost, and when
 * @no_memory_said: the message about missing memory has been printed
 * @faults, @nr_faults: answered since the last time they were printed, with @json
 * @record: gets the pages that are waited for; NULL: nothing is recorded
 *
 * @rate: bytes per second of background reads, 0: no limit; transfer_set_rate() changes it
 * @paused: no background read is started
 * @stopping: demand or background is to end: a thread that waits for memory gives up
 * @exit_code: why the transfer cannot go on (enum umig_exit), 0 as long as it can
 * @connected: connections that have been up at least once
 * @nr_repeated: pages that came a second time, because demand did not wait for background any
 * longer
 */
struct transfer {
	const char *uri;
	unsigned int nr_connections;
	unsigned int timeout_ms;
	struct region *regions;
	unsigned int nr_regions;
	int context;
	bool whole_view;
	bool no_digest;
	bool json;
	struct working_set *replay;

	int stop_fd;
	int background_stop_fd;
	int release_fd;
	int done_fd;
	int awaited_fd;
	pthread_t demand;
	bool demand_started;
	pthread_t background[MAX_CONNECTIONS];
	unsigned int nr_background;

	/* Under lock. */
	pthread_mutex_t lock;
	unsigned int cursor_region;
	uint64_t cursor_page;
	bool cursor_back;
	uint64_t next_read_ns;
	bool awaited;
	const void *lost_by;
	uint64_t lost_ns;
	bool no_memory_said;
	struct fault *faults;
	unsigned int nr_faults;
	struct working_set *record;

	_Atomic uint64_t rate;
	_Atomic bool paused;
	_Atomic bool stopping;
	_Atomic int exit_code;
	_Atomic unsigned int connected;
	_Atomic uint64_t pages[NR_FILL_KINDS];
	_Atomic uint64_t background_bytes;
	_Atomic uint64_t digest_zero;
	_Atomic uint64_t digest_data;
	_Atomic uint64_t digest_sum;
	_Atomic uint64_t nr_requests;
	_Atomic uint64_t nr_reconnects;
	_Atomic uint64_t nr_repeated;
	struct latency demand_latency;
	uint64_t started_ns;
	_Atomic uint64_t background_started_ns;
	_Atomic uint64_t complete_ns;
};

int transfer_init(struct transfer *t, const char *uri);
int transfer_attach(struct transfer *t, int context, const uint64_t *ids, unsigned int nr_ids);
int transfer_start_demand(struct transfer *t);
void transfer_release(struct transfer *t);
int transfer_start_background(struct transfer *t);
void transfer_stop_background(struct transfer *t);
void transfer_stop(struct transfer *t);
void transfer_destroy(struct transfer *t);
int transfer_convert(struct transfer *t);
void transfer_set_rate(struct transfer *t, uint64_t rate);
void transfer_stop_recording(struct transfer *t);

bool transfer_is_complete(const struct transfer *t);
int transfer_exit_code(const struct transfer *t);
uint64_t transfer_total_pages(const struct transfer *t);
uint64_t transfer_present_pages(const struct transfer *t);
bool transfer_agrees(const struct transfer *t, const struct digest *want, char *why, size_t size);
void transfer_fail(struct transfer *t, int exit_code);

/* For the threads. */
bool transfer_fits(struct transfer *t, const struct source *s);
bool transfer_region_ended(struct transfer *t, struct region *r);
void transfer_source_lost(struct transfer *t, const void *who, const char *why);
void transfer_source_back(struct transfer *t, const void *who);
bool transfer_reserve(struct transfer *t, struct region *r, uint64_t page);
void transfer_unreserve(struct transfer *t, struct region *r, uint64_t page);
void transfer_read_ended(struct transfer *t);
void transfer_note_fault(struct transfer *t, uint64_t offset, uint64_t ns);
void *demand_thread(void *arg);
void *background_thread(void *arg);

#endif
