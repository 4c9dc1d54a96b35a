// SPDX-License-Identifier: GPL-2.0
/*
 * Demand: the pages for which somebody waits.
 *
 * Every queued request becomes one wanted page, or several. Up to DEMAND_DEPTH of them are read at
 * once on this thread's own connection, so eight vCPUs that fault are eight reads in flight.
 *
 * A page that background is already reading is waited for, because it will be here soon (window.h
 * sees to that); if it is not, demand reads it too.
 *
 * If the connection breaks, wanted pages stay wanted and are asked for again on the next one.
 * Requests are taken from the kernel only while there is room for them. The others stay in the
 * kernel, where killing umig cannot lose them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "device/device.h"
#include "lib/backoff.h"
#include "lib/lib.h"
#include "lib/log.h"
#include "transfer/fill.h"
#include "transfer/order.h"
#include "transfer/place.h"
#include "transfer/unreadable.h"
#include "transfer/uplink.h"

#define DEMAND_DEPTH	128
/* Buffers of one page; the last one is for a page that is thrown away. */
#define NR_BUFFERS	(DEMAND_DEPTH + 1)
#define REQUEST_BATCH	64

/* While it loads device state, a VMM touches memory in aligned pieces of this many pages. */
#define NEIGHBOURS	4

/* How many descriptors the thread polls, besides those of the regions. */
#define OTHER_FDS	4

/*
 * How long demand waits for a page that background is already reading: TCP's shortest
 * retransmission timeout, and the time of a few reads. A page that takes longer was lost, on a
 * connection that is as good as broken.
 */
#define PATIENCE_NS	200000000ULL
#define PATIENCE_READS	3

/*
 * One wanted page; free if region is NULL.
 * @ahead: nobody waits for the page yet
 * @reserved: background leaves the page out while it is being read here
 * @time_ns: when the fault happened
 * @not_before_ns: the source could not read the page: the next attempt
 * @patience_ns: until then background may bring the page; 0: background is not reading it
 */
struct want {
	struct region *region;
	bool ahead;
	bool reserved;
	uint64_t page;
	uint64_t time_ns;
	uint64_t not_before_ns;
	uint64_t patience_ns;
	uint64_t backoff_ms;
	struct source_read read;
};

/**
 * struct demand - the thread's own state
 * @request: requests read from a helper fd; those from @next_request on are not yet wants
 * @split: how many pages of request[next_request] are wants already
 * @best_ns: the shortest time that a read has taken
 * @warm_up: a page that is read and thrown away
 */
struct demand {
	struct transfer *t;
	struct uplink up;
	struct want want[DEMAND_DEPTH];
	unsigned int nr_wants;
	struct region *request_region;
	struct postcopy_request request[REQUEST_BATCH];
	unsigned int nr_requests;
	unsigned int next_request;
	uint64_t split;
	uint64_t best_ns;
	struct source_read warm_up;
	uint8_t *buffers;
};

/* The page is not being read any more. */
static void demand_ended(struct demand *d, struct want *w)
{
	if (w->reserved)
		transfer_unreserve(d->t, w->region, w->page);
	w->reserved = false;
	w->read.in_flight = false;
	w->read.completed = false;
}

static void demand_disconnect(struct demand *d, const char *why)
{
	unsigned int i;

	uplink_lost(&d->up, why);
	d->warm_up.in_flight = false;
	for (i = 0; i < DEMAND_DEPTH; i++)
		demand_ended(d, &d->want[i]);
}

/*
 * The first read takes longest: the server starts a thread, code is read from disk. So it happens
 * before a guest waits.
 */
static void demand_warm_up(struct demand *d)
{
	if (d->warm_up.buf || !d->up.connected)
		return;
	d->warm_up.buf = d->buffers + DEMAND_DEPTH * UMIG_PAGE_SIZE;
	d->warm_up.offset = d->t->regions[0].offset;
	d->warm_up.length = UMIG_PAGE_SIZE;
	if (source_read(&d->up.source, &d->warm_up))
		demand_disconnect(d, d->up.source.error);
}

static struct want *demand_find_want(struct demand *d, const struct region *r, uint64_t page)
{
	unsigned int i;

