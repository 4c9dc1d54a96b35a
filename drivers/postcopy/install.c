// SPDX-License-Identifier: GPL-2.0
/*
 * Putting pages with their content into the owner's page table, many at once.
 *
 * Theory of operation. The core offers modules two ways to put anonymous memory into
 * the page table of a process. One is handle_mm_fault(), which is right in every case
 * and takes one page at a time (fill.c). The other is migrate_vma_pages(), by which
 * drivers of devices with memory bring pages in. It takes an array of new pages. For
 * an element without a source page (only "MIGRATE" is set) it charges the new page to
 * the owner's memory cgroup and maps it as do_anonymous_page() would, if the page
 * table entry is still none. It insists on an anonymous VMA. Ours is one in all but
 * its vm_ops, so migrate_vma_pages() gets a copy of the VMA without vm_ops. Of the
 * copy it uses only what cannot change while mmap_lock is held (bounds, flags, page
 * protection, anon_vma, mm). The VMA must have an anon_vma already, since one made
 * for the copy would be lost.
 *
 * So: allocate pages by the owner's NUMA policy, copy the data, have them mapped.
 * handle_mm_fault() gets what cannot go this way: the first page of a VMA, VMAs that
 * are not writable, entries that are not none, lack of memory.
 *
 * migrate_vma_pages() tells MMU notifiers that the range changes. Where there are any,
 * that is where KVM runs on this memory, that costs more for a single page than it
 * saves, and makes vCPUs that wait for other pages try again. Then only longer runs
 * go this way.
 */
#include <linux/highmem.h>
#include <linux/migrate.h>
#include <linux/mmu_notifier.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "install.h"
#include "postcopy.h"

/* With KVM on the memory, fewer pages than this are not worth calling its notifiers. */
#define INSTALL_MIN_NOTIFIED	16UL

/**
 * postcopy_install_alloc() - prepare to install more than one page at once
 * @install: from postcopy_install_begin(), for postcopy_install_end()
 * @nr: how many pages there are
 *
 * Context: may sleep. Cannot fail: without memory fewer pages are installed at once.
 */
void postcopy_install_alloc(struct postcopy_install *install, unsigned long nr)
{
	unsigned long slots = min(nr, POSTCOPY_INSTALL_BATCH);
	void *memory = kcalloc(slots, 3 * sizeof(long), GFP_KERNEL | __GFP_NOWARN);

	if (!memory)
		return;
	install->memory = memory;
	install->nr_slots = slots;
	install->pages = memory;
	install->src = memory + slots * sizeof(long);
	install->dst = memory + 2 * slots * sizeof(long);
}

/**
 * postcopy_install_end() - free the pages that are left, and the arrays
 * @install: from postcopy_install_begin()
 */
void postcopy_install_end(struct postcopy_install *install)
{
	unsigned int i;

	for (i = 0; i < install->nr_slots; i++)
		if (install->pages[i])
			put_page(install->pages[i]);
	/* The arrays for a single slot are in the struct. */
	if (install->nr_slots > 1)
		kfree(install->memory);
}

/* By default pages come from the local node, which can allocate many at once. */
static bool install_is_local(const struct vm_area_struct *vma)
{
#ifdef CONFIG_NUMA
	return !vma->vm_policy && !current->mempolicy;
#else
	return true;
#endif
}

/* Put new pages of the local node into slots. Returns how many slots have one. */
static unsigned int install_alloc_local(struct postcopy_install *install,
					struct postcopy_region *region, unsigned int nr)
{
	if (nr > 1)
		return alloc_pages_bulk_node(GFP_HIGHUSER_MOVABLE, numa_mem_id(), nr,
					     install->pages);
	if (!install->pages[0])
		install->pages[0] = postcopy_stash_take(&region->stash);
	return install->pages[0] ? 1 : 0;
}

/* Put new pages into the first slots. Returns how many slots have one. */
static unsigned int install_alloc(struct postcopy_install *install,
				  struct postcopy_region *region, unsigned int nr,
				  struct vm_area_struct *vma, unsigned long address)
{
	unsigned int i;

	if (install_is_local(vma)) {
		i = install_alloc_local(install, region, nr);
		if (i)
			return i;
	}
	for (i = 0; i < nr; i++) {
		struct folio *folio;

		if (install->pages[i])
			continue;
		folio = postcopy_alloc_folio(GFP_HIGHUSER_MOVABLE, vma,
					     address + i * PAGE_SIZE);
		if (!folio)
			break;
		install->pages[i] = folio_page(folio, 0);
	}
	return i;
}

