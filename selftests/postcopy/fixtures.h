/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Fixtures and helpers that several test programs use. Included after kselftest_harness.h.
 */
#ifndef POSTCOPY_FIXTURES_H
#define POSTCOPY_FIXTURES_H

#include <sys/mman.h>

#include "postcopy_test.h"

/* self->r with a helper; variants private and shared. */
#define FIXTURE_PRIVATE_AND_SHARED(name, nr_pages)				\
FIXTURE(name)									\
{										\
	struct region r;							\
};										\
FIXTURE_VARIANT(name)								\
{										\
	int flags;								\
};										\
FIXTURE_VARIANT_ADD(name, private) { .flags = MAP_PRIVATE };			\
FIXTURE_VARIANT_ADD(name, shared) { .flags = MAP_SHARED };			\
FIXTURE_SETUP(name)								\
{										\
	ASSERT_EQ(0, region_make(&self->r, variant->flags, 1UL << 30, nr_pages)); \
}										\
FIXTURE_TEARDOWN(name)								\
{										\
	region_close(&self->r);							\
}

/* self->r, private, with a helper; alone or between other regions of the process. */
#define FIXTURE_ALONE_AND_AMONG_OTHERS(name, nr_pages)				\
FIXTURE(name)									\
{										\
	struct region r;							\
	struct region before, after;						\
};										\
FIXTURE_VARIANT(name)								\
{										\
	uint64_t offset;							\
	bool neighbours;							\
};										\
FIXTURE_VARIANT_ADD(name, alone) { .offset = 0 };				\
FIXTURE_VARIANT_ADD(name, among_others) { .offset = 5UL << 30, .neighbours = true }; \
FIXTURE_SETUP(name)								\
{										\
	if (variant->neighbours)						\
		ASSERT_EQ(0, region_map(&self->before, 0, nr_pages));		\
	ASSERT_EQ(0, region_map(&self->r, variant->offset, nr_pages));		\
	if (variant->neighbours)						\
		ASSERT_EQ(0, region_map(&self->after, variant->offset, nr_pages)); \
	ASSERT_EQ(0, region_attach(&self->r));					\
}										\
FIXTURE_TEARDOWN(name)								\
{										\
	region_close(&self->r);							\
	if (variant->neighbours) {						\
		region_close(&self->before);					\
		region_close(&self->after);					\
	}									\
}

/* A thread waits for each of the first pages. */
static inline void start_readers(struct __test_metadata *_metadata, struct region *r,
				 struct access *a, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		ASSERT_EQ(0, access_start(&a[i], ACCESS_READ, page_at(r, i), 0));
		ASSERT_TRUE(access_wait_blocked(&a[i]));
	}
}

/* The threads have got their pages. */
static inline void finish_readers(struct __test_metadata *_metadata, struct region *r,
				  struct access *a, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		ASSERT_TRUE(access_wait_done(&a[i]));
		EXPECT_EQ(0, a[i].signal);
		EXPECT_EQ(page_word(r, i, 0), a[i].value);
	}
}

#endif
