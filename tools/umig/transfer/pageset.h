/* SPDX-License-Identifier: GPL-2.0 */
/* Which pages of a region are missing, and which thread works on which. */
#ifndef UMIG_PAGESET_H
#define UMIG_PAGESET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/lib.h"

/**
 * struct pageset - four bits for each page of one region
 * @nr_pages: set once
 * @nr_present: set bits in @present; pages are counted after they are filled
 * @claimed: only the thread that sets a page's bit fills the page. So umig installs a page once,
 *	with the bytes that went into the digest, whether demand or background brings it first.
 * @present: the fill is done
 * @assigned: a thread is reading the page, so background leaves it out. Changed only under the
 *	caller's lock. In a shared region background claims the page, too (place.c).
 * @unreadable: the source has answered a read of the page with an error. Changed only under the
 *	caller's lock. Such a page is read by itself from then on, and delays no other page.
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
