// SPDX-License-Identifier: GPL-2.0
/*
 * Waiting until a request is answered, a signal comes, or a limit is reached.
 */
#include <linux/completion.h>
#include <linux/ktime.h>
#include <linux/rcuwait.h>
#include <linux/sched/signal.h>
#include <linux/timekeeping.h>

#include "postcopy.h"
#include "request.h"

/* How often a wait that has a limit checks whether it is over. */
#define WAIT_SLICE	(HZ / 10)

/*
 * Is the last process that ran in this memory gone, or killed? Then a kernel thread that
 * waits for a page of the memory waits for nobody, and meanwhile keeps the memory from
 * being freed, or a thread of the process from ending that waits for the kernel thread
 * (KVM: when a vCPU is reset). The core clears mm->owner when it finds no other owner.
 */
static bool wait_abandoned(struct mm_struct *mm)
{
	bool abandoned = false;
#ifdef CONFIG_MEMCG
	struct task_struct *owner;

	if (!mm)
		return false;
	rcu_read_lock();
	owner = rcu_dereference(mm->owner);
	/* ->signal lives as long as the task's struct. */
	abandoned = !owner ||
		    (READ_ONCE(owner->signal->flags) & SIGNAL_GROUP_EXIT);
	rcu_read_unlock();
#endif
	return abandoned;
}

/**
 * postcopy_wait_expired() - has a limit for a request been reached?
 * @region: the region
 * @req: one of its requests
 * @borrowed: if the current thread is a kernel thread, the memory that it accesses;
 *	otherwise NULL
 */
bool postcopy_wait_expired(struct postcopy_region *region,
			   const struct postcopy_req *req, struct mm_struct *borrowed)
{
	u64 request_ns = READ_ONCE(region->limits.request_ns);
	u64 detached_ns = READ_ONCE(region->limits.detached_ns);
	u64 alone_since = READ_ONCE(region->alone_since_ns);
	u64 now;

	if (wait_abandoned(borrowed))
		return true;
	if (!request_ns && !detached_ns)
		return false;
	now = ktime_get_ns();
	return (request_ns && now - req->time_ns >= request_ns) ||
	       (detached_ns && alone_since && now - alone_since >= detached_ns);
}

static bool req_is_answered(struct postcopy_req *req)
{
	/* Pairs with req_answer(). */
	return smp_load_acquire(&req->answered);
}

/* Returns 1 if the request is answered, -EINTR if a signal came, 0 if time is up. */
static long wait_maker(struct postcopy_req *req, unsigned int state, long left)
{
	long ret;

	prepare_to_rcuwait(&req->maker);
	for (;;) {
		set_current_state(state);
		ret = req_is_answered(req);
		if (ret)
			break;
		ret = signal_pending_state(state, current) ? -EINTR : 0;
		if (ret || !left)
			break;
		if (left == MAX_SCHEDULE_TIMEOUT)
			schedule();
		else
			left = schedule_timeout(left);
	}
	finish_rcuwait(&req->maker);
	return ret;
}

/* One slice of a wait with a limit. Returns > 0, < 0 or 0 as wait_maker() does. */
static long wait_slice(struct postcopy_req *req, bool made_it, unsigned int state)
{
	if (made_it)
		return wait_maker(req, state, WAIT_SLICE);
	if (state & TASK_INTERRUPTIBLE)
		return wait_for_completion_interruptible_timeout(&req->others,
								 WAIT_SLICE);
	return wait_for_completion_killable_timeout(&req->others, WAIT_SLICE);
}

/**
 * postcopy_wait() - wait until a request is answered, a signal comes, or a limit is reached
 * @region: the region
 * @req: the request
 * @made_it: the current thread has made the request; no other thread says so
 * @state: task state to sleep in
 * @borrowed: as for postcopy_wait_expired(); the current thread has a reference on it
 *
 * Context: sleeps, no locks held.
 */
void postcopy_wait(struct postcopy_region *region, struct postcopy_req *req,
		   bool made_it, unsigned int state, struct mm_struct *borrowed)
{
	bool limited = READ_ONCE(region->limits.request_ns) ||
		       READ_ONCE(region->limits.detached_ns) || borrowed;

	if (limited) {
		while (!wait_slice(req, made_it, state) &&
		       !postcopy_wait_expired(region, req, borrowed))
			;
	} else if (made_it) {
		wait_maker(req, state, MAX_SCHEDULE_TIMEOUT);
	} else {
		wait_for_completion_state(&req->others, state);
	}
}
