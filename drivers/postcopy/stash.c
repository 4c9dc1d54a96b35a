// SPDX-License-Identifier: GPL-2.0
/*
 * A few allocated pages for the next faults.
 *
 * A fault is answered with one page. Allocating a single page takes about four times as
 * long as an eighth of allocating eight. So pages are allocated eight at a time, and the
 * rest stays with the region for the next faults: for a second or two after the last
 * fault, and only while there is a helper, because the core can neither move nor reclaim
 * such pages. Like all pages they are charged to a memory cgroup when they are mapped.
 */
#include <linux/gfp.h>
#include <linux/topology.h>

#include "postcopy.h"

/* How often to check whether the stash is still in use. */
#define STASH_PERIOD	HZ

static bool stash_trylock(struct postcopy_stash *stash)
{
	return !test_and_set_bit_lock(0, &stash->locked);
}

static void stash_unlock(struct postcopy_stash *stash)
{
	clear_bit_unlock(0, &stash->locked);
}

static void stash_drop(struct postcopy_stash *stash)
{
	while (stash->nr) {
		put_page(stash->pages[--stash->nr]);
		stash->pages[stash->nr] = NULL;
	}
}

static void stash_look(struct work_struct *work)
{
	struct postcopy_stash *stash = container_of(to_delayed_work(work),
						    struct postcopy_stash, look);

	if (!stash_trylock(stash)) {
		queue_delayed_work(system_wq, &stash->look, STASH_PERIOD);
		return;
	}
	if (!stash->used)
		stash_drop(stash);
	stash->used = false;
	if (stash->nr)
		queue_delayed_work(system_wq, &stash->look, STASH_PERIOD);
	stash_unlock(stash);
}

/**
 * postcopy_stash_init() - an empty stash
 * @stash: of a new region
 */
void postcopy_stash_init(struct postcopy_stash *stash)
{
	INIT_DELAYED_WORK(&stash->look, stash_look);
}

/**
 * postcopy_stash_take() - take a page of the local node
 * @stash: of a region with a helper
 *
 * Context: may sleep.
 * Return: the page with a reference; NULL if another thread uses the stash or there is no
 * memory.
 */
struct page *postcopy_stash_take(struct postcopy_stash *stash)
{
	struct page *page = NULL;
	int node = numa_mem_id();

	if (!stash_trylock(stash))
		return NULL;
	if (stash->nr && page_to_nid(stash->pages[0]) != node)
		stash_drop(stash);
	if (!stash->nr) {
		stash->nr = alloc_pages_bulk_node(GFP_HIGHUSER_MOVABLE, node,
						  POSTCOPY_STASH_PAGES, stash->pages);
		queue_delayed_work(system_wq, &stash->look, STASH_PERIOD);
	}
	if (stash->nr) {
		page = stash->pages[--stash->nr];
		stash->pages[stash->nr] = NULL;
	}
	stash->used = true;
	stash_unlock(stash);
	return page;
}

/**
 * postcopy_stash_empty() - free the pages, no thread takes any more
 * @stash: of a region whose helper goes
 *
 * Context: sleeps.
 */
void postcopy_stash_empty(struct postcopy_stash *stash)
{
	cancel_delayed_work_sync(&stash->look);
	stash_drop(stash);
}
