// SPDX-License-Identifier: GPL-2.0
/* Pages that the source answers with an error. They are asked for again for ever, and said once. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <string.h>

#include "lib/log.h"
#include "lib/lib.h"
#include "transfer/unreadable.h"

/**
 * unreadable_add - the source has answered a read of these pages with an error
 *
 * Prints a message the first time for each range of pages. The pages stay missing and are read one
 * by one from now on, so that one bad page does not keep its neighbours away.
 */
void unreadable_add(struct transfer *t, struct region *r, uint64_t page, uint64_t nr,
		    int error)
{
	uint64_t offset = region_page_offset(r, page), length = nr * UMIG_PAGE_SIZE;
	bool news;

	pthread_mutex_lock(&t->lock);
	news = pageset_set_unreadable(&r->set, page, nr);
	pthread_mutex_unlock(&t->lock);
	if (!news)
		return;
	log_error("the source cannot read %" PRIu64 " bytes at offset %" PRIu64 ": %s; "
		  "nothing was filled, asking again", length, offset, strerror(-error));
	if (t->json)
		log_json(json_pack("{s:s, s:I, s:I, s:I, s:s}", "event", "unreadable",
				   "region", (json_int_t)r->id,
					      "offset", (json_int_t)offset,
					      "length", (json_int_t)length,
					      "error", strerror(-error)));
}

/* Return: how many pages are missing because the source could not read them. */
uint64_t unreadable_nr_pages(struct transfer *t)
{
	uint64_t nr = 0;
	unsigned int i;

	pthread_mutex_lock(&t->lock);
	for (i = 0; i < t->nr_regions; i++)
		nr += pageset_nr_unreadable(&t->regions[i].set);
	pthread_mutex_unlock(&t->lock);
	return nr;
}
