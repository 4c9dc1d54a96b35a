// SPDX-License-Identifier: GPL-2.0
/*
 * Policy: how long an access may wait, who may wait inside the kernel, and how
 * much a user may have.
 */
#include <linux/capability.h>
#include <linux/completion.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcuwait.h>
#include <linux/sched/signal.h>
#include <linux/timekeeping.h>
#include <linux/xarray.h>

#include "postcopy.h"

/* How often a wait that has a limit looks whether it is over. */
#define POLICY_SLICE	(HZ / 10)

enum {
	KERNEL_FAULTS_NODE,
	KERNEL_FAULTS_CAP,
	KERNEL_FAULTS_NEVER,
};

static const char * const kernel_faults_names[] = {
	[KERNEL_FAULTS_NODE] = "node",
	[KERNEL_FAULTS_CAP] = "cap",
	[KERNEL_FAULTS_NEVER] = "never",
};

static int kernel_faults = KERNEL_FAULTS_NODE;

static int kernel_faults_set(const char *value, const struct kernel_param *param)
{
	int i = sysfs_match_string(kernel_faults_names, value);

	if (i < 0)
		return i;
	WRITE_ONCE(kernel_faults, i);
	return 0;
}

static int kernel_faults_get(char *buffer, const struct kernel_param *param)
{
	return sysfs_emit(buffer, "%s\n",
			  kernel_faults_names[READ_ONCE(kernel_faults)]);
}

static const struct kernel_param_ops kernel_faults_ops = {
	.set = kernel_faults_set,
	.get = kernel_faults_get,
};

module_param_cb(kernel_faults, &kernel_faults_ops, NULL, 0644);
MODULE_PARM_DESC(kernel_faults,
		 "Whose kernel-mode accesses (KVM, system calls) to missing pages wait; others fail with EFAULT: node (of all who can open the device; default), cap (of those with CAP_SYS_PTRACE when they map), never");

static unsigned int max_regions_per_user = 4096;
module_param(max_regions_per_user, uint, 0644);
MODULE_PARM_DESC(max_regions_per_user,
		 "Regions a user may have at once, 0: no limit (default 4096); one more fails with EDQUOT");

static unsigned long max_region_mib;
module_param(max_region_mib, ulong, 0644);
MODULE_PARM_DESC(max_region_mib,
		 "Size of the largest region in MiB, 0: no limit (default); a larger one fails with EFBIG");

/* Regions by user. Counting is more than one operation: under policy_mutex. */
static DEFINE_XARRAY(policy_users);
static DEFINE_MUTEX(policy_mutex);

/**
 * postcopy_policy_admit() - may the user have another region?
 * @uid: the user; counted if so, until postcopy_policy_release()
 * @nr_pages: its size
 *
 * Context: may sleep.
 * Return: 0, EFBIG, EDQUOT, ENOMEM.
 */
int postcopy_policy_admit(kuid_t uid, unsigned long nr_pages)
{
	unsigned long max_mib = READ_ONCE(max_region_mib);
	unsigned int max = READ_ONCE(max_regions_per_user);
	unsigned long nr;
	int err = 0;
	void *entry;

	if (max_mib && nr_pages > max_mib << (20 - PAGE_SHIFT))
		return -EFBIG;
	mutex_lock(&policy_mutex);
	entry = xa_load(&policy_users, __kuid_val(uid));
	nr = entry ? xa_to_value(entry) : 0;
	if (max && nr >= max)
		err = -EDQUOT;
	else
		err = xa_err(xa_store(&policy_users, __kuid_val(uid),
				      xa_mk_value(nr + 1), GFP_KERNEL));
	mutex_unlock(&policy_mutex);
	return err;
}

/**
 * postcopy_policy_release() - a region of the user is gone
 * @uid: the user
 *
 * Context: may sleep.
 */
void postcopy_policy_release(kuid_t uid)
{
	unsigned long nr;

	mutex_lock(&policy_mutex);
	nr = xa_to_value(xa_load(&policy_users, __kuid_val(uid))) - 1;
	/* Storing over an entry, or erasing it, takes no memory. */
	if (nr)
		xa_store(&policy_users, __kuid_val(uid), xa_mk_value(nr), 0);
	else
		xa_erase(&policy_users, __kuid_val(uid));
	mutex_unlock(&policy_mutex);
}

