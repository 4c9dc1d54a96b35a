// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that are zeros: delivered so, or dropped by their owner. They cost no
 * memory until they are written, and are never asked for.
 */
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#define NR_PAGES	64UL

FIXTURE(zero)
{
	struct region r;
	struct region other;
};

FIXTURE_VARIANT(zero)
{
	uint64_t offset;
};

FIXTURE_VARIANT_ADD(zero, at_the_start)
{
	.offset = 0,
};

FIXTURE_VARIANT_ADD(zero, far_into_the_image)
{
	.offset = 7UL << 40,
};

FIXTURE_SETUP(zero)
{
	ASSERT_EQ(0, region_map(&self->other, 0, NR_PAGES));
	ASSERT_EQ(0, region_map(&self->r, variant->offset, NR_PAGES));
	ASSERT_EQ(0, region_attach(&self->r));
}

FIXTURE_TEARDOWN(zero)
{
	region_close(&self->r);
	region_close(&self->other);
}

TEST(a_gigabyte_costs_no_memory)
{
	size_t nr = (1UL << 30) / PAGE;
	struct postcopy_region_info info;
	uint64_t nr_zeroed, start;
	struct region r;

	ASSERT_EQ(0, region_map(&r, 0, nr));
	ASSERT_EQ(0, region_attach(&r));
	start = now_ms();
	ASSERT_EQ(0, pages_zero(&r, 0, nr, &nr_zeroed));
	EXPECT_GT(AT_ONCE_MS, now_ms() - start);
	EXPECT_EQ(nr, nr_zeroed);
	EXPECT_EQ(0, smaps_kb(getpid(), r.address, "Rss"));
	ASSERT_EQ(0, region_info(&r, &info));
	EXPECT_EQ(nr, info.out_nr_present);
	EXPECT_EQ(nr, info.out_total_zeroed);
	EXPECT_TRUE(page_is_zero(page_at(&r, nr - 1)));
	EXPECT_TRUE(page_is_zero(page_at(&r, nr / 2)));
	EXPECT_EQ(0, smaps_kb(getpid(), r.address, "Rss"));
	ASSERT_EQ(0, region_convert(&r, 0, NULL));
	EXPECT_TRUE(page_is_zero(page_at(&r, nr / 3)));
	region_close(&r);
}

TEST_F(zero, read_gives_zeros_and_still_costs_no_memory)
{
	size_t i;

	ASSERT_EQ(0, pages_zero(&self->r, 0, NR_PAGES, NULL));
	for (i = 0; i < NR_PAGES; i++) {
		EXPECT_TRUE(page_is_zero(page_at(&self->r, i)));
	}
	EXPECT_EQ(0, smaps_kb(getpid(), self->r.address, "Rss"));
}

TEST_F(zero, write_gives_a_page_of_ones_own)
{
	ASSERT_EQ(0, pages_zero(&self->r, 0, NR_PAGES, NULL));
	/* One without, one after a read */
	*(uint64_t *)page_at(&self->r, 1) = 11;
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 2)));
	*(uint64_t *)page_at(&self->r, 2) = 22;
	EXPECT_EQ(11, *(uint64_t *)page_at(&self->r, 1));
	EXPECT_EQ(22, *(uint64_t *)page_at(&self->r, 2));
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 3)));
	EXPECT_EQ(2 * (long)PAGE / 1024, smaps_kb(getpid(), self->r.address, "Anonymous"));
	*(uint64_t *)page_at(&self->r, 1) = 0;
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 1)));
}

TEST_F(zero, wakes_those_who_wait)
{
	struct access reader, writer, adder, other;

	ASSERT_EQ(0, access_start(&reader, ACCESS_READ, page_at(&self->r, 1), 0));
	ASSERT_EQ(0, access_start(&writer, ACCESS_WRITE, page_at(&self->r, 2), 5));
	ASSERT_EQ(0, access_start(&adder, ACCESS_ADD, page_at(&self->r, 3), 7));
	ASSERT_EQ(0, access_start(&other, ACCESS_READ, page_at(&self->r, 9), 0));
	ASSERT_TRUE(wait_requests(&self->r, 4));
	ASSERT_EQ(0, pages_zero(&self->r, 0, 8, NULL));
	ASSERT_TRUE(access_wait_done(&reader));
	ASSERT_TRUE(access_wait_done(&writer));
	ASSERT_TRUE(access_wait_done(&adder));
	EXPECT_EQ(0, reader.value);
	EXPECT_EQ(0, adder.value);
	EXPECT_EQ(5, *(uint64_t *)page_at(&self->r, 2));
	EXPECT_EQ(7, *(uint64_t *)page_at(&self->r, 3));
	EXPECT_TRUE(access_wait_blocked(&other));
	ASSERT_EQ(0, pages_fill(&self->r, 9, 1, NULL));
	ASSERT_TRUE(access_wait_done(&other));
	EXPECT_EQ(page_word(&self->r, 9, 0), other.value);
}

