// SPDX-License-Identifier: GPL-2.0
/*
 * Rows 3 and 5: pages nobody waits for.
 *
 * 3: FILL of a private region in calls of 2 MiB / UFFDIO_COPY in calls of 2 MiB,
 *    both from a buffer in use. The floor is the copying: memcpy() into pages that
 *    are there.
 * 5: one ZERO / one UFFDIO_ZEROPAGE of the same range.
 */
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

static double bulk_ours(size_t length, const char *data)
{
	struct region r = bench_region(length / PAGE);
	uint64_t start, taken;
	size_t done;

	profile_start();
	start = clock_now();
	for (done = 0; done < length; done += HUGE)
		bench_fill(&r, done, HUGE, data);
	taken = clock_now() - start;
	profile_stop();
	must(!memcmp(r.address + length - HUGE, data, HUGE));
	region_close(&r);
	return (double)taken / (length / PAGE);
}

static double bulk_rival(size_t length, const char *data)
{
	char *address = memory_missing(length);
	int uffd = uffd_open(0, 0);
	uint64_t start, taken;
	size_t done;

	uffd_register(uffd, address, length, UFFDIO_REGISTER_MODE_MISSING);
	profile_start();
	start = clock_now();
	for (done = 0; done < length; done += HUGE)
		uffd_copy(uffd, address + done, data, HUGE);
	taken = clock_now() - start;
	profile_stop();
	must(!memcmp(address + length - HUGE, data, HUGE));
	munmap(address, length);
	close(uffd);
	return (double)taken / (length / PAGE);
}

/* As the kernel copies a page without fast string instructions. */
static void copy_page_as_kernel(void *to, const void *from)
{
#ifdef __x86_64__
	size_t words = PAGE / 8;

	asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) :: "memory");
#else
	memcpy(to, from, PAGE);
#endif
}

static double bulk_floor(const char *data)
{
	char *to = memory_populated(HUGE);
	uint64_t start = clock_now();
	size_t i;

	for (i = 0; i < HUGE; i += PAGE)
		copy_page_as_kernel(to + i, data + i);
	start = clock_now() - start;
	munmap(to, HUGE);
	return (double)start / (HUGE / PAGE);
}

static double zero_ours(size_t length)
{
	struct region r = bench_region(length / PAGE);
	uint64_t start = clock_now();

	bench_zero(&r, 0, length);
	start = clock_now() - start;
	must(page_is_zero(r.address + length - PAGE));
	region_close(&r);
	return (double)start / (length / PAGE);
}

static double zero_rival(size_t length)
{
	char *address = memory_missing(length);
	int uffd = uffd_open(0, 0);
	uint64_t start;

	uffd_register(uffd, address, length, UFFDIO_REGISTER_MODE_MISSING);
	start = clock_now();
	uffd_zeropage(uffd, address, length);
	start = clock_now() - start;
	must(page_is_zero(address + length - PAGE));
	munmap(address, length);
	close(uffd);
	return (double)start / (length / PAGE);
}

void bench_bulk(void)
{
	size_t length = bench_short ? 16UL << 20 : 128UL << 20;
	size_t zeros = bench_short ? 64UL << 20 : 1UL << 30;
	char *data = memory_populated(HUGE);
	struct row row = {
		.id = "3",
		.name = "bulk fill, private, 2 MiB calls / UFFDIO_COPY",
		.unit = "page",
		.target = 1.0,
	};

	/* Once for the page allocator's lists to be as they stay. */
	bulk_ours(length, data);
	bulk_rival(length, data);
	row.ours = bulk_ours(length, data);
	row.rival = bulk_rival(length, data);
	row.floor = bulk_floor(data);
	row_print(&row);
	row = (struct row){
		.id = "5",
		.name = "zero range / UFFDIO_ZEROPAGE",
		.unit = "page",
		.target = 0.01,
		.ours = zero_ours(zeros),
		.rival = zero_rival(zeros),
	};
	row_print(&row);
	munmap(data, HUGE);
}
