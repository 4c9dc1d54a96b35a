// SPDX-License-Identifier: GPL-2.0
/*
 * A region: its lifetime, the table of all regions, and its description.
 *
 * A region is in the table from its mmap() until it is converted or dead. Its VMAs,
 * its helper fd, waiting faults and the table hold references on it; the last
 * reference frees it.
 */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include "postcopy.h"
#include "request.h"

static DEFINE_XARRAY(regions);
static atomic64_t region_last_id;

/* How many regions have been made. poll() on a context compares it. */
atomic64_t postcopy_region_seq;
DECLARE_WAIT_QUEUE_HEAD(postcopy_region_wait);

static void region_free(struct kref *kref)
{
	struct postcopy_region *region =
		container_of(kref, struct postcopy_region, kref);

	WARN_ON_ONCE(atomic_long_read(&region->requests.nr));
	WARN_ON_ONCE(!list_empty(&region->shared.mappers));
	if (postcopy_region_is_shared(region))
		fput(region->shared.file);
	postcopy_req_free_spare(region);
	kvfree(region->present);
	kvfree(region->poisoned);
	kvfree(region->requests.buckets);
	postcopy_limits_release(region->uid);
	put_pid(region->pid);
	postcopy_waiters_free(region);
	mmdrop(region->mm);
	mutex_destroy(&region->lock);
	postcopy_context_put(region->context);
	kfree_rcu(region, rcu);
}

/**
 * postcopy_region_get() - take a reference
 * @region: on which the caller has one already
 */
void postcopy_region_get(struct postcopy_region *region)
{
	kref_get(&region->kref);
}

/**
 * postcopy_region_put() - drop a reference
 * @region: may be freed
 *
 * Context: may sleep.
 */
void postcopy_region_put(struct postcopy_region *region)
{
	kref_put(&region->kref, region_free);
}

/* The last step of making a region: other threads can find it from here on. */
static int region_publish(struct postcopy_region *region)
{
	struct postcopy_context *context = region->context;
	int err;

	lockdep_assert_held(&context->lock);
	/* The context may have been retired just now. */
	if (!context->file)
		return -ENODEV;
	postcopy_region_get(region);	/* for the table */
	err = xa_insert(&regions, region->id, region, GFP_KERNEL_ACCOUNT);
	if (err) {
		postcopy_region_put(region);
		return err;
	}
	context->nr_regions++;
	return 0;
}

/**
 * postcopy_region_create() - make a region, all pages missing, and put it in the table
 * @context: on which mmap was called
 * @vma: the mapping, of the current process
 * @backing: the memory of a shared region, which takes a reference; NULL for a
 *	private region
 * @backing_first: the page of @backing that is the first page of the region
 *
 * Context: may sleep; mmap_lock of the current process is held for writing, and
 * context->lock.
 * Return: the region with a reference for @vma, or ENOMEM.
 */
