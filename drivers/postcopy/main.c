// SPDX-License-Identifier: GPL-2.0
/*
 * Module load and unload, and the device node.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/file.h>
#include <linux/major.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "postcopy.h"
#include "request.h"

/*
 * /dev/zero. The VMA of a private region has a file of its own on it, so that the
 * memory is an ordinary private /dev/zero mapping once our vm_ops are removed.
 */
struct file *postcopy_zero_file;

static struct miscdevice postcopy_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "postcopy",
	.mode = 0600,
	.fops = &postcopy_context_fops,
};

static int __init zero_file_open(void)
{
	struct file *file = filp_open("/dev/zero", O_RDWR, 0);

	if (IS_ERR(file)) {
		pr_err("cannot open /dev/zero (error %ld), which is the file behind guest RAM\n",
		       PTR_ERR(file));
		return PTR_ERR(file);
	}
	if (!S_ISCHR(file_inode(file)->i_mode) ||
	    file_inode(file)->i_rdev != MKDEV(MEM_MAJOR, 5)) {
		pr_err("/dev/zero is not the zero device: make it character device 1:5\n");
		fput(file);
		return -ENXIO;
	}
	postcopy_zero_file = file;
	return 0;
}

static int __init postcopy_init(void)
{
	int err;

	err = postcopy_req_init();
	if (err)
		return err;
	err = zero_file_open();
	if (err)
		goto err_req;
	postcopy_backing_init();
	err = misc_register(&postcopy_device);
	if (err) {
		pr_err("cannot register the device (error %d)\n", err);
		goto err_backing;
	}
	postcopy_observe_init();
	return 0;

err_backing:
	postcopy_backing_exit();
	fput(postcopy_zero_file);
err_req:
	postcopy_req_exit();
	return err;
}

static void __exit postcopy_exit(void)
{
	postcopy_observe_exit();
	misc_deregister(&postcopy_device);
	/*
	 * The thread that dropped the last reference may still have to return
	 * from our text, and another may have loaded our method from a retired
	 * context's file and not called it yet. Neither sleeps on the way
	 * (threads that may sleep hold a reference), so wait until every thread
	 * has left the CPU by its own choice.
	 */
	synchronize_rcu_tasks();
	postcopy_backing_exit();
	fput(postcopy_zero_file);
	postcopy_req_exit();
}

module_init(postcopy_init);
module_exit(postcopy_exit);

MODULE_DESCRIPTION("Guest RAM whose pages arrive after the guest has started");
MODULE_AUTHOR("The postcopy developers");
MODULE_LICENSE("GPL");
