// SPDX-License-Identifier: GPL-2.0
/*
 * Discard: present pages become missing again, because the source has written to
 * them since they were sent.
 *
 * A bit is cleared before the page is dropped, so that a fault in between waits for
 * the new content. But an earlier fault may have seen the bit set and be about to
 * map the page:
 *
 *	private	the fault holds mmap_lock or the VMA lock until it has mapped the
 *		page; discard holds both for writing, so it finds the mapping
 *		and drops it
 *	shared	the fault may come from any process; it looks at the bit and maps
 *		the page in one SRCU read section, and discard waits for these
 *		before it drops the page
 *
 * Discard claims all of the region, so that no fill writes to a page that can still
 * be read.
 */
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "postcopy.h"
#include "trace.h"

/* Drop the anonymous pages. mmap_lock is held for writing. */
static void private_zap(struct postcopy_region *region, unsigned long first,
			unsigned long nr)
{
	unsigned long start = region->address + (first << PAGE_SHIFT);
	unsigned long end = start + (nr << PAGE_SHIFT);
	struct vm_area_struct *vma;

	while ((vma = postcopy_private_next_vma(region, start, end))) {
		start = max(start, vma->vm_start);
		/* Faults under the VMA lock must not put anything back meanwhile. */
		vma_start_write(vma);
		zap_vma_range(vma, start, min(end, vma->vm_end) - start);
		start = vma->vm_end;
		if (start >= end)
			break;
	}
}

static long private_discard(struct postcopy_region *region,
			    const struct postcopy_range *ranges, u32 nr_ranges,
			    u64 *nr_discarded)
{
	struct mm_struct *mm = region->mm;
	unsigned long first, nr, unmarked;
	long ret;
	u32 i;

	if (!mmget_not_zero(mm))
		return -ESRCH;
	ret = mmap_write_lock_killable(mm);
	if (!ret) {
		for (i = 0; i < nr_ranges; i++) {
			postcopy_region_indexes(region, ranges[i].offset,
						ranges[i].length, &first, &nr);
			unmarked = postcopy_pages_unmark(region, first, nr);
			trace_postcopy_discard(region, first, nr, unmarked);
			*nr_discarded += unmarked;
			private_zap(region, first, nr);
			cond_resched();
		}
		mmap_write_unlock(mm);
	}
	mmput_async(mm);
	return ret;
}

static long shared_discard(struct postcopy_region *region,
			   const struct postcopy_range *ranges, u32 nr_ranges,
			   u64 *nr_discarded)
{
	unsigned long first, nr, unmarked;
	long err, ret = 0;
	u32 i;

	for (i = 0; i < nr_ranges; i++) {
		postcopy_region_indexes(region, ranges[i].offset,
					ranges[i].length, &first, &nr);
		unmarked = postcopy_pages_unmark(region, first, nr);
		trace_postcopy_discard(region, first, nr, unmarked);
		*nr_discarded += unmarked;
		cond_resched();
	}
	postcopy_shared_faults_drain();
	/* Missing pages must not stay mapped, so an error does not end this loop. */
	for (i = 0; i < nr_ranges; i++) {
		postcopy_region_indexes(region, ranges[i].offset,
					ranges[i].length, &first, &nr);
		/* Unmap first: changing the file may fail (seals, lack of memory). */
		postcopy_shared_unmap(region, first, nr);
		err = postcopy_shared_punch(region, first, nr);
		if (err)
			ret = err;
	}
	return ret;
}

/**
 * postcopy_pages_discard() - POSTCOPY_PAGES_DISCARD
 * @region: the helper's
 * @discard: in and out
 *
 * Context: sleeps; takes the owner's mmap_lock for writing.
 * Return: 0 or -errno as the header says.
 */
long postcopy_pages_discard(struct postcopy_region *region,
			    struct postcopy_pages_discard *discard)
{
	struct postcopy_range *ranges;
	struct postcopy_claim claim;
	u64 nr_discarded = 0;
	long ret;

	if (discard->flags || discard->reserved)
		return -EINVAL;
	ret = postcopy_region_alive(region);
	if (ret)
		return ret;
	ranges = postcopy_ranges_copy(region, discard->ranges, discard->nr_ranges);
	if (IS_ERR(ranges))
		return PTR_ERR(ranges);
	ret = postcopy_claim_killable(region, &claim, 0, region->nr_pages - 1);
	if (ret)
		goto out_ranges;
	ret = postcopy_region_alive(region);
	if (!ret && postcopy_region_is_shared(region))
		ret = shared_discard(region, ranges, discard->nr_ranges, &nr_discarded);
	else if (!ret)
		ret = private_discard(region, ranges, discard->nr_ranges, &nr_discarded);
	postcopy_claim_release(region, &claim);
	if (!ret) {
		atomic64_add(nr_discarded, &region->counters.discarded);
		discard->out_nr_discarded = nr_discarded;
	}
out_ranges:
	kvfree(ranges);
	return ret;
}
