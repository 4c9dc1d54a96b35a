/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The types that all files of the module use, their owners, and the lock order.
 *
 * References
 *	VMA, helper fd, waiting fault, table -> region -> context -> module
 * A context's file holds a reference on it, too. So the module stays loaded as
 * long as any thread may sleep in its text. synchronize_rcu_tasks() in main.c waits
 * for threads that are only on their way out.
 *
 * Lock order, outermost first
 *	claim on page indexes (claim.c)
 *	  mmap_lock of the owner or another process that maps it
 *	    context->lock
 *	      region->lock
 *	        xa_lock of the table of regions, of memfds
 *	bucket->lock (request.c)
 *	  region->requests.queue_lock
 * The last two, region->claims.lock, region->shared.mappers_lock and
 * region->waiters.lock are leaves: they may be taken under any lock above them.
 */
#ifndef _POSTCOPY_H
#define _POSTCOPY_H

#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/uidgid.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/postcopy.h>

#include "compat.h"

struct postcopy_helper;
struct postcopy_memfd;
struct postcopy_req;

struct postcopy_context {
	struct kref kref;
	struct rcu_head rcu;

	struct mutex lock;
	/* Under lock. */
	struct file *file;	/* not a reference; NULL once released or retired */
	unsigned int nr_regions; /* neither converted nor dead */
	bool polled;
	/*
	 * The shared regions, with a reference on each, so that every mapping of
	 * a range finds the same memory. Emptied when the file is released.
	 */
	struct list_head shared;
	struct postcopy_memfd *memfd;	/* from POSTCOPY_CONTEXT_BACKING; set once */

	atomic64_t list_seq;	/* postcopy_region_seq at the last REGION_LIST */
};

#define POSTCOPY_REQUEST_BUCKETS_SHIFT	8
#define POSTCOPY_REQUEST_BUCKETS	(1U << POSTCOPY_REQUEST_BUCKETS_SHIFT)

struct postcopy_bucket {
	spinlock_t lock;
	struct hlist_head requests;
};

#define POSTCOPY_STASH_PAGES	8U

/* Pages that are allocated and not used yet, see stash.c */
struct postcopy_stash {
	unsigned long locked;	/* bit 0 is a lock */
	/* Under that lock. */
	unsigned int nr;
	struct page *pages[POSTCOPY_STASH_PAGES];
	bool used;	/* since look ran last */
	struct delayed_work look;
};

/*
 * The VMA that was last looked up in the owner of a private region, see vma.c. Threads
 * that hold the owner's mmap_lock for reading write it, all of them the same generation.
 */
struct postcopy_last_vma {
	struct vm_area_struct *vma;
	unsigned int generation;	/* of the owner's mmap_lock */
};

/* The memory of a shared region, see backing.c and shared.c */
struct postcopy_shared {
	/* Set once before the region is in the table. */
	struct file *file;	/* a reference; NULL for a private region */
	unsigned long first;	/* page 0 is this page of file */
	bool is_memfd;		/* others may map it without the driver */

	/* shmem's vm_ops, which ours wrap. Set before any VMA gets ours. */
	const struct vm_operations_struct *shmem_ops;

	struct list_head node;	/* in context->shared, under context->lock */

	spinlock_t mappers_lock;
	struct list_head mappers;	/* processes, under mappers_lock */
};

/* The claims on pages, see claim.c */
struct postcopy_claims {
	spinlock_t lock;
	struct hlist_head list;		/* under lock */
	wait_queue_head_t wait;
};

/* The requests for missing pages, see request.c */
struct postcopy_requests {
	struct postcopy_bucket *buckets;	/* set once, freed with the region */
	atomic_long_t nr;		/* in all buckets; see postcopy_pages_mark() */
	struct postcopy_req *spare;	/* free, or NULL; taken by xchg() */

	spinlock_t queue_lock;
	/* Written under queue_lock, nr_queued also read without. */
	struct list_head queued;	/* not taken by a helper; by rising seq */
	u64 last_seq;
	unsigned long nr_queued;

	wait_queue_head_t helper_wait;
};

