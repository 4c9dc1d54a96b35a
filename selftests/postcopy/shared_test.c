// SPDX-License-Identifier: GPL-2.0
/*
 * Shared regions: several processes map one memory, a fault in any of them is
 * served, and no mapping ever shows a page that has not arrived.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#define NR_PAGES	(2 * HUGE_PAGES)

FIXTURE(shared)
{
	struct region r;
	char *helper_memory;
};

FIXTURE_VARIANT(shared)
{
	uint64_t offset;
	const char *shmem_enabled;
};

FIXTURE_VARIANT_ADD(shared, with_small_folios)
{
	.shmem_enabled = "never",
};

FIXTURE_VARIANT_ADD(shared, with_large_folios)
{
	.offset = 1UL << 30,
	.shmem_enabled = "always",
};

FIXTURE_SETUP(shared)
{
	struct region *r = &self->r;

	if (!shmem_folios(variant->shmem_enabled))
		SKIP(return, "no large folios in this kernel");
	ASSERT_EQ(0, region_make(r, MAP_SHARED, variant->offset, NR_PAGES));
	if (has_huge_pages())
		ASSERT_EQ(0, (uintptr_t)r->address % HUGE);
	self->helper_memory = mmap(NULL, r->length, PROT_READ | PROT_WRITE,
				   MAP_SHARED, r->helper, r->offset);
	ASSERT_NE(MAP_FAILED, self->helper_memory);
}

FIXTURE_TEARDOWN(shared)
{
	munmap(self->helper_memory, self->r.length);
	region_close(&self->r);
	shmem_folios("never");
}

/* Another process that maps the context and runs @body. */
#define in_child(pid, body)				\
	do {						\
		pid = fork_child();			\
		ASSERT_LE(0, pid);			\
		if (pid == 0) {				\
			body;				\
			_exit(0);			\
		}					\
	} while (0)

TEST_F(shared, region_is_described_as_shared)
{
	struct postcopy_region_info info;

	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(POSTCOPY_REGION_SHARED, info.out_region_flags);
	EXPECT_EQ(self->r.offset, info.out_offset);
	EXPECT_EQ(self->r.length, info.out_length);
}

TEST_F(shared, a_fill_is_seen_by_a_fault)
{
	struct access a;

	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 7), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 7, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(&self->r, 7, 0), a.value);
	EXPECT_EQ(0, pages_wrong(&self->r, 7, 1));
}

TEST_F(shared, pages_received_in_place_are_seen_once_present)
{
	struct access a;

	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 9), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	page_pattern(&self->r, 9, self->helper_memory + 9 * PAGE);
	EXPECT_FALSE(access_is_done(&a));
	ASSERT_EQ(0, pages_present(&self->r, 9, 1));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(&self->r, 9, 0), a.value);
	EXPECT_EQ(0, pages_wrong(&self->r, 9, 1));
}

TEST_F(shared, neighbours_of_a_present_page_are_never_readable)
{
	struct access before, after, far;

	/* The helper has filled the whole page cache with wrong data. */
	memset(self->helper_memory, 0x5a, self->r.length);
	page_pattern(&self->r, 100, self->helper_memory + 100 * PAGE);
	ASSERT_EQ(0, pages_present(&self->r, 100, 1));
	ASSERT_EQ(0, pages_wrong(&self->r, 100, 1));
	ASSERT_EQ(0, access_start(&before, ACCESS_READ, page_at(&self->r, 99), 0));
	ASSERT_EQ(0, access_start(&after, ACCESS_WRITE, page_at(&self->r, 101), 1));
	ASSERT_EQ(0, access_start(&far, ACCESS_READ, page_at(&self->r, HUGE_PAGES - 1), 0));
	EXPECT_TRUE(access_wait_blocked(&before));
	EXPECT_TRUE(access_wait_blocked(&after));
	EXPECT_TRUE(access_wait_blocked(&far));
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	EXPECT_TRUE(access_wait_done(&before));
	EXPECT_TRUE(access_wait_done(&after));
	EXPECT_TRUE(access_wait_done(&far));
	EXPECT_EQ(page_word(&self->r, 99, 0), before.value);
	EXPECT_EQ(page_word(&self->r, HUGE_PAGES - 1, 0), far.value);
}

