// SPDX-License-Identifier: GPL-2.0
/*
 * Discard: a present page becomes missing again, whatever state it was in, and
 * its old content is never read again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "fixtures.h"

#define NR_PAGES	256UL

FIXTURE_PRIVATE_AND_SHARED(discard, NR_PAGES)

static int discard(struct region *r, size_t first, size_t nr, uint64_t *nr_discarded)
{
	struct postcopy_range range = pages_range(r, first, nr);

	return pages_discard(r, &range, 1, nr_discarded);
}

TEST_F(discard, a_discarded_page_waits_and_gets_its_new_content)
{
	struct postcopy_region_info info;
	struct access a;
	uint64_t nr = 0;

	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
	memset(page_at(&self->r, 7), 0x5a, PAGE);
	ASSERT_EQ(0, discard(&self->r, 7, 1, &nr));
	EXPECT_EQ(1, nr);
	EXPECT_EQ(0, page_is_present(&self->r, 7));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 7), 0));
	EXPECT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(NR_PAGES - 1, info.out_nr_present);
	EXPECT_EQ(1, info.out_total_discarded);
	ASSERT_EQ(0, pages_fill(&self->r, 7, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(&self->r, 7, 0), a.value);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
}

TEST_F(discard, neighbours_keep_what_was_written_to_them)
{
	uint64_t nr = 0;

	ASSERT_EQ(0, pages_fill(&self->r, 0, 3, NULL));
	memset(page_at(&self->r, 0), 0x11, PAGE);
	memset(page_at(&self->r, 2), 0x22, PAGE);
	ASSERT_EQ(0, discard(&self->r, 1, 1, &nr));
	EXPECT_EQ(0x11, page_at(&self->r, 0)[4095]);
	EXPECT_EQ(0x22, page_at(&self->r, 2)[0]);
}

TEST_F(discard, zero_pages_and_swapped_pages_go_too)
{
	struct access zero, swapped;
	uint64_t nr = 0;

	ASSERT_EQ(0, pages_zero(&self->r, 0, 2, NULL));
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 0)));
	ASSERT_EQ(0, pages_fill(&self->r, 2, 1, NULL));
	madvise(page_at(&self->r, 2), PAGE, 21 /* MADV_PAGEOUT */);
	ASSERT_EQ(0, discard(&self->r, 0, 4, &nr));
	EXPECT_EQ(3, nr);
	ASSERT_EQ(0, access_start(&zero, ACCESS_READ, page_at(&self->r, 0), 0));
	ASSERT_EQ(0, access_start(&swapped, ACCESS_READ, page_at(&self->r, 2), 0));
	EXPECT_TRUE(access_wait_blocked(&zero));
	EXPECT_TRUE(access_wait_blocked(&swapped));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 4, NULL));
	EXPECT_TRUE(access_wait_done(&zero));
	EXPECT_TRUE(access_wait_done(&swapped));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 4));
}

TEST_F(discard, takes_many_ranges_at_once)
{
	struct postcopy_range ranges[NR_PAGES / 2];
	uint64_t nr = 0;
	size_t i;

	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	for (i = 0; i < NR_PAGES / 2; i++) {
		ranges[i].offset = self->r.offset + 2 * i * PAGE;
		ranges[i].length = PAGE;
	}
	ASSERT_EQ(0, pages_discard(&self->r, ranges, NR_PAGES / 2, &nr));
	EXPECT_EQ(NR_PAGES / 2, nr);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(i % 2, page_is_present(&self->r, i));
	/* The same again changes nothing. */
	ASSERT_EQ(0, pages_discard(&self->r, ranges, NR_PAGES / 2, &nr));
	EXPECT_EQ(0, nr);
}

TEST_F(discard, one_bad_range_changes_nothing)
{
	struct postcopy_range ranges[2] = {
		{ .offset = self->r.offset, .length = PAGE },
		{ .offset = self->r.offset + self->r.length, .length = PAGE },
	};
	uint64_t nr = 0;

	ASSERT_EQ(0, pages_fill(&self->r, 0, 1, NULL));
	EXPECT_EQ(-EINVAL, pages_discard(&self->r, ranges, 2, &nr));
	EXPECT_EQ(1, page_is_present(&self->r, 0));
}

TEST_F(discard, races_with_readers_without_showing_zeros)
{
	struct server server;
	struct access a[8];
	uint64_t nr = 0, end = now_ms() + 5000;
	size_t i, round;

	ASSERT_EQ(0, server_start(&server, &self->r));
	for (round = 0; round < 50 && now_ms() < end; round++) {
		for (i = 0; i < 8; i++)
			ASSERT_EQ(0, access_start(&a[i], ACCESS_READ,
						  page_at(&self->r, i % 2), 0));
		ASSERT_EQ(0, discard(&self->r, 0, 2, &nr));
		for (i = 0; i < 8; i++) {
			ASSERT_TRUE(access_wait_done(&a[i]));
			ASSERT_EQ(page_word(&self->r, i % 2, 0), a[i].value);
		}
	}
	EXPECT_EQ(0, server_stop(&server));
}

TEST_F(discard, refuses_conversion_until_filled_again)
{
	uint64_t nr, missing = 0;

	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, discard(&self->r, 9, 2, &nr));
	EXPECT_EQ(-EBUSY, region_convert(&self->r, 0, &missing));
	EXPECT_EQ(2, missing);
	ASSERT_EQ(0, pages_fill(&self->r, 9, 2, NULL));
	EXPECT_EQ(0, region_convert(&self->r, 0, &missing));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
	EXPECT_EQ(-EALREADY, discard(&self->r, 9, 2, &nr));
}

TEST_HARNESS_MAIN
