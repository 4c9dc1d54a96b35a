/* SPDX-License-Identifier: GPL-2.0 */
/* A region that this umig is the helper of. */
#ifndef UMIG_REGION_H
#define UMIG_REGION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "transfer/pageset.h"

/* How many pages one block status query asks about. */
#define CHUNK_PAGES	16384ULL

/* An entry of @chunk: bit 31 says that a query is in flight, the rest how many pages are known. */
#define CHUNK_ASKED	(1U << 31)

/* How many recent faults are remembered: some for each of a few vCPUs. */
#define RECENT_FAULTS	16

/**
 * struct region
 * @id, @offset, @length: as the module tells them; offset and length in bytes of the RAM image
 * @helper: the helper fd
 * @memory: of a shared region, where it is mapped (place.c); NULL: the region is private
 * @set: which pages are missing, claimed, assigned
 * @chunk: for each CHUNK_PAGES, whether a query is in flight, and how many of its pages from the
 *	start on are known to be data or have been zeroed. Under the transfer's lock.
 * @nr_data, @sum: what each page has added to the digest (forget.c): how many units with data,
 *	and their sum, which counts only if there are any. Written by who has claimed the page.
 *	NULL: not kept
 * @fault, @nr_faults: the pages of the last faults, and how many there have been (order.c). Under
 *	the transfer's lock.
 */
struct region {
	uint64_t id;
	uint64_t offset;
	uint64_t length;
	int helper;
	uint8_t *memory;
	struct pageset set;
	uint32_t *chunk;
	uint8_t *nr_data;
	uint64_t *sum;
	uint64_t fault[RECENT_FAULTS];
	uint64_t nr_faults;
};

/* The first page of the region, counted in the RAM image. */
static inline uint64_t region_first_page(const struct region *r)
{
	return r->offset / UMIG_PAGE_SIZE;
}

/* The offset of a page of the region in the RAM image, in bytes. */
static inline uint64_t region_page_offset(const struct region *r, uint64_t page)
{
	return r->offset + page * UMIG_PAGE_SIZE;
}

int region_attach(struct region *r, int context, uint64_t id);
void region_detach(struct region *r);
int region_start_over(struct region *r);

#endif
