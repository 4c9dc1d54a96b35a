// SPDX-License-Identifier: GPL-2.0
/*
 * The fault handler of a shared region.
 *
 * shmem maps a present page. A missing page is requested and waited for, see fault.c.
 * Whatever shmem has in its page cache, no mapping covers a missing page: a large folio
 * is mapped as a whole only if all of it is present, otherwise page by page.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/srcu.h>

#include "fault.h"
#include "postcopy.h"

/*
 * A read section of this SRCU covers a fault from where it finds a page present until
 * it has mapped it. Discard waits for these sections, so the handler maps the page
 * itself instead of leaving that to the core. That also keeps the core from mapping a
 * large folio as a whole.
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

/* The page from the page cache, locked and with a reference, or NULL if it is not there. */
static struct page *fault_cached_page(struct postcopy_region *region,
				      struct vm_fault *vmf)
{
	struct folio *folio = filemap_lock_folio(region->shared.file->f_mapping, vmf->pgoff);

	if (IS_ERR_OR_NULL(folio))
		return NULL;
	if (folio_test_uptodate(folio))
		return folio_file_page(folio, vmf->pgoff);
	folio_unlock(folio);
	folio_put(folio);
	return NULL;
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

/*
 * Map one page of a memfd. At any time others can have the memfd's pages collapsed to a
 * huge page, which removes page tables, so this relies on none. vmf_insert_page() needs
 * VM_MIXEDMAP.
 */
static vm_fault_t fault_memfd_present(struct postcopy_region *region,
				      struct vm_fault *vmf)
{
	struct page *page = fault_cached_page(region, vmf);
	vm_fault_t ret = 0;

	if (!page) {
		ret = fault_shmem(region, vmf);
		if (!(ret & VM_FAULT_LOCKED))
			return ret;
		ret &= ~VM_FAULT_LOCKED;
		page = vmf->page;
		vmf->page = NULL;
	}
	/* The core checks this only for pages that it maps itself. */
	if (PageHWPoison(page))
		ret |= VM_FAULT_HWPOISON;
	else
		ret |= vmf_insert_page(vmf->vma, vmf->address, page);
	unlock_page(page);
	put_page(page);
	return ret;
}

/* Is there a page table, as opposed to nothing or a huge page? */
static bool fault_has_table(struct vm_fault *vmf)
{
	pmd_t pmd = READ_ONCE(*vmf->pmd);

	return pmd_present(pmd) && !pmd_leaf(pmd);
}

static int table_entry_leave(pte_t *pte, unsigned long address, void *data)
{
	return 0;
}

/* Make a page table, unless there is one or a huge page. A page table stays. */
static int fault_make_table(struct postcopy_region *region, struct vm_fault *vmf)
{
	int err = 0;

	mutex_lock(&region->shared.tables_lock);
	if (pmd_none(READ_ONCE(*vmf->pmd)))
		err = apply_to_page_range(vmf->vma->vm_mm, vmf->address & PAGE_MASK,
					  PAGE_SIZE, table_entry_leave, NULL);
	mutex_unlock(&region->shared.tables_lock);
	return err;
}

/*
 * Map one page. Where there is a page table, shmem's ->map_pages maps only the page that
 * it is asked for, even one of a large folio, if the page cache has it.
 */
static vm_fault_t fault_shared_present(struct postcopy_region *region,
				       struct vm_fault *vmf)
{
	vm_fault_t ret;
	bool poisoned;