	for (i = 0; i < DEMAND_DEPTH && d->nr_wants; i++) {
		if (d->want[i].region == r && d->want[i].page == page)
			return &d->want[i];
	}
	return NULL;
}

static struct want *demand_free_want(struct demand *d)
{
	unsigned int i;

	for (i = 0; i < DEMAND_DEPTH; i++) {
		if (!d->want[i].region)
			return &d->want[i];
	}
	return NULL;
}

/*
 * Wants a page; the caller has made sure that there is room. A page has one want only: a second one
 * would find the page assigned by the first, think that background is receiving it, and take it
 * (place.c). Return: false: the page is present.
 */
static bool demand_want(struct demand *d, struct region *r, uint64_t page, uint64_t time_ns,
			bool ahead)
{
	struct want *w;

	if (page >= r->set.nr_pages || pageset_is_present(&r->set, page))
		return false;
	w = demand_find_want(d, r, page);
	if (!w) {
		w = demand_free_want(d);
		w->region = r;
		w->ahead = true;
		w->page = page;
		w->not_before_ns = 0;
		w->patience_ns = 0;
		w->backoff_ms = 0;
		d->nr_wants++;
	}
	if (w->ahead) {
		w->ahead = ahead;
		w->time_ns = time_ns;
	}
	return true;
}

/*
 * Wants the pages that will be touched next, until background runs and does that. Not while a
 * working set is recorded: a page that is present causes no fault, so nothing would record it.
 */
static void demand_want_neighbours(struct demand *d, struct region *r, uint64_t page)
{
	uint64_t first = page - page % NEIGHBOURS, i;

	if (atomic_load(&d->t->background_started_ns) || d->t->record)
		return;
	for (i = first; i < first + NEIGHBOURS && d->nr_wants < DEMAND_DEPTH; i++) {
		if (i != page)
			demand_want(d, r, i, 0, true);
	}
}

/* Turns the requests that were read into wants, while there is room. */
static void demand_take(struct demand *d)
{
	while (d->next_request < d->nr_requests && d->nr_wants < DEMAND_DEPTH) {
		const struct postcopy_request *req = &d->request[d->next_request];
		struct region *r = d->request_region;
		uint64_t page = (req->offset - r->offset) / UMIG_PAGE_SIZE + d->split;

		if (++d->split * UMIG_PAGE_SIZE >= req->length) {
			d->next_request++;
			d->split = 0;
		}
		if (!demand_want(d, r, page, req->time_ns, false))
			continue;
		order_follow(d->t, r, page);
		demand_want_neighbours(d, r, page);
	}
}

/* May more requests be taken from the kernel? */
static bool demand_has_room(const struct demand *d)
{
	return d->next_request == d->nr_requests && d->nr_wants < DEMAND_DEPTH;
}

/* The first @nr of d->request have been read from @r. */
static void demand_got_requests(struct demand *d, struct region *r, unsigned int nr)
{
	d->request_region = r;
	d->next_request = 0;
	d->nr_requests = nr;
	d->split = 0;
	atomic_fetch_add(&d->t->nr_requests, nr);
	demand_take(d);
}

static void demand_read_requests(struct demand *d, struct region *r)
{
	int n;

	if (d->next_request < d->nr_requests)
		return;
	n = dev_read_requests(r->helper, d->request, REQUEST_BATCH);
	if (n > 0) {
		demand_got_requests(d, r, (unsigned int)n);
	} else if (n == 0) {
		transfer_region_ended(d->t, r);
	} else if (n != -EAGAIN) {
		log_error("cannot read the requests of region %" PRIu64 ": %s", r->id,
			  strerror(-n));
		transfer_fail(d->t, UMIG_FAILED);
	}
}

static void demand_drop(struct demand *d, struct want *w)
{
	w->region = NULL;
	d->nr_wants--;
}

/* The page is present. */
static void demand_answered(struct demand *d, struct want *w)
{
	uint64_t now = now_ns();
	uint64_t ns = now > w->time_ns ? now - w->time_ns : 0;

	if (w->ahead) {
		demand_drop(d, w);
		return;
	}
	latency_add(&d->t->demand_latency, ns);
	transfer_note_fault(d->t, region_page_offset(w->region, w->page), ns);
	demand_drop(d, w);
}