/**
 * postcopy_policy_kernel_faults() - may kernel-mode accesses to a region wait
 *	that the current thread maps?
 *
 * Why not always: a thread parked inside copy_from_user() widens races
 * elsewhere in the kernel, see the restrictions on userfaultfd.
 */
bool postcopy_policy_kernel_faults(void)
{
	switch (READ_ONCE(kernel_faults)) {
	case KERNEL_FAULTS_NODE:
		return true;
	case KERNEL_FAULTS_CAP:
		return capable(CAP_SYS_PTRACE);
	default:
		return false;
	}
}

/*
 * Is the last process that ran in the memory gone, or killed? A kernel thread that waits for
 * a page of it then keeps the memory from going, or a thread of the process that waits for
 * that kernel thread (KVM: a vCPU that is reset), and for nobody. The core forgets a
 * memory's owner when no other is found.
 */
static bool policy_abandoned(struct mm_struct *mm)
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
 * postcopy_policy_expired() - has a request waited too long?
 * @region: the region
 * @req: one of its requests
 * @borrowed: of a kernel thread, the memory that it accesses; otherwise NULL
 */
bool postcopy_policy_expired(struct postcopy_region *region,
			     const struct postcopy_req *req, struct mm_struct *borrowed)
{
	u64 request_ns = READ_ONCE(region->request_ns);
	u64 detached_ns = READ_ONCE(region->detached_ns);
	u64 alone_since = READ_ONCE(region->alone_since_ns);
	u64 now;

	if (policy_abandoned(borrowed))
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

/* Returns 0 if the time is over, else answered (> 0) or a signal came. */
static long policy_wait_maker(struct postcopy_req *req, unsigned int state, long left)
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

/* One slice of a wait with a limit; same. */
static long policy_wait_slice(struct postcopy_req *req, bool made_it,
			      unsigned int state)
{
	if (made_it)
		return policy_wait_maker(req, state, POLICY_SLICE);
	if (state & TASK_INTERRUPTIBLE)
		return wait_for_completion_interruptible_timeout(&req->others,
								 POLICY_SLICE);
	return wait_for_completion_killable_timeout(&req->others, POLICY_SLICE);
}

/**
 * postcopy_policy_wait() - wait until a page is present, a signal or the limit
 * @region: the region
 * @req: the request for the page
 * @made_it: the current thread has made the request and nobody else waits for it
 *	as its maker
 * @state: task state to sleep in
 * @borrowed: as for postcopy_policy_expired(); the caller's reference keeps it
 *
 * Context: sleeps, no locks held.
 */
void postcopy_policy_wait(struct postcopy_region *region,
			  struct postcopy_req *req, bool made_it,
			  unsigned int state, struct mm_struct *borrowed)
{
	if (READ_ONCE(region->request_ns) || READ_ONCE(region->detached_ns) || borrowed) {
		while (!policy_wait_slice(req, made_it, state) &&
		       !postcopy_policy_expired(region, req, borrowed))
			;
	} else if (made_it) {
		policy_wait_maker(req, state, MAX_SCHEDULE_TIMEOUT);
	} else {
		wait_for_completion_state(&req->others, state);
	}
}

/**
 * postcopy_region_policy() - POSTCOPY_REGION_POLICY
 * @region: the region
 * @policy: in
 *
 * Context: may sleep.
 * Return: 0, EINVAL, ESRCH, EALREADY.
 */
long postcopy_region_policy(struct postcopy_region *region,
			    struct postcopy_region_policy *policy)
{
	int err;

	if (policy->flags || policy->detached_ms > U32_MAX ||
	    policy->request_ms > U32_MAX)
		return -EINVAL;
	err = postcopy_region_alive(region);
	if (err)
		return err;
	WRITE_ONCE(region->detached_ns, policy->detached_ms * NSEC_PER_MSEC);
	WRITE_ONCE(region->request_ns, policy->request_ms * NSEC_PER_MSEC);
	/*
	 * Those who wait come back and wait by the new rules. Who is not found is to find the
	 * new rules: pairs with the bucket's lock in postcopy_req_find().
	 */
	smp_mb();
	postcopy_req_answer(region, 0, region->nr_pages);
	return 0;
}