struct postcopy_region *postcopy_region_create(struct postcopy_context *context,
					       struct vm_area_struct *vma,
					       struct file *backing,
					       unsigned long backing_first)
{
	struct postcopy_region *region;
	int err;

	err = postcopy_limits_admit(current_euid(), vma_pages(vma));
	if (err)
		return ERR_PTR(err);
	region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	if (!region) {
		postcopy_limits_release(current_euid());
		return ERR_PTR(-ENOMEM);
	}
	kref_init(&region->kref);	/* for the VMA */
	mutex_init(&region->lock);
	region->uid = current_euid();
	region->context = context;
	postcopy_context_get(context);
	region->mm = vma->vm_mm;
	mmgrab(region->mm);
	region->pid = get_pid(task_tgid(current));
	region->id = atomic64_inc_return(&region_last_id);
	region->nr_pages = vma_pages(vma);
	region->address = vma->vm_start;
	region->first = vma->vm_pgoff;
	if (backing) {
		region->shared.file = get_file(backing);
		region->shared.first = backing_first;
		region->shared.is_memfd = context->memfd;
	}
	INIT_LIST_HEAD(&region->shared.node);
	region->alone_since_ns = ktime_get_ns();
	region->limits.kernel_faults = postcopy_limits_kernel_faults();
	get_task_comm(region->comm, current->group_leader);
	atomic_set(&region->nr_vmas, 1);
	spin_lock_init(&region->shared.mappers_lock);
	INIT_LIST_HEAD(&region->shared.mappers);
	spin_lock_init(&region->claims.lock);
	INIT_HLIST_HEAD(&region->claims.list);
	init_waitqueue_head(&region->claims.wait);
	spin_lock_init(&region->requests.queue_lock);
	INIT_LIST_HEAD(&region->requests.queued);
	init_waitqueue_head(&region->requests.helper_wait);
	postcopy_stash_init(&region->stash);
	spin_lock_init(&region->waiters.lock);

	err = -ENOMEM;
	/* For 64 TiB and more this asks for more than kvcalloc() gives or allows. */
	region->present = kvcalloc(BITS_TO_LONGS(region->nr_pages), sizeof(long),
				   GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	region->requests.buckets = postcopy_buckets_alloc();
	if (!region->present || !region->requests.buckets)
		goto err_put;

	err = region_publish(region);
	if (err)
		goto err_put;

	atomic64_inc(&postcopy_region_seq);
	wake_up_interruptible_poll(&postcopy_region_wait, EPOLLIN | EPOLLRDNORM);
	return region;

err_put:
	postcopy_region_put(region);
	return ERR_PTR(err);
}

/**
 * postcopy_region_find() - look a region up in the table
 * @id: its id
 *
 * Return: the region with a reference, or NULL.
 */
struct postcopy_region *postcopy_region_find(u64 id)
{
	struct postcopy_region *region;

	if (id > ULONG_MAX)
		return NULL;
	rcu_read_lock();
	region = xa_load(&regions, id);
	if (region && !kref_get_unless_zero(&region->kref))
		region = NULL;
	rcu_read_unlock();
	return region;
}

/**
 * postcopy_region_find_from() - find the next region in the table
 * @id: in: the smallest id to look for; out: the region's id
 *
 * Return: the region with a reference, or NULL.
 */
struct postcopy_region *postcopy_region_find_from(unsigned long *id)
{
	struct postcopy_region *region;

	rcu_read_lock();
	region = xa_find(&regions, id, ULONG_MAX, XA_PRESENT);
	while (region && !kref_get_unless_zero(&region->kref))
		region = xa_find_after(&regions, id, ULONG_MAX, XA_PRESENT);
	rcu_read_unlock();
	return region;
}

/**
 * postcopy_region_permitted() - may the caller serve, see and convert a region?
 * @region: the region
 * @context: on which the caller asks
 *
 * It may if it asks on the context that mapped the region, if it is the owner's
 * user, or if it has CAP_SYS_ADMIN in the initial user namespace.
 */
bool postcopy_region_permitted(struct postcopy_region *region,
			       struct postcopy_context *context)
{
	return context == region->context ||
	       uid_eq(current_euid(), region->uid) || capable(CAP_SYS_ADMIN);
}

/**
 * postcopy_region_end() - put a region in its final state and take it out of the table
 * @region: the region
 * @state: POSTCOPY_REGION_CONVERTED or POSTCOPY_REGION_DEAD
 *
 * Wakes all threads that wait for it: those in a fault (they fault again and find
 * what is there now) and the helper (end of file).
 *
 * Context: may sleep; mmap_lock of the owner may be held.
 */
void postcopy_region_end(struct postcopy_region *region,
			 enum postcopy_region_state state)
{
	bool in_use;

	mutex_lock(&region->context->lock);
	mutex_lock(&region->lock);
	if (postcopy_region_final(region)) {
		mutex_unlock(&region->lock);
		mutex_unlock(&region->context->lock);
		return;
	}
	/* Pairs with postcopy_req_find(): whoever makes a request later sees the state. */
	WRITE_ONCE(region->state, state);
	region->context->nr_regions--;
	/* With a helper on a memfd helper_release() takes the region off the list. */
	in_use = region->shared.is_memfd && region->helper;
	mutex_unlock(&region->lock);
	/* The memory of a dead region is not needed again; converted memory may be. */
	if (state == POSTCOPY_REGION_DEAD && !in_use)
		postcopy_shared_unlist(region);
	mutex_unlock(&region->context->lock);

	xa_erase(&regions, region->id);
	postcopy_req_answer(region, 0, region->nr_pages);
	wake_up_poll(&region->requests.helper_wait, EPOLLHUP);
	postcopy_region_put(region);
}

/**
 * postcopy_region_indexes() - check a range from user space and turn it into page indexes
 * @region: the region
 * @offset: first byte in the RAM image, unchecked
 * @length: bytes, unchecked
 * @first: the index in @region of the first page
 * @nr: pages, at least 1
 *
 * Return: 0, or EINVAL: not aligned, empty, or not inside @region.
 */
int postcopy_region_indexes(struct postcopy_region *region, u64 offset,
			    u64 length, unsigned long *first, unsigned long *nr)
{
	u64 start = (u64)region->first << PAGE_SHIFT;
	u64 size = (u64)region->nr_pages << PAGE_SHIFT;

	if (!PAGE_ALIGNED(offset) || !PAGE_ALIGNED(length) || !length)
		return -EINVAL;
	if (offset < start || offset - start >= size ||
	    length > size - (offset - start))
		return -EINVAL;
	*first = (offset - start) >> PAGE_SHIFT;
	*nr = length >> PAGE_SHIFT;
	return 0;
}

/**
 * postcopy_region_list() - POSTCOPY_REGION_LIST
 * @context: on which the caller asks
 * @list: in and out
 *
 * Context: may sleep.
 * Return: 0, EINVAL, EFAULT, EINTR.
 */
long postcopy_region_list(struct postcopy_context *context,
			  struct postcopy_region_list *list)
{
	u64 __user *ids = u64_to_user_ptr(list->ids);
	/* Read before the walk: then poll() may report a region twice but never misses one. */
	s64 seq = atomic64_read(&postcopy_region_seq);
	struct postcopy_region *region;
	unsigned long id = 0;
	u32 nr = 0;

	if (list->flags)
		return -EINVAL;
	for (; (region = postcopy_region_find_from(&id)); id++) {
		bool permitted = postcopy_region_permitted(region, context);

		postcopy_region_put(region);
		if (permitted && nr < list->nr_ids && put_user((u64)id, ids + nr))
			return -EFAULT;
		nr += permitted;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	list->out_nr_ids = nr;
	atomic64_set(&context->list_seq, seq);
	return 0;
}

/* The process's id in the caller's pid namespace, 0 if it has none there. */
static u32 region_pid_nr(struct pid *pid)
{
	u32 nr = 0;

	rcu_read_lock();
	if (pid && pid_task(pid, PIDTYPE_TGID))
		nr = pid_vnr(pid);
	rcu_read_unlock();
	return nr;
}

/**
 * postcopy_region_describe() - fill in struct postcopy_region_info
 * @region: any state
 * @info: every out_* member is written
 *
 * Context: may sleep; takes region->lock.
 */
void postcopy_region_describe(struct postcopy_region *region,
			      struct postcopy_region_info *info)
{
	unsigned int i;

	info->out_offset = (u64)region->first << PAGE_SHIFT;
	info->out_length = (u64)region->nr_pages << PAGE_SHIFT;
	info->out_address = region->address;
	info->out_region_flags = postcopy_region_is_shared(region) ?
				 POSTCOPY_REGION_SHARED : POSTCOPY_REGION_PRIVATE;
	info->out_pid = region_pid_nr(region->pid);
	info->out_uid = from_kuid_munged(current_user_ns(), region->uid);
	memcpy(info->out_comm, region->comm, sizeof(info->out_comm));
	info->out_nr_pages = region->nr_pages;
	info->out_nr_present = atomic_long_read(&region->nr_present);
	info->out_nr_requests = atomic_long_read(&region->requests.nr);
	info->out_nr_queued = READ_ONCE(region->requests.nr_queued);
	info->out_total_faults = atomic64_read(&region->counters.faults);
	info->out_total_requests = atomic64_read(&region->counters.requests);
	info->out_total_filled = atomic64_read(&region->counters.filled);
	info->out_total_zeroed = atomic64_read(&region->counters.zeroed);
	info->out_total_discarded = atomic64_read(&region->counters.discarded);
	info->out_nr_poisoned = atomic_long_read(&region->nr_poisoned);
	info->out_wait_ns = atomic64_read(&region->counters.wait_ns);
	info->out_wait_max_ns = atomic64_read(&region->counters.wait_max_ns);
	for (i = 0; i < POSTCOPY_WAIT_BUCKETS; i++)
		info->out_wait_histogram[i] =
			atomic64_read(&region->counters.wait_histogram[i]);
	postcopy_waiters_describe(region, info->out_waiters);

	mutex_lock(&region->lock);
	info->out_state = region->state;
	info->out_helper_pid = region_pid_nr(region->helper_pid);
	info->out_total_attached = region->total_attached;
	mutex_unlock(&region->lock);
}
