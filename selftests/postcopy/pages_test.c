// SPDX-License-Identifier: GPL-2.0
/*
 * PAGES_FILL, PAGES_ZERO and PAGES_QUERY: which ranges and which memory of the caller
 * they take. Their effects on the owner are for the other tests.
 */
#include <sys/ioctl.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#define BUFFER		(2 * PAGE)
#define NR_PAGES	128UL
#define OFFSET		(1UL << 30)

FIXTURE(pages)
{
	struct region r;
	/* Ends where a page does, and nothing is mapped behind it. */
	char *buffer;
};

FIXTURE_SETUP(pages)
{
	ASSERT_EQ(0, region_map(&self->r, OFFSET, NR_PAGES));
	ASSERT_EQ(0, region_attach(&self->r));
	self->buffer = mmap(NULL, BUFFER + PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->buffer);
	ASSERT_EQ(0, munmap(self->buffer + BUFFER, PAGE));
}

FIXTURE_TEARDOWN(pages)
{
	region_close(&self->r);
}

static uint64_t bitmap_of_all[NR_PAGES / 64];
static char some_data[PAGE_MAX] __attribute__((aligned(PAGE_MAX)));

/* Ranges of FILL, ZERO and QUERY */

/* Their structs are alike, and like POSTCOPY_PAGES_ZERO's. */
static const unsigned long range_calls[] = {
	POSTCOPY_PAGES_ZERO, POSTCOPY_PAGES_DISCARD, POSTCOPY_PAGES_POISON,
};

TEST_F(pages, all_calls_refuse_bad_ranges)
{
	const struct {
		uint64_t offset, length;
	} bad_ranges[] = {
		{ OFFSET, 0 },
		{ OFFSET, 1 },
		{ OFFSET, PAGE - 1 },
		{ OFFSET, PAGE + 1 },
		{ OFFSET + 1, PAGE },
		{ OFFSET + PAGE / 2, PAGE },
		{ OFFSET - PAGE, PAGE },
		{ OFFSET - PAGE, 2 * PAGE },
		{ 0, PAGE },
		{ OFFSET, (NR_PAGES + 1) * PAGE },
		{ OFFSET + NR_PAGES * PAGE, PAGE },
		{ OFFSET + (NR_PAGES - 1) * PAGE, 2 * PAGE },
		{ OFFSET, -PAGE },
		{ OFFSET, 1ULL << 63 },
		{ OFFSET + PAGE, -PAGE },
		{ OFFSET + PAGE, -OFFSET },
		{ -PAGE, PAGE },
		{ -PAGE, 2 * PAGE },
		{ -PAGE, OFFSET + 2 * PAGE },
		{ 1ULL << 63, 1ULL << 63 },
	};
	struct postcopy_region_info info;
	struct postcopy_range range;
	struct postcopy_pages_fill fill;
	unsigned int i, call;

	for (i = 0; i < sizeof(bad_ranges) / sizeof(bad_ranges[0]); i++) {
		struct postcopy_pages_zero zero = {
			.size = sizeof(zero), .ranges = (uintptr_t)&range, .nr_ranges = 1,
		};
		struct postcopy_pages_query query = {
			.size = sizeof(query), .bitmap = (uintptr_t)bitmap_of_all,
			.offset = bad_ranges[i].offset, .length = bad_ranges[i].length,
		};

		EXPECT_EQ(-EINVAL, pages_fill_raw(self->r.helper, bad_ranges[i].offset,
						  bad_ranges[i].length, some_data, &fill))
			TH_LOG("range %u", i);
		range.offset = bad_ranges[i].offset;
		range.length = bad_ranges[i].length;
		for (call = 0; call < 3; call++) {
			EXPECT_EQ(-1, ioctl(self->r.helper, range_calls[call], &zero));
			EXPECT_EQ(EINVAL, errno)
				TH_LOG("range %u call %u", i, call);
		}
		EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_QUERY, &query));
		EXPECT_EQ(EINVAL, errno)
			TH_LOG("range %u", i);
	}
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(0, info.out_nr_present);
}

/* PAGES_FILL */

TEST_F(pages, fill_refuses_data_that_cannot_be_read)
{
	char *end = self->buffer + BUFFER;
	uint64_t bad[] = { 0, (uintptr_t)end, 0xffff888000000000, -PAGE, 1ULL << 63 };
	struct postcopy_region_info info;
	struct postcopy_pages_fill fill;
	unsigned int i;

	for (i = 0; i < 5; i++) {
		EXPECT_EQ(-EFAULT, pages_fill_raw(self->r.helper, OFFSET, PAGE,
						  (void *)bad[i], &fill))
			TH_LOG("data %u", i);
	}
	/* The first page of the data ends half way. */
	EXPECT_EQ(-EFAULT, pages_fill_raw(self->r.helper, OFFSET, PAGE, end - PAGE / 2, &fill));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(0, info.out_nr_present);
}

TEST_F(pages, fill_stops_before_data_that_cannot_be_read)
{
	char *end = self->buffer + BUFFER;
	struct postcopy_pages_fill fill;

	page_pattern(&self->r, 0, end - PAGE);
	if (!pages_fill_raw(self->r.helper, OFFSET, 4 * PAGE, end - PAGE, &fill)) {
		EXPECT_EQ(PAGE, fill.out_length);
		EXPECT_EQ(1, fill.out_nr_filled);
		EXPECT_TRUE(page_is_right(&self->r, 0, page_at(&self->r, 0)));
	} else {
		EXPECT_EQ(EFAULT, errno);
		EXPECT_EQ(0, page_is_present(&self->r, 0));
	}
	EXPECT_EQ(0, page_is_present(&self->r, 1));
	EXPECT_EQ(0, page_is_present(&self->r, 2));
}