/* How long accesses may wait, see limits.c */
struct postcopy_limits {
	/* Nanoseconds, 0 is for ever. Written with WRITE_ONCE(), read anywhere. */
	u64 detached_ns;
	u64 request_ns;
	bool kernel_faults;	/* set once: may kernel-mode accesses wait? */
};

/* Counters for REGION_INFO. They only ever rise; no lock. */
struct postcopy_counters {
	atomic64_t faults;
	atomic64_t requests;
	atomic64_t filled;
	atomic64_t zeroed;
	atomic64_t discarded;
	atomic64_t wait_ns;
	atomic64_t wait_max_ns;
	atomic64_t wait_histogram[POSTCOPY_WAIT_BUCKETS];
};

/* A thread and its longest wait. */
struct postcopy_waiter {
	struct pid *pid;	/* a reference, or NULL */
	u64 ns;
};

/* The threads that have waited longest, see observe.c */
struct postcopy_waiters {
	spinlock_t lock;
	/* Written under lock, least_ns also read without. */
	struct postcopy_waiter list[POSTCOPY_WAITERS];
	u64 least_ns;	/* the shortest in list */
};

struct postcopy_region {
	struct kref kref;
	struct rcu_head rcu;

	/* Identity: set once before the region is in the table, freed with the region. */
	u64 id;
	struct postcopy_context *context;
	struct mm_struct *mm;	/* the owner's, mmgrab()ed; needs mmget_not_zero() to be used */
	unsigned long address;	/* of page 0 in mm; never changes, see vma.c */
	unsigned long first;	/* page 0 is this page of the RAM image */
	unsigned long nr_pages;
	struct pid *pid;	/* the owner's, a reference */
	kuid_t uid;
	char comm[TASK_COMM_LEN];

	/* State and helper: region.c, helper.c. */
	struct mutex lock;
	/* Written under lock, state and alone_since_ns also read without. */
	enum postcopy_region_state state;
	struct postcopy_helper *helper;	/* owned by the file of the helper fd */
	struct pid *helper_pid;		/* a reference, or NULL */
	u64 alone_since_ns;		/* since when there is no helper; 0: there is one */
	u64 total_attached;

	/*
	 * The maps: present.c. One bit for each page. A set bit in present says that
	 * the page was delivered, so a page table entry that is none means zeros.
	 * Only the holder of a claim on the page sets the bit, after the page was
	 * installed. Anybody may read it.
	 */
	unsigned long *present;
	atomic_long_t nr_present;
	/* Missing pages that are given up. NULL until the first POISON. */
	unsigned long *poisoned;
	atomic_long_t nr_poisoned;

	/* Private: VMAs in mm, those of forked children do not count. Shared: all VMAs. */
	atomic_t nr_vmas;

	struct postcopy_last_vma last_vma;
	struct postcopy_shared shared;
	struct postcopy_claims claims;
	struct postcopy_requests requests;
	struct postcopy_limits limits;
	struct postcopy_stash stash;
	struct postcopy_counters counters;
	struct postcopy_waiters waiters;
};

/* main.c */
extern struct file *postcopy_zero_file;

/* context.c */
extern const struct file_operations postcopy_context_fops;
void postcopy_context_get(struct postcopy_context *context);
void postcopy_context_put(struct postcopy_context *context);
void postcopy_context_retire(struct postcopy_context *context);

/* region.c */
extern atomic64_t postcopy_region_seq;
extern wait_queue_head_t postcopy_region_wait;
struct postcopy_region *postcopy_region_create(struct postcopy_context *context,
					       struct vm_area_struct *vma,
					       struct file *backing,
					       unsigned long backing_first);
void postcopy_region_get(struct postcopy_region *region);
void postcopy_region_put(struct postcopy_region *region);
struct postcopy_region *postcopy_region_find(u64 id);
struct postcopy_region *postcopy_region_find_from(unsigned long *id);
bool postcopy_region_permitted(struct postcopy_region *region,
			       struct postcopy_context *context);
void postcopy_region_end(struct postcopy_region *region,
			 enum postcopy_region_state state);
int postcopy_region_indexes(struct postcopy_region *region, u64 offset,
			    u64 length, unsigned long *first, unsigned long *nr);
long postcopy_region_list(struct postcopy_context *context,
			  struct postcopy_region_list *list);
