// SPDX-License-Identifier: GPL-2.0
/*
 * What a forked child has of a private region.
 *
 * Pages that were mapped in the owner at the fork are in the child's page tables,
 * copy-on-write. A page table entry that is none meant zeros in the owner if the
 * page was present, and in the child it means the same. But the present map goes
 * on with the owner: of a page that arrives there after the fork it says present,
 * while the child has no data. So the child's VMA has a copy of the map, taken at
 * the fork.
 *
 * Why the copy is right: fork holds the owner's mmap_lock for writing, the data of
 * a fill is installed under it before the bit is set, and a discard needs it. So a
 * bit that is set in the copy belongs to a page that was either mapped, hence
 * copied by this fork, or zeros; whether open() is called before the page tables
 * are copied (6.12) or after (6.1). A page whose bit came too late for the copy
 * is SIGBUS, as is all that was missing. A child never makes a request.
 *
 * Pieces of the VMA and the child's own children share the copy: what the child
 * drops reads zero, what was missing stays missing.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "postcopy.h"

struct child {
	refcount_t refs;	/* VMAs */
	/* Set once. */
	struct postcopy_region *region;	/* keeps the module */
	unsigned long first;	/* page of the RAM image that bit 0 is for */
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
 * postcopy_child_adopt() - a VMA of a private region has been copied by fork
 * @vma: the child's, has a reference on @region
 * @region: whose owner forks, in this thread
 *
 * Without the memory for a copy of the map the VMA stays as it is: all that is
 * not mapped raises SIGBUS.
 *
 * Context: may sleep; mmap_lock of owner and child are held for writing.
 */
void postcopy_child_adopt(struct vm_area_struct *vma, struct postcopy_region *region)
{
	unsigned long first, last, word;
	struct child *child;

	mmap_assert_write_locked(region->mm);
	first = vma->vm_pgoff - region->first;
	/* After mremap it may end beyond the region. */
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
	/* The VMA's reference on the region is the child's from now on. */
	vma->vm_private_data = child;
	vma->vm_ops = &child_vm_ops;
	/* Never merged: the next VMA's pages are not in this one's copy. */
	vm_flags_set(vma, VM_DONTEXPAND);
}
