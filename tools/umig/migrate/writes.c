// SPDX-License-Identifier: GPL-2.0
/* The pages that an outgoing guest writes to while they are copied. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "migrate/writes.h"

/* A disk that bypasses the host's cache writes into guest pages past the page tables. */
static int writes_check_disks(struct outgoing *o)
{
	json_t *list, *disk;
	size_t i;
	int ret = qmp_command(&o->qmp, "query-block", NULL, &list);

	if (ret) {
		log_error("cannot ask the source QEMU for its disks: %s", o->qmp.error);
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
 * Another process, a disk or swap that has come since writes_start() may write without leaving a
 * mark. The guest runs. Return: 0 or -errno, having said why.
 */
int writes_check(const struct writes *w, struct outgoing *o)
{
	int ret = track_check(&w->track);

	return ret ? ret : writes_check_disks(o);
}

/*
 * Checks that tracking is possible, and tracks from here on. Return: 0 or -errno, having said why.
 */
int writes_start(struct writes *w, struct outgoing *o)
{
	int ret = writes_check_disks(o);

	if (ret)
		return ret;
	w->nr_pages = o->ram.size / UMIG_PAGE_SIZE;
	w->bitmap = calloc((w->nr_pages + 63) / 64, sizeof(*w->bitmap));
	if (!w->bitmap) {
		log_error("cannot track the source's writes: no memory");
		return -ENOMEM;
	}
	ret = track_start(&w->track, o->qmp.pid, o->ram.path, o->ram.size);
	w->on = !ret;
	return ret;
}

/* From here on every page counts as clean. Return: 0 or -errno. */
int writes_clear(struct writes *w)
{
	return track_clear(&w->track);
}

/* The pages written to since writes_clear(). Return: 0 or -errno. */
int writes_read(struct writes *w, uint64_t *nr_dirty)
{
	memset(w->bitmap, 0, (w->nr_pages + 63) / 64 * sizeof(*w->bitmap));
	return track_dirty(&w->track, w->bitmap, nr_dirty);
}

void writes_stop(struct writes *w)
{
	if (w->on)
		track_stop(&w->track);
	w->on = false;
	free(w->bitmap);
	w->bitmap = NULL;
}
