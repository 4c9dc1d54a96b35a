// SPDX-License-Identifier: GPL-2.0
/* A region that this umig is the helper of: attached, asked what it misses, let go. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "device/device.h"
#include "lib/lib.h"
#include "lib/log.h"
#include "transfer/place.h"
#include "transfer/region.h"

/* Asks the module which pages are present. Return: 0 or -errno. */
static int region_query(struct region *r)
{
	uint64_t *bitmap = calloc(r->set.nr_words, sizeof(*bitmap));
	int ret;

	if (!bitmap)
		return -ENOMEM;
	ret = dev_query(r->helper, r->offset, r->length, bitmap);
	if (!ret)
		pageset_load(&r->set, bitmap);
	free(bitmap);
	return ret;
}

static void region_attach_failed(uint64_t id, int error)
{
	const char *advice = "";

	if (error == -EBUSY)
		advice = "; another helper is attached, see 'umig list'";
	else if (error == -EPERM)
		advice = "; run umig as the VMM's user or as root";
	else if (error == -ENOENT || error == -ESRCH)
		advice = "; the region is gone, see 'umig list'";
	log_error("cannot attach to region %" PRIu64 ": %s%s", id, strerror(-error), advice);
}

/**
 * region_attach - become the helper of a region and learn what it misses
 * @r: zeroed, but for helper, which is -1; region_detach() undoes it, also after a failure
 *
 * Return: 0 or -errno, having said why.
 */
int region_attach(struct region *r, int context, uint64_t id)
{
	struct postcopy_region_info info;
	uint64_t nr_chunks;
	int ret;

	r->id = id;
	r->helper = dev_attach(context, id);
	if (r->helper < 0) {
		ret = r->helper;
		goto err;
	}
	ret = dev_region_info(r->helper, 0, &info);
	if (ret)
		goto err;
	r->offset = info.out_offset;
	r->length = info.out_length;
	ret = pageset_init(&r->set, r->length / UMIG_PAGE_SIZE);
	if (ret)
		goto err;
	nr_chunks = (r->set.nr_pages + CHUNK_PAGES - 1) / CHUNK_PAGES;
	r->chunk = calloc(nr_chunks, sizeof(*r->chunk));
	ret = r->chunk ? region_query(r) : -ENOMEM;
	if (!ret && info.out_region_flags & POSTCOPY_REGION_SHARED)
		ret = place_map(r);
	if (ret)
		goto err;
	return 0;
err:
	region_attach_failed(id, ret);
	return ret;
}

void region_detach(struct region *r)
{
	place_unmap(r);
	pageset_destroy(&r->set);
	free(r->chunk);
	free(r->sum);
	free(r->nr_data);
	if (r->helper >= 0)
		dev_detach(r->helper);
}

/**
 * region_start_over - ask the module again what is missing
 *
 * Context: under the transfer's lock, with background stopped.
 * Return: 0 or -errno.
 */
int region_start_over(struct region *r)
{
	int ret = region_query(r);

	/* Demand has replaced pages that it took: background must not receive what nobody sees. */
	if (!ret && r->memory)
		ret = place_map(r);
	return ret;
}