TEST_F(pages, fill_takes_data_that_is_not_aligned)
{
	struct postcopy_pages_fill fill;
	char *data = self->buffer + 12;

	page_pattern(&self->r, 5, data);
	ASSERT_EQ(0, pages_fill_raw(self->r.helper, OFFSET + 5 * PAGE, PAGE, data, &fill));
	EXPECT_EQ(PAGE, fill.out_length);
	EXPECT_TRUE(page_is_right(&self->r, 5, page_at(&self->r, 5)));
}

TEST_F(pages, fill_takes_data_that_is_not_in_memory_yet)
{
	struct postcopy_pages_fill fill;
	char *data = mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, data);
	ASSERT_EQ(0, pages_fill_raw(self->r.helper, OFFSET, 4 * PAGE, data, &fill));
	EXPECT_LT(0, fill.out_length);
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 0)));
}

/* PAGES_ZERO */

TEST_F(pages, zero_checks_all_ranges_before_it_changes_anything)
{
	struct postcopy_range ranges[3] = {
		{ OFFSET, PAGE }, { OFFSET + PAGE, PAGE }, { OFFSET + 1, PAGE },
	};
	struct postcopy_pages_zero zero = {
		.size = sizeof(zero), .ranges = (uintptr_t)ranges, .nr_ranges = 3,
	};
	struct postcopy_region_info info;

	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(0, info.out_nr_present);
}

TEST_F(pages, zero_refuses_bad_arrays)
{
	char *end = self->buffer + BUFFER;
	struct postcopy_range *last = (struct postcopy_range *)end - 1;
	struct postcopy_pages_zero zero = { .size = sizeof(zero), .nr_ranges = 1 };
	uint64_t bad[] = { 0, (uintptr_t)end, 0xffff888000000000, -8ULL };
	struct postcopy_region_info info;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		zero.ranges = bad[i];
		EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
		EXPECT_EQ(EFAULT, errno)
			TH_LOG("array %u", i);
	}
	/* Its second half cannot be read. */
	*last = (struct postcopy_range){ OFFSET, PAGE };
	zero.ranges = (uintptr_t)last;
	zero.nr_ranges = 2;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(EFAULT, errno);
	zero.nr_ranges = 0;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(EINVAL, errno);
	zero.nr_ranges = POSTCOPY_MAX_RANGES + 1;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(EINVAL, errno);
	zero.nr_ranges = 0xffffffff;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(0, info.out_nr_present);
}

TEST_F(pages, zero_takes_as_many_ranges_as_it_says)
{
	struct postcopy_range *ranges = calloc(POSTCOPY_MAX_RANGES, sizeof(*ranges));
	struct postcopy_pages_zero zero = {
		.size = sizeof(zero), .ranges = (uintptr_t)ranges,
		.nr_ranges = POSTCOPY_MAX_RANGES,
	};
	unsigned int i;

	ASSERT_NE(NULL, ranges);
	for (i = 0; i < POSTCOPY_MAX_RANGES; i++)
		ranges[i] = (struct postcopy_range){ OFFSET + i % NR_PAGES * PAGE, PAGE };
	ASSERT_EQ(0, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(POSTCOPY_MAX_RANGES, zero.out_nr_ranges);
	EXPECT_EQ(NR_PAGES, zero.out_nr_zeroed);
}

/* PAGES_QUERY */

TEST_F(pages, query_shows_which_pages_are_present)
{
	uint64_t bitmap[2] = { -1ULL, -1ULL };
	struct postcopy_pages_query query = {
		.size = sizeof(query), .offset = OFFSET, .length = 67 * PAGE,
		.bitmap = (uintptr_t)bitmap,
	};

	ASSERT_EQ(0, pages_fill(&self->r, 1, 2, NULL));
	ASSERT_EQ(0, pages_zero(&self->r, 63, 10, NULL));
	ASSERT_EQ(0, ioctl(self->r.helper, POSTCOPY_PAGES_QUERY, &query));
	EXPECT_EQ(6 | 1ULL << 63, bitmap[0]);
	/* Pages 64 to 66: the others were not asked for. */
	EXPECT_EQ(7, bitmap[1]);
	EXPECT_EQ(6, query.out_nr_present);
	query.offset = OFFSET + 64 * PAGE;
	query.length = 64 * PAGE;
	ASSERT_EQ(0, ioctl(self->r.helper, POSTCOPY_PAGES_QUERY, &query));
	EXPECT_EQ(0x1ff, bitmap[0]);
	EXPECT_EQ(9, query.out_nr_present);
}

TEST_F(pages, query_refuses_an_offset_inside_a_word)
{
	struct postcopy_pages_query query = {
		.size = sizeof(query), .offset = OFFSET + PAGE, .length = PAGE,
		.bitmap = (uintptr_t)bitmap_of_all,
	};

	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_QUERY, &query));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(pages, query_refuses_a_bad_bitmap)
{
	struct postcopy_pages_query query = {
		.size = sizeof(query), .offset = OFFSET, .length = NR_PAGES * PAGE,
	};
	uint64_t bad[] = { 0, 0xffff888000000000, -8ULL,
			   (uintptr_t)self->buffer + BUFFER - 8 };
	unsigned int i;

	for (i = 0; i < 4; i++) {
		query.bitmap = bad[i];
		EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_QUERY, &query));
		EXPECT_EQ(EFAULT, errno)
			TH_LOG("bitmap %u", i);
	}
}

TEST_HARNESS_MAIN
