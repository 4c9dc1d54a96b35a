/* SPDX-License-Identifier: GPL-2.0 */
/* Shared regions: background receives pages where they will stay. */
#ifndef UMIG_PLACE_H
#define UMIG_PLACE_H

#include <stdint.h>

#include "transfer/transfer.h"

/* Pages in one read, at most: a bit each in what place_finish() returns. */
#define PLACE_PAGES	64

int place_map(struct region *r);
void place_unmap(struct region *r);
uint64_t place_claim(struct region *r, uint64_t page, uint64_t nr);
uint64_t place_finish(struct region *r, uint64_t page, uint64_t nr);
void place_abandon(struct region *r, uint64_t page, uint64_t nr);
int place_take(struct transfer *t, struct region *r, uint64_t page);

#endif
