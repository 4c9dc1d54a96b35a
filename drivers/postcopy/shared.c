// SPDX-License-Identifier: GPL-2.0
/*
 * Shared regions: shmem with our vm_ops wrapped around shmem's.
 *
 * The memory is a shmem file, see backing.c. Every mapping of the context maps that
 * file, with a struct file of its own so that the core never merges VMAs, and with our
 * vm_ops in front of shmem's: shmem maps a page that is present, a missing page becomes
 * a request, in whatever process. The helper maps the same file with shmem's own
 * vm_ops, or has the driver write to it (FILL).
 *
 * VM_DONTEXPAND is set on these VMAs until conversion. It keeps khugepaged and
 * MADV_COLLAPSE away, which would fill the missing pages of a huge page with zeros and
 * map it. It also keeps mremap() from making a VMA longer, into the next region.
 *
 * Conversion has to find the VMAs in every process, so a region counts its VMAs
 * by process. If there is no memory for a count, that process keeps our vm_ops,
 * which only call shmem's once all pages are present.
 */
#include <linux/file.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <linux/oom.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "postcopy.h"

/* A process that maps the region. */
struct postcopy_mapper {
	struct list_head node;
	struct mm_struct *mm;	/* mmgrab()ed */
	unsigned int nr_vmas;
};

static struct postcopy_mapper *mapper_find(struct postcopy_region *region,
					   struct mm_struct *mm)
{
	struct postcopy_mapper *mapper;

	lockdep_assert_held(&region->shared.mappers_lock);
	list_for_each_entry(mapper, &region->shared.mappers, node)
		if (mapper->mm == mm)
			return mapper;
	return NULL;
}

/* Count one more VMA of mm. May sleep; mmap_lock of mm is held for writing. */
static void mapper_add_vma(struct postcopy_region *region, struct mm_struct *mm)
{
	struct postcopy_mapper *mapper, *fresh = NULL;

	spin_lock(&region->shared.mappers_lock);
	mapper = mapper_find(region, mm);
	if (!mapper) {
		/* Only threads of mm add it, and mmap_lock keeps the others out. */
		spin_unlock(&region->shared.mappers_lock);
		fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);
		if (!fresh)
			return;
		mmgrab(mm);
		fresh->mm = mm;
		spin_lock(&region->shared.mappers_lock);
		list_add(&fresh->node, &region->shared.mappers);
		mapper = fresh;
	}
	mapper->nr_vmas++;
	spin_unlock(&region->shared.mappers_lock);
}

static void mapper_remove_vma(struct postcopy_region *region, struct mm_struct *mm)
{
	struct postcopy_mapper *mapper;

	spin_lock(&region->shared.mappers_lock);
	mapper = mapper_find(region, mm);
	if (mapper && --mapper->nr_vmas == 0)
		list_del(&mapper->node);
	else
		mapper = NULL;
	spin_unlock(&region->shared.mappers_lock);
	if (mapper) {
		mmdrop(mapper->mm);
		kfree(mapper);
	}
}

static void shared_open(struct vm_area_struct *vma)
{
	struct postcopy_region *region = vma->vm_private_data;

	postcopy_region_get(region);
	atomic_inc(&region->nr_vmas);
	mapper_add_vma(region, vma->vm_mm);
}

static void shared_close(struct vm_area_struct *vma)
{
	struct postcopy_region *region = vma->vm_private_data;

	mapper_remove_vma(region, vma->vm_mm);
	if (atomic_dec_and_test(&region->nr_vmas))
		postcopy_region_end(region, POSTCOPY_REGION_DEAD);
	postcopy_region_put(region);
}

#ifdef CONFIG_NUMA
static int shared_set_policy(struct vm_area_struct *vma, struct mempolicy *policy)
{
	struct postcopy_region *region = vma->vm_private_data;

	return region->shared.shmem_ops->set_policy(vma, policy);
}

static POSTCOPY_GET_POLICY(shared_get_policy)
{
	struct postcopy_region *region = vma->vm_private_data;

	return postcopy_call_get_policy(region->shared.shmem_ops);
}
#endif

const struct vm_operations_struct postcopy_shared_vm_ops = {
	.open = shared_open,
	.close = shared_close,
	.fault = postcopy_shared_fault,
	.map_pages = postcopy_shared_map_pages,
#ifdef CONFIG_NUMA
	.set_policy = shared_set_policy,
	.get_policy = shared_get_policy,
#endif
};

