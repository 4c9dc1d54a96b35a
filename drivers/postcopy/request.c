// SPDX-License-Identifier: GPL-2.0
/*
 * Requests: the missing pages that somebody waits for.
 *
 * There is one request for a page, however many threads fault on it. Requests are in a
 * hash table by page index, so that an answer finds and wakes only the threads that wait
 * for its page. Until a helper takes a request it is in the queue as well. When a helper
 * detaches, the requests that it has not answered go back to the queue, to their place by
 * sequence number.
 *
 * The thread that makes a request is woken directly, since most often no other thread
 * waits. Threads that find the request made wait for its completion.
 *
 * A page becomes present while a fault on it comes in:
 *
 *	CPU 1 (postcopy_pages_mark)		CPU 2 (postcopy_req_find)
 *	sets the present bit			adds the request, requests.nr++
 *	full barrier				full barrier
 *	requests.nr? looks for the request	looks at the present bit
 *
 * One of them sees the other: CPU 2 finds the page present and does not wait,
 * or CPU 1 finds the request and answers it.
 */
#include <linux/list_sort.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>

#include "postcopy.h"
#include "request.h"
#include "trace.h"

static struct kmem_cache *req_cache;

int __init postcopy_req_init(void)
{
	req_cache = KMEM_CACHE(postcopy_req, SLAB_ACCOUNT);
	return req_cache ? 0 : -ENOMEM;
}

void postcopy_req_exit(void)
{
	kmem_cache_destroy(req_cache);
}

/**
 * postcopy_buckets_alloc() - the hash table of a new region
 *
 * Return: an empty table for kvfree(), or NULL.
 */
struct postcopy_bucket *postcopy_buckets_alloc(void)
{
	struct postcopy_bucket *buckets;
	unsigned int i;

	buckets = kvcalloc(POSTCOPY_REQUEST_BUCKETS, sizeof(*buckets),
			   GFP_KERNEL_ACCOUNT);
	if (!buckets)
		return NULL;
	for (i = 0; i < POSTCOPY_REQUEST_BUCKETS; i++)
		spin_lock_init(&buckets[i].lock);
	return buckets;
}

static struct postcopy_bucket *req_bucket(struct postcopy_region *region,
					  unsigned long index)
{
	return &region->requests.buckets[index % POSTCOPY_REQUEST_BUCKETS];
}

static struct postcopy_req *req_lookup(struct postcopy_bucket *bucket,
				       unsigned long index)
{
	struct postcopy_req *req;

	lockdep_assert_held(&bucket->lock);
	hlist_for_each_entry(req, &bucket->requests, hash)
		if (req->index == index)
			return req;
	return NULL;
}

/*
 * A guest with one vCPU has one request at a time, so a region keeps the memory of its
 * last request for the next one.
 */
static struct postcopy_req *req_alloc(struct postcopy_region *region)
{
	struct postcopy_req *req = NULL;

	if (READ_ONCE(region->requests.spare))
		req = xchg(&region->requests.spare, NULL);
	return req ?: kmem_cache_alloc(req_cache, GFP_KERNEL);
}

static void req_free(struct postcopy_region *region, struct postcopy_req *req)
{
	if (READ_ONCE(region->requests.spare) || cmpxchg(&region->requests.spare, NULL, req))
		kmem_cache_free(req_cache, req);
}

/**
 * postcopy_req_free_spare() - free the memory that is kept for the next request
 * @region: being freed
 */
void postcopy_req_free_spare(struct postcopy_region *region)
{
	if (region->requests.spare)
		kmem_cache_free(req_cache, region->requests.spare);
}

/**
 * postcopy_req_put() - drop a reference
 * @region: of the request
 * @req: may be freed
 */
void postcopy_req_put(struct postcopy_region *region, struct postcopy_req *req)
{
	if (refcount_dec_and_test(&req->refs))
		req_free(region, req);
}

