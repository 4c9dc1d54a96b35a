// SPDX-License-Identifier: GPL-2.0
/*
 * Shared regions: background receives pages where they will stay.
 *
 * It claims them before it receives into them, and they stay missing until the reply was whole:
 * half a reply is never readable, and is written over by whoever comes next. What is present is the
 * guest's and is never written to again.
 *
 * Demand does not wait for ever for what background has in flight: it reads the page for itself,
 * into a buffer. If it has its answer first it takes the page: in the mapping that background
 * receives into the page is replaced by memory that means nothing. When mmap() returns no processor
 * writes to the old page any more, so what comes for it later ends there.
 *
 * claimed and assigned: background is receiving it; claimed alone: it is being installed, or was.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>

#include "device/dev.h"
#include "lib/umig.h"
#include "transfer/place.h"

#define HUGE_PAGE	(2ULL << 20)

static uint8_t *place_address(const struct region *r, uint64_t page)
{
	return r->memory + page * UMIG_PAGE_SIZE;
}

/* Addresses at which the file's huge pages can be mapped as such. Return: NULL: there are none. */
static uint8_t *place_reserve(const struct region *r)
{
	uint8_t *base = mmap(NULL, r->length + HUGE_PAGE, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t skip = (r->offset - (uintptr_t)base) % HUGE_PAGE;

	if (base == MAP_FAILED)
		return NULL;
	if (skip)
		munmap(base, skip);
	munmap(base + skip + r->length, HUGE_PAGE - skip);
	return base + skip;
}

/* Also where demand has taken pages: then all is one mapping again. Return: 0 or -errno. */
static int place_map_pages(struct region *r, uint64_t page, uint64_t nr)
{
	uint64_t length = nr * UMIG_PAGE_SIZE;
	uint8_t *memory = place_address(r, page);

	if (!dev_map(r->helper, r->offset + page * UMIG_PAGE_SIZE, length, memory))
		return -errno;
	/* One fault for 512 pages; whether there are huge pages is for the kernel to say. */
	madvise(memory, length, MADV_HUGEPAGE);
	return 0;
}

/* Nothing is in flight. Return: 0 or -errno. */
int place_map(struct region *r)
{
	if (!r->memory)
		r->memory = place_reserve(r);
	return r->memory ? place_map_pages(r, 0, r->set.nr_pages) : -ENOMEM;
}

void place_unmap(struct region *r)
{
	if (r->memory)
		munmap(r->memory, r->length);
	r->memory = NULL;
}

/**
 * place_claim - pages that background is going to receive into
 * @nr: at most PLACE_PAGES
 *
 * Context: under the transfer's lock.
 * Return: how many, from @page on, are the caller's; they are assigned to it.
 */
uint64_t place_claim(struct region *r, uint64_t page, uint64_t nr)
{
	uint64_t i;

	for (i = 0; i < nr && pageset_claim(&r->set, page + i); i++)
		;
	pageset_assign(&r->set, page, i);
	return i;
}

/**
 * place_finish - a read has come to its end: nothing is received any more
 *
 * Context: under the transfer's lock.
 * Return: bit i: page @page + i is still the caller's, and nobody takes it any more; the others
 * are demand's.
 */
uint64_t place_finish(struct region *r, uint64_t page, uint64_t nr)
{
	uint64_t mine = 0, i;

	for (i = 0; i < nr; i++)
		mine |= (uint64_t)pageset_is_assigned(&r->set, page + i) << i;
	pageset_give_back(&r->set, page, nr);
	/* Should it fail, nobody minds: what demand has taken is never received again. */
	if ((uint64_t)__builtin_popcountll(mine) != nr)
		place_map_pages(r, page, nr);
	return mine;
}

/* The same, and the pages did not come. */
void place_abandon(struct region *r, uint64_t page, uint64_t nr)
{
	uint64_t mine = place_finish(r, page, nr), i;

	for (i = 0; i < nr; i++) {
		if (mine & (1ULL << i))
			pageset_unclaim(&r->set, page + i);
	}
}

/**
 * place_take - demand has a page that somebody else has claimed
 *
 * Return: 1 it is the caller's now, background's data will not get there any more; 0 it is being
 * installed or present; -errno it stays background's.
 */
int place_take(struct transfer *t, struct region *r, uint64_t page)
{
	int ret = 0;

	if (!r->memory)
		return 0;
	pthread_mutex_lock(&t->lock);
	if (pageset_is_assigned(&r->set, page)) {
		void *nobodys = mmap(place_address(r, page), UMIG_PAGE_SIZE,
				     PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

		ret = nobodys == MAP_FAILED ? -errno : 1;
		if (ret > 0)
			pageset_give_back(&r->set, page, 1);
	}
	pthread_mutex_unlock(&t->lock);
	return ret;
}