TEST_F(shared, huge_page_advice_and_collapse_show_no_missing_page)
{
	struct access a;

	madvise(self->r.address, self->r.length, MADV_HUGEPAGE);
	madvise(self->helper_memory, self->r.length, MADV_HUGEPAGE);
	memset(self->helper_memory, 0x5a, self->r.length);
	ASSERT_EQ(0, pages_fill(&self->r, 0, HUGE_PAGES - 1, NULL));
	ASSERT_EQ(0, pages_wrong(&self->r, 0, HUGE_PAGES - 1));
	EXPECT_NE(0, madvise(self->r.address, HUGE, MADV_COLLAPSE));
	EXPECT_NE(0, madvise(self->helper_memory, HUGE, MADV_COLLAPSE));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, HUGE_PAGES - 1), 0));
	EXPECT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&self->r, HUGE_PAGES - 1, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, HUGE_PAGES));
}

TEST_F(shared, fault_around_maps_what_is_present_only)
{
	struct postcopy_region_info info;
	uint64_t faults;
	struct access a;

	ASSERT_EQ(0, pages_fill(&self->r, 16, 8, NULL));
	ASSERT_EQ(0, pages_wrong(&self->r, 16, 8));
	ASSERT_EQ(0, region_info(&self->r, &info));
	faults = info.out_total_faults;
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 24), 0));
	EXPECT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(faults + 1, info.out_total_faults);
	ASSERT_EQ(0, pages_fill(&self->r, 15, 10, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, pages_wrong(&self->r, 15, 10));
}

TEST_F(shared, zeroed_pages_read_zero_whatever_was_written_before)
{
	memset(self->helper_memory + 3 * PAGE, 0x5a, 2 * PAGE);
	ASSERT_EQ(0, pages_fill(&self->r, 4, 1, NULL));
	ASSERT_EQ(0, pages_zero(&self->r, 0, 64, NULL));
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 3)));
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 63)));
	EXPECT_EQ(0, pages_wrong(&self->r, 4, 1));
}

TEST_F(shared, another_process_faults_into_the_same_requests)
{
	struct postcopy_request request[4];
	int status;
	pid_t pid;

	in_child(pid, {
		char *other = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
				   self->r.context, self->r.offset);

		if (other == MAP_FAILED)
			_exit(1);
		if (!page_is_right(&self->r, 5, other + 5 * PAGE))
			_exit(2);
		*(uint64_t *)(other + 6 * PAGE) = 4711;
	});
	ASSERT_EQ(1, requests_read_all(&self->r, request, 1));
	EXPECT_EQ(self->r.offset + 5 * PAGE, request[0].offset);
	ASSERT_EQ(0, pages_fill(&self->r, 5, 1, NULL));
	ASSERT_EQ(1, requests_read_all(&self->r, request, 1));
	EXPECT_EQ(self->r.offset + 6 * PAGE, request[0].offset);
	ASSERT_EQ(0, pages_fill(&self->r, 6, 1, NULL));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(4711, *(uint64_t *)page_at(&self->r, 6));
}

TEST_F(shared, a_forked_child_waits_and_is_served_too)
{
	struct postcopy_request request[4];
	int status;
	pid_t pid;

	in_child(pid, {
		if (!page_is_right(&self->r, 70, page_at(&self->r, 70)))
			_exit(2);
		*(uint64_t *)page_at(&self->r, 70) = 4711;
	});
	ASSERT_EQ(1, requests_read_all(&self->r, request, 1));
	ASSERT_EQ(0, pages_fill(&self->r, 70, 1, NULL));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(4711, *(uint64_t *)page_at(&self->r, 70));
}

TEST_F(shared, a_mapping_across_the_regions_end_is_refused)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, self->r.context,
				   self->r.offset + self->r.length - PAGE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, self->r.helper,
				   self->r.offset + self->r.length - PAGE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, self->r.helper,
				   self->r.offset));
	EXPECT_EQ(EOPNOTSUPP, errno);
}

