// SPDX-License-Identifier: GPL-2.0
/*
 * The helper fd: its holder serves the region.
 *
 * Attaching takes the region's one helper slot. Releasing the fd, which the kernel
 * does in whatever way the process ends, gives the slot back and queues the requests
 * again that were read and not answered.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>

#include "ioctl.h"
#include "postcopy.h"
#include "request.h"
#include "trace.h"

struct postcopy_helper {
	struct postcopy_region *region;
};

static ssize_t helper_read(struct file *file, char __user *buffer, size_t size,
			   loff_t *pos)
{
	struct postcopy_helper *helper = file->private_data;
	struct postcopy_region *region = helper->region;
	size_t nr = size / sizeof(struct postcopy_request);
	ssize_t ret;

	if (!nr)
		return -EINVAL;
	do {
		if (!(file->f_flags & O_NONBLOCK) &&
		    wait_event_interruptible(region->requests.helper_wait,
					     postcopy_req_readable(region)))
			return -EINTR;
		if (postcopy_region_final(region))
			return 0;
		ret = postcopy_req_read(region, (void __user *)buffer, nr);
		if (!ret && (file->f_flags & O_NONBLOCK))
			return postcopy_region_final(region) ? 0 : -EAGAIN;
		/* None left: another thread has read it, or it has been answered. */
	} while (!ret);
	return ret < 0 ? ret : ret * sizeof(struct postcopy_request);
}

static __poll_t helper_poll(struct file *file, poll_table *wait)
{
	struct postcopy_helper *helper = file->private_data;
	struct postcopy_region *region = helper->region;
	__poll_t events = 0;

	poll_wait(file, &region->requests.helper_wait, wait);
	/* Pairs with wq_has_sleeper() in postcopy_req_announce(). */
	smp_mb();
	if (READ_ONCE(region->requests.nr_queued))
		events |= EPOLLIN | EPOLLRDNORM;
	if (postcopy_region_final(region))
		events |= EPOLLHUP;
	return events;
}

static int helper_release(struct inode *inode, struct file *file)
{
	struct postcopy_helper *helper = file->private_data;
	struct postcopy_region *region = helper->region;
	bool dead;

	mutex_lock(&region->lock);
	if (region->helper == helper)
		region->helper = NULL;
	/* Without helper_pid it was only reserved and never attached. */
	if (!region->helper && region->helper_pid) {
		postcopy_stash_empty(&region->stash);
		if (region->state == POSTCOPY_REGION_ATTACHED)
			region->state = POSTCOPY_REGION_DETACHED;
		WRITE_ONCE(region->alone_since_ns, ktime_get_ns());
		put_pid(region->helper_pid);
		region->helper_pid = NULL;
		postcopy_req_requeue(region);
		trace_postcopy_detach(region, atomic_long_read(&region->nr_present));
	}
	dead = region->state == POSTCOPY_REGION_DEAD;
	mutex_unlock(&region->lock);
	if (dead) {
		/* No call of the helper is under way: see shared_find_or_create(). */
		mutex_lock(&region->context->lock);
		postcopy_shared_unlist(region);
		mutex_unlock(&region->context->lock);
	}
	postcopy_region_put(region);
	kfree(helper);
	return 0;
}

/* A helper fd needs no region id, but an id that is given must be right. */
static bool helper_names_own(struct postcopy_helper *helper, u64 id)
{
	return !id || id == helper->region->id;
}

static long helper_region_info(void *object, union postcopy_ioctl_arg *arg,
			       void __user *uarg)
{
	struct postcopy_region_info *info = &arg->region_info;
	struct postcopy_helper *helper = object;

	if (info->flags || info->reserved)
		return -EINVAL;
	if (!helper_names_own(helper, info->region_id))
		return -EINVAL;
	info->region_id = helper->region->id;
	postcopy_region_describe(helper->region, info);
	return 0;
}

static long helper_region_convert(void *object, union postcopy_ioctl_arg *arg,
				  void __user *uarg)
{
	struct postcopy_helper *helper = object;

	if (!helper_names_own(helper, arg->region_convert.region_id))
		return -EINVAL;
	return postcopy_region_convert(helper->region, &arg->region_convert);
}

static long helper_region_policy(void *object, union postcopy_ioctl_arg *arg,
				 void __user *uarg)
{
	struct postcopy_helper *helper = object;

	if (!helper_names_own(helper, arg->region_policy.region_id))
		return -EINVAL;
	return postcopy_region_policy(helper->region, &arg->region_policy);
}

/* The handler of an ioctl that needs nothing but the helper's region. */
#define HELPER_PAGES_IOCTL(_name)						\
static long helper_##_name(void *object, union postcopy_ioctl_arg *arg,		\
			   void __user *uarg)					\
{										\
	struct postcopy_helper *helper = object;				\
										\
	return postcopy_##_name(helper->region, &arg->_name);			\
}

HELPER_PAGES_IOCTL(pages_fill)
HELPER_PAGES_IOCTL(pages_zero)
HELPER_PAGES_IOCTL(pages_present)
HELPER_PAGES_IOCTL(pages_discard)
HELPER_PAGES_IOCTL(pages_poison)
HELPER_PAGES_IOCTL(pages_query)

