/* SPDX-License-Identifier: GPL-2.0 */
/* The pages that an outgoing guest writes to while they are copied. */
#ifndef UMIG_WRITES_H
#define UMIG_WRITES_H

#include <stdbool.h>
#include <stdint.h>

#include "migrate/outgoing.h"
#include "migrate/track.h"

/**
 * struct writes
 * @on: writes are tracked
 * @bitmap: what writes_read() has read: a bit for each page
 */
struct writes {
	struct track track;
	bool on;
	uint64_t nr_pages;
	uint64_t *bitmap;
};

int writes_start(struct writes *w, struct outgoing *o);
int writes_check(const struct writes *w, struct outgoing *o);
int writes_clear(struct writes *w);
int writes_read(struct writes *w, uint64_t *nr_dirty);
void writes_stop(struct writes *w);

static inline bool writes_has(const struct writes *w, uint64_t page)
{
	return w->bitmap[page / 64] & (1ULL << (page % 64));
}

#endif