/* Drops the wants whose pages background has brought. */
static void demand_collect(struct demand *d)
{
	unsigned int i;

	for (i = 0; i < DEMAND_DEPTH && d->nr_wants; i++) {
		struct want *w = &d->want[i];

		if (w->region && !w->read.in_flight &&
		    pageset_is_present(&w->region->set, w->page))
			demand_answered(d, w);
	}
}

/*
 * Return: true: demand reads the page, because background does not, or takes too long. Otherwise
 * w->patience_ns says how long to wait for background.
 */
static bool demand_reserve(struct demand *d, struct want *w, uint64_t now)
{
	w->reserved = transfer_reserve(d->t, w->region, w->page);
	if (w->reserved)
		return true;
	if (!w->patience_ns)
		w->patience_ns = now + PATIENCE_NS + PATIENCE_READS * d->best_ns;
	return w->patience_ns <= now;
}

/*
 * Starts the read of a page. If it is not due yet, @due becomes the earlier of @due and that time
 * (0: none). Return: 0, or -1: the connection is of no further use.
 */
static int demand_submit_want(struct demand *d, struct want *w, uint64_t now, uint64_t *due)
{
	uint64_t then = 0;

	if (w->not_before_ns > now) {
		then = w->not_before_ns;
	} else if (!demand_reserve(d, w, now)) {
		/* Background brings it. */
		if (w->ahead)
			demand_drop(d, w);
		else
			then = w->patience_ns;
	} else {
		w->read.offset = region_page_offset(w->region, w->page);
		w->read.length = UMIG_PAGE_SIZE;
		return source_read(&d->up.source, &w->read);
	}
	if (then)
		*due = *due ? min_u64(*due, then) : then;
	return 0;
}

/* Starts reads; returns when the next postponed one is due (or 0). */
static uint64_t demand_submit(struct demand *d)
{
	uint64_t now = now_ns(), due = 0;
	unsigned int i;

	/* First the pages for which somebody waits, then the others. */
	for (i = 0; i < 2 * DEMAND_DEPTH && d->nr_wants; i++) {
		struct want *w = &d->want[i % DEMAND_DEPTH];

		if (!w->region || w->read.in_flight || (w->ahead && i < DEMAND_DEPTH))
			continue;
		if (demand_submit_want(d, w, now, &due)) {
			demand_disconnect(d, d->up.source.error);
			return 0;
		}
	}
	return due;
}

static void demand_complete(struct demand *d, struct want *w)
{
	/* The page that is filled frees a want, so there is room for at least one request. */
	size_t nr = d->next_request == d->nr_requests ? REQUEST_BATCH : 0;
	struct region *r = w->region;
	struct transfer *t = d->t;
	bool claimed;
	uint64_t ns;
	int ret;

	if (w->ahead) {
		if (!w->read.error)
			fill_data(t, r, w->page, 1, w->read.buf);
		demand_ended(d, w);
		demand_drop(d, w);
		return;
	}
	if (w->read.error) {
		demand_ended(d, w);
		unreadable_add(t, w->region, w->page, 1, w->read.error);
		w->backoff_ms = backoff_next_ms(w->backoff_ms, BACKOFF_FIRST_MS, BACKOFF_MOST_MS);
		w->not_before_ns = now_ns() + w->backoff_ms * NS_PER_MS;
		return;
	}
	d->up.backoff_ms = 0;
	ns = now_ns() - w->read.started_ns;
	d->best_ns = d->best_ns ? min_u64(d->best_ns, ns) : ns;
	/*
	 * The claim comes before the end of the reservation: in between background would claim it.
	 */
	claimed = pageset_claim(&r->set, w->page);
	demand_ended(d, w);
	ret = place_land_demand(t, r, w->page, claimed, w->read.buf, d->request, &nr);
	if (ret == -EAGAIN) {
		w->not_before_ns = now_ns() + 10 * NS_PER_MS;
		return;
	}
	if (ret)
		demand_drop(d, w);
	else
		demand_answered(d, w);
	if (nr)
		demand_got_requests(d, r, (unsigned int)nr);
}

