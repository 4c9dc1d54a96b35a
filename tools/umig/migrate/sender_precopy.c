// SPDX-License-Identifier: GPL-2.0
/*
 * umig send --precopy: pages flow while the source runs, and umig tracks which pages the source
 * writes to meanwhile (writes.h). At the end only the numbers of these pages travel; their contents
 * follow by postcopy.
 *
 * The kernel cannot read and clear the marks in one step, so between two rounds the guest stands
 * still for a moment. With one round, the default, it does not: the set covers all writes since the
 * start.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/sparse.h"
#include "lib/lib.h"
#include "lib/log.h"
#include "migrate/sender.h"

/* Tracks the source's writes from here on. Return: 0 or -errno, having said why. */
int sender_precopy_start(struct sender *s)
{
	s->ranges = malloc(CONTROL_MAX_RANGES * CONTROL_RANGE_SIZE);
	if (!s->ranges) {
		log_error("cannot track the source's writes: no memory");
		return -ENOMEM;
	}
	return writes_start(&s->writes, &s->out);
}

/* Collects ranges into frames of one kind and sends them. */
struct range_writer {
	struct sender *s;
	enum control_kind kind;
	uint32_t nr;
	int error;
};

static void ranges_flush(struct range_writer *w)
{
	if (w->nr && !w->error)
		w->error = link_send_ranges(&w->s->link, w->kind, w->s->ranges, w->nr);
	w->nr = 0;
}

static void ranges_add(struct range_writer *w, uint64_t first, uint64_t nr)
{
	if (!nr)
		return;
	if (w->nr == CONTROL_MAX_RANGES)
		ranges_flush(w);
	control_put_range(w->s->ranges + w->nr * CONTROL_RANGE_SIZE, first, nr);
	w->nr++;
}

static int precopy_send_dirty(struct sender *s)
{
	struct range_writer w = { .s = s, .kind = CONTROL_DIRTY };
	uint64_t nr_pages = s->writes.nr_pages, i, first = 0;
	bool inside = false;

	for (i = 0; i <= nr_pages; i++) {
		bool dirty = i < nr_pages && writes_has(&s->writes, i);

		if (dirty && !inside)
			first = i;
		if (!dirty && inside)
			ranges_add(&w, first, i - first);
		inside = dirty;
	}
	ranges_flush(&w);
	return w.error;
}

/* A hole that was punched meanwhile has left no mark, so all holes are sent. */
static int precopy_send_holes(struct sender *s)
{
	struct range_writer w = { .s = s, .kind = CONTROL_HOLES };
	uint64_t offset = 0;

	while (offset < s->out.ram.size) {
		struct sparse_extent x = sparse_next(s->out.ram_fd, offset, s->out.ram.size);

		ranges_add(&w, offset / UMIG_PAGE_SIZE, (x.data - offset) / UMIG_PAGE_SIZE);
		offset = x.end;
	}
	ranges_flush(&w);
	return w.error;
}

/*
 * Waits while pages flow. Return: 0 once they are all at the destination, or the user wants to
 * switch over; -errno, having said why.
 */
static int precopy_wait_round(struct sender *s)
{
	for (;;) {
		struct control_message msg;
		char error[640], tail[48];
		int ret = sender_wait_message(s, 200, &msg, error, sizeof(error));

		if (atomic_load(&s->watch.switch_now))
			return 0;
		if (ret == -ETIMEDOUT)
			continue;
		if (!ret && msg.type != CONTROL_PROGRESS) {
			snprintf(error, sizeof(error), "the receiver said %s in precopy",
				 control_type_name(msg.type));
			ret = -EPROTO;
		}
		if (ret) {
			log_error("migration failed: %s", error);
			return ret;
		}
		snprintf(tail, sizeof(tail), "precopy round %u", s->round);
		watch_heard(&s->watch, msg.present, msg.total, 0);
		progress_line(&s->progress, msg.present, msg.total, tail);
		if (msg.present == msg.total)
			return 0;
	}
}

/* Between two rounds, while the guest stands still: reads the set of pages and starts a new one. */
static int precopy_take_set(struct sender *s, uint64_t *nr_dirty)
{
	int ret = outgoing_stand_still(&s->out), cont;

	if (ret)
		return ret;
	ret = writes_read(&s->writes, nr_dirty);
	if (!ret)
		ret = writes_clear(&s->writes);
	cont = outgoing_go_on(&s->out);
	return ret ? ret : cont;
}

/* Ends a round and begins the next. Return: 0 or -errno, having said why. */
static int precopy_next_round(struct sender *s, uint64_t *nr_dirty)
{
	uint64_t begin = now_ns();
	int ret = precopy_take_set(s, nr_dirty);

	if (ret) {
		log_error("migration failed: the source's writes cannot be read: %s",
			  strerror(-ret));
		return ret;
	}
	log_info("round %u: %" PRIu64 " pages were written to; the guest stood still for %.1f ms",
		 s->round, *nr_dirty, ms_since(begin));
	/* That STOP was not the switchover. */
	ret = qemu_take_events(&s->out.qmp, &s->out.events);
	s->out.events.stop_ns = 0;
	if (!ret)
		ret = precopy_send_dirty(s);
	if (!ret)
		ret = link_send_type(&s->link, CONTROL_ROUND);
	if (ret) {
		log_error("migration failed: the connection to the receiver is lost: %s",
			  strerror(-ret));
		return ret;
	}
	return sender_expect(s, CONTROL_READY);
}

/* From READY until it is time to switch over. Return: 0 or -errno, having said why. */
int sender_precopy(struct sender *s)
{
	uint64_t nr_dirty;
	int ret;

	watch_phase(&s->watch, "precopy");
	watch_may_switch(&s->watch, true);
	for (s->round = 1; ; s->round++) {
		ret = precopy_wait_round(s);
		if (ret || atomic_load(&s->watch.switch_now) || s->round >= s->rounds)
			break;
		/* Only a look: the set goes on growing. */
		ret = writes_read(&s->writes, &nr_dirty);
		if (ret)
			log_error("migration failed: the source's writes cannot be read: %s",
				  strerror(-ret));
		if (ret || nr_dirty * UMIG_PAGE_SIZE <= s->switch_bytes)
			break;
		ret = precopy_next_round(s, &nr_dirty);
		if (ret)
			break;
	}
	watch_may_switch(&s->watch, false);
	watch_phase(&s->watch, "switching over");
	return ret ? ret : writes_check(&s->writes, &s->out);
}

/* The source has stopped for good: sends the last set. Return: 0 or -errno, having said why. */
int sender_precopy_finish(struct sender *s)
{
	uint64_t begin = now_ns();
	int ret = writes_read(&s->writes, &s->nr_dirty);

	if (!ret)
		ret = precopy_send_dirty(s);
	if (!ret)
		ret = precopy_send_holes(s);
	if (ret)
		log_error("migration failed: the set of pages written to cannot be sent: %s",
			  strerror(-ret));
	else
		log_info("%" PRIu64 " of %" PRIu64 " pages were written to and follow by postcopy; "
			 "sending their numbers took %.1f ms",
			 s->nr_dirty, s->writes.nr_pages, ms_since(begin));
	return ret;
}
