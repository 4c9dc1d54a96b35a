// SPDX-License-Identifier: GPL-2.0
/*
 * What can be seen from outside: tracepoints, debugfs, the threads that have waited
 * longest.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#define NR_PAGES	128UL
#define OFFSET		(1UL << 30)
#define INSTANCE	"/sys/kernel/tracing/instances/postcopy_test"
#define REGIONS		"/sys/kernel/debug/postcopy/regions"

FIXTURE(observe)
{
	struct region r;
	char text[1 << 16];
};

FIXTURE_SETUP(observe)
{
	if (mkdir(INSTANCE, 0755) && errno != EEXIST)
		SKIP(return, "no tracefs");
	ASSERT_EQ(0, file_write(INSTANCE "/events/postcopy/enable", "1"));
	ASSERT_EQ(0, region_map(&self->r, OFFSET, NR_PAGES));
	ASSERT_EQ(0, region_attach(&self->r));
}

FIXTURE_TEARDOWN(observe)
{
	region_close(&self->r);
	file_write(INSTANCE "/events/postcopy/enable", "0");
	EXPECT_EQ(0, rmdir(INSTANCE));
}

static const char *file_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;
	ssize_t length;

	while (fd >= 0 && done < size - 1 && (length = read(fd, text + done, size - 1 - done)) > 0)
		done += length;
	text[done] = '\0';
	close(fd);
	return text;
}

/* Is there a line of the event that says this of our region? */
static bool traced(FIXTURE_DATA(observe) * self, const char *event, const char *what)
{
	char wanted[256];

	snprintf(wanted, sizeof(wanted), "%s: region=%llu %s", event,
		 (unsigned long long)self->r.id, what);
	return strstr(file_text(INSTANCE "/trace", self->text, sizeof(self->text)), wanted);
}

/* The same of pages of the region, and @rest */
static bool traced_pages(FIXTURE_DATA(observe) * self, const char *event, size_t first, size_t nr,
			 const char *rest)
{
	char what[128];

	snprintf(what, sizeof(what), "offset=%#lx length=%#lx %s", OFFSET + first * PAGE, nr * PAGE,
		 rest);
	return traced(self, event, what);
}

/* The same of an access to page 3 */
static bool traced_access(FIXTURE_DATA(observe) * self, const char *event, const char *rest)
{
	char what[128];

	snprintf(what, sizeof(what), "offset=%#lx %s", OFFSET + 3 * PAGE, rest);
	return traced(self, event, what);
}

static int ranges_call(struct region *r, unsigned long cmd, size_t first, size_t nr)
{
	struct postcopy_range range = {
		.offset = r->offset + first * PAGE,
		.length = nr * PAGE,
	};
	struct postcopy_pages_zero argument = {
		.size = sizeof(argument),
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
	};

	return ioctl(r->helper, cmd, &argument) ? -errno : 0;
}

