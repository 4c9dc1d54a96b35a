// SPDX-License-Identifier: GPL-2.0
/*
 * Demand: the pages somebody waits for.
 *
 * Every queued request becomes one wanted page (or several); up to DEMAND_DEPTH of them are read
 * at once on this thread's own connection, so eight vCPUs that fault are eight reads in flight.
 * A page that is on its way in the background already is waited for, as it will be here soon
 * (background.c sees to that), and read all the same if it is not.
 * If the connection breaks, wanted pages stay wanted and are asked for again on the next one.
 * Requests are taken from the kernel only while there is room for them: the rest waits there,
 * where a kill of umig cannot lose it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "device/dev.h"
#include "lib/log.h"
#include "lib/umig.h"
#include "transfer/transfer.h"
#include "transfer/uplink.h"

#define DEMAND_DEPTH	128
/* Of pages; the last is for what is thrown away. */
#define NR_BUFFERS	(DEMAND_DEPTH + 1)
#define REQUEST_BATCH	64

/* What a VMM touches while it loads device state comes in such pieces, aligned. */
#define NEIGHBOURS	4

/* Of what the thread polls, besides the regions. */
#define OTHER_FDS	4

/*
 * So long a page may take that background asked for before somebody wanted it: the time of a few
 * reads, and TCP's shortest retransmission timeout. What takes longer was lost, with a connection
 * that is as good as broken.
 */
#define PATIENCE_NS	200000000ULL
#define PATIENCE_READS	3

/*
 * One page that somebody waits for; free if region is NULL.
 * @ahead: nobody waits for it yet
 * @reserved: background leaves it out as long as it is being read here
 * @patience_ns: until then it may come in the background; 0: it is not on its way there
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
 * @request: requests read from a helper fd; from @next_request on not yet turned into wants
 * @split: pages of request[next_request] that have been
 * @best_ns: the shortest time that a read has taken here
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

/* Not being read any more. */
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
 * What is done for the first time takes longest: the server starts a thread, code is read from
 * disk. It shall not be while a guest waits.
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
 * There is room. One want for a page, or the second would take the page that the first has
 * reserved for one that background is receiving (place.c). Return: false: background was faster.
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
 * Pages that will be touched next. Later that is background's business; and a page that is there is
 * not recorded when the guest touches it.
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

/* Turns the requests that were read into wants, as far as there is room. */
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
		transfer_follow(d->t, r, page);
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

/* The page is there. */
static void demand_answered(struct demand *d, struct want *w)
{
	uint64_t now = now_ns();
	uint64_t ns = now > w->time_ns ? now - w->time_ns : 0;

	if (w->ahead) {
		demand_drop(d, w);
		return;
	}
	latency_add(&d->t->demand_latency, ns);
	transfer_note_fault(d->t, w->region->offset + w->page * UMIG_PAGE_SIZE, ns);
	demand_drop(d, w);
}

/* What has come in the background is wanted no more. */
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
 * Return: whether to read the page here: background does not, or takes too long. Then
 * w->patience_ns is over.
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
 * Starts the read of a page, or finds that it is not due yet, and then makes @due the earlier of
 * both (0: none). Return: 0, or -1: the connection is of no use any more.
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
		w->read.offset = w->region->offset + w->page * UMIG_PAGE_SIZE;
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

	/* First all that somebody waits for, then the others. */
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
	/* The page that is answered frees a want. */
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
		transfer_unreadable(t, w->region, w->page, 1, w->read.error);
		w->backoff_ms = backoff_next_ms(w->backoff_ms);
		w->not_before_ns = now_ns() + w->backoff_ms * 1000000ULL;
		return;
	}
	d->up.backoff_ms = 0;
	ns = now_ns() - w->read.started_ns;
	d->best_ns = d->best_ns ? min_u64(d->best_ns, ns) : ns;
	/* Claimed before it is no longer reserved: in between background would take it. */
	claimed = pageset_claim(&r->set, w->page);
	demand_ended(d, w);
	ret = fill_demand(t, r, w->page, claimed, w->read.buf, d->request, &nr);
	if (ret == -EAGAIN) {
		w->not_before_ns = now_ns() + 10000000ULL;
		return;
	}
	if (ret)
		demand_drop(d, w);
	else
		demand_answered(d, w);
	if (nr)
		demand_got_requests(d, r, (unsigned int)nr);
}

/* A connection that owes an answer for too long is as good as lost. */
static bool demand_is_stuck(struct demand *d, uint64_t now)
{
	unsigned int i;

	for (i = 0; i < DEMAND_DEPTH && d->nr_wants; i++) {
		if (d->want[i].region && d->want[i].read.in_flight &&
		    d->want[i].read.started_ns + d->t->timeout_ms * 1000000ULL < now)
			return true;
	}
	return false;
}

static void demand_notify(struct demand *d, short revents)
{
	int ret = source_notify(&d->up.source, revents);
	unsigned int i;

	/* In the same order. Of those ahead some may have become wanted by then. */
	for (i = 0; i < 2 * DEMAND_DEPTH; i++) {
		struct want *w = &d->want[i % DEMAND_DEPTH];

		if (!w->region || !w->read.completed || (w->ahead && i < DEMAND_DEPTH))
			continue;
		/* Aborted with the connection: not an answer of the source. */
		if (ret && w->read.error)
			continue;
		demand_complete(d, w);
	}
	if (ret)
		demand_disconnect(d, d->up.source.error);
}

/* One turn of the loop: wait for whatever may happen and deal with it. */
static void demand_turn(struct demand *d, struct pollfd *fds, bool released)
{
	struct transfer *t = d->t;
	struct pollfd *region_fds = fds + OTHER_FDS;
	uint64_t now, told, due = 0;
	int timeout_ms = 1000;
	unsigned int i;

	demand_collect(d);
	demand_take(d);
	if (!released)
		demand_warm_up(d);
	else if (d->up.connected)
		due = demand_submit(d);
	now = now_ns();
	if (!d->up.connected)
		due = d->up.retry_at_ns;
	if (due)
		timeout_ms = due <= now ? 0 : (int)min_u64((due - now) / 1000000 + 1, 1000);

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
	if (fds[3].revents && read(t->awaited_fd, &told, sizeof(told)) < 0)
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

static bool demand_fd_is_set(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, 0) > 0;
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
	/* A guest waits for this thread; without the privilege it runs as it is. */
	setpriority(PRIO_PROCESS, 0, -10);

	while (!demand_fd_is_set(t->stop_fd)) {
		if (!released)
			released = demand_fd_is_set(t->release_fd);
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