/* Does the connection owe an answer for too long? Then it is as good as lost. */
static bool demand_is_stuck(struct demand *d, uint64_t now)
{
	unsigned int i;

	for (i = 0; i < DEMAND_DEPTH && d->nr_wants; i++) {
		if (d->want[i].region && d->want[i].read.in_flight &&
		    d->want[i].read.started_ns + d->t->timeout_ms * NS_PER_MS < now)
			return true;
	}
	return false;
}

static void demand_notify(struct demand *d, short revents)
{
	int ret = source_notify(&d->up.source, revents);
	unsigned int i;

	/* In the same order. Some pages that were read ahead may be waited for by now. */
	for (i = 0; i < 2 * DEMAND_DEPTH; i++) {
		struct want *w = &d->want[i % DEMAND_DEPTH];

		if (!w->region || !w->read.completed || (w->ahead && i < DEMAND_DEPTH))
			continue;
		/* The read ended with the connection: the source has not answered. */
		if (ret && w->read.error)
			continue;
		demand_complete(d, w);
	}
	if (ret)
		demand_disconnect(d, d->up.source.error);
}

/* One turn of the loop: waits until something happens and deals with it. */
static void demand_turn(struct demand *d, struct pollfd *fds, bool released)
{
	struct transfer *t = d->t;
	struct pollfd *region_fds = fds + OTHER_FDS;
	uint64_t due = 0;
	eventfd_t told;
	int timeout_ms = 1000;
	unsigned int i;

	demand_collect(d);
	demand_take(d);
	if (!released)
		demand_warm_up(d);
	else if (d->up.connected)
		due = demand_submit(d);
	if (!d->up.connected)
		due = d->up.retry_at_ns;
	if (due)
		timeout_ms = poll_ms(due, now_ns(), timeout_ms);

	fds[0] = (struct pollfd){ .fd = t->stop_fd, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = released ? -1 : t->release_fd, .events = POLLIN };
	uplink_poll(&d->up, &fds[2]);
	fds[3] = (struct pollfd){ .fd = t->awaited_fd, .events = POLLIN };
	for (i = 0; i < t->nr_regions; i++) {
		bool room = demand_has_room(d);

		region_fds[i] = (struct pollfd){ .fd = t->regions[i].helper,
						 .events = room ? POLLIN : 0 };
	}
	if (poll(fds, OTHER_FDS + t->nr_regions, timeout_ms) < 0)
		return;
	if (fds[3].revents && eventfd_read(t->awaited_fd, &told))
		return;
	if (fds[2].revents)
		demand_notify(d, fds[2].revents);
	else if (d->up.connected && demand_is_stuck(d, now_ns()))
		demand_disconnect(d, "the source does not answer");
	for (i = 0; i < t->nr_regions; i++) {
		if (region_fds[i].revents & POLLIN)
			demand_read_requests(d, &t->regions[i]);
		else if (region_fds[i].revents && transfer_region_ended(t, &t->regions[i]))
			usleep(10000);
	}
}

void *demand_thread(void *arg)
{
	struct transfer *t = arg;
	struct demand *d = calloc(1, sizeof(*d));
	struct pollfd *fds = calloc(OTHER_FDS + t->nr_regions, sizeof(*fds));
	bool released = false;
	unsigned int i;

	if (d)
		d->buffers = aligned_alloc(UMIG_PAGE_SIZE, NR_BUFFERS * UMIG_PAGE_SIZE);
	if (!d || !fds || !d->buffers) {
		log_error("cannot serve faults: no memory");
		transfer_fail(t, UMIG_FAILED);
		goto out;
	}
	d->t = t;
	d->up.t = t;
	for (i = 0; i < DEMAND_DEPTH; i++)
		d->want[i].read.buf = d->buffers + i * UMIG_PAGE_SIZE;
	/* A guest waits for this thread. Without the privilege its priority stays as it is. */
	setpriority(PRIO_PROCESS, 0, -10);

	while (!fd_is_readable(t->stop_fd)) {
		if (!released)
			released = fd_is_readable(t->release_fd);
		uplink_connect(&d->up, false, t->stop_fd);
		demand_turn(d, fds, released);
	}
	uplink_close(&d->up);
out:
	if (d)
		free(d->buffers);
	free(fds);
	free(d);
	return NULL;
}
