// SPDX-License-Identifier: GPL-2.0
/*
 * Converting a region: its VMAs become plain memory.
 *
 * With every page present, a private region's VMA differs from a private
 * mapping of /dev/zero only in its vm_ops: pages that came as data are anonymous
 * pages, pages that came as zeros are not mapped or map the zero page. So
 * conversion removes the vm_ops, under the locks that keep faults out, and
 * drops the VMA's reference. VMAs of forked children keep their vm_ops, which make
 * no requests.
 *
 * A shared region's VMAs get shmem's vm_ops back, in every process: see shared.c.
 */
#include <linux/mm.h>
#include <linux/sched/mm.h>

#include "postcopy.h"
#include "trace.h"

static unsigned long convert_count_missing(struct postcopy_region *region,
					   struct vm_area_struct *vma)
{
	unsigned long index = vma->vm_pgoff - region->first;
	unsigned long end = min(index + vma_pages(vma), region->nr_pages);
	unsigned long missing = 0;

	for (;;) {
		index = postcopy_next_missing(region, index, end);
		if (index >= end)
			return missing;
		missing++;
		index++;
	}
}

/* Count the missing pages that are still mapped; if there are none, convert. */
static u64 convert_vmas(struct postcopy_region *region)
{
	unsigned long end = region->address + (region->nr_pages << PAGE_SHIFT);
	struct vm_area_struct *vma;
	unsigned long address;
	u64 missing = 0;

	mmap_assert_write_locked(region->mm);
	if (atomic_long_read(&region->nr_present) != region->nr_pages) {
		address = region->address;
		while ((vma = postcopy_private_next_vma(region, address, end))) {
			missing += convert_count_missing(region, vma);
			address = vma->vm_end;
		}
	}
	if (missing)
		return missing;

	/* Before the VMAs drop their references, so that the region does not count as dead. */
	postcopy_region_end(region, POSTCOPY_REGION_CONVERTED);
	address = region->address;
	while ((vma = postcopy_private_next_vma(region, address, end))) {
		vma_start_write(vma);
		vma_set_anonymous(vma);
		vma->vm_private_data = NULL;
		address = vma->vm_end;
		postcopy_region_put(region);
	}
	return 0;
}

/**
 * postcopy_region_convert() - POSTCOPY_REGION_CONVERT
 * @region: on which the caller has a reference
 * @convert: in and out
 *
 * Context: sleeps; takes the owner's mmap_lock for writing.
 * Return: 0 or -errno as the header says.
 */
long postcopy_region_convert(struct postcopy_region *region,
			     struct postcopy_region_convert *convert)
{
	struct postcopy_claim claim;
	long ret;

	if (convert->flags & ~POSTCOPY_CONVERT_RETIRE_CONTEXT)
		return -EINVAL;
	/* Keeps fills away. */
	ret = postcopy_claim_killable(region, &claim, 0, region->nr_pages - 1);
	if (ret)
		return ret;
	ret = postcopy_region_alive(region);
	if (ret)
		goto out_claim;
	if (postcopy_region_is_shared(region)) {
		convert->out_nr_missing = region->nr_pages -
					  atomic_long_read(&region->nr_present);
		ret = convert->out_nr_missing ? -EBUSY :
						postcopy_shared_convert(region);
		goto out_claim;
	}
	if (!mmget_not_zero(region->mm)) {
		ret = -ESRCH;
		goto out_claim;
	}
	ret = mmap_write_lock_killable(region->mm);
	if (ret)
		goto out_mm;
	/* The owner may have unmapped the last of it meanwhile. */
	ret = postcopy_region_alive(region);
	if (!ret) {
		convert->out_nr_missing = convert_vmas(region);
		if (convert->out_nr_missing)
			ret = -EBUSY;
	}
	mmap_write_unlock(region->mm);
out_mm:
	mmput_async(region->mm);
out_claim:
	if (!ret)
		trace_postcopy_convert(region, atomic_long_read(&region->nr_present));
	postcopy_claim_release(region, &claim);
	if (!ret && convert->flags & POSTCOPY_CONVERT_RETIRE_CONTEXT)
		postcopy_context_retire(region->context);
	return ret;
}