TEST_F(zero, ranges_may_overlap_and_are_counted_once)
{
	uint64_t base = self->r.offset;
	struct postcopy_range ranges[] = {
		{ base, 10 * PAGE },
		{ base + 5 * PAGE, 10 * PAGE },
		{ base + 63 * PAGE, PAGE },
		{ base + 63 * PAGE, PAGE },
	};
	struct postcopy_pages_zero zero = {
		.size = sizeof(zero), .ranges = (uintptr_t)ranges, .nr_ranges = 4,
	};
	struct postcopy_region_info info;

	ASSERT_EQ(0, pages_fill(&self->r, 2, 2, NULL));
	ASSERT_EQ(0, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(4, zero.out_nr_ranges);
	EXPECT_EQ(14, zero.out_nr_zeroed);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(16, info.out_nr_present);
	EXPECT_EQ(0, pages_wrong(&self->r, 2, 2));
	EXPECT_EQ(0, page_is_present(&self->r, 15));
	EXPECT_EQ(1, page_is_present(&self->r, 14));
}

TEST_F(zero, a_fill_of_a_zeroed_page_changes_nothing)
{
	uint64_t nr_filled;

	ASSERT_EQ(0, pages_zero(&self->r, 0, 4, NULL));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 8, &nr_filled));
	EXPECT_EQ(4, nr_filled);
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 3)));
	EXPECT_TRUE(page_is_right(&self->r, 4, page_at(&self->r, 4)));
}

TEST_F(zero, a_page_dropped_with_dontneed_reads_zero_and_is_not_asked_for)
{
	struct postcopy_region_info info;
	struct access a;
	size_t i;

	ASSERT_EQ(0, pages_fill(&self->r, 0, 16, NULL));
	ASSERT_EQ(0, pages_wrong(&self->r, 0, 16));
	ASSERT_EQ(0, madvise(self->r.address, 8 * PAGE, MADV_DONTNEED));
	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, access_start(&a, i % 2 ? ACCESS_READ : ACCESS_ADD,
					  page_at(&self->r, i), 3));
		ASSERT_TRUE(access_wait_done(&a));
		EXPECT_EQ(0, a.value);
	}
	EXPECT_EQ(0, pages_wrong(&self->r, 8, 8));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(16, info.out_nr_present);
	EXPECT_EQ(0, info.out_total_requests);
}

TEST_F(zero, dontneed_of_a_missing_page_leaves_it_missing)
{
	struct access a;

	ASSERT_EQ(0, madvise(self->r.address, self->r.length, MADV_DONTNEED));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, self->r.address, 0));
	EXPECT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(&self->r, 0, 0), a.value);
}

TEST_F(zero, read_only_and_prot_none_mappings_are_served)
{
	ASSERT_EQ(0, mprotect(self->r.address, self->r.length, PROT_READ));
	ASSERT_EQ(0, pages_zero(&self->r, 0, 8, NULL));
	EXPECT_TRUE(page_is_zero(self->r.address));
	EXPECT_EQ(SIGSEGV, probe_write(self->r.address));
	ASSERT_EQ(0, mprotect(self->r.address, self->r.length, PROT_NONE));
	ASSERT_EQ(0, pages_zero(&self->r, 8, 8, NULL));
	EXPECT_EQ(SIGSEGV, probe_read(page_at(&self->r, 8)));
	ASSERT_EQ(0, mprotect(self->r.address, self->r.length, PROT_READ | PROT_WRITE));
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 8)));
	*(uint64_t *)self->r.address = 1;
	EXPECT_EQ(1, *(uint64_t *)self->r.address);
}

/* What a child finds at a page: 0 zeros, -1 something else, or the signal. */
static int child_sees(char *page)
{
	return probe_read(page) ?: page_is_zero(page) ? 0 : -1;
}

static int child_of_a_child(struct region *r)
{
	int status;
	pid_t pid = fork_child();

	if (!pid) {
		if (child_sees(page_at(r, 1)) || child_sees(page_at(r, 20)) != SIGBUS ||
		    !page_is_right(r, 10, page_at(r, 10)))
			_exit(1);
		*(uint64_t *)page_at(r, 1) = 1;
		_exit(0);
	}
	return pid < 0 || wait_child(pid, &status) || status;
}