TEST_F(shared, a_moved_mapping_reaches_the_same_pages)
{
	char *moved = mremap(self->r.address, self->r.length, self->r.length,
			     MREMAP_MAYMOVE | MREMAP_FIXED,
			     mmap(NULL, self->r.length, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	ASSERT_NE(MAP_FAILED, moved);
	self->r.address = moved;
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
}

TEST_F(shared, a_region_far_into_the_image_works)
{
	struct region r = { .offset = 5UL << 40, .length = 64 * PAGE, .context = -1 };
	struct access a;

	ASSERT_LE(0, r.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC));
	r.address = mmap(NULL, r.length, PROT_READ | PROT_WRITE, MAP_SHARED, r.context, r.offset);
	ASSERT_NE(MAP_FAILED, r.address)
		TH_LOG("errno %d", errno);
	r.id = region_find(r.context, getpid(), r.address);
	ASSERT_EQ(0, region_attach(&r));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&r, 63), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&r, 0, 64, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, pages_wrong(&r, 0, 64));
	ASSERT_EQ(0, region_convert(&r, 0, NULL));
	EXPECT_EQ(0, pages_wrong(&r, 0, 64));
	region_close(&r);
}

/* It would map the file behind the region, past the present map. */
TEST_F(shared, remap_file_pages_shows_no_missing_page)
{
	struct region *r = &self->r;

	EXPECT_EQ(-1, remap_file_pages(r->address, 2 * PAGE, 0, r->offset / PAGE + 4, 0));
	EXPECT_EQ(EACCES, errno);
	ASSERT_EQ(0, pages_fill(r, 0, NR_PAGES, NULL));
	EXPECT_EQ(0, pages_wrong(r, 0, NR_PAGES));
	ASSERT_EQ(0, region_convert(r, 0, NULL));
	/* Plain shared memory again */
	EXPECT_EQ(0, remap_file_pages(r->address, PAGE, 0, r->offset / PAGE + 4, 0));
	EXPECT_TRUE(page_is_right(r, 4, r->address));
}

/* It would lack the mark that keeps huge pages with missing pages in them away. */
TEST_F(shared, remap_file_pages_is_not_for_the_helpers_mapping)
{
	EXPECT_EQ(-1, remap_file_pages(self->helper_memory, 2 * PAGE, 0,
				       self->r.offset / PAGE + 4, 0));
	EXPECT_EQ(EACCES, errno);
}

TEST_F(shared, a_helper_cannot_map_a_region_that_has_ended)
{
	ASSERT_EQ(0, munmap(self->r.address, self->r.length));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->r.helper,
				   self->r.offset));
	EXPECT_EQ(ESRCH, errno);
}

TEST_F(shared, lives_until_the_last_process_unmaps_it)
{
	struct postcopy_region_info info;
	int go[2], status;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(go));
	in_child(pid, {
		close(go[1]);
		_exit(read(go[0], &c, 1) != 0);
	});
	munmap(self->r.address, self->r.length);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(POSTCOPY_REGION_ATTACHED, info.out_state);
	close(go[0]);
	close(go[1]);
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_TRUE(wait_until(!region_info(&self->r, &info) &&
			       info.out_state == POSTCOPY_REGION_DEAD));
}

TEST_F(shared, converts_in_every_process)
{
	uint64_t missing = 0;
	int go[2], status;
	char *later;
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(go));
	in_child(pid, {
		close(go[1]);
		if (read(go[0], &c, 1) != 0 || pages_wrong(&self->r, 0, NR_PAGES))
			_exit(1);
		*(uint64_t *)page_at(&self->r, 3) = 4711;
		if (has_huge_pages() && memory_collapse(self->r.address))
			_exit(2);
	});
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES - 1, NULL));
	ASSERT_EQ(-EBUSY, region_convert(&self->r, 0, &missing));
	EXPECT_EQ(1, missing);
	ASSERT_EQ(0, pages_fill(&self->r, NR_PAGES - 1, 1, NULL));
	ASSERT_EQ(0, region_convert(&self->r, 0, &missing));
	close(go[0]);
	close(go[1]);
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(4711, *(uint64_t *)page_at(&self->r, 3));
	EXPECT_EQ(0, pages_wrong(&self->r, 4, NR_PAGES - 4));
	/* A process that maps the context now gets the same plain memory. */
	later = mmap(NULL, self->r.length, PROT_READ, MAP_SHARED, self->r.context, self->r.offset);
	ASSERT_NE(MAP_FAILED, later);
	EXPECT_EQ(4711, *(uint64_t *)(later + 3 * PAGE));
	munmap(later, self->r.length);
}

