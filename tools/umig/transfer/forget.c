// SPDX-License-Identifier: GPL-2.0
/*
 * Pages become missing again, because the source has written to them since they came.
 *
 * The digest must then lose what such a page has added to it, so umig remembers that for each page.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include "device/device.h"
#include "transfer/forget.h"

/**
 * forget_prepare - remember what each page adds to the digest
 *
 * Before anything is filled. Does nothing the second time.
 *
 * Return: 0 or -ENOMEM.
 */
int forget_prepare(struct transfer *t)
{
	unsigned int i;

	for (i = 0; i < t->nr_regions; i++) {
		struct region *r = &t->regions[i];

		if (!r->sum)
			r->sum = calloc(r->set.nr_pages, sizeof(*r->sum));
		if (!r->nr_data)
			r->nr_data = calloc(r->set.nr_pages, sizeof(*r->nr_data));
		if (!r->sum || !r->nr_data)
			return -ENOMEM;
	}
	return 0;
}

/* After forget_prepare(): is the page present, and not as zeros? */
bool forget_is_data(const struct region *r, uint64_t page)
{
	return r->nr_data[page];
}

/**
 * forget_pages - make pages missing again
 * @ranges: image offsets, inside @r
 *
 * Background is stopped and demand is not released yet, so no other thread fills or claims.
 *
 * Return: 0 or -errno.
 */
int forget_pages(struct transfer *t, struct region *r, const struct postcopy_range *ranges,
		 size_t nr)
{
	int ret = dev_discard(r->helper, ranges, nr);
	size_t i;

	if (ret)
		return ret;
	for (i = 0; i < nr; i++) {
		uint64_t page = (ranges[i].offset - r->offset) / UMIG_PAGE_SIZE;
		uint64_t end = page + ranges[i].length / UMIG_PAGE_SIZE;

		for (; page < end; page++) {
			if (!pageset_is_present(&r->set, page))
				continue;
			if (r->nr_data[page])
				atomic_fetch_sub(&t->digest_sum, r->sum[page]);
			atomic_fetch_sub(&t->digest_data, r->nr_data[page]);
			atomic_fetch_sub(&t->digest_zero,
					 UMIG_PAGE_SIZE / DIGEST_UNIT - r->nr_data[page]);
			r->nr_data[page] = 0;
			pageset_forget(&r->set, page);
		}
	}
	return 0;
}
