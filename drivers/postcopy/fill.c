// SPDX-License-Identifier: GPL-2.0
/*
 * Making pages present with data.
 *
 * Where it can, a fill has the core map many new pages at once (install.c).
 * Otherwise it runs the core's own fault handling on the owner's address, in the
 * helper's thread: the core allocates the anonymous page with the owner's NUMA
 * policy and memory cgroup and calls our ->fault, which recognises the fill by its
 * claim and copies the helper's data into that page; then the core maps it. So the
 * page is complete before any other thread can see it. After that its present bit
 * is set, and the threads that wait for it are woken.
 *
 * The data is copied with page faults disabled, because the owner's mmap_lock is
 * held: a fault on the helper's memory would nest two mmap_locks. So the data is
 * faulted in first (a single page: only if it turns out not to be there). If it has
 * been paged out again meanwhile, the fill stops there and starts again from there.
 */
#include <linux/highmem.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "install.h"
#include "postcopy.h"
#include "trace.h"

/* Pages filled under one hold of mmap_lock: a writer waits about 0.5 ms for it. */
#define FILL_BATCH	512UL

/* How often to try to replace a page table entry that is in the way. */
#define FILL_TRIES	3

struct fill {
	struct postcopy_claim claim;
	const void __user *data;	/* for the page at index */
	struct vm_area_struct *vma;	/* where the last page was, or NULL */
	unsigned long index;
	unsigned long one_by_one;	/* pages before this index go through ->fault */
	struct postcopy_install install;
	bool supplied;			/* ->fault has copied the data of index */
	bool unreadable;		/* the data is not in memory */
};

/**
 * postcopy_fill_supply() - copy the data of the current thread's fill into its page
 * @claim: the fill's claim, on the page of the fault
 * @vmf: the fault; its cow_page gets the data
 *
 * Context: in ->fault, which the fill itself has caused. Does not sleep.
 * Return: 0 or VM_FAULT_SIGBUS.
 */
vm_fault_t postcopy_fill_supply(struct postcopy_claim *claim, struct vm_fault *vmf)
{
	struct fill *fill = container_of(claim, struct fill, claim);
	unsigned long left;
	void *to;

	if (WARN_ON_ONCE(!vmf->cow_page))
		return VM_FAULT_SIGBUS;

	to = kmap_local_page(vmf->cow_page);
	pagefault_disable();
	left = __copy_from_user_inatomic(to, fill->data, PAGE_SIZE);
	pagefault_enable();
	kunmap_local(to);
	fill->unreadable = left;
	if (left)
		return VM_FAULT_SIGBUS;
	flush_dcache_page(vmf->cow_page);
	fill->supplied = true;
	return 0;
}

/* The owner's VMA for a page of the region, or NULL if the owner has unmapped the page. */
static struct vm_area_struct *fill_vma(struct postcopy_region *region,
				       struct fill *fill, unsigned long address)
{
	struct vm_area_struct *vma = fill->vma;

	if (!vma || address < vma->vm_start || address >= vma->vm_end) {
		vma = postcopy_private_vma(region, address);
		fill->vma = vma;
	}
	return vma;
}

/* 1: filled, 0: nothing is mapped there, or -errno. */
static int fill_page(struct postcopy_region *region, struct fill *fill)
{
	unsigned long address = region->address + (fill->index << PAGE_SHIFT);
	struct vm_area_struct *vma = fill_vma(region, fill, address);
	unsigned int tries;
	vm_fault_t ret;

	if (!vma)
		return 0;
	/*
	 * The page table entry of a missing page is none, so ->fault is called.
	 * A marker of userfaultfd may be in the way; the first try removes it.
	 */
	for (tries = 0; tries < FILL_TRIES; tries++) {
		fill->supplied = false;
		fill->unreadable = false;
		ret = handle_mm_fault(vma, address,
				      FAULT_FLAG_WRITE | FAULT_FLAG_REMOTE, NULL);
		if (fill->unreadable)
			return -EAGAIN;
		/* Other errors than lack of memory: the owner is being killed. */
		if (ret & VM_FAULT_ERROR)
			return ret & VM_FAULT_OOM ? -ENOMEM : -ESRCH;
		if (fill->supplied && !(ret & VM_FAULT_NOPAGE))
			return 1;
	}
	return -EIO;
}

/* How many pages from fill->index on are in this VMA, in the claim, and fit the slots. */
static unsigned long fill_run(struct postcopy_region *region, struct fill *fill,
			      const struct vm_area_struct *vma)
{
	unsigned long end = (vma->vm_end - region->address) >> PAGE_SHIFT;

	return min3(end - fill->index, fill->claim.last + 1 - fill->index,
		    (unsigned long)fill->install.nr_slots);
}

/*
 * Fill the page at fill->index and, if possible, some after it. Returns how many
 * pages were dealt with, at least 1, or -errno.
 */