/* Map the part of the region's file that the VMA asks for, with shmem's vm_ops. */
static int shared_map(struct postcopy_region *region, struct vm_area_struct *vma)
{
	vma->vm_pgoff = region->shared.first + (vma->vm_pgoff - region->first);
	return postcopy_backing_map(region->shared.file, vma);
}

/**
 * postcopy_shared_unlist() - take a region off its context's list
 * @region: on the list or not; may be freed if it was
 *
 * No new mapping finds it afterwards.
 *
 * Context: context->lock is held.
 */
void postcopy_shared_unlist(struct postcopy_region *region)
{
	lockdep_assert_held(&region->context->lock);
	if (list_empty(&region->shared.node))
		return;
	list_del_init(&region->shared.node);
	postcopy_region_put(region);
}

/* Find a shared region of the context that overlaps the mapping. */
static struct postcopy_region *shared_find(struct postcopy_context *context,
					   struct vm_area_struct *vma)
{
	struct postcopy_region *region;

	lockdep_assert_held(&context->lock);
	list_for_each_entry(region, &context->shared, shared.node)
		if (vma->vm_pgoff < region->first + region->nr_pages &&
		    region->first < vma->vm_pgoff + vma_pages(vma))
			return region;
	return NULL;
}

static bool shared_contains(struct postcopy_region *region,
			    struct vm_area_struct *vma)
{
	return vma->vm_pgoff >= region->first &&
	       vma_pages(vma) <= region->nr_pages &&
	       vma->vm_pgoff - region->first <= region->nr_pages - vma_pages(vma);
}

static struct postcopy_region *shared_create(struct postcopy_context *context,
					     struct vm_area_struct *vma)
{
	struct postcopy_region *region;
	unsigned long backing_first;
	struct file *backing;

	backing = postcopy_backing_get(context, vma->vm_pgoff, vma_pages(vma),
				       &backing_first);
	if (IS_ERR(backing))
		return ERR_CAST(backing);
	region = postcopy_region_create(context, vma, backing, backing_first);
	fput(backing);
	if (IS_ERR(region))
		return region;
	postcopy_region_get(region);	/* for the list */
	list_add_tail(&region->shared.node, &context->shared);
	return region;
}

/*
 * Find or make the region for a new mapping. It is returned with a reference, and the
 * mapping is counted in nr_vmas unless the region is converted.
 */
static struct postcopy_region *shared_find_or_create(struct postcopy_context *context,
						     struct vm_area_struct *vma)
{
	struct postcopy_region *region;
	bool converted;

	lockdep_assert_held(&context->lock);
	for (;;) {
		region = shared_find(context, vma);
		if (!region)
			return shared_create(context, vma);
		converted = region->state == POSTCOPY_REGION_CONVERTED;
		if (converted || atomic_read(&region->nr_vmas)) {
			if (!shared_contains(region, vma))
				return ERR_PTR(-EINVAL);
			if (converted || atomic_inc_not_zero(&region->nr_vmas))
				break;
		}
		/*
		 * The region is dead, or will be as soon as context->lock is dropped. A
		 * memfd's region is on the list as long as it has a helper: a call that
		 * the helper has begun may still write to pages or drop them, and a new
		 * region here would have the same memory.
		 */
		if (region->shared.is_memfd)
			return ERR_PTR(-EBUSY);
		postcopy_shared_unlist(region);
	}
	postcopy_region_get(region);
	return region;
}

/**
 * postcopy_mmap_shared() - a shared mapping of a context makes a region, or maps one
 * @context: the context
 * @vma: new mapping of the current process
 *
 * Context: may sleep; mmap_lock is held for writing.
 * Return: 0; EINVAL if the mapping overlaps a region but is not inside it; ENXIO if
 * the context's memfd is not for these pages; EBUSY if a dead region of the memfd is
 * there whose helper has not closed its fd; ENOMEM ...
 */
int postcopy_mmap_shared(struct postcopy_context *context,
			 struct vm_area_struct *vma)
{
	struct postcopy_region *region;
	bool converted;
	int err;

