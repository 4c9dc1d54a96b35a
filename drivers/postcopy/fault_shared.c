// SPDX-License-Identifier: GPL-2.0
/*
 * The fault handler of a shared region.
 *
 * shmem maps a present page. A missing page is requested and waited for, see fault.c.
 * Whatever shmem has in its page cache, no mapping covers a missing page: shmem is shown
 * a VMA that has nothing but a run of present pages, see fault_map().
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/srcu.h>

#include "fault.h"
#include "postcopy.h"

/*
 * A read section of this SRCU covers a fault from where it finds a page present until
 * it has mapped it. Discard waits for these sections, so the handler maps the page
 * itself instead of leaving that to the core, which would also map the rest of a large
 * folio.
 */
DEFINE_STATIC_SRCU(shared_faults);

/**
 * postcopy_shared_faults_drain() - wait for the faults that have seen a present bit set
 *
 * Context: sleeps.
 */
void postcopy_shared_faults_drain(void)
{
	synchronize_srcu(&shared_faults);
}

/*
 * shmem's ->fault waits while a hole is punched, and drops the fault lock for that. Then
 * the VMA may go, and its reference on the region with it.
 */
static vm_fault_t fault_shmem(struct postcopy_region *region, struct vm_fault *vmf)
{
	vm_fault_t ret;

	postcopy_region_get(region);
	ret = region->shared.shmem_ops->fault(vmf);
	postcopy_region_put(region);
	return ret;
}

/* Is there a page table, as opposed to nothing or a huge page? */
static bool fault_has_table(pmd_t pmd)
{
	return pmd_present(pmd) && !pmd_leaf(pmd);
}

/*
 * Have shmem map what the page cache has of the pages of the file from @first to @last, near
 * the fault. Of those from @run to @run_end, which include them and are all present, it may
 * map more, as large folios.
 *
 * The range that ->map_pages is given does not bound it: it may map a large folio as a whole.
 * The VMA does bound it. So it gets a copy of the VMA that has only this run in it.
 */
static vm_fault_t fault_map(struct vm_fault *vmf, pgoff_t first, pgoff_t last, pgoff_t run,
			    pgoff_t run_end)
{
	struct postcopy_region *region = vmf->vma->vm_private_data;
	struct vm_area_struct part __uninitialized;
	struct vm_fault fault = {
		.vma = &part,
		.gfp_mask = vmf->gfp_mask,
		.pgoff = vmf->pgoff,
		.address = vmf->address,
		.real_address = vmf->real_address,
		.flags = vmf->flags,
		.pmd = vmf->pmd,
		.pud = vmf->pud,
		.orig_pte = vmf->orig_pte,
		.prealloc_pte = vmf->prealloc_pte,
	};
	vm_fault_t ret;

	/* Others may take the lock of the VMA, which nothing looks at in the copy. */
	data_race(memcpy(&part, vmf->vma, sizeof(part)));
	part.vm_end = part.vm_start + ((run_end + 1 - part.vm_pgoff) << PAGE_SHIFT);
	part.vm_start += (run - part.vm_pgoff) << PAGE_SHIFT;
	part.vm_pgoff = run;
	ret = region->shared.shmem_ops->map_pages(&fault, first, last);
	vmf->prealloc_pte = fault.prealloc_pte;
	return ret;
}

static vm_fault_t fault_map_page(struct vm_fault *vmf)
{
	return fault_map(vmf, vmf->pgoff, vmf->pgoff, vmf->pgoff, vmf->pgoff);
}

/* Map one page. */
static vm_fault_t fault_shared_present(struct postcopy_region *region,
				       struct vm_fault *vmf)
{
	vm_fault_t ret;
	bool poisoned;

	/*
	 * The core has allocated a page table if there was nothing. Without one, ->map_pages of
	 * some kernels must not find that what was there has gone. A page table does not go
	 * away under them.
	 */
	if (!vmf->prealloc_pte && !fault_has_table(READ_ONCE(*vmf->pmd)))
		return VM_FAULT_NOPAGE;
	ret = fault_map_page(vmf);
	if (ret)
		return ret;
	ret = fault_shmem(region, vmf);
	if (!(ret & VM_FAULT_LOCKED))
		return ret;
	poisoned = PageHWPoison(vmf->page);
	/* ->map_pages leaves out pages that drop_caches marked for reclaim. This unmarks it. */
	folio_mark_dirty(page_folio(vmf->page));
	unlock_page(vmf->page);
	put_page(vmf->page);
	vmf->page = NULL;
	ret &= ~VM_FAULT_LOCKED;
	if (poisoned)
		return ret | VM_FAULT_HWPOISON;
	/* If another thread has locked the page meanwhile, the access is tried again. */
	ret |= fault_map_page(vmf);
	return ret | VM_FAULT_NOPAGE;
}

/**
 * postcopy_shared_fault() - ->fault of a shared region
 * @vmf: the fault
 *
 * Context: as postcopy_private_fault().
 */
