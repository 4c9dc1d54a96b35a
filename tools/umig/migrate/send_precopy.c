// SPDX-License-Identifier: GPL-2.0
/*
 * umig send --precopy: pages flow while the source runs, and what it writes to meanwhile is tracked
 * (track.h). At the end only the set of these pages travels; their contents follow by postcopy.
 *
 * The kernel cannot tell and clear the set in one step, so between rounds the guest stands still
 * for a moment. With one round, the default, it does not: the set then covers all that was written
 * to since the start.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/sparse.h"
#include "lib/umig.h"
#include "migrate/send.h"

/* A disk that bypasses the host's cache writes into guest pages past the page tables. */
static int precopy_check_disks(struct send *s)
{
	json_t *list, *disk;
	size_t i;
	int ret = qmp_command(&s->qmp, "query-block", NULL, &list);

	if (ret) {
		log_error("cannot ask the source QEMU for its disks: %s", s->qmp.error);
		return ret;
	}
	json_array_foreach(list, i, disk) {
		json_t *inserted = json_object_get(disk, "inserted");
		json_t *cache = json_object_get(inserted, "cache");

		if (!json_is_true(json_object_get(cache, "direct")))
			continue;
		log_error("cannot track the source's writes: disk '%s' has cache.direct=on; "
			  "it writes into guest memory past the page tables; "
			  "migrate without --precopy",
			  json_string_value(json_object_get(disk, "device")) ?: "?");
		ret = -EOPNOTSUPP;
	}
	json_decref(list);
	return ret;
}

/*
 * What made it possible may be gone: a writer, a disk or swap that has come since is one whose
 * writes leave no mark. The guest runs. Return: 0 or -errno, having said why.
 */
int precopy_check(struct send *s)
{
	int ret = track_check(&s->track);

	return ret ? ret : precopy_check_disks(s);
}

/* Can it be done? Tracks from here on. Return: 0 or -errno, having said why. */
int precopy_start(struct send *s)
{
	uint64_t nr_words = (s->ram.size / UMIG_PAGE_SIZE + 63) / 64;
	int ret = precopy_check_disks(s);

	if (ret)
		return ret;
	s->dirty = calloc(nr_words, sizeof(*s->dirty));
	s->ranges = malloc(CONTROL_MAX_RANGES * CONTROL_RANGE_SIZE);
	if (!s->dirty || !s->ranges) {
		log_error("cannot track the source's writes: no memory");
		return -ENOMEM;
	}
	ret = track_start(&s->track, s->qmp.pid, s->ram.path, s->ram.size);
	s->tracking = !ret;
	return ret;
}

void precopy_stop(struct send *s)
{
	if (s->tracking)
		track_stop(&s->track);
	s->tracking = false;
	free(s->dirty);
	free(s->ranges);
	s->dirty = NULL;
	s->ranges = NULL;
}

