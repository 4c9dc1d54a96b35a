/* SPDX-License-Identifier: GPL-2.0 */
/* Which pages of a region are missing, and who is at work on which. */
#ifndef UMIG_PAGESET_H
#define UMIG_PAGESET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/**
 * struct pageset - four bits for each page of one region
 * @nr_pages: set once
 * @nr_present: set bits in @present; pages are counted after they are filled
 * @claimed: exactly one thread gets to fill a page: the one that sets its bit here. So a page is
 *	installed once, by umig, with the very bytes that went into the digest, whichever of demand
 *	and background brings it first.
 * @present: the fill is done
 * @assigned: somebody is reading it, so background leaves it out; changed only under the caller's
 *	lock. If that is background, in a shared region, it has claimed the page, too (place.c).
 * @unreadable: the source has answered a read of it with an error; under the caller's lock too.
 *	Such a page is read by itself from then on, so that it keeps no other from coming.
 */
struct pageset {
	_Atomic uint64_t nr_present;
	_Atomic uint64_t *claimed;
	_Atomic uint64_t *present;
	uint64_t nr_pages;
	uint64_t nr_words;
	uint64_t *assigned;
	uint64_t *unreadable;
};

int pageset_init(struct pageset *set, uint64_t nr_pages);
void pageset_destroy(struct pageset *set);
void pageset_load(struct pageset *set, const uint64_t *bitmap);
bool pageset_claim(struct pageset *set, uint64_t index);
bool pageset_is_claimed(const struct pageset *set, uint64_t index);
void pageset_unclaim(struct pageset *set, uint64_t index);
void pageset_set_present(struct pageset *set, uint64_t index, uint64_t nr);
void pageset_forget(struct pageset *set, uint64_t index);
bool pageset_is_present(const struct pageset *set, uint64_t index);
bool pageset_is_complete(const struct pageset *set);
uint64_t pageset_find(const struct pageset *set, uint64_t from, uint64_t end);
uint64_t pageset_run(const struct pageset *set, uint64_t index, uint64_t max);
uint64_t pageset_find_back(const struct pageset *set, uint64_t end);
uint64_t pageset_run_back(const struct pageset *set, uint64_t end, uint64_t max);
void pageset_assign(struct pageset *set, uint64_t index, uint64_t nr);
bool pageset_is_assigned(const struct pageset *set, uint64_t index);
bool pageset_set_unreadable(struct pageset *set, uint64_t index, uint64_t nr);
uint64_t pageset_nr_unreadable(const struct pageset *set);
void pageset_give_back(struct pageset *set, uint64_t index, uint64_t nr);

#endif
