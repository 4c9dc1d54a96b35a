// SPDX-License-Identifier: GPL-2.0
/*
 * The maps of a region: which pages are present, and which are given up.
 *
 * The caller of a function that changes them has claimed the pages. What matters most
 * is not here but in the callers, the order: a page is installed before its bit is set
 * (fill.c), and its bit is cleared before the page is dropped (discard.c).
 */
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "postcopy.h"
#include "request.h"

/* After so many pages QUERY lets other threads have the CPU. */
#define QUERY_BATCH	(1UL << 20)

/* The bits of a word that belong to the pages from first to last. */
static unsigned long word_mask(unsigned long word, unsigned long first,
			       unsigned long last)
{
	unsigned long mask = ~0UL;

	if (word == BIT_WORD(first))
		mask &= BITMAP_FIRST_WORD_MASK(first);
	if (word == BIT_WORD(last))
		mask &= BITMAP_LAST_WORD_MASK(last + 1);
	return mask;
}

/* Clear the bits of pages in a map. Returns how many were set. */
static unsigned long map_clear(unsigned long *map, unsigned long first,
			       unsigned long nr)
{
	unsigned long last = first + nr - 1;
	unsigned long word, mask, old, cleared = 0;

	for (word = BIT_WORD(first); word <= BIT_WORD(last); word++) {
		mask = word_mask(word, first, last);
		old = atomic_long_fetch_andnot(mask, (atomic_long_t *)&map[word]);
		cleared += hweight_long(mask & old);
	}
	return cleared;
}

/* Set some bits of a word. Returns how many were clear. */
static unsigned int mark_word(unsigned long *word, unsigned long mask)
{
	unsigned long old;

	/*
	 * The claim covers all of a whole word. Other bits of a word that is
	 * claimed in part may change meanwhile.
	 */
	if (mask == ~0UL) {
		old = READ_ONCE(*word);
		/* Pairs with test_bit_acquire() in the fault handlers. */
		smp_store_release(word, mask);
	} else {
		old = atomic_long_fetch_or(mask, (atomic_long_t *)word);
	}
	return hweight_long(mask & ~old);
}

/**
 * postcopy_pages_mark() - mark pages present and wake the threads that wait for them
 * @region: the region
 * @first: index of the first page, all of which the caller has claimed
 * @nr: pages, at least 1
 *
 * Context: may sleep.
 * Return: how many of them were missing.
 */
unsigned long postcopy_pages_mark(struct postcopy_region *region,
				  unsigned long first, unsigned long nr)
{
	unsigned long last = first + nr - 1;
	unsigned long word, marked = 0;

	if (nr == 1)
		marked = !test_and_set_bit(first, region->present);
	else
		for (word = BIT_WORD(first); word <= BIT_WORD(last); word++)
			marked += mark_word(&region->present[word],
					    word_mask(word, first, last));
	atomic_long_add(marked, &region->nr_present);
	if (atomic_long_read(&region->nr_poisoned))
		atomic_long_sub(map_clear(region->poisoned, first, nr),
				&region->nr_poisoned);
	/* Pairs with postcopy_req_find(), see request.c. */
	smp_mb();
	if (atomic_long_read(&region->requests.nr))
		postcopy_req_answer(region, first, nr);
	return marked;
}

/**
 * postcopy_pages_unmark() - mark pages missing
 * @region: the region
 * @first: index of the first page, all of which the caller has claimed
 * @nr: pages, at least 1
 *
 * Return: how many of them were present.
 */
unsigned long postcopy_pages_unmark(struct postcopy_region *region,
				    unsigned long first, unsigned long nr)
{
	unsigned long unmarked = map_clear(region->present, first, nr);

	atomic_long_sub(unmarked, &region->nr_present);
	return unmarked;
}

/**
 * postcopy_poison_alloc() - allocate the map of poisoned pages, unless it is there
 * @region: the region
 *
 * Context: may sleep; takes region->lock.
 * Return: 0 or ENOMEM.
 */
int postcopy_poison_alloc(struct postcopy_region *region)
{
	mutex_lock(&region->lock);
	if (!region->poisoned)
		/* Readers look at nr_poisoned first, which is 0 until later. */
		region->poisoned = kvcalloc(BITS_TO_LONGS(region->nr_pages),
					    sizeof(long), GFP_KERNEL_ACCOUNT);
	mutex_unlock(&region->lock);
	return region->poisoned ? 0 : -ENOMEM;
}

/**
 * postcopy_poison_set() - poison missing pages and wake the threads that wait for them
 * @region: for which postcopy_poison_alloc() has succeeded
 * @first: index of the first page, all of which the caller has claimed
 * @nr: pages, at least 1; those that are present are left alone
 *
 * Context: may sleep.
 * Return: how many were poisoned.
 */
unsigned long postcopy_poison_set(struct postcopy_region *region,
				  unsigned long first, unsigned long nr)
{
	unsigned long last = first + nr - 1;
	unsigned long word, mask, old, set = 0;

	for (word = BIT_WORD(first); word <= BIT_WORD(last); word++) {
		mask = word_mask(word, first, last) & ~READ_ONCE(region->present[word]);
		old = atomic_long_fetch_or(mask,
					   (atomic_long_t *)&region->poisoned[word]);
		set += hweight_long(mask & ~old);
	}
	/* The map's address before the count: pairs with postcopy_poisoned(). */
	smp_mb__before_atomic();
	atomic_long_add(set, &region->nr_poisoned);
	/* As for the present bits, see request.c. */
	smp_mb();
	if (atomic_long_read(&region->requests.nr))
		postcopy_req_answer(region, first, nr);
	return set;
}

/**
 * postcopy_pages_query() - POSTCOPY_PAGES_QUERY
 * @region: the helper's
 * @query: in and out
 *
 * Context: sleeps.
 * Return: 0 or -errno as the header says.
 */
long postcopy_pages_query(struct postcopy_region *region,
			  struct postcopy_pages_query *query)
{
	u64 __user *bitmap = u64_to_user_ptr(query->bitmap);
	unsigned long first, nr, done;
	u64 nr_present = 0;
	long ret;

	BUILD_BUG_ON(BITS_PER_LONG != 64);

	if (query->flags)
		return -EINVAL;
	ret = postcopy_region_alive(region);
	if (ret)
		return ret;
	ret = postcopy_region_indexes(region, query->offset, query->length,
				      &first, &nr);
	if (ret)
		return ret;
	if (first % 64)
		return -EINVAL;

	for (done = 0; done < nr; done += 64) {
		u64 word = READ_ONCE(region->present[BIT_WORD(first + done)]);

		if (nr - done < 64)
			word &= BITMAP_LAST_WORD_MASK(nr - done);
		nr_present += hweight64(word);
		if (put_user(word, bitmap++))
			return -EFAULT;
		if (!(done % QUERY_BATCH)) {
			if (fatal_signal_pending(current))
				return -EINTR;
			cond_resched();
		}
	}
	query->out_nr_present = nr_present;
	return 0;
}
