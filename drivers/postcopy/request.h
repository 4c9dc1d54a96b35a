/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Requests and the wait for an answer: request.c and wait.c.
 */
#ifndef _POSTCOPY_REQUEST_H
#define _POSTCOPY_REQUEST_H

#include <linux/completion.h>
#include <linux/list.h>
#include <linux/rcuwait.h>
#include <linux/refcount.h>

#include "postcopy.h"

/* One missing page that somebody waits for. */
struct postcopy_req {
	refcount_t refs;
	/* Set once. */
	unsigned long index;
	u64 time_ns;
	/* Where the thread that made it waits, and where the threads that found it do. */
	struct rcuwait maker;
	struct completion others;
	bool answered;	/* read without a lock */
	/* Under the bucket's lock. */
	struct hlist_node hash;
	u32 flags;
	bool found;	/* other threads may wait */
	/* Under queue_lock. */
	u64 seq;		/* set once, when it is queued */
	struct list_head queue;	/* while taken: for postcopy_req_requeue() */
	bool taken;	/* set under queue_lock, cleared under both locks */
};

/* How many requests a helper takes in one go, under one hold of queue_lock. */
#define POSTCOPY_READ_BATCH	16U

/* Requests on their way to user space. */
struct postcopy_req_batch {
	struct postcopy_request requests[POSTCOPY_READ_BATCH];
	u64 seq[POSTCOPY_READ_BATCH];
};

/* Would a helper's read() return at once? */
static inline bool postcopy_req_readable(struct postcopy_region *region)
{
	return READ_ONCE(region->requests.nr_queued) || postcopy_region_final(region);
}

void postcopy_req_free_spare(struct postcopy_region *region);
struct postcopy_req *postcopy_req_find(struct postcopy_region *region,
				       unsigned long index, bool write,
				       u64 time_ns, bool *is_new);
void postcopy_req_put(struct postcopy_region *region, struct postcopy_req *req);
void postcopy_req_announce(struct postcopy_region *region, bool sleeps);
void postcopy_req_answer(struct postcopy_region *region,
			 unsigned long first, unsigned long nr);
unsigned int postcopy_req_take(struct postcopy_region *region,
			       struct postcopy_req_batch *batch, unsigned int nr);
void postcopy_req_give_back(struct postcopy_region *region,
			    const struct postcopy_req_batch *batch, unsigned int nr);
ssize_t postcopy_req_read(struct postcopy_region *region,
			  struct postcopy_request __user *buffer, size_t nr);
void postcopy_req_requeue(struct postcopy_region *region);
struct postcopy_bucket *postcopy_buckets_alloc(void);
int __init postcopy_req_init(void);
void postcopy_req_exit(void);

/* wait.c */
bool postcopy_wait_expired(struct postcopy_region *region,
			   const struct postcopy_req *req, struct mm_struct *borrowed);
void postcopy_wait(struct postcopy_region *region, struct postcopy_req *req,
		   bool made_it, unsigned int state, struct mm_struct *borrowed);

#endif /* _POSTCOPY_REQUEST_H */
