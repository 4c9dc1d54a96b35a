// SPDX-License-Identifier: GPL-2.0
/*
 * Background: the pages that nobody has asked for yet.
 *
 * Each thread has one connection and keeps as many reads in flight on it as its window allows
 * (window.h). What it reads next is decided under the transfer's lock (order.c). Where the pages
 * land is the business of place.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backoff.h"
#include "lib/lib.h"
#include "lib/log.h"
#include "transfer/fill.h"
#include "transfer/order.h"
#include "transfer/place.h"
#include "transfer/unreadable.h"
#include "transfer/uplink.h"
#include "transfer/window.h"

_Static_assert(READ_PAGES <= PLACE_PAGES, "one bit for each page of a read");

/* How long to wait if there is nothing to read: another thread may give pages back. */
#define IDLE_MS			50
#define PAUSED_MS		100

/*
 * One read: pages that are assigned to this connection; free if region is NULL.
 * @buffer: where pages of a private region are received
 */
struct piece {
	uint8_t *buffer;
	struct region *region;
	uint64_t page;
	uint64_t nr;
	struct source_read read;
};

/* One block status query of a chunk; none is in flight if region is NULL. */
struct query {
	struct region *region;
	uint64_t chunk;
	struct source_status status;
};

struct background {
	struct transfer *t;
	struct uplink up;
	struct piece piece[BACKGROUND_DEPTH];
	unsigned int nr_in_flight;
	struct window window;
	struct query query;
	uint8_t *buffers;
};

/* Under the lock. The pages of the read have landed or were given back. */
static void background_free_piece(struct piece *p)
{
	p->region = NULL;
	p->read.in_flight = false;
	p->read.completed = false;
}

static void background_free_query(struct query *q)
{
	q->region = NULL;
	q->status.in_flight = false;
	q->status.completed = false;
}

/* The connection is gone: gives back everything that was in flight. */
static void background_give_back(struct background *b)
{
	struct transfer *t = b->t;
	struct query *q = &b->query;
	unsigned int i;

	pthread_mutex_lock(&t->lock);
	for (i = 0; i < BACKGROUND_DEPTH; i++) {
		struct piece *p = &b->piece[i];

		if (!p->region)
			continue;
		place_abandon(p->region, p->page, p->nr);
		background_free_piece(p);
	}
	if (q->region)
		q->region->chunk[q->chunk] &= ~CHUNK_ASKED;
	background_free_query(q);
	b->nr_in_flight = 0;
	window_reset(&b->window);
	transfer_read_ended(t);
	pthread_mutex_unlock(&t->lock);
}

static void background_disconnect(struct background *b, const char *why)
{
	/* First: after this nothing is received any more into what is given back. */
	uplink_lost(&b->up, why);
	background_give_back(b);
}

static int background_start_query(struct background *b, const struct order *o)
{
	struct query *q = &b->query;

	q->region = o->region;
	q->chunk = o->page / CHUNK_PAGES;
	q->region->chunk[q->chunk] |= CHUNK_ASKED;
	q->status.offset = region_page_offset(o->region, o->page);
	q->status.length = o->nr * UMIG_PAGE_SIZE;
	return source_status(&b->up.source, &q->status);
}

static int background_start_read(struct background *b, const struct order *o)
{
	struct transfer *t = b->t;
	uint64_t rate = atomic_load(&t->rate), length;
	struct piece *p = b->piece;

	while (p->region)
		p++;
	/* Fewer pages than ordered, or none, if demand has just claimed one. */
	p->nr = place_claim(o->region, o->page, o->nr);
	if (!p->nr)
		return 0;
	length = p->nr * UMIG_PAGE_SIZE;
	p->region = o->region;
	p->page = o->page;
	p->read.buf = place_buffer(p->region, p->page, p->buffer);
	b->nr_in_flight++;
	b->window.in_flight += p->nr;
	/* Time in which nothing was read is not saved up for a burst later. */
	if (rate)
		t->next_read_ns = max_u64(t->next_read_ns, now_ns()) + length * NS_PER_S / rate;
	p->read.offset = region_page_offset(p->region, p->page);
	p->read.length = (uint32_t)length;
	return source_read(&b->up.source, &p->read);
}

/* Return: for how many milliseconds there is nothing to start, -1: until something happens. */
static int background_submit(struct background *b)
{
	struct transfer *t = b->t;
	int wait_ms = -1, ret = 0;

	if (now_ns() < b->up.retry_at_ns)
		return poll_ms(b->up.retry_at_ns, now_ns(), BACKOFF_MOST_MS);
	pthread_mutex_lock(&t->lock);
	while (!ret && b->nr_in_flight < BACKGROUND_DEPTH && !window_is_full(&b->window)) {
		struct order_limits limits = {
			.max_pages = window_read(&b->window),
			.has_status = b->up.source.has_status,
			.is_asking = b->query.region,
		};
		uint64_t now = now_ns();
		struct order o;

		if (atomic_load(&t->paused)) {
			wait_ms = PAUSED_MS;
			break;
		}
		if (atomic_load(&t->rate) && t->next_read_ns > now) {
			wait_ms = poll_ms(t->next_read_ns, now, INT_MAX);
			break;
		}
		o = order_next(t, &limits);
		if (o.kind == ORDER_NOTHING) {
			wait_ms = IDLE_MS;
			break;
		}
		ret = o.kind == ORDER_QUERY ? background_start_query(b, &o) :
			background_start_read(b, &o);
	}
	pthread_mutex_unlock(&t->lock);
	if (ret) {
		background_disconnect(b, b->up.source.error);
		return 0;
	}
	return wait_ms;
}