TEST_F(observe, a_fault_its_request_its_fill_and_its_end_are_traced)
{
	struct access a;

	ASSERT_EQ(0, access_start(&a, ACCESS_WRITE, page_at(&self->r, 3), 1));
	ASSERT_TRUE(wait_requests(&self->r, 1));
	EXPECT_TRUE(traced_access(self, "postcopy_fault", "write=1 user=1 nowait=0"));
	/* It is traced after it is in the queue. */
	EXPECT_TRUE(wait_until(traced_pages(self, "postcopy_request", 3, 1, "nr_changed=1")));
	EXPECT_FALSE(traced_access(self, "postcopy_wake", ""));
	ASSERT_EQ(0, pages_fill(&self->r, 2, 4, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_TRUE(traced_pages(self, "postcopy_fill", 2, 4, "nr_changed=4"));
	EXPECT_TRUE(traced_access(self, "postcopy_wake", "wait_ns="));
}

TEST_F(observe, zero_discard_and_poison_are_traced)
{
	struct region *r = &self->r;

	ASSERT_EQ(0, pages_zero(r, 8, 8, NULL));
	ASSERT_EQ(0, pages_zero(r, 12, 8, NULL));
	EXPECT_TRUE(traced_pages(self, "postcopy_zero", 8, 8, "nr_changed=8"));
	EXPECT_TRUE(traced_pages(self, "postcopy_zero", 12, 8, "nr_changed=4"));
	ASSERT_EQ(0, ranges_call(r, POSTCOPY_PAGES_DISCARD, 9, 1));
	EXPECT_TRUE(traced_pages(self, "postcopy_discard", 9, 1, "nr_changed=1"));
	ASSERT_EQ(0, ranges_call(r, POSTCOPY_PAGES_POISON, 9, 2));
	EXPECT_TRUE(traced_pages(self, "postcopy_poison", 9, 2, "nr_changed=1"));
}

TEST_F(observe, present_in_place_is_traced)
{
	struct region *r = &self->r;

	region_close(r);
	r->context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	r->address = mmap(NULL, r->length, PROT_READ | PROT_WRITE, MAP_SHARED, r->context,
			  r->offset);
	ASSERT_NE(MAP_FAILED, r->address);
	r->id = region_find(r->context, getpid(), r->address);
	ASSERT_EQ(0, region_attach(r));
	ASSERT_EQ(0, ranges_call(r, POSTCOPY_PAGES_PRESENT, 1, 2));
	EXPECT_TRUE(traced_pages(self, "postcopy_present", 1, 2, "nr_changed=2"));
}

TEST_F(observe, attach_detach_and_convert_are_traced)
{
	struct region *r = &self->r;

	EXPECT_TRUE(traced(self, "postcopy_attach", "nr_pages=128 nr_present=0"));
	ASSERT_EQ(0, pages_fill(r, 0, NR_PAGES, NULL));
	region_detach(r);
	EXPECT_TRUE(traced(self, "postcopy_detach", "nr_pages=128 nr_present=128"));
	EXPECT_FALSE(traced(self, "postcopy_convert", ""));
	ASSERT_EQ(0, region_convert(r, 0, NULL));
	EXPECT_TRUE(traced(self, "postcopy_convert", "nr_pages=128 nr_present=128"));
}

TEST_F(observe, debugfs_shows_each_region_until_it_ends)
{
	struct region *r = &self->r;
	const char *text;
	char wanted[128];

	ASSERT_EQ(0, pages_fill(r, 0, 3, NULL));
	ASSERT_EQ(0, pages_zero(r, 3, 4, NULL));
	text = file_text(REGIONS, self->text, sizeof(self->text));
	snprintf(wanted, sizeof(wanted), "region %llu: private attached, pid %d (",
		 (unsigned long long)r->id, getpid());
	EXPECT_NE(NULL, strstr(text, wanted))
		TH_LOG("%s", text);
	snprintf(wanted, sizeof(wanted), "offset %#lx, length %#lx", OFFSET, NR_PAGES * PAGE);
	EXPECT_NE(NULL, strstr(text, wanted));
	EXPECT_NE(NULL, strstr(text, "pages: 128, present 7, poisoned 0; filled 3, zeroed 4"));
	region_close(r);
	text = file_text(REGIONS, self->text, sizeof(self->text));
	EXPECT_EQ(NULL, strstr(text, wanted));
}

/* More than fits into one read */
TEST_F(observe, debugfs_shows_each_of_many_regions_once)
{
	struct region r[64];
	char wanted[32];
	const char *text;
	unsigned int i;

	for (i = 0; i < 64; i++)
		ASSERT_EQ(0, region_map(&r[i], 0, 1));
	text = file_text(REGIONS, self->text, sizeof(self->text));
	for (i = 0; i < 64; i++) {
		const char *found;

		snprintf(wanted, sizeof(wanted), "region %llu: ", (unsigned long long)r[i].id);
		found = strstr(text, wanted);
		ASSERT_NE(NULL, found);
		EXPECT_EQ(NULL, strstr(found + 1, wanted));
		region_close(&r[i]);
	}
}

TEST_F(observe, debugfs_is_for_root_only_and_shows_no_kernel_address)
{
	struct stat st;

	ASSERT_EQ(0, stat(REGIONS, &st));
	EXPECT_EQ(0400, st.st_mode & 0777);
	EXPECT_EQ(NULL, strstr(file_text(REGIONS, self->text, sizeof(self->text)), "ffff"));
}

/* More threads than are kept; each waits for a page of its own, the first longest. */
TEST_F(observe, the_threads_that_waited_longest_are_told)
{
	struct region *r = &self->r;
	struct access a[POSTCOPY_WAITERS + 4];
	struct postcopy_region_info info;
	size_t i, j, nr = POSTCOPY_WAITERS + 4;
	char wanted[64];

	for (i = 0; i < nr; i++) {
		ASSERT_EQ(0, access_start(&a[i], ACCESS_READ, page_at(r, i), 0));
		ASSERT_TRUE(wait_requests(r, i + 1));
	}
	for (i = nr; i-- > 0; ) {
		ASSERT_EQ(0, pages_fill(r, i, 1, NULL));
		ASSERT_TRUE(access_wait_done(&a[i]));
	}
	ASSERT_EQ(0, region_info(r, &info));
	EXPECT_EQ(info.out_wait_max_ns, info.out_waiters[0].wait_ns);
	for (i = 0; i < POSTCOPY_WAITERS; i++) {
		EXPECT_EQ((uint32_t)a[i].tid, info.out_waiters[i].tid);
		EXPECT_EQ(0, info.out_waiters[i].reserved);
		EXPECT_LT(0, info.out_waiters[i].wait_ns);
		for (j = 0; j < i; j++) {
			EXPECT_LE(info.out_waiters[i].wait_ns, info.out_waiters[j].wait_ns);
			EXPECT_NE(info.out_waiters[i].tid, info.out_waiters[j].tid);
		}
	}
	snprintf(wanted, sizeof(wanted), "thread %d: longest ", a[0].tid);
	EXPECT_NE(NULL, strstr(file_text(REGIONS, self->text, sizeof(self->text)), wanted));
}

/* A second, shorter wait of a thread takes no second place and changes nothing. */
TEST_F(observe, a_thread_is_told_once_with_its_longest_wait)
{
	struct region *r = &self->r;
	struct postcopy_region_info info;
	struct server s;
	size_t i;

	ASSERT_EQ(0, server_start(&s, r));
	for (i = 0; i < 20; i++)
		ASSERT_TRUE(page_is_right(r, i, page_at(r, i)));
	ASSERT_EQ(0, server_stop(&s));
	ASSERT_EQ(0, region_info(r, &info));
	EXPECT_EQ(info.out_wait_max_ns, info.out_waiters[0].wait_ns);
	EXPECT_EQ((uint32_t)getpid(), info.out_waiters[0].tid);
	EXPECT_EQ(0, info.out_waiters[1].wait_ns);
	EXPECT_EQ(0, info.out_waiters[1].tid);
}

/* The struct's first version, without the waiters: older programs were built with it. */
TEST_F(observe, info_of_the_first_size_still_works)
{
	struct postcopy_region_info info = {
		.size = offsetof(struct postcopy_region_info, out_waiters),
	};

	memset(info.out_waiters, 0x55, sizeof(info.out_waiters));
	ASSERT_EQ(0, ioctl(self->r.helper, POSTCOPY_REGION_INFO, &info));
	EXPECT_EQ(NR_PAGES, info.out_nr_pages);
	EXPECT_EQ(0x55555555, info.out_waiters[0].tid);
}

TEST_HARNESS_MAIN
