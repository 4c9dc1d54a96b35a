// SPDX-License-Identifier: GPL-2.0
/*
 * The program that Documentation/userspace-api/postcopy.rst walks through: a VMM
 * that maps memory, and a helper in another process that serves it.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/postcopy.h>

#define SIZE	(4UL << 20)

static size_t page_size;

/* Where the pages come from: here, a function of the offset. */
static void fetch(char *buffer, uint64_t offset, uint64_t length)
{
	memset(buffer, 'a' + offset / page_size % 26, length);
}

static void fill(int helper, char *buffer, uint64_t offset, uint64_t length)
{
	struct postcopy_pages_fill fill = {
		.size = sizeof(fill),
		.offset = offset,
		.length = length,
		.data = (uintptr_t)buffer,
	};

	fetch(buffer, offset, length);
	if (ioctl(helper, POSTCOPY_PAGES_FILL, &fill) || fill.out_length != length)
		err(1, "page at %#lx", (unsigned long)offset);
}

static void serve(void)
{
	int context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	uint64_t ids[16];
	struct postcopy_region_list list = {
		.size = sizeof(list),
		.ids = (uintptr_t)ids,
		.nr_ids = 16,
	};
	struct postcopy_helper_attach attach = { .size = sizeof(attach) };
	struct postcopy_region_convert convert = {
		.size = sizeof(convert),
		.flags = POSTCOPY_CONVERT_RETIRE_CONTEXT,
	};
	struct postcopy_request request;
	char *buffer = aligned_alloc(page_size, page_size);
	uint64_t offset;

	if (context < 0)
		err(1, "%s", POSTCOPY_DEVICE);
	if (ioctl(context, POSTCOPY_REGION_LIST, &list) || !list.out_nr_ids)
		err(1, "no region");
	attach.region_id = ids[0];
	if (ioctl(context, POSTCOPY_HELPER_ATTACH, &attach))
		err(1, "attach");

	/* Demand: a few requests, each when it comes. */
	for (int i = 0; i < 3; i++) {
		if (read(attach.out_fd, &request, sizeof(request)) != sizeof(request))
			err(1, "read");
		fill(attach.out_fd, buffer, request.offset, request.length);
	}
	/* Background: the rest. Present pages stay as they are. */
	for (offset = 0; offset < SIZE; offset += page_size)
		fill(attach.out_fd, buffer, offset, page_size);
	if (ioctl(attach.out_fd, POSTCOPY_REGION_CONVERT, &convert))
		err(1, "convert: %lu pages are missing", (unsigned long)convert.out_nr_missing);
	exit(0);
}

int main(void)
{
	int fd = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	char *ram;
	size_t i, wrong = 0;
	int status;

	page_size = sysconf(_SC_PAGESIZE);
	if (fd < 0)
		err(1, "%s", POSTCOPY_DEVICE);
	ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (ram == MAP_FAILED)
		err(1, "mmap");
	if (!fork())
		serve();

	for (i = 0; i < SIZE; i += page_size)
		wrong += ram[i] != 'a' + (char)(i / page_size % 26);
	wait(&status);
	printf("TAP version 13\n1..1\n%sok 1 a_program_that_follows_the_manual_works\n",
	       wrong || status ? "not " : "");
	return wrong || status;
}