void postcopy_region_describe(struct postcopy_region *region,
			      struct postcopy_region_info *info);

/* Or is it private? Never changes. */
static inline bool postcopy_region_is_shared(const struct postcopy_region *region)
{
	return region->shared.file;
}

/* Is the region converted or dead? Then no other state follows. */
static inline bool postcopy_region_final(struct postcopy_region *region)
{
	return READ_ONCE(region->state) >= POSTCOPY_REGION_CONVERTED;
}

/**
 * postcopy_region_alive() - can a helper still do anything for a region?
 * @region: the region
 *
 * Return: 0, ESRCH (dead) or EALREADY (converted).
 */
static inline int postcopy_region_alive(struct postcopy_region *region)
{
	enum postcopy_region_state state = READ_ONCE(region->state);

	if (likely(state < POSTCOPY_REGION_CONVERTED))
		return 0;
	return state == POSTCOPY_REGION_DEAD ? -ESRCH : -EALREADY;
}

/* vma.c */
extern const struct vm_operations_struct postcopy_private_vm_ops;
int postcopy_mmap_private(struct postcopy_context *context,
			  struct vm_area_struct *vma);
struct vm_area_struct *postcopy_private_vma(struct postcopy_region *region,
					    unsigned long address);
struct vm_area_struct *postcopy_private_next_vma(struct postcopy_region *region,
						 unsigned long address,
						 unsigned long end);

/* child.c */
void postcopy_child_adopt(struct vm_area_struct *vma, struct postcopy_region *region);

/* backing.c */
void postcopy_backing_init(void);
void postcopy_backing_exit(void);
struct file *postcopy_backing_get(struct postcopy_context *context,
				  unsigned long first, unsigned long nr,
				  unsigned long *file_first);
int postcopy_backing_map(struct file *backing, struct vm_area_struct *vma);
long postcopy_context_backing(struct postcopy_context *context,
			      struct postcopy_context_backing *backing);
void postcopy_backing_release(struct postcopy_context *context);

/* shared.c */
extern const struct vm_operations_struct postcopy_shared_vm_ops;
int postcopy_mmap_shared(struct postcopy_context *context,
			 struct vm_area_struct *vma);
int postcopy_mmap_helper(struct postcopy_region *region,
			 struct vm_area_struct *vma);
void postcopy_shared_unlist(struct postcopy_region *region);
void postcopy_shared_forget(struct postcopy_context *context);
long postcopy_shared_fill(struct postcopy_region *region,
			  const void __user *data, unsigned long first,
			  unsigned long nr, u64 *nr_filled);
void postcopy_shared_unmap(struct postcopy_region *region, unsigned long first,
			   unsigned long nr);
long postcopy_shared_punch(struct postcopy_region *region, unsigned long first,
			   unsigned long nr);
int postcopy_shared_convert(struct postcopy_region *region);

/* Does the VMA belong to the region, with our vm_ops? */
static inline bool postcopy_vma_of(struct vm_area_struct *vma,
				   struct postcopy_region *region)
{
	return vma->vm_private_data == region &&
	       (vma->vm_ops == &postcopy_private_vm_ops ||
		vma->vm_ops == &postcopy_shared_vm_ops);
}

/* fault_private.c */
vm_fault_t postcopy_fault_zero(struct vm_fault *vmf);
vm_fault_t postcopy_private_fault(struct vm_fault *vmf);

/* fault_shared.c */
vm_fault_t postcopy_shared_fault(struct vm_fault *vmf);
vm_fault_t postcopy_shared_map_pages(struct vm_fault *vmf, pgoff_t first,
				     pgoff_t last);
void postcopy_shared_faults_drain(void);

/* claim.c */
struct postcopy_claim {
	struct hlist_node node;
	unsigned long first;
	unsigned long last;
	struct task_struct *filler;	/* not NULL: the claim is part of its struct fill */
};

int postcopy_claim_killable(struct postcopy_region *region,
			    struct postcopy_claim *claim,
			    unsigned long first, unsigned long last);
void postcopy_claim_release(struct postcopy_region *region,
			    struct postcopy_claim *claim);
struct postcopy_claim *postcopy_claim_of_current(struct postcopy_region *region,
						 unsigned long index);