/**
 * postcopy_req_announce() - wake the helper for a new request
 * @region: the region
 * @sleeps: the caller is about to sleep, so the helper may have its CPU
 */
void postcopy_req_announce(struct postcopy_region *region, bool sleeps)
{
	/* The barrier pairs with prepare_to_wait() and with helper_poll(). */
	if (!wq_has_sleeper(&region->requests.helper_wait))
		return;
	if (sleeps)
		wake_up_interruptible_sync_poll(&region->requests.helper_wait,
						EPOLLIN | EPOLLRDNORM);
	else
		wake_up_interruptible_poll(&region->requests.helper_wait,
					   EPOLLIN | EPOLLRDNORM);
}

static void req_enqueue(struct postcopy_region *region, struct postcopy_req *req)
{
	spin_lock(&region->requests.queue_lock);
	req->seq = ++region->requests.last_seq;
	list_add_tail(&req->queue, &region->requests.queued);
	region->requests.nr_queued++;
	spin_unlock(&region->requests.queue_lock);
}

/*
 * Take a request out of the queue, if it is there. The caller holds the bucket's lock,
 * without which no taken request goes back to the queue.
 */
static void req_dequeue(struct postcopy_region *region, struct postcopy_req *req)
{
	/* Pairs with postcopy_req_take(). */
	if (smp_load_acquire(&req->taken))
		return;
	spin_lock(&region->requests.queue_lock);
	if (!req->taken) {
		list_del(&req->queue);
		region->requests.nr_queued--;
	}
	spin_unlock(&region->requests.queue_lock);
}

/**
 * postcopy_req_find() - find the request for a missing page, or make one
 * @region: the region
 * @index: the page
 * @write: the access is a write
 * @time_ns: now
 * @is_new: set if the request was made; then the caller has to call
 *	postcopy_req_announce()
 *
 * Context: may sleep to allocate memory, does not wait for the page.
 * Return: the request with a reference; NULL if by now the page is present or
 * poisoned or the region has ended; ENOMEM.
 */
struct postcopy_req *postcopy_req_find(struct postcopy_region *region,
				       unsigned long index, bool write,
				       u64 time_ns, bool *is_new)
{
	struct postcopy_bucket *bucket = req_bucket(region, index);
	struct postcopy_req *req, *fresh = NULL;

	spin_lock(&bucket->lock);
	req = req_lookup(bucket, index);
	if (!req) {
		spin_unlock(&bucket->lock);
		fresh = req_alloc(region);
		if (!fresh)
			return ERR_PTR(-ENOMEM);
		refcount_set(&fresh->refs, 1);	/* the table's */
		fresh->index = index;
		fresh->time_ns = time_ns;
		rcuwait_init(&fresh->maker);
		init_completion(&fresh->others);
		fresh->answered = false;
		fresh->found = false;
		fresh->flags = 0;
		fresh->taken = false;
		spin_lock(&bucket->lock);
		req = req_lookup(bucket, index);
	}
	if (req) {
		req->found = true;
	} else {
		hlist_add_head(&fresh->hash, &bucket->requests);
		atomic_long_inc(&region->requests.nr);
		smp_mb__after_atomic();	/* see the head of this file */
		if (test_bit(index, region->present) ||
		    postcopy_poisoned(region, index) ||
		    postcopy_region_final(region)) {
			hlist_del(&fresh->hash);
			atomic_long_dec(&region->requests.nr);
		} else {
			req = fresh;
			fresh = NULL;
			req_enqueue(region, req);
			atomic64_inc(&region->counters.requests);
			trace_postcopy_request(region, index, 1, 1);
			*is_new = true;
		}
	}
	if (req) {
		refcount_inc(&req->refs);
		if (write)
			req->flags |= POSTCOPY_REQUEST_WRITE;
	}
	spin_unlock(&bucket->lock);
	if (fresh)
		req_free(region, fresh);
	return req;
}

