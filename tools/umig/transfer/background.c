// SPDX-License-Identifier: GPL-2.0
/*
 * Background: the pages nobody has asked for yet.
 *
 * Work is handed out under the transfer's lock: first the working set of an earlier run, if there
 * is one, then from one cursor that demand moves to just behind the last fault, so what a guest is
 * likely to touch next comes first. Before anything in a chunk is read, its block status is asked:
 * zeros need no read. A run is as long as what is missing, at most READ_PAGES.
 *
 * How much each connection has in flight, its window, follows from how long reads take (the target
 * delay of LEDBAT, RFC 6817): a link is full long before its queue is, and what is in the queue
 * comes before what the guest wants next.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "device/dev.h"
#include "lib/log.h"
#include "lib/umig.h"
#include "transfer/place.h"
#include "transfer/transfer.h"
#include "transfer/uplink.h"

#define BACKGROUND_DEPTH	16
#define READ_PAGES		64ULL

/* A connection's window in pages, and how much of its reads' time may be waiting in queues. */
#define WINDOW_MIN		(READ_PAGES / 2)
#define WINDOW_MAX		(BACKGROUND_DEPTH * READ_PAGES)
#define QUEUE_NS		10000000ULL

_Static_assert(READ_PAGES <= PLACE_PAGES, "a bit for each page of a read");

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

/* One block status query of a chunk. */
struct query {
	struct region *region;
	uint64_t chunk;
	struct source_status status;
};

/*
 * @pages, @in_flight: how many pages may be and are in flight
 * @best_ns: the shortest time that a read of this connection has taken, 0: none is back
 * @cut_ns: when @pages was reduced; reads that began before tell nothing new
 */
