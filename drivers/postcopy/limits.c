// SPDX-License-Identifier: GPL-2.0
/*
 * Limits: how long an access may wait, whether it may wait inside the kernel, and
 * how much memory and how many regions a user may have.
 */
#include <linux/capability.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/xarray.h>

#include "postcopy.h"
#include "request.h"

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
		 "Whose kernel-mode accesses (KVM, system calls) to missing pages wait, while others fail with EFAULT: node (everyone who can open the device; default), cap (who has CAP_SYS_PTRACE when mapping), never (nobody)");

static unsigned int max_regions_per_user = 4096;
module_param(max_regions_per_user, uint, 0644);
MODULE_PARM_DESC(max_regions_per_user,
		 "Regions that a user may have at once, 0: no limit (default 4096); mmap of one more fails with EDQUOT");

static unsigned long max_region_mib;
module_param(max_region_mib, ulong, 0644);
MODULE_PARM_DESC(max_region_mib,
		 "Size of the largest region in MiB, 0: no limit (default); mmap of a larger one fails with EFBIG");

/* The number of regions by user. limits_mutex makes load and store one operation. */
static DEFINE_XARRAY(limits_users);
static DEFINE_MUTEX(limits_mutex);

/**
 * postcopy_limits_admit() - count another region of a user, if the limits allow it
 * @uid: the user
 * @nr_pages: the region's size
 *
 * A region that was counted needs postcopy_limits_release() later.
 *
 * Context: may sleep.
 * Return: 0, EFBIG, EDQUOT, ENOMEM.
 */
int postcopy_limits_admit(kuid_t uid, unsigned long nr_pages)
{
	unsigned long max_mib = READ_ONCE(max_region_mib);
	unsigned int max = READ_ONCE(max_regions_per_user);
	unsigned long nr;
	int err = 0;
	void *entry;

	if (max_mib && nr_pages > max_mib << (20 - PAGE_SHIFT))
		return -EFBIG;
	mutex_lock(&limits_mutex);
	entry = xa_load(&limits_users, __kuid_val(uid));
	nr = entry ? xa_to_value(entry) : 0;
	if (max && nr >= max)
		err = -EDQUOT;
	else
		err = xa_err(xa_store(&limits_users, __kuid_val(uid),
				      xa_mk_value(nr + 1), GFP_KERNEL));
	mutex_unlock(&limits_mutex);
	return err;
}

/**
 * postcopy_limits_release() - a region of the user is gone
 * @uid: the user
 *
 * Context: may sleep.
 */
void postcopy_limits_release(kuid_t uid)
{
	unsigned long nr;

	mutex_lock(&limits_mutex);
	nr = xa_to_value(xa_load(&limits_users, __kuid_val(uid))) - 1;
	/* Storing over an entry, or erasing it, takes no memory. */
	if (nr)
		xa_store(&limits_users, __kuid_val(uid), xa_mk_value(nr), 0);
	else
		xa_erase(&limits_users, __kuid_val(uid));
	mutex_unlock(&limits_mutex);
}

/**
 * postcopy_limits_kernel_faults() - may kernel-mode accesses wait in a region that the
 *	current thread maps?
 *
 * Why not always: a thread parked inside copy_from_user() widens races elsewhere in
 * the kernel, which is also why userfaultfd is restricted.
 */
bool postcopy_limits_kernel_faults(void)
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
	WRITE_ONCE(region->limits.detached_ns, policy->detached_ms * NSEC_PER_MSEC);
	WRITE_ONCE(region->limits.request_ns, policy->request_ms * NSEC_PER_MSEC);
	/*
	 * Wake all waiters: each accesses its page again and waits by the new limits. A waiter
	 * that the walk misses sees the new limits by itself: pairs with the bucket's lock in
	 * postcopy_req_find().
	 */
	smp_mb();
	postcopy_req_answer(region, 0, region->nr_pages);
	return 0;
}