static void req_answer(struct postcopy_region *region, struct postcopy_bucket *bucket,
		       struct postcopy_req *req)
{
	lockdep_assert_held(&bucket->lock);
	hlist_del(&req->hash);
	atomic_long_dec(&region->requests.nr);
	req_dequeue(region, req);
	/* Pairs with req_is_answered() in wait.c. */
	smp_store_release(&req->answered, true);
	rcuwait_wake_up(&req->maker);
	if (req->found)
		complete_all(&req->others);
	postcopy_req_put(region, req);
}

/**
 * postcopy_req_answer() - wake the threads that wait for pages
 * @region: the region
 * @first: index of the first page
 * @nr: pages
 *
 * Context: may sleep, if @nr is large.
 */
void postcopy_req_answer(struct postcopy_region *region,
			 unsigned long first, unsigned long nr)
{
	struct postcopy_bucket *bucket;
	struct hlist_node *next;
	struct postcopy_req *req;
	unsigned int i;

	if (nr < POSTCOPY_REQUEST_BUCKETS) {
		for (; nr; nr--, first++) {
			bucket = req_bucket(region, first);
			if (hlist_empty(&bucket->requests))
				continue;
			spin_lock(&bucket->lock);
			req = req_lookup(bucket, first);
			if (req)
				req_answer(region, bucket, req);
			spin_unlock(&bucket->lock);
		}
		return;
	}
	for (i = 0; i < POSTCOPY_REQUEST_BUCKETS; i++) {
		bucket = &region->requests.buckets[i];
		spin_lock(&bucket->lock);
		hlist_for_each_entry_safe(req, next, &bucket->requests, hash)
			if (req->index - first < nr)
				req_answer(region, bucket, req);
		spin_unlock(&bucket->lock);
		cond_resched();
	}
}

/**
 * postcopy_req_take() - take the oldest requests out of the queue for the helper
 * @region: the region
 * @batch: where to put them
 * @nr: how many at most
 *
 * The caller passes them to user space or calls postcopy_req_give_back().
 *
 * Return: how many.
 */
unsigned int postcopy_req_take(struct postcopy_region *region,
			       struct postcopy_req_batch *batch, unsigned int nr)
{
	struct postcopy_req *req, *next;
	unsigned int i = 0;

	nr = min(nr, POSTCOPY_READ_BATCH);
	spin_lock(&region->requests.queue_lock);
	list_for_each_entry_safe(req, next, &region->requests.queued, queue) {
		if (i == nr)
			break;
		batch->requests[i] = (struct postcopy_request) {
			.offset = (u64)(region->first + req->index) << PAGE_SHIFT,
			.length = PAGE_SIZE,
			.time_ns = req->time_ns,
			.flags = READ_ONCE(req->flags),
		};
		batch->seq[i++] = req->seq;
		list_del(&req->queue);
		region->requests.nr_queued--;
		/* Last: from here on it may be answered and freed. Pairs with req_dequeue(). */
		smp_store_release(&req->taken, true);
	}
	spin_unlock(&region->requests.queue_lock);
	return i;
}

/*
 * Put a taken request back into the queue. Older requests are in the queue only if other
 * threads of the helper have just given them back, at most POSTCOPY_READ_BATCH each, so
 * the search is short.
 */
static void req_untake(struct postcopy_region *region, struct postcopy_bucket *bucket,
		       struct postcopy_req *req)
{
	struct list_head *place;

	lockdep_assert_held(&bucket->lock);
	spin_lock(&region->requests.queue_lock);
	list_for_each(place, &region->requests.queued)
		if (list_entry(place, struct postcopy_req, queue)->seq > req->seq)
			break;
	list_add_tail(&req->queue, place);
	region->requests.nr_queued++;
	WRITE_ONCE(req->taken, false);
	spin_unlock(&region->requests.queue_lock);
}