	mutex_lock(&context->lock);
	region = shared_find_or_create(context, vma);
	if (IS_ERR(region)) {
		mutex_unlock(&context->lock);
		return PTR_ERR(region);
	}
	/* region->state changes under context->lock. */
	converted = region->state == POSTCOPY_REGION_CONVERTED;
	err = shared_map(region, vma);
	if (!err && !converted) {
		region->shared.shmem_ops = vma->vm_ops;
		vm_flags_set(vma, VM_DONTEXPAND);
		/*
		 * remap_file_pages() maps the VMA's file again with the file's
		 * own mmap method, shmem's, which knows nothing of missing pages.
		 * A file that cannot be read cannot be mapped.
		 */
		vma->vm_file->f_mode &= ~FMODE_READ;
		vma->vm_private_data = region;
		vma->vm_ops = &postcopy_shared_vm_ops;
		mapper_add_vma(region, vma->vm_mm);
	}
	mutex_unlock(&context->lock);
	if (err && !converted && atomic_dec_and_test(&region->nr_vmas))
		postcopy_region_end(region, POSTCOPY_REGION_DEAD);
	if (err || converted)
		postcopy_region_put(region);
	return err;
}

/**
 * postcopy_mmap_helper() - mmap of a helper fd maps the memory of its region
 * @region: the helper's
 * @vma: new mapping of the current process
 *
 * Context: may sleep; mmap_lock is held for writing.
 * Return: 0, EOPNOTSUPP, EINVAL, ESRCH, EALREADY ...
 */
int postcopy_mmap_helper(struct postcopy_region *region,
			 struct vm_area_struct *vma)
{
	int err;

	if (!postcopy_region_is_shared(region) || !(vma->vm_flags & VM_MAYSHARE))
		return -EOPNOTSUPP;
	err = postcopy_region_alive(region);
	if (err)
		return err;
	if (!shared_contains(region, vma))
		return -EINVAL;
	err = shared_map(region, vma);
	if (err)
		return err;
	vm_flags_set(vma, VM_DONTEXPAND | VM_NOHUGEPAGE | VM_DONTDUMP);
	/* remap_file_pages() would map it without these flags, see postcopy_mmap_shared(). */
	vma->vm_file->f_mode &= ~FMODE_READ;
	return 0;
}

/**
 * postcopy_shared_forget() - the context's file is gone: empty its list of regions
 * @context: can no longer be mapped; the caller has a reference on it
 */
void postcopy_shared_forget(struct postcopy_context *context)
{
	/* A region that ends meanwhile is taken off the list by postcopy_region_end(). */
	mutex_lock(&context->lock);
	while (!list_empty(&context->shared))
		postcopy_shared_unlist(list_first_entry(&context->shared,
							struct postcopy_region,
							shared.node));
	mutex_unlock(&context->lock);
}

/* Find the first run of missing pages in [first, end). Returns its length, 0 if none. */
static unsigned long shared_missing_run(struct postcopy_region *region,
					unsigned long *first, unsigned long end)
{
	*first = postcopy_next_missing(region, *first, end);
	return postcopy_next_present(region, *first, end) - *first;
}

/*
 * The owner of a memfd can keep the memfd's inode locked, with a write(2) to it whose data
 * is in a missing page. shmem waits for that lock unkillably, so wait for it here first,
 * killably.
 */
static int shared_gate(struct postcopy_region *region)
{
	struct rw_semaphore *sem = &file_inode(region->shared.file)->i_rwsem;

	if (!region->shared.is_memfd)
		return 0;
	if (down_write_killable(sem))
		return -EINTR;
	up_write(sem);
	return 0;
}

/**
 * postcopy_shared_fill() - write data to the missing pages of a range
 * @region: shared
 * @data: for the whole range, readable user memory
 * @first: index of the first page, all of which the caller has claimed
 * @nr: pages
 * @nr_filled: is increased by the pages that were missing
 *
 * Context: sleeps.
 * Return: pages dealt with, which are present now, or -errno if none was.
 */
long postcopy_shared_fill(struct postcopy_region *region,
			  const void __user *data, unsigned long first,
			  unsigned long nr, u64 *nr_filled)
{
	unsigned long index = first, end = first + nr, run;
	ssize_t written = 0;

	while ((run = shared_missing_run(region, &index, end))) {
		loff_t pos = (loff_t)(region->shared.first + index) << PAGE_SHIFT;
		struct iov_iter iter;

		written = shared_gate(region);
		if (written)
			break;
		iov_iter_ubuf(&iter, ITER_SOURCE,
			      (void __user *)data + ((index - first) << PAGE_SHIFT),
			      run << PAGE_SHIFT);
		written = vfs_iter_write(region->shared.file, &iter, &pos, 0);
		if (written < (ssize_t)PAGE_SIZE)
			break;
		/* A page that was written in part stays missing. */
		written >>= PAGE_SHIFT;
		*nr_filled += postcopy_pages_mark(region, index, written);
		index += written;
		if (written < run)
			break;
	}
	if (!run)
		index = end;
	if (index > first)
		return index - first;
	return written < 0 ? written : -ENOMEM;
}

