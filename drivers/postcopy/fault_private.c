// SPDX-License-Identifier: GPL-2.0
/*
 * The fault handler of a private region.
 *
 * The core calls it for a page table entry that is none. The present map says what
 * that means:
 *
 *	present		the page was delivered as zeros, or the owner has dropped
 *			it since (MADV_DONTNEED): zeros
 *	missing, and this thread is in a FILL of this page
 *			hand the core the page with the data
 *	missing		request the page and wait, see fault.c
 */
#include <linux/highmem.h>
#include <linux/oom.h>
#include <linux/pagemap.h>

#include "fault.h"
#include "postcopy.h"

/*
 * For a write to a private mapping the core has allocated the new anonymous page,
 * vmf->cow_page, and copies vmf->page into it afterwards. The content is in cow_page
 * already, so hand over cow_page itself, locked and with a reference as the core
 * expects. The copy of a page to itself stays in the first-level cache.
 */
static vm_fault_t fault_hand_over(struct vm_fault *vmf)
{
	lock_page(vmf->cow_page);
	get_page(vmf->cow_page);
	vmf->page = vmf->cow_page;
	return VM_FAULT_LOCKED;
}

/**
 * postcopy_fault_zero() - map zeros for a page that is present and not mapped
 * @vmf: a fault in a private mapping
 *
 * Context: as postcopy_private_fault().
 */
vm_fault_t postcopy_fault_zero(struct vm_fault *vmf)
{
	/* The OOM reaper may have unmapped the page: then the process is dying. */
	vm_fault_t ret = check_stable_address_space(vmf->vma->vm_mm);

	if (ret)
		return ret;
	if (vmf->cow_page) {
		clear_user_highpage(vmf->cow_page, vmf->address);
		return fault_hand_over(vmf);
	}
	if (postcopy_fault_drop_marker(vmf))
		return VM_FAULT_NOPAGE;
	/* The special entry that anonymous memory has for the zero page. */
	return vmf_insert_mixed(vmf->vma, vmf->address,
				page_to_pfn(ZERO_PAGE(vmf->address)));
}

/**
 * postcopy_private_fault() - ->fault of a private region
 * @vmf: the fault; for a write the core has allocated vmf->cow_page
 *
 * Context: mmap_lock for reading or the per-VMA lock is held; if it waits it drops
 * the lock and returns VM_FAULT_RETRY or VM_FAULT_COMPLETED.
 */
vm_fault_t postcopy_private_fault(struct vm_fault *vmf)
{
	struct postcopy_region *region = vmf->vma->vm_private_data;
	unsigned long index = vmf->pgoff - region->first;
	struct postcopy_claim *claim;

	/* In a forked child, or beyond the end of the region after mremap. */
	if (vmf->vma->vm_mm != region->mm || index >= region->nr_pages)
		return VM_FAULT_SIGBUS;

	/* Pairs with the barrier in postcopy_pages_mark(). */
	if (test_bit_acquire(index, region->present))
		return postcopy_fault_zero(vmf);

	if (vmf->flags & FAULT_FLAG_REMOTE) {
		claim = postcopy_claim_of_current(region, index);
		if (claim)
			return postcopy_fill_supply(claim, vmf) ?:
			       fault_hand_over(vmf);
	}
	return postcopy_fault_missing(region, index, vmf);
}