/**
 * postcopy_req_give_back() - queue requests again that did not reach user space
 * @region: the region
 * @batch: from postcopy_req_take()
 * @nr: how many
 */
void postcopy_req_give_back(struct postcopy_region *region,
			    const struct postcopy_req_batch *batch, unsigned int nr)
{
	while (nr--) {
		unsigned long index = (batch->requests[nr].offset >> PAGE_SHIFT) - region->first;
		struct postcopy_bucket *bucket = req_bucket(region, index);
		struct postcopy_req *req;

		/* It may have been answered, and there may be a new one for the page. */
		spin_lock(&bucket->lock);
		req = req_lookup(bucket, index);
		if (req && req->seq == batch->seq[nr])
			req_untake(region, bucket, req);
		spin_unlock(&bucket->lock);
	}
	postcopy_req_announce(region, false);
}

/**
 * postcopy_req_read() - copy queued requests to user space
 * @region: the region
 * @buffer: for @nr requests
 * @nr: at least 1
 *
 * Context: sleeps.
 * Return: requests copied, 0 if there are none, or EFAULT.
 */
ssize_t postcopy_req_read(struct postcopy_region *region,
			  struct postcopy_request __user *buffer, size_t nr)
{
	struct postcopy_req_batch batch __uninitialized;
	size_t done = 0;

	while (done < nr) {
		unsigned int got = postcopy_req_take(region, &batch,
						     min_t(size_t, nr - done, UINT_MAX));

		if (!got)
			break;
		if (copy_to_user(buffer + done, batch.requests,
				 got * sizeof(*batch.requests))) {
			postcopy_req_give_back(region, &batch, got);
			return done ?: -EFAULT;
		}
		done += got;
		if (got < POSTCOPY_READ_BATCH)
			break;
	}
	return done;
}

static int req_is_older(void *unused, const struct list_head *a, const struct list_head *b)
{
	cond_resched();
	return list_entry(a, struct postcopy_req, queue)->seq <
	       list_entry(b, struct postcopy_req, queue)->seq;
}

/**
 * postcopy_req_requeue() - the helper is gone: queue the requests it has not answered
 * @region: the region
 *
 * The helper's file is released, so none of its threads takes or gives back requests, and
 * no other helper comes before the region's lock is dropped. Taken requests stay taken, so
 * this function may use their list heads. They may be answered meanwhile.
 *
 * Context: sleeps, under the region's lock.
 */
void postcopy_req_requeue(struct postcopy_region *region)
{
	struct postcopy_req_batch batch __uninitialized;
	struct postcopy_req *req, *next;
	struct postcopy_bucket *bucket;
	LIST_HEAD(unanswered);
	unsigned int i;

	lockdep_assert_held(&region->lock);
	/* Empty the queue first, so that the requests put back keep their order. */
	while (postcopy_req_take(region, &batch, POSTCOPY_READ_BATCH))
		cond_resched();
	for (i = 0; i < POSTCOPY_REQUEST_BUCKETS; i++) {
		bucket = &region->requests.buckets[i];
		if (hlist_empty(&bucket->requests))
			continue;
		spin_lock(&bucket->lock);
		hlist_for_each_entry(req, &bucket->requests, hash) {
			if (!req->taken)
				continue;
			refcount_inc(&req->refs);
			list_add(&req->queue, &unanswered);
		}
		spin_unlock(&bucket->lock);
		cond_resched();
	}
	/* Latest first, since each is put at the head of the queue. */
	list_sort(NULL, &unanswered, req_is_older);
	list_for_each_entry_safe(req, next, &unanswered, queue) {
		bucket = req_bucket(region, req->index);
		spin_lock(&bucket->lock);
		if (!req->answered)
			req_untake(region, bucket, req);
		spin_unlock(&bucket->lock);
		postcopy_req_put(region, req);
		cond_resched();
	}
	postcopy_req_announce(region, false);
}
