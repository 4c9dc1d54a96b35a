// SPDX-License-Identifier: GPL-2.0
/* /dev/postcopy: the ioctls of <linux/postcopy.h> as functions that return -errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/device.h"
#include "lib/lib.h"

/* Every ioctl of this device fails with EINTR only before it has done anything. */
static int dev_ioctl(int fd, unsigned long request, void *arg)
{
	while (ioctl(fd, request, arg) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

const char *dev_path(void)
{
	return POSTCOPY_DEVICE;
}

/* Return: a context fd or -errno. */
int dev_open(void)
{
	int fd = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int dev_context_info(int context, struct postcopy_context_info *info)
{
	*info = (struct postcopy_context_info){ .size = sizeof(*info) };
	return dev_ioctl(context, POSTCOPY_CONTEXT_INFO, info);
}

/* On success the caller frees *@ids. */
int dev_region_list(int context, uint64_t **ids, size_t *nr_ids)
{
	uint32_t room = 64;

	for (;;) {
		struct postcopy_region_list list = { .size = sizeof(list), .nr_ids = room };
		uint64_t *array = calloc(room, sizeof(*array));
		int ret;

		if (!array)
			return -ENOMEM;
		list.ids = (uintptr_t)array;
		ret = dev_ioctl(context, POSTCOPY_REGION_LIST, &list);
		if (!ret && list.out_nr_ids <= room) {
			*ids = array;
			*nr_ids = list.out_nr_ids;
			return 0;
		}
		free(array);
		if (ret)
			return ret;
		/* More regions may have come meanwhile. */
		room = list.out_nr_ids + 64;
	}
}

int dev_region_info(int fd, uint64_t id, struct postcopy_region_info *info)
{
	*info = (struct postcopy_region_info){ .size = sizeof(*info), .region_id = id };
	return dev_ioctl(fd, POSTCOPY_REGION_INFO, info);
}

/* Return: a helper fd that does not block, or -errno. */
int dev_attach(int context, uint64_t id)
{
	struct postcopy_helper_attach attach = { .size = sizeof(attach), .region_id = id };
	int ret = dev_ioctl(context, POSTCOPY_HELPER_ATTACH, &attach);

	if (ret)
		return ret;
	if (fcntl(attach.out_fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0) {
		ret = -errno;
		close(attach.out_fd);
		return ret;
	}
	return attach.out_fd;
}

/* Return: how many requests were read, 0 if the region has ended, -EAGAIN if none is queued. */
int dev_read_requests(int helper, struct postcopy_request *requests, size_t nr)
{
	ssize_t n;

	do {
		n = read(helper, requests, nr * sizeof(*requests));
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (int)((size_t)n / sizeof(*requests));
}

/* Makes all of [@offset, @offset + @length) present. */
int dev_fill(int helper, uint64_t offset, uint64_t length, const void *data)
{
	uint64_t done = 0;

	while (done < length) {
		struct postcopy_pages_fill fill = {
			.size = sizeof(fill),
			.offset = offset + done,
			.length = length - done,
			.data = (uintptr_t)data + done,
		};
		int ret = dev_ioctl(helper, POSTCOPY_PAGES_FILL, &fill);

		if (ret)
			return ret;
		if (!fill.out_length)
			return -EIO;
		done += fill.out_length;
	}
	return 0;
}

/*
 * Makes the page at @offset present and reads queued requests, at most *@nr_requests. Afterwards
 * *@nr_requests says how many were read; 0 also if the module is too old to do both in one call.
 */
int dev_exchange(int helper, uint64_t offset, const void *data, struct postcopy_request *requests,
		 size_t *nr_requests)
{
	struct postcopy_helper_exchange exchange = {
		.size = sizeof(exchange),
		.offset = offset,
		.length = UMIG_PAGE_SIZE,
		.data = (uintptr_t)data,
		.requests = (uintptr_t)requests,
		.nr_requests = (uint32_t)*nr_requests,
	};
	int ret = dev_ioctl(helper, POSTCOPY_HELPER_EXCHANGE, &exchange);

	*nr_requests = ret ? 0 : exchange.out_nr_requests;
	if (ret == -ENOTTY)
		return dev_fill(helper, offset, UMIG_PAGE_SIZE, data);
	return ret;
}

/* Each call takes at most POSTCOPY_MAX_RANGES. */
static uint32_t ranges_of_a_call(size_t nr)
{
	return (uint32_t)min_u64(nr, POSTCOPY_MAX_RANGES);
}

int dev_zero(int helper, const struct postcopy_range *ranges, size_t nr)
{
	while (nr) {
		struct postcopy_pages_zero zero = {
			.size = sizeof(zero),
			.ranges = (uintptr_t)ranges,
			.nr_ranges = ranges_of_a_call(nr),
		};
		int ret = dev_ioctl(helper, POSTCOPY_PAGES_ZERO, &zero);

		if (ret)
			return ret;
		if (!zero.out_nr_ranges)
			return -EIO;
		ranges += zero.out_nr_ranges;
		nr -= zero.out_nr_ranges;
	}
	return 0;
}

int dev_present(int helper, const struct postcopy_range *ranges, size_t nr)
{
	while (nr) {
		struct postcopy_pages_present present = {
			.size = sizeof(present),
			.ranges = (uintptr_t)ranges,
			.nr_ranges = ranges_of_a_call(nr),
		};
		int ret = dev_ioctl(helper, POSTCOPY_PAGES_PRESENT, &present);

		if (ret)
			return ret;
		if (!present.out_nr_ranges)
			return -EIO;
		ranges += present.out_nr_ranges;
		nr -= present.out_nr_ranges;
	}
	return 0;
}

/* Maps memory of a shared region over what is mapped at @at. Return: NULL and errno. */
void *dev_map(int helper, uint64_t offset, uint64_t length, void *at)
{
	void *memory = mmap(at, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, helper,
			    (off_t)offset);

	return memory == MAP_FAILED ? NULL : memory;
}

int dev_discard(int helper, const struct postcopy_range *ranges, size_t nr)
{
	while (nr) {
		struct postcopy_pages_discard discard = {
			.size = sizeof(discard),
			.ranges = (uintptr_t)ranges,
			.nr_ranges = ranges_of_a_call(nr),
		};
		int ret = dev_ioctl(helper, POSTCOPY_PAGES_DISCARD, &discard);

		if (ret)
			return ret;
		ranges += discard.nr_ranges;
		nr -= discard.nr_ranges;
	}
	return 0;
}

int dev_query(int helper, uint64_t offset, uint64_t length, uint64_t *bitmap)
{
	struct postcopy_pages_query query = {
		.size = sizeof(query),
		.offset = offset,
		.length = length,
		.bitmap = (uintptr_t)bitmap,
	};

	return dev_ioctl(helper, POSTCOPY_PAGES_QUERY, &query);
}

int dev_convert(int helper, uint32_t flags, uint64_t *nr_missing)
{
	struct postcopy_region_convert convert = { .size = sizeof(convert), .flags = flags };
	int ret = dev_ioctl(helper, POSTCOPY_REGION_CONVERT, &convert);

	*nr_missing = convert.out_nr_missing;
	return ret;
}

void dev_detach(int helper)
{
	close(helper);
}