/* Copy the data of missing pages into new ones. Returns how many could be read. */
static unsigned int install_copy(struct postcopy_install *install,
				 struct postcopy_region *region,
				 unsigned long index, unsigned int nr,
				 const void __user *data)
{
	unsigned long left;
	unsigned int i;
	void *to;

	pagefault_disable();
	for (i = 0; i < nr; i++, data += PAGE_SIZE) {
		install->src[i] = 0;
		install->dst[i] = 0;
		if (test_bit(index + i, region->present))
			continue;
		to = kmap_local_page(install->pages[i]);
		left = __copy_from_user_inatomic(to, data, PAGE_SIZE);
		kunmap_local(to);
		if (left)
			break;
		flush_dcache_page(install->pages[i]);
		install->src[i] = MIGRATE_PFN_MIGRATE;
		install->dst[i] = migrate_pfn(page_to_pfn(install->pages[i]));
	}
	pagefault_enable();
	return i;
}

/*
 * Drop our references on the new pages and count those that were mapped. Returns the
 * number of pages before the first that was not. Pages mapped after that one are marked
 * present here: if their page table entries are not none, the present map must say so. A
 * page that was not mapped is freed, not used again: it may have been charged to the
 * owner's memory cgroup and must not be charged a second time.
 */
static unsigned int install_finish(struct postcopy_install *install,
				   struct postcopy_region *region,
				   unsigned long index, unsigned int nr,
				   u64 *nr_filled)
{
	unsigned int i, done = nr;

	for (i = 0; i < nr; i++) {
		if (!install->dst[i])
			continue;
		put_page(install->pages[i]);
		install->pages[i] = NULL;
		if (install->src[i] & MIGRATE_PFN_MIGRATE) {
			(*nr_filled)++;
			if (done < i)
				postcopy_pages_mark(region, index + i, 1);
		} else if (done == nr) {
			done = i;
		}
	}
	return done;
}

/**
 * postcopy_install() - map data in missing pages of the owner
 * @install: from postcopy_install_begin()
 * @region: private
 * @vma: one of its VMAs in the owner
 * @index: the first page; the caller has claimed them all
 * @nr: pages, all in @vma and not more than @install->nr_slots
 * @data: readable memory of the caller, perhaps paged out
 * @nr_filled: is increased by the pages that were missing and have this data
 *
 * The caller marks the pages present that this function has dealt with.
 *
 * Context: mmap_lock of the owner is held. Allocates memory, takes no fault.
 * Return: pages dealt with, from @index on; 0: the first page needs the other way;
 * EAGAIN: the data of the first page is not in memory.
 */
long postcopy_install(struct postcopy_install *install,
		      struct postcopy_region *region, struct vm_area_struct *vma,
		      unsigned long index, unsigned long nr,
		      const void __user *data, u64 *nr_filled)
{
	unsigned long address = region->address + (index << PAGE_SHIFT);
	struct vm_area_struct pseudo __uninitialized;
	struct migrate_vma migrate __uninitialized;
	unsigned int copied;

	mmap_assert_locked(region->mm);
	/* There is no migrate_vma_pages(), as on arm64 before Linux 6.12. */
	if (!IS_ENABLED(CONFIG_DEVICE_MIGRATION))
		return 0;
	memcpy(&pseudo, vma, sizeof(pseudo));
	if (!(pseudo.vm_flags & VM_WRITE) || !pseudo.anon_vma ||
	    (nr < INSTALL_MIN_NOTIFIED && mm_has_notifiers(region->mm)))
		return 0;
	pseudo.vm_ops = NULL;

	nr = install_alloc(install, region, nr, vma, address);
	if (!nr)
		return 0;
	copied = install_copy(install, region, index, nr, data);
	if (!copied)
		return -EAGAIN;
	migrate = (struct migrate_vma) {
		.vma = &pseudo,
		.src = install->src,
		.dst = install->dst,
		.npages = copied,
		.start = address,
		.end = address + copied * PAGE_SIZE,
	};
	migrate_vma_pages(&migrate);
	return install_finish(install, region, index, copied, nr_filled);
}
