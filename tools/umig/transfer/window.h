/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How much one connection of background may have in flight: its window.
 *
 * It follows from how long reads take (the target delay of LEDBAT, RFC 6817): a link is full long
 * before its queue is, and what is in the queue comes before what the guest wants next.
 */
#ifndef UMIG_WINDOW_H
#define UMIG_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/lib.h"

/* Pages in one read, and reads in flight, at most. */
#define READ_PAGES		64ULL
#define BACKGROUND_DEPTH	16

/* Limits of a window, in pages, and how long a read may have waited in queues. */
#define WINDOW_MIN		(READ_PAGES / 2)
#define WINDOW_MAX		(BACKGROUND_DEPTH * READ_PAGES)
#define WINDOW_QUEUE_NS		10000000ULL

/**
 * struct window
 * @pages, @in_flight: how many pages may be and are in flight
 * @best_ns: the shortest time that a read of this connection has taken; 0: none has ended yet
 * @cut_ns: when @pages was reduced; reads that began before tell nothing new
 */
struct window {
	uint64_t pages;
	uint64_t in_flight;
	uint64_t best_ns;
	uint64_t cut_ns;
};

static inline void window_reset(struct window *w)
{
	*w = (struct window){ .pages = 2 * WINDOW_MIN };
}

/*
 * A read of @nr pages that began at @started_ns has ended. The window doubles in a round trip at
 * most.
 */
static inline void window_update(struct window *w, uint64_t nr, uint64_t started_ns)
{
	uint64_t now = now_ns(), ns = now - started_ns;

	if (!w->best_ns || ns < w->best_ns)
		w->best_ns = ns;
	if (ns <= w->best_ns + WINDOW_QUEUE_NS) {
		w->pages = min_u64(w->pages + nr, WINDOW_MAX);
	} else if (started_ns > w->cut_ns) {
		w->pages = max_u64(w->pages * 3 / 4, WINDOW_MIN);
		w->cut_ns = now;
	}
}

/* How many pages a read may have: two reads fit into the window, so that the link is never idle. */
static inline uint64_t window_read(const struct window *w)
{
	return min_u64(w->pages / 2, READ_PAGES);
}

static inline bool window_is_full(const struct window *w)
{
	return w->in_flight + window_read(w) > w->pages;
}

#endif