/* present.c */
unsigned long postcopy_pages_mark(struct postcopy_region *region,
				  unsigned long first, unsigned long nr);
unsigned long postcopy_pages_unmark(struct postcopy_region *region,
				    unsigned long first, unsigned long nr);
long postcopy_pages_query(struct postcopy_region *region,
			  struct postcopy_pages_query *query);
int postcopy_poison_alloc(struct postcopy_region *region);
unsigned long postcopy_poison_set(struct postcopy_region *region,
				  unsigned long first, unsigned long nr);

/**
 * postcopy_next_missing() - look for a missing page
 * @region: the region
 * @index: the first page to look at
 * @end: the page after the last one to look at
 *
 * Other threads set and clear bits meanwhile, some in the same words. The answer is
 * reliable for pages that the caller has claimed.
 *
 * Context: any.
 * Return: the page's index, or @end.
 */
static inline unsigned long postcopy_next_missing(struct postcopy_region *region,
						  unsigned long index,
						  unsigned long end)
{
	/* Other threads change other bits of the same word. */
	return data_race(find_next_zero_bit(region->present, end, index));
}

/**
 * postcopy_next_present() - look for a present page, as postcopy_next_missing()
 * @region: the region
 * @index: the first page to look at
 * @end: the page after the last one to look at
 *
 * Context: any.
 * Return: the page's index, or @end.
 */
static inline unsigned long postcopy_next_present(struct postcopy_region *region,
						  unsigned long index,
						  unsigned long end)
{
	/* Other threads change other bits of the same word. */
	return data_race(find_next_bit(region->present, end, index));
}

/**
 * postcopy_poisoned() - has a missing page been given up?
 * @region: the region
 * @index: the page
 */
static inline bool postcopy_poisoned(struct postcopy_region *region,
				     unsigned long index)
{
	return unlikely(atomic_long_read_acquire(&region->nr_poisoned)) &&
	       test_bit(index, region->poisoned);
}

/* fill.c */
vm_fault_t postcopy_fill_supply(struct postcopy_claim *claim, struct vm_fault *vmf);
long postcopy_pages_fill(struct postcopy_region *region,
			 struct postcopy_pages_fill *fill);

/* stash.c */
void postcopy_stash_init(struct postcopy_stash *stash);
struct page *postcopy_stash_take(struct postcopy_stash *stash);
void postcopy_stash_empty(struct postcopy_stash *stash);

/* ranges.c */
struct postcopy_range *postcopy_ranges_copy(struct postcopy_region *region,
					    u64 user_ranges, u32 nr_ranges);
long postcopy_pages_zero(struct postcopy_region *region,
			 struct postcopy_pages_zero *zero);
long postcopy_pages_present(struct postcopy_region *region,
			    struct postcopy_pages_present *present);
long postcopy_pages_poison(struct postcopy_region *region,
			   struct postcopy_pages_poison *poison);

/* discard.c */
long postcopy_pages_discard(struct postcopy_region *region,
			    struct postcopy_pages_discard *discard);

/* limits.c */
bool postcopy_limits_kernel_faults(void);
int postcopy_limits_admit(kuid_t uid, unsigned long nr_pages);
void postcopy_limits_release(kuid_t uid);
long postcopy_region_policy(struct postcopy_region *region,
			    struct postcopy_region_policy *policy);

/* observe.c */
void postcopy_waiters_note(struct postcopy_region *region, u64 ns);
void postcopy_waiters_describe(struct postcopy_region *region,
			       struct postcopy_waiter_info *out);
void postcopy_waiters_free(struct postcopy_region *region);
void __init postcopy_observe_init(void);
void postcopy_observe_exit(void);

/* helper.c */
long postcopy_helper_attach(struct postcopy_region *region,
			    struct postcopy_helper_attach __user *uattach);

/* exchange.c */
long postcopy_exchange(struct postcopy_region *region,
		       struct postcopy_helper_exchange *exchange, void __user *uarg);
bool postcopy_exchange_quick(struct postcopy_region *region,
			     struct postcopy_helper_exchange __user *uexchange,
			     long *ret);

/* convert.c */
long postcopy_region_convert(struct postcopy_region *region,
			     struct postcopy_region_convert *convert);

#endif /* _POSTCOPY_H */
