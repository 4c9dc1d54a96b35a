// SPDX-License-Identifier: GPL-2.0
/*
 * The VMAs of private regions: mmap() of a context, and the core's calls when VMAs
 * change.
 *
 * A private region is a private mapping of /dev/zero whose vm_ops are ours
 * until it is converted. Every VMA with our vm_ops holds a reference on its
 * region, so does each piece of a split and each copy that fork makes.
 *
 * What the owner may do to it:
 *	split, unmap a part	yes; an unmapped page counts as present
 *	mprotect, madvise, mlock  yes
 *	mremap that shrinks or grows in place	yes; pages past the end of the
 *		region raise SIGBUS
 *	mremap that moves	refused: EOPNOTSUPP, nothing changed
 *	fork	the child has the pages that were present in the owner,
 *		copy-on-write; other pages raise SIGBUS in it, see child.c
 * Two regions are never merged, because each has a file of its own.
 */
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>

#include "postcopy.h"

static void private_open(struct vm_area_struct *vma)
{
	struct postcopy_region *region = vma->vm_private_data;

	postcopy_region_get(region);
	if (vma->vm_mm == region->mm)
		atomic_inc(&region->nr_vmas);
	else if (current->mm == region->mm)	/* it forks */
		postcopy_child_adopt(vma, region);
}

static void private_close(struct vm_area_struct *vma)
{
	struct postcopy_region *region = vma->vm_private_data;

	if (vma->vm_mm == region->mm) {
		cmpxchg(&region->last_vma.vma, vma, NULL);
		if (atomic_dec_and_test(&region->nr_vmas))
			postcopy_region_end(region, POSTCOPY_REGION_DEAD);
	}
	postcopy_region_put(region);
}

static int private_mremap(struct vm_area_struct *vma)
{
	return -EOPNOTSUPP;
}

/*
 * There is nothing to map around a fault. But without this method the core
 * would not call ->fault under the per-VMA lock.
 */
static vm_fault_t private_map_pages(struct vm_fault *vmf, pgoff_t start,
				    pgoff_t end)
{
	return 0;
}

const struct vm_operations_struct postcopy_private_vm_ops = {
	.open = private_open,
	.close = private_close,
	.mremap = private_mremap,
	.fault = postcopy_private_fault,
	.map_pages = private_map_pages,
};

/**
 * postcopy_mmap_private() - a private mapping of a context creates a region
 * @context: the context
 * @vma: new mapping of the current process
 *
 * Context: may sleep; mmap_lock is held for writing.
 * Return: 0 or -errno.
 */
int postcopy_mmap_private(struct postcopy_context *context,
			  struct vm_area_struct *vma)
{
	struct postcopy_region *region;
	struct file *file;

	file = dentry_open(&postcopy_zero_file->f_path, O_RDWR,
			   postcopy_zero_file->f_cred);
	if (IS_ERR(file))
		return PTR_ERR(file);
	mutex_lock(&context->lock);
	region = postcopy_region_create(context, vma, NULL, 0);
	mutex_unlock(&context->lock);
	if (IS_ERR(region)) {
		fput(file);
		return PTR_ERR(region);
	}
	vma_set_file(vma, file);
	fput(file);	/* the VMA has its own reference now */
	vma->vm_private_data = region;
	vma->vm_ops = &postcopy_private_vm_ops;
	return 0;
}

/**
 * postcopy_private_vma() - find the region's VMA at an address in its owner
 * @region: private
 * @address: in its owner
 *
 * Helpers fill one page after the other, so this remembers the last VMA. It is good until
 * mmap_lock has been held for writing. Forgetting it in ->close would not be enough: munmap
 * removes a VMA with the lock held for writing, but calls ->close only after it has let
 * readers in. ->close forgets it too, so that it does not matter that generations have only
 * 32 bits.
 *
 * Context: mmap_lock of the owner is held for reading.
 * Return: the VMA, valid as long as mmap_lock is held, or NULL.
 */
struct vm_area_struct *postcopy_private_vma(struct postcopy_region *region,
					    unsigned long address)
{
	unsigned int generation = 0;
	bool counted = postcopy_mmap_generation(region->mm, &generation);
	struct vm_area_struct *vma;

	mmap_assert_locked(region->mm);
	/* Other readers may store meanwhile, but the same generation, and the VMA first. */
	if (counted && smp_load_acquire(&region->last_vma.generation) == generation) {
		vma = READ_ONCE(region->last_vma.vma);
		if (vma && address >= vma->vm_start && address < vma->vm_end)
			return vma;
	}
	vma = vma_lookup(region->mm, address);
	if (!vma || !postcopy_vma_of(vma, region))
		return NULL;
	if (counted) {
		WRITE_ONCE(region->last_vma.vma, vma);
		/* Pairs with the load above. */
		smp_store_release(&region->last_vma.generation, generation);
	}
	return vma;
}

/**
 * postcopy_private_next_vma() - find the region's next VMA in its owner
 * @region: private
 * @address: the VMA ends above this address
 * @end: the VMA starts below this address
 *
 * Context: mmap_lock of the owner is held.
 * Return: the first such VMA, or NULL.
 */
struct vm_area_struct *postcopy_private_next_vma(struct postcopy_region *region,
						 unsigned long address,
						 unsigned long end)
{
	struct vm_area_struct *vma;

	mmap_assert_locked(region->mm);
	for (vma = find_vma(region->mm, address); vma && vma->vm_start < end;
	     vma = find_vma(region->mm, vma->vm_end))
		if (postcopy_vma_of(vma, region))
			return vma;
	return NULL;
}