TEST_F(shared, content_survives_swapping)
{
	ASSERT_EQ(0, pages_fill(&self->r, 0, 256, NULL));
	ASSERT_EQ(0, pages_wrong(&self->r, 0, 256));
	madvise(self->r.address, 256 * PAGE, MADV_PAGEOUT);
	madvise(self->r.address, 256 * PAGE, MADV_DONTNEED);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 256));
}

/* Pages that nobody has mapped are marked for reclaim, and shmem's map_pages leaves those out. */
TEST_F(shared, content_survives_dropped_caches)
{
	ASSERT_EQ(0, pages_fill(&self->r, 0, 256, NULL));
	ASSERT_EQ(0, file_write("/proc/sys/vm/drop_caches", "3"));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 256));
}

/* The helper receives into huge pages of its mapping, and none is present yet. */
static void receive_huge(struct region *r, char *helper_memory, size_t nr)
{
	size_t i;

	madvise(helper_memory, r->length, MADV_HUGEPAGE);
	for (i = 0; i < nr; i++)
		page_pattern(r, i, helper_memory + i * PAGE);
}

TEST_F(shared, a_huge_page_is_mapped_only_while_all_of_it_is_present)
{
	struct region *r = &self->r;
	struct postcopy_range range = pages_range(r, 5, 1);
	struct access discarded, last;
	uint64_t nr;

	receive_huge(r, self->helper_memory, NR_PAGES);
	if (smaps_kb(getpid(), self->helper_memory, "ShmemPmdMapped") < (long)HUGE / 1024)
		SKIP(return, "no huge page is free");
	/* All but the last page */
	ASSERT_EQ(0, pages_present(r, 0, NR_PAGES - 1));
	EXPECT_EQ(0, pages_wrong(r, 0, NR_PAGES - 1));
	EXPECT_EQ((long)HUGE / 1024, smaps_kb(getpid(), r->address, "ShmemPmdMapped"));
	ASSERT_EQ(0, access_start(&last, ACCESS_READ, page_at(r, NR_PAGES - 1), 0));
	EXPECT_TRUE(access_wait_blocked(&last));

	ASSERT_EQ(0, pages_discard(r, &range, 1, &nr));
	ASSERT_EQ(0, access_start(&discarded, ACCESS_READ, page_at(r, 5), 0));
	EXPECT_TRUE(access_wait_blocked(&discarded));
	EXPECT_EQ(0, pages_wrong(r, 0, 5));
	EXPECT_EQ(0, pages_wrong(r, 6, NR_PAGES - 7));
	EXPECT_EQ(0, smaps_kb(getpid(), r->address, "ShmemPmdMapped"));
	ASSERT_EQ(0, pages_fill(r, 0, NR_PAGES, NULL));
	EXPECT_TRUE(access_wait_done(&discarded));
	EXPECT_TRUE(access_wait_done(&last));
	EXPECT_EQ(0, pages_wrong(r, 0, NR_PAGES));
}