static long helper_exchange(void *object, union postcopy_ioctl_arg *arg,
			    void __user *uarg)
{
	struct postcopy_helper *helper = object;

	return postcopy_exchange(helper->region, &arg->helper_exchange, uarg);
}

static const struct postcopy_ioctl helper_ioctls[] = {
	{
		.cmd = POSTCOPY_HELPER_EXCHANGE,
		.min_size = offsetofend(struct postcopy_helper_exchange, out_nr_filled),
		.size = sizeof(struct postcopy_helper_exchange),
		.run = helper_exchange,
		.copies_out = true,
	},
	POSTCOPY_IOCTL(POSTCOPY_PAGES_FILL, postcopy_pages_fill,
		       out_nr_filled, helper_pages_fill),
	POSTCOPY_IOCTL(POSTCOPY_PAGES_ZERO, postcopy_pages_zero,
		       out_nr_zeroed, helper_pages_zero),
	POSTCOPY_IOCTL(POSTCOPY_PAGES_PRESENT, postcopy_pages_present,
		       out_nr_marked, helper_pages_present),
	POSTCOPY_IOCTL(POSTCOPY_PAGES_DISCARD, postcopy_pages_discard,
		       out_nr_discarded, helper_pages_discard),
	POSTCOPY_IOCTL(POSTCOPY_PAGES_POISON, postcopy_pages_poison,
		       out_nr_poisoned, helper_pages_poison),
	POSTCOPY_IOCTL(POSTCOPY_PAGES_QUERY, postcopy_pages_query,
		       out_nr_present, helper_pages_query),
	POSTCOPY_IOCTL(POSTCOPY_REGION_INFO, postcopy_region_info,
		       out_wait_histogram, helper_region_info),
	POSTCOPY_IOCTL(POSTCOPY_REGION_CONVERT, postcopy_region_convert,
		       out_nr_missing, helper_region_convert),
	POSTCOPY_IOCTL(POSTCOPY_REGION_POLICY, postcopy_region_policy,
		       request_ms, helper_region_policy),
};

static long helper_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct postcopy_helper *helper = file->private_data;
	long ret;

	/* The fast path for the usual case: this call comes once for each fault. */
	if (cmd == POSTCOPY_HELPER_EXCHANGE &&
	    postcopy_exchange_quick(helper->region, (void __user *)arg, &ret))
		return ret;
	return postcopy_ioctl_run(helper_ioctls, ARRAY_SIZE(helper_ioctls),
				  helper, cmd, arg);
}

static int helper_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct postcopy_helper *helper = file->private_data;

	return postcopy_mmap_helper(helper->region, vma);
}

static const struct file_operations helper_fops = {
	.owner = THIS_MODULE,
	.read = helper_read,
	.poll = helper_poll,
	.mmap = helper_mmap,
	.unlocked_ioctl = helper_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = helper_release,
	.llseek = noop_llseek,
};

/* Take the region's slot. The state does not show it before helper_activate(). */
static int helper_reserve(struct postcopy_helper *helper)
{
	struct postcopy_region *region = helper->region;
	int err;

	mutex_lock(&region->lock);
	err = postcopy_region_alive(region);
	if (!err && region->helper)
		err = -EBUSY;
	if (!err)
		region->helper = helper;
	mutex_unlock(&region->lock);
	return err;
}

static void helper_activate(struct postcopy_helper *helper)
{
	struct postcopy_region *region = helper->region;

	mutex_lock(&region->lock);
	if (!postcopy_region_final(region))
		region->state = POSTCOPY_REGION_ATTACHED;
	region->helper_pid = get_pid(task_tgid(current));
	region->total_attached++;
	WRITE_ONCE(region->alone_since_ns, 0);
	trace_postcopy_attach(region, atomic_long_read(&region->nr_present));
	mutex_unlock(&region->lock);
}

/**
 * postcopy_helper_attach() - POSTCOPY_HELPER_ATTACH, after the permission check
 * @region: the region to serve
 * @uattach: where to write out_fd
 *
 * Context: sleeps.
 * Return: 0 or -errno as the header says.
 */
long postcopy_helper_attach(struct postcopy_region *region,
			    struct postcopy_helper_attach __user *uattach)
{
	struct postcopy_helper *helper;
	struct file *file;
	int fd, err;

	helper = kzalloc(sizeof(*helper), GFP_KERNEL_ACCOUNT);
	if (!helper)
		return -ENOMEM;
	helper->region = region;
	postcopy_region_get(region);

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		err = fd;
		goto err_helper;
	}
	file = anon_inode_getfile("[postcopy helper]", &helper_fops, helper,
				  O_RDWR | O_CLOEXEC);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto err_fd;
	}
	/* From here on the file owns the helper. */
	err = helper_reserve(helper);
	if (!err && put_user(fd, &uattach->out_fd))
		err = -EFAULT;
	if (err) {
		fput(file);
		put_unused_fd(fd);
		return err;
	}
	helper_activate(helper);
	fd_install(fd, file);
	return 0;

err_fd:
	put_unused_fd(fd);
err_helper:
	postcopy_region_put(region);
	kfree(helper);
	return err;
}
