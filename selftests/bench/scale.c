// SPDX-License-Identifier: GPL-2.0
/*
 * Rows 14 (memory) and 15: what a region costs by its size.
 *
 * 14m: kernel memory of a region of 1 GiB, as the memory cgroup counts it.
 * 15:  a region of 1 TiB is created, marked zero, listed and converted; a fault in it
 *      against a fault in one of 1 GiB. The rival of the first four is the time limit.
 *
 * What a thousand faults find in the page allocator's per-CPU lists and which kernel
 * thread wakes up meanwhile is up to 2 % of their cost and says nothing of the size. So
 * the faults are measured in turns, and the medians count.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define GIB		(1UL << 30)
#define LIMIT_NS	100e6

/* Bytes of kernel memory charged to us */
static long kernel_memory(void)
{
	char text[8192], *line;

	must(!cgroup_read("bench", "memory.stat", text, sizeof(text)));
	line = strstr(text, "\nkernel ");
	must(line);
	return atol(line + 8);
}

static struct region map_only(int context, uint64_t offset, size_t length, int flags)
{
	struct region r = { .context = context, .helper = -1, .offset = offset, .length = length };

	r.address = mmap(NULL, length, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, context,
			 offset);
	must(r.address != MAP_FAILED);
	return r;
}

static void row_memory(void)
{
	unsigned int nr = 64, i;
	struct region r[64];
	struct row row = {
		.id = "14m",
		.name = "kernel memory per GiB of region, bytes / 80 KiB",
		.unit = "GiB",
		.target = 1.0,
		.rival = 80 << 10,
	};
	long before;

	must(!cgroup_make("bench") && !cgroup_enter("bench"));
	/* The first one also pays for things that all share. */
	r[0] = map_only(open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC), 0, GIB, MAP_PRIVATE);
	before = kernel_memory();
	for (i = 1; i < nr; i++)
		r[i] = map_only(open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC), 0, GIB, MAP_PRIVATE);
	row.ours = (double)(kernel_memory() - before) / (nr - 1);
	row_print(&row);
	for (i = 0; i < nr; i++)
		region_close(&r[i]);
}

struct server_one {
	struct region *r;
	size_t nr;
	char *page;
};

static void *serve(void *arg)
{
	struct server_one *s = arg;
	struct postcopy_request request;
	size_t i;

	for (i = 0; i < s->nr; i++) {
		must(read(s->r->helper, &request, sizeof(request)) == sizeof(request));
		bench_fill(s->r, request.offset, request.length, s->page);
	}
	return NULL;
}

/* Faults on pages next to each other in the middle, so that page tables cost the same. */
static double fault_cost(size_t length)
{
	struct region r = map_only(open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC), 0, length,
				   MAP_PRIVATE);
	struct server_one s = { .r = &r, .nr = 1152, .page = memory_populated(PAGE) };
	size_t warm = 128, i;
	uint64_t start = 0;
	pthread_t thread;

	r.id = region_find(r.context, getpid(), r.address);
	must(!region_attach(&r));
	must(!pthread_create(&thread, NULL, serve, &s));
	for (i = 0; i < s.nr; i++) {
		if (i == warm)
			start = clock_now();
		(void)*(volatile char *)(r.address + length / 2 + i * PAGE);
	}
	start = clock_now() - start;
	pthread_join(thread, NULL);
	region_close(&r);
	munmap(s.page, PAGE);
	return (double)start / (s.nr - warm);
}

static double fault_cost_large(void)
{
	return fault_cost(1024 * GIB);
}

static double fault_cost_small(void)
{
	return fault_cost(GIB);
}

static void rows_scale(size_t length, const char *size)
{
	struct postcopy_region_info info;
	struct row row = { .unit = "call", .target = 1.0, .rival = LIMIT_NS };
	uint64_t start, missing;
	struct region r;
	char name[128];
	int context;

	row.name = name;
	context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	start = clock_now();
	r = map_only(context, 0, length, MAP_PRIVATE);
	row.ours = clock_now() - start;
	row.id = "15c";
	snprintf(name, sizeof(name), "%s region: create / limit of 100 ms", size);
	row_print(&row);

	start = clock_now();
	r.id = region_find(context, getpid(), r.address);
	must(r.id && !region_info(&r, &info));
	row.ours = clock_now() - start;
	row.id = "15l";
	snprintf(name, sizeof(name), "%s region: list / limit of 100 ms", size);
	row_print(&row);

	must(!region_attach(&r));
	start = clock_now();
	bench_zero(&r, 0, length);
	row.ours = clock_now() - start;
	row.id = "15z";
	snprintf(name, sizeof(name), "%s region: mark all zero / limit of 100 ms", size);
	row_print(&row);

	start = clock_now();
	must(!region_convert(&r, 0, &missing));
	row.ours = clock_now() - start;
	row.id = "15v";
	snprintf(name, sizeof(name), "%s region: convert / limit of 100 ms", size);
	row_print(&row);
	region_close(&r);
}

void bench_scale(void)
{
	struct row row = {
		.id = "15f",
		.name = "fault in a 1 TiB region / in a 1 GiB region",
		.unit = "fault",
		.target = 0.99,
		.target_max = 1.01,
	};

	row_memory();
	rows_scale(1024 * GIB, "1 TiB");
	row_rounds(&row, 9, fault_cost_large, fault_cost_small);
}