TEST_F(shared, a_huge_page_that_is_being_mapped_shows_no_discarded_page)
{
	struct region *r = &self->r;
	struct postcopy_range all = pages_range(r, 0, HUGE_PAGES);
	struct postcopy_range some = pages_range(r, 0, 2);
	struct server server;
	struct access a[8];
	uint64_t nr, end = now_ms() + 5000;
	size_t i, round;
	char *other;

	for (round = 0; round < 20 && now_ms() < end; round++) {
		ASSERT_EQ(0, pages_discard(r, &all, 1, &nr));
		receive_huge(r, self->helper_memory, HUGE_PAGES);
		ASSERT_EQ(0, pages_present(r, 0, HUGE_PAGES));
		ASSERT_EQ(0, server_start(&server, r));
		/* Nothing is mapped there yet. */
		other = mmap(NULL, r->length, PROT_READ | PROT_WRITE, MAP_SHARED, r->context,
			     r->offset);
		ASSERT_NE(MAP_FAILED, other);
		for (i = 0; i < 8; i++)
			ASSERT_EQ(0, access_start(&a[i], ACCESS_READ,
						  other + (i % 4) * PAGE, 0));
		ASSERT_EQ(0, pages_discard(r, &some, 1, &nr));
		for (i = 0; i < 8; i++) {
			ASSERT_TRUE(access_wait_done(&a[i]));
			EXPECT_EQ(page_word(r, i % 4, 0), a[i].value);
		}
		EXPECT_EQ(0, server_stop(&server));
		munmap(other, r->length);
	}
}

/* Forks that fail half way, because they want more memory than the machine has */
struct failing_forks {
	size_t length;
	char *large;
	pthread_t thread;
	bool stop;
	unsigned int nr_failed;
};

static void *fork_and_fail(void *arg)
{
	struct failing_forks *f = arg;

	while (!__atomic_load_n(&f->stop, __ATOMIC_SEQ_CST)) {
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		if (pid < 0)
			f->nr_failed++;
		else
			waitpid(pid, NULL, 0);
	}
	return NULL;
}

