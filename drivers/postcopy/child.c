// SPDX-License-Identifier: GPL-2.0
/*
 * What a forked child has of a private region.
 *
 * Pages that were mapped in the owner at the fork are in the child's page tables,
 * copy-on-write. If a page was present and its page table entry is none, that meant
 * zeros in the owner and means zeros in the child. But the present map follows the
 * owner: once a page arrives there after the fork the map says present, while the
 * child has no data. So the child's VMA has a copy of the map, taken at the fork.
 *
 * Why the copy is right: fork holds the owner's mmap_lock for writing. A fill installs
 * data under that lock before it sets the bit, and a discard needs the lock. So a bit
 * that is set in the copy belongs to a page that was either mapped, hence copied by
 * this fork, or zeros. That holds whether open() is called before the page tables are
 * copied (6.12) or after (6.1). A page whose bit was set too late for the copy raises
 * SIGBUS, as do all missing pages. A child never makes a request.
 *
 * Pieces of the VMA, and the child's own children, share the copy: pages that the child
 * drops read as zeros, missing pages stay missing.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "postcopy.h"

struct child {
	refcount_t refs;	/* VMAs */
	/* Set once. */
	struct postcopy_region *region;	/* keeps the module */
	unsigned long first;	/* bit 0 is for this page of the RAM image */
	unsigned long nr_pages;
	unsigned long present[];
};

static void child_open(struct vm_area_struct *vma)
{
	struct child *child = vma->vm_private_data;

	refcount_inc(&child->refs);
}

static void child_close(struct vm_area_struct *vma)
{
	struct child *child = vma->vm_private_data;
	struct postcopy_region *region = child->region;

	if (!refcount_dec_and_test(&child->refs))
		return;
	kvfree(child);
	postcopy_region_put(region);
}

static int child_mremap(struct vm_area_struct *vma)
{
	return -EOPNOTSUPP;
}

static vm_fault_t child_fault(struct vm_fault *vmf)
{
	struct child *child = vmf->vma->vm_private_data;
	unsigned long index = vmf->pgoff - child->first;

	if (index >= child->nr_pages || !test_bit(index, child->present))
		return VM_FAULT_SIGBUS;
	return postcopy_fault_zero(vmf);
}

static const struct vm_operations_struct child_vm_ops = {
	.open = child_open,
	.close = child_close,
	.mremap = child_mremap,
	.fault = child_fault,
};

/**
 * postcopy_child_adopt() - give a VMA that fork has copied its copy of the present map
 * @vma: the child's, has a reference on @region
 * @region: the private region; its owner forks in this thread
 *
 * Without memory for the copy the VMA stays as it is: every page that is not mapped
 * raises SIGBUS.
 *
 * Context: may sleep; mmap_lock of owner and child are held for writing.
 */
void postcopy_child_adopt(struct vm_area_struct *vma, struct postcopy_region *region)
{
	unsigned long first, last, word;
	struct child *child;

	mmap_assert_write_locked(region->mm);
	first = vma->vm_pgoff - region->first;
	/* After mremap the VMA may end beyond the region. */
	last = min(first + vma_pages(vma), region->nr_pages) - 1;
	if (first > last)
		return;
	child = kvzalloc(struct_size(child, present,
				     BIT_WORD(last) - BIT_WORD(first) + 1),
			 GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!child)
		return;
	refcount_set(&child->refs, 1);
	child->region = region;
	child->first = region->first + round_down(first, BITS_PER_LONG);
	child->nr_pages = last + 1 - round_down(first, BITS_PER_LONG);
	for (word = BIT_WORD(first); word <= BIT_WORD(last); word++)
		child->present[word - BIT_WORD(first)] =
			READ_ONCE(region->present[word]);
	/* From here on struct child has the VMA's reference on the region. */
	vma->vm_private_data = child;
	vma->vm_ops = &child_vm_ops;
	/* Keep it from being merged: the next VMA's pages are not in this copy. */
	vm_flags_set(vma, VM_DONTEXPAND);
}
