// SPDX-License-Identifier: GPL-2.0
/*
 * ZERO, PRESENT and POISON: calls about ranges of missing pages that bring no data.
 * All ranges are checked before the first is changed. Each is claimed while it is
 * being changed.
 */
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "postcopy.h"
#include "trace.h"

/* After so many pages other threads are let have the CPU. */
#define MARK_BATCH	(1UL << 20)

typedef long (*range_fn)(struct postcopy_region *region, unsigned long first,
			 unsigned long nr, u64 *nr_changed);

static void range_mark(struct postcopy_region *region, unsigned long first,
		       unsigned long nr, u64 *nr_changed)
{
	unsigned long batch;

	for (; nr; first += batch, nr -= batch) {
		batch = min(nr, MARK_BATCH);
		*nr_changed += postcopy_pages_mark(region, first, batch);
		cond_resched();
	}
}

static long range_present(struct postcopy_region *region, unsigned long first,
			  unsigned long nr, u64 *nr_changed)
{
	u64 marked = 0;

	range_mark(region, first, nr, &marked);
	trace_postcopy_present(region, first, nr, marked);
	*nr_changed += marked;
	return 0;
}

static long range_zero(struct postcopy_region *region, unsigned long first,
		       unsigned long nr, u64 *nr_changed)
{
	u64 marked = 0;
	long ret = 0;

	/* A helper may have written to some of the missing pages already. */
	if (postcopy_region_is_shared(region))
		ret = postcopy_shared_punch(region, first, nr);
	if (ret)
		return ret;
	range_mark(region, first, nr, &marked);
	trace_postcopy_zero(region, first, nr, marked);
	*nr_changed += marked;
	return 0;
}

static long range_poison(struct postcopy_region *region, unsigned long first,
			 unsigned long nr, u64 *nr_changed)
{
	unsigned long batch, set;

	for (; nr; first += batch, nr -= batch) {
		batch = min(nr, MARK_BATCH);
		set = postcopy_poison_set(region, first, batch);
		trace_postcopy_poison(region, first, batch, set);
		*nr_changed += set;
		cond_resched();
	}
	return 0;
}

static int ranges_check(struct postcopy_region *region,
			const struct postcopy_range *ranges, u32 nr_ranges)
{
	unsigned long first, nr;
	u32 i;

	for (i = 0; i < nr_ranges; i++)
		if (postcopy_region_indexes(region, ranges[i].offset,
					    ranges[i].length, &first, &nr))
			return -EINVAL;
	return 0;
}

/**
 * postcopy_ranges_copy() - copy ranges from user space and check that the region has them
 * @region: the region
 * @user_ranges: address of the array
 * @nr_ranges: its length
 *
 * Context: may sleep.
 * Return: the array for kvfree(), or EINVAL, EFAULT, ENOMEM.
 */
struct postcopy_range *postcopy_ranges_copy(struct postcopy_region *region,
					    u64 user_ranges, u32 nr_ranges)
{
	struct postcopy_range *ranges;
	int err;

	if (!nr_ranges || nr_ranges > POSTCOPY_MAX_RANGES)
		return ERR_PTR(-EINVAL);
	ranges = vmemdup_user(u64_to_user_ptr(user_ranges),
			      nr_ranges * sizeof(*ranges));
	if (IS_ERR(ranges))
		return ranges;
	err = ranges_check(region, ranges, nr_ranges);
	if (err) {
		kvfree(ranges);
		return ERR_PTR(err);
	}
	return ranges;
}

static long range_run(struct postcopy_region *region,
		      const struct postcopy_range *range, range_fn run,
		      u64 *nr_changed)
{
	struct postcopy_claim claim;
	unsigned long first, nr;
	long ret;

	ret = postcopy_region_indexes(region, range->offset, range->length,
				      &first, &nr);
	if (ret)
		return ret;
	ret = postcopy_claim_killable(region, &claim, first, first + nr - 1);
	if (ret)
		return ret;
	ret = postcopy_region_alive(region);
	if (!ret)
		ret = run(region, first, nr, nr_changed);
	postcopy_claim_release(region, &claim);
	return ret;
}

/* Returns 0 if at least one range was dealt with, and how many were in *done. */
static long ranges_run(struct postcopy_region *region, u64 user_ranges,
		       u32 nr_ranges, range_fn run, u32 *done, u64 *nr_changed)
{
	struct postcopy_range *ranges;
	u64 changed = 0;
	u32 i = 0;
	long ret;

	ret = postcopy_region_alive(region);
	if (ret)
		return ret;
	ranges = postcopy_ranges_copy(region, user_ranges, nr_ranges);
	if (IS_ERR(ranges))
		return PTR_ERR(ranges);
	while (!ret && i < nr_ranges) {
		ret = range_run(region, &ranges[i], run, &changed);
		if (!ret)
			i++;
		if (signal_pending(current))
			break;
		cond_resched();
	}
	kvfree(ranges);
	if (!i)
		return ret;
	*done = i;
	*nr_changed = changed;
	return 0;
}

/**
 * postcopy_pages_zero() - POSTCOPY_PAGES_ZERO
 * @region: the helper's
 * @zero: in and out
 *
 * Context: sleeps; several threads may at once.
 * Return: 0 if at least one range was dealt with, else -errno as the header
 * says.
 */
long postcopy_pages_zero(struct postcopy_region *region,
			 struct postcopy_pages_zero *zero)
{
	long ret;

	if (zero->flags)
		return -EINVAL;
	ret = ranges_run(region, zero->ranges, zero->nr_ranges, range_zero,
			 &zero->out_nr_ranges, &zero->out_nr_zeroed);
	if (!ret)
		atomic64_add(zero->out_nr_zeroed, &region->counters.zeroed);
	return ret;
}

/**
 * postcopy_pages_present() - POSTCOPY_PAGES_PRESENT
 * @region: the helper's
 * @present: in and out
 *
 * Context: as postcopy_pages_zero().
 * Return: as postcopy_pages_zero().
 */
long postcopy_pages_present(struct postcopy_region *region,
			    struct postcopy_pages_present *present)
{
	long ret;

	if (present->flags)
		return -EINVAL;
	if (!postcopy_region_is_shared(region))
		return -EOPNOTSUPP;
	ret = ranges_run(region, present->ranges, present->nr_ranges, range_present,
			 &present->out_nr_ranges, &present->out_nr_marked);
	if (!ret)
		atomic64_add(present->out_nr_marked, &region->counters.filled);
	return ret;
}

/**
 * postcopy_pages_poison() - POSTCOPY_PAGES_POISON
 * @region: the helper's
 * @poison: in and out
 *
 * Context: as postcopy_pages_zero().
 * Return: as postcopy_pages_zero(), and ENOMEM.
 */
long postcopy_pages_poison(struct postcopy_region *region,
			   struct postcopy_pages_poison *poison)
{
	long ret;

	if (poison->flags)
		return -EINVAL;
	ret = postcopy_poison_alloc(region);
	if (ret)
		return ret;
	return ranges_run(region, poison->ranges, poison->nr_ranges, range_poison,
			  &poison->out_nr_ranges, &poison->out_nr_poisoned);
}
