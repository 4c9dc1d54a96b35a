// SPDX-License-Identifier: GPL-2.0
/*
 * The fault handler of a private region.
 *
 * The core calls it for a page table entry that is none. What that means is for
 * the present map to say:
 *
 *	present		the page was delivered as zeros, or its owner has dropped
 *			it since (MADV_DONTNEED): zeros
 *	missing, and we run inside the helper's FILL of this very page
 *			hand the core the page with the data
 *	missing		request it and wait, see fault.c
 */
#include <linux/highmem.h>
#include <linux/oom.h>
#include <linux/pagemap.h>
#include <linux/pfn_t.h>

#include "fault.h"
#include "postcopy.h"

/*
 * A write to a private mapping comes with the new anonymous page in
 * vmf->cow_page; the core then copies vmf->page into it. The content is in
 * cow_page already, so that is the page to hand over, locked and with a
 * reference as the core expects. The copy of a page to itself stays in the
 * first-level cache.
 */
static vm_fault_t fault_hand_over(struct vm_fault *vmf)
{
	lock_page(vmf->cow_page);
	get_page(vmf->cow_page);
	vmf->page = vmf->cow_page;
	return VM_FAULT_LOCKED;
}

/**
 * postcopy_fault_zero() - map zeros: a page that is present and not mapped
 * @vmf: a fault in a private mapping
 *
 * Context: as postcopy_private_fault().
 */
vm_fault_t postcopy_fault_zero(struct vm_fault *vmf)
{
	/* Unless the OOM reaper has unmapped it: then the process is dying. */
	vm_fault_t ret = check_stable_address_space(vmf->vma->vm_mm);

	if (ret)
		return ret;
	if (vmf->cow_page) {
		clear_user_highpage(vmf->cow_page, vmf->address);
		return fault_hand_over(vmf);
	}
	/* Then it is tried again. */
	if (postcopy_fault_drop_marker(vmf))
		return VM_FAULT_NOPAGE;
	/* The same special entry that anonymous memory has for it. */
	return vmf_insert_mixed(vmf->vma, vmf->address,
				pfn_to_pfn_t(page_to_pfn(ZERO_PAGE(vmf->address))));
}

/**
 * postcopy_private_fault() - ->fault of a private region
 * @vmf: the fault; for a write the core has allocated vmf->cow_page
 *
 * Context: mmap_lock for reading or the per-VMA lock; given up if it waits,
 * and then VM_FAULT_RETRY or VM_FAULT_COMPLETED is returned.
 */
vm_fault_t postcopy_private_fault(struct vm_fault *vmf)
{
	struct postcopy_region *region = vmf->vma->vm_private_data;
	unsigned long index = vmf->pgoff - region->first;
	struct postcopy_claim *claim;

	/* A forked child, or beyond the end after mremap. */
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
