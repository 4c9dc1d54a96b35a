// SPDX-License-Identifier: GPL-2.0
/*
 * Where the pages of a read land, in a private region and in a shared one.
 *
 * Private: the thread's own buffer. From there fill_data() copies the pages that are still missing
 * into the guest, so a page is claimed only when it is filled, and demand may be faster.
 *
 * Shared: the region's own memory, in which the pages stay. Background claims the pages before it
 * receives into them. They stay missing until the whole reply has arrived: half a reply is never
 * readable, and the next read overwrites it. A page that is present belongs to the guest and is
 * never written to again.
 *
 * Demand does not wait for ever for a page that background has in flight. It reads the page itself,
 * into a buffer. If its answer comes first, demand takes the page: in the mapping that background
 * receives into, anonymous memory replaces the page. Once mmap() has returned no processor writes
 * to the old page any more, so what still comes for it ends in memory that nobody reads.
 *
 * In a shared region: claimed and assigned, background is receiving the page; claimed alone, the
 * page is being installed, or was.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>

#include "device/device.h"
#include "lib/lib.h"
#include "transfer/fill.h"
#include "transfer/place.h"

/* What one page of page table entries maps: 2 MiB, or 32 MiB with pages of 16 KiB. */
#define HUGE_PAGE	(UMIG_PAGE_SIZE / sizeof(uint64_t) * UMIG_PAGE_SIZE)

static uint8_t *place_address(const struct region *r, uint64_t page)
{
	return r->memory + page * UMIG_PAGE_SIZE;
}

/*
 * Reserves addresses at which huge pages of the file can be mapped as such. Return: NULL: there are
 * none.
 */
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

/* Maps the region's memory, also where demand has replaced it. Return: 0 or -errno. */
static int place_map_pages(struct region *r, uint64_t page, uint64_t nr)
{
	uint64_t length = nr * UMIG_PAGE_SIZE;
	uint8_t *memory = place_address(r, page);

	if (!dev_map(r->helper, r->offset + page * UMIG_PAGE_SIZE, length, memory))
		return -errno;
	/* One fault for all of them if the kernel has a huge page. */
	madvise(memory, length, MADV_HUGEPAGE);
	return 0;
}

/* Maps a shared region. Nothing may be in flight. Return: 0 or -errno. */
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
 * place_claim - take pages for a read of background
 * @nr: at most PLACE_PAGES
 *
 * Context: under the transfer's lock.
 * Return: how many pages from @page on the caller may read; they are assigned to it. Fewer than
 * @nr if demand has just claimed one.
 */
uint64_t place_claim(struct region *r, uint64_t page, uint64_t nr)
{
	uint64_t i = nr;

	if (r->memory) {
		for (i = 0; i < nr && pageset_claim(&r->set, page + i); i++)
			;
	}
	pageset_assign(&r->set, page, i);
	return i;
}

/* Return: where to receive claimed pages. @buffer: of the caller, for a private region. */
uint8_t *place_buffer(const struct region *r, uint64_t page, uint8_t *buffer)
{
	return r->memory ? place_address(r, page) : buffer;
}

/*
 * Shared: a read has ended, and nothing is received any more. Return: bit i: page @page + i is
 * still the caller's, and no other thread takes it; the other pages are demand's.
 */
static uint64_t place_finish(struct region *r, uint64_t page, uint64_t nr)
{
	uint64_t mine = 0, i;

	for (i = 0; i < nr; i++)
		mine |= (uint64_t)pageset_is_assigned(&r->set, page + i) << i;
	pageset_give_back(&r->set, page, nr);
	/* May fail: a page that demand has taken is never received again. */
	if ((uint64_t)__builtin_popcountll(mine) != nr)
		place_map_pages(r, page, nr);
	return mine;
}

/**
 * place_land - background has received pages that it claimed: make them present
 * @data: what place_buffer() returned
 *
 * Context: takes the transfer's lock.
 */
void place_land(struct transfer *t, struct region *r, uint64_t page, uint64_t nr,
		const uint8_t *data)
{
	uint64_t mine;

	if (r->memory) {
		pthread_mutex_lock(&t->lock);
		mine = place_finish(r, page, nr);
		pthread_mutex_unlock(&t->lock);
		fill_placed(t, r, page, nr, mine);
		return;
	}
	fill_data(t, r, page, nr, data);
	pthread_mutex_lock(&t->lock);
	pageset_give_back(&r->set, page, nr);
	pthread_mutex_unlock(&t->lock);
}

/**
 * place_abandon - the pages of a read of background did not come: give them back
 *
 * Context: under the transfer's lock. Nothing is received any more.
 */
void place_abandon(struct region *r, uint64_t page, uint64_t nr)
{
	uint64_t mine, i;

	if (!r->memory) {
		pageset_give_back(&r->set, page, nr);
		return;
	}
	mine = place_finish(r, page, nr);
	for (i = 0; i < nr; i++) {
		if (mine & (1ULL << i))
			pageset_unclaim(&r->set, page + i);
	}
}

/*
 * Demand has a page that another thread has claimed. Return: 1 the page is demand's now, and what
 * background receives does not get there any more; 0 the page is being installed or present; -errno
 * the page stays background's.
 */
static int place_take(struct transfer *t, struct region *r, uint64_t page)
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

/**
 * place_land_demand - demand has received a page: make it present unless background is faster
 * @claimed: demand has claimed the page
 * @requests, @nr_requests: as fill_demand()
 *
 * Context: takes the transfer's lock.
 * Return: as fill_demand(); -EAGAIN the page could not be taken from background: try again.
 */
int place_land_demand(struct transfer *t, struct region *r, uint64_t page, bool claimed,
		      const uint8_t *data, struct postcopy_request *requests, size_t *nr_requests)
{
	int mine = claimed ? 1 : place_take(t, r, page);

	if (mine < 0) {
		*nr_requests = 0;
		return -EAGAIN;
	}
	return fill_demand(t, r, page, mine, data, requests, nr_requests);
}
