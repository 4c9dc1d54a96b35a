// SPDX-License-Identifier: GPL-2.0
/*
 * device/device.h without a kernel: one region whose memory is a file. For tests on a host without
 * the module.
 *
 * UMIG_FAKE_FILE    where filled pages go (created; its size is UMIG_FAKE_SIZE)
 * UMIG_FAKE_MAP     one byte for each page: how often it was installed. Survives umig, as a region
 *                   survives its helper. Byte [pages] is 1 when converted, 2 when dead.
 * UMIG_FAKE_PAGE_SIZE  of this host; without it, the real one
 * UMIG_FAKE_SIZE    bytes, UMIG_FAKE_OFFSET  offset in the image (0), UMIG_FAKE_PID  owner
 * UMIG_FAKE_VCPUS   threads that fault on random missing pages until all are present
 * UMIG_FAKE_STEP    they go through the pages in order instead, from the middle once round; the
 *                   next is so many further on, each a little ahead of the last
 * UMIG_FAKE_WORK_US what they do with a page that is there takes so long (200)
 * UMIG_FAKE_SHARED  the region is shared, this file its memory. What it holds when a page becomes
 *                   present goes to UMIG_FAKE_FILE, then the guest writes over all of it
 *                   (FAKE_MARK): a page that is written to after it was present lacks that.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/device.h"
#include "lib/lib.h"

/* How many of its own pages a thread that goes in order is ahead of the last one. */
#define FAKE_APART	20

#define FAKE_ID		7
#define FAKE_MARK	0xa5

static struct {
	_Atomic uint64_t faults;
	pthread_mutex_t lock;
	uint64_t size, offset, pages;
	_Atomic uint8_t *map;
	uint8_t *memory;
	int file, shared;
	int pipe[2];
} fake = { .lock = PTHREAD_MUTEX_INITIALIZER, .file = -1, .shared = -1, .pipe = { -1, -1 } };

static uint64_t fake_env(const char *name, uint64_t fallback)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : fallback;
}

__attribute__((constructor)) static void fake_page_size(void)
{
	umig_page_size = fake_env("UMIG_FAKE_PAGE_SIZE", umig_page_size);
}

const char *dev_path(void)
{
	const char *path = getenv("UMIG_FAKE_PATH");

	return path ? path : POSTCOPY_DEVICE;
}

static int fake_open_shared(void)
{
	const char *path = getenv("UMIG_FAKE_SHARED");

	if (!path)
		return 0;
	fake.shared = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fake.shared < 0 || ftruncate(fake.shared, (off_t)fake.size))
		return -1;
	fake.memory = mmap(NULL, fake.size, PROT_READ | PROT_WRITE, MAP_SHARED, fake.shared, 0);
	return fake.memory == MAP_FAILED ? -1 : 0;
}

