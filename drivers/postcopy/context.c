// SPDX-License-Identifier: GPL-2.0
/*
 * A context: one open of /dev/postcopy, and its ioctls.
 *
 * Retiring. A stock VMM keeps its fd open as long as it lives, and an open file
 * pins the module whose file_operations it has. So when the context's last region
 * has been converted, and the converter says that no more will come, the driver
 * lets go of the file: the file gets /dev/zero's file_operations and loses its read
 * and write modes. The VMM is left with a dead fd. Why this is safe against threads
 * that use the fd at that moment:
 *
 *	CPU 1 (ioctl, mmap, poll)		CPU 2 (context_retire)
 *	loads f_op->method
 *						private_data = NULL
 *						f_op = /dev/zero's
 *						puts the file's references
 *	method: private_data is NULL: fails
 *
 * Or the method has found private_data before and holds a reference on the context,
 * hence on the module, until it returns. Between loading the method and taking the
 * reference a thread does not sleep, so synchronize_rcu_tasks() at unload waits for
 * it.
 */
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>

#include "ioctl.h"
#include "postcopy.h"

/*
 * What SEEK_END says. VMMs ask for the size of the file and refuse one that is
 * smaller than their RAM.
 */
#define CONTEXT_FILE_SIZE	(1LL << 62)

static void context_free(struct kref *kref)
{
	struct postcopy_context *context =
		container_of(kref, struct postcopy_context, kref);

	postcopy_backing_release(context);
	mutex_destroy(&context->lock);
	kfree_rcu(context, rcu);
	module_put(THIS_MODULE);
}

/**
 * postcopy_context_get() - take a reference
 * @context: on which the caller has one already
 */
void postcopy_context_get(struct postcopy_context *context)
{
	kref_get(&context->kref);
}

/**
 * postcopy_context_put() - drop a reference
 * @context: may be freed, which drops a reference on the module
 */
void postcopy_context_put(struct postcopy_context *context)
{
	kref_put(&context->kref, context_free);
}

/* The file's context with a reference, or NULL if it is retired. */
static struct postcopy_context *context_of(struct file *file)
{
	struct postcopy_context *context;

	rcu_read_lock();
	context = READ_ONCE(file->private_data);
	if (context && !kref_get_unless_zero(&context->kref))
		context = NULL;
	rcu_read_unlock();
	return context;
}

static int context_open(struct inode *inode, struct file *file)
{
	struct postcopy_context *context;

	context = kzalloc(sizeof(*context), GFP_KERNEL_ACCOUNT);
	if (!context)
		return -ENOMEM;
	kref_init(&context->kref);
	mutex_init(&context->lock);
	INIT_LIST_HEAD(&context->shared);
	context->file = file;
	__module_get(THIS_MODULE);
	file->private_data = context;
	return 0;
}

/*
 * The context's file with a reference, or NULL if it is closed, perhaps just now. As long
 * as context->file is set, __fput() has not got past our release, which waits for
 * context->lock, so the file exists even if its last reference is gone. But once the
 * file's private_data is NULL our release waits for nothing; then the reference keeps
 * __fput() away while the file is being changed.
 */
static struct file *context_file(struct postcopy_context *context)
{
	lockdep_assert_held(&context->lock);
	return context->file ? get_file_active(&context->file) : NULL;
}

/*
 * Part the file and the context. If this returns the file, the caller has to drop the
 * file's reference with postcopy_context_put().
 */
static struct file *context_part(struct postcopy_context *context)
{
	struct file *file = context->file;

	lockdep_assert_held(&context->lock);
	context->file = NULL;
	if (file)
		WRITE_ONCE(file->private_data, NULL);
	return file;
}

static int context_release(struct inode *inode, struct file *file)
{
	struct postcopy_context *context = context_of(file);
	struct file *parted;

	if (!context)
		return 0;
	mutex_lock(&context->lock);
	parted = context_part(context);
	mutex_unlock(&context->lock);
	if (parted) {
		postcopy_shared_forget(context);
		postcopy_context_put(context);
	}
	postcopy_context_put(context);
	return 0;
}