static void background_complete_read(struct background *b, struct piece *p)
{
	struct transfer *t = b->t;
	bool came = !p->read.error;

	if (came) {
		b->up.backoff_ms = 0;
		atomic_fetch_add(&t->background_bytes, p->read.length);
		window_update(&b->window, p->nr, p->read.started_ns);
		place_land(t, p->region, p->page, p->nr, p->read.buf);
	} else {
		unreadable_add(t, p->region, p->page, p->nr, p->read.error);
		uplink_back_off(&b->up);
	}
	pthread_mutex_lock(&t->lock);
	if (!came)
		place_abandon(p->region, p->page, p->nr);
	b->nr_in_flight--;
	b->window.in_flight -= p->nr;
	background_free_piece(p);
	transfer_read_ended(t);
	pthread_mutex_unlock(&t->lock);
}

static void background_complete_query(struct background *b)
{
	struct query *q = &b->query;
	uint64_t pages = q->status.covered / UMIG_PAGE_SIZE;
	uint32_t *chunk = &q->region->chunk[q->chunk];

	/*
	 * No answer, or an answer about less than a page: all of it counts as data. That costs
	 * reads, but never contents.
	 */
	if (q->status.error || !pages)
		pages = q->status.length / UMIG_PAGE_SIZE;
	else
		fill_zero(b->t, q->region, q->status.zero, q->status.nr_zero);
	pthread_mutex_lock(&b->t->lock);
	*chunk = (*chunk & ~CHUNK_ASKED) + (uint32_t)pages;
	background_free_query(q);
	transfer_read_ended(b->t);
	pthread_mutex_unlock(&b->t->lock);
}

static void background_notify(struct background *b, short revents)
{
	int ret = source_notify(&b->up.source, revents);
	unsigned int i;

	for (i = 0; i < BACKGROUND_DEPTH; i++) {
		struct piece *p = &b->piece[i];

		/* A read that failed with the connection is no answer: it is given back below. */
		if (p->region && p->read.completed && !(ret && p->read.error))
			background_complete_read(b, p);
	}
	if (b->query.region && b->query.status.completed && !(ret && b->query.status.error))
		background_complete_query(b);
	if (ret)
		background_disconnect(b, b->up.source.error);
}

static bool background_is_stuck(struct background *b, uint64_t now)
{
	uint64_t limit = b->t->timeout_ms * NS_PER_MS;
	unsigned int i;

	for (i = 0; i < BACKGROUND_DEPTH; i++) {
		if (b->piece[i].region && b->piece[i].read.started_ns + limit < now)
			return true;
	}
	return b->query.region && b->query.status.started_ns + limit < now;
}

/* Return: false: background is to end. */
static bool background_turn(struct background *b)
{
	struct transfer *t = b->t;
	struct pollfd fds[2] = { { .fd = t->background_stop_fd, .events = POLLIN } };
	int wait_ms;

	if (b->up.connected)
		wait_ms = background_submit(b);
	/* The connection may have been lost just now. */
	if (!b->up.connected)
		wait_ms = poll_ms(b->up.retry_at_ns, now_ns(), 1000);
	uplink_poll(&b->up, &fds[1]);
	if (wait_ms < 0 || wait_ms > 1000)
		wait_ms = 1000;
	if (poll(fds, 2, wait_ms) < 0 && errno != EINTR)
		return false;
	if (fds[0].revents)
		return false;
	if (b->up.connected && fds[1].revents)
		background_notify(b, fds[1].revents);
	else if (b->up.connected && background_is_stuck(b, now_ns()))
		background_disconnect(b, "the source does not answer");
	return true;
}

void *background_thread(void *arg)
{
	struct transfer *t = arg;
	struct background *b = calloc(1, sizeof(*b));
	const size_t length = READ_PAGES * UMIG_PAGE_SIZE;
	unsigned int i;

	if (b)
		b->buffers = aligned_alloc(UMIG_PAGE_SIZE, BACKGROUND_DEPTH * length);
	if (!b || !b->buffers) {
		log_error("cannot fill in the background: no memory");
		transfer_fail(t, UMIG_FAILED);
		free(b);
		return NULL;
	}
	b->t = t;
	b->up.t = t;
	window_reset(&b->window);
	for (i = 0; i < BACKGROUND_DEPTH; i++)
		b->piece[i].buffer = b->buffers + i * length;
	do {
		uplink_connect(&b->up, true, t->background_stop_fd);
	} while (background_turn(b));
	uplink_close(&b->up);
	background_give_back(b);
	free(b->query.status.zero);
	free(b->buffers);
	free(b);
	return NULL;
}
