// SPDX-License-Identifier: GPL-2.0
/*
 * The helper fd: whoever holds it serves the region.
 *
 * Attaching takes the region's one helper slot; releasing the fd, which the
 * kernel does whichever way the process ends, gives the slot back and queues
 * again what was read and not answered.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>

#include "postcopy.h"
#include "trace.h"

struct postcopy_helper {
	struct postcopy_region *region;
};

static bool helper_readable(struct postcopy_region *region)
{
	return READ_ONCE(region->nr_queued) || postcopy_region_final(region);
}

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
		    wait_event_interruptible(region->helper_wait,
					     helper_readable(region)))
			return -EINTR;
		if (postcopy_region_final(region))
			return 0;
		ret = postcopy_req_read(region, (void __user *)buffer, nr);
		if (!ret && (file->f_flags & O_NONBLOCK))
			return postcopy_region_final(region) ? 0 : -EAGAIN;
		/* None: another thread was faster, or an answer was. */
	} while (!ret);
	return ret < 0 ? ret : ret * sizeof(struct postcopy_request);
}

static __poll_t helper_poll(struct file *file, poll_table *wait)
{
	struct postcopy_helper *helper = file->private_data;
	struct postcopy_region *region = helper->region;
	__poll_t events = 0;

	poll_wait(file, &region->helper_wait, wait);
	/* Pairs with wq_has_sleeper() in postcopy_req_announce(). */
	smp_mb();
	if (READ_ONCE(region->nr_queued))
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
	/* Reserved only, it was never there. */
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
		/* None of its calls is under way any more: see shared_find_or_create(). */
		mutex_lock(&region->context->lock);
		postcopy_shared_unlist(region);
		mutex_unlock(&region->context->lock);
	}
	postcopy_region_put(region);
	kfree(helper);
	return 0;
}

/* On a helper fd an id is superfluous, but must not be wrong. */
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

static long helper_pages_fill(void *object, union postcopy_ioctl_arg *arg,
			      void __user *uarg)
{
	struct postcopy_helper *helper = object;

	return postcopy_pages_fill(helper->region, &arg->pages_fill);
}

static long helper_pages_zero(void *object, union postcopy_ioctl_arg *arg,
			      void __user *uarg)
{
	struct postcopy_helper *helper = object;

	return postcopy_pages_zero(helper->region, &arg->pages_zero);
}

static long helper_pages_present(void *object, union postcopy_ioctl_arg *arg,
				 void __user *uarg)
{
	struct postcopy_helper *helper = object;

	return postcopy_pages_present(helper->region, &arg->pages_present);
}

static long helper_pages_discard(void *object, union postcopy_ioctl_arg *arg,
				 void __user *uarg)
{
	struct postcopy_helper *helper = object;

	return postcopy_pages_discard(helper->region, &arg->pages_discard);
}

static long helper_pages_poison(void *object, union postcopy_ioctl_arg *arg,
				void __user *uarg)
{
	struct postcopy_helper *helper = object;

	return postcopy_pages_poison(helper->region, &arg->pages_poison);
}

static long helper_region_policy(void *object, union postcopy_ioctl_arg *arg,
				 void __user *uarg)
{
	struct postcopy_helper *helper = object;

	if (!helper_names_own(helper, arg->region_policy.region_id))
		return -EINVAL;
	return postcopy_region_policy(helper->region, &arg->region_policy);
}

static long helper_pages_query(void *object, union postcopy_ioctl_arg *arg,
			       void __user *uarg)
{
	struct postcopy_helper *helper = object;

	return postcopy_pages_query(helper->region, &arg->pages_query);
}

/* The pages of an exchange. */
static long exchange_fill(struct postcopy_region *region,
			  struct postcopy_helper_exchange *exchange)
{
	struct postcopy_pages_fill fill = {
		.offset = exchange->offset,
		.length = exchange->length,
		.data = exchange->data,
	};
	long ret;

	exchange->out_length = 0;
	exchange->out_nr_filled = 0;
	if (!exchange->length)
		return exchange->offset || exchange->data ? -EINVAL :
							    postcopy_region_alive(region);
	ret = postcopy_pages_fill(region, &fill);
	if (ret)
		return ret;
	exchange->out_length = fill.out_length;
	exchange->out_nr_filled = fill.out_nr_filled;
	return 0;
}

static int exchange_write(struct postcopy_helper_exchange __user *uexchange,
			  const struct postcopy_helper_exchange *exchange,
			  unsigned int nr_requests)
{
	if (!user_write_access_begin(uexchange, sizeof(*uexchange)))
		return -EFAULT;
	unsafe_put_user(nr_requests, &uexchange->out_nr_requests, err);
	unsafe_put_user(exchange->out_length, &uexchange->out_length, err);
	unsafe_put_user(exchange->out_nr_filled, &uexchange->out_nr_filled, err);
	user_write_access_end();
	return 0;

err:
	user_write_access_end();
	return -EFAULT;
}