/**
 * postcopy_context_retire() - let go of a context's file
 * @context: nothing is done if it has a region, was polled or is released already
 *
 * Context: may sleep; takes context->lock. The caller holds a reference.
 */
void postcopy_context_retire(struct postcopy_context *context)
{
	struct file *file = NULL;

	mutex_lock(&context->lock);
	if (!context->nr_regions && !context->polled)
		file = context_file(context);
	if (file) {
		context_part(context);
		spin_lock(&file->f_lock);
		if ((file->f_mode & (FMODE_READ | FMODE_WRITE)) == FMODE_READ)
			i_readcount_dec(file_inode(file));
		file->f_mode &= ~(FMODE_READ | FMODE_WRITE);
		spin_unlock(&file->f_lock);
		/* Clear the modes first, so that no mmap() with these methods succeeds. */
		smp_store_release(&file->f_op, postcopy_zero_file->f_op);
	}
	mutex_unlock(&context->lock);
	if (!file)
		return;
	fput(file);
	postcopy_shared_forget(context);
	/* The file's references: on the module by f_op, and on the context. */
	module_put(THIS_MODULE);
	postcopy_context_put(context);
}

static int context_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct postcopy_context *context = context_of(file);
	int err;

	/* Without a context the file has been retired just now. */
	if (!context)
		return -ENODEV;
	if (vma->vm_pgoff >= (S64_MAX >> PAGE_SHIFT) - vma_pages(vma))
		err = -EOVERFLOW;
	else if (vma->vm_flags & (VM_SHARED | VM_MAYSHARE))
		err = postcopy_mmap_shared(context, vma);
	else
		err = postcopy_mmap_private(context, vma);
	postcopy_context_put(context);
	return err;
}

static loff_t context_llseek(struct file *file, loff_t offset, int whence)
{
	return fixed_size_llseek(file, offset, whence, CONTEXT_FILE_SIZE);
}

static __poll_t context_poll(struct file *file, poll_table *wait)
{
	struct postcopy_context *context = context_of(file);
	__poll_t events = 0;
	bool retired;

	if (!context)
		return EPOLLERR;
	mutex_lock(&context->lock);
	retired = !context->file;
	/* No retiring now: an epoll item stays on our wait queue until the file is closed. */
	context->polled = true;
	mutex_unlock(&context->lock);
	if (retired) {
		events = EPOLLERR;
	} else {
		poll_wait(file, &postcopy_region_wait, wait);
		if (atomic64_read(&context->list_seq) !=
		    atomic64_read(&postcopy_region_seq))
			events = EPOLLIN | EPOLLRDNORM;
	}
	postcopy_context_put(context);
	return events;
}

static long context_info(void *object, union postcopy_ioctl_arg *arg,
			 void __user *uarg)
{
	struct postcopy_context_info *info = &arg->context_info;

	if (info->flags || info->reserved)
		return -EINVAL;
	info->out_features = POSTCOPY_FEATURE_PRIVATE | POSTCOPY_FEATURE_SHARED |
			     POSTCOPY_FEATURE_DISCARD | POSTCOPY_FEATURE_POISON |
			     POSTCOPY_FEATURE_POLICY |
			     POSTCOPY_FEATURE_EXCHANGE |
			     POSTCOPY_FEATURE_BACKING;
	info->out_page_size = PAGE_SIZE;
	return 0;
}

static long context_backing(void *object, union postcopy_ioctl_arg *arg,
			    void __user *uarg)
{
	return postcopy_context_backing(object, &arg->context_backing);
}

static long context_region_list(void *object, union postcopy_ioctl_arg *arg,
				void __user *uarg)
{
	return postcopy_region_list(object, &arg->region_list);
}

/* The region with this id, with a reference, if the caller is permitted. */
static struct postcopy_region *context_region(struct postcopy_context *context,
					      u64 id)
{
	struct postcopy_region *region = postcopy_region_find(id);

	if (!region)
		return ERR_PTR(-ENOENT);
	if (!postcopy_region_permitted(region, context)) {
		postcopy_region_put(region);
		return ERR_PTR(-EPERM);
	}
	return region;
}