struct range_writer {
	struct send *s;
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

static int precopy_send_dirty(struct send *s)
{
	struct range_writer w = { .s = s, .kind = CONTROL_DIRTY };
	uint64_t nr_pages = s->ram.size / UMIG_PAGE_SIZE, i, first = 0;
	bool inside = false;

	for (i = 0; i <= nr_pages; i++) {
		bool dirty = i < nr_pages && s->dirty[i / 64] & (1ULL << (i % 64));

		if (dirty && !inside)
			first = i;
		if (!dirty && inside)
			ranges_add(&w, first, i - first);
		inside = dirty;
	}
	ranges_flush(&w);
	return w.error;
}

/* A hole that was punched meanwhile has left no mark. */
static int precopy_send_holes(struct send *s)
{
	struct range_writer w = { .s = s, .kind = CONTROL_HOLES };
	uint64_t offset = 0;

	while (offset < s->ram.size) {
		struct sparse_extent x = sparse_next(s->ram_fd, offset, s->ram.size);

		ranges_add(&w, offset / UMIG_PAGE_SIZE, (x.data - offset) / UMIG_PAGE_SIZE);
		offset = x.end;
	}
	ranges_flush(&w);
	return w.error;
}

/* While PROGRESS comes. Return: 0 all is there or it is to switch; -errno, having said why. */
static int precopy_wait_round(struct send *s)
{
	for (;;) {
		struct control_message msg;
		char error[640], tail[48];
		int ret = send_wait_message(s, 200, &msg, error, sizeof(error));

		if (atomic_load(&s->monitor.switch_now))
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
		monitor_heard(&s->monitor, msg.present, msg.total, 0);
		progress_line(&s->progress, msg.present, msg.total, tail);
		if (msg.present == msg.total)
			return 0;
	}
}

/* The pages written to since track_clear(). Return: 0 or -errno. */
static int precopy_dirty(struct send *s, uint64_t *nr)
{
	memset(s->dirty, 0, (s->ram.size / UMIG_PAGE_SIZE + 63) / 64 * sizeof(*s->dirty));
	return track_dirty(&s->track, s->dirty, nr);
}

/* The set so far, with the guest standing still, and from then on a new one. */
static int precopy_next_round(struct send *s, uint64_t *nr_dirty)
{
	uint64_t begin = now_ns();
	int ret = 0, cont = 0;

	s->stopped = s->was_running;
	if (s->stopped)
		ret = qmp_command(&s->qmp, "stop", NULL, NULL);
	if (!ret) {
		ret = precopy_dirty(s, nr_dirty);
		if (!ret)
			ret = track_clear(&s->track);
		if (s->stopped)
			cont = qmp_command(&s->qmp, "cont", NULL, NULL);
		if (!cont)
			s->stopped = false;
	}
	if (ret || cont) {
		log_error("migration failed: the source's writes cannot be read: %s",
			  strerror(ret ? -ret : -cont));
		return ret ? ret : cont;
	}
	log_info("round %u: %" PRIu64 " pages were written to; the guest stood still for %.1f ms",
		 s->round, *nr_dirty, (double)(now_ns() - begin) / 1e6);
	/* That STOP was not the switchover. */
	ret = qemu_take_events(&s->qmp, &s->events);
	s->events.stop_ns = 0;
	if (!ret)
		ret = precopy_send_dirty(s);
	if (!ret)
		ret = link_send_type(&s->link, CONTROL_ROUND);
	if (ret) {
		log_error("migration failed: the connection to the receiver is lost: %s",
			  strerror(-ret));
		return ret;
	}
	return send_expect(s, CONTROL_READY);
}

/* From READY until it is time to switch over. Return: 0 or -errno, having said why. */
int precopy_run(struct send *s)
{
	uint64_t nr_dirty;
	int ret;

	monitor_phase(&s->monitor, "precopy");
	monitor_may_switch(&s->monitor, true);
	for (s->round = 1; ; s->round++) {
		ret = precopy_wait_round(s);
		if (ret || atomic_load(&s->monitor.switch_now) || s->round >= s->rounds)
			break;
		/* Only a look: what was written to goes on adding up. */
		ret = precopy_dirty(s, &nr_dirty);
		if (ret)
			log_error("migration failed: the source's writes cannot be read: %s",
				  strerror(-ret));
		if (ret || nr_dirty * UMIG_PAGE_SIZE <= s->switch_bytes)
			break;
		ret = precopy_next_round(s, &nr_dirty);
		if (ret)
			break;
	}
	monitor_may_switch(&s->monitor, false);
	monitor_phase(&s->monitor, "switching over");
	return ret ? ret : precopy_check(s);
}

/* The source has stopped for good: the last set. Return: 0 or -errno, having said why. */
int precopy_finish(struct send *s)
{
	uint64_t begin = now_ns();
	int ret = precopy_dirty(s, &s->nr_dirty);

	if (!ret)
		ret = precopy_send_dirty(s);
	if (!ret)
		ret = precopy_send_holes(s);
	if (ret)
		log_error("migration failed: the pages written to cannot be told: %s",
			  strerror(-ret));
	else
		log_info("%" PRIu64 " of %" PRIu64 " pages were written to and follow by postcopy; "
			 "telling which took %.1f ms",
			 s->nr_dirty, (uint64_t)(s->ram.size / UMIG_PAGE_SIZE),
			 (double)(now_ns() - begin) / 1e6);
	return ret;
}