/* Mappings go from the top down, so older ones are behind the one that cannot be copied. */
static int failing_forks_prepare(struct failing_forks *f)
{
	f->length = 2 * sysconf(_SC_PHYS_PAGES) * PAGE;
	if (file_write("/proc/sys/vm/overcommit_memory", "1"))
		return -errno;
	f->large = mmap(NULL, f->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	if (file_write("/proc/sys/vm/overcommit_memory", "0") || f->large == MAP_FAILED)
		return -errno;
	return 0;
}

#define NR_SMALL	2000
#define FORKING_MS	5000

TEST_F(shared, conversion_leaves_a_fork_that_fails_alone)
{
	struct region *r = &self->r;
	struct failing_forks f = { 0 };
	unsigned int round, i;
	char *small, *other;
	uint64_t end;

	ASSERT_EQ(0, failing_forks_prepare(&f));
	/* It takes some time until the fork fails. */
	small = mmap(NULL, 2 * NR_SMALL * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, small);
	for (i = 0; i < NR_SMALL; i++)
		ASSERT_EQ(0, mprotect(small + 2 * i * PAGE, PAGE, PROT_READ));
	/* Fewer rounds on a debug kernel. */
	end = now_ms() + FORKING_MS;
	for (round = 0; round < 30 && now_ms() < end; round++) {
		other = mmap(NULL, r->length, PROT_READ | PROT_WRITE, MAP_SHARED, r->context,
			     r->offset);
		ASSERT_NE(MAP_FAILED, other);
		ASSERT_LT(other, f.large);
		ASSERT_GT(r->address, f.large);
		ASSERT_EQ(0, pages_fill(r, 0, NR_PAGES, NULL));
		f.stop = false;
		ASSERT_EQ(0, pthread_create(&f.thread, NULL, fork_and_fail, &f));
		i = f.nr_failed;
		EXPECT_TRUE(wait_until(__atomic_load_n(&f.nr_failed, __ATOMIC_SEQ_CST) > i));
		EXPECT_EQ(0, region_convert(r, 0, NULL));
		__atomic_store_n(&f.stop, true, __ATOMIC_SEQ_CST);
		pthread_join(f.thread, NULL);
		EXPECT_EQ(0, pages_wrong(r, 0, NR_PAGES));
		munmap(other, r->length);
		munmap(self->helper_memory, r->length);
		region_close(r);
		ASSERT_EQ(0, region_make(r, MAP_SHARED, variant->offset, NR_PAGES));
		self->helper_memory = mmap(NULL, r->length, PROT_READ, MAP_SHARED, r->helper,
					   r->offset);
	}
	EXPECT_LT(0, f.nr_failed);
	munmap(small, 2 * NR_SMALL * PAGE);
	munmap(f.large, f.length);
}

static void on_sigbus(int sig)
{
}

TEST_F(shared, a_hardware_error_is_seen_by_who_has_not_mapped_the_page_yet)
{
	struct region *r = &self->r;
	int status;
	pid_t pid;

	ASSERT_EQ(0, pages_fill(r, 0, 32, NULL));
	EXPECT_EQ(0, pages_wrong(r, 6, 1));
	/* The caller is told of the page, too. */
	signal(SIGBUS, on_sigbus);
	if (madvise(page_at(r, 6), PAGE, MADV_HWPOISON))
		SKIP(return, "no MADV_HWPOISON");
	in_child(pid, {
		char *other = mmap(NULL, r->length, PROT_READ | PROT_WRITE, MAP_SHARED,
				   r->context, r->offset);

		if (other == MAP_FAILED)
			_exit(1);
		if (probe_read(other + 6 * PAGE) != SIGBUS)
			_exit(2);
		if (probe_write(other + 6 * PAGE) != SIGBUS)
			_exit(3);
		if (!page_is_right(r, 7, other + 7 * PAGE))
			_exit(4);
	});
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
}

TEST_F(shared, a_page_lost_to_a_hardware_error_can_be_delivered_again)
{
	struct region *r = &self->r;
	struct postcopy_range lost = pages_range(r, 6, 1);
	uint64_t nr;

	ASSERT_EQ(0, pages_fill(r, 0, 32, NULL));
	EXPECT_EQ(0, pages_wrong(r, 0, 32));
	signal(SIGBUS, on_sigbus);
	if (madvise(page_at(r, 6), PAGE, MADV_HWPOISON))
		SKIP(return, "no MADV_HWPOISON");
	EXPECT_EQ(SIGBUS, probe_read(page_at(r, 6)));
	ASSERT_EQ(0, pages_discard(r, &lost, 1, &nr));
	ASSERT_EQ(0, pages_fill(r, 6, 1, NULL));
	EXPECT_EQ(0, probe_read(page_at(r, 6)));
	EXPECT_EQ(0, pages_wrong(r, 0, 32));
}

struct fill_of_missing {
	struct region *r;
	int result;
};

static void *fill_of_missing_run(void *arg)
{
	struct fill_of_missing *f = arg;
	struct postcopy_pages_fill fill;

	f->result = pages_fill_raw(f->r->helper, f->r->offset, PAGE, page_at(f->r, 1), &fill);
	return NULL;
}

/* This is nonsense, but it must not keep others waiting. */
TEST_F(shared, a_fill_whose_data_is_a_missing_page_does_not_keep_that_away)
{
	struct fill_of_missing f = { .r = &self->r };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, fill_of_missing_run, &f));
	ASSERT_TRUE(wait_requests(&self->r, 1));
	ASSERT_EQ(0, pages_fill(&self->r, 1, 1, NULL));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, f.result);
	EXPECT_EQ(0, memcmp(self->r.address, page_at(&self->r, 1), PAGE));
}

static void *close_run(void *arg)
{
	close((int)(intptr_t)arg);
	return NULL;
}

/* Both take regions off the context's list. */
TEST_F(shared, regions_that_end_while_their_context_is_closed_go_once)
{
	uint64_t end = now_ms() + 3000;
	char *page[256];
	pthread_t thread;
	intptr_t context;
	size_t i;

	while (now_ms() < end) {
		context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, context);
		for (i = 0; i < 256; i++) {
			page[i] = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, context, 2 * i * PAGE);
			ASSERT_NE(MAP_FAILED, page[i]);
		}
		ASSERT_EQ(0, pthread_create(&thread, NULL, close_run, (void *)context));
		for (i = 256; i--;)
			munmap(page[i], PAGE);
		pthread_join(thread, NULL);
	}
}

TEST_HARNESS_MAIN
