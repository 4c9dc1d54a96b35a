/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A transfer: the regions of one VMM are filled from one source until they are whole.
 *
 * Threads
 *   demand       (demand.c) one connection of its own. Reads requests, reads their pages, several
 *                at once, and fills them. For a page that is on its way in the background it
 *                waits, but not for long.
 *   background   (background.c) one connection each. Asks which ranges are zero, then reads what
 *                is still missing in large pieces, from the last fault on; never so much at once
 *                that the next fault would wait behind it.
 *   the caller   shows progress, waits for the end, converts.
 * A page is filled by the thread that claims it first (pageset.h); in a shared region background
 * receives it in place (place.h). Nothing is kept outside the kernel that a new umig could not ask
 * it for: kill -9 costs what was in flight.
 */
#ifndef UMIG_TRANSFER_H
#define UMIG_TRANSFER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/digest.h"
#include "lib/latency.h"
#include "transfer/pageset.h"
#include "transfer/source.h"
#include "transfer/working_set.h"

/* How much one block status query asks about. */
#define CHUNK_PAGES	16384ULL

#define MAX_CONNECTIONS	16

/* Of so many faults it is remembered where they were: some for each of a few vCPUs. */
#define FOLLOW_FAULTS	16

/* Bit 31 of a chunk's entry: a query is in flight; the rest: how many of its pages are known. */
#define CHUNK_ASKED	(1U << 31)

/*
 * @data, @sum: for transfer_forget(), NULL unless transfer_keep_sums() was called.
 * @memory: of a shared region, for place.c; NULL if it is private
 * @fault, @nr_faults: pages of the last ones, and how many there have been, for transfer_follow()
 */
struct region {
	_Atomic uint64_t *data;
	uint64_t id;
	uint64_t offset;
	uint64_t length;
	int helper;
	uint8_t *memory;
	struct pageset set;
	uint32_t *chunk;
	uint64_t *sum;
	uint64_t fault[FOLLOW_FAULTS];
	uint64_t nr_faults;
};

enum fill_kind { FILL_DEMAND, FILL_BACKGROUND, FILL_ZERO, NR_FILL_KINDS };

/* One demand fault that was answered, for the report. */
struct fault {
	uint64_t at_ns;
	uint64_t offset;
	uint64_t ns;
};

/* So many are kept until they are printed; a report can do without some. */
#define MAX_FAULTS	4096

/**
 * struct transfer
 * @uri, @nr_connections, @timeout_ms: set once before the threads start
 * @rate: bytes per second of background reads, 0: no limit; transfer_set_rate() changes it
 * @paused: no background reads are started
 * @faults: answered since the last time they were printed, with @json
 * @replay: background reads these pages first, NULL: none. Set once.
 * @record: pages are added to it as they are waited for, NULL: not. Set before the threads start.
 * @lost_by, @lost_ns: who noticed that the source is lost, and when
 * @whole_view: nothing was present at the start, so the digest covers every page. Set once.
 * @no_digest: nobody will compare the digest's sum, so it is not made. Set once.
 * @json: events go to stdout as JSON too. Set once.
 * @stop_fd: eventfd, readable once demand is to end; never read
 * @background_stop_fd: eventfd, readable once background is to end
 * @stopping: one of the two; who waits for memory gives up
 * @release_fd: eventfd, readable once demand may read pages; never read
 * @done_fd: eventfd, readable when something happened that transfer_wait() waits for
 * @awaited: demand waits for a page that is on its way in the background
 * @awaited_fd: eventfd, readable when background has ended a read that demand may wait for
 * @nr_repeated: pages that came a second time: demand had waited for background long enough
 * @connected: background and demand connections that have been up at least once
 * @exit_code: why the transfer cannot go on (enum umig_exit), 0 as long as it can
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
int transfer_keep_sums(struct transfer *t);
int transfer_forget(struct transfer *t, struct region *r, const struct postcopy_range *ranges,
		    size_t nr);
void transfer_stop(struct transfer *t);
bool transfer_reserve(struct transfer *t, struct region *r, uint64_t page);
void transfer_unreserve(struct transfer *t, struct region *r, uint64_t page);
void transfer_read_ended(struct transfer *t);
void transfer_stop_recording(struct transfer *t);
void transfer_set_rate(struct transfer *t, uint64_t rate);
void transfer_destroy(struct transfer *t);
bool transfer_is_complete(const struct transfer *t);
int transfer_convert(struct transfer *t);
void transfer_fail(struct transfer *t, int exit_code);
void transfer_digest(const struct transfer *t, struct digest *out);
uint64_t transfer_total_pages(const struct transfer *t);
uint64_t transfer_present_pages(const struct transfer *t);
uint64_t transfer_unreadable_pages(struct transfer *t);
bool transfer_fits(struct transfer *t, const struct source *s);

/* For the threads. */
bool transfer_region_ended(struct transfer *t, struct region *r);
void transfer_lost(struct transfer *t, const void *who, const char *why);
void transfer_back(struct transfer *t, const void *who);
void transfer_unreadable(struct transfer *t, struct region *r, uint64_t page, uint64_t nr,
			 int error);
void transfer_follow(struct transfer *t, struct region *r, uint64_t page);
void transfer_note_fault(struct transfer *t, uint64_t offset, uint64_t ns);
int fill_data(struct transfer *t, struct region *r, uint64_t page, uint64_t nr,
	      const uint8_t *data);
int fill_placed(struct transfer *t, struct region *r, uint64_t page, uint64_t nr, uint64_t mine);
int fill_demand(struct transfer *t, struct region *r, uint64_t page, bool claimed,
		const uint8_t *data, struct postcopy_request *requests, size_t *nr_requests);
int fill_zero(struct transfer *t, struct region *r, const struct postcopy_range *ranges,
	      size_t nr);
void *demand_thread(void *arg);
void *background_thread(void *arg);

/* Bounded back-off, 100 ms ... 5 s. */
static inline uint64_t backoff_next_ms(uint64_t ms)
{
	return ms ? (ms * 2 > 5000 ? 5000 : ms * 2) : 100;
}

#endif