vm_fault_t postcopy_shared_fault(struct vm_fault *vmf)
{
	struct postcopy_region *region = vmf->vma->vm_private_data;
	unsigned long index = vmf->pgoff - region->shared.first;
	vm_fault_t ret;
	int srcu;

	if (index >= region->nr_pages)
		return VM_FAULT_SIGBUS;
	srcu = srcu_read_lock(&shared_faults);
	/* Pairs with the barrier in postcopy_pages_mark(). */
	if (test_bit_acquire(index, region->present)) {
		ret = postcopy_fault_drop_marker(vmf) ? VM_FAULT_NOPAGE :
					       fault_shared_present(region, vmf);
		srcu_read_unlock(&shared_faults, srcu);
		return ret;
	}
	srcu_read_unlock(&shared_faults, srcu);
	return postcopy_fault_missing(region, index, vmf);
}

/* Entries of a page table in one cache line */
#define LINE_PTES	(L1_CACHE_BYTES / sizeof(pte_t))

/*
 * Is the page before mapped, or a page whose entry is in the same cache line, which this
 * fault writes to in any case? Then accesses are near each other, and mapping more pages
 * is worth it. This may miss a page that is being mapped or unmapped just now. The caller
 * holds the RCU read lock, so a page table that is taken away is not freed meanwhile.
 */
static bool fault_has_neighbour(struct vm_fault *vmf, pmd_t pmd)
{
	unsigned long at = pte_index(vmf->address);
	pte_t *entry = (pte_t *)pmd_page_vaddr(pmd) + at - at % LINE_PTES;
	pte_t *end = entry + LINE_PTES;

	if (at >= LINE_PTES)
		entry--;
	for (; entry < end; entry++)
		if (!pte_none(READ_ONCE(*entry)))
			return true;
	return false;
}

/* The present pages of the region around @index within [*first, *last], both inclusive. */
static void fault_run(struct postcopy_region *region, unsigned long index,
		      unsigned long *first, unsigned long *last)
{
	unsigned long i = index;

	while (i > *first && test_bit(i - 1, region->present))
		i--;
	*first = i;
	*last = postcopy_next_missing(region, index, *last + 1) - 1;
}

/*
 * For an empty PMD: map a huge page if all of its pages are present and the page cache has
 * one. If the page cache has small pages, this makes a page table and maps one of them.
 */
static vm_fault_t fault_map_huge(struct vm_fault *vmf, pgoff_t first)
{
	struct postcopy_region *region = vmf->vma->vm_private_data;
	struct folio *folio = __filemap_get_folio(region->shared.file->f_mapping, vmf->pgoff,
						  FGP_LOCK | FGP_NOWAIT, 0);

	if (IS_ERR_OR_NULL(folio))
		return 0;
	/* Some kernels lose the dirty bit when a huge page is unmapped as a whole. */
	folio_mark_dirty(folio);
	folio_unlock(folio);
	folio_put(folio);
	return fault_map(vmf, vmf->pgoff, vmf->pgoff, first, first + PTRS_PER_PTE - 1);
}

/**
 * postcopy_shared_map_pages() - ->map_pages of a shared region: fault-around
 * @vmf: a read fault
 * @first: first page of the file that may be mapped
 * @last: last such page
 *
 * Maps only present pages: the run around the fault if something near is mapped already,
 * or a huge page where there is no page table.
 *
 * Context: as postcopy_private_fault(), under the RCU read lock.
 */
vm_fault_t postcopy_shared_map_pages(struct vm_fault *vmf, pgoff_t first,
				     pgoff_t last)
{
	struct postcopy_region *region = vmf->vma->vm_private_data;
	struct vm_area_struct *vma = vmf->vma;
	unsigned long index = vmf->pgoff - region->shared.first;
	pgoff_t vma_end = vma->vm_pgoff + vma_pages(vma);
	pmd_t pmd = READ_ONCE(*vmf->pmd);
	bool huge = pmd_none(pmd);
	vm_fault_t ret = 0;
	int srcu;

	if (index >= region->nr_pages)
		return 0;
	if (huge) {
		first = vmf->pgoff - pte_index(vmf->address);
		last = first + PTRS_PER_PTE - 1;
		/* Without a page table shmem's method could map only a huge page. */
		if (!vmf->prealloc_pte || vmf->pgoff - vma->vm_pgoff < pte_index(vmf->address) ||
		    last >= vma_end)
			return 0;
	} else if (!fault_has_table(pmd) || !fault_has_neighbour(vmf, pmd)) {
		return 0;
	}
	first -= region->shared.first;
	last -= region->shared.first;
	srcu = srcu_read_lock(&shared_faults);
	if (!test_bit(index, region->present))
		goto out;
	if (!huge)
		fault_run(region, index, &first, &last);
	else if (postcopy_next_missing(region, first, last + 1) <= last)
		goto out;
	/* Pairs with the barrier in postcopy_pages_mark(). */
	smp_rmb();
	first += region->shared.first;
	last += region->shared.first;
	ret = huge ? fault_map_huge(vmf, first) : fault_map(vmf, first, last, first, last);
out:
	srcu_read_unlock(&shared_faults, srcu);
	return ret;
}