static long context_region_info(void *object, union postcopy_ioctl_arg *arg,
				void __user *uarg)
{
	struct postcopy_region_info *info = &arg->region_info;
	struct postcopy_region *region;

	if (info->flags || info->reserved)
		return -EINVAL;
	region = context_region(object, info->region_id);
	if (IS_ERR(region))
		return PTR_ERR(region);
	postcopy_region_describe(region, info);
	postcopy_region_put(region);
	return 0;
}

static long context_region_convert(void *object, union postcopy_ioctl_arg *arg,
				   void __user *uarg)
{
	struct postcopy_region *region;
	long ret;

	region = context_region(object, arg->region_convert.region_id);
	if (IS_ERR(region))
		return PTR_ERR(region);
	ret = postcopy_region_convert(region, &arg->region_convert);
	postcopy_region_put(region);
	return ret;
}

static long context_region_policy(void *object, union postcopy_ioctl_arg *arg,
				  void __user *uarg)
{
	struct postcopy_region *region;
	long ret;

	region = context_region(object, arg->region_policy.region_id);
	if (IS_ERR(region))
		return PTR_ERR(region);
	ret = postcopy_region_policy(region, &arg->region_policy);
	postcopy_region_put(region);
	return ret;
}

static long context_helper_attach(void *object, union postcopy_ioctl_arg *arg,
				  void __user *uarg)
{
	struct postcopy_region *region;
	long ret;

	if (arg->helper_attach.flags || arg->helper_attach.reserved)
		return -EINVAL;
	region = context_region(object, arg->helper_attach.region_id);
	if (IS_ERR(region))
		return PTR_ERR(region);
	ret = postcopy_helper_attach(region, uarg);
	postcopy_region_put(region);
	return ret;
}

static const struct postcopy_ioctl context_ioctls[] = {
	POSTCOPY_IOCTL(POSTCOPY_CONTEXT_INFO, postcopy_context_info,
		       reserved, context_info),
	POSTCOPY_IOCTL(POSTCOPY_REGION_LIST, postcopy_region_list,
		       out_nr_ids, context_region_list),
	POSTCOPY_IOCTL(POSTCOPY_REGION_INFO, postcopy_region_info,
		       out_wait_histogram, context_region_info),
	POSTCOPY_IOCTL(POSTCOPY_REGION_CONVERT, postcopy_region_convert,
		       out_nr_missing, context_region_convert),
	POSTCOPY_IOCTL(POSTCOPY_REGION_POLICY, postcopy_region_policy,
		       request_ms, context_region_policy),
	{
		.cmd = POSTCOPY_HELPER_ATTACH,
		.min_size = offsetofend(struct postcopy_helper_attach, reserved),
		.size = sizeof(struct postcopy_helper_attach),
		.run = context_helper_attach,
		.copies_out = true,
	},
	{
		.cmd = POSTCOPY_CONTEXT_BACKING,
		.min_size = offsetofend(struct postcopy_context_backing, reserved),
		.size = sizeof(struct postcopy_context_backing),
		.run = context_backing,
		/* Nothing to copy out, so a call that succeeded cannot fail afterwards. */
		.copies_out = true,
	},
};

static long context_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct postcopy_context *context = context_of(file);
	long ret;

	if (!context)
		return -ENOTTY;
	ret = postcopy_ioctl_run(context_ioctls, ARRAY_SIZE(context_ioctls),
				 context, cmd, arg);
	postcopy_context_put(context);
	return ret;
}

const struct file_operations postcopy_context_fops = {
	.owner = THIS_MODULE,
	.open = context_open,
	.release = context_release,
	.mmap = context_mmap,
	.get_unmapped_area = thp_get_unmapped_area,
	.llseek = context_llseek,
	.poll = context_poll,
	.unlocked_ioctl = context_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
