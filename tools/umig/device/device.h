/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/postcopy.
 *
 *   device.h   the ioctls of <linux/postcopy.h> as functions dev_*() that return 0 or -errno.
 *              device.c talks to the kernel; tests/dev_fake.c has the same functions for a host
 *              without the module.
 *   regions    the regions of a process
 */
#ifndef UMIG_DEVICE_H
#define UMIG_DEVICE_H

#include <linux/postcopy.h>
#include <stddef.h>
#include <stdint.h>

const char *dev_path(void);
int dev_open(void);
int dev_context_info(int context, struct postcopy_context_info *info);
int dev_region_list(int context, uint64_t **ids, size_t *nr_ids);
int dev_region_info(int fd, uint64_t id, struct postcopy_region_info *info);
int dev_attach(int context, uint64_t id);
int dev_read_requests(int helper, struct postcopy_request *requests, size_t nr);
int dev_fill(int helper, uint64_t offset, uint64_t length, const void *data);
int dev_exchange(int helper, uint64_t offset, const void *data, struct postcopy_request *requests,
		 size_t *nr_requests);
int dev_zero(int helper, const struct postcopy_range *ranges, size_t nr);
int dev_present(int helper, const struct postcopy_range *ranges, size_t nr);
void *dev_map(int helper, uint64_t offset, uint64_t length, void *at);
int dev_discard(int helper, const struct postcopy_range *ranges, size_t nr);
int dev_query(int helper, uint64_t offset, uint64_t length, uint64_t *bitmap);
int dev_convert(int helper, uint32_t flags, uint64_t *nr_missing);
void dev_detach(int helper);

#endif
