// SPDX-License-Identifier: GPL-2.0
/* The pages a guest touched first: in memory, and as a JSON file beside the RAM image. */
#define _GNU_SOURCE
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "lib/json_file.h"
#include "lib/lib.h"
#include "transfer/working_set.h"

#define WORKING_SET_VERSION	1
/* A page that continues one of this many recent runs becomes part of that run. */
#define WORKING_SET_RECENT	16

static int working_set_append(struct working_set *ws, uint64_t first, uint64_t nr)
{
	if (ws->nr == ws->room) {
		size_t room = ws->room ? 2 * ws->room : 256;
		struct working_set_run *run = reallocarray(ws->run, room, sizeof(*run));

		if (!run)
			return -ENOMEM;
		ws->run = run;
		ws->room = room;
	}
	ws->run[ws->nr++] = (struct working_set_run){ .first = first, .nr = nr };
	return 0;
}

/* Adds a page that was touched. Return: 0 or -ENOMEM. */
int working_set_add(struct working_set *ws, uint64_t page)
{
	size_t i;

	for (i = ws->nr; i > 0 && i + WORKING_SET_RECENT > ws->nr; i--) {
		struct working_set_run *run = &ws->run[i - 1];

		if (page >= run->first && page - run->first < run->nr)
			return 0;
		if (page == run->first + run->nr) {
			run->nr++;
			return 0;
		}
	}
	return working_set_append(ws, page, 1);
}

uint64_t working_set_pages(const struct working_set *ws)
{
	uint64_t nr = 0;
	size_t i;

	for (i = 0; i < ws->nr; i++)
		nr += ws->run[i].nr;
	return nr;
}

static json_t *working_set_json(const struct working_set *ws, uint64_t nr_pages)
{
	json_t *runs = json_array();
	size_t i;

	for (i = 0; i < ws->nr; i++) {
		if (json_array_append_new(runs, json_pack("[I, I]", (json_int_t)ws->run[i].first,
							  (json_int_t)ws->run[i].nr))) {
			json_decref(runs);
			return NULL;
		}
	}
	return json_pack("{s:i, s:I, s:I, s:o}", "umig_working_set", WORKING_SET_VERSION,
			 "page_size", (json_int_t)UMIG_PAGE_SIZE, "pages", (json_int_t)nr_pages,
			 "runs", runs);
}

/**
 * working_set_save - write the whole file or none
 * @nr_pages: of the RAM image
 *
 * Return: 0 or -errno, having said why.
 */
int working_set_save(const struct working_set *ws, const char *path, uint64_t nr_pages)
{
	int ret = json_file_save(working_set_json(ws, nr_pages), path);

	if (ret)
		log_error("cannot write the working set %s: %s", path, strerror(-ret));
	return ret;
}

/*
 * The host that has recorded it may have had other pages: then the pages of this host that have a
 * touched page in them are read first.
 *
 * Return: 0, or -EINVAL if working_set_save() would not write this for such an image.
 */
static int working_set_parse(struct working_set *ws, json_t *o, uint64_t nr_pages)
{
	json_int_t page_size, pages, first, nr;
	uint64_t from, end;
	json_t *runs, *run;
	int version, ret = 0;
	size_t i;

	if (json_unpack(o, "{s:i, s:I, s:I, s:o}", "umig_working_set", &version, "page_size",
			&page_size, "pages", &pages, "runs", &runs) ||
	    version != WORKING_SET_VERSION || page_size < 1 || pages < 1 ||
	    (uint64_t)pages > UINT64_MAX / (uint64_t)page_size ||
	    (uint64_t)pages * (uint64_t)page_size != nr_pages * UMIG_PAGE_SIZE ||
	    !json_is_array(runs))
		return -EINVAL;
	json_array_foreach(runs, i, run) {
		if (json_unpack(run, "[I, I!]", &first, &nr) || first < 0 || nr < 1 ||
		    first >= pages || nr > pages - first)
			return -EINVAL;
		from = (uint64_t)first * (uint64_t)page_size / UMIG_PAGE_SIZE;
		end = ((uint64_t)(first + nr) * (uint64_t)page_size - 1) / UMIG_PAGE_SIZE + 1;
		ret = working_set_append(ws, from, end - from);
		if (ret)
			break;
	}
	return ret;
}

/**
 * working_set_load - read what working_set_save() has written
 * @nr_pages: of the RAM image that the working set must belong to
 *
 * Return: 0, and the caller destroys @ws; -errno, having said why.
 */
int working_set_load(struct working_set *ws, const char *path, uint64_t nr_pages)
{
	json_error_t error;
	json_t *o = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
	int ret;

	memset(ws, 0, sizeof(*ws));
	if (!o) {
		log_error("cannot read the working set %s: %s; "
			  "'umig restore --record SECONDS' makes one",
			  path, error.text);
		return -EINVAL;
	}
	ret = working_set_parse(ws, o, nr_pages);
	json_decref(o);
	if (ret) {
		log_error("%s is no working set of this RAM image; record it again", path);
		working_set_destroy(ws);
	}
	return ret;
}

void working_set_destroy(struct working_set *ws)
{
	free(ws->run);
	memset(ws, 0, sizeof(*ws));
}