TEST_F(zero, a_forked_child_reads_zeros_for_what_was_present_and_sigbus_for_the_rest)
{
	struct region *r = &self->r;
	int go[2], status;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pages_zero(r, 0, 8, NULL));
	ASSERT_EQ(0, pages_fill(r, 10, 2, NULL));
	ASSERT_TRUE(page_is_zero(page_at(r, 1)));
	*(uint64_t *)page_at(r, 2) = 2;
	pid = fork_child();
	if (!pid) {
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		/* Touched by nobody, read before, written before */
		if (child_sees(page_at(r, 0)) || child_sees(page_at(r, 1)))
			_exit(2);
		if (*(uint64_t *)page_at(r, 2) != 2 || !page_is_right(r, 10, page_at(r, 10)))
			_exit(3);
		/* Zeroed, filled, or not, after the fork: the child knows nothing of it. */
		if (child_sees(page_at(r, 20)) != SIGBUS || child_sees(page_at(r, 21)) != SIGBUS ||
		    child_sees(page_at(r, NR_PAGES - 1)) != SIGBUS)
			_exit(4);
		/* Its own: writes, drops, splits */
		*(uint64_t *)page_at(r, 3) = 3;
		if (mprotect(page_at(r, 4), PAGE, PROT_READ) || child_sees(page_at(r, 4)) ||
		    child_sees(page_at(r, 5)))
			_exit(5);
		if (madvise(page_at(r, 11), PAGE, MADV_DONTNEED) || child_sees(page_at(r, 11)))
			_exit(6);
		if (child_of_a_child(r) || child_sees(page_at(r, 1)))
			_exit(7);
		if (mremap(page_at(r, 0), PAGE, 2 * PAGE, MREMAP_MAYMOVE) != MAP_FAILED)
			_exit(8);
		_exit(0);
	}
	ASSERT_EQ(0, pages_zero(r, 20, 1, NULL));
	ASSERT_EQ(0, pages_fill(r, 21, 1, NULL));
	ASSERT_EQ(1, write(go[1], "x", 1));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_FALSE(WIFSIGNALED(status));
	EXPECT_EQ(0, *(uint64_t *)page_at(r, 3));
	EXPECT_EQ(0, pages_wrong(r, 10, 2));
}

/* Of two neighbours with the same rights the core makes one, where it may. */
TEST_F(zero, a_child_that_makes_its_parts_alike_keeps_its_zeros)
{
	struct region *r = &self->r;
	int status;
	pid_t pid;

	ASSERT_EQ(0, pages_zero(r, 0, 16, NULL));
	ASSERT_EQ(0, mprotect(page_at(r, 0), 10 * PAGE, PROT_READ));
	pid = fork_child();
	if (!pid)
		_exit(mprotect(page_at(r, 10), 5 * PAGE, PROT_READ) || child_sees(page_at(r, 9)) ||
		      child_sees(page_at(r, 12)) || child_sees(page_at(r, 15)) ||
		      child_sees(page_at(r, 16)) != SIGBUS);
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
}

/* The child's map starts in the middle of a word of the owner's. */
TEST_F(zero, a_child_forked_after_a_partial_munmap_knows_the_right_pages)
{
	struct region *r = &self->r;
	int status;
	pid_t pid;

	ASSERT_EQ(0, munmap(page_at(r, 0), 3 * PAGE));
	ASSERT_EQ(0, pages_zero(r, 5, 1, NULL));
	pid = fork_child();
	if (!pid)
		_exit(child_sees(page_at(r, 4)) != SIGBUS || child_sees(page_at(r, 5)) ||
		      child_sees(page_at(r, 6)) != SIGBUS);
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
}

TEST_F(zero, a_child_keeps_its_zeros_when_the_owner_converts_and_when_it_is_gone)
{
	struct region *r = &self->r;
	int go[2], status;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pages_zero(r, 0, 1, NULL));
	pid = fork_child();
	if (!pid) {
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		_exit(child_sees(page_at(r, 0)) || child_sees(page_at(r, 1)) != SIGBUS);
	}
	ASSERT_EQ(0, pages_fill(r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_convert(r, 0, NULL));
	region_close(r);
	ASSERT_EQ(1, write(go[1], "x", 1));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
}

TEST_HARNESS_MAIN