static long fill_some(struct postcopy_region *region, struct fill *fill,
		      u64 *nr_filled)
{
	struct vm_area_struct *vma;
	unsigned long nr;
	long ret;

	if (test_bit(fill->index, region->present))
		return 1;
	if (fill->index >= fill->one_by_one) {
		vma = fill_vma(region, fill,
			       region->address + (fill->index << PAGE_SHIFT));
		if (!vma)
			return 1;
		nr = fill_run(region, fill, vma);
		ret = postcopy_install(&fill->install, region, vma, fill->index,
				       nr, fill->data, nr_filled);
		if (ret)
			return ret;
		/* Not possible: one by one, or only the first, if it makes the anon_vma. */
		fill->one_by_one = fill->index + (vma->anon_vma ? nr : 1);
	}
	ret = fill_page(region, fill);
	if (ret < 0)
		return ret;
	*nr_filled += ret;
	return 1;
}

/*
 * Fill the missing pages of fill->claim under one hold of mmap_lock. Returns how
 * many pages were dealt with or, if none was, -errno.
 */
static long fill_claimed(struct postcopy_region *region, struct fill *fill,
			 u64 *nr_filled)
{
	const struct postcopy_claim *claim = &fill->claim;
	long done, ret = 0;

	if (!mmget_not_zero(region->mm))
		return -ESRCH;
	done = mmap_read_lock_killable(region->mm);
	if (done)
		goto out_mm;
	fill->one_by_one = 0;
	fill->vma = NULL;
	for (fill->index = claim->first; fill->index <= claim->last; fill->index += ret) {
		ret = fill_some(region, fill, nr_filled);
		if (ret < 0)
			break;
		fill->data += ret << PAGE_SHIFT;
	}
	mmap_read_unlock(region->mm);
	done = fill->index - claim->first;
	if (done)
		postcopy_pages_mark(region, claim->first, done);
	else
		done = ret;
out_mm:
	/* Async, because the last mmput() would unmap the region under our claim. */
	mmput_async(region->mm);
	return done;
}

/* Fault the data in. Returns how many of its pages can be read. */
static unsigned long fill_fault_in(const void __user *data, unsigned long nr)
{
	return nr - DIV_ROUND_UP(fault_in_readable(data, nr << PAGE_SHIFT), PAGE_SIZE);
}

static long fill_batch(struct postcopy_region *region, const void __user *data,
		       unsigned long first, unsigned long nr, u64 *nr_filled)
{
	struct fill fill __uninitialized;
	u64 filled_before = *nr_filled;
	long ret;

	fill.data = data;
	ret = postcopy_claim_killable(region, &fill.claim, first, first + nr - 1);
	if (ret)
		return ret;
	ret = postcopy_region_alive(region);
	if (!ret && postcopy_region_is_shared(region)) {
		ret = postcopy_shared_fill(region, data, first, nr, nr_filled);
	} else if (!ret) {
		/* From here on a fault of this thread on these pages belongs to the fill. */
		WRITE_ONCE(fill.claim.filler, current);
		postcopy_install_begin(&fill.install, nr);
		ret = fill_claimed(region, &fill, nr_filled);
		postcopy_install_end(&fill.install);
	}
	if (ret > 0)
		trace_postcopy_fill(region, first, ret, *nr_filled - filled_before);
	postcopy_claim_release(region, &fill.claim);
	return ret;
}

/**
 * postcopy_pages_fill() - POSTCOPY_PAGES_FILL
 * @region: the helper's
 * @fill: in and out
 *
 * Context: sleeps; several threads may at once.
 * Return: 0 if at least one page was dealt with, else -errno as the header says.
 */
long postcopy_pages_fill(struct postcopy_region *region,
			 struct postcopy_pages_fill *fill)
{
	const void __user *data = u64_to_user_ptr(fill->data);
	unsigned long first, nr, done = 0;
	u64 nr_filled = 0;
	long ret = 0;

	if (fill->flags)
		return -EINVAL;
	ret = postcopy_region_alive(region);
	if (ret)
		return ret;
	ret = postcopy_region_indexes(region, fill->offset, fill->length,
				      &first, &nr);
	if (ret)
		return ret;
	if (!access_ok(data, nr << PAGE_SHIFT))
		return -EFAULT;

	while (done < nr) {
		unsigned long batch = min(nr - done, FILL_BATCH);

		/*
		 * A single page has most often just been received, so try without faulting
		 * it in. Not if shmem copies it, because shmem would take the fault under
		 * its inode's lock.
		 */
		if (batch > 1 || postcopy_region_is_shared(region) || ret == -EAGAIN) {
			batch = fill_fault_in(data + (done << PAGE_SHIFT), batch);
			if (!batch) {
				ret = -EFAULT;
				break;
			}
		}
		ret = fill_batch(region, data + (done << PAGE_SHIFT), first + done,
				 batch, &nr_filled);
		if (ret > 0)
			done += ret;
		/* EAGAIN: the data was not in memory, or paged out before it was copied. */
		else if (ret != -EAGAIN)
			break;
		if (done == nr || signal_pending(current))
			break;
		cond_resched();
	}
	if (!done)
		return ret == -EAGAIN ? -EINTR : ret;
	atomic64_add(nr_filled, &region->counters.filled);
	fill->out_length = (u64)done << PAGE_SHIFT;
	fill->out_nr_filled = nr_filled;
	return 0;
}