static int exchange_write_requests(struct postcopy_request __user *to,
				   const struct postcopy_request *requests,
				   unsigned int nr)
{
	unsigned int i;

	if (!user_write_access_begin(to, nr * sizeof(*to)))
		return -EFAULT;
	for (i = 0; i < nr; i++) {
		unsafe_put_user(requests[i].offset, &to[i].offset, err);
		unsafe_put_user(requests[i].length, &to[i].length, err);
		unsafe_put_user(requests[i].time_ns, &to[i].time_ns, err);
		unsafe_put_user(requests[i].flags, &to[i].flags, err);
		unsafe_put_user(requests[i].reserved, &to[i].reserved, err);
	}
	user_write_access_end();
	return 0;

err:
	user_write_access_end();
	return -EFAULT;
}

/*
 * Hand out what is queued together with the struct: a request stays taken only when
 * both have been copied out. Returns how many, or -errno.
 */
static long exchange_read(struct postcopy_region *region,
			  struct postcopy_helper_exchange *exchange,
			  void __user *uarg)
{
	struct postcopy_req_batch batch __uninitialized;
	unsigned int nr = postcopy_req_take(region, &batch, exchange->nr_requests);

	if (!nr)
		return 0;
	if (!exchange_write_requests(u64_to_user_ptr(exchange->requests), batch.requests, nr) &&
	    !exchange_write(uarg, exchange, nr))
		return nr;
	postcopy_req_give_back(region, &batch, nr);
	return -EFAULT;
}

static long exchange_run(struct postcopy_region *region,
			 struct postcopy_helper_exchange *exchange,
			 void __user *uarg)
{
	bool reads;
	long ret;

	if (exchange->flags & ~POSTCOPY_EXCHANGE_WAIT)
		return -EINVAL;
	ret = exchange_fill(region, exchange);
	if (ret)
		return ret;
	reads = exchange->nr_requests && exchange->out_length == exchange->length;
	while (reads) {
		if (exchange->flags & POSTCOPY_EXCHANGE_WAIT)
			ret = wait_event_interruptible(region->helper_wait,
						       helper_readable(region));
		ret = (ret ? -EINTR : 0) ?: postcopy_region_alive(region) ?:
		      exchange_read(region, exchange, uarg);
		if (ret > 0)
			return 0;
		if (!ret && exchange->flags & POSTCOPY_EXCHANGE_WAIT)
			continue;	/* another thread was faster, or an answer was */
		if (exchange->length && ret != -EFAULT)
			break;
		return ret ?: -EAGAIN;
	}
	return exchange_write(uarg, exchange, 0);
}

static long helper_exchange(void *object, union postcopy_ioctl_arg *arg,
			    void __user *uarg)
{
	struct postcopy_helper *helper = object;

	return exchange_run(helper->region, &arg->helper_exchange, uarg);
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

/* Of a struct that has the size of ours; 0, -EFAULT, or -EINVAL for other sizes. */
static int exchange_copy_in(struct postcopy_helper_exchange *exchange,
			    const struct postcopy_helper_exchange __user *uexchange)
{
	if (!user_read_access_begin(uexchange, sizeof(*uexchange)))
		return -EFAULT;
	unsafe_get_user(exchange->size, &uexchange->size, err);
	unsafe_get_user(exchange->flags, &uexchange->flags, err);
	unsafe_get_user(exchange->offset, &uexchange->offset, err);
	unsafe_get_user(exchange->length, &uexchange->length, err);
	unsafe_get_user(exchange->data, &uexchange->data, err);
	unsafe_get_user(exchange->requests, &uexchange->requests, err);
	unsafe_get_user(exchange->nr_requests, &uexchange->nr_requests, err);
	user_read_access_end();
	return exchange->size == sizeof(*exchange) ? 0 : -EINVAL;

err:
	user_read_access_end();
	return -EFAULT;
}

static long helper_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct postcopy_helper *helper = file->private_data;
	struct postcopy_helper_exchange exchange __uninitialized;
	void __user *uarg = (void __user *)arg;

	/* Once for each fault: the usual case of it without what suits all. */
	if (cmd == POSTCOPY_HELPER_EXCHANGE && !exchange_copy_in(&exchange, uarg))
		return exchange_run(helper->region, &exchange, uarg);
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

/* Take the region's slot; the state shows it only after helper_activate(). */
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
 * @region: to serve
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
