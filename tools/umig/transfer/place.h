/* SPDX-License-Identifier: GPL-2.0 */
/* Where the pages of a read land: a buffer for a private region, a shared region's own memory. */
#ifndef UMIG_PLACE_H
#define UMIG_PLACE_H

#include <linux/postcopy.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct region;
struct transfer;

/* Pages in one read, at most: one bit for each. */
#define PLACE_PAGES	64

int place_map(struct region *r);
void place_unmap(struct region *r);
uint64_t place_claim(struct region *r, uint64_t page, uint64_t nr);
uint8_t *place_buffer(const struct region *r, uint64_t page, uint8_t *buffer);
void place_land(struct transfer *t, struct region *r, uint64_t page, uint64_t nr,
		const uint8_t *data);
void place_abandon(struct region *r, uint64_t page, uint64_t nr);
int place_land_demand(struct transfer *t, struct region *r, uint64_t page, bool claimed,
		      const uint8_t *data, struct postcopy_request *requests, size_t *nr_requests);

#endif