struct window {
	uint64_t pages;
	uint64_t in_flight;
	uint64_t best_ns;
	uint64_t cut_ns;
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

enum pick { PICK_NONE, PICK_READ, PICK_QUERY };

static void window_reset(struct window *w)
{
	*w = (struct window){ .pages = 2 * WINDOW_MIN };
}

/* A read of @nr pages that began at @started_ns is back: up to twice the window a round trip. */
static void window_update(struct window *w, uint64_t nr, uint64_t started_ns)
{
	uint64_t now = now_ns(), ns = now - started_ns;

	if (!w->best_ns || ns < w->best_ns)
		w->best_ns = ns;
	if (ns <= w->best_ns + QUEUE_NS) {
		w->pages = min_u64(w->pages + nr, WINDOW_MAX);
	} else if (started_ns > w->cut_ns) {
		w->pages = max_u64(w->pages * 3 / 4, WINDOW_MIN);
		w->cut_ns = now;
	}
}

/* How many pages a read may have: two fit into the window, so that the link is never idle. */
static uint64_t window_read(const struct window *w)
{
	return min_u64(w->pages / 2, READ_PAGES);
}

static bool window_is_full(const struct window *w)
{
	return w->in_flight + window_read(w) > w->pages;
}

static uint64_t chunk_end(const struct region *r, uint64_t chunk)
{
	return min_u64((chunk + 1) * CHUNK_PAGES, r->set.nr_pages);
}

/* Up to which page of this chunk is it known which are zero? */
static uint64_t background_known(const struct background *b, const struct region *r,
				 uint64_t chunk)
{
	if (!b->up.source.has_status)
		return chunk_end(r, chunk);
	return chunk * CHUNK_PAGES + (r->chunk[chunk] & ~CHUNK_ASKED);
}

/*
 * The rest of the chunk is not known. One whose status another connection asks for is left out: it
 * will be the other's work or come round again.
 */
static enum pick background_pick_query(const struct background *b, const struct region *r,
				       uint64_t chunk, uint64_t *page, uint64_t *nr)
{
	if (r->chunk[chunk] & CHUNK_ASKED || b->query.region)
		return PICK_NONE;
	*page = background_known(b, r, chunk);
	*nr = chunk_end(r, chunk) - *page;
	return PICK_QUERY;
}

/* The next work at or after page @from of @r, before @end. */
static enum pick background_pick_in(struct background *b, struct region *r, uint64_t from,
				    uint64_t end, uint64_t *page, uint64_t *nr)
{
	while (from < end) {
		uint64_t index = pageset_find(&r->set, from, end), chunk, known;

		if (index >= end)
			return PICK_NONE;
		chunk = index / CHUNK_PAGES;
		known = background_known(b, r, chunk);
		if (index < known) {
			*page = index;
			*nr = pageset_run(&r->set, index,
					  min_u64(window_read(&b->window), known - index));
			return PICK_READ;
		}
		if (background_pick_query(b, r, chunk, page, nr) == PICK_QUERY)
			return PICK_QUERY;
		from = chunk_end(r, chunk);
	}
	return PICK_NONE;
}

/* The next work before page @end of @r, the nearest pages first. */
static enum pick background_pick_back(struct background *b, struct region *r, uint64_t end,
				      uint64_t *page, uint64_t *nr)
{
	uint64_t chunk, first;

	end = pageset_find_back(&r->set, end);
	if (!end)
		return PICK_NONE;
	chunk = (end - 1) / CHUNK_PAGES;
	first = chunk * CHUNK_PAGES;
	if (end > background_known(b, r, chunk))
		return background_pick_query(b, r, chunk, page, nr);
	*nr = pageset_run_back(&r->set, end, min_u64(window_read(&b->window), end - first));
	*page = end - *nr;
	return PICK_READ;
}

/*
 * Called under the lock. The next pages of the working set that nobody has or reads: they are few
 * and wanted soon, so nobody asks first whether they are zero.
 */
static enum pick background_pick_replay(struct background *b, struct region **region,
					uint64_t *page, uint64_t *nr)
{
	struct transfer *t = b->t;
	struct working_set *ws = t->replay;
	unsigned int i;

	for (; ws->next < ws->nr; ws->next++) {
		const struct working_set_run *run = &ws->run[ws->next];

		for (i = 0; i < t->nr_regions; i++) {
			struct region *r = &t->regions[i];
			uint64_t base = r->offset / UMIG_PAGE_SIZE;
			uint64_t from = max_u64(run->first, base) - base;
			uint64_t end = run->first + run->nr;

			end = end < base ? 0 : min_u64(end - base, r->set.nr_pages);
			if (from < end)
				from = pageset_find(&r->set, from, end);
			if (from >= end)
				continue;
			*region = r;
			*page = from;
			*nr = pageset_run(&r->set, from,
					  min_u64(window_read(&b->window), end - from));
			return PICK_READ;
		}
	}
	return PICK_NONE;
}

/*
 * Called under the lock. After the working set it begins at the cursor, goes back from there if a
 * guest does, or else once round all regions.
 */
static enum pick background_pick(struct background *b, struct region **region, uint64_t *page,
				 uint64_t *nr)
{
	struct transfer *t = b->t;
	unsigned int i;

	if (t->replay && background_pick_replay(b, region, page, nr) == PICK_READ)
		return PICK_READ;
	if (t->cursor_back) {
		enum pick pick;

		*region = &t->regions[t->cursor_region];
		pick = background_pick_back(b, *region, t->cursor_page, page, nr);
		if (pick == PICK_READ)
			t->cursor_page = *page;
		if (pick != PICK_NONE)
			return pick;
	}
	for (i = 0; i <= t->nr_regions; i++) {
		unsigned int at = (t->cursor_region + i) % t->nr_regions;
		struct region *r = &t->regions[at];
		uint64_t from = i ? 0 : t->cursor_page;
		uint64_t end = i == t->nr_regions ? t->cursor_page : r->set.nr_pages;
		enum pick pick = background_pick_in(b, r, from, end, page, nr);

		if (pick == PICK_NONE)
			continue;
		*region = r;
		if (pick == PICK_READ) {
			t->cursor_region = at;
			t->cursor_page = *page + *nr;
			t->cursor_back = false;
		}
		return pick;
	}
	return PICK_NONE;
}

/* Under the lock. @came: the pages were handed over to fill.c; otherwise they are free again. */
static void background_free_piece(struct piece *p, bool came)
{
	if (!p->region->memory)
		pageset_give_back(&p->region->set, p->page, p->nr);
	else if (!came)
		place_abandon(p->region, p->page, p->nr);
	p->region = NULL;
	p->read.in_flight = false;
	p->read.completed = false;
}

static void background_give_back(struct background *b)
{
	struct transfer *t = b->t;
	unsigned int i;

	pthread_mutex_lock(&t->lock);
	for (i = 0; i < BACKGROUND_DEPTH; i++) {
		if (b->piece[i].region)
			background_free_piece(&b->piece[i], false);
	}
	if (b->query.region)
		b->query.region->chunk[b->query.chunk] &= ~CHUNK_ASKED;
	b->query.region = NULL;
	b->query.status.in_flight = false;
	b->query.status.completed = false;
	b->nr_in_flight = 0;
	window_reset(&b->window);
	transfer_read_ended(t);
	pthread_mutex_unlock(&t->lock);
}

static void background_disconnect(struct background *b, const char *why)
{
	/* First: then nothing is received any more into what is given back. */
	uplink_lost(&b->up, why);
	background_give_back(b);
}

static int background_start_query(struct background *b, struct region *r, uint64_t page,
				  uint64_t nr)
{
	b->query.region = r;
	b->query.chunk = page / CHUNK_PAGES;
	r->chunk[b->query.chunk] |= CHUNK_ASKED;
	b->query.status.offset = r->offset + page * UMIG_PAGE_SIZE;
	b->query.status.length = nr * UMIG_PAGE_SIZE;
	return source_status(&b->up.source, &b->query.status);
}

static int background_start_read(struct background *b, struct region *r, uint64_t page,
				 uint64_t nr)
{
	struct transfer *t = b->t;
	uint64_t rate = atomic_load(&t->rate), length = nr * UMIG_PAGE_SIZE;
	struct piece *p = b->piece;

	while (p->region)
		p++;
	p->region = r;
	p->page = page;
	p->nr = nr;
	p->read.buf = r->memory ? r->memory + page * UMIG_PAGE_SIZE : p->buffer;
	b->nr_in_flight++;
	b->window.in_flight += nr;
	/* Idle time is not saved up for a burst later. */
	if (rate)
		t->next_read_ns = max_u64(t->next_read_ns, now_ns()) +
			length * 1000000000ULL / rate;
	p->read.offset = r->offset + page * UMIG_PAGE_SIZE;
	p->read.length = (uint32_t)length;
	return source_read(&b->up.source, &p->read);
}

/* Return: for how many milliseconds there is nothing to start, -1: until something happens. */
static int background_submit(struct background *b)
{
	struct transfer *t = b->t;
	int wait_ms = -1, ret = 0;

	if (now_ns() < b->up.retry_at_ns)
		return (int)min_u64((b->up.retry_at_ns - now_ns()) / 1000000 + 1, 5000);
	pthread_mutex_lock(&t->lock);
	while (!ret && b->nr_in_flight < BACKGROUND_DEPTH && !window_is_full(&b->window)) {
		struct region *r = NULL;
		uint64_t page = 0, nr = 0, now = now_ns();
		enum pick pick;

		if (atomic_load(&t->paused)) {
			wait_ms = 100;
			break;
		}
		if (atomic_load(&t->rate) && t->next_read_ns > now) {
			wait_ms = (int)((t->next_read_ns - now) / 1000000) + 1;
			break;
		}
		pick = background_pick(b, &r, &page, &nr);
		if (pick == PICK_NONE) {
			/* What others have in flight may be given back. */
			wait_ms = 50;
			break;
		}
		if (pick == PICK_QUERY) {
			ret = background_start_query(b, r, page, nr);
			continue;
		}
		/* Demand may have claimed it this moment. */
		if (r->memory)
			nr = place_claim(r, page, nr);
		else
			pageset_assign(&r->set, page, nr);
		if (nr)
			ret = background_start_read(b, r, page, nr);
	}
	pthread_mutex_unlock(&t->lock);
	if (ret) {
		background_disconnect(b, b->up.source.error);
		return 0;
	}
	return wait_ms;
}

static void background_read_failed(struct background *b, const struct piece *p)
{
	transfer_unreadable(b->t, p->region, p->page, p->nr, p->read.error);
	uplink_back_off(&b->up);
}

static void background_fill(struct transfer *t, struct piece *p)
{
	struct region *r = p->region;
	uint64_t mine;

	if (!r->memory) {
		fill_data(t, r, p->page, p->nr, p->read.buf);
		return;
	}
	pthread_mutex_lock(&t->lock);
	mine = place_finish(r, p->page, p->nr);
	pthread_mutex_unlock(&t->lock);
	fill_placed(t, r, p->page, p->nr, mine);
}

static void background_complete_read(struct background *b, struct piece *p)
{
	struct transfer *t = b->t;

	if (p->read.error) {
		background_read_failed(b, p);
	} else {
		b->up.backoff_ms = 0;
		atomic_fetch_add(&t->background_bytes, p->read.length);
		window_update(&b->window, p->nr, p->read.started_ns);
		background_fill(t, p);
	}
	pthread_mutex_lock(&t->lock);
	b->nr_in_flight--;
	b->window.in_flight -= p->nr;
	background_free_piece(p, !p->read.error);
	transfer_read_ended(t);
	pthread_mutex_unlock(&t->lock);
}

static void background_complete_query(struct background *b)
{
	struct query *q = &b->query;
	uint64_t pages = q->status.covered / UMIG_PAGE_SIZE;
	uint32_t *chunk = &q->region->chunk[q->chunk];

	/*
	 * No answer, or one about less than a page: treat all of it as data. That costs reads,
	 * never contents.
	 */
	if (q->status.error || !pages)
		pages = q->status.length / UMIG_PAGE_SIZE;
	else
		fill_zero(b->t, q->region, q->status.zero, q->status.nr_zero);
	pthread_mutex_lock(&b->t->lock);
	*chunk = (*chunk & ~CHUNK_ASKED) + (uint32_t)pages;
	q->region = NULL;
	q->status.in_flight = false;
	q->status.completed = false;
	transfer_read_ended(b->t);
	pthread_mutex_unlock(&b->t->lock);
}

static void background_notify(struct background *b, short revents)
{
	int ret = source_notify(&b->up.source, revents);
	unsigned int i;

	for (i = 0; i < BACKGROUND_DEPTH; i++) {
		struct piece *p = &b->piece[i];

		/* Failed together with the connection: given back below, not an answer. */
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
	uint64_t limit = b->t->timeout_ms * 1000000ULL;
	unsigned int i;

	for (i = 0; i < BACKGROUND_DEPTH; i++) {
		if (b->piece[i].region && b->piece[i].read.started_ns + limit < now)
			return true;
	}
	return b->query.region && b->query.status.started_ns + limit < now;
}

static bool background_turn(struct background *b)
{
	struct transfer *t = b->t;
	struct pollfd fds[2] = { { .fd = t->background_stop_fd, .events = POLLIN } };
	uint64_t now;
	int wait_ms = -1;

	if (b->up.connected)
		wait_ms = background_submit(b);
	now = now_ns();
	if (!b->up.connected)
		wait_ms = b->up.retry_at_ns <= now ? 0 :
			(int)min_u64((b->up.retry_at_ns - now) / 1000000 + 1, 1000);
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
