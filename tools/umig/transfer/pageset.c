// SPDX-License-Identifier: GPL-2.0
/* Which pages of a region are missing, and which thread works on which. */
#include <errno.h>
#include <stdlib.h>

#include "transfer/pageset.h"

int pageset_init(struct pageset *set, uint64_t nr_pages)
{
	set->nr_pages = nr_pages;
	set->nr_words = (nr_pages + 63) / 64;
	atomic_init(&set->nr_present, 0);
	set->claimed = calloc(set->nr_words, sizeof(*set->claimed));
	set->present = calloc(set->nr_words, sizeof(*set->present));
	set->assigned = calloc(set->nr_words, sizeof(*set->assigned));
	set->unreadable = calloc(set->nr_words, sizeof(*set->unreadable));
	if (!set->claimed || !set->present || !set->assigned || !set->unreadable) {
		pageset_destroy(set);
		return -ENOMEM;
	}
	return 0;
}

void pageset_destroy(struct pageset *set)
{
	free((void *)set->claimed);
	free((void *)set->present);
	free(set->assigned);
	free(set->unreadable);
	set->claimed = NULL;
	set->present = NULL;
	set->assigned = NULL;
	set->unreadable = NULL;
}

/**
 * pageset_load - take over from POSTCOPY_PAGES_QUERY which pages are present
 * @bitmap: nr_words elements
 *
 * All other pages become missing, unclaimed and unassigned. No other thread may use @set.
 */
void pageset_load(struct pageset *set, const uint64_t *bitmap)
{
	uint64_t i, nr = 0;

	for (i = 0; i < set->nr_words; i++) {
		atomic_store(&set->claimed[i], bitmap[i]);
		atomic_store(&set->present[i], bitmap[i]);
		set->assigned[i] = 0;
		nr += (uint64_t)__builtin_popcountll(bitmap[i]);
	}
	atomic_store(&set->nr_present, nr);
}

/* Return: true: the caller, and no other thread, fills page @index. */
bool pageset_claim(struct pageset *set, uint64_t index)
{
	uint64_t bit = 1ULL << (index % 64);

	return !(atomic_fetch_or(&set->claimed[index / 64], bit) & bit);
}

bool pageset_is_claimed(const struct pageset *set, uint64_t index)
{
	return atomic_load(&set->claimed[index / 64]) & (1ULL << (index % 64));
}

/* The caller has claimed page @index and cannot fill it. */
void pageset_unclaim(struct pageset *set, uint64_t index)
{
	atomic_fetch_and(&set->claimed[index / 64], ~(1ULL << (index % 64)));
}

/* The caller has claimed and filled these pages. */
void pageset_set_present(struct pageset *set, uint64_t index, uint64_t nr)
{
	uint64_t i;

	for (i = index; i < index + nr; i++)
		atomic_fetch_or(&set->present[i / 64], 1ULL << (i % 64));
	atomic_fetch_add(&set->nr_present, nr);
}

/* A present page becomes missing and unclaimed. No other thread may use @set. */
void pageset_forget(struct pageset *set, uint64_t index)
{
	atomic_fetch_and(&set->present[index / 64], ~(1ULL << (index % 64)));
	pageset_unclaim(set, index);
	atomic_fetch_sub(&set->nr_present, 1);
}

bool pageset_is_present(const struct pageset *set, uint64_t index)
{
	return atomic_load(&set->present[index / 64]) & (1ULL << (index % 64));
}

bool pageset_is_complete(const struct pageset *set)
{
	return atomic_load(&set->nr_present) == set->nr_pages;
}

static uint64_t pageset_free_word(const struct pageset *set, uint64_t word)
{
	return ~(atomic_load_explicit(&set->claimed[word], memory_order_relaxed) |
		 set->assigned[word]);
}

/**
 * pageset_find - the first free page in [@from, @end): not claimed, and no thread reads it
 *
 * Return: its index, or @end if there is none.
 */
uint64_t pageset_find(const struct pageset *set, uint64_t from, uint64_t end)
{
	uint64_t word, bits, index;

	if (from >= end)
		return end;
	word = from / 64;
	bits = pageset_free_word(set, word) & (~0ULL << (from % 64));
	for (;;) {
		if (bits) {
			index = word * 64 + (uint64_t)__builtin_ctzll(bits);
			return index < end ? index : end;
		}
		if (++word * 64 >= end)
			return end;
		bits = pageset_free_word(set, word);
	}
}

static bool pageset_is_unreadable(const struct pageset *set, uint64_t index)
{
	return set->unreadable[index / 64] & (1ULL << (index % 64));
}

static bool pageset_is_free(const struct pageset *set, uint64_t index)
{
	return pageset_free_word(set, index / 64) & (1ULL << (index % 64));
}

/*
 * Return: how many pages from @index on are free and may be read at once, at most @max. An
 * unreadable page is read by itself.
 */
uint64_t pageset_run(const struct pageset *set, uint64_t index, uint64_t max)
{
	uint64_t nr = 0;

	while (nr < max && index + nr < set->nr_pages && pageset_is_free(set, index + nr)) {
		if (pageset_is_unreadable(set, index + nr))
			return nr ? nr : 1;
		nr++;
	}
	return nr;
}

/* Return: the end of the last free pages before @end, 0 if there are none. */
uint64_t pageset_find_back(const struct pageset *set, uint64_t end)
{
	while (end) {
		uint64_t word = (end - 1) / 64;
		uint64_t bits = pageset_free_word(set, word) & (~0ULL >> (63 - (end - 1) % 64));

		if (bits)
			return word * 64 + 64 - (uint64_t)__builtin_clzll(bits);
		end = word * 64;
	}
	return 0;
}

/* As pageset_run(), for the pages that end at @end. */
uint64_t pageset_run_back(const struct pageset *set, uint64_t end, uint64_t max)
{
	uint64_t nr = 0;

	while (nr < max && nr < end && pageset_is_free(set, end - nr - 1)) {
		if (pageset_is_unreadable(set, end - nr - 1))
			return nr ? nr : 1;
		nr++;
	}
	return nr;
}

/* Return: true if one of these pages was not known to be unreadable. */
bool pageset_set_unreadable(struct pageset *set, uint64_t index, uint64_t nr)
{
	bool news = false;
	uint64_t i;

	for (i = index; i < index + nr; i++) {
		if (!pageset_is_unreadable(set, i))
			news = true;
		set->unreadable[i / 64] |= 1ULL << (i % 64);
	}
	return news;
}

/* Return: how many unreadable pages are still missing. */
uint64_t pageset_nr_unreadable(const struct pageset *set)
{
	uint64_t i, nr = 0;

	for (i = 0; i < set->nr_words; i++)
		nr += (uint64_t)__builtin_popcountll(set->unreadable[i] &
						     ~atomic_load(&set->present[i]));
	return nr;
}

void pageset_assign(struct pageset *set, uint64_t index, uint64_t nr)
{
	uint64_t i;

	for (i = index; i < index + nr; i++)
		set->assigned[i / 64] |= 1ULL << (i % 64);
}

bool pageset_is_assigned(const struct pageset *set, uint64_t index)
{
	return set->assigned[index / 64] & (1ULL << (index % 64));
}

void pageset_give_back(struct pageset *set, uint64_t index, uint64_t nr)
{
	uint64_t i;

	for (i = index; i < index + nr; i++)
		set->assigned[i / 64] &= ~(1ULL << (i % 64));
}
