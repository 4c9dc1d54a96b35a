/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The tables of ioctls of a context fd and a helper fd: ioctl.c.
 */
#ifndef _POSTCOPY_IOCTL_H
#define _POSTCOPY_IOCTL_H

#include <linux/stddef.h>
#include <linux/types.h>
#include <linux/postcopy.h>

union postcopy_ioctl_arg {
	__u32 size;
	struct postcopy_context_info context_info;
	struct postcopy_context_backing context_backing;
	struct postcopy_region_list region_list;
	struct postcopy_region_info region_info;
	struct postcopy_region_convert region_convert;
	struct postcopy_helper_attach helper_attach;
	struct postcopy_helper_exchange helper_exchange;
	struct postcopy_pages_fill pages_fill;
	struct postcopy_pages_zero pages_zero;
	struct postcopy_pages_present pages_present;
	struct postcopy_pages_discard pages_discard;
	struct postcopy_pages_poison pages_poison;
	struct postcopy_pages_query pages_query;
	struct postcopy_region_policy region_policy;
};

/**
 * struct postcopy_ioctl - one entry of an ioctl table
 * @cmd: the number
 * @min_size: size of the struct's first version
 * @size: size of the struct's version that this kernel knows
 * @run: does it; may sleep; @uarg is for entries that copy out themselves
 * @copies_out: @run copies the struct out itself, or it has nothing to copy out
 */
struct postcopy_ioctl {
	unsigned int cmd;
	u32 min_size;
	u32 size;
	long (*run)(void *object, union postcopy_ioctl_arg *arg, void __user *uarg);
	bool copies_out;
};

/* _min_last: the last member of the struct's first version. */
#define POSTCOPY_IOCTL(_cmd, _struct, _min_last, _run)			\
	{								\
		.cmd = (_cmd),						\
		.min_size = offsetofend(struct _struct, _min_last),	\
		.size = sizeof(struct _struct),				\
		.run = (_run),						\
	}

long postcopy_ioctl_run(const struct postcopy_ioctl *table, size_t nr,
			void *object, unsigned int cmd, unsigned long uarg);

#endif /* _POSTCOPY_IOCTL_H */
