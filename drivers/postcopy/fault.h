/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What both fault handlers use, of private and of shared regions.
 */
#ifndef _POSTCOPY_FAULT_H
#define _POSTCOPY_FAULT_H

#include <linux/mm.h>

struct postcopy_region;

vm_fault_t postcopy_fault_missing(struct postcopy_region *region,
				  unsigned long index, struct vm_fault *vmf);
void postcopy_fault_clear_marker(struct vm_fault *vmf);

/**
 * postcopy_fault_drop_marker() - clear the page table entry if it is a marker
 * @vmf: the fault
 *
 * vmf_insert_mixed() needs an entry that is none. It may be a marker instead: userfaultfd's
 * write protection with WP_ASYNC, which works on every kind of memory, leaves them, and
 * PAGEMAP_SCAN tells by them which pages were written to. Without the marker the page counts
 * as written to, which is right: it has just been delivered. On a write the core removes
 * the marker itself.
 *
 * Context: as postcopy_private_fault().
 * Return: true if there was a marker; the access is to be tried again.
 */
static inline bool postcopy_fault_drop_marker(struct vm_fault *vmf)
{
	if (!(vmf->flags & FAULT_FLAG_ORIG_PTE_VALID) || pte_none(vmf->orig_pte))
		return false;
	postcopy_fault_clear_marker(vmf);
	return true;
}

#endif /* _POSTCOPY_FAULT_H */
