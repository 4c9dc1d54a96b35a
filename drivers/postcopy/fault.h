/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the fault handlers have in common.
 */
#ifndef _POSTCOPY_FAULT_H
#define _POSTCOPY_FAULT_H

#include <linux/mm.h>

struct postcopy_region;

vm_fault_t postcopy_fault_missing(struct postcopy_region *region,
				  unsigned long index, struct vm_fault *vmf);
void postcopy_fault_clear_marker(struct vm_fault *vmf);

/**
 * postcopy_fault_drop_marker() - make a page table entry none that is a marker
 * @vmf: the fault
 *
 * vmf_insert_mixed() wants the page table entry to be none. It may be a marker instead: of
 * userfaultfd's write protection with WP_ASYNC, which PAGEMAP_SCAN tells writes by and which
 * takes every kind of memory. Dropped, the page counts as written to, which delivering it is.
 * For a write the core deals with it.
 *
 * Context: as postcopy_private_fault().
 * Return: whether there was one.
 */
static inline bool postcopy_fault_drop_marker(struct vm_fault *vmf)
{
	if (!(vmf->flags & FAULT_FLAG_ORIG_PTE_VALID) || pte_none(vmf->orig_pte))
		return false;
	postcopy_fault_clear_marker(vmf);
	return true;
}

#endif /* _POSTCOPY_FAULT_H */