int dev_open(void)
{
	const char *path = getenv("UMIG_FAKE_FILE"), *map = getenv("UMIG_FAKE_MAP");
	int fd;

	if (!path || !map)
		return -ENOENT;
	fake.size = fake_env("UMIG_FAKE_SIZE", 0);
	fake.offset = fake_env("UMIG_FAKE_OFFSET", 0);
	fake.pages = fake.size / UMIG_PAGE_SIZE;
	fake.file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	fd = open(map, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fake.file < 0 || fd < 0 || ftruncate(fake.file, (off_t)fake.size) ||
	    ftruncate(fd, (off_t)fake.pages + 1))
		return -errno;
	fake.map = mmap(NULL, fake.pages + 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (fake.map == MAP_FAILED || fake_open_shared())
		return -errno;
	return eventfd(0, EFD_CLOEXEC);
}

int dev_context_info(int context, struct postcopy_context_info *info)
{
	(void)context;
	*info = (struct postcopy_context_info){ .out_page_size = UMIG_PAGE_SIZE };
	return 0;
}

int dev_region_list(int context, uint64_t **ids, size_t *nr_ids)
{
	(void)context;
	*ids = calloc(1, sizeof(**ids));
	(*ids)[0] = FAKE_ID;
	*nr_ids = fake.map[fake.pages] ? 0 : 1;
	return 0;
}

int dev_region_info(int fd, uint64_t id, struct postcopy_region_info *info)
{
	uint64_t i;

	(void)fd;
	if (id && id != FAKE_ID)
		return -ENOENT;
	*info = (struct postcopy_region_info){
		.region_id = FAKE_ID,
		.out_offset = fake.offset,
		.out_length = fake.size,
		.out_state = POSTCOPY_REGION_UNATTACHED,
		.out_region_flags = fake.memory ? POSTCOPY_REGION_SHARED : POSTCOPY_REGION_PRIVATE,
		.out_pid = (uint32_t)fake_env("UMIG_FAKE_PID", 1234),
		.out_comm = "fake",
		.out_nr_pages = fake.pages,
	};
	for (i = 0; i < fake.pages; i++)
		info->out_nr_present += !!fake.map[i];
	if (fake.map[fake.pages] == 1)
		info->out_state = POSTCOPY_REGION_CONVERTED;
	if (fake.map[fake.pages] == 2)
		info->out_state = POSTCOPY_REGION_DEAD;
	return 0;
}

static bool fake_present(uint64_t page)
{
	bool present;

	pthread_mutex_lock(&fake.lock);
	present = fake.map[page];
	pthread_mutex_unlock(&fake.lock);
	return present;
}

/* Faults on a page, waits, goes on. A page has one waiter: vCPU i owns pages i mod n. */
static void *fake_vcpu(void *arg)
{
	uint64_t id = (uintptr_t)arg, nr = fake_env("UMIG_FAKE_VCPUS", 1);
	uint64_t step = fake_env("UMIG_FAKE_STEP", 0), mine = fake.pages / nr;
	uint64_t next = mine / 2 + id * FAKE_APART;
	useconds_t work_us = (useconds_t)fake_env("UMIG_FAKE_WORK_US", 200);
	unsigned int seed = (unsigned int)id * 7919 + 1;

	while (!fake.map[fake.pages]) {
		uint64_t index = step ? next += step : (uint64_t)rand_r(&seed);
		uint64_t page = (index % mine) * nr + id;
		struct postcopy_request req = {
			.offset = fake.offset + page * UMIG_PAGE_SIZE,
			.length = UMIG_PAGE_SIZE,
			.time_ns = now_ns(),
		};

		if (page >= fake.pages || fake_present(page)) {
			usleep(work_us);
			continue;
		}
		if (write(fake.pipe[1], &req, sizeof(req)) != sizeof(req))
			return NULL;
		atomic_fetch_add(&fake.faults, 1);
		while (!fake_present(page))
			usleep(50);
	}
	return NULL;
}

int dev_attach(int context, uint64_t id)
{
	uint64_t i, nr = fake_env("UMIG_FAKE_VCPUS", 0);

	(void)context;
	if (id != FAKE_ID)
		return -ENOENT;
	if (pipe2(fake.pipe, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	for (i = 0; i < nr; i++) {
		pthread_t thread;

		if (!pthread_create(&thread, NULL, fake_vcpu, (void *)(uintptr_t)i))
			pthread_detach(thread);
	}
	return fake.pipe[0];
}

int dev_read_requests(int helper, struct postcopy_request *requests, size_t nr)
{
	ssize_t n = read(helper, requests, nr * sizeof(*requests));

	return n < 0 ? -errno : (int)((size_t)n / sizeof(*requests));
}

static int fake_check(uint64_t offset, uint64_t length)
{
	if (fake.map[fake.pages])
		return fake.map[fake.pages] == 1 ? -EALREADY : -ESRCH;
	if (!length || (offset | length) % UMIG_PAGE_SIZE || offset < fake.offset ||
	    offset + length > fake.offset + fake.size)
		return -EINVAL;
	return 0;
}

static int fake_install(uint64_t offset, uint64_t length, const uint8_t *data)
{
	static const uint8_t zero[64 << 10];
	uint64_t at;
	int ret = fake_check(offset, length);

	if (ret)
		return ret;
	pthread_mutex_lock(&fake.lock);
	for (at = 0; at < length; at += UMIG_PAGE_SIZE) {
		uint64_t page = (offset - fake.offset + at) / UMIG_PAGE_SIZE;

		/* Counts duplicates as well: umig must not install a page twice. */
		if (fake.map[page]) {
			fake.map[page]++;
			continue;
		}
		if (pwrite(fake.file, data ? data + at : zero, UMIG_PAGE_SIZE,
			   (off_t)(page * UMIG_PAGE_SIZE)) != (ssize_t)UMIG_PAGE_SIZE)
			abort();
		if (fake.memory)
			memset(fake.memory + page * UMIG_PAGE_SIZE, FAKE_MARK, UMIG_PAGE_SIZE);
		/* The map is last, so a test that looks at the files finds every page it names. */
		fake.map[page] = 1;
	}
	pthread_mutex_unlock(&fake.lock);
	return 0;
}

int dev_fill(int helper, uint64_t offset, uint64_t length, const void *data)
{
	(void)helper;
	if ((uintptr_t)data % UMIG_PAGE_SIZE)
		abort();
	return fake_install(offset, length, data);
}

int dev_exchange(int helper, uint64_t offset, const void *data, struct postcopy_request *requests,
		 size_t *nr_requests)
{
	ssize_t n;
	int ret = dev_fill(helper, offset, UMIG_PAGE_SIZE, data);

	n = ret || !*nr_requests ? 0 : read(helper, requests, *nr_requests * sizeof(*requests));
	*nr_requests = n > 0 ? (size_t)n / sizeof(*requests) : 0;
	return ret;
}

int dev_zero(int helper, const struct postcopy_range *ranges, size_t nr)
{
	size_t i;
	int ret = 0;

	(void)helper;
	for (i = 0; i < nr && !ret; i++)
		ret = fake_install(ranges[i].offset, ranges[i].length, NULL);
	return ret;
}

int dev_present(int helper, const struct postcopy_range *ranges, size_t nr)
{
	size_t i;
	int ret = 0;

	(void)helper;
	for (i = 0; i < nr && !ret; i++)
		ret = fake_install(ranges[i].offset, ranges[i].length,
				   fake.memory + (ranges[i].offset - fake.offset));
	return ret;
}

void *dev_map(int helper, uint64_t offset, uint64_t length, void *at)
{
	void *memory = mmap(at, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fake.shared,
			    (off_t)(offset - fake.offset));

	(void)helper;
	return memory == MAP_FAILED ? NULL : memory;
}

int dev_discard(int helper, const struct postcopy_range *ranges, size_t nr)
{
	uint64_t at;
	size_t i;

	(void)helper;
	pthread_mutex_lock(&fake.lock);
	for (i = 0; i < nr; i++) {
		int ret = fake_check(ranges[i].offset, ranges[i].length);

		if (ret) {
			pthread_mutex_unlock(&fake.lock);
			return ret;
		}
		for (at = 0; at < ranges[i].length; at += UMIG_PAGE_SIZE)
			fake.map[(ranges[i].offset - fake.offset + at) / UMIG_PAGE_SIZE] = 0;
	}
	pthread_mutex_unlock(&fake.lock);
	return 0;
}

int dev_query(int helper, uint64_t offset, uint64_t length, uint64_t *bitmap)
{
	uint64_t i;

	(void)helper;
	if (fake_check(offset, length))
		return -EINVAL;
	for (i = 0; i < length / UMIG_PAGE_SIZE; i++) {
		if (fake.map[(offset - fake.offset) / UMIG_PAGE_SIZE + i])
			bitmap[i / 64] |= 1ULL << (i % 64);
	}
	return 0;
}

int dev_convert(int helper, uint32_t flags, uint64_t *nr_missing)
{
	uint64_t i;

	(void)helper;
	(void)flags;
	*nr_missing = 0;
	for (i = 0; i < fake.pages; i++)
		*nr_missing += !fake.map[i];
	if (*nr_missing)
		return -EBUSY;
	fake.map[fake.pages] = 1;
	return 0;
}

void dev_detach(int helper)
{
	close(helper);
}