/**
 * postcopy_shared_punch() - punch holes where pages are missing
 * @region: shared
 * @first: index of the first page, all of which the caller has claimed
 * @nr: pages
 *
 * Context: sleeps.
 * Return: 0 or -errno.
 */
long postcopy_shared_punch(struct postcopy_region *region, unsigned long first,
			   unsigned long nr)
{
	unsigned long end = first + nr, run;
	long ret;

	for (; (run = shared_missing_run(region, &first, end)); first += run) {
		/* There may be a run for every other page. */
		if (fatal_signal_pending(current))
			return -EINTR;
		ret = shared_gate(region);
		if (ret)
			return ret;
		ret = vfs_fallocate(region->shared.file,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    (loff_t)(region->shared.first + first) << PAGE_SHIFT,
				    (loff_t)run << PAGE_SHIFT);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

/**
 * postcopy_shared_unmap() - unmap pages in every process
 * @region: shared
 * @first: index of the first page
 * @nr: pages
 *
 * Context: sleeps.
 */
void postcopy_shared_unmap(struct postcopy_region *region, unsigned long first,
			   unsigned long nr)
{
	/*
	 * even_cows: only with it are the entries of pages lost to a memory error removed. It
	 * would drop private copies as well, which only a memfd can have.
	 */
	unmap_mapping_range(region->shared.file->f_mapping,
			    (loff_t)(region->shared.first + first) << PAGE_SHIFT,
			    (loff_t)nr << PAGE_SHIFT, !region->shared.is_memfd);
}

/*
 * Give all of the region's VMAs in a process back to shmem. If the fork of a process has
 * failed half way, some of the VMAs found in it are its parent's. check_stable_address_space()
 * tells; see also shared_next_mm().
 */
static int shared_convert_mm(struct postcopy_region *region, struct mm_struct *mm)
{
	struct vm_area_struct *vma;

	if (mmap_write_lock_killable(mm))
		return -EINTR;
	if (check_stable_address_space(mm))
		goto out;
	for (vma = find_vma(mm, 0); vma; vma = find_vma(mm, vma->vm_end)) {
		if (!postcopy_vma_of(vma, region))
			continue;
		vma_start_write(vma);
		vm_flags_clear(vma, VM_DONTEXPAND);
		vma->vm_ops = region->shared.shmem_ops;
		vma->vm_private_data = NULL;
		vma->vm_file->f_mode |= FMODE_READ;
		mapper_remove_vma(region, mm);
		atomic_dec(&region->nr_vmas);
		postcopy_region_put(region);
	}
out:
	mmap_write_unlock(mm);
	return 0;
}

/*
 * Find a process that maps the region and is alive. Returns its memory with a reference. A
 * process whose fork has failed, or which the OOM reaper unmaps, keeps our vm_ops: it never
 * runs again.
 */
static struct mm_struct *shared_next_mm(struct postcopy_region *region)
{
	struct postcopy_mapper *mapper;
	struct mm_struct *mm = NULL;

	spin_lock(&region->shared.mappers_lock);
	list_for_each_entry(mapper, &region->shared.mappers, node) {
		if (!check_stable_address_space(mapper->mm) && mmget_not_zero(mapper->mm)) {
			mm = mapper->mm;
			break;
		}
	}
	spin_unlock(&region->shared.mappers_lock);
	return mm;
}

/**
 * postcopy_shared_convert() - a shared region becomes plain shared memory
 * @region: all of whose pages are present; the caller has claimed them
 *
 * Context: sleeps; takes mmap_lock of every process that maps the region.
 * Return: 0, ESRCH, or EINTR: a fatal signal came; the region is converted all
 * the same, but some processes keep our vm_ops, which call shmem's.
 */
int postcopy_shared_convert(struct postcopy_region *region)
{
	struct mm_struct *mm;
	int err = 0;

	postcopy_region_end(region, POSTCOPY_REGION_CONVERTED);
	if (region->state != POSTCOPY_REGION_CONVERTED)
		return -ESRCH;
	while (!err && (mm = shared_next_mm(region))) {
		err = shared_convert_mm(region, mm);
		mmput_async(mm);
		cond_resched();
	}
	return err;
}
