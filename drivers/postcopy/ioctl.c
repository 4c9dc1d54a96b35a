// SPDX-License-Identifier: GPL-2.0
/*
 * Running an ioctl from a table: copying its struct, which starts with its size, in
 * and out.
 */
#include <linux/uaccess.h>

#include "ioctl.h"
#include "postcopy.h"

/**
 * postcopy_ioctl_run() - find an ioctl in a table and run it
 * @table: the ioctls of this kind of fd
 * @nr: entries in @table
 * @object: passed to the handler
 * @cmd: the ioctl's number
 * @uarg: user address of its struct, which starts with its size
 *
 * Context: may sleep. The struct is read once, so user space that changes it
 * meanwhile harms only itself.
 * Return: what the handler returned, or ENOTTY, EINVAL, E2BIG, EFAULT.
 */
long postcopy_ioctl_run(const struct postcopy_ioctl *table, size_t nr,
			void *object, unsigned int cmd, unsigned long uarg)
{
	void __user *user = (void __user *)uarg;
	/* copy_struct_from_user() writes the part that the ioctl's struct covers. */
	union postcopy_ioctl_arg arg __uninitialized;
	const struct postcopy_ioctl *ioctl;
	u32 size;
	long ret;

	for (ioctl = table; ioctl->cmd != cmd; ioctl++)
		if (ioctl == &table[nr - 1])
			return -ENOTTY;

	if (get_user(size, (u32 __user *)user))
		return -EFAULT;
	if (size < ioctl->min_size)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(&arg, ioctl->size, user, size);
	if (ret)
		return ret;
	arg.size = size;

	ret = ioctl->run(object, &arg, user);
	/* EBUSY of CONVERT comes with the number of missing pages. */
	if ((ret && ret != -EBUSY) || ioctl->copies_out)
		return ret;
	if (copy_to_user(user, &arg, min(size, ioctl->size)))
		return -EFAULT;
	return ret;
}