	if (region->shared.is_memfd)
		return fault_memfd_present(region, vmf);
	if (pmd_none(READ_ONCE(*vmf->pmd)) && fault_make_table(region, vmf))
		return VM_FAULT_OOM;
	/* A huge page was mapped meanwhile, so all of it is present. */
	if (!fault_has_table(vmf))
		return VM_FAULT_NOPAGE;
	ret = region->shared.shmem_ops->map_pages(vmf, vmf->pgoff, vmf->pgoff);
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
	ret |= region->shared.shmem_ops->map_pages(vmf, vmf->pgoff, vmf->pgoff);
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
 * is worth it. Page tables stay: nothing collapses them, see shared.c. This may miss a
 * page that is being mapped or unmapped just now.
 */
static bool fault_has_neighbour(struct vm_fault *vmf)
{
	unsigned long at = pte_index(vmf->address);
	pte_t *entry = pte_offset_kernel(vmf->pmd, vmf->address) - at % LINE_PTES;
	pte_t *end = entry + LINE_PTES;

	if (at >= LINE_PTES)
		entry--;
	for (; entry < end; entry++)
		if (!pte_none(READ_ONCE(*entry)))
			return true;
	return false;
}

/*
 * For an empty PMD: map a huge page if all of its pages are present and the page cache
 * has one. If the page cache has a small page, this makes a page table and maps that.
 */
static vm_fault_t fault_map_huge(struct postcopy_region *region, struct vm_fault *vmf,
				 unsigned long index)
{
	unsigned long skip = vmf->pgoff % PTRS_PER_PTE, first = index - skip;
	vm_fault_t ret = 0;
	struct folio *folio;
	int srcu;

	/* Without a preallocated page table shmem's method could map only a huge page. */
	if (!vmf->prealloc_pte || index < skip || region->nr_pages - first < PTRS_PER_PTE)
		return 0;
	srcu = srcu_read_lock(&shared_faults);
	if (postcopy_next_missing(region, first, first + PTRS_PER_PTE) != first + PTRS_PER_PTE)
		goto out;
	/* Pairs with the barrier in postcopy_pages_mark(). */
	smp_rmb();
	folio = __filemap_get_folio(region->shared.file->f_mapping, vmf->pgoff,
				    FGP_LOCK | FGP_NOWAIT, 0);
	if (IS_ERR_OR_NULL(folio))
		goto out;
	/* Some kernels lose the dirty bit when a huge page is unmapped as a whole. */
	folio_mark_dirty(folio);
	folio_unlock(folio);
	folio_put(folio);
	/* Under this lock no other thread makes a page table here. */
	if (!mutex_trylock(&region->shared.tables_lock))
		goto out;
	if (pmd_none(READ_ONCE(*vmf->pmd)))
		ret = region->shared.shmem_ops->map_pages(vmf, vmf->pgoff, vmf->pgoff);
	mutex_unlock(&region->shared.tables_lock);
out:
	srcu_read_unlock(&shared_faults, srcu);
	return ret;
}

/**
 * postcopy_shared_map_pages() - ->map_pages of a shared region: fault-around
 * @vmf: a read fault
 * @first: first page of the file that may be mapped
 * @last: last such page
 *
 * Maps only the run of present pages around the fault, only if something near is mapped
 * already, and only where there is a page table: into an empty PMD shmem's method might
 * put a huge page, which must be present as a whole. The page table does not go away
 * meanwhile, see shared.c on collapsing. A memfd is different: whoever maps it directly
 * can have it collapsed, which removes the page tables of every process that maps it. So
 * of a memfd nothing is mapped around a fault.
 *
 * Context: as postcopy_private_fault(), under the RCU read lock.
 */
vm_fault_t postcopy_shared_map_pages(struct vm_fault *vmf, pgoff_t first,
				     pgoff_t last)
{
	struct postcopy_region *region = vmf->vma->vm_private_data;
	unsigned long index = vmf->pgoff - region->shared.first;
	vm_fault_t ret = 0;
	unsigned long i;
	int srcu;

	if (index >= region->nr_pages || region->shared.is_memfd)
		return 0;
	if (pmd_none(READ_ONCE(*vmf->pmd)))
		return fault_map_huge(region, vmf, index);
	if (!fault_has_table(vmf) || !fault_has_neighbour(vmf))
		return 0;
	srcu = srcu_read_lock(&shared_faults);
	if (!test_bit_acquire(index, region->present))
		goto out;
	for (i = index; region->shared.first + i > first && i > 0; i--)
		if (!test_bit(i - 1, region->present))
			break;
	first = region->shared.first + i;
	last = min(last, region->shared.first + region->nr_pages - 1);
	i = postcopy_next_missing(region, index, last - region->shared.first + 1);
	last = region->shared.first + i - 1;
	ret = region->shared.shmem_ops->map_pages(vmf, first, last);
out:
	srcu_read_unlock(&shared_faults, srcu);
	return ret;
}
